/**
 * The meaning of filters. A user's filter is parsed once, into conjuncts: each is a test that core can run on a row, and, where the contract has
 * a form for it, a `Filter` that a plugin may run instead. Both are made of the same tests over the same elements of a path.
 *
 * A path means a list of elements. Arrays on the way are opened, those at the end give their elements and then themselves; a field that is not there is
 * one element, `undefined`. A test holds if it holds for some element; `$ne`, `$nin`, `$not` and `$exists: false` turn round the answer of the whole path.
 */
import { inlineBytes } from './content.ts'
import type { DataCapabilities, Doc, Filter, Key, Path, Scalar, Value } from './contract.ts'
import { InlayError, quote } from './errors.ts'
import { compare, contentKey, copyOut, has, isBytes, isDoc, rank, tagMark } from './value.ts'

export type Predicate = (doc: Doc) => boolean
/** One of the tests that all must hold. */
export interface Conjunct {
  /** Runs on a user's row: the document with `_id`, `_fold` and `_outputs`. */
  readonly test: Predicate
  /** Exactly the same in the contract's form; absent where there is none. */
  readonly filter?: Filter
  /** Top-level fields that the test reads, `_id` and `_outputs` among them. */
  readonly reads: readonly string[]
  /** For people. */
  readonly text: string
}
/** The address of an output that a path beginning with `_outputs` means, if it is one. */
export type Outputs = (path: readonly string[]) => Path | undefined

const maxSegments = 100
const maxNesting = 50

/** Parses a user's filter into its conjuncts. What has no portable meaning is refused with an `InlayError` that says why. */
export function parseFilter(where: unknown, outputs: Outputs = () => undefined): readonly Conjunct[] {
  return parse(where, outputs, 0)
}

type Output = (slot: string) => readonly Value[] | undefined
type Matcher = (key: Key, doc: Doc, output?: Output) => boolean
const matchers = new WeakMap<Filter, Matcher>()

/** Whether a row matches a filter of the contract. `output` gives the settled values of a slot for that row. */
export function evaluate(filter: Filter, key: Key, doc: Doc, output?: Output): boolean {
  let matches = matchers.get(filter)
  if (matches === undefined) matchers.set(filter, matches = matcher(filter))
  return matches(key, doc, output)
}

/** An output is the field `v` of a document of its own, which is empty where there is none. */
function matcher(filter: Filter): Matcher {
  switch (filter.kind) {
    case 'and': { const of = filter.of.map(matcher); return (key, doc, output) => of.every((m) => m(key, doc, output)) }
    case 'or': { const of = filter.of.map(matcher); return (key, doc, output) => of.some((m) => m(key, doc, output)) }
    case 'not': { const of = matcher(filter.of); return (key, doc, output) => !of(key, doc, output) }
    case 'keys': { const keys = new Set(filter.keys); return (key) => keys.has(key) }
    case 'eq': return onPath(filter.path, anyOf([filter.value]))
    case 'in': return onPath(filter.path, anyOf(filter.values))
    case 'null': return onPath(filter.path, anyOf([null]))
    case 'exists': { const is = onPath(filter.path, present); return (key, doc, output) => is(key, doc, output) === filter.is }
    case 'prefix': return onPath(filter.path, startsWith(filter.value))
    default: return onPath(filter.path, ordered(filter.kind, filter.value))
  }
}

function onPath({ slot, at }: Path, test: Test): Matcher {
  if (slot !== undefined) {
    const path = ['v', ...at]
    return (_, __, output) => { const values = output?.(slot); return someElement(values === undefined || values.length === 0 ? {} : { v: values[0]! }, path, test) }
  }
  return at[0] === '_id' ? (key) => someElement({ _id: key }, at, test) : (_, doc) => someElement(doc, at, test)
}

/** What `split` makes of a filter: `where` and `pushed` are the part that the database runs, `residual` the part that core runs. */
export interface Split { readonly where?: Filter; readonly residual: readonly Conjunct[]; readonly pushed: readonly Conjunct[] }

