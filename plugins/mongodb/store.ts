/**
 * What reading needs: where rows lie, their keys and revs, scans in the order of keys, and the outputs of rows.
 *
 * Everything that decides about a row lies in its document, so that one update of it is fence and commit:
 *   _rev      a UUID, new with every write of Inlay's; `watch`, or a reader, gives one to what others wrote
 *   _marks    { <slot>: { rev, hash, error?, tries?, none?, by?, gen?, n?, many? } }, what an output was made from; `gen` names values in the slot's side collection
 *   _cur      { <slot>: { <slot that reads it>: {} } }, there = current: every write unsets `_cur`, so that absence means stale
 *   _outputs  { <slot>: value }, outputs that are no vector, no bytes and not many
 *   _seen     time of the last foreign event that was given a rev, so that two watchers do not do it twice; older than any where a reader gave it
 * Side collection of a slot: { _id: { k: key, g: generation, o: offset }, v }, written before the mark that names it, never changed, removed when no mark can name
 * it any more. Of a slot with many outputs each is itself a row, with `key` and the fields above.
 */
import type { Collection as Coll, Document, ObjectId } from 'mongodb'
import type { Ctx, Doc, Filter, Key, Mark, Path, Rev, Slot, Value } from '../../core/contract.ts'
import { pick } from '../../core/encoding.ts'
import { InlayError, quote } from '../../core/errors.ts'
import { evaluate } from '../../core/match.ts'
import { fieldIn, pathIn } from './bson.ts'
import { list } from './client.ts'
import { withoutPlan } from './errors.ts'
import { compileFilter, everything, literal, onPath, type Leaf } from './filter.ts'
import { keyText, textual } from './keys.ts'
import { anyRev, metaOf, pathsOf, rootOf, tableOf, valuesOf, type Place, type Table } from './schema.ts'

export type Where = Readonly<Record<string, unknown>>
export interface StoredMark { readonly rev: Rev; readonly hash: string; readonly error?: string; readonly tries?: number; readonly none?: true; readonly by?: string; readonly gen?: ObjectId; readonly n?: number; readonly many?: true; /** The row's key, where that is not the text of its `_id`: for the view. */ readonly k?: Key }
/** A collection, or a slot with many outputs read as one. */
export interface Source {
  readonly name: string
  readonly coll: Coll<Document>
  readonly table: Table
  readonly slot: Slot | undefined
}
/** How a scan goes. */
export interface Scan { readonly projection?: Document; readonly after?: Key | undefined; readonly limit?: number; readonly skip?: number; readonly hint?: string | undefined; readonly size: number }

export const simple: { readonly locale: 'simple' } = { locale: 'simple' }
const tableMs = 1000
const claims = 'ffffffff-ffff'
const chunkKey = /^(.*)#(0|[1-9]\d{0,8})$/s

export class Store {
  readonly place: Place
  readonly slots: Map<string, Slot> = new Map()
  /** Claims of removes whose answer was lost. */
  readonly lostClaims: Set<Rev> = new Set()
  readonly #tables = new Map<string, { readonly table: Promise<Table>; readonly read: number }>()

  constructor(place: Place) {
    this.place = place
  }

