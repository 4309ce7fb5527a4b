/** Workers: outputs that another process, or another program, left to do. */
import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it, type TestContext } from 'vitest'
import { inlay, InlayError, listener, model, step, type Config, type Inlay, type WorkStatus } from '../index.ts'
import { backends, dropSchema, type Backend } from './support/backends.ts'

interface Shared { open(config?: Config): Promise<Inlay>; readonly uri: string; readonly namespace: string }
/** Several connections to one namespace. */
async function shared(ctx: TestContext, backend: Backend): Promise<Shared> {
  const namespace = `t_${randomBytes(6).toString('hex')}`, uri = backend.uri(ctx), opened: Inlay[] = []
  ctx.onTestFinished(async () => {
    for (const db of opened) await db.close({ abort: true })
    if (backend.name === 'PostgreSQL') await dropSchema(uri, namespace)
  })
  return {
    uri, namespace,
    async open(config = {}) {
      const db = await inlay({ data: uri, namespace, config: false, log: {}, ...config })
      opened.push(db)
      return db
    },
  }
}

function upper(called: string[] = [], ms = 0) {
  return model<string, string>('upper', { run: step('upper@1', async (texts: readonly string[]) => { called.push(...texts); await sleep(ms); return texts.map((t) => t.toUpperCase()) }) })
}
async function until<T>(what: string, look: () => Promise<T | undefined | false>, ms = 20_000): Promise<T> {
  for (const end = Date.now() + ms; Date.now() < end; await sleep(10)) {
    const found = await look()
    if (found !== undefined && found !== false) return found as T
  }
  throw new Error(`${what} did not happen within ${ms} ms`)
}
const settled = async (db: Inlay, rows: number, where = {}): Promise<boolean> => await db.collection('docs').find({ '_outputs.text.upper': { $exists: true }, ...where }).count() === rows