/** Gives a database the conjuncts that it evaluates exactly, and keeps the others. */
export function split(conjuncts: readonly Conjunct[], capabilities: Pick<DataCapabilities, 'filters' | 'refuses' | 'limits'>, slotFilters: (slot: string) => boolean): Split {
  const { filters, refuses, limits } = capabilities
  const noNul = refuses.includes('nul')
  let keysLeft = limits.keys ?? Infinity
  const holds = (value: Scalar): boolean => !(noNul && typeof value === 'string' && value.includes('\0'))
  const can = (f: Filter): boolean => {
    if (f.kind === 'keys') return f.keys.every(holds)
    if (!filters.includes(f.kind)) return false
    switch (f.kind) {
      case 'and': case 'or': return f.of.every(can)
      case 'not': return can(f.of)
      default: return (f.path.slot === undefined || slotFilters(f.path.slot)) && (!('value' in f) || holds(f.value)) && (!('values' in f) || f.values.every(holds))
    }
  }
  const pushed: Conjunct[] = [], residual: Conjunct[] = [], of: Filter[] = []
  for (const conjunct of conjuncts) {
    const { filter } = conjunct
    if (filter !== undefined && (of.length === 0 || filters.includes('and')) && countKeys(filter) <= keysLeft && can(filter)) {
      pushed.push(conjunct)
      of.push(filter)
      keysLeft -= countKeys(filter)
    } else residual.push(conjunct)
  }
  return { ...(of.length === 0 ? {} : { where: all(of) }), residual, pushed }
}

function countKeys(f: Filter): number {
  switch (f.kind) {
    case 'keys': return f.keys.length
    case 'and': case 'or': return f.of.reduce((sum, x) => sum + countKeys(x), 0)
    case 'not': return countKeys(f.of)
    default: return 0
  }
}

// Elements of a path (query-rules 3).

type Element = Value | undefined
type Test = (element: Element) => boolean

/** An object that a path can enter. Content kept apart from its document is a value, though it is stored as an object. */
export function isObject(value: Element): value is Doc {
  return rank(value) === 20 && !has(value as Doc, contentKey)
}

/** Whether `test` holds for some element. With `whole`, an array at the end of the path is one element, itself. */
function someElement(root: Doc, path: readonly string[], test: Test, whole = false, from = 0): boolean {
  let value: Element = root, i = from
  do {
    value = has(value, path[i]!) ? value[path[i]!] : undefined
    i++
  } while (i < path.length && isObject(value))
  if (Array.isArray(value)) return someWithin(value, path, test, whole, i)
  return test(i < path.length ? undefined : value)
}

function someWithin(list: readonly Value[], path: readonly string[], test: Test, whole: boolean, i: number): boolean {
  if (i === path.length) return (!whole && list.some((e) => test(e))) || test(list)
  return list.some((e, k) => {
    if (isObject(e) && someElement(e, path, test, whole, i)) return true
    if (String(k) !== path[i]) return false
    if (i + 1 === path.length) return test(e)                                                         // by position: not opened
    return isObject(e) ? someElement(e, path, test, whole, i + 1) : Array.isArray(e) && someWithin(e, path, test, whole, i + 1)
  })
}

// Tests of one element (query-rules 4).

const present: Test = (element) => element !== undefined

function anyOf(values: readonly Value[]): Test {
  const strings = new Set(values.filter((v) => typeof v === 'string'))
  const others = values.filter((v) => typeof v !== 'string')
  return (element) => (typeof element === 'string' ? strings.has(element) : others.some((v) => (element === undefined ? v === null : compare(element, v) === 0)))
}

const orders = { gt: (c: number) => c > 0, gte: (c: number) => c >= 0, lt: (c: number) => c < 0, lte: (c: number) => c <= 0 }

/** Only within a bracket, and NaN only against NaN. */
function ordered(kind: keyof typeof orders, value: Value): Test {
  const isNaN = Number.isNaN(value), holds = orders[kind]
  return (element) => rank(element) === rank(value) && Number.isNaN(element) === isNaN && holds(compare(element, value))
}

function startsWith(prefix: string): Test {
  return (element) => typeof element === 'string' && element.startsWith(prefix)
}

