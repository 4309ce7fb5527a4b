/** Exact nearest neighbours in this process: the default where the data database cannot search, and the measure of those that can. */
import type { Ctx, Datalayer, Hit, Key, Measure, Search, Value, VectorIndex, VectorSearch } from './contract.ts'
import { InlayError, quote } from './errors.ts'
import { Rows } from './kernel.ts'
import { compareStrings } from './value.ts'

/** 1 - cosine, negative dot, or Euclidean, in double precision. A zero vector is at cosine distance NaN: it has no direction. */
export function distance(measure: Measure, a: Float32Array, b: Float32Array): number {
  let dot = 0, aa = 0, bb = 0, squares = 0
  for (let i = 0; i < a.length; i++) {
    const x = a[i]!, y = b[i]!
    dot += x * y
    aa += x * x
    bb += y * y
    squares += (x - y) * (x - y)
  }
  return measure === 'l2' ? Math.sqrt(squares) : measure === 'dot' ? -dot : 1 - dot / Math.sqrt(aa * bb)
}

/** Nearest first; ties by key, then offset. */
export function nearer(a: Hit, b: Hit): number {
  return a.distance - b.distance || compareStrings(a.key, b.key) || a.offset - b.offset
}

/** Vectors of one index, dense in memory: row i is of `keys[i]` and `offsets[i]`. */
class Matrix {
  readonly #places = new Map<Key, Map<number, number>>()
  readonly #keys: Key[] = []
  readonly #offsets: number[] = []
  /** Lengths of the vectors. */
  readonly #norms: number[] = []
  #rows: Rows | undefined

  put(key: Key, offset: number, vector: Float32Array): void {
    const rows = this.#rows ??= new Rows(vector.length), places = this.#places.get(key) ?? new Map<number, number>(), there = places.get(offset), norm = lengthOf(vector)
    if (there !== undefined) {
      rows.set(there, vector)
      this.#norms[there] = norm
      return
    }
    this.#places.set(key, places.set(offset, rows.size))
    rows.push(vector)
    this.#keys.push(key)
    this.#offsets.push(offset)
    this.#norms.push(norm)
  }
  /** The last row takes the place of a removed one. */
  remove(key: Key): void {
    const rows = this.#rows
    for (const [offset] of this.#places.get(key) ?? []) {
      const row = this.#places.get(key)!.get(offset)!, last = rows!.size - 1
      if (row !== last) {
        rows!.set(row, rows!.row(last))
        this.#keys[row] = this.#keys[last]!
        this.#offsets[row] = this.#offsets[last]!
        this.#norms[row] = this.#norms[last]!
        this.#places.get(this.#keys[row]!)!.set(this.#offsets[row]!, row)
      }
      rows!.pop()
      this.#keys.pop()
      this.#offsets.pop()
      this.#norms.pop()
    }
    this.#places.delete(key)
  }

