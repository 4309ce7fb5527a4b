import { it } from 'vitest'
import { ownDatabase } from '../support/own-database.ts'
import { mongodbUri } from '../support/servers.ts'
import { runChaos } from './run-chaos.ts'

const database = ownDatabase()

it('PostgreSQL: outputs are those of a clean computation after three workers, two writers and a foreign program worked on the same rows', async (ctx) => {
  await runChaos(ctx, await database(ctx), 8)
}, 90_000)

it('MongoDB: outputs are those of a clean computation after three workers, two writers and a foreign program worked on the same rows', async (ctx) => {
  await runChaos(ctx, mongodbUri(ctx), 8)
}, 90_000)
