/** Lists of outputs as core uses them: their elements are read, counted, filtered, sorted, hinted at, listened to and searched as rows. */
import { expect } from 'vitest'
import type { Filter, Key, Outcome, Query, Slot, Value } from '../../core/contract.ts'
import { evaluate } from '../../core/match.ts'
import { Top } from '../../core/sort.ts'
import { compareStrings, same } from '../../core/value.ts'
import { codeOf, keyOf, many, outcome, type Subject } from './subject.ts'
import { filters, rule, sorts, type Need, type Rule } from './rule.ts'

const bad = new Error('bad row')
const where = (kind: 'keys', keys: readonly Key[]): Filter => ({ kind, keys })
const lists: Readonly<Record<Key, readonly Value[]>> = { a: ['x', 'y', 'z'], b: ['y', null, 3], c: [], d: [{ deep: 1, tags: ['p', 'q'] }, [1, 'x'], true] }
/** A slot with lists, and one that is made from their elements. */
async function listed(s: Subject, values: Readonly<Record<Key, readonly Value[]>> = lists): Promise<{ readonly name: string; readonly C: Slot; readonly D: Slot }> {
  const name = await s.collection(Object.fromEntries(Object.keys(values).map((key) => [key, { t: key }]))), C = await s.slot(name, { many: true }), D = await s.slot(C.id, { fields: ['value'] })
  await s.give(C, values)
  return { name, C, D }
}
const all13: Need = filters('and', 'or', 'not', 'eq', 'lt', 'lte', 'gt', 'gte', 'in', 'null', 'exists', 'prefix')
const slotPlace: Need = { says: 'the plugin keeps copies of vectors, and hits without rows', met: (s) => s.vectors.capabilities.place === 'slot' }

