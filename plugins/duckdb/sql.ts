/** Pieces of SQL, and what the plugin needs of the driver. */
import type { DuckDBType } from '@duckdb/node-api'
import { InlayError, quote } from '../../core/errors.ts'

/** A parameter: a text or bytes, a list of texts, or a list of another type. Numbers go as lists or stand in the statement. */
export type Param = string | Uint8Array | readonly (string | null)[] | { readonly type: 'integer' | 'double' | 'boolean' | 'blob'; readonly items: readonly (number | boolean | Uint8Array | null)[] }
/** A value of a result: as the driver gives it, but bytes as `Uint8Array`, and lists and arrays as such, those of floats as `Float32Array`. */
export type Cell = unknown
export type SqlRow = Readonly<Record<string, Cell>>
export type Run = (text: string, params?: readonly Param[]) => Promise<readonly SqlRow[]>
/** The one connection that writes, within a transaction. */
export interface Writer {
  readonly run: Run
  /** Puts vectors into a temporary table and gives its name: columns `n`, counted from 1, and `v`, null where there is none. */
  stage(dims: number, vectors: readonly (Float32Array | undefined)[]): Promise<string>
}
/** One database, shared by all who open it in this process. */
export interface Sql {
  readonly server: string
  /** What was written is there after all have closed it. */
  readonly durable: boolean
  /** One statement beside the writer: it sees what is committed. */
  read(text: string, params: readonly Param[], signal: AbortSignal): Promise<readonly SqlRow[]>
  /** What a FROM clause gives: names and types. */
  columns(from: string, signal: AbortSignal): Promise<readonly { readonly name: string; readonly type: DuckDBType }[]>
  /** All or nothing, one after the other: whatever `work` fails with, nothing of it stays. */
  write<T>(work: (writer: Writer) => Promise<T>, signal: AbortSignal): Promise<T>
  close(): Promise<void>
}

/** An identifier as it is: of columns, and of what others made. */
export function name(identifier: string): string {
  return `"${identifier.replaceAll('"', '""')}"`
}
/** An identifier of ours. DuckDB takes `A` and `a` for the same, so upper case is written as `^a`. */
export function ownName(identifier: string): string {
  return name(identifier.replace(/[A-Z^]/g, (letter) => `^${letter.toLowerCase()}`))
}
/** A text. The parser ends at a NUL. */
export function literal(text: string): string {
  const parts = text.split('\0').map((part) => `'${part.replaceAll("'", "''")}'`)
  return parts.length === 1 ? parts[0]! : `(${parts.join(' || chr(0) || ')})`
}

/** Collects the parameters of one statement. */
export class Params {
  readonly list: Param[] = []

  /** Adds a parameter and returns its `$n`. */
  readonly add = (value: Param): string => `$${this.list.push(value)}`
}

/** A field of JSON. A JSON path takes `*` for a wildcard even in quotes and refuses the empty name, which a pointer does not; that in turn takes digits for a position. */
export function field(json: string, of: string): string {
  return `json_extract(${json}, ${literal(/^\d/.test(of) ? `$."${of.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"` : `/${of.replaceAll('~', '~0').replaceAll('/', '~1')}`)})`
}

/** The value of a type that a shape asks for. */
export function checked<T>(value: T, is: boolean, type: string): T {
  if (!is) throw new InlayError('INVALID_ARGUMENT', `An output declared as ${type} is ${quote(value)}. Declare it as what the model gives.`)
  return value
}
