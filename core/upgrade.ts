/** A new version of a listener's model, in steps that the application takes: computed beside the present one, compared, switched to, rolled back or kept. */
import type { Comparison, Progress, Upgrade, Wait } from './api.ts'
import type { Core } from './core.ts'
import type { Ctx, Doc, Value } from './contract.ts'
import type { Declarations } from './declarations.ts'
import { InlayError, quote } from './errors.ts'
import { retire, servedOf, without, type Generation, type Listener, type ListenerState } from './listeners.ts'
import { byKeys } from './search.ts'
import type { ModelSpec } from './spec.ts'
import { same } from './value.ts'
import { distance } from './vectors.ts'

const shownExamples = 5

/** Begins an upgrade, or goes on with the one to the same model. */
export async function upgrade(declarations: Declarations, name: string, to: ModelSpec, options: Wait, ctx: Ctx): Promise<Upgrade> {
  const { core } = declarations
  await core.refresh(ctx)
  const listener = current(core, name), { spec, state } = listener
  if ((to as { readonly kind?: unknown } | undefined)?.kind !== 'model') throw new InlayError('INVALID_ARGUMENT', `upgrade of the listener ${quote(name)} is given ${quote(to)}; what model() makes is expected.`)
  if (to.name !== spec.model) throw new InlayError('INVALID_ARGUMENT', `The listener ${quote(name)} keeps the outputs of the model ${quote(spec.model)}, and ${quote(to.name)} is another model: its outputs lie at another path. Give a new version of ${quote(spec.model)}, or add another listener.`)
  declarations.learn(to)
  const { shape } = listener.target.slot, on = [...core.indexes.entries()].find(([, index]) => index.listener === name)?.[0]
  if (on !== undefined && shape.kind === 'vector' && to.shape?.[0] !== shape.dims) throw new InlayError('INVALID_ARGUMENT', `The index ${quote(on)} lies on the listener ${quote(name)} and has ${shape.dims} dimensions; the new version of ${quote(to.name)} gives ${to.shape?.[0] ?? 'no vectors'}. Add it under another name with an index of its own, and let readers take that one.`)
  const { hash } = await declarations.addModel(to, ctx)
  const goesOn = (state.hold === true || state.previous !== undefined) && spec.identity === hash
  if (!goesOn && state.previous !== undefined) throw new InlayError('CONFLICT', `The listener ${quote(name)} was switched to another version whose predecessor is still kept. Drop it or roll back first: see Upgrade.drop and rollback.`)
  if (!goesOn && spec.identity === hash) throw new InlayError('INVALID_ARGUMENT', `The listener ${quote(name)} has the outputs of exactly this version of ${quote(to.name)} already. Raise the version of a step, or give another graph.`)
  if (!goesOn) {
    for (const l of declarations.withDownstream(name)) await declarations.pin(l, ctx)
    const abandoned = state.hold === true ? [listener.target.slot.id] : []
    await core.components.add('listener', name, { ...spec, identity: hash } as unknown as Doc, ctx, (before, target) => {
      const now = before as unknown as ListenerState
      if (now.target !== state.target || now.hold !== state.hold || now.serving === null) throw new InlayError('CONFLICT', `The listener ${quote(name)} was changed by another process while its upgrade began. Look at it, and call upgrade() again.`, { retryable: true })
      return { ...before, target, hold: true, obsolete: [...now.obsolete, ...abandoned] }
    })
    await core.refresh(ctx)
  }
  const { version } = current(core, name).target
  if (options.wait === false) core.background(async (background) => { await declarations.build(name, {}, background) })
  else await declarations.build(name, options, ctx)
  return handle(declarations, name, version)
}

function current(core: Core, name: string): Listener {
  const listener = core.listeners.get(name)
  if (listener === undefined) throw new InlayError('NOT_FOUND', `The listener ${quote(name)} was removed.`)
  return listener
}

