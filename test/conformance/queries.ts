/** Reading: filters as core/match.ts evaluates them, pages, orders, and what the API does on top. */
import { expect } from 'vitest'
import type { Doc, Filter, Key, Path, Row, Value } from '../../core/contract.ts'
import { evaluate, parseFilter } from '../../core/match.ts'
import { Top, type Order } from '../../core/sort.ts'
import { compareStrings } from '../../core/value.ts'
import { operands, random, randomDoc, randomFilter, randomWhere, scalars, type Random } from './random.ts'
import { filters, narrowFilters, rule, sorts, sortsInCore, type Rule } from './rule.ts'
import { all, keyOf, many, type Subject } from './subject.ts'

interface Table { readonly name: string; readonly docs: Readonly<Record<Key, Doc>> }

/** Every scalar in every place that a path can reach, and what is no scalar. */
const table = (s: Subject): Promise<Table> => s.once('table', async () => {
  const shapes: readonly ((v: Value) => Doc)[] = [(v) => ({ a: v }), (v) => ({ a: [v] }), (v) => ({ a: [[v]] }), (v) => ({ a: { b: v } }), (v) => ({ a: [{ b: v }, 7] }), (v) => ({ a: { b: [v, 'other'] } }), (v) => ({ a: [{ b: [v] }] }), (v) => ({ a: [[{ b: v }]] })]
  const more: readonly Doc[] = [{}, { b: 1 }, { a: [] }, { a: {} }, { a: [[]] }, { a: [{}] }, { a: { b: {} } }, { a: { b: [] } }, { a: [{ b: null }, { b: 1 }] }, { a: [{ b: 1 }, {}] }, { a: [null, 1] }, { a: [1, 'a', true] }, { a: { c: 1 } }, { a: [1, { b: 2 }] }, { a: Int8Array.from([1]) }, { a: [Float32Array.from([1])] }, { a: { b: { c: 1 } } }, { a: [{ b: { c: 1 } }] }]
  return make(s, [...shapes.flatMap((shape) => scalars.map((v) => shape(v))), ...more])
})
/** Random documents of three levels. */
const pool = (s: Subject): Promise<Table> => s.once('pool', () => {
  const r = random(s.settings.seed)
  return make(s, Array.from({ length: 120 }, () => randomDoc(r)))
})
async function make(s: Subject, list: readonly Doc[]): Promise<Table> {
  const docs = Object.fromEntries(list.map((doc, i) => [keyOf(i), doc])), name = await s.collection(docs)
  return { name, docs }
}

const paths: readonly Path[] = [{ at: ['a'] }, { at: ['a', 'b'] }, { at: ['b'] }, { at: ['a', 'b', 'c'] }, { at: ['a', 'none'] }]
const expected = ({ docs }: Table, where: Filter): Key[] => Object.keys(docs).filter((key) => evaluate(where, key, docs[key]!))

/** Smaller filters within a filter. */
function parts(f: Filter): readonly Filter[] {
  if (f.kind === 'not') return [f.of, ...parts(f.of).map((of): Filter => ({ ...f, of }))]
  if (f.kind === 'in') return f.values.length < 2 ? [] : f.values.map((value): Filter => ({ kind: 'eq', path: f.path, value }))
  if (f.kind !== 'and' && f.kind !== 'or') return []
  return [...f.of, ...(f.of.length > 2 ? f.of.map((_, i): Filter => ({ ...f, of: f.of.toSpliced(i, 1) })) : []), ...f.of.flatMap((of, i) => parts(of).map((part): Filter => ({ ...f, of: f.of.with(i, part) })))]
}
/** The smallest filter within one that fails which still fails; of kinds that the plugin evaluates. */
async function shrunk(s: Subject, of: Table, where: Filter): Promise<Filter> {
  for (const part of parts(where)) if (s.capabilities.filters.includes(part.kind) && (await s.keys(of.name, part)).join() !== expected(of, part).join()) return shrunk(s, of, part)
  return where
}
/** Fails with the first filter whose rows differ, made as small as it still fails, and with the documents that make the difference. */
async function agree(s: Subject, of: Table, asked: Filter): Promise<void> {
  if ((await s.keys(of.name, asked)).join() === expected(of, asked).join()) return
  const where = await shrunk(s, of, asked), right = expected(of, where), found = await s.keys(of.name, where)
  const wrong = [...found.filter((k) => !right.includes(k)).map((k) => ['too much', of.docs[k]]), ...right.filter((k) => !found.includes(k)).map((k) => ['missing', of.docs[k]])]
  expect.fail(`${text(where)} finds ${found.length} rows of ${right.length}: ${text(wrong.slice(0, 4))}${wrong.length === 0 ? `order ${found.join()}` : ''}`)
}
function text(value: unknown): string {
  return JSON.stringify(value, (_, v: unknown) => (typeof v === 'bigint' ? `${v}n` : typeof v === 'number' && (!Number.isFinite(v) || Object.is(v, -0)) ? (Object.is(v, -0) ? '-0' : String(v)) : v))
}
async function agreeAll(s: Subject, of: Table, wheres: readonly Filter[]): Promise<void> {
  for (const where of wheres) await agree(s, of, where)
}
const kindOf = (value: Value): string => (value instanceof Date ? 'dates' : value instanceof Uint8Array ? 'bytes' : typeof value === 'bigint' ? 'numbers' : `${typeof value}s`)
const groups: readonly string[] = ['booleans', 'numbers', 'strings', 'dates', 'bytes']
const ofGroup = (group: string): readonly (typeof operands)[number][] => operands.filter((o) => kindOf(o) === group)
const eq = (path: Path, value: (typeof operands)[number]): Filter => ({ kind: 'eq', path, value })

