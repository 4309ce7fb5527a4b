/** Nearest neighbours: the plugin's own search, or core's where it has none, and the API on top. */
import { expect } from 'vitest'
import type { Find, IndexHandle, Inlay } from '../../core/api.ts'
import type { Hit, Key, Measure, Query, Search, VectorIndex } from '../../core/contract.ts'
import { listener, model, vectorIndex } from '../../core/spec.ts'
import { step } from '../../core/step.ts'
import { distance, nearer } from '../../core/vectors.ts'
import { random } from './random.ts'
import { rule, type Need, type Rule } from './rule.ts'
import { codeOf, keyOf, many, type Subject } from './subject.ts'

type Numbers = readonly number[]
const measures: readonly Measure[] = ['cosine', 'dot', 'l2']
const measuring = (measure: Measure): Need => ({ says: `the plugin does not measure "${measure}"`, met: (s) => s.vectors.capabilities.measures.includes(measure) })
const dims = (n: number): Need => ({ says: `needs ${n} dimensions`, met: (s) => s.vectors.capabilities.dims >= n && (s.capabilities.limits.dims ?? Infinity) >= n })
const approximates: Need = { says: 'the plugin searches exactly', met: (s) => s.vectors.capabilities.approximate }
const slotPlace: Need = { says: 'the plugin keeps copies of vectors, and hits without rows', met: (s) => s.vectors.capabilities.place === 'slot' }
const copies: Need = { says: 'vectors are searched where the outputs lie', met: (s) => s.vectors.capabilities.place === 'copy' }

/** Vectors by key, in a slot and, where the plugin keeps copies, in its copy. */
interface Space {
  readonly index: VectorIndex
  readonly stored: ReadonlyMap<Key, Float32Array>
  put(vectors: Readonly<Record<Key, Numbers>>): Promise<void>
  remove(...keys: readonly Key[]): Promise<void>
  search(vector: Numbers, k: number, keys?: readonly Key[], exact?: boolean): Promise<readonly Hit[]>
  /** By core's own arithmetic. */
  right(vector: Numbers, k: number, keys?: readonly Key[]): readonly Hit[]
}
async function space(s: Subject, measure: Measure, n: number, approximate = false): Promise<Space> {
  const name = await s.collection(), slot = await s.slot(name, { shape: { kind: 'vector', dims: n } }), index: VectorIndex = { id: `near_${slot.id}`, slot, measure, approximate }
  const copy = s.vectors.capabilities.place === 'copy', stored = new Map<Key, Float32Array>()
  await s.vectors.create(index, s.ctx)
  return {
    index, stored,
    async put(vectors) {
      const entries = Object.entries(vectors).map(([key, v]) => [key, Float32Array.from(v)] as const), fresh = entries.filter(([key]) => !stored.has(key))
      if (fresh.length > 0) await s.insert(name, Object.fromEntries(fresh.map(([key]) => [key, {}])))
      await s.give(slot, Object.fromEntries(entries.map(([key, v]) => [key, [v]])))
      if (copy) await s.vectors.put(index.id, entries.map(([key, vector]) => ({ key, offset: 0, vector })), s.ctx)
      await s.vectors.settled(index.id, s.ctx)
      for (const [key, v] of entries) stored.set(key, v)
    },
    async remove(...keys) {
      await s.remove(name, ...keys)
      if (copy) await s.vectors.remove(index.id, keys, s.ctx)
      await s.vectors.settled(index.id, s.ctx)
      for (const key of keys) stored.delete(key)
    },
    async search(vector, k, keys, exact = true) {
      const restriction: Partial<Search> = copy ? (keys === undefined ? {} : { within: keys }) : { query: { from: name, slots: [slot.id], ...(keys === undefined ? {} : { where: { kind: 'keys', keys } }) } }
      const [hits, ...more] = await s.vectors.search(index, { vectors: [Float32Array.from(vector)], k, exact, ...restriction }, s.ctx)
      expect(more).toEqual([])
      if (!copy) for (const { key, row } of hits!) expect(row).toMatchObject({ key, outputs: { [slot.id]: [stored.get(key)] } })
      return hits!.map(({ key, offset, distance: d }) => ({ key, offset, distance: d }))
    },
    right: (vector, k, keys) => [...stored].filter(([key]) => keys === undefined || keys.includes(key)).map(([key, v]) => ({ key, offset: 0, distance: distance(measure, Float32Array.from(vector), v) })).sort(nearer).slice(0, k),
  }
}
const spread = (n: number, count: number, seed: number): Record<Key, Numbers> => {
  const r = random(seed)
  return Object.fromEntries(Array.from({ length: count }, (_, i) => [keyOf(i), Array.from({ length: n }, () => r.next() * 2 - 1)]))
}
function expectHits(found: readonly Hit[], right: readonly Hit[]): void {
  expect(found.map((hit) => hit.key)).toEqual(right.map((hit) => hit.key))
  for (const [i, hit] of found.entries()) expectNear(hit.distance, right[i]!.distance)
}
function expectNear(found: number, right: number): void {
  expect(Math.abs(found - right), `${found} is ${right}`).toBeLessThanOrEqual(1e-5 * Math.max(1, Math.abs(right)))
}

