/** DuckDB, embedded in this process: a file by `duckdb:./app.duckdb`, or `duckdb::memory:`. */
import type { Connection, Plugin } from '../../core/contract.ts'
import { artifactStore } from './artifacts.ts'
import { DuckData } from './datalayer.ts'
import { classify } from './errors.ts'
import { connectDuck, fileOf } from './instance.ts'
import { openNamespace } from './schema.ts'
import { vectorSearch } from './vectors.ts'

const duckdb: Plugin = {
  name: 'duckdb',
  contract: 1,
  schemes: ['duckdb'],
  identify: (uri) => `duckdb:${fileOf(uri) ?? ':memory:'}`,
  async connect(uri, { namespace }, ctx) {
    const sql = await connectDuck(uri)
    try {
      const place = await openNamespace(sql, namespace, ctx.signal), data = new DuckData(place)
      return { server: sql.server, data, vectors: vectorSearch(data), artifacts: artifactStore(place), close: () => sql.close() } satisfies Connection
    } catch (error) {
      await sql.close().catch(() => {})
      throw error
    }
  },
  classify,
}
export default duckdb
