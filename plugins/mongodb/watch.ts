/**
 * Foreign writes, by a change stream. Whatever is not provably Inlay's own gets a new rev, above all every replacement: anybody may write back a document that he
 * has read, with our fields in it. The place in the stream is kept when core has done its work; where it is lost only comparing all rows finds what was missed.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { ClientSession, Document, Timestamp } from 'mongodb'
import type { Ctx, Key, Notice } from '../../core/contract.ts'
import { ours } from './bson.ts'
import { classify } from './errors.ts'
import { metaOf } from './schema.ts'
import { simple, type Source, type Store } from './store.ts'

type Token = { readonly _data: string }
interface Event {
  readonly _id: Token
  readonly operationType: string
  readonly documentKey?: { readonly _id: unknown }
  readonly clusterTime: Timestamp
  /** Names of fields, up to the first dot. */
  readonly updated: readonly string[]
  readonly rev?: unknown
  /** Of a whole document: whether it has marks. */
  readonly marked?: boolean
}

interface Batch { readonly events: readonly Event[]; readonly token: Token | undefined }

const waitMs = 250
const eventsPerBatch = 1000
const mostPending = 50_000
const keepTokenMs = 10_000
/** History lost, fatal, invalid token, capped position lost. */
const lostCodes: ReadonlySet<unknown> = new Set([286, 280, 260, 136])

const first = (name: string): Document => ({ $first: { $split: [name, '.'] } })
const namesIn = (object: string): Document => ({ $map: { input: { $objectToArray: { $ifNull: [object, {}] } }, in: first('$$this.k') } })
const touched: Document = { $concatArrays: [
  namesIn('$updateDescription.updatedFields'), { $map: { input: { $ifNull: ['$updateDescription.removedFields', []] }, in: first('$$this') } },
  { $map: { input: { $ifNull: ['$updateDescription.truncatedArrays', []] }, in: first('$$this.field') } },
] }
/** Updates of nothing but our fields are settles, and the revs given here, which bear `_seen`: the server drops them, so that nothing comes back to where it came from. A rev alone is a write of equal content. */
const stages: readonly Document[] = [
  { $match: { $expr: { $not: { $and: [
    { $eq: ['$operationType', 'update'] }, { $setIsSubset: [touched, ours] }, { $or: [{ $in: ['_seen', touched] }, { $not: { $in: ['_rev', touched] } }] },
  ] } } } },
  { $project: {
    operationType: 1, documentKey: 1, clusterTime: 1, updated: namesIn('$updateDescription.updatedFields'),
    rev: { $ifNull: ['$fullDocument._rev', '$updateDescription.updatedFields._rev'] }, marked: { $ne: [{ $type: '$fullDocument._marks' }, 'missing'] },
  } },
]

/** What one write of Inlay's looks like, and no other. `own`: revs of replacements that this process sends; each is seen once. */
export function isOurs({ operationType, updated, marked, rev }: Pick<Event, 'operationType' | 'updated' | 'marked'> & { readonly rev: string | undefined }, own: Set<string>): boolean {
  const sent = rev !== undefined && own.delete(rev)
  switch (operationType) {
    case 'delete': return true
    case 'insert': return rev !== undefined && marked !== true
    case 'update': return updated.includes('_rev') && rev !== undefined && !updated.some((name) => name !== '_rev' && ours.includes(name))
    default: return sent
  }
}

export async function* watch(store: Store, name: string, mine: Set<Set<string>>, ctx: Ctx): AsyncIterable<Notice> {
  const watcher = new Watcher(store, await store.source(name), mine, ctx)
  try {
    await watcher.open(true)
  } catch (error) {
    watcher.close()
    await watcher.free()
    throw error
  }
  try {
    yield* watcher.notices()
  } finally {
    watcher.close()
  }
}