interface Near { readonly db: Inlay; readonly name: string; readonly index: IndexHandle<object>; docs(): ReturnType<typeof collectionOf> }
const collectionOf = (db: Inlay, name: string) => db.collection<{ v?: Numbers; tag?: string }>(name)
const vec = model('vec', { run: step('vec@1', (list: readonly Numbers[]) => list.map((v) => Float32Array.from(v))), shape: [3] })
/** A collection with a listener that gives vectors, and an index on it. */
async function near(s: Subject, measure: Measure, docs: readonly { readonly _id: string; readonly v?: Numbers; readonly tag?: string }[]): Promise<Near> {
  const db = await s.inlay(), name = s.name('near'), of = (): ReturnType<typeof collectionOf> => collectionOf(db, name)
  await of().insert(docs)
  const on = listener({ model: vec, on: name, key: 'v', where: { v: { $exists: true } }, name: `l_${name}` })
  const index = await db.add(vectorIndex(`i_${name}`, { indexing: on, measure })) as IndexHandle<object>
  await db.add(on)
  return { db, name, index, docs: of }
}
const ids = async (find: AsyncIterable<{ readonly _id: string }>): Promise<string[]> => { const list: string[] = []; for await (const { _id } of find) list.push(_id); return list }
const example = ({ name }: Near, v: Numbers): object => ({ [`l_${name}`]: v })

