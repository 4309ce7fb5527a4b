/**
 * The meaning of sorts (query-rules 6). A row with arrays has several key tuples, one for each way through its arrays; the smallest of them by the
 * whole order, directions included, is its sort key.
 */
import type { Doc, Key, Value } from './contract.ts'
import { InlayError, quote } from './errors.ts'
import { isNumeric, isObject, parsePath } from './match.ts'
import { compare, compareStrings, has, isDoc } from './value.ts'

export type Order = readonly { readonly path: readonly string[]; readonly descending: boolean }[]
/** One value for each path of the order. `undefined` marks an empty array, which comes before null. */
export type SortKey = readonly (Value | undefined)[]

const maxPaths = 32

/** Parses a user's `{ path: 1 | -1 }`, the first path counting most. */
export function parseSort(by: unknown): Order {
  if (!isDoc(by)) throw new InlayError('INVALID_ARGUMENT', `A sort is given as ${quote(by)}; an object is expected, such as { field: 1 } or { field: -1 }.`)
  const entries = Object.entries<unknown>(by)
  if (entries.length > maxPaths) throw new InlayError('INVALID_ARGUMENT', `The sort has ${entries.length} paths; at most ${maxPaths} are possible.`)
  return entries.map(([name, direction]) => {
    const path = parsePath(name, 'sort')
    if (path.some(isNumeric)) throw new InlayError('INVALID_ARGUMENT', `The path ${quote(name)} of the sort has a number as a part, which means a position in an array or not, depending on the data. Sort by a named field.`, { details: { path: name } })
    if (direction !== 1 && direction !== -1) throw new InlayError('INVALID_ARGUMENT', `The sort by ${quote(name)} has the direction ${quote(direction)}; 1 for ascending or -1 for descending is expected.`, { details: { path: name } })
    return { path, descending: direction === -1 }
  })
}

/** The key of a user's row. A row in which two paths meet different arrays has none: `INVALID_ARGUMENT`. */
export function sortKey(doc: Doc, order: Order): SortKey {
  let smallest: SortKey | undefined
  const pending = order.map(({ path }, n) => ({ n, path, from: 0 }))
  for (const tuple of tuples(doc, pending, [], () => parallel(doc, order))) if (smallest === undefined || compareKeys(tuple, smallest, order) < 0) smallest = tuple
  return smallest!
}

/** Orders sort keys; 0 where only the row's `_id` can decide. */
export function compareKeys(a: SortKey, b: SortKey, order: Order): number {
  for (let n = 0; n < order.length; n++) {
    const c = compare(a[n], b[n])
    if (c !== 0) return order[n]!.descending ? -c : c
  }
  return 0
}

interface Pending { readonly n: number; readonly path: readonly string[]; readonly from: number }

/** Walks all paths together to the first array and branches there: the paths that met it take or enter one element at a time. */
function* tuples(doc: Doc, pending: readonly Pending[], found: SortKey, fail: () => never): Generator<SortKey> {
  let array: readonly Value[] | undefined
  const values = [...found], open: Pending[] = []
  for (const { n, path, from } of pending) {
    let value: Value = doc, i = from
    while (i < path.length && isObject(value)) {
      value = has(value, path[i]!) ? value[path[i]!]! : null
      i++
    }
    if (!Array.isArray(value)) values[n] = i < path.length ? null : value
    else if (array !== undefined && array !== value) fail()
    else {
      array = value
      open.push({ n, path, from: i })
    }
  }
  if (array === undefined) {
    yield values
    return
  }
  for (const element of array.length === 0 ? [undefined] : array) {
    const next = [...values], rest: Pending[] = []
    for (const p of open) if (p.from === p.path.length) next[p.n] = element; else rest.push(p)
    yield* tuples(isObject(element) ? element : {}, rest, next, fail)
  }
}

function parallel(doc: Doc, order: Order): never {
  const paths = order.map(({ path }) => path.join('.')), id = doc['_id']
  throw new InlayError('INVALID_ARGUMENT', `The row ${quote(id)} holds different arrays under the paths of the sort (${paths.map(quote).join(', ')}), so it has no one place. Sort by fewer paths, or leave such rows out.`, { details: { id, paths } })
}

interface Kept<T> { readonly key: SortKey; readonly id: Key; readonly item: T }

/** Keeps the first `n` items of a stream in an order, then by key; without `n`, all. It holds at most about twice as many. */
export class Top<T> {
  readonly #order: Order
  readonly #n: number
  #kept: Kept<T>[] = []
  /** The last of the first `n`, once there are that many: what does not come before it is not kept. */
  #last: Kept<T> | undefined

  constructor(order: Order, n: number | undefined) {
    this.#order = order
    this.#n = n ?? Infinity
  }

  /** `doc` is the row as the paths of the order see it. */
  add(doc: Doc, id: Key, item: T): void {
    const kept = { key: sortKey(doc, this.#order), id, item }
    if (this.#last !== undefined && this.#compare(kept, this.#last) >= 0) return
    this.#kept.push(kept)
    if (this.#kept.length >= 2 * this.#n + 100) this.#cut()
  }

  /** The first `n`, in order. */
  rows(): readonly T[] {
    this.#cut()
    return this.#kept.map(({ item }) => item)
  }

  #cut(): void {
    this.#kept.sort((a, b) => this.#compare(a, b))
    if (this.#kept.length < this.#n) return
    this.#kept.length = this.#n
    this.#last = this.#kept[this.#n - 1]
  }
  #compare(a: Kept<T>, b: Kept<T>): number {
    return compareKeys(a.key, b.key, this.#order) || compareStrings(a.id, b.id)
  }
}
