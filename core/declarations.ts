/** Declaring components: what is stored of them, how a listener's outputs come to be complete, and how new ones take the place of old ones. */
import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import type { Wait } from './api.ts'
import { once } from './chunks.ts'
import type { CodecSpec } from './codec.ts'
import { checkCollection } from './collection.ts'
import type { Component, ComponentVersion } from './components.ts'
import type { Ctx, Doc } from './contract.ts'
import { decode, encode, hashOf, sha256 } from './encoding.ts'
import { InlayError, messageOf, quote } from './errors.ts'
import { storedIndex, type StoredIndex } from './indexes.ts'
import { isRemoved, kept, retire, servedOf, upstreamOf, without, type Listener, type ListenerState, type StoredKey, type StoredListener } from './listeners.ts'
import { parseFilter } from './match.ts'
import { identityOf, runnable, stepsOf, type Part, type StoredModel } from './model.ts'
import type { OpenedCore } from './parts.ts'
import { Rate } from './rate.ts'
import { isOutage } from './reconcile.ts'
import { labelOf, type IndexSpec, type ListenerKey, type ListenerSpec, type ModelSpec, type Spec } from './spec.ts'
import { stepId, type Step } from './step.ts'
import { copyIn } from './value.ts'
import { failuresOf } from './verify.ts'

/** More rows than writers have in hand at one moment. */
const mostMoving = 1000

export class Declarations {
  readonly core: OpenedCore

  constructor(core: OpenedCore) { this.core = core }

  /** Stores a component and what it needs, and opens it; computes nothing. Returns a model's version. */
  async declare(spec: Spec<unknown>, ctx: Ctx, identity?: string): Promise<ComponentVersion | undefined> {
    this.learn(spec)
    switch (spec.kind) {
      case 'model': return this.addModel(spec as ModelSpec, ctx)
      case 'listener': await this.addListener(spec as ListenerSpec, ctx, identity); return undefined
      case 'index': await this.addIndex(spec as IndexSpec, ctx); return undefined
      case 'codec': await this.core.components.add('codec', spec.name, {}, ctx); return undefined
      default: throw new InlayError('INVALID_ARGUMENT', `${quote(spec)} is nothing that can be added. Give what model(), listener(), vectorIndex() or codec() returns.`)
    }
  }

  /** The functions and codecs of a spec and of what it needs. */
  learn(spec: Spec<unknown>): void {
    if (spec.kind === 'codec') this.core.contents.codecs.add(spec as CodecSpec)
    for (const m of modelsOf(spec)) {
      for (const step of ownSteps(m)) this.core.functions.add(step)
      if (m.codec !== undefined && typeof m.codec !== 'string') this.core.contents.codecs.learn(m.codec)
    }
  }

  /** What would be stored of a model, with its graph. */
  async storedModel(spec: ModelSpec, ctx: Ctx): Promise<{ readonly stored: StoredModel; readonly bytes: Uint8Array | undefined }> {
    const { modelParts } = this.core, bytes = spec.onnx === undefined ? undefined : await readGraph(spec.name, spec.onnx, (path) => modelParts.executor('onnx').then((executor) => executor.read?.(path, ctx)))
    return { bytes, stored: await storedOf(spec, bytes, async (inner) => (await this.storedModel(inner, ctx)).stored) }
  }

  async addModel(spec: ModelSpec, ctx: Ctx): Promise<ComponentVersion> {
    const { components, artifacts, modelParts, functions } = this.core
    for (const inner of [...spec.sequence ?? [], ...Object.values(spec.ensemble ?? {})]) await this.addModel(inner, ctx)
    if (spec.retrieve !== undefined) await this.addIndex(spec.retrieve.index, ctx)
    const { stored, bytes } = await this.storedModel(spec, ctx)
    if (spec.device !== undefined) this.core.devices.set(identityOf(stored), spec.device)
    const there = await components.get('model', spec.name, ctx)
    const same = there?.versions.find((v) => v.hash === identityOf(stored))
    if (same !== undefined) {
      functions.compare((there!.state['digests'] ?? {}) as Doc)
      return same
    }
    if (bytes !== undefined) {
      // A graph that cannot be loaded is refused before anything is stored.
      const trial = runnable(spec.name, stored, { ...modelParts, artifact: async () => bytes })
      try {
        await trial.ready(ctx)
      } finally {
        await trial.close()
      }
      await artifacts.write(stored.artifact!, once(bytes), ctx)
    }
    const digests = Object.fromEntries(ownSteps(spec).map((step) => [stepId(step), step.digest]))
    const { version } = await components.add('model', spec.name, copyIn(stored) as Doc, ctx, (before) => ({ ...before, digests: { ...before['digests'] as Doc, ...digests } }))
    return version
  }

