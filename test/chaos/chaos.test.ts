import { it } from 'vitest'
import { ownDatabase } from '../support/own-database.ts'
import { runChaos } from './run-chaos.ts'

const database = ownDatabase()

it('outputs are those of a clean computation after three reconcilers, two writers and a foreign program worked on the same rows', async (ctx) => {
  await runChaos(ctx, await database(ctx), 8)
}, 60_000)
