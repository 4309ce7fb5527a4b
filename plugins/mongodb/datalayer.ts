/** Rows, slots, settle, over documents. */
import type { Document } from 'mongodb'
import type { Collection, Ctx, DataCapabilities, Datalayer, Key, Notice, Outcome, Path, Query, Row, Slot, Tally, Value, Write, Written } from '../../core/contract.ts'
import { InlayError, quote } from '../../core/errors.ts'
import { Top } from '../../core/sort.ts'
import { pathIn } from './bson.ts'
import { answered, list } from './client.ts'
import { indexable } from './filter.ts'
import { collections, createCollection, derived, dropCollection, forgetSlot, indexName, indexNames, installs, keepSlot, slotsOf, valuesOf, type Place } from './schema.ts'
import { orphaned, prune, roomy, settle, upstreamThere, upstreamValued } from './settle.ts'
import { embedded, isThere, markFor, markIn, simple, Store, type Source, type Where } from './store.ts'
import { showViews } from './view.ts'
import { watch } from './watch.ts'
import { write } from './write.ts'

const findRows = 1000
const staleRows = 500
const maxDims = 100_000

function capabilitiesOf({ server }: Place): DataCapabilities {
  return Object.freeze({
    filters: ['and', 'or', 'not', 'eq', 'lt', 'lte', 'gt', 'gte', 'in', 'null', 'exists', 'prefix', 'keys'] as const, order: true, durable: true, writers: 'many', attaches: true,
    notices: server.streams ? 'all' : 'none', givenRevs: true, foreign: false, refuses: ['int64'] as const, loses: [] as const,
    limits: { docBytes: server.docBytes, ops: 5000, keys: 20_000, dims: maxDims, nameBytes: 120, keyBytes: 4000 },
    notes: [
      'A whole number beyond 64 bits has no form in BSON.', 'In collections of Inlay\'s own only documents whose _id is text are rows.',
      'The fields _rev, _marks, _cur, _outputs and _seen of attached documents are Inlay\'s: what another program writes there later is replaced.',
      'A document that has grown to within 16 KiB of what MongoDB holds has no room for a mark: no listener takes it.',
      'What another program writes gets its new rev from whoever watches, milliseconds later; a result that is stored before that is made anew after it.',
      ...(server.streams ? [] : ['The server is not part of a replica set, so it has no change streams: what other programs write is found by a scan only, "verify", and nobody is told of it.', 'The server is not part of a replica set: a write is acknowledged by this one server.']),
    ],
  } as const)
}

export class MongodbData implements Datalayer {
  readonly capabilities: DataCapabilities
  readonly watch?: NonNullable<Datalayer['watch']>
  readonly #store: Store
  /** For each watcher, the revs that this process writes by pipelines: its change stream may give them as whole replacements. */
  readonly #opening = new Map<string, Promise<void>>()
  readonly #mine = new Set<Set<string>>()

