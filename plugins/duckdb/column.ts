/** Columns of others: what their types are as Values, as JSON for filters, and as text for writes. */
import type { DuckDBType } from '@duckdb/node-api'
import type { Doc, Value } from '../../core/contract.ts'
import { decode, tags } from '../../core/encoding.ts'
import { quote } from '../../core/errors.ts'
import { isBytes, isDoc, isTypedArray, setOwn } from '../../core/value.ts'
import type { Start } from './filter.ts'
import { numberJson, tagJson } from './shape.ts'
import { literal, name, type Cell } from './sql.ts'

/** What the values of a type are. `opaque`: text to read, nothing to write. */
export type Kind =
  | { readonly is: 'int'; readonly least: number; readonly most: number }
  | { readonly is: 'bigint' | 'float' | 'text' | 'uuid' | 'enum' | 'boolean' | 'date' | 'timestamp' | 'timestamptz' | 'bytes' | 'json' | 'opaque' }
  | { readonly is: 'decimal'; readonly scale: number }
  | { readonly is: 'vector'; readonly dims: number }
  | { readonly is: 'list' | 'map'; readonly element: Kind }
  | { readonly is: 'struct'; readonly fields: readonly (readonly [name: string, kind: Kind])[] }
export interface TableColumn {
  readonly name: string
  /** As SQL. */
  readonly type: string
  readonly kind: Kind
  /** The database computes it. */
  readonly generated: boolean
  /** The database gives a value to a row that comes without. */
  readonly given: boolean
}

const exactDigits = 15
const int = (bits: number, unsigned: boolean): Kind => (unsigned ? { is: 'int', least: 0, most: 2 ** bits - 1 } : { is: 'int', least: -(2 ** (bits - 1)), most: 2 ** (bits - 1) - 1 })
const scalars: Readonly<Record<string, Kind>> = {
  TINYINT: int(8, false), SMALLINT: int(16, false), INTEGER: int(32, false), UTINYINT: int(8, true), USMALLINT: int(16, true), UINTEGER: int(32, true), BIGINT: { is: 'bigint' }, UBIGINT: { is: 'bigint' },
  FLOAT: { is: 'float' }, DOUBLE: { is: 'float' }, VARCHAR: { is: 'text' }, UUID: { is: 'uuid' }, BOOLEAN: { is: 'boolean' }, DATE: { is: 'date' }, TIMESTAMP: { is: 'timestamp' }, TIMESTAMP_S: { is: 'timestamp' }, TIMESTAMP_MS: { is: 'timestamp' },
  TIMESTAMP_NS: { is: 'timestamp' }, 'TIMESTAMP WITH TIME ZONE': { is: 'timestamptz' }, BLOB: { is: 'bytes' },
}
/** What the driver's types of several parts have. */
interface Parts { readonly alias?: string; readonly width?: number; readonly scale?: number; readonly length?: number; readonly keyType?: DuckDBType; readonly valueType?: DuckDBType; readonly entryNames?: readonly string[]; readonly entryTypes?: readonly DuckDBType[] }

export function kindOf(type: DuckDBType): Kind {
  const text = type.toString(), { alias, width, scale, length, keyType, valueType, entryNames, entryTypes } = type as Parts, opaque: Kind = { is: 'opaque' }
  if (alias !== undefined && alias !== 'JSON') return opaque
  if (alias === 'JSON') return { is: 'json' }
  if (text.startsWith('ENUM(')) return { is: 'enum' }
  if (width !== undefined && scale !== undefined) return width <= exactDigits ? { is: 'decimal', scale } : opaque
  if (entryNames !== undefined && entryTypes !== undefined && text.startsWith('STRUCT(')) {
    const fields = entryNames.map((of, i) => [of, kindOf(entryTypes[i]!)] as const)
    return fields.some(([of, kind]) => of === '' || kind.is === 'opaque') ? opaque : { is: 'struct', fields }
  }
  if (valueType !== undefined) {
    if (length !== undefined && valueType.toString() === 'FLOAT') return { is: 'vector', dims: length }
    const element = kindOf(valueType), map = keyType !== undefined
    return element.is === 'opaque' || (map && keyType.toString() !== 'VARCHAR') ? opaque : { is: map ? 'map' : 'list', element }
  }
  return Object.hasOwn(scalars, text) ? scalars[text]! : opaque
}
export function sqlType(type: DuckDBType): string {
  const text = type.toString()
  // A text is assigned to whatever enum the column has.
  return (type as Parts).alias === 'JSON' ? 'JSON' : text.startsWith('ENUM(') ? 'VARCHAR' : text
}

/** What is selected for a column. */
export function columnSql({ kind, name: of }: Pick<TableColumn, 'kind' | 'name'>): string {
  return kind.is === 'opaque' ? `d.${name(of)}::varchar` : `d.${name(of)}`
}

