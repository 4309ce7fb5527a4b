/** What goes to the driver and what comes from it. */
import type * as duckdb from '@duckdb/node-api'
import type { DuckDBConnection, DuckDBResult, DuckDBType, DuckDBValue } from '@duckdb/node-api'
import { InlayError } from '../../core/errors.ts'
import type { Cell, Param, Run, SqlRow } from './sql.ts'

export type Driver = typeof duckdb

export function loadDriver(): Promise<Driver> {
  return import('@duckdb/node-api').catch((cause: unknown) => {
    throw new InlayError('DRIVER_MISSING', 'The driver "@duckdb/node-api" is not installed, which "duckdb:" needs. Install it with "npm install @duckdb/node-api".', { cause })
  })
}

/** Runs statements on a connection, one after the other. */
export function runner(driver: Driver, connection: DuckDBConnection): Run {
  return async (text, params = []) => {
    const bound = params.map((param) => bind(driver, param))
    return rowsOf(driver, await connection.run(text, bound.map(([value]) => value), bound.map(([, type]) => type)))
  }
}

/** Vectors go in by the memory of their column: as lists of values they would take 80 times as long, and 16 GB for 100,000. */
export async function stage(driver: Driver, writer: DuckDBConnection, run: Run, dims: number, vectors: readonly (Float32Array | undefined)[]): Promise<string> {
  await run(`create or replace temp table _vectors (n int, v float[${dims}])`)
  const appender = await writer.createAppender('_vectors', 'main', 'temp'), rows = driver.DuckDBVector.standardSize()
  try {
    for (let from = 0; from < vectors.length; from += rows) {
      const part = vectors.slice(from, from + rows), chunk = driver.DuckDBDataChunk.create([driver.INTEGER, driver.ARRAY(driver.FLOAT, dims)], part.length)
      chunk.setColumnValues(0, part.map((_, i) => from + i + 1))
      const column = chunk.getColumnVector(1) as unknown as ArrayColumn
      for (const [i, vector] of part.entries()) {
        if (vector === undefined) column.setItem(i, null)
        else column.childData.items.set(vector, i * dims)
      }
      column.flush()
      appender.appendDataChunk(chunk)
    }
    appender.flushSync()
  } finally {
    appender.closeSync()
  }
  return 'temp.main._vectors'
}

/** What the driver's column of arrays has besides its declared members. */
interface ArrayColumn {
  readonly childData: { readonly items: Float32Array }
  readonly validity: { itemValid(index: number): boolean }
  setItem(index: number, value: null): void
  flush(): void
}

function bind(driver: Driver, param: Param): readonly [DuckDBValue, DuckDBType] {
  const { LIST, VARCHAR, BLOB, INTEGER, DOUBLE, BOOLEAN, listValue, blobValue } = driver
  if (typeof param === 'string') return [param, VARCHAR]
  if (param instanceof Uint8Array) return [blobValue(param), BLOB]
  if (!('items' in param)) return [listValue(param), LIST(VARCHAR)]
  const type = { integer: INTEGER, double: DOUBLE, boolean: BOOLEAN, blob: BLOB }[param.type]
  return [listValue(param.items.map((item) => (item instanceof Uint8Array ? blobValue(item) : item))), LIST(type)]
}

async function rowsOf(driver: Driver, result: DuckDBResult): Promise<readonly SqlRow[]> {
  const names = result.columnNames(), types = result.columnTypes(), rows: Record<string, Cell>[] = []
  for (const chunk of await result.fetchAllChunks()) {
    const from = rows.length
    for (let r = 0; r < chunk.rowCount; r++) rows.push({})
    for (const [c, column] of names.entries()) {
      const type = types[c]!
      if (type instanceof driver.DuckDBArrayType && type.valueType === driver.FLOAT) {
        const { childData, validity } = chunk.getColumnVector(c) as unknown as ArrayColumn, { length } = type
        for (let r = 0; r < chunk.rowCount; r++) rows[from + r]![column] = validity.itemValid(r) ? childData.items.slice(r * length, (r + 1) * length) : null
      } else {
        for (const [r, value] of chunk.getColumnValues(c).entries()) rows[from + r]![column] = typeof value === 'object' && value !== null ? cellOf(driver, value, type) : value
      }
    }
  }
  return rows
}

function cellOf(driver: Driver, value: DuckDBValue, type: DuckDBType): Cell {
  if (value instanceof driver.DuckDBBlobValue) return Uint8Array.from(value.bytes)
  if (value instanceof driver.DuckDBListValue) return value.items.map((item) => cellOf(driver, item, (type as { readonly valueType: DuckDBType }).valueType))
  if (value instanceof driver.DuckDBArrayValue) {
    const { valueType } = type as { readonly valueType: DuckDBType }
    return valueType === driver.FLOAT && !value.items.includes(null) ? Float32Array.from(value.items as readonly number[]) : value.items.map((item) => cellOf(driver, item, valueType))
  }
  return value
}
