/** Collections: documents are checked one by one, written in chunks, and their outputs brought up to date. */
import { setTimeout as sleep } from 'node:timers/promises'
import { v7 as uuid } from 'uuid'
import type { Changed, Collection as CollectionOf, CollectionOptions, IndexHandle, Refused, Wait } from './api.ts'
import type { StandardSchemaV1 } from '@standard-schema/spec'
import { checkDeclared, marked, settleContent, type Pending } from './codec.ts'
import { foldBy } from './collections.ts'
import type { Core } from './core.ts'
import { contentOf, externalise, writeContent } from './content.ts'
import { columns, plainColumns } from './contents.ts'
import type { Ctx, Doc, Key, Row, Value, Write, Written } from './contract.ts'
import { checkOptions, InlayError, messageOf, quote } from './errors.ts'
import { Find } from './find.ts'
import type { Outputs } from './listeners.ts'
import { isOutage } from './reconcile.ts'
import { Rate } from './rate.ts'
import { applyUpdate, parseUpdate } from './update.ts'
import { copyAsked, copyIn, has, isDoc, same, Unstorable } from './value.ts'

const chunkRows = 500
/** Where nothing is computed of them. */
const plainChunkRows = 2000
const chunkBytes = 16 * 1024 * 1024
/** Contents of a stream that codecs may be making at once. */
const mostMaking = 16
const attempts = 100
const longestPauseMs = 20
const ownFields = ['_outputs', '_rev'] as const

/** A document to insert. Of an attached collection, the database may make the key. */
interface Insert { readonly index: number; readonly key: Key | undefined; readonly doc: Doc }
interface Inserted { readonly index: number; readonly key: Key; readonly doc: Doc; readonly rev: string }
interface Tick { readonly docs: Copied[]; readonly written: Promise<readonly (Changed | { readonly error: unknown })[]> }
interface Tallied { ids: string[]; refused: Refused[]; outputs: Outputs }

/** Names are the user's, but for those that begin with _; the database says how long they may be. */
export function checkCollection(core: Core, name: unknown): void {
  const { nameBytes } = core.data.capabilities.limits
  if (typeof name !== 'string' || name === '' || !name.isWellFormed() || name.includes('\0')) throw new InlayError('INVALID_ARGUMENT', `The collection name ${quote(name)} is not allowed: text of at least one character, without NUL and lone surrogates, is expected.`)
  if (name.startsWith('_')) throw new InlayError('INVALID_ARGUMENT', `The collection name ${quote(name)} is reserved: names that begin with _ are Inlay's own. Choose another.`)
  if (nameBytes !== undefined && Buffer.byteLength(name) > nameBytes) throw new InlayError('INVALID_ARGUMENT', `The collection name ${quote(name)} has ${Buffer.byteLength(name)} bytes; this database takes ${nameBytes}. Choose a shorter one.`)
}

export class Collection {
  readonly name: string
  readonly #core: Core
  readonly #schema: StandardSchemaV1 | undefined
  /** Single inserts of one tick, which are written together. */
  #tick: Tick | undefined

  constructor(core: Core, name: string, options: CollectionOptions<unknown> = {}) {
    this.name = name
    this.#core = core
    this.#schema = options.schema
    const { fold, attach, track, codecs } = options, { valid = 0, seed = 0 } = fold ?? {}
    checkOptions(options, ['schema', 'fold', 'attach', 'track', 'codecs'], `collection(${quote(name)}, …)`)
    if (!(valid >= 0 && valid <= 1) || !Number.isInteger(seed)) throw new InlayError('INVALID_ARGUMENT', `The fold of ${quote(name)} is { valid: ${quote(valid)}, seed: ${quote(seed)} }; a share from 0 to 1 and a whole number are expected.`)
    if (attach !== undefined && (typeof attach !== 'string' || attach === '' || attach.includes('\0'))) throw new InlayError('INVALID_ARGUMENT', `The collection ${quote(name)} is to be attached to ${quote(attach)}; the name of a table, collection or file is expected.`)
    if (track !== undefined && track !== 'notify' && track !== 'none') throw new InlayError('INVALID_ARGUMENT', `track of the collection ${quote(name)} is ${quote(track)}; "notify" or "none" is expected.`)
    if (fold !== undefined && attach !== undefined) throw new InlayError('INVALID_ARGUMENT', `The collection ${quote(name)} is attached, and has fold: there it is computed when rows are read, the same in every process, and cannot be chosen. Leave "fold" out.`)
    if (track !== undefined && attach === undefined) throw new InlayError('INVALID_ARGUMENT', `The collection ${quote(name)} has track, which goes with attach. Give { attach, track }, or neither.`)
    for (const of of Object.values(codecs ?? {})) if (typeof of !== 'string') core.contents.codecs.learn(of)
    core.collections.declare(name, { ...(codecs === undefined ? {} : { codecs: checkDeclared(codecs, `the collection ${quote(name)}`) }), ...(fold === undefined ? {} : { fold: foldBy(fold) }), ...(attach === undefined ? {} : { attach }), ...(track === undefined ? {} : { track }) })
  }