/** The Value of a cell. Times finer than milliseconds are cut, those without end are text. */
export function cellValue(kind: Kind, cell: Cell): Value {
  if (cell === null || cell === undefined) return null
  switch (kind.is) {
    case 'int': case 'float': case 'boolean': case 'text': case 'enum': case 'opaque': case 'bigint': return cell as Value
    case 'uuid': return String(cell)
    case 'bytes': return isBytes(cell) ? cell : Uint8Array.from((cell as { readonly bytes: Uint8Array }).bytes)
    case 'decimal': return Number(String(cell))
    case 'date': case 'timestamp': case 'timestamptz': {
      const { days, seconds, millis, micros, nanos, isFinite } = cell as { readonly [unit: string]: bigint | number | undefined } & { readonly isFinite?: boolean }
      if (isFinite === false) return String(cell)
      const ms = days !== undefined ? Number(days) * 86_400_000 : seconds !== undefined ? Number(seconds) * 1000 : millis !== undefined ? Number(millis) : micros !== undefined ? floor(micros, 1000n) : floor(nanos!, 1_000_000n)
      const date = new Date(ms)
      return Number.isNaN(+date) ? String(cell) : date
    }
    case 'json': return decode(cell as string)
    case 'vector': return isTypedArray(cell) ? cell as Float32Array : (cell as readonly (number | null)[]).map((v) => v)
    case 'list': return (Array.isArray(cell) ? cell as readonly Cell[] : (cell as { readonly items: readonly Cell[] }).items).map((item) => cellValue(kind.element, item))
    case 'struct': return Object.fromEntries(kind.fields.map(([of, field]) => [of, cellValue(field, (cell as { readonly entries: Readonly<Record<string, Cell>> }).entries[of])]))
    case 'map': {
      const doc: Record<string, Value> = {}
      for (const { key, value } of (cell as { readonly entries: readonly { readonly key: Cell; readonly value: Cell }[] }).entries) setOwn(doc, String(key), cellValue(kind.element, value))
      return doc
    }
  }
}
function floor(value: bigint | number, by: bigint): number {
  const of = BigInt(value), rest = ((of % by) + by) % by
  return Number((of - rest) / by)
}

/** SQL of a value as JSON in the stored encoding, null where it is null. */
export function valueJson(kind: Kind, sql: string, depth: number = 0): string {
  switch (kind.is) {
    case 'int': case 'float': case 'decimal': return numberJson(`${sql}::double`)
    case 'bigint': case 'boolean': return `to_json(${sql})`
    case 'text': case 'uuid': case 'enum': case 'opaque': return `to_json(${sql}::varchar)`
    case 'date': case 'timestamp': case 'timestamptz': return `case when isfinite(${sql}) then ${tagJson(tags.date, `to_json(${milliseconds(kind.is === 'timestamptz' ? sql : `${sql}::timestamp`)})`, sql)} else to_json(${sql}::varchar) end`
    case 'bytes': return tagJson(tags.bytes, `to_json(to_base64(${sql}))`, sql)
    case 'json': return sql
    case 'vector': return tagJson(`${tags.array}Float32Array`, `'""'::json`, sql)
    case 'list': return `to_json(list_transform(${sql}, lambda x${depth}: ${valueJson(kind.element, `x${depth}`, depth + 1)}))`
    case 'map': return `to_json(map(map_keys(${sql}), list_transform(map_values(${sql}), lambda x${depth}: ${valueJson(kind.element, `x${depth}`, depth + 1)})))`
    case 'struct': return `case when ${sql} is null then null else json_object(${kind.fields.map(([of, field]) => `${literal(of)}, ${valueJson(field, `struct_extract(${sql}, ${literal(of)})`, depth)}`).join(', ')}) end`
  }
}
/** Towards the past, as JavaScript cuts; DuckDB's own cuts towards 1970. */
function milliseconds(sql: string): string {
  return `((epoch_us(${sql}) - ((epoch_us(${sql}) % 1000) + 1000) % 1000) // 1000)`
}

/** What a path into a column begins with. A null of a column is null, not a missing field. */
export function columnStart(column: Pick<TableColumn, 'kind' | 'name' | 'type'>): Start {
  const { kind, type } = column, sql = `d.${name(column.name)}`, json = `coalesce(${valueJson(kind, sql)}, 'null'::json)`
  switch (kind.is) {
    case 'int': case 'bigint': return { json, native: { type: 'integer', sql } }
    case 'float': return { json, native: { type: 'number', sql, float: true } }
    case 'decimal': return { json, native: { type: 'number', sql: `${sql}::double` } }
    case 'text': return { json, native: { type: 'string', sql } }
    case 'uuid': case 'enum': case 'opaque': return { json, native: { type: 'string', sql: `${sql}::varchar` } }
    case 'boolean': return { json, native: { type: 'boolean', sql } }
    case 'bytes': return { json, native: { type: 'bytes', sql } }
    case 'date': return { json, native: { type: 'timestamp', sql: `${sql}::timestamp` } }
    case 'timestamp': case 'timestamptz': return /NS/.test(type) ? { json } : { json, native: { type: kind.is, sql } }
    default: return { json }
  }
}

/** Why a row was not written. */
export class Refusal extends Error {}

