/** What stays true of a model declared on data, on every backend, through the public API. */
import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { intercept } from '../core/plugin.ts'
import { inlay, InlayError, listener, model, step, tokens, vectorIndex, type Config, type ModelSpec } from '../index.ts'
import { backends, open } from './support/backends.ts'
import { temporaryFolder } from './support/temporary.ts'

/** A model over texts that counts the rows it sees. */
function counting<O>(name: string, version: number, of: (text: string) => O, shape?: readonly [number]): { readonly spec: ModelSpec<string, O>; calls: number; batches: number[] } {
  const counted = {
    calls: 0, batches: [] as number[],
    spec: model<string, O>(name, {
      run: step(`${name}@${version}`, async (all: readonly string[]) => {
        counted.calls += all.length
        counted.batches.push(all.length)
        return all.map(of)
      }), ...(shape === undefined ? {} : { shape }),
    }),
  }
  return counted
}

describe.each(backends)('$name', (backend) => {
  it('back-fills, follows inserts, updates, replaces and deletes, and calls the model for what it reads only', async (ctx) => {
    const db = await open(ctx, backend), docs = db.collection<{ text: string; other?: number }>('docs'), upper = counting('upper', 1, (text) => text.toUpperCase())
    await docs.insert(Array.from({ length: 1203 }, (_, i) => ({ _id: `k${i}`, text: `t${i}` })))
    const seen: number[] = [], listened = await (await db.add(upper.spec)).listen(docs.find(), 'text', { onProgress: (p) => { seen.push(p.done); expect(p.total).toBe(1203) } })
    expect([upper.calls, seen.at(-1)]).toEqual([1203, 1203])
    expect((await docs.insert({ _id: 'new', text: 'new' })).outputs).toEqual({ done: 1, failed: 0, pending: 0 })
    upper.calls = 0
    expect((await docs.update({ _id: { $in: ['k1', 'k2'] } }, { $set: { other: 1 } })).outputs.done).toBe(2)
    expect(upper.calls).toBe(0)
    await docs.update({ _id: 'k1' }, { $set: { text: 'changed' } })
    await docs.replace('k2', { text: 'replaced' })
    expect(upper.calls).toBe(2)
    expect(listened.of((await docs.findOne({ _id: 'k1' }))!)).toBe('CHANGED')
    expect((await docs.find({ [listened.path]: 'REPLACED' }).toArray()).map((row) => row._id)).toEqual(['k2'])
    expect((await docs.delete({ _id: 'k1' })).ids).toEqual(['k1'])
    expect(await db.verify({ deep: true })).toMatchObject({ ok: true, rows: 1203, orphaned: 0 })
    upper.calls = 0
    await db.add(listener({ model: upper.spec, on: 'docs', key: 'text' }))
    expect(upper.calls).toBe(0)
  })

  it('computes chains and diamonds in order, and nothing downstream of what failed', async (ctx) => {
    const db = await open(ctx, backend), docs = db.collection<{ x: string; y: number }>('docs')
    const a = model<string, number>('a', { run: step('a@1', (all: readonly string[]) => all.map((x) => { if (x === 'boom') throw new Error('boom'); return x.length })) })
    const b = model<{ readonly y: number; readonly x_a: number }, number>('b', { run: step('b@1', (all: readonly { readonly y: number; readonly x_a: number }[]) => all.map((v) => v.y + v.x_a)) })
    const c = model<Record<string, number>, number>('c', { run: step('c@1', (all: readonly Record<string, number>[]) => all.map((v) => v['x_a']! * 100 + v['sum']!)) })
    const la = listener({ model: a, on: 'docs', key: 'x' }), lb = listener({ model: b, on: 'docs', key: ['y', la], name: 'sum' })
    const sum = await db.add(lb), both = await db.add(listener({ model: c, on: 'docs', key: [la, lb], name: 'both' }))
    const { outputs } = await docs.insert([{ _id: '1', x: 'ab', y: 1 }, { _id: '2', x: 'boom', y: 2 }])
    expect(outputs).toEqual({ done: 3, failed: 3, pending: 0 })
    const row = (await docs.findOne({ _id: '1' }))!
    expect([sum.of(row), both.of(row), sum.path]).toEqual([3, 203, '_outputs.sum.b'])
    await docs.update({ _id: '1' }, { $set: { y: 5 } })
    expect(both.of((await docs.findOne({ _id: '1' }))!)).toBe(207)
    await docs.update({ _id: '1' }, { $set: { x: 'boom' } })
    expect((await docs.findOne({ _id: '1' }))!._outputs).toBeUndefined()
    await docs.update({ _id: '2' }, { $set: { x: 'abc' } })
    expect(both.of((await docs.findOne({ _id: '2' }))!)).toBe(305)
    expect(await db.verify()).toMatchObject({ missing: 0, stale: 0, orphaned: 0, failed: 1 })
  })

  it('keeps to its filter, also where only core can evaluate it', async (ctx) => {
    const db = await open(ctx, backend), docs = db.collection<{ text?: string; n: number; tags?: string[] }>('docs'), upper = counting('upper', 1, (text) => text.toUpperCase()), handle = await db.add(upper.spec)
    const pushed = await handle.listen(docs.find({ n: { $gte: 2 } }), 'text' as never), core = await handle.listen(docs.find({ tags: { $size: 2 } }), 'text' as never, { name: 'two_tags' })
    await docs.insert([{ _id: 'a', text: 'a', n: 1, tags: ['x', 'y'] }, { _id: 'b', text: 'b', n: 2 }, { _id: 'c', n: 3, tags: ['x', 'y'] }])
    const outputs = async (): Promise<unknown> => (await docs.find().toArray()).map((row) => [row._id, pushed.of(row), core.of(row)])
    expect(await outputs()).toEqual([['a', undefined, 'A'], ['b', 'B', undefined], ['c', undefined, undefined]])
    await docs.update({ _id: 'a' }, { $set: { n: 5, tags: ['x'] } })
    await docs.update({ _id: 'b' }, { $set: { n: 0, tags: ['x', 'z'] } })
    expect(await outputs()).toEqual([['a', 'A', undefined], ['b', undefined, 'B'], ['c', undefined, undefined]])
    expect(await db.verify({ deep: true })).toMatchObject({ ok: true })
    await expect(handle.listen(docs.find({ n: 7 }), 'text' as never)).rejects.toThrow(/another selection.*Give this one a name of its own/)
  })

  it('runs failed rows again only when asked to', async (ctx) => {
    const db = await open(ctx, backend), docs = db.collection<{ text: string }>('docs')
    let broken = true
    const flaky = counting('flaky', 1, (text) => { if (broken && text.startsWith('bad')) throw new Error(`cannot take ${text}`); return text })
    const listened = await (await db.add(flaky.spec)).listen(docs.find(), 'text')
    expect((await docs.insert([{ text: 'good' }, { text: 'bad 1' }, { text: 'bad 2' }])).outputs).toEqual({ done: 1, failed: 2, pending: 0 })
    flaky.calls = 0
    await db.verify({ repair: true })
    expect(flaky.calls).toBe(0)
    expect(await listened.retry()).toEqual({ done: 0, failed: 2, pending: 0 })
    const reasons: unknown[] = []
    for await (const { _id, ...reason } of listened.failures()) reasons.push(reason)
    expect(reasons).toEqual([{ error: 'cannot take bad 1', tries: 2 }, { error: 'cannot take bad 2', tries: 2 }])
    expect((await db.verify()).listeners[0]!.failures).toMatchObject(reasons as object[])
    broken = false
    expect(await listened.retry()).toEqual({ done: 2, failed: 0, pending: 0 })
    expect(await db.verify()).toMatchObject({ ok: true, failed: 0 })
  })

  it('lets the old outputs serve until those of a changed model are complete, downstream too', async (ctx) => {
    const db = await open(ctx, backend), docs = db.collection<{ text: string }>('docs')
    const one = counting('m', 1, (text) => `1${text}`), two = counting('m', 2, (text) => { if (stop && text === 'c') throw new InlayError('UNAVAILABLE', 'the machine is away'); return `2${text}` }), after = counting('after', 1, (text) => `<${text}>`)
    let stop = true
    const first = listener({ model: one.spec, on: 'docs', key: 'text' }), second = listener({ model: two.spec, on: 'docs', key: 'text' }), down = listener({ model: after.spec, on: 'docs', key: first })
    const handle = await db.add(first), below = await db.add(down)
    await docs.insert(['a', 'b', 'c'].map((text) => ({ _id: text, text })))
    expect((await db.plan([second])).steps.map(({ what, rows }) => [what, rows])).toEqual([['add model m version 1', undefined], ['compute text_m', 3], ['compute text_m_after', 3]])
    await expect(db.add(second)).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    const outputs = async (): Promise<unknown> => (await docs.find().toArray()).map((row) => [handle.of(row), below.of(row)])
    expect(await outputs()).toEqual([['1a', '<1a>'], ['1b', '<1b>'], ['1c', '<1c>']])
    expect((await db.show('listener', 'text_m'))[0]).toMatchObject({ state: 'building', version: 1 })
    await docs.insert({ _id: 'd', text: 'd' })                                // new rows have both
    expect((await outputs() as unknown[])[3]).toEqual(['1d', '<1d>'])
    stop = false
    await db.add(second)
    expect(await outputs()).toEqual([['2a', '<2a>'], ['2b', '<2b>'], ['2c', '<2c>'], ['2d', '<2d>']])
    expect((await db.show('listener')).map((l) => [l.name, l.version, l.state])).toEqual([['text_m', 1, 'ready'], ['text_m_after', 0, 'ready']])
    expect(await db.verify({ deep: true })).toMatchObject({ ok: true, rows: 8 })
    one.calls = 0
    await db.add(first)                                                        // back to the first model: its outputs were dropped
    expect([one.calls, await outputs()]).toEqual([4, [['1a', '<1a>'], ['1b', '<1b>'], ['1c', '<1c>'], ['1d', '<1d>']]])
  })

  it('resumes a back-fill that broke off, and stops it by its signal', async (ctx) => {
    const db = await open(ctx, backend), docs = db.collection<{ text: string }>('docs')
    await docs.insert(Array.from({ length: 1800 }, (_, i) => ({ text: `t${i}` })))
    let left = 700
    const weak = counting('weak', 1, (text) => { if (left-- <= 0) throw new InlayError('UNAVAILABLE', 'away'); return text })
    const handle = await db.add(weak.spec)
    await expect(handle.listen(docs.find(), 'text', { maxChunkSize: 100 })).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    const stored = 1800 - (await db.verify()).missing
    expect(stored).toBeGreaterThanOrEqual(600)
    left = Number.POSITIVE_INFINITY
    weak.calls = 0
    const stop = new AbortController()
    await expect(handle.listen(docs.find(), 'text', { maxChunkSize: 100, signal: stop.signal, onProgress: (p) => { if (p.done >= 300) stop.abort() } })).rejects.toMatchObject({ code: 'ABORTED' })
    await handle.listen(docs.find(), 'text', { maxChunkSize: 100 })
    expect(Math.max(...weak.batches)).toBe(100)
    expect(weak.calls).toBeLessThan(1800 - stored + 300)
    expect(await db.verify()).toMatchObject({ ok: true, rows: 1800 })
  })

  it('knows its listeners again after it was opened anew, and says what it lacks', async (ctx) => {
    const uri = backend.uri(ctx), namespace = `again_${Math.random().toString(36).slice(2)}`, said: string[] = [], config: Config = { data: uri, namespace, config: false, log: { warn: (m) => said.push(m), info: (m) => said.push(m) } }
    const upper = counting('upper', 1, (text) => text.toUpperCase()), spec = listener({ model: upper.spec, on: 'docs', key: 'text' })
    {
      await using db = await inlay(config)
      await db.add(spec)
      await db.collection<{ text: string }>('docs').insert([{ _id: 'a', text: 'a' }])
    }
    {
      await using db = await inlay(config)                                     // without the function: blocked, not lost
      expect(said).toEqual([])
      expect(await db.show('listener')).toMatchObject([{ state: 'blocked', reason: expect.stringContaining('upper@1') }])
      expect((await db.collection<{ text: string }>('docs').insert([{ _id: 'b', text: 'b' }])).outputs).toEqual({ done: 0, failed: 0, pending: 1 })
      expect(said).toEqual([expect.stringMatching(/"text_upper" is blocked, and its outputs are pending: the step upper@1 is not loaded/)])
      expect((await db.collection('docs').findOne({ _id: 'a' }))!._outputs).toEqual({ text: { upper: 'A' } })
    }
    {
      await using db = await inlay({ ...config, components: [spec] })
      expect(said).toContainEqual(expect.stringMatching(/"text_upper" has 1 row to compute/))
      expect(await db.verify({ repair: true })).toMatchObject({ missing: 1, repaired: { computed: 1 } })
      expect((await db.collection('docs').findOne({ _id: 'b' }))!._outputs).toEqual({ text: { upper: 'B' } })
      const loaded = await db.load(spec)
      expect(loaded.of((await db.collection('docs').findOne({ _id: 'b' }))!)).toBe('B')
      await expect(db.load(counting('none', 1, String).spec)).rejects.toMatchObject({ code: 'NOT_FOUND' })
      for (const name of ['docs']) await db.collection(name).delete({}, { all: true })
    }
  })

  it('computes what an index is declared on, and says when rows fail', async (ctx) => {
    const said: string[] = []
    const db = await open(ctx, backend, { log: { warn: (m) => said.push(m) } }), docs = db.collection<{ text: string }>('docs'), embed = counting('embed', 1, (text) => Float32Array.from({ length: text === 'odd' ? 3 : 2 }, () => 1), [2])
    await docs.insert(['a', 'odd', 'b'].map((text) => ({ _id: text, text })))
    const progress: number[] = [], index = await db.add(vectorIndex('near', { indexing: listener({ model: embed.spec, on: 'docs', key: 'text' }) }), { onProgress: (p) => progress.push(p.done) })
    expect((await docs.find().like('a', index).toArray()).map((hit) => hit._id)).toEqual(['a', 'b'])
    expect([progress.at(-1), said]).toEqual([3, [expect.stringMatching(/"text_embed" failed on 1 rows, on "odd" because: the output has 3 dimensions, 2 are expected/)]])
    const inserts: unknown[] = []
    await docs.insert(Array.from({ length: 1100 }, (_, i) => ({ text: `t${i}` })), { onProgress: (p) => inserts.push([p.done, p.total]) })
    expect(inserts).toEqual([[500, 1100], [1000, 1100], [1100, 1100]])
    expect(db.server).toMatch(/memory|SQL|DuckDB|MongoDB/)
  })

  it('sees what another Inlay on the same database declares, changes and removes', async (ctx) => {
    const uri = backend.uri(ctx), namespace = `two_${Math.random().toString(36).slice(2)}`, config: Config = { data: uri, namespace, config: false, log: {} }
    const first = await inlay(config), second = await inlay(config), docs = second.collection<{ text: string }>('docs')
    await docs.insert({ _id: 'a', text: 'a' })
    const upper = counting('upper', 1, (text) => text.toUpperCase()), louder = counting('upper', 2, (text) => `${text.toUpperCase()}!`)
    const listened = await first.add(listener({ model: upper.spec, on: 'docs', key: 'text' }))
    await new Promise((resolve) => { setTimeout(resolve, 1100) })
    expect((await docs.insert({ _id: 'late', text: 'late' })).outputs).toEqual({ done: 0, failed: 0, pending: 1 })      // known, though its function is not here
    await docs.delete({ _id: 'late' })
    expect((await docs.find({ [listened.path]: 'A' }).toArray()).map((row) => row._id)).toEqual(['a'])
    await second.add(upper.spec)
    await first.add(listener({ model: louder.spec, on: 'docs', key: 'text' }))
    expect(listened.of((await docs.findOne())!)).toBe('A!')
    await second.add(louder.spec)
    await first.remove('listener', 'text_upper')
    expect((await docs.insert({ _id: 'b', text: 'b' })).ids).toEqual(['b'])
    expect((await docs.find().toArray()).map((row) => row._outputs)).toEqual([undefined, undefined])
    await docs.delete({}, { all: true })
    await first.close()
    await second.close()
  })

  it('removes components with their outputs, unless they are in use or shall stay', async (ctx) => {
    const db = await open(ctx, backend), docs = db.collection<{ text: string }>('docs'), embed = counting('embed', 1, (text) => Float32Array.of(text.length, 1), [2]), size = counting('size', 1, (text) => text.length)
    await docs.insert([{ _id: 'a', text: 'a' }])
    const vectors = await (await db.add(embed.spec)).listen(docs.find(), 'text'), sizes = await (await db.add(size.spec)).listen(docs.find(), 'text')
    await db.add(vectorIndex('near', { indexing: vectors }))
    await expect(db.remove('listener', vectors.name)).rejects.toMatchObject({ code: 'CONFLICT', message: expect.stringContaining('index "near"') })
    await expect(db.remove('model', 'embed')).rejects.toMatchObject({ code: 'CONFLICT', message: expect.stringContaining('listener "text_embed"') })
    await expect(db.remove('model', 'none')).rejects.toMatchObject({ code: 'NOT_FOUND' })
    await db.remove('index', 'near')
    await db.remove('listener', vectors.name)
    await db.remove('listener', sizes.name, { keepOutputs: true })
    expect((await docs.findOne({ _id: 'a' }))!._outputs).toEqual({ text: { size: 1 } })
    expect((await docs.insert({ _id: 'b', text: 'bb' })).outputs).toEqual({ done: 0, failed: 0, pending: 0 })
    await db.remove('model', 'embed')
    expect((await db.show()).map((c) => `${c.kind} ${c.name}`)).toEqual(['listener text_size', 'model size'])
  })

  it('gives versions 0 and 1 to two that declare other content at once, never two 0s', async (ctx) => {
    const db = await open(ctx, backend)
    const handles = await Promise.all(Array.from({ length: 6 }, (_, i) => db.add(counting('same', i + 1, String).spec)))
    expect(handles.map((h) => h.version).sort()).toEqual([0, 1, 2, 3, 4, 5])
    expect((await db.add(counting('same', 3, String).spec)).version).toBe(handles[2]!.version)
  })

  it('keeps large bytes apart from rows, once, and collects them when nothing refers to them', async (ctx) => {
    const db = await open(ctx, backend), files = db.collection<{ bytes: Uint8Array; list?: Float32Array[]; note?: string }>('files')
    const large = Uint8Array.from({ length: 50_000 }, (_, i) => i % 251), floats = Float32Array.from({ length: 9000 }, Math.sin)
    await files.insert([{ _id: 'a', bytes: large, list: [floats, Float32Array.of(1)] }, { _id: 'b', bytes: large.slice() }, { _id: 'small', bytes: Uint8Array.of(1) }])
    expect((await files.findOne({ _id: 'a' }))!.list).toEqual([floats, Float32Array.of(1)])
    expect((await files.findOne({ _id: 'b' }))!.bytes).toEqual(large)
    expect((await files.find({ bytes: { $type: 'binData' } }).toArray()).length).toBe(3)
    expect((await files.find({ bytes: large }).toArray()).map((f) => f._id)).toEqual(['a', 'b'])
    await files.update({ _id: 'a' }, { $set: { note: 'x' } })
    expect((await files.findOne({ _id: 'a' }))!.bytes).toEqual(large)
    expect((await db.verify({ deep: true })).artifacts).toEqual({ missing: 0, unreferenced: 0 })
    await files.delete({ _id: 'a' })
    const health = await db.verify({ repair: true, graceMs: 0, removeArtifacts: true })
    expect([health.artifacts.unreferenced, health.repaired.artifacts]).toEqual([1, 1])
    expect((await files.findOne({ _id: 'b' }))!.bytes).toEqual(large)
  })

  it('spares unreferenced artifacts in a place that another database may use too, unless told', async (ctx) => {
    const folder = temporaryFolder(), one = await open(ctx, backend, { artifacts: `file:${folder}` }), two = await open(ctx, backends[0]!, { artifacts: `file:${folder}` })
    await one.collection('files').insert({ _id: 'a', bytes: new Uint8Array(20_000).fill(1) })
    await two.collection('files').insert({ _id: 'a', bytes: new Uint8Array(20_000).fill(2) })
    expect((await one.verify({ repair: true, graceMs: 0 })).artifacts).toEqual({ missing: 0, unreferenced: 1 })
    expect((await two.collection<{ bytes: Uint8Array }>('files').findOne())!.bytes[0]).toBe(2)
    await two.collection('files').delete({ _id: 'a' })
    expect((await one.verify({ repair: true, graceMs: 0, removeArtifacts: true })).repaired.artifacts).toBe(1)
    expect((await one.verify()).artifacts).toEqual({ missing: 0, unreferenced: 0 })
  })

  it('checks documents by a schema, one by one, before they are written', async (ctx) => {
    const db = await open(ctx, backend), people = db.collection('people', { schema: z.object({ name: z.string().min(1), age: z.number().int().default(18) }) })
    const { ids, refused } = await people.insert([{ _id: 'a', name: 'Ann', age: 3 }, { _id: 'b', name: '', age: 4 }, { _id: 'c', name: 'Cy' } as never])
    expect([ids, refused.map((r) => [r.index, r.id, r.path])]).toEqual([['a', 'c'], [[1, 'b', 'name']]])
    expect(await people.findOne({ _id: 'c' })).toMatchObject({ name: 'Cy', age: 18 })
    expect((await people.update({}, { $inc: { age: 0.5 } })).refused.map((r) => r.path)).toEqual(['age', 'age'])
    expect((await people.replace('a', { name: '', age: 1 })).refused).toMatchObject([{ id: 'a', path: 'name' }])
    expect((await people.findOne({ _id: 'a' }))!.age).toBe(3)
  })

  it('divides rows into folds by their key, the same ones every time', async (ctx) => {
    const db = await open(ctx, backend), rows = db.collection<{ n: number }>('rows')
    await rows.insert(Array.from({ length: 1000 }, (_, n) => ({ _id: `k${n}`, n })))
    const valid = (await rows.find({ _fold: 'valid' }).toArray()).map((r) => r._id)
    expect(valid.length).toBeGreaterThan(25)
    expect(valid.length).toBeLessThan(80)
    await rows.delete({}, { all: true })
    await rows.insert(Array.from({ length: 1000 }, (_, n) => ({ _id: `k${n}`, n })))
    expect((await rows.find({ _fold: 'valid' }).toArray()).map((r) => r._id)).toEqual(valid)
    await rows.update({ _id: valid[0]! }, { $set: { n: -1 } })
    await rows.replace(valid[1]!, { n: -2 })
    await rows.insert([{ _id: 'mine', n: 1, _fold: 'valid' }])
    expect((await rows.find({ _fold: 'valid', _id: { $in: [valid[0]!, valid[1]!, 'mine'] } }).count())).toBe(3)
    const other = db.collection<{ n: number }>('other', { fold: { valid: 1 } })
    await other.insert({ _id: 'x', n: 1 })
    expect((await other.findOne())!._fold).toBe('valid')
  })

  it('writes single inserts of one tick together, and gives each its own answer', async (ctx) => {
    const calls: string[] = []
    const db = await open(ctx, backend, { middleware: [{ name: 'count', data: (next) => intercept(next, async (method, call) => { calls.push(method); return call() }) }] })
    const docs = db.collection<{ text: string }>('docs'), upper = counting('upper', 1, (text) => { if (text === 'boom') throw new Error('boom'); return text })
    await (await db.add(upper.spec)).listen(docs.find(), 'text')
    await docs.insert({ text: 'first' })
    calls.length = 0
    const answers = await Promise.all(['a', 'b', 'boom', 'a'].map((text, i) => docs.insert({ _id: i === 3 ? 'a0' : `${text}${i}`, text })))
    expect(answers.map((a) => [a.ids, a.refused.map((r) => [r.index, r.code]), a.outputs])).toEqual([
      [['a0'], [], { done: 1, failed: 0, pending: 0 }], [['b1'], [], { done: 1, failed: 0, pending: 0 }], [['boom2'], [], { done: 0, failed: 1, pending: 0 }], [[], [[0, 'ALREADY_EXISTS']], { done: 0, failed: 0, pending: 0 }]])
    expect(calls.filter((m) => m === 'write').length).toBe(1)
  })

  it('leaves outputs to others with wait: false and outputs: worker, and close awaits what it began', async (ctx) => {
    const uri = backend.name === 'memory' ? `memory:${Math.random()}` : backend.uri(ctx), namespace = `later_${Math.random().toString(36).slice(2)}`, slow = counting('slow', 1, (text) => text.length)
    const db = await inlay({ data: uri, namespace, config: false, log: {} }), docs = db.collection<{ text: string }>('docs')
    await (await db.add(slow.spec)).listen(docs.find(), 'text')
    expect((await docs.insert([{ text: 'a' }, { text: 'b' }], { wait: false })).outputs).toEqual({ done: 0, failed: 0, pending: 2 })
    await db.close()
    expect(slow.calls).toBe(2)
    const idle = await inlay({ data: uri, namespace, config: false, log: {}, outputs: 'worker', components: [slow.spec] })
    expect((await idle.collection<{ text: string }>('docs').insert([{ text: 'c' }])).outputs).toEqual({ done: 0, failed: 0, pending: 1 })
    expect(slow.calls).toBe(2)
    await idle.close()
    const worker = await inlay({ data: uri, namespace, config: false, log: {}, components: [slow.spec] })
    expect((await worker.verify({ repair: true })).repaired.computed).toBe(1)
    await worker.collection('docs').delete({}, { all: true })
    await worker.close()
  })

  it('searches before and after the filter, by example and by _id, with exactly as many hits as there can be', async (ctx) => {
    const db = await open(ctx, backend), points = db.collection<{ at: string; label: number }>('points')
    const place = model<string, Float32Array>('place', { run: step('place@1', (all: readonly string[]) => all.map((at) => Float32Array.of(Math.cos(Number(at) / 1000), Math.sin(Number(at) / 1000)))), shape: [2] })
    const byNumber = model<number, Float32Array>('number', { run: step('number@1', (all: readonly number[]) => all.map((n) => Float32Array.of(Math.cos(n / 1000), Math.sin(n / 1000)))), shape: [2] })
    await points.insert(Array.from({ length: 100 }, (_, n) => ({ _id: `p${n}`, at: String(n), label: n % 2 })))
    const listened = await (await db.add(place)).listen(points.find(), 'at')
    for (const measure of ['cosine', 'l2', 'dot'] as const) {
      const index = await db.add(vectorIndex(`near_${measure}`, { indexing: listened, compatible: { n: byNumber }, measure }))
      const ids = async (find: AsyncIterable<{ readonly _id: string }>): Promise<string[]> => { const all: string[] = []; for await (const hit of find) all.push(hit._id); return all }
      expect((await ids(points.like({ n: 50 }, index, { n: 4 }).find({ label: 1 }))).sort()).toEqual(['p49', 'p51'])
      expect((await ids(points.find({ label: 1 }).like({ at: '50' }, index, { n: 4 }))).sort()).toEqual(['p47', 'p49', 'p51', 'p53'])
      expect((await ids(points.find({ label: 1, at: { $type: 'string' } }).like('p50', index, { n: 4 }))).sort()).toEqual(['p47', 'p49', 'p51', 'p53'])
      expect((await ids(points.like('p50', index, { n: 1 }).find()))[0]).toBe('p50')
      expect((await points.find({ label: 1 }).like({ n: 0 }, index, { n: 1000 }).toArray()).length).toBe(50)
      expect(await points.find({ label: 7 }).like({ n: 0 }, index).toArray()).toEqual([])
      const hits = await points.find().like({ n: 10 }, index, { n: 5 }).toArray()
      expect(hits.every((h, i) => i === 0 || (h.distance >= hits[i - 1]!.distance && h.score <= hits[i - 1]!.score))).toBe(true)
      await points.insert({ _id: 'here', at: '10', label: 3 })
      expect((await points.find({ label: 3 }).like({ n: 10 }, index).toArray()).map((h) => h._id)).toEqual(['here'])
      await points.update({ _id: 'here' }, { $set: { at: '99' } })
      expect((await points.like({ n: 10 }, index, { n: 3 }).find().toArray()).map((h) => h._id)).not.toContain('here')
      await points.delete({ _id: 'here' })
      expect((await points.like({ n: 99 }, index, { n: 2 }).find().toArray()).map((h) => h._id)).toEqual(['p99', 'p98'])
      expect(await points.find({ label: 1 }).like({ n: 1 }, index, { n: 3 }).explain()).toMatch(/nearest 3 by .*, exact/)
    }
    expect(await db.verify({ deep: true })).toMatchObject({ ok: true })
  })

  it('takes other parts from the container, and closes once', async (ctx) => {
    const parts: string[] = []
    const db = await open(ctx, backend, {
      container: (c) => {
        const store = c.resolve(tokens.ArtifactStore)
        c.register(tokens.ArtifactStore, { useValue: intercept(store, async (method, call) => { parts.push(method); return call() }) })
      },
    })
    await db.collection('files').insert({ bytes: new Uint8Array(20_000) })
    expect(parts).toContain('write')
    await Promise.all([db.close(), db.close()])
  })
})
