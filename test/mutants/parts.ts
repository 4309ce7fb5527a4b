/** Searches and artifact stores that are wrong. */
import type { ArtifactStore, Hit, VectorSearch } from '../../core/contract.ts'
import { distance } from '../../core/vectors.ts'
import { all, live } from '../conformance/subject.ts'
import { mutant, type Mutant, type Replaced } from './mutant.ts'

const hits = (change: (hits: readonly Hit[], search: Parameters<VectorSearch['search']>[1], index: Parameters<VectorSearch['search']>[0]) => readonly Hit[]): Replaced =>
  ({ vectors: (next) => ({ search: async (index, search, ctx) => (await next.search(index, search, ctx)).map((list) => change(list, search, index)) }) })
const asking = (change: (search: Parameters<VectorSearch['search']>[1]) => Parameters<VectorSearch['search']>[1]): Replaced => ({ vectors: (next) => ({ search: (index, search, ctx) => next.search(index, change(search), ctx) }) })
const byDistance = (list: readonly Hit[], ties: (a: Hit, b: Hit) => number): readonly Hit[] => [...list].sort((a, b) => a.distance - b.distance || ties(a, b))
const whole = async (next: ArtifactStore, id: string): Promise<Buffer> => {
  const parts: Uint8Array[] = []
  for await (const part of next.read(id, { offset: 0 }, live)) parts.push(part)
  return Buffer.concat(parts)
}
async function* once(bytes: Uint8Array): AsyncIterable<Uint8Array> {
  yield bytes
}
const there = async (next: ArtifactStore, id: string): Promise<boolean> => (await all(next.list(live))).some((a) => a.id === id)

