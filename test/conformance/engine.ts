/** core's engine over the plugin: what it infers, and what it does not infer again. */
import { setImmediate } from 'node:timers/promises'
import { expect } from 'vitest'
import type { Ctx, Doc, Row, Slot, Value } from '../../core/contract.ts'
import { hashOf, pick } from '../../core/encoding.ts'
import { InlayError } from '../../core/errors.ts'
import { reconcile, type ReconcileOptions, type Run, type Work } from '../../core/reconcile.ts'
import { rule, type Rule } from './rule.ts'
import { keyOf, many, type Subject } from './subject.ts'

interface Counting extends Work { rows: number; calls: number }

/** A model that counts what it is given. Its hash covers the fields of the slot and what it reads upstream. */
function counting(slot: Slot, run: (row: Row) => readonly Value[] | Error, each: (rows: readonly Row[], ctx: Ctx) => void | Promise<void> = () => {}): Counting {
  const work: Counting = {
    slot, rows: 0, calls: 0,
    select: async (rows) => rows.map(() => true),
    hash: (row) => hashOf([pick(row.doc, slot.fields ?? Object.keys(row.doc)), ...slot.upstream.map((id) => [...row.outputs?.[id] ?? []])]),
    async predict(rows, ctx) {
      work.rows += rows.length
      work.calls++
      await each(rows, ctx)
      return rows.map(run)
    },
  }
  return work
}
const times10 = (row: Row): readonly Value[] => [Number(row.doc['x']) * 10]
const run = (s: Subject, work: Work, options?: ReconcileOptions): Promise<Run> => reconcile(s.data, work, s.ctx, options)
const nothing: Run = { done: 0, same: 0, skipped: 0, failed: 0, pending: 0 }
const throwOn = (value: Value) => (rows: readonly Row[]): void => { if (rows.some((row) => row.doc['x'] === value)) throw new Error('bad row') }

