/** A lock on a folder: two processes in one PGlite folder lose acknowledged rows without an error. */
import { readFileSync } from 'node:fs'
import { link, readFile, rm, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { InlayError, quote } from '../../core/errors.ts'

/** `started` and `boot` tell a process from another that got its number later; empty where the system does not say. */
interface Holder { readonly pid: number; readonly started: string; readonly host: string; readonly boot: string; readonly token: string }

const attempts = 20
const pauseMs = 10

/** Locks `folder` by the file `<folder>.lock`; what a dead process left is taken over. Returns how to unlock. */
export async function lockFolder(folder: string): Promise<() => Promise<void>> {
  const file = `${folder}.lock`
  const me: Holder = { pid: process.pid, started: startOf(process.pid), host: hostname(), boot: textOf('/proc/sys/kernel/random/boot_id').trim(), token: crypto.randomUUID() }
  const mine = `${file}.${me.token}`
  await writeFile(mine, JSON.stringify(me))
  try {
    for (let attempt = 0; attempt < attempts; attempt++) {
      if (await linked(mine, file)) {
        return async () => {
          if ((await read(file))?.token === me.token) await rm(file, { force: true })
        }
      }
      const holder = await read(file)
      if (holder === undefined) continue
      if (alive(holder, me)) throw held(folder, file, holder, me)
      if (!await takeAway(file, holder, mine, me)) await sleep(pauseMs)
    }
    throw new InlayError('UNAVAILABLE', `The lock ${quote(file)} keeps changing hands. Try again.`, { retryable: true })
  } finally {
    await rm(mine, { force: true })
  }
}

/**
 * Removes a file of a dead holder, and no other: whoever has the file `<file>.<token>.take` is alone in removing what holds the token, and tokens do not come again.
 * What a dead process left of this is taken away in the same manner. False while a living one is at it.
 */
async function takeAway(file: string, dead: Holder, mine: string, me: Holder): Promise<boolean> {
  const take = `${file}.${dead.token}.take`
  if (await linked(mine, take)) {
    try {
      if ((await read(file))?.token === dead.token) await rm(file, { force: true })
    } finally {
      await rm(take, { force: true })
    }
    return true
  }
  const taker = await read(take)
  return taker === undefined || (!alive(taker, me) && takeAway(take, taker, mine, me))
}

/** A link is made by one process only, and appears with its content. */
async function linked(mine: string, file: string): Promise<boolean> {
  return link(mine, file).then(() => true, (error: NodeJS.ErrnoException) => { if (error.code !== 'EEXIST') throw error; return false })
}

/** Undefined: there is no such file. One that the system lost the content of, when it broke down, belongs to nobody. */
async function read(file: string): Promise<Holder | undefined> {
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => { if (error.code !== 'ENOENT') throw error; return undefined })
  if (text === undefined) return undefined
  try {
    return JSON.parse(text) as Holder
  } catch {
    return { pid: 0, started: '', host: hostname(), boot: 'unknown', token: 'damaged' }
  }
}

/** A process of another host counts as alive: nothing here can tell. */
function alive(holder: Holder, me: Holder): boolean {
  if (holder.host !== me.host) return true
  if (holder.boot !== me.boot) return false
  try {
    process.kill(holder.pid, 0)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false
  }
  return startOf(holder.pid) === holder.started
}

function held(folder: string, file: string, { pid, host }: Holder, me: Holder): InlayError {
  const [where, end] = host === me.host ? ['', ''] : [` on the host ${quote(host)}`, ` If that process is gone, which cannot be seen from here, remove the file ${quote(file)} by hand.`]
  return new InlayError('UNAVAILABLE', `The folder ${quote(folder)} is open in the process ${pid}${where}, and two processes in one folder lose data. Close that one, or use a PostgreSQL server, which takes many.${end}`, { details: { pid, host } })
}

function startOf(pid: number): string {
  const stat = textOf(`/proc/${pid}/stat`)
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? ''
}

/** The text of a file of the system; empty where it has none. */
function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return ''
  }
}