  /** The public, typed face of it. */
  static of<T>(core: Core, name: string, options: CollectionOptions<T> | undefined): CollectionOf<T> {
    return new Collection(core, name, options as CollectionOptions<unknown>) as unknown as CollectionOf<T>
  }

  /** Before rows are changed. */
  async #open(ctx: Ctx): Promise<void> {
    const { attached, readOnly } = await this.#core.collections.open(this.name, ctx)
    if (readOnly === true) throw new InlayError('UNSUPPORTED', `The collection ${quote(this.name)} cannot be written: it is attached to ${quote(attached)}, which is read only. Insert its rows into a collection of Inlay's own, or write it with what made it.`)
  }

  find(where?: Readonly<Record<string, unknown>>): Find {
    return new Find(this.#core, this.name, { where: copyAsked(where) })
  }
  findOne(where?: Readonly<Record<string, unknown>>, options: { readonly signal?: AbortSignal } = {}): Promise<Doc | undefined> {
    const find = this.find(where)
    return (options.signal === undefined ? find : find.signal(options.signal)).first()
  }
  like(example: unknown, index: IndexHandle<unknown>, options: { readonly n?: number } = {}): { find(where?: Readonly<Record<string, unknown>>): Find } {
    const like = { example: copyAsked(example), index, n: options.n ?? 10, before: true }
    new Find(this.#core, this.name, {}).like(example, index, options)          // checks n now
    return { find: (where) => new Find(this.#core, this.name, { where: copyAsked(where), like }) }
  }

  async insert(docs: unknown, options: Wait = {}): Promise<Changed> {
    const alone = options.wait === false || options.signal !== undefined || options.onProgress !== undefined
    if (isAsync(docs)) return this.#core.call(options.signal, (ctx) => this.#insertStream(this.#copies(docs), undefined, options, ctx))
    if (!Array.isArray(docs) && !alone) return this.#insertWithOthers(this.#copy(docs))
    const copies = (Array.isArray(docs) ? docs : [docs]).map((doc: unknown) => this.#copy(doc))      // now, so that the caller may change them afterwards
    return this.#core.call(options.signal, (ctx) => this.#insertStream(oneByOne(copies), copies.length, options, ctx))
  }

  async #insertWithOthers(copy: Copied): Promise<Changed> {
    this.#tick ??= this.#nextTick()
    const { docs, written } = this.#tick
    const n = docs.push(copy) - 1
    const changed = (await written)[n]!
    if ('error' in changed) throw changed.error
    return changed
  }
  #nextTick(): Tick {
    const docs: Copied[] = []
    const written = this.#core.call(undefined, async (ctx) => {
      await new Promise((resolve) => { setImmediate(resolve) })
      this.#tick = undefined
      const each: (Tallied | { readonly error: unknown })[] = docs.map(() => emptyChanged())
      for (let i = 0; i < docs.length; i += chunkRows) {
        const part = docs.slice(i, i + chunkRows)
        try {
          const { inserted, refused } = await this.#write(part, i, ctx)
          await this.#outputs(inserted, ctx, new Map(inserted.map(({ index, key }) => [key, (each[index] as Tallied).outputs])))
          for (const { index, key } of inserted) (each[index] as Tallied).ids.push(key)
          for (const entry of refused) (each[entry.index!] as Tallied).refused.push({ ...entry, index: 0 })
        } catch (error) {
          for (let n = i; n < i + part.length; n++) each[n] = { error }        // the other chunks are not lost with it
        }
      }
      return each
    })
    return { docs, written }
  }
  /** Two chunks are in flight: while one is written, the next is read, checked and sent, and the outputs of the one before are computed. */
  async #insertStream(docs: AsyncIterable<Copied>, count: number | undefined, options: Wait, ctx: Ctx): Promise<Changed> {
    const total = emptyChanged(), rate = new Rate(options.onProgress), parts: { readonly ids: readonly Key[]; readonly refused: readonly Refused[] }[] = []
    let written: Promise<unknown> = Promise.resolve(), before: Promise<void> = Promise.resolve(), index = 0, chunk: Copied[] = [], ids = new Set<unknown>()
    const flush = async (): Promise<void> => {
      const part = chunk, end = index, start = index - chunk.length, n = parts.length, earlier = written, computed = before
      const own = new Set(part.flatMap(({ doc }) => doc?.['_id'] ?? []))
      chunk = []
      parts.push({ ids: [], refused: [] })
      // Of two documents of one _id the first one wins.
      if (own.size > 0 && [...own].some((id) => ids.has(id))) await earlier
      ids = own
      const writing = this.#write(part, start, ctx).then((result) => {
        parts[n] = { ids: result.inserted.map((i) => i.key), refused: result.refused }
        return result
      })
      written = writing
      before = (async () => {
        const { inserted } = await writing
        await computed
        merge(total.outputs, await this.#outputsOf(inserted, options, ctx))
        rate.report(end, count, total.outputs.failed)
      })()
      before.catch(() => {})                                                   // thrown where it is awaited
      await earlier
      await computed
    }
    const gather = (): void => {
      for (const part of parts.splice(0)) {
        total.ids.push(...part.ids)
        total.refused.push(...part.refused)
      }
    }
    try {
      let bytes = 0, making: Pending[] = []
      const most = this.#core.listeners.of(this.name).length === 0 ? plainChunkRows : chunkRows
      for await (const doc of stoppable(docs, ctx)) {
        index++
        chunk.push(doc)
        bytes += doc.doc === undefined ? 0 : weightOf(doc.doc)
        // What codecs are still making is weighed when it is there, some at a time.
        if (doc.doc !== undefined) making.push(...doc.pending)
        if (making.length >= mostMaking) {
          for (const { made } of making) bytes += (await made.catch(() => '')).length
          making = []
        }
        if (chunk.length < most && bytes < chunkBytes) continue
        await flush()
        bytes = 0
      }
      if (chunk.length > 0 && !ctx.signal.aborted) await flush()
      await before
    } catch (error) {
      await Promise.allSettled([written, before])
      gather()
      throw withIds(error, total.ids)
    }
    gather()
    if (ctx.signal.aborted) throw withIds(new InlayError('ABORTED', `The insert was stopped by its signal after ${total.ids.length} rows were written; their ids are in details.ids.`, { cause: ctx.signal.reason }), total.ids)
    return total
  }

  async #outputsOf(inserted: readonly Inserted[], options: Wait, ctx: Ctx): Promise<Outputs> {
    if (options.wait !== false || this.#core.outputs === 'worker') return this.#outputs(inserted, ctx)
    const listeners = this.#core.listeners.of(this.name).filter((l) => l.state.active)
    this.#core.background(async (background) => { await this.#outputs(inserted, background) })
    return { done: 0, failed: 0, pending: inserted.length * listeners.length }
  }

  /** A failed inference never rejects an insert: what could not be computed is pending. */
  async #outputs(inserted: readonly Inserted[], ctx: Ctx, each?: ReadonlyMap<Key, Outputs>): Promise<Outputs> {
    const rows = inserted.map(({ key, doc, rev }): Row => ({ key, doc, rev })), { listeners, collections } = this.#core
    return this.#computed(rows.map((row) => row.key), ctx, () => (collections.attached(this.name) ? listeners.readBack(this.name, rows, ctx, each) : listeners.inserted(this.name, rows, ctx, each)), each)
  }
  async #computed(keys: readonly Key[], ctx: Ctx, work: () => Promise<Outputs>, each?: ReadonlyMap<Key, Outputs>): Promise<Outputs> {
    await this.#core.look(ctx).catch((error: unknown) => { if (ctx.signal.aborted) throw error })     // the rows are written: what is not known is not lost
    const active = this.#core.listeners.of(this.name).filter((l) => l.state.active).length, all = { done: 0, failed: 0, pending: keys.length * active }
    const allPending = (): Outputs => {
      for (const own of each?.values() ?? []) Object.assign(own, { done: 0, failed: 0, pending: active })
      return all
    }
    if (this.#core.outputs === 'worker' || keys.length === 0) return allPending()
    try {
      return await work().catch(async (error: unknown) => {
        // Another process may have changed or removed a listener that this one knows of.
        if (!InlayError.is(error) || error.code !== 'NOT_FOUND') throw error
        await this.#core.reopen(ctx)
        return this.#core.listeners.changed(this.name, keys, ctx)
      })
    } catch (error) {
      if (ctx.signal.aborted) throw error
      this.#core.log[isOutage(error) ? 'warn' : 'error']?.(`Outputs of ${keys.length} rows of ${quote(this.name)} are pending: ${messageOf(error)}`)
      return allPending()
    }
  }

  /** A copy of the user's document that shares nothing with it, or why it is refused. */
  #copy(doc: unknown): Copied {
    try {
      if (!isDoc(doc)) throw new Unstorable({ path: '', reason: `${quote(doc)} is no document: a plain object is expected` })
      const id = doc['_id'], fault = typeof id === 'string' ? this.#keyFault(id) : undefined
      if (fault !== undefined) throw new Unstorable({ path: '_id', reason: fault })       // in the same words, whatever else the database refuses
      // A schema sees values as they are; their bytes are made afterwards.
      const { codecs } = this.#core.contents, { refuses } = this.#core.data.capabilities
      return this.#schema === undefined ? this.#encoded(doc) : { doc: copyIn(doc, refuses, (value) => (!ArrayBuffer.isView(value) && codecs.takes(value) ? value : undefined)) as Doc, pending: [] }
    } catch (error) {
      // A schema may turn into a plain value what is none yet, so it sees the user's own values.
      if (this.#schema !== undefined && isDoc(doc)) return { doc: { ...doc }, pending: [] }
      const id = (doc as { readonly _id?: unknown } | null | undefined)?._id
      return { refused: { ...faultOf(error), ...(typeof id === 'string' ? { id } : {}) } }
    }
  }
  /** A copy with contents in the place of values of codecs; `known` are values whose content is stored already. */
  #encoded(doc: object, refuses: readonly string[] = this.#core.data.capabilities.refuses, known?: ReadonlyMap<unknown, Value>): { readonly doc: Doc; readonly pending: readonly Pending[] } {
    const pending: Pending[] = [], { contents, collections } = this.#core, declared = collections.codecsOf(this.name), encoder = contents.codecs.encoder(pending)
    return { doc: copyIn(declared === undefined ? doc : marked(doc, declared, known), refuses, known === undefined ? encoder : (value) => known.get(value) ?? encoder(value)) as Doc, pending }
  }
  async *#copies(docs: AsyncIterable<unknown>): AsyncIterable<Copied> {
    for await (const doc of docs) yield this.#copy(doc)
  }

  async #prepare(copied: Copied): Promise<{ readonly key: Key | undefined; readonly doc: Doc } | { readonly refused: Omit<Refused, 'index'> }> {
    if (copied.refused !== undefined) return { refused: copied.refused }
    const { _id: id, ...rest } = copied.doc, own = ownFault(rest)
    if (own !== undefined) return { refused: { ...own, ...(typeof id === 'string' ? { id } : {}) } }
    const fault = id === undefined ? undefined : this.#keyFault(id)
    if (fault !== undefined) return { refused: { code: 'INVALID_ARGUMENT', reason: fault, path: '_id', ...(typeof id === 'string' ? { id } : {}) } }
    const checked = await this.#check(rest, copied.pending)
    if ('refused' in checked) return { refused: { ...checked.refused, ...(typeof id === 'string' ? { id } : {}) } }
    // The keys and columns of an attached collection are not ours.
    if (this.#core.collections.attached(this.name)) return { key: id as Key | undefined, doc: this.#columns(checked.doc) }
    const key = (id as Key | undefined) ?? uuid()
    return { key, doc: checked.doc['_fold'] === undefined ? { ...checked.doc, _fold: this.#core.collections.foldOf(this.name)(key) } : checked.doc }
  }

  #keyFault(id: unknown): string | undefined {
    const { limits } = this.#core.data.capabilities
    if (typeof id !== 'string' || id === '') return `_id is ${quote(id)}; a string of at least one character is expected`
    if (!id.isWellFormed() || id.includes('\0')) return `_id ${quote(id)} has a lone surrogate or a NUL character`
    const bytes = Buffer.byteLength(id)
    return limits.keyBytes !== undefined && bytes > limits.keyBytes ? `_id has ${bytes} bytes; this database takes ${limits.keyBytes}` : undefined
  }

  /** Declared fields of an attached collection hold plain bytes. */
  #columns(doc: Doc): Doc {
    const declared = this.#core.collections.codecsOf(this.name)
    return declared === undefined ? doc : plainColumns(doc, declared)
  }

  /** By the schema, when there is one. `_fold` is not part of it. Contents get their bytes. */
  async #check(doc: Doc, pending: readonly Pending[], known?: ReadonlyMap<unknown, Value>): Promise<{ readonly doc: Doc } | { readonly refused: Omit<Refused, 'index'> }> {
    if (this.#schema === undefined) {
      try {
        if (pending.length > 0) await settleContent(doc, pending)
        return { doc }
      } catch (error) {
        return { refused: faultOf(error) }
      }
    }
    const { _fold: fold, ...rest } = doc
    const result = await this.#schema['~standard'].validate(rest)
    if (result.issues !== undefined) {
      const issue = result.issues[0]!, path = (issue.path ?? []).map((p) => String(typeof p === 'object' ? p.key : p)).join('.')
      return { refused: { code: 'INVALID_ARGUMENT', reason: issue.message, ...(path === '' ? {} : { path }) } }
    }
    try {
      const encoded = this.#encoded({ ...result.value as object, ...(fold === undefined ? {} : { _fold: fold }) }, undefined, known)
      await settleContent(encoded.doc, encoded.pending)
      return { doc: encoded.doc }
    } catch (error) {
      return { refused: faultOf(error) }
    }
  }

  /** A stored document by the schema, which sees values as the application does. */
  async #checkStored(doc: Doc, ctx: Ctx): Promise<{ readonly doc: Doc } | { readonly refused: Omit<Refused, 'index'> }> {
    if (this.#schema === undefined) return { doc }
    const [decoded] = await this.#core.contents.decoded([doc], { name: () => '' }, ctx), known = new Map<unknown, Value>()
    // What cannot be decoded is checked as it is stored.
    if (InlayError.is(decoded)) return this.#check(doc, [])
    const pair = (stored: Value, value: unknown): void => {
      if (contentOf(stored) !== undefined) known.set(value, stored)
      else if (Array.isArray(stored)) stored.forEach((part: Value, i) => pair(part, (value as readonly unknown[])[i]))
      else if (isDoc(stored)) for (const [name, part] of Object.entries(stored)) pair(part, (value as Record<string, unknown>)[name])
    }
    pair(doc, decoded)
    return this.#check(decoded!, [], known)
  }

  /** Writes one chunk: content before rows, so that a row that is there can be read. */
  async #write(copies: readonly Copied[], start: number, ctx: Ctx): Promise<{ readonly inserted: readonly Inserted[]; readonly refused: readonly Refused[] }> {
    await this.#open(ctx)
    const attached = this.#core.collections.attached(this.name)
    const refused: Refused[] = [], inserts: Insert[] = [], content = new Map<string, Uint8Array>(), keys = new Set<Key>()
    const clash = (index: number, id: Key): Refused => ({ index, id, code: 'ALREADY_EXISTS', reason: `a row with _id ${quote(id)} exists already; use replace or update to change it` })
    for (const [i, copied] of copies.entries()) {
      const prepared = await this.#prepare(copied), index = start + i
      if ('refused' in prepared) refused.push({ index, ...prepared.refused })
      else if (prepared.key !== undefined && keys.has(prepared.key)) refused.push(clash(index, prepared.key))
      else {
        if (prepared.key !== undefined) keys.add(prepared.key)
        inserts.push({ index, key: prepared.key, doc: attached ? prepared.doc : externalise(prepared.doc, content) })
      }
    }
    await writeContent(this.#core.artifacts, content, ctx)
    const write = (): Promise<readonly Written[]> => this.#core.data.write(this.name, inserts.map(({ key, doc }): Write => ({ kind: 'insert', doc, ...(key === undefined ? {} : { key }) })), ctx)
    const written = inserts.length === 0 ? [] : await write().catch(async (error: unknown) => {
      // Another process has removed the collection: nothing was written.
      if (!InlayError.is(error) || error.code !== 'NOT_FOUND') throw error
      await this.#core.reopen(ctx)
      await this.#open(ctx)
      return write()
    })
    const inserted: Inserted[] = []
    for (const [i, { status, key, rev, reason }] of written.entries()) {
      const { index, key: asked, doc } = inserts[i]!, id = asked === undefined ? {} : { id: asked }
      if (status === 'done') inserted.push({ index, key, doc, rev: rev! })
      else if (status === 'exists') refused.push(clash(index, key))
      else if (status === 'unknown') refused.push({ index, ...id, code: 'UNAVAILABLE', reason: `the connection broke, and nothing tells whether the row was written, as its key was to be made by the database: look before you insert it again (${reason})` })
      else refused.push({ index, ...id, code: 'INVALID_ARGUMENT', reason: reason ?? `the database answered ${quote(status)}` })
    }
    return { inserted, refused: refused.sort((a, b) => a.index! - b.index!) }
  }

  async update(where: Readonly<Record<string, unknown>>, change: unknown, options: Wait = {}): Promise<Changed> {
    if (!isDoc(where)) throw new InlayError('INVALID_ARGUMENT', `update(${quote(where)}) has no filter. Give one, or {} for every row of ${quote(this.name)}.`)
    const parsed = parseUpdate(copyAsked(change)), rows = copyAsked(where)
    return this.#core.call(options.signal, (ctx) => this.#change(rows, options, ctx, async (view) => {
      for (const { path } of parsed) insideContent(view, path)
      const { doc: copied, pending } = this.#encoded(applyUpdate(view, parsed), []), fault = ownFault(copied)
      await settleContent(copied, pending)
      // What is there already the database holds, whatever it takes of us.
      for (const [field, value] of Object.entries(copied)) if (!has(view, field) || !same(view[field], value)) copyIn({ [field]: value }, this.#core.data.capabilities.refuses, stored)
      if (fault !== undefined) return { refused: fault }
      if (has(view, '_fold') && !has(copied, '_fold')) return { refused: { code: 'INVALID_ARGUMENT', reason: '_fold cannot be removed; set "train" or "valid"', path: '_fold' } }
      const checked = await this.#checkStored(copied, ctx)
      // A schema that takes other types than it gives cannot check what it gave: where it refuses the row as it was too, it says nothing of the change.
      if ('refused' in checked) return 'refused' in await this.#checkStored(view, ctx) ? { doc: copied } : checked
      const given = Object.entries(checked.doc).filter(([field]) => !has(copied, field) || !same(view[field], copied[field]))
      return { doc: { ...copied, ...Object.fromEntries(given) } }
    }))
  }

  async replace(id: string, doc: unknown, options: Wait = {}): Promise<Changed> {
    const copied = this.#copy(doc)
    return this.#core.call(options.signal, async (ctx) => {
      const given = copied.refused === undefined ? (copied.doc as { _id?: unknown })._id : undefined
      const prepared = given !== undefined && given !== id ? { refused: { id, code: 'INVALID_ARGUMENT' as const, reason: `the document's _id is ${quote(given)}, the row's is ${quote(id)}; a replace keeps it`, path: '_id' } }
        : await this.#prepare(copied.refused === undefined ? { ...copied, doc: { ...copied.doc, _id: id } } : copied)
      if ('refused' in prepared) return { ...emptyChanged(), refused: [{ index: 0, id, ...prepared.refused }] }
      const keepsFold = !has(copied.doc!, '_fold')
      const changed = await this.#change({ _id: id }, options, ctx, async (view) => ({ doc: keepsFold && view['_fold'] !== undefined ? { ...prepared.doc, _fold: view['_fold'] } : prepared.doc }), true)
      if (changed.ids.length + changed.refused.length === 0) changed.refused.push({ index: 0, id, code: 'NOT_FOUND', reason: `there is no row with _id ${quote(id)}; insert it` })
      return changed
    })
  }

  /** Changes matching rows by compare-and-set: a row that moved meanwhile is looked at again. */
  async #change(where: Readonly<Record<string, unknown>>, options: Wait, ctx: Ctx, make: (view: Doc) => Promise<{ readonly doc: Doc } | { readonly refused: Omit<Refused, 'index'> }>, whole = false): Promise<Tallied> {
    const total = emptyChanged(), background: Key[] = [], unknown: Key[] = []
    await this.#open(ctx)
    const { collections } = this.#core, attached = collections.attached(this.name), declared = collections.codecsOf(this.name)
    await this.#each('documents', where, ctx, async (seen) => {
      const writes: Write[] = [], content = new Map<string, Uint8Array>()
      for (const { row, view } of seen) {
        const { _id: _, _outputs: __, ...stored } = view, { _fold: ___, ...fields } = stored, doc = declared === undefined ? attached ? fields : stored : columns(attached ? fields : stored, declared)
        try {
          const made = await make(doc)
          if ('refused' in made) { total.refused.push({ ...made.refused, id: row.key }); continue }
          const write = writeOf(row, doc, made.doc, (d) => (attached ? this.#columns(d) : externalise(d, content)), whole)
          if (write !== undefined) writes.push(this.#fenced(write, row))
        } catch (error) {
          total.refused.push({ ...faultOf(error), id: row.key })
        }
      }
      await writeContent(this.#core.artifacts, content, ctx)
      const written = writes.length === 0 ? [] : await this.#core.data.write(this.name, writes, ctx)
      const done = written.flatMap((w) => (w.status === 'done' ? [w.key] : []))
      unknown.push(...written.flatMap((w) => (w.status === 'unknown' ? [w.key] : [])))
      for (const w of written) if (w.status === 'refused') total.refused.push({ id: w.key, code: 'INVALID_ARGUMENT', reason: w.reason ?? 'the database refused it' })
      total.ids.push(...done)
      if (options.wait === false) background.push(...done)
      else merge(total.outputs, await this.#computed(done, ctx, () => this.#core.listeners.changed(this.name, done, ctx)).catch((error: unknown) => { throw withIds(error, total.ids) }))
      return written.flatMap((w) => (w.status === 'moved' ? [w.key] : []))
    }).catch((error: unknown) => { throw withIds(error, total.ids) })
    if (unknown.length > 0) throw withIds(new InlayError('UNAVAILABLE', `The connection broke while rows of ${quote(this.name)} were changed, and others have changed ${unknown.length} of them since, ${quote(unknown[0])} among them, so that nothing tells whether the change was done there. Read these rows (details.unknown) before you repeat it.`, { details: { unknown } }), total.ids)
    if (background.length > 0) {
      total.outputs.pending += background.length * this.#core.listeners.of(this.name).filter((l) => l.state.active).length
      this.#core.background(async (ctx) => { await this.#computed(background, ctx, () => this.#core.listeners.changed(this.name, background, ctx)) })
    }
    return total
  }

  /** Where others' writes give no rev by themselves, the document that was read goes along, so that none of them is overwritten. */
  #fenced<W extends Write>(write: W, row: Row): W {
    return this.#core.data.capabilities.foreign ? write : { ...write, was: row.doc }
  }

  /** Gives matching rows in chunks to `work`, which returns the keys to look at again. */
  async #each(only: 'documents' | 'keys', where: Readonly<Record<string, unknown>>, ctx: Ctx, work: (seen: readonly { readonly row: Row; readonly view: Doc }[]) => Promise<readonly Key[]>): Promise<void> {
    let again: Key[] = []
    const run = async (find: Find): Promise<void> => {
      let chunk: { readonly row: Row; readonly view: Doc }[] = []
      const flush = async (): Promise<void> => {
        const part = chunk
        chunk = []
        again.push(...await work(part))
      }
      for await (const seen of find.seen(ctx)) {
        if (chunk.push(seen) === chunkRows) await flush()
      }
      if (chunk.length > 0) await flush()
    }
    await run(this.find(where).only(only))
    for (let attempt = 0; again.length > 0; attempt++) {
      if (attempt === attempts) throw new InlayError('CONFLICT', `${again.length} rows of ${quote(this.name)} kept being changed by others, ${quote(again[0])} among them. Try again later.`, { retryable: true, details: { ids: again } })
      const keys = again
      again = []
      if (attempt > 2) await sleep(Math.random() * Math.min(attempt, longestPauseMs), undefined, { signal: ctx.signal }).catch(() => {})
      await run(this.find({ $and: [{ _id: { $in: keys } }, where] }).only(only))
    }
  }

  async delete(where: Readonly<Record<string, unknown>>, options: { readonly all?: true; readonly signal?: AbortSignal } = {}): Promise<Changed> {
    if (!isDoc(where) || (Object.keys(where).length === 0 && options.all !== true)) throw new InlayError('INVALID_ARGUMENT', `delete(${quote(where)}) would delete every row of ${quote(this.name)}. Give a filter, or { all: true } if that is meant.`)
    const rows = copyAsked(where)
    return this.#core.call(options.signal, async (ctx) => {
      const total = emptyChanged()
      await this.#open(ctx)
      await this.#each(this.#core.data.capabilities.foreign ? 'keys' : 'documents', rows, ctx, async (seen) => {
        const written = await this.#core.data.write(this.name, seen.map(({ row }): Write => this.#fenced({ kind: 'remove', key: row.key, rev: row.rev }, row)), ctx)
        total.ids.push(...written.flatMap((w) => (w.status === 'done' ? [w.key] : [])))
        return written.flatMap((w) => (w.status === 'moved' ? [w.key] : []))
      }).catch((error: unknown) => { throw withIds(error, total.ids) })
      return total
    })
  }
}