// A user's operators.

/** What operators say of a path. `form` is the contract's form, if it has one for the path. */
type Condition =
  | { readonly kind: 'some'; readonly test: Test; readonly whole?: true; readonly form?: (path: Path) => Filter | undefined }
  | { readonly kind: 'every'; readonly of: readonly Condition[] }
  | { readonly kind: 'not'; readonly of: Condition }

function holdsOn(condition: Condition, doc: Doc, path: readonly string[]): boolean {
  switch (condition.kind) {
    case 'some': return someElement(doc, path, condition.test, condition.whole)
    case 'every': return condition.of.every((c) => holdsOn(c, doc, path))
    case 'not': return !holdsOn(condition.of, doc, path)
  }
}

/** As `holdsOn`, for one value, which is not opened: an element under `$elemMatch`. */
function holdsFor(condition: Condition, value: Value): boolean {
  switch (condition.kind) {
    case 'some': return condition.test(value)
    case 'every': return condition.of.every((c) => holdsFor(c, value))
    case 'not': return !holdsFor(condition.of, value)
  }
}

function formOf(condition: Condition, path: Path): Filter | undefined {
  switch (condition.kind) {
    case 'some': return condition.form?.(path)
    case 'every': return joined(condition.of.map((c) => formOf(c, path)), all)
    case 'not': return negation(formOf(condition.of, path))
  }
}

const never: Filter = { kind: 'keys', keys: [] }
const all = (of: readonly Filter[]): Filter => (of.length === 1 ? of[0]! : { kind: 'and', of })
const any = (of: readonly Filter[]): Filter => (of.length === 0 ? never : of.length === 1 ? of[0]! : { kind: 'or', of })
const joined = (of: readonly (Filter | undefined)[], by: (of: readonly Filter[]) => Filter): Filter | undefined => (of.includes(undefined) ? undefined : by(of as readonly Filter[]))
const negation = (of: Filter | undefined): Filter | undefined => (of?.kind === 'exists' ? { ...of, is: !of.is } : of && { kind: 'not', of })

/** Where an operator stands. */
interface Place { readonly path: string; readonly operator: string; readonly depth: number }
type Operator = (operand: unknown, at: Place) => Condition

const not = (of: Condition): Condition => ({ kind: 'not', of })

/** Equality with one of `values`. A key is a string, so other values are none. */
function equality(values: readonly Value[]): Condition {
  const form = (path: Path): Filter | undefined => {
    if (path.slot === undefined && path.at[0] === '_id') return { kind: 'keys', keys: [...new Set(values.filter((v) => typeof v === 'string'))] }
    // A database sees no large bytes, only the reference in their place.
    if (values.some((v) => Array.isArray(v) || (isBytes(v) && v.byteLength > inlineBytes))) return undefined
    const scalars = values.filter((v) => v !== null) as readonly NonNullable<Scalar>[]
    const equals: readonly Filter[] = scalars.length === 0 ? [] : [scalars.length === 1 ? { kind: 'eq', path, value: scalars[0]! } : { kind: 'in', path, values: scalars }]
    return any(values.includes(null) ? [{ kind: 'null', path }, ...equals] : equals)
  }
  return { kind: 'some', test: anyOf(values), form }
}

function order(kind: keyof typeof orders): Operator {
  return (given, at) => {
    if (Array.isArray(given)) return refuse(at, given, 'an order compares whole arrays and their elements at once, which nobody means; a single value is expected')
    const value = operand(given, at) as Scalar
    if (value === null) return kind === 'gte' || kind === 'lte' ? equality([null]) : equality([])
    // By length first, then by bytes: no database's own order.
    return { kind: 'some', test: ordered(kind, value), ...(isBytes(value) ? {} : { form: (path) => ({ kind, path, value }) }) }
  }
}

const operandsOf = (given: unknown, at: Place): readonly Value[] => list(given, at, 'a list of values').map((v) => operand(v, at))

const brackets: Readonly<Record<string, number>> = { null: 5, bool: 40, number: 10, string: 15, date: 45, binData: 30, object: 20, array: 25 }

