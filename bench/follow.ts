/** From a row that another program inserts by the plain driver to its output by a worker in another process: `follow.ts <uri> <rows>`. */
import { spawn } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { inlay, listener, model, step } from '../index.ts'

const [, , uri = '', countText = '200', role = 'measure', given = `bench_${process.pid}`] = process.argv
const count = Number(countText)
const length = listener({ model: model('length', { run: step('length@1', (texts: readonly string[]) => texts.map((t) => t.length)) }), on: 'docs', key: 'text' })

if (role === 'work') {
  const db = await inlay({ data: uri, namespace: given, config: false, log: {}, components: [length] }), stop = new AbortController()
  process.stdin.on('end', () => stop.abort()).resume()
  await db.work({ signal: stop.signal, onStatus: ({ leases }) => { if (leases > 0) console.log('up') } })
  await db.close()
  process.exit()
}

const db = await inlay({ data: uri, namespace: given, config: false, log: {}, outputs: 'worker' }), docs = db.collection<{ text: string }>('docs')
await docs.insert({ _id: 'first', text: 'x' })
await db.add(length)
const insert = await plainInsert(), worker = spawn(process.execPath, [import.meta.filename, uri, countText, 'work', given], { stdio: ['pipe', 'pipe', 'inherit'] })
await new Promise((resolve) => { worker.stdout.once('data', resolve) })
const path = '_outputs.text.length', times: number[] = []
while (await docs.find({ _id: 'first', [path]: { $exists: true } } as never).count() === 0) await sleep(20)
for (let i = 0; i < count; i++) {
  const start = performance.now()
  await insert(`r${i}`)
  while (await docs.find({ _id: `r${i}`, [path]: { $exists: true } } as never).count() === 0) if (performance.now() - start > 30_000) throw new Error('no output within 30 s')
  times.push(performance.now() - start)
}
worker.stdin.end()
await new Promise((resolve) => { worker.once('close', resolve) })
await db.remove('collection', 'docs', { force: true })
await db.close()
times.sort((a, b) => a - b)
const at = (share: number): number => Math.round(times[Math.min(times.length - 1, Math.floor(times.length * share))]! * 10) / 10
process.stdout.write(`${JSON.stringify({ case: `foreign insert to output, ${uri.slice(0, uri.indexOf(':'))}`, rows: count, medianMs: at(0.5), p90Ms: at(0.9), p99Ms: at(0.99), maxMs: at(1) })}\n`)
process.exit()

async function plainInsert(): Promise<(id: string) => Promise<unknown>> {
  if (uri.startsWith('mongodb')) {
    const { MongoClient } = await import('mongodb'), client = await MongoClient.connect(uri), named = new URL(uri).pathname.slice(1)
    const collection = named === '' ? client.db(given).collection<{ _id: string }>('docs') : client.db(named).collection<{ _id: string }>(`${given}.docs`)
    return (id) => collection.insertOne({ _id: id, text: `text ${id}` } as never)
  }
  const { default: pg } = await import('pg'), client = new pg.Client(uri)
  await client.connect()
  return (id) => client.query(`insert into "${given}".docs (_id, doc) values ($1, $2)`, [id, { text: `text ${id}` }])
}
