/** Queries: what the user asks is split into what the database does exactly and what is done here on the stream. */
import type { Find as FindOf, IndexHandle } from './api.ts'
import { byContent } from './content.ts'
import type { Ctx, Doc, Path, Query, Row, Value } from './contract.ts'
import { pick } from './encoding.ts'
import { InlayError, quote } from './errors.ts'
import type { Core } from './core.ts'
import { withoutFold } from './collections.ts'
import { parseFilter, split, type Conjunct } from './match.ts'
import { byKeys, nearest } from './search.ts'
import { parseSort, Top, type Order } from './sort.ts'
import { copyAsked, setOwn } from './value.ts'

const pageRows = 100

/** What a query asks. */
export interface Asked {
  readonly where?: Readonly<Record<string, unknown>> | undefined
  readonly sort?: Readonly<Record<string, unknown>>
  readonly skip?: number
  readonly limit?: number
  readonly fields?: readonly string[]
  readonly like?: { readonly example: unknown; readonly index: IndexHandle<unknown>; readonly n: number; readonly before: boolean }
  readonly signal?: AbortSignal
  /** Leave out what only the user would see: outputs, and for `keys` the fields too. */
  readonly only?: 'documents' | 'keys'
}

/** How it runs. */
/** Where an output lies, and where the user finds it. */
interface OutputPath { readonly slot: string; readonly many: boolean; readonly label: string; readonly model: string }
interface Planned {
  readonly query: Query
  /** What of the outputs is shown: those that were asked for, whatever serves when the rows come. */
  readonly paths: readonly OutputPath[]
  readonly pushed: readonly Conjunct[]
  readonly residual: readonly Conjunct[]
  /** Order that core makes; absent where the database does, or none is asked. */
  readonly order: Order | undefined
  /** The database skips and limits. */
  readonly native: boolean
}

/** A row of the database and what the user sees of it. */
export interface Seen { readonly row: Row; readonly view: Doc }

export class Find {
  readonly #core: Core
  readonly #collection: string
  readonly #asked: Asked

  constructor(core: Core, collection: string, asked: Asked) {
    this.#core = core
    this.#collection = collection
    this.#asked = asked
  }

  /** The public, typed face of it. */
  static of<T, R>(core: Core, collection: string, asked: Asked): FindOf<T, R> {
    return new Find(core, collection, asked) as unknown as FindOf<T, R>
  }

