/**
 * Filters of the contract as SQL over jsonb, by lax jsonpath, whose predicates open one level of arrays exactly as core/match.ts does.
 * The bare predicate is essential: `$.a ? (@ == 1)` would open two. Names and operands reach the server as parameters only.
 */
import type { Filter, Path, Scalar } from '../../core/contract.ts'
import { encode, tags } from '../../core/encoding.ts'
import { contentKey, isBytes, tagMark } from '../../core/value.ts'

/** What a filter is compiled over. */
export interface Target {
  /** SQL text of the row's key. */
  readonly key: string
  /** SQL for the key being one of these. */
  among(keys: readonly string[]): string
  json(path: Path): Json
  /** SQL for a condition that needs no JSON, never null. */
  condition?(filter: Filter): string | undefined
  /** Adds a parameter and returns its `$n`. */
  param(value: unknown): string
}

/** SQL text of a jsonb that is not null, and the path in it. The output of a slot is `{"v": value}`, or `{}` where there is none. */
export interface Json { readonly root: string; readonly at: readonly string[] }

const signs = { eq: '=', lt: '<', lte: '<=', gt: '>', gte: '>=' } as const

/** The condition, which is never null. The operands are those that core pushes: no bytes under an order, no NUL. */
export function compileFilter(filter: Filter, target: Target): string {
  switch (filter.kind) {
    case 'and': case 'or': return filter.of.length === 0 ? String(filter.kind === 'and') : `(${filter.of.map((f) => compileFilter(f, target)).join(` ${filter.kind} `)})`
    case 'not': return `(not ${compileFilter(filter.of, target)})`
    case 'keys': return keyIn(filter.keys, target)
    default: return filter.path.slot === undefined && filter.path.at[0] === '_id' ? onKey(filter, target) : target.condition?.(filter) ?? onJson(filter, target)
  }
}

type Leaf = Exclude<Filter, { readonly kind: 'and' | 'or' | 'not' | 'keys' }>

function keyIn(keys: readonly Scalar[], target: Target): string {
  const texts = keys.filter((k) => typeof k === 'string')
  return texts.length === 0 ? 'false' : target.among(texts)
}

/** A key is text, always there; anything else never equals it and is not ordered against it. */
function onKey(filter: Leaf, target: Target): string {
  switch (filter.kind) {
    case 'null': return 'false'
    case 'exists': return String(filter.is)
    case 'prefix': return `starts_with(${target.key}, ${target.param(filter.value)})`
    case 'in': return keyIn(filter.values, target)
    case 'eq': return keyIn([filter.value], target)
    default: return typeof filter.value === 'string' ? `${target.key} collate "C" ${signs[filter.kind]} ${target.param(filter.value)}` : 'false'
  }
}

function onJson(filter: Leaf, { json, param }: Target): string {
  const { root, at } = json(filter.path), path = `$${at.map(member).join('')}`
  const matches = (predicate: string, vars: string): string => `coalesce(jsonb_path_match(${root}, ${param(predicate)}::jsonpath, ${param(vars)}::jsonb, true), false)`
  switch (filter.kind) {
    case 'null': return matches(isNull('$', at), '{}')
    case 'exists': return `${filter.is ? '' : '(not '}jsonb_path_exists(${root}, ${param(path)}::jsonpath)${filter.is ? '' : ')'}`
    case 'prefix': return matches(`${path} starts with $v`, `{"v":${encode(filter.value)}}`)
    case 'in': {
      const inside = [...new Set(filter.values.map(insideOf))]
      return inside.length === 0 ? 'false' : matches(inside.map((tag) => `${path}${tag} == $v[*]${tag}`).join(' || '), `{"v":${encode(filter.values)}}`)
    }
    default: {
      const tag = insideOf(filter.value), sign = filter.kind === 'eq' ? '==' : signs[filter.kind]
      return matches(`${path}${tag} ${sign} $v${tag}`, `{"v":${encode(filter.value)}}`)
    }
  }
}

const member = (name: string): string => `.${JSON.stringify(name)}`

/** Where the comparable part of a stored value is: dates, bytes and NaN are objects with one tag. NaN's content is a number, so it equals NaN and has no order. */
function insideOf(value: NonNullable<Scalar>): string {
  return value instanceof Date ? member(tags.date) : isBytes(value) ? member(tags.bytes) : Number.isNaN(value) ? member(tags.nan) : ''
}

/** Some branch of the path is null or not there. A value in its way is "not there", but elements of an array that are no objects are nothing at all. */
function isNull(base: string, [name, ...rest]: readonly string[]): string {
  const here = `${base}${member(name!)}`
  if (rest.length === 0) return `(!exists(${here}) || ${here} == null)`
  return `(!exists(${here}) || (${here}.type() != "array" && !${isObject(here)}) || exists(${here} ? (${isObject('@')} && ${isNull('@', rest)})))`
}

/** Of one item: an object, and neither a tagged value nor a reference to content. */
function isObject(item: string): string {
  return `(${item}.type() == "object" && !(${item}.keyvalue().key starts with ${JSON.stringify(tagMark)}) && !exists(${item}${member(contentKey)}))`
}
