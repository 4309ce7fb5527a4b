/**
 * Filters of the contract as SQL, exactly as core/match.ts evaluates them. Over JSON a path opens one level of arrays at each step, which DuckDB's own paths do
 * not; so each step is an expression of its own. A column of a type of the database is compared as such, so that it need not become JSON first.
 */
import type { Filter, Path, Scalar } from '../../core/contract.ts'
import { base64Of, tags } from '../../core/encoding.ts'
import { contentKey, isBytes, tagMark } from '../../core/value.ts'
import { field, literal, type Param } from './sql.ts'

/** What a native column holds. `integer`: whole numbers of up to 64 bits; `number`: what fits a double. */
export type Native = 'integer' | 'number' | 'string' | 'boolean' | 'timestamp' | 'timestamptz' | 'bytes'
/** What a path begins with: SQL of a JSON that is null where there is nothing, and of a column where there is one. */
export interface Start { readonly json: string; readonly native?: { readonly type: Native; readonly sql: string; readonly float?: boolean } }
/** What a filter is compiled over. */
export interface Target {
  /** The row's key is one of these. */
  keys(keys: readonly string[]): string
  /** SQL text of the row's key. */
  readonly key: string
  /** What the first names of a path lead to, undefined where no row has it, and the others. */
  start(path: Path): { readonly start: Start | undefined; readonly at: readonly string[] }
  param(value: Param): string
}
type Leaf = Exclude<Filter, { readonly kind: 'and' | 'or' | 'not' | 'keys' }>
/** A condition on SQL of a JSON that may be null. */
type Test = (json: string) => string
type Order = 'eq' | 'lt' | 'lte' | 'gt' | 'gte'

/** Beyond 64 bits nothing is stored as a whole number. */
const limit = 2 ** 64
const signs: Readonly<Record<Order, string>> = { eq: '=', lt: '<', lte: '<=', gt: '>', gte: '>=' }

/** The condition, for a WHERE, to which null is false. Inside of a negation it is made so; elsewhere that would keep it from the scan of a column. */
export function compileFilter(filter: Filter, target: Target, negated: boolean = false): string {
  switch (filter.kind) {
    case 'and': case 'or': return filter.of.length === 0 ? String(filter.kind === 'and') : `(${filter.of.map((f) => compileFilter(f, target, negated)).join(` ${filter.kind} `)})`
    case 'not': return `(not ${compileFilter(filter.of, target, true)})`
    case 'keys': return negated ? `coalesce(${keyIn(filter.keys, target)}, false)` : keyIn(filter.keys, target)
    default: {
      const test = filter.path.slot === undefined && filter.path.at[0] === '_id' ? onKey(filter, target) : onPath(filter, target)
      return negated ? `coalesce(${test}, false)` : test
    }
  }
}

function keyIn(keys: readonly Scalar[], target: Target): string {
  const texts = keys.filter((k) => typeof k === 'string')
  return texts.length === 0 ? 'false' : target.keys(texts)
}

/** A key is text, always there; anything else never equals it and is not ordered against it. */
function onKey(filter: Leaf, target: Target): string {
  switch (filter.kind) {
    case 'null': return 'false'
    case 'exists': return String(filter.is)
    case 'prefix': return `starts_with(${target.key}, ${target.param(filter.value)})`
    case 'in': return keyIn(filter.values, target)
    default: return typeof filter.value === 'string' ? `${target.key} ${signs[filter.kind]} ${target.param(filter.value)}` : 'false'
  }
}

function onPath(filter: Leaf, target: Target): string {
  const { start, at } = target.start(filter.path)
  if (start === undefined) return String(filter.kind === 'null' || (filter.kind === 'exists' && !filter.is))
  if (at.length === 0 && start.native !== undefined) return `(${onColumn(filter, start.native)})`
  switch (filter.kind) {
    case 'null': return isNull(start.json, at)
    case 'exists': return `${filter.is ? '' : '(not '}${some(start.json, at, (v) => `${v} is not null`, false)}${filter.is ? '' : ')'}`
    case 'prefix': return some(start.json, at, (v) => `json_type(${v}) = 'VARCHAR' and starts_with(${text(v)}, ${literal(filter.value)})`)
    case 'in': return filter.values.length === 0 ? 'false' : some(start.json, at, isIn(filter.values))
    default: return some(start.json, at, compared(filter.kind, filter.value))
  }
}

// Over JSON.

const text = (v: string): string => `json_extract_string(${v}, '$')`
const elements = (v: string): string => `json_extract(${v}, '$[*]')`
/** True if a list has an element of that kind; the name tells nested lambdas apart. */
const any = (list: string, depth: number, test: Test): string => `coalesce(len(list_filter(${list}, lambda e${depth}: coalesce(${test(`e${depth}`)}, false))) > 0, false)`

