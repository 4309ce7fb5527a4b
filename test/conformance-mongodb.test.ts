import { inject, it } from 'vitest'
import mongodb from '../plugins/mongodb/index.ts'
import { conformance } from './conformance/index.ts'
import { mongodbForeign } from './support/mongodb-foreign.ts'
import { directUri } from './support/servers.ts'

const server = inject('mongodb')

if ('at' in server) {
  // Not by the names that the members of the set give for themselves: the suite cuts connections by a proxy.
  conformance(mongodb, { uri: directUri(server.at, 'inlay_conformance'), name: server.server, foreign: mongodbForeign })
  conformance(mongodb, { uri: directUri(server.at), name: `${server.server}, the namespace as database`, areas: ['lifecycle', 'rows', 'slots'] })
} else it('MongoDB conforms', (ctx) => ctx.skip(`MongoDB: ${server.absent}`))
