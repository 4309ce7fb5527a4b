/** Attached collections in the life of an application: what is attached goes away, is declared in the config, is removed. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it, type TestContext } from 'vitest'
import { inlay, listener, model, step, vectorIndex, type Config, type Inlay, type InlayError } from '../index.ts'
import { backends } from './support/backends.ts'

const upper = model<string, string>('upper', { run: step('upper@1', (texts: readonly string[]) => texts.map((t) => t.toUpperCase())) })
const listened = listener({ model: upper, on: 'events', key: 'kind' })

function files(ctx: TestContext): { readonly csv: string; open(config?: Config): Promise<Inlay>; readonly said: string[] } {
  const folder = mkdtempSync(join(tmpdir(), 'inlay-attached-')), csv = join(folder, 'events.csv'), opened: Inlay[] = [], said: string[] = []
  writeFileSync(csv, 'kind,amount\nbuy,3\nsell,5\n')
  ctx.onTestFinished(async () => { for (const db of opened) await db.close({ abort: true }); rmSync(folder, { recursive: true }) })
  return { csv, said, async open(config = {}) { const db = await inlay({ data: `duckdb:${join(folder, 'app.duckdb')}`, config: false, log: { warn: (line) => said.push(line) }, ...config }); opened.push(db); return db } }
}
const codeOf = (work: Promise<unknown>): Promise<unknown> => work.then(() => undefined, (error: InlayError) => error.code)

it('what a listener lies on may be gone: the database opens, says so, and the listener can be removed', async (ctx) => {
  const { csv, open, said } = files(ctx), before = await open(), events = before.collection('events', { attach: csv })
  await before.add(listened)
  await before.collection('notes').insert({ _id: 'a', text: 'a' })
  expect(await events.find({ '_outputs.kind.upper': 'BUY' }).count()).toBe(1)
  await before.close()
  rmSync(csv)
  const db = await open()
  expect(said.join()).toContain('"kind_upper" is blocked')
  expect(await db.show('listener')).toMatchObject([{ name: 'kind_upper', state: 'blocked', reason: expect.stringContaining('events.csv') as string }])
  expect(await db.verify({ repair: true })).toMatchObject({ ok: false, listeners: [{ name: 'kind_upper', blocked: expect.stringContaining('events.csv') as string }] })
  expect((await db.collection('notes').findOne({ _id: 'a' }))!['text']).toBe('a')
  expect(await codeOf(db.collection('events').find().toArray())).toBe('NOT_FOUND')
  await db.remove('listener', 'kind_upper')
  await db.remove('collection', 'events')
  expect([await db.show('listener'), (await db.show('collection')).map((c) => c.name), (await db.verify()).ok]).toEqual([[], ['notes'], true])
})

it('the config declares what is attached, for components too; an old handle of what was removed makes nothing new', async (ctx) => {
  const { csv, open } = files(ctx), db = await open({ collections: { events: { attach: csv } }, components: [listened] })
  await db.add(listened)
  const events = db.collection('events')
  expect(await events.find({ '_outputs.kind.upper': 'SELL' }).count()).toBe(1)
  await db.remove('collection', 'events', { force: true })
  expect([await codeOf(events.insert({ kind: 'new' })), await db.show('collection')]).toEqual(['NOT_FOUND', []])
  expect(await codeOf(open({ collections: { events: { atach: csv } } as never }))).toBe('INVALID_ARGUMENT')
  expect(() => db.collection('other', { attach: csv, fold: { valid: 0.5 } })).toThrow(/fold/)
})

it('a wrong name is said by plan, and a listener that cannot be made leaves nothing behind', async (ctx) => {
  const { open } = files(ctx), db = await open()
  db.collection('events', { attach: './not-there.csv' })
  expect(await codeOf(db.add(listened))).toBe('NOT_FOUND')
  expect(await db.show('listener')).toEqual([])
  await db.close()
  const again = await open()
  expect((await again.verify()).ok).toBe(true)
})

it('a row that one process deletes and another inserts again is found by both, with vectors in another database', async (ctx) => {
  const namespace = `t_${crypto.randomUUID().slice(0, 8).replaceAll('-', '')}`, data = `memory:${namespace}`, pglite = backends.find((b) => b.name === 'PGlite')!.uri(ctx)
  const embed = model<string, Float32Array>('embed', { run: step('embed@1', (texts: readonly string[]) => texts.map((t) => Float32Array.of(t.length, 1))), shape: [2] })
  const near = vectorIndex('near', { indexing: listener({ model: embed, on: 'docs', key: 'text' }), measure: 'l2' })
  const config: Config = { data, vectors: pglite, namespace, config: false, log: {}, components: [near as never] }, [a, b] = [await inlay(config), await inlay(config)]
  ctx.onTestFinished(async () => { await a.close(); await b.close() })
  const index = await a.add(near), docs = a.collection<{ text: string }>('docs'), found = async (): Promise<unknown> => (await docs.find().like({ text: 'aaa' }, index, { n: 1 }).toArray())[0]?._id
  await docs.insert([{ _id: 'x', text: 'aaa' }, { _id: 'y', text: 'b' }])
  expect(await found()).toBe('x')
  await docs.delete({ _id: 'x' })
  await b.collection('docs').insert({ _id: 'x', text: 'aaa' })
  await expect.poll(found, { timeout: 5000 }).toBe('x')
  expect((await a.verify({ deep: true })).ok).toBe(true)
})
