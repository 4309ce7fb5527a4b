/**
 * One of the processes of a run of chaos: `node chaos.ts <role> <uri> <namespace> <seed>`. It says "up", works until its input is closed, closes what it
 * opened, and says what it counted as JSON. Any error that its role does not allow ends it with a stack.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { inlay, InlayError, type Changed, type Inlay } from '../../index.ts'
import { random } from '../conformance/random.ts'
import { connectForeign } from './foreign.ts'
import { collection, listeners, poison, type Doc } from './listeners.ts'

/** What a process did. `settleRefused`: rows that moved while the model ran. `deadlocks`: as the driver saw them, before they were retried, and transactions of others that were rolled back. */
export interface Counts { writes: number; rows: number; refused: number; conflicts: number; modelCalls: number; modelRows: number; settleRefused: number; deadlocks: number; worked: number }

const [role = '', uri = '', namespace = '', seed = ''] = process.argv.slice(2)
const r = random(Number(seed))
const counts: Counts = { writes: 0, rows: 0, refused: 0, conflicts: 0, modelCalls: 0, modelRows: 0, settleRefused: 0, deadlocks: 0, worked: 0 }
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

/** Computes what the writes of others left to do. */
async function worker(): Promise<void> {
  const db = await open('inline'), stop = new AbortController()
  process.stdin.on('end', () => stop.abort())
  console.log('up')
  const { done, failed } = await db.work({ signal: stop.signal })
  counts.worked = done + failed
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

async function foreign(): Promise<void> {
  const other = await connectForeign(uri, namespace, { r, keys, some, doc })
  console.log('up')
  while (!stopping.now) {
    const rows = await other.write()
    if (rows === undefined) counts.deadlocks++
    else {
      counts.writes++
      counts.rows += rows
    }
    await sleep(r.below(6))
  }
  await other.close()
}

const roles: Readonly<Record<string, () => Promise<void>>> = { worker, foreign, inline: () => writer('inline'), leaves: () => writer('worker') }
await roles[role]!()
console.log(JSON.stringify(counts))
