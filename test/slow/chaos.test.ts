import { it } from 'vitest'
import { runChaos } from '../chaos/run-chaos.ts'
import { ownDatabase } from '../support/own-database.ts'
import { mongodbUri } from '../support/servers.ts'

const database = ownDatabase()

it('PostgreSQL: outputs are those of a clean computation after a minute of chaos', async (ctx) => {
  await runChaos(ctx, await database(ctx), 60)
})

it('MongoDB: outputs are those of a clean computation after a minute of chaos', async (ctx) => {
  await runChaos(ctx, mongodbUri(ctx), 60)
})
