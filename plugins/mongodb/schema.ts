/**
 * Where things lie. In a database that the URI names, collections are `<namespace>.<collection>`; where it names none, the database is the namespace and collections have their own names.
 * Beside them `_meta` lists collections, slots and places in change streams; `_values.<slot>` holds outputs that do not lie in their rows.
 */
import type { Collection as Coll, Db, Document, Timestamp } from 'mongodb'
import type { Collection, Ctx, Slot } from '../../core/contract.ts'
import { InlayError, quote } from '../../core/errors.ts'
import { codecOf, ours, type Codec } from './bson.ts'
import { databaseOf, list, type Server } from './client.ts'
import { foreignKeys, ownKeys, type Keys } from './keys.ts'

const format = '1'

/** A database, and how names of a namespace begin there. */
export interface Home { readonly db: Db; readonly prefix: string }
export interface Place {
  readonly server: Server
  readonly codec: Codec
  readonly namespace: string
  /** Of Inlay's own. */
  readonly home: Home
  /** The database that the URI names. */
  readonly database: string | undefined
}
/** A collection of Inlay's, or of others. */
export interface Table {
  readonly name: string
  readonly coll: Coll<Document>
  readonly keys: Keys
  readonly attached: boolean
  /** Where its side collections and its view lie: a view reads one database only. */
  readonly home: Home
}
/** As `_meta` keeps it. */
interface Kept { readonly collection: Collection; readonly source?: { readonly db: string; readonly name: string } }
export interface KeptSlot { readonly id: string; readonly collection: string; readonly upstream: readonly string[]; readonly many: boolean; readonly embedded: boolean; readonly label?: string; readonly at: number }

/** A name as MongoDB takes it. */
function escape(name: string): string {
  const coded = (c: string): string => `%${c.charCodeAt(0).toString(16).padStart(2, '0').toUpperCase()}`
  return name.replace(/[%$\0]|^\.|\.$|\.(?=\.)|^_(?=meta$|values\.|artifacts\.)|^s(?=ystem\.)/g, coded)
}
export function metaOf({ home }: Place): Coll<Document> {
  return home.db.collection(`${home.prefix}_meta`)
}
/** The side collection of a slot. */
export function valuesOf(home: Home, slot: string): Coll<Document> {
  return home.db.collection(`${home.prefix}_values.${slot}`)
}
export function viewOf({ home, name }: Pick<Table, 'home' | 'name'>): string {
  return `${home.prefix}${escape(`${name}_view`)}`
}
/** How each view of ours ends, and no other. */
export const viewEnd: Document = { $unset: ['\u0001shown'] }
/** What has the name of a collection's view: nothing, that view, or something of somebody else's. */
export async function viewThere(table: Pick<Table, 'home' | 'name' | 'coll'>): Promise<'nothing' | 'ours' | 'strange'> {
  const [info] = await table.home.db.listCollections({ name: viewOf(table) }).toArray() as readonly { readonly options?: { readonly viewOn?: string; readonly pipeline?: readonly Document[] } }[]
  if (info === undefined) return 'nothing'
  return info.options?.viewOn === table.coll.collectionName && JSON.stringify(info.options.pipeline?.at(-1)) === JSON.stringify(viewEnd) ? 'ours' : 'strange'
}

/** Makes the namespace, or checks that this Inlay understands the one that is there. */
export async function openNamespace(server: Server, uri: string, namespace: string, { signal }: Ctx): Promise<Place> {
  const database = databaseOf(uri), home: Home = database === undefined ? { db: server.client.db(namespace), prefix: '' } : { db: server.client.db(database), prefix: `${namespace}.` }
  const place: Place = { server, codec: codecOf(server.driver), namespace, home, database }, meta = metaOf(place)
  signal.throwIfAborted()
  await checkRefusal(meta)
  const found = await once(() => meta.findOneAndUpdate({ _id: 'format' as never }, { $setOnInsert: { format } }, { upsert: true, returnDocument: 'after' }))
  if (found?.['format'] !== format) {
    throw new InlayError('PLUGIN_INCOMPATIBLE', `The namespace ${quote(namespace)} has the format ${quote(found?.['format'])}; this Inlay knows ${quote(format)}. Use the Inlay that made it, or another namespace.`)
  }
  return place
}

