/** What a plugin is given it does not change and does not keep; what it returns nobody else holds. */
import { expect } from 'vitest'
import type { Doc, Row, Value } from '../../core/contract.ts'
import { sha256 } from '../../core/encoding.ts'
import { isDoc, isTypedArray } from '../../core/value.ts'
import { rule, type Rule } from './rule.ts'
import { all, outcome } from './subject.ts'

const fresh = (): { x: { deep: number[] }; bytes: Uint8Array; at: Date; list: { v: number }[]; floats: Float32Array } => ({ x: { deep: [1, 2] }, bytes: Uint8Array.from([1, 2, 3]), at: new Date(5), list: [{ v: 1 }], floats: Float32Array.from([1, 2]) })

/** Changes a value everywhere it can be changed. */
function spoil(value: unknown): void {
  if (value instanceof Date) value.setTime(0)
  else if (isTypedArray(value)) (value as Uint8Array).fill(9 as never)
  else if (Array.isArray(value)) { for (const v of value) spoil(v); value.push('spoilt') }
  else if (isDoc(value)) {
    const doc = value as Record<string, Value>
    for (const [name, v] of Object.entries(doc)) { spoil(v); if (typeof v !== 'object' || v === null) doc[name] = 'spoilt' }
    doc['spoilt'] = true
  }
}
/** A value that throws when it is changed; typed arrays and dates cannot be frozen. */
function frozen<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !ArrayBuffer.isView(value)) {
    for (const v of Object.values(value)) frozen(v)
    Object.freeze(value)
  }
  return value
}

