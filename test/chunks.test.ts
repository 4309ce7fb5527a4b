/** Listeners whose outputs are lists, what listens to their elements, and searches over them, on every backend. */
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { listener, model, step, vectorIndex } from '../index.ts'
import { backends, open } from './support/backends.ts'

const seen: string[] = []
const split = model<string, readonly string[]>('split', { run: step('split@1', (texts: readonly string[]) => texts.map((text) => { if (text === 'boom') throw new Error('boom'); return text === '' ? [] : text.split('. ') })) })
const letters = (text: string): Float32Array => { const counts = new Float32Array(26); for (const c of text.toLowerCase()) if (c >= 'a' && c <= 'z') counts[c.charCodeAt(0) - 97]! += 1; return counts }
const embed = model<string, Float32Array>('embed', { run: step('embed@1', (texts: readonly string[]) => { seen.push(...texts); return texts.map(letters) }), shape: [26] })
const chunks = listener({ model: split, on: 'docs', key: 'text', flatten: true })
const vectors = listener({ model: embed, on: 'docs', key: chunks, name: 'vec' })
const index = vectorIndex('near', { indexing: vectors, compatible: { q: embed } })

describe.each(backends)('$name', (backend) => {
  it('a list is one output per element, which others listen to, are filtered and searched by', async (ctx) => {
    const db = await open(ctx, backend), docs = db.collection<{ text: string }>('docs')
    await docs.insert([{ _id: 'a', text: 'the lion sleeps. it is quiet' }, { _id: 'b', text: '' }])
    const near = await db.add(index), parts = await db.load(chunks), vec = await db.load(vectors)
    const { outputs } = await docs.insert([{ _id: 'c', text: 'a bicycle. two lions here. end' }, { _id: 'd', text: 'boom' }])
    expect(outputs).toEqual({ done: 4, failed: 1, pending: 0 })
    expect((await docs.find().toArray()).map((row) => parts.of(row))).toEqual([['the lion sleeps', 'it is quiet'], [], ['a bicycle', 'two lions here', 'end'], undefined])
    const rows = await parts.chunks().toArray()
    expect(rows.map(({ _id, value, source, offset }) => [_id, value, source, offset])).toEqual([['a#0', 'the lion sleeps', 'a', 0], ['a#1', 'it is quiet', 'a', 1], ['c#0', 'a bicycle', 'c', 0], ['c#1', 'two lions here', 'c', 1], ['c#2', 'end', 'c', 2]])
    expect(vec.of(rows[2]!)![1]).toBe(1)
    const hits = await parts.chunks().like({ q: 'lions' }, near, { n: 2 }).toArray()
    expect(hits.map(({ _id, value, source }) => [_id, value, source])).toEqual([['c#1', 'two lions here', 'c'], ['a#0', 'the lion sleeps', 'a']])
    expect((await parts.chunks({ source: 'a' }).like({ q: 'lions' }, near, { n: 5 }).toArray()).map((hit) => hit._id)).toEqual(['a#0', 'a#1'])
    // A change computes what changed of the list, and what is gone goes with all that was made from it.
    seen.length = 0
    expect((await docs.update({ _id: 'c' }, { $set: { text: 'a bicycle. three tigers' } })).outputs).toEqual({ done: 2, failed: 0, pending: 0 })
    expect(seen).toEqual(['three tigers'])
    expect((await parts.chunks({ source: 'c' }).toArray()).map(({ value }) => value)).toEqual(['a bicycle', 'three tigers'])
    await docs.delete({ _id: 'a' })
    expect((await parts.chunks().toArray()).map(({ _id }) => _id)).toEqual(['c#0', 'c#1'])
    expect(await db.verify({ deep: true })).toMatchObject({ missing: 0, stale: 0, orphaned: 0, failed: 1, listeners: [{ rows: 3 }, { rows: 2, index: 0 }] })
    expect((await vec.lineage('c#1'))!.upstream[0]).toMatchObject({ row: { _id: 'c', current: true }, model: { name: 'split' } })
  })

  it('chains and lists lie on elements as they do on rows, and follow a new version of the splitter', async (ctx) => {
    const db = await open(ctx, backend), docs = db.collection<{ text: string }>('docs')
    const upper = (version: number) => model<string, string>('upper', { run: step(`upper@${version}`, (texts: readonly string[]) => texts.map((text) => (version === 1 ? text.toUpperCase() : `${text}!`))) })
    const words = (version: number) => model<string, readonly string[]>('words', { run: step(`words@${version}`, (texts: readonly string[]) => texts.map((text) => text.split(version === 1 ? '. ' : ' '))) })
    const cut = (version: number) => listener({ model: words(version), on: 'docs', key: 'text', flatten: true }), shout = (version: number, of = 1) => listener({ model: upper(version), on: 'docs', key: cut(of), name: 'shout' })
    const marked = listener({ model: model<string, string>('mark', { run: step('mark@1', (texts: readonly string[]) => texts.map((text) => `<${text}>`)) }), on: 'docs', key: shout(1), name: 'marked' })
    const letters = listener({ model: model<string, readonly string[]>('letters', { run: step('letters@1', (texts: readonly string[]) => texts.map((text) => [...text])) }), on: 'docs', key: shout(1), name: 'letters', flatten: true })
    await docs.insert([{ _id: 'a#1', text: 'x yy' }, { _id: 'a', text: 'p q. r' }])
    const last = await db.add(marked), small = await db.add(letters), list = await db.load(cut(1)), middle = await db.load(shout(1))
    expect((await docs.insert({ _id: 'b', text: 's' })).outputs).toEqual({ done: 4, failed: 0, pending: 0 })
    const read = async (): Promise<unknown> => (await list.chunks().toArray()).map((row) => [row._id, middle.of(row), last.of(row), small.of(row)?.length])
    expect(await read()).toEqual([['a#0', 'P Q', '<P Q>', 3], ['a#1', 'R', '<R>', 1], ['a#1#0', 'X YY', '<X YY>', 4], ['b#0', 'S', '<S>', 1]])
    expect((await small.chunks({ source: 'a#1#0' }).toArray()).map((row) => [row._id, row.value])).toEqual([['a#1#0#0', 'X'], ['a#1#0#1', ' '], ['a#1#0#2', 'Y'], ['a#1#0#3', 'Y']])
    expect((await last.lineage('a#1#0'))!.upstream[0]!.upstream[0]).toMatchObject({ row: { _id: 'a#1', current: true }, model: { name: 'words' } })
    const upgrade = await middle.upgrade(upper(2))
    expect(await read()).toEqual([['a#0', 'P Q', '<P Q>', 3], ['a#1', 'R', '<R>', 1], ['a#1#0', 'X YY', '<X YY>', 4], ['b#0', 'S', '<S>', 1]])
    await upgrade.switch()
    await upgrade.drop()
    expect(await read()).toEqual([['a#0', 'p q!', '<p q!>', 4], ['a#1', 'r!', '<r!>', 2], ['a#1#0', 'x yy!', '<x yy!>', 5], ['b#0', 's!', '<s!>', 2]])
    await db.add(cut(2))
    expect(await read()).toEqual([['a#0', 'p!', '<p!>', 2], ['a#1', 'q.!', '<q.!>', 3], ['a#1#0', 'x!', '<x!>', 2], ['a#1#1', 'yy!', '<yy!>', 3], ['a#2', 'r!', '<r!>', 2], ['b#0', 's!', '<s!>', 2]])
    expect(await db.verify({ deep: true })).toMatchObject({ ok: true, orphaned: 0 })
    expect(String(await db.plan([marked, letters]))).toContain('compute')
  })

  it('chunks() of a list is listened to; a new list version with listeners behind it serves and goes back whole', async (ctx) => {
    const db = await open(ctx, backend), docs = db.collection<{ text: string }>('docs')
    const words = (version: number) => model<string, readonly string[]>('words', { run: step(`words@${version}`, (texts: readonly string[]) => texts.map((text) => text.split(version === 1 ? '. ' : ' '))) })
    const len = await db.add(model<string, number>('len', { run: step('len@1', (texts: readonly string[]) => texts.map((t) => t.length)) }))
    await docs.insert([{ _id: 'a', text: 'aa bb. cc' }])
    const list = await db.add(listener({ model: words(1), on: 'docs', key: 'text', flatten: true })), sized = await len.listen(list.chunks(), 'value')
    const read = async (): Promise<unknown> => (await list.chunks().toArray()).map((row) => [row._id, row.value, sized.of(row)])
    expect(await read()).toEqual([['a#0', 'aa bb', 5], ['a#1', 'cc', 2]])
    const up = await list.upgrade(words(2))
    expect(await read()).toEqual([['a#0', 'aa bb', 5], ['a#1', 'cc', 2]])
    await up.switch()
    expect(await read()).toEqual([['a#0', 'aa', 2], ['a#1', 'bb.', 3], ['a#2', 'cc', 2]])
    await docs.insert([{ _id: 'b', text: 'q. r' }])
    await up.rollback()
    expect(await read()).toEqual([['a#0', 'aa bb', 5], ['a#1', 'cc', 2], ['b#0', 'q', 1], ['b#1', 'r', 1]])
    await expect(db.add(listener({ model: model<string, number>('count', { run: step('count@1', (texts: readonly string[]) => texts.map((t) => t.length)) }), on: 'docs', key: listener({ model: words(1), on: 'docs', key: 'text', flatten: true }), name: 'en', where: { lang: 'en' } }))).rejects.toThrow('which elements do not have')
    expect(await db.verify({ deep: true })).toMatchObject({ ok: true })
  })

  it('large outputs, of lists and of what is made from them, lie in artifacts that verify spares', async (ctx) => {
    const db = await open(ctx, backend), docs = db.collection<{ text: string }>('docs')
    const wide = (n: number) => model<string, readonly Uint8Array[]>(`wide${n}`, { run: step(`wide${n}@1`, (texts: readonly string[]) => texts.map((text) => [new Uint8Array(20_000).fill(text.length), new Uint8Array(20_000).fill(text.length + 1)])) })
    const lists = listener({ model: wide(1), on: 'docs', key: 'text', flatten: true }), again = listener({ model: model<Uint8Array, Uint8Array>('plus', { run: step('plus@1', (all: readonly Uint8Array[]) => all.map((bytes) => bytes.map((b) => b + 100))) }), on: 'docs', key: lists, name: 'plus' })
    const derived = await db.add(again), list = await db.load(lists)
    await docs.insert([{ _id: 'a', text: 'abc' }])
    expect(await db.verify({ repair: true, removeArtifacts: true, graceMs: 0 })).toMatchObject({ ok: true, artifacts: { missing: 0, unreferenced: 0 }, repaired: { artifacts: 0 } })
    const rows = await list.chunks().toArray()
    expect(rows.map((row) => [(row.value as Uint8Array)[19_999], (derived.of(row) as Uint8Array)[0]])).toEqual([[3, 103], [4, 104]])
    await docs.delete({}, { all: true })
    expect((await db.verify()).artifacts).toEqual({ missing: 0, unreferenced: 4 })
  })

  it('a worker follows lists through to what is made from their elements', async (ctx) => {
    const db = await open(ctx, backend, { outputs: 'worker' }), docs = db.collection<{ text: string }>('docs')
    await db.add(vectors)
    await docs.insert(Array.from({ length: 30 }, (_, i) => ({ _id: `k${i}`, text: `one ${i}. two ${i}` })))
    const parts = await db.load(chunks), stop = new AbortController(), working = db.work({ signal: stop.signal })
    const count = async (): Promise<number> => (await parts.chunks({ '_outputs.vec.embed': { $exists: true } }).toArray()).length
    for (const end = Date.now() + 15_000; Date.now() < end && await count() < 60; await sleep(50));
    expect(await count()).toBe(60)
    await docs.update({ _id: 'k3' }, { $set: { text: 'one. two. three' } })
    for (const end = Date.now() + 15_000; Date.now() < end && await count() < 61; await sleep(50));
    expect(await count()).toBe(61)
    stop.abort()
    await working
    expect(await db.verify({ deep: true })).toMatchObject({ ok: true })
  })

  it('lists of vectors are searched by themselves; a new version of the splitter takes all along; wrong uses are refused', async (ctx) => {
    const db = await open(ctx, backend), docs = db.collection<{ text: string }>('docs')
    const windows = (version: number) => model<string, readonly Float32Array[]>('windows', { run: step(`windows@${version}`, (texts: readonly string[]) => texts.map((text) => text.split(version === 1 ? '. ' : ' ').map(letters))), shape: [26] })
    const listed = (version: number) => listener({ model: windows(version), on: 'docs', key: 'text', flatten: true })
    const found = vectorIndex('windows', { indexing: listed(1), compatible: { q: embed } })
    await docs.insert([{ _id: 'a', text: 'lion. bicycle' }, { _id: 'b', text: 'tiger' }])
    const near = await db.add(found)
    expect((await docs.find().like({ q: 'bicycles' }, near, { n: 2 }).toArray()).map((hit) => [hit._id, (hit as unknown as { offset: number }).offset])).toEqual([['a', 1], ['a', 0]])
    await db.add(listed(2))
    await docs.insert({ _id: 'c', text: 'big bicycles here' })
    expect((await docs.find().like({ q: 'bicycles' }, near, { n: 1 }).toArray()).map((hit) => [hit._id, (hit as unknown as { offset: number }).offset])).toEqual([['c', 1]])
    const plain = await db.add(listener({ model: model('len', { run: step('len@1', (texts: readonly string[]) => texts.map((t) => t.length)) }), on: 'docs', key: 'text' }))
    expect(() => plain.chunks()).toThrow('gives one output for each row')
    await expect(db.add(listener({ model: embed, on: 'docs', key: ['text', listed(2)], name: 'two' }))).rejects.toThrow('Its elements are read one by one')
    const nolist = await db.add(listener({ model: model('nolist', { run: step('nolist@1', (texts: readonly string[]) => texts.map((t) => t.length)) }), on: 'docs', key: 'text', flatten: true }))
    expect((await all(nolist.failures())).map(({ error }) => error)).toEqual(['the output is 13; with flatten a list is expected', 'the output is 5; with flatten a list is expected', 'the output is 17; with flatten a list is expected'])
  })
})

const all = async <T>(of: AsyncIterable<T>): Promise<T[]> => { const list: T[] = []; for await (const one of of) list.push(one); return list }
