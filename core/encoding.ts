/**
 * The one stored encoding for databases that keep JSON, and the hash over it.
 *
 * null, booleans, strings, arrays and objects are themselves. Numbers are in shortest form, so that any other program reads them; beyond 2^53 an
 * integral number within 64 bits is written in full digits, so that a database compares it exactly; ±Infinity is `1e400`. A bigint is integral with twenty zeros
 * after the point, and -0 has one more: jsonb keeps them, and no other program writes them (a numeric(10,2) gives two). What JSON has no form for is an object with
 * one key under U+0001: NaN, dates, bytes and typed arrays.
 */
import { hash } from 'node:crypto'
import type { Doc, Value } from './contract.ts'
import { InlayError, quote } from './errors.ts'
import { bytesOf, compareStrings, isDoc, isTypedArray, setOwn, tagMark, typedArrayName, typedArrays, type TypedArrayName } from './value.ts'

export const tags: { readonly nan: string; readonly date: string; readonly bytes: string; readonly array: string } =
  { nan: `${tagMark}nan`, date: `${tagMark}date`, bytes: `${tagMark}bytes`, array: `${tagMark}array:` }

const zeros = '0'.repeat(20)
const bigintEnd = `.${zeros}`
const minusZero = `0.${zeros}0`

/** A number as JSON text; see above. NaN has none here. */
export function encodeNumber(value: number | bigint): string {
  if (typeof value === 'bigint') return `${value}${bigintEnd}`
  if (value === Infinity) return '1e400'
  if (value === -Infinity) return '-1e400'
  if (Object.is(value, -0)) return minusZero
  return Math.abs(value) > 2 ** 53 && Math.abs(value) < 2 ** 64 ? String(BigInt(value)) : String(value)
}

/** `value` as JSON text; with `sorted`, fields by code point, for hashing. */
export function encode(value: Value, sorted = false): string {
  return !sorted && isJson(value) ? JSON.stringify(value) : encoded(value, sorted)
}
/** JSON as it is means the same, and is several times faster. */
function isJson(value: Value): boolean {
  switch (typeof value) {
    case 'string': case 'boolean': return true
    case 'number': return Math.abs(value) < 2 ** 53 && !Object.is(value, -0)       // beyond, JSON rounds the digits
    case 'bigint': return false
  }
  if (value === null) return true
  if (Array.isArray(value)) return value.every(isJson)
  if (value instanceof Date || ArrayBuffer.isView(value)) return false
  for (const name in value as Doc) if (!isJson((value as Doc)[name]!)) return false
  return true
}
function encoded(value: Value, sorted: boolean): string {
  switch (typeof value) {
    case 'string': return JSON.stringify(value)
    case 'boolean': return value ? 'true' : 'false'
    case 'bigint': return encodeNumber(value)
    case 'number': return Number.isNaN(value) ? `{"\\u0001nan":1}` : encodeNumber(value)
  }
  if (value === null) return 'null'
  if (value instanceof Date) return `{"\\u0001date":${+value}}`
  if (isTypedArray(value)) {
    const name = typedArrayName(value), base64 = base64Of(bytesOf(value))
    return name === 'Uint8Array' ? `{"\\u0001bytes":"${base64}"}` : `{"\\u0001array:${name}":"${base64}"}`
  }
  if (Array.isArray(value)) return `[${value.map((v: Value) => encoded(v, sorted)).join(',')}]`
  const entries = Object.entries(value as Doc)
  if (sorted) entries.sort(([a], [b]) => compareStrings(a, b))
  return `{${entries.map(([name, v]) => `${JSON.stringify(name)}:${encoded(v, sorted)}`).join(',')}}`
}

export function base64Of(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64')
}

/** Text that holds nothing but plain JSON needs no reviver, which is some ten times slower. A match inside of a string is harmless. */
const special = /\.0{20}|\\u0001/

/** The value of stored text. */
export function decode(text: string): Value {
  return special.test(text) ? JSON.parse(text, revive) as Value : JSON.parse(text) as Value
}

function revive(this: unknown, name: string, value: unknown, context?: { readonly source?: string }): unknown {
  if (typeof value === 'number') {
    const source = context?.source ?? ''
    if (source === minusZero) return -0
    return source.endsWith(bigintEnd) ? BigInt(source.slice(0, -bigintEnd.length)) : value
  }
  if (!isDoc(value)) return value
  const keys = Object.keys(value), tag = keys[0]
  if (name === '__proto__') return value
  if (keys.length !== 1 || tag === undefined || !tag.startsWith(tagMark)) return value
  return untag(tag, value[tag])
}

function untag(tag: string, content: Value | undefined): Value {
  if (tag === tags.nan) return Number.NaN
  if (tag === tags.date && typeof content === 'number') return new Date(content)
  if (typeof content === 'string') {
    const bytes = Uint8Array.from(Buffer.from(content, 'base64'))
    if (tag === tags.bytes) return bytes
    if (tag.startsWith(tags.array)) {
      const make = typedArrays[tag.slice(tags.array.length) as TypedArrayName]
      if (make !== undefined && bytes.byteLength % make.BYTES_PER_ELEMENT === 0) return new make(bytes.buffer)
    }
  }
  throw new InlayError('CORRUPT', `The stored tag ${quote(tag)} is not known or its content is damaged. Was the row written by a newer Inlay, or by hand?`)
}

/** SHA-256 of bytes or text, in lower-case hex. */
export function sha256(content: Uint8Array | string): string {
  return hash('sha256', content, 'hex')
}

/** 32 hex digits that are equal for equal values, whatever the order of their fields. */
export function hashOf(value: Value): string {
  return sha256(encode(value, true)).slice(0, 32)
}

/** Fields of `doc` by name, those that are there. */
export function pick(doc: Doc, fields: readonly string[]): Doc {
  const picked: Record<string, Value> = {}
  for (const field of fields) if (Object.hasOwn(doc, field)) setOwn(picked, field, doc[field]!)
  return picked
}