/** A value as text that casts to the column's type. Throws the reason where the column does not hold it. */
export function columnText({ name: of, type, kind, generated }: TableColumn, value: Value): string | null {
  if (generated) throw new Refusal(`the database computes the column ${quote(of)}; leave it out`)
  if (kind.is === 'opaque') throw new Refusal(`the column ${quote(of)} has the type ${type}, which can be read here and not written`)
  if (value === null) return null
  const text = textOf(kind, type, value)
  if (text === undefined) throw new Refusal(`the column ${quote(of)} has the type ${type}; ${quote(value)} was given`)
  return text
}

function textOf(kind: Kind, type: string, value: Value): string | undefined {
  switch (kind.is) {
    case 'int': return (typeof value === 'number' || typeof value === 'bigint') && Number.isInteger(Number(value)) && value >= kind.least && value <= kind.most ? String(value) : undefined
    case 'bigint': {
      const n = typeof value === 'bigint' ? value : Number.isSafeInteger(value) ? BigInt(value as number) : undefined
      return n !== undefined && (type === 'UBIGINT' ? BigInt.asUintN(64, n) : BigInt.asIntN(64, n)) === n ? String(n) : undefined
    }
    case 'float': return typeof value === 'number' ? String(Object.is(value, -0) ? '-0.0' : value) : undefined
    // A cast would round.
    case 'decimal': return typeof value === 'number' && Number.isFinite(value) && Number(value.toFixed(kind.scale)) === value ? value.toFixed(kind.scale) : undefined
    case 'text': case 'enum': return typeof value === 'string' ? value : undefined
    case 'uuid': return typeof value === 'string' && /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(value) ? value : undefined
    case 'boolean': return typeof value === 'boolean' ? String(value) : undefined
    case 'date': case 'timestamp': case 'timestamptz': {
      if (!(value instanceof Date)) return undefined
      const iso = value.toISOString()
      if (!/^\d{4}-/.test(iso) || iso.startsWith('0000')) return undefined
      if (kind.is === 'date') return iso.endsWith('T00:00:00.000Z') ? iso.slice(0, 10) : undefined
      return type === 'TIMESTAMP_S' && value.getUTCMilliseconds() !== 0 ? undefined : kind.is === 'timestamptz' ? iso : iso.slice(0, -1)
    }
    case 'bytes': return isBytes(value) ? [...value].map((byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('') : undefined
    case 'vector': {
      const numbers = value instanceof Float32Array || (Array.isArray(value) && value.every((v) => typeof v === 'number')) ? [...value as Iterable<number>] : undefined
      return numbers?.length === kind.dims ? `[${numbers.join(',')}]` : undefined
    }
    case 'json': case 'list': case 'struct': case 'map': {
      const json = jsonOf(kind, type, value)
      return json === undefined ? undefined : JSON.stringify(json)
    }
    case 'opaque': return undefined
  }
}

/** A value of several parts as JSON that DuckDB casts to the type; undefined where it does not hold it. */
function jsonOf(kind: Kind, type: string, value: Value): unknown {
  if (value === null) return null
  switch (kind.is) {
    case 'json': return isJson(value) ? value : undefined
    case 'list': return all(Array.isArray(value) ? (value as readonly Value[]).map((v) => jsonOf(kind.element, type, v)) : undefined)
    case 'map': return isDoc(value) ? entries(Object.entries(value).map(([of, v]) => [of, jsonOf(kind.element, type, v as Value)])) : undefined
    case 'struct': return isDoc(value) && Object.keys(value).every((of) => kind.fields.some(([field]) => field === of)) ? entries(kind.fields.map(([of, field]) => [of, jsonOf(field, type, Object.hasOwn(value, of) ? (value as Doc)[of]! : null)])) : undefined
    case 'boolean': return typeof value === 'boolean' ? value : undefined
    // JSON has no numbers without end, and no bytes.
    case 'float': return Number.isFinite(value) ? value : undefined
    case 'vector': case 'bytes': return undefined
    default: return textOf(kind, type, value)
  }
}
function all(list: readonly unknown[] | undefined): readonly unknown[] | undefined {
  return list?.includes(undefined) === true ? undefined : list
}
function entries(of: readonly (readonly [string, unknown])[]): object | undefined {
  return of.some(([, value]) => value === undefined) ? undefined : Object.fromEntries(of)
}
/** Nothing but what JSON has: other values would be read back as something else. */
function isJson(value: Value): boolean {
  if (typeof value === 'number') return Number.isFinite(value)
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return true
  if (Array.isArray(value)) return value.every(isJson)
  return isDoc(value) && Object.entries(value).every(([of, v]) => !of.startsWith('\u0001') && isJson(v as Value))
}

/** SQL of a text as the type of a column. */
export function cast({ kind, type }: Pick<TableColumn, 'kind' | 'type'>, sql: string): string {
  return kind.is === 'list' || kind.is === 'struct' || kind.is === 'map' ? `${sql}::json::${type}` : `${sql}::${type}`
}
