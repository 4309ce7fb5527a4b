/** What the suite cannot know of SQLite: several processes, a lock that another holds, and an event loop that runs on. */
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { inlay, InlayError, type Inlay } from 'inlay'
import { expect, it, type TestContext } from 'vitest'
import sqlite from './index.ts'

function place(ctx: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'inlay-sqlite-'))
  ctx.onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  return join(folder, 'test.db')
}
const open = (file: string): Promise<Inlay> => inlay({ data: `sqlite:${file}`, plugins: [sqlite] })

const writer = `
  import { inlay } from 'inlay'
  import sqlite from './index.ts'
  await using db = await inlay({ data: 'sqlite:' + process.argv[1], plugins: [sqlite] })
  const counts = db.collection('counts')
  await counts.insert({ _id: 'all', n: 0 })
  for (let i = 0; i < 50; i++) { await counts.insert({ n: i }); await counts.update({ _id: 'all' }, { $inc: { n: 1 } }) }`

it('three processes open a new file and write at once, and nothing is lost', { timeout: 60_000 }, async (ctx) => {
  const file = place(ctx)
  const run = (): Promise<number | null> => new Promise((done) => spawn(process.execPath, ['--input-type=module', '-e', writer, file], { cwd: import.meta.dirname, stdio: 'inherit' }).once('exit', done))
  expect(await Promise.all([run(), run(), run()])).toEqual([0, 0, 0])
  await using db = await open(file)
  expect([await db.collection('counts').find().count(), (await db.collection<{ n: number }>('counts').findOne({ _id: 'all' }))?.n]).toEqual([151, 150])
})

it('a write that finds the file locked is repeated, and one that finds it locked for long is CONFLICT', { timeout: 60_000 }, async (ctx) => {
  const file = place(ctx)
  await using db = await open(file)
  const rows = db.collection<{ n: number }>('rows')
  await rows.insert({ n: 1 })
  using other = new DatabaseSync(file)
  other.exec('begin immediate')
  setTimeout(() => other.exec('rollback'), 100)
  expect((await rows.insert({ n: 2 })).refused).toEqual([])
  other.exec('begin immediate')
  const error: unknown = await rows.insert({ n: 3 }).catch((thrown: unknown) => thrown)
  expect(InlayError.is(error) && [error.code, error.retryable]).toEqual(['CONFLICT', true])
  other.exec('rollback')
  expect(await rows.find().count()).toBe(2)
})

it('the event loop runs while many rows are looked through', async (ctx) => {
  await using db = await open(place(ctx))
  const rows = db.collection<{ n: number }>('rows')
  await rows.insert(Array.from({ length: 10_000 }, (_, n) => ({ n })))
  let turns = 0
  const turn = setInterval(() => { turns++ }, 0)
  expect(await rows.find({ n: { $lt: 5 } }).count()).toBe(5)
  clearInterval(turn)
  expect(turns).toBeGreaterThan(3)
})

it('two names of one file are one database', () => {
  expect(sqlite.identify!('sqlite:a.db')).toBe(sqlite.identify!('sqlite:./x/../a.db'))
  expect(sqlite.identify!('sqlite:a.db')).not.toBe(sqlite.identify!('sqlite:b.db'))
})