function handle(declarations: Declarations, name: string, version: number): Upgrade {
  const { core } = declarations
  /** The listener while its upgrade to this version stands. */
  const standing = async (ctx: Ctx): Promise<{ readonly listener: Listener; readonly before: Generation | undefined }> => {
    await core.refresh(ctx)
    const listener = current(core, name)
    if (listener.target.version !== version) throw new InlayError('CONFLICT', `The upgrade of the listener ${quote(name)} to version ${version} is over: version ${listener.target.version} is what it is kept at.`)
    return { listener, before: listener.state.hold === true ? listener.serving : listener.previous }
  }
  const change = async (ctx: Ctx, next: (state: ListenerState) => ListenerState | undefined): Promise<void> => {
    await core.components.change('listener', name, ctx, (c) => {
      const state = c === undefined ? undefined : next(c.state as unknown as ListenerState)
      return state === undefined ? undefined : { versions: c!.versions, state: state as unknown as Doc }
    })
    await core.refresh(ctx)
  }
  return {
    version,
    progress: (options = {}) => core.call(options.signal, async (ctx): Promise<Progress> => {
      const { rows, missing, stale, failed } = await core.data.tally((await standing(ctx)).listener.target.slot, ctx)
      return { done: rows - missing - stale, total: rows, failed, perSecond: 0 }
    }),
    compare: (sample = 100, options = {}) => core.call(options.signal, async (ctx) => {
      if (!Number.isInteger(sample) || sample < 1) throw new InlayError('INVALID_ARGUMENT', `compare is given a sample of ${quote(sample)}; a whole number from 1 is expected.`)
      const { listener, before } = await standing(ctx)
      if (before === undefined) throw new InlayError('NOT_FOUND', `There is nothing to compare with: the old outputs of ${quote(name)} were dropped.`)
      return compare(core, before, listener.target, sample, ctx)
    }),
    switch: (options = {}) => core.call(options.signal, async (ctx) => {
      const { listener } = await standing(ctx)
      if (listener.state.hold !== true) return
      const { missing, stale, rows } = await core.data.tally(listener.target.slot, ctx)
      if (missing + stale > 0 && !await declarations.onlyMoving(listener, ctx)) throw new InlayError('CONFLICT', `${missing + stale} of ${rows} rows have no output of version ${version} of ${quote(name)} yet. Compute them first: upgrade() again, or db.verify({ repair: true }).`, { details: { missing, stale, rows } })
      await change(ctx, (state) => (state.target !== version || state.serving === null ? undefined : { ...without(state, 'hold'), serving: null, previous: state.serving }))
      await declarations.switchOver(ctx)
    }),
    rollback: (options = {}) => core.call(options.signal, async (ctx) => {
      const { listener, before } = await standing(ctx)
      if (before === undefined) throw new InlayError('NOT_FOUND', `The old outputs of ${quote(name)} were dropped: there is nothing to roll back to.`)
      for (const l of declarations.withDownstream(name)) {
        if (l.name === name) continue
        await declarations.pin(l, ctx)
        // What it was being computed to, on outputs that go.
        const { serving, target } = l
        if (serving !== target) await core.components.change('listener', l.name, ctx, (c) => (c === undefined ? undefined : { versions: c.versions, state: { ...c.state, ...retire(c.state as unknown as ListenerState, servedOf(target, l)) } as unknown as Doc }))
      }
      await change(ctx, (state) => (state.target !== version ? undefined : { ...without(state, 'hold', 'previous'), target: before.version, serving: servedOf(before, listener), ...retire(state, servedOf(listener.target, listener)) }))
      await declarations.build(name, {}, ctx)
    }),
    drop: (options = {}) => core.call(options.signal, async (ctx) => {
      const { listener } = await standing(ctx)
      if (listener.state.hold === true) throw new InlayError('CONFLICT', `Readers of ${quote(name)} see the old outputs still. Call switch() before drop(), or rollback() to drop the new ones.`)
      await change(ctx, (state) => (state.previous === undefined ? undefined : { ...without(state, 'previous'), ...retire(state, state.previous) }))
      await declarations.switchOver(ctx)
    }),
  }
}

async function compare(core: Core, before: Generation, after: Generation, sample: number, ctx: Ctx): Promise<Comparison> {
  const { data, contents } = core, from = before.slot.collection, keys: string[] = []
  for await (const rows of data.rows({ ...after.slot, fields: [] }, 'all', 'all', ctx)) keys.push(...rows.flatMap((row) => (row.mark === undefined || row.mark.none === true ? [] : [row.key])))
  const step = Math.max(1, keys.length / sample), chosen = Array.from({ length: Math.min(sample, keys.length) }, (_, i) => keys[Math.floor(i * step)]!)
  const rows = await byKeys(data, { from, fields: [], slots: [before.slot.id, after.slot.id] }, chosen, ctx)
  let both = 0, equal = 0, cosines = 0, vectors = 0
  const failures = { before: 0, after: 0 }, different: { readonly _id: string; readonly before: Value; readonly after: Value }[] = []
  for (const { key, outputs } of rows) {
    const old = outputs?.[before.slot.id], now = outputs?.[after.slot.id]
    if (old === undefined || now === undefined) {
      if (now !== undefined) failures.before++
      else if (old !== undefined) failures.after++
      continue
    }
    both++
    if (same(old, now)) equal++
    else if (different.length < shownExamples) different.push({ _id: key, before: before.slot.many ? old : old[0]!, after: after.slot.many ? now : now[0]! })
    const [a, b] = [old[0], now[0]]
    if (a instanceof Float32Array && b instanceof Float32Array && a.length === b.length) {
      const cosine = 1 - distance('cosine', a, b)
      if (!Number.isNaN(cosine)) { cosines += cosine; vectors++ }
    }
  }
  const shown = await contents.decoded(different, { name: (i) => different[i]!._id }, ctx)
  return { rows: both, equal, failures, ...(vectors === 0 ? {} : { cosine: cosines / vectors }), examples: different.map((d, i) => (InlayError.is(shown[i]) ? d : shown[i] as unknown as typeof d)) }
}
