/** What declaring some components would do, and why, before anything runs. */
import type { Plan, PlanStep, Wait } from './api.ts'
import { withoutFold } from './collections.ts'
import type { Core } from './core.ts'
import type { Ctx } from './contract.ts'
import { decode, hashOf } from './encoding.ts'
import { InlayError } from './errors.ts'
import { storedIndex, type StoredIndex } from './indexes.ts'
import { slotOf, standOn, upstreamOf, type StoredListener } from './listeners.ts'
import { parseFilter, split } from './match.ts'
import { identityOf, type StoredModel } from './model.ts'
import type { IndexSpec, ListenerKey, ListenerSpec, ModelSpec, Spec } from './spec.ts'

/** What a plan needs of the `Inlay` that makes it. */
export interface Planner {
  readonly core: Core
  storedModel(spec: ModelSpec, ctx: Ctx): Promise<{ readonly stored: StoredModel; readonly bytes: Uint8Array | undefined }>
  storedListener(spec: ListenerSpec, identity: string): StoredListener
  checkListener(name: string, stored: StoredListener): void
}

export async function plan(planner: Planner, specs: readonly Spec<unknown>[], add: (spec: Spec<unknown>, options: Wait) => Promise<unknown>, ctx: Ctx): Promise<Plan> {
  const steps: PlanStep[] = []
  const seen = new Set<string>()
  await planAttached(planner.core, steps, ctx)
  for (const spec of specs) await planOne(planner, spec, steps, seen, ctx)
  return {
    steps,
    toString: () => (steps.length === 0 ? 'nothing to do' : steps.map(({ what, why, rows }) => `${what}${rows === undefined ? '' : ` (${rows} rows)`}: ${why}`).join('\n')),
    async apply(options = {}) {
      for (const spec of specs) await add(spec, options)
    },
  }
}

/** What attaching would install in what belongs to others, of all collections that this process declares with `attach`. */
async function planAttached({ data, collections }: Core, steps: PlanStep[], ctx: Ctx): Promise<void> {
  const attaching = collections.attaching()
  if (attaching.length === 0) return
  const listed = await data.list(ctx)
  for (const [name, { attach, track }] of attaching) {
    const there = listed.find((c) => c.name === name), collection = { name, attached: attach!, track: track ?? there?.track ?? 'none' } as const
    if (there?.attached === collection.attached && there.track === collection.track) continue
    steps.push({ what: `attach ${name} to ${attach}`, why: there === undefined ? `it is new; keys and columns stay as they are${collection.track === 'none' ? ', and writes of others are found by verify' : ''}` : `track: "${there.track}" becomes "${collection.track}"` })
    const installs = await data.installs?.(collection, ctx).catch((error: unknown) => {
      if (!InlayError.is(error) || (error.code !== 'NOT_FOUND' && error.code !== 'UNSUPPORTED')) throw error
      steps[steps.length - 1] = { what: `attach ${name} to ${attach}`, why: `it cannot be done: ${error.message}` }
      return []
    })
    for (const statement of installs ?? []) steps.push({ what: statement, why: collection.track === 'notify' ? 'installed for track: "notify"' : 'needed for outputs' })
  }
}

async function planOne(planner: Planner, spec: Spec<unknown>, steps: PlanStep[], seen: Set<string>, ctx: Ctx): Promise<void> {
  const id = `${spec.kind}/${spec.name}`
  if (seen.has(id)) return
  seen.add(id)
  if (spec.kind === 'model') await planModel(planner, spec as ModelSpec, steps, ctx)
  else if (spec.kind === 'listener') await planListener(planner, spec as ListenerSpec, steps, seen, ctx)
  else await planIndex(planner, spec as IndexSpec, steps, seen, ctx)
}

async function planModel(planner: Planner, spec: ModelSpec, steps: PlanStep[], ctx: Ctx): Promise<string> {
  const { core } = planner, { stored, bytes } = await planner.storedModel(spec, ctx), identity = identityOf(stored)
  const there = await core.components.get('model', spec.name, ctx)
  if (there?.versions.some((v) => v.hash === identity) !== true) {
    steps.push({ what: `add model ${spec.name} version ${(there?.versions.at(-1)?.version ?? -1) + 1}`, why: `${there === undefined ? 'it is new' : 'its graph, steps or shape differ from the stored versions'}${bytes === undefined ? '' : `; stores ${bytes.byteLength} bytes`}` })
  }
  return identity
}

