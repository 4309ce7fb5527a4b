/** Nearest rows, with a filter, wherever the vectors lie: exactly min(k, matching), ranked. */
import type { Ctx, Datalayer, Filter, Hit, Key, Query, Row, VectorIndex, VectorSearch } from './contract.ts'
import { nearer, distance, type Copies } from './vectors.ts'

export interface SearchParts {
  readonly data: Datalayer
  readonly vectors: VectorSearch
  readonly copies: Copies
}
/** Which rows: what the database filters, what is filtered here, and what is returned of them. */
export interface Restriction {
  readonly query: Query
  /** Rows that pass what core filters, ready to be given to the user. */
  readonly residual?: (rows: readonly Row[]) => Promise<readonly Row[]>
}
export interface Near { readonly row: Row; readonly offset: number; readonly distance: number }

const keysPerRead = 1000

export async function nearest(parts: SearchParts, index: VectorIndex, vector: Float32Array, k: number, restriction: Restriction, ctx: Ctx): Promise<readonly Near[]> {
  return parts.vectors.capabilities.place === 'slot' ? inSlot(parts, index, vector, k, restriction, ctx) : inCopy(parts, index, vector, k, restriction, ctx)
}

/** One statement when the database filters all; else ever more hits, until enough pass. */
async function inSlot({ vectors }: SearchParts, index: VectorIndex, vector: Float32Array, k: number, { query, residual }: Restriction, ctx: Ctx): Promise<readonly Near[]> {
  for (let wanted = residual === undefined ? k : k * 4; ; wanted *= 4) {
    const [hits] = await vectors.search(index, { vectors: [vector], k: wanted, exact: !index.approximate, query }, ctx)
    const passed = await keep(hits!, residual)
    if (passed.length >= k || hits!.length < wanted) return passed.slice(0, k)
  }
}

async function keep(hits: readonly Hit[], residual: Restriction['residual']): Promise<readonly Near[]> {
  if (residual === undefined) return hits.map((hit) => ({ row: hit.row!, offset: hit.offset, distance: hit.distance }))
  const rows = new Map((await residual(hits.map((hit) => hit.row!))).map((row) => [row.key, row]))
  return hits.flatMap((hit) => { const row = rows.get(hit.key); return row === undefined ? [] : [{ row, offset: hit.offset, distance: hit.distance }] })
}

/** Two bounded steps: the keys that match, then the search within; where too many match, ever more hits, until enough pass. */
async function inCopy(parts: SearchParts, index: VectorIndex, vector: Float32Array, k: number, restriction: Restriction, ctx: Ctx): Promise<readonly Near[]> {
  const { data, vectors, copies } = parts, { query, residual } = restriction
  await copies.ensure(data, index, ctx)
  const within = query.where === undefined && residual === undefined ? undefined : await fewKeys(parts, restriction, ctx)
  for (let wanted = within === undefined && (query.where !== undefined || residual !== undefined) ? k * 4 : k; ; wanted *= 4) {
    const [hits] = await vectors.search(index, { vectors: [vector], k: wanted, exact: true, ...(within === undefined ? {} : { within }) }, ctx)
    // The rows are read again and scored anew: a copy may be late.
    const offsets = Map.groupBy(hits!, (hit) => hit.key), rows = await byKeys(data, query, [...offsets.keys()], ctx)
    const passed = (residual === undefined ? rows : await residual(rows)).flatMap((row) => offsets.get(row.key)!.flatMap(({ offset }): readonly (Near & Hit)[] => {
      const stored = row.outputs?.[index.slot.id]?.[offset]
      return stored instanceof Float32Array ? [{ key: row.key, offset, row, distance: distance(index.measure, vector, stored) }] : []
    })).sort(nearer)
    if (passed.length >= k || hits!.length < wanted) return passed.slice(0, k)
  }
}

/** The keys of all matching rows, or undefined when they are more than a search takes. */
async function fewKeys({ data, vectors }: SearchParts, { query, residual }: Restriction, ctx: Ctx): Promise<readonly Key[] | undefined> {
  const keys: Key[] = []
  for await (const rows of data.find(residual === undefined ? { ...query, fields: [], slots: [] } : query, ctx)) {
    keys.push(...(residual === undefined ? rows : await residual(rows)).map((row) => row.key))
    if (keys.length > vectors.capabilities.within) return undefined
  }
  return keys
}

/** The rows of a query that have one of these keys. */
export async function byKeys(data: Datalayer, query: Query, keys: readonly Key[], ctx: Ctx): Promise<readonly Row[]> {
  const found: Row[] = [], size = Math.min(keysPerRead, data.capabilities.limits.keys ?? keysPerRead)
  for (let i = 0; i < keys.length; i += size) {
    for await (const rows of data.find({ ...query, where: both({ kind: 'keys', keys: keys.slice(i, i + size) }, query.where) }, ctx)) found.push(...rows)
  }
  return found
}

/** Both filters. Two lists of keys become one, so that a plugin that has only `keys` is never asked for `and`. */
function both(a: Filter, b: Filter | undefined): Filter {
  if (b === undefined) return a
  if (a.kind === 'keys' && b.kind === 'keys') return { kind: 'keys', keys: a.keys.filter((key) => b.keys.includes(key)) }
  return { kind: 'and', of: [a, b] }
}