  slot(id: string): Slot {
    const slot = this.slots.get(id)
    if (slot === undefined) throw new InlayError('NOT_FOUND', `The slot ${quote(id)} is not open here. Open it first.`)
    return slot
  }
  /** Throws where another process has dropped one of these slots, whose outputs would look as if there were none. */
  async present(ids: readonly string[], { signal }: Ctx): Promise<void> {
    if (ids.length === 0) return
    signal.throwIfAborted()
    const there = new Set((await list(metaOf(this.place).find({ _id: { $in: ids.map((id) => `slot:${id}`) as never[] } }, { projection: { _id: 1 }, signal }))).map(({ _id }) => String(_id)))
    const gone = ids.find((id) => !there.has(`slot:${id}`))
    if (gone === undefined) return
    this.slots.delete(gone)
    throw new InlayError('NOT_FOUND', `There is no slot ${quote(gone)} in this database. Was it dropped by another program?`)
  }
  /** What a name means is asked again after a while: another process may have dropped it. */
  table(name: string): Promise<Table> {
    const known = this.#tables.get(name)
    if (known !== undefined && performance.now() - known.read < tableMs) return known.table
    const table = tableOf(this.place, name)
    this.#tables.set(name, { table, read: performance.now() })
    table.catch(() => this.#tables.delete(name))
    return table
  }
  /** Names mean other things now. */
  changed(): void {
    this.#tables.clear()
  }
  async source(name: string): Promise<Source> {
    const slot = this.slots.get(name)
    if (slot === undefined) {
      const table = await this.table(name)
      return { name, coll: table.coll, table, slot }
    }
    const table = await this.root(slot)
    return { name, coll: valuesOf(table.home, name), table, slot }
  }
  async root(slot: Slot): Promise<Table> {
    let of = slot.collection
    while (this.slots.has(of)) of = this.slots.get(of)!.collection
    const table = await this.table(of).catch(async (error: unknown) => (await rootOf(this.place, slot)) ?? Promise.reject(error))
    return table
  }
  paths(slot: Slot): readonly string[] {
    return pathsOf(slot, this.slots)
  }

  keyOf(source: Source, raw: Document): Key {
    return source.slot === undefined ? source.table.keys.keyOf(raw['_id'])! : raw['key'] as Key
  }
  /** Undefined where nobody has given one that we would take for ours. */
  revOf(raw: Document): Rev | undefined {
    const rev = raw['_rev'] as { readonly sub_type?: number; toString(encoding: 'hex'): string } | undefined
    return rev?.sub_type === 4 ? uuidText(rev.toString('hex')) : undefined
  }
  /** A rev as it is stored; what is no UUID equals none that is. */
  storedRev(rev: Rev): unknown {
    const { UUID } = this.place.server.driver
    return UUID.isValid(rev) ? new UUID(rev) : rev
  }
  docOf(source: Source, raw: Document, fields?: readonly string[]): Doc {
    const { codec } = this.place
    const doc: Doc = source.slot === undefined ? codec.decodeFields(raw) : { value: codec.decode(raw['v']), source: (raw['_id'] as { readonly k: string }).k, offset: (raw['_id'] as { readonly o: number }).o }
    return fields === undefined ? doc : pick(doc, fields)
  }
  /** Fields to read, with marks and outputs of some slots. */
  projection(source: Source, fields: readonly string[] | undefined, slots: readonly Slot[], marks: readonly string[] = []): Document {
    const inside = [...slots.flatMap((s) => [embedded(s) ? `_outputs.${s.id}` : `_marks.${s.id}`]), ...marks.map((id) => `_marks.${id}`)]
    if (source.slot !== undefined) return { key: 1, v: 1, _rev: 1, _cur: 1, ...Object.fromEntries(inside.map((path) => [path, 1])) }
    const names = fields?.map(fieldIn)
    if (names === undefined || names.some((name) => !isPlain(name))) {
      if (inside.length === 0) return { _outputs: 0, _marks: 0, _cur: 0, _seen: 0 }
      const others = [...this.slots.keys()].filter((id) => !inside.includes(`_outputs.${id}`))
      return { _seen: 0, ...Object.fromEntries(others.map((id) => [`_outputs.${id}`, 0])) }
    }
    return { _rev: 1, ...(marks.length > 0 ? { _cur: 1 } : {}), ...Object.fromEntries([...names, ...new Set(inside)].map((path) => [path, 1])) }
  }

  /** `_id`s of the rows with these keys, where a row can have one. */
  async ids(source: Source, keys: readonly Key[], ctx: Ctx): Promise<Map<Key, unknown>> {
    if (source.slot === undefined) return new Map(keys.flatMap((key): [Key, unknown][] => { const id = source.table.keys.idOf(key); return id === undefined ? [] : [[key, id]] }))
    const split = keys.flatMap((key) => { const parts = chunkKey.exec(key); return parts === null ? [] : [{ key, k: parts[1]!, o: Number(parts[2]) }] })
    const marks = await this.marks(source.slot, [...new Set(split.map((s) => s.k))], ctx)
    return new Map(split.flatMap(({ key, k, o }): [Key, unknown][] => { const mark = marks.get(k)?.mark; return mark?.gen === undefined || o >= (mark.n ?? 0) ? [] : [[key, { k, g: mark.gen, o }]] }))
  }
  /** Rev and mark of a slot, of the rows with these keys that are there. */
  async marks(slot: Slot, keys: readonly Key[], ctx: Ctx): Promise<Map<Key, { readonly id: unknown; readonly rev: Rev | undefined; readonly mark: StoredMark | undefined }>> {
    if (keys.length === 0) return new Map()
    const source = await this.source(slot.collection), ids = await this.ids(source, keys, ctx)
    const raws = await list(source.coll.find({ _id: { $in: [...ids.values()] as never[] } }, { projection: { key: 1, _rev: 1, [`_marks.${slot.id}`]: 1 }, collation: simple, signal: ctx.signal }))
    return new Map(raws.map((raw) => [this.keyOf(source, raw), { id: raw['_id'] as unknown, rev: this.revOf(raw), mark: markIn(raw, slot.id) }]))
  }

  /** The condition, where the source's rows are meant. */
  async where(source: Source, filter: Filter | undefined, ctx: Ctx): Promise<Where | undefined> {
    if (filter === undefined) return undefined
    await this.present(slotsIn(filter), ctx)
    const { table, slot } = source, foreign = table.attached && slot === undefined
    // Keys of other types the server cannot write: they are read.
    const rest = foreign && comparesKeys(filter) ? (await list(source.coll.find({ $nor: [textual] } as Document, { projection: { _id: 1 }, signal: ctx.signal }))).map(({ _id }) => ({ _id: _id as unknown, key: table.keys.keyOf(_id)! })) : []
    const keyIn = (keys: readonly Key[]): Where => (slot === undefined ? { _id: { $in: keys.map((key) => table.keys.idOf(key)).filter((id) => id !== undefined) } } : { key: { $in: keys } })
    const onForeignKey = (leaf: Leaf): Where => {
      const { value } = leaf as { readonly value: string }, compared = leaf.kind === 'prefix' ? { $regexMatch: { input: keyText, regex: `^${literal(value)}` } } : { [`$${leaf.kind}`]: [keyText, { $literal: value }] }
      return { $or: [{ $and: [textual, { $expr: compared }] }, { _id: { $in: rest.filter(({ key }) => evaluate(leaf, key, {})).map(({ _id }) => _id) } }] }
    }
    return compileFilter(filter, {
      path: (path) => this.#path(path, slot), keyIn,
      onKey: (leaf) => (foreign ? onForeignKey(leaf) : onPath(slot === undefined ? '_id' : 'key', leaf)),
    })
  }
  #path({ slot, at }: Path, chunks: Slot | undefined): string {
    if (slot !== undefined) return ['_outputs', slot, ...(at.length === 0 ? [] : [pathWithin(at)])].join('.')
    if (chunks === undefined) return pathIn(at)
    const first = chunkFields.get(at[0]!) ?? nowhere
    return at.length === 1 ? first : `${first}.${pathWithin(at.slice(1))}`
  }