async function planListener(planner: Planner, spec: ListenerSpec, steps: PlanStep[], seen: Set<string>, ctx: Ctx): Promise<void> {
  const { core } = planner
  for (const key of [spec.key].flat() as readonly ListenerKey[]) if (typeof key === 'object' && 'model' in key) await planOne(planner, key as ListenerSpec, steps, seen, ctx)
  const modelSteps: PlanStep[] = []
  const stored = planner.storedListener(spec, await planModel(planner, spec.model, modelSteps, ctx))
  if (!seen.has(`model/${spec.model.name}`)) steps.push(...modelSteps)
  seen.add(`model/${spec.model.name}`)
  const there = core.listeners.get(spec.name)
  // Upstream that is only planned does not exist yet; its own step says so.
  if (upstreamOf(stored).every((up) => core.listeners.get(up) !== undefined)) planner.checkListener(spec.name, stored)
  const { upstream, source } = standOn(stored, (up) => core.listeners.get(up)?.target.slot ?? { id: 'new', collection: stored.collection, many: false }), target = slotOf(spec.name, stored, upstream, source)
  if (there?.target.slot.id === target) {
    if (there.target.broken !== undefined) {
      steps.push({ what: `compute ${spec.name}`, why: `it cannot be done: ${there.target.broken.message}` })
      return
    }
    const { missing, stale } = await core.data.tally(there.target.slot, ctx)
    if (missing + stale > 0) steps.push({ what: `compute ${spec.name}`, why: [missing > 0 ? `${missing} have no output` : '', stale > 0 ? `${stale} changed since theirs was made` : ''].filter((t) => t !== '').join(', '), rows: missing + stale })
    return
  }
  steps.push({ what: `compute ${spec.name}`, why: there === undefined ? 'the listener is new' : 'its model, or what it reads, is another version; the old outputs serve until the new ones are complete', ...await rowsOf(core, stored, ctx) })
  if (there === undefined) return
  const changes = new Set([spec.name])
  for (const l of core.listeners.of(stored.collection)) {
    const reads = l.upstream.find((up) => changes.has(up))
    if (reads === undefined || seen.has(`listener/${l.name}`)) continue
    changes.add(l.name)
    seen.add(`listener/${l.name}`)
    steps.push({ what: `compute ${l.name}`, why: `it reads ${reads}, whose outputs change`, ...await rowsOf(core, l.spec, ctx) })
  }
}

/** Rows the listener selects; those that only core can tell are counted here. What is not attached yet cannot be counted. */
async function rowsOf({ data, collections }: Core, stored: StoredListener, ctx: Ctx): Promise<{ readonly rows?: number }> {
  const there = (await data.list(ctx)).find((c) => c.name === stored.collection)
  if (there === undefined) return collections.attaching().some(([name]) => name === stored.collection) ? {} : { rows: 0 }
  const asked = stored.where === null ? [] : parseFilter(decode(stored.where)), fold = there.attached === false ? undefined : collections.foldOf(there.name)
  const { where, residual } = split(fold === undefined ? asked : withoutFold(asked), data.capabilities, () => false)
  const query = { from: stored.collection, ...(where === undefined ? {} : { where }) }
  if (residual.length === 0) return { rows: await data.count(query, ctx) }
  let rows = 0
  for await (const page of data.find(query, ctx)) rows += page.filter((row) => residual.every((c) => c.test({ ...row.doc, _id: row.key, ...(fold === undefined ? {} : { _fold: fold(row.key) }) }))).length
  return { rows }
}

async function planIndex(planner: Planner, spec: IndexSpec, steps: PlanStep[], seen: Set<string>, ctx: Ctx): Promise<void> {
  if ('model' in spec.indexing) await planOne(planner, spec.indexing, steps, seen, ctx)
  const compatible: Record<string, { readonly model: string; readonly identity: string }> = {}
  for (const [key, model] of Object.entries(spec.compatible)) compatible[key] = { model: model.name, identity: await planModel(planner, model, seen.has(`model/${model.name}`) ? [] : steps, ctx) }
  const stored: StoredIndex = { listener: spec.indexing.name, measure: spec.measure, compatible }
  const there = await planner.core.components.get('index', spec.name, ctx)
  if (there === undefined || hashOf(storedIndex(there) as never) !== hashOf(stored as never)) steps.push({ what: `add index ${spec.name}`, why: `${there === undefined ? 'it is new' : 'its measure or its models changed'}; ${spec.measure} over the outputs of ${spec.indexing.name}` })
}
