import { describe, expect, it } from 'vitest'
import type { Doc, Value } from '../../core/contract.ts'
import { InlayError } from '../../core/errors.ts'
import { applyUpdate, parseUpdate } from '../../core/update.ts'
import { compare, copyOut, isDoc } from '../../core/value.ts'
import { updates } from '../support/mongod-truth.ts'

const failure = (act: () => unknown): InlayError | undefined => {
  try { act() } catch (error) { if (error instanceof InlayError) return error; throw error }
  return undefined
}
const update = (doc: Doc, change: unknown): Doc => applyUpdate(doc, parseUpdate(change))
/** Equal but for the order of fields, and for the type of a number: mongod makes a long of an int that overflows. */
const alike = (a: Value | undefined, b: Value | undefined): boolean => {
  if (isDoc(a) && isDoc(b)) return Object.keys(a).length === Object.keys(b).length && Object.keys(a).every((name) => Object.hasOwn(b, name) && alike(a[name], b[name]))
  if (Array.isArray(a) && Array.isArray(b)) return a.length === b.length && a.every((v: Value, i) => alike(v, b[i] as Value))
  return compare(a, b) === 0
}

describe('updates as mongod makes them', () => {
  it('makes the same document, or fails with the same code', () => {
    const kept = updates.filter(({ kind }) => kind === 'keep')
    const wrong = kept.filter((c) => {
      const before = copyOut(c.before)
      let after: Doc | undefined
      const error = failure(() => { after = update(c.before, c.update) })
      return !alike(c.before, before) || error?.details['code'] !== c.error || (error === undefined && !alike(after, c.after))
    })
    expect(wrong.map(({ id }) => id)).toEqual([])
    expect(kept.length).toBe(80)
  })

  it('keeps the type of numbers, but for what mongod widens', () => {
    const widened = ['u065', 'u090']
    const typed = (v: unknown): string => JSON.stringify(v, (_, x: unknown) => (typeof x === 'bigint' ? `${x}n` : x))
    const kept = updates.filter(({ id, kind, after, update: change }) => kind === 'keep' && after !== undefined && !widened.includes(id) && /"\$inc"/.test(typed(change)))
    expect(kept.filter((c) => typed(update(c.before, c.update)) !== typed(c.after)).map(({ id }) => id)).toEqual([])
    expect(kept.length).toBeGreaterThan(15)
  })

  it('refuses the cases that are not portable, and those that are to come', () => {
    const refused = updates.filter(({ kind }) => kind !== 'keep')
    expect(refused.filter((c) => failure(() => parseUpdate(c.update))?.code !== (c.kind === 'later' ? 'UNSUPPORTED' : 'INVALID_ARGUMENT')).map(({ id }) => id)).toEqual([])
    expect(refused.length).toBe(93)
  })
})

describe('parseUpdate', () => {
  it('names the operator and path, says why, and what is expected', () => {
    const message = (change: unknown): string | undefined => failure(() => parseUpdate(change))?.message
    expect(message({})).toBe('An update is given as {}; an object of $set, $unset and $inc is expected, such as { $set: { field: value } }.')
    expect(message({ c: 1 })).toBe('The update has the field "c" beside of operators, which some databases take for a whole new document; an object of $set, $unset and $inc is expected, such as { $set: { field: value } }. To replace a document, call replace.')
    expect(message({ $push: { a: 1 } })).toBe('The operator "$push" is not among the updates that mean the same on every database. Known here: $set, $unset, $inc.')
    expect(message({ $set: { 'a.b': 1 }, $unset: { a: true } })).toBe('The update\'s $unset of "a" overlaps with $set of "a.b", and their order is not defined; change each part once.')
    expect(message({ $inc: { a: '1' } })).toBe('The update\'s $inc of "a" is given "1"; a number or bigint is expected.')
  })

  it('refuses ids, outputs, reserved names and what is no update', () => {
    const changes: readonly unknown[] = [undefined, null, 5, [], new Map(), { $set: 5 }, { $set: [] }, { $set: { _id: 'x' } }, { $unset: { _id: 1 } }, { $set: { '_outputs.a.b': 1 } }, { $set: { 'a._content': 1 } }, { $set: { 'a.\u0001date': 1 } },
      { $set: { 'a.01': 1 } }, { $set: { 'a.$b': 1 } }, { $set: { 'a\0': 1 } }, { $set: { 'a.b': 1, 'a.b.c': 2 } }, { $inc: { a: null } }, { $set: { [Array.from({ length: 101 }, () => 'a').join('.')]: 1 } }]
    expect(changes.filter((change) => failure(() => parseUpdate(change))?.code !== 'INVALID_ARGUMENT')).toEqual([])
    expect(parseUpdate({ $set: { 'a.b': 1, 'a.bc': 2, _fold: 'train' } }).map(({ path }) => path)).toEqual([['a', 'b'], ['a', 'bc'], ['_fold']])
  })
})

describe('applyUpdate', () => {
  it('leaves the argument as it is, shares what did not change, and returns the same object where nothing does', () => {
    const doc: Doc = { a: { b: { c: 1 }, d: [1, { e: 2 }] }, z: { y: 1 } }, before = copyOut(doc)
    const after = update(doc, { $set: { 'a.d.1.e': 3 }, $unset: { 'a.b.c': 1 }, $inc: { n: 1n } })
    expect(after).toEqual({ a: { b: {}, d: [1, { e: 3 }] }, z: { y: 1 }, n: 1n })
    expect(doc).toEqual(before)
    expect(after['z']).toBe(doc['z'])
    expect(update(doc, { $unset: { 'a.x.y': 1, 'q': 1, 'a.d.9': 1 }, $set: { 'z.y': 1 } })).toBe(doc)
  })

  it('pads an array with null, at most by 1000', () => {
    expect(update({ a: [1] }, { $set: { 'a.3': 2 } })).toEqual({ a: [1, null, null, 2] })
    expect((update({ a: [] }, { $set: { 'a.1000': 2 } })['a'] as readonly Value[]).length).toBe(1001)
    const error = failure(() => update({ a: [] }, { $set: { 'a.1001': 2 } }))
    expect([error?.code, error?.details]).toEqual(['INVALID_ARGUMENT', { path: 'a.1001', code: 34 }])
    expect(error?.message).toBe('$set of "a.1001" is not possible: the array there has 0 elements, and more than 1000 would have to be filled in; a position near its end is expected.')
  })

  it('sets fields named as those of every object', () => {
    const after = update({ a: {} }, { $set: { 'a.__proto__': 1, 'constructor': 2 } })
    expect(Object.entries(after['a'] as Doc)).toEqual([['__proto__', 1]])
    expect(Object.hasOwn(after, 'constructor')).toBe(true)
    expect(update(after, { $unset: { constructor: 1 } })).toEqual({ a: after['a'] })
  })

  it('does not enter content kept apart from its document', () => {
    const doc: Doc = { a: { _content: { artifact: 'ab', codec: 'Uint8Array' } } }
    expect(failure(() => update(doc, { $set: { 'a.b': 1 } }))?.details['code']).toBe(28)
    expect(update(doc, { $unset: { 'a.b': 1 } })).toBe(doc)
  })
})
