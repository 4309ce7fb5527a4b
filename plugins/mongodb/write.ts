/** Writes: one bulk for all operations, exact for each. */
import type { Document } from 'mongodb'
import type { Ctx, Doc, Key, Rev, Value, Write, Written } from '../../core/contract.ts'
import { same, setOwn } from '../../core/value.ts'
import { fieldIn, ours, Unfit } from './bson.ts'
import { bulk, exact, exactPipeline, isTaken, type Operation } from './bulk.ts'
import { list } from './client.ts'
import { removeValues } from './settle.ts'
import { isClaim, isPlain, simple, type Source, type Store } from './store.ts'

const rounds = 8

/** As `attempt`. What fails in its midst leaves claims behind; who removes these rows again in this process only ends what it began. */
export async function write(store: Store, source: Source, ops: readonly Write[], mine: (rev: Rev) => void, ctx: Ctx): Promise<readonly Written[]> {
  const claims: Rev[] = []
  try {
    return await attempt(store, source, ops, mine, claims, ctx)
  } catch (error) {
    for (const claim of claims) store.lostClaims.add(claim)
    throw error
  }
}
/** `mine` is told of revs that are written by pipelines, which the change stream may give as whole replacements. */
async function attempt(store: Store, source: Source, ops: readonly Write[], mine: (rev: Rev) => void, claims: Rev[], ctx: Ctx): Promise<readonly Written[]> {
  const { codec, server } = store.place, { driver, docBytes } = server, { keys, attached } = source.table
  const results: (Written | undefined)[] = ops.map(() => undefined), plan: { readonly at: number; readonly id: unknown; readonly rev: unknown; readonly step: Operation; readonly was?: Document; readonly plain?: Operation }[] = []
  /** That the document is the one that was read. A schema compares each field as a whole, whatever its name; values that are read only are left out. */
  const unchanged = (was: Doc): Document | undefined => {
    let raw: Record<string, unknown>
    try {
      raw = codec.encodeFields(was)
    } catch (error) {
      if (error instanceof Unfit) return undefined                          // read, but not written by Inlay
      throw error
    }
    const names = Object.keys(raw), properties: Document = Object.fromEntries(['_id', ...ours].map((name) => [name, {}]))
    for (const [i, [name, value]] of Object.entries(was).entries()) setOwn(properties as Record<string, Value>, names[i]!, (attached && opaqueIn({ [name]: value }) !== undefined ? {} : { enum: [raw[names[i]!]] }) as never)
    return { $jsonSchema: { ...(names.length === 0 ? {} : { required: names }), properties, additionalProperties: false } }
  }
  const keyOf = (at: number, id: unknown): Key => ops[at]!.key ?? keys.keyOf(id)!
  for (const [at, op] of ops.entries()) {
    const made = op.key === undefined ? (attached ? new driver.ObjectId() : crypto.randomUUID()) : undefined, id = made ?? keys.idOf(op.key!)
    const refuse = (reason: string): void => { results[at] = { status: 'refused', key: op.key ?? '', reason } }
    if (id === undefined) { results[at] = op.kind === 'insert' || op.kind === 'put' ? { status: 'refused', key: op.key!, reason: `no _id is written like this key` } : { status: 'missing', key: op.key! }; continue }
    const rev = op.kind === 'remove' ? store.newClaim() : op.as === undefined ? store.newRev() : store.storedRev(op.as)
    const given = op.kind === 'patch' ? op.set : op.kind === 'remove' ? {} : op.doc
    const strange = attached ? opaqueIn(given) : undefined
    if (strange !== undefined) { refuse(`the value under ${JSON.stringify(strange)} is one of MongoDB's that Inlay reads, but cannot write; change other fields of the document`); continue }
    let raw: Record<string, unknown>
    try {
      raw = codec.encodeFields(given)
    } catch (error) {
      if (!(error instanceof Unfit)) throw error
      refuse(error.message)
      continue
    }
    if (!codec.fits(raw, docBytes)) { refuse(`the document has ${driver.BSON.calculateObjectSize(raw)} bytes; MongoDB holds ${docBytes} beside what Inlay keeps in it`); continue }
    const filter: Document = { _id: id, ...('rev' in op && op.rev !== undefined ? { _rev: { $eq: store.storedRev(op.rev) } } : {}) }
    if (op.kind === 'remove') filter['_rev'] = { ...filter['_rev'] as Document | undefined, $not: store.claimed() }
    const was = 'was' in op && op.was !== undefined ? unchanged(op.was) : undefined
    plan.push({ at, id, rev, step: stepOf(op, { ...filter, ...was }, raw, rev, id), ...(was === undefined ? {} : { was, plain: stepOf(op, filter, raw, rev, id) }) })
    if (op.kind === 'remove') claims.push(String(rev))
    if ('updateOne' in plan.at(-1)!.step && Array.isArray((plan.at(-1)!.step as { readonly updateOne: { readonly update: unknown } }).updateOne.update)) mine(String(rev))
  }

  const claimed: typeof plan = [], met: typeof plan = []
  for (let todo = plan, round = 0; todo.length > 0; round++) {
    const { refused, errors } = await bulk(source.coll, todo.map(({ step }) => step), ctx), lost: typeof plan = [], again: typeof plan = []
    for (const [n, of] of todo.entries()) {
      const op = ops[of.at]!, key = keyOf(of.at, of.id), error = errors.get(n)
      if (refused.has(n)) lost.push(of)
      else if (error === undefined) {
        if (op.kind === 'remove') claimed.push(of)
        else results[of.at] = { status: 'done', key, rev: String(of.rev) }
      } else if (isTaken(error) && op.kind === 'insert') results[of.at] = { status: 'exists', key }
      else if (isTaken(error) && round < rounds) again.push(of)                // two upserts of one new _id at once
      else results[of.at] = { status: 'refused', key, reason: error.message }
    }
    for (const [of, there] of await whichExist(store, source, lost, ctx)) {
      const op = ops[of.at]!
      if (there && op.kind === 'remove' && (op.rev === undefined || isClaim(op.rev))) { met.push(of); continue }
      // Some values cannot be compared in the form in which they are read: where the document is the same to Inlay, its rev decides.
      if (there && of.plain !== undefined && await holds(store, source, of.id, op as never, ctx)) { again.push({ at: of.at, id: of.id, rev: of.rev, step: of.plain }); continue }
      results[of.at] = { status: there && 'rev' in op && op.rev !== undefined ? 'moved' : 'missing', key: keyOf(of.at, of.id) }
    }
    todo = again
  }
  // A row that another remove has claimed is its to report; it goes here too, as that process may be dead.
  const revOf = ({ at }: { readonly at: number }): Rev | undefined => (ops[at] as { readonly rev?: Rev }).rev
  const others = met.map((of) => { const rev = revOf(of); return { ...of, rev: rev === undefined ? store.claimed() : store.storedRev(rev) } })
  for (const [list, done] of [[claimed, 'done'], [others, 'missing']] as const) {
    for (const [of, gone] of await removeClaimed(store, source, list, ctx)) {
      if (gone) results[of.at] = { status: store.lostClaims.delete(revOf(of) ?? '') ? 'done' : done, key: keyOf(of.at, of.id) }
      // Another write came between claim and removal: the row is as if that one had been first.
      else results[of.at] = revOf(of) === undefined ? (await write(store, source, [ops[of.at]!], mine, ctx))[0]! : { status: 'moved', key: keyOf(of.at, of.id) }
    }
  }
  return results as readonly Written[]
}

