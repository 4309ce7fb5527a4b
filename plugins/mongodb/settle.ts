/** Outputs: stored with their marks by one update of their row, removed when nothing names them. */
import type { Document, ObjectId } from 'mongodb'
import type { Ctx, Key, Outcome, Rev, Slot } from '../../core/contract.ts'
import { same } from '../../core/value.ts'
import { bulk, exact, type Operation } from './bulk.ts'
import { list, reserve } from './client.ts'
import { valuesOf, type Home, type Place } from './schema.ts'
import { embedded, markIn, simple, valueIds, type Source, type Store, type StoredMark, type Where } from './store.ts'

const sweepRows = 1000

export async function settle(store: Store, slot: Slot, outcomes: readonly Outcome[], ctx: Ctx): Promise<readonly Key[]> {
  if (outcomes.length === 0) return []
  const source = await store.source(slot.collection), refused = embedded(slot) ? await settleInRows(store, source, slot, outcomes, ctx) : await settleBeside(store, source, slot, outcomes, ctx)
  return outcomes.filter(({ key }) => refused.has(key)).map(({ key }) => key)
}

/** The row is the fence: its rev, and that what the slot reads is still the same and current. Settling a value of a slot while that list is being replaced waits. */
export function fence(store: Store, source: Source, slot: Slot, rev: Rev): Document {
  const [own, ...hashes] = rev.split('|')
  return {
    _rev: store.storedRev(own!), ...upstreamThere(store, slot), ...Object.fromEntries(slot.upstream.map((id, i) => [`_marks.${id}.hash`, hashes[i] ?? ''])),
    ...(source.slot === undefined ? {} : { '_fence.0': { $exists: false } }),
  }
}
/** Every output that the slot reads is current and a value. */
export function upstreamThere(store: Store, slot: Slot): Document {
  return Object.fromEntries(slot.upstream.flatMap((id) => [...store.paths(store.slot(id)).map((path) => [path, { $exists: true }]), ...Object.entries(valued(id))]))
}
function valued(id: string): Where {
  return { [`_marks.${id}.error`]: { $exists: false }, [`_marks.${id}.none`]: { $exists: false } }
}
/** Every output that the slot reads is a value, current or not. */
export function upstreamValued(slot: Slot): Document {
  return Object.fromEntries(slot.upstream.flatMap((id) => [[`_marks.${id}.hash`, { $exists: true }], ...Object.entries(valued(id))]))
}

function markOf(outcome: Outcome, rest: Partial<StoredMark> = {}): StoredMark {
  return { rev: outcome.rev, hash: outcome.hash, ...(outcome.by === undefined ? {} : { by: outcome.by }), ...(outcome.kind === 'error' ? { error: outcome.error, tries: outcome.tries } : outcome.kind === 'skip' ? { none: true } : rest) }
}
function current(store: Store, slot: Slot): Document {
  return Object.fromEntries(store.paths(slot).map((path) => [path, {}]))
}
function moved(store: Store, slot: Slot, filter: Document, { rev, hash }: Outcome): Operation {
  return exact({ ...filter, [`_marks.${slot.id}.hash`]: hash }, { $set: { [`_marks.${slot.id}.rev`]: rev, ...current(store, slot) } })
}