const order = (...by: readonly (readonly [string, boolean])[]): Order => by.map(([path, descending]) => ({ path: path.split('.'), descending }))
/** Keys in the order of core/sort.ts. */
function ordered(docs: Readonly<Record<Key, Doc>>, by: Order): Key[] {
  const top = new Top<Key>(by, undefined)
  for (const [key, doc] of Object.entries(docs)) top.add({ ...doc, _id: key }, key, key)
  return [...top.rows()]
}
const rowsOf = (list: readonly Row[]): Record<Key, Doc> => Object.fromEntries(list.map((row) => [row.key, row.doc]))
const orders: readonly Order[] = [order(['a', false]), order(['a', true]), order(['a.b', false]), order(['a.b', true]), order(['_id', true]), order(['none', false]), order(['b', true], ['_id', true]), order(['a.c', false], ['_id', false])]

const wide = (s: Subject): Promise<string> => s.once('wide', () => s.collection(many(1500, (i) => ({ i, half: i % 2, pad: 'x'.repeat(40) }))))
const numbers = (from: number, to: number): Key[] => Array.from({ length: Math.max(0, to - from) }, (_, i) => keyOf(from + i))

/** The table in short, for what core does on top. */
const small = (s: Subject): Promise<Table> => s.once('small', () => {
  const few: readonly Value[] = [null, true, false, 0, -0, 1, 1n, 1.5, 2n ** 53n + 1n, Number.NaN, -Infinity, '', 'a', 'A', 'é', '1', new Date(0), new Date(1), Uint8Array.from([1]), new Uint8Array(), [], {}]
  const shapes: readonly ((v: Value) => Doc)[] = [(v) => ({ a: v }), (v) => ({ a: [v, 'x'] }), (v) => ({ a: { b: v } }), (v) => ({ a: [{ b: v }, 7] }), (v) => ({ a: { b: [v] } })]
  return make(s, [...shapes.flatMap((shape) => few.map((v) => shape(v))), {}, { b: 1 }, { a: [null, 1, 'a'] }, { a: [[1]] }, { a: [{}, { b: 1 }] }])
})
const ofKind: readonly (readonly [string, readonly Value[]])[] = [['boolean', [true, false]], ['number', [0, 1, 1n, 1.5, 2 ** 53, 2n ** 53n + 1n, Number.NaN, -Infinity]], ['string', ['', 'a', 'A', 'é', '1']], ['date', [new Date(0), new Date(1)]], ['bytes', [Uint8Array.from([1]), new Uint8Array()]], ['null', [null]]]
/** Operators by the kind of their operand. */
const userTests: readonly (readonly [string, readonly unknown[]])[] = [
  ...['eq', 'ne', 'in', 'nin', 'gt', 'gte', 'lt', 'lte'].flatMap((op) => ofKind.filter(([kind]) => !/^[gl]t/.test(op) || (kind !== 'bytes' && (kind !== 'null' || op.endsWith('e')))).map(([kind, values]): readonly [string, readonly unknown[]] =>
    [`${op}-${kind}`, op === 'in' || op === 'nin' ? [values, [...values, 'a', 1], values.slice(0, 1)].map((list) => ({ [`$${op}`]: list })) : values.map((value) => ({ [`$${op}`]: value }))])),
  ...ofKind.map(([kind, values]): readonly [string, readonly unknown[]] => [`plain-${kind}`, values]),
  ...ofKind.map(([kind, values]): readonly [string, readonly unknown[]] => [`all-${kind}`, [{ $all: values.slice(0, 1) }, { $all: [values[0], 'x'] }]]),
  ...ofKind.filter(([kind]) => kind !== 'null').map(([kind, values]): readonly [string, readonly unknown[]] => [`not-${kind}`, values.slice(0, 3).flatMap((value) => [{ $not: { $eq: value } }, ...(kind === 'bytes' ? [] : [{ $not: { $gt: value } }])])]),
  ...([['boolean', [[false, true]]], ['number', [[0, 1.5], [-Infinity, 1], [1, 2 ** 53], [1n, 2n ** 53n + 1n]]], ['string', [['', 'a'], ['A', 'a'], ['1', 'é']]], ['date', [[new Date(0), new Date(1)]]]] as const).map(([kind, ranges]): readonly [string, readonly unknown[]] =>
    [`range-${kind}`, ranges.flatMap(([from, to]) => [{ $gte: from, $lt: to }, { $gt: from, $lte: to }])]),
  ['exists', [{ $exists: true }, { $exists: false }, { $exists: true, $ne: null }]], ['size', [0, 1, 2, 3].map(($size) => ({ $size }))], ['regex', ['^a', '^A', '^é', '^1', '^'].slice(0, 4).map(($regex) => ({ $regex }))],
  ...(['null', 'bool', 'number', 'string', 'date', 'binData', 'object', 'array'] as const).map((type): readonly [string, readonly unknown[]] => [`type-${type.toLowerCase()}`, [{ $type: type }, { $type: [type, 'string'] }]]),
  ['elem-match', [{ $elemMatch: { $gte: 1 } }, { $elemMatch: { b: 1 } }, { $elemMatch: { b: null } }]],
]

