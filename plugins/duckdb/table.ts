/** Tables and files of others, as Inlay reads them: what their columns are, and what their key is as text. */
import { existsSync } from 'node:fs'
import type { Key, Value } from '../../core/contract.ts'
import { InlayError, messageOf, quote } from '../../core/errors.ts'
import { kindOf, sqlType, type Kind, type TableColumn } from './column.ts'
import type { Place } from './schema.ts'
import { literal, name, type SqlRow } from './sql.ts'

export interface Table {
  /** What the user wrote. */
  readonly source: string
  /** As SQL: the name of a table, or a SELECT. */
  readonly at: string
  readonly columns: readonly TableColumn[]
  readonly key: readonly TableColumn[]
  /** A file, whose key is made of its path and the number of the row. */
  readonly file: boolean
}

/** Columns that are no field of a file's rows, but make up their key. */
const fileName = '_inlay_file'
const fileRow = '_inlay_row'
const bigint: Kind = { is: 'bigint' }, text: Kind = { is: 'text' }
const fileKey: readonly TableColumn[] = [{ name: fileName, type: 'VARCHAR', kind: text, generated: false, given: false }, { name: fileRow, type: 'BIGINT', kind: bigint, generated: false, given: false }]
const formats: readonly (readonly [RegExp, (path: string) => string])[] = [
  [/\.parquet$/i, (path) => `select * exclude (filename, file_row_number), filename as ${fileName}, file_row_number as ${fileRow} from read_parquet(${path}, filename = true, file_row_number = true)`],
  [/\.(csv|tsv)(\.gz|\.zst)?$/i, (path) => numbered(`read_csv(${path}, filename = true)`)],
  [/\.(json|jsonl|ndjson)(\.gz|\.zst)?$/i, (path) => numbered(`read_json(${path}, filename = true)`)],
]
/** Rows of a text file come in the order of their lines. */
function numbered(read: string): string {
  return `select * exclude (filename, _n), filename as ${fileName}, _n - min(_n) over (partition by filename) as ${fileRow} from (select *, row_number() over () as _n from ${read})`
}

/** Fields that core gives each row. */
const reserved: readonly string[] = ['_id', '_rev', '_outputs', '_fold']

const keyKinds: ReadonlySet<Kind['is']> = new Set(['int', 'bigint', 'decimal', 'text', 'uuid', 'boolean', 'date', 'timestamp', 'timestamptz', 'bytes'])

/** What is attached: a table as SQL names it, `users` or `sales."Users"`, or a file or several, by their end: `./events.parquet`, `logs/*.csv`. */
export async function describe({ sql }: Pick<Place, 'sql'>, collection: string, source: string, signal: AbortSignal): Promise<Table> {
  const refuse = (code: 'NOT_FOUND' | 'UNSUPPORTED', why: string): InlayError => new InlayError(code, `The collection ${quote(collection)} cannot be attached to ${quote(source)}: ${why}`)
  const free = (columns: readonly TableColumn[], key: readonly TableColumn[]): readonly TableColumn[] => {
    const ours = columns.find((c) => reserved.includes(c.name) && !(c.name === '_id' && key.length === 1 && key[0] === c))
    if (ours !== undefined) throw refuse('UNSUPPORTED', `it has a column ${quote(ours.name)}, which here is a field of Inlay's${ours.name === '_id' ? ': the key, which this column is not' : ''}. Give the column another name.`)
    return columns
  }
  const format = formats.find(([end]) => end.test(source))
  if (format !== undefined) {
    const at = `(${format[1](literal(existsSync(source) ? source.replace(/[*?[]/g, '[$&]') : source))})`
    const columns = await sql.columns(`from ${at} t`, signal).catch((error: unknown) => {
      if (!/^(IO|Binder|Invalid Input|Conversion) Error/.test(messageOf(error))) throw error
      throw refuse(/No files found|No such file/.test(messageOf(error)) ? 'NOT_FOUND' : 'UNSUPPORTED', `${messageOf(error).split('\n')[0]!.replace(/\.$/, '')}. Paths are relative to the folder in which the process runs.`)
    })
    return { source, at, file: true, key: fileKey, columns: free(columns.filter((c) => c.name !== fileName && c.name !== fileRow).map((c) => ({ name: c.name, type: sqlType(c.type), kind: kindOf(c.type), generated: false, given: false })), fileKey) }
  }
  const parts = [...source.matchAll(/(?:^|\.)(?:"((?:[^"]|"")+)"|([\p{L}_][\p{L}\p{N}_$]*))(?=\.|$)/gu)], names = parts.map(([, quoted, bare]) => quoted?.replaceAll('""', '"') ?? bare!)
  const found = parts.map(([part]) => part).join('') !== source || names.length < 1 || names.length > 2 ? [] : await sql.read(`select 'table' as kind, schema_name as s, table_name as t, sql from duckdb_tables() where not internal and database_name = current_database() and lower(table_name) = lower($1) and lower(schema_name) = lower($2)
    union all select 'view', schema_name, view_name, '' from duckdb_views() where not internal and database_name = current_database() and lower(view_name) = lower($1) and lower(schema_name) = lower($2)`, [names.at(-1)!, names.length === 2 ? names[0]! : 'main'], signal)
  const [table] = found
  if (table === undefined) throw refuse('NOT_FOUND', 'there is no such table. Give its name as SQL takes it, with its schema: "main.users"; or a file that ends with .parquet, .csv, .json or .jsonl.')
  if (table['kind'] === 'view') throw refuse('UNSUPPORTED', 'it is no table. A view has no key: attach the table below it, or a Parquet file of it.')
  const at = `${name(table['s'] as string)}.${name(table['t'] as string)}`, place = [table['s'] as string, table['t'] as string]
  const [types, about, constraints, indexes] = await Promise.all([
    sql.columns(`from ${at}`, signal),
    sql.read('select column_name as name, column_default as given, is_nullable as nullable from duckdb_columns() where database_name = current_database() and schema_name = $1 and table_name = $2', place, signal),
    sql.read(`select constraint_type as type, constraint_column_names as columns from duckdb_constraints() where database_name = current_database() and schema_name = $1 and table_name = $2 and constraint_type in ('PRIMARY KEY', 'UNIQUE') order by constraint_type, len(constraint_column_names)`, place, signal),
    sql.read('select expressions from duckdb_indexes() where database_name = current_database() and schema_name = $1 and table_name = $2 and is_unique', place, signal),
  ])
  const columns = types.map(({ name: of, type }): TableColumn => {
    const default_ = about.find((row) => row['name'] === of)?.['given'] ?? null
    return { name: of, type: sqlType(type), kind: kindOf(type), generated: isGenerated(table['sql'] as string, of), given: default_ !== null && !/^NULL$/i.test(String(default_)) }
  })
  const nullable = (c: TableColumn): boolean => about.find((row) => row['name'] === c.name)?.['nullable'] !== false
  const unique = [...constraints.map((row) => row['columns'] as readonly string[]), ...indexes.map(indexed)]
  const keys = unique.map((of) => of.map((column) => columns.find((c) => c.name === column))).filter((of): of is TableColumn[] => of.length > 0 && of.every((c) => c !== undefined && !nullable(c)))
  const key = keys.find((of) => of.every((c) => keyKinds.has(c.kind.is) && c.type !== 'TIMESTAMP_NS'))
  if (key === undefined) throw refuse('UNSUPPORTED', keys.length === 0 ? 'it has no primary key, and no unique constraint over columns that are not null. Make the table anew with one: a row needs a name that stays.' : `its key has the type ${keys[0]!.map((c) => c.type).join(', ')}; keys of numbers, texts, uuids, booleans, bytes and times are expected.`)
  return { source, at, columns: free(columns, key), key, file: false }
}

