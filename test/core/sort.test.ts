import { describe, expect, it } from 'vitest'
import type { Doc } from '../../core/contract.ts'
import { InlayError } from '../../core/errors.ts'
import { compareKeys, parseSort, sortKey, Top } from '../../core/sort.ts'
import { pools, sorts, type Named } from '../support/mongod-truth.ts'

const sorted = (rows: readonly Named[], by: unknown, n?: number): readonly string[] => {
  const top = new Top<string>(parseSort(by), n)
  for (const { id, doc } of rows) top.add({ _id: id, ...doc }, id, id)
  return top.rows()
}
const failure = (act: () => unknown): InlayError | undefined => {
  try { act() } catch (error) { if (error instanceof InlayError) return error; throw error }
  return undefined
}
/** The order, or 'error' for the failure that arrays of a row cause. */
const answer = (rows: readonly Named[], by: unknown): string => {
  let order: readonly string[] = []
  return failure(() => { order = sorted(rows, by) }) === undefined ? order.join() : 'error'
}

describe('sorts as mongod answers them', () => {
  it('orders the hand-made cases the same', () => {
    const kept = sorts.filter(({ kind }) => kind === 'keep')
    expect(kept.filter(({ docs, sort, order }) => answer(docs, sort) !== String(order)).map(({ id }) => id)).toEqual([])
    expect(kept.length).toBe(45)
  })

  it('orders the 500 random cases the same, or fails where mongod fails', () => {
    const cases = pools.flatMap((pool) => pool.sorts.map((c) => ({ ...c, docs: pool.docs })))
    expect(cases.filter(({ docs, sort, order }) => answer(docs, sort) !== String(order)).map(({ id }) => id)).toEqual([])
    expect(cases.length).toBe(500)
    expect(cases.filter(({ order }) => order === 'error').length).toBeGreaterThan(50)
  })

  it('refuses the cases whose answer is not portable', () => {
    const refused = sorts.filter(({ kind }) => kind === 'refuse')
    expect(refused.filter(({ sort }) => failure(() => parseSort(sort))?.code !== 'INVALID_ARGUMENT').map(({ id }) => id)).toEqual([])
    expect(refused.length).toBe(5)
  })
})

describe('parseSort', () => {
  it('takes paths in their order', () => {
    expect(parseSort({ 'b.c': -1, a: 1, _id: 1 })).toEqual([{ path: ['b', 'c'], descending: true }, { path: ['a'], descending: false }, { path: ['_id'], descending: false }])
    expect(parseSort({})).toEqual([])
  })

  it('refuses what is no sort, with the path and what is expected', () => {
    expect(failure(() => parseSort({ 'a.0': 1 }))?.message).toBe('The path "a.0" of the sort has a number as a part, which means a position in an array or not, depending on the data. Sort by a named field.')
    expect(failure(() => parseSort({ a: 'asc' }))?.message).toBe('The sort by "a" has the direction "asc"; 1 for ascending or -1 for descending is expected.')
    const many = Object.fromEntries(Array.from({ length: 33 }, (_, i) => [`f${i}`, 1]))
    for (const by of [undefined, null, 'a', [['a', 1]], { a: 0 }, { a: true }, { a: 1n }, { '': 1 }, { 'a.': 1 }, { $a: 1 }, { _content: 1 }, many]) expect(failure(() => parseSort(by))?.code).toBe('INVALID_ARGUMENT')
  })
})

describe('sortKey', () => {
  it('is the smallest tuple by the whole order, not path by path', () => {
    const order = parseSort({ 'a.x': 1, 'a.y': 1 })
    expect(sortKey({ a: [{ x: 1, y: 9 }, { x: 2, y: 3 }] }, order)).toEqual([1, 9])
    expect(sortKey({ a: [{ x: 1, y: 9 }, { x: 2, y: 3 }] }, parseSort({ 'a.x': -1, 'a.y': 1 }))).toEqual([2, 3])
    expect(compareKeys([1, 9], [1, 3], order)).toBeGreaterThan(0)
  })

  it('fails with the id and paths of a row with two arrays', () => {
    const error = failure(() => sortKey({ _id: 'k7', a: [1], b: [2] }, parseSort({ a: 1, b: -1 })))
    expect(error?.message).toBe('The row "k7" holds different arrays under the paths of the sort ("a", "b"), so it has no one place. Sort by fewer paths, or leave such rows out.')
    expect([error?.code, error?.details]).toEqual(['INVALID_ARGUMENT', { id: 'k7', paths: ['a', 'b'] }])
  })

  it('takes content kept apart from its document for a value', () => {
    const content: Doc = { _content: { artifact: 'ab', codec: 'Uint8Array' } }
    expect(sortKey({ a: content }, parseSort({ 'a.b': 1, 'a': 1 }))).toEqual([null, content])
  })
})

describe('Top', () => {
  const rows = Array.from({ length: 1000 }, (_, i): Named => ({ id: `k${String((i * 7919) % 1000).padStart(3, '0')}`, doc: { a: (i * 31) % 17 } }))

  it('keeps the first n of a stream, ties by key', () => {
    const all = sorted(rows, { a: -1 })
    expect(all).toEqual([...rows].sort((x, y) => Number(y.doc['a']) - Number(x.doc['a']) || (x.id < y.id ? -1 : 1)).map(({ id }) => id))
    for (const n of [0, 1, 10, 449, 999, 1000, 5000]) expect(sorted(rows, { a: -1 }, n)).toEqual(all.slice(0, n))
  })

  it('breaks ties by code point', () => {
    expect(sorted(['\u{1F600}', '\uFF5E', 'a', 'Z'].map((id) => ({ id, doc: {} })), { a: 1 })).toEqual(['Z', 'a', '\uFF5E', '\u{1F600}'])
  })
})