  /** Documents in the order of their keys, in collections of others in that of their `_id`s, in pages that hold nothing between two of them. Of a slot with many outputs those that count. */
  async *scan(source: Source, where: readonly (Where | undefined)[], { limit = Infinity, skip = 0, ...scan }: Scan, ctx: Ctx): AsyncIterable<readonly Document[]> {
    const conditions = where.filter((w) => w !== undefined)
    if (source.slot === undefined) {
      yield* this.#pages(source, conditions, { ...scan, limit, skip }, ctx)
      return
    }
    let left = limit, skipped = 0
    for await (const page of this.#pages(source, conditions, scan, ctx)) {
      const live = await this.live(source, page, ctx), jump = Math.min(skip - skipped, live.length), cut = live.slice(jump).slice(0, left)
      skipped += jump
      left -= cut.length
      if (cut.length > 0) yield cut
      if (left <= 0) return
    }
  }
  /** Rows above a key. */
  above(source: Source, after: Key | undefined): Where {
    if (source.slot !== undefined) return after === undefined ? everything : { key: { $gt: after } }
    if (!source.table.attached) return { _id: after === undefined ? { $gte: '' } : { $gt: after } }
    const id = after === undefined ? undefined : source.table.keys.idOf(after)
    return id === undefined ? everything : { $expr: { $gt: ['$_id', { $literal: id }] } }           // an expression compares ids of different types
  }
  /** By a field whose own order is that of the keys. */
  async *#pages(source: Source, conditions: readonly Where[], { projection, after: start, limit = Infinity, skip = 0, hint, size }: Scan, ctx: Ctx): AsyncIterable<readonly Document[]> {
    let after = start, left = limit, passed = skip
    while (left > 0) {
      const most = Math.min(size, left)
      const cursor = source.coll.find({ $and: [...conditions, this.above(source, after)] } as Document, { ...(projection === undefined ? {} : { projection }), sort: { [source.slot === undefined ? '_id' : 'key']: 1 }, limit: most, batchSize: most, skip: passed, collation: simple, ...(hint === undefined ? {} : { hint }), signal: ctx.signal })
      let found = 0
      try {
        // What the server sends at once has at most 16 MB, whatever the documents are.
        while (await cursor.hasNext()) {
          const batch = cursor.readBufferedDocuments()
          found += batch.length
          after = this.keyOf(source, batch.at(-1)!)
          yield batch
        }
      } catch (error) {
        throw withoutPlan(error)
      } finally {
        await cursor.close()
      }
      if (found < most) return
      left -= found
      passed = 0
    }
  }
  /** Of values of a slot with many outputs those whose row's mark names them. */
  async live(source: Source, raws: readonly Document[], ctx: Ctx): Promise<readonly Document[]> {
    if (source.slot === undefined || raws.length === 0) return raws
    const idOf = (raw: Document): { readonly k: Key; readonly g: ObjectId } => raw['_id'] as never
    const marks = await this.marks(source.slot, [...new Set(raws.map((raw) => idOf(raw).k))], ctx)
    return raws.filter((raw) => marks.get(idOf(raw).k)?.mark?.gen?.equals(idOf(raw).g))
  }
  /** A document that has no rev yet gets one before anybody may act on it, with a `_seen` older than any change, for `watch`; then rev and document are read together. */
  async stamped(source: Source, raws: readonly Document[], projection: Document | undefined, ctx: Ctx): Promise<readonly Document[]> {
    const bare = source.slot === undefined ? raws.filter((raw) => this.revOf(raw) === undefined).map((raw) => raw['_id'] as unknown) : []
    if (bare.length === 0) return raws
    await source.coll.updateMany({ _id: { $in: bare }, _rev: { $not: { $type: 'binData' } } } as Document, { $set: { _rev: this.newRev(), _seen: new this.place.server.driver.Timestamp({ t: 0, i: 1 }) }, $unset: { _cur: '' } }, { collation: simple })
    const again = new Map((await list(source.coll.find({ _id: { $in: bare } } as Document, { ...(projection === undefined ? {} : { projection }), collation: simple, signal: ctx.signal }))).map((raw) => [this.keyOf(source, raw), raw]))
    return raws.flatMap((raw) => (this.revOf(raw) === undefined ? again.get(this.keyOf(source, raw)) ?? [] : [raw])).filter((raw) => this.revOf(raw) !== undefined)
  }
  newRev(): unknown {
    return new this.place.server.driver.UUID()
  }
  /** A rev that says that its row is being removed. */
  newClaim(): unknown {
    return new this.place.server.driver.UUID(`${claims}${crypto.randomUUID().slice(claims.length)}`)
  }
  /** Every such rev. */
  claimed(): Document {
    return { ...anyRev(this.place), $gte: new this.place.server.driver.UUID(`${claims}-0000-0000-000000000000`) }
  }

  /** Outputs of documents that were read with the projection for it. */
  async outputs(source: Source, slot: Slot, raws: readonly Document[], ctx: Ctx): Promise<ReadonlyMap<Key, readonly Value[]>> {
    const found = new Map<Key, readonly Value[]>(), { codec } = this.place
    if (embedded(slot)) {
      for (const raw of raws) {
        const outputs = raw['_outputs'] as Document | undefined
        if (outputs !== undefined && typeof outputs === 'object' && Object.hasOwn(outputs, slot.id)) found.set(this.keyOf(source, raw), [codec.decode(outputs[slot.id])])
      }
      return found
    }
    const coll = valuesOf(source.table.home, slot.id)
    let todo = raws.flatMap((raw) => { const mark = markIn(raw, slot.id); return mark?.gen === undefined ? [] : [{ key: this.keyOf(source, raw), mark }] })
    // A generation may be replaced and removed between the two reads: then its mark is read again.
    for (let round = 0; todo.length > 0 && round < 10; round++) {
      const values = new Map<string, Value[]>(), name = (key: Key, gen: ObjectId): string => `${gen.toHexString()}${key}`
      for (const { _id, v } of await list(coll.find({ _id: { $in: todo.flatMap(({ key, mark }) => valueIds(key, mark)) as never[] } }, { projection: { v: 1 }, signal: ctx.signal })) as unknown as readonly { readonly _id: { readonly k: Key; readonly g: ObjectId; readonly o: number }; readonly v: unknown }[]) {
        const of = values.get(name(_id.k, _id.g)) ?? []
        of[_id.o] = codec.decode(v)
        values.set(name(_id.k, _id.g), of)
      }
      const short = todo.filter(({ key, mark }) => {
        const of = values.get(name(key, mark.gen!)) ?? []
        if (of.length !== mark.n || of.includes(undefined as never)) return true
        found.set(key, of)
        return false
      })
      const now = await this.marks(slot, short.map(({ key }) => key), ctx)
      todo = short.flatMap(({ key }) => { const mark = now.get(key)?.mark; return mark?.gen === undefined ? [] : [{ key, mark }] })
    }
    return found
  }
}

