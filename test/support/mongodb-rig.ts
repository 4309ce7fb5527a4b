/** Connections of Inlay and a program that knows nothing of it, on one database of a real mongod. The commands of Inlay can be edited, to see that a check notices. */
import type { Collection, Db, Document, MongoClient as Client } from 'mongodb'
import { MongoClient } from 'mongodb'
import { onTestFinished } from 'vitest'
import type { Datalayer, Key, Notice, Outcome, Row, Slot, Value, Write, Written } from '../../core/contract.ts'
import { hashOf } from '../../core/encoding.ts'
import { guardData } from '../../core/guard.ts'
import type { Codec } from '../../plugins/mongodb/bson.ts'
import { connectServer } from '../../plugins/mongodb/client.ts'
import { MongodbData } from '../../plugins/mongodb/datalayer.ts'
import { classify } from '../../plugins/mongodb/errors.ts'
import { openNamespace, type Place } from '../../plugins/mongodb/schema.ts'
import { all, live } from '../conformance/subject.ts'

/** Given a method of a collection of Inlay's, or `command` of a database, and its arguments, those to send. It may do something first. */
export type Edit = (method: string, args: readonly unknown[], coll: Collection<Document>) => readonly unknown[] | Promise<readonly unknown[]>
export interface Rig {
  readonly data: Datalayer
  readonly place: Place
  readonly foreign: Client
  /** The database, and the collection `docs` as the foreign program sees it. */
  readonly db: Db
  readonly docs: Collection<Document>
  /** Another connection of Inlay, unedited. */
  another(): Promise<Datalayer>
}

const plain: Edit = (_, args) => args
export async function rigOn(uri: string, edit: Edit = plain, codec: Partial<Codec> = {}): Promise<Rig> {
  const database = `r_${crypto.randomUUID().replaceAll('-', '').slice(0, 16)}`, url = new URL(uri)
  url.pathname = `/${database}`
  const connect = async (change: Edit): Promise<{ readonly data: Datalayer; readonly place: Place }> => {
    const server = await connectServer(url.href), opened = await openNamespace(server, url.href, 'ns', live)
    onTestFinished(() => server.close())
    const place: Place = { ...opened, codec: { ...opened.codec, ...codec }, home: { ...opened.home, db: edited(opened.home.db, change) }, server: { ...server, client: new Proxy(server.client, { get: (client: Client, name: string | symbol): unknown => (name === 'db' ? (of: string): Db => edited(client.db(of), change) : bound(client, name)) }) } }
    return { place, data: guardData(new MongodbData(place), { name: 'the server', closed: false, classify }) }
  }
  const foreign = await MongoClient.connect(url.href), db = foreign.db()
  onTestFinished(async () => {
    await db.dropDatabase()
    await foreign.close()
  })
  const { data, place } = await connect(edit)
  await data.create({ name: 'docs', attached: false, track: 'notify' }, live)
  return { data, place, foreign, db, docs: db.collection('ns.docs'), another: async () => (await connect(plain)).data }
}

function bound(of: object, name: string | symbol): unknown {
  const value = (of as Record<string | symbol, unknown>)[name]
  return typeof value === 'function' ? value.bind(of) : value
}
const commands: ReadonlySet<unknown> = new Set(['bulkWrite', 'updateMany', 'deleteMany', 'createIndex', 'insertMany'])
function edited(db: Db, edit: Edit): Db {
  return new Proxy(db, {
    get: (_: Db, name: string | symbol): unknown => (name === 'command' ? async (...args: readonly unknown[]): Promise<unknown> => db.command(...await edit('command', args, db.collection('none')) as [Document]) : name !== 'collection' ? bound(db, name) : (of: string): unknown => {
      const coll = db.collection(of)
      return new Proxy(coll, {
        get: (__: unknown, method: string | symbol): unknown => {
          if (method === 'find') return (...args: readonly unknown[]): unknown => { const sent = edit('find', args, coll); return coll.find(...(sent instanceof Promise ? args : sent) as []) }
          if (!commands.has(method)) return bound(coll, method)
          return async (...args: readonly unknown[]): Promise<unknown> => (coll[method as 'bulkWrite'])(...await edit(String(method), args, coll) as [never])
        },
      })
    }),
  })
}

export async function slotOn(data: Datalayer, of: Partial<Slot> = {}): Promise<Slot> {
  const slot: Slot = { id: 's_a', collection: 'docs', upstream: [], shape: { kind: 'json' }, many: false, ...of }
  await data.openSlot(slot, live)
  return slot
}
export function write(data: Datalayer, ...ops: readonly Write[]): Promise<readonly Written[]> {
  return data.write('docs', ops, live)
}
export function rows(data: Datalayer, slot: Slot, which: 'stale' | 'failed' | 'all' = 'stale'): Promise<Row[]> {
  return all(data.rows(slot, which, 'all', live))
}
export function found(data: Datalayer, slots: readonly string[] = [], from = 'docs'): Promise<Row[]> {
  return all(data.find({ from, slots }, live))
}
/** As a model would: values that name the document they were made from. */
export function outcome(row: Row, values: readonly Value[] = [{ of: row.doc['x'] ?? null }], hash: string = hashOf(row.doc)): Outcome {
  return { key: row.key, rev: row.rev, hash, kind: 'values', values }
}
export async function settle(data: Datalayer, slot: Slot, list: readonly Row[]): Promise<readonly Key[]> {
  return data.settle(slot, list.map((row) => outcome(row, slot.shape.kind === 'vector' ? [Float32Array.from([Number(row.doc['x'] ?? 0), 1])] : slot.many ? ['p', 'q'] : undefined)), live)
}

/** Reads notices in the background until the test ends. */
export async function watching(data: Datalayer, name = 'docs'): Promise<{ readonly notices: Notice[]; stop(): void }> {
  const stop = new AbortController(), notices: Notice[] = []
  let first: () => void = () => {}
  const begun = new Promise<void>((resolve) => { first = resolve })
  const reading = (async () => {
    for await (const notice of data.watch!(name, { signal: stop.signal })) {
      notices.push(notice)
      await notice.done(live)
      first()
    }
  })()
  reading.catch(() => {})
  onTestFinished(async () => { stop.abort(); await reading.catch(() => {}) })
  await Promise.race([begun, reading])
  return { notices, stop: () => stop.abort() }
}
/** Awaits that something holds. */
export async function until(holds: () => Promise<boolean> | boolean, ms = 5000): Promise<boolean> {
  for (const late = Date.now() + ms; Date.now() < late;) {
    if (await holds()) return true
    await new Promise((resolve) => { setTimeout(resolve, 5) })
  }
  return false
}