  /** The elements of a listener's lists are there without being made. */
  async #open(ctx: Ctx): Promise<void> {
    if (this.#core.listeners.ofChunks(this.#collection) === undefined) await this.#core.collections.open(this.#collection, ctx)
  }
  #with(asked: Partial<Asked>): Find {
    return new Find(this.#core, this.#collection, { ...this.#asked, ...asked })
  }
  get source(): FindOf<object>['source'] {
    const { where, fields, sort, skip, limit, like } = this.#asked, other = Object.entries({ sort, skip, limit, like }).find(([, value]) => value !== undefined)
    if (other !== undefined) throw new InlayError('INVALID_ARGUMENT', `A listener selects rows by a filter; ${quote(other[0])} of the query has no meaning for rows that come later. Leave it out.`)
    return { collection: this.#collection, where, select: fields }
  }
  sort(by: Readonly<Record<string, unknown>>): Find {
    parseSort(by)
    return this.#with({ sort: { ...by } })
  }
  skip(n: number): Find {
    return this.#with({ skip: whole('skip', n, 0) })
  }
  limit(n: number): Find {
    return this.#with({ limit: whole('limit', n, 1) })
  }
  select(...fields: readonly string[]): Find {
    for (const field of fields) if (typeof field !== 'string' || field === '' || field.includes('.') || field.startsWith('$')) throw new InlayError('INVALID_ARGUMENT', `select takes names of top-level fields; ${quote(field)} is none.`)
    return this.#with({ fields })
  }
  like(example: unknown, index: IndexHandle<unknown>, options: { readonly n?: number } = {}): Find {
    return this.#with({ like: { example: copyAsked(example), index, n: whole('n', options.n ?? 10, 1), before: false } })
  }
  only(only: NonNullable<Asked['only']>): Find {
    return this.#with({ only })
  }
  signal(signal: AbortSignal): Find {
    return this.#with({ signal })
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Doc> {
    yield* this.#core.stream(this.#asked.signal, (ctx) => this.#views(ctx))
  }
  async *#views(ctx: Ctx): AsyncGenerator<Doc> {
    for await (const page of this.#pages(ctx)) {
      const rows = page.map(({ view }) => ({ doc: this.#project(view) }))
      // Only what is asked for is decoded, in parts whose bytes may be held at once.
      for (const part of byContent(rows)) for (const doc of await this.#decoded(part.map((row) => row.doc), ctx)) yield doc
    }
  }
  async #decoded(docs: readonly Doc[], ctx: Ctx): Promise<readonly Doc[]> {
    const { contents, collections } = this.#core
    return (await contents.decoded(docs, { name: (i) => docs[i]!['_id'] as string, codecs: collections.codecsOf(this.#collection), unknown: (path) => (path.startsWith('_outputs.') ? 'stored' : 'error') }, ctx)).map((doc) => {
      if (InlayError.is(doc)) throw doc
      return doc
    })
  }
  async toArray(): Promise<Doc[]> {
    return this.#core.call(this.#asked.signal, (ctx) => this.rows(ctx))
  }
  /** For core's own use, within a call. */
  async rows(ctx: Ctx): Promise<Doc[]> {
    const rows: Doc[] = []
    for await (const row of this.#views(ctx)) rows.push(row)
    return rows
  }
  async first(): Promise<Doc | undefined> {
    return this.#core.call(this.#asked.signal, async (ctx) => {
      for await (const row of this.limit(1).#views(ctx)) return row
      return undefined
    })
  }
  async count(): Promise<number> {
    const { skip, limit, like } = this.#asked
    return this.#core.call(this.#asked.signal, async (ctx) => {
      await this.#open(ctx)
      const native = (): Promise<number> | undefined => {
        const { query, residual } = this.#plan(false)
        return residual.length > 0 || skip !== undefined || limit !== undefined || like !== undefined ? undefined : this.#core.data.count({ from: query.from, ...(query.where === undefined ? {} : { where: query.where }) }, ctx)
      }
      const counted = await native()?.catch(async (error: unknown) => {
        // Another process may have declared, changed or removed what this one knows of.
        if (!InlayError.is(error) || error.code !== 'NOT_FOUND') throw error
        await this.#core.reopen(ctx)
        return native()
      })
      if (counted !== undefined) return counted
      let n = 0
      for await (const _ of this.seen(ctx)) n++
      return n
    })
  }

  async explain(): Promise<string> {
    return this.#core.call(this.#asked.signal, async (ctx) => {
      await this.#open(ctx)
      const { like } = this.#asked, { pushed, residual, order, native } = this.#plan(like === undefined), { skip, limit } = this.#asked
      const list = (conjuncts: readonly Conjunct[]): string => conjuncts.map((c) => c.text).join(' and ')
      const lines = [`${this.#collection} in ${this.#core.server}`]
      if (like !== undefined) {
        const { index, total, settled } = await this.#core.indexes.describe(like.index, ctx), { place } = this.#core.vectors.capabilities
        const where = place === 'slot' ? 'where the outputs lie' : 'in a copy of the vectors'
        lines.push(`  nearest ${like.n} by ${index.measure}, exact, ${where}, ${like.before ? 'then filter' : pushed.length + residual.length === 0 ? 'no filter' : 'among matching rows'}`)
        if (settled < total) lines.push(`  unfinished: ${settled} of ${total} rows have a vector`)
      }
      if (pushed.length > 0) lines.push(`  database: ${list(pushed)}`)
      if (residual.length > 0) lines.push(`  here, on the stream: ${list(residual)}`)
      if (pushed.length + residual.length === 0 && like === undefined) lines.push('  database: all rows')
      if (this.#asked.sort !== undefined) lines.push(`  sort by ${Object.entries(this.#asked.sort).map(([p, d]) => `${p} ${d === 1 ? 'ascending' : 'descending'}`).join(', ')}: ${order === undefined ? 'database' : limit === undefined ? 'here, all rows' : `here, keeping ${(skip ?? 0) + limit}`}`)
      if (skip !== undefined || limit !== undefined) lines.push(`  ${[skip === undefined ? '' : `skip ${skip}`, limit === undefined ? '' : `limit ${limit}`].filter((t) => t !== '').join(', ')}: ${native ? 'database' : 'here'}`)
      return lines.join('\n')
    })
  }

  /** Rows in their final order, with skip and limit applied. */
  async *seen(ctx: Ctx): AsyncGenerator<Seen> {
    for await (const page of this.#pages(ctx)) yield* page
  }
  async *#pages(ctx: Ctx): AsyncGenerator<readonly Seen[]> {
    await this.#open(ctx)
    const run = (): AsyncGenerator<readonly Seen[]> => (this.#asked.like === undefined ? this.#scanned(ctx) : this.#ranked(ctx))
    let given = false
    try {
      for await (const page of run()) {
        given = true
        yield page
      }
    } catch (error) {
      // Another process may have declared, changed or removed what this one knows of.
      if (given || !InlayError.is(error) || error.code !== 'NOT_FOUND') throw error
      await this.#core.reopen(ctx)
      yield* run()
    }
  }

  async *#scanned(ctx: Ctx): AsyncGenerator<readonly Seen[]> {
    const { query, residual, paths, order, native } = this.#plan(true)
    const { skip = 0, limit } = this.#asked
    const matching = this.#matching(query, residual, paths, ctx)
    if (order !== undefined) {
      const top = new Top<Seen>(order, limit === undefined ? undefined : skip + limit), attached = this.#core.collections.attached(this.#collection)
      let n = 0
      for await (const page of matching) for (const seen of page) {
        // Rows come in the order of their keys, which on an attached collection is not that of the texts.
        const id = attached ? String(n++).padStart(16, '0') : seen.row.key
        top.add(attached ? { ...seen.view, _id: id } : seen.view, id, seen)
      }
      const sorted = top.rows().slice(skip)
      for (let i = 0; i < sorted.length; i += pageRows) yield sorted.slice(i, i + pageRows)
    } else if (native) {
      yield* matching
    } else {
      let n = 0
      for await (const page of matching) {
        const part = page.slice(Math.max(0, skip - n), limit === undefined ? undefined : Math.max(0, skip + limit - n))
        n += page.length
        if (part.length > 0) yield part
        if (limit !== undefined && n >= skip + limit) return
      }
    }
  }

  async *#matching(query: Query, residual: readonly Conjunct[], paths: readonly OutputPath[], ctx: Ctx): AsyncGenerator<readonly Seen[]> {
    for await (const page of this.#core.data.find(query, ctx)) {
      for (const rows of byContent(page)) {
        const seen = await this.#see(rows, paths, ctx), passing = residual.length === 0 ? seen : seen.filter(({ view }) => residual.every((c) => c.test(view)))
        if (passing.length > 0) yield passing
      }
    }
  }

  async *#ranked(ctx: Ctx): AsyncGenerator<readonly Seen[]> {
    const { example, index: handle, n, before } = this.#asked.like!, { skip = 0, limit } = this.#asked
    const { query, residual, paths } = this.#plan(false)
    const index = await this.#core.indexes.open(handle, ctx)
    if (index.slot.collection !== this.#collection) throw new InlayError('INVALID_ARGUMENT', `The index ${quote(handle.name)} lies on the collection ${quote(index.slot.collection)}, not on ${quote(this.#collection)}. Search there, or add an index here.`)
    const vector = await this.#core.indexes.vectorOf(handle, example, ctx)
    const views = new Map<string, Seen>()
    const passing = async (rows: readonly Row[]): Promise<readonly Row[]> => {
      const passed = (await this.#see(rows, paths, ctx)).filter((seen) => residual.every((c) => c.test(seen.view)))
      for (const seen of passed) views.set(seen.row.key, seen)
      return passed.map((seen) => seen.row)
    }
    const all: Query = { from: query.from, slots: query.slots! }
    let near = await nearest(this.#core, index, vector, n, before ? { query: all } : { query, ...(residual.length === 0 ? {} : { residual: passing }) }, ctx)
    if (before && (query.where !== undefined || residual.length > 0)) {
      const found = await byKeys(this.#core.data, query, near.map((h) => h.row.key), ctx)
      const passed = new Set((residual.length === 0 ? found : await passing(found)).map((row) => row.key))
      near = near.filter((h) => passed.has(h.row.key))
    }
    const unseen = near.filter((h) => !views.has(h.row.key)).map((h) => h.row)
    for (const seen of await this.#see(unseen, paths, ctx)) views.set(seen.row.key, seen)
    let hits = near.map((h) => {
      const { row, view } = views.get(h.row.key)!
      return { row, distance: h.distance, view: { ...view, ...(index.slot.many ? { offset: h.offset } : {}), score: index.measure === 'cosine' ? 1 - h.distance : 0 - h.distance, distance: h.distance } }
    })
    if (this.#asked.sort !== undefined) {
      const top = new Top<typeof hits[number]>(parseSort(this.#asked.sort), undefined)
      for (const hit of hits) top.add(hit.view, hit.row.key, hit)
      hits = [...top.rows()]
    }
    const asked = hits.slice(skip, limit === undefined ? undefined : skip + limit)
    if (asked.length > 0) yield asked
  }

  #plan(alone: boolean): Planned {
    const { data, listeners } = this.#core, { where, sort, skip, limit, only } = this.#asked, fields = only === 'keys' ? [] : this.#asked.fields
    const filterable = new Set(listeners.of(this.#collection).filter((l) => l.serving.filters).map((l) => l.serving.slot.id))
    const asked = where === undefined ? [] : parseFilter(where, (path) => this.#output(path)), attached = this.#core.collections.attached(this.#collection)
    const conjuncts = attached ? withoutFold(asked) : asked
    const { where: filter, residual, pushed } = split(conjuncts, data.capabilities, (slot) => filterable.has(slot))
    const slots = only === undefined || residual.some((c) => c.reads.includes('_outputs')) ? listeners.of(this.#collection).flatMap((l) => (l.serving.broken === undefined ? [l.serving.slot.id] : [])) : []
    const paths = listeners.of(this.#collection).map((l) => ({ slot: l.serving.slot.id, many: l.serving.slot.many, label: l.spec.label, model: l.spec.model }))
    let order = sort === undefined ? undefined : parseSort(sort)
    if (order !== undefined && (order.length === 0 || (order[0]!.path.join('.') === '_id' && !order[0]!.descending))) order = undefined
    const sorts = order !== undefined && data.capabilities.order && order.every(({ path }) => path[0] !== '_outputs' && !(attached && path[0] === '_fold'))
    const native = alone && residual.length === 0 && (order === undefined || sorts)
    const reads = fields === undefined ? undefined : [...new Set([...fields, '_fold', ...residual.flatMap((c) => c.reads), ...(order ?? []).map(({ path }) => path[0]!)])].filter((f) => f !== '_id' && f !== '_outputs' && !(attached && f === '_fold'))
    return {
      query: {
        from: this.#collection, slots,
        ...(filter === undefined ? {} : { where: filter }), ...(reads === undefined ? {} : { fields: reads }),
        ...(sorts && native ? { order: order!.map(({ path, descending }) => ({ path: { at: path }, descending })) } : {}),
        ...(native && skip !== undefined && skip > 0 ? { skip } : {}), ...(native && limit !== undefined ? { limit } : {}),
      },
      pushed, residual, paths, native, order: native ? undefined : order,
    }
  }

  /** `_outputs.<key>.<model>` as a path into the slot that is read. */
  #output(path: readonly string[]): Path | undefined {
    if (path.length < 3) return undefined
    const listener = this.#core.listeners.byPath(this.#collection, path)
    if (listener?.serving.broken !== undefined) throw new InlayError('NOT_FOUND', `The outputs ${quote(path.join('.'))} cannot be read: ${listener.serving.broken.message}`)
    if (listener !== undefined) return { slot: listener.serving.slot.id, at: path.slice(3) }
    const known = this.#core.listeners.of(this.#collection).map((l) => `_outputs.${l.spec.label}.${l.spec.model}`)
    throw new InlayError('NOT_FOUND', `No listener on ${quote(this.#collection)} gives ${quote(path.join('.'))}. ${known.length === 0 ? 'It has no listeners: add one.' : `Known: ${known.join(', ')}.`}`)
  }

  /** Rows as the user sees them: with `_id`, content in place, and outputs by their path. */
  async #see(rows: readonly Row[], paths: readonly OutputPath[], ctx: Ctx): Promise<readonly Seen[]> {
    const { contents, collections } = this.#core, fold = collections.attached(this.#collection) ? collections.foldOf(this.#collection) : undefined
    const views = rows.map((row): Doc => {
      const view: Record<string, Value> = { _id: row.key, ...row.doc, ...(fold === undefined ? {} : { _fold: fold(row.key) }) }
      let outputs: Record<string, Value> | undefined
      for (const { slot, many, label, model } of paths) {
        const values = row.outputs?.[slot]
        if (values === undefined) continue
        outputs ??= {}
        setOwn(outputs, label, { ...(outputs[label] as Doc | undefined), [model]: many ? values : values[0]! })
      }
      if (outputs !== undefined) view['_outputs'] = outputs
      return view
    })
    // To be changed or deleted, a row need not be whole.
    const stored = this.#asked.only === 'keys' ? views : await contents.stored(views, (i) => rows[i]!.key, ctx, { lost: this.#asked.only === undefined ? 'error' : 'stored' })
    return rows.map((row, i) => ({ row, view: stored[i]! }))
  }

  #project(view: Doc): Doc {
    const { fields } = this.#asked
    return fields === undefined ? view : pick(view, ['_id', ...fields, '_fold', '_outputs', 'offset', 'score', 'distance'])
  }
}

function whole(what: string, n: number, least: number): number {
  if (Number.isInteger(n) && n >= least) return n
  throw new InlayError('INVALID_ARGUMENT', `${what} is ${quote(n)}; a whole number from ${least} is expected.`)
}

