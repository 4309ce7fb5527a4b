/** Outputs: what is offered, what is accepted, what is refused, and what goes when its row goes. */
import { expect } from 'vitest'
import type { Key, Outcome, Row, Slot, Value } from '../../core/contract.ts'
import { evaluate } from '../../core/match.ts'
import { compareStrings } from '../../core/value.ts'
import { hardValues } from './hard-values.ts'
import { filters, rule, type Rule } from './rule.ts'
import { keyOf, many, outcome, type Subject } from './subject.ts'

const bad = new Error('bad row')
const exists = (field: string): NonNullable<Slot['where']> => ({ kind: 'exists', path: { at: [field] }, is: true })
/** A slot, and one that reads its output. */
async function chain(s: Subject, docs: Parameters<Subject['insert']>[1], upstream: Partial<Slot> = {}): Promise<{ readonly name: string; readonly A: Slot; readonly B: Slot }> {
  const name = await s.collection(docs), A = await s.slot(name, { fields: ['x'], ...upstream }), B = await s.slot(name, { fields: ['y'], upstream: [A.id] })
  return { name, A, B }
}
/** A slot with many outputs, and one that reads each of them. */
async function chunked(s: Subject, values: Readonly<Record<Key, readonly Value[]>>): Promise<{ readonly name: string; readonly C: Slot; readonly D: Slot }> {
  const name = await s.collection(Object.fromEntries(Object.keys(values).map((key) => [key, { t: key }]))), C = await s.slot(name, { many: true }), D = await s.slot(C.id, { fields: ['value'] })
  await s.give(C, values)
  return { name, C, D }
}
const tally = (s: Subject, slot: Slot): Promise<unknown> => s.data.tally(slot, s.ctx)
const settle = (s: Subject, slot: Slot, ...outcomes: readonly Outcome[]): Promise<readonly Key[]> => s.data.settle(slot, outcomes, s.ctx)
const prune = (s: Subject, slot: Slot, keys: readonly Key[] | 'all' = 'all'): Promise<number> => s.data.prune(slot, keys, s.ctx)
const noMark = (row: Row | undefined): void => expect(row?.mark).toBeUndefined()

