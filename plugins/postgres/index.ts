/** Postgres with pgvector: a server by `postgres://user@host/database`, or embedded in this process by `pglite:./folder`. The same SQL, the same code. */
import type { Connection, Plugin } from '../../core/contract.ts'
import { identityOfUri } from '../../core/uri.ts'
import { artifactStore } from './artifacts.ts'
import { PostgresData } from './datalayer.ts'
import { connectEmbedded, folderOf } from './embedded.ts'
import { classify } from './errors.ts'
import { openNamespace } from './schema.ts'
import { connectServer } from './server.ts'
import { vectorSearch } from './vectors.ts'

const postgres: Plugin = {
  name: 'postgres',
  contract: 1,
  schemes: ['postgres', 'postgresql', 'pglite'],
  identify(uri) {
    if (uri.startsWith('pglite:')) return `pglite:${folderOf(uri) ?? ':memory:'}`
    return identityOfUri(uri.replace(/^postgres(ql)?:/i, 'postgres:'))
  },
  async connect(uri, { namespace }, ctx) {
    const sql = uri.startsWith('pglite:') ? await connectEmbedded(uri) : await connectServer(uri)
    try {
      const place = await openNamespace(sql, namespace, ctx.signal), data = new PostgresData(place)
      return {
        server: `${sql.server}${place.vectors === undefined ? '' : `, pgvector ${place.vectors.version}`}`, data, artifacts: artifactStore(place),
        ...(place.vectors === undefined ? {} : { vectors: vectorSearch(place.vectors.schema, data) }), close: () => sql.close(),
      } satisfies Connection
    } catch (error) {
      await sql.close().catch(() => {})
      throw error
    }
  },
  classify,
}
export default postgres
