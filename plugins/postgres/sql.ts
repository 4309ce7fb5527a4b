/** Pieces of SQL: quoting, parameters, and arrays in the binary form that both drivers pass through. */

/** A parameter as it goes over the wire: text, or bytes in the binary form of its type. */
export type Param = string | Uint8Array | null
export type SqlRow = Readonly<Record<string, string | null>>
/** What the plugin needs of a driver. Results are text, whatever their type. */
export interface Sql {
  readonly server: string
  /** `prepared`: the text is one of few, so the server may keep it parsed and planned. */
  query(text: string, params: readonly Param[], signal: AbortSignal, prepared?: 'prepared'): Promise<readonly SqlRow[]>
  /** All or nothing, on one session. */
  transaction<T>(work: (query: Query) => Promise<T>, signal: AbortSignal): Promise<T>
  /** Calls `wake` for each NOTIFY of the channel, as far as the connection lives: look yourself every `pollMs`. */
  listen(channel: string, wake: () => void): Promise<{ readonly pollMs: number; stop(): void }>
  close(): Promise<void>
}
export type Query = (text: string, params?: readonly Param[], prepared?: 'prepared') => Promise<readonly SqlRow[]>

/** An identifier. */
export function name(identifier: string): string {
  return `"${identifier.replaceAll('"', '""')}"`
}
/** A literal. Only for names of types and of ours; what users give is a parameter. */
export function literal(text: string): string {
  return `'${text.replaceAll("'", "''")}'`
}

/** Collects the parameters of one statement. */
export class Params {
  readonly list: Param[] = []

  /** Adds a parameter and returns its `$n`. A list of texts becomes a `text[]`. */
  readonly add = (value: unknown): string => `$${this.list.push(typeof value === 'string' || value instanceof Uint8Array || value === null ? value : Array.isArray(value) ? textArray(value as readonly string[]) : String(value))}`
}

const oids = { text: 25, int4: 23, jsonb: 3802, bool: 16, float8: 701, bytea: 17 } as const

/** The binary form of a one-dimensional array. Text arrays would have each element escaped by the driver and parsed by the server: several times slower. */
export function binaryArray(oid: number, items: readonly (Uint8Array | null)[]): Uint8Array {
  let size = 20, nulls = 0
  for (const item of items) {
    size += 4 + (item?.byteLength ?? 0)
    if (item === null) nulls = 1
  }
  const out = Buffer.allocUnsafe(size)
  let at = out.writeInt32BE(items.length === 0 ? 0 : 1, 0)
  at = out.writeInt32BE(nulls, at)
  at = out.writeInt32BE(oid, at)
  at = out.writeInt32BE(items.length, at)
  at = out.writeInt32BE(1, at)
  for (const item of items) {
    at = out.writeInt32BE(item?.byteLength ?? -1, at)
    if (item === null) continue
    out.set(item, at)
    at += item.byteLength
  }
  return items.length === 0 ? out.subarray(0, 12) : out
}

export function textArray(items: readonly (string | null)[]): Uint8Array {
  return binaryArray(oids.text, items.map((item) => (item === null ? null : Buffer.from(item))))
}
export function intArray(items: readonly number[]): Uint8Array {
  return binaryArray(oids.int4, items.map((item) => { const bytes = Buffer.allocUnsafe(4); bytes.writeInt32BE(item); return bytes }))
}
/** Of JSON texts. */
export function jsonbArray(items: readonly (string | null)[]): Uint8Array {
  return binaryArray(oids.jsonb, items.map((item) => (item === null ? null : Buffer.from(`\u0001${item}`))))
}
export function boolArray(items: readonly (boolean | null)[]): Uint8Array {
  return binaryArray(oids.bool, items.map((item) => (item === null ? null : Uint8Array.of(item ? 1 : 0))))
}
export function floatArray(items: readonly (number | null)[]): Uint8Array {
  return binaryArray(oids.float8, items.map((item) => { if (item === null) return null; const bytes = Buffer.allocUnsafe(8); bytes.writeDoubleBE(item); return bytes }))
}
export function byteaArray(items: readonly (Uint8Array | null)[]): Uint8Array {
  return binaryArray(oids.bytea, items)
}

/** pgvector's binary form: dimensions, an unused field, then each float, big-endian. */
export function vectorBytes(vector: Float32Array): Uint8Array {
  const out = Buffer.allocUnsafe(4 + vector.length * 4)
  out.writeUInt16BE(vector.length, 0)
  out.writeUInt16BE(0, 2)
  for (let i = 0; i < vector.length; i++) out.writeFloatBE(vector[i]!, 4 + i * 4)
  return out
}

export function hexBytes(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text.slice(2), 'hex'))
}