async function settleInRows(store: Store, source: Source, slot: Slot, outcomes: readonly Outcome[], ctx: Ctx): Promise<ReadonlySet<Key>> {
  const ids = await store.ids(source, outcomes.map(({ key }) => key), ctx), { codec, server } = store.place, path = `_outputs.${slot.id}`, mark = `_marks.${slot.id}`
  const known = outcomes.filter(({ key }) => ids.has(key)), refused = new Set(outcomes.filter(({ key }) => !ids.has(key)).map(({ key }) => key))
  const step = (outcome: Outcome): Operation => {
    const filter = { _id: ids.get(outcome.key), ...fence(store, source, slot, outcome.rev) }
    if (outcome.kind === 'same') return moved(store, slot, filter, outcome)
    return exact(filter, { $set: { ...(outcome.kind === 'values' ? { [path]: codec.encode(outcome.values[0]!) } : {}), [mark]: markOf(outcome), ...current(store, slot) }, ...(outcome.kind === 'values' ? {} : { $unset: { [path]: '' } }) })
  }
  const fitting = known.map((outcome) => (outcome.kind === 'values' && !codec.fits({ v: codec.encode(outcome.values[0]!) }, server.docBytes) ? tooLarge(outcome, server.docBytes) : outcome))
  for (let todo = fitting; todo.length > 0;) {
    const answer = await bulk(source.coll, todo.map(step), ctx)
    for (const n of answer.refused) refused.add(todo[n]!.key)
    // What a row will not hold beside its document is that row's error, and only that row's. One without room for that is refused.
    for (const { code, message } of answer.errors.values()) if (!tooLargeCodes.has(code)) throw Object.assign(new Error(message), { code })
    for (const n of answer.errors.keys()) if (todo[n]!.kind === 'error') refused.add(todo[n]!.key)
    todo = [...answer.errors.keys()].flatMap((n) => (todo[n]!.kind === 'error' ? [] : [tooLarge(todo[n]!, server.docBytes)]))
  }
  return refused
}
/** Rows that have room for a mark. One without would be refused each time. */
export function roomy({ server: { docBytes } }: Place): Where {
  return { $expr: { $lte: [{ $bsonSize: '$$ROOT' }, docBytes + reserve - markRoom] } }
}
const markRoom = 16 * 1024
const tooLargeCodes: ReadonlySet<number> = new Set([10334, 17419, 17420])
function tooLarge({ key, rev, hash, by }: Outcome, docBytes: number): Outcome {
  return { key, rev, hash, kind: 'error', error: `the output does not fit into its row: MongoDB holds ${docBytes} bytes for both`, tries: 1, ...(by === undefined ? {} : { by }) }
}

/** Values under a generation of their own, then the mark that names it, which is the commit; then the generation that it replaced goes. */
async function settleBeside(store: Store, source: Source, slot: Slot, outcomes: readonly Outcome[], ctx: Ctx): Promise<ReadonlySet<Key>> {
  const { codec, server } = store.place, values = valuesOf(source.table.home, slot.id), mark = `_marks.${slot.id}`
  const before = await store.marks(slot, outcomes.map(({ key }) => key), ctx), refused = new Set<Key>()
  const fit = outcomes.flatMap((outcome) => {
    if (before.get(outcome.key)?.rev !== outcome.rev.split('|')[0]) { refused.add(outcome.key); return [] }
    return [outcome.kind === 'values' && outcome.values.some((v) => !codec.fits({ v: codec.encode(v) }, server.docBytes)) ? tooLarge(outcome, server.docBytes) : outcome]
  })
  const gen = new server.driver.ObjectId(), fresh = fit.flatMap((outcome) => (outcome.kind === 'values' ? [outcome] : []))
  const old = slot.many ? await fenced(source, slot, fit.filter(({ kind }) => kind !== 'same').map(({ key }) => ({ key, mark: before.get(key)?.mark })), gen, ctx) : new Map<string, Document>()
  const docs = fresh.flatMap(({ key, values: list }) => list.map((value, o): Document => {
    const _id = { k: key, g: gen, o }, v = codec.encode(value), chunk = old.get(`${key}#${o}`)
    if (!slot.many) return { _id, v }
    // What was made from the same value stays current; of another one, it stays to be seen.
    const kept = chunk !== undefined && same(codec.decode(chunk['v']), value) ? chunk : undefined
    return { _id, key: `${key}#${o}`, v, _rev: kept?.['_rev'] ?? store.newRev(), ...(kept?.['_cur'] === undefined ? {} : { _cur: kept['_cur'] }), ...(chunk?.['_marks'] === undefined ? {} : { _marks: chunk['_marks'] }), ...(chunk?.['_outputs'] === undefined ? {} : { _outputs: chunk['_outputs'] }) }
  }))
  if (docs.length > 0) await bulk(values, docs.map((document) => ({ insertOne: { document } })), ctx)
  const answer = await bulk(source.coll, fit.map((outcome) => {
    const was = before.get(outcome.key)!, filter = { _id: was.id, ...fence(store, source, slot, outcome.rev), [`${mark}.gen`]: was.mark?.gen ?? { $exists: false } }
    if (outcome.kind === 'same') return moved(store, slot, filter, outcome)
    return exact(filter, { $set: { [mark]: markOf(outcome, { gen, n: outcome.kind === 'values' ? outcome.values.length : 0, ...(slot.many ? { many: true } : {}), ...(outcome.key.startsWith('~') && source.table.attached ? { k: outcome.key } : {}) }), ...current(store, slot) } })
  }), ctx)
  for (const { code, message } of answer.errors.values()) if (!tooLargeCodes.has(code)) throw Object.assign(new Error(message), { code })
  for (const n of [...answer.refused, ...answer.errors.keys()]) refused.add(fit[n]!.key)

  const late = fresh.filter(({ key }) => refused.has(key)), done = fit.filter(({ key, kind }) => kind !== 'same' && !refused.has(key))
  const dead = [...late.flatMap(({ key, values: list }) => valueIds(key, { rev: '', hash: '', gen, n: list.length })), ...done.flatMap(({ key }) => valueIds(key, before.get(key)?.mark))]
  // Of values that are no more, what was derived goes too; what the new ones took over stays.
  const vanished = done.flatMap((outcome) => [...old].filter(([, chunk]) => (chunk['_id'] as { readonly k: Key }).k === outcome.key && (chunk['_id'] as { readonly o: number }).o >= (outcome.kind === 'values' ? outcome.values.length : 0)))
  await removeValues(source.table.home, vanished.map(([key, raw]) => ({ key, raw })), ctx)
  if (dead.length > 0) await values.deleteMany({ _id: { $in: dead as never[] } })
  const held = [...late, ...fit.filter(({ key }) => refused.has(key))].flatMap(({ key }) => valueIds(key, before.get(key)?.mark))
  if (slot.many && held.length > 0) await values.updateMany({ _id: { $in: held as never[] } }, { $pull: { _fence: gen } as never })
  // A process that died while it replaced a list left it fenced.
  const again = fit.filter(({ kind, key }) => kind === 'same' && !refused.has(key)).flatMap(({ key }) => valueIds(key, before.get(key)?.mark))
  if (slot.many && again.length > 0) await values.updateMany({ _id: { $in: again as never[] }, '_fence.0': { $exists: true } } as Document, { $unset: { _fence: '' } })
  return refused
}

