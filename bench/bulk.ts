/** Bulk insert without listeners, against the best bulk path of the same driver into a plain table or collection with the same key: COPY, insertMany, the appender. */
import { inlay } from '../index.ts'
import { benchServer } from './server.ts'
import { texts } from './texts.ts'

const [, , backend = 'postgres', countText = '50000', roundsText = '3'] = process.argv
const count = Number(countText), rounds = Number(roundsText)
interface Doc { readonly text: string; readonly n: number; readonly tags: readonly string[]; readonly at: { readonly x: number; readonly y: number } }
interface Opponent { readonly uri: string; readonly namespace: string; readonly what: string; insert(docs: readonly (Doc & { readonly _id: string })[]): Promise<void>; clear(): Promise<void>; close(): Promise<void> }

const docs = (round: number): (Doc & { _id: string })[] => [...texts(count, round)].map((text, i) => ({ _id: `${round}-${String(i).padStart(8, '0')}`, text, n: i, tags: ['a', `t${i % 10}`], at: { x: i / 3, y: -i } }))

async function postgres(): Promise<Opponent> {
  const server = await benchServer(), { from } = await import('pg-copy-streams'), { Readable } = await import('node:stream'), { pipeline } = await import('node:stream/promises')
  const clear = async (): Promise<void> => { await server.pool.query(`drop schema if exists plain cascade; drop schema if exists ${server.namespace} cascade`) }
  return {
    uri: server.url, namespace: server.namespace, what: 'COPY', clear,
    async insert(all) {
      await server.pool.query('create schema plain; create table plain.docs (_id text primary key, doc jsonb not null)')
      const client = await server.pool.connect()
      const line = ({ _id, ...doc }: Doc & { readonly _id: string }): string => `${_id}\t${JSON.stringify(doc).replaceAll('\\', '\\\\')}\n`
      await pipeline(Readable.from((function* () { for (let i = 0; i < all.length; i += 500) yield all.slice(i, i + 500).map(line).join('') })()), client.query(from('copy plain.docs (_id, doc) from stdin')))
      client.release()
    },
    async close() { await clear(); await server.stop() },
  }
}

async function postgresValues(): Promise<Opponent> {
  const of = await postgres(), { default: pg } = await import('pg'), pool = new pg.Pool({ connectionString: of.uri, max: 2 })
  return {
    ...of, what: 'multi-row VALUES of 500',
    async insert(all) {
      await pool.query('create schema plain; create table plain.docs (_id text primary key, doc jsonb not null)')
      for (let i = 0; i < all.length; i += 500) {
        const part = all.slice(i, i + 500)
        await pool.query({ name: `values${part.length}`, text: `insert into plain.docs (_id, doc) values ${part.map((_, n) => `($${2 * n + 1}, $${2 * n + 2})`).join(', ')}`, values: part.flatMap(({ _id, ...doc }) => [_id, JSON.stringify(doc)]) })
      }
    },
    async close() { await pool.end(); await of.close() },
  }
}

async function mongodb(): Promise<Opponent> {
  const { startMongodb } = await import('../test/support/mongodb-server.ts'), { MongoClient } = await import('mongodb'), server = await startMongodb(), client = await MongoClient.connect(server.url), namespace = `bench_${process.pid}`
  return {
    uri: server.url, namespace, what: 'insertMany of 500',
    async insert(all) {
      const rows = client.db('plain').collection<Doc & { _id: string }>('docs')
      for (let i = 0; i < all.length; i += 500) await rows.insertMany(all.slice(i, i + 500), { ordered: false })
    },
    async clear() { await client.db('plain').dropDatabase(); await client.db(namespace).dropDatabase() },
    async close() { await client.close(); await server.stop() },
  }
}

async function duckdb(): Promise<Opponent> {
  const { DuckDBInstance } = await import('@duckdb/node-api'), { mkdtempSync, rmSync } = await import('node:fs'), { join } = await import('node:path'), { tmpdir } = await import('node:os')
  const folder = mkdtempSync(join(tmpdir(), 'inlay-bench-'))
  let round = 0
  return {
    get uri() { return `duckdb:${folder}/ours${round}.duckdb` }, namespace: 'bench', what: 'the appender of (text, JSON) with a key',
    async insert(all) {
      const instance = await DuckDBInstance.create(`${folder}/plain${round}.duckdb`), connection = await instance.connect()
      await connection.run('create table docs (_id varchar primary key, doc json not null)')
      const appender = await connection.createAppender('docs')
      for (const { _id, ...doc } of all) {
        appender.appendVarchar(_id)
        appender.appendVarchar(JSON.stringify(doc))
        appender.endRow()
      }
      appender.closeSync()
      connection.closeSync()
      instance.closeSync()
    },
    async clear() { round++ },
    async close() { rmSync(folder, { recursive: true }) },
  }
}

const opponents: Readonly<Record<string, () => Promise<Opponent>>> = { postgres, 'postgres-values': postgresValues, mongodb, duckdb }
const opponent = await opponents[backend]!()
const ratios: number[] = [], ourRates: number[] = [], theirRates: number[] = []
for (let round = 1; round <= rounds; round++) {
  await opponent.clear()
  const all = docs(round), timed = async (work: () => Promise<unknown>): Promise<number> => { const start = performance.now(); await work(); return count / (performance.now() - start) * 1000 }
  const theirs = await timed(() => opponent.insert(all))
  const db = await inlay({ data: opponent.uri, namespace: opponent.namespace, config: false, log: {} }), collection = db.collection<Doc>('docs')
  await collection.find().count()
  const mine = await timed(async () => {
    const { ids, refused } = await collection.insert((async function* () { yield* all })())
    if (ids.length !== count) throw new Error(`Only ${ids.length} of ${count} rows: ${JSON.stringify(refused[0])}`)
  })
  await db.close()
  ratios.push(mine / theirs)
  ourRates.push(mine)
  theirRates.push(theirs)
}
await opponent.close()
const median = (list: readonly number[]): number => [...list].sort((a, b) => a - b)[list.length >> 1]!
process.stdout.write(`${JSON.stringify({ case: `bulk insert, ${backend}`, rows: count, ours: Math.round(median(ourRates)), theirs: Math.round(median(theirRates)), opponent: opponent.what, ratio: Number(median(ratios).toFixed(2)), ratios: ratios.map((r) => Number(r.toFixed(2))) })}\n`)
process.exit()
