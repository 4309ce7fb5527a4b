/** Listeners as they run in this process: built from their components, kept in order of their chains, driven by the engine. */
import { withoutFold, type Collections } from './collections.ts'
import type { Component } from './components.ts'
import { byContent, contentOf, contentsOf, externalise, writeContent } from './content.ts'
import { isUnknown, type Contents } from './contents.ts'
import type { ArtifactStore, Ctx, Datalayer, Doc, Key, Model, Row, Slot, Value } from './contract.ts'
import { decode, hashOf, pick, sha256 } from './encoding.ts'
import { InlayError, messageOf, quote } from './errors.ts'
import { evaluate, parseFilter, split, type Conjunct } from './match.ts'
import { identityOf, missingSteps, predictChecked, runnable, shapeOf, type ModelParts, type Runnable, type StoredModel } from './model.ts'
import { halving, isOutage, outcomesOf, reconcile, type ReconcileOptions, type Run, type Work } from './reconcile.ts'
import { byKeys } from './search.ts'
import { copyAsked, isDoc, setOwn } from './value.ts'

/** What is stored of a listener, and makes its version. */
export interface StoredListener {
  readonly collection: string
  /** The user's filter in the stored encoding. */
  readonly where: string | null
  /** A field, `_base`, several fields, or upstream listeners by name. */
  readonly key: StoredKey | readonly StoredKey[]
  /** `_outputs.<label>.<model>` */
  readonly label: string
  readonly model: string
  /** Identity of the model. */
  readonly identity: string
  /** Each output is a list, whose elements are rows of their own: `<key>#<n>`, which others listen to. */
  readonly many?: true
  /** Of `_base`, the fields that the model is given. */
  readonly select?: readonly string[]
  /** Ids of codecs of fields, by path, as the collection declares them. */
  readonly codecs?: Readonly<Record<string, string>>
}
export type StoredKey = { readonly field: string } | { readonly listener: string }
/** A generation that is kept beside the target. `source` is what its slot lies on, where that is not the listener's collection. */
export type Served = { readonly slot: string; readonly version: number; readonly upstream: readonly string[]; readonly source?: string }
/** Where a listener stands: which outputs are read, and which version they shall become. */
export interface ListenerState {
  readonly target: number
  readonly serving: Served | null
  readonly active: boolean
  /** Slots that are not read any more and wait to be dropped. */
  readonly obsolete: readonly string[]
  /** Of these, generations that outputs of other listeners may still stand on. */
  readonly retired?: readonly Served[]
  readonly chunk: number | null
  /** New outputs do not serve by themselves when they are complete: `Upgrade.switch` says when. */
  readonly hold?: true
  /** Outputs that served before, kept up to date for `Upgrade.rollback`. */
  readonly previous?: Served
  /** It is being removed: nobody reads or computes its outputs. */
  readonly removed?: true
}

/** Where a generation of a listener lies. */
interface Place {
  readonly name: string
  readonly spec: StoredListener
  readonly version: number
  /** Slots that it reads beside the rows, and what it reads rows of: its collection, or the lists of a slot. */
  readonly upstream: readonly string[]
  readonly source: string
  readonly id: string | undefined
}

/** One generation of outputs: of one identity of the model, over one generation of its upstream. */
export interface Generation {
  readonly version: number
  readonly slot: Slot
  /** Filters on these outputs can be pushed down. */
  readonly filters: boolean
  /** What computes it; absent where this process cannot, `reason` says why. */
  readonly work?: Work
  readonly reason?: string
  /** Its slot cannot be opened: what it lies on is gone, or is not what it was. */
  readonly broken?: InlayError
}
export interface Listener {
  readonly name: string
  readonly spec: StoredListener
  readonly state: ListenerState
  readonly upstream: readonly string[]
  /** Whose outputs are read. */
  readonly serving: Generation
  /** What they shall become; the same object when they are it. */
  readonly target: Generation
  /** What served before the last upgrade, until it is dropped. */
  readonly previous: Generation | undefined
  /** Generations that nobody reads by themselves, and that what other listeners serve was made from. */
  readonly retired: readonly Generation[]
  readonly model: Model | undefined
}
export interface Outputs { done: number; failed: number; pending: number }
interface Settled { readonly hash: string; readonly values: readonly Value[] }
/** How a row that was just inserted stands with a slot: `none` is not selected, `late` was refused because others wrote the row. */
type Standing = Settled | 'failed' | 'pending' | 'none' | 'late'