/** Some element of the path passes; with `opens`, an array at its end gives its elements too. */
function some(v: string, [name, ...rest]: readonly string[], test: Test, opens: boolean = true, depth: number = 0): string {
  if (name === undefined) return opens ? `(coalesce(${test(v)}, false) or (coalesce(json_type(${v}) = 'ARRAY', false) and ${any(elements(v), depth, test)}))` : `coalesce(${test(v)}, false)`
  return any(objectsOf(v), depth, (e) => `json_type(${e}) = 'OBJECT' and ${some(field(e, name), rest, test, opens, depth + 1)}`)
}
/** The value itself, or the elements of an array. */
function objectsOf(v: string): string {
  return `case when json_type(${v}) = 'ARRAY' then ${elements(v)} else [${v}] end`
}

/** Some branch of the path is null or not there. A value in its way is "not there", but elements of an array that are no objects are nothing at all. */
function isNull(v: string, [name, ...rest]: readonly string[], depth: number = 0): string {
  if (name === undefined) return `(coalesce(json_type(${v}) = 'NULL', true) or (json_type(${v}) = 'ARRAY' and ${any(elements(v), depth, (e) => `json_type(${e}) = 'NULL'`)}))`
  return `(coalesce(json_type(${v}) <> 'ARRAY' and not ${isObject(v)}, true) or ${any(objectsOf(v), depth, (e) => `${isObject(e)} and ${isNull(field(e, name), rest, depth + 1)}`)})`
}
/** An object, and neither a tagged value nor a reference to content. */
function isObject(v: string): string {
  return `(json_type(${v}) = 'OBJECT' and not coalesce(starts_with(json_keys(${v})[1], ${literal(tagMark)}), false) and ${field(v, contentKey)} is null)`
}

function isIn(values: readonly NonNullable<Scalar>[]): Test {
  const texts = values.filter((v) => typeof v === 'string').map(literal), numbers = values.filter((v) => typeof v === 'number' && !Number.isNaN(v)) as readonly number[]
  const wholes = numbers.filter((n) => Number.isInteger(n) && n >= -limit && n < limit), others = values.filter((v) => typeof v !== 'string' && !numbers.includes(v as number)).map((v) => compared('eq', v))
  // Many of a kind are one list: a condition for each would be read from the JSON for each.
  return (v) => [
    ...(texts.length === 0 ? [] : [`(json_type(${v}) = 'VARCHAR' and ${text(v)} in (${texts.join(', ')}))`]),
    ...(numbers.length === 0 ? [] : [`(json_type(${v}) = 'DOUBLE' and try_cast(${v} as double) in (${numbers.map(double).join(', ')}))`]),
    ...(wholes.length === 0 ? [] : [`(${whole(v)} and try_cast(${v} as hugeint) in (${wholes.map((n) => String(BigInt(n))).join(', ')}))`]),
    ...others.map((test) => `coalesce(${test(v)}, false)`),
  ].join(' or ')
}

const whole = (v: string): string => `json_type(${v}) in ('BIGINT', 'UBIGINT')`
const tagged = (v: string, tag: string): string => `json_type(${v}) = 'OBJECT' and ${field(v, tag)}`

/** In the bracket of the operand only. A bigint is digits, a number a double: each is compared exactly. */
function compared(order: Order, value: NonNullable<Scalar>): Test {
  const sign = signs[order]
  switch (typeof value) {
    case 'string': return (v) => `json_type(${v}) = 'VARCHAR' and ${text(v)} ${sign} ${literal(value)}`
    case 'boolean': return (v) => `json_type(${v}) = 'BOOLEAN' and try_cast(${v} as boolean) ${sign} ${value}`
    case 'number':
      // NaN equals NaN and has no order.
      if (Number.isNaN(value)) return order === 'lt' || order === 'gt' ? () => 'false' : (v) => `${tagged(v, tags.nan)} is not null`
      return (v) => `(json_type(${v}) = 'DOUBLE' and try_cast(${v} as double) ${sign} ${double(value)}) or (${whole(v)} and ${integer(`try_cast(${v} as hugeint)`, order, value)})`
    case 'bigint': return (v) => `(${whole(v)} and try_cast(${v} as hugeint) ${sign} ${value}::hugeint) or (json_type(${v}) = 'DOUBLE' and ${against(`try_cast(${v} as double)`, order, value)})`
  }
  if (isBytes(value)) return (v) => `${tagged(v, tags.bytes)} is not null and json_extract_string(${field(v, tags.bytes)}, '$') = ${literal(base64Of(value))}`
  return (v) => `${tagged(v, tags.date)} is not null and try_cast(${field(v, tags.date)} as hugeint) ${sign} ${+value}::hugeint`
}

