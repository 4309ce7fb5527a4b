/** Another program writes a row between Inlay's read and its write: neither is lost, and what no longer matches is left alone. */
import { randomBytes } from 'node:crypto'
import { describe, expect, it, type TestContext } from 'vitest'
import { inlay, type Inlay } from '../index.ts'
import { dropSchema } from './support/backends.ts'
import { mongodbUri, postgresUri } from './support/servers.ts'

interface Opened { readonly db: Inlay; readonly attach?: string; set(id: string, fields: Readonly<Record<string, unknown>>): Promise<unknown>; inc(id: string): Promise<unknown> }
/** `before` runs before the first write of Inlay to the collection. */
type Open = (ctx: TestContext, before: { run: () => Promise<unknown> }) => Promise<Opened>

async function opened(data: string, namespace: string, before: { run: () => Promise<unknown> }): Promise<Inlay> {
  return inlay({
    data, namespace, config: false, log: {}, middleware: [{
      name: 'between', data: (next) => ({
        ...next, async write(collection, ops, c) {
          const { run } = before
          if (collection === 'docs') before.run = async () => {}
          if (collection === 'docs') await run()
          return next.write(collection, ops, c)
        },
      }),
    }],
  })
}
const mongodb = (attached: boolean): Open => async (ctx, before) => {
  const { MongoClient } = await import('mongodb'), uri = mongodbUri(ctx), client = await MongoClient.connect(uri), namespace = `f_${randomBytes(6).toString('hex')}`, db = await opened(uri, namespace, before)
  const rows = client.db(namespace).collection<{ _id: string }>(attached ? 'theirs' : 'docs')
  if (attached) await client.db(namespace).createCollection('theirs')
  ctx.onTestFinished(async () => { await db.close({ abort: true }); await client.db(namespace).dropDatabase(); await client.close() })
  return { db, ...(attached ? { attach: `${namespace}.theirs` } : {}), set: (_id, fields) => rows.updateOne({ _id }, { $set: fields }), inc: (_id) => rows.updateOne({ _id }, { $inc: { n: 1 } } as never) }
}
const postgres: Open = async (ctx, before) => {
  const { default: pg } = await import('pg'), uri = postgresUri(ctx), client = new pg.Client(uri), namespace = `f_${randomBytes(6).toString('hex')}`, db = await opened(uri, namespace, before)
  await client.connect()
  ctx.onTestFinished(async () => { await db.close({ abort: true }); await client.end(); await dropSchema(uri, namespace) })
  const set = (id: string, [path, value]: readonly [string, unknown]): Promise<unknown> => client.query(`update "${namespace}".docs set doc = jsonb_set(doc, $2::text[], $3::jsonb) where _id = $1`, [id, path.split('.'), JSON.stringify(value)])
  return {
    db, set: async (id, fields) => { for (const entry of Object.entries(fields)) await set(id, entry) },
    inc: (id) => client.query(`update "${namespace}".docs set doc = jsonb_set(doc, '{n}', to_jsonb((doc ->> 'n')::int + 1)) where _id = $1`, [id]),
  }
}

describe.each([{ name: 'MongoDB', open: mongodb(false) }, { name: 'MongoDB, attached', open: mongodb(true) }, { name: 'PostgreSQL', open: postgres }])('$name', ({ open }) => {
  it('an update, a replace and a delete see what another program wrote meanwhile', async (ctx) => {
    const before = { run: async (): Promise<unknown> => undefined }, { db, attach, set } = await open(ctx, before), docs = db.collection<Record<string, unknown>>('docs', attach === undefined ? {} : { attach })
    const nested = { list: [1, [2]], none: null, at: new Date(5), 'a.b': 1, $x: 'dollar' }
    await docs.insert(['inc', 'filter', 'nested', 'delete', 'replace', 'new', 'plain'].map((_id) => ({ _id, n: 1, status: 'open', home: { city: 'A', zip: 1 }, ...nested })))
    before.run = () => set('inc', { n: 100 })
    await docs.update({ _id: 'inc' }, { $inc: { n: 1 } } as never)
    before.run = () => set('filter', { status: 'closed' })
    const { ids } = await docs.update({ _id: 'filter', status: 'open' }, { $set: { n: 2 } } as never)
    before.run = () => set('nested', { 'home.zip': 2 })
    await docs.update({ _id: 'nested' }, { $set: { 'home.city': 'B' } } as never)
    before.run = () => set('delete', { status: 'closed' })
    const removed = await docs.delete({ _id: 'delete', status: 'open' })
    before.run = () => set('replace', { n: 7 })
    await docs.replace('replace', { n: 8 })
    before.run = () => set('new', { extra: 1 })
    await docs.update({ _id: 'new' }, { $set: { n: 3 } } as never)
    expect((await docs.update({ _id: 'plain' }, { $set: { n: 9 } } as never)).ids).toEqual(['plain'])
    expect([ids, removed.ids]).toEqual([[], []])
    const rows = new Map((await docs.find().toArray()).map(({ _id, _fold, ...row }) => [_id, row]))
    expect(['inc', 'filter', 'nested', 'delete', 'new', 'plain'].map((id) => { const { n, status, home, extra } = rows.get(id)!; return [id, n, status, home, extra] })).toEqual([
      ['inc', 101, 'open', { city: 'A', zip: 1 }, undefined], ['filter', 1, 'closed', { city: 'A', zip: 1 }, undefined], ['nested', 1, 'open', { city: 'B', zip: 2 }, undefined],
      ['delete', 1, 'closed', { city: 'A', zip: 1 }, undefined], ['new', 3, 'open', { city: 'A', zip: 1 }, 1], ['plain', 9, 'open', { city: 'A', zip: 1 }, undefined],
    ])
    expect(rows.get('replace')).toEqual({ n: 8 })
    expect(rows.get('plain')).toMatchObject(nested)
  })

  it('increments of two Inlays and of another program add up', async (ctx) => {
    const first = await open(ctx, { run: async () => undefined }), docs = first.db.collection<{ n: number }>('docs', first.attach === undefined ? {} : { attach: first.attach })
    await docs.insert({ _id: 'a', n: 0 })
    const loop = async (inc: () => Promise<unknown>): Promise<void> => { for (let i = 0; i < 60; i++) await inc() }
    await Promise.all([loop(() => docs.update({ _id: 'a' }, { $inc: { n: 1 } })), loop(() => docs.update({ _id: 'a' }, { $inc: { n: 1 } })), loop(() => first.inc('a'))])
    expect((await docs.findOne({ _id: 'a' }))!.n).toBe(180)
  })
})
