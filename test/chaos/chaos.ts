/**
 * One of the processes of a run of chaos: `node chaos.ts <role> <uri> <namespace> <seed>`. It says "up", works until its input is closed, closes what it
 * opened, and says what it counted as JSON. Any error that its role does not allow ends it with a stack.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { Client } from 'pg'
import { inlay, InlayError, type Changed, type Inlay } from '../../index.ts'
import { random } from '../conformance/random.ts'
import { collection, listeners, poison, type Doc } from './listeners.ts'

/** What a process did. `settleRefused`: rows that moved while the model ran. `deadlocks`: as the driver saw them, before they were retried. */
export interface Counts { writes: number; rows: number; refused: number; conflicts: number; modelCalls: number; modelRows: number; settleRefused: number; deadlocks: number; verifies: number }

const [role = '', uri = '', namespace = '', seed = ''] = process.argv.slice(2)
const r = random(Number(seed))
const counts: Counts = { writes: 0, rows: 0, refused: 0, conflicts: 0, modelCalls: 0, modelRows: 0, settleRefused: 0, deadlocks: 0, verifies: 0 }
const stopping = { now: false }
process.stdin.on('end', () => { stopping.now = true }).resume()

const keys = Array.from({ length: 200 }, (_, i) => `k${i}`)
const some = (most: number): string[] => [...new Set(Array.from({ length: 1 + r.below(most) }, () => r.pick(keys)))]
const doc = (): Doc => ({
  ...(r.below(8) === 0 ? {} : { x: r.below(8) === 0 ? null : r.below(30) === 0 ? poison : r.below(1000) }),
  ...(r.below(5) === 0 ? {} : { y: r.below(9) }), ...(r.below(5) === 0 ? {} : { n: r.below(100) }),
  ...(r.below(3) === 0 ? {} : { t: 'abcdefgh'.slice(r.below(8)) }), ...(r.below(2) === 0 ? {} : { tags: Array.from({ length: r.below(4) }, () => 'tag') }),
})
const isDeadlock = (error: unknown): boolean => (error as { readonly code?: unknown }).code === '40P01'

/** An Inlay whose models take their time, and whose traffic with the database is counted below the guard. */
function open(outputs: 'inline' | 'worker'): Promise<Inlay> {
  const specs = listeners(async (rows) => {
    counts.modelCalls++
    counts.modelRows += rows
    await sleep(r.below(25))
  })
  return inlay({
    data: uri, namespace, outputs, components: specs, config: false,
    middleware: [{
      name: 'counting',
      data: (next) => ({
        ...next,
        async write(...args) { return next.write(...args).catch(count) },
        async prune(...args) { return next.prune(...args).catch(count) },
        async settle(...args) {
          const refused = await next.settle(...args).catch(count)
          counts.settleRefused += refused.length
          return refused
        },
      }),
    }],
  })
}
function count(error: unknown): never {
  if (isDeadlock(error)) counts.deadlocks++
  throw error
}

/** Rows that kept being changed, or locked in a circle, by others: the call may be repeated. Any other error ends the process. */
function conflict(error: unknown): void {
  if (!InlayError.is(error) || error.code !== 'CONFLICT' || !error.retryable) throw error
  counts.conflicts++
}

/** Finds what the writes of others left to do, and does it. */
async function reconciler(): Promise<void> {
  const db = await open('inline')
  console.log('up')
  while (!stopping.now) {
    try {
      await db.verify({ repair: true, deep: r.below(10) === 0 })
      counts.verifies++
    } catch (error) {
      conflict(error)
    }
    await sleep(r.below(30))
  }
  await db.close()
}

/** Writes through the public API. */
async function writer(outputs: 'inline' | 'worker'): Promise<void> {
  const db = await open(outputs), docs = db.collection<Doc>(collection)
  console.log('up')
  const change = (): Promise<Changed> => {
    switch (r.below(10)) {
      case 0: case 1: case 2: return docs.insert(some(8).map((_id) => ({ _id, ...doc() })))
      case 3: return docs.delete({ _id: { $in: some(3) } })
      case 4: return docs.replace(r.pick(keys), doc())
      case 5: return docs.update({ n: { $lt: 10 } }, { $inc: { n: 45 } })
      case 6: return docs.update({ _id: { $in: some(20) } }, { $inc: { n: 7 } })
      case 7: return docs.update({ _id: { $in: some(5) } }, { $unset: { x: true } })
      default: return docs.update({ _id: { $in: some(10) } }, { $set: doc() as Required<Doc> })
    }
  }
  while (!stopping.now) {
    try {
      const { ids, refused } = await change()
      counts.rows += ids.length
      counts.refused += refused.length
      const strange = refused.find(({ code }) => code !== 'ALREADY_EXISTS' && code !== 'NOT_FOUND')
      if (strange !== undefined) throw new Error(`Refused: ${JSON.stringify(strange)}`)
    } catch (error) {
      conflict(error)
    }
    counts.writes++
    await sleep(r.below(8))
  }
  await db.close()
}

/** Writes by plain SQL, alone and in transactions, and knows nothing of revs. */
async function foreign(): Promise<void> {
  const client = new Client({ connectionString: uri }), table = `"${namespace}"."${collection}"`
  await client.connect()
  console.log('up')
  const change = (): Promise<{ rowCount: number | null }> => {
    const key = r.pick(keys)
    switch (r.below(8)) {
      case 0: return client.query(`delete from ${table} where _id = $1`, [key])
      case 1: return client.query(`insert into ${table} (_id, doc) values ($1, $2) on conflict do nothing`, [key, doc()])
      case 2: return client.query(`update ${table} set doc = $2 where _id = $1`, [key, doc()])
      case 3: return client.query(`update ${table} set doc = doc where _id = $1`, [key])
      case 4: return client.query(`update ${table} set doc = jsonb_set(doc, '{n}', to_jsonb($1::int)) where (doc ->> 'n')::int < 5`, [r.below(100)])
      default: return client.query(`update ${table} set doc = doc || $2 where _id = any($1::text[])`, [some(6), doc()])
    }
  }
  while (!stopping.now) {
    try {
      if (r.below(3) > 0) counts.rows += (await change()).rowCount ?? 0
      else {
        await client.query('begin')
        let rows = 0
        for (let i = 0; i < 3; i++) {
          rows += (await change()).rowCount ?? 0
          await sleep(r.below(10))
        }
        const commit = r.below(4) > 0
        await client.query(commit ? 'commit' : 'rollback')
        if (commit) counts.rows += rows
      }
      counts.writes++
    } catch (error) {
      if (!isDeadlock(error)) throw error
      counts.deadlocks++
      await client.query('rollback')
    }
    await sleep(r.below(6))
  }
  await client.end()
}

const roles: Readonly<Record<string, () => Promise<void>>> = { reconciler, foreign, inline: () => writer('inline'), worker: () => writer('worker') }
await roles[role]!()
console.log(JSON.stringify(counts))