/** A document as it was when the caller gave it. */
type Copied = { readonly doc: Doc; readonly pending: readonly Pending[]; readonly refused?: undefined } | { readonly refused: Omit<Refused, 'index'>; readonly doc?: undefined }

/** Contents are taken as they are stored. */
const stored = (value: object): unknown => (contentOf(value as Value) === undefined ? undefined : value)

/** What lies inside of content is no field: only the whole can be changed. */
function insideContent(doc: Doc, path: readonly string[]): void {
  path.slice(0, -1).reduce<Value | undefined>((value, name, i) => {
    const next = isDoc(value) && has(value, name) ? value[name] : Array.isArray(value) ? value[Number(name)] as Value | undefined : undefined, content = next === undefined ? undefined : contentOf(next)
    if (content !== undefined) throw new InlayError('INVALID_ARGUMENT', `${quote(path.slice(0, i + 1).join('.'))} is content${content.codec === undefined ? '' : ` of the codec ${quote(content.codec)}`}, and ${quote(path.join('.'))} lies inside of it; set the whole value`, { details: { path: path.join('.') } })
    return next
  }, doc)
}

/** A fault of the fields that are Inlay's. */
function ownFault(doc: Doc): Omit<Refused, 'index'> | undefined {
  const own = ownFields.find((field) => has(doc, field)), fold = doc['_fold']
  if (own !== undefined) return { code: 'INVALID_ARGUMENT', reason: `the field "${own}" is kept by Inlay; leave it out`, path: own }
  return fold === undefined || fold === 'train' || fold === 'valid' ? undefined : { code: 'INVALID_ARGUMENT', reason: `_fold is ${quote(fold)}; "train" or "valid" is expected`, path: '_fold' }
}

