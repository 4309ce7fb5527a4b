/** Exact search of the ten nearest with their rows, against the raw SQL on the same tables. */
import { inlay, vectorIndex } from '../index.ts'
import { byHand, spec } from './models.ts'
import { benchServer } from './server.ts'
import { texts } from './texts.ts'

const [, , countText = '50000', queriesText = '40'] = process.argv
const count = Number(countText), queries = [...texts(Number(queriesText), 7)]
const server = await benchServer()
const db = await inlay({ data: server.url, namespace: server.namespace, config: false })
const docs = db.collection<{ text: string }>('docs'), embed = await db.add(spec('static'))
const listener = await embed.listen(docs.find(), 'text'), index = await db.add(vectorIndex('near', { indexing: listener }))
await docs.insert((async function* () { for (const text of texts(count)) yield { text } })())
const { rows: [{ name: slot }] } = await server.pool.query(`select name from ${server.namespace}._meta where kind = 'slot'`) as unknown as { rows: [{ name: string }] }
const infer = await byHand('static')
const times: { ours: number; sql: number }[] = []
for (const text of queries) {
  let start = performance.now()
  const hits = await docs.find().like({ text }, index).toArray()
  const ours = performance.now() - start
  start = performance.now()
  const vector = await infer([text])
  const { rows } = await server.pool.query(`select d._id, d.doc, o.value <=> $1 as distance from ${server.namespace}."${slot}" o join ${server.namespace}.docs d on d._id = o.key order by distance, d._id limit 10`, [`[${vector.join(',')}]`]) as { rows: { _id: string }[] }
  times.push({ ours, sql: performance.now() - start })
  if (rows.map((r) => r._id).join() !== hits.map((h) => h._id).join()) throw new Error(`Other hits for ${text}.`)
}
await db.close()
await server.stop()
const median = (list: readonly number[]): number => [...list].sort((a, b) => a - b)[list.length >> 1]!
process.stdout.write(`${JSON.stringify({ case: 'exact search, ten nearest', rows: count, oursMs: Number(median(times.map((t) => t.ours)).toFixed(1)), sqlMs: Number(median(times.map((t) => t.sql)).toFixed(1)), ratio: Number(median(times.map((t) => t.sql / t.ours)).toFixed(2)) })}\n`)
process.exit()