export const engine: readonly Rule[] = [
  rule('engine.backfill.once', 'every row is inferred once, and then nothing is left', async (s) => {
    const name = await s.collection(many(250, (i) => ({ x: i }))), work = counting(await s.slot(name, { fields: ['x'], shape: { kind: 'number' } }), times10)
    expect(await run(s, work, { chunk: 100 })).toEqual({ ...nothing, done: 250 })
    expect(await run(s, work)).toEqual(nothing)
    expect(work.rows).toBe(250)
    for (const row of await s.find(name, { slots: [work.slot.id] })) expect(row.outputs?.[work.slot.id]).toEqual([Number(row.doc['x']) * 10])
  }),
  rule('engine.change.unrelated', 'a change of what the model does not read runs no model; the mark follows', async (s) => {
    const name = await s.collection({ a: { x: 1, n: 0 }, b: { x: 2, n: 0 } }), work = counting(await s.slot(name, { fields: ['x'] }), times10)
    await run(s, work)
    work.rows = 0
    await s.patch(name, 'a', { n: 1 })
    expect([await run(s, work, { keys: ['a'] }), work.rows, await s.offered(work.slot), await s.output(work.slot, 'a')]).toEqual([{ ...nothing, same: 1 }, 0, [], [10]])
  }),
  rule('engine.change.related', 'a change of what the model reads runs it for that row only', async (s) => {
    const name = await s.collection(many(20, (i) => ({ x: i }))), work = counting(await s.slot(name, { fields: ['x'] }), times10)
    await run(s, work)
    work.rows = 0
    await s.patch(name, keyOf(7), { x: 70 })
    expect([await run(s, work), work.rows, await s.output(work.slot, keyOf(7))]).toEqual([{ ...nothing, done: 1 }, 1, [700]])
  }),
  rule('engine.change.hot-row', 'a row that moves while the model runs is inferred once and stored in the next round', async (s) => {
    const name = await s.collection({ a: { x: 1, n: 0 }, b: { x: 2 } }), slot = await s.slot(name, { fields: ['x'] })
    let moves = 1
    const work = counting(slot, times10, async () => { if (moves-- > 0) await s.patch(name, 'a', { n: 99 }) })
    expect([await run(s, work), work.rows, await s.output(slot, 'a')]).toEqual([{ ...nothing, done: 2 }, 2, [10]])
    expect(await s.offered(slot)).toEqual([])
  }),
  rule('engine.change.late', 'a row that changes what the model reads while it runs gets the new output', async (s) => {
    const name = await s.collection({ a: { x: 1 } }), slot = await s.slot(name, { fields: ['x'] })
    let moves = 1
    const work = counting(slot, times10, async () => { if (moves-- > 0) await s.patch(name, 'a', { x: 5 }) })
    expect([await run(s, work), work.rows, await s.output(slot, 'a')]).toEqual([{ ...nothing, done: 1 }, 2, [50]])
  }),
  rule('engine.change.removed', 'a row removed while the model runs gets no output', async (s) => {
    const name = await s.collection({ a: { x: 1 }, b: { x: 2 } }), slot = await s.slot(name, { fields: ['x'] })
    const work = counting(slot, times10, async () => { if (work.calls === 1) await s.remove(name, 'a') })
    await run(s, work)
    expect([await s.data.tally(slot, s.ctx), await s.output(slot, 'b')]).toEqual([{ rows: 1, missing: 0, stale: 0, failed: 0, orphaned: 0 }, [20]])
  }),
  rule('engine.failure.one-row', 'a bad row fails alone: its batch is halved, its error stored, the others settled', async (s) => {
    const name = await s.collection(many(33, (i) => ({ x: i === 19 ? 'boom' : i }))), work = counting(await s.slot(name, { fields: ['x'] }), times10, throwOn('boom'))
    expect(await run(s, work)).toEqual({ ...nothing, done: 32, failed: 1 })
    expect(work.calls).toBeLessThan(20)
    expect((await s.rows(work.slot, 'failed')).map((row) => [row.key, row.mark!.error, row.mark!.tries])).toEqual([[keyOf(19), 'bad row', 1]])
    expect(await run(s, work)).toEqual(nothing)
  }),
  rule('engine.failure.again', 'failed rows run again when asked, count their tries, and heal when the row does', async (s) => {
    const name = await s.collection({ a: { x: 'boom' }, b: { x: 1 } }), work = counting(await s.slot(name, { fields: ['x'] }), times10, throwOn('boom'))
    await run(s, work)
    expect(await run(s, work, { which: 'failed' })).toEqual({ ...nothing, failed: 1 })
    expect((await s.rows(work.slot, 'failed')).map((row) => row.mark!.tries)).toEqual([2])
    await s.patch(name, 'a', { n: 1 })
    expect(await run(s, work)).toEqual({ ...nothing, failed: 1 })
    expect(await s.offered(work.slot, 'failed')).toEqual(['a'])
    await s.patch(name, 'a', { x: 4 })
    expect([await run(s, work), await s.output(work.slot, 'a'), await s.offered(work.slot, 'failed')]).toEqual([{ ...nothing, done: 1 }, [40], []])
  }),
  rule('engine.failure.outage', 'an outage in the midst ends the run; what was settled stays, and the next run does the rest', async (s) => {
    const name = await s.collection(many(200, (i) => ({ x: i }))), slot = await s.slot(name, { fields: ['x'] })
    const first = counting(slot, times10, () => { if (first.calls === 4) throw new InlayError('UNAVAILABLE', 'The model is away.') })
    await expect(run(s, first, { chunk: 40 })).rejects.toMatchObject({ code: 'UNAVAILABLE' })
    const rest = (await s.offered(slot)).length, second = counting(slot, times10)
    expect(rest).toBeGreaterThan(0)
    expect(rest).toBeLessThan(200)
    expect([(await run(s, second)).done, second.rows, await s.offered(slot), await s.offered(slot, 'failed')]).toEqual([rest, rest, [], []])
  }),
  rule('engine.select.skip', 'rows that core does not select are looked at once', async (s) => {
    const name = await s.collection(many(10, (i) => ({ x: i }))), slot = await s.slot(name, { fields: ['x'] })
    const work: Counting = { ...counting(slot, times10), select: async (rows) => rows.map((row) => Number(row.doc['x']) % 2 === 0) }
    expect([await run(s, work), await run(s, work)]).toEqual([{ ...nothing, done: 5, skipped: 5 }, nothing])
    await s.patch(name, keyOf(1), { x: 12 })
    await s.patch(name, keyOf(2), { x: 13 })
    expect(await run(s, work)).toEqual({ ...nothing, done: 1, skipped: 1 })
    expect((await s.find(name, { slots: [slot.id] })).map((row) => row.outputs?.[slot.id]?.[0])).toEqual([0, 120, undefined, undefined, 40, undefined, 60, undefined, 80, undefined])
  }),
  rule('engine.chain.follows', 'a chain follows a change, and only what reads it runs', async (s) => {
    const name = await s.collection(many(30, (i) => ({ x: i, y: 1 }))), A = counting(await s.slot(name, { fields: ['x'] }), times10)
    const B = counting(await s.slot(name, { fields: ['y'], upstream: [A.slot.id] }), (row) => [Number(row.outputs![A.slot.id]![0]) + Number(row.doc['y'])])
    expect(await run(s, B)).toEqual(nothing)
    await run(s, A)
    expect((await run(s, B)).done).toBe(30)
    A.rows = B.rows = 0
    await s.patch(name, keyOf(3), { x: 33 })
    await s.patch(name, keyOf(4), { y: 2 })
    await s.patch(name, keyOf(5), { n: 1 })
    expect([await run(s, A), await run(s, B), A.rows, B.rows]).toEqual([{ ...nothing, done: 1, same: 2 }, { ...nothing, done: 2, same: 1 }, 1, 2])
    expect([await s.output(B.slot, keyOf(3)), await s.output(B.slot, keyOf(4)), await s.output(B.slot, keyOf(5))]).toEqual([[331], [42], [51]])
  }),
  rule('engine.many.chunks', 'of a changed text only the changed chunks run', async (s) => {
    const name = await s.collection({ t: { text: 'aa bbb cccc' }, u: { text: '' } }), C = counting(await s.slot(name, { fields: ['text'], many: true, shape: { kind: 'string' } }), (row) => String(row.doc['text']).split(' ').filter(Boolean))
    const D = counting(await s.slot(C.slot.id, { fields: ['value'], shape: { kind: 'number' } }), (row) => [String(row.doc['value']).length])
    await run(s, C)
    expect((await run(s, D)).done).toBe(3)
    D.rows = 0
    await s.patch(name, 't', { text: 'aa zzzzz' })
    await run(s, C)
    await run(s, D)
    expect([D.rows, (await s.find(C.slot.id, { slots: [D.slot.id] })).map((row) => [row.key, row.doc['value'], row.outputs?.[D.slot.id]]), await s.data.prune(D.slot, 'all', s.ctx)]).toEqual([1, [['t#0', 'aa', [2]], ['t#1', 'zzzzz', [5]]], 0])
  }),
  rule('engine.all.compares', 'comparing all rows finds nothing to run where nothing changed', async (s) => {
    const name = await s.collection(many(50, (i) => ({ x: i }))), work = counting(await s.slot(name, { fields: ['x'] }), times10)
    await run(s, work)
    work.rows = 0
    expect([await run(s, work, { which: 'all' }), work.rows]).toEqual([{ ...nothing, same: 50 }, 0])
  }),
  rule('engine.at-once.two', 'two reconcilers at once settle every row, and agree', async (s) => {
    const name = await s.collection(many(300, (i) => ({ x: i }))), slot = await s.slot(name, { fields: ['x'] }), works = [counting(slot, times10), counting(slot, times10)]
    const runs = await Promise.all(works.map((work) => run(s, work, { chunk: 50 })))
    expect(runs.map((r) => [r.failed, r.pending])).toEqual([[0, 0], [0, 0]])
    expect(await s.data.tally(slot, s.ctx)).toEqual({ rows: 300, missing: 0, stale: 0, failed: 0, orphaned: 0 })
    for (const row of await s.find(name, { slots: [slot.id] })) expect(row.outputs?.[slot.id]).toEqual([Number(row.doc['x']) * 10])
  }),
  rule('engine.at-once.writer', 'while a writer changes rows, the outputs end as those of the last documents', async (s) => {
    const name = await s.collection(many(60, (i) => ({ x: i }))), work = counting(await s.slot(name, { fields: ['x'] }), times10)
    const last = { written: false }
    const writing = (async () => {
      for (let i = 0; i < 60; i++) await s.patch(name, keyOf((i * 7) % 60), i % 3 === 0 ? { n: i } : { x: 1000 + i })
    })().finally(() => { last.written = true })
    writing.catch(() => {})
    while (!last.written) { await run(s, work, { chunk: 20 }); await setImmediate() }
    await writing
    await run(s, work)
    for (const row of await s.find(name, { slots: [work.slot.id] })) expect(row.outputs?.[work.slot.id]).toEqual([Number((row.doc as Doc)['x']) * 10])
  }),
]
