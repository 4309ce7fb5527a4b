/** Kills on each database: of the process that works, and of the server under it. */
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import duckdb from '../../plugins/duckdb/index.ts'
import { live } from '../conformance/subject.ts'
import { startMongodb } from '../support/mongodb-server.ts'
import { ownDatabase } from '../support/own-database.ts'
import { mongodbUri, pgliteFolder } from '../support/servers.ts'
import { namespace, operationsGone, runKills, sessionsGone } from './run-kill.ts'

/** Declares the tests. */
export function kills(count: number, pgliteCount: number = count): void {
  const database = ownDatabase(), says = 'nothing acknowledged is lost, and running again ends in the state of a clean run', ms = 60_000 + count * 10_000

  it(`PostgreSQL, ${count} kills: ${says}`, async (ctx) => {
    const uri = await database(ctx)
    await runKills(ctx, uri, count, () => sessionsGone(uri))
  }, ms)

  it(`PGlite, ${pgliteCount} kills: ${says}`, async (ctx) => {
    const folder = pgliteFolder(ctx)
    ctx.onTestFinished(() => rmSync(`${folder}.lock`, { force: true }))
    await runKills(ctx, `pglite:${folder}`, pgliteCount, async () => { expect(existsSync(`${folder}.lock`), 'the lock of the dead process').toBe(true) })
  }, ms)

  it(`DuckDB, ${count} kills: ${says}`, async (ctx) => {
    const folder = mkdtempSync(join(tmpdir(), 'inlay-kill-')), uri = `duckdb:${folder}/app.duckdb`
    ctx.onTestFinished(() => rmSync(folder, { recursive: true }))
    await runKills(ctx, uri, count, async () => {
      // What a killed process leaves opens again, with its log.
      const { data, close } = await duckdb.connect!(uri, { namespace }, live)
      expect((await data!.list(live)).length).toBeGreaterThan(0)
      await close()
    })
  }, ms)

  it(`MongoDB, ${count} kills of the process: ${says}`, async (ctx) => {
    const uri = new URL(mongodbUri(ctx))
    uri.pathname = `/kill_${crypto.randomUUID().slice(0, 8)}`
    await runKills(ctx, uri.href, count, () => operationsGone(uri.href))
  }, ms)

  it(`MongoDB, ${count} kills of mongod: ${says}`, async (ctx) => {
    mongodbUri(ctx)                                                        // skips with the reason where there is no mongod
    const server = await startMongodb()
    ctx.onTestFinished(() => server.stop())
    await runKills(ctx, server.url, count, () => operationsGone(server.url), server)
  }, ms)
}
