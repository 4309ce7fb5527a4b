/** Values: what they are, how they compare (query-rules 1), and what of a user's document can be stored. */
import type { Doc, TypedArray, Value } from './contract.ts'
import { quote } from './errors.ts'

/** The eleven kinds of typed array; `Uint8Array` is "bytes", a scalar, the others are values of their own. */
export type TypedArrayName = 'Int8Array' | 'Uint8Array' | 'Uint8ClampedArray' | 'Int16Array' | 'Uint16Array' | 'Int32Array' | 'Uint32Array' | 'BigInt64Array' | 'BigUint64Array' | 'Float32Array' | 'Float64Array'
interface TypedArrayMaker {
  new (source: ArrayBufferLike | ArrayLike<number> | ArrayLike<bigint>): TypedArray | Uint8Array
  readonly BYTES_PER_ELEMENT: number
}
export const typedArrays: Readonly<Record<TypedArrayName, TypedArrayMaker>> = {
  Int8Array, Uint8Array, Uint8ClampedArray, Int16Array, Uint16Array, Int32Array, Uint32Array, BigInt64Array, BigUint64Array, Float32Array, Float64Array,
} as unknown as Record<TypedArrayName, TypedArrayMaker>

export function isBytes(value: unknown): value is Uint8Array {
  return value instanceof Uint8Array
}
export function isTypedArray(value: unknown): value is TypedArray | Uint8Array {
  return ArrayBuffer.isView(value) && !(value instanceof DataView)
}
/** The name of a typed array's kind; a Node `Buffer` is a `Uint8Array`. */
export function typedArrayName(value: TypedArray | Uint8Array): TypedArrayName {
  return (isBytes(value) ? 'Uint8Array' : value.constructor.name) as TypedArrayName
}
/** The bytes of a typed array, without a copy. */
export function bytesOf(value: ArrayBufferView): Uint8Array {
  return new Uint8Array(value.buffer, value.byteOffset, value.byteLength)
}
/** A plain object: what a document is made of. */
export function isDoc(value: unknown): value is Doc {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null || (!(value instanceof Date) && !ArrayBuffer.isView(value) && Object.getPrototypeOf(prototype) === null)
}
export function has(doc: object, field: string): boolean {
  return Object.hasOwn(doc, field)
}

/** Type brackets in their order. `undefined` is the marker of an empty array in a sort, below null. */
export function rank(value: Value | undefined): number {
  if (value === undefined) return 0
  if (value === null) return 5
  switch (typeof value) {
    case 'number': case 'bigint': return 10
    case 'string': return 15
    case 'boolean': return 40
  }
  return Array.isArray(value) ? 25 : ArrayBuffer.isView(value) ? 30 : value instanceof Date ? 45 : 20
}

const sign = <T>(a: T, b: T): number => (a < b ? -1 : a > b ? 1 : 0)
/** Lifts surrogates above U+E000..U+FFFF, so that code units compare as code points do. */
const point = (unit: number): number => (unit < 0xd800 ? unit : unit < 0xe000 ? unit + 0x2000 : unit - 0x800)

/** Orders strings by code point, which is the order of their UTF-8 bytes. */
export function compareStrings(a: string, b: string): number {
  const n = Math.min(a.length, b.length)
  for (let i = 0; i < n; i++) {
    const x = a.charCodeAt(i), y = b.charCodeAt(i)
    if (x !== y) return point(x) < point(y) ? -1 : 1
  }
  return sign(a.length, b.length)
}

function compareLists<T>(a: ArrayLike<T>, b: ArrayLike<T>, each: (x: T, y: T) => number): number {
  const n = Math.min(a.length, b.length)
  for (let i = 0; i < n; i++) {
    const c = each(a[i]!, b[i]!)
    if (c !== 0) return c
  }
  return sign(a.length, b.length)
}

/** The order of all values: by bracket, then within it. Numbers and bigints by exact value, NaN below all of them; -0 equals 0. */
export function compare(a: Value | undefined, b: Value | undefined): number {
  const bracket = rank(a)
  if (bracket !== rank(b)) return sign(bracket, rank(b))
  switch (bracket) {
    case 0: case 5: return 0
    case 10: return a !== a ? (b !== b ? 0 : -1) : b !== b ? 1 : sign(a as number, b as number)     // JS compares a bigint with a number exactly
    case 15: return compareStrings(a as string, b as string)
    case 20: return compareLists(Object.entries(a as Doc), Object.entries(b as Doc), ([k, v], [l, w]) => sign(rank(v), rank(w)) || compareStrings(k, l) || compare(v, w))
    case 25: return compareLists(a as readonly Value[], b as readonly Value[], compare)
    case 30: {
      const x = a as Uint8Array, y = b as Uint8Array
      return isBytes(x) && isBytes(y) ? sign(x.length, y.length) || compareLists(x, y, sign)
        : compareStrings(typedArrayName(x), typedArrayName(y)) || sign(x.byteLength, y.byteLength) || compareLists(bytesOf(x), bytesOf(y), sign)
    }
    default: return sign(Number(a), Number(b))
  }
}