/** Who was refused is known by an error that a server of another make might not give. */
async function checkRefusal(meta: Coll<Document>): Promise<void> {
  const code = await meta.updateOne({ _id: 'nobody' as never }, { $set: { x: 1 }, $setOnInsert: { _id: 'somebody' as never } }, { upsert: true }).then(() => undefined, (error: unknown) => error as { readonly code?: unknown })
  if (code?.code === 66) return
  if (code !== undefined) throw code
  throw new InlayError('UNSUPPORTED', 'The server speaks the protocol of MongoDB, but does not refuse an upsert that changes _id (error 66), by which Inlay knows whose results came too late. Use MongoDB.')
}

/** Two upserts of one `_id` at once: one of them is told so. */
async function once<T>(upsert: () => Promise<T>): Promise<T> {
  for (let tries = 0; ; tries++) {
    try {
      return await upsert()
    } catch (error) {
      if ((error as { readonly code?: unknown }).code !== 11000 || tries > 5) throw error
    }
  }
}

export async function tableOf(place: Place, name: string): Promise<Table> {
  const kept = await keptOf(place, name)
  if (kept === undefined) throw new InlayError('NOT_FOUND', `There is no collection ${quote(name)} in this database. Was it dropped by another program?`)
  return tableFrom(place, kept)
}
async function keptOf(place: Place, name: string): Promise<Kept | undefined> {
  return await metaOf(place).findOne({ _id: `collection:${name}` as never }) as Kept | null ?? undefined
}
function tableFrom(place: Place, { collection: { name }, source }: Kept): Table {
  const { home, server } = place
  if (source === undefined) return { name, coll: home.db.collection(home.prefix + escape(name)), keys: ownKeys, attached: false, home }
  const db = server.client.db(source.db)
  return { name, coll: db.collection(source.name), keys: foreignKeys(server.driver), attached: true, home: source.db === home.db.databaseName ? home : { db, prefix: `${place.namespace}.` } }
}
export async function collections(place: Place): Promise<readonly Collection[]> {
  const kept = await list(metaOf(place).find({ _id: /^collection:/ as never }).sort({ _id: 1 }))
  return kept.map((k) => (k as unknown as Kept).collection)
}
export async function slotsOf(place: Place): Promise<readonly KeptSlot[]> {
  return (await list(metaOf(place).find({ _id: /^slot:/ as never }))).map((k) => k['slot'] as KeptSlot)
}
export async function keepSlot(place: Place, slot: KeptSlot): Promise<void> {
  await once(() => metaOf(place).updateOne({ _id: `slot:${slot.id}` as never }, { $set: { slot } }, { upsert: true }))
}

