/** Seeded randomness, and random documents and filters for differential tests. */
import type { DataCapabilities, Doc, Filter, Path, Scalar, Value } from '../../core/contract.ts'

export interface Random {
  /** From 0 to 1. */
  next(): number
  /** A whole number below `n`. */
  below(n: number): number
  pick<T>(list: readonly T[]): T
}

/** mulberry32: the same numbers for the same seed everywhere. */
export function random(seed: number): Random {
  let state = seed >>> 0
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
  const below = (n: number): number => Math.floor(next() * n)
  return { next, below, pick: (list) => list[below(list.length)]! }
}

/** Few values of each kind, so that random documents and filters meet. */
export const scalars: readonly Scalar[] = [
  null, true, false, 0, -0, 1, 1n, 1.5, -1, 2, 10, 2 ** 53, 2n ** 53n + 1n, 2n ** 63n - 1n, -(2n ** 63n), 1e21, 1e-7, 5e-324, Number.NaN, Infinity, -Infinity,
  '', 'a', 'A', 'ab', 'abc', 'b', 'a b', '1', 'true', 'null', 'é', 'e\u0301', 'z', '\uffff', '😀', '%', '_', 'a%', 'a_', 'a\\', '"', `'`, '$', '^', '.',
  new Date(0), new Date(1), new Date(-1), new Date(1_700_000_000_123), new Uint8Array(), Uint8Array.from([1]), Uint8Array.from([1, 2]), Uint8Array.from([255]),
]
export const operands: readonly NonNullable<Scalar>[] = scalars.filter((s) => s !== null)
const fields = ['a', 'b', 'c']
const others: readonly Value[] = [[], {}, [[]], [{}], [null], Int8Array.from([1]), Float32Array.from([1, 2])]

export function randomValue(r: Random, depth: number): Value {
  const p = r.next()
  if (depth === 0 || p < 0.55) return r.pick(scalars)
  if (p < 0.62) return r.pick(others)
  return p < 0.82 ? Array.from({ length: r.below(4) }, () => randomValue(r, depth - 1)) : randomDoc(r, depth - 1)
}
export function randomDoc(r: Random, depth = 3): Doc {
  return Object.fromEntries(fields.filter(() => r.next() < 0.7).map((field) => [field, randomValue(r, depth)]))
}
export function randomPath(r: Random): readonly string[] {
  return Array.from({ length: 1 + r.below(3) }, () => r.pick(fields))
}

/** A filter of the contract, of kinds that the plugin evaluates, as core may give it. */
export function randomFilter(r: Random, { filters }: Pick<DataCapabilities, 'filters'>, keys: readonly string[], depth = 3): Filter {
  const compound = filters.filter((k) => k === 'and' || k === 'or' || k === 'not')
  const kind = depth > 0 && compound.length > 0 && r.next() < 0.4 ? r.pick(compound) : r.pick(filters.filter((k) => !(compound as readonly string[]).includes(k)))
  const path: Path = { at: randomPath(r) }
  const inner = (): Filter => randomFilter(r, { filters }, keys, depth - 1)
  switch (kind) {
    case 'and': case 'or': return { kind, of: Array.from({ length: 2 + r.below(2) }, inner) }
    case 'not': return { kind, of: inner() }
    case 'eq': return { kind, path, value: r.pick(operands) }
    case 'in': return { kind, path, values: Array.from({ length: 2 + r.below(3) }, () => r.pick(operands)) }
    case 'null': return { kind, path }
    case 'exists': return { kind, path, is: r.next() < 0.5 }
    case 'prefix': return { kind, path, value: r.pick(['a', 'A', 'é', 'a%', '_', '\\', '😀', 'ab', '.', '"']) }
    case 'keys': return { kind, keys: Array.from({ length: r.below(4) }, () => r.pick(keys)) }
    default: return { kind, path: r.next() < 0.1 ? { at: ['_id'] } : path, value: r.pick(operands.filter((o) => !(o instanceof Uint8Array))) }
  }
}

/** A filter as a user writes it, with operators that only core knows among them. */
export function randomWhere(r: Random, keys: readonly string[], depth = 2): Record<string, unknown> {
  const p = r.next()
  if (depth > 0 && p < 0.25) return { [r.pick(['$and', '$or', '$nor'])]: Array.from({ length: 1 + r.below(3) }, () => randomWhere(r, keys, depth - 1)) }
  if (p < 0.3) return { _id: { [r.pick(['$in', '$nin'])]: [r.pick(keys), r.pick(keys)] } }
  return Object.fromEntries(Array.from({ length: 1 + r.below(2) }, () => [randomPath(r).join('.'), randomTest(r, depth)]))
}
function randomTest(r: Random, depth: number): unknown {
  const ordered = (): Scalar => r.pick(operands.filter((o) => !(o instanceof Uint8Array)))
  switch (r.below(14)) {
    case 0: case 1: return r.pick(scalars)
    case 2: return { $ne: r.pick(scalars) }
    case 3: return { $in: [r.pick(scalars), r.pick(scalars)] }
    case 4: return { $nin: [r.pick(scalars), r.pick(scalars)] }
    case 5: return { $gt: ordered() }
    case 6: return { $gte: ordered(), $lt: ordered() }
    case 7: return { $lte: ordered() }
    case 8: return { $exists: r.next() < 0.5 }
    case 9: return depth > 0 ? { $not: randomOperators(r, depth) } : { $exists: true }
    case 10: return { $regex: r.pick(['^a', '^A', '^ab', '^é', '^_', '^%']) }
    case 11: return { $size: r.below(3) }
    case 12: return { $type: r.pick(['number', 'string', 'array', 'object', 'null', 'date', 'bool', 'binData']) }
    default: return r.next() < 0.5 ? { $all: [r.pick(scalars), r.pick(scalars)] } : { $elemMatch: r.next() < 0.5 ? { $gte: ordered() } : { a: r.pick(scalars) } }
  }
}
function randomOperators(r: Random, depth: number): unknown {
  const test = randomTest(r, depth - 1)
  return typeof test === 'object' && test !== null && Object.keys(test)[0]?.startsWith('$') === true ? test : { $eq: test }
}