function slotId(collection: string, listener: string, identity: string): string {
  return `s_${sha256(JSON.stringify([collection, listener, identity])).slice(0, 24)}`
}

/** The value at a dotted path, through objects only. */
function valueAt(doc: Doc, path: string): Value | undefined {
  let value: Value | undefined = doc
  for (const segment of path.split('.')) value = isDoc(value) && Object.hasOwn(value, segment) ? value[segment] : undefined
  return value
}

const sharedRows = 32

/** The value at a dotted path of a stored document, or the content that it lies in. */
function storedAt(doc: Doc, path: string, codecs: StoredListener['codecs']): Value | undefined {
  let value: Value | undefined = doc, at = ''
  for (const segment of path.split('.')) {
    if (value !== undefined && (hasContentAt(value) || codecs?.[at] !== undefined)) return value
    value = isDoc(value) && Object.hasOwn(value, segment) ? value[segment] : undefined
    at = at === '' ? segment : `${at}.${segment}`
  }
  return value
}
function hasContentAt(value: Value): boolean {
  return isDoc(value) && contentOf(value) !== undefined
}

export interface ListenerParts extends ModelParts {
  readonly data: Datalayer
  readonly artifacts: ArtifactStore
  readonly collections: Collections
  readonly contents: Contents
  /** Who computes here. */
  readonly worker: string
  readonly warn: (message: string) => void
}

export class Listeners {
  readonly #parts: ListenerParts
  readonly #models = new Map<string, { readonly bare: Runnable; readonly model: Model }>()
  readonly #warned = new Set<string>()
  /** Slots whose vectors must have a direction, because a cosine index lies on them. */
  readonly directed: Set<string> = new Set()
  #byName: ReadonlyMap<string, Listener> = new Map()
  #opened = new Map<string, boolean>()