export const aliasing: readonly Rule[] = [
  rule('aliasing.given.document', 'a document may be changed once it was written, by insert, put or patch', async (s) => {
    const name = await s.collection({ b: {}, c: {} }), docs = [fresh(), fresh(), fresh()] as const
    const ops = [{ kind: 'insert', key: 'a', doc: docs[0] }, { kind: 'put', key: 'b', doc: docs[1] }, { kind: 'patch', key: 'c', set: docs[2], unset: [] }] as const
    await s.raw.write(name, ops, s.ctx)
    for (const doc of docs) spoil(doc)
    for (const row of await s.find(name)) s.expectSame(row.doc, fresh())
  }),
  rule('aliasing.given.unchanged', 'documents, filters and outcomes are not changed', async (s) => {
    const name = await s.collection({ c: {} }), docs = [fresh(), fresh(), fresh()] as const
    await s.raw.write(name, frozen([{ kind: 'insert', key: 'a', doc: docs[0] }, { kind: 'put', key: 'b', doc: docs[1] }, { kind: 'patch', key: 'c', set: docs[2], unset: ['none'] }] as const), s.ctx)
    const slot = frozen(await s.slot(name)), rows = await all(s.raw.rows(slot, 'stale', frozen(['c', 'a', 'b']), s.ctx)), values = [fresh(), fresh(), fresh()]
    await s.raw.settle(slot, frozen(rows.map((row, i) => outcome(row, [values[i]!]))), s.ctx)
    await all(s.raw.find(frozen({ from: name, where: { kind: 'keys', keys: ['b', 'a'] }, slots: [slot.id], fields: ['x'] } as const), s.ctx))
    for (const doc of [...docs, ...values]) s.expectSame(doc as Doc, fresh())
  }),
  rule('aliasing.given.outputs', 'an output may be changed once it was settled', async (s) => {
    const name = await s.collection({ a: {} }), json = await s.slot(name), list = await s.slot(name, { many: true }), vector = await s.slot(name, { shape: { kind: 'vector', dims: 2 } }), [row] = await s.rows(json)
    const values = [[fresh()], [fresh(), [1, 2]], [Float32Array.from([1, 2])]] as const
    for (const [i, slot] of [json, list, vector].entries()) await s.raw.settle(slot, [outcome(row!, values[i]!)], s.ctx)
    for (const v of values) spoil(v)
    s.expectSame(await s.output(json, 'a'), [fresh()])
    s.expectSame(await s.output(list, 'a'), [fresh(), [1, 2]])
    s.expectSame(await s.output(vector, 'a'), [Float32Array.from([1, 2])])
  }),
  rule('aliasing.given.artifact', 'the parts of an artifact may be changed once they were taken', async (s) => {
    const bytes = Uint8Array.from({ length: 5000 }, (_, i) => i % 251), id = sha256(bytes), part = new Uint8Array(1000)
    await s.artifacts.write(id, (async function* () { for (let at = 0; at < 5000; at += 1000) { part.set(bytes.subarray(at, at + 1000)); yield part } })(), s.ctx)
    part.fill(0)
    const read: Uint8Array[] = []
    for await (const p of s.artifacts.read(id, { offset: 0 }, s.ctx)) read.push(p)
    expect(sha256(Buffer.concat(read))).toBe(id)
  }),
  rule('aliasing.given.vector', 'a vector may be changed once it was put, and a query once it was searched', async (s) => {
    const name = await s.collection({ a: {}, b: {} }), slot = await s.slot(name, { shape: { kind: 'vector', dims: 2 } }), index = { id: `near_${slot.id}`, slot, measure: 'l2', approximate: false } as const
    const vectors = { a: Float32Array.from([1, 0]), b: Float32Array.from([5, 0]) }, copy = s.vectors.capabilities.place === 'copy'
    await s.vectors.create(index, s.ctx)
    await s.give(slot, { a: [vectors.a], b: [vectors.b] })
    if (copy) await s.vectors.put(index.id, Object.entries(vectors).map(([key, vector]) => ({ key, offset: 0, vector })), s.ctx)
    vectors.a.fill(100)
    const search = { vectors: [Float32Array.from([0, 0])], k: 2, exact: true, ...(copy ? {} : { query: { from: name, slots: [slot.id] } }) }
    const [hits] = await s.vectors.search(index, search, s.ctx)
    expect(hits!.map((hit) => [hit.key, hit.distance])).toEqual([['a', 1], ['b', 5]])
    for (const hit of hits!) spoil(hit.row?.outputs)
    expect((await s.vectors.search(index, search, s.ctx))[0]!.map((hit) => [hit.key, hit.distance])).toEqual([['a', 1], ['b', 5]])
  }, { says: 'the plugin does not measure "l2"', met: (s) => s.vectors.capabilities.measures.includes('l2') }),
  rule('aliasing.returned.documents', 'what find returns may be changed by the caller', async (s) => {
    const name = await s.collection({ a: fresh() as unknown as Doc })
    const spoilt = async (fields?: readonly string[]): Promise<void> => { for (const row of await all(s.raw.find({ from: name, ...(fields === undefined ? {} : { fields }) }, s.ctx))) { spoil(row.doc); (row as { rev: string }).rev = 'spoilt' } }
    const before = structuredClone(await s.find(name))
    for (let i = 0; i < 2; i++) {
      await spoilt()
      await spoilt(['x', 'list'])
      expect(await s.find(name)).toEqual(before)
    }
    s.expectSame((await s.row(name, 'a'))?.doc, fresh())
  }),
  rule('aliasing.returned.outputs', 'what find and rows return of outputs and marks may be changed by the caller', async (s) => {
    const name = await s.collection({ a: fresh() as unknown as Doc }), A = await s.slot(name), C = await s.slot(name, { many: true }), B = await s.slot(name, { upstream: [A.id] })
    await s.give(A, { a: [fresh()] })
    await s.give(C, { a: [fresh(), [1]] })
    const state = async (): Promise<readonly Row[]> => [...await s.find(name, { slots: [A.id, C.id] }), ...await s.rows(B, 'all'), ...await s.rows(A, 'all'), ...await s.find(C.id)]
    const before = structuredClone(await state())
    for (const row of await state()) for (const part of [row.doc, row.outputs, row.mark]) spoil(part)
    expect(await state()).toEqual(before)
    s.expectSame(await s.output(A, 'a'), [fresh()])
    s.expectSame(await s.output(C, 'a'), [fresh(), [1]])
  }),
  rule('aliasing.returned.list', 'what list, write and settle return may be changed by the caller', async (s) => {
    const name = await s.collection(), written = await s.raw.write(name, [{ kind: 'insert', key: 'a', doc: {} }], s.ctx), { rev } = written[0]!
    for (const w of written) (w as { rev?: string }).rev = 'spoilt';
    (written as unknown[]).length = 0
    const listed = await s.raw.list(s.ctx) as unknown[], n = listed.length
    listed.length = 0
    expect([(await s.row(name, 'a'))?.rev, (await s.raw.list(s.ctx)).length]).toEqual([rev, n])
  }),
  rule('aliasing.returned.artifacts', 'what read and readMany return may be changed by the caller', async (s) => {
    const bytes = Uint8Array.from({ length: 300 }, (_, i) => i % 256), id = sha256(bytes)
    await s.artifacts.write(id, (async function* () { yield bytes.slice() })(), s.ctx)
    for (let i = 0; i < 2; i++) {
      for await (const part of s.artifacts.read(id, { offset: 0 }, s.ctx)) { expect([...part]).toEqual([...bytes]); part.fill(0) }
      for await (const { bytes: b } of s.artifacts.readMany([id], s.ctx)) { expect([...b]).toEqual([...bytes]); b.fill(0) }
    }
  }),
  rule('aliasing.api.given', 'the API copies what it is given at once: documents, updates and filters', async (s) => {
    const docs = (await s.inlay()).collection<Record<string, unknown>>(s.name()), doc = { _id: 'a', ...fresh() }, list = [{ _id: 'b', ...fresh() }], change = { $set: { set: fresh() } }
    const inserting = [docs.insert(doc), docs.insert(list)]
    spoil(doc)
    spoil(list)
    await Promise.all(inserting)
    const updating = docs.update({ _id: 'a' }, change)
    spoil(change)
    await updating
    for (const id of ['a', 'b']) {
      const { _id, _fold, set, ...rest } = (await docs.findOne({ _id: id }))!
      expect(_id).toBe(id)
      s.expectSame(rest as Doc, fresh())
      if (id === 'a') s.expectSame(set as Value, fresh())
    }
  }),
  rule('aliasing.api.returned', 'what the API returns may be changed by the caller', async (s) => {
    const docs = (await s.inlay()).collection<Record<string, unknown>>(s.name()), big = new Uint8Array(20_000).fill(1)
    await docs.insert({ _id: 'a', ...fresh(), big })
    for (let i = 0; i < 2; i++) {
      const row = await docs.findOne({ _id: 'a' })
      s.expectSame(row!['x'] as Value, fresh().x)
      s.expectSame(row!['big'] as Value, big)
      spoil(row)
    }
  }),
]