const operators: Readonly<Record<string, Operator>> = {
  $eq: (given, at) => equality([operand(given, at)]),
  $ne: (given, at) => not(equality([operand(given, at)])),
  $in: (given, at) => equality(operandsOf(given, at)),
  $nin: (given, at) => not(equality(operandsOf(given, at))),
  $gt: order('gt'), $gte: order('gte'), $lt: order('lt'), $lte: order('lte'),
  $exists: (given, at) => {
    if (typeof given !== 'boolean') return refuse(at, given, 'what counts as true differs between languages; true or false is expected')
    const exists: Condition = { kind: 'some', test: present, form: (path) => ({ kind: 'exists', path, is: true }) }
    return given ? exists : not(exists)
  },
  $regex: (given, at) => {
    const value = literalPrefix(given)
    if (value === undefined) return refuse(at, given, 'databases disagree on regular expressions; "^" and a literal beginning is expected, such as "^abc", with a backslash before punctuation')
    return { kind: 'some', test: startsWith(value), form: (path) => ({ kind: 'prefix', path, value }) }
  },
  $not: (given, at) => not({ kind: 'every', of: conditions(given, at).map(({ condition }) => condition) }),
  $all: (given, at) => {
    if (list(given, at, 'a list of values').length === 0) return refuse(at, given, 'it would match nothing; at least one value is expected')
    return { kind: 'every', of: operandsOf(given, at).map((v) => equality([v])) }
  },
  $size: (given, at) => {
    if ((typeof given !== 'number' && typeof given !== 'bigint') || !Number.isInteger(Number(given)) || given < 0) return refuse(at, given, 'a whole number from 0 is expected')
    return { kind: 'some', whole: true, test: (e) => Array.isArray(e) && e.length === Number(given) }
  },
  $type: (given, at) => {
    const names: readonly unknown[] = Array.isArray(given) ? given : [given]
    const wanted = names.map((n) => (typeof n === 'string' && has(brackets, n) ? brackets[n]! : refuse(at, n, `drivers write numbers in several types; one of ${Object.keys(brackets).join(', ')} is expected`)))
    if (wanted.length === 0) return refuse(at, given, 'at least one type is expected')
    return { kind: 'some', test: (e) => wanted.includes(rank(e)) }
  },
  $elemMatch: (given, at) => {
    const first = isDoc(given) ? Object.keys(given)[0] : undefined
    if (first === undefined) return refuse(at, given, 'operators for an element, or a filter for one that is an object, are expected')
    if (first.startsWith('$') && !has(logic, first)) {
      const of = conditions(given, at).map(({ condition }) => condition)
      return { kind: 'some', whole: true, test: (e) => Array.isArray(e) && e.some((x: Value) => of.every((c) => holdsFor(c, x))) }
    }
    const of = parse(given, () => undefined, at.depth + 1)
    const matches = (doc: Doc): boolean => of.every((c) => c.test(doc))
    // An array counts as an object with the fields "0", "1", ...
    return { kind: 'some', whole: true, test: (e) => Array.isArray(e) && e.some((x: Value) => (Array.isArray(x) ? matches(Object.fromEntries((x as readonly Value[]).entries())) : isObject(x) && matches(x))) }
  },
}

/** The literal that `pattern` anchors at the start, without its escapes. */
function literalPrefix(pattern: unknown): string | undefined {
  const literal = typeof pattern === 'string' && pattern.isWellFormed() ? /^\^((?:[^\\^$.|?*+()[\]{}\0]|\\[^a-zA-Z0-9\0])+)$/su.exec(pattern) : null
  return literal?.[1]!.replace(/\\(.)/gsu, '$1')
}

// Parsing.

const logic: Readonly<Record<string, true>> = { $and: true, $or: true, $nor: true }

function parse(where: unknown, outputs: Outputs, depth: number): readonly Conjunct[] {
  if (!isDoc(where)) throw new InlayError('INVALID_ARGUMENT', `A filter is given as ${show(where)}; an object is expected, such as { field: value }.`)
  checkDepth(depth)
  return Object.entries<unknown>(where).flatMap(([name, given]) => (name.startsWith('$') ? parseLogic(name, given, outputs, depth) : parseField(name, given, outputs, depth)))
}

