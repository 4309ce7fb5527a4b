/** A program that knows nothing of Inlay and writes the same rows by the driver of the database, alone and in transactions. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { ClientSession } from 'mongodb'
import { Client } from 'pg'
import type { random } from '../conformance/random.ts'
import { collection, type Doc } from './listeners.ts'

export interface Made { readonly r: ReturnType<typeof random>; readonly keys: readonly string[]; some(most: number): string[]; doc(): Doc }
/** `write` makes one change, or some in a transaction, and gives the rows it wrote; undefined: it met a conflict and was rolled back. */
export interface Foreign { write(): Promise<number | undefined>; close(): Promise<void> }

export async function connectForeign(uri: string, namespace: string, made: Made): Promise<Foreign> {
  return uri.startsWith('mongodb') ? mongodb(uri, namespace, made) : postgres(uri, namespace, made)
}

async function postgres(uri: string, namespace: string, { r, keys, some, doc }: Made): Promise<Foreign> {
  const client = new Client({ connectionString: uri }), table = `"${namespace}"."${collection}"`
  await client.connect()
  const change = async (): Promise<number> => {
    const key = r.pick(keys), run = async (text: string, params: readonly unknown[]): Promise<number> => (await client.query(text, params as never)).rowCount ?? 0
    switch (r.below(9)) {
      case 0: return run(`delete from ${table} where _id = $1`, [key])
      case 1: return run(`insert into ${table} (_id, doc) values ($1, $2) on conflict do nothing`, [key, doc()])
      case 2: return run(`update ${table} set doc = $2 where _id = $1`, [key, doc()])
      case 3: return run(`update ${table} set doc = doc where _id = $1`, [key])
      case 4: return run(`update ${table} set doc = jsonb_set(doc, '{n}', to_jsonb($1::int)) where (doc ->> 'n')::int < 5`, [r.below(100)])
      case 5: {
        // Read, changed, and written back as a whole, with the rev that was read.
        const { rows: [row] } = await client.query<{ _rev: string; doc: Doc }>(`select _rev, doc from ${table} where _id = $1`, [key])
        await sleep(r.below(5))
        return row === undefined ? 0 : run(`update ${table} set doc = $2, _rev = $3 where _id = $1`, [key, { ...row.doc, ...doc() }, row._rev])
      }
      default: return run(`update ${table} set doc = doc || $2 where _id = any($1::text[])`, [some(6), doc()])
    }
  }
  return {
    async write() {
      try {
        if (r.below(3) > 0) return await change()
        await client.query('begin')
        let rows = 0
        for (let i = 0; i < 3; i++) {
          rows += await change()
          await sleep(r.below(10))
        }
        const commit = r.below(4) > 0
        await client.query(commit ? 'commit' : 'rollback')
        return commit ? rows : 0
      } catch (error) {
        if ((error as { readonly code?: unknown }).code !== '40P01') throw error
        await client.query('rollback')
        return undefined
      }
    },
    close: () => client.end(),
  }
}

async function mongodb(uri: string, namespace: string, { r, keys, some, doc }: Made): Promise<Foreign> {
  const { MongoClient } = await import('mongodb'), client = new MongoClient(uri)
  await client.connect()
  type Row = { _id: string } & Record<string, unknown>
  const rows = client.db(namespace).collection<Row>(collection), deleted: Row[] = []
  const change = async (session?: ClientSession): Promise<number> => {
    const key = r.pick(keys), of = session === undefined ? {} : { session }
    switch (r.below(10)) {
      case 0: {
        const gone = await rows.findOneAndDelete({ _id: key }, of)
        if (gone !== null && deleted.length < 20 && session === undefined) deleted.push(gone)
        return gone === null ? 0 : 1
      }
      case 1: return insert({ _id: key, ...doc() }, of)
      case 2: return (await rows.replaceOne({ _id: key }, doc() as Record<string, unknown>, of)).modifiedCount
      case 3: return (await rows.updateOne({ _id: key }, { $set: { n: r.below(100) } }, of)).modifiedCount
      case 4: return (await rows.updateMany({ n: { $lt: 5 } }, { $set: { n: r.below(100) } }, of)).modifiedCount
      case 5: {
        // Read, changed, and written back as a whole, with all that Inlay put there.
        const row = await rows.findOne({ _id: key }, of)
        await sleep(r.below(5))
        return row === null ? 0 : (await rows.replaceOne({ _id: key }, { ...row, ...doc() }, of)).modifiedCount
      }
      case 6: {
        // A deleted document comes back with old fields of Inlay's.
        const at = deleted.findIndex((d) => d['_marks'] !== undefined)
        return at === -1 || session !== undefined ? 0 : insert({ ...deleted.splice(at, 1)[0]!, ...doc() }, of)
      }
      case 7: return (await rows.updateOne({ _id: key }, { $unset: { x: true } }, of)).modifiedCount
      default: return (await rows.updateMany({ _id: { $in: some(6) } }, { $set: doc() as Record<string, unknown> }, of)).modifiedCount
    }
  }
  const insert = (row: Row, of: object): Promise<number> => ('session' in of
    // In a transaction an error would end it.
    ? rows.updateOne({ _id: row._id }, { $setOnInsert: row }, { ...of, upsert: true } as object).then((done) => done.upsertedCount)
    : rows.insertOne(row, of).then(() => 1, (error: unknown) => { if ((error as { readonly code?: unknown }).code === 11000) return 0; throw error }))
  return {
    async write() {
      if (r.below(3) > 0) return change()
      const session = client.startSession()
      try {
        session.startTransaction()
        let written = 0
        for (let i = 0; i < 3; i++) {
          written += await change(session)
          await sleep(r.below(10))
        }
        if (r.below(4) === 0) {
          await session.abortTransaction()
          return 0
        }
        await session.commitTransaction()
        return written
      } catch (error) {
        if ((error as { hasErrorLabel?: (label: string) => boolean }).hasErrorLabel?.('TransientTransactionError') !== true) throw error
        if (session.inTransaction()) await session.abortTransaction().catch(() => {})
        return undefined
      } finally {
        await session.endSession()
      }
    },
    close: () => client.close(),
  }
}