export const queries: readonly Rule[] = [
  rule('queries.find.key-order', 'rows come in the order of their keys by code point', async (s) => {
    const keys = ['b', 'B', 'a', 'Z', 'z', 'é', '\uffff', '😀', '10', '9', 'a1', 'a10', 'a2', ' ', '_', '-'], name = await s.collection(Object.fromEntries(keys.map((k) => [k, {}])))
    expect(await s.keys(name)).toEqual([...keys].sort(compareStrings))
  }),
  rule('queries.find.each-once', '1,500 rows are found, each once and in order', async (s) => {
    expect(await s.keys(await wide(s))).toEqual(numbers(0, 1500))
  }),
  rule('queries.find.limit', 'limit and skip cut the rows in key order', async (s) => {
    const name = await wide(s), find = async (q: { skip?: number; limit?: number }): Promise<Key[]> => (await s.find(name, q)).map((row) => row.key)
    expect(await find({ limit: 1 })).toEqual(numbers(0, 1))
    expect(await find({ limit: 499 })).toEqual(numbers(0, 499))
    expect(await find({ limit: 1001 })).toEqual(numbers(0, 1001))
    expect(await find({ skip: 700, limit: 650 })).toEqual(numbers(700, 1350))
    expect(await find({ skip: 1499 })).toEqual(numbers(1499, 1500))
    expect(await find({ skip: 1500 })).toEqual([])
    expect(await find({ skip: 2000, limit: 5 })).toEqual([])
    expect(await find({ limit: 5000 })).toEqual(numbers(0, 1500))
  }),
  rule('queries.find.after', 'after resumes a scan: only keys above it, also when that row is gone', async (s) => {
    const name = await wide(s)
    expect((await s.find(name, { after: keyOf(1490) })).map((row) => row.key)).toEqual(numbers(1491, 1500))
    expect((await s.find(name, { after: `${keyOf(3)}x`, limit: 2 })).map((row) => row.key)).toEqual(numbers(4, 6))
    expect(await s.find(name, { after: keyOf(1499) })).toEqual([])
    expect((await s.find(name, { after: keyOf(10), where: { kind: 'keys', keys: [keyOf(9), keyOf(10), keyOf(11)] } })).map((row) => row.key)).toEqual([keyOf(11)])
    const hard = await s.collection({ A: {}, a: {}, '\uffff': {}, '😀': {} })
    expect((await s.find(hard, { after: 'A' })).map((row) => row.key)).toEqual(['a', '\uffff', '😀'])
    expect((await s.find(hard, { after: '\uffff' })).map((row) => row.key)).toEqual(['😀'])
  }),
  rule('queries.find.by-pages', 'a scan by limit and after gives each row once', async (s) => {
    const name = await wide(s), seen: Key[] = []
    for (let after: Key | undefined; ;) {
      const page = await s.find(name, { limit: 333, ...(after === undefined ? {} : { after }) })
      seen.push(...page.map((row) => row.key))
      expect(seen.length).toBeLessThanOrEqual(1500)
      if (page.length < 333) break
      after = page.at(-1)!.key
    }
    expect(seen).toEqual(numbers(0, 1500))
  }),
  rule('queries.find.fields', 'fields narrows a document to those that are there', async (s) => {
    const name = await s.collection({ a: { x: 1, y: null, z: { w: 1 } }, b: { z: 2 } })
    expect((await s.find(name, { fields: ['y', 'z', 'none'] })).map((row) => row.doc)).toEqual([{ y: null, z: { w: 1 } }, { z: 2 }])
    expect((await s.find(name, { fields: [] })).map((row) => [row.key, row.doc])).toEqual([['a', {}], ['b', {}]])
    expect((await s.find(name)).map((row) => row.doc)).toEqual([{ x: 1, y: null, z: { w: 1 } }, { z: 2 }])
  }),
  rule('queries.find.revs', 'every row comes with the rev of its last write', async (s) => {
    const name = await s.collection(), revs = await s.insert(name, { a: {}, b: {} })
    revs['b'] = await s.patch(name, 'b', { x: 1 })
    for (const row of await s.find(name, { fields: [] })) expect(row.rev).toBe(revs[row.key])
  }),
  rule('queries.find.outputs', 'outputs of the slots asked come with their rows, absent where there are none', async (s) => {
    const name = await s.collection({ a: {}, b: {}, c: {} }), one = await s.slot(name), two = await s.slot(name, { many: true }), three = await s.slot(name)
    await s.give(one, { a: [1], b: new Error('bad'), c: 'skip' })
    await s.give(two, { a: ['x', 'y'], b: [] })
    await s.give(three, { a: [3] })
    const found = await s.find(name, { slots: [one.id, two.id] })
    expect(found.map((row) => row.outputs ?? {})).toEqual([{ [one.id]: [1], [two.id]: ['x', 'y'] }, { [two.id]: [] }, {}])
    for (const row of await s.find(name)) expect(row.outputs ?? {}).toEqual({})
    expect((await s.find(name, { slots: [three.id], limit: 1 }))[0]!.outputs).toEqual({ [three.id]: [3] })
  }),
  rule('queries.find.many-slots', 'ten slots of one row come together', async (s) => {
    const name = await s.collection({ a: {}, b: {} }), slots = await Promise.all(Array.from({ length: 10 }, () => s.slot(name)))
    for (const [i, slot] of slots.entries()) await s.give(slot, { b: [i] })
    const [a, b] = await s.find(name, { slots: slots.map((slot) => slot.id) })
    expect([a!.outputs ?? {}, b!.outputs]).toEqual([{}, Object.fromEntries(slots.map((slot, i) => [slot.id, [i]]))])
  }),
  rule('queries.count.agrees', 'count counts what find finds', async (s) => {
    const name = await wide(s)
    expect(await s.data.count({ from: name }, s.ctx)).toBe(1500)
    expect(await s.data.count({ from: name, where: { kind: 'keys', keys: [keyOf(0), 'none', keyOf(7)] } }, s.ctx)).toBe(2)
    const of = await pool(s), r = random(s.settings.seed + 1)
    for (let i = 0; i < 30; i++) {
      const where = randomFilter(r, s.capabilities, Object.keys(of.docs))
      expect([text(where), await s.data.count({ from: of.name, where }, s.ctx)]).toEqual([text(where), expected(of, where).length])
    }
  }),

  rule('queries.keys.exact', 'the filter "keys" finds these rows, and no others', async (s) => {
    const of = await table(s)
    await agreeAll(s, of, [{ kind: 'keys', keys: [] }, { kind: 'keys', keys: ['none'] }, { kind: 'keys', keys: [keyOf(3)] }, { kind: 'keys', keys: [keyOf(9), keyOf(3), 'none', keyOf(3)] }])
  }),
  rule('queries.keys.many', 'the filter "keys" takes a thousand keys', async (s) => {
    const name = await wide(s), n = Math.min(1000, s.capabilities.limits.keys ?? 1000)
    expect(await s.keys(name, { kind: 'keys', keys: numbers(0, n).reverse() })).toEqual(numbers(0, n))
  }),
  ...groups.flatMap((group) => [
    rule(`queries.eq.${group}`, `eq finds ${group} as core does, at every path`, async (s) => {
      const of = await table(s)
      await agreeAll(s, of, paths.flatMap((path) => ofGroup(group).map((value) => eq(path, value))))
    }, filters('eq')),
    ...(group === 'bytes' ? [] : (['lt', 'lte', 'gt', 'gte'] as const).map((kind) => rule(`queries.${kind}.${group}`, `${kind} compares ${group} as core does, with their own kind only`, async (s) => {
      const of = await table(s)
      await agreeAll(s, of, paths.slice(0, 3).flatMap((path) => ofGroup(group).map((value): Filter => ({ kind, path, value }))))
    }, filters(kind)))),
  ]),
  rule('queries.in.groups', 'in finds any of its values, of mixed kinds', async (s) => {
    const of = await table(s), lists = [[1, 'a'], [1, 1n, 2], ['a', 'A', '', 'é'], [new Date(0), true, Number.NaN], [2n ** 53n + 1n, 2 ** 53], ['none'], [Uint8Array.from([1, 2]), 'a'], operands.slice(0, 40)]
    await agreeAll(s, of, paths.flatMap((path) => lists.map((values): Filter => ({ kind: 'in', path, values }))))
  }, filters('in')),
  rule('queries.null.missing', 'null finds null and missing, in lists too, and not what a path cannot enter by being a value', async (s) => {
    await agreeAll(s, await table(s), paths.map((path): Filter => ({ kind: 'null', path })))
  }, filters('null')),
  rule('queries.exists.both', 'exists tells null from missing', async (s) => {
    await agreeAll(s, await table(s), paths.flatMap((path) => [true, false].map((is): Filter => ({ kind: 'exists', path, is }))))
  }, filters('exists')),
  rule('queries.prefix.literal', 'prefix is literal, sensitive to case and to normalisation, and finds strings only', async (s) => {
    await agreeAll(s, await table(s), paths.flatMap((path) => ['a', 'A', 'ab', 'a ', 'a%', 'a_', '%', '_', 'a\\', '^', '.', '$', 'é', 'e', '😀', '\uffff', '"', `'`, '1', 't'].map((value): Filter => ({ kind: 'prefix', path, value }))))
  }, filters('prefix')),
  rule('queries.id.orders', 'lt, lte, gt and gte of _id compare keys by code point', async (s) => {
    const keys = ['a', 'B', 'b', 'é', '\uffff', '😀', 'a10', 'a9'], name = await s.collection(Object.fromEntries(keys.map((k) => [k, {}]))), of: Table = { name, docs: Object.fromEntries(keys.sort(compareStrings).map((k) => [k, {}])) }
    await agreeAll(s, of, (['lt', 'lte', 'gt', 'gte'] as const).flatMap((kind) => ['a', 'b', 'é', '\uffff', '😀', 'a5', 5].map((value): Filter => ({ kind, path: { at: ['_id'] }, value }))))
  }, filters('lt', 'lte', 'gt', 'gte')),
  rule('queries.id.prefix', 'prefix and exists of _id look at the key', async (s) => {
    const keys = ['a', 'aB', 'ab', 'a%', 'b'], name = await s.collection(Object.fromEntries(keys.map((k) => [k, {}]))), of: Table = { name, docs: Object.fromEntries(keys.sort(compareStrings).map((k) => [k, {}])) }
    await agreeAll(s, of, [...['a', 'ab', 'a%', 'B'].map((value): Filter => ({ kind: 'prefix', path: { at: ['_id'] }, value })), { kind: 'exists', path: { at: ['_id'] }, is: true }, { kind: 'exists', path: { at: ['_id'] }, is: false }])
  }, filters('prefix', 'exists')),
  rule('queries.not.whole', 'not turns round the answer of a whole path, with missing fields and lists', async (s) => {
    const of = await table(s), path: Path = { at: ['a'] }, inner: Path = { at: ['a', 'b'] }
    await agreeAll(s, of, [eq(path, 1), eq(inner, 1), eq(path, 'a'), eq(path, Number.NaN), eq({ at: ['none'] }, 1)].flatMap((f): Filter[] => [{ kind: 'not', of: f }, { kind: 'not', of: { kind: 'not', of: f } }]))
  }, filters('not', 'eq')),
  rule('queries.not.orders', 'not of an order also finds what cannot be compared', async (s) => {
    await agreeAll(s, await table(s), (['gt', 'lte'] as const).flatMap((kind) => [1, 'a', new Date(0), true, Number.NaN].map((value): Filter => ({ kind: 'not', of: { kind, path: { at: ['a'] }, value } }))))
  }, filters('not', 'gt', 'lte')),
  rule('queries.not.null-exists', 'not of null and of exists', async (s) => {
    await agreeAll(s, await table(s), paths.flatMap((path): Filter[] => [{ kind: 'not', of: { kind: 'null', path } }, { kind: 'not', of: { kind: 'exists', path, is: true } }]))
  }, filters('not', 'null', 'exists')),
  rule('queries.and-or.elements', 'and and or join answers of whole rows: two conditions may hold for two elements of one list', async (s) => {
    const of = await table(s), path: Path = { at: ['a'] }
    await agreeAll(s, of, [[eq(path, 1), eq(path, 'a')], [eq(path, 1), eq({ at: ['a', 'b'] }, 2)], [eq(path, true), eq(path, 1), eq(path, 'a')]].flatMap((list): Filter[] => [{ kind: 'and', of: list }, { kind: 'or', of: list }, { kind: 'or', of: [{ kind: 'and', of: list }, { kind: 'keys', keys: [keyOf(0)] }] }]))
  }, filters('and', 'or', 'eq')),
  rule('queries.and.deep', 'sixty conditions in one filter, and fifteen levels of nesting', async (s) => {
    const of = await table(s), deep = Array.from({ length: 15 }).reduce<Filter>((f, _, i) => ({ kind: i % 2 === 0 ? 'and' : 'or', of: [f, eq({ at: ['a'] }, i)] }), eq({ at: ['a'] }, 1))
    await agreeAll(s, of, [{ kind: 'or', of: Array.from({ length: 60 }, (_, i) => eq({ at: ['a'] }, i)) }, deep])
  }, filters('and', 'or', 'eq')),
  rule('queries.outputs.eq', 'filters look into outputs, where a slot allows it, and find nothing where there is none', async (s) => {
    const name = await s.collection(many(scalars.length, () => ({}))), slot = await s.slot(name), outputs = Object.fromEntries(scalars.map((v, i) => [keyOf(i), [i % 2 === 0 ? v : { label: v, list: [v, 1] }] as const]))
    await s.give(slot, { ...outputs, k0003: new Error('bad'), k0004: 'skip' })
    if (!(await s.data.openSlot(slot, s.ctx)).filters) return
    const values = (key: Key): readonly Value[] | undefined => (key === 'k0003' || key === 'k0004' ? undefined : outputs[key])
    const path = (...at: readonly string[]): Path => ({ slot: slot.id, at })
    const cases: readonly Filter[] = [path(), path('label'), path('list'), path('none')].flatMap((p): Filter[] => [
      ...operands.map((value): Filter => eq(p, value)), { kind: 'null', path: p }, { kind: 'exists', path: p, is: true }, { kind: 'exists', path: p, is: false }, { kind: 'prefix', path: p, value: 'a' }, { kind: 'in', path: p, values: [1, 'a', true] },
      ...operands.filter((o) => !(o instanceof Uint8Array)).map((value): Filter => ({ kind: 'gt', path: p, value })), { kind: 'not', of: eq(p, 1) }, { kind: 'not', of: { kind: 'null', path: p } },
    ]).filter((f) => s.capabilities.filters.includes(f.kind) && (f.kind !== 'not' || s.capabilities.filters.includes(f.of.kind)))
    for (const where of cases) {
      const right = Object.keys(outputs).filter((key) => evaluate(where, key, {}, () => values(key)))
      expect([text(where), await s.keys(name, where)]).toEqual([text(where), right])
    }
  }, filters('eq')),
  ...(['boolean', 'number', 'string'] as const).map((kind) => rule(`queries.outputs.${kind}`, `outputs of the shape "${kind}" are filtered as core does`, async (s) => {
    const list: readonly Value[] = kind === 'boolean' ? [true, false] : kind === 'number' ? [0, -0, 1, 1.5, -1, 2 ** 53, Number.NaN, Infinity, -Infinity, 1e21] : ['', 'a', 'A', 'ab', 'é', '\uffff', '😀', '1']
    const name = await s.collection(many(list.length + 1, () => ({}))), slot = await s.slot(name, { shape: { kind } }), path: Path = { slot: slot.id, at: [] }
    await s.give(slot, Object.fromEntries(list.map((v, i) => [keyOf(i), [v]])))
    if (!(await s.data.openSlot(slot, s.ctx)).filters) return
    const cases = operands.flatMap((value): Filter[] => [eq(path, value), ...(value instanceof Uint8Array ? [] : (['lt', 'lte', 'gt', 'gte'] as const).map((k): Filter => ({ kind: k, path, value })))])
    for (const where of [...cases, { kind: 'null', path }, { kind: 'exists', path, is: true }, { kind: 'prefix', path, value: 'a' }, { kind: 'not', of: eq(path, list[0] as never) }, { kind: 'eq', path: { slot: slot.id, at: ['x'] }, value: 1 }] as const) {
      if (!s.capabilities.filters.includes(where.kind)) continue
      const right = [...list.keys(), list.length].map((i) => keyOf(i)).filter((key, i) => evaluate(where, key, {}, () => (i < list.length ? [list[i]!] : undefined)))
      expect([text(where), await s.keys(name, where)]).toEqual([text(where), right])
    }
  }, filters('eq', 'lt', 'gt', 'lte', 'gte', 'not'))),

  rule('queries.order.table', 'the database sorts values of all kinds as core does, ties by key', async (s) => {
    for (const of of [await table(s), await pool(s)]) for (const by of orders) {
      const found = await s.find(of.name, { order: by.map(({ path, descending }) => ({ path: { at: path }, descending })) })
      expect([text(by), found.map((row) => row.key)]).toEqual([text(by), ordered(of.docs, by)])
    }
  }, sorts),
  rule('queries.order.page', 'the database sorts before it skips and limits', async (s) => {
    const of = await pool(s)
    for (const by of orders) for (const [skip, limit] of [[0, 5], [3, 10], [100, 100], [500, 1]] as const) {
      const found = await s.find(of.name, { order: by.map(({ path, descending }) => ({ path: { at: path }, descending })), skip, limit })
      expect(found.map((row) => row.key)).toEqual(ordered(of.docs, by).slice(skip, skip + limit))
    }
  }, sorts),
  rule('queries.api.sort', 'the API sorts in the same order, whoever does it', async (s) => {
    const docs = (await s.inlay()).collection<Record<string, unknown>>(s.name()), r = random(s.settings.seed + 2)
    await docs.insert(Array.from({ length: 80 }, (_, i) => ({ _id: keyOf(i), ...randomDoc(r) })))
    const stored = rowsOf(await s.find(docs.name))
    for (const by of orders) {
      const sort = Object.fromEntries(by.map(({ path, descending }) => [path.join('.'), descending ? -1 : 1])) as Record<string, 1 | -1>
      const right = ordered(stored, by)
      expect((await docs.find().sort(sort).toArray()).map((row) => row._id)).toEqual(right)
      expect((await docs.find().sort(sort).skip(7).limit(9).toArray()).map((row) => row._id)).toEqual(right.slice(7, 16))
      expect((await docs.find({ a: { $size: 1 } }).sort(sort).limit(3).toArray()).map((row) => row._id)).toEqual(right.filter((key) => { const a = stored[key]!['a']; return Array.isArray(a) && a.length === 1 }).slice(0, 3))
    }
  }),
  rule('queries.api.page', 'the API skips, limits, selects and counts', async (s) => {
    const docs = (await s.inlay()).collection<{ i: number; x: number[] }>(s.name())
    await docs.insert(Array.from({ length: 40 }, (_, i) => ({ _id: keyOf(i), i, x: [i % 4] })))
    const ids = async (of: AsyncIterable<{ _id: string }>): Promise<Key[]> => { const list: Key[] = []; for await (const { _id } of of) list.push(_id); return list }
    expect(await ids(docs.find().skip(5).limit(3))).toEqual(numbers(5, 8))
    expect(await ids(docs.find({ x: { $size: 1 } }).skip(5).limit(3))).toEqual(numbers(5, 8))
    expect(await ids(docs.find({ x: 2 }).skip(1).limit(2))).toEqual([keyOf(6), keyOf(10)])
    expect([await docs.find({ x: 2 }).count(), await docs.find({ x: 2 }).skip(3).limit(100).count(), await docs.find({ x: { $size: 1 } }).limit(7).count()]).toEqual([10, 7, 7])
    const [row] = await docs.find({ x: 3 }).select('i').toArray()
    expect(row).toEqual({ _id: keyOf(3), i: 3, _fold: (row as { _fold?: string })._fold })
    expect(await docs.findOne({ x: 9 })).toBeUndefined()
  }),
  rule('queries.api.explain', 'explain names the server and says what the database does and what is done here', async (s) => {
    const docs = (await s.inlay()).collection<{ x: number }>(s.name())
    const said = await docs.find({ x: 1, y: { $size: 2 } } as never).sort({ x: -1 }).limit(3).explain()
    expect(said).toContain(s.connection.server)
    expect(said).toMatch(/here, on the stream: .*\$size/)
    expect(said.includes('database: x $eq 1')).toBe(s.capabilities.filters.includes('eq'))
    expect(await docs.find().sort({ x: 1 }).explain()).toMatch(s.capabilities.order ? /sort by x ascending: database/ : /sort by x ascending: here/)
  }),
  rule('queries.api.core-filters', 'core evaluates the kinds of filters that the plugin does not declare', async (s) => {
    const docs = (await s.inlay()).collection<{ x?: number | null }>(s.name())
    await docs.insert([{ _id: 'a', x: 1 }, { _id: 'b', x: 2 }, { _id: 'c' }, { _id: 'd', x: null }])
    const ids = async (where: object): Promise<string[]> => (await docs.find(where as never).toArray()).map((row) => row._id)
    expect([await ids({ x: 1 }), await ids({ x: { $ne: 1 } }), await ids({ x: null }), await ids({ x: { $exists: true } }), await ids({ $or: [{ x: 1 }, { x: { $gt: 1 } }] }), await ids({ _id: { $in: ['a', 'd', 'z'] } }), await ids({ _id: { $regex: '^b' } })])
      .toEqual([['a'], ['b', 'c', 'd'], ['c', 'd'], ['a', 'b', 'd'], ['a', 'b'], ['a', 'd'], ['b']])
    expect(await docs.find({ x: { $gte: 1 } }).explain()).toContain(s.capabilities.filters.includes('gte') ? 'database: x $gte 1' : 'here, on the stream: x $gte 1')
  }, narrowFilters),
  rule('queries.api.core-sort', 'core sorts where the plugin does not', async (s) => {
    expect(await (await s.inlay()).collection<{ x: number }>(s.name()).find().sort({ x: 1 }).limit(3).explain()).toMatch(/sort by x ascending: here/)
  }, sortsInCore),

  ...userTests.map(([id, tests]) => rule(`queries.user.${id}`, `the API finds with ${id} what core's tests say, at the top, nested, in lists, with null and missing`, async (s) => {
    const { name, docs } = await small(s), find = (await s.inlay()).collection<Record<string, unknown>>(name), views = Object.entries(docs).map(([_id, doc]): Doc => ({ ...doc, _id }))
    for (const test of tests) for (const path of ['a', 'a.b']) {
      const where = { [path]: test }, conditions = parseFilter(where as never)
      expect([text(where), (await find.find(where as never).toArray()).map((row) => row._id)]).toEqual([text(where), views.filter((view) => conditions.every((c) => c.test(view))).map((view) => view['_id'])])
    }
  })),
  rule('queries.random.filters', 'random filters find what core evaluates', async (s) => {
    const of = await pool(s), r = random(s.settings.seed + 3)
    for (let i = 0; i < s.settings.cases; i++) await agree(s, of, randomFilter(r, s.capabilities, Object.keys(of.docs)))
  }),
  rule('queries.random.slots', 'random selections of a slot offer what find finds', async (s) => {
    const of = await pool(s), r = random(s.settings.seed + 4)
    for (let i = 0; i < Math.min(25, s.settings.cases); i++) {
      const where = randomFilter(r, s.capabilities, Object.keys(of.docs)), slot = await s.slot(of.name, { where, fields: [] })
      expect([text(where), await s.offered(slot)]).toEqual([text(where), expected(of, where)])
      expect((await s.data.tally(slot, s.ctx)).rows).toBe(expected(of, where).length)
      await s.data.dropSlot(slot.id, s.ctx)
    }
  }),
  rule('queries.random.users', "random filters of users find what core's tests say", async (s) => {
    const docs = (await s.inlay()).collection<Record<string, unknown>>(s.name()), r: Random = random(s.settings.seed + 5)
    await docs.insert(Array.from({ length: 60 }, (_, i) => ({ _id: keyOf(i), ...randomDoc(r) })))
    const views = (await all(s.data.find({ from: docs.name }, s.ctx))).map((row): Doc => ({ ...row.doc, _id: row.key }))
    for (let i = 0; i < s.settings.cases; i++) {
      const where = randomWhere(r, Object.keys(views)), tests = parseFilter(where)
      const right = views.filter((view) => tests.every((c) => c.test(view))).map((view) => view['_id'])
      expect([text(where), (await docs.find(where).toArray()).map((row) => row._id)]).toEqual([text(where), right])
    }
  }),
]
