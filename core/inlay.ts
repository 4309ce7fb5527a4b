/** What an application holds: opens the parts, declares components, verifies, closes. */
import type { CollectionOptions, Config, Health, IndexHandle, Inlay as InlayOf, ListenerHandle, ListenOptions, ModelHandle, Plan, ShownCollection, VerifyOptions, Wait, WorkOptions, WorkStatus } from './api.ts'
import { checkCollection, Collection } from './collection.ts'
import type { Component, ComponentKind, ComponentVersion, Shown } from './components.ts'
import { resolveConfig, type Resolved } from './config.ts'
import type { Ctx, DataCapabilities } from './contract.ts'
import { Life } from './core.ts'
import { Declarations, modelsOf } from './declarations.ts'
import { checkOptions, InlayError, quote } from './errors.ts'
import { Find } from './find.ts'
import { lineageOf } from './lineage.ts'
import { storedIndex } from './indexes.ts'
import { isRemoved, kept, upstreamOf, type Listener, type ListenerState, type StoredListener } from './listeners.ts'
import { missingSteps, type StoredModel } from './model.ts'
import { Connections, openCore, type OpenedCore } from './parts.ts'
import { plan } from './plan.ts'
import { predicted } from './predict.ts'
import { Plugins, type PluginEntry } from './plugins.ts'
import { Rate } from './rate.ts'
import { listener, type IndexSpec, type ListenerKey, type ModelSpec, type Spec } from './spec.ts'
import { upgrade } from './upgrade.ts'
import { copyAsked } from './value.ts'
import { failureOf, verify } from './verify.ts'
import { Worker } from './work.ts'

/** Opens a database. See `inlay` of the package's main entry, which adds the plugins that come with it. */
export async function open(config: string | Config | undefined, firstParty: readonly PluginEntry[]): Promise<InlayOf> {
  const resolved = await resolveConfig(config), life = new Life(), connections = new Connections(resolved, await Plugins.open(resolved.plugins ?? [], firstParty, resolved.folder))
  try {
    const inlay = new Inlay(resolved, life, connections, await openCore(resolved, life, connections))
    await life.call(undefined, (ctx) => inlay.start(ctx))
    return inlay as unknown as InlayOf
  } catch (error) {
    await connections.close().catch(() => {})
    throw error
  }
}

class Inlay {
  readonly #config: Resolved
  readonly #life: Life
  readonly #connections: Connections
  /** Calls of `work` under way. */
  #workers = 0
  readonly core: OpenedCore
  readonly declarations: Declarations

  constructor(config: Resolved, life: Life, connections: Connections, core: OpenedCore) {
    this.#config = config
    this.#life = life
    this.#connections = connections
    this.core = core
    this.declarations = new Declarations(core)
  }