function double(value: number): string {
  return `'${Object.is(value, -0) ? 0 : value}'::double`
}
/** Whole SQL of up to 64 bits against a number. */
function integer(sql: string, order: Order, value: number): string {
  if (value >= limit) return `${sql} is not null and ${order === 'lt' || order === 'lte'}`
  if (value < -limit) return `${sql} is not null and ${order === 'gt' || order === 'gte'}`
  if (Number.isInteger(value)) return `${sql} ${signs[order]} ${BigInt(value)}`
  return order === 'eq' ? 'false' : order === 'gt' || order === 'gte' ? `${sql} >= ${BigInt(Math.ceil(value))}` : `${sql} <= ${BigInt(Math.floor(value))}`
}
/** A Date has milliseconds, the column may be finer: what lies within one is cut to it. */
function time(sql: string, order: Order, type: 'timestamp' | 'timestamptz', ms: number): string {
  const from = `make_${type}(${BigInt(ms) * 1000n})`, to = `make_${type}(${BigInt(ms + 1) * 1000n})`
  const tests: Readonly<Record<Order, string>> = { eq: `${sql} >= ${from} and ${sql} < ${to}`, lt: `${sql} < ${from}`, lte: `${sql} < ${to}`, gt: `${sql} >= ${to}`, gte: `${sql} >= ${from}` }
  return `(${tests[order]} and isfinite(${sql}))`
}
/** SQL of a double against a bigint: beyond 2^53 a cast of the bigint would round it. */
function against(sql: string, order: Order, value: bigint): string {
  if (BigInt(Number(value)) === value) return `${sql} ${signs[order]} ${double(Number(value))}`
  if (order === 'eq') return 'false'
  // No double equals it: those above its neighbour below are above it.
  const near = Number(value), up = BigInt(near) > value
  return order === 'gt' || order === 'gte' ? `${sql} ${up ? '>=' : '>'} ${double(near)}` : `${sql} ${up ? '<' : '<='} ${double(near)}`
}

// Over a column.

function onColumn(filter: Leaf, { type, sql, float = false }: NonNullable<Start['native']>): string {
  switch (filter.kind) {
    case 'null': return `${sql} is null`
    // A null of a column is a null, not a missing field.
    case 'exists': return String(filter.is)
    case 'prefix': return textual(type, sql, (v) => `starts_with(${v}, ${literal(filter.value)})`)
    case 'in': {
      const tests = filter.values.map((value) => onColumn({ kind: 'eq', path: filter.path, value }, { type, sql, float }))
      return tests.length === 0 ? 'false' : `(${tests.map((test) => `coalesce(${test}, false)`).join(' or ')})`
    }
    default: return orderColumn(filter.kind, filter.value, { type, sql, float })
  }
}

/** Times without end are read as text. */
function textual(type: Native, sql: string, test: Test): string {
  return type === 'string' ? test(sql) : type === 'timestamp' || type === 'timestamptz' ? `(not isfinite(${sql}) and ${test(`${sql}::varchar`)})` : 'false'
}

function orderColumn(order: Order, value: NonNullable<Scalar>, { type, sql, float }: { readonly type: Native; readonly sql: string; readonly float: boolean }): string {
  const sign = signs[order]
  switch (typeof value) {
    case 'string': return textual(type, sql, (v) => `${v} ${sign} ${literal(value)}`)
    case 'boolean': return type === 'boolean' ? `${sql} ${sign} ${value}` : 'false'
    case 'number': case 'bigint': break
    default:
      if (isBytes(value)) return type === 'bytes' && order === 'eq' ? `${sql} = from_base64(${literal(base64Of(value))})` : 'false'
      return type === 'timestamp' || type === 'timestamptz' ? time(sql, order, type, +value) : 'false'
  }
  if (type === 'integer') return typeof value === 'bigint' ? `${sql} ${sign} ${value}` : Number.isNaN(value) ? 'false' : integer(sql, order, value)
  if (type !== 'number') return 'false'
  if (Number.isNaN(value)) return float && order !== 'lt' && order !== 'gt' ? `isnan(${sql})` : 'false'
  // To DuckDB NaN is above all numbers.
  return `${typeof value === 'bigint' ? against(sql, order, value) : `${sql} ${sign} ${double(value)}`}${float && (order === 'gt' || order === 'gte') ? ` and not isnan(${sql})` : ''}`
}