async function holds(store: Store, source: Source, id: unknown, { rev, was }: { readonly rev?: Rev; readonly was: Doc }, ctx: Ctx): Promise<boolean> {
  const [raw] = await list(source.coll.find({ _id: id } as Document, { collation: simple, signal: ctx.signal }))
  return raw !== undefined && String(raw['_rev']) === rev && same(store.docOf(source, raw), was)
}

function stepOf(op: Write, filter: Document, raw: Record<string, unknown>, rev: unknown, id: unknown): Operation {
  switch (op.kind) {
    case 'insert': return { insertOne: { document: ordered({ _id: id }, raw, { _rev: rev }) } }
    // Whoever claimed a row may remove it, and nobody claims a claimed one. The claim is a rev, so that results in flight are refused from here on.
    case 'remove': return exact(filter, { $set: { _rev: rev } })
    case 'patch': {
      const unset = op.unset.map(fieldIn)
      if ([...Object.keys(raw), ...unset].every(isPlain)) return exact(filter, { $set: ordered(raw, { _rev: rev }), $unset: { _cur: '', ...Object.fromEntries(unset.map((name) => [name, ''])) } })
      // Names that are no path: the fields are kept as a list.
      const gone = ['_cur', '\u0001new', ...unset], rest = { $arrayToObject: { $filter: { input: { $objectToArray: '$$ROOT' }, cond: { $not: { $in: ['$$this.k', { $literal: gone }] } } } } }
      return exactPipeline(filter, (_id) => [{ $replaceWith: { $mergeObjects: [rest, { $literal: raw }, { _id, _rev: rev }] } }])
    }
    case 'put': {
      const kept = Object.fromEntries(['_marks', '_outputs', '_seen'].map((name) => [name, { $ifNull: [`$${name}`, '$$REMOVE'] }]))
      const pipeline = (_id: unknown): Document[] => [{ $replaceWith: { $mergeObjects: [{ $literal: raw }, { _id, _rev: rev, ...kept }] } }]
      return op.rev === undefined ? { updateOne: { filter, update: pipeline('$_id'), upsert: true, collation: simple } } : exactPipeline(filter, pipeline)
    }
  }
}
function ordered(...parts: readonly Record<string, unknown>[]): Document {
  const doc: Document = {}
  for (const part of parts) for (const name of Object.keys(part)) {
    if (name === '__proto__') Object.defineProperty(doc, name, { value: part[name], enumerable: true, configurable: true, writable: true })
    else doc[name] = part[name]
  }
  return doc
}

