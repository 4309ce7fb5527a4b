/** Runs a process that writes, kills it at random points, and compares what is left with what it said. */
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, type TestContext } from 'vitest'
import { inlay } from '../../index.ts'
import { random } from '../conformance/random.ts'
import { startChild } from '../support/child.ts'
import { runSql } from '../support/own-database.ts'
import { collection, docOf, outputsOf, specs, type Doc, type Said } from './kill.ts'

export const namespace = 'kill'
const program = join(import.meta.dirname, 'kill.ts')

/** What a row may be: the `v` of its last acknowledged write, and those of writes after it that were under way when their process died. */
type Possible = Map<string, Set<number | null>>

/** Kills `lives` processes one after the other, each 40 to 600 ms after it was up, the first after a write. `killed` runs after each. With `server`, that is killed and started again before, under the process. */
export async function runKills(ctx: TestContext, uri: string, lives: number, killed: () => Promise<void>, server?: { kill(): Promise<void> }): Promise<void> {
  const seed = Number(process.env.INLAY_TEST_SEED ?? Date.now() % 1_000_000), r = random(seed), possible: Possible = new Map(), total = { acknowledged: 0, underWay: 0 }
  for (let life = 0; life < lives; life++) {
    const child = startChild(ctx, program, [uri, namespace, String(seed), String(life), ...(server === undefined ? [] : ['server'])])
    await child.said(life === 0 ? 'wrote' : 'up')                                                // on a busy machine no life else may come to a write
    await Promise.race([sleep(40 + r.below(560)), child.said('never')])                          // a process that ends by itself throws
    if (server !== undefined) {
      await Promise.race([server.kill(), child.said('never')])
      await Promise.race([sleep(200 + r.below(300)), child.said('never')])                       // it goes on by itself
    }
    await child.kill()
    await killed()
    note(possible, child.lines, total)
  }
  const db = await inlay({ data: uri, namespace, components: specs, config: false, log: {} })
  try {
    const before = await db.verify({ deep: true })
    await db.verify({ repair: true, graceMs: 0, removeArtifacts: true })
    const rows = await db.collection<Doc>(collection).find().toArray(), byId = new Map(rows.map((row) => [row._id, row]))
    console.log(`kill: seed ${seed}, ${JSON.stringify({ server: uri.split(':')[0], kills: lives, ...total, rows: rows.length, leftByKills: { missing: before.missing, stale: before.stale, orphaned: before.orphaned, artifacts: before.artifacts.unreferenced } })}`)
    expect(before.artifacts.missing, 'artifacts that rows refer to').toBe(0)
    const lost = [...possible].filter(([id, states]) => !states.has(byId.get(id)?.v ?? null)).map(([id, states]) => `${id} is ${byId.get(id)?.v ?? 'not there'}; possible: ${[...states].join(', ')}`)
    expect(lost, 'rows that are not as acknowledged').toEqual([])
    expect(rows.filter((row) => !possible.has(row._id)).map((row) => row._id), 'rows that nobody wrote').toEqual([])
    for (const { _id, _fold, _outputs, ...doc } of rows) {
      expect(doc, `row ${_id} is whole`).toEqual(docOf(doc.v))
      expect(_outputs, `outputs of row ${_id}`).toEqual(outputsOf(doc.v))
    }
    const health = await db.verify({ deep: true })
    expect(health).toMatchObject({ ok: true, missing: 0, stale: 0, orphaned: 0, failed: 0, artifacts: { missing: 0, unreferenced: 0 } })
    expect(total.acknowledged).toBeGreaterThan(0)
  } finally {
    await db.close()
  }
}

/** Awaits that mongod has ended what was under way for a process that was killed. */
export async function operationsGone(uri: string): Promise<void> {
  const { MongoClient } = await import('mongodb'), client = await MongoClient.connect(uri, { appName: 'test' })
  try {
    for (let tries = 0; ; tries++) {
      // Other tests use the same server.
      const database = new URL(uri).pathname.slice(1), { inprog } = await client.db('admin').command({ currentOp: 1, active: true, appName: 'inlay', ...(database === '' ? {} : { ns: { $regex: `^${database}\\.` } }) }) as unknown as { inprog: readonly unknown[] }
      if (inprog.length === 0) return
      if (tries === 400) throw new Error(`${inprog.length} operations of a killed process are still under way.`)
      await sleep(25)
    }
  } finally {
    await client.close()
  }
}

/** Awaits that the server has ended all sessions of Inlay: a statement that was under way when its client was killed may still commit. */
export async function sessionsGone(uri: string): Promise<void> {
  for (let tries = 0; ; tries++) {
    const [found] = await runSql<{ n: string }>(uri, `select count(*) as n from pg_stat_activity where datname = current_database() and application_name like 'inlay%'`)
    if (found!.n === '0') return
    if (tries === 200) throw new Error(`${found!.n} sessions of a killed process are still there.`)
    await sleep(25)
  }
}

function note(possible: Possible, lines: readonly string[], total: { acknowledged: number; underWay: number }): void {
  const open = new Map<string, readonly Said[]>()
  for (const line of lines) {
    const said = line.slice(4)
    if (line.startsWith('try ')) open.set(said, JSON.parse(said) as readonly Said[])
    else if (line.startsWith('ack ')) {
      for (const { id, v } of open.get(said)!) possible.set(id, new Set([v]))
      total.acknowledged += open.get(said)!.length
      open.delete(said)
    }
  }
  for (const { id, v } of [...open.values()].flat()) {
    possible.set(id, new Set([...possible.get(id) ?? [null], v]))
    total.underWay++
  }
}
