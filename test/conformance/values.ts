/** Each hard value in each position is read back as it was written. */
import { expect } from 'vitest'
import type { Doc, Filter, Key, Scalar, Value } from '../../core/contract.ts'
import { encode, sha256 } from '../../core/encoding.ts'
import { evaluate } from '../../core/match.ts'
import { compareStrings, isBytes, setOwn } from '../../core/value.ts'
import { hardKeys, hardValues, type HardValue } from './hard-values.ts'
import { filters, holds, keeps, loses, refuses, rule, type Rule } from './rule.ts'
import { outcome, type Subject } from './subject.ts'

const around = (v: Value): Doc => ({ before: 1, v, object: { in: { v }, list: [v] }, list: [0, v, [v], { v }], after: 'x' })
const storable = (s: Subject): readonly HardValue[] => hardValues.filter(({ has }) => has === undefined || !s.capabilities.refuses.includes(has))
const shared = (s: Subject): Promise<string> => s.once('values', () => s.collection())
const keysOf = (s: Subject): readonly string[] => hardKeys.filter((key) => Buffer.byteLength(key) <= (s.capabilities.limits.keyBytes ?? Infinity))
/** All values in all places, for operands to find. */
const operandTable = (s: Subject): Promise<{ readonly collection: string; readonly docs: Readonly<Record<Key, Doc>> }> => s.once('operands', async () => {
  const docs = Object.fromEntries(storable(s).filter(({ value }) => encode(value).length < 40_000).map(({ name, value }) => [name, around(value)]))
  return { collection: await s.collection(docs), docs }
})
/** Part of a rule's id: the code points of a key. */
const slug = (key: Key): string => (key.length > 8 ? `long-${sha256(key).slice(0, 6)}` : Array.from(key, (c) => c.codePointAt(0)!.toString(16)).join('-'))
/** Names of top-level fields that a database may take for something else. */
const fieldNames = ['', ' ', 'a', 'A', 'a.b', '.', '$x', '$set', '0', '01', '__proto__', 'constructor', 'toString', 'key', 'rev', 'doc', 'value', 'source', 'offset', '_fold', '_key', '_id2', 'é', '😀', `"`, `'`, '`', '\\', '--', 'select', 'a b', 'f'.repeat(300)]
const allFields = (value: (i: number) => Value): Doc => {
  const doc: Record<string, Value> = {}
  for (const [i, name] of fieldNames.entries()) setOwn(doc, name, value(i))
  return doc
}