describe.each(backends)('$name', (backend) => {
  it('a worker computes what was there, what is inserted and changed, and what a worker-mode process leaves to it; it stops when told', async (ctx) => {
    const { open } = await shared(ctx, backend), app = await open({ outputs: 'worker', components: [upper()] }), docs = app.collection<{ text: string }>('docs')
    await docs.insert(Array.from({ length: 50 }, (_, i) => ({ _id: `k${i}`, text: `t${i}` })))
    const listened = await (await app.load(upper())).listen(docs.find(), 'text')
    expect(await docs.insert({ _id: 'late', text: 'late' })).toMatchObject({ outputs: { done: 0, pending: 1 } })
    const called: string[] = [], db = await open({ components: [upper(called)] }), stop = new AbortController(), seen: WorkStatus[] = []
    const working = db.work({ signal: stop.signal, onStatus: (status) => { seen.push(status) } })
    await until('the back-fill', () => settled(app, 51))
    await docs.insert({ _id: 'new', text: 'new' })
    await until('an output of a new row', async () => listened.of((await docs.findOne({ _id: 'new' }))!) === 'NEW')
    await docs.update({ _id: 'k1' }, { $set: { text: 'changed' } })
    await until('an output of a changed row', async () => listened.of((await docs.findOne({ _id: 'k1' }))!) === 'CHANGED')
    await docs.delete({ _id: 'k2' })
    await until('a status without lag', async () => seen.at(-1)?.lag === 0)
    stop.abort()
    expect(await working).toMatchObject({ lag: 0, done: 53, failed: 0, listeners: [{ name: 'text_upper', lag: 0, failed: 0 }] })
    expect(called).toHaveLength(53)
    expect(await app.verify({ deep: true })).toMatchObject({ ok: true, rows: 51 })
    await docs.insert({ _id: 'after', text: 'after' })
    await sleep(200)
    expect(called).toHaveLength(53)
  })

  it('rows that kept moving while they were settled are looked at again soon, though nothing tells of them', async (ctx) => {
    const { open } = await shared(ctx, backend), app = await open({ outputs: 'worker', components: [upper()] }), docs = app.collection<{ text: string }>('docs')
    await (await app.load(upper())).listen(docs.find(), 'text')
    let refusals = 30
    const db = await open({ components: [upper()], middleware: [{ name: 'moves', data: (next) => ({ ...next, settle: async (slot, outcomes, c) => (refusals-- > 0 ? outcomes.map((o) => o.key) : next.settle(slot, outcomes, c)) }) }] }), stop = new AbortController()
    await docs.insert({ _id: 'a', text: 'a' })
    const working = db.work({ signal: stop.signal })
    await until('the output', () => settled(app, 1))
    expect(refusals).toBeLessThan(0)
    stop.abort()
    await working
  })

  it('two workers share the rows, and one takes over what the other gives back', async (ctx) => {
    const { open } = await shared(ctx, backend), called: string[][] = [[], []], app = await open({ outputs: 'worker', components: [upper()] }), docs = app.collection<{ text: string }>('docs')
    await (await app.load(upper())).listen(docs.find(), 'text')
    const stops = [new AbortController(), new AbortController()], status: (WorkStatus | undefined)[] = []
    const working: Promise<WorkStatus>[] = []
    for (const [i, stop] of stops.entries()) working.push((await open({ components: [upper(called[i])] })).work({ signal: stop.signal, onStatus: (s) => { status[i] = s } }))
    await until('both to hold leases', async () => (status[0]?.leases ?? 0) > 0 && (status[1]?.leases ?? 0) > 0 && status[0]!.leases + status[1]!.leases === 16)
    await docs.insert(Array.from({ length: 300 }, (_, i) => ({ text: `a${i}` })))
    await until('the outputs', () => settled(app, 300))
    expect([called[0]!.length > 0, called[1]!.length > 0, called.flat().length]).toEqual([true, true, 300])
    stops[0]!.abort()
    await working[0]
    await docs.insert(Array.from({ length: 100 }, (_, i) => ({ text: `b${i}` })))
    await until('the outputs of the second', () => settled(app, 400))
    stops[1]!.abort()
    await working[1]
    expect(await app.verify({ deep: true })).toMatchObject({ ok: true, rows: 400 })
  })

  it('a worker without the function says so, and leaves the work to one that has it', async (ctx) => {
    const { open } = await shared(ctx, backend), app = await open({ outputs: 'worker', components: [upper()] }), docs = app.collection<{ text: string }>('docs')
    await (await app.load(upper())).listen(docs.find(), 'text')
    await docs.insert({ text: 'x' })
    const stop = new AbortController(), bare = await open(), seen: WorkStatus[] = [], blocked = bare.work({ signal: stop.signal, onStatus: (s) => { seen.push(s) } })
    expect(await until('a status', async () => seen[0])).toMatchObject({ leases: 0, lag: 1, listeners: [{ name: 'text_upper', lag: 1, blocked: expect.stringContaining('upper@1') as string }] })
    const working = (await open({ components: [upper()] })).work({ signal: stop.signal })
    await until('the output', () => settled(app, 1))
    stop.abort()
    await Promise.all([blocked, working])
  })

  it('a worker that is told to stop ends the batch it has begun; close() ends it too; what it is asked wrongly is refused', async (ctx) => {
    const { open } = await shared(ctx, backend), app = await open({ outputs: 'worker', components: [upper()] }), docs = app.collection<{ text: string }>('docs')
    await docs.insert(Array.from({ length: 20 }, (_, i) => ({ text: `t${i}` })))
    await (await app.load(upper())).listen(docs.find(), 'text', { maxChunkSize: 5 })
    const called: string[] = [], db = await open({ components: [upper(called, 100)] }), stop = new AbortController(), working = db.work({ signal: stop.signal })
    await until('the first batch', async () => called.length > 0)
    stop.abort()
    const { done } = await working
    expect([done, done < 20, await docs.find({ '_outputs.text.upper': { $exists: true } }).count()]).toEqual([called.length, true, called.length])
    const again = db.work()
    await until('the rest', () => settled(app, 20))
    await db.close()
    await again
    await expect(app.work({ listeners: ['nobody'] })).rejects.toMatchObject({ code: 'NOT_FOUND' })
    await expect(app.work({ listeners: 'text_upper' as never })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
    await expect(db.work()).rejects.toMatchObject({ code: 'CLOSED' })
  })

  it('a new version of a model is back-filled beside the old one, and takes its place', async (ctx) => {
    const { open } = await shared(ctx, backend), app = await open({ outputs: 'worker', components: [upper()] }), docs = app.collection<{ text: string }>('docs')
    await docs.insert(Array.from({ length: 10 }, (_, i) => ({ text: `t${i}` })))
    await (await app.load(upper())).listen(docs.find(), 'text')
    const next = model<string, string>('upper', { run: step('upper@2', (texts: readonly string[]) => texts.map((t) => `${t.toUpperCase()}!`)) })
    const db = await open({ components: [upper()] }), working = db.work()
    await until('the old outputs', () => settled(app, 10))
    const second = await open({ outputs: 'worker', components: [next] }), newer = await open({ components: [next] }), also = newer.work()
    await (await second.load(next)).listen(second.collection<{ text: string }>('docs').find(), 'text')
    await until('the new outputs to serve', async () => (await second.collection('docs').find({ '_outputs.text.upper': 'T3!' }).count()) === 1)
    await Promise.all([db.close(), newer.close()])
    await Promise.all([working, also])
  })
})

/** Plain drivers, which know nothing of Inlay, on a table or collection of their own. */
interface Other { readonly source: string; insert(id: string, text: string): Promise<unknown>; set(id: string, text: string): Promise<unknown>; remove(id: string): Promise<unknown> }
const others: readonly { readonly name: string; connect(ctx: TestContext, uri: string): Promise<Other> }[] = [
  {
    name: 'PostgreSQL',
    async connect(ctx, uri) {
      const { default: pg } = await import('pg'), client = new pg.Client(uri), schema = `o_${randomBytes(6).toString('hex')}`
      await client.connect()
      await client.query(`create schema ${schema}; create table ${schema}.notes (id text primary key, text text)`)
      ctx.onTestFinished(async () => { await client.query(`drop schema ${schema} cascade`); await client.end() })
      return {
        source: `${schema}.notes`,
        insert: (id, text) => client.query(`insert into ${schema}.notes values ($1, $2)`, [id, text]), set: (id, text) => client.query(`update ${schema}.notes set text = $2 where id = $1`, [id, text]),
        remove: (id) => client.query(`delete from ${schema}.notes where id = $1`, [id]),
      }
    },
  },
  {
    name: 'MongoDB',
    async connect(ctx, uri) {
      const { MongoClient } = await import('mongodb'), client = await MongoClient.connect(uri), database = `o_${randomBytes(6).toString('hex')}`, notes = client.db(database).collection<{ _id: string; text: string }>('notes')
      await client.db(database).createCollection('notes')
      ctx.onTestFinished(async () => { await client.db(database).dropDatabase(); await client.close() })
      return { source: `${database}.notes`, insert: (_id, text) => notes.insertOne({ _id, text }), set: (_id, text) => notes.updateOne({ _id }, { $set: { text } }), remove: (_id) => notes.deleteOne({ _id }) }
    },
  },
]
describe.each(others)('$name, attached with track: "notify"', ({ name, connect }) => {
  it('a worker follows what another program inserts, changes and deletes', async (ctx) => {
    const backend = backends.find((b) => b.name === name)!, { open, uri } = await shared(ctx, backend), other = await connect(ctx, uri)
    await other.insert('before', 'before')
    const app = await open({ outputs: 'worker', components: [upper()] }), notes = app.collection<{ text: string }>('notes', { attach: other.source, track: 'notify' })
    const listened = await (await app.load(upper())).listen(notes.find(), 'text'), outputOf = async (id: string): Promise<string | undefined> => { const row = await notes.findOne({ _id: id }); return row === undefined ? 'gone' : listened.of(row) }
    const db = await open({ components: [upper()] }), stop = new AbortController(), working = db.work({ signal: stop.signal })
    await until('the back-fill', async () => await outputOf('before') === 'BEFORE')
    await other.insert('a', 'one')
    await until('the output of an inserted row', async () => await outputOf('a') === 'ONE', 5000)
    await other.set('a', 'two')
    await until('the output of a changed row', async () => await outputOf('a') === 'TWO', 5000)
    await other.remove('a')
    await until('the row to be gone', async () => await outputOf('a') === 'gone', 5000)
    await until('no orphan', async () => (await app.verify()).orphaned === 0, 5000)
    stop.abort()
    expect(await working).toMatchObject({ done: 3, lag: 0 })
    expect(await app.verify({ deep: true })).toMatchObject({ ok: true, rows: 1 })
  })
})

it('changes that were lost are compared for every listener before their place is given up, also by workers that have some of them only', async (ctx) => {
  const { open, uri, namespace } = await shared(ctx, backends.find((b) => b.name === 'MongoDB')!), { MongoClient } = await import('mongodb'), client = await MongoClient.connect(uri), own = client.db(namespace)
  ctx.onTestFinished(() => client.close())
  const lower = model<string, string>('lower', { run: step('lower@1', (texts: readonly string[]) => texts.map((t) => t.toLowerCase())) })
  const components = [listener({ model: upper(), on: 'docs', key: 'text', name: 'a' }), listener({ model: lower, on: 'docs', key: 'text', name: 'b' })], db = await open({ components })
  const work = async (options: { readonly listeners?: readonly string[] }): Promise<void> => {
    const stop = new AbortController(), working = db.work({ ...options, signal: stop.signal })
    await sleep(1500)
    stop.abort()
    await working
  }
  await db.collection('docs').insert(Array.from({ length: 20 }, (_, i) => ({ text: `Text ${i}` })))
  await work({})
  await own.collection('docs').updateMany({}, { $set: { text: 'Changed' } })
  await own.collection('_meta').deleteMany({ _id: /^token:/ as never })
  const right = async (): Promise<readonly number[]> => Promise.all([{ '_outputs.a.upper': 'CHANGED' }, { '_outputs.b.lower': 'changed' }].map((where) => db.collection('docs').find(where as never).count()))
  await work({ listeners: ['a'] })
  expect(await right()).toEqual([20, 0])
  await work({ listeners: ['b'] })
  expect(await right()).toEqual([20, 20])
})

it('a model that is away holds up its own outputs only', async (ctx) => {
  const { open } = await shared(ctx, backends[0]!), gone = model<string, string>('gone', { run: step('gone@1', () => { throw new InlayError('UNAVAILABLE', 'The model is away.') }) })
  const components = [listener({ model: gone, on: 'docs', key: 'text', name: 'gone' }), listener({ model: upper(), on: 'docs', key: 'text' })], app = await open({ components, outputs: 'worker' }), docs = app.collection<{ text: string }>('docs')
  await docs.insert({ text: 'first' })
  const stop = new AbortController(), working = (await open({ components })).work({ signal: stop.signal, onStatus: () => { throw new Error('a fault of the application') } })
  for (let i = 0; i < 8; i++) {
    await docs.insert({ text: `t${i}` })
    await until(`output ${i}`, () => settled(app, i + 2), 1500)
  }
  stop.abort()
  await working
})

it('what waits for a model that was away is looked at again, also where other rows were done meanwhile', async (ctx) => {
  const { open } = await shared(ctx, backends[0]!), away = new Set(['a0', 'a1', 'a2', 'a3', 'a4'])
  const spec = listener({ model: model<string, string>('upper', { run: step('upper@1', async (texts: readonly string[]) => {
    const lost = texts.find((text) => away.delete(text))
    if (lost === undefined) return texts.map((text) => text.toUpperCase())
    void docs.insert({ text: `beside ${lost}` })                             // told before what waits is looked at again
    throw new InlayError('UNAVAILABLE', 'The model is away.')
  }) }), on: 'docs', key: 'text' })
  const app = await open({ components: [spec], outputs: 'worker' }), docs = app.collection<{ text: string }>('docs')
  await docs.insert({ text: 'first' })
  const stop = new AbortController(), working = (await open({ components: [spec] })).work({ signal: stop.signal })
  for (const [i, text] of [...away].entries()) {
    await until('quiet', () => settled(app, 2 * i + 1), 10_000)
    await docs.insert({ text })
  }
  await until('all outputs', () => settled(app, 11), 10_000)
  stop.abort()
  await working
})
