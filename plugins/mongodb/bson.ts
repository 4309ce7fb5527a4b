/**
 * Values as BSON. What BSON has natively is native, so that every other program reads it: strings, doubles, int64 for a bigint, dates, bytes (subtype 0), and the
 * vectors of BSON for Float32Array and Int8Array. Other typed arrays are Binary of user-defined subtypes.
 */
import type * as mongodb from 'mongodb'
import type { Binary } from 'mongodb'
import type { Doc, Value } from '../../core/contract.ts'
import { quote } from '../../core/errors.ts'
import { bytesOf, isTypedArray, setOwn, tagMark, typedArrayName, typedArrays, type TypedArrayName } from '../../core/value.ts'

export type Driver = typeof mongodb
/** What a row has besides the user's fields. */
export const ours: readonly string[] = ['_rev', '_marks', '_cur', '_outputs', '_seen']
const oursSet: ReadonlySet<string> = new Set([...ours, '_id'])

const vectorType = 9, vectorHeads = new Map<TypedArrayName, number>([['Float32Array', 0x27], ['Int8Array', 0x03]])
/** The subtype of a kind of typed array is 160 and its place here. */
const arrayTypes: readonly TypedArrayName[] = ['Int8Array', 'Uint8ClampedArray', 'Int16Array', 'Uint16Array', 'Int32Array', 'Uint32Array', 'BigInt64Array', 'BigUint64Array', 'Float32Array', 'Float64Array']
const firstArrayType = 160

/** A value that BSON has no form for; its message says why. */
export class Unfit extends Error {}

export interface Codec {
  encode(value: Value): unknown
  /** A value of BSON. What a Value cannot hold is an object as in canonical extended JSON. */
  decode(value: unknown): Value
  /** A document's fields; names of ours are escaped. */
  encodeFields(doc: Doc): Record<string, unknown>
  /** The user's fields of a stored document. */
  decodeFields(raw: Readonly<Record<string, unknown>>): Doc
  /** Whether the document surely, or measured exactly, has no more bytes than `limit`. */
  fits(raw: object, limit: number): boolean
}

export function codecOf({ Binary: BinaryClass, BSON }: Driver): Codec {
  const encode = (value: Value): unknown => {
    if (typeof value === 'bigint' && BigInt.asIntN(64, value) !== value) throw new Unfit(`${quote(value)} is outside of 64 bits, which BSON would cut silently`)
    if (typeof value !== 'object' || value === null || value instanceof Date) return value
    if (isTypedArray(value)) return binaryOf(value)
    if (Array.isArray(value)) return value.map(encode)
    const copy: Record<string, never> = {}
    for (const [name, v] of Object.entries(value as Doc)) setOwn(copy, nameIn(name), encode(v) as never)
    return copy
  }
  const binaryOf = (value: Parameters<typeof bytesOf>[0]): Binary => {
    const name = typedArrayName(value as never), bytes = bytesOf(value), head = vectorHeads.get(name)
    if (name === 'Uint8Array') return new BinaryClass(bytes, 0)
    return head === undefined ? new BinaryClass(bytes, firstArrayType + arrayTypes.indexOf(name)) : new BinaryClass(Buffer.concat([Uint8Array.of(head, 0), bytes]), vectorType)
  }
  const decode = (value: unknown): Value => {
    if (typeof value !== 'object') return value === undefined ? { $undefined: true } : value as Value
    if (value === null || value instanceof Date) return value
    if (Array.isArray(value)) return value.map(decode)
    if (value instanceof BinaryClass) return bytesIn(value)
    if (isClass(value)) return opaque(value)
    const copy: Record<string, Value> = {}
    for (const [name, v] of Object.entries(value)) setOwn(copy, nameOut(name), decode(v))
    return copy
  }
  const bytesIn = (value: Binary): Value => {
    const bytes = value.buffer.subarray(0, value.position), type = value.sub_type
    if (type === 0) return Uint8Array.from(bytes)
    const name = type === vectorType && bytes[1] === 0 ? [...vectorHeads].find(([, head]) => head === bytes[0])?.[0] : arrayTypes[type - firstArrayType]
    const content = type === vectorType ? bytes.subarray(2) : bytes
    return name === undefined || content.length % typedArrays[name].BYTES_PER_ELEMENT !== 0 ? opaque(value) : new typedArrays[name](Uint8Array.from(content).buffer) as Value
  }
  /** As canonical extended JSON: an object, so that a filter by a text matches it neither here nor there. */
  const opaque = (value: object): Value => {
    if ((value as { readonly _bsontype?: unknown })._bsontype !== 'DBRef') return BSON.EJSON.serialize(value as never, { relaxed: false }) as Value
    const { collection, oid, db, fields } = value as { collection: string; oid: unknown; db?: string; fields: object }
    return { $ref: collection, $id: decode(oid), ...(db === undefined ? {} : { $db: db }), ...decode(fields) as Doc }
  }
  return {
    encode, decode,
    encodeFields(doc) {
      const raw: Record<string, unknown> = {}
      for (const [name, v] of Object.entries(doc)) {
        try {
          setOwn(raw as Record<string, Value>, fieldIn(name), encode(v) as Value)
        } catch (error) {
          throw error instanceof Unfit ? new Unfit(`the field ${quote(name)}: ${error.message}`) : error
        }
      }
      return raw
    },
    decodeFields(raw) {
      const doc: Record<string, Value> = {}
      for (const [name, v] of Object.entries(raw)) if (!oursSet.has(name)) setOwn(doc, nameOut(name), decode(v))
      return doc
    },
    fits: (raw, limit) => bound(raw) <= limit || BSON.calculateObjectSize(raw) <= limit,
  }
}

/** An instance of a class of the driver, not a document with a field of that name. */
function isClass(value: object): boolean {
  return '_bsontype' in value && !Object.hasOwn(value, '_bsontype')
}

/** The name of a field as it is stored: BSON names hold no NUL, and the driver takes an object with `_bsontype` for its own. Core lets no name begin with U+0001. */
function nameIn(name: string): string {
  return name === '_bsontype' || name.includes('\0') ? `${tagMark}${name.replaceAll('\\', '\\\\').replaceAll('\0', '\\0')}` : name
}
function nameOut(name: string): string {
  return name.startsWith(tagMark) ? name.slice(1).replace(/\\(.)/g, (_, c: string) => (c === '0' ? '\0' : c)) : name
}
/** As `nameIn`, for a field of the document itself, where some names are ours. */
export function fieldIn(name: string): string {
  return oursSet.has(name) ? `${tagMark}${name}` : nameIn(name)
}
/** A stored path for a path of the contract. */
export function pathIn(at: readonly string[]): string {
  return [fieldIn(at[0]!), ...at.slice(1).map(nameIn)].join('.')
}

/** At least the bytes of a value in BSON, quickly. */
function bound(value: unknown): number {
  if (typeof value === 'string') return 8 + value.length * 3
  if (typeof value !== 'object' || value === null) return 16
  if (Array.isArray(value)) return value.reduce<number>((sum, v) => sum + 9 + bound(v), 16)
  if ('sub_type' in value) return 16 + (value as Binary).position
  if (value instanceof Date) return 16
  let sum = 16
  for (const name in value) if (Object.hasOwn(value, name)) sum += 2 + name.length * 3 + bound((value as Record<string, unknown>)[name])
  return sum
}