function faultOf(error: unknown): Omit<Refused, 'index'> {
  if (error instanceof Unstorable) return { code: 'INVALID_ARGUMENT', reason: error.fault.reason, ...(error.fault.path === '' ? {} : { path: error.fault.path }) }
  if (InlayError.is(error)) return { code: error.code, reason: error.message, ...(typeof error.details['path'] === 'string' ? { path: error.details['path'] } : {}) }
  throw error
}

/** The least write that makes the new document of the old; undefined when they are the same. */
function writeOf(row: Row, old: Doc, next: Doc, stored: (doc: Doc) => Doc, whole: boolean): Write | undefined {
  if (whole) return { kind: 'put', key: row.key, rev: row.rev, doc: stored(next) }
  const set = Object.fromEntries(Object.entries(next).filter(([field, value]) => !has(old, field) || !same(old[field], value as Value)))
  const unset = Object.keys(old).filter((field) => !has(next, field))
  if (Object.keys(set).length + unset.length === 0) return undefined
  return { kind: 'patch', key: row.key, rev: row.rev, set: stored(set), unset }
}

function withIds(error: unknown, ids: readonly string[]): unknown {
  if (ids.length === 0) return error
  if (!InlayError.is(error)) return new InlayError('INVALID_ARGUMENT', `The call failed after ${ids.length} rows were written, whose ids are in details.ids: ${messageOf(error)}. Mend the source or the function that failed, and repeat the call for the other rows.`, { cause: error, details: { ids } })
  if ('ids' in error.details) return error
  return new InlayError(error.code, error.message, { retryable: false, details: { ...error.details, ids }, cause: error })
}
function isAsync(value: unknown): value is AsyncIterable<unknown> {
  return typeof value === 'object' && value !== null && Symbol.asyncIterator in value
}
/** Ends when the signal says so, also while the source makes it wait. One listener for the whole of it: one for each document would cost more than the document. */
async function* stoppable<T>(source: AsyncIterable<T>, { signal }: Ctx): AsyncIterable<T> {
  const iterator = source[Symbol.asyncIterator]()
  let stop = (): void => {}
  const stopped = (): void => stop()
  signal.addEventListener('abort', stopped)
  try {
    while (!signal.aborted) {
      const next = await new Promise<IteratorResult<T> | undefined>((resolve, reject) => {
        stop = () => resolve(undefined)
        iterator.next().then(resolve, reject)
      }).catch((error: unknown) => { if (signal.aborted) return undefined; throw error })
      if (next === undefined || next.done === true || signal.aborted) return
      yield next.value
    }
  } finally {
    signal.removeEventListener('abort', stopped)
    const left = iterator.return?.()
    if (signal.aborted) left?.catch(() => {})
    else await left
  }
}
/** About how many bytes a document has, by its large parts at the top and one level below. */
function weightOf(doc: Doc): number {
  const size = (value: Value): number => (typeof value === 'string' ? value.length : ArrayBuffer.isView(value) ? value.byteLength : value instanceof Blob ? value.size : 8)
  return Object.values(doc).reduce<number>((sum, value) => sum + (isDoc(value) || Array.isArray(value) ? Object.values(value).reduce<number>((inner, v) => inner + size(v as Value), 0) : size(value as Value)), 0)
}
async function* oneByOne<T>(list: readonly T[]): AsyncIterable<T> {
  yield* list
}
function emptyChanged(): Tallied {
  return { ids: [], refused: [], outputs: { done: 0, failed: 0, pending: 0 } }
}
function merge(into: Outputs, from: Outputs): void {
  into.done += from.done
  into.failed += from.failed
  into.pending += from.pending
}