  /** Declares the config's components, opens what is stored, and says what waits. */
  async start(ctx: Ctx): Promise<void> {
    await this.core.components.open(ctx)
    for (const [name, options] of Object.entries(this.#config.collections ?? {})) this.collection(name, options)
    for (const spec of this.#config.components ?? []) this.declarations.learn(spec)
    await this.core.refresh(ctx)
    for (const spec of this.#config.components ?? []) await this.#declare(spec, ctx)
    for (const l of this.core.listeners.all()) {
      if (!l.state.active) continue
      if (l.target.broken !== undefined) {
        this.core.log.warn?.(`The listener ${quote(l.name)} is blocked: ${l.target.broken.message} Mend that, or remove the listener.`)
        continue
      }
      const { missing, stale } = await this.core.data.tally(l.target.slot, ctx)
      if (missing + stale > 0) this.core.log.warn?.(`The listener ${quote(l.name)} has ${missing + stale} ${missing + stale === 1 ? 'row' : 'rows'} to compute: db.add() it, or db.verify({ repair: true }).`)
    }
  }

  get server(): string {
    return this.core.server
  }
  get capabilities(): DataCapabilities {
    return this.core.data.capabilities
  }

  collection(name: string, options?: CollectionOptions<object>): unknown {
    checkCollection(this.core, name)
    return Collection.of(this.core, name, options)
  }

  async add(spec: Spec<unknown>, options: Wait = {}): Promise<unknown> {
    return this.core.call(options.signal, async (ctx) => {
      const handle = await this.#declare(spec, ctx)
      const names = listenersOf(spec), build = async (wait: Wait, c: Ctx): Promise<void> => { for (const name of names) await this.declarations.build(name, name === names.at(-1) ? wait : {}, c) }
      if (options.wait === false) this.core.background((background) => build({}, background))
      else await build(options, ctx)
      return handle
    })
  }

  async #declare(spec: Spec<unknown>, ctx: Ctx, identity?: string): Promise<unknown> {
    const { kind, name } = (spec as Partial<Spec<unknown>> | null) ?? {}
    if (!['model', 'listener', 'index', 'codec'].includes(kind as string) || typeof name !== 'string') throw new InlayError('INVALID_ARGUMENT', `${quote(spec)} is no component: give what model(), listener(), vectorIndex() or codec() makes.`)
    const version = await this.declarations.declare(spec, ctx, identity)
    if (spec.kind === 'codec') return spec
    return spec.kind === 'model' ? this.#modelHandle(spec as ModelSpec, version!) : spec.kind === 'listener' ? this.#listenerHandle(spec.name) : this.#indexHandle(spec.name)
  }

  #modelHandle<I, O>(spec: ModelSpec, version: ComponentVersion): ModelHandle<I, O> {
    const stored = version.spec as unknown as StoredModel, { core } = this
    const handle = {
      name: spec.name, version: version.version, spec: spec as unknown as ModelSpec<I, O>,
      device: () => core.call(undefined, async (ctx) => (await core.listeners.runnable(spec.name, stored).ready(ctx))?.device),
      predict: (inputs: readonly I[], options: { readonly signal?: AbortSignal } = {}) => core.call(options.signal, async (ctx) => {
        const missing = missingSteps(stored, core.functions)
        if (missing.length > 0) throw new InlayError('NOT_FOUND', `Version ${version.version} of the model ${quote(spec.name)} needs the step ${missing.join(' and ')}, which is not loaded in this process. Add a spec that has it.`)
        return predicted<O>(spec.name, core.listeners.model(spec.name, stored), inputs, ctx)
      }),
      predictOne: async (input: I, options: { readonly signal?: AbortSignal } = {}) => (await handle.predict([input], options))[0]!,
      listen: async (on: Find, key: ListenerKey, options: ListenOptions = {}) => {
        const { collection, where, select } = on.source, { wait, signal, onProgress, ...of } = options
        const list = core.listeners.ofChunks(collection)
        if (list !== undefined && (key as unknown) !== 'value') throw new InlayError('INVALID_ARGUMENT', `A listener on the elements of ${quote(list.name)} reads "value"; ${quote(key)} was given.`)
        const declared = list !== undefined ? listener({ ...of, model: spec as never, on: list.spec.collection, key: { kind: 'listener', name: list.name }, ...(where === undefined ? {} : { where }) }) : listener({ ...of, model: spec as never, on: collection, key, ...(where === undefined ? {} : { where }), ...(select === undefined || key !== '_base' ? {} : { select }) })
        await core.call(options.signal, (ctx) => this.#declare(declared as Spec<unknown>, ctx, version.hash))
        return this.#started(declared.name, { ...(wait === undefined ? {} : { wait }), ...(signal === undefined ? {} : { signal }), ...(onProgress === undefined ? {} : { onProgress }) })
      },
    }
    return handle as unknown as ModelHandle<I, O>
  }
  async #started(name: string, options: Wait): Promise<unknown> {
    if (options.wait === false) this.core.background(async (ctx) => { await this.declarations.build(name, {}, ctx) })
    else await this.core.call(options.signal, (ctx) => this.declarations.build(name, options, ctx))
    return this.#listenerHandle(name)
  }

  #listenerHandle(name: string): ListenerHandle<unknown> {
    const { core } = this, { spec } = core.listeners.get(name)!, find = (): Listener => this.#listener(name)
    return {
      kind: 'listener', name, key: spec.label, path: `_outputs.${spec.label}.${spec.model}`,
      of: (row) => ((row as { _outputs?: Record<string, Record<string, unknown>> })._outputs?.[spec.label]?.[spec.model]),
      failures: (options = {}) => core.stream(options.signal, async function* (ctx) {
        const current = find()
        for await (const rows of core.data.rows(current.target.slot, 'failed', 'all', ctx)) yield* rows.map(failureOf)
      }),
      retry: (options: Wait = {}) => core.call(options.signal, async (ctx) => {
        const current = find()
        const rate = new Rate(options.onProgress)
        const run = await core.listeners.run(current, current.target, ctx, { which: 'failed', onRows: (r) => rate.report(r.done + r.failed, undefined, r.failed) })
        for (const generation of core.listeners.generations(current)) if (generation !== current.target) await core.listeners.run(current, generation, ctx, { which: 'failed' })
        for (const l of this.declarations.withDownstream(name)) if (l.name !== name) await core.listeners.run(l, l.target, ctx)
        await this.declarations.switchOver(ctx)
        return { done: run.done + run.same, failed: run.failed, pending: run.pending }
      }),
      refresh: (options: Wait = {}) => core.call(options.signal, async (ctx) => {
        const current = find(), rate = new Rate(options.onProgress)
        const run = await core.listeners.run(current, current.target, ctx, { which: 'all', anew: true, onRows: (r) => rate.report(r.done + r.failed, undefined, r.failed) })
        // The digest of what the model read is what it was, and tells nobody downstream that the output is another.
        for (const l of this.declarations.withDownstream(name)) if (l.name !== name) await core.listeners.run(l, l.target, ctx, { which: 'all', anew: true })
        return { done: run.done + run.same, failed: run.failed, pending: run.pending }
      }),
      chunks: (where) => {
        const { spec: { many }, serving } = find()
        if (many !== true) throw new InlayError('INVALID_ARGUMENT', `The listener ${quote(name)} gives one output for each row, and no lists. Read its outputs with the rows, or declare it with { flatten: true }.`)
        return Find.of(core, serving.slot.id, { where: copyAsked(where) })
      },
      lineage: (id, options = {}) => core.call(options.signal, (ctx) => lineageOf(core, find(), id, ctx)),
      upgrade: (to, options: Wait = {}) => core.call(options.signal, (ctx) => upgrade(this.declarations, name, to as unknown as ModelSpec, options, ctx)),
    }
  }
  #listener(name: string): Listener {
    const current = this.core.listeners.get(name)
    if (current === undefined) throw new InlayError('NOT_FOUND', `The listener ${quote(name)} was removed.`)
    return current
  }
  #indexHandle(name: string): IndexHandle<unknown> {
    return { kind: 'index', name }
  }

  async load(spec: Spec<unknown>, version?: number): Promise<unknown> {
    this.declarations.learn(spec)
    return this.core.call(undefined, async (ctx) => {
      await this.core.refresh(ctx)
      const there = await this.core.components.get(spec.kind, spec.name, ctx)
      const found = version === undefined ? there?.versions.at(-1) : there?.versions.find((v) => v.version === version)
      if (there === undefined || found === undefined || isRemoved(there)) throw new InlayError('NOT_FOUND', `There is no ${spec.kind} ${quote(spec.name)}${version === undefined || there === undefined ? '' : ` in version ${version}; versions: ${there.versions.map((v) => v.version).join(', ')}`}. Add it with db.add().`)
      if (spec.kind === 'codec') return spec
    return spec.kind === 'model' ? this.#modelHandle(spec as ModelSpec, found) : spec.kind === 'listener' ? this.#listenerHandle(spec.name) : this.#indexHandle(spec.name)
    })
  }

  async show(kind?: ComponentKind | 'collection', name?: string): Promise<readonly (Shown | ShownCollection)[]> {
    return this.core.call(undefined, async (ctx) => {
      if (kind === 'collection') {
        const listed = (await this.core.data.list(ctx)).filter((c) => !c.name.startsWith('_') && (name === undefined || c.name === name))
        return listed.map((c): ShownCollection => ({ kind, name: c.name, ...(c.attached === false ? {} : { attached: c.attached, track: c.track, readOnly: c.readOnly === true }) }))
      }
      const components = (await this.core.refresh(ctx)).filter((c) => !isRemoved(c) && (kind === undefined || c.kind === kind) && (name === undefined || c.name === name))
      return components.flatMap((c): readonly Shown[] => {
        if (c.kind !== 'listener') return c.versions.map((v) => ({ kind: c.kind, name: c.name, version: v.version }))
        const { spec, target, serving, state } = this.core.listeners.get(c.name)!
        const standing = !state.active ? 'inactive' : target.work === undefined ? 'blocked' : serving === target ? 'ready' : 'building'
        return [{ kind: 'listener', name: c.name, version: target.version, key: spec.label, model: spec.model, label: `${spec.model}/${spec.label}`, state: standing, ...(target.reason === undefined ? {} : { reason: target.reason }) } as Shown]
      })
    })
  }

  /** With all that is derived from it; of an attached one only what is Inlay's. */
  async #removeCollection(name: string, force: boolean, ctx: Ctx): Promise<void> {
    const { data, collections, listeners } = this.core
    await this.core.refresh(ctx)
    const there = (await data.list(ctx)).find((c) => c.name === name)
    if (there === undefined || name.startsWith('_')) throw new InlayError('NOT_FOUND', `There is no collection ${quote(name)} to remove. See db.show('collection').`)
    if (there.attached === false && !force) throw new InlayError('CONFLICT', `The collection ${quote(name)} is Inlay's own: removing it deletes its rows. Give { force: true } if that is meant.`)
    const users = listeners.of(name).map((l) => l.name)
    if (users.length > 0 && !force) throw new InlayError('CONFLICT', `The collection ${quote(name)} is in use by listener ${users.map(quote).join(', ')}. Remove these first, or give { force: true }.`, { details: { users } })
    for (const user of users) if (listeners.get(user) !== undefined) await this.#removeUser((await this.core.components.get('listener', user, ctx))!, ctx)
    await data.drop(name, ctx)
    collections.forget(name)
  }

  async remove(kind: ComponentKind | 'collection', name: string, options: { readonly version?: number; readonly force?: boolean; readonly keepOutputs?: boolean } = {}): Promise<void> {
    return this.core.call(undefined, async (ctx) => {
      if (kind === 'collection') return this.#removeCollection(name, options.force === true, ctx)
      const { components, listeners, vectors, copies } = this.core
      const all = (await this.core.refresh(ctx)).filter((c) => !isRemoved(c)), there = all.find((c) => c.kind === kind && c.name === name)
      const version = options.version === undefined ? undefined : there?.versions.find((v) => v.version === options.version)
      if (there === undefined || (options.version !== undefined && version === undefined)) throw new InlayError('NOT_FOUND', `There is no ${kind} ${quote(name)}${options.version === undefined ? '' : ` in version ${options.version}`} to remove. See db.show().`)
      const users = usersOf(kind, name, version?.hash, all).map((user) => `${user.kind} ${quote(user.name)}`)
      if (users.length > 0 && options.force !== true) throw new InlayError('CONFLICT', `The ${kind} ${quote(name)} is in use by ${users.join(', ')}. Remove these first, or give { force: true }.`, { details: { users } })
      const standing = there.state as unknown as Partial<ListenerState>
      if (kind === 'listener' && version !== undefined && (version.version === standing.target || version.version === standing.serving?.version || version.version === standing.previous?.version)) throw new InlayError('CONFLICT', `Version ${version.version} of the listener ${quote(name)} is ${version.version === standing.target ? 'the one that is kept up to date' : version.version === standing.serving?.version ? 'read until the new one is complete' : 'kept for a rollback'}. Remove the listener, or add another version first.`)
      if (options.force === true && kind === 'listener') {
        // What reads a listener goes with it: without it there is nothing to compute from.
        for (const user of usersOf(kind, name, undefined, all)) await this.#removeUser(user, ctx)
      }
      if (version !== undefined && there.versions.length > 1) {
        await components.change(kind, name, ctx, (c) => ({ versions: c!.versions.filter((v) => v.version !== version.version), state: c!.state }))
      } else if (kind === 'listener' && options.keepOutputs === true) {
        await components.change(kind, name, ctx, (c) => ({ versions: c!.versions, state: { ...c!.state, active: false } }))
      } else {
        const l = kind === 'listener' ? listeners.get(name) : undefined
        if (l !== undefined) return this.declarations.removeListener(name, [...kept(l).map((g) => g.slot.id), ...l.state.obsolete], ctx)
        if (kind === 'index') {
          const stored = storedIndex(there), slot = listeners.get(stored.listener)?.serving.slot
          if (slot !== undefined) await (vectors.capabilities.place === 'slot' ? vectors.drop(`${name}_${slot.id}`, ctx) : copies.drop(`${name}_${slot.id}`, ctx))
          listeners.directed.clear()
        }
        await components.remove(kind, name, ctx)
      }
      await this.core.refresh(ctx)
    })
  }

  async #removeUser(user: Component, ctx: Ctx): Promise<void> {
    const all = (await this.core.refresh(ctx)).filter((c) => !isRemoved(c))
    for (const next of usersOf(user.kind, user.name, undefined, all)) await this.#removeUser(next, ctx)
    const l = this.core.listeners.get(user.name)
    if (user.kind === 'listener' && l !== undefined) await this.declarations.removeListener(user.name, [...kept(l).map((g) => g.slot.id), ...l.state.obsolete], ctx)
    else await this.core.components.remove(user.kind, user.name, ctx)
  }

  async plan(specs: readonly Spec<unknown>[], options: { readonly signal?: AbortSignal } = {}): Promise<Plan> {
    return this.core.call(options.signal, async (ctx) => {
      await this.core.refresh(ctx)
      return plan(this.declarations, specs, (spec, wait) => this.add(spec, wait), ctx)
    })
  }

  async verify(options: VerifyOptions = {}): Promise<Health> {
    checkOptions(options, ['repair', 'retry', 'deep', 'removeArtifacts', 'graceMs', 'signal', 'onProgress', 'wait'], 'verify()')
    return this.core.call(options.signal, async (ctx) => {
      const components = await this.core.refresh(ctx)
      const health = await verify(this.core, components, options, ctx).catch(async (error: unknown) => {
        // Another process may have dropped what this one knew of.
        if (!InlayError.is(error) || error.code !== 'NOT_FOUND') throw error
        return verify(this.core, await this.core.reopen(ctx), options, ctx)
      })
      if (options.repair === true) {
        for (const c of components) if (isRemoved(c)) await this.declarations.removeListener(c.name, (c.state as unknown as ListenerState).obsolete, ctx)
        await this.declarations.switchOver(ctx)
      }
      return health
    })
  }

  async work(options: WorkOptions = {}): Promise<WorkStatus> {
    const { signal, listeners, onStatus } = options
    checkOptions(options, ['signal', 'listeners', 'onStatus'], 'work()')
    if (listeners !== undefined && (!Array.isArray(listeners) || listeners.some((name) => typeof name !== 'string'))) throw new InlayError('INVALID_ARGUMENT', `listeners of work() is ${quote(listeners)}; a list of names is expected.`)
    if (onStatus !== undefined && typeof onStatus !== 'function') throw new InlayError('INVALID_ARGUMENT', `onStatus of work() is ${quote(onStatus)}; a function is expected.`)
    return this.core.call(undefined, async (ctx) => {
      await this.core.refresh(ctx)
      const unknown = listeners?.find((name) => this.core.listeners.get(name) === undefined)
      if (unknown !== undefined) throw new InlayError('NOT_FOUND', `There is no listener ${quote(unknown)} to work for. See db.show('listener').`)
      const id = this.#workers++ === 0 ? this.core.worker : `${this.core.worker}.${this.#workers}`
      return new Worker(this.core, id, options, AbortSignal.any([this.#life.closing, ...(signal === undefined ? [] : [signal])]), (c) => this.declarations.switchOver(c, true)).run(ctx).finally(() => { this.#workers-- })
    })
  }

  async close(options: { readonly abort?: boolean } = {}): Promise<void> {
    if (!await this.#life.close(options.abort === true)) return
    await this.core.listeners.close()
    await this.#connections.close()
  }
  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}

/** Listeners that a spec declares, what is searched by its models first. */
function listenersOf(spec: Spec<unknown>): readonly string[] {
  const own = spec.kind === 'listener' ? [spec.name] : spec.kind === 'index' && 'model' in (spec as IndexSpec).indexing ? [(spec as IndexSpec).indexing.name] : []
  return [...new Set([...modelsOf(spec).flatMap(({ retrieve }) => (retrieve === undefined ? [] : listenersOf(retrieve.index))), ...own])]
}

/** Who would be broken by removing a component, or one version of a model. */
function usersOf(kind: ComponentKind, name: string, identity: string | undefined, all: readonly Component[]): readonly Component[] {
  return all.filter((c) => {
    if (c.kind === 'codec') return false
    if (c.kind === 'model') {
      return c.versions.some(({ spec }) => {
        const { sequence = [], ensemble = {}, retrieve } = spec as unknown as StoredModel
        return kind === 'index' ? retrieve?.index === name : kind === 'model' && [...sequence, ...Object.values(ensemble)].some((part) => part.model === name && (identity === undefined || part.identity === identity))
      })
    }
    if (c.kind === 'index') {
      const { listener, compatible } = storedIndex(c)
      return kind === 'listener' ? listener === name : kind === 'model' && Object.values(compatible).some((m) => m.model === name && (identity === undefined || m.identity === identity))
    }
    const { target, serving, previous } = c.state as unknown as ListenerState
    const specs = c.versions.filter((v) => [target, serving?.version, previous?.version].includes(v.version)).map((v) => v.spec as unknown as StoredListener)
    return specs.some((stored) => (kind === 'listener' ? upstreamOf(stored).includes(name) : kind === 'model' && stored.model === name && (identity === undefined || stored.identity === identity)))
  })
}
