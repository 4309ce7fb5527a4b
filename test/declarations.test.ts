/** How declarations change while they are in use: versions, chains, removals, and several who declare at once. */
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { inlay, InlayError, listener, model, step, vectorIndex, type Config, type ListenerSpec } from '../index.ts'
import { backends, open } from './support/backends.ts'

const texts = (name: string, version: number, of: (text: string) => string): ListenerSpec<string, string, 'text'> =>
  listener({ model: model<string, string>(name, { run: step(`${name}@${version}`, (all: readonly string[]) => all.map(of)) }), on: 'docs', key: 'text' })
const points = (version: number, of: (text: string) => readonly [number, number]): ListenerSpec<string, Float32Array, 'text'> =>
  listener({ model: model<string, Float32Array>('point', { run: step(`point@${version}`, (all: readonly string[]) => all.map((text) => Float32Array.from(of(text)))), shape: [2] }), on: 'docs', key: 'text' })
type Docs = { text: string; n?: number }

describe.each(backends)('$name', (backend) => {
  it('computes what a listener reads before the listener, for rows that were there', async (ctx) => {
    const db = await open(ctx, backend), docs = db.collection<Docs>('docs')
    await docs.insert([{ _id: 'a', text: 'a' }])
    const first = texts('m', 1, (text) => `1${text}`), second = listener({ model: model<string, string>('s', { run: step('s@1', (all: readonly string[]) => all.map((x) => `<${x}>`)) }), on: 'docs', key: first })
    const handle = await db.add(second)
    expect(handle.of((await docs.findOne())!)).toBe('<1a>')
    expect(await db.verify()).toMatchObject({ ok: true, rows: 2 })
  })

  it('removes what reads a listener along with it, when forced, and opens again', async (ctx) => {
    const uri = backend.uri(ctx), config: Config = { data: uri, namespace: `force_${crypto.randomUUID().slice(0, 8)}`, config: false, log: {} }
    const db = await inlay(config), docs = db.collection<Docs>('docs'), first = texts('m', 1, (text) => text)
    await db.add(listener({ model: model<string, string>('s', { run: step('s@1', (all: readonly string[]) => all) }), on: 'docs', key: first }))
    await docs.insert({ _id: 'a', text: 'a' })
    await expect(db.remove('listener', 'text_m')).rejects.toMatchObject({ code: 'CONFLICT', message: expect.stringContaining('listener "text_m_s"') })
    await db.remove('listener', 'text_m', { force: true })
    expect(await db.show('listener')).toEqual([])
    await db.close()
    const again = await inlay(config)
    expect((await again.collection('docs').findOne())?._outputs).toBeUndefined()
    await again.collection('docs').delete({}, { all: true })
    await again.close()
  })

  it('keeps versions that serve', async (ctx) => {
    const db = await open(ctx, backend), docs = db.collection<Docs>('docs')
    await db.add(texts('m', 1, (text) => text))
    await docs.insert({ _id: 'a', text: 'a' })
    await expect(db.remove('listener', 'text_m', { version: 0 })).rejects.toMatchObject({ code: 'CONFLICT' })
    await expect(db.remove('model', 'm', { version: 0 })).rejects.toMatchObject({ code: 'CONFLICT' })
    await db.add(texts('m', 2, (text) => `2${text}`))
    await db.remove('model', 'm', { version: 0 })
    await db.remove('listener', 'text_m', { version: 0 })
    expect((await docs.findOne())!._outputs).toEqual({ text: { m: '2a' } })
  })

  it('does not let a new model serve that fails where the old one did not', async (ctx) => {
    const said: string[] = [], db = await open(ctx, backend, { log: { warn: (m) => said.push(m) } }), docs = db.collection<Docs>('docs')
    await db.add(texts('m', 1, (text) => `1${text}`))
    await docs.insert([{ _id: 'a', text: 'a' }, { _id: 'b', text: 'b' }])
    let broken = true
    const next = await db.add(texts('m', 2, (text) => { if (broken && text === 'b') throw new Error('not b'); return `2${text}` }))
    expect((await docs.find().toArray()).map((row) => row._outputs)).toEqual([{ text: { m: '1a' } }, { text: { m: '1b' } }])
    expect(said).toContainEqual(expect.stringMatching(/new version of the listener "text_m" fails on 1 rows, the old one on 0/))
    broken = false
    await next.retry()
    expect((await docs.find().toArray()).map((row) => row._outputs)).toEqual([{ text: { m: '2a' } }, { text: { m: '2b' } }])
  })

  it('searches the old vectors with the old model while the new ones are made', async (ctx) => {
    const db = await open(ctx, backend), docs = db.collection<Docs>('docs')
    const index = await db.add(vectorIndex('near', { indexing: points(1, (text) => (text === 'a' ? [1, 0] : [0, 1])) }))
    await docs.insert([{ _id: 'a', text: 'a' }, { _id: 'b', text: 'b' }])
    await expect(db.add(points(2, (text) => { if (text === 'b') throw new InlayError('UNAVAILABLE', 'away'); return [0, 1] }))).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    expect((await docs.find().like({ text: 'a' }, index, { n: 1 }).toArray()).map((hit) => hit._id)).toEqual(['a'])
  })

  it('takes the measure that was declared last, also one of before', async (ctx) => {
    const db = await open(ctx, backend), docs = db.collection<Docs>('docs'), at = points(1, (text) => [Number(text), 1])
    await docs.insert([{ _id: 'far', text: '100' }, { _id: 'near', text: '3' }])
    for (const [measure, first] of [['l2', 'near'], ['dot', 'far'], ['l2', 'near']] as const) {
      const index = await db.add(vectorIndex('near', { indexing: at, measure }))
      expect((await docs.find().like({ text: '4' }, index, { n: 1 }).toArray()).map((hit) => hit._id)).toEqual([first])
    }
  })

  it('knows all listeners after several were declared at once', async (ctx) => {
    const db = await open(ctx, backend), docs = db.collection<Docs>('docs')
    await Promise.all([...Array.from({ length: 5 }, (_, i) => db.add(texts(`m${i}`, 1, (text) => text))), ...Array.from({ length: 3 }, () => db.add(texts('same', 1, (text) => text)))])
    expect((await docs.insert({ text: 'a' })).outputs).toEqual({ done: 6, failed: 0, pending: 0 })
    expect(await db.verify()).toMatchObject({ ok: true, rows: 6 })
  })

  it('filters by large bytes as a query does', async (ctx) => {
    const db = await open(ctx, backend), files = db.collection<{ text: string; img: unknown }>('docs')
    await db.add({ ...texts('m', 1, (text) => text), where: { img: { $type: 'binData' } } } as ListenerSpec<string, string, 'text'>)
    expect((await files.insert([{ text: 'a', img: new Uint8Array(30_000) }, { text: 'b', img: new Uint8Array(3) }, { text: 'c', img: 'none' }])).outputs).toEqual({ done: 2, failed: 0, pending: 0 })
  })

  it('holds up the outputs of the model that is away, and no others', async (ctx) => {
    const db = await open(ctx, backend), docs = db.collection<Docs>('docs')
    await db.add(texts('away', 1, () => { throw new InlayError('UNAVAILABLE', 'no connection') }))
    await db.add(texts('here', 1, (text) => text))
    expect((await docs.insert([{ _id: 'a', text: 'a' }])).outputs).toEqual({ done: 1, failed: 0, pending: 1 })
    expect((await docs.update({ _id: 'a' }, { $set: { text: 'b' } })).outputs).toEqual({ done: 1, failed: 0, pending: 1 })
    expect((await docs.findOne())!._outputs).toEqual({ text: { here: 'b' } })
  })

  it('says once that rows fail, also when nobody waits', async (ctx) => {
    const said: string[] = [], db = await open(ctx, backend, { log: { warn: (m) => said.push(m) } }), docs = db.collection<Docs>('docs')
    await db.add(texts('m', 1, (text) => { throw new Error(`no ${text}`) }))
    for (const text of ['a', 'b']) await docs.insert([{ _id: text, text }], { wait: false })
    await docs.insert({ _id: 'c', text: 'c' })
    await db.close()
    expect(said).toEqual([expect.stringMatching(/"text_m" failed on the row "[ac]": no [ac]\. Further failures/)])
  })

  it('stops a call whose model, or whose source, does not answer', async (ctx) => {
    const db = await open(ctx, backend), docs = db.collection<Docs>('docs')
    const stuck = model<string, string>('stuck', { run: step('stuck@1', () => new Promise<never>(() => {})) }), handle = await db.add(stuck)
    await docs.insert({ _id: 'a', text: 'a' })
    await expect(handle.predict(['a'], { signal: AbortSignal.timeout(30) })).rejects.toMatchObject({ code: 'TIMEOUT' })
    await expect(db.add(listener({ model: stuck, on: 'docs', key: 'text' }), { signal: AbortSignal.timeout(500) })).rejects.toMatchObject({ code: 'TIMEOUT' })
    await expect(docs.insert({ _id: 'b', text: 'b' }, { signal: AbortSignal.timeout(300) })).rejects.toMatchObject({ details: { ids: ['b'] } })
    const late = new AbortController(), slow = docs.insert((async function* () { yield { text: 'y' }; late.abort() })(), { signal: late.signal })      // stopped before the model is asked
    await expect(slow).rejects.toMatchObject({ code: 'ABORTED' })
    async function* silent(): AsyncGenerator<Docs> {
      yield { text: 'x' }
      await new Promise(() => {})
    }
    await expect(docs.insert(silent(), { signal: AbortSignal.timeout(30) })).rejects.toMatchObject({ code: 'ABORTED' })
    await db.close({ abort: true })
  })

  it('guards what an update may set, and what it is meant for', async (ctx) => {
    const docs = (await open(ctx, backend)).collection<Docs>('docs')
    await docs.insert([{ _id: 'a', text: 'a', n: 1 }, { _id: 'b', text: 'b' }])
    expect((await docs.update({ _id: 'a' }, { $set: { _fold: 'none' } } as never)).refused).toMatchObject([{ id: 'a', path: '_fold' }])
    expect((await docs.update({ _id: 'a' }, { $unset: { _fold: true } } as never)).refused).toMatchObject([{ id: 'a', path: '_fold' }])
    expect((await docs.update({ _id: 'a' }, { $set: { _rev: 1 } } as never)).refused).toMatchObject([{ id: 'a', path: '_rev' }])
    await expect(docs.update(undefined as never, { $set: { n: 5 } })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
    await expect(docs.update({}, { $set: { n: undefined } } as never)).rejects.toThrow(/\$unset to remove/)
    expect((await docs.find({ n: 1 }).toArray()).length).toBe(1)
  })

  it('loses and doubles none of sixty increments of one row', async (ctx) => {
    const docs = (await open(ctx, backend)).collection<Docs>('docs')
    await docs.insert({ _id: 'a', text: 'a', n: 0 })
    const changed = await Promise.all(Array.from({ length: 60 }, () => docs.update({ _id: 'a' }, { $inc: { n: 1 } })))
    expect([changed.filter((c) => c.ids.length === 1).length, (await docs.findOne())!.n]).toEqual([60, 60])
  })

  it('says after how many rows the source of an insert failed', async (ctx) => {
    const docs = (await open(ctx, backend)).collection<Docs>('docs')
    async function* failing(): AsyncGenerator<Docs> {
      for (let n = 0; n < 2700; n++) yield { text: String(n) }
      await sleep(1)
      throw new Error('the file ended early')
    }
    const error = await docs.insert(failing()).catch((e: InlayError) => e) as InlayError
    expect([error.code, (error.details['ids'] as readonly string[]).length, await docs.find().count()]).toEqual(['INVALID_ARGUMENT', 2000, 2000])
    expect(error.message).toContain('the file ended early')
  })

  it('takes what a schema takes, and stores what it gives', async (ctx) => {
    const db = await open(ctx, backend), people = db.collection('people', { schema: z.object({ name: z.string(), age: z.number().default(3), born: z.string().transform(Number) }) })
    await people.insert({ _id: 'a', name: 'Ann', born: '1999' })
    const row = (await people.findOne())!
    expect([row.age, row.born + 1]).toEqual([3, 2000])
    // A row of transformed values can be changed, and what is changed is transformed.
    expect((await people.update({ _id: 'a' }, { $set: { name: 'Bea' } })).ids).toEqual(['a'])
    expect(await people.findOne()).toMatchObject({ name: 'Bea', born: 1999 })
    expect((await people.update({ _id: 'a' }, { $set: { born: '2001' } } as never)).ids).toEqual(['a'])
    expect((await people.findOne())!.born).toBe(2001)
  })
})

it('PostgreSQL: numbers of another program are numbers, whatever their scale', async (ctx) => {
  const uri = backends.find((b) => b.name === 'PostgreSQL')!.uri(ctx), namespace = `numbers_${crypto.randomUUID().slice(0, 8)}`, { default: pg } = await import('pg'), client = new pg.Client(uri)
  await using db = await inlay({ data: uri, namespace, config: false })
  const docs = db.collection<{ price: unknown }>('docs')
  await docs.insert({ _id: 'ours', price: 12n })
  await client.connect()
  await client.query(`insert into ${namespace}.docs (_id, doc) values ('theirs', jsonb_build_object('price', 12.00::numeric(10,2)))`)
  expect((await docs.find().toArray()).map((row) => row.price)).toEqual([12n, 12])
  await client.query(`drop schema ${namespace} cascade`)
  await client.end()
})
