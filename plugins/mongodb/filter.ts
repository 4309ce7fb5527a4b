/** Filters of the contract in MongoDB's own language, whose answers core/match.ts is written after. */
import type { Filter, Key, Path } from '../../core/contract.ts'
import { evaluate } from '../../core/match.ts'

type Where = Readonly<Record<string, unknown>>

/** What a filter is compiled over. */
export interface Target {
  /** A stored path. */
  path(path: Path): string
  /** The documents with these keys. */
  keyIn(keys: readonly Key[]): Where
  /** The documents whose key, a text, this filter matches. */
  onKey(filter: Leaf): Where
}
export type Leaf = Exclude<Filter, { readonly kind: 'and' | 'or' | 'not' | 'keys' }>

export const everything: Where = {}
export const nothing: Where = { _id: { $in: [] } }

export function compileFilter(filter: Filter, target: Target): Where {
  switch (filter.kind) {
    case 'and': return filter.of.length === 0 ? everything : { $and: filter.of.map((f) => compileFilter(f, target)) }
    case 'or': return filter.of.length === 0 ? nothing : { $or: filter.of.map((f) => compileFilter(f, target)) }
    case 'not': return { $nor: [compileFilter(filter.of, target)] }
    case 'keys': return target.keyIn(filter.keys)
    default: return filter.path.slot === undefined && filter.path.at[0] === '_id' ? onId(filter, target) : onPath(target.path(filter.path), filter)
  }
}

/** A key is text, always there; no path enters it, and what is no text is neither equal nor ordered to it. */
function onId(filter: Leaf, target: Target): Where {
  if (filter.path.at.length > 1 || filter.kind === 'null' || filter.kind === 'exists') return evaluate(filter, '', {}) ? everything : nothing
  if (filter.kind === 'in') return target.keyIn(filter.values.filter((v) => typeof v === 'string'))
  if (typeof filter.value !== 'string') return nothing
  return filter.kind === 'eq' ? target.keyIn([filter.value]) : target.onKey(filter)
}

export function onPath(path: string, filter: Leaf): Where {
  switch (filter.kind) {
    case 'null': return { [path]: { $eq: null } }
    case 'exists': return { [path]: { $exists: filter.is } }
    case 'prefix': return { [path]: { $regex: `^${literal(filter.value)}` } }
    case 'in': return { [path]: { $in: filter.values } }
    default: return { [path]: { [`$${filter.kind}`]: filter.value } }
  }
}

/** A pattern for this text and no other. A pattern cannot hold NUL itself. */
export function literal(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|#\s\-/]/g, (c) => `\\x{${c.charCodeAt(0).toString(16)}}`).replaceAll('\0', '\\x00')
}

/** Whether a partial index can have this condition. */
export function indexable(filter: Filter): boolean {
  switch (filter.kind) {
    case 'and': case 'or': return filter.of.length > 0 && filter.of.every(indexable)
    case 'exists': return filter.is && filter.path.slot === undefined && filter.path.at[0] !== '_id'
    case 'eq': case 'in': case 'lt': case 'lte': case 'gt': case 'gte': return filter.path.slot === undefined && filter.path.at[0] !== '_id'
    default: return false
  }
}
