import { inspect } from 'node:util'
import { describe, expect, it } from 'vitest'
import type { Doc, Filter, Path } from '../../core/contract.ts'
import { InlayError, type ErrorCode } from '../../core/errors.ts'
import { evaluate, parseFilter, split, type Conjunct } from '../../core/match.ts'
import { docs, filters, pools, type Named } from '../support/mongod-truth.ts'

const view = ({ id, doc }: Named): Doc => ({ _id: id, ...doc })
const matching = (where: unknown, rows: readonly Named[]): readonly string[] => {
  const conjuncts = parseFilter(where)
  return rows.filter((row) => conjuncts.every((c) => c.test(view(row)))).map(({ id }) => id).sort()
}
/** Conjuncts whose contract form answers otherwise than their test, by id of the case. */
const apart = (id: string, where: unknown, rows: readonly Named[]): readonly string[] => parseFilter(where)
  .filter(({ filter, test }) => filter !== undefined && rows.some((row) => evaluate(filter, row.id, row.doc) !== test(view(row)))).map(({ text }) => `${id}: ${text}`)
const forms = (where: unknown, outputs?: (path: readonly string[]) => Path | undefined): readonly (Filter | undefined)[] => parseFilter(where, outputs).map((c) => c.filter)
const refusal = (where: unknown): { readonly code: ErrorCode; readonly message: string } | undefined => {
  try { parseFilter(where) } catch (error) { if (error instanceof InlayError) return { code: error.code, message: error.message }; throw error }
  return undefined
}
const matches = (where: unknown, doc: Doc): boolean => parseFilter(where).every((c) => c.test(doc))

