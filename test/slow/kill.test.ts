import { existsSync, rmSync } from 'node:fs'
import { expect, it } from 'vitest'
import { runKills, sessionsGone } from '../chaos/run-kill.ts'
import { ownDatabase } from '../support/own-database.ts'
import { pgliteFolder } from '../support/servers.ts'

const database = ownDatabase()

it('a PostgreSQL server withstands 12 kills', async (ctx) => {
  const uri = await database(ctx)
  await runKills(ctx, uri, 12, () => sessionsGone(uri))
})

it('a PGlite folder withstands 12 kills', async (ctx) => {
  const folder = pgliteFolder(ctx)
  ctx.onTestFinished(() => rmSync(`${folder}.lock`, { force: true }))
  await runKills(ctx, `pglite:${folder}`, 12, async () => { expect(existsSync(`${folder}.lock`), 'the lock of the dead process').toBe(true) })
})