/** The values that are about to be replaced, by key. From here on no result for one of them is accepted, which the new list would not have. */
async function fenced(source: Source, slot: Slot, of: readonly { readonly key: Key; readonly mark: StoredMark | undefined }[], gen: ObjectId, ctx: Ctx): Promise<ReadonlyMap<Key, Document>> {
  const ids = of.flatMap(({ key, mark }) => valueIds(key, mark)), values = valuesOf(source.table.home, slot.id)
  if (ids.length === 0) return new Map()
  await values.updateMany({ _id: { $in: ids as never[] } }, { $addToSet: { _fence: gen } as never })
  return new Map((await list(values.find({ _id: { $in: ids as never[] } }, { signal: ctx.signal }))).map((raw) => [raw['key'] as Key, raw]))
}

/** Removes what the marks of rows that are gone, or were, name, and what was derived from that. */
export async function removeValues(home: Home, rows: readonly { readonly key: Key; readonly raw: Document }[], ctx: Ctx, only?: string): Promise<void> {
  const bySlot = new Map<string, { readonly key: Key; readonly mark: StoredMark }[]>()
  for (const { key, raw } of rows) {
    for (const id of only === undefined ? Object.keys(raw['_marks'] as Document | undefined ?? {}) : [only]) {
      const mark = markIn(raw, id)
      if (mark?.gen !== undefined && (mark.n ?? 0) > 0) bySlot.set(id, [...bySlot.get(id) ?? [], { key, mark }])
    }
  }
  for (const [id, of] of bySlot) {
    const coll = valuesOf(home, id), ids = of.flatMap(({ key, mark }) => valueIds(key, mark))
    if (of.some(({ mark }) => mark.many)) {
      const below = await list(coll.find({ _id: { $in: ids as never[] }, _marks: { $exists: true } }, { projection: { key: 1, _marks: 1 } }))
      await removeValues(home, below.map((raw) => ({ key: raw['key'] as Key, raw })), ctx)
    }
    // Exact ids: a range by key would take what a settle in flight has just written for a row of the same key.
    await coll.deleteMany({ _id: { $in: ids as never[] } })
  }
}

/** Outputs of rows that are not selected, or whose upstream has no value. */
export function orphaned(slot: Slot, where: Where | undefined): Where {
  const conditions = [...(where === undefined ? [] : [where]), ...(slot.upstream.length === 0 ? [] : [upstreamValued(slot)])]
  return { [`_marks.${slot.id}`]: { $exists: true }, ...(conditions.length === 0 ? { _id: { $in: [] } } : { $nor: [{ $and: conditions }] }) }
}