export async function createCollection(place: Place, collection: Collection): Promise<void> {
  const { name, attached } = collection, there = await keptOf(place, name)
  if (there !== undefined) {
    if (there.collection.attached === attached) {
      if (there.collection.track !== collection.track) await keep(place, { ...there, collection })
      return
    }
    throw new InlayError('CONFLICT', `The collection ${quote(name)} cannot be ${attached === false ? 'made' : `attached to ${quote(attached)}`}: it is ${there.collection.attached === false ? 'one of Inlay\'s own' : `attached to ${quote(there.collection.attached)}`}. Choose another name, or drop it first.`)
  }
  if (attached !== false) {
    const source = await sourceOf(place, name, attached)
    if (collection.track === 'notify') await begin(place, name)
    await keep(place, { collection, source })
    return
  }
  const { coll } = tableFrom(place, { collection })
  // Rows of ours without an entry were left by a process that wrote while another one dropped. Other documents are somebody's.
  const strange = await coll.findOne({ $or: [{ _id: { $not: { $type: 'string' } } }, { _rev: { $not: { $type: 'binData' } } }] }, { projection: { _id: 1 } })
  if (strange !== null && await keptOf(place, name) === undefined) throw new InlayError('CONFLICT', `The collection ${quote(name)} cannot be made: the database ${quote(place.home.db.databaseName)} has another collection of that name. Attach it, or choose another name or namespace.`)
  if (collection.track === 'notify') await begin(place, name)
  await keep(place, { collection })
  await place.home.db.createCollection(coll.collectionName).catch((error: unknown) => { if ((error as { readonly code?: unknown }).code !== 48) throw error })
}
/** From here on `watch` can tell what others write. */
async function begin(place: Place, name: string): Promise<void> {
  const { operationTime: at } = await place.home.db.command({ ping: 1 }) as { operationTime?: Timestamp }, { Timestamp: Time } = place.server.driver
  if (at !== undefined) await once(() => metaOf(place).updateOne({ _id: `token:${name}` as never }, { $setOnInsert: { startAt: new Time({ t: at.t, i: at.i + 1 }) } }, { upsert: true }))
}
async function keep(place: Place, kept: Kept): Promise<void> {
  await once(() => metaOf(place).updateOne({ _id: `collection:${kept.collection.name}` as never }, { $set: { ...kept } }, { upsert: true }))
}

/** What a user's name of a collection means: one of the URI's database, else `database.collection`. */
async function sourceOf(place: Place, name: string, attached: string): Promise<NonNullable<Kept['source']>> {
  const dot = attached.indexOf('.'), places = [...(place.database === undefined ? [] : [{ db: place.database, name: attached }]), ...(dot > 0 ? [{ db: attached.slice(0, dot), name: attached.slice(dot + 1) }] : [])]
  const refuse = (reason: string): never => { throw new InlayError('UNSUPPORTED', `The collection ${quote(name)} cannot be attached to ${quote(attached)}: ${reason}`) }
  for (const source of places) {
    const db = place.server.client.db(source.db), [info] = await db.listCollections({ name: source.name }).toArray() as readonly { readonly type?: string; readonly options?: Options }[]
    if (info === undefined) continue
    if (info.type === 'view') refuse('it is a view, which cannot be written. Attach the collection that it reads.')
    if (info.type === 'timeseries') refuse('it is a time-series collection, whose documents cannot be changed one by one.')
    if (info.options?.capped === true) refuse('it is a capped collection, whose documents cannot grow or be removed.')
    if (source.name.startsWith('system.') || ['admin', 'local', 'config'].includes(source.db)) refuse('it belongs to the server.')
    const coll = db.collection(source.name), strange = Object.entries(strangeFields(place)), taken = await coll.findOne({ $or: strange.map(([, condition]) => condition) } as Document, { projection: { _id: 1 } })
    for (const [field, condition] of taken === null ? [] : strange) {
      if (await coll.findOne({ $and: [{ _id: taken!._id }, condition] } as Document, { projection: { _id: 1 } }) !== null) refuse(`its document ${quote(foreignKeys(place.server.driver).keyOf(taken!._id))} has a field ${quote(field)} of its own, a name that Inlay uses. Rename that field; of Inlay are ${ours.join(', ')}.`)
    }
    if (await forbids(place, coll, info.options)) refuse(`its validator lets no document have the fields ${ours.join(', ')}. Allow them there.`)
    return source
  }
  throw new InlayError('NOT_FOUND', `The collection ${quote(name)} cannot be attached: there is no collection ${quote(attached)}${place.database === undefined ? ' (the URI names no database, so "database.collection" is expected)' : ` in the database ${quote(place.database)}`}. Write its name as it is.`)
}

interface Options { readonly capped?: boolean; readonly validator?: Document; readonly validationAction?: string; readonly validationLevel?: string }

