/** A run of chaos: processes that write and work on the same rows at once, then quiet, then every row compared with a clean computation. */
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, type TestContext } from 'vitest'
import { inlay } from '../../index.ts'
import { startChild } from '../support/child.ts'
import { runSql } from '../support/own-database.ts'
import type { Counts } from './chaos.ts'
import { collection, listeners, outputsOf, poison, type Doc } from './listeners.ts'

const program = join(import.meta.dirname, 'chaos.ts')
const roles = ['worker', 'worker', 'worker', 'inline', 'leaves', 'foreign']
const workers = 3
const drainMs = 30_000

/** Runs chaos for some seconds in a database of its own. `INLAY_TEST_SEED` gives the operations of an earlier run again, though not their interleaving. */
export async function runChaos(ctx: TestContext, uri: string, seconds: number): Promise<void> {
  const seed = Number(process.env.INLAY_TEST_SEED ?? Date.now() % 1_000_000), namespace = `chaos_${seed}`
  console.log(`chaos: ${uri.slice(0, uri.indexOf(':'))}, seed ${seed}, ${seconds} s`)
  // Those that open Inlay do so at once, in a database that has nothing yet.
  const start = (role: string, i: number): ReturnType<typeof startChild> => startChild(ctx, program, [role, uri, namespace, String(seed + i)])
  const children = roles.slice(0, -1).map(start)
  await Promise.all(children.map((child) => child.said('up')))
  children.push(start(roles.at(-1)!, roles.length - 1))
  await Promise.race([sleep(seconds * 1000), ...children.map((child) => child.said('never'))])       // a process that ends early throws
  await Promise.all(children.slice(workers).map((child) => child.stop()))
  // In the quiet the workers end what there is to do, without anybody's help.
  const db = await inlay({ data: uri, namespace, outputs: 'worker', components: listeners(async () => {}), config: false, log: {} })   // vitest's transform gives the steps another text, which would be warned of
  const quiet = performance.now()
  let left = await db.verify()
  while (left.missing + left.stale > 0 && performance.now() - quiet < drainMs) {
    await sleep(100)
    left = await db.verify()
  }
  const drained = Math.round(performance.now() - quiet)
  await Promise.all(children.slice(0, workers).map((child) => child.stop()))
  const counted = children.map((child) => JSON.parse(child.lines.at(-1)!) as Counts)
  const sum = (of: (c: Counts) => number): number => counted.reduce((all, c) => all + of(c), 0)
  try {
    expect({ missing: left.missing, stale: left.stale }, `after ${drained} ms of quiet`).toEqual({ missing: 0, stale: 0 })
    await db.verify({ repair: true })
    const rows = await db.collection<Doc>(collection).find().toArray()
    const wrong = rows.filter(({ _id, _fold, _outputs, ...doc }) => !sameOutputs(_outputs, outputsOf(doc)))
    const health = await db.verify({ deep: true })
    console.log(`chaos: ${JSON.stringify({
      rows: rows.length, writes: sum((c) => c.writes), rowsWritten: sum((c) => c.rows), refused: sum((c) => c.refused), conflicts: sum((c) => c.conflicts), worked: sum((c) => c.worked), modelCalls: sum((c) => c.modelCalls), modelRows: sum((c) => c.modelRows),
      settleRefused: sum((c) => c.settleRefused), deadlocks: sum((c) => c.deadlocks), ofThemForeign: counted.at(-1)!.deadlocks, drainedMs: drained, orphansOfDeletes: left.orphaned,
    })}`)
    expect(wrong.slice(0, 3).map((row) => ({ row, expected: outputsOf(row) })), `${wrong.length} of ${rows.length} rows have wrong, missing or superfluous outputs`).toEqual([])
    expect(await rawFaults(uri, namespace)).toEqual([])
    const failing = rows.filter((row) => row.x === poison).length
    expect(health.listeners.map(({ name, missing, stale, orphaned, failed }) => ({ name, missing, stale, orphaned, failed })))
      .toEqual(['x_tenfold', 'sum', 't_embed', 't_embed_total', 'y_twice'].map((name) => ({ name, missing: 0, stale: 0, orphaned: 0, failed: name === 'x_tenfold' ? failing : 0 })).sort(byNameAs(health.listeners)))
    expect(rows.length).toBeGreaterThan(20)
    expect(Math.min(...counted.slice(0, workers).map((c) => c.worked)), 'every worker worked').toBeGreaterThan(0)
    expect(sum((c) => c.settleRefused), 'rows moved while models ran').toBeGreaterThan(0)
  } finally {
    await db.close()
  }
}

function sameOutputs(actual: unknown, expected: unknown): boolean {
  try {
    expect(actual).toEqual(expected)
    return true
  } catch {
    return false
  }
}
function byNameAs(order: readonly { readonly name: string }[]): (a: { readonly name: string }, b: { readonly name: string }) => number {
  const at = (name: string): number => order.findIndex((o) => o.name === name)
  return (a, b) => at(a.name) - at(b.name)
}

/** What the database itself shows: outputs without a row, two for one row, and marks of another rev than the row's. */
export async function rawFaults(uri: string, namespace: string): Promise<string[]> {
  return uri.startsWith('mongodb') ? documentFaults(uri, namespace) : tableFaults(uri, namespace)
}
/** Values in side collections that no mark names, and marks whose values are not there. */
async function documentFaults(uri: string, namespace: string): Promise<string[]> {
  const { MongoClient } = await import('mongodb'), client = await new MongoClient(uri).connect(), db = client.db(namespace), faults: string[] = []
  try {
    const rows = await db.collection<{ _id: unknown }>(collection).find().toArray() as unknown as { _id: string; _marks?: Record<string, { gen?: { toHexString(): string }; n?: number }> }[]
    for (const { name } of (await db.listCollections().toArray()).filter((c) => c.name.startsWith('s_'))) {
      const found = (await db.collection(name).find({}, { projection: { _id: 1 } }).toArray()).map(({ _id }) => `${String((_id as unknown as { k: string }).k)} ${String((_id as unknown as { g: unknown }).g)} ${String((_id as unknown as { o: number }).o)}`).sort()
      const named = rows.flatMap(({ _id, _marks }) => { const mark = _marks?.[name]; return mark?.gen === undefined ? [] : Array.from({ length: mark.n ?? 0 }, (_, o) => `${_id} ${String(mark.gen)} ${o}`) }).sort()
      const orphans = found.filter((f) => !named.includes(f)), dangling = named.filter((f) => !found.includes(f))
      if (orphans.length + dangling.length > 0) faults.push(`${name}: ${orphans.length} values that nothing names, ${dangling.length} names of nothing`)
    }
  } finally {
    await client.close()
  }
  return faults
}
async function tableFaults(uri: string, namespace: string): Promise<string[]> {
  const slots = await runSql<{ name: string; collection: string }>(uri, `select name, spec ->> 'collection' as collection from "${namespace}"._meta where kind = 'slot'`)
  expect(slots.length).toBeGreaterThan(0)
  const faults: string[] = []
  for (const slot of slots) {
    const [found] = await runSql<{ orphans: string; doubled: string; stale: string }>(uri, `select count(*) filter (where d._id is null) as orphans, count(*) - count(distinct o.key) as doubled, count(*) filter (where split_part(o.rev, '|', 1) <> d._rev::text) as stale
      from "${namespace}"."${slot.name}" o left join "${namespace}"."${slot.collection}" d on d._id = o.key`)
    if (Object.values(found!).some((n) => n !== '0')) faults.push(`${slot.name}: ${JSON.stringify(found)}`)
  }
  return faults
}
