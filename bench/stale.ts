/** Looking for something to do where there is nothing, and an update of 100 rows: `stale.ts <uri> <rows>`. Through the contract, rows of some 100 bytes, one listener settled. */
import { inlay, listener, model, step, type Inlay } from '../index.ts'

const [, , uri = 'duckdb::memory:', countText = '1000000'] = process.argv
const count = Number(countText), namespace = `bench_${process.pid}`, pause = 'x'.repeat(60)
let called = 0
const length = listener({ model: model('length', { run: step('length@1', (texts: readonly string[]) => { called += texts.length; return texts.map((t) => t.length) }) }), on: 'docs', key: 'text' })
const db = await inlay({ data: uri, namespace, config: false, log: {}, outputs: 'inline' })
const docs = db.collection<{ text: string; n: number }>('docs')
async function* rows(): AsyncIterable<{ _id: string; text: string; n: number }> {
  for (let i = 0; i < count; i++) yield { _id: `k${String(i).padStart(9, '0')}`, text: `${i} ${pause}`, n: i }
}
const timed = async (work: () => Promise<unknown>): Promise<number> => {
  const start = performance.now()
  await work()
  return Math.round(performance.now() - start)
}
const insertMs = await timed(() => docs.insert(rows())), backfillMs = await timed(() => db.add(length))
const { core } = db as unknown as { core: { data: { rows(slot: unknown, which: 'stale', keys: 'all', ctx: { signal: AbortSignal }): AsyncIterable<readonly unknown[]> }; listeners: { get(name: string): { target: { slot: unknown } } } } }
const scan = async (): Promise<void> => {
  let found = 0
  for await (const page of core.data.rows(core.listeners.get('text_length').target.slot, 'stale', 'all', { signal: new AbortController().signal })) found += page.length
  if (found > 0) throw new Error(`${found} rows are stale.`)
}
await scan()
const scans = [await timed(scan), await timed(scan), await timed(scan)].sort((a, b) => a - b)
called = 0
const ids = Array.from({ length: 100 }, (_, i) => `k${String(i * Math.floor(count / 100)).padStart(9, '0')}`)
const updateMs = await timed(async () => {
  const { ids: done } = await docs.update({ _id: { $in: ids } }, { $set: { text: 'changed' } })
  if (done.length !== 100 || called !== 100) throw new Error(`${done.length} rows and ${called} model inputs of 100`)
})
const verifyMs = await timed(() => (db as Inlay).verify())
await db.remove('collection', 'docs', { force: true })
await db.close()
process.stdout.write(`${JSON.stringify({ case: `stale scan, ${uri.slice(0, uri.indexOf(':'))}`, rows: count, insertPerSecond: Math.round(count / insertMs * 1000), backfillPerSecond: Math.round(count / backfillMs * 1000), nothingToDoMs: scans[1], updateOf100Ms: updateMs, modelInputsOfIt: 100, verifyMs, peakMB: Math.round(process.resourceUsage().maxRSS / 1024) })}\n`)
process.exit()