/** A UUID, and nothing else: what a rev of ours is. */
export function anyRev({ server: { driver: { UUID } } }: Place): Document {
  return { $gte: new UUID('00000000-0000-0000-0000-000000000000'), $lte: new UUID('ffffffff-ffff-ffff-ffff-ffffffffffff') }
}
const entries = (field: string): Document => ({ $cond: [{ $eq: [{ $type: `$${field}` }, 'object'] }, { $objectToArray: `$${field}` }, []] })
/** Names under which a document has a mark of ours. */
const marked: Document = { $map: { input: { $filter: { input: entries('_marks'), cond: { $and: [{ $eq: [{ $type: '$$this.v.rev' }, 'string'] }, { $eq: [{ $type: '$$this.v.hash' }, 'string'] }] } } }, in: '$$this.k' } }
/** By field, the documents in which it is there and surely not ours: what a slot has lies beside its mark, and all of it beside a rev. */
function strangeFields(place: Place): Record<string, Document> {
  const objects = ['_marks', '_cur', '_outputs'].map((f): [string, Document] => [f, { [f]: { $exists: true }, $or: [{ [f]: { $not: { $type: 'object' } } }, { _rev: { $not: anyRev(place) } }, { $expr: { $not: { $setIsSubset: [{ $map: { input: entries(f), in: '$$this.k' } }, marked] } } }] }])
  return { _rev: { _rev: { $exists: true, $not: anyRev(place) } }, ...Object.fromEntries(objects), _seen: { _seen: { $exists: true }, $or: [{ _seen: { $not: { $type: 'timestamp' } } }, { _rev: { $not: anyRev(place) } }] } }
}
/** Whether a document that is allowed as it is would not be with our fields. */
async function forbids({ server: { driver: { Timestamp: Time, UUID } } }: Place, coll: Coll<Document>, { validator, validationAction, validationLevel }: Options = {}): Promise<boolean> {
  if (validator === undefined || Object.keys(validator).length === 0 || validationAction === 'warn' || validationLevel === 'off') return false
  const schema = validator['$jsonSchema'] as { readonly additionalProperties?: unknown; readonly properties?: Document } | undefined
  if (schema?.additionalProperties === false && ours.some((field) => !(field in (schema.properties ?? {})))) return true
  const fields = { $literal: { _rev: new UUID(), _marks: { s: { rev: '', hash: '' } }, _cur: { s: {} }, _outputs: { s: 1 }, _seen: new Time({ t: 1, i: 1 }) } }
  return (await list(coll.aggregate([{ $match: validator }, { $limit: 1 }, { $replaceWith: { $mergeObjects: ['$$ROOT', fields] } }, { $match: { $nor: [validator] } }]))).length > 0
}
/** Takes out of the documents what is ours, and leaves what another program keeps under the same names. */
async function clean(place: Place, { coll }: Table, slots: readonly KeptSlot[]): Promise<void> {
  const names = { $setUnion: [marked, slots.map(({ id }) => ({ $literal: id }))] }
  const left = (field: string): Document => { const rest = { $filter: { input: entries(field), cond: { $not: { $in: ['$$this.k', names] } } } }; return { $cond: [{ $ne: [{ $type: `$${field}` }, 'object'] }, `$${field}`, { $cond: [{ $eq: [rest, []] }, '$$REMOVE', { $arrayToObject: rest }] }] } }
  await coll.updateMany({ $or: ['_marks', '_cur', '_outputs'].map((field) => ({ [field]: { $exists: true } })) } as Document, [{ $set: Object.fromEntries(['_marks', '_cur', '_outputs'].map((field) => [field, left(field)])) }])
  await coll.updateMany({ _rev: anyRev(place) } as Document, { $unset: { _rev: '' } })
  await coll.updateMany({ _seen: { $type: 'timestamp' } } as Document, { $unset: { _seen: '' } })
}

/** Sentences for what attaching adds. */
export async function installs(place: Place, { name, attached }: Collection): Promise<readonly string[]> {
  if (attached === false || await keptOf(place, name) !== undefined) return []
  const source = await sourceOf(place, name, attached), full = `${source.db}.${source.name}`
  return [
    `Documents of ${full} get the fields ${ours.join(', ')} as Inlay reads and writes them.`,
    `Each listener makes an index inlay_<slot> on ${full}.`,
    `A view ${source.db}.${viewOf(tableFrom(place, { collection: { name, attached, track: 'notify' }, source }))} shows documents and outputs.`,
  ]
}