function parseLogic(operator: string, given: unknown, outputs: Outputs, depth: number): readonly Conjunct[] {
  const at: Place = { path: '', operator, depth }
  if (!has(logic, operator)) {
    if (has(operators, operator)) return refuse(at, given, `it tests a field and belongs inside of one, as in { field: { ${operator}: ... } }`)
    return unknownOperator(at, [...Object.keys(logic), 'the name of a field'])
  }
  const filters = list(given, at, 'a list of filters')
  if (filters.length === 0) return refuse(at, given, 'at least one filter is expected')
  const branches = filters.map((f) => parse(f, outputs, depth + 1))
  if (operator === '$and') return branches.flat()
  // A branch without tests holds for every row: the list's answer is known, and no empty list reaches a plugin.
  if (operator === '$or') return branches.some((b) => b.length === 0) ? [] : [anyBranch(branches, `$or ${show(given)}`)]
  return branches.map((b, i) => {
    const text = `$nor ${show([filters[i]])}`
    return b.length === 0 ? conjunct(() => false, never, [], text) : conjunct((doc) => !b.every((c) => c.test(doc)), negation(formOfAll(b)), readBy(b), text)
  })
}

function anyBranch(branches: readonly (readonly Conjunct[])[], text: string): Conjunct {
  const test: Predicate = (doc) => branches.some((b) => b.every((c) => c.test(doc)))
  return conjunct(test, joined(branches.map(formOfAll), any), readBy(branches.flat()), text)
}

function conjunct(test: Predicate, filter: Filter | undefined, reads: readonly string[], text: string): Conjunct {
  return { test, ...(filter === undefined ? {} : { filter }), reads, text }
}
const formOfAll = (conjuncts: readonly Conjunct[]): Filter | undefined => joined(conjuncts.map((c) => c.filter), all)
const readBy = (conjuncts: readonly Conjunct[]): readonly string[] => [...new Set(conjuncts.flatMap((c) => c.reads))]

function parseField(name: string, given: unknown, outputs: Outputs, depth: number): readonly Conjunct[] {
  const path = parsePath(name, 'filter'), address = addressOf(path, outputs), at: Place = { path: name, operator: '$eq', depth }
  const isOperators = isDoc(given) && Object.keys(given)[0]?.startsWith('$') === true
  const tests = isOperators ? conditions(given, at) : [{ operator: '$eq', given, condition: equality([operand(given, at)]) }]
  return tests.map(({ operator, given: value, condition }) =>
    conjunct((doc) => holdsOn(condition, doc, path), address && formOf(condition, address), [path[0]!], `${name} ${operator} ${show(value)}`))
}

/** A position in an array gives two readings at once, and `_id` has no parts: both are core's. */
function addressOf(path: readonly string[], outputs: Outputs): Path | undefined {
  if (path[0] === '_id' && path.length > 1) return undefined
  const address = path[0] === '_outputs' ? outputs(path) : { at: path }
  return address?.at.some(isNumeric) === true ? undefined : address
}

/** Whether a part of a path may be a position in an array. */
export function isNumeric(segment: string): boolean {
  return /^\d+$/.test(segment)
}

interface Named { readonly operator: string; readonly given: unknown; readonly condition: Condition }

function conditions(of: unknown, { path, operator: within, depth }: Place): readonly Named[] {
  if (!isDoc(of) || Object.keys(of).length === 0) return refuse({ path, operator: within, depth }, of, 'an object of operators is expected, such as { $gt: 1 }')
  checkDepth(depth + 1)
  return Object.entries<unknown>(of).map(([operator, given]) => {
    const at: Place = { path, operator, depth: depth + 1 }
    if (!operator.startsWith('$')) return refuse({ ...at, operator: within }, of, `operators and the field ${quote(operator)} cannot stand together; write the field as a path of its own`)
    if (has(logic, operator)) return refuse(at, given, 'it joins filters and belongs outside of a field')
    if (!has(operators, operator)) return unknownOperator(at, Object.keys(operators))
    return { operator, given, condition: operators[operator]!(given, at) }
  })
}

