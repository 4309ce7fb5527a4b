/** Who made an output, and when: `by` of outcomes and marks. */
import { expect } from 'vitest'
import type { Key, Outcome, Row, Slot } from '../../core/contract.ts'
import { durable, rule, type Rule } from './rule.ts'
import { keyOf, many, type Subject } from './subject.ts'

/** What an outcome is, before it says for which row and by whom. */
type Found = { readonly kind: 'values'; readonly values: readonly string[] } | { readonly kind: 'same' | 'skip' } | { readonly kind: 'error'; readonly error: string; readonly tries: number }
const value: Found = { kind: 'values', values: ['v'] }
const skip: Found = { kind: 'skip' }
const error: Found = { kind: 'error', error: 'bad row', tries: 2 }
const settled: readonly (readonly [string, Found])[] = [['values', value], ['error', error], ['skip', skip]]

/** Settles one row as it is now; `by` undefined: the outcome says nothing of it. */
async function make(s: Subject, slot: Slot, key: Key, found: Found, by: string | undefined, hash = 'h'): Promise<readonly Key[]> {
  const outcome: Outcome = { key, rev: (await s.at(slot, key)).rev, hash, ...(by === undefined ? {} : { by }), ...found }
  return s.data.settle(slot, [outcome], s.ctx)
}
const mark = async (s: Subject, slot: Slot, key: Key): Promise<Row['mark']> => (await s.at(slot, key)).mark
const texts: readonly string[] = ['2026-01-02T03:04:05.678Z host:4711:a1b2', ' ', ' blank ends ', `it's "by" \\ %s $1 {} ;--`, 'two\nlines\t', 'é e\u0301 😀 שלום', 'null', '{"json":1}', 'x'.repeat(200), '😀'.repeat(100)]