  constructor(place: Place) {
    this.#store = new Store(place)
    this.capabilities = capabilitiesOf(place)
    if (place.server.streams) this.watch = (collection: string, ctx: Ctx): AsyncIterable<Notice> => watch(this.#store, collection, this.#mine, ctx)
  }

  async create(collection: Collection, ctx: Ctx): Promise<void> {
    ctx.signal.throwIfAborted()
    await answered(createCollection(this.#store.place, collection), ctx)
    this.#store.changed()
  }
  installs(collection: Collection): Promise<readonly string[]> {
    return installs(this.#store.place, collection)
  }
  async drop(name: string, ctx: Ctx): Promise<void> {
    ctx.signal.throwIfAborted()
    for (const { id } of await answered(derived(this.#store.place, name), ctx)) this.#store.slots.delete(id)
    await answered(dropCollection(this.#store.place, name), ctx)
    this.#store.changed()
  }
  async list(ctx: Ctx): Promise<readonly Collection[]> {
    ctx.signal.throwIfAborted()
    return collections(this.#store.place)
  }

  async write(collection: string, ops: readonly Write[], ctx: Ctx): Promise<readonly Written[]> {
    const written = async (): Promise<readonly Written[]> => write(this.#store, await this.#store.source(collection), ops, (rev) => { for (const revs of this.#mine) remember(revs, rev) }, ctx)
    return ops.length === 0 ? [] : answered(written(), ctx)
  }

  async *find(query: Query, ctx: Ctx): AsyncIterable<readonly Row[]> {
    const store = this.#store, slots = (query.slots ?? []).map((id) => store.slot(id)), present = beside(store.present(query.slots ?? [], ctx))
    const source = await store.source(query.from)
    const where = await store.where(source, query.where, ctx), projection = store.projection(source, query.fields, slots)
    const page = async (raws: readonly Document[]): Promise<readonly Row[]> => {
      const fit = await store.stamped(source, raws, projection, ctx), outputs = await this.#outputs(source, slots, fit, ctx)
      return fit.map((raw): Row => { const key = store.keyOf(source, raw); return { key, rev: store.revOf(raw)!, doc: store.docOf(source, raw, query.fields), outputs: outputs(key) } })
    }
    const { after, skip = 0, limit } = query
    if (query.order !== undefined) {
      const raws = await this.#ordered(source, query, where, projection, ctx)
      await present
      for (let i = 0; i < raws.length; i += findRows) yield await page(raws.slice(i, i + findRows))
      return
    }
    for await (const raws of store.scan(source, [where], { projection, after, skip, ...(limit === undefined ? {} : { limit }), size: findRows }, ctx)) {
      const rows = await page(raws)
      await present
      if (rows.length > 0) yield rows
    }
    await present
  }
  async #outputs(source: Source, slots: readonly Slot[], raws: readonly Document[], ctx: Ctx): Promise<(key: Key) => Record<string, readonly Value[]>> {
    const found = await Promise.all(slots.map(async (slot) => [slot.id, await this.#store.outputs(source, slot, raws, ctx)] as const))
    return (key) => Object.fromEntries(found.flatMap(([id, values]) => { const of = values.get(key); return of === undefined ? [] : [[id, of]] }))
  }
  /** The server sorts where the paths hold scalars only; it puts typed arrays, and what a Value cannot hold, into another order than core does. */
  async #ordered(source: Source, { order = [], skip = 0, limit }: Query, compiled: Where | undefined, projection: Document, ctx: Ctx): Promise<readonly Document[]> {
    const store = this.#store, nameOf = ({ at }: Path): string => (at.length === 1 && at[0] === '_id' ? '_id' : pathIn(at)), paths = order.map(({ path }) => nameOf(path))
    const native = source.slot === undefined && await source.coll.findOne({ $and: [...(compiled === undefined ? [] : [compiled]), { $or: paths.filter((path) => path !== '_id').map((path) => ({ [path]: { $type: [...unordered] } })).concat([{ _id: { $in: [] } } as never]) }] } as Document, { projection: { _id: 1 }, collation: simple, signal: ctx.signal }) === null
    if (native) {
      const sort = Object.fromEntries([...order.map(({ path, descending }): [string, 1 | -1] => [nameOf(path), descending ? -1 : 1]), ...(paths.includes('_id') ? [] : [['_id', 1] as [string, 1]])])
      return list(source.coll.find({ $and: [...(compiled === undefined ? [] : [compiled]), store.above(source, undefined)] } as Document, { projection, sort, skip, ...(limit === undefined ? {} : { limit }), collation: simple, allowDiskUse: true, signal: ctx.signal }))
    }
    // Ties, and `_id` itself, by the place in the scan, which is in the order of keys.
    let place = 0
    const top = new Top<Key>(order.map(({ path, descending }) => ({ path: path.at, descending })), limit === undefined ? undefined : skip + limit)
    for await (const raws of store.scan(source, [compiled], { projection: store.projection(source, undefined, []), size: findRows }, ctx)) {
      for (const raw of raws) { const at = String(place++).padStart(12, '0'); top.add({ ...store.docOf(source, raw), _id: at }, at, store.keyOf(source, raw)) }
    }
    const keys = top.rows().slice(skip), ids = await store.ids(source, keys, ctx), found = new Map<Key, Document>()
    for (let i = 0; i < keys.length; i += findRows) {
      for (const raw of await list(source.coll.find({ _id: { $in: keys.slice(i, i + findRows).map((key) => ids.get(key)) } } as Document, { projection, collation: simple, signal: ctx.signal }))) found.set(store.keyOf(source, raw), raw)
    }
    return keys.flatMap((key) => found.get(key) ?? [])
  }

  async count(query: Query, ctx: Ctx): Promise<number> {
    const store = this.#store, source = await store.source(query.from), where = await store.where(source, query.where, ctx)
    return this.#count(source, [where], query.after, ctx)
  }
  async #count(source: Source, where: readonly (Where | undefined)[], after: Key | undefined, ctx: Ctx): Promise<number> {
    const conditions = where.filter((w) => w !== undefined)
    if (source.slot === undefined) {
      return source.coll.countDocuments({ $and: [...conditions, this.#store.above(source, after)] } as Document, { collation: simple, signal: ctx.signal } as never)
    }
    let n = 0
    for await (const raws of this.#store.scan(source, conditions, { projection: { key: 1 }, after, size: findRows }, ctx)) n += raws.length
    return n
  }

  async openSlot(slot: Slot, ctx: Ctx): Promise<{ readonly filters: boolean }> {
    const store = this.#store
    ctx.signal.throwIfAborted()
    if (slot.shape.kind === 'vector' && slot.shape.dims > maxDims) throw new InlayError('UNSUPPORTED', `The output ${quote(slot.id)} has ${slot.shape.dims} dimensions; ${maxDims} are the most.`)
    if (!store.slots.has(slot.id) || store.slots.get(slot.id)!.label !== slot.label) {
      store.slots.set(slot.id, slot)
      this.#opening.set(slot.id, this.#makeSlot(slot, ctx))
    }
    try {
      await answered(this.#opening.get(slot.id)!, ctx)
    } catch (error) {
      store.slots.delete(slot.id)
      throw error
    }
    return { filters: embedded(slot) }
  }
  async #makeSlot(slot: Slot, ctx: Ctx): Promise<void> {
    const store = this.#store, source = await store.source(slot.collection), { place } = store
    const where = slot.where !== undefined && indexable(slot.where) ? await store.where(source, slot.where, ctx) : undefined
    const paths = store.paths(slot)
    // The rows that are not current, in the order of their keys.
    for (const [i, path] of paths.entries()) await source.coll.createIndex({ [path]: 1, [source.slot === undefined ? '_id' : 'key']: 1 }, { name: `${indexName(slot.id)}${i === 0 ? '' : `_${i}`}`, collation: simple, ...(where === undefined ? {} : { partialFilterExpression: where as Document }) })
    if (slot.many) await valuesOf(source.table.home, slot.id).createIndex({ key: 1 }, { name: 'inlay_key', collation: simple })
    const known = (await slotsOf(place)).find(({ id }) => id === slot.id)
    if (known === undefined || known.label !== slot.label) {
      await keepSlot(place, { id: slot.id, collection: slot.collection, upstream: slot.upstream, many: slot.many, embedded: embedded(slot), ...(slot.label === undefined ? {} : { label: slot.label }), at: known?.at ?? Date.now() })
      if (slot.label !== undefined && source.slot === undefined) await showViews(place, source.table)
    }
  }
  async dropSlot(id: string, ctx: Ctx): Promise<void> {
    ctx.signal.throwIfAborted()
    await answered(this.#dropSlot(id), ctx)
  }
  async #dropSlot(id: string): Promise<void> {
    const store = this.#store, { place } = store
    const known = (await slotsOf(place)).find((slot) => slot.id === id)
    if (known === undefined) return
    const table = await store.table(await this.#rootName(known.collection)).catch(() => undefined)
    for (const slot of [...(await derived(place, id)).toReversed(), known]) {
      if (table !== undefined) await forgetSlot(place, slot, table)
      store.slots.delete(slot.id)
      this.#opening.delete(slot.id)
    }
    if (known.label !== undefined && table !== undefined) await showViews(place, table)
  }
  async #rootName(collection: string): Promise<string> {
    const slots = new Map((await slotsOf(this.#store.place)).map((slot) => [slot.id, slot]))
    let name = collection
    while (slots.has(name)) name = slots.get(name)!.collection
    return name
  }

  async *rows(slot: Slot, which: 'stale' | 'failed' | 'all', keys: readonly Key[] | 'all', ctx: Ctx): AsyncIterable<readonly Row[]> {
    const store = this.#store, present = beside(store.present([slot.id, ...slot.upstream], ctx))
    const source = await store.source(slot.collection), where = await store.where(source, slot.where, ctx), paths = store.paths(slot), ups = slot.upstream.map((id) => store.slot(id))
    const absent = paths.map((path) => ({ [path]: { $exists: false } })), state: Where = which === 'stale' ? (absent.length === 1 ? absent[0]! : { $or: absent }) : which === 'failed' ? { [`_marks.${slot.id}.error`]: { $exists: true } } : {}
    const hinted = keys === 'all' ? undefined : await store.where(source, { kind: 'keys', keys }, ctx)
    const projection = store.projection(source, slot.fields, ups, [slot.id, ...slot.upstream])
    const indexes = which === 'stale' && keys === 'all' && paths.length === 1 ? await indexNames(source.coll) : [], hint = indexes.length === 0 ? undefined : indexName(slot.id)
    // Another program may have dropped it.
    if (hint !== undefined && !indexes.includes(hint)) await this.#makeSlot(slot, ctx)
    for await (const raws of store.scan(source, [state, which === 'stale' ? roomy(store.place) : undefined, upstreamThere(store, slot), hinted, where], { projection, hint, size: staleRows }, ctx)) {
      const fit = (await store.stamped(source, raws, projection, ctx)).filter((raw) => ups.every((up) => markIn(raw, up.id) !== undefined)), outputs = await this.#outputs(source, ups, fit, ctx)
      const rows = fit.flatMap((raw): Row[] => {
        const key = store.keyOf(source, raw), rev = [store.revOf(raw), ...slot.upstream.map((id) => markIn(raw, id)!.hash)].join('|'), mark = markIn(raw, slot.id), of = outputs(key)
        // A value went between two reads: its row is stale by now.
        if (ups.some((up) => of[up.id] === undefined)) return []
        return [{ key, rev, doc: store.docOf(source, raw, slot.fields), outputs: of, ...(mark === undefined ? {} : { mark: markFor(mark, rev, paths.every((path) => isThere(raw, path))) }) }]
      })
      await present
      if (rows.length > 0) yield rows
    }
    await present
  }

  async tally(slot: Slot, ctx: Ctx): Promise<Tally> {
    const store = this.#store
    await store.present([slot.id], ctx)
    const source = await store.source(slot.collection), where = await store.where(source, slot.where, ctx), selected = [where, upstreamValued(slot)], mark = `_marks.${slot.id}`
    const paths = store.paths(slot), current = Object.fromEntries(paths.map((path) => [path, { $exists: true }])), stale: Where = { $or: paths.map((path) => ({ [path]: { $exists: false } })) }
    const count = (...conditions: readonly (Where | undefined)[]): Promise<number> => this.#count(source, conditions, undefined, ctx)
    const [rows, missing, old, failed, orphans] = await Promise.all([
      count(...selected), count(...selected, stale, { [mark]: { $exists: false } }), count(...selected, stale, { [mark]: { $exists: true } }), count(...selected, current, { [`${mark}.error`]: { $exists: true } }),
      where === undefined && slot.upstream.length === 0 ? 0 : count(orphaned(slot, where)),
    ])
    return { rows, missing, stale: old, failed, orphaned: orphans }
  }

  async settle(slot: Slot, outcomes: readonly Outcome[], ctx: Ctx): Promise<readonly Key[]> {
    await answered(this.#store.present([slot.id], ctx), ctx)
    return answered(settle(this.#store, slot, outcomes, ctx), ctx)
  }
  prune(slot: Slot, keys: readonly Key[] | 'all', ctx: Ctx): Promise<number> {
    return answered(prune(this.#store, slot, keys, ctx), ctx)
  }
  /** A command of the server, `{ ping: 1 }`, on the database of the namespace. */
  async native(statement: unknown, ctx: Ctx): Promise<unknown> {
    ctx.signal.throwIfAborted()
    return answered(this.#store.place.home.db.command(statement as Document), ctx)
  }
}

/** What goes on beside other work, and throws where it is awaited only. */
function beside(work: Promise<void>): Promise<void> {
  work.catch(() => {})
  return work
}

/** Types whose order, alone or within, is not core's. */
const unordered: readonly string[] = ['object', 'array', 'binData', 'objectId', 'decimal', 'regex', 'timestamp', 'javascript', 'symbol', 'minKey', 'maxKey', 'undefined', 'dbPointer']
const remembered = 10_000
function remember(revs: Set<string>, rev: string): void {
  revs.add(rev)
  if (revs.size > remembered) revs.delete(revs.values().next().value!)
}