  storedListener(spec: ListenerSpec, identity: string): StoredListener {
    const keyOf = (key: ListenerKey): StoredKey => (typeof key === 'string' ? { field: key } : { listener: (key as ListenerSpec).name })
    const conjuncts = spec.where === undefined ? [] : parseFilter(spec.where)
    if (conjuncts.some((c) => c.reads.includes('_outputs'))) throw new InlayError('INVALID_ARGUMENT', `The listener ${quote(spec.name)} selects rows by "_outputs", which change after the row. Listen to the other listener instead: give it as the key.`)
    const where = spec.where === undefined || Object.keys(spec.where).length === 0 ? null : encode(copyIn(spec.where), true)
    const keys = [spec.key].flat() as readonly ListenerKey[], fields = keys.flatMap((key) => (typeof key === 'string' ? [key] : []))
    const codecs = Object.entries(this.core.collections.codecsOf(spec.on) ?? {}).filter(([path]) => fields.some((field) => field === '_base' || `${path}.`.startsWith(`${field}.`) || `${field}.`.startsWith(`${path}.`)))
    return {
      collection: spec.on, where, key: Array.isArray(spec.key) ? spec.key.map(keyOf) : keyOf(spec.key as ListenerKey), label: spec.named ? spec.name : labelOf(spec.key), model: spec.model.name, identity,
      ...(spec.flatten === true ? { many: true as const } : {}), ...(spec.select === undefined ? {} : { select: [...spec.select] }),
      ...(codecs.length === 0 ? {} : { codecs: Object.fromEntries(codecs.map(([path, of]) => [path, typeof of === 'string' ? of : of.id])) }),
    }
  }

  async addListener(spec: ListenerSpec, ctx: Ctx, identity?: string): Promise<void> {
    checkCollection(this.core, spec.on)
    for (const key of [spec.key].flat() as readonly ListenerKey[]) if (typeof key === 'object' && 'model' in key) await this.declare(key as ListenerSpec, ctx)
    const stored = this.storedListener(spec, identity ?? (await this.addModel(spec.model, ctx)).hash)
    await this.core.collections.open(spec.on, ctx)
    await this.core.refresh(ctx)
    this.checkListener(spec.name, stored)
    const there = await this.core.components.get('listener', spec.name, ctx), hash = hashOf({ ...stored })
    if (there !== undefined && this.#upgrading(there, hash)) return
    if (there !== undefined && !isRemoved(there) && there.versions.find((v) => v.version === (there.state as unknown as ListenerState).target)?.hash !== hash) {
      for (const l of this.withDownstream(spec.name)) await this.pin(l, ctx)
    }
    await this.core.components.add('listener', spec.name, { ...stored }, ctx, (state, target): Doc => {
      const before = state as unknown as Partial<ListenerState>, removed = before.removed === true, known = this.core.listeners.get(spec.name)
      // A target that another replaces before it ever served is obsolete.
      const abandoned = known !== undefined && before.target !== undefined && before.target !== target && known.serving !== known.target ? [known.target.slot.id] : []
      const stands = before.target === target && !removed ? { ...(before.hold === undefined ? {} : { hold: before.hold }), ...(before.previous === undefined ? {} : { previous: before.previous as unknown as Doc }) } : {}
      if (before.previous !== undefined && before.target !== target) abandoned.push(before.previous.slot)
      return { ...stands, target, serving: removed ? null : (before.serving ?? null) as unknown as Doc | null, active: spec.active ?? true, obsolete: [...new Set([...before.obsolete ?? [], ...abandoned])], chunk: spec.maxChunkSize ?? null }
    })
    await this.core.refresh(ctx)
    const broken = this.core.listeners.get(spec.name)?.target.broken
    if (broken === undefined) return
    // What never was is not left behind.
    if (there === undefined) {
      await this.core.components.remove('listener', spec.name, ctx)
      await this.core.refresh(ctx)
    }
    throw broken
  }

  /** While an upgrade stands, what was declared before it does not undo it: a process that starts with it goes on with the upgrade. */
  #upgrading({ name, versions, state }: Component, hash: string): boolean {
    const { hold, serving, previous, target } = state as unknown as ListenerState, before = hold === true ? serving : previous
    if (before == null || versions.find((v) => v.version === before.version)?.hash !== hash) return false
    this.core.log.warn?.(`The listener ${quote(name)} is declared in version ${before.version}, and is being upgraded to version ${target}, which stays. Call drop() of the upgrade and declare the new model, or rollback().`)
    return true
  }

