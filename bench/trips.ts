/** Round trips of one insert, counted by a middleware: one for the rows and one per listener. */
import { intercept } from '../core/plugin.ts'
import { inlay, model, step, type Middleware } from '../index.ts'
import { benchServer } from './server.ts'

const server = await benchServer()
let calls: string[] = []
const counter: Middleware = { name: 'count', data: (next) => intercept(next, async (method, call) => { calls.push(method); return call() }) }
const db = await inlay({ data: server.url, namespace: server.namespace, config: false, middleware: [counter] })
const docs = db.collection<{ text: string }>('docs')
const trips: Record<string, string> = {}
for (let listeners = 0; listeners <= 3; listeners++) {
  if (listeners > 0) await (await db.add(model<string, number>(`length${listeners}`, { run: step('length@1', (all: readonly string[]) => all.map((text) => text.length)) }))).listen(docs.find(), 'text')
  await docs.insert({ text: 'first' })
  calls = []
  await docs.insert(Array.from({ length: 100 }, (_, i) => ({ text: `row ${i}` })))
  trips[`${listeners} listeners`] = calls.join(' + ')
  if (calls.length !== 1 + listeners) throw new Error(`${calls.length} round trips with ${listeners} listeners: ${calls.join(', ')}`)
}
await db.close()
await server.stop()
process.stdout.write(`${JSON.stringify({ case: 'round trips of an insert of 100 rows', ...trips })}\n`)
process.exit()
