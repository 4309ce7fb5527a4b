/** A lock on a folder: two processes in one PGlite folder lose acknowledged rows without an error. */
import { readFileSync } from 'node:fs'
import { link, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { InlayError, quote } from '../../core/errors.ts'

interface Holder { readonly pid: number; readonly started: string; readonly token: string }

/** Locks `folder` by the file `<folder>.lock`; what a dead process left is taken over. Returns how to unlock. */
export async function lockFolder(folder: string): Promise<() => Promise<void>> {
  const file = `${folder}.lock`, me: Holder = { pid: process.pid, started: startOf(process.pid), token: crypto.randomUUID() }
  const mine = `${file}.${me.token}`
  await writeFile(mine, JSON.stringify(me))
  try {
    for (let attempt = 0; attempt < 10; attempt++) {
      // A link is made by one process only, and appears with its content.
      if (await link(mine, file).then(() => true, (error: NodeJS.ErrnoException) => { if (error.code !== 'EEXIST') throw error; return false })) {
        return async () => {
          if ((await read(file))?.token === me.token) await rm(file, { force: true })
        }
      }
      const holder = await read(file)
      if (holder !== undefined && alive(holder)) {
        throw new InlayError('UNAVAILABLE', `The folder ${quote(folder)} is open in the process ${holder.pid}, and two processes in one folder lose data. Close that one, or use a PostgreSQL server, which takes many.`, { details: { pid: holder.pid } })
      }
      await takeAway(file, holder)
    }
    throw new InlayError('UNAVAILABLE', `The lock ${quote(file)} keeps changing hands. Try again.`, { retryable: true })
  } finally {
    await rm(mine, { force: true })
  }
}

/** Removes a dead holder's lock, and puts back what another process has made in its place meanwhile. */
async function takeAway(file: string, dead: Holder | undefined): Promise<void> {
  const aside = `${file}.${crypto.randomUUID()}`
  if (!await rename(file, aside).then(() => true, () => false)) return
  const taken = await read(aside)
  if (taken !== undefined && taken.token !== dead?.token) await link(aside, file).catch(() => {})
  await rm(aside, { force: true })
}

async function read(file: string): Promise<Holder | undefined> {
  try {
    return JSON.parse(await readFile(file, 'utf8')) as Holder
  } catch {
    return undefined
  }
}

function alive(holder: Holder): boolean {
  try {
    process.kill(holder.pid, 0)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false
  }
  return startOf(holder.pid) === holder.started
}

/** Tells a process from another that got its number later; empty where the system does not say. */
function startOf(pid: number): string {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? ''
  } catch {
    return ''
  }
}
