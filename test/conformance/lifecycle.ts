/** Connecting and closing; collections and their names; what survives. */
import { expect } from 'vitest'
import { sha256 } from '../../core/encoding.ts'
import { model } from '../../core/spec.ts'
import { step } from '../../core/step.ts'
import { hardNames } from './hard-values.ts'
import { durable, limited, manyWriters, onePerProcess, rule, volatile, type Rule } from './rule.ts'
import { all, codeOf, many, outcome, type Subject } from './subject.ts'

const names = async (s: Subject): Promise<string[]> => (await s.data.list(s.ctx)).map((c) => c.name).sort()

export const lifecycle: readonly Rule[] = [
  rule('lifecycle.connect.says-server', 'a connection says the name of its server, and the plugin its contract', async (s) => {
    expect(s.connection.server).toMatch(/\S/)
    expect(s.plugin.contract).toBe(1)
    expect(s.plugin.name).toMatch(/\S/)
  }),
  rule('lifecycle.capabilities.are-data', 'capabilities can be copied as data and name the filter "keys"', async (s) => {
    expect(structuredClone(s.capabilities)).toEqual(s.capabilities)
    expect(s.capabilities.filters).toContain('keys')
    expect(new Set(s.capabilities.filters).size).toBe(s.capabilities.filters.length)
    for (const limit of Object.values(s.capabilities.limits)) expect(limit).toBeGreaterThan(0)
    for (const note of s.capabilities.notes) expect(note).toMatch(/\w.*\.$/)
  }),
  rule('lifecycle.close.twice', 'closing twice is no error, and connecting again works', async (s) => {
    await s.connection.close()
    await s.reopen()
    expect(await s.find(await s.collection({ a: { x: 1 } }))).toMatchObject([{ key: 'a', doc: { x: 1 } }])
    const first = s.connection
    await s.reopen()
    await first.close()
    expect(await s.find(await s.collection({ b: {} }))).toMatchObject([{ key: 'b' }])
  }),

  rule('lifecycle.create.idempotent', 'creating a collection again keeps its rows', async (s) => {
    const name = await s.collection({ a: { x: 1 } })
    await s.collection({}, name)
    expect(await s.keys(name)).toEqual(['a'])
  }),
  rule('lifecycle.create.at-once', 'a collection can be created eight times at once', async (s) => {
    const name = s.name()
    await Promise.all(Array.from({ length: 8 }, () => s.collection({}, name)))
    await s.insert(name, { a: {} })
    expect((await names(s)).filter((n) => n === name)).toEqual([name])
  }),
  rule('lifecycle.create.other-shape', 'creating a collection with another shape is CONFLICT and keeps its rows', async (s) => {
    const name = await s.collection({ a: {} })
    expect(await codeOf(s.data.create({ name, attached: 'nothing', track: 'none' }, s.ctx))).toBe('CONFLICT')
    expect(await s.keys(name)).toEqual(['a'])
  }),
  rule('lifecycle.create.many', 'fifty collections stand beside each other', async (s) => {
    const made = await Promise.all(Array.from({ length: 50 }, (_, i) => s.collection({ [`k${i}`]: { i } })))
    for (const [i, name] of made.entries()) expect(await s.keys(name)).toEqual([`k${i}`])
  }),
  rule('lifecycle.list.names', 'list gives what was created, as it was created', async (s) => {
    const name = await s.collection(), listed = await s.data.list(s.ctx)
    expect(listed.find((c) => c.name === name)).toMatchObject({ name, attached: false, track: 'notify' })
    expect(listed.some((c) => c.name === s.name())).toBe(false)
  }),
  rule('lifecycle.list.no-slots', 'list does not name slots', async (s) => {
    const slot = await s.slot(await s.collection({ a: {} }), { many: true })
    await s.give(slot, { a: [1] })
    expect(await names(s)).not.toContain(slot.id)
  }),
  ...hardNames.map(([id, name]) => rule(`lifecycle.name.${id}`, `a collection may be named ${JSON.stringify(name)}`, async (s) => {
    await s.collection({ a: { x: 1 } }, name)
    await s.collection({}, name)
    const slot = await s.slot(name)
    await s.give(slot, { a: [1] })
    expect(await s.row(name, 'a', [slot.id])).toMatchObject({ doc: { x: 1 }, outputs: { [slot.id]: [1] } })
    expect(await names(s)).toContain(name)
    await s.data.drop(name, s.ctx)
    expect(await names(s)).not.toContain(name)
  })),
  rule('lifecycle.name.case', 'names that differ in case are different collections', async (s) => {
    const upper = await s.collection({ a: {} }, 'Case'), lower = await s.collection({ b: {} }, 'case')
    expect([await s.keys(upper), await s.keys(lower)]).toEqual([['a'], ['b']])
  }),
  rule('lifecycle.name.long', 'long names that differ in their last letter are different collections', async (s) => {
    const length = Math.min(s.capabilities.limits.nameBytes ?? 200, 200)
    const [one, two] = ['a', 'b'].map((end) => end.padStart(length, 'n'))
    await s.collection({ one: {} }, one!)
    await s.collection({ two: {} }, two!)
    expect([await s.keys(one!), await s.keys(two!)]).toEqual([['one'], ['two']])
    const slots = [await s.slot(one!), await s.slot(two!)]
    await s.give(slots[0]!, { one: [1] })
    expect(await s.offered(slots[1]!)).toEqual(['two'])
  }),
  rule('lifecycle.name.too-long', 'the API refuses a name that is longer than the limit', async (s) => {
    const inlay = await s.inlay()
    expect(() => inlay.collection('n'.repeat(s.capabilities.limits.nameBytes! + 1))).toThrow(/bytes/)
  }, limited('nameBytes')),

  rule('lifecycle.drop.nothing-there', 'dropping what is not there is no error', async (s) => {
    await s.data.drop(s.name(), s.ctx)
    const name = await s.collection()
    await s.data.drop(name, s.ctx)
    await s.data.drop(name, s.ctx)
  }),
  rule('lifecycle.drop.leaves-others', 'dropping a collection leaves the others and their outputs', async (s) => {
    const gone = await s.collection({ a: {} }), kept = await s.collection({ a: {} }), slot = await s.slot(kept)
    await s.give(slot, { a: [1] })
    await s.data.drop(gone, s.ctx)
    expect(await names(s)).not.toContain(gone)
    expect(await s.output(slot, 'a')).toEqual([1])
  }),
  rule('lifecycle.drop.rows', 'a collection that was dropped and created again is empty', async (s) => {
    const name = await s.collection({ a: {} })
    await s.data.drop(name, s.ctx)
    await s.collection({}, name)
    expect(await s.keys(name)).toEqual([])
  }),
  rule('lifecycle.drop.slots', 'dropping a collection drops its slots: opened again they are empty', async (s) => {
    const name = await s.collection({ a: { x: 1 } }), slot = await s.slot(name)
    await s.give(slot, { a: [1] })
    await s.data.drop(name, s.ctx)
    await s.collection({ a: { x: 1 } }, name)
    await s.data.openSlot(slot, s.ctx)
    expect(await s.output(slot, 'a')).toBeUndefined()
    expect((await s.rows(slot))[0]).not.toHaveProperty('mark')
    expect(await s.data.tally(slot, s.ctx)).toEqual({ rows: 1, missing: 1, stale: 0, failed: 0, orphaned: 0 })
  }),
  rule('lifecycle.drop.slots-of-slots', 'dropping a collection drops what was derived from its many slots too', async (s) => {
    const name = await s.collection({ a: { x: 1 } }), chunks = await s.slot(name, { many: true }), lengths = await s.slot(chunks.id)
    await s.give(chunks, { a: ['same content'] })
    await s.give(lengths, { 'a#0': [12] })
    await s.data.drop(name, s.ctx)
    await s.collection({ a: { x: 1 } }, name)
    for (const slot of [chunks, lengths]) await s.data.openSlot(slot, s.ctx)
    await s.give(chunks, { a: ['same content'] })
    expect(await s.data.tally(lengths, s.ctx)).toMatchObject({ rows: 1, missing: 1 })
  }),

  rule('lifecycle.namespace.apart', 'two namespaces do not see each other', async (s) => {
    const name = await s.collection({ a: { x: 1 } }), other = await s.another(`${s.namespace}_b`)
    await other.data.create({ name, attached: false, track: 'notify' }, s.ctx)
    expect(await all(other.data.find({ from: name }, s.ctx))).toEqual([])
    await other.data.write(name, [{ kind: 'insert', key: 'b', doc: {} }], s.ctx)
    expect(await s.keys(name)).toEqual(['a'])
    await other.data.drop(name, s.ctx)
    expect(await s.keys(name)).toEqual(['a'])
    expect((await other.data.list(s.ctx)).map((c) => c.name)).not.toContain(name)
  }, manyWriters),
  rule('lifecycle.second.sees-writes', 'a second connection sees what the first wrote, and its slots', async (s) => {
    const name = await s.collection({ a: { x: 1 } }), slot = await s.slot(name), other = await s.another()
    await s.give(slot, { a: [1] })
    expect(await all(other.data.find({ from: name }, s.ctx))).toMatchObject([{ key: 'a', doc: { x: 1 } }])
    await other.data.openSlot(slot, s.ctx)
    expect(await all(other.data.find({ from: name, slots: [slot.id] }, s.ctx))).toMatchObject([{ outputs: { [slot.id]: [1] } }])
    await other.data.write(name, [{ kind: 'patch', key: 'a', set: { x: 2 }, unset: [] }], s.ctx)
    expect(await s.offered(slot)).toEqual(['a'])
    expect((await other.data.list(s.ctx)).map((c) => c.name)).toContain(name)
  }, manyWriters),
  rule('lifecycle.second.one-per-process', 'a database for one process says so in a note', async (s) => {
    expect(s.capabilities.notes.join(' ')).toMatch(/\S/)
  }, onePerProcess),

  rule('lifecycle.durable.rows', 'what was written is there after closing and connecting again: rows, revs, outputs and marks', async (s) => {
    const name = await s.collection(many(100, (i) => ({ i, at: new Date(i), text: '😀' }))), slot = await s.slot(name, { shape: { kind: 'vector', dims: 2 } }), chunks = await s.slot(name, { many: true })
    await s.give(slot, { k0000: [Float32Array.from([1, 2])], k0001: new Error('bad'), k0002: 'skip' })
    await s.give(chunks, { k0000: ['a', 'b'], k0001: [] })
    const rows = await s.find(name, { slots: [slot.id, chunks.id] }), looked = await s.rows(slot, 'all')
    await s.reopen()
    expect((await s.data.list(s.ctx)).find((c) => c.name === name)).toMatchObject({ attached: false })
    await s.data.create({ name, attached: false, track: 'notify' }, s.ctx)
    for (const of of [slot, chunks]) await s.data.openSlot(of, s.ctx)
    expect(await s.find(name, { slots: [slot.id, chunks.id] })).toEqual(rows)
    expect(await s.rows(slot, 'all')).toEqual(looked)
    expect(await s.keys(chunks.id)).toEqual(['k0000#0', 'k0000#1'])
    expect(await s.data.tally(slot, s.ctx)).toEqual({ rows: 100, missing: 97, stale: 0, failed: 1, orphaned: 0 })
  }, durable),
  rule('lifecycle.durable.late-settle', 'a result computed before closing is still refused where its row moved, and accepted where not', async (s) => {
    const name = await s.collection({ a: { x: 1 }, b: { x: 1 } }), slot = await s.slot(name), rows = await s.rows(slot)
    await s.patch(name, 'a', { x: 2 })
    await s.reopen()
    await s.data.openSlot(slot, s.ctx)
    expect(await s.data.settle(slot, rows.map((row) => outcome(row, [1])), s.ctx)).toEqual(['a'])
  }, durable),
  rule('lifecycle.durable.content', 'artifacts are there after closing and connecting again', async (s) => {
    const bytes = Uint8Array.from([1, 2, 3]), id = sha256(bytes)
    await s.artifacts.write(id, (async function* () { yield bytes })(), s.ctx)
    await s.reopen()
    const parts: Uint8Array[] = []
    for await (const part of s.artifacts.read(id, { offset: 0 }, s.ctx)) parts.push(part)
    expect(sha256(Buffer.concat(parts))).toBe(id)
  }, durable),
  rule('lifecycle.durable.said', 'a database that is not durable says so in a note, and is usable after connecting again', async (s) => {
    expect(s.capabilities.notes.length).toBeGreaterThan(0)
    await s.reopen()
    expect(await s.keys(await s.collection({ a: {} }))).toEqual(['a'])
  }, volatile),

  rule('lifecycle.api.unknown-collection', 'the API reads a collection that nobody created as an empty one', async (s) => {
    const docs = (await s.inlay()).collection(s.name('never'))
    expect([await docs.find().toArray(), await docs.find().count(), await docs.findOne({ _id: 'a' })]).toEqual([[], 0, undefined])
  }),
  rule('lifecycle.api.closed', 'the API refuses calls after close with CLOSED', async (s) => {
    const inlay = await s.open(), docs = inlay.collection(s.name())
    await docs.insert({ x: 1 })
    await inlay.close()
    await inlay.close()
    expect(await codeOf(docs.insert({ x: 1 }))).toBe('CLOSED')
    expect(await codeOf(docs.find().toArray())).toBe('CLOSED')
  }),
  rule('lifecycle.api.components', 'what one Inlay declared another finds', async (s) => {
    const spec = model('twice', { run: step('twice@1', (xs: readonly number[]) => xs.map((x) => x * 2)) })
    const one = await s.open()
    await one.add(spec)
    await one.close()
    const two = await s.open()
    expect(await (await two.load(spec)).predict([21])).toEqual([42])
    expect((await two.show('model')).map((c) => [c.name, c.version])).toContainEqual(['twice', 0])
    await two.remove('model', 'twice')
    await two.close()
  }),
]