/** The slots of a collection, or of a slot, with all that is derived from them, deepest last. */
export async function derived(place: Place, of: string): Promise<readonly KeptSlot[]> {
  const slots = await slotsOf(place), found: KeptSlot[] = []
  const visit = (name: string): void => { for (const slot of slots) if (slot.collection === name && !found.includes(slot)) { found.push(slot); visit(slot.id) } }
  visit(of)
  return found
}

/** What the rows of a slot are kept in: its collection, and the slots with many outputs on the way there. */
export async function rootOf(place: Place, slot: Pick<KeptSlot, 'collection'>): Promise<Table | undefined> {
  const slots = new Map((await slotsOf(place)).map((s) => [s.id, s]))
  let { collection } = slot
  while (slots.has(collection)) ({ collection } = slots.get(collection)!)
  const kept = await keptOf(place, collection)
  return kept === undefined ? undefined : tableFrom(place, kept)
}

export async function dropCollection(place: Place, name: string): Promise<void> {
  const kept = await keptOf(place, name)
  if (kept === undefined) return
  const table = tableFrom(place, kept), slots = await derived(place, name)
  if (await viewThere(table) === 'ours') await dropIfThere(table.home.db, viewOf(table))
  for (const slot of slots) await forgetSlot(place, slot, table, !table.attached)
  if (table.attached) await clean(place, table, slots)
  else await dropIfThere(place.home.db, table.coll.collectionName)
  await metaOf(place).deleteMany({ _id: { $in: [`token:${name}`, `collection:${name}`] as never[] } })
  if (table.attached && table.home !== place.home) await dropIfThere(table.home.db, `${table.home.prefix}_meta`)
}
async function dropIfThere(db: Db, name: string): Promise<void> {
  await db.collection(name).drop().catch((error: unknown) => { if ((error as { readonly code?: unknown }).code !== 26) throw error })
}

/** Takes a slot out of the rows it lies in. With `whole` those rows go anyway. */
export async function forgetSlot(place: Place, slot: KeptSlot, table: Table, whole = false): Promise<void> {
  const parent = slot.collection === table.name ? table.coll : valuesOf(table.home, slot.collection)
  if (!whole) {
    for (const name of await indexNames(parent)) if (name === indexName(slot.id) || name.startsWith(`${indexName(slot.id)}_`)) await parent.dropIndex(name).catch((error: unknown) => { if ((error as { readonly code?: unknown }).code !== 27) throw error })
    const paths = pathsOf(slot, new Map((await slotsOf(place)).map((s) => [s.id, s])))
    await parent.updateMany({ [`_marks.${slot.id}`]: { $exists: true } }, { $unset: Object.fromEntries([`_marks.${slot.id}`, `_outputs.${slot.id}`, ...paths].map((path) => [path, ''])) })
  }
  await dropIfThere(table.home.db, valuesOf(table.home, slot.id).collectionName)
  await metaOf(place).deleteOne({ _id: `slot:${slot.id}` as never })
}
export async function indexNames(coll: Coll<Document>): Promise<readonly string[]> {
  return coll.indexes().then((indexes) => indexes.map((index) => index.name ?? ''), (error: unknown) => { if ((error as { readonly code?: unknown }).code === 26) return []; throw error })
}
export function indexName(slot: string): string {
  return `inlay_${slot}`
}

/** Where in `_cur` "current" of a slot is written: below each slot it reads, so that a settle of that one unsets everything derived from it. */
export function pathsOf(slot: Pick<Slot, 'id' | 'upstream'>, slots: ReadonlyMap<string, Pick<Slot, 'id' | 'upstream'>>): readonly string[] {
  if (slot.upstream.length === 0) return [`_cur.${slot.id}`]
  return slot.upstream.flatMap((id) => { const up = slots.get(id); return up === undefined ? [] : pathsOf(up, slots).map((path) => `${path}.${slot.id}`) })
}