/** Splits a path at its dots. What databases understand differently, and names that are reserved, are refused. */
export function parsePath(text: string, use: 'filter' | 'sort' | 'update'): readonly string[] {
  const path = text.split('.')
  const fault = path.length > maxSegments ? `has more than ${maxSegments} parts`
    : path.includes('') ? 'has an empty part, which databases read differently'
    : path.some((p) => p.startsWith('$')) ? 'has a part that begins with "$", which is kept for operators'
    : path.includes(contentKey) ? `has the part "${contentKey}", a reserved name`
    : path.some((p) => p.startsWith(tagMark)) ? 'has a part that begins with U+0001, which is reserved'
    : text.includes('\0') ? 'has a NUL character, which not every database can hold'
    : !text.isWellFormed() ? 'has a lone surrogate, which has no UTF-8 form' : undefined
  if (fault !== undefined) throw new InlayError('INVALID_ARGUMENT', `The path ${quote(text)} of the ${use} ${fault}. Names of fields joined by dots are expected, such as "a" or "a.b".`, { details: { path: text } })
  return path
}

/** A copy of a value to compare with, so that a later change of the user's array, date or bytes changes no filter. */
function operand(value: unknown, at: Place): Value {
  switch (typeof value) {
    case 'boolean': case 'number': return value
    case 'string': return value.isWellFormed() ? value : refuse(at, value, 'a lone surrogate has no UTF-8 form; well-formed text is expected')
    case 'bigint': return BigInt.asIntN(64, value) === value ? value : refuse(at, value, 'drivers cut it to 64 bits; a bigint within 64 bits is expected')
    case 'undefined': return refuse(at, value, 'databases disagree on whether it is null or no test at all; give null, or leave the test out')
  }
  if (value === null) return null
  if (value instanceof Date) return Number.isNaN(+value) ? refuse(at, value, 'a valid date is expected') : copyOut(value)
  if (isBytes(value)) return copyOut(value)
  if (Array.isArray(value)) {
    checkDepth(at.depth + 1)
    return Array.from(value, (v: unknown) => operand(v, { ...at, depth: at.depth + 1 }))
  }
  if (isDoc(value)) return refuse(at, value, `whether two objects are equal depends on the order of their fields; test the fields by path, such as ${quote(`${at.path}.name`)}`)
  if (value instanceof RegExp) return refuse(at, value, 'databases disagree on regular expressions; { $regex: "^literal" } is expected')
  return refuse(at, value, 'null, a boolean, number, bigint, string, Date, Uint8Array or an array of these is expected')
}

function list(given: unknown, at: Place, expected: string): readonly unknown[] {
  return Array.isArray(given) ? Array.from(given) : refuse(at, given, `${expected} is expected`)
}

function checkDepth(depth: number): void {
  if (depth > maxNesting) throw new InlayError('INVALID_ARGUMENT', `The filter is nested more than ${maxNesting} levels deep, which databases refuse. Write it flatter.`)
}

function refuse(at: Place, given: unknown, why: string): never {
  throw new InlayError('INVALID_ARGUMENT', `The filter's ${at.operator}${at.path === '' ? '' : ` on ${quote(at.path)}`} is given ${show(given)}: ${why}.`, { details: { path: at.path, operator: at.operator } })
}

function unknownOperator(at: Place, known: readonly string[]): never {
  throw new InlayError('UNSUPPORTED', `The operator ${quote(at.operator)}${at.path === '' ? '' : ` on ${quote(at.path)}`} is not among those that mean the same on every database. Known here: ${known.join(', ')}.`, { details: { path: at.path, operator: at.operator } })
}

/** A value of any kind for a message; more of a long list than its beginning never shows. */
function show(value: unknown): string {
  if (value instanceof RegExp) return String(value)
  try { return quote(Array.isArray(value) ? value.slice(0, 50) : value) } catch { return 'an object that refers to itself' }
}
