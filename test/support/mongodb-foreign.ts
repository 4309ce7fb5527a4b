/** Another program on MongoDB, for the suite: plain commands of a driver of its own, which know nothing of Inlay. */
import { Binary, Decimal128, MongoClient, ObjectId, UUID, type Collection, type Document } from 'mongodb'
import type { Key } from '../../core/contract.ts'
import type { Foreign, ForeignRow, Place, Subject } from '../conformance/index.ts'

/** Each kind: the n-th `_id`, ascending. */
const kinds: Readonly<Record<string, (n: number) => unknown>> = {
  text: (n) => `k${String(n).padStart(4, '0')} "quoted"`,
  objectId: (n) => new ObjectId(n.toString(16).padStart(24, '0')),
  number: (n) => n,
  uuid: (n) => new UUID(`00000000-0000-4000-8000-${String(n).padStart(12, '0')}`),
  date: (n) => new Date(n * 1000),
  compound: (n) => ({ tenant: 'a', seq: n }),
}
/** An `_id` as Inlay writes it. */
function keyOf(id: unknown): Key {
  if (typeof id === 'string') return /^(~|[0-9a-f]{24}$)/.test(id) ? `~s${id}` : id
  if (id instanceof ObjectId) return id.toHexString()
  if (typeof id === 'number') return `~n${id}`
  if (id instanceof Binary) return `~u${id.toUUID().toHexString()}`
  return id instanceof Date ? `~d${+id}` : `~j{"v":{"tenant":"a","seq":{"$numberInt":"${(id as { readonly seq: number }).seq}"}}}`
}
const wide = Decimal128.fromString('12345678901234567890.0123456789')
const ours = ['_rev', '_marks', '_cur', '_outputs', '_seen']

export async function mongodbForeign(subject: Subject): Promise<Foreign> {
  const client = await MongoClient.connect(subject.uri), db = client.db(), made = new Map<string, (n: number) => unknown>(), run = `f${new ObjectId().toHexString().slice(-8)}`
  let tables = 0, last = 1000
  const at = (place: Place): { readonly coll: Collection<Document>; readonly id: (n: number) => unknown } => {
    const name = 'own' in place ? `${subject.namespace}.${place.own}` : place.source
    return { coll: db.collection(name), id: 'own' in place ? (n) => `f${n}` : made.get(place.source)! }
  }
  /** The `_id` of a key, found as a program finds it that has the documents. */
  const idOf = async (place: Place, key: Key): Promise<unknown> => {
    const { coll } = at(place)
    for await (const { _id } of coll.find({}, { projection: { _id: 1 } })) if (keyOf(_id) === key) return _id
    return undefined
  }
  const doc = (row: ForeignRow, place: Place): Document => ({ t: row.t, n: row.n, ...('own' in place ? {} : { wide }) })
  return {
    keys: Object.keys(kinds), made: Object.keys(kinds), wide: true,
    async table(name, rows) {
      const kind = kinds[name]!, source = `${run}_t${++tables}`
      made.set(source, kind)
      await db.createCollection(source)
      const docs = rows.map((row, i) => ({ _id: kind(i + 1) as never, ...doc(row, { source }) }))
      if (docs.length > 0) await db.collection(source).insertMany(docs)
      return { source, keys: docs.map(({ _id }) => keyOf(_id)) }
    },
    key: (name) => keyOf(kinds[name]!(++last)),
    async unfit() {
      const source = `${run}_view${++tables}`
      await db.createCollection(source, { viewOn: 'nothing', pipeline: [] })
      return source
    },
    async insert(place, row) {
      const { coll, id: next } = at(place), id = next(++last)
      await coll.insertOne({ _id: id as never, ...doc(row, place) })
      return keyOf(id)
    },
    async set(place, key, n) {
      await at(place).coll.updateOne({ _id: await idOf(place, key) as never }, { $set: { n } })
    },
    async replace(place, key, row) {
      await at(place).coll.replaceOne({ _id: await idOf(place, key) as never }, doc(row, place))
    },
    async remove(place, key) {
      await at(place).coll.deleteOne({ _id: await idOf(place, key) as never })
    },
    async read(place) {
      const number = (n: unknown): number | null => (n === undefined || n === null ? null : Number(n))
      return new Map((await at(place).coll.find().sort({ _id: 1 }).toArray()).map((row) => [keyOf(row._id), { t: (row['t'] as string | undefined) ?? null, n: number(row['n']) }]))
    },
    async rest(place) {
      const rows = await at(place).coll.find().toArray()
      return new Map(rows.map((row) => [keyOf(row._id), JSON.stringify(Object.entries(row).filter(([field]) => !['_id', 't', 'n', ...ours].includes(field)))]))
    },
    async leftovers(source) {
      const { coll } = at({ source }), fields = (await coll.find().toArray()).flatMap((row) => Object.keys(row).filter((field) => !['_id', 't', 'n', 'wide'].includes(field)))
      const views = (await db.listCollections({ type: 'view' }).toArray()).filter((view) => (view as { readonly options?: { readonly viewOn?: string } }).options?.viewOn === source).map((view) => view.name)
      return [...new Set(fields), ...(await coll.indexes()).map((index) => index.name!).filter((name) => name !== '_id_'), ...views]
    },
    async close() {
      for (const { name } of await db.listCollections({ name: new RegExp(`^${run}_`) }).toArray()) await db.dropCollection(name)
      await client.close()
    },
  }
}