  constructor(parts: ListenerParts) { this.#parts = parts }

  get(name: string): Listener | undefined {
    return this.#byName.get(name)
  }
  /** In an order in which upstream comes first. */
  all(): readonly Listener[] {
    return [...this.#byName.values()]
  }
  /** Of one collection, or of the lists that a slot holds, upstream first. */
  of(source: string): readonly Listener[] {
    return this.all().filter((l) => kept(l).some((g) => g.slot.collection === source))
  }
  /** The listener whose lists are read as rows under this name. */
  ofChunks(source: string): Listener | undefined {
    return this.all().find((l) => l.spec.many === true && kept(l).some((g) => g.slot.id === source))
  }
  /** The listener whose outputs a path `_outputs.<label>.<model>…` means. */
  byPath(collection: string, path: readonly string[]): Listener | undefined {
    return this.of(collection).find((l) => l.spec.label === path[1] && l.spec.model === path[2])
  }
  /** A model that runs here, one per identity. */
  model(name: string, stored: StoredModel): Model {
    return this.#made(name, stored).model
  }
  /** The same without middleware, whose session can be asked for. */
  runnable(name: string, stored: StoredModel): Runnable {
    return this.#made(name, stored).bare
  }
  #made(name: string, stored: StoredModel): { readonly bare: Runnable; readonly model: Model } {
    const identity = identityOf(stored)
    let made = this.#models.get(identity)
    if (made === undefined) {
      const bare = runnable(name, stored, this.#parts)
      made = { bare, model: this.#parts.wrap(bare) }
      this.#models.set(identity, made)
    }
    return made
  }

  /** Takes over the stored listeners and opens what is new. */
  async refresh(ctx: Ctx, stored: readonly Component[]): Promise<void> {
    const models = new Map(stored.filter((c) => c.kind === 'model').map((c) => [c.name, c]))
    const byName = new Map<string, Listener>()
    const waiting = stored.filter((c) => c.kind === 'listener' && !isRemoved(c)), needed = neededSlots(waiting)
    while (waiting.length > 0) {
      const next = waiting.findIndex((c) => upstreamOf(specOf(c)).every((name) => byName.has(name)))
      if (next === -1) {
        this.#parts.warn(`The listeners ${waiting.map((c) => quote(c.name)).join(', ')} read outputs of listeners that do not exist, and rest. Remove them, or add what they read.`)
        break
      }
      const [component] = waiting.splice(next, 1)
      byName.set(component!.name, await this.#build(component!, models, byName, needed, ctx))
    }
    this.#byName = byName
  }

  async #build(component: Component, models: ReadonlyMap<string, Component>, built: ReadonlyMap<string, Listener>, needed: ReadonlySet<string>, ctx: Ctx): Promise<Listener> {
    const state = component.state as unknown as ListenerState, spec = specOf(component), upstream = upstreamOf(spec)
    // Of a version that somebody removed, the selection is that of the others.
    const specAt = (version: number): StoredListener => (component.versions.find((v) => v.version === version)?.spec ?? { ...spec, identity: '' }) as unknown as StoredListener
    const generation = (version: number, at: { readonly upstream: readonly string[]; readonly source?: string }, id?: string): Promise<Generation> =>
      this.#generation({ name: component.name, spec: specAt(version), version, upstream: at.upstream, source: at.source ?? spec.collection, id }, models.get(spec.model), ctx)
    const target = await generation(state.target, standOn(spec, (name) => built.get(name)!.target.slot))
    const { serving, previous } = state, apart = (at: Served): boolean => at.slot !== target.slot.id && at.slot !== serving?.slot && at.slot !== previous?.slot, retired: Generation[] = []
    for (const at of state.retired ?? []) if (needed.has(at.slot) && apart(at)) retired.push(await generation(at.version, at, at.slot))
    return {
      name: component.name, spec, state, upstream, target, retired,
      serving: serving === null || serving.slot === target.slot.id ? target : await generation(serving.version, serving, serving.slot),
      previous: previous === undefined || previous.slot === target.slot.id ? undefined : await generation(previous.version, previous, previous.slot),
      model: this.#modelOf(spec, specAt(serving?.version ?? state.target).identity, models.get(spec.model)),
    }
  }

  #modelOf(spec: StoredListener, identity: string, component: Component | undefined): Model | undefined {
    const stored = component?.versions.find((v) => v.hash === identity)?.spec as unknown as StoredModel | undefined
    return stored === undefined || missingSteps(stored, this.#parts.functions).length > 0 ? undefined : this.model(spec.model, stored)
  }

  async #generation({ name, spec, version, upstream, source, id }: Place, component: Component | undefined, ctx: Ctx): Promise<Generation> {
    const { data, functions } = this.#parts, { identity } = spec, chunks = source !== spec.collection
    const stored = component?.versions.find((v) => v.hash === identity)?.spec as unknown as StoredModel | undefined
    const conjuncts = spec.where === null ? [] : parseFilter(decode(spec.where)), attached = this.#parts.collections.attached(spec.collection)
    const { where, residual } = split(attached ? withoutFold(conjuncts) : conjuncts, chunks ? { ...data.capabilities, filters: ['keys'] } : data.capabilities, () => false)
    const fields = chunks ? ['value', 'source', 'offset'] : fieldsOf(spec, residual)?.filter((f) => !(attached && f === '_fold'))
    const slot: Slot = {
      id: id ?? slotOf(name, spec, upstream, source), collection: source, upstream, many: spec.many === true, label: `${spec.label}.${spec.model}`,
      shape: stored === undefined ? { kind: 'json' } : shapeOf(stored), ...(where === undefined ? {} : { where }), ...(fields === undefined ? {} : { fields }),
    }
    const gone = upstream.find((up) => !this.#opened.has(up))
    if (gone !== undefined) {
      const broken = new InlayError('NOT_FOUND', `The outputs of version ${version} of the listener ${quote(name)} were made from outputs that are gone.`)
      return { version, slot, filters: false, reason: broken.message, broken }
    }
    let filters = this.#opened.get(slot.id)
    if (filters === undefined) {
      try {
        filters = (await data.openSlot(slot, ctx)).filters
      } catch (error) {
        // One listener that cannot be is not to take the others with it.
        if (!InlayError.is(error) || isOutage(error)) throw error
        return { version, slot, filters: false, reason: error.message, broken: error }
      }
      this.#opened.set(slot.id, filters)
    }
    const missing = stored === undefined ? [] : missingSteps(stored, functions)
    const reason = stored === undefined ? `its model ${quote(spec.model)} is gone` : missing.length > 0 ? `the ${missing.length === 1 ? 'step' : 'steps'} ${missing.join(' and ')} ${missing.length === 1 ? 'is' : 'are'} not loaded in this process: add the model's spec, or name it in "components" of the config` : undefined
    if (reason === undefined) return { version, slot, filters, work: this.#work(slot, spec, residual, this.model(spec.model, stored!), stored!.codec) }
    return { version, slot, filters, reason }
  }

  #work(slot: Slot, spec: StoredListener, residual: readonly Conjunct[], model: Model, kept: string | undefined): Work {
    const { data, artifacts, contents, collections } = this.#parts, fold = collections.attached(spec.collection) ? collections.foldOf(spec.collection) : undefined
    const keys = Array.isArray(spec.key) ? spec.key as readonly StoredKey[] : [spec.key as StoredKey], several = Array.isArray(spec.key)
    // A listener to the elements of lists reads them from its rows, and outputs made of them from upstream.
    const elements = slot.upstream.length === 0, upstream = keys.filter((k) => 'listener' in k)
    const part = (key: StoredKey, row: Row, doc: Doc, outputs: Row['outputs']): Value | undefined =>
      'listener' in key ? elements ? doc['value'] : outputs?.[slot.upstream[upstream.indexOf(key)]!]?.[0] : key.field === '_base' ? { ...spec.select === undefined ? doc : pick(doc, spec.select), _id: row.key } : valueAt(doc, key.field)
    /** What stands for the input in the stored row: a field inside of content is covered by the content. */
    const inStored = (key: StoredKey, row: Row): Value | undefined => ('field' in key && key.field !== '_base' ? storedAt(row.doc, key.field, spec.codecs) : part(key, row, row.doc, row.outputs))
    const input = (row: Row, doc: Doc, outputs: Row['outputs']): Value | undefined => {
      if (!several) return part(keys[0]!, row, doc, outputs)
      const object: Record<string, Value> = {}
      for (const key of keys) {
        const value = part(key, row, doc, outputs)
        if (value !== undefined) setOwn(object, 'listener' in key ? key.listener : key.field, value)
      }
      return object
    }
    const predict = async (rows: readonly Row[], ctx: Ctx): Promise<readonly (readonly Value[] | Error | undefined)[]> => {
      const name = (i: number): string => rows[i]!.key, { codecs } = spec
      const docs = await contents.decoded(rows.map((row) => row.doc), { name, codecs, readers: (field) => this.#readers(slot.collection, field), fetch: true }, ctx)
      const upstreams = slot.upstream.length === 0 ? undefined : await contents.decoded(rows.map((row) => (row.outputs ?? {}) as Doc), { name, fetch: true }, ctx)
      const faults = docs.map((doc, i) => [doc, upstreams?.[i]].find((decoded) => InlayError.is(decoded)))
      const unknown = faults.find(isUnknown)
      if (unknown !== undefined) this.#sayOnce(`Rows of the listener ${quote(spec.model)} on ${quote(spec.collection)} are pending: ${unknown.message}`, `codec ${slot.id}`)
      const good = faults.flatMap((fault, i) => (fault === undefined ? [i] : []))
      // A model may change what it is given: where others read the same rows, they are not to see it.
      const own = this.of(slot.collection).length > 1 ? copyAsked : <T>(value: T): T => value
      const inputs = good.map((i) => own(input(rows[i]!, docs[i] as Doc, (upstreams?.[i] ?? rows[i]!.outputs) as Row['outputs']))), taking = { refuses: data.capabilities.refuses, codecs: contents.codecs, many: spec.many === true, codec: kept }
      // Halved here, so that nothing is fetched and decoded again for it.
      const results = inputs.length === 0 ? [] : await halving(inputs, (part) => predictChecked(model, part, taking, ctx), ctx)
      // Another process may know a codec that is not known here: such rows wait, as they do for a function that is not here.
      const outputs = faults.map((fault): readonly Value[] | Error | undefined => (isUnknown(fault) ? undefined : fault ?? new Error('the model gave no output')))
      good.forEach((i, n) => { outputs[i] = results[n]! })
      const found = new Map<string, Uint8Array>(), stored = slot.shape.kind === 'json' ? outputs.map((o) => (o === undefined || o instanceof Error ? o : o.map((value) => externalise(value, found)))) : outputs
      await writeContent(artifacts, found, ctx)
      return stored.map((output) => (output !== undefined && !(output instanceof Error) && this.directed.has(slot.id) && output.some(isZero) ? new Error('a zero vector has no direction, and a cosine index lies on this output') : output))
    }
    return {
      slot, worker: this.#parts.worker,
      // A row without a value for the one key has nothing to compute.
      select: async (rows, ctx) => {
        const docs = residual.length === 0 ? rows.map((row) => row.doc) : await contents.stored(rows.map((row) => row.doc), (i) => rows[i]!.key, ctx)
        return rows.map((row, i) => residual.every((c) => c.test({ ...docs[i]!, _id: row.key, ...(fold === undefined ? {} : { _fold: fold(row.key) }) })) && (several || (inStored(keys[0]!, row) ?? null) !== null))
      },
      hash: (row) => hashOf([several ? Object.fromEntries(keys.flatMap((key): [string, Value][] => { const value = inStored(key, row); return value === undefined ? [] : [['listener' in key ? key.listener : key.field, value]] })) : inStored(keys[0]!, row) ?? null]),
      predict: async (rows, ctx) => {
        const outputs: (readonly Value[] | Error | undefined)[] = []
        for (const part of byContent(rows)) outputs.push(...await predict(part, ctx))
        return outputs
      },
    }
  }
  /** How many listeners read a top-level field, so that what several read is decoded once. */
  #readers(source: string, field: string): number {
    return this.of(source).filter((l) => l.state.active && (l.target.slot.fields?.includes(field) ?? true)).length
  }

  /** The generations that are kept up to date: what is read, and what it shall become. */
  generations(listener: Listener): readonly Generation[] {
    if (!listener.state.active) return []
    const live = new Set(this.all().flatMap((l) => kept(l).flatMap((g) => (g.broken === undefined ? [g.slot.id] : []))))
    return kept(listener)
      .filter(({ broken, slot }) => broken === undefined && slot.upstream.every((id) => live.has(id)) && (slot.collection === listener.spec.collection || live.has(slot.collection)))
  }

  /** Says once that outputs are pending because this process cannot compute them. */
  #sayBlocked(listener: Listener, { reason }: Generation): void {
    this.#sayOnce(`The listener ${quote(listener.name)} is blocked, and its outputs are pending: ${reason}.`)
  }
  #sayOnce(warning: string, about: string = warning): void {
    if (!this.#warned.has(about)) this.#parts.warn(warning)
    this.#warned.add(about)
  }

  /** Computes outputs of rows just inserted, from the rows in hand: one round trip per generation. `each` takes the counts of every row. */
  async inserted(collection: string, rows: readonly Row[], ctx: Ctx, each?: ReadonlyMap<Key, Outputs>): Promise<Outputs> {
    const outputs: Outputs = { done: 0, failed: 0, pending: 0 }, standings = new Map<string, ReadonlyMap<Key, Standing>>(), late = new Set<Key>()
    // What several listeners read is decoded once, and held until the last of them has read it: not of all rows at once.
    if (rows.length > sharedRows && this.of(collection).length > 1 && rows.some((row) => contentsOf(row.doc).length > 0)) {
      for (let i = 0; i < rows.length; i += sharedRows) merge(outputs, await this.inserted(collection, rows.slice(i, i + sharedRows), ctx, each))
      return outputs
    }
    for (const listener of this.of(collection)) {
      for (const generation of this.generations(listener)) {
        const standing = await this.#insertedOne(listener, generation, rows, standings, ctx)
        standings.set(generation.slot.id, standing)
        if (generation.slot.many) await this.#chunked(generation, standing, ctx, outputs, each)
        for (const [key, stands] of standing) {
          if (stands === 'late') late.add(key)
          if (stands === 'late' || stands === 'none' || generation !== listener.target) continue
          const what = typeof stands === 'object' ? 'done' : stands
          outputs[what]++
          const own = each?.get(key)
          if (own !== undefined) own[what]++
        }
      }
    }
    // Rows that others have written meanwhile are looked at again, with all that depends on them.
    await this.#readBack(collection, [...late], ctx, outputs, each)
    return outputs
  }
  /** Computes what is made from the elements of lists that were just settled. */
  async #chunked({ slot }: Generation, standing: ReadonlyMap<Key, Standing>, ctx: Ctx, outputs: Outputs, each: ReadonlyMap<Key, Outputs> | undefined): Promise<void> {
    if (this.of(slot.id).length === 0) return
    const lists = [...standing].flatMap(([key, stands]) => (typeof stands === 'object' && stands.values.length > 0 ? [{ key, chunks: stands.values.map((_, i) => `${key}#${i}`) }] : []))
    for (const part of each === undefined ? [lists] : lists.map((list) => [list])) {
      const counts = await this.changed(slot.id, part.flatMap(({ chunks }) => chunks), ctx), own = each?.get(part[0]?.key ?? '')
      for (const what of ['done', 'failed', 'pending'] as const) {
        outputs[what] += counts[what]
        if (own !== undefined) own[what] += counts[what]
      }
    }
  }
  /** Computes outputs of rows just inserted from what the database made of them: of an attached collection, the rows in hand are not yet what is stored. */
  async readBack(collection: string, rows: readonly Row[], ctx: Ctx, each?: ReadonlyMap<Key, Outputs>): Promise<Outputs> {
    const outputs: Outputs = { done: 0, failed: 0, pending: 0 }
    await this.#readBack(collection, rows.map((row) => row.key), ctx, outputs, each)
    return outputs
  }
  async #readBack(collection: string, all: readonly Key[], ctx: Ctx, outputs: Outputs, each: ReadonlyMap<Key, Outputs> | undefined): Promise<void> {
    for (const keys of each === undefined && all.length > 0 ? [all] : all.map((key) => [key])) {
      const counts = await this.changed(collection, keys, ctx), own = each?.get(keys[0]!)
      for (const what of ['done', 'failed', 'pending'] as const) {
        outputs[what] += counts[what]
        if (own !== undefined) own[what] += counts[what]
      }
    }
  }

  async #insertedOne(listener: Listener, generation: Generation, rows: readonly Row[], standings: ReadonlyMap<string, ReadonlyMap<Key, Standing>>, ctx: Ctx): Promise<ReadonlyMap<Key, Standing>> {
    const { slot, work } = generation, standing = new Map<Key, Standing>(), offered: Row[] = []
    for (const row of rows) {
      if (slot.where !== undefined && !evaluate(slot.where, row.key, row.doc)) continue
      const up = slot.upstream.map((id) => standings.get(id)?.get(row.key) ?? 'none')
      const held = (['late', 'failed', 'pending', 'none'] as const).find((stands) => up.includes(stands))
      if (held !== undefined) {
        standing.set(row.key, held)
        continue
      }
      const values = up as readonly Settled[], doc = slot.fields === undefined ? row.doc : pick(row.doc, slot.fields)
      offered.push({ key: row.key, rev: [row.rev, ...values.map((u) => u.hash)].join('|'), doc, outputs: Object.fromEntries(slot.upstream.map((id, i) => [id, values[i]!.values])) })
    }
    if (work === undefined && offered.length > 0) this.#sayBlocked(listener, generation)
    const chunk = listener.state.chunk ?? (offered.length || 1)
    for (let i = 0; i < offered.length; i += chunk) {
      const part = offered.slice(i, i + chunk), outcomes = work === undefined ? undefined : await this.#orPending(listener, part, () => outcomesOf(work, part, ctx), ctx)
      const failure = outcomes?.find((o) => o.kind === 'error')
      if (failure !== undefined) this.#sayOnce(`The listener ${quote(listener.name)} failed on the row ${quote(failure.key)}: ${failure.error.replace(/\.$/, '')}. Further failures are not said one by one: see its failures() and retry().`, `failed ${listener.name}`)
      const refused = outcomes === undefined ? undefined : new Set(await this.#parts.data.settle(slot, outcomes, ctx))
      for (const { key } of part) standing.set(key, 'pending')
      for (const o of outcomes ?? []) standing.set(o.key, refused!.has(o.key) ? 'late' : o.kind === 'values' ? o : o.kind === 'error' ? 'failed' : 'none')
    }
    return standing
  }

  /** A model that is away holds up its own outputs only. */
  async #orPending<T>(listener: Listener, rows: readonly Pick<Row, 'key'>[], work: () => Promise<T>, ctx: Ctx): Promise<T | undefined> {
    try {
      return await work()
    } catch (error) {
      if (!isOutage(error) || ctx.signal.aborted) throw error
      this.#parts.warn(`The outputs of ${rows.length} rows by the listener ${quote(listener.name)} are pending: ${messageOf(error)} When this is mended, db.verify({ repair: true }) computes them.`)
      return undefined
    }
  }

