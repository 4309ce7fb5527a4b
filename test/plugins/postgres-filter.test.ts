import { PGlite } from '@electric-sql/pglite'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { DataCapabilities, Doc, Filter, Path, Value } from '../../core/contract.ts'
import { encode } from '../../core/encoding.ts'
import { evaluate, parseFilter, split } from '../../core/match.ts'
import { compareStrings } from '../../core/value.ts'
import { compileFilter } from '../../plugins/postgres/filter.ts'
import { docs, filters, pools, type Named } from '../support/mongod-truth.ts'

let db: PGlite
beforeAll(async () => {
  db = await PGlite.create()
  await db.exec('create table rows (part text, id text collate "unicode", doc jsonb, out jsonb)')
})
afterAll(() => db.close())

interface Stored extends Named { readonly out?: Value }
/** The parts of the table are filled once each. */
async function fill(part: string, rows: readonly Stored[]): Promise<void> {
  await db.query('insert into rows select $1, id, doc::jsonb, out::jsonb from unnest($2::text[], $3::text[], $4::text[]) as given(id, doc, out)',
    [part, rows.map(({ id }) => id), rows.map(({ doc }) => encode(doc)), rows.map(({ out }) => (out === undefined ? null : encode(out)))])
}
async function found(part: string, filter: Filter): Promise<readonly string[]> {
  const params: unknown[] = [part]
  const where = compileFilter(filter, {
    key: 'id',
    json: ({ slot, at }) => (slot === undefined ? { root: 'doc', at } : { root: `case when out is null then '{}' else jsonb_build_object('v', out) end`, at: ['v', ...at] }),
    among: (keys) => `id = any($${params.push(keys)}::text[])`, param: (value) => `$${params.push(value)}`,
  })
  const { rows } = await db.query<{ id: string; holds: boolean | null }>(`select id, ${where} as holds from rows where part = $1 order by id collate "C"`, params)
  const open = rows.filter(({ holds }) => holds === null)
  if (open.length > 0) throw new Error(`neither true nor false for ${open.map(({ id }) => id).join()}`)
  return rows.filter(({ holds }) => holds).map(({ id }) => id)
}
const capabilities: Pick<DataCapabilities, 'filters' | 'refuses' | 'limits'> =
  { filters: ['and', 'or', 'not', 'eq', 'lt', 'lte', 'gt', 'gte', 'in', 'null', 'exists', 'prefix', 'keys'], refuses: ['nul'], limits: {} }

interface Case { readonly id: string; readonly filter: unknown; readonly match: readonly string[] }
/** Ids of the cases that the database answers otherwise. What it cannot be given is checked only in so far as it can. */
async function apart(part: string, rows: readonly Named[], cases: readonly Case[]): Promise<{ readonly apart: readonly string[]; readonly whole: number }> {
  const wrong: string[] = []
  let whole = 0
  await fill(part, rows)
  for (const { id, filter, match } of cases) {
    const { where, pushed, residual } = split(parseFilter(filter), capabilities, () => true)
    if (residual.length === 0) whole++
    const expected = residual.length === 0 ? rows.filter((row) => match.includes(row.id)) : rows.filter((row) => pushed.every((c) => c.test({ _id: row.id, ...row.doc })))
    const answer = await found(part, where ?? { kind: 'and', of: [] }).catch(String)
    if (String(answer) !== expected.map(({ id: key }) => key).sort(compareStrings).join()) wrong.push(`${id}: ${String(answer)}`)
  }
  return { apart: wrong, whole }
}

describe('filters in SQL, as mongod answers them', () => {
  it('finds the same documents in the hand-made cases', async () => {
    const held = docs.filter(({ id }) => id !== 'saNul')     // jsonb holds no NUL
    const cases = filters.filter(({ kind }) => kind !== 'refuse').map((c) => ({ ...c, match: c.match.filter((id) => id !== 'saNul') }))
    expect(await apart('hand', held, cases)).toEqual({ apart: [], whole: 154 })
  })

  it('finds the same documents in the random cases', async () => {
    const results = []
    for (const [p, pool] of pools.entries()) results.push(await apart(`random ${p}`, pool.docs, pool.filters))
    expect(results.flatMap((r) => r.apart)).toEqual([])
    expect(results.reduce((n, r) => n + r.whole, 0)).toBe(911)
  })
})