export const parts: readonly Mutant[] = [
  mutant('ties are in no order', 'vectors.l2.ties', hits((list) => byDistance(list, (a, b) => (a.key < b.key ? 1 : -1)))),
  mutant('ties are ordered by UTF-16 units', 'vectors.l2.ties', hits((list) => byDistance(list, (a, b) => (a.key < b.key ? -1 : 1)))),
  mutant('which of the ties are among the first k is chance', 'vectors.cosine.ties', { vectors: (next) => ({ search: async (index, search, ctx) => (await next.search(index, { ...search, k: search.k + 1 }, ctx)).map((list) => (list.length > search.k ? [...list.slice(0, search.k - 1), ...list.slice(search.k)] : list)) }) }),
  mutant('the filter comes after the nearest k, so fewer are found', 'vectors.search.filter', { vectors: (next) => ({ search: async (index, { within, ...search }, ctx) => (await next.search(index, search, ctx)).map((list) => list.filter((hit) => within?.includes(hit.key) ?? true)) }) }),
  mutant('the filter is ignored', 'vectors.search.filter', asking(({ vectors, k, exact }) => ({ vectors, k, exact }))),
  mutant('an empty filter means none', 'vectors.search.filter', asking(({ within, ...search }) => (within === undefined || within.length === 0 ? search : { ...search, within }))),
  mutant('one hit too few', 'vectors.search.k', hits((list, { k }) => list.slice(0, Math.max(1, k - 1)))),
  mutant('at most 20 hits, whatever is asked', 'vectors.search.k', hits((list) => list.slice(0, 20))),
  mutant('a removed vector is still found', 'vectors.change.remove', { vectors: () => ({ async remove() {} }) }),
  mutant('a changed vector keeps its old place', 'vectors.change.update', { vectors: (next) => { const seen = new Set<string>(); return { put: (id, items, ctx) => next.put(id, items.filter((item) => { const key = `${id}/${item.key}/${item.offset}`, fresh = !seen.has(key); seen.add(key); return fresh }), ctx) } } }),
  mutant('the distance of dot is positive', 'vectors.dot.sign', hits((list, _, { measure }) => (measure === 'dot' ? list.map((hit) => ({ ...hit, distance: -hit.distance })) : list))),
  mutant('the distance of l2 is squared', 'vectors.l2.sign', hits((list, _, { measure }) => (measure === 'l2' ? list.map((hit) => ({ ...hit, distance: hit.distance ** 2 })) : list))),
  mutant('cosine gives the similarity', 'vectors.cosine.sign', hits((list, _, { measure }) => (measure === 'cosine' ? list.map((hit) => ({ ...hit, distance: 1 - hit.distance })) : list))),
  mutant('vectors are kept with half precision', 'vectors.l2.3-dims', { vectors: (next) => ({ put: (id, items, ctx) => next.put(id, items.map((item) => ({ ...item, vector: item.vector.map((x) => Math.round(x * 1000) / 1000) })), ctx) }) }),
  mutant('the farthest come first', 'vectors.dot.sign', hits((list) => [...list].reverse())),
  mutant('several queries are all answered like the first', 'vectors.search.several', { vectors: (next) => ({ search: async (index, search, ctx) => { const [first] = await next.search(index, search, ctx); return search.vectors.map(() => first!) } }) }),
  mutant('all indexes share their vectors', 'vectors.create.apart', { vectors: (next) => { const one = { id: 'one' }; return { create: (index, ctx) => next.create({ ...index, ...one }, ctx), put: (_, items, ctx) => next.put('one', items, ctx), search: (index, search, ctx) => next.search({ ...index, ...one }, search, ctx), settled: async () => {} } } }),
  mutant('creating an index again empties it', 'vectors.create.idempotent', { vectors: (next) => ({ async create(index, ctx) { await next.drop(index.id, ctx); return next.create(index, ctx) } }) }),
  mutant('a dropped copy is still there', 'vectors.copy.dropped', { vectors: () => ({ async drop() {} }) }),
  mutant('only the first vector of a row is kept', 'vectors.copy.offsets', { vectors: (next) => ({ put: (id, items, ctx) => next.put(id, items.filter((item) => item.offset === 0), ctx) }) }),
  mutant('distances are of the normalised vectors', 'vectors.l2.sign', hits((list, { vectors: [query] }, { measure }) => (measure === 'l2' ? list.map((hit) => ({ ...hit, distance: hit.distance / distance('l2', query!, new Float32Array(query!.length)) })) : list))),
  mutant('a vector that was put is kept', 'aliasing.given.vector', { vectors: (next) => { const put = new Map<string, Parameters<VectorSearch['put']>[1]>(); return { async put(id, items) { put.set(id, items) }, async search(index, search, ctx) { await next.put(index.id, put.get(index.id) ?? [], ctx); return next.search(index, search, ctx) } } } }),
  mutant('the API finds rows by vectors they had', 'vectors.api.changes', { vectors: () => ({ async put() {}, async remove() {} }) }),

  mutant('a body that throws leaves its beginning', 'artifacts.write.throws', { artifacts: (next) => ({ async write(id, body, ctx) { const taken: Uint8Array[] = []; try { for await (const part of body) taken.push(part.slice()) } finally { await next.write(id, once(Buffer.concat(taken)), ctx) } } }) }),
  mutant('a body that throws removes what was there', 'artifacts.write.throws-again', { artifacts: (next) => ({ async write(id, body, ctx) { await next.remove([id], ctx); await next.write(id, body, ctx) } }) }, { throws: /There is no artifact/ }),
  mutant('the last part is lost', 'artifacts.hold.16-kb', { artifacts: (next) => ({ async write(id, body, ctx) { const taken: Uint8Array[] = []; for await (const part of body) taken.push(part.slice()); await next.write(id, once(Buffer.concat(taken.length > 1 ? taken.slice(0, -1) : taken)), ctx) } }) }),
  mutant('an empty artifact is not written', 'artifacts.hold.0-bytes', { artifacts: (next) => ({ async write(id, body, ctx) { const taken: Uint8Array[] = []; for await (const part of body) taken.push(part.slice()); if (taken.length > 0) await next.write(id, once(Buffer.concat(taken)), ctx) } }) }, { throws: /There is no artifact/ }),
  mutant('artifacts end at 4 MB', 'artifacts.hold.5-mb', { artifacts: (next) => ({ async *read(id, range) { const bytes = (await whole(next, id)).subarray(0, 4 << 20); yield bytes.subarray(range.offset, range.length === undefined ? undefined : range.offset + range.length) } }) }),
  mutant('ranges are off by one', 'artifacts.range.every', { artifacts: (next) => ({ read: (id, { offset, length }, ctx) => next.read(id, { offset, ...(length === undefined ? {} : { length: length + 1 }) }, ctx) }) }),
  mutant('ranges are ignored', 'artifacts.range.every', { artifacts: (next) => ({ read: (id, _, ctx) => next.read(id, { offset: 0 }, ctx) }) }),
  mutant('an unknown artifact is empty', 'artifacts.read.unknown', { artifacts: (next) => ({ async *read(id, range, ctx) { if (await there(next, id)) yield* next.read(id, range, ctx) } }) }),
  mutant('readMany throws on an unknown id', 'artifacts.many.mixed', { artifacts: (next) => ({ async *readMany(ids) { for (const id of ids) yield { id, bytes: await whole(next, id) } } }) }, { throws: /There is no artifact/ }),
  mutant('readMany gives one artifact for all', 'artifacts.many.mixed', { artifacts: (next) => ({ async *readMany(ids, ctx) { let first: Uint8Array | undefined; for await (const { id, bytes } of next.readMany(ids, ctx)) { first ??= bytes; yield { id, bytes: first } } } }) }),
  mutant('list forgets one', 'artifacts.list.all', { artifacts: (next) => ({ async *list(ctx) { yield (await all(next.list(ctx))).slice(0, -1) } }) }),
  mutant('list tells no size', 'artifacts.list.all', { artifacts: (next) => ({ async *list(ctx) { yield (await all(next.list(ctx))).map((a) => ({ ...a, bytes: 0 })) } }) }),
  mutant('writing again does not renew the age', 'artifacts.write.again', { artifacts: (next) => ({ async write(id, body, ctx) { if (!await there(next, id)) await next.write(id, body, ctx) } }) }),
  mutant('an artifact written at once by several is there several times', 'artifacts.write.at-once', { artifacts: (next) => { const written: string[] = []; return { async write(id, body, ctx) { written.push(id); await next.write(id, body, ctx) }, async *list(ctx) { const found = await all(next.list(ctx)); yield written.map((id) => found.find((a) => a.id === id)!) } } } }),
  mutant('remove removes nothing', 'artifacts.remove.some', { artifacts: () => ({ async remove() {} }) }),
  mutant('remove removes all', 'artifacts.remove.some', { artifacts: (next) => ({ async remove(_, ctx) { await next.remove((await all(next.list(ctx))).map((a) => a.id), ctx) } }) }, { throws: /There is no artifact/ }),
  mutant('parts that were given are kept until the end', 'aliasing.given.artifact', { artifacts: (next) => ({ async write(id, body, ctx) { const taken: Uint8Array[] = []; for await (const part of body) taken.push(part); await next.write(id, once(Buffer.concat(taken)), ctx) } }) }),
  mutant('read gives the stored bytes themselves', 'aliasing.returned.artifacts', { artifacts: (next) => { const cache = new Map<string, Buffer>(); return { async *read(id) { const bytes = cache.get(id) ?? await whole(next, id); cache.set(id, bytes); yield bytes } } } }),
]