class Watcher {
  readonly #store: Store
  readonly #source: Source
  readonly #mine: Set<Set<string>>
  readonly #own = new Set<string>()
  readonly #stop = new AbortController()
  #session: ClientSession | undefined
  #cursor: bigint | number = 0
  #token: Token | undefined
  /** What is to be told next. */
  #pending: Set<Key> | 'stale' | 'all' = new Set<Key>()
  #failed: unknown
  #wake: () => void = () => {}
  /** Notices that core has not done yet, in order. */
  #told: { readonly token: Token | undefined; done: boolean }[] = []
  #kept = 0

  constructor(store: Store, source: Source, mine: Set<Set<string>>, ctx: Ctx) {
    this.#store = store
    this.#source = source
    this.#mine = mine
    mine.add(this.#own)
    if (ctx.signal.aborted) this.close()
    ctx.signal.addEventListener('abort', () => this.close(), { once: true })
  }

  get #db(): Source['table']['home']['db'] {
    return this.#store.place.server.client.db(this.#source.coll.dbName)
  }
  get #tokenId(): never {
    return `token:${this.#source.name}` as never
  }

  /** Takes its place in the stream: at the start after what was done before, else now. */
  async open(atStart: boolean): Promise<void> {
    const kept = atStart ? await metaOf(this.#store.place).findOne({ _id: this.#tokenId }) : undefined, token = kept?.['token'] as Token | undefined
    const from = token !== undefined ? { resumeAfter: token } : kept?.['startAt'] !== undefined ? { startAtOperationTime: kept['startAt'] as Timestamp } : undefined
    if (from !== undefined) {
      try {
        await this.#start(from)
        this.#pending = 'stale'                                              // what others had stamped, and told to others
        return
      } catch (error) {
        if (!lostCodes.has((error as { readonly code?: unknown }).code) && classify(error)?.retryable === true) throw error      // a damaged place has a code of its own each time
        // A damaged one may pass for a later place than those to come.
        if (token !== undefined) await metaOf(this.#store.place).deleteOne({ _id: this.#tokenId, token })
      }
    }
    await this.#start({})
    this.#pending = 'all'
  }
  async #start(from: { readonly resumeAfter?: Token; readonly startAtOperationTime?: Timestamp }): Promise<void> {
    const { client } = this.#store.place.server
    await this.#session?.endSession().catch(() => {})
    this.#session = client.startSession({ causalConsistency: false })
    const { cursor } = await this.#db.command({
      aggregate: this.#source.coll.collectionName, pipeline: [{ $changeStream: from }, ...stages], cursor: { batchSize: 0 }, readConcern: { level: 'majority' },
    }, { session: this.#session }) as unknown as { cursor: { id: bigint | number; postBatchResumeToken?: Token } }
    this.#cursor = cursor.id
    this.#token = from.resumeAfter ?? cursor.postBatchResumeToken
    // A token that the server no longer knows is refused by the first batch only.
    if (Object.keys(from).length > 0) await this.#take(await this.#more(1))
  }
  async #more(waiting: number): Promise<Batch> {
    const { cursor } = await this.#db.command({ getMore: this.#cursor, collection: this.#source.coll.collectionName, batchSize: eventsPerBatch, maxTimeMS: waiting }, { session: this.#session! }) as unknown as { cursor: { id: bigint | number; nextBatch: readonly Event[]; postBatchResumeToken?: Token } }
    this.#cursor = cursor.id
    return { events: cursor.nextBatch, token: cursor.postBatchResumeToken ?? cursor.nextBatch.at(-1)?._id }
  }

  async *notices(): AsyncIterable<Notice> {
    const pumping = this.#pump()
    pumping.catch(() => {})
    for (;;) {
      if (this.#stop.signal.aborted) return
      if (this.#failed !== undefined) throw this.#failed
      if (typeof this.#pending === 'string' || this.#pending.size > 0) yield this.#notice()
      else await new Promise<void>((resolve) => { this.#wake = resolve })
    }
  }
  #notice(): Notice {
    const keys = typeof this.#pending === 'string' ? this.#pending : [...this.#pending], told = { token: this.#token, done: false }
    this.#pending = new Set()
    this.#told.push(told)
    return {
      keys,
      done: async () => {
        told.done = true
        // Up to the first that is not done. They stay until their place is kept: else a repetition would keep none.
        const open = this.#told.findIndex(({ done }) => !done), over = this.#told.slice(0, open === -1 ? undefined : open), token = over.at(-1)?.token
        if (token !== undefined) await this.#keep(token)
        this.#told = this.#told.filter((of) => !over.includes(of))
      },
    }
  }
  /** A later place is never replaced by an earlier one. */
  async #keep(token: Token): Promise<void> {
    this.#kept = Date.now()
    await metaOf(this.#store.place).updateOne({ _id: this.#tokenId, 'token._data': { $not: { $gte: token._data } } }, { $set: { token } }, { upsert: true }).catch((error: unknown) => {
      if ((error as { readonly code?: unknown }).code !== 11000) throw error
    })
  }

  /** Reads on, whether or not anybody takes the notices: revs are given at once. */
  async #pump(): Promise<void> {
    try {
      while (!this.#stop.signal.aborted) {
        if (this.#cursor === 0 || this.#cursor === 0n) await this.#again()
        else await this.#more(waitMs).then((batch) => this.#take(batch), (error: unknown) => this.#lose(error))
        this.#wake()
      }
    } catch (error) {
      this.#failed = error                                                   // who watches again begins where the notices were done
    }
    this.#wake()
    await this.free()
  }
  #lose(error: unknown): void {
    if (!lostCodes.has((error as { readonly code?: unknown }).code)) throw error
    this.#cursor = 0
  }
  /** A stream that ended: the collection was dropped or renamed, and may be made again, or the place in the stream is lost. */
  async #again(): Promise<void> {
    if (await metaOf(this.#store.place).findOne({ _id: `collection:${this.#source.name}` as never }) === null) await sleep(waitMs, undefined, { signal: this.#stop.signal }).catch(() => {})
    else await this.open(false)
  }
  async #take({ events, token }: Batch): Promise<void> {
    const stamps = new Map<Key, { readonly id: unknown; readonly time: Timestamp }>(), keys: Key[] = []
    for (const event of events) {
      if (event.operationType === 'invalidate') { this.#cursor = 0; break }
      if (event.documentKey === undefined) continue
      const { _id } = event.documentKey, key = this.#source.table.keys.keyOf(_id), rev = this.#store.revOf({ _rev: event.rev })
      if (key === undefined) continue
      keys.push(key)
      if (!isOurs({ ...event, rev }, this.#own)) stamps.set(key, { id: _id, time: event.clusterTime })
    }
    if (stamps.size > 0) {
      await this.#source.coll.bulkWrite([...stamps.values()].map(({ id, time }) => ({ updateOne: {
        filter: { _id: id, _seen: { $not: { $gte: time } } } as Document, update: { $set: { _rev: this.#store.newRev(), _seen: time }, $unset: { _cur: '' } }, collation: simple,
      } })), { ordered: false })
    }
    this.#token = token ?? this.#token
    const pending = this.#pending
    if (typeof pending === 'string') return
    for (const key of keys) pending.add(key)
    if (pending.size > mostPending) this.#pending = 'stale'
    // A quiet collection of a busy server: its place must not grow old.
    else if (pending.size === 0 && this.#told.length === 0 && this.#token !== undefined && Date.now() - this.#kept > keepTokenMs) await this.#keep(this.#token)
  }

  close(): void {
    if (this.#stop.signal.aborted) return
    this.#mine.delete(this.#own)
    this.#stop.abort()
    this.#wake()
  }
  async free(): Promise<void> {
    if (this.#cursor !== 0 && this.#cursor !== 0n) await this.#db.command({ killCursors: this.#source.coll.collectionName, cursors: [this.#cursor] }, { session: this.#session! }).catch(() => {})
    await this.#session?.endSession().catch(() => {})
  }
}