  /** Exact: whatever may be among the k nearest by the error of float32 sums is measured again in double precision. */
  search(measure: Measure, query: Float32Array, { k, within }: Search): readonly Hit[] {
    const rows = this.#rows
    if (k < 1 || rows === undefined || rows.size === 0) return []
    const chosen = within === undefined ? undefined : [...new Set(within)].flatMap((key) => [...this.#places.get(key)?.values() ?? []])
    const dots = chosen === undefined ? rows.dots(query) : rows.some(query, chosen), length = lengthOf(query), count = dots.length
    // Larger is nearer: the cosine times the length of the query, the product, or minus half of the squared distance.
    const near = new Float64Array(count)
    let longest = 0
    for (let i = 0; i < count; i++) {
      const norm = this.#norms[chosen === undefined ? i : chosen[i]!]!
      if (norm > longest) longest = norm
      near[i] = measure === 'dot' ? dots[i]! : measure === 'cosine' ? dots[i]! / norm : dots[i]! - norm * norm / 2
    }
    const error = rows.error * length * (measure === 'cosine' ? 1 : longest) + (measure === 'l2' ? longest * longest * 1e-15 : 0)
    // Where float32 overflows nothing is told, and all are measured.
    const least = kthLargest(near, k) - 2 * error, floor = Number.isFinite(least) ? least : -Infinity, hits: Hit[] = []
    for (let i = 0; i < count; i++) {
      if (near[i]! < floor) continue
      const row = chosen === undefined ? i : chosen[i]!, hit = { key: this.#keys[row]!, offset: this.#offsets[row]!, distance: distance(measure, query, rows.row(row)) }
      if (!Number.isNaN(hit.distance)) hits.push(hit)
    }
    return hits.sort(nearer).slice(0, k)
  }
}

/** The k-th largest of some numbers, NaN passed over; -Infinity where there are fewer. */
function kthLargest(values: Float64Array, k: number): number {
  // A heap of the k largest, the smallest of them first.
  const heap = new Float64Array(Math.min(k, values.length))
  let size = 0
  const sink = (i: number): void => {
    for (;;) {
      const left = 2 * i + 1, least = left + 1 < size && heap[left + 1]! < heap[left]! ? left + 1 : left
      if (left >= size || heap[i]! <= heap[least]!) return
      const value = heap[i]!
      heap[i] = heap[least]!
      heap[least] = value
      i = least
    }
  }
  for (const value of values) {
    if (Number.isNaN(value)) continue
    if (size < heap.length) {
      let i = size++
      heap[i] = value
      for (let up = (i - 1) >> 1; i > 0 && heap[up]! > heap[i]!; i = up, up = (i - 1) >> 1) {
        heap[i] = heap[up]!
        heap[up] = value
      }
    } else if (value > heap[0]!) {
      heap[0] = value
      sink(0)
    }
  }
  return size < k ? -Infinity : heap[0]!
}

function lengthOf(vector: Float32Array): number {
  let sum = 0
  for (const value of vector) sum += value * value
  return Math.sqrt(sum)
}

/** The exact index in memory, place `copy`. It is lost with the process, and fed anew. */
export function memoryVectors(): VectorSearch {
  const indexes = new Map<string, Matrix>(), epoch = crypto.randomUUID()
  const get = (id: string): Matrix => {
    const index = indexes.get(id)
    if (index === undefined) throw new InlayError('NOT_FOUND', `There is no vector index ${quote(id)} in memory. Create it first.`)
    return index
  }
  return {
    capabilities: { place: 'copy', measures: ['cosine', 'dot', 'l2'], dims: 65_536, within: 20_000, approximate: false, notes: ['Vectors are kept in this process and searched one by one.'] },
    async create(index) {
      if (!indexes.has(index.id)) indexes.set(index.id, new Matrix())
      return { epoch }
    },
    async drop(id) { indexes.delete(id) },
    async put(id, items) {
      const matrix = get(id)
      for (const { key, offset, vector } of items) matrix.put(key, offset, vector)
    },
    async remove(id, keys) {
      const matrix = get(id)
      for (const key of keys) matrix.remove(key)
    },
    search: async (index, search) => search.vectors.map((vector) => get(index.id).search(index.measure, vector, search)),
    async settled() {},
  }
}

const refreshMs = 1000

/**
 * Keeps copies of vectors in step with their slots: what this process settles or deletes is passed on at once, what others write is read again at
 * most every second, by the hashes of their inputs. A copy is a cache: hits are read again and scored anew, so it is never wrong, at worst late.
 */
export class Copies {
  readonly #vectors: VectorSearch
  readonly #fed = new Map<string, { readonly index: VectorIndex; readonly at: number; readonly epoch: string; readonly hashes: Map<Key, string>; feeding: Promise<void> | undefined }>()

  constructor(vectors: VectorSearch) { this.#vectors = vectors }

  /** A Datalayer that passes on what it settles and removes. */
  watch(data: Datalayer): Datalayer {
    const on = (test: (index: VectorIndex) => boolean): readonly VectorIndex[] => [...this.#fed.values()].map((f) => f.index).filter(test)
    return {
      ...data,
      write: async (collection, ops, ctx) => {
        const written = await data.write(collection, ops, ctx)
        const gone = ops.flatMap((op, i) => (op.kind === 'remove' && written[i]!.status === 'done' ? [op.key] : []))
        if (gone.length > 0) {
          for (const index of on((i) => i.slot.collection === collection)) {
            for (const key of gone) this.#fed.get(index.id)?.hashes.delete(key)
            await this.#vectors.remove(index.id, gone, ctx)
          }
        }
        return written
      },
      settle: async (slot, outcomes, ctx) => {
        const refused = new Set(await data.settle(slot, outcomes, ctx))
        const moved = outcomes.filter((o) => o.kind !== 'same' && !refused.has(o.key))
        for (const index of on((i) => i.slot.id === slot.id)) {
          await this.#vectors.remove(index.id, moved.map((o) => o.key), ctx)
          const hashes = this.#fed.get(index.id)?.hashes
          for (const o of moved) if (o.kind === 'values') hashes?.set(o.key, o.hash)
          else hashes?.delete(o.key)
          await this.#vectors.put(index.id, moved.flatMap((o) => (o.kind === 'values' ? itemsOf(o.key, o.values) : [])), ctx)
        }
        return [...refused]
      },
      prune: async (slot, keys, ctx) => {
        const pruned = await data.prune(slot, keys, ctx)
        if (pruned > 0) for (const index of on((i) => i.slot.id === slot.id)) await this.drop(index.id, ctx)
        return pruned
      },
      dropSlot: async (id, ctx) => {
        for (const index of on((i) => i.slot.id === id)) await this.drop(index.id, ctx)
        await data.dropSlot(id, ctx)
      },
    }
  }

  /** Feeds the copy where it is new, lost, or older than what other writers may have done. */
  async ensure(data: Datalayer, index: VectorIndex, ctx: Ctx): Promise<void> {
    const { epoch } = await this.#vectors.create(index, ctx)
    const there = this.#fed.get(index.id)
    if (there?.feeding !== undefined) {
      // Whoever began it may have been stopped; who waits was not.
      return there.feeding.catch((error: unknown) => {
        if (ctx.signal.aborted || !InlayError.is(error) || (error.code !== 'ABORTED' && error.code !== 'TIMEOUT')) throw error
        return this.ensure(data, index, ctx)
      })
    }
    if (there !== undefined && there.epoch === epoch && Date.now() - there.at < refreshMs) return
    // Registered before it reads, so that what is settled meanwhile is passed on too.
    const again = there?.epoch === epoch, hashes = again ? there.hashes : new Map<Key, string>()
    const feeding = (again ? this.#refresh(data, index, hashes, ctx) : this.#feed(data, index, hashes, ctx)).finally(() => { const fed = this.#fed.get(index.id); if (fed !== undefined) fed.feeding = undefined })
    this.#fed.set(index.id, { index, at: Date.now(), epoch, hashes, feeding })
    await feeding.catch((error: unknown) => {
      this.#fed.delete(index.id)
      throw error
    })
  }

  /** All vectors that there are. Hashes are read before, so that what changes meanwhile is read again the next time. */
  async #feed(data: Datalayer, index: VectorIndex, hashes: Map<Key, string>, ctx: Ctx): Promise<void> {
    const { slot } = index, read = new Map<Key, string>()
    for await (const rows of data.rows({ ...slot, fields: [] }, 'all', 'all', ctx)) for (const { key, mark } of rows) if (mark !== undefined) read.set(key, mark.hash)
    for await (const rows of data.find({ from: slot.collection, fields: [], slots: [slot.id] }, ctx)) {
      const items = rows.flatMap((row) => itemsOf(row.key, row.outputs?.[slot.id] ?? []))
      await this.#vectors.put(index.id, items, ctx)
      for (const { key } of items) hashes.set(key, read.get(key) ?? '')
    }
    await this.#vectors.settled(index.id, ctx)
  }

  /** What changed and what is gone, by keys and hashes: vectors are read only where they are others. */
  async #refresh(data: Datalayer, index: VectorIndex, hashes: Map<Key, string>, ctx: Ctx): Promise<void> {
    const { slot } = index, gone = new Set(hashes.keys())
    for await (const rows of data.find({ from: slot.collection, fields: [] }, ctx)) for (const { key } of rows) gone.delete(key)
    for await (const rows of data.rows({ ...slot, fields: [] }, 'all', 'all', ctx)) {
      const changed = new Map(rows.flatMap(({ key, mark }) => (mark === undefined || mark.hash === hashes.get(key) ? [] : [[key, mark.hash] as const])))
      if (changed.size === 0) continue
      const kept = new Set<Key>()
      for await (const found of data.find({ from: slot.collection, where: { kind: 'keys', keys: [...changed.keys()] }, fields: [], slots: [slot.id] }, ctx)) {
        const items = found.flatMap((row) => itemsOf(row.key, row.outputs?.[slot.id] ?? []))
        await this.#vectors.put(index.id, items, ctx)
        for (const { key } of items) kept.add(key)
      }
      for (const [key, hash] of changed) {
        if (!kept.has(key) && hashes.has(key)) gone.add(key)
        hashes.set(key, hash)
      }
    }
    await this.#vectors.remove(index.id, [...gone], ctx)
    for (const key of gone) hashes.delete(key)
    await this.#vectors.settled(index.id, ctx)
  }

  async drop(id: string, ctx: Ctx): Promise<void> {
    this.#fed.delete(id)
    await this.#vectors.drop(id, ctx)
  }
}

function itemsOf(key: Key, values: readonly Value[]): readonly { readonly key: Key; readonly offset: number; readonly vector: Float32Array }[] {
  return values.flatMap((vector, offset) => (vector instanceof Float32Array ? [{ key, offset, vector }] : []))
}