/** Equal as stored values: same types, same content, whatever the order of fields; NaN equals NaN, 0 and -0 differ, 5 and 5n differ. */
export function same(a: Value | undefined, b: Value | undefined): boolean {
  if (Object.is(a, b)) return true
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null || rank(a) !== rank(b)) return false
  if (Array.isArray(a)) return Array.isArray(b) && a.length === b.length && a.every((v: Value, i) => same(v, b[i] as Value))
  if (a instanceof Date || ArrayBuffer.isView(a)) return compare(a, b) === 0
  const keys = Object.keys(a)
  return keys.length === Object.keys(b).length && keys.every((k) => has(b, k) && same((a as Doc)[k], (b as Doc)[k]))
}

/** Reserved in user documents: the stored form of content (core/content.ts), and the first character of the stored encoding's tags. */
export const contentKey = '_content'
export const tagMark = '\u0001'

/** Why a value cannot be stored, and where. */
export interface Fault { readonly path: string; readonly reason: string }
export class Unstorable extends Error {
  readonly fault: Fault
  constructor(fault: Fault) {
    super(fault.reason)
    this.fault = fault
  }
}

const maxDepth = 100

/**
 * A copy of a user's value that shares nothing with it. Fields that are `undefined` are left out, as in JSON; in an array `undefined` is a fault.
 * `take` is asked first about each object, and gives what stands in its place. Throws `Unstorable` for what no backend holds (functions, class instances, lone
 * surrogates, invalid dates, cycles), and for what `refuses` names.
 */
export function copyIn(value: unknown, refuses: readonly string[] = [], take?: (value: object) => unknown, depth = 0): Value {
  switch (typeof value) {
    case 'boolean': case 'number': return value
    case 'bigint': return refuses.includes('int64') && BigInt.asIntN(64, value) !== value ? fault(`${quote(value)} is outside of 64 bits`) : value
    case 'string': checkText(value, refuses); return value
    case 'object': break
    default: return fault(`${quote(value)} is no value that can be stored: use null, or leave the field out`)
  }
  if (value === null) return null
  const taken = take?.(value)
  if (taken !== undefined) return taken as Value
  if (value instanceof Date) return Number.isNaN(+value) ? fault('the date is invalid') : new Date(value)
  if (isTypedArray(value)) {
    if (typeof SharedArrayBuffer !== 'undefined' && value.buffer instanceof SharedArrayBuffer) return fault('the array lies in shared memory: copy it first')
    const name = typedArrayName(value)
    return name in typedArrays ? new typedArrays[name](value) : fault(`a ${name} cannot be stored`)
  }
  if (depth > maxDepth) return fault(`nested more than ${maxDepth} levels deep, or in a cycle`)
  if (Array.isArray(value)) return Array.from(value, (v: unknown, i) => part(i, () => copyIn(v, refuses, take, depth + 1)))
  if (!isDoc(value)) return fault(`a ${(value as object).constructor?.name ?? 'object'} cannot be stored: give a plain object, or add a codec for it`)
  const copy: Record<string, Value> = {}
  for (const [name, v] of Object.entries(value)) {
    if (v === undefined) continue
    part(name, () => {
      checkName(name, refuses)
      setOwn(copy, name, copyIn(v, refuses, take, depth + 1))
    })
  }
  return copy
}
export function fault(reason: string): never {
  throw new Unstorable({ path: '', reason })
}
/** Says where a fault is, from the inside out: paths cost nothing where there is none. */
function part<T>(name: string | number, work: () => T): T {
  try {
    return work()
  } catch (error) {
    if (!(error instanceof Unstorable)) throw error
    const { path, reason } = error.fault
    throw new Unstorable({ path: path === '' ? String(name) : `${name}.${path}`, reason })
  }
}

/** Sets an own field, also one named `__proto__`. */
export function setOwn(doc: Record<string, Value>, name: string, value: Value): void {
  if (name === '__proto__') Object.defineProperty(doc, name, { value, enumerable: true, configurable: true, writable: true })
  else doc[name] = value
}

function checkText(text: string, refuses: readonly string[]): void {
  if (!text.isWellFormed()) fault(`${quote(text)} has a lone surrogate, which has no UTF-8 form`)
  if (refuses.includes('nul') && text.includes('\0')) fault(`${quote(text)} has a NUL character, which this database cannot hold`)
}
function checkName(name: string, refuses: readonly string[]): void {
  checkText(name, refuses)
  if (name === contentKey) fault(`the field name "${contentKey}" is reserved`)
  if (name.startsWith(tagMark)) fault('a field name that begins with U+0001 is reserved')
}

/** A copy of a stored value that shares nothing with it. */
export function copyOut<V extends Value>(value: V): V
export function copyOut(value: Value): Value {
  if (typeof value !== 'object' || value === null) return value
  if (value instanceof Date) return new Date(value)
  if (isTypedArray(value)) return new typedArrays[typedArrayName(value)](value)
  if (Array.isArray(value)) return value.map((v: Value) => copyOut(v))
  const copy: Record<string, Value> = {}
  for (const [name, v] of Object.entries(value)) setOwn(copy, name, copyOut(v as Value))
  return copy
}

/** A copy of what a user asks with, a filter or a change: plain parts are copied, anything else is left for the parser to refuse. */
export function copyAsked<T>(asked: T): T
export function copyAsked(asked: unknown): unknown {
  if (asked instanceof Date) return new Date(asked)
  if (isTypedArray(asked)) return copyOut(asked as Value)
  if (Array.isArray(asked)) return asked.map((v: unknown) => copyAsked(v))
  return isDoc(asked) ? Object.fromEntries(Object.entries(asked).map(([name, v]) => [name, copyAsked(v)])) : asked
}