export const chunks: readonly Rule[] = [
  rule('slots.elements.hints', 'keys of elements narrow rows and prune; those of elements that are no more, of sources and of nothing do not matter', async (s) => {
    const { C, D } = await listed(s), hints = ['b#0', 'a#1', 'a#1', 'a#7', 'a', 'a#-1', 'a#1#0', 'none#0', 'c#0']
    expect([await s.offered(D, 'stale', hints), await s.offered(D, 'all', hints), await s.offered(D, 'stale', [])]).toEqual([['a#1', 'b#0'], ['a#1', 'b#0'], []])
    await s.give(D, { 'a#0': ['f'], 'a#1': ['g'], 'a#2': bad, 'b#0': bad })
    expect([await s.offered(D, 'stale', hints), await s.offered(D, 'all', hints), await s.offered(D, 'failed', hints), await s.offered(D, 'failed')]).toEqual([[], ['a#1', 'b#0'], ['b#0'], ['a#2', 'b#0']])
    await s.give(C, { a: ['x', 'new'] })
    expect([await s.offered(D, 'stale', hints), await s.offered(D, 'stale', ['a#2', 'a#0']), await s.data.prune(D, hints, s.ctx)]).toEqual([['a#1'], [], 0])
  }),
  rule('slots.elements.outcomes', 'an error, a skip and a value for an element stand as they do for a row', async (s) => {
    const { C, D } = await listed(s)
    await s.give(D, { 'a#0': bad, 'a#1': 'skip', 'a#2': [2] })
    expect(await s.data.tally(D, s.ctx)).toEqual({ rows: 9, missing: 6, stale: 0, failed: 1, orphaned: 0 })
    expect((await s.rows(D, 'failed')).map((row) => [row.key, row.doc, row.mark?.error])).toEqual([['a#0', { value: 'x' }, 'bad row']])
    expect((await s.find(C.id, { where: where('keys', ['a#0', 'a#1', 'a#2']), slots: [D.id] })).map((row) => row.outputs?.[D.id])).toEqual([undefined, undefined, [2]])
    await s.give(D, { 'a#0': [0], 'a#2': bad })
    expect([await s.offered(D, 'failed'), (await s.find(C.id, { where: where('keys', ['a#0', 'a#2']), slots: [D.id] })).map((row) => row.outputs?.[D.id])]).toEqual([['a#2'], [[0], undefined]])
  }),
  rule('slots.elements.same', 'same moves the mark of an element that changed', async (s) => {
    const { C, D } = await listed(s)
    await s.data.settle(D, [{ ...outcome(await s.at(D, 'a#1'), ['kept']), hash: 'h' }], s.ctx)
    await s.give(C, { a: ['x', 'other', 'z'] })
    const { rev, mark, doc } = await s.at(D, 'a#1')
    expect([doc, mark?.rev === rev]).toEqual([{ value: 'other' }, false])
    expect([await s.data.settle(D, [{ key: 'a#1', rev, hash: 'another', kind: 'same' }], s.ctx), await s.data.settle(D, [{ key: 'a#1', rev, hash: 'h', kind: 'same' }], s.ctx)]).toEqual([['a#1'], []])
    expect([await s.offered(D, 'stale', ['a#1']), await s.output(D, 'a#1')]).toEqual([[], ['kept']])
  }),
  rule('slots.elements.where-keys', 'a slot on elements selects by their keys', async (s) => {
    const { C } = await listed(s), D = await s.slot(C.id, { where: where('keys', ['a#2', 'b#1', 'a', 'none#0']), fields: ['source'] })
    expect((await s.rows(D)).map((row) => [row.key, row.doc])).toEqual([['a#2', { source: 'a' }], ['b#1', { source: 'b' }]])
    await s.give(D, { 'a#2': [1], 'b#1': bad })
    expect([await s.data.tally(D, s.ctx), await s.data.prune(D, 'all', s.ctx)]).toEqual([{ rows: 2, missing: 0, stale: 0, failed: 1, orphaned: 0 }, 0])
    await s.give(C, { a: ['x'] })
    expect([await s.data.tally(D, s.ctx), await s.data.prune(D, 'all', s.ctx)]).toEqual([{ rows: 1, missing: 0, stale: 0, failed: 1, orphaned: 0 }, 0])
  }),
  rule('slots.elements.read', 'elements are read with the outputs made from them: by keys, on from a key, so many, with these fields', async (s) => {
    const { name, C, D } = await listed(s), E = await s.slot(C.id, { many: true }), found = async (query: Omit<Query, 'from'>): Promise<readonly unknown[]> => (await s.find(C.id, { slots: [D.id, E.id], ...query })).map((row) => [row.key, row.doc, row.outputs?.[D.id], row.outputs?.[E.id]])
    await s.give(D, { 'a#0': ['A0'], 'b#0': ['B0'] })
    await s.give(E, { 'a#1': ['p', 'q'], 'b#0': [] })
    expect(await found({ where: where('keys', ['b#0', 'a#1', 'a#9', 'a']), fields: [] })).toEqual([['a#1', {}, undefined, ['p', 'q']], ['b#0', {}, ['B0'], []]])
    expect(await found({ after: 'a#0', limit: 2, fields: ['source', 'offset'] })).toEqual([['a#1', { source: 'a', offset: 1 }, undefined, ['p', 'q']], ['a#2', { source: 'a', offset: 2 }, undefined, undefined]])
    expect(await found({ after: 'a#2', where: where('keys', ['a#0', 'b#0', 'b#1', 'b#2']), limit: 1, fields: ['value', 'other'] })).toEqual([['b#0', { value: 'y' }, ['B0'], []]])
    expect([await found({ skip: 1, limit: 1, where: where('keys', ['a#0', 'a#2', 'b#1']), fields: ['value'] }), await found({ after: 'd#2' }), await found({ limit: 0 })]).toEqual([[['a#2', { value: 'z' }, undefined, undefined]], [], []])
    expect((await s.find(name, { where: where('keys', ['b', 'c', 'none']), fields: [], slots: [C.id] })).map((row) => [row.key, row.doc, row.outputs?.[C.id]])).toEqual([['b', {}, lists['b']], ['c', {}, []]])
  }),
  rule('slots.elements.stepwise', 'reading elements on from key to key meets each once, in order', async (s) => {
    const { C, D } = await listed(s, { ...lists, 'a#1': ['under'], 'a!': ['beside'], long: Array.from({ length: 23 }, (_, i) => i) }), right = (await s.find(C.id)).map((row) => row.key), met: Key[] = []
    for (let after: Key | undefined; ;) {
      const rows = await s.find(C.id, { slots: [D.id], limit: 4, ...(after === undefined ? {} : { after }) })
      if (rows.length === 0) break
      met.push(...rows.map((row) => row.key))
      after = met.at(-1)
    }
    expect([met, right]).toEqual([[...right].sort(compareStrings), met])
    expect([met.length, await s.data.count({ from: C.id }, s.ctx), await s.offered(D)]).toEqual([34, 34, met])
  }),
  rule('slots.elements.filters', 'every kind of filter is evaluated over elements as core does it', async (s) => {
    const { C } = await listed(s), docs = await s.find(C.id), at = (path: string): { readonly at: readonly string[] } => ({ at: path.split('.') })
    const eq: Filter = { kind: 'eq', path: at('value'), value: 'y' }, offset: Filter = { kind: 'gte', path: at('offset'), value: 1 }
    const asked: readonly Filter[] = [
      eq, offset, { kind: 'and', of: [{ kind: 'eq', path: at('source'), value: 'a' }, offset] }, { kind: 'or', of: [eq, { kind: 'eq', path: at('value.deep'), value: 1 }] }, { kind: 'not', of: eq }, { kind: 'lt', path: at('offset'), value: 2 }, { kind: 'lte', path: at('value'), value: 3 },
      { kind: 'gt', path: at('source'), value: 'b' }, { kind: 'in', path: at('value'), values: ['z', 3, true] }, { kind: 'null', path: at('value') }, { kind: 'null', path: at('value.deep') }, { kind: 'exists', path: at('value.deep'), is: true }, { kind: 'exists', path: at('source'), is: false },
      { kind: 'prefix', path: at('source'), value: 'a' }, { kind: 'eq', path: at('value.tags'), value: 'q' }, { kind: 'eq', path: at('_id'), value: 'a#1' }, { kind: 'prefix', path: at('_id'), value: 'd#' }, { kind: 'gt', path: at('_id'), value: 'b#0' }, { kind: 'eq', path: at('t'), value: 'a' },
      { kind: 'and', of: [where('keys', ['a#0', 'a#1', 'b#0']), { kind: 'not', of: { kind: 'eq', path: at('offset'), value: 0 } }] },
    ]
    for (const filter of asked) {
      const right = docs.filter((row) => evaluate(filter, row.key, row.doc)).map((row) => row.key)
      expect([filter, await s.keys(C.id, filter), await s.data.count({ from: C.id, where: filter }, s.ctx)]).toEqual([filter, right, right.length])
    }
  }, all13),
  rule('slots.elements.filter-outputs', 'elements are filtered by the outputs made from them, where the slot says that its outputs can be', async (s) => {
    const { C, D } = await listed(s), { filters: can } = await s.data.openSlot(D, s.ctx), path = { slot: D.id, at: [] }
    await s.give(D, { 'a#0': ['yes'], 'a#1': ['no'], 'b#0': ['yes'], 'b#1': bad, 'd#0': [null] })
    if (!can) return
    expect(await s.keys(C.id, { kind: 'eq', path, value: 'yes' })).toEqual(['a#0', 'b#0'])
    expect(await s.keys(C.id, { kind: 'and', of: [{ kind: 'eq', path: { at: ['source'] }, value: 'a' }, { kind: 'eq', path, value: 'yes' }] })).toEqual(['a#0'])
    expect(await s.keys(C.id, { kind: 'exists', path, is: true })).toEqual(['a#0', 'a#1', 'b#0', 'd#0'])
    expect(await s.data.count({ from: C.id, where: { kind: 'exists', path, is: false } }, s.ctx)).toBe(5)
  }, filters('and', 'eq', 'exists')),
  rule('slots.elements.order', 'elements are sorted as core does it: by value, offset, source and key', async (s) => {
    const { C } = await listed(s), docs = await s.find(C.id), by = (...names: readonly string[]): NonNullable<Query['order']> => names.map((name) => ({ path: { at: [name.replace('-', '')] }, descending: name.startsWith('-') }))
    for (const order of [by('value'), by('-value'), by('-offset', 'source'), by('source', '-offset'), by('-_id')]) {
      const top = new Top<Key>(order.map(({ path, descending }) => ({ path: path.at, descending })), undefined)
      for (const row of docs) top.add({ ...row.doc, _id: row.key }, row.key, row.key)
      const right = top.rows()
      expect([order, (await s.find(C.id, { order })).map((row) => row.key), (await s.find(C.id, { order, skip: 2, limit: 3 })).map((row) => row.key)]).toEqual([order, right, right.slice(2, 5)])
    }
  }, sorts),
  rule('slots.elements.two', 'two lists of one collection do not mix, nor what is made from them; one is dropped and the other stays', async (s) => {
    const { name, C, D } = await listed(s), other = await s.slot(name, { many: true, label: 'lists.two' }), E = await s.slot(other.id)
    await s.give(other, { a: ['other'], b: ['x', 'y'] })
    await s.give(D, { 'a#0': ['of C'] })
    expect([await s.offered(E), await s.output(E, 'a#0')]).toEqual([['a#0', 'b#0', 'b#1'], undefined])
    await s.give(E, { 'a#0': ['of other'] })
    expect([await s.output(D, 'a#0'), await s.output(E, 'a#0')]).toEqual([['of C'], ['of other']])
    const rev = (await s.at(D, 'a#0')).rev
    await s.data.dropSlot(other.id, s.ctx)
    expect([await codeOf(s.find(other.id)), await codeOf(s.data.count({ from: other.id }, s.ctx)), await codeOf(s.rows(E)), await codeOf(s.data.tally(E, s.ctx))]).toEqual(['NOT_FOUND', 'NOT_FOUND', 'NOT_FOUND', 'NOT_FOUND'])
    expect([await s.output(C, 'a'), await s.output(D, 'a#0'), (await s.at(D, 'a#0')).rev === rev]).toEqual([lists['a'], ['of C'], true])
    await s.data.openSlot(other, s.ctx)
    await s.data.openSlot(E, s.ctx)
    expect([await s.find(other.id), await s.offered(other), await s.offered(E)]).toEqual([[], ['a', 'b', 'c', 'd'], []])
  }),
  rule('slots.elements.shapes', 'a slot on elements reads them in the shape of their list', async (s) => {
    const shapes: readonly (readonly [Slot['shape'], readonly Value[]])[] = [
      [{ kind: 'boolean' }, [true, false]], [{ kind: 'number' }, [1.5, Number.NaN, -Infinity]], [{ kind: 'string' }, ['', 'é😀', '5']], [{ kind: 'bytes' }, [Uint8Array.of(0, 255), new Uint8Array()]], [{ kind: 'vector', dims: 2 }, [Float32Array.of(0.1, -1), Float32Array.of(0, 0)]],
      [{ kind: 'json' }, [5n, new Date(5), { a: [null, Uint8Array.of(1)] }, { _content: { bytes: Uint8Array.of(1, 2), codec: 'some' } }, Float64Array.of(1)]],
    ]
    for (const [shape, values] of shapes) {
      const C = await s.slot(await s.collection({ a: {} }), { shape, many: true }), D = await s.slot(C.id, { fields: ['value'] })
      await s.give(C, { a: values })
      for (const [i, row] of (await s.rows(D)).entries()) s.expectSame(row.doc, { value: values[i]! }, shape.kind)
      await s.give(D, { 'a#0': [0], 'a#1': [1] })
      await s.give(C, { a: values })
      expect([shape, await s.offered(D)]).toEqual([shape, Array.from({ length: values.length - 2 }, (_, i) => `a#${i + 2}`)])
    }
  }),
  rule('slots.elements.batch', 'lists of many rows are settled in one call, offered once each, and settled between two batches', async (s) => {
    const name = await s.collection(many(120, (i) => ({ i }))), C = await s.slot(name, { many: true, shape: { kind: 'string' } }), D = await s.slot(C.id, { fields: ['value'], shape: { kind: 'number' } }), seen: Key[] = []
    const rows = await s.rows(C), list = (i: number, text: string): readonly string[] => Array.from({ length: i % 13 }, (_, n) => `${text} ${n}`)
    expect(await s.data.settle(C, rows.map((row, i) => outcome(row, list(i, row.key))), s.ctx)).toEqual([])
    const right = rows.flatMap((row, i) => list(i, '').map((_, n) => `${row.key}#${n}`)).sort(compareStrings)
    for await (const batch of s.data.rows(D, 'stale', 'all', s.ctx)) {
      seen.push(...batch.map((row) => row.key))
      expect(await s.data.settle(D, batch.map((row) => outcome(row, [Number(String(row.doc['value']).length)])), s.ctx)).toEqual([])
    }
    expect([seen, await s.offered(D)]).toEqual([right, []])
    // Of every list the last element goes and the first becomes another.
    for (let i = 0; i < 120; i++) await s.patch(name, keyOf(i), { again: true })
    const again = (await s.rows(C)).map((row, i): Outcome => outcome(row, list(i, row.key).slice(0, -1).map((text, n) => (n === 0 ? 'new' : text)), 'again'))
    expect(await s.data.settle(C, again, s.ctx)).toEqual([])
    expect(await s.offered(D)).toEqual(rows.flatMap((row, i) => (i % 13 > 1 ? [`${row.key}#0`] : [])))
    expect((await s.find(C.id, { slots: [D.id] })).every((row) => same(row.outputs?.[D.id], [String(row.doc['offset'] === 0 ? `${row.doc['source']} 0` : row.doc['value']).length] as Value))).toBe(true)
  }),
  rule('slots.elements.vectors', 'vectors made from elements are searched where they lie: hits are elements, filtered as such', async (s) => {
    const { C } = await listed(s, { a: ['x', 'y', 'z'], b: ['y', 'z'] }), V = await s.slot(C.id, { shape: { kind: 'vector', dims: 2 } }), index = { id: `near_${V.id}`, slot: V, measure: 'l2', approximate: false } as const
    await s.vectors.create(index, s.ctx)
    await s.give(V, { 'a#0': [Float32Array.of(1, 0)], 'a#1': [Float32Array.of(5, 0)], 'a#2': [Float32Array.of(3, 0)], 'b#0': [Float32Array.of(2, 0)], 'b#1': bad })
    const search = async (query: Omit<Query, 'from'>, k = 2): Promise<readonly unknown[]> => (await s.vectors.search(index, { vectors: [Float32Array.of(0, 0)], k, exact: true, query: { from: C.id, slots: [], ...query } }, s.ctx))[0]!.map((hit) => [hit.key, hit.offset, hit.distance, hit.row!.doc])
    expect(await search({ fields: ['value', 'source'] })).toEqual([['a#0', 0, 1, { value: 'x', source: 'a' }], ['b#0', 0, 2, { value: 'y', source: 'b' }]])
    expect(await search({ fields: [], where: where('keys', ['a#1', 'a#2', 'b#1']) }, 5)).toEqual([['a#2', 0, 3, {}], ['a#1', 0, 5, {}]])
    if (s.capabilities.filters.includes('eq')) expect(await search({ fields: ['offset'], where: { kind: 'eq', path: { at: ['source'] }, value: 'a' } })).toEqual([['a#0', 0, 1, { offset: 0 }], ['a#2', 0, 3, { offset: 2 }]])
    await s.give(C, { a: ['x'] })
    expect(await search({ fields: [] }, 9)).toEqual([['a#0', 0, 1, {}], ['b#0', 0, 2, {}]])
    await s.remove(C.collection, 'a')
    expect(await search({ fields: [] }, 9)).toEqual([['b#0', 0, 2, {}]])
  }, { says: 'the plugin does not measure "l2"', met: (s) => s.vectors.capabilities.measures.includes('l2') }, slotPlace),
]
