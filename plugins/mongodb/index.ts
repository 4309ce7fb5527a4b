/**
 * MongoDB by `mongodb://…` or `mongodb+srv://…`. In the database that the URI names, collections are `<namespace>.<collection>`; where it names none, the namespace is the database.
 * A replica set, also one of a single server, has change streams; a standalone server works, and its notes say what is missing.
 */
import type { Connection, Plugin } from '../../core/contract.ts'
import { artifactStore } from './artifacts.ts'
import { connectServer } from './client.ts'
import { MongodbData } from './datalayer.ts'
import { classify } from './errors.ts'
import { openNamespace } from './schema.ts'

const mongodb: Plugin = {
  name: 'mongodb',
  contract: 1,
  schemes: ['mongodb', 'mongodb+srv'],
  async connect(uri, { namespace }, ctx) {
    const server = await connectServer(uri)
    try {
      const place = await openNamespace(server, uri, namespace, ctx)
      return { server: server.name, data: new MongodbData(place), artifacts: await artifactStore(place), close: server.close } satisfies Connection
    } catch (error) {
      await server.close().catch(() => {})
      throw error
    }
  },
  classify,
}
export default mongodb