  /** Same name, other selection; or a path that is taken. */
  checkListener(name: string, stored: StoredListener): void {
    const { listeners } = this.core, there = listeners.get(name)
    if (there !== undefined) {
      const selection = ({ collection, where, key, label, model, many, select }: StoredListener): string => hashOf({ collection, where, key: key as never, label, model, many: many === true, select: select ?? null })
      if (selection(there.spec) !== selection(stored)) throw new InlayError('CONFLICT', `A listener ${quote(name)} exists with another selection (collection ${quote(there.spec.collection)}, key ${quote(there.spec.label)}, filter ${there.spec.where ?? 'none'}). Give this one a name of its own: { name: ${quote(`${name}_2`.slice(0, 48))} }; or remove the other first.`)
    }
    for (const up of upstreamOf(stored)) {
      const upstream = listeners.get(up)
      if (upstream === undefined) throw new InlayError('NOT_FOUND', `The listener ${quote(name)} reads the outputs of ${quote(up)}, which does not exist. Add that one first.`)
      if (upstream.spec.collection !== stored.collection) throw new InlayError('INVALID_ARGUMENT', `The listener ${quote(name)} on ${quote(stored.collection)} cannot read the outputs of ${quote(up)}, which lies on ${quote(upstream.spec.collection)}.`)
    }
    const lists = upstreamOf(stored).find((up) => listeners.get(up)!.spec.many === true), sources = new Set(upstreamOf(stored).map((up) => listeners.get(up)!.target.slot.collection))
    if (lists === undefined && sources.size > 1) throw new InlayError('INVALID_ARGUMENT', `The listener ${quote(name)} reads outputs of ${upstreamOf(stored).map(quote).join(' and ')}, of which some lie on rows of ${quote(stored.collection)} and others on elements of lists. Read one kind.`)
    if (lists !== undefined || (sources.size > 0 && !sources.has(stored.collection))) {
      const other = stored.where === null ? undefined : parseFilter(decode(stored.where)).flatMap((c) => c.reads).find((field) => !['value', 'source', 'offset', '_id'].includes(field))
      if (other !== undefined) throw new InlayError('INVALID_ARGUMENT', `The listener ${quote(name)} on elements of lists selects by ${quote(other)}, which elements do not have: they have value, source and offset. Select rows in the listener that makes the lists.`)
    }
    if (lists !== undefined && Array.isArray(stored.key)) throw new InlayError('INVALID_ARGUMENT', `The listener ${quote(name)} reads several keys, and ${quote(lists)} among them, which gives a list for each row (flatten). Its elements are read one by one: give it as the only key.`)
    const taken = listeners.all().find((l) => l.name !== name && l.spec.collection === stored.collection && l.spec.label === stored.label && l.spec.model === stored.model)
    if (taken !== undefined) throw new InlayError('CONFLICT', `The outputs "_outputs.${stored.label}.${stored.model}" of ${quote(stored.collection)} are those of the listener ${quote(taken.name)}. Give this one another name.`)
  }

  withDownstream(name: string): readonly Listener[] {
    const found = new Set<string>([name])
    for (const l of this.core.listeners.all()) if (l.upstream.some((up) => found.has(up))) found.add(l.name)
    return this.core.listeners.all().filter((l) => found.has(l.name))
  }