export function isClaim(rev: Rev): boolean {
  return rev.startsWith(claims)
}
/** Whether the outputs of a slot lie in their rows, and can be filtered there. */
export function embedded(slot: Pick<Slot, 'many' | 'shape'>): boolean {
  return !slot.many && slot.shape.kind !== 'vector' && slot.shape.kind !== 'bytes'
}
export function markIn(raw: Document, slot: string): StoredMark | undefined {
  const mark = (raw['_marks'] as Document | undefined)?.[slot] as StoredMark | undefined
  return mark !== null && typeof mark === 'object' && typeof mark.hash === 'string' ? mark : undefined
}
/** `_id`s of the values that a mark names. */
export function valueIds(key: Key, mark: StoredMark | undefined): readonly { readonly k: Key; readonly g: ObjectId; readonly o: number }[] {
  return mark?.gen === undefined ? [] : Array.from({ length: mark.n ?? 0 }, (_, o) => ({ k: key, g: mark.gen!, o }))
}
/** What core is told of a mark: where it is not current, its rev is not the row's. */
export function markFor(mark: StoredMark, rev: Rev, current: boolean): Mark {
  return {
    rev: current ? rev : mark.rev === rev ? '' : mark.rev, hash: mark.hash, ...(mark.error === undefined ? {} : { error: mark.error, tries: mark.tries ?? 0 }), ...(mark.none === true ? { none: true as const } : {}), ...(mark.by === undefined ? {} : { by: mark.by }),
  }
}
/** A name that is a path by itself. */
export function isPlain(name: string): boolean {
  return name !== '' && !name.includes('.') && !name.startsWith('$')
}
export function isThere(raw: Document, path: string): boolean {
  return path.split('.').reduce<unknown>((value, name) => (value as Document | undefined)?.[name], raw) !== undefined
}

const chunkFields: ReadonlyMap<string, string> = new Map([['value', 'v'], ['source', '_id.k'], ['offset', '_id.o']])
const nowhere = '\u0001nowhere'
function pathWithin(at: readonly string[]): string {
  return pathIn(['', ...at]).slice(1)
}
function slotsIn(filter: Filter): readonly string[] {
  switch (filter.kind) {
    case 'and': case 'or': return filter.of.flatMap(slotsIn)
    case 'not': return slotsIn(filter.of)
    case 'keys': return []
    default: return filter.path.slot === undefined ? [] : [filter.path.slot]
  }
}
function comparesKeys(filter: Filter): boolean {
  switch (filter.kind) {
    case 'and': case 'or': return filter.of.some(comparesKeys)
    case 'not': return comparesKeys(filter.of)
    case 'keys': return false
    default: return filter.path.slot === undefined && filter.path.at[0] === '_id' && !['eq', 'in', 'null', 'exists'].includes(filter.kind)
  }
}
function uuidText(hex: string): Rev {
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
}