describe('filters in SQL, as core evaluates them', () => {
  /** Ids of the filters that the database answers otherwise than core. */
  async function differing(part: string, rows: readonly Stored[], wheres: readonly unknown[], outputs?: (path: readonly string[]) => Path): Promise<readonly string[]> {
    await fill(part, rows)
    const wrong: string[] = []
    for (const filter of wheres.flatMap((where) => parseFilter(where, outputs)).flatMap((c) => c.filter ?? [])) {
      const expected = rows.filter(({ id, doc, out }) => evaluate(filter, id, doc, () => (out === undefined ? undefined : [out]))).map(({ id }) => id).sort(compareStrings)
      const answer = await found(part, filter).catch(String)
      if (String(answer) !== String(expected)) wrong.push(`${encode(filter as unknown as Doc)}: ${String(answer)} instead of ${expected.join()}`)
    }
    return wrong
  }
  const rowsOf = (values: readonly Value[]): readonly Named[] => values.map((value, i) => ({ id: `k${String(i).padStart(3, '0')}`, doc: { a: value } }))
  /** Every value alone, in arrays and in objects. */
  const spread = (values: readonly Value[]): readonly Value[] => [...values.flatMap((v) => [v, [v], [[v]], [v, 1], { b: v }, [{ b: v }], [{ b: [v] }], [{ b: v }, {}]]), {}, [], [{}], [[]], [[{}]], [null]]
  const operators = (value: Value): readonly unknown[] => ['a', 'a.b', 'a.b.c'].flatMap((path) => [
    { [path]: value }, { [path]: { $ne: value } }, { [path]: { $in: [value, 'other'] } }, { [path]: { $nin: [value, null] } }, { [path]: { $not: { $eq: value } } },
    { [path]: { $gt: value } }, { [path]: { $gte: value } }, { [path]: { $lt: value } }, { [path]: { $lte: value } }, { [path]: null }, { [path]: { $exists: true } }, { [path]: { $exists: false } },
  ])

  it('agrees on dates, bytes, NaN, infinities, -0 and numbers beyond 2^53', async () => {
    const values: readonly Value[] = [new Date(0), new Date(-1), new Date(8.64e15), new Uint8Array(), new Uint8Array([1, 0, 255]), new Uint8Array([2]), Number.NaN, Infinity, -Infinity, 0, -0, 1.5, 5e-324, 1.7976931348623157e308, 1e21, 1e23,
      2 ** 53, 2n ** 53n + 1n, 2 ** 60, 2n ** 60n, 2n ** 60n + 1n, 2 ** 63, 2n ** 63n - 1n, -(2n ** 63n), 5n, true, false, '', 'x']
    expect(await differing('values', rowsOf(spread(values)), values.flatMap(operators))).toEqual([])
  })

  it('agrees on values that are stored as objects but are none', async () => {
    const values: readonly Value[] = [new Float32Array([1, 2]), new BigInt64Array([1n]), { _content: { artifact: 'ab', codec: 'Uint8Array', bytes: 20000 } }, new Date(5), new Uint8Array([1]), Number.NaN, null, { c: 1 }, { c: null }]
    expect(await differing('objects', rowsOf(spread(values)), ['a', 'a.b', 'a.b.c', 'a.artifact', 'a.codec'].flatMap((p) => [{ [p]: null }, { [p]: { $ne: null } }, { [p]: { $exists: true } }, { [p]: 'ab' }, { [p]: 1 }, { [p]: { $in: [null, new Date(5)] } }]))).toEqual([])
  })

  const odd = ['"', "'", '\\', 'a"b', "a'b", 'a\\', '\\"', 'x" == 1 || "a" == "a', "'); drop table rows; --", '*', '**', '@', '?', '(1)', 'a[0]', '[*]', 'a b', ' ', '\n', '\t', '\u0002', '\u007f', '\u2028', 'é', '\u{1F600}', 'true', 'null', 'last', 'lax', 'strict $', '$$', '%', '_', '{}', '-1', '1.5e3', '__proto__', 'constructor', 'type()', '/*', '--', ':n', '$1']

  it('agrees on names of fields with any characters', async () => {
    const names = odd.filter((name) => !/[.$]|^\d+$/.test(name))
    const rows = names.flatMap((name, i): Named[] => [{ id: `t${i}`, doc: Object.fromEntries([[name, i]]) }, { id: `u${i}`, doc: { in: [Object.fromEntries([[name, i]])] } }])
    expect(await differing('names', rows, names.flatMap((name, i) => [Object.fromEntries([[name, i]]), { [`in.${name}`]: { $gte: i } }, { [`in.${name}.x`]: null }, { [`in.${name}`]: { $exists: true } }, Object.fromEntries([[name, null]])]))).toEqual([])
    expect(await found('names', { kind: 'eq', path: { at: ['"'] }, value: 0 })).toEqual(['t0'])
  })

  it('agrees on text with any characters', async () => {
    const literal = (text: string): string => `^${text.replace(/[\\^$.|?*+()[\]{}]/g, '\\$&')}`
    expect(await differing('text', rowsOf(odd), odd.flatMap((text) => [{ a: text }, { a: { $in: [text, 'other'] } }, { a: { $gt: text } }, { a: { $regex: literal(text) } }, { a: { $ne: text } }]))).toEqual([])
    expect(await found('text', { kind: 'prefix', path: { at: ['a'] }, value: "a'" })).toEqual([`k${String(odd.indexOf("a'b")).padStart(3, '0')}`])
  })

  it('agrees on keys', async () => {
    const ids = ['a', 'ab', 'B', 'b', 'é', '\uFF5E', '\u{1F600}', '', '5', "'", '\\']
    const wheres = [...ids, 5, null, true, new Date(0), new Uint8Array([1])].flatMap((v) => [{ _id: v }, { _id: { $ne: v } }, { _id: { $in: [v, 'a'] } }, { _id: { $nin: [v] } }, { _id: { $gt: v } }, { _id: { $lte: v } }])
    expect(await differing('keys', ids.map((id) => ({ id, doc: { a: 1 } })), [...wheres, { _id: { $exists: true } }, { _id: { $exists: false } }, { _id: { $regex: '^a' } }, { _id: null }, { $or: [{ _id: 'a' }, { a: 2 }] }, { _id: { $in: [] } }])).toEqual([])
    expect(await found('keys', { kind: 'in', path: { at: ['_id'] }, values: ['a', 5, 'b'] })).toEqual(['a', 'b'])
    for (const filter of [{ kind: 'eq', path: { at: ['_id'] }, value: 'a' }, { kind: 'keys', keys: ['a', 'a', 'none'] }] as const) expect(await found('keys', filter)).toEqual(['a'])
    expect(await found('keys', { kind: 'null', path: { at: ['_id'] } })).toEqual([])
  })

  it('agrees on outputs, there or not, and on documents without outputs', async () => {
    const values: readonly Value[] = spread(['x', 1, null, new Date(5), { c: 1 }])
    const rows: readonly Stored[] = [...values.map((out, i) => ({ id: `k${String(i).padStart(3, '0')}`, doc: {}, out })), { id: 'none', doc: { v: 'x' } }]
    const outputs = (path: readonly string[]): Path => ({ slot: 's_1', at: path.slice(3) })
    const wheres = ['_outputs.l.m', '_outputs.l.m.b', '_outputs.l.m.b.c'].flatMap((p) => ['x', 1, null, new Date(5)].flatMap((v) => [{ [p]: v }, { [p]: { $ne: v } }, { [p]: { $gt: v } }, { [p]: { $exists: true } }, { [p]: { $in: [v, true] } }]))
    expect(await differing('outputs', rows, wheres, outputs)).toEqual([])
    expect((await found('outputs', { kind: 'exists', path: { slot: 's_1', at: [] }, is: false }))).toEqual(['none'])
  })

  it('takes 5,000 values and paths of 100 parts', async () => {
    await fill('large', [{ id: 'k', doc: { a: 4999 } }, { id: 'l', doc: { a: -1, b: 'x' } }])
    expect(await found('large', { kind: 'in', path: { at: ['a'] }, values: Array.from({ length: 5000 }, (_, i) => i) })).toEqual(['k'])
    expect(await found('large', { kind: 'null', path: { at: Array.from({ length: 100 }, () => 'a') } })).toEqual(['k', 'l'])
  })

  it('takes empty lists: "and" holds, "or", "in" and "keys" do not', async () => {
    await fill('empty', [{ id: 'k', doc: {} }])
    for (const [filter, rows] of [[{ kind: 'and', of: [] }, ['k']], [{ kind: 'or', of: [] }, []], [{ kind: 'in', path: { at: ['a'] }, values: [] }, []], [{ kind: 'not', of: { kind: 'keys', keys: [] } }, ['k']]] as const) expect(await found('empty', filter)).toEqual(rows)
  })
})