  /** What a listener reads, itself, and what reads it, in that order. */
  #around(name: string): readonly Listener[] {
    const { listeners } = this.core, found = new Set<string>()
    const visit = (of: string): void => {
      for (const up of listeners.get(of)?.upstream ?? []) visit(up)
      found.add(of)
    }
    visit(name)
    for (const l of this.withDownstream(name)) found.add(l.name)
    return listeners.all().filter((l) => found.has(l.name))
  }

  /** Notes which outputs are read now, so that they serve until new ones are complete. */
  async pin(l: Listener, ctx: Ctx): Promise<void> {
    await this.core.components.change('listener', l.name, ctx, (c) => {
      const state = c?.state as unknown as ListenerState | undefined
      return state?.serving === null && state.target === l.state.target ? { versions: c!.versions, state: { ...c!.state, serving: { ...servedOf(l.serving, l) } } } : undefined
    })
  }

  /** Computes what a listener and those after it lack, then lets the new outputs serve and drops the old. */
  async build(name: string, options: Wait, ctx: Ctx): Promise<void> {
    await this.#again(ctx, () => this.#compute(name, options, ctx))
    await this.switchOver(ctx)
    const l = this.core.listeners.get(name)
    if (l === undefined || l.serving === l.target || l.state.hold === true || this.core.outputs === 'worker' || l.target.work === undefined || !l.state.active) return
    const { missing, stale } = await this.core.data.tally(l.target.slot, ctx)
    if (missing + stale > 0) this.core.log.warn?.(`The new version of the listener ${quote(name)} lacks outputs of ${missing + stale} rows, so the old outputs are still read: db.verify({ repair: true }) goes on.`)
  }

  /** Once more where another process has dropped what this one knew of. */
  async #again(ctx: Ctx, work: () => Promise<void>): Promise<void> {
    for (let attempt = 0; ; attempt++) {
      try {
        return await work()
      } catch (error) {
        if (!InlayError.is(error) || error.code !== 'NOT_FOUND' || attempt === 3) throw error
        await this.core.reopen(ctx)
      }
    }
  }

  async #compute(name: string, options: Wait, ctx: Ctx): Promise<void> {
    const rate = new Rate(options.onProgress)
    if (this.core.listeners.get(name) === undefined) throw new InlayError('ABORTED', `The listener ${quote(name)} was removed while its outputs were computed. Add it again if that was not meant.`)
    for (const l of this.#around(name)) {
      if (!l.state.active || l.target.work === undefined || this.core.outputs === 'worker') continue
      const tally = await this.core.data.tally(l.target.slot, ctx), total = tally.missing + tally.stale
      if (total === 0 && l.name !== name) continue
      const report = l.name === name ? (run: { done: number; same: number; skipped: number; failed: number }): void => rate.report(run.done + run.same + run.skipped + run.failed, Math.max(total, run.done + run.same + run.skipped + run.failed), run.failed) : () => {}
      const run = await this.core.listeners.run(l, l.target, ctx, { onRows: report })
      if (l.name === name) report(run)
      if (run.failed > 0) await this.#sayFailed(l, run.failed, ctx)
      if (run.pending > 0) this.core.log.warn?.(`${run.pending} rows of the listener ${quote(l.name)} are pending: they kept changing, or what they are made from cannot be read here. db.verify({ repair: true }) takes them.`)
    }
  }

  async #sayFailed({ name, target }: Listener, failed: number, ctx: Ctx): Promise<void> {
    const [first] = await failuresOf(this.core.data, target.slot, 1, ctx)
    if (first !== undefined) this.core.log.warn?.(`The listener ${quote(name)} failed on ${failed} rows, on ${quote(first._id)} because: ${first.error.replace(/\.$/, '')}. See failures() and retry() of the listener.`)
  }

  /** New before old: outputs that are complete serve, and only then are their predecessors dropped. */
  async switchOver(ctx: Ctx, computes: boolean = this.core.outputs !== 'worker'): Promise<void> {
    await this.#again(ctx, () => this.#switch(ctx, computes))
  }

  /** Whether the only rows that lack an output are being written at this moment: under steady writes there is always one, and its old output is as absent as its new one. Each row that lacks one is computed, and has its output then or was written again. */
  async onlyMoving({ name, target }: Listener, ctx: Ctx, computes: boolean = this.core.outputs !== 'worker'): Promise<boolean> {
    const { data, listeners } = this.core, l = listeners.get(name)!
    if (!computes || target.work === undefined) return false
    const due = async (among: readonly string[] | 'all'): Promise<ReadonlyMap<string, string> | undefined> => {
      const found = new Map<string, string>()
      for await (const rows of data.rows({ ...target.slot, fields: [] }, 'stale', among, ctx)) {
        for (const { key, rev } of rows) found.set(key, rev)
        if (found.size > mostMoving) return undefined
      }
      return found
    }
    const before = await due('all')
    if (before === undefined) return false
    const keys = [...before.keys()]
    try {
      if (keys.length > 0) await listeners.run(l, target, ctx, { keys })
    } catch (error) {
      if (!isOutage(error) || ctx.signal.aborted) throw error
      return false
    }
    return [...await due(keys) ?? []].every(([key, rev]) => before.get(key) !== rev)
  }

  async #switch(ctx: Ctx, computes: boolean): Promise<void> {
    const { listeners, components, data } = this.core
    const switched = new Set<string>(), waiting = listeners.all().filter((l) => l.serving !== l.target || l.state.serving !== null || l.state.obsolete.length > 0)
    if (waiting.length === 0) return
    for (const l of waiting) {
      if (l.state.serving === null || l.state.hold === true || l.target.broken !== undefined) continue
      // A chain is complete from its beginning: before that, rows that upstream has not reached do not count yet.
      if (l.upstream.some((up) => listeners.get(up)!.state.serving !== null && !switched.has(up))) continue
      const { missing, stale, failed } = await data.tally(l.target.slot, ctx), before = l.serving.broken === undefined ? await data.tally(l.serving.slot, ctx) : { failed: Infinity }
      if (missing + stale > 0 && !await this.onlyMoving(l, ctx, computes)) continue
      if (failed > before.failed) {
        this.core.log.warn?.(`The new version of the listener ${quote(l.name)} fails on ${failed} rows, the old one on ${before.failed}: the old outputs keep serving. See its failures() and retry(); or add the old model again, or remove the listener first to take the new one as it is.`)
        continue
      }
      const old = l.serving.slot.id
      await components.change('listener', l.name, ctx, (c) => {
        const state = c?.state as unknown as ListenerState | undefined
        // What was counted is complete; another process may want a later version meanwhile.
        if (state === undefined || state.target !== l.state.target || state.removed === true) return undefined
        switched.add(l.name)
        return { versions: c!.versions, state: { ...state, serving: null, ...(old === l.target.slot.id ? {} : retire(state, servedOf(l.serving, l))) } as unknown as Doc }
      })
    }
    await this.core.refresh(ctx)
    const used = new Set(listeners.all().flatMap((l) => kept(l).flatMap((g) => [g.slot.id, g.slot.collection, ...g.slot.upstream])))
    for (const l of [...listeners.all()].reverse()) {
      const droppable = l.state.obsolete.filter((id) => !used.has(id))
      if (l.state.obsolete.length === 0 || (droppable.length === 0 && l.state.obsolete.every((id) => used.has(id) && id !== l.target.slot.id))) continue
      for (const id of droppable) {
        await data.dropSlot(id, ctx)
        listeners.forget(id)
      }
      await components.change('listener', l.name, ctx, (c) => {
        if (c === undefined) return undefined
        const state = c.state as unknown as ListenerState
        const obsolete = state.obsolete.filter((id) => used.has(id) && id !== l.target.slot.id), retired = (state.retired ?? []).filter(({ slot }) => obsolete.includes(slot))
        return { versions: c.versions, state: { ...without(state, 'retired'), obsolete, ...(retired.length === 0 ? {} : { retired }) } as unknown as Doc }
      })
    }
    await this.core.refresh(ctx)
  }

  async addIndex(spec: IndexSpec, ctx: Ctx): Promise<void> {
    const { components, vectors, listeners } = this.core
    if ('model' in spec.indexing) await this.declare(spec.indexing, ctx)
    await this.core.refresh(ctx)
    const compatible: Record<string, { readonly model: string; readonly identity: string }> = {}
    const on = listeners.get(spec.indexing.name)
    if (on === undefined) throw new InlayError('NOT_FOUND', `The index ${quote(spec.name)} lies on the listener ${quote(spec.indexing.name)}, which does not exist. Add that one first.`)
    const { shape } = on.target.slot
    if (shape.kind !== 'vector') throw new InlayError('INVALID_ARGUMENT', `The listener ${quote(on.name)} gives no vectors, so it cannot be indexed: declare the model with { shape: [n] }.`)
    if (!vectors.capabilities.measures.includes(spec.measure) || shape.dims > vectors.capabilities.dims) throw new InlayError('UNSUPPORTED', `The index ${quote(spec.name)} needs ${quote(spec.measure)} over ${shape.dims} dimensions; here are ${vectors.capabilities.measures.join(', ')} over at most ${vectors.capabilities.dims}.`)
    for (const [key, m] of Object.entries(spec.compatible)) {
      if (key === on.spec.label) throw new InlayError('INVALID_ARGUMENT', `The index ${quote(spec.name)} has the key ${quote(key)} twice: it is what the listener ${quote(on.name)} reads. Choose another key for the compatible model.`)
      const { stored } = await this.storedModel(m, ctx)
      if (stored.shape?.[0] !== shape.dims) throw new InlayError('INVALID_ARGUMENT', `The compatible model ${quote(m.name)} of index ${quote(spec.name)} gives ${stored.shape === null ? 'no vectors' : `${stored.shape[0]} dimensions`}; the indexed listener gives ${shape.dims}.`)
      compatible[key] = { model: m.name, identity: (await this.addModel(m, ctx)).hash }
    }
    const stored: StoredIndex = { listener: on.name, measure: spec.measure, compatible }
    const there = await components.get('index', spec.name, ctx), before = there === undefined ? undefined : storedIndex(there)
    if (before !== undefined && before.listener !== on.name) throw new InlayError('CONFLICT', `An index ${quote(spec.name)} exists on the listener ${quote(before.listener)}. Choose another name, or remove it first.`)
    await components.add('index', spec.name, stored as unknown as Doc, ctx, (state, target) => ({ ...state, target }))
    await this.core.refresh(ctx)
    if (before?.measure !== 'cosine' && spec.measure === 'cosine') await this.#failZeros(listeners.get(on.name)!, ctx)
  }

  /** Zero vectors that were stored before a cosine index lay on them have no direction: their rows fail. */
  async #failZeros({ serving: { slot, work } }: Listener, ctx: Ctx): Promise<void> {
    const { data } = this.core, zero: string[] = []
    for await (const rows of data.find({ from: slot.collection, fields: [], slots: [slot.id] }, ctx)) {
      for (const row of rows) if ((row.outputs?.[slot.id]?.[0] as Float32Array | undefined)?.every((v) => v === 0) === true) zero.push(row.key)
    }
    if (zero.length === 0 || work === undefined) return
    for await (const rows of data.rows(slot, 'all', zero, ctx)) {
      await data.settle(slot, rows.map((row) => ({ key: row.key, rev: row.rev, hash: work.hash(row), kind: 'error', error: 'a zero vector has no direction, and a cosine index lies on this output', tries: 1 })), ctx)
    }
  }

  /** First nobody reads the outputs any more, then they are dropped, then the name: after a crash `repair` finds what is left to do. */
  async removeListener(name: string, slots: readonly string[], ctx: Ctx): Promise<void> {
    const { components, data, listeners } = this.core
    await components.change('listener', name, ctx, (c) => (c === undefined ? undefined : { versions: c.versions, state: { ...c.state, obsolete: [...new Set(slots)], removed: true } }))
    await this.core.refresh(ctx)
    for (const id of new Set(slots)) {
      const still = await components.get('listener', name, ctx)
      if (still === undefined || !isRemoved(still)) break                    // another process has added it again, and uses its slot
      await data.dropSlot(id, ctx)
      listeners.forget(id)
    }
    await components.remove('listener', name, ctx, isRemoved)              // unless it was added again meanwhile
    await this.core.refresh(ctx)
  }
}