describe('filters as mongod answers them', () => {
  const kept = filters.filter(({ kind }) => kind !== 'refuse')

  it(`finds the same documents in the ${kept.length} hand-made cases`, () => {
    expect(kept.filter(({ filter, match }) => matching(filter, docs).join() !== [...match].sort().join()).map(({ id }) => id)).toEqual([])
    expect(kept.length).toBe(254)
  })

  it('finds the same documents in the 1,500 random cases', () => {
    const cases = pools.flatMap((pool) => pool.filters.map((c) => ({ ...c, docs: pool.docs })))
    expect(cases.filter((c) => matching(c.filter, c.docs).join() !== c.match.join()).map(({ id }) => id)).toEqual([])
    expect(cases.length).toBe(1500)
  })

  it('refuses the cases whose answer is not portable', () => {
    const refused = filters.filter(({ kind }) => kind === 'refuse')
    expect(refused.filter(({ filter }) => refusal(filter) === undefined).map(({ id }) => id)).toEqual([])
    expect(refused.length).toBe(60)
  })

  it('has a contract form for every hand-made case that a database can evaluate, but for positions and the order of bytes', () => {
    const cores = (filter: unknown): boolean => /\.\d+[.']|\$[gl]te?': Uint8Array/.test(inspect(filter, { depth: 10 }))
    const pushed = filters.filter(({ kind }) => kind === 'push')
    expect(pushed.filter(({ filter }) => forms(filter).includes(undefined) !== cores(filter)).map(({ id }) => id)).toEqual([])
    expect(pushed.filter(({ filter }) => !cores(filter)).length).toBe(147)
  })

  it('means the same in the contract form', () => {
    expect(kept.flatMap(({ id, filter }) => apart(id, filter, docs))).toEqual([])
    expect(pools.flatMap((pool) => pool.filters.flatMap(({ id, filter }) => apart(id, filter, pool.docs)))).toEqual([])
    expect(pools.flatMap((pool) => pool.filters.flatMap(({ filter }) => forms(filter))).filter((f) => f !== undefined).length).toBeGreaterThan(800)
  })
})

describe('the contract form', () => {
  const path: Path = { at: ['a', 'b'] }

  it('splits a filter into conjuncts: fields, operators, $and and $nor', () => {
    expect(forms({ 'a.b': { $gt: 1, $lt: 5 }, $and: [{ c: 1 }, { $and: [{ d: 2 }] }], $nor: [{ e: 1 }, { f: 1, g: 1 }] })).toEqual([
      { kind: 'gt', path, value: 1 }, { kind: 'lt', path, value: 5 }, { kind: 'eq', path: { at: ['c'] }, value: 1 }, { kind: 'eq', path: { at: ['d'] }, value: 2 },
      { kind: 'not', of: { kind: 'eq', path: { at: ['e'] }, value: 1 } },
      { kind: 'not', of: { kind: 'and', of: [{ kind: 'eq', path: { at: ['f'] }, value: 1 }, { kind: 'eq', path: { at: ['g'] }, value: 1 }] } },
    ])
  })

  it('gives null its own kind, and no order of null or of nothing', () => {
    expect(forms({ 'a.b': null })).toEqual([{ kind: 'null', path }])
    expect(forms({ 'a.b': { $gte: null } })).toEqual([{ kind: 'null', path }])
    expect(forms({ 'a.b': { $lt: null } })).toEqual([{ kind: 'keys', keys: [] }])
    expect(forms({ 'a.b': { $in: [] } })).toEqual([{ kind: 'keys', keys: [] }])
    expect(forms({ 'a.b': { $in: [null, 1, 'x'] } })).toEqual([{ kind: 'or', of: [{ kind: 'null', path }, { kind: 'in', path, values: [1, 'x'] }] }])
    expect(forms({ 'a.b': { $not: { $exists: true } } })).toEqual([{ kind: 'exists', path, is: false }])
  })

  it('turns equality of _id into keys, and keeps other tests on the path _id', () => {
    const id: Path = { at: ['_id'] }
    expect(forms({ _id: 'x' })).toEqual([{ kind: 'keys', keys: ['x'] }])
    expect(forms({ _id: { $in: ['x', 'y', 'x', 5, null] } })).toEqual([{ kind: 'keys', keys: ['x', 'y'] }])
    expect(forms({ _id: { $ne: 'x' } })).toEqual([{ kind: 'not', of: { kind: 'keys', keys: ['x'] } }])
    expect(forms({ _id: { $gt: 'x', $regex: '^y', $exists: true } })).toEqual([{ kind: 'gt', path: id, value: 'x' }, { kind: 'prefix', path: id, value: 'y' }, { kind: 'exists', path: id, is: true }])
    expect(forms({ '_id.x': 1 })).toEqual([undefined])
  })

  it('has none for positions, arrays, large bytes, the order of bytes, and $size, $elemMatch and $type', () => {
    const core = [{ 'a.0': 1 }, { a: [1] }, { a: { $in: [1, [2]] } }, { a: { $gt: new Uint8Array([1]) } }, { a: new Uint8Array(16 * 1024 + 1) }, { a: { $size: 1 } }, { a: { $elemMatch: { b: 1 } } }, { a: { $type: 'number' } }]
    expect(core.flatMap((where) => forms(where))).toEqual(core.map(() => undefined))
    expect(forms({ $or: [{ b: 1 }, { a: { $size: 1 } }] })).toEqual([undefined])
    expect(forms({ b: { $not: { $gt: 1, $size: 1 } } })).toEqual([undefined])
  })

  it('never holds an empty list of filters', () => {
    expect(forms({ $or: [{}, { a: 1 }] })).toEqual([])
    expect(forms({ $nor: [{}] })).toEqual([{ kind: 'keys', keys: [] }])
    expect(matches({ $nor: [{ $or: [{}] }] }, {})).toBe(false)
  })

  it('resolves outputs to their slot, and evaluates them as a document of their own', () => {
    const outputs = (at: readonly string[]): Path | undefined => (at[1] === 'text' && at[2] === 'tagger' ? { slot: 's_1', at: at.slice(3) } : undefined)
    const [whole, deep, unknown] = parseFilter({ '_outputs.text.tagger': 'x', '_outputs.text.tagger.b': null, '_outputs.other.m': 1 }, outputs) as readonly [Conjunct, Conjunct, Conjunct]
    expect(whole.filter).toEqual({ kind: 'eq', path: { slot: 's_1', at: [] }, value: 'x' })
    expect(unknown.filter).toBe(undefined)
    const values = [undefined, 'x', 'y', ['x'], { b: 1 }, { b: null }, [{ b: 1 }], [], null]
    for (const value of values) {
      const row: Doc = value === undefined ? { _id: 'k' } : { _id: 'k', _outputs: { text: { tagger: value } } }
      for (const { test, filter } of [whole, deep]) expect(evaluate(filter!, 'k', {}, (slot) => (slot === 's_1' && value !== undefined ? [value] : undefined)), JSON.stringify(value)).toBe(test(row))
    }
  })

  it('tells what a conjunct reads and says', () => {
    expect(parseFilter({ 'a.b': { $gt: 1 }, $or: [{ c: 1 }, { '_outputs.x.y': 'z' }, { _id: 'k' }] }).map(({ reads, text }) => [reads, text])).toEqual([
      [['a'], 'a.b $gt 1'], [['c', '_outputs', '_id'], '$or [{"c":1},{"_outputs.x.y":"z"},{"_id":"k"}]'],
    ])
  })
})

describe('documents and operands', () => {
  it('takes content kept apart from its document for a value, not for an object', () => {
    const content: Doc = { _content: { artifact: 'ab', codec: 'Uint8Array' } }
    expect(matches({ 'a.b': null }, { a: content })).toBe(true)
    expect(matches({ 'a.b': null }, { a: [content] })).toBe(false)
    expect(matches({ 'a.b': null }, { a: [{}] })).toBe(true)
  })

  it('reads own fields only, and no length of an array', () => {
    expect(matches({ constructor: { $exists: true } }, {})).toBe(false)
    expect(matches({ a: { $elemMatch: { length: 1 } } }, { a: [[7]] })).toBe(false)
    expect(matches({ a: { $elemMatch: { 0: 7 } } }, { a: [[7]] })).toBe(true)
  })

  it('keeps its meaning when the operand changes later', () => {
    const list = [1], date = new Date(5), bytes = new Uint8Array([1])
    const conjuncts = parseFilter({ a: { $in: list }, b: date, c: bytes })
    list.push(2)
    date.setTime(6)
    bytes[0] = 2
    expect(conjuncts.map((c) => c.test({ a: 2, b: new Date(5), c: new Uint8Array([1]) }))).toEqual([false, true, true])
  })
})

describe('refusals', () => {
  it('name the operator, value and path, say why, and what is expected', () => {
    const message = (where: unknown): string | undefined => refusal(where)?.message
    expect(message({ a: { b: 1 } })).toBe('The filter\'s $eq on "a" is given {"b":1}: whether two objects are equal depends on the order of their fields; test the fields by path, such as "a.name".')
    expect(message({ a: { $mod: [2, 1] } })).toBe('The operator "$mod" on "a" is not among those that mean the same on every database. Known here: $eq, $ne, $in, $nin, $gt, $gte, $lt, $lte, $exists, $regex, $not, $all, $size, $type, $elemMatch.')
    expect(message({ $where: 'true' })).toBe('The operator "$where" is not among those that mean the same on every database. Known here: $and, $or, $nor, the name of a field.')
    expect(message({ a: /^x/i })).toBe('The filter\'s $eq on "a" is given /^x/i: databases disagree on regular expressions; { $regex: "^literal" } is expected.')
    expect(message({ 'a..b': 1 })).toBe('The path "a..b" of the filter has an empty part, which databases read differently. Names of fields joined by dots are expected, such as "a" or "a.b".')
    expect(message({ $and: [] })).toBe("The filter's $and is given []: at least one filter is expected.")
    expect(message({ a: { $gt: [1] } })).toBe('The filter\'s $gt on "a" is given [1]: an order compares whole arrays and their elements at once, which nobody means; a single value is expected.')
  })

  it('stop what the types cannot', () => {
    const cyclic: unknown[] = [], circle: Record<string, unknown> = {}
    cyclic.push(cyclic)
    circle['a'] = circle
    const operands: readonly unknown[] = [undefined, {}, circle, cyclic, () => 1, Symbol('x'), new Map(), /x/, new Float32Array(2), new Date(Number.NaN), 2n ** 63n, '\ud800', [1, undefined], [{}], new (class Point { x = 1 })()]
    const wheres: readonly unknown[] = [
      ...operands.flatMap((v) => [{ a: v }, { a: { $ne: v } }, { a: { $in: [v] } }, { a: { $gt: v } }, { a: { $all: [v] } }]),
      undefined, null, 5, 'a', [], new Map(), { $and: undefined }, { $or: {} }, { $nor: [undefined] }, { $gt: 5 }, { a: { $and: [{}] } }, { a: { $gt: 1, b: 2 } }, { a: { b: 2, $gt: 1 } }, { a: { $not: 1 } },
      { a: { $not: {} } }, { a: { $not: /x/ } }, { a: { $size: true } }, { a: { $size: 1.5 } }, { a: { $size: Number.NaN } }, { a: { $type: ['number', 2] } }, { a: { $regex: /^x/ } }, { a: { $regex: '^a\\d' } }, { a: { $exists: undefined } },
      { a: { $elemMatch: [] } }, { a: { $elemMatch: { $gt: 1, $and: [{}] } } }, { _content: 1 }, { 'a._content.x': 1 }, { 'a.\u0001date': 1 }, { 'a\0': 1 }, { '\ud800': 1 }, { a: { $elemMatch: { 'b.': 1 } } },
    ]
    expect(wheres.filter((where) => refusal(where)?.code !== 'INVALID_ARGUMENT')).toEqual([])
    expect([{ a: { $foo: 1 } }, { a: { constructor: 1, $gt: 1 } }, { $expr: 1 }, { a: { $regex: '^a', $options: 'i' } }, { a: { $constructor: 1 } }, { $text: 1 }].map((where) => refusal(where)?.code)).toEqual(['UNSUPPORTED', 'INVALID_ARGUMENT', 'UNSUPPORTED', 'UNSUPPORTED', 'UNSUPPORTED', 'UNSUPPORTED'])
  })

  it('stop paths of more than 100 parts and filters nested more than 50 deep', () => {
    const path = (n: number): string => Array.from({ length: n }, () => 'a').join('.')
    const nest = (n: number, wrap: (inner: unknown) => unknown, inner: unknown): unknown => (n === 0 ? inner : nest(n - 1, wrap, wrap(inner)))
    expect([100, 101].map((n) => refusal({ [path(n)]: 1 })?.code)).toEqual([undefined, 'INVALID_ARGUMENT'])
    expect([50, 51].map((n) => refusal(nest(n, (inner) => ({ $or: [inner] }), { a: 1 }))?.code)).toEqual([undefined, 'INVALID_ARGUMENT'])
    expect([49, 51].map((n) => refusal({ a: nest(n, ($not) => ({ $not }), { $gt: 1 }) })?.code)).toEqual([undefined, 'INVALID_ARGUMENT'])
    expect(refusal(nest(51, (inner) => ({ a: { $elemMatch: inner } }), { a: 1 }))?.code).toBe('INVALID_ARGUMENT')
  })
})

describe('split', () => {
  const kinds: readonly Filter['kind'][] = ['and', 'or', 'not', 'eq', 'lt', 'lte', 'gt', 'gte', 'in', 'null', 'exists', 'prefix', 'keys']
  const capabilities = { filters: kinds, refuses: [], limits: {} }
  const outputs = (path: readonly string[]): Path => ({ slot: path[1]!, at: [] })
  const texts = (of: readonly Conjunct[]): readonly string[] => of.map(({ text }) => text)

  it('pushes what the database evaluates and keeps the rest', () => {
    const { where, pushed, residual } = split(parseFilter({ a: 1, b: { $size: 1 }, c: { $gt: 2 } }), capabilities, () => true)
    expect(where).toEqual({ kind: 'and', of: [{ kind: 'eq', path: { at: ['a'] }, value: 1 }, { kind: 'gt', path: { at: ['c'] }, value: 2 }] })
    expect(texts(pushed)).toEqual(['a $eq 1', 'c $gt 2'])
    expect(texts(residual)).toEqual(['b $size 1'])
    expect(split([], capabilities, () => true)).toEqual({ pushed: [], residual: [] })
  })

  it('looks at every kind inside, and joins only where "and" can be evaluated', () => {
    expect(texts(split(parseFilter({ $or: [{ a: 1 }, { b: { $gt: 1 } }] }), { ...capabilities, filters: ['or', 'eq'] }, () => true).pushed)).toEqual([])
    expect(texts(split(parseFilter({ _id: 'x', a: 1, b: { $ne: 1 } }), { ...capabilities, filters: ['keys', 'eq'] }, () => true).pushed)).toEqual(['_id $eq "x"'])
  })

  it('keeps more keys than the limit, over all conjuncts', () => {
    expect(texts(split(parseFilter({ _id: { $in: ['a', 'b'] } }), { ...capabilities, limits: { keys: 1 } }, () => true).pushed)).toEqual([])
    expect(texts(split(parseFilter({ $or: [{ _id: 'a' }, { x: 1 }], $and: [{ _id: { $ne: 'b' } }] }), { ...capabilities, limits: { keys: 1 } }, () => true).residual)).toEqual(['_id $ne "b"'])
  })

  it('keeps NUL characters that the database cannot hold, and outputs that it cannot filter', () => {
    const where = { a: 'x\0', b: { $in: ['y', 'z\0'] }, c: { $regex: '^w' }, _id: 'k\0', '_outputs.s': 1, '_outputs.t': 2 }
    expect(texts(split(parseFilter(where, outputs), { ...capabilities, refuses: ['nul'] }, (slot) => slot === 's').pushed)).toEqual(['c $regex "^w"', '_outputs.s $eq 1'])
    expect(split(parseFilter(where, outputs), capabilities, () => true).residual).toEqual([])
  })
})
