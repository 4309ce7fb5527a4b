/**
 * Native `_id`s as keys and back. In Inlay's own collections an `_id` is the key, a text. In those of others it may be of any type: text is itself, an ObjectId its
 * 24 hex digits, and all others `~` and a letter: `~n1.5` a number of whatever type, for 1, 1.0, int64 1 and Decimal128 1 are one `_id`; `~u` a UUID, `~d` a date, `~m` a decimal that
 * is no double, `~j` extended JSON. Texts that look like one of these are `~s` and the text.
 */
import type { Decimal128 } from 'mongodb'
import type { Key } from '../../core/contract.ts'
import type { Driver } from './bson.ts'

export interface Keys {
  /** Undefined: no row. */
  keyOf(id: unknown): Key | undefined
  /** Undefined: no row can have this key. */
  idOf(key: Key): unknown
}

export const ownKeys: Keys = { keyOf: (id) => (typeof id === 'string' ? id : undefined), idOf: (key) => key }

const hex = /^[0-9a-f]{24}$/
const special = (text: string): boolean => text.startsWith('~') || hex.test(text)

export function foreignKeys({ ObjectId, UUID, Decimal128: Decimal, BSON }: Driver): Keys {
  const json = (id: unknown): string => `~j${BSON.EJSON.stringify({ v: id }, { relaxed: false })}`
  const idOf = (key: Key): unknown => {
    if (!key.startsWith('~')) return hex.test(key) ? new ObjectId(key) : key
    const rest = key.slice(2)
    switch (key[1]) {
      case 's': return special(rest) ? rest : undefined
      case 'n': return /^-?\d+$/.test(rest) && !Number.isSafeInteger(Number(rest)) ? BigInt(rest) : Number(rest)
      case 'd': return new Date(Number(rest))
      case 'u': return UUID.isValid(rest) ? new UUID(rest) : undefined
      case 'm': return Decimal.fromString(rest)
      case 'j': return (BSON.EJSON.parse(rest, { relaxed: false }) as { readonly v?: unknown }).v
      default: return undefined
    }
  }
  const keys: Keys = {
    keyOf(id) {
      if (typeof id === 'string') return special(id) ? `~s${id}` : id
      if (id instanceof ObjectId) return id.toHexString()
      if (typeof id === 'number' || typeof id === 'bigint') return `~n${numberText(id)}`
      if (id instanceof Decimal) return decimalKey(id)
      if (id instanceof Date) return `~d${id.getTime()}`
      return id instanceof UUID ? `~u${id.toHexString()}` : json(id)
    },
    idOf(key) {
      try {
        const id = idOf(key)
        return id !== undefined && keys.keyOf(id) === key ? id : undefined      // `~n01` is nobody's key
      } catch {
        return undefined
      }
    },
  }
  return keys
}

function numberText(n: number | bigint): string {
  return typeof n === 'number' && Number.isInteger(n) && Math.abs(n) < 2 ** 63 ? String(BigInt(n)) : String(n)
}

/** A decimal that is equal to a double or an int64 has that number's key. */
function decimalKey(decimal: Decimal128): Key {
  const text = decimal.toString(), parts = /^(-?)(\d+)(?:\.(\d+))?(?:E([+-]?\d+))?$/i.exec(text)
  if (parts === null) return `~n${Number(text)}`                             // NaN, Infinity
  const fraction = parts[3] ?? '', trimmed = `${parts[2]}${fraction}`.replace(/^0+/, ''), digits = trimmed.replace(/0+$/, '')
  if (digits === '') return '~n0'
  const exponent = Number(parts[4] ?? 0) - fraction.length + trimmed.length - digits.length, number = Number(text)
  if (exponent >= 0 && digits.length + exponent <= 19) {
    const whole = BigInt(`${parts[1]}${digits}${'0'.repeat(exponent)}`)
    if (BigInt.asIntN(64, whole) === whole) return `~n${whole}`
  }
  const exact = exponent >= 0 ? Number.isFinite(number) && digits.length + exponent < 400 && BigInt(number) === BigInt(`${parts[1]}${digits}${'0'.repeat(exponent)}`)
    : exponent >= -100 && Math.abs(number) < 1e21 && number.toFixed(-exponent) === plain(parts[1]!, digits, exponent) && number.toFixed(100).replace(/0+$/, '') === plain(parts[1]!, digits, exponent)
  return exact ? `~n${numberText(number)}` : `~m${parts[1]}${digits}E${exponent}`
}
function plain(sign: string, digits: string, exponent: number): string {
  const padded = digits.padStart(1 - exponent, '0')
  return `${sign}${padded.slice(0, exponent)}.${padded.slice(exponent)}`
}

/** The key of a text or an ObjectId, as the server computes it; of other types it cannot. */
export const keyText: Readonly<Record<string, unknown>> = { $cond: [{ $eq: [{ $type: '$_id' }, 'objectId'] }, { $toString: '$_id' }, { $cond: [{ $regexMatch: { input: '$_id', regex: '^(~|[0-9a-f]{24}$)' } }, { $concat: ['~s', '$_id'] }, '$_id'] }] }
export const textual: Readonly<Record<string, unknown>> = { _id: { $type: ['string', 'objectId'] } }
