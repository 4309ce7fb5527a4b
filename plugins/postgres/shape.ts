/** Outputs as columns: typed where Postgres has the type. */
import type { Shape, Value } from '../../core/contract.ts'
import { decode, encode } from '../../core/encoding.ts'
import { InlayError, quote } from '../../core/errors.ts'
import type { Place } from './schema.ts'
import { binaryArray, boolArray, byteaArray, floatArray, hexBytes, jsonbArray, name, textArray, vectorBytes } from './sql.ts'

export interface Column {
  /** SQL type of a list of values. */
  readonly list: string
  /** A parameter of that type. */
  param(values: readonly (Value | undefined)[]): Uint8Array
  /** A value from its text. */
  read(text: string): Value
}

/** SQL of a value as jsonb in the stored encoding, so that filters mean the same on every shape. A vector is opaque. */
export function jsonOf({ vectors }: Place, shape: Shape, value: string): string {
  switch (shape.kind) {
    case 'number': return `case ${value} when 'NaN' then '{"\\u0001nan": 1}' when 'Infinity' then '1e400' when '-Infinity' then '-1e400' else to_jsonb(${value}) end`
    case 'bytes': return `jsonb_build_object(${tag('bytes')}, translate(encode(${value}, 'base64'), E'\n', ''))`
    case 'vector': return vectors === undefined ? value : `jsonb_build_object(${tag('array:Float32Array')}, '')`
    case 'boolean': case 'string': return `to_jsonb(${value})`
    case 'json': return value
  }
}
export const tag = (of: string): string => `E'\\x01${of}'`

export function columnOf({ vectors }: Place, shape: Shape): Column {
  switch (shape.kind) {
    case 'json': return json
    case 'boolean': return { list: 'boolean[]', param: (values) => boolArray(values.map((v) => of(v, 'boolean'))), read: (text) => text === 't' || text === 'true' }
    case 'number': return { list: 'double precision[]', param: (values) => floatArray(values.map((v) => of(v, 'number'))), read: Number }
    case 'string': return { list: 'text[]', param: (values) => textArray(values.map((v) => of(v, 'string'))), read: (text) => text }
    case 'bytes': return { list: 'bytea[]', param: (values) => byteaArray(values.map((v) => (v === undefined ? null : v as Uint8Array))), read: hexBytes }
    case 'vector': return vectors === undefined ? json : {
      list: `${name(vectors.schema)}.vector[]`,
      param: (values) => binaryArray(vectors.oid, values.map((v) => (v === undefined ? null : vectorBytes(v as Float32Array)))),
      read: (text) => Float32Array.from(JSON.parse(text) as readonly number[]),
    }
  }
}

const json: Column = { list: 'jsonb[]', param: (values) => jsonbArray(values.map((v) => (v === undefined ? null : encode(v)))), read: decode }

interface Types { boolean: boolean; number: number; string: string }
function of<K extends keyof Types>(value: Value | undefined, type: K): Types[K] | null {
  if (value === undefined) return null
  if (typeof value !== type) throw new InlayError('INVALID_ARGUMENT', `An output declared as ${type} is ${quote(value)}. Declare it as json.`)
  return value as Types[K]
}