export const makers: readonly Rule[] = [
  rule('slots.by.kinds', 'who made an output is kept in the mark of values, of an error and of a skip, beside all else', async (s) => {
    const name = await s.collection(Object.fromEntries(settled.map(([key]) => [key, {}]))), slot = await s.slot(name)
    for (const [key, found] of settled) expect(await make(s, slot, key, found, `maker of ${key}`)).toEqual([])
    const rows = await s.rows(slot, 'all')
    expect(rows.map((row) => row.mark)).toEqual([
      { rev: rows[0]!.rev, hash: 'h', error: 'bad row', tries: 2, by: 'maker of error' }, { rev: rows[1]!.rev, hash: 'h', none: true, by: 'maker of skip' }, { rev: rows[2]!.rev, hash: 'h', by: 'maker of values' },
    ])
    expect((await s.rows(slot, 'failed')).map((row) => row.mark?.by)).toEqual(['maker of error'])
  }),
  rule('slots.by.absent', 'an outcome that says nothing of its maker leaves a mark without one, also where the mark before had one', async (s) => {
    const slot = await s.slot(await s.collection({ a: {}, b: {} }))
    await make(s, slot, 'b', value, 'first')
    for (const key of ['a', 'b']) {
      for (const [what, found] of settled) {
        await make(s, slot, key, found, undefined)
        expect([what, (await mark(s, slot, key))?.by]).toEqual([what, undefined])
      }
    }
  }),
  rule('slots.by.stale', 'the mark of a changed row says who made the output that is there', async (s) => {
    const name = await s.collection({ a: { x: 1 }, b: { x: 1 } }), slot = await s.slot(name)
    for (const key of ['a', 'b']) await make(s, slot, key, value, `first ${key}`)
    await s.patch(name, 'a', { x: 2 })
    await s.write(name, { kind: 'put', key: 'b', doc: { x: 2 } })
    expect((await s.rows(slot)).map((row) => row.mark?.by)).toEqual(['first a', 'first b'])
  }),
  rule('slots.by.same', 'same keeps the maker that is there while the rev moves, whoever says so', async (s) => {
    const name = await s.collection({ values: {}, error: {}, skip: {}, nobody: {} }), slot = await s.slot(name)
    for (const [key, found] of settled) await make(s, slot, key, found, `maker of ${key}`)
    await make(s, slot, 'nobody', value, undefined)
    for (const by of ['somebody else', undefined]) {
      for (const key of ['values', 'error', 'skip', 'nobody']) {
        const rev = await s.patch(name, key, { n: 1 })
        expect(await make(s, slot, key, { kind: 'same' }, by)).toEqual([])
        const found = await mark(s, slot, key)
        expect([key, found?.rev === rev, found?.by]).toEqual([key, true, key === 'nobody' ? undefined : `maker of ${key}`])
      }
    }
  }),
  rule('slots.by.replaced', 'a new outcome replaces the maker with the rest of the mark, of whatever kind it is', async (s) => {
    const slot = await s.slot(await s.collection({ a: {} }))
    for (const [before, first] of settled) {
      for (const [after, next] of settled) {
        await make(s, slot, 'a', first, 'first')
        await make(s, slot, 'a', next, 'second')
        expect([before, after, (await mark(s, slot, 'a'))?.by]).toEqual([before, after, 'second'])
      }
    }
  }),
  rule('slots.by.each', 'of a batch each outcome has its own maker', async (s) => {
    const slot = await s.slot(await s.collection(many(30, () => ({})))), rows = await s.rows(slot)
    expect(await s.data.settle(slot, rows.map((row, i): Outcome => ({ key: row.key, rev: row.rev, hash: 'h', ...(i % 5 === 4 ? {} : { by: `maker ${i}` }), ...settled[i % 3]![1] })), s.ctx)).toEqual([])
    expect((await s.rows(slot, 'all')).map((row) => row.mark?.by)).toEqual(rows.map((_, i) => (i % 5 === 4 ? undefined : `maker ${i}`)))
  }),
  rule('slots.by.refused', 'a refused outcome changes no maker', async (s) => {
    const name = await s.collection({ a: { x: 1 } }), slot = await s.slot(name)
    await make(s, slot, 'a', value, 'first')
    const { rev } = await s.at(slot, 'a')
    await s.patch(name, 'a', { x: 2 })
    for (const found of [value, error, skip, { kind: 'same' } as const]) expect(await s.data.settle(slot, [{ key: 'a', rev, hash: 'h', by: 'late', ...found }], s.ctx)).toEqual(['a'])
    expect(await make(s, slot, 'a', { kind: 'same' }, 'late', 'another hash')).toEqual(['a'])
    expect((await mark(s, slot, 'a'))?.by).toBe('first')
  }),
  rule('slots.by.chain', 'each slot of a chain has makers of its own, and rows gives that of the slot that is asked', async (s) => {
    const name = await s.collection({ a: {} }), A = await s.slot(name), B = await s.slot(name, { upstream: [A.id] })
    await make(s, A, 'a', value, 'of A')
    expect((await s.rows(B)).map((row) => row.mark)).toEqual([undefined])
    await make(s, B, 'a', value, 'of B')
    expect([(await mark(s, A, 'a'))?.by, (await mark(s, B, 'a'))?.by]).toEqual(['of A', 'of B'])
  }),
  rule('slots.by.many', 'a list has one maker, kept with an empty one too; what is made from its elements has makers of its own', async (s) => {
    const name = await s.collection({ a: {}, b: {} }), C = await s.slot(name, { many: true }), D = await s.slot(C.id)
    await make(s, C, 'a', { kind: 'values', values: ['x', 'y', 'z'] }, 'of the list')
    await make(s, C, 'b', { kind: 'values', values: [] }, 'of none')
    await make(s, D, 'a#1', value, 'of y')
    expect([(await mark(s, C, 'a'))?.by, (await mark(s, C, 'b'))?.by, (await s.rows(D, 'all')).map((row) => row.mark?.by)]).toEqual(['of the list', 'of none', [undefined, 'of y', undefined]])
    await s.patch(name, 'a', { n: 1 })
    await make(s, C, 'a', { kind: 'same' }, 'another')
    expect([(await mark(s, C, 'a'))?.by, (await mark(s, D, 'a#1'))?.by]).toEqual(['of the list', 'of y'])
    await make(s, C, 'a', { kind: 'values', values: ['x'] }, 'of less')
    await make(s, C, 'b', error, 'of an error')
    expect([(await mark(s, C, 'a'))?.by, (await mark(s, C, 'b'))?.by]).toEqual(['of less', 'of an error'])
    await make(s, C, 'b', skip, undefined)
    expect((await mark(s, C, 'b'))?.by).toBeUndefined()
  }),
  rule('slots.by.texts', 'a maker is kept as it was written, up to 200 characters', async (s) => {
    const slot = await s.slot(await s.collection(many(texts.length, () => ({})))), lists = await s.slot(slot.collection, { many: true })
    for (const of of [slot, lists]) {
      for (const [i, by] of texts.entries()) await make(s, of, keyOf(i), value, by)
      expect((await s.rows(of, 'all')).map((row) => row.mark?.by)).toEqual(texts)
    }
  }),
  rule('slots.by.kept', 'makers are there after closing and connecting again', async (s) => {
    const slot = await s.slot(await s.collection({ a: {} }))
    await make(s, slot, 'a', value, 'before')
    await s.reopen()
    await s.data.openSlot(slot, s.ctx)
    expect((await mark(s, slot, 'a'))?.by).toBe('before')
  }, durable),
]
