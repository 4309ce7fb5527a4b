/** What rows are read from: a collection of Inlay's, a slot with many outputs, or a table of others. Each is a FROM item `d` with the same few columns. */
import type { Doc, Filter, Key, Path, Slot, Value } from '../../core/contract.ts'
import { decode, pick } from '../../core/encoding.ts'
import { setOwn } from '../../core/value.ts'
import type { Json } from './filter.ts'
import { table, type Place } from './schema.ts'
import { columnOf, jsonOf } from './shape.ts'
import { literal, name, textArray, type Params, type SqlRow } from './sql.ts'
import { columnFilter, columnJson, columnValue, keyParts, keyText, type Table, type TableColumn } from './table.ts'

export interface Source {
  readonly from: string
  /** The key as text, and the rev. */
  readonly key: string
  readonly rev: string
  /** What is a row at all. */
  readonly only: string
  /** Order of the keys. */
  readonly order: string
  after(key: Key, p: Params): string
  /** The same of the outputs `o` of the rows, where these have the order of the rows: else a page would begin with the first output. */
  outputsAfter?(key: Key, p: Params): string
  /** Up to and with that key. Given where outputs have another order than rows: pages of all rows are looked through instead. */
  upTo?(key: Key, p: Params): string
  among(keys: readonly Key[], p: Params): string
  /** That the row is that of `v.key`, which is one of these. */
  isOf(v: string, keys: readonly Key[], p: Params): string
  /** Locks rows of `d`, or nothing where the role may not. */
  readonly lock: string
  /** Columns to select, for `doc` to read. */
  columns(fields: readonly string[] | undefined, p: Params): readonly string[]
  doc(row: SqlRow, fields: readonly string[] | undefined): Doc
  json(at: Path['at']): Json
  /** SQL for a condition that a column itself can answer. */
  condition?(filter: Filter, p: Params): string | undefined
}

export function ownSource(place: Place, collection: string): Source {
  return {
    ...byText('d._id'), from: `${table(place, collection)} d`, rev: 'd._rev::text', only: 'true', lock: 'for share of d skip locked',
    columns: (fields, p) => (fields === undefined ? ['d.doc as doc'] : fields.map((f, i) => `d.doc -> ${p.add(f)}::text as f${i}`)),
    doc(row, fields) {
      if (fields === undefined) return decode(row['doc']!) as Doc
      const doc: Record<string, Value> = {}
      for (const [i, field] of fields.entries()) if (row[`f${i}`] !== null) setOwn(doc, field, decode(row[`f${i}`]!))
      return doc
    },
    json: (at) => ({ root: 'd.doc', at }),
  }
}

/** The outputs of a slot, each a row. */
export function slotSource(place: Place, slot: Slot): Source {
  const column = columnOf(place, slot.shape)
  return {
    ...byText('d.id'), from: `${table(place, slot.id)} d`, rev: 'd.rev', only: 'd.off >= 0', lock: 'for share of d skip locked',
    columns: () => ['d.value::text as value', 'd.key as source', 'd.off as "offset"'],
    doc(row, fields) {
      const doc = { value: column.read(row['value']!), source: row['source']!, offset: Number(row['offset']) }
      return fields === undefined ? doc : pick(doc, fields)
    },
    json: (at) => ({ root: `jsonb_build_object('value', ${jsonOf(place, slot.shape, 'd.value')}, 'source', d.key, 'offset', d.off)`, at }),
  }
}

function byText(key: string): Pick<Source, 'key' | 'order' | 'after' | 'outputsAfter' | 'among' | 'isOf'> {
  return { key, order: key, after: (text, p) => `${key} > ${p.add(text)}`, outputsAfter: (text, p) => ` and o.key > ${p.add(text)}`, among: (keys, p) => `${key} = any(${p.add(keys)}::text[])`, isOf: (v) => `${key} = ${v}.key` }
}

/** A table of others. `xmin`, the transaction that wrote a row, is its rev: whoever writes gives a new one. */
export function tableSource(place: Place, of: Table): Source {
  const at = new Map(of.columns.map((c, i) => [c.name, `d.c${i}`])), columnAt = (c: TableColumn): string => at.get(c.name)!
  const named = (field: string | undefined): TableColumn | undefined => of.columns.find((c) => c.name === field)
  const keys = of.key.map(columnAt), tuple = (parts: readonly string[]): string => (parts.length === 1 ? parts[0]! : `(${parts.join(', ')})`)
  const asked = (fields: readonly string[] | undefined): readonly TableColumn[] => (fields === undefined ? of.columns : fields.flatMap((f) => named(f) ?? []))
  const beside = (sign: '>' | '<=', key: Key, p: Params): string => {
    const parts = keyParts(of, key)
    return parts === undefined ? 'false' : `${tuple(keys)} ${sign} ${tuple(parts.map((part, i) => `${p.add(part)}::${of.key[i]!.type}`))}`
  }
  const among: Source['among'] = (list, p) => {
    const known = list.flatMap((key) => { const parts = keyParts(of, key); return parts === undefined ? [] : [parts] })
    if (known.length === 0) return 'false'
    const lists = of.key.map((c, i) => `${p.add(textArray(known.map((parts) => parts[i]!)))}::text[]::${c.type}[]`)
    return keys.length === 1 ? `${keys[0]} = any(${lists[0]})` : `${tuple(keys)} in (select * from unnest(${lists.join(', ')}))`
  }
  return {
    from: `(select ${of.columns.map((c, i) => `t.${name(c.name)} as c${i}`).join(', ')}, ${keyText(of, (c) => `t.${name(c.name)}`)} as _id, t.xmin::text as _rev from ${of.at} t) d`,
    key: 'd._id', rev: 'd._rev', only: 'true', order: keys.join(', '), lock: of.locks ? 'for share of d skip locked' : '',
    after: (key, p) => beside('>', key, p),
    upTo: (key, p) => beside('<=', key, p),
    among,
    // By its columns, which an index serves; the text alone would be computed for every row.
    isOf: (v, list, p) => `d._id = ${v}.key and ${among(list, p)}`,
    columns: (fields) => asked(fields).map((c, i) => `${columnJson(place, c, columnAt(c))} as f${i}`),
    doc(row, fields) {
      const doc: Record<string, Value> = {}
      for (const [i, c] of asked(fields).entries()) if (c.name !== '_id') setOwn(doc, c.name, columnValue(c, row[`f${i}`]))
      return doc
    },
    json([field, ...rest]) {
      const column = named(field)
      if (column === undefined || field === '_id') return { root: `'{}'::jsonb`, at: [field!, ...rest] }
      // A vector is opaque to filters, as those of outputs are.
      const json = column.kind === 'vector' ? jsonOf(place, { kind: 'vector', dims: 0 }, columnAt(column)) : columnJson(place, column, columnAt(column))
      return { root: `jsonb_build_object(${literal(field!)}, ${json})`, at: [field!, ...rest] }
    },
    condition(filter, p) {
      const path = 'path' in filter && filter.path.slot === undefined ? filter.path.at : undefined, column = named(path?.[0])
      return column === undefined || column.name === '_id' ? undefined : columnFilter(column, filter, columnAt(column), p)
    },
  }
}