/** What is stored of a model, by what is stored of those that it is made of. */
export async function storedOf(spec: ModelSpec, bytes: Uint8Array | undefined, inner: (spec: ModelSpec) => Promise<StoredModel>): Promise<StoredModel> {
  const id = (step: Step<never, unknown> | undefined): string | null => (step === undefined ? null : stepId(step))
  const members = [...spec.sequence ?? [], ...Object.values(spec.ensemble ?? {})], storedMembers = await Promise.all(members.map(inner))
  const parts = members.map((of, i): Part => ({ model: of.name, identity: identityOf(storedMembers[i]!) })), searching = spec.retrieve === undefined ? [] : modelsOf(spec.retrieve.index).flatMap(ownSteps).map(stepId)
  const steps = [...new Set([...storedMembers.flatMap((stored) => stepsOf(stored)), ...searching])].sort()
  const { outputs, constants, state, codec, options, retrieve } = spec
  return {
    format: bytes === undefined ? null : 'onnx', artifact: bytes === undefined ? null : sha256(bytes), run: id(spec.run as Step<never, unknown> | undefined), input: id(spec.input), output: id(spec.output), shape: spec.shape ?? null,
    ...(outputs === undefined ? {} : { outputs }), ...(constants === undefined ? {} : { constants }), ...(state === undefined ? {} : { state }), ...(codec === undefined ? {} : { codec: typeof codec === 'string' ? codec : codec.id }), ...(options === undefined ? {} : { options }),
    ...(spec.sequence === undefined ? {} : { sequence: parts }), ...(spec.ensemble === undefined ? {} : { ensemble: Object.fromEntries(Object.keys(spec.ensemble).map((key, i) => [key, parts[i]!])) }), ...(steps.length === 0 ? {} : { steps }),
    ...(retrieve === undefined ? {} : { retrieve: { index: retrieve.index.name, n: retrieve.n, ...(retrieve.by === undefined ? {} : { by: retrieve.by }), ...(retrieve.where === undefined ? {} : { where: encode(copyIn(retrieve.where), true) }), ...(retrieve.select === undefined ? {} : { select: [...retrieve.select] }) } }),
  }
}