export const slots: readonly Rule[] = [
  rule('slots.stale.new-rows', 'rows without an output are offered, with rev, document and no mark', async (s) => {
    const name = await s.collection(), revs = await s.insert(name, { a: { x: 1 }, b: { x: 2 } }), slot = await s.slot(name), offered = await s.rows(slot)
    expect(offered.map((row) => [row.key, row.rev, row.doc])).toEqual([['a', revs['a'], { x: 1 }], ['b', revs['b'], { x: 2 }]])
    for (const row of offered) noMark(row)
  }),
  rule('slots.stale.settled', 'a settled row is not offered again', async (s) => {
    const name = await s.collection({ a: {}, b: {} }), slot = await s.slot(name)
    await s.give(slot, { a: [1] })
    expect(await s.offered(slot)).toEqual(['b'])
    expect(await s.output(slot, 'a')).toEqual([1])
  }),
  rule('slots.stale.changed', 'a changed row is offered with the mark of its older output, which is still read', async (s) => {
    const name = await s.collection(), { a } = await s.insert(name, { a: { x: 1 } }), slot = await s.slot(name)
    await settle(s, slot, { key: 'a', rev: a!, hash: 'h1', kind: 'values', values: ['old'] })
    const rev = await s.patch(name, 'a', { x: 2 }), [row] = await s.rows(slot)
    expect(row).toMatchObject({ key: 'a', rev, doc: { x: 2 }, mark: { hash: 'h1' } })
    expect(row!.mark!.rev).not.toBe(rev)
    expect(await s.output(slot, 'a')).toEqual(['old'])
  }),
  rule('slots.stale.any-write', 'a row is offered after every kind of write, also of equal content', async (s) => {
    const name = await s.collection({ a: { x: 1 }, b: { x: 1 }, c: { x: 1 }, d: { x: 1 } }), slot = await s.slot(name)
    await s.give(slot, { a: [1], b: [1], c: [1], d: [1] })
    await s.write(name, { kind: 'patch', key: 'a', set: { x: 1 }, unset: [] }, { kind: 'put', key: 'b', doc: { x: 1 } }, { kind: 'remove', key: 'c' })
    await s.insert(name, { c: { x: 1 } })
    expect(await s.offered(slot)).toEqual(['a', 'b', 'c'])
  }),
  rule('slots.stale.each-slot', 'each slot of a collection has its own outputs and marks', async (s) => {
    const name = await s.collection({ a: {}, b: {} }), one = await s.slot(name), two = await s.slot(name)
    await s.give(one, { a: [1] })
    await s.give(two, { b: [2] })
    expect([await s.offered(one), await s.offered(two), await s.output(one, 'a'), await s.output(two, 'a')]).toEqual([['b'], ['a'], [1], undefined])
  }),
  rule('slots.rows.all', 'all offers current rows too, with their marks', async (s) => {
    const name = await s.collection({ a: {}, b: {}, c: {} }), slot = await s.slot(name)
    await s.give(slot, { a: [1], b: bad })
    const looked = await s.rows(slot, 'all')
    expect(looked.map((row) => [row.key, row.mark?.rev === row.rev, row.mark?.error])).toEqual([['a', true, undefined], ['b', true, 'bad row'], ['c', false, undefined]])
  }),
  rule('slots.rows.failed', 'failed offers rows whose mark is an error, and nothing else', async (s) => {
    const name = await s.collection({ a: {}, b: {}, c: {}, d: {} }), slot = await s.slot(name)
    await s.give(slot, { a: [1], b: bad, c: 'skip' })
    expect((await s.rows(slot, 'failed')).map((row) => [row.key, row.mark])).toEqual([['b', { rev: (await s.row(name, 'b'))!.rev, hash: expect.any(String) as unknown, error: 'bad row', tries: 1 }]])
  }),
  rule('slots.rows.fields', "rows gives the slot's fields only, those that are there", async (s) => {
    const name = await s.collection({ a: { x: 1, y: { z: 1 }, w: 3 }, b: { w: 1 } }), some = await s.slot(name, { fields: ['y', 'x'] }), none = await s.slot(name, { fields: [] })
    expect((await s.rows(some)).map((row) => row.doc)).toEqual([{ x: 1, y: { z: 1 } }, {}])
    expect((await s.rows(none)).map((row) => row.doc)).toEqual([{}, {}])
  }),
  rule('slots.rows.hints', 'keys narrow what is offered; unknown and repeated ones do not matter', async (s) => {
    const name = await s.collection({ a: {}, b: {}, c: {} }), slot = await s.slot(name)
    await s.give(slot, { b: [1] })
    expect(await s.offered(slot, 'stale', ['c', 'none', 'b'])).toEqual(['c'])
    expect(await s.offered(slot, 'all', ['c', 'b'])).toEqual(['b', 'c'])
    expect(await s.offered(slot, 'stale', [])).toEqual([])
    expect(await s.offered(slot, 'stale', ['a', 'a', 'a'])).toEqual(['a'])
  }),
  rule('slots.rows.order', 'rows come in the order of their keys by code point', async (s) => {
    const keys = ['b', 'B', 'é', '\uffff', '😀', 'a10', 'a9', ' '], slot = await s.slot(await s.collection(Object.fromEntries(keys.map((k) => [k, {}]))))
    expect(await s.offered(slot)).toEqual([...keys].sort(compareStrings))
  }),
  rule('slots.rows.where-keys', 'only selected rows are offered', async (s) => {
    const slot = await s.slot(await s.collection({ a: {}, b: {}, c: {} }), { where: { kind: 'keys', keys: ['a', 'c'] } })
    expect([await s.offered(slot), await s.offered(slot, 'all', ['b', 'c'])]).toEqual([['a', 'c'], ['c']])
    expect(await tally(s, slot)).toEqual({ rows: 2, missing: 2, stale: 0, failed: 0, orphaned: 0 })
  }),
  rule('slots.rows.where', 'a row that comes to be selected is offered, one that ceases to be is not', async (s) => {
    const name = await s.collection({ a: { x: 1 }, b: {} }), slot = await s.slot(name, { where: exists('x'), fields: [] })
    expect(await s.offered(slot)).toEqual(['a'])
    await s.patch(name, 'b', { x: null })
    await s.patch(name, 'a', {}, ['x'])
    expect(await s.offered(slot)).toEqual(['b'])
  }, filters('exists')),
  rule('slots.rows.unknown-row', 'a hint for a row that was removed offers nothing', async (s) => {
    const name = await s.collection({ a: {}, b: {} }), slot = await s.slot(name)
    await s.remove(name, 'a')
    expect([await s.offered(slot, 'stale', ['a']), await s.offered(slot, 'all', ['a'])]).toEqual([[], []])
  }),

  rule('slots.open.idempotent', 'opening a slot again, also eight times at once, keeps its outputs', async (s) => {
    const name = await s.collection({ a: {} }), slot = await s.slot(name)
    await s.give(slot, { a: [1] })
    const opened = await Promise.all(Array.from({ length: 8 }, () => s.data.openSlot(slot, s.ctx)))
    expect(new Set(opened.map((o) => o.filters)).size).toBe(1)
    expect(await s.output(slot, 'a')).toEqual([1])
  }),
  rule('slots.open.at-once', 'a new slot can be opened eight times at once', async (s) => {
    const slot: Slot = { id: 's_at_once', collection: await s.collection({ a: {} }), upstream: [], shape: { kind: 'number' }, many: false }
    await Promise.all(Array.from({ length: 8 }, () => s.data.openSlot(slot, s.ctx)))
    await s.give(slot, { a: [1] })
    expect(await s.output(slot, 'a')).toEqual([1])
  }),
  rule('slots.open.id', 'a slot may have the longest and the shortest id', async (s) => {
    const name = await s.collection({ a: {} })
    for (const id of ['a', `a${'_9z'.repeat(13)}`, `a${'_9z'.repeat(12)}_9y`]) await s.give(await s.slot(name, { id }), { a: [id] })
    const [row] = await s.find(name, { slots: ['a', `a${'_9z'.repeat(13)}`, `a${'_9z'.repeat(12)}_9y`] })
    expect(Object.entries(row!.outputs!).every(([id, values]) => values[0] === id)).toBe(true)
    expect(Object.keys(row!.outputs!).length).toBe(3)
  }),
  rule('slots.drop.outputs', 'a dropped slot has no outputs when it is opened again; dropping it twice is no error', async (s) => {
    const name = await s.collection({ a: {} }), slot = await s.slot(name), other = await s.slot(name)
    await s.give(slot, { a: [1] })
    await s.give(other, { a: [2] })
    await s.data.dropSlot(slot.id, s.ctx)
    await s.data.dropSlot(slot.id, s.ctx)
    await s.data.openSlot(slot, s.ctx)
    expect([await s.output(slot, 'a'), await s.output(other, 'a'), await s.offered(slot)]).toEqual([undefined, [2], ['a']])
  }),

  rule('slots.settle.replaces', 'a later result replaces the earlier one with its mark, also of the same rev', async (s) => {
    const name = await s.collection(), { a } = await s.insert(name, { a: {} }), slot = await s.slot(name)
    expect(await settle(s, slot, { key: 'a', rev: a!, hash: 'h1', kind: 'values', values: [1] })).toEqual([])
    expect(await settle(s, slot, { key: 'a', rev: a!, hash: 'h2', kind: 'values', values: [2] })).toEqual([])
    expect([await s.output(slot, 'a'), (await s.at(slot, 'a')).mark]).toEqual([[2], { rev: a, hash: 'h2' }])
  }),
  rule('slots.settle.null', 'null is a value: it is settled and read', async (s) => {
    const slot = await s.slot(await s.collection({ a: {} }))
    await s.give(slot, { a: [null] })
    expect([await s.offered(slot), await s.output(slot, 'a')]).toEqual([[], [null]])
  }),
  rule('slots.settle.empty', 'settling nothing refuses nothing', async (s) => {
    expect(await settle(s, await s.slot(await s.collection()))).toEqual([])
  }),
  rule('slots.fence.moved', 'a result is refused where the row moved, and changes nothing', async (s) => {
    const name = await s.collection({ a: { x: 1 } }), slot = await s.slot(name)
    await s.give(slot, { a: ['first'] })
    const row = await s.at(slot, 'a')
    await s.patch(name, 'a', { x: 2 })
    for (const found of [['late'], bad, 'skip', 'same'] as const) expect(await settle(s, slot, outcome(row, found))).toEqual(['a'])
    expect([await s.output(slot, 'a'), (await s.at(slot, 'a')).mark]).toEqual([['first'], row.mark])
    expect(await s.offered(slot)).toEqual(['a'])
  }),
  rule('slots.fence.equal-content', 'a result is refused where the row was written again with equal content', async (s) => {
    const name = await s.collection({ a: { x: 1 } }), slot = await s.slot(name), [row] = await s.rows(slot)
    await s.write(name, { kind: 'put', key: 'a', doc: { x: 1 } })
    expect(await settle(s, slot, outcome(row!, [1]))).toEqual(['a'])
    expect(await s.output(slot, 'a')).toBeUndefined()
  }),
  rule('slots.fence.gone', 'a result is refused where the row is gone, and leaves nothing', async (s) => {
    const name = await s.collection({ a: { x: 1 } }), slot = await s.slot(name), [row] = await s.rows(slot)
    await s.remove(name, 'a')
    for (const found of [[1], bad, 'skip', 'same'] as const) expect(await settle(s, slot, outcome(row!, found))).toEqual(['a'])
    expect(await tally(s, slot)).toEqual({ rows: 0, missing: 0, stale: 0, failed: 0, orphaned: 0 })
    expect(await prune(s, slot)).toBe(0)
  }),
  rule('slots.fence.reinserted', 'a result is refused where the row was removed and inserted again under its key', async (s) => {
    const name = await s.collection({ a: { x: 1 } }), slot = await s.slot(name), [row] = await s.rows(slot)
    await s.remove(name, 'a')
    await s.insert(name, { a: { x: 1 } })
    expect(await settle(s, slot, outcome(row!, [1]))).toEqual(['a'])
    expect(await s.output(slot, 'a')).toBeUndefined()
  }),
  rule('slots.fence.never-there', 'a result for a key that never was is refused', async (s) => {
    const slot = await s.slot(await s.collection({ a: {} }))
    expect(await settle(s, slot, { key: 'none', rev: (await s.at(slot, 'a')).rev, hash: 'h', kind: 'values', values: [1] })).toEqual(['none'])
  }),
  rule('slots.fence.only-these', 'of a batch, exactly the results of moved rows are refused', async (s) => {
    const name = await s.collection(many(60, (i) => ({ i }))), slot = await s.slot(name), rows = await s.rows(slot), moved = rows.filter((_, i) => i % 7 === 0).map((row) => row.key), gone = rows.filter((_, i) => i % 7 === 3).map((row) => row.key)
    for (const key of moved) await s.patch(name, key, { j: 1 })
    await s.remove(name, ...gone)
    const refused = await settle(s, slot, ...rows.map((row) => outcome(row, [row.doc['i']!])))
    expect([...refused].sort()).toEqual([...moved, ...gone].sort())
    for (const row of await s.find(name, { slots: [slot.id] })) expect(row.outputs?.[slot.id]).toEqual(moved.includes(row.key) ? undefined : [row.doc['i']])
  }),
  rule('slots.same.moves-mark', 'same moves the mark to the new rev and keeps the value', async (s) => {
    const name = await s.collection({ a: { x: 1, y: 1 } }), slot = await s.slot(name, { fields: ['x'] })
    await s.give(slot, { a: ['kept'] })
    const rev = await s.patch(name, 'a', { y: 2 })
    await s.give(slot, { a: 'same' })
    expect([await s.offered(slot), await s.output(slot, 'a'), (await s.at(slot, 'a')).mark?.rev]).toEqual([[], ['kept'], rev])
  }),
  rule('slots.same.other-hash', 'same is refused where the stored output has another hash', async (s) => {
    const name = await s.collection({ a: { x: 1 } }), slot = await s.slot(name)
    await s.give(slot, { a: ['old'] })
    await s.patch(name, 'a', { x: 2 })
    const mark = (await s.at(slot, 'a')).mark
    expect(await s.settle(slot, { a: 'same' })).toEqual(['a'])
    expect([await s.offered(slot), (await s.at(slot, 'a')).mark]).toEqual([['a'], mark])
  }),
  rule('slots.same.no-output', 'same is refused where there is no output', async (s) => {
    const slot = await s.slot(await s.collection({ a: { x: 1 } }))
    expect(await s.settle(slot, { a: 'same' })).toEqual(['a'])
    expect(await s.offered(slot)).toEqual(['a'])
    noMark(await s.at(slot, 'a'))
  }),
  rule('slots.same.error', 'same keeps the error of a failed row, which stays failed', async (s) => {
    const name = await s.collection({ a: { x: 1, y: 1 } }), slot = await s.slot(name, { fields: ['x'] })
    await s.give(slot, { a: bad })
    const rev = await s.patch(name, 'a', { y: 2 })
    await s.give(slot, { a: 'same' })
    expect(await s.offered(slot)).toEqual([])
    expect((await s.rows(slot, 'failed')).map((row) => row.mark)).toMatchObject([{ rev, error: 'bad row', tries: 1 }])
  }),
  rule('slots.same.mixed', 'a batch of values, same, skip and errors answers each for itself', async (s) => {
    const name = await s.collection({ a: { x: 1 }, b: { x: 1 }, c: { x: 1 }, d: { x: 1 }, e: { x: 1 } }), slot = await s.slot(name, { fields: ['x'] })
    await s.give(slot, { a: ['a'], c: ['c'], d: ['d'] })
    for (const key of ['a', 'b', 'c', 'd', 'e']) await s.patch(name, key, { y: 1 })
    expect(await s.settle(slot, { a: 'same', b: 'same', c: bad, d: 'skip', e: ['e'] })).toEqual(['b'])
    expect((await s.find(name, { slots: [slot.id] })).map((row) => row.outputs?.[slot.id])).toEqual([['a'], undefined, undefined, undefined, ['e']])
  }),
  rule('slots.skip.mark', 'a skipped row is marked "none": it is not offered until it changes', async (s) => {
    const name = await s.collection({ a: { x: 1 } }), slot = await s.slot(name)
    await s.give(slot, { a: 'skip' })
    expect([await s.offered(slot), await s.offered(slot, 'failed'), await s.output(slot, 'a')]).toEqual([[], [], undefined])
    const { mark, rev } = await s.at(slot, 'a')
    expect(mark).toEqual({ rev, hash: expect.any(String) as unknown, none: true })
    await s.patch(name, 'a', { x: 2 })
    expect(await s.offered(slot)).toEqual(['a'])
  }),
  rule('slots.skip.removes', 'skip removes the value, and a value removes the skip', async (s) => {
    const name = await s.collection({ a: { x: 1 } }), slot = await s.slot(name)
    await s.give(slot, { a: ['value'] })
    await s.give(slot, { a: 'skip' })
    expect(await s.output(slot, 'a')).toBeUndefined()
    await s.give(slot, { a: ['again'] })
    expect([await s.output(slot, 'a'), (await s.at(slot, 'a')).mark?.none]).toEqual([['again'], undefined])
  }),
  rule('slots.error.mark', 'an error keeps reason and tries, and removes the value', async (s) => {
    const name = await s.collection({ a: { x: 1 } }), slot = await s.slot(name)
    await s.give(slot, { a: ['old'] })
    const rev = await s.patch(name, 'a', { x: 2 })
    expect(await settle(s, slot, { key: 'a', rev, hash: 'h', kind: 'error', error: 'no good', tries: 3 })).toEqual([])
    expect([await s.output(slot, 'a'), (await s.at(slot, 'a')).mark]).toEqual([undefined, { rev, hash: 'h', error: 'no good', tries: 3 }])
    expect([await s.offered(slot), await s.offered(slot, 'failed')]).toEqual([[], ['a']])
  }),
  rule('slots.error.then-value', 'a value after an error clears it', async (s) => {
    const slot = await s.slot(await s.collection({ a: { x: 1 } }))
    await s.give(slot, { a: bad })
    await s.give(slot, { a: ['good'] })
    const { mark, rev } = await s.at(slot, 'a')
    expect([await s.output(slot, 'a'), mark, await s.offered(slot, 'failed')]).toEqual([['good'], { rev, hash: expect.any(String) as unknown }, []])
  }),
  rule('slots.error.text', 'the text of an error is kept as it is', async (s) => {
    const texts = ['', ' ', `it's "bad"; \\ %s $1 {}`, 'two\nlines\t', '😀 é שלום', 'x'.repeat(5000), '{"json":1}', 'null']
    const slot = await s.slot(await s.collection(many(texts.length, () => ({}))))
    await s.give(slot, Object.fromEntries(texts.map((text, i) => [keyOf(i), new Error(text)])))
    expect((await s.rows(slot, 'failed')).map((row) => row.mark!.error)).toEqual(texts)
  }),

  rule('slots.chain.rev', "the rev of a row with upstream is the row's, then | and each upstream hash in order", async (s) => {
    const name = await s.collection(), { a } = await s.insert(name, { a: { x: 1 } }), one = await s.slot(name), two = await s.slot(name), both = await s.slot(name, { upstream: [two.id, one.id] })
    await settle(s, one, { key: 'a', rev: a!, hash: 'hash1', kind: 'values', values: [1] })
    await settle(s, two, { key: 'a', rev: a!, hash: 'hash2', kind: 'values', values: [2] })
    expect(await s.rows(both)).toMatchObject([{ key: 'a', rev: `${a}|hash2|hash1`, outputs: { [one.id]: [1], [two.id]: [2] } }])
  }),
  rule('slots.chain.waits', 'a row is offered only where its upstream has a current value', async (s) => {
    const { name, A, B } = await chain(s, { missing: { x: 1 }, stale: { x: 1 }, failed: { x: 1 }, none: { x: 1 }, good: { x: 1 } })
    await s.give(A, { stale: [1], failed: bad, none: 'skip', good: [1] })
    await s.patch(name, 'stale', { x: 2 })
    expect([await s.offered(B), await s.offered(B, 'all'), await s.offered(B, 'all', ['missing', 'stale', 'good'])]).toEqual([['good'], ['good'], ['good']])
  }),
  rule('slots.chain.both', 'with two upstream slots both must be current', async (s) => {
    const name = await s.collection({ a: {}, b: {}, c: {} }), one = await s.slot(name), two = await s.slot(name), both = await s.slot(name, { upstream: [one.id, two.id] })
    await s.give(one, { a: [1], b: [1], c: [1] })
    await s.give(two, { b: [2], c: bad })
    expect(await s.offered(both)).toEqual(['b'])
  }),
  rule('slots.chain.follows', 'an output is stale when its upstream got another hash, also of the same row rev', async (s) => {
    const { A, B } = await chain(s, { a: { x: 1 } }), { rev } = await s.at(A, 'a')
    await settle(s, A, { key: 'a', rev, hash: 'h1', kind: 'values', values: [1] })
    await s.give(B, { a: ['of 1'] })
    expect(await s.offered(B)).toEqual([])
    await settle(s, A, { key: 'a', rev, hash: 'h2', kind: 'values', values: [2] })
    expect(await s.rows(B)).toMatchObject([{ key: 'a', rev: `${rev}|h2`, mark: { rev: `${rev}|h1` }, outputs: { [A.id]: [2] } }])
    expect(await tally(s, B)).toEqual({ rows: 1, missing: 0, stale: 1, failed: 0, orphaned: 0 })
  }),
  rule('slots.chain.same-hash', 'after an unrelated change upstream moves its mark, and downstream is offered with the hash it had', async (s) => {
    const { name, A, B } = await chain(s, { a: { x: 1, y: 1 } })
    await s.give(A, { a: [1] })
    await s.give(B, { a: ['b'] })
    const hash = (await s.at(B, 'a')).mark!.hash
    await s.patch(name, 'a', { n: 1 })
    expect(await s.offered(B)).toEqual([])
    await s.give(A, { a: 'same' })
    expect((await s.rows(B)).map((row) => row.mark?.hash)).toEqual([hash])
    await s.give(B, { a: 'same' })
    expect([await s.offered(B), await s.output(B, 'a')]).toEqual([[], ['b']])
  }),
  rule('slots.chain.three', 'in a chain of three each waits for the one before it', async (s) => {
    const { name, A, B } = await chain(s, { a: { x: 1 }, b: { x: 1 } }), C = await s.slot(name, { upstream: [B.id] })
    await s.give(A, { a: [1], b: [1] })
    expect([await s.offered(B), await s.offered(C)]).toEqual([['a', 'b'], []])
    await s.give(B, { a: [2], b: [2] })
    const row = await s.at(C, 'a')
    expect(row.rev).toBe(`${(await s.row(name, 'a'))!.rev}|${(await s.at(B, 'a')).mark!.hash}`)
    await s.give(C, { a: [3], b: [3] })
    await s.patch(name, 'a', { x: 2 })
    expect([await s.offered(A), await s.offered(B), await s.offered(C), await s.offered(C, 'all')]).toEqual([['a'], [], [], ['b']])
    await s.give(A, { a: [10] })
    expect([await s.offered(B), await s.offered(C), await s.offered(C, 'all')]).toEqual([['a'], [], ['b']])
    await s.give(B, { a: [20] })
    expect(await s.offered(C)).toEqual(['a'])
  }),
  rule('slots.chain.upstream-only', 'in a chain of three the last is offered when only the middle changed, and not while the first is stale', async (s) => {
    const { A, B, name } = await chain(s, { a: { x: 1 } }), C = await s.slot(name, { upstream: [A.id, B.id] })
    await s.give(A, { a: [1] })
    await s.give(B, { a: [2] })
    await s.give(C, { a: [3] })
    const { rev } = await s.at(B, 'a')
    await settle(s, B, { key: 'a', rev, hash: 'other', kind: 'values', values: [22] })
    expect(await s.rows(C)).toMatchObject([{ key: 'a', outputs: { [A.id]: [1], [B.id]: [22] } }])
    await s.patch(name, 'a', { x: 2 })
    expect(await s.offered(C)).toEqual([])
  }),
  rule('slots.chain.fence', 'a result is refused where its upstream output changed, failed or went stale meanwhile', async (s) => {
    const { name, A, B } = await chain(s, { changed: { x: 1 }, failed: { x: 1 }, stale: { x: 1 }, skipped: { x: 1 }, good: { x: 1 } })
    await s.give(A, { changed: [1], failed: [1], stale: [1], skipped: [1], good: [1] })
    const rows = await s.rows(B)
    await settle(s, A, { key: 'changed', rev: (await s.at(A, 'changed')).rev, hash: 'other', kind: 'values', values: [2] })
    await s.give(A, { failed: bad, skipped: 'skip' })
    await s.patch(name, 'stale', { x: 2 })
    const refused = await settle(s, B, ...rows.map((row) => outcome(row, ['b'])))
    expect([...refused].sort()).toEqual(['changed', 'failed', 'skipped', 'stale'])
    expect((await s.find(name, { slots: [B.id] })).map((row) => [row.key, row.outputs?.[B.id]])).toEqual([['changed', undefined], ['failed', undefined], ['good', ['b']], ['skipped', undefined], ['stale', undefined]])
  }),
  rule('slots.chain.dropped', 'a row removed takes the outputs of the whole chain', async (s) => {
    const { name, A, B } = await chain(s, { a: { x: 1 } })
    await s.give(A, { a: [1] })
    await s.give(B, { a: [2] })
    await s.remove(name, 'a')
    await s.insert(name, { a: { x: 1 } })
    expect([await s.output(A, 'a'), await s.output(B, 'a'), await s.offered(B)]).toEqual([undefined, undefined, []])
  }),

  rule('slots.prune.nothing', 'prune leaves outputs of selected rows: current, stale, failed and skipped ones', async (s) => {
    const name = await s.collection({ a: { x: 1 }, b: { x: 1 }, c: { x: 1 }, d: { x: 1 }, e: { x: 1 } }), slot = await s.slot(name)
    await s.give(slot, { a: [1], b: [2], c: bad, d: 'skip' })
    await s.patch(name, 'b', { x: 2 })
    expect([await prune(s, slot), await prune(s, slot, ['a', 'b', 'c', 'd', 'e', 'none'])]).toEqual([0, 0])
    expect((await s.rows(slot, 'all')).map((row) => row.mark !== undefined)).toEqual([true, true, true, true, false])
    expect([await s.output(slot, 'a'), await s.output(slot, 'b')]).toEqual([[1], [2]])
  }),
  rule('slots.prune.unselected', 'prune removes outputs of rows that are no longer selected, and counts them', async (s) => {
    const name = await s.collection(many(6, (i) => ({ x: i }))), slot = await s.slot(name, { where: exists('x') })
    await s.give(slot, Object.fromEntries(Array.from({ length: 6 }, (_, i) => [keyOf(i), [i]])))
    for (const i of [1, 2, 4]) await s.patch(name, keyOf(i), {}, ['x'])
    expect(await tally(s, slot)).toEqual({ rows: 3, missing: 0, stale: 0, failed: 0, orphaned: 3 })
    expect([await prune(s, slot, [keyOf(0), keyOf(1)]), await prune(s, slot), await prune(s, slot)]).toEqual([1, 2, 0])
    expect(await tally(s, slot)).toEqual({ rows: 3, missing: 0, stale: 0, failed: 0, orphaned: 0 })
    expect((await s.find(name, { slots: [slot.id] })).map((row) => row.outputs?.[slot.id])).toEqual([[0], undefined, undefined, [3], undefined, [5]])
    await s.patch(name, keyOf(1), { x: 1 })
    expect(await s.offered(slot)).toEqual([keyOf(1)])
    noMark(await s.at(slot, keyOf(1)))
  }, filters('exists')),
  rule('slots.prune.upstream', 'prune removes outputs whose upstream output failed, was skipped or is gone', async (s) => {
    const { A, B } = await chain(s, { failed: { x: 1 }, none: { x: 1 }, good: { x: 1 } })
    await s.give(A, { failed: [1], none: [1], good: [1] })
    await s.give(B, { failed: ['f'], none: ['n'], good: ['g'] })
    await s.give(A, { failed: bad, none: 'skip' })
    expect(await tally(s, B)).toEqual({ rows: 1, missing: 0, stale: 0, failed: 0, orphaned: 2 })
    expect([await prune(s, B, ['good', 'none']), await prune(s, B)]).toEqual([1, 1])
    expect((await s.find(A.collection, { slots: [B.id] })).map((row) => row.outputs?.[B.id])).toEqual([undefined, ['g'], undefined])
  }),
  rule('slots.prune.upstream-gone', 'prune of a chain follows: what lost its selection upstream is pruned downstream', async (s) => {
    const { name, A, B } = await chain(s, { a: { x: 1 }, b: { x: 1 } }, { where: exists('x') })
    await s.give(A, { a: [1], b: [1] })
    await s.give(B, { a: [2], b: [2] })
    await s.patch(name, 'a', {}, ['x'])
    expect([await prune(s, A), await prune(s, B), await s.output(B, 'a'), await s.output(B, 'b')]).toEqual([1, 1, undefined, [2]])
  }, filters('exists')),
  rule('slots.prune.stale-upstream', 'prune leaves outputs whose upstream output is only stale', async (s) => {
    const { name, A, B } = await chain(s, { a: { x: 1 } })
    await s.give(A, { a: [1] })
    await s.give(B, { a: [2] })
    await s.patch(name, 'a', { x: 2 })
    expect([await prune(s, B), await s.output(B, 'a')]).toEqual([0, [2]])
  }),

  rule('slots.tally.counts', 'tally counts what rows offers', async (s) => {
    const name = await s.collection(many(20, (i) => ({ x: i }))), slot = await s.slot(name), at = (i: number): Key => keyOf(i)
    expect(await tally(s, slot)).toEqual({ rows: 20, missing: 20, stale: 0, failed: 0, orphaned: 0 })
    await s.give(slot, { [at(0)]: [0], [at(1)]: [1], [at(2)]: [2], [at(3)]: bad, [at(4)]: bad, [at(5)]: 'skip' })
    await s.patch(name, at(1), { x: -1 })
    expect(await tally(s, slot)).toEqual({ rows: 20, missing: 14, stale: 1, failed: 2, orphaned: 0 })
    expect([(await s.rows(slot, 'all')).length, (await s.rows(slot, 'failed')).length, (await s.rows(slot)).filter((row) => row.mark === undefined).length, (await s.rows(slot)).filter((row) => row.mark !== undefined).length]).toEqual([20, 2, 14, 1])
    await s.remove(name, at(0), at(3), at(10))
    expect(await tally(s, slot)).toEqual({ rows: 17, missing: 13, stale: 1, failed: 1, orphaned: 0 })
  }),
  rule('slots.tally.upstream', 'tally counts rows whose upstream has values', async (s) => {
    const { A, B } = await chain(s, { a: { x: 1 }, b: { x: 1 }, c: { x: 1 }, d: { x: 1 } })
    await s.give(A, { a: [1], b: [1], c: bad })
    await s.give(B, { a: [1] })
    expect([await tally(s, A), await tally(s, B)]).toEqual([{ rows: 4, missing: 1, stale: 0, failed: 1, orphaned: 0 }, { rows: 2, missing: 1, stale: 0, failed: 0, orphaned: 0 }])
  }),
  rule('slots.tally.empty', 'a slot of an empty collection tallies zeros', async (s) => {
    expect(await tally(s, await s.slot(await s.collection()))).toEqual({ rows: 0, missing: 0, stale: 0, failed: 0, orphaned: 0 })
  }),

  rule('slots.many.order', 'many outputs keep their order', async (s) => {
    const values = Array.from({ length: 25 }, (_, i) => 24 - i), { C } = await chunked(s, { a: values })
    expect(await s.output(C, 'a')).toEqual(values)
  }),
  rule('slots.many.as-collection', 'a many slot is read as a collection: key k#0, document { value, source, offset }', async (s) => {
    const { C } = await chunked(s, { a: ['x', 'y'], b: [], c: ['z'] })
    const found = await s.find(C.id)
    expect(found.map((row) => [row.key, row.doc])).toEqual([['a#0', { value: 'x', source: 'a', offset: 0 }], ['a#1', { value: 'y', source: 'a', offset: 1 }], ['c#0', { value: 'z', source: 'c', offset: 0 }]])
    for (const row of found) expect(row.rev).toMatch(/\S/)
    expect([await s.data.count({ from: C.id }, s.ctx), (await s.find(C.id, { limit: 1, skip: 1 })).map((r) => r.key), (await s.find(C.id, { after: 'a#1' })).map((r) => r.key), (await s.find(C.id, { fields: ['offset'] })).map((r) => r.doc)])
      .toEqual([3, ['a#1'], ['c#0'], [{ offset: 0 }, { offset: 1 }, { offset: 0 }]])
    expect(await s.keys(C.id, { kind: 'keys', keys: ['c#0', 'a#1', 'a#2', 'b#0', 'a', 'a#', 'a#01', 'none#0'] })).toEqual(['a#1', 'c#0'])
    expect(await s.data.count({ from: C.id, where: { kind: 'keys', keys: ['a#1', 'a#7'] } }, s.ctx)).toBe(1)
  }),
  rule('slots.many.key-order', 'the rows of a many slot come in the order of their keys: k#10 before k#2', async (s) => {
    const { C, D } = await chunked(s, { a: Array.from({ length: 12 }, (_, i) => i), 'a b': [1], 'a!': [2] }), right = [...Array.from({ length: 12 }, (_, i) => `a#${i}`), 'a b#0', 'a!#0'].sort(compareStrings)
    expect([await s.keys(C.id), await s.offered(D)]).toEqual([right, right])
    expect((await s.find(C.id, { after: 'a#10', limit: 2 })).map((row) => row.key)).toEqual(right.slice(right.indexOf('a#10') + 1, right.indexOf('a#10') + 3))
  }),
  rule('slots.many.hash-in-key', 'a source key may hold # itself', async (s) => {
    const { C, D } = await chunked(s, { 'a#0': ['p', 'q'], a: ['r'], 'a#0#1': ['t'] })
    expect((await s.find(C.id)).map((row) => [row.key, row.doc['source'], row.doc['value']])).toEqual([['a#0', 'a', 'r'], ['a#0#0', 'a#0', 'p'], ['a#0#1', 'a#0', 'q'], ['a#0#1#0', 'a#0#1', 't']])
    await s.give(D, { 'a#0': [1], 'a#0#0': [2] })
    await s.remove(C.collection, 'a')
    expect((await s.find(C.id, { slots: [D.id] })).map((row) => [row.key, row.outputs?.[D.id]])).toEqual([['a#0#0', [2]], ['a#0#1', undefined], ['a#0#1#0', undefined]])
  }),
  rule('slots.many.empty', 'an empty list is a known answer', async (s) => {
    const { C } = await chunked(s, { a: [], b: ['x'] })
    expect([await s.offered(C), await s.output(C, 'a'), await s.keys(C.id), await tally(s, C)]).toEqual([[], [], ['b#0'], { rows: 2, missing: 0, stale: 0, failed: 0, orphaned: 0 }])
    await s.give(C, { b: [] })
    expect([await s.output(C, 'b'), await s.keys(C.id)]).toEqual([[], []])
  }),
  rule('slots.many.replaces', 'new values replace all earlier ones, when they are fewer too', async (s) => {
    const { C } = await chunked(s, { a: [1, 2, 3, 4, 5], b: [9] })
    await s.give(C, { a: [6, 7] })
    expect([await s.output(C, 'a'), await s.keys(C.id)]).toEqual([[6, 7], ['a#0', 'a#1', 'b#0']])
  }),
  rule('slots.many.downstream', 'the rows of a many slot are offered to a slot on it, and settled by their own rev', async (s) => {
    const { C, D } = await chunked(s, { a: ['aa', 'bbb'] }), offered = await s.rows(D)
    expect(offered.map((row) => [row.key, row.doc])).toEqual([['a#0', { value: 'aa' }], ['a#1', { value: 'bbb' }]])
    expect(offered.map((row) => row.rev)).toEqual((await s.find(C.id)).map((row) => row.rev))
    await s.give(D, { 'a#0': [2], 'a#1': [3] })
    expect([await s.offered(D), await tally(s, D), (await s.find(C.id, { slots: [D.id] })).map((row) => row.outputs?.[D.id])]).toEqual([[], { rows: 2, missing: 0, stale: 0, failed: 0, orphaned: 0 }, [[2], [3]]])
  }),
  rule('slots.many.changed-chunk', 'the rev of a chunk changes with its content only: only the changed one is offered again', async (s) => {
    const { name, C, D } = await chunked(s, { a: ['same', 'old', { deep: [1, 2n] }] })
    await s.give(D, { 'a#0': [0], 'a#1': [1], 'a#2': [2] })
    const before = (await s.find(C.id)).map((row) => row.rev)
    await s.patch(name, 'a', { t: 'changed' })
    await s.give(C, { a: ['same', 'new', { deep: [1, 2n] }] })
    expect((await s.find(C.id)).map((row, i) => row.rev === before[i])).toEqual([true, false, true])
    expect([await s.offered(D), (await s.find(C.id, { slots: [D.id] })).map((row) => row.outputs?.[D.id])]).toEqual([['a#1'], [[0], [1], [2]]])
  }),
  rule('slots.many.same-values', 'settling equal values again leaves the revs of the chunks and what was derived', async (s) => {
    const { C, D } = await chunked(s, { a: ['x', 1, null] })
    await s.give(D, { 'a#0': [0], 'a#1': [1], 'a#2': [2] })
    const before = (await s.find(C.id)).map((row) => row.rev)
    await s.give(C, { a: ['x', 1, null] })
    expect([(await s.find(C.id)).map((row) => row.rev), await s.offered(D)]).toEqual([before, []])
  }),
  rule('slots.many.same', 'same moves the mark of a many output and keeps its rows', async (s) => {
    const { name, C, D } = await chunked(s, { a: ['x', 'y'] }), { hash } = (await s.at(C, 'a')).mark!
    await s.give(D, { 'a#0': [0], 'a#1': [1] })
    const rev = await s.patch(name, 'a', { n: 1 })
    expect(await settle(s, C, { key: 'a', rev, hash, kind: 'same' })).toEqual([])
    expect([await s.offered(C), await s.output(C, 'a'), await s.offered(D)]).toEqual([[], ['x', 'y'], []])
  }),
  rule('slots.many.shrink', 'values that are gone take what was derived from them', async (s) => {
    const { C, D } = await chunked(s, { a: ['x', 'y', 'z'] })
    await s.give(D, { 'a#0': [0], 'a#1': [1], 'a#2': [2] })
    await s.give(C, { a: ['x'] })
    expect([await tally(s, D), await prune(s, D)]).toEqual([{ rows: 1, missing: 0, stale: 0, failed: 0, orphaned: 0 }, 0])
    await s.give(C, { a: ['x', 'y', 'z'] })
    expect((await s.find(C.id, { slots: [D.id] })).map((row) => row.outputs?.[D.id])).toEqual([[0], undefined, undefined])
    expect(await s.offered(D)).toEqual(['a#1', 'a#2'])
  }),
  rule('slots.many.error-skip', 'an error or a skip removes all values and what was derived from them', async (s) => {
    const { C, D } = await chunked(s, { a: ['x', 'y'], b: ['z'] })
    await s.give(D, { 'a#0': [0], 'a#1': [1], 'b#0': [2] })
    await s.give(C, { a: bad, b: 'skip' })
    expect([await s.keys(C.id), await s.output(C, 'a'), await s.output(C, 'b'), await tally(s, D), await prune(s, D)]).toEqual([[], undefined, undefined, { rows: 0, missing: 0, stale: 0, failed: 0, orphaned: 0 }, 0])
    await s.give(C, { a: ['x', 'y'], b: ['z'] })
    expect(await s.offered(D)).toEqual(['a#0', 'a#1', 'b#0'])
  }),
  rule('slots.many.row-removed', 'a row removed takes its many outputs and what was derived from them', async (s) => {
    const { name, C, D } = await chunked(s, { a: ['x', 'y'], ab: ['z'] })
    await s.give(D, { 'a#0': [0], 'a#1': [1], 'ab#0': [2] })
    await s.remove(name, 'a')
    expect([await s.keys(C.id), await tally(s, D)]).toEqual([['ab#0'], { rows: 1, missing: 0, stale: 0, failed: 0, orphaned: 0 }])
    await s.insert(name, { a: { t: 'a' } })
    await s.give(C, { a: ['x', 'y'] })
    expect((await s.find(C.id, { slots: [D.id] })).map((row) => row.outputs?.[D.id])).toEqual([undefined, undefined, [2]])
  }),
  rule('slots.many.pruned', 'pruning a many output takes what was derived from it', async (s) => {
    const name = await s.collection({ a: { x: 1 }, b: { x: 1 } }), C = await s.slot(name, { many: true, where: exists('x') }), D = await s.slot(C.id)
    await s.give(C, { a: ['x', 'y'], b: ['z'] })
    await s.give(D, { 'a#0': [0], 'a#1': [1], 'b#0': [2] })
    await s.patch(name, 'a', {}, ['x'])
    expect([await prune(s, C), await s.keys(C.id), await tally(s, D)]).toEqual([1, ['b#0'], { rows: 1, missing: 0, stale: 0, failed: 0, orphaned: 0 }])
    await s.patch(name, 'a', { x: 1 })
    await s.give(C, { a: ['x', 'y'] })
    expect(await s.offered(D)).toEqual(['a#0', 'a#1'])
  }, filters('exists')),
  rule('slots.many.fence', 'a result for a chunk is refused where the chunk changed or is gone', async (s) => {
    const { C, D } = await chunked(s, { a: ['x', 'y', 'z'] }), offered = await s.rows(D)
    await s.give(C, { a: ['x', 'other'] })
    expect([...await settle(s, D, ...offered.map((row) => outcome(row, [row.key])))].sort()).toEqual(['a#1', 'a#2'])
    expect((await s.find(C.id, { slots: [D.id] })).map((row) => row.outputs?.[D.id])).toEqual([['a#0'], undefined])
  }),
  rule('slots.many.chain', 'a many slot may read another slot, and a slot on it another slot on it', async (s) => {
    const { name, A } = await chain(s, { a: { x: 1 } }), C = await s.slot(name, { many: true, upstream: [A.id] }), D = await s.slot(C.id), E = await s.slot(C.id, { upstream: [D.id] })
    await s.give(A, { a: [2] })
    await s.give(C, { a: ['x', 'y'] })
    await s.give(D, { 'a#0': [0] })
    expect([await s.offered(D), await s.offered(E)]).toEqual([['a#1'], ['a#0']])
    await s.give(E, { 'a#0': [7] })
    await s.give(A, { a: bad })
    expect([await s.offered(C, 'all'), await prune(s, C), await s.keys(C.id), await tally(s, E)]).toEqual([[], 1, [], { rows: 0, missing: 0, stale: 0, failed: 0, orphaned: 0 }])
  }),
  rule('slots.many.many', 'a many slot on a many slot', async (s) => {
    const { C } = await chunked(s, { a: ['x', 'y'] }), D = await s.slot(C.id, { many: true }), E = await s.slot(D.id)
    await s.give(D, { 'a#0': [1, 2], 'a#1': [3] })
    await s.give(E, { 'a#0#1': ['e'] })
    expect((await s.find(D.id, { slots: [E.id] })).map((row) => [row.key, row.doc['source'], row.outputs?.[E.id]])).toEqual([['a#0#0', 'a#0', undefined], ['a#0#1', 'a#0', ['e']], ['a#1#0', 'a#1', undefined]])
    await s.give(C, { a: ['x'] })
    expect(await s.keys(D.id)).toEqual(['a#0#0', 'a#0#1'])
    await s.remove(C.collection, 'a')
    expect([await s.keys(D.id), await tally(s, E)]).toEqual([[], { rows: 0, missing: 0, stale: 0, failed: 0, orphaned: 0 }])
  }),
  rule('slots.many.where', 'the rows of a many slot are filtered and selected like others', async (s) => {
    const { C } = await chunked(s, { a: ['x', 'y', { deep: 1 }], b: ['x'] }), eq = (field: string, value: string | number): NonNullable<Slot['where']> => ({ kind: 'eq', path: { at: field.split('.') }, value })
    for (const where of [eq('value', 'x'), eq('source', 'a'), eq('offset', 1), eq('value.deep', 1), eq('_id', 'a#1')].slice(0, 4)) {
      const right = (await s.find(C.id)).filter((row) => evaluate(where, row.key, row.doc)).map((row) => row.key)
      expect(await s.keys(C.id, where)).toEqual(right)
    }
    const D = await s.slot(C.id, { where: eq('value', 'x') })
    expect([await s.offered(D), await tally(s, D)]).toEqual([['a#0', 'b#0'], { rows: 2, missing: 2, stale: 0, failed: 0, orphaned: 0 }])
    await s.give(D, { 'a#0': [1] })
    await s.give(C, { a: ['no longer', 'y'] })
    expect([await prune(s, D), await s.offered(D)]).toEqual([1, ['b#0']])
  }, filters('eq')),
  rule('slots.many.long', '500 values of one row', async (s) => {
    const values = Array.from({ length: 500 }, (_, i) => `chunk ${i} ${'x'.repeat(i % 40)}`), { C, D } = await chunked(s, { a: values })
    expect([await s.output(C, 'a'), (await s.offered(D)).length, await s.data.count({ from: C.id }, s.ctx)]).toEqual([values, 500, 500])
    await s.give(C, { a: values.slice(0, 3) })
    expect(await s.offered(D)).toEqual(['a#0', 'a#1', 'a#2'])
  }),

  ...([
    ['boolean', { kind: 'boolean' }, [true, false]],
    ['number', { kind: 'number' }, [0, -0, 1.5, -1, 2 ** 53, 5e-324, Number.MAX_VALUE, Number.NaN, Infinity, -Infinity, 0.1 + 0.2, 1e21]],
    ['string', { kind: 'string' }, ['', ' ', 'a', '0.00', 'é', 'e\u0301', '😀', `'"\\`, 'null', '{"a":1}', 'x'.repeat(20_000)]],
    ['bytes', { kind: 'bytes' }, [new Uint8Array(), Uint8Array.from([0, 255, 0]), new Uint8Array(20_000).fill(7)]],
    ['json', { kind: 'json' }, [null, true, 5, 5n, 'x', [], {}, new Date(5), Uint8Array.from([1]), Int16Array.from([-1]), { a: [{ b: Number.NaN }] }]],
    ['vector-1', { kind: 'vector', dims: 1 }, [Float32Array.from([0.1])]],
    ['vector-3', { kind: 'vector', dims: 3 }, [Float32Array.from([0, -1, 1e-30]), Float32Array.from([3.4028234663852886e38, -0.1, 1.1754943508222875e-38]), Float32Array.from([0, 0, 0])]],
    ['vector-1536', { kind: 'vector', dims: 1536 }, [Float32Array.from({ length: 1536 }, (_, i) => Math.sin(i))]],
  ] as const satisfies readonly (readonly [string, Slot['shape'], readonly Value[]])[]).map(([id, shape, list]) => rule(`slots.shape.${id}`, `outputs of the shape ${JSON.stringify(shape)} are read as they were settled, one and many`, async (s) => {
    if (shape.kind === 'vector' && shape.dims > (s.capabilities.limits.dims ?? Infinity)) return
    const name = await s.collection(many(list.length + 1, () => ({}))), one = await s.slot(name, { shape }), all = await s.slot(name, { shape, many: true })
    await s.give(one, Object.fromEntries(list.map((v, i) => [keyOf(i), [v]])))
    await s.give(all, { k0000: list, [keyOf(list.length)]: [] })
    const found = await s.find(name, { slots: [one.id, all.id] })
    for (const [i, value] of list.entries()) s.expectSame(found[i]!.outputs?.[one.id], [value])
    s.expectSame(found[0]!.outputs?.[all.id], list)
    expect([found.at(-1)!.outputs?.[one.id], found.at(-1)!.outputs?.[all.id]]).toEqual([undefined, []])
    for (const [i, row] of (await s.find(all.id)).sort((a, b) => (a.doc['offset'] as number) - (b.doc['offset'] as number)).entries()) s.expectSame(row.doc['value'], list[i]!)
    expect(await s.offered(one)).toEqual([keyOf(list.length)])
  })),
  rule('slots.shape.upstream', 'a slot reads upstream outputs of every shape as they were settled', async (s) => {
    const list = hardValues.filter(({ has }) => has === undefined).slice(0, 60), name = await s.collection(many(list.length, () => ({}))), A = await s.slot(name), B = await s.slot(name, { upstream: [A.id], fields: [] })
    await s.give(A, Object.fromEntries(list.map(({ value }, i) => [keyOf(i), [value]])))
    const offered = await s.rows(B)
    expect(offered.length).toBe(list.length)
    for (const [i, { value, name: what }] of list.entries()) s.expectSame(offered[i]!.outputs?.[A.id]?.[0], value, what)
  }),

  rule('slots.large.settle', '2,000 rows are offered once each and settled in one call', async (s) => {
    const name = await s.collection(many(2000, (i) => ({ i }))), slot = await s.slot(name, { shape: { kind: 'number' } }), offered = await s.rows(slot)
    expect(offered.map((row) => row.key)).toEqual(Array.from({ length: 2000 }, (_, i) => keyOf(i)))
    expect(await settle(s, slot, ...offered.map((row) => outcome(row, [row.doc['i']!])))).toEqual([])
    expect([await s.offered(slot), await tally(s, slot)]).toEqual([[], { rows: 2000, missing: 0, stale: 0, failed: 0, orphaned: 0 }])
    for (const row of await s.find(name, { slots: [slot.id] })) expect(row.outputs?.[slot.id]).toEqual([row.doc['i']])
  }),
  rule('slots.large.while-settling', 'what is settled between two batches of rows is not offered twice, and nothing is left out', async (s) => {
    const name = await s.collection(many(1200, (i) => ({ i }))), slot = await s.slot(name), seen: Key[] = []
    for await (const rows of s.data.rows(slot, 'stale', 'all', s.ctx)) {
      seen.push(...rows.map((row) => row.key))
      expect(await settle(s, slot, ...rows.map((row) => outcome(row, [1])))).toEqual([])
    }
    expect(seen).toEqual(Array.from({ length: 1200 }, (_, i) => keyOf(i)))
    expect(await s.offered(slot)).toEqual([])
  }),
]
