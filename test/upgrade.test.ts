/** Lineage of outputs, and upgrades that the application drives, on every backend. */
import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { listener, model, step } from '../index.ts'
import { backends, open } from './support/backends.ts'

const upper = (version: number, of: (text: string) => string = (t) => t.toUpperCase()) => model<string, string>('upper', { run: step(`upper@${version}`, (texts: readonly string[]) => texts.map((t) => { if (t === `boom${version}`) throw new Error('boom'); return of(t) })), options: { language: 'en' } })
const long = model<string, number>('len', { run: step('len@1', (texts: readonly string[]) => texts.map((t) => t.length)) })
const first = listener({ model: upper(1), on: 'docs', key: 'text' })

describe.each(backends)('$name', (backend) => {
  it('an output answers what it was made from, by what, when and by whom', async (ctx) => {
    const db = await open(ctx, backend), docs = db.collection<{ text: string }>('docs'), before = Date.now()
    const a = await db.add(first), b = await db.add(listener({ model: long, on: 'docs', key: first }))
    await docs.insert([{ _id: 'x', text: 'abc' }, { _id: 'y', text: 'boom1' }])
    const lineage = (await b.lineage('x'))!
    expect(lineage).toMatchObject({
      row: { _id: 'x', current: true }, listener: { name: b.name, version: 0, key: 'text_upper' }, model: { name: 'len', version: 0 }, steps: [{ step: 'len@1', digest: expect.stringMatching(/^[0-9a-f]{64}$/) }],
      upstream: [{ row: { _id: 'x', current: true }, model: { name: 'upper', version: 0, options: { language: 'en' } }, steps: [{ step: 'upper@1' }], upstream: [] }],
    })
    expect([lineage.at! >= new Date(before - 1), lineage.at! <= new Date(), lineage.worker!.includes(`:${process.pid}:`)]).toEqual([true, true, true])
    expect(await a.lineage('y')).toMatchObject({ error: 'boom', row: { current: true } })
    expect([await b.lineage('y'), await a.lineage('none')]).toEqual([undefined, undefined])
    const { rev, ...row } = (await a.lineage('x'))!.row
    expect([row, rev.length > 10]).toEqual([{ _id: 'x', current: true }, true])
    // A change that the model does not read moves the mark, and leaves who computed it.
    const at = (await a.lineage('x'))!.at
    await docs.update({ _id: 'x' }, { $set: { other: 1 } as never })
    expect((await a.lineage('x'))!).toMatchObject({ at, row: { current: true } })
    expect((await a.lineage('x'))!.row.rev).not.toBe(rev)
  })

  it('an upgrade is computed beside, compared, switched to in one write, rolled back, and kept', async (ctx) => {
    const db = await open(ctx, backend), docs = db.collection<{ text: string }>('docs'), a = await db.add(first), b = await db.add(listener({ model: long, on: 'docs', key: first }))
    await docs.insert(Array.from({ length: 20 }, (_, i) => ({ _id: `k${String(i).padStart(2, '0')}`, text: i === 3 ? 'boom2' : `t${i}` })))
    const read = async (): Promise<unknown> => { const row = (await docs.findOne({ _id: 'k05' }))!; return [a.of(row), b.of(row)] }
    const two = upper(2, (t) => (t === 't5' ? 'five' : t.toUpperCase())), up = await a.upgrade(two)
    expect([up.version, await read(), await up.progress()]).toEqual([1, ['T5', 2], { done: 20, total: 20, failed: 1, perSecond: 0 }])
    expect(await up.compare()).toEqual({ rows: 19, equal: 18, failures: { before: 0, after: 1 }, examples: [{ _id: 'k05', before: 'T5', after: 'five' }] })
    expect((await up.compare(4)).rows).toBe(4)
    expect((await db.show('listener')).map((l) => l.state)).toEqual(['building', 'building'])
    // Both are kept up to date, and nobody switches by himself: neither an insert nor repair.
    await docs.insert({ _id: 'new', text: 'new' })
    await db.verify({ repair: true })
    expect([await read(), (await up.progress()).total]).toEqual([['T5', 2], 21])
    await up.switch()
    expect(await read()).toEqual(['five', 4])
    expect((await a.lineage('k05'))!.model.version).toBe(1)
    await docs.update({ _id: 'k06' }, { $set: { text: 'six' } })
    await up.rollback()
    expect([await read(), a.of((await docs.findOne({ _id: 'k06' }))!)]).toEqual([['T5', 2], 'SIX'])
    await expect(up.switch()).rejects.toThrow('is over')
    expect(await db.verify({ deep: true })).toMatchObject({ ok: true, rows: 42 })
    const again = await a.upgrade(two)
    await again.switch()
    await again.drop()
    expect(await read()).toEqual(['five', 4])
    await expect(again.rollback()).rejects.toThrow('nothing to roll back to')
    await expect(again.compare()).rejects.toThrow('were dropped')
    expect(await db.verify({ deep: true })).toMatchObject({ missing: 0, stale: 0, orphaned: 0, failed: 1 })
    expect((await db.show('listener')).map((l) => l.state)).toEqual(['ready', 'ready'])
  })

  it('an upgrade outlives its process, is given up before the switch, and is refused where it makes no sense', async (ctx) => {
    const db = await open(ctx, backend), docs = db.collection<{ text: string }>('docs'), a = await db.add(first)
    await docs.insert([{ _id: 'x', text: 'abc' }])
    const reversed = upper(3, (t) => [...t].reverse().join('')), up = await a.upgrade(reversed)
    const resumed = await a.upgrade(reversed)
    expect([resumed.version, await resumed.progress()]).toEqual([up.version, { done: 1, total: 1, failed: 0, perSecond: 0 }])
    await expect(up.drop()).rejects.toThrow('see the old outputs still')
    // A process that starts with the old declaration does not undo it.
    await db.add(first)
    expect(await up.progress()).toMatchObject({ done: 1, total: 1 })
    await up.rollback()
    expect([a.of((await docs.findOne())!), (await db.show('listener')).map((l) => l.state)]).toEqual(['ABC', ['ready']])
    await expect(a.upgrade(upper(1))).rejects.toThrow('exactly this version')
    await expect(a.upgrade(long as never)).rejects.toThrow('another model')
    const next = await a.upgrade(reversed)
    await next.switch()
    await expect(a.upgrade(upper(4))).rejects.toThrow('predecessor is still kept')
    expect((await a.upgrade(reversed)).version).toBe(next.version)
    await docs.insert({ _id: 'y', text: 'de' })
    expect((await docs.find().toArray()).map((row) => a.of(row))).toEqual(['cba', 'ed'])
    await next.drop()
    expect(await db.verify({ deep: true })).toMatchObject({ ok: true, rows: 2 })
    // Declaring the old model again takes it back, new before old as always.
    await db.add(first)
    expect((await docs.find().toArray()).map((row) => a.of(row))).toEqual(['ABC', 'DE'])
  })

  it('generations that are kept for a rollback are not removed, and are maintained after a restart', async (ctx) => {
    const uri = backend.uri(ctx), namespace = `r${randomBytes(6).toString('hex')}`, at = { ...backend, uri: () => uri }
    const opened = await open(ctx, at, { namespace }), early = opened.collection<{ text: string }>('docs'), a = await opened.add(first), second = listener({ model: long, on: 'docs', key: first })
    await early.insert([{ _id: 'a', text: 'x' }])
    await opened.add(second)
    const two = upper(2, (t) => `${t}${t}`), up = await a.upgrade(two)
    await up.switch()
    await expect(opened.remove('listener', a.name, { version: 0 })).rejects.toMatchObject({ code: 'CONFLICT' })
    await expect(opened.remove('model', 'upper', { version: 0 })).rejects.toMatchObject({ code: 'CONFLICT' })
    if (backend.name !== 'memory') await opened.close()
    const db = backend.name === 'memory' ? opened : await open(ctx, at, { namespace }), docs = db.collection<{ text: string }>('docs')
    for (const spec of [upper(1), two]) await db.add(spec)
    await db.add(long)
    const handle = await db.load(first), b = await db.load(second), read = async (): Promise<unknown> => (await docs.find().toArray()).map((row) => [handle.of(row), b.of(row)])
    await docs.insert([{ _id: 'b', text: 'y' }])
    expect(await read()).toEqual([['xx', 2], ['yy', 2]])
    const resumed = await handle.upgrade(two)
    await resumed.rollback()
    expect(await read()).toEqual([['X', 1], ['Y', 1]])
    expect(await db.verify({ repair: true, deep: true })).toMatchObject({ ok: true, missing: 0, stale: 0 })
  })

  it('readers keep their outputs while an upgrade is rolled back whose upstream was replaced meanwhile', async (ctx) => {
    const db = await open(ctx, backend), docs = db.collection<{ text: string }>('docs')
    let gate: Promise<void> | undefined
    const len = (version: number) => model<string, string>('len', { run: step(`len@${version}`, async (texts: readonly string[]) => { await gate; return texts.map((t) => `${version}(${t})`) }) })
    await docs.insert([{ _id: 'a', text: 'x' }])
    await db.add(first)
    const d = await db.add(listener({ model: len(1), on: 'docs', key: first })), up = await d.upgrade(len(2))
    await up.switch()
    await db.add(listener({ model: upper(2, (t) => `${t}${t}`), on: 'docs', key: 'text' }))
    let release = (): void => {}
    gate = new Promise((resolve) => { release = resolve })
    const rolling = up.rollback(), seen = new Set<unknown>()
    for (let i = 0; i < 10; i++) { seen.add(d.of((await docs.findOne())!)); await sleep(10) }
    release()
    await rolling
    expect([[...seen].includes(undefined), d.of((await docs.findOne())!)]).toEqual([false, '1(xx)'])
  })

  it('a new version serves though rows keep being written, by itself and by switch', async (ctx) => {
    const db = await open(ctx, backend), docs = db.collection<{ n: number }>('docs')
    const times = (by: number) => model<number, number>('times', { run: step(`times@${by}`, async (all: readonly number[]) => { await sleep(5); return all.map((n) => n * by) }) }), on = (by: number) => listener({ model: times(by), on: 'docs', key: 'n' })
    await docs.insert(Array.from({ length: 60 }, (_, i) => ({ _id: `k${i}`, n: i })))
    const handle = await db.add(on(2)), states = async (): Promise<unknown> => (await db.show('listener')).map(({ version, state }) => [version, state])
    const writing = { on: true }, writers = [0, 1, 2].map(async (s) => { for (let i = s; writing.on; i += 3) await docs.update({ _id: `k${i % 60}` }, { $inc: { n: 1 } }) })
    try {
      await db.add(on(3))
      expect(await states()).toEqual([[1, 'ready']])
      await (await handle.upgrade(times(4))).switch()
    } finally {
      writing.on = false
      await Promise.all(writers)
    }
    expect((await docs.find().toArray()).filter((row) => handle.of(row) !== row.n * 4)).toEqual([])
    expect(await db.verify({ deep: true })).toMatchObject({ missing: 0, stale: 0 })
  })
})
