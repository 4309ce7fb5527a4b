/** What rows are read from: a collection of ours, a slot with many outputs read as one, or a table or file of others. */
import type { Doc, Key, Path, Slot, Value } from '../../core/contract.ts'
import { pick } from '../../core/encoding.ts'
import { setOwn } from '../../core/value.ts'
import { cellValue, columnSql, columnStart, type TableColumn } from './column.ts'
import type { Start } from './filter.ts'
import { decode } from './json.ts'
import { table, type Place } from './schema.ts'
import { columnOf } from './shape.ts'
import { field, literal, name, type Param, type SqlRow } from './sql.ts'
import { keyPart, keyParts, keyText, type Table } from './table.ts'

type Add = (param: Param) => string
/** The FROM item is `d`; all else is SQL over it. */
export interface Source {
  readonly from: string
  /** The key as text. */
  readonly key: string
  /** In the order of keys. */
  readonly order: string
  readonly rev: string
  readonly only: string
  /** Keys on this side of one. */
  beside(sign: '>' | '>=' | '<=', key: Key, add: Add): string
  keys(keys: readonly Key[], add: Add): string
  /** The same, where that spares a join on the text of the key the whole table. */
  narrowed(keys: readonly Key[], add: Add): string
  /** Columns that `doc` reads. */
  columns(fields: readonly string[] | undefined): readonly string[]
  doc(row: SqlRow, fields: readonly string[] | undefined): Doc
  start(path: Path): { readonly start: Start | undefined; readonly at: readonly string[] }
}

/** So many keys are looked up in the index, which takes constants only; more are joined. */
const looked = 1000

/** One of these texts. */
export function isOneOf(sql: string, texts: readonly string[], add: Add): string {
  return texts.length === 0 ? 'false' : texts.length <= looked ? `${sql} in (${texts.map(literal).join(', ')})` : `${sql} in (select unnest(${add(texts)}))`
}

export function ownSource(place: Place, collection: string): Source {
  return {
    from: `${table(place, collection)} d`, key: 'd._id', order: 'd._id', rev: 'd._rev', only: 'true',
    beside: (sign, key, add) => `d._id ${sign} ${add(key)}`,
    keys: (keys, add) => isOneOf('d._id', keys, add), narrowed: () => 'true',
    // A field taken out by SQL would be written anew; and all of a document lies in one place anyway.
    columns: (fields) => (fields?.length === 0 ? [] : ['d.doc as doc']),
    doc: (row, fields) => (fields === undefined ? decode(row['doc'] as string) as Doc : fields.length === 0 ? {} : pick(decode(row['doc'] as string) as Doc, fields)),
    start: ({ at: [first, ...at] }) => ({ start: { json: field('d.doc', first!) }, at }),
  }
}

export function manySource(place: Place, slot: Slot): Source {
  const column = columnOf(slot.shape), key = "(d.key || '#' || d.off)"
  const starts: Readonly<Record<string, Start>> = { value: column.start('d.value'), source: { json: 'to_json(d.key)' }, offset: { json: 'to_json(d.off::double)' } }
  return {
    from: `${table(place, slot.id)} d`, key, order: key, rev: 'd.rev', only: 'd.off >= 0',
    beside: (sign, of, add) => `${key} ${sign} ${add(of)}`,
    keys: (keys, add) => isOneOf(key, keys, add), narrowed: () => 'true',
    columns: () => ['d.value as value', 'd.key as source', 'd.off as "offset"'],
    doc(row, fields) {
      const doc: Readonly<Record<string, Value>> = { value: column.read(row['value']), source: row['source'] as string, offset: row['offset'] as number }
      return fields === undefined ? doc : pick(doc, fields)
    },
    start: ({ at: [first, ...at] }) => ({ start: Object.hasOwn(starts, first!) ? starts[first!] : undefined, at }),
  }
}

/** A table or file of others. Nothing tells who wrote a row, so its rev is a hash of its columns. */
export function tableSource(of: Table): Source {
  const at = (c: TableColumn): string => `d.${name(c.name)}`, tuple = (parts: readonly string[]): string => (parts.length === 1 ? parts[0]! : `(${parts.join(', ')})`)
  const key = keyText(of, at), order = tuple(of.key.map(at)), named = (field: string | undefined): TableColumn | undefined => (field === '_id' ? undefined : of.columns.find((c) => c.name === field))
  const asked = (fields: readonly string[] | undefined): readonly TableColumn[] => (fields === undefined ? of.columns.filter((c) => c.name !== '_id') : fields.flatMap((f) => named(f) ?? []))
  const keys: Source['keys'] = (list, add) => {
    const parts = list.flatMap((k) => { const p = keyParts(of, k); return p === undefined ? [] : [p] })
    if (parts.length === 0) return 'false'
    if (parts.length === 1) return of.key.map((c, i) => `${at(c)} = ${keyPart(c, add(parts[0]![i]!))}`).join(' and ')
    return `${order} in (select ${tuple(of.key.map((c, i) => keyPart(c, `k${i}`)))} from (select ${of.key.map((_, i) => `unnest(${add(parts.map((p) => p[i]!))}) as k${i}`).join(', ')}))`
  }
  return {
    from: `${of.at} d`, key, order, rev: revOf(of, at), only: 'true', keys, narrowed: keys,
    beside(sign, text, add) {
      const parts = keyParts(of, text)
      return parts === undefined ? 'true' : beside(sign, of.key.map(at), parts.map((part, i) => keyPart(of.key[i]!, add(part))))
    },
    columns: (fields) => asked(fields).map((c, i) => `${columnSql(c)} as f${i}`),
    doc(row, fields) {
      const doc: Record<string, Value> = {}
      for (const [i, c] of asked(fields).entries()) setOwn(doc, c.name, cellValue(c.kind, row[`f${i}`]))
      return doc
    },
    start({ at: [first, ...rest] }) {
      const column = named(first)
      return { start: column === undefined ? undefined : columnStart(column), at: rest }
    },
  }
}
export function revOf(of: Pick<Table, 'columns'>, at: (column: TableColumn) => string): string {
  return `hash(${of.columns.map(at).join(', ')})::varchar`
}
/** Part by part: a scan takes no comparison of tuples. */
function beside(sign: '>' | '>=' | '<=', [column, ...columns]: readonly string[], [value, ...values]: readonly string[]): string {
  return columns.length === 0 ? `${column} ${sign} ${value}` : `(${column} ${sign[0]!} ${value} or (${column} = ${value} and ${beside(sign, columns, values)}))`
}