export function ownSteps(spec: ModelSpec): readonly Step<never, unknown>[] {
  return [spec.run as Step<never, unknown> | undefined, spec.input, spec.output].filter((s) => s !== undefined)
}

/** The models a spec names, its own and those of what it needs. */
export function modelsOf(spec: Spec<unknown>): readonly ModelSpec[] {
  if (spec.kind === 'model') {
    const { sequence = [], ensemble = {}, retrieve } = spec as ModelSpec
    return [...sequence.flatMap(modelsOf), ...Object.values(ensemble).flatMap(modelsOf), ...(retrieve === undefined ? [] : modelsOf(retrieve.index)), spec as ModelSpec]
  }
  if (spec.kind === 'listener') {
    const { model, key } = spec as ListenerSpec
    return [...modelsOf(model), ...([key].flat() as readonly ListenerKey[]).flatMap((k) => (typeof k === 'object' && 'model' in k ? modelsOf(k as ListenerSpec) : []))]
  }
  if (spec.kind === 'codec') return []
  const { indexing, compatible } = spec as IndexSpec
  return [...Object.values(compatible).flatMap(modelsOf), ...('model' in indexing ? modelsOf(indexing) : [])]
}

/** A graph by path, or its bytes. `read` gives what belongs to a file beside it too. */
export async function readGraph(name: string, onnx: string | URL | Uint8Array, read: (path: string) => Promise<Uint8Array | undefined>): Promise<Uint8Array> {
  if (onnx instanceof Uint8Array) return onnx
  const path = onnx instanceof URL || onnx.startsWith('file:') ? fileURLToPath(onnx) : onnx
  try {
    return await read(path) ?? await readFile(path)
  } catch (error) {
    if (InlayError.is(error) && error.code !== 'NOT_FOUND') throw new InlayError(error.code, `The graph ${quote(String(onnx))} of model ${quote(name)} cannot be used: ${error.message}`, { cause: error })
    throw new InlayError('NOT_FOUND', `The graph ${quote(String(onnx))} of model ${quote(name)} cannot be read: ${messageOf(error)}. Give the path of an ONNX file, relative to ${quote(process.cwd())}, or its bytes.`, { cause: error })
  }
}