/** They were not done, that is certain; this only names why. */
async function whichExist<T extends { readonly id: unknown }>(store: Store, source: Source, of: readonly T[], ctx: Ctx): Promise<readonly (readonly [T, boolean])[]> {
  if (of.length === 0) return []
  const there = new Set((await list(source.coll.find({ _id: { $in: of.map(({ id }) => id) } } as Document, { projection: { _id: 1 }, collation: simple, signal: ctx.signal }))).map((raw) => store.keyOf(source, raw)))
  return of.map((o) => [o, there.has(source.table.keys.keyOf(o.id)!)])
}

interface Claimed { readonly at: number; readonly id: unknown; readonly rev: unknown; readonly was?: Document }
/** Removes claimed rows, then their values. False: the row moved in between. */
async function removeClaimed<T extends Claimed>(store: Store, source: Source, claimed: readonly T[], ctx: Ctx): Promise<readonly (readonly [T, boolean])[]> {
  if (claimed.length === 0) return []
  const raws = await list(source.coll.find({ _id: { $in: claimed.map(({ id }) => id) } } as Document, { projection: { _rev: 1, _marks: 1 }, collation: simple, signal: ctx.signal }))
  const { deleted } = await bulk(source.coll, claimed.map(({ id, rev, was }) => ({ deleteOne: { filter: { _id: id, _rev: rev, ...was } as Document, collation: simple } })), ctx)
  const left = deleted === claimed.length ? [] : (await whichExist(store, source, claimed, ctx)).filter(([, there]) => there).map(([of]) => of)
  const gone = claimed.filter((of) => !left.includes(of)), ids = new Set(gone.map(({ id }) => source.table.keys.keyOf(id)))
  await removeValues(source.table.home, raws.map((raw) => ({ key: store.keyOf(source, raw), raw })).filter(({ key }) => ids.has(key)), ctx)
  return claimed.map((of) => [of, !left.includes(of)])
}

const tags: ReadonlySet<string> = new Set(['$oid', '$numberDecimal', '$regularExpression', '$timestamp', '$minKey', '$maxKey', '$symbol', '$code', '$dbPointer', '$undefined', '$binary'])
/** Where a value of a user's document looks like one that Value cannot hold. */
function opaqueIn(value: unknown, path = ''): string | undefined {
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value) || value instanceof Date) return undefined
  for (const [name, v] of Object.entries(value)) {
    if (tags.has(name) && path !== '') return path
    const found = opaqueIn(v, path === '' ? name : `${path}.${name}`)
    if (found !== undefined) return found
  }
  return undefined
}