  /** Brings the outputs of changed rows up to date, and removes those of rows not selected any more. */
  async changed(source: string, keys: readonly Key[], ctx: Ctx): Promise<Outputs> {
    const outputs: Outputs = { done: 0, failed: 0, pending: 0 }
    if (keys.length === 0) return outputs
    for (const listener of this.of(source)) {
      for (const generation of this.generations(listener)) {
        if (generation.slot.collection !== source) continue
        const run = await this.#orPending(listener, keys.map((key) => ({ key })), () => this.run(listener, generation, ctx, { keys }), ctx)
        if (generation === listener.target) add(outputs, run ?? { ...emptyRun(), pending: keys.length })
        if (generation.slot.many) merge(outputs, await this.changed(generation.slot.id, await this.chunksOf(generation, keys, ctx), ctx))
      }
    }
    return outputs
  }
  /** The keys of the elements of the lists of some rows; none where nothing listens to them. */
  async chunksOf({ slot }: Generation, keys: readonly Key[], ctx: Ctx): Promise<readonly Key[]> {
    if (this.of(slot.id).length === 0) return []
    return (await byKeys(this.#parts.data, { from: slot.collection, fields: [], slots: [slot.id] }, keys, ctx)).flatMap((row) => (row.outputs?.[slot.id] ?? []).map((_, i) => `${row.key}#${i}`))
  }

  /** Reconciles one generation; what cannot be computed here counts as pending. */
  async run(listener: Listener, generation: Generation, ctx: Ctx, options: ReconcileOptions = {}): Promise<Run> {
    const { data } = this.#parts, { slot, work } = generation, keys = options.keys ?? 'all'
    if (slot.where !== undefined || slot.upstream.length > 0) await data.prune(slot, keys, ctx)
    if (work === undefined) {
      this.#sayBlocked(listener, generation)
      return { ...emptyRun(), pending: keys === 'all' ? 0 : keys.length }
    }
    return reconcile(data, work, ctx, { ...options, ...(listener.state.chunk === null ? {} : { chunk: listener.state.chunk }) })
  }

  async close(): Promise<void> {
    await Promise.all([...this.#models.values()].map((m) => m.model.close()))
    this.#models.clear()
  }
  /** Other processes may have dropped slots and made them anew: all are opened again. */
  forgetAll(): void {
    this.#opened.clear()
  }
  /** A slot was dropped: it is opened anew when it is needed again. */
  forget(slot: string): void {
    this.#opened.delete(slot)
    this.directed.delete(slot)
  }
}

/** All generations of a listener, each once. */
export function kept({ serving, target, previous, retired }: Listener): readonly Generation[] {
  return [...new Set([...retired, ...previous === undefined ? [] : [previous], serving, target])]
}
/** What is stored of a generation that is kept beside the target. */
export function servedOf({ slot, version }: Generation, { spec }: Listener): Served {
  return { slot: slot.id, version, upstream: slot.upstream, ...(slot.collection === spec.collection ? {} : { source: slot.collection }) }
}

/** What retires a generation: it is dropped when nothing stands on it any more. */
export function retire(state: ListenerState, at: Served): Pick<ListenerState, 'obsolete' | 'retired'> {
  return { obsolete: [...new Set([...state.obsolete, at.slot])], retired: [...(state.retired ?? []).filter(({ slot }) => slot !== at.slot), at] }
}
export function without(state: ListenerState, ...names: readonly (keyof ListenerState)[]): ListenerState {
  return Object.fromEntries(Object.entries(state).filter(([name]) => !names.includes(name as keyof ListenerState))) as unknown as ListenerState
}

/** A listener whose removal has begun. */
export function isRemoved(component: Component): boolean {
  return component.kind === 'listener' && (component.state as unknown as ListenerState).removed === true
}
function emptyRun(): Run {
  return { done: 0, same: 0, skipped: 0, failed: 0, pending: 0 }
}
function add(outputs: Outputs, run: Run): void {
  outputs.done += run.done + run.same
  outputs.failed += run.failed
  outputs.pending += run.pending
}

function merge(into: Outputs, from: Outputs): void {
  into.done += from.done
  into.failed += from.failed
  into.pending += from.pending
}

/** What a listener's slot lies on: rows of its collection with the outputs of upstream slots, or elements of the lists of one, with outputs that were made of them. */
export function standOn(spec: StoredListener, slotOfListener: (name: string) => Pick<Slot, 'id' | 'collection' | 'many'>): { readonly upstream: readonly string[]; readonly source: string } {
  const slots = upstreamOf(spec).map(slotOfListener), list = slots.find((slot) => slot.many)
  return list === undefined ? { upstream: slots.map((slot) => slot.id), source: slots[0]?.collection ?? spec.collection } : { upstream: [], source: list.id }
}

/** The slot of a listener's target: its selection is not part of it, what its inputs are made of is. */
export function slotOf(name: string, { identity, codecs, select }: StoredListener, upstream: readonly string[], source: string): string {
  const input = codecs === undefined && select === undefined ? [] : [hashOf({ codecs: codecs ?? null, select: select ?? null })]
  return slotId(source, name, [identity, ...upstream, ...input].join(' '))
}

/** Slots that outputs which are read, or kept for a rollback, were made from. */
function neededSlots(components: readonly Component[]): ReadonlySet<string> {
  const needed = new Set<string>(), states = components.map((c) => c.state as unknown as ListenerState), all = states.flatMap(({ serving, previous }) => [serving, previous])
  const stand = (at: Served | null | undefined): void => { for (const id of [...at?.upstream ?? [], ...(at?.source === undefined ? [] : [at.source])]) needed.add(id) }
  all.forEach(stand)
  // What is retired may itself stand on what is retired.
  for (let before = -1; before < needed.size;) {
    before = needed.size
    for (const { retired = [] } of states) for (const at of retired) if (needed.has(at.slot)) stand(at)
  }
  return needed
}

function specOf(component: Component): StoredListener {
  const { target } = component.state as unknown as ListenerState
  return component.versions.find((v) => v.version === target)!.spec as unknown as StoredListener
}
export function upstreamOf(spec: StoredListener): readonly string[] {
  return (Array.isArray(spec.key) ? spec.key as readonly StoredKey[] : [spec.key as StoredKey]).flatMap((k) => ('listener' in k ? [k.listener] : []))
}

/** Top-level fields that the model and the filter of core read; undefined: all of them. */
function fieldsOf(spec: StoredListener, residual: readonly Conjunct[]): readonly string[] | undefined {
  const keys = Array.isArray(spec.key) ? spec.key as readonly StoredKey[] : [spec.key as StoredKey]
  const own = keys.flatMap((k) => ('field' in k ? [k.field] : []))
  return own.includes('_base') ? undefined : [...new Set([...own.map((f) => f.split('.')[0]!), ...residual.flatMap((c) => c.reads)])].filter((f) => f !== '_id')
}

function isZero(value: Value): boolean {
  return value instanceof Float32Array && value.every((v) => v === 0)
}
