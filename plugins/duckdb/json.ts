/**
 * The stored encoding of core as DuckDB's JSON keeps it apart: its functions write `5.00` as `5.0`, so here an integral number ends with `.0` and a bigint is
 * plain digits, as DuckDB itself writes its doubles and bigints. All else is as in core/encoding.ts.
 */
import type { Doc, Value } from '../../core/contract.ts'
import { decode as decodeTagged, encode as encodeOther } from '../../core/encoding.ts'
import { isDoc, isTypedArray } from '../../core/value.ts'

/** A number as DuckDB's JSON; NaN has none. */
export function encodeNumber(value: number | bigint): string {
  if (typeof value === 'bigint') return String(value)
  if (Object.is(value, -0)) return '-0.0'
  if (Math.abs(value) === Infinity) return value > 0 ? '1e400' : '-1e400'
  return Number.isInteger(value) && Math.abs(value) < 1e21 ? `${value}.0` : String(value)
}

export function encode(value: Value): string {
  switch (typeof value) {
    case 'string': return JSON.stringify(value)
    case 'boolean': return value ? 'true' : 'false'
    case 'bigint': return encodeNumber(value)
    case 'number': return Number.isNaN(value) ? encodeOther(value) : encodeNumber(value)
  }
  if (value === null) return 'null'
  if (value instanceof Date || isTypedArray(value)) return encodeOther(value)
  if (Array.isArray(value)) return `[${value.map((v: Value) => encode(v)).join(',')}]`
  return `{${Object.entries(value as Doc).map(([name, v]) => `${JSON.stringify(name)}:${encode(v)}`).join(',')}}`
}

/** Only these need a look at each number or tag; a match inside of a string is harmless. */
const digits = /(?:^|[:[,])\s*-?\d+\s*(?:$|[,\]}])/
const tagged = /\\u0001|\u0001/

export function decode(text: string): Value {
  if (!digits.test(text)) return tagged.test(text) ? decodeTagged(text) : JSON.parse(text) as Value
  return JSON.parse(text, revive) as Value
}

function revive(this: unknown, name: string, value: unknown, context?: { readonly source?: string }): unknown {
  if (typeof value === 'number') return /^-?\d+$/.test(context?.source ?? '') ? BigInt(context!.source!) : value
  if (!isDoc(value) || name === '__proto__') return value
  const keys = Object.keys(value), tag = keys[0]
  if (keys.length !== 1 || tag === undefined || !tag.startsWith('\u0001')) return value
  const content = value[tag]
  return decodeTagged(JSON.stringify({ [tag]: typeof content === 'bigint' ? Number(content) : content }))
}
