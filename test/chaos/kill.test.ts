import { existsSync, rmSync } from 'node:fs'
import { expect, it } from 'vitest'
import { ownDatabase } from '../support/own-database.ts'
import { pgliteFolder } from '../support/servers.ts'
import { runKills, sessionsGone } from './run-kill.ts'

const database = ownDatabase()

it('a PostgreSQL server: killed processes lose nothing acknowledged, and running again ends in the state of a clean run', async (ctx) => {
  const uri = await database(ctx)
  await runKills(ctx, uri, 3, () => sessionsGone(uri))
}, 60_000)

it('a PGlite folder: killed processes lose nothing acknowledged, and running again ends in the state of a clean run', async (ctx) => {
  const folder = pgliteFolder(ctx)
  ctx.onTestFinished(() => rmSync(`${folder}.lock`, { force: true }))
  await runKills(ctx, `pglite:${folder}`, 3, async () => { expect(existsSync(`${folder}.lock`), 'the lock of the dead process').toBe(true) })
}, 60_000)
