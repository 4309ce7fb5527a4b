/** Outputs as columns, typed where DuckDB has the type. */
import type { Shape, Value } from '../../core/contract.ts'
import { tags } from '../../core/encoding.ts'
import { isBytes } from '../../core/value.ts'
import type { Start } from './filter.ts'
import { decode, encode } from './json.ts'
import { checked, literal, type Cell, type Param, type Writer } from './sql.ts'

export interface Column {
  readonly type: string
  /** SQL of a list of values, one for each; a missing one is null. Vectors come by a table instead. */
  list(values: readonly (Value | undefined)[]): Param
  /** A value from its cell. */
  read(cell: Cell): Value
  /** SQL of a value as JSON in the stored encoding, so that filters mean the same on every shape; and as a column, where that is as exact. */
  start(value: string): Start
}

export function columnOf(shape: Shape): Column {
  switch (shape.kind) {
    case 'boolean': return {
      type: 'boolean', list: (values) => ({ type: 'boolean', items: values.map((v) => (v === undefined ? null : checked(v as boolean, typeof v === 'boolean', 'boolean'))) }),
      read: (cell) => cell as boolean, start: (value) => ({ json: `to_json(${value})` }),
    }
    case 'number': return {
      type: 'double', list: (values) => ({ type: 'double', items: values.map((v) => (v === undefined ? null : checked(v as number, typeof v === 'number', 'number'))) }),
      read: (cell) => cell as number,
      start: (value) => ({ json: numberJson(value) }),
    }
    case 'string': return {
      type: 'varchar', list: (values) => values.map((v) => (v === undefined ? null : checked(v as string, typeof v === 'string', 'string'))),
      read: (cell) => cell as string, start: (value) => ({ json: `to_json(${value})` }),
    }
    case 'bytes': return {
      type: 'blob', list: (values) => ({ type: 'blob', items: values.map((v) => (v === undefined ? null : checked(v as Uint8Array, isBytes(v), 'bytes'))) }),
      read: (cell) => cell as Uint8Array, start: (value) => ({ json: tagJson(tags.bytes, `to_json(to_base64(${value}))`, value) }),
    }
    case 'json': return {
      type: 'json', list: (values) => values.map((v) => (v === undefined ? null : encode(v))), read: (cell) => decode(cell as string), start: (value) => ({ json: value }),
    }
    // Opaque to filters.
    case 'vector': return { type: `float[${shape.dims}]`, list: () => [], read: (cell) => cell as Float32Array, start: (value) => ({ json: tagJson(`${tags.array}Float32Array`, `'""'::json`, value) }) }
  }
}

/** SQL of a double as JSON. */
export function numberJson(value: string): string {
  return `case when isnan(${value}) then ${tagJson(tags.nan, '1::json', value)} when isinf(${value}) then (case when ${value} > 0 then '1e400' else '-1e400' end)::json else to_json(${value}) end`
}
/** SQL of a tagged value as JSON, null where the value is. */
export function tagJson(tag: string, content: string, value: string): string {
  return `case when ${value} is null then null else json_object(${literal(tag)}, ${content}) end`
}

/** SQL of the values of a statement as rows with their number `n` and the column `value`. */
export async function valuesOf(writer: Writer, shape: Shape, values: readonly (Value | undefined)[], add: (param: Param) => string): Promise<{ readonly column: string; readonly join: string }> {
  const { type, list } = columnOf(shape)
  if (shape.kind !== 'vector') return { column: `unnest(${add(list(values))})::${type} as value`, join: '' }
  const vectors = values.map((v) => (v === undefined ? undefined : checked(v as Float32Array, v instanceof Float32Array && v.length === shape.dims, `a vector of ${shape.dims} dimensions`)))
  const table = await writer.stage(shape.dims, vectors)
  return { column: 'null as value', join: table }
}
