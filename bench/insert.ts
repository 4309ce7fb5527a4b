/** Insert with a listener, against a hand-written loop over `pg` and onnxruntime-node on the same work: insert, infer, `update … from unnest`, one after the other. */
import { intercept } from '../core/plugin.ts'
import { inlay, type Middleware } from '../index.ts'
import { byHand, dims, spec, type ModelName } from './models.ts'
import { benchServer } from './server.ts'
import { texts } from './texts.ts'

const [, , name = 'static', countText = '20000', chunkText = '500', roundsText = '3'] = process.argv
const count = Number(countText), chunk = Number(chunkText), rounds = Number(roundsText), model = name as ModelName
const server = await benchServer(), { pool, namespace } = server
const infer = await byHand(model)
await infer(['warm up'])

const spent: Record<string, number> = {}
/** Time in each call of the contract; two chunks are in flight, so the sum is more than the whole. */
async function timed<R>(what: string, call: () => Promise<R>): Promise<R> {
  const start = performance.now()
  try {
    return await call()
  } finally {
    spent[what] = (spent[what] ?? 0) + performance.now() - start
  }
}
const meter: Middleware = { name: 'meter', data: (next) => intercept(next, timed), model: (next) => ({ ...next, predict: (inputs, ctx) => timed('model', () => next.predict(inputs, ctx)) }) }

async function hand(round: number): Promise<number> {
  const schema = `${namespace}_hand`
  await pool.query(`drop schema if exists ${schema} cascade; create schema ${schema}; create table ${schema}.docs (id text primary key, doc jsonb not null, emb vector(${dims}))`)
  const all = [...texts(count, round)], start = performance.now()
  for (let i = 0; i < all.length; i += chunk) {
    const part = all.slice(i, i + chunk), ids = part.map((_, n) => `${round}-${i + n}`)
    await pool.query(`insert into ${schema}.docs (id, doc) select * from unnest($1::text[], $2::jsonb[])`, [ids, part.map((text) => JSON.stringify({ text }))])
    const vectors = await infer(part)
    await pool.query(`update ${schema}.docs d set emb = v.emb::vector from unnest($1::text[], $2::text[]) v(id, emb) where d.id = v.id`, [ids, part.map((_, n) => `[${vectors.subarray(n * dims, (n + 1) * dims).join(',')}]`)])
  }
  return count / (performance.now() - start) * 1000
}

async function ours(round: number): Promise<number> {
  await pool.query(`drop schema if exists ${namespace} cascade`)
  const db = await inlay({ data: server.url, namespace, config: false, middleware: [meter] })
  const docs = db.collection<{ text: string }>('docs'), embed = await db.add(spec(model))
  await embed.listen(docs.find(), 'text')
  await embed.predict(['warm up'])
  const all = [...texts(count, round)]
  for (const key of Object.keys(spent)) delete spent[key]
  const start = performance.now()
  const { ids, outputs } = chunk === 1 ? await oneByOne(docs, all) : await docs.insert(stream(all))
  const rate = count / (performance.now() - start) * 1000
  if (ids.length !== count || outputs.done !== count) throw new Error(`Only ${ids.length} rows and ${outputs.done} outputs of ${count}.`)
  await db.close()
  return rate
}
async function oneByOne(docs: { insert(doc: { text: string }): Promise<{ readonly ids: readonly string[]; readonly outputs: { readonly done: number } }> }, all: readonly string[]): Promise<{ readonly ids: readonly string[]; readonly outputs: { readonly done: number } }> {
  const ids: string[] = []
  let done = 0
  for (const text of all) {
    const changed = await docs.insert({ text })
    ids.push(...changed.ids)
    done += changed.outputs.done
  }
  return { ids, outputs: { done } }
}
async function* stream(all: readonly string[]): AsyncIterable<{ text: string }> {
  for (const text of all) yield { text }
}

const ratios: number[] = [], handRates: number[] = [], ourRates: number[] = []
for (let round = 1; round <= rounds; round++) {
  const theirs = await hand(round), mine = await ours(round)
  handRates.push(theirs)
  ourRates.push(mine)
  ratios.push(mine / theirs)
}
await server.stop()
const median = (list: readonly number[]): number => [...list].sort((a, b) => a - b)[list.length >> 1]!
const total = Object.values(spent).reduce((sum, ms) => sum + ms, 0)
process.stdout.write(`${JSON.stringify({ case: chunk === 1 ? `insert one by one, ${name}` : `insert stream, ${name}`, rows: count, chunk, ours: Math.round(median(ourRates)), hand: Math.round(median(handRates)), ratio: Number(median(ratios).toFixed(2)), ratios: ratios.map((r) => Number(r.toFixed(2))), share: Object.fromEntries(Object.entries(spent).map(([k, ms]) => [k, `${Math.round(ms / total * 100)} %`])), msPerRow: Object.fromEntries(Object.entries(spent).map(([k, ms]) => [k, Number((ms / count).toFixed(4))])) })}\n`)
process.exit()
