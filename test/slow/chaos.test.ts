import { it } from 'vitest'
import { runChaos } from '../chaos/run-chaos.ts'
import { ownDatabase } from '../support/own-database.ts'

const database = ownDatabase()

it('outputs are those of a clean computation after a minute of chaos', async (ctx) => {
  await runChaos(ctx, await database(ctx), 60)
})