/** Columns of a unique index: `[a, b]`, where no expression among them. */
function indexed(row: SqlRow): readonly string[] {
  return String(row['expressions']).replace(/^\[|\]$/g, '').split(',').map((of) => of.trim().replace(/^['"]+|['"]+$/g, ''))
}
/** The catalog says it in the statement only that makes the table. */
function isGenerated(sql: string, column: string): boolean {
  const plain = /^[a-z_][a-z0-9_]*$/.test(column) ? `(?:"${column}"|${column})` : name(column).replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&')
  return new RegExp(`[(,] *${plain} [^,]*?GENERATED ALWAYS AS`, 'u').test(sql.replaceAll(/'(?:[^']|'')*'/g, "''"))
}

// Keys

/** The key of a row as text: that of its one column, or those of several, joined by commas, commas within escaped; of a file its path, `#`, and the number of the row. */
export function keyText({ key, file }: Pick<Table, 'key' | 'file'>, at: (column: TableColumn) => string): string {
  const parts = key.map((c) => partText(c, at(c)))
  if (file) return `(${parts.join(" || '#' || ")})`
  return parts.length === 1 ? parts[0]! : `(${parts.map((p) => `replace(replace(${p}, '\\', '\\\\'), ',', '\\,')`).join(` || ',' || `)})`
}
function partText({ kind }: TableColumn, at: string): string {
  switch (kind.is) {
    case 'timestamp': return `strftime(${at}::timestamp, '%Y-%m-%dT%H:%M:%S.%f')`
    case 'timestamptz': return `strftime(${at} at time zone 'UTC', '%Y-%m-%dT%H:%M:%S.%fZ')`
    case 'bytes': return `lower(hex(${at}))`
    default: return `${at}::varchar`
  }
}
/** The parts of a key; undefined where no row can have it. */
export function keyParts({ key, file }: Pick<Table, 'key' | 'file'>, of: Key): readonly string[] | undefined {
  if (file) {
    const cut = of.lastIndexOf('#')
    return cut < 0 ? undefined : [of.slice(0, cut), of.slice(cut + 1)]
  }
  if (key.length === 1) return [of]
  const parts = [...`${of},`.matchAll(/((?:[^\\,]|\\[\\,])*),/g)]
  return parts.length === key.length && parts.map(([all]) => all).join('') === `${of},` ? parts.map(([, part]) => part!.replace(/\\([\\,])/g, '$1')) : undefined
}
/** A part of a key as the Value of its column. */
export function keyValue({ kind }: TableColumn, part: string): Value {
  switch (kind.is) {
    case 'int': case 'decimal': return Number(part)
    case 'bigint': return /^-?\d+$/.test(part) ? BigInt(part) : null
    case 'boolean': return part === 'true'
    case 'date': case 'timestamp': case 'timestamptz': return new Date(`${part.slice(0, 23)}${kind.is === 'date' ? '' : 'Z'}`)
    case 'bytes': return Uint8Array.from(Buffer.from(part, 'hex'))
    default: return part
  }
}
/** SQL of a part of a key as its column's type, null where the text is not the one that a row of it has. */
export function keyPart(c: TableColumn, sql: string): string {
  const value = c.kind.is === 'bytes' ? `case when regexp_full_match(${sql}, '([0-9a-f]{2})*') then unhex(${sql}) end` : `try_cast(${sql} as ${c.type})`
  return c.kind.is === 'text' || c.kind.is === 'bytes' ? value : `case when ${partText(c, value)} = ${sql} then ${value} end`
}
