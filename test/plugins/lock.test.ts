import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, it, type TestContext } from 'vitest'
import { connectEmbedded } from '../../plugins/postgres/embedded.ts'
import { lockFolder } from '../../plugins/postgres/lock.ts'
import { pgliteFolder } from '../support/servers.ts'

function place(test: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'inlay-lock-'))
  test.onTestFinished(() => rmSync(folder, { recursive: true }))
  return join(folder, 'db')
}
/** What a process leaves that ends without unlocking. */
function dead(folder: string): string {
  const program = `const { lockFolder } = await import(process.argv[1]); await lockFolder(process.argv[2]); process.exit(0)`
  execFileSync(process.execPath, ['--input-type=module', '-e', program, new URL('../../plugins/postgres/lock.ts', import.meta.url).href, folder])
  return readFileSync(`${folder}.lock`, 'utf8')
}
/** This living process's holder, changed. */
async function changed(folder: string, change: Readonly<Record<string, unknown>>): Promise<string> {
  const unlock = await lockFolder(folder), me = JSON.parse(readFileSync(`${folder}.lock`, 'utf8')) as object
  await unlock()
  return JSON.stringify({ ...me, ...change })
}

it('of many that see a dead holder at once, one takes the lock over', async (test) => {
  const folder = place(test), left = dead(folder), inside: number[] = []
  for (let round = 0; round < 80; round++) {
    writeFileSync(`${folder}.lock`, left)
    const tries = await Promise.allSettled(Array.from({ length: 16 }, () => lockFolder(folder)))
    const unlocks = tries.flatMap((t) => (t.status === 'fulfilled' ? [t.value] : []))
    inside.push(unlocks.length)
    for (const unlock of unlocks) await unlock()
  }
  expect(inside).toEqual(inside.map(() => 1))
  expect(readdirSync(join(folder, '..')), 'what is left over').toEqual([])
})

it('a take-over that a process died in is taken over too, and a living one is waited for', async (test) => {
  const folder = place(test), left = dead(folder), take = `${folder}.lock.${(JSON.parse(left) as { token: string }).token}.take`
  writeFileSync(take, JSON.stringify({ ...JSON.parse(left) as object, token: 'another' }))
  await (await lockFolder(folder))()
  expect(readdirSync(join(folder, '..'))).toEqual([])

  const living = await changed(folder, { token: 'third' })
  writeFileSync(`${folder}.lock`, left)
  writeFileSync(take, living)
  await expect(lockFolder(folder)).rejects.toThrow(/keeps changing hands/)
  expect(readFileSync(`${folder}.lock`, 'utf8')).toBe(left)
  expect(readFileSync(take, 'utf8')).toBe(living)
})

it('a holder on another host is never taken for dead, and the error says what to do', async (test) => {
  const folder = place(test), other = JSON.stringify({ ...JSON.parse(dead(folder)) as object, host: 'elsewhere' })
  writeFileSync(`${folder}.lock`, other)
  await expect(lockFolder(folder)).rejects.toThrow(/on the host "elsewhere".* remove the file ".*db\.lock" by hand/)
  expect(readFileSync(`${folder}.lock`, 'utf8')).toBe(other)
})

it('a holder of this host before it was started again is dead, whoever has its number now', async (test) => {
  const folder = place(test)
  writeFileSync(`${folder}.lock`, await changed(folder, { token: 'another' }))
  await expect(lockFolder(folder)).rejects.toMatchObject({ code: 'UNAVAILABLE', details: { pid: process.pid } })
  writeFileSync(`${folder}.lock`, await changed(place(test), { token: 'another', boot: 'an earlier one' }))
  await (await lockFolder(folder))()
  expect(existsSync(`${folder}.lock`)).toBe(false)
})

it('a lock whose content was lost is taken over', async (test) => {
  const folder = place(test)
  writeFileSync(`${folder}.lock`, '')
  await (await lockFolder(folder))()
  expect(existsSync(`${folder}.lock`)).toBe(false)
})

it('a PGlite folder can be closed and opened again at once', async (test) => {
  const folder = pgliteFolder(test), alias = `${folder}-alias`
  symlinkSync(folder, alias)
  test.onTestFinished(() => rmSync(alias))
  const first = await connectEmbedded(`pglite:${folder}`)
  // Closing waits for what is under way.
  const work = first.transaction(async (query) => { await query('create table a ()'); await sleep(300) }, new AbortController().signal)
  await sleep(50)
  const closing = first.close()
  const seconds = await Promise.all(Array.from({ length: 3 }, (_, i) => connectEmbedded(`pglite:${i === 1 ? alias : folder}`)))
  await seconds[0]!.query('create table t ()', [], new AbortController().signal)
  await Promise.all([work, closing, ...seconds.map((sql) => sql.close())])
  expect(existsSync(`${folder}.lock`)).toBe(false)
})
