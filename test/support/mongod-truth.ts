/** The measured answers of mongod under test/data/mongod-truth, decoded. Its README says what the files hold. */
import { readFileSync } from 'node:fs'
import type { Doc, Value } from '../../core/contract.ts'

/** What a filter, sort or update of the truth is before it is parsed; `$regularExpression` is left as it is. */
type Json = null | boolean | number | string | readonly Json[] | { readonly [name: string]: Json }
export type Fields = Readonly<Record<string, unknown>>
export interface Named { readonly id: string; readonly doc: Doc }

interface FilterCase { readonly id: string; readonly kind: 'push' | 'core' | 'refuse'; readonly filter: Json; readonly match?: readonly string[] }
interface SortCase { readonly id: string; readonly set: 'docs' | 'docs2' | 'inline'; readonly docs?: Json; readonly kind: 'keep' | 'refuse'; readonly sort: readonly [string, 1 | -1][]; readonly order?: readonly string[]; readonly error?: number }
interface UpdateCase { readonly id: string; readonly kind: 'keep' | 'refuse' | 'later'; readonly before: Json; readonly update: Json; readonly after?: Json; readonly error?: number; readonly modified?: number }
interface Pool { readonly docs: readonly Json[]; readonly cases: readonly [Json, readonly number[]][]; readonly sorts: readonly [readonly [string, 1 | -1][], readonly number[] | { readonly error: number }][] }

const load = <T>(name: string): T => JSON.parse(readFileSync(new URL(`../data/mongod-truth/${name}`, import.meta.url), 'utf8')) as T

const tags: Readonly<Record<string, (content: never) => Value>> = {
  $numberInt: (text: string) => Number(text),
  $numberDouble: (text: string) => Number(text),
  $numberLong: (text: string) => BigInt(text),
  $date: ({ $numberLong }: { readonly $numberLong: string }) => new Date(Number($numberLong)),
  $binary: ({ base64 }: { readonly base64: string }) => new Uint8Array(Buffer.from(base64, 'base64')),
}

/** The value of canonical EJSON. */
export function decode(value: Json): Value {
  if (Array.isArray(value)) return value.map((v: Json) => decode(v))
  if (value === null || typeof value !== 'object') return value
  const [entry, ...others] = Object.entries(value as Readonly<Record<string, Json>>)
  if (entry === undefined) return {}
  if (others.length === 0 && Object.hasOwn(tags, entry[0])) return tags[entry[0]]!(entry[1] as never)
  return Object.fromEntries([entry, ...others].map(([name, v]) => [name, decode(v)]))
}
const fields = (value: Json): Fields => decode(value) as Fields

function named(docs: Json): readonly Named[] {
  return Object.entries(fields(docs)).map(([id, doc]) => ({ id, doc: doc as Doc }))
}
const sets = load<{ readonly docs: Json; readonly docs2: Json }>('docs.json')

/** The named documents that the hand-made filters ran over. */
export const docs: readonly Named[] = named(sets.docs)
export const filters: readonly { readonly id: string; readonly kind: 'push' | 'core' | 'refuse'; readonly filter: unknown; readonly match: readonly string[] }[] =
  load<{ readonly filters: readonly FilterCase[] }>('filters-a.json').filters.map(({ id, kind, filter, match }) => ({ id, kind, filter: decode(filter), match: match ?? [] }))
export const sorts: readonly { readonly id: string; readonly kind: 'keep' | 'refuse'; readonly docs: readonly Named[]; readonly sort: Fields; readonly order: readonly string[] | 'error' }[] =
  load<{ readonly sorts: readonly SortCase[] }>('sorts-a.json').sorts.map(({ id, kind, set, docs: inline, sort, order }) => (
    { id, kind, docs: named(set === 'inline' ? inline! : sets[set]), sort: Object.fromEntries(sort), order: order ?? 'error' }))
export const updates: readonly { readonly id: string; readonly kind: 'keep' | 'refuse' | 'later'; readonly before: Doc; readonly update: unknown; readonly after: Doc | undefined; readonly error: number | undefined }[] =
  load<{ readonly updates: readonly UpdateCase[] }>('updates-a.json').updates.map(({ id, kind, before, update, after, error }) => (
    { id, kind, before: decode(before) as Doc, update: decode(update), after: after === undefined ? undefined : decode(after) as Doc, error }))

/** Random documents, with filters and sorts over them. */
export const pools: readonly { readonly docs: readonly Named[]; readonly filters: readonly { readonly id: string; readonly filter: unknown; readonly match: readonly string[] }[]
  readonly sorts: readonly { readonly id: string; readonly sort: Fields; readonly order: readonly string[] | 'error' }[] }[] =
  load<{ readonly pools: readonly Pool[] }>('random-a.json').pools.map((pool, p) => ({
    docs: pool.docs.map((doc, i) => ({ id: idOf(i), doc: decode(doc) as Doc })),
    filters: pool.cases.map(([filter, match], i) => ({ id: `random ${p}.${i}`, filter: decode(filter), match: match.map(idOf) })),
    sorts: pool.sorts.map(([sort, order], i) => ({ id: `random ${p}.${i}`, sort: Object.fromEntries(sort), order: 'error' in order ? 'error' : order.map(idOf) })),
  }))

function idOf(index: number): string {
  return `k${String(index).padStart(2, '0')}`
}