export const vectors: readonly Rule[] = [
  rule('vectors.capabilities.are-data', 'capabilities of the search can be copied as data', async (s) => {
    const { capabilities } = s.vectors
    expect(structuredClone(capabilities)).toEqual(capabilities)
    expect(capabilities.dims).toBeGreaterThan(0)
    if (capabilities.place === 'copy') expect(capabilities.within).toBeGreaterThan(0)
    expect(capabilities.measures.length).toBeGreaterThan(0)
  }),
  ...measures.flatMap((measure) => [
    ...[1, 3, 128].map((n) => rule(`vectors.${measure}.${n}-dims`, `${measure} over ${n} dimensions ranks as core's arithmetic does, distances to 1e-5`, async (s) => {
      const of = await space(s, measure, n), vectors = spread(n, 60, n)
      await of.put(vectors)
      for (const query of Object.values(spread(n, 5, n + 1))) for (const k of [1, 7, 60]) {
        const found = await of.search(query, k), right = of.right(query, k)
        // Over one dimension all cosines are 0 or 2, up to rounding, which orders ties.
        if (n === 1 && measure === 'cosine') for (const [i, hit] of found.entries()) expectNear(hit.distance, right[i]!.distance)
        else expectHits(found, right)
      }
    }, measuring(measure), dims(n))),
    rule(`vectors.${measure}.sign`, `${measure} is smaller for what is nearer`, async (s) => {
      const of = await space(s, measure, 2)
      await of.put({ near: [2, 0.1], far: [-1, 0.5], middle: [0.1, 1] })
      const found = await of.search([2, 0], 3)
      expect(found.map((hit) => hit.key)).toEqual(['near', 'middle', 'far'])
      for (const hit of found) expectNear(hit.distance, distance(measure, Float32Array.from([2, 0]), of.stored.get(hit.key)!))
    }, measuring(measure)),
    rule(`vectors.${measure}.ties`, `equal distances of ${measure} are ordered by key`, async (s) => {
      const of = await space(s, measure, 2), keys = ['b', 'B', 'é', 'a', '\uffff', '😀', 'a1', 'a10', 'a2']
      await of.put(Object.fromEntries([...keys.map((key) => [key, [1, 1]] as const), ['z-near', [2, 2]], ['a-far', [-1, 1]]]))
      for (const k of [3, keys.length, keys.length + 2]) expect((await of.search([1, 1], k)).filter((hit) => keys.includes(hit.key)).map((hit) => hit.key)).toEqual(of.right([1, 1], k).filter((hit) => keys.includes(hit.key)).map((hit) => hit.key))
      expect((await of.search([0, 1], 4, ['b', 'é', 'a', 'B'])).map((hit) => hit.key)).toEqual(['B', 'a', 'b', 'é'])
    }, measuring(measure)),
  ]),
  ...measures.flatMap((measure) => [
    rule(`vectors.${measure}.scales`, `${measure} is right to 1e-5 for small and for large numbers, and for what is nearly the same`, async (s) => {
      for (const scale of [1e-3, 1, 1000]) {
        const of = await space(s, measure, 16), base = Object.values(spread(16, 1, 31))[0]!, r = random(32)
        await of.put(Object.fromEntries(Array.from({ length: 20 }, (_, i) => [keyOf(i), base.map((x) => (x + (r.next() - 0.5) * (i < 10 ? 0.2 : 2)) * scale)])))
        const found = await of.search(base.map((x) => x * scale), 20), right = new Map(of.right(base.map((x) => x * scale), 20).map((hit) => [hit.key, hit.distance]))
        expect(found.length).toBe(20)
        for (const hit of found) expectNear(hit.distance, right.get(hit.key)!)
        expect([...found].sort((a, b) => a.distance - b.distance)).toEqual(found)
      }
    }, measuring(measure)),
    rule(`vectors.${measure}.filtered`, `random searches by ${measure} among some rows, with k below, at and above their number, find what core's arithmetic finds`, async (s) => {
      const of = await space(s, measure, 6), r = random(41)
      await of.put(spread(6, 150, 42))
      for (let i = 0; i < 15; i++) {
        const keys = [...of.stored.keys()].filter(() => r.next() < 0.2), query = Array.from({ length: 6 }, () => r.next() * 2 - 1)
        for (const k of [1, Math.max(1, keys.length), keys.length + 7]) expectHits(await of.search(query, k, keys), of.right(query, k, keys))
      }
    }, measuring(measure)),
    rule(`vectors.${measure}.life`, `after random puts, changes and removals a search by ${measure} finds what is there`, async (s) => {
      const of = await space(s, measure, 4), r = random(51)
      for (let round = 0; round < 8; round++) {
        await of.put(Object.fromEntries(Array.from({ length: 12 }, () => [keyOf(r.below(40)), Array.from({ length: 4 }, () => r.next() * 2 - 1)])))
        const gone = [...of.stored.keys()].filter(() => r.next() < 0.15)
        if (gone.length > 0) await of.remove(...gone)
        const query = Array.from({ length: 4 }, () => r.next() * 2 - 1), some = [...of.stored.keys()].filter((_, i) => i % 3 === 0)
        expectHits(await of.search(query, 100), of.right(query, 100))
        expectHits(await of.search(query, 3, some), of.right(query, 3, some))
      }
    }, measuring(measure)),
    rule(`vectors.${measure}.recall`, `an approximate search by ${measure} finds nine of the ten nearest, also among few rows`, async (s) => {
      const of = await space(s, measure, 16, true), r = random(61), tried = { hits: 0, right: 0 }
      await of.put(spread(16, 1500, 62))
      for (let i = 0; i < 20; i++) {
        const query = Array.from({ length: 16 }, () => r.next() * 2 - 1), keys = i % 2 === 0 ? undefined : [...of.stored.keys()].filter((_, n) => n % 9 === i % 9), right = of.right(query, 10, keys), found = await of.search(query, 10, keys, false)
        expect(found.length).toBe(10)
        tried.right += right.length
        tried.hits += found.filter((hit) => right.some((one) => one.key === hit.key)).length
      }
      expect(tried.hits / tried.right).toBeGreaterThanOrEqual(0.9)
    }, measuring(measure), approximates),
  ]),
  rule('vectors.slot.rows', 'hits come with their rows: the fields and outputs asked, the rev of now, filtered by the document', async (s) => {
    const name = await s.collection(many(12, (i) => ({ i, tag: i % 2 === 0 ? 'even' : 'odd' }))), slot = await s.slot(name, { shape: { kind: 'vector', dims: 2 } }), other = await s.slot(name), index: VectorIndex = { id: `near_${slot.id}`, slot, measure: 'l2', approximate: false }
    await s.vectors.create(index, s.ctx)
    await s.give(slot, Object.fromEntries(Array.from({ length: 12 }, (_, i) => [keyOf(i), [Float32Array.from([i, 0])]])))
    await s.give(other, { [keyOf(1)]: ['of one'] })
    const rev = await s.patch(name, keyOf(1), { more: true }), search = async (query: Omit<Query, 'from'>): Promise<readonly Hit[]> => (await s.vectors.search(index, { vectors: [Float32Array.from([0, 0])], k: 3, exact: true, query: { from: name, ...query } }, s.ctx))[0]!
    expect((await search({ fields: ['i'], slots: [other.id] })).map((hit) => [hit.key, hit.row!.doc, hit.row!.outputs?.[other.id]])).toEqual([[keyOf(0), { i: 0 }, undefined], [keyOf(1), { i: 1 }, ['of one']], [keyOf(2), { i: 2 }, undefined]])
    expect((await search({}))[1]!.row).toMatchObject({ key: keyOf(1), rev, doc: { i: 1, tag: 'odd', more: true } })
    if (s.capabilities.filters.includes('eq')) expect((await search({ where: { kind: 'eq', path: { at: ['tag'] }, value: 'odd' } })).map((hit) => hit.key)).toEqual([keyOf(1), keyOf(3), keyOf(5)])
    await s.give(slot, { [keyOf(0)]: new Error('bad'), [keyOf(2)]: 'skip' })
    expect((await search({ fields: [] })).map((hit) => hit.key)).toEqual([keyOf(1), keyOf(3), keyOf(4)])
  }, measuring('l2'), slotPlace),
  rule('vectors.slot.offsets', 'several vectors of one row are several hits, ties by key, then offset', async (s) => {
    const name = await s.collection({ a: {}, b: {}, c: {} }), slot = await s.slot(name, { shape: { kind: 'vector', dims: 2 }, many: true }), index: VectorIndex = { id: `near_${slot.id}`, slot, measure: 'l2', approximate: false }, v = (x: number): Float32Array => Float32Array.from([x, 0])
    await s.vectors.create(index, s.ctx)
    await s.give(slot, { b: [v(1), v(0), v(1)], a: [v(1)], c: [] })
    const search = async (k: number, where?: Query['where']): Promise<readonly unknown[]> => (await s.vectors.search(index, { vectors: [v(1)], k, exact: true, query: { from: name, slots: [], ...(where === undefined ? {} : { where }) } }, s.ctx))[0]!.map((hit) => [hit.key, hit.offset, hit.distance])
    expect(await search(9)).toEqual([['a', 0, 0], ['b', 0, 0], ['b', 2, 0], ['b', 1, 1]])
    expect([await search(2, { kind: 'keys', keys: ['b'] }), await search(2, { kind: 'keys', keys: ['c'] })]).toEqual([[['b', 0, 0], ['b', 2, 0]], []])
    await s.give(slot, { b: [v(5)] })
    expect(await search(9)).toEqual([['a', 0, 0], ['b', 0, 4]])
  }, measuring('l2'), slotPlace),
  rule('vectors.slot.stale', 'the output of a changed row is found until the new one is there', async (s) => {
    const of = await space(s, 'l2', 2)
    await of.put({ a: [0, 0], b: [5, 5] })
    await s.patch(of.index.slot.collection, 'a', { changed: true })
    expect((await of.search([0, 0], 2)).map((hit) => hit.key)).toEqual(['a', 'b'])
  }, measuring('l2')),
  rule('vectors.l2.1536-dims', '1,536 dimensions', async (s) => {
    const of = await space(s, 'l2', 1536)
    await of.put(spread(1536, 20, 1))
    const query = Object.values(spread(1536, 1, 2))[0]!
    expectHits(await of.search(query, 5), of.right(query, 5))
  }, measuring('l2'), dims(1536)),
  rule('vectors.search.k', 'exactly min(k, rows) hits', async (s) => {
    const of = await space(s, 'l2', 3)
    expect(await of.search([1, 2, 3], 5)).toEqual([])
    await of.put(spread(3, 40, 3))
    for (const k of [1, 39, 40, 41, 1000]) expect((await of.search([0, 0, 0], k)).length).toBe(Math.min(k, 40))
  }, measuring('l2')),
  rule('vectors.search.filter', 'among filtered rows exactly min(k, matching) hits, the nearest of them', async (s) => {
    const of = await space(s, 'l2', 3), query = [0.1, 0.2, 0.3]
    await of.put(spread(3, 300, 4))
    const far = of.right(query, 300).slice(-5).map((hit) => hit.key), some = Array.from({ length: 40 }, (_, i) => keyOf(i * 7))
    for (const [keys, k] of [[far, 3], [far, 5], [far, 50], [some, 10], [['none', ...far], 10], [[], 3], [['none'], 3]] as const) expectHits(await of.search(query, k, keys), of.right(query, k, keys))
  }, measuring('l2')),
  rule('vectors.search.several', 'several vectors are searched at once, a list for each in order', async (s) => {
    const of = await space(s, 'l2', 3), queries = Object.values(spread(3, 4, 6))
    await of.put(spread(3, 30, 5))
    const lists = await s.vectors.search(of.index, { vectors: queries.map((q) => Float32Array.from(q)), k: 5, exact: true, ...(s.vectors.capabilities.place === 'slot' ? { query: { from: of.index.slot.collection, slots: [of.index.slot.id] } } : {}) }, s.ctx)
    expect(lists.map((hits) => hits.map((hit) => hit.key))).toEqual(queries.map((q) => of.right(q, 5).map((hit) => hit.key)))
  }, measuring('l2')),
  rule('vectors.change.update', 'a changed vector is found by its new place only', async (s) => {
    const of = await space(s, 'l2', 2)
    await of.put({ a: [0, 0], b: [5, 5], c: [9, 9] })
    await of.put({ a: [8, 8] })
    expectHits(await of.search([8, 8], 3), of.right([8, 8], 3))
    expect((await of.search([0, 0], 1))[0]!.key).toBe('b')
  }, measuring('l2')),
  rule('vectors.change.remove', 'a removed row is not found', async (s) => {
    const of = await space(s, 'l2', 2)
    await of.put({ a: [0, 0], b: [5, 5], c: [9, 9] })
    await of.remove('a', 'c')
    expectHits(await of.search([0, 0], 3), of.right([0, 0], 3))
    expectHits(await of.search([0, 0], 3, ['a', 'b']), of.right([0, 0], 3, ['a', 'b']))
    await of.put({ a: [1, 1] })
    expectHits(await of.search([0, 0], 3), of.right([0, 0], 3))
  }, measuring('l2')),
  rule('vectors.create.idempotent', 'creating an index again keeps its vectors and its epoch', async (s) => {
    const of = await space(s, 'l2', 2), { epoch } = await s.vectors.create(of.index, s.ctx)
    await of.put({ a: [1, 1] })
    expect(await s.vectors.create(of.index, s.ctx)).toEqual({ epoch })
    expect((await of.search([1, 1], 5)).map((hit) => hit.key)).toEqual(['a'])
  }, measuring('l2')),
  rule('vectors.create.apart', 'two indexes do not see each other', async (s) => {
    const one = await space(s, 'l2', 2), two = await space(s, 'l2', 2)
    await one.put({ a: [1, 1] })
    await two.put({ b: [1, 1] })
    expect([await one.search([1, 1], 5), await two.search([1, 1], 5)].map((hits) => hits.map((hit) => hit.key))).toEqual([['a'], ['b']])
    await s.vectors.drop(two.index.id, s.ctx)
    await s.vectors.drop(two.index.id, s.ctx)
    expect((await one.search([1, 1], 5)).length).toBe(1)
  }, measuring('l2')),
  rule('vectors.copy.dropped', 'a copy that was dropped and created again is empty', async (s) => {
    const of = await space(s, 'l2', 2)
    await of.put({ a: [1, 1] })
    await s.vectors.drop(of.index.id, s.ctx)
    await s.vectors.create(of.index, s.ctx)
    expect(await of.search([1, 1], 5)).toEqual([])
  }, measuring('l2'), copies),
  rule('vectors.copy.offsets', 'several vectors of one row are several hits, ties by offset, and go together', async (s) => {
    const of = await space(s, 'l2', 2), put = (key: Key, ...list: readonly Numbers[]): Promise<void> => s.vectors.put(of.index.id, list.map((v, offset) => ({ key, offset, vector: Float32Array.from(v) })), s.ctx)
    await put('b', [1, 1], [0, 0], [1, 1])
    await put('a', [1, 1])
    expect((await of.search([1, 1], 10)).map((hit) => [hit.key, hit.offset])).toEqual([['a', 0], ['b', 0], ['b', 2], ['b', 1]])
    await s.vectors.remove(of.index.id, ['b'], s.ctx)
    expect((await of.search([1, 1], 10)).map((hit) => hit.key)).toEqual(['a'])
  }, measuring('l2'), copies),
  rule('vectors.approximate.k', 'an approximate search gives exactly min(k, matching) hits, ascending, with true distances', async (s) => {
    const of = await space(s, 'l2', 8, true), r = random(9)
    await of.put(spread(8, 1000, 7))
    for (const keys of [undefined, Array.from({ length: 12 }, (_, i) => keyOf(i * 80)), Array.from({ length: 500 }, (_, i) => keyOf(i))]) {
      const query = Array.from({ length: 8 }, () => r.next()), found = await of.search(query, 20, keys, false)
      expect(found.length).toBe(of.right(query, 20, keys).length)
      expect([...found].sort(nearer)).toEqual(found)
      for (const hit of found) expectNear(hit.distance, distance('l2', Float32Array.from(query), of.stored.get(hit.key)!))
    }
  }, measuring('l2'), approximates),

  rule('vectors.api.like', 'like finds the nearest rows by example and by _id, with distance and score', async (s) => {
    const of = await near(s, 'cosine', [{ _id: 'x', v: [1, 0, 0] }, { _id: 'y', v: [0, 1, 0] }, { _id: 'xy', v: [1, 1, 0] }, { _id: 'none' }])
    const hits = await of.docs().find().like(example(of, [2, 1, 0]), of.index, { n: 10 }).toArray()
    expect(hits.map((hit) => hit._id)).toEqual(['xy', 'x', 'y'])
    for (const { v, distance: d, score } of hits) { expectNear(d, distance('cosine', Float32Array.from([2, 1, 0]), Float32Array.from(v!))); expectNear(score, 1 - d) }
    expect(await ids(of.docs().find().like('x', of.index, { n: 2 }))).toEqual(['x', 'xy'])
    expect(await codeOf(of.docs().find().like('none', of.index).toArray())).toBe('NOT_FOUND')
  }, measuring('cosine')),
  ...measures.map((measure) => rule(`vectors.api.random-${measure}`, `random searches by ${measure} with filters find what core's arithmetic finds`, async (s) => {
    const vectors = spread(3, 120, 11), tags = ['a', 'b', 'c'], docs = Object.entries(vectors).map(([_id, v], i) => ({ _id, v, tag: tags[i % 3]! })), of = await near(s, measure, docs), r = random(12)
    for (let i = 0; i < 12; i++) {
      const query = Array.from({ length: 3 }, () => r.next() * 2 - 1), tag = r.pick(tags), n = 1 + r.below(50), where = r.next() < 0.5 ? { tag } : { tag, v: { $size: 3 } }
      const rank = (list: typeof docs): string[] => list.map(({ _id, v }) => ({ key: _id, offset: 0, distance: distance(measure, Float32Array.from(query), Float32Array.from(v)) })).sort(nearer).slice(0, n).map((hit) => hit.key)
      expect(await ids(of.docs().find(where as never).like(example(of, query), of.index, { n }))).toEqual(rank(docs.filter((d) => d.tag === tag)))
      const first = rank(docs)
      expect(await ids(of.docs().like(example(of, query), of.index, { n }).find(where as never))).toEqual(first.filter((id) => docs.find((d) => d._id === id)!.tag === tag))
    }
  }, measuring(measure))),
  rule('vectors.api.changes', 'updates, replacements, inserts and deletes are seen by the next search', async (s) => {
    const of = await near(s, 'l2', [{ _id: 'a', v: [0, 0, 0] }, { _id: 'b', v: [1, 0, 0] }, { _id: 'c', v: [2, 0, 0] }]), docs = of.docs(), nearest = (): Promise<string[]> => ids(docs.find().like(example(of, [0, 0, 0]), of.index, { n: 9 }))
    expect(await nearest()).toEqual(['a', 'b', 'c'])
    await docs.update({ _id: 'a' }, { $set: { v: [5, 0, 0] } })
    expect(await nearest()).toEqual(['b', 'c', 'a'])
    await docs.insert({ _id: 'd', v: [0.5, 0, 0] })
    await docs.delete({ _id: 'b' })
    expect(await nearest()).toEqual(['d', 'c', 'a'])
    await docs.replace('d', { v: [9, 0, 0] })
    await docs.update({ _id: 'c' }, { $unset: { v: true } })
    expect(await nearest()).toEqual(['a', 'd'])
    await docs.update({ _id: 'a' }, { $set: { tag: 'unrelated' } })
    expect(await nearest()).toEqual(['a', 'd'])
  }, measuring('l2')),
  rule('vectors.api.zero', 'a zero or NaN example is refused, and a zero or NaN vector of a row fails that row only', async (s) => {
    const of = await near(s, 'cosine', [{ _id: 'a', v: [1, 0, 0] }, { _id: 'zero', v: [0, 0, 0] }, { _id: 'nan', v: [Number.NaN, 1, 1] }])
    for (const v of [[0, 0, 0], [Number.NaN, 0, 1], [Infinity, 0, 0], [1, 2]]) expect(await codeOf(of.docs().find().like(example(of, v), of.index).toArray())).toBe('INVALID_ARGUMENT')
    expect(await ids(of.docs().find().like(example(of, [1, 1, 1]), of.index))).toEqual(['a'])
    expect((await of.db.verify()).listeners.find((l) => l.name === `l_${of.name}`)).toMatchObject({ rows: 3, failed: 2, missing: 0 })
    expect((await of.docs().insert({ _id: 'zero2', v: [0, 0, 0] })).outputs).toEqual({ done: 0, failed: 1, pending: 0 })
  }, measuring('cosine')),
  rule('vectors.api.empty', 'a search of an empty collection, and one that nothing matches, find nothing', async (s) => {
    const of = await near(s, 'l2', []), found = (find: Find<{ v?: Numbers }>): Promise<string[]> => ids(find.like(example(of, [1, 1, 1]), of.index) as AsyncIterable<{ _id: string }>)
    expect(await found(of.docs().find())).toEqual([])
    await of.docs().insert({ _id: 'a', v: [1, 1, 1] })
    expect([await found(of.docs().find({ tag: 'none' })), await found(of.docs().find({ _id: 'a' }))]).toEqual([[], ['a']])
  }, measuring('l2')),
  rule('vectors.api.page', 'hits can be sorted, skipped and limited', async (s) => {
    const of = await near(s, 'l2', Array.from({ length: 10 }, (_, i) => ({ _id: keyOf(i), v: [i, 0, 0], tag: 'cab'[i % 3]! }))), find = (): ReturnType<Find<{ v?: Numbers; tag?: string }>['like']> => of.docs().find().like(example(of, [0, 0, 0]), of.index, { n: 6 })
    expect([await ids(find().skip(2).limit(2)), await ids(find().sort({ tag: 1 })), await find().count()]).toEqual([[keyOf(2), keyOf(3)], [1, 4, 2, 5, 0, 3].map(keyOf), 6])
  }, measuring('l2')),
]