export const values: readonly Rule[] = [
  ...hardValues.map(({ name, value, has }) => rule(`values.hold.${name}`, `${name} is held at the top, nested and in lists, and read so by models`, async (s) => {
    const collection = await shared(s), doc = around(value)
    const slot = await s.once('slot', () => s.slot(collection, { fields: ['v'] }))
    await s.insert(collection, { [name]: doc })
    s.expectSame((await s.row(collection, name))?.doc, doc, 'the document')
    s.expectSame((await s.at(slot, name)).doc, { v: value }, 'what the model reads')
    s.expectSame((await s.find(collection, { where: { kind: 'keys', keys: [name] }, fields: ['list', 'v'] }))[0]?.doc, { v: value, list: doc['list']! }, 'some fields')
  }, ...(has === undefined ? [] : [holds(has)]))),
  ...hardValues.map(({ name, value, has }) => rule(`values.output.${name}`, `${name} is held as an output, as one of many, and read so downstream`, async (s) => {
    const { collection, one, many, next } = await s.once('outputs', async () => {
      const made = await s.collection(), first = await s.slot(made)
      return { collection: made, one: first, many: await s.slot(made, { many: true }), next: await s.slot(made, { upstream: [first.id], fields: [] }) }
    })
    await s.insert(collection, { [name]: {} })
    await s.give(one, { [name]: [value] })
    await s.give(many, { [name]: [value, [value], { v: value }] })
    const row = await s.row(collection, name, [one.id, many.id])
    s.expectSame(row?.outputs?.[one.id], [value], 'the output')
    s.expectSame(row?.outputs?.[many.id], [value, [value], { v: value }], 'many outputs')
    s.expectSame((await s.at(next, name)).outputs?.[one.id], [value], 'what the next model reads')
    s.expectSame((await s.find(many.id, { where: { kind: 'keys', keys: [`${name}#0`, `${name}#2`] } })).map((r) => r.doc['value']!), [value, { v: value }], 'as rows')
    await s.give(one, { [name]: 'same' })
    s.expectSame(await s.output(one, name), [value], 'after "same"')
  }, ...(has === undefined ? [] : [holds(has)]))),
  ...hardValues.flatMap(({ name, value, has }) => (asOperand(value) ? [rule(`values.operand.${name}`, `${name} as an operand finds what core says, at the top, nested and in lists`, async (s) => {
    const { collection, docs } = await operandTable(s), can = (kind: Filter['kind']): boolean => s.capabilities.filters.includes(kind)
    for (const at of [['v'], ['object', 'in', 'v'], ['object', 'list'], ['list', 'v']]) {
      const path = { at }, ordered = !(value instanceof Uint8Array)
      const wheres: readonly Filter[] = [
        { kind: 'eq', path, value }, { kind: 'in', path, values: [value, 'nobody has this'] }, { kind: 'not', of: { kind: 'eq', path, value } },
        ...(ordered ? (['lt', 'lte', 'gt', 'gte'] as const).map((kind): Filter => ({ kind, path, value })) : []), ...(typeof value === 'string' && value !== '' ? [{ kind: 'prefix', path, value } as const] : []),
      ]
      for (const where of wheres.filter((f) => can(f.kind) && (f.kind !== 'not' || can('eq')))) {
        const right = Object.keys(docs).filter((key) => evaluate(where, key, docs[key]!)).sort(compareStrings)
        expect([where.kind, at.join('.'), await s.keys(collection, where)]).toEqual([where.kind, at.join('.'), right])
      }
    }
    const found = (await (await s.inlay()).collection<Record<string, unknown>>(collection).find({ v: value } as never).toArray()).map((row) => row._id)
    expect(found).toEqual(Object.keys(docs).filter((key) => evaluate({ kind: 'eq', path: { at: ['v'] }, value }, key, docs[key]!)).sort(compareStrings))
  }, ...(has === undefined ? [] : [holds(has)]))] : [])),
  ...hardValues.filter(({ has }) => has !== undefined).map(({ name, value, has }) => rule(`values.refuse.${name}`, `${name} is refused by the API with its path, and the other documents are written`, async (s) => {
    const docs = (await s.inlay()).collection(s.name())
    const { ids, refused } = await docs.insert([{ _id: 'a' }, { _id: 'b', in: { list: [0, value] } }, { _id: 'c' }])
    expect(ids).toEqual(['a', 'c'])
    expect(refused).toMatchObject([{ index: 1, code: 'INVALID_ARGUMENT', path: expect.stringMatching(/^in\.list\.1/) as unknown }])
    expect((await docs.update({ _id: 'a' }, { $set: { v: value } })).refused).toMatchObject([{ id: 'a', code: 'INVALID_ARGUMENT' }])
    expect((await docs.replace('a', { v: value })).refused).toMatchObject([{ id: 'a', code: 'INVALID_ARGUMENT' }])
    expect(await docs.find().sort({ _id: 1 }).toArray()).toMatchObject([{ _id: 'a' }, { _id: 'c' }])
  }, refuses(has!))),
  rule('values.refuse.nul-in-filter', 'the API answers a filter with a NUL character, though no row can match', async (s) => {
    const docs = (await s.inlay()).collection(s.name())
    await docs.insert({ _id: 'a', v: 'x' })
    expect(await docs.find({ v: 'x\0' }).toArray()).toEqual([])
    expect(await docs.find({ v: { $ne: 'x\0' } }).count()).toBe(1)
    expect(await docs.find({ v: { $in: ['x', 'x\0'] } }).count()).toBe(1)
  }, refuses('nul')),

  rule('values.put.all', 'a put holds every value', async (s) => {
    const collection = await s.collection({ a: { old: 1 } })
    for (const { name, value } of storable(s)) {
      await s.write(collection, { kind: 'put', key: 'a', doc: { [name]: value, v: value } })
      s.expectSame((await s.row(collection, 'a'))?.doc, { [name]: value, v: value }, name)
    }
  }),
  rule('values.patch.all', 'a patch holds every value', async (s) => {
    const collection = await s.collection({ a: { kept: 1 } })
    const set = Object.fromEntries(storable(s).map(({ name, value }) => [name, value]))
    await s.patch(collection, 'a', set)
    s.expectSame((await s.row(collection, 'a'))?.doc, { kept: 1, ...set })
    for (const { name, value } of storable(s)) {
      await s.patch(collection, 'a', { v: value })
      s.expectSame((await s.row(collection, 'a'))?.doc['v'], value, name)
    }
  }),
  rule('values.one-document.all', 'one document holds all values together', async (s) => {
    const doc = Object.fromEntries(storable(s).map(({ name, value }) => [name, value]))
    const collection = await s.collection({ a: doc })
    s.expectSame((await s.row(collection, 'a'))?.doc, doc)
  }),
  rule('values.one-batch.all', 'one write holds all values, each in its own row', async (s) => {
    const list = storable(s), collection = await s.collection(Object.fromEntries(list.map(({ name, value }) => [name, { v: value }])))
    const rows = new Map((await s.find(collection)).map((row) => [row.key, row.doc]))
    expect(rows.size).toBe(list.length)
    for (const { name, value } of list) s.expectSame(rows.get(name), { v: value }, name)
  }),
  rule('values.many.all', 'the outputs of a many slot hold every value, in their order', async (s) => {
    const list = storable(s).map(({ value }) => value), collection = await s.collection({ a: {} }), slot = await s.slot(collection, { many: true })
    await s.give(slot, { a: list })
    s.expectSame(await s.output(slot, 'a'), list)
  }),
  rule('values.fields.top', 'top-level fields may have any name, in inserts, puts and patches', async (s) => {
    const doc = allFields((i) => i), collection = await s.collection({ a: doc })
    s.expectSame((await s.row(collection, 'a'))?.doc, doc, 'inserted')
    for (const [i, name] of fieldNames.entries()) {
      const set: Record<string, Value> = {}
      setOwn(set, name, [i])
      await s.patch(collection, 'a', set)
    }
    s.expectSame((await s.row(collection, 'a'))?.doc, allFields((i) => [i]), 'patched one by one')
    await s.patch(collection, 'a', allFields((i) => ({ i })))
    s.expectSame((await s.row(collection, 'a'))?.doc, allFields((i) => ({ i })), 'patched at once')
    for (const name of fieldNames) {
      const [row] = await s.find(collection, { fields: [name] })
      expect(Object.keys(row!.doc)).toEqual([name])
    }
    await s.patch(collection, 'a', { rest: 1 }, fieldNames)
    s.expectSame((await s.row(collection, 'a'))?.doc, { rest: 1 }, 'unset')
    await s.write(collection, { kind: 'put', key: 'a', doc })
    s.expectSame((await s.row(collection, 'a'))?.doc, doc, 'put')
  }),
  rule('values.fields.filters', 'fields of any name can be filtered', async (s) => {
    const names = fieldNames.filter((name) => name !== '' && !name.includes('.') && !name.startsWith('$') && !/^\d+$/.test(name))
    const collection = await s.collection({ a: Object.fromEntries(names.map((n) => [n, 1])), b: Object.fromEntries(names.map((n) => [n, 2])) })
    for (const name of names) expect(await s.keys(collection, { kind: 'eq', path: { at: [name] }, value: 2 })).toEqual(['b'])
  }, filters('eq')),
  rule('values.order.kept', 'fields keep their order', async (s) => {
    const doc = { z: 1, a: { y: 1, b: 2 }, m: [{ d: 1, c: 2 }], 'long field': 1, b: 1 }, collection = await s.collection({ a: doc })
    const read = (await s.row(collection, 'a'))!.doc as typeof doc
    expect([Object.keys(read), Object.keys(read.a), Object.keys(read.m[0]!)]).toEqual([['z', 'a', 'm', 'long field', 'b'], ['y', 'b'], ['d', 'c']])
  }, keeps('field-order')),
  rule('values.order.lost', 'fields of documents that lose their order are equal nevertheless, and a note says so', async (s) => {
    const doc = { z: 1, a: { y: 1, b: 2 }, m: [{ d: 1, c: 2 }] }, collection = await s.collection({ a: doc })
    s.expectSame((await s.row(collection, 'a'))?.doc, doc)
    expect(s.capabilities.notes.join(' ')).toMatch(/order/i)
  }, loses('field-order')),
  rule('values.negative-zero.lost', 'a lost -0 is read as 0, and a note says so', async (s) => {
    const collection = await s.collection({ a: { v: -0 } })
    expect((await s.row(collection, 'a'))?.doc['v']).toBe(0)
    expect(s.capabilities.notes.join(' ')).toMatch(/-0|zero/i)
  }, loses('negative-zero')),

  rule('values.keys.hard', 'keys of rows may be any text', async (s) => {
    const keys = keysOf(s), collection = await s.collection(), slot = await s.slot(collection)
    const written = await s.write(collection, ...keys.map((key, i) => ({ kind: 'insert' as const, key, doc: { i } })))
    expect(written.map((w) => [w.status, w.key])).toEqual(keys.map((key) => ['done', key]))
    expect(await s.keys(collection)).toEqual([...keys].sort(compareStrings))
    for (const [i, key] of keys.entries()) expect(await s.row(collection, key)).toMatchObject({ key, doc: { i } })
    const rows = await s.rows(slot)
    expect(await s.data.settle(slot, rows.map((row) => ({ key: row.key, rev: row.rev, hash: 'h', kind: 'values', values: [row.key] })), s.ctx)).toEqual([])
    for (const row of await s.find(collection, { slots: [slot.id] })) expect(row.outputs?.[slot.id]).toEqual([row.key])
    for (const key of keys) expect(await s.keys(collection, { kind: 'keys', keys: [key] })).toEqual([key])
    const patched = await s.write(collection, ...keys.map((key) => ({ kind: 'patch' as const, key, set: { patched: key }, unset: ['i'] })))
    expect(patched.map((w) => [w.status, w.key])).toEqual(keys.map((key) => ['done', key]))
    for (const row of await s.find(collection)) expect(row.doc).toEqual({ patched: row.key })
    await s.remove(collection, ...keys.slice(1))
    expect(await s.keys(collection)).toEqual(keys.slice(0, 1))
  }),
  ...hardKeys.map((key) => rule(`values.key.${slug(key)}`, `a row may have the key ${JSON.stringify(key.length > 20 ? `${key.slice(0, 5)}… (${key.length})` : key)}`, async (s) => {
    const { collection, one, many } = await s.once('keys', async () => {
      const made = await s.collection({ '!': {}, '~~~': {} })
      return { collection: made, one: await s.slot(made), many: await s.slot(made, { many: true }) }
    })
    const where: Filter = { kind: 'keys', keys: [key] }, rev = (await s.insert(collection, { [key]: { x: 1 } }))[key] ?? (await s.row(collection, key))!.rev
    expect(await s.write(collection, { kind: 'insert', key, doc: { x: 2 } })).toMatchObject([{ status: 'exists', key }])
    expect([await s.keys(collection, where), await s.data.count({ from: collection, where }, s.ctx), (await s.find(collection)).map((row) => row.key)]).toEqual([[key], 1, ['!', '~~~', key].sort(compareStrings)])
    for (const [slot, values] of [[one, [key]], [many, [key, 'second']]] as const) {
      expect(await s.offered(slot, 'stale', [key])).toEqual([key])
      await s.data.settle(slot, [outcome(await s.at(slot, key), values)], s.ctx)
      expect([await s.output(slot, key), await s.offered(slot, 'stale', [key]), await s.data.prune(slot, [key], s.ctx)]).toEqual([values, [], 0])
    }
    expect((await s.find(many.id)).map((row) => [row.key, row.doc['source'], row.doc['offset']])).toEqual([[`${key}#0`, key, 0], [`${key}#1`, key, 1]])
    expect((await s.find(collection, { after: key })).map((row) => row.key)).toEqual(['!', '~~~'].filter((k) => compareStrings(k, key) > 0))
    expect(await s.write(collection, { kind: 'patch', key, set: { x: 3 }, unset: [], rev }, { kind: 'remove', key: `${key}x` })).toMatchObject([{ status: 'done', key }, { status: 'missing' }])
    await s.remove(collection, key)
    expect([await s.keys(collection), await s.find(many.id)]).toEqual([['!', '~~~'], []])
  }, { says: 'the key is longer than the limit', met: (s) => Buffer.byteLength(key) + 1 <= (s.capabilities.limits.keyBytes ?? Infinity) })),
  rule('values.keys.apart', 'keys are compared by code point: none is folded, trimmed or normalised', async (s) => {
    const collection = await s.collection({ a: { n: 1 } })
    for (const key of ['A', 'a ', ' a', 'á', 'a\u0301']) expect((await s.write(collection, { kind: 'insert', key, doc: {} }))[0]).toMatchObject({ status: 'done', key })
    expect(await s.keys(collection)).toEqual([' a', 'A', 'a', 'a ', 'a\u0301', 'á'])
    expect(await s.keys(collection, { kind: 'keys', keys: ['a\u0301', 'zz'] })).toEqual(['a\u0301'])
  }),

  rule('values.api.all', 'the API gives back every value that it took', async (s) => {
    const docs = (await s.inlay()).collection<Record<string, unknown>>(s.name()), list = storable(s)
    const { refused } = await docs.insert(list.map(({ name, value }) => ({ _id: name, v: value, in: [{ v: value }] })))
    expect(refused).toEqual([])
    for (const { name, value } of list) {
      const row = await docs.findOne({ _id: name })
      s.expectSame(row?.['v'] as Value, value, name)
      s.expectSame(row?.['in'] as Value, [{ v: value }], name)
    }
  }),
  rule('values.api.update', 'the API gives back every value that an update or a replacement set', async (s) => {
    const docs = (await s.inlay()).collection<Record<string, unknown>>(s.name())
    await docs.insert({ _id: 'a' })
    for (const { name, value } of storable(s)) {
      await docs.update({ _id: 'a' }, { $set: { 'deep.v': value } })
      s.expectSame((await docs.findOne({ _id: 'a' }))?.['deep'] as Value, { v: value }, name)
      expect((await docs.replace('a', { v: value })).refused).toEqual([])
      s.expectSame((await docs.findOne({ _id: 'a' }))?.['v'] as Value, value, name)
    }
  }),
  rule('values.api.refused', 'the API refuses what no database holds, with its path', async (s) => {
    const docs = (await s.inlay()).collection<Record<string, unknown>>(s.name())
    const bad: readonly (readonly [string, unknown])[] = [['v', () => 1], ['v', Symbol('x')], ['v', new Date(Number.NaN)], ['v', 'lone \ud800'], ['v', new Map()], ['v.0', [undefined]], ['_outputs', 1], ['_rev', 'x'], ['_id', 7], ['_id', ''], ['_id', 'a\0'], ['_fold', 'other']]
    const { refused, ids } = await docs.insert(bad.map(([path, v]) => ({ [path.split('.')[0]!]: v })) as never)
    expect(ids).toEqual([])
    expect(refused.map((r) => r.path)).toEqual(bad.map(([path]) => path))
  }),
]

function asOperand(value: Value): value is NonNullable<Scalar> {
  if (typeof value === 'bigint') return BigInt.asIntN(64, value) === value
  return value !== null && (typeof value !== 'object' || value instanceof Date || (isBytes(value) && value.byteLength <= 16 * 1024))
}