export async function prune(store: Store, slot: Slot, keys: readonly Key[] | 'all', ctx: Ctx): Promise<number> {
  const source = await store.source(slot.collection), where = await store.where(source, slot.where, ctx), mark = `_marks.${slot.id}`
  const hint = keys === 'all' ? {} : { _id: { $in: [...(await store.ids(source, keys, ctx)).values()] } }
  const filter: Document = { $and: [orphaned(slot, where), hint] }, unset = Object.fromEntries([mark, `_outputs.${slot.id}`, ...store.paths(slot)].map((path) => [path, '']))
  ctx.signal.throwIfAborted()
  if (embedded(slot)) return (await source.coll.updateMany(filter, { $unset: unset }, { collation: simple })).modifiedCount
  let pruned = 0
  const flush = async (raws: readonly Document[]): Promise<void> => {
    const live = await store.live(source, raws, ctx)
    // Only what was seen: an output that was made anew meanwhile has another generation, and stays.
    const { refused } = await bulk(source.coll, live.map((raw) => exact({ $and: [{ _id: raw['_id'], [`${mark}.gen`]: markIn(raw, slot.id)?.gen ?? { $exists: false } }, filter] }, { $unset: unset })), ctx)
    const gone = live.filter((_, i) => !refused.has(i))
    pruned += gone.length
    await removeValues(source.table.home, gone.map((raw) => ({ key: store.keyOf(source, raw), raw })), ctx, slot.id)
  }
  for (let more = true; more;) {
    const raws = await list(source.coll.find(filter, { projection: { key: 1, [mark]: 1 }, limit: sweepRows, collation: simple, signal: ctx.signal })), was = pruned
    if (raws.length > 0) await flush(raws)
    more = raws.length === sweepRows && pruned > was
  }
  await sweep(store, source, slot, keys, ctx)
  return pruned
}

/** Removes values that no mark names, of processes that died. A settle in flight may be about to name them: it is refused, because its row gets a new rev first. */
export async function sweep(store: Store, source: Source, slot: Slot, keys: readonly Key[] | 'all', ctx: Ctx): Promise<void> {
  const values = valuesOf(source.table.home, slot.id), { MaxKey } = store.place.server.driver
  const cursor = values.find((keys === 'all' ? {} : { $or: [...keys.map((k) => ({ _id: { $gte: { k }, $lt: { k, g: new MaxKey() } } })), { _id: { $in: [] } }] }) as Document, { projection: { _id: 1 }, batchSize: sweepRows, signal: ctx.signal })
  const idOf = (raw: Document): { readonly k: Key; readonly g: ObjectId } => raw['_id'] as never
  const unnamed = async (raws: readonly Document[]): Promise<readonly Document[]> => {
    const marks = await store.marks(slot, [...new Set(raws.map((raw) => idOf(raw).k))], ctx)
    return raws.filter((raw) => !marks.get(idOf(raw).k)?.mark?.gen?.equals(idOf(raw).g))
  }
  const flush = async (raws: readonly Document[]): Promise<void> => {
    const suspect = await unnamed(raws)
    if (suspect.length === 0) return
    const ids = [...(await store.ids(source, [...new Set(suspect.map((raw) => idOf(raw).k))], ctx)).values()]
    // Its content is what it was, so what is current stays so.
    await source.coll.updateMany({ _id: { $in: ids }, _rev: { $type: 'binData' } } as Document, { $set: { _rev: store.newRev() } }, { collation: simple })
    const dead = await unnamed(suspect)
    if (slot.many) {
      const below = await list(values.find({ _id: { $in: dead.map((raw) => raw['_id']) }, _marks: { $exists: true } } as Document, { projection: { key: 1, _marks: 1 } })), named = await inherited(store, slot, below, ctx)
      await removeValues(source.table.home, below.filter((raw) => !named.has(raw['key'] as Key)).map((raw) => ({ key: raw['key'] as Key, raw })), ctx)
    }
    await values.deleteMany({ _id: { $in: dead.map((raw) => raw['_id']) as never[] } })
  }
  try {
    while (await cursor.hasNext()) await flush(cursor.readBufferedDocuments())
  } finally {
    await cursor.close()
  }
}
/** Keys whose value counts in another generation, which may have taken over what was derived. */
async function inherited(store: Store, slot: Slot, raws: readonly Document[], ctx: Ctx): Promise<ReadonlySet<Key>> {
  return new Set((await store.ids(await store.source(slot.id), raws.map((raw) => raw['key'] as Key), ctx)).keys())
}
