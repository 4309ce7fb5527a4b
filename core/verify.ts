/** Compares what was derived with what it was derived from, and repairs it. */
import type { Failure, Health, ListenerHealth, VerifyOptions } from './api.ts'
import type { Component } from './components.ts'
import { artifactsOf } from './content.ts'
import { keptCollection } from './contents.ts'
import type { Core } from './core.ts'
import type { Ctx, Datalayer, Row, Slot } from './contract.ts'
import { sha256 } from './encoding.ts'
import { kept, type Listener } from './listeners.ts'
import type { StoredModel } from './model.ts'
import { Rate } from './rate.ts'

const hourMs = 3_600_000
const removeAtOnce = 500
const shownFailures = 10

export async function verify(core: Core, components: readonly Component[], options: VerifyOptions, ctx: Ctx): Promise<Health> {
  const repaired = { computed: 0, pruned: 0, artifacts: 0 }, rate = new Rate(options.onProgress)
  const found: ListenerHealth[] = []
  for (const listener of core.listeners.all()) {
    if (!listener.state.active) continue
    const health = await check(core, listener, options.deep === true, ctx)
    found.push(health)
    if (options.repair !== true || health.blocked !== undefined) continue
    for (const generation of core.listeners.generations(listener)) {
      repaired.pruned += await core.data.prune(generation.slot, 'all', ctx)
      const run = await core.listeners.run(listener, generation, ctx, { which: options.deep === true ? 'all' : 'stale', onRows: (r) => rate.report(r.done + r.same + r.skipped + r.failed, undefined, r.failed) })
      repaired.computed += run.done
      if (options.retry === true && health.failed > 0) repaired.computed += (await core.listeners.run(listener, generation, ctx, { which: 'failed' })).done
    }
    if (health.index > 0) for (const [name, index] of core.indexes.entries()) if (index.listener === listener.name) await core.copies.drop(`${name}_${listener.serving.slot.id}`, ctx)
  }
  const artifacts = await checkArtifacts(core, components, options, ctx)
  if (options.repair === true && options.removeArtifacts === true) {
    for (let i = 0; i < artifacts.removable.length; i += removeAtOnce) await core.artifacts.remove(artifacts.removable.slice(i, i + removeAtOnce), ctx, options.graceMs ?? hourMs)
    repaired.artifacts = artifacts.removable.length
  }
  const sum = (of: (health: ListenerHealth) => number): number => found.reduce((total, health) => total + of(health), 0)
  const [missing, stale, orphaned, failed] = [sum((h) => h.missing), sum((h) => h.stale), sum((h) => h.orphaned), sum((h) => h.failed)]
  return {
    ok: missing + stale + orphaned + failed + sum((h) => h.index) + artifacts.missing === 0 && found.every((h) => h.blocked === undefined),
    rows: sum((h) => h.rows), missing, stale, orphaned, failed,
    artifacts: { missing: artifacts.missing, unreferenced: artifacts.unreferenced }, listeners: found, repaired,
  }
}

async function check(core: Core, listener: Listener, deep: boolean, ctx: Ctx): Promise<ListenerHealth> {
  const { data } = core, { slot, work, broken } = listener.target
  if (broken !== undefined) return { name: listener.name, rows: 0, missing: 0, stale: 0, failed: 0, orphaned: 0, failures: [], index: 0, blocked: broken.message }
  const tally = await data.tally(slot, ctx)
  // What is read, or kept for a rollback, is to be whole too.
  let differing = 0, others = 0
  for (const generation of core.listeners.generations(listener)) if (generation !== listener.target) { const { missing, stale } = await data.tally(generation.slot, ctx); others += missing + stale }
  if (deep && work !== undefined) {
    for await (const rows of data.rows(slot, 'all', 'all', ctx)) differing += rows.filter((row) => row.mark !== undefined && row.mark.rev === row.rev && row.mark.hash !== work.hash(row)).length
  }
  const failures = tally.failed === 0 ? [] : await failuresOf(data, slot, shownFailures, ctx)
  return { name: listener.name, ...tally, stale: tally.stale + differing + others, failures, index: deep ? await checkCopies(core, listener, ctx) : 0 }
}

export function failureOf(row: Row): Failure {
  return { _id: row.key, error: row.mark?.error ?? '', tries: row.mark?.tries ?? 0 }
}

export async function failuresOf(data: Datalayer, slot: Slot, most: number, ctx: Ctx): Promise<readonly Failure[]> {
  for await (const rows of data.rows(slot, 'failed', 'all', ctx)) return rows.slice(0, most).map(failureOf)
  return []
}

/** Vectors that a copy lacks, or has otherwise than they are stored. Where the slot is the index there is nothing to differ. */
async function checkCopies(core: Core, listener: Listener, ctx: Ctx): Promise<number> {
  if (core.vectors.capabilities.place === 'slot') return 0
  let wrong = 0
  for (const [name, stored] of core.indexes.entries()) {
    if (stored.listener !== listener.name) continue
    const index = await core.indexes.open({ kind: 'index', name }, ctx)
    await core.copies.ensure(core.data, index, ctx)
    for await (const rows of core.data.find({ from: index.slot.collection, fields: [], slots: [index.slot.id] }, ctx)) {
      for (const row of rows) {
        const values = row.outputs?.[index.slot.id] ?? []
        for (const [offset, vector] of values.entries()) {
          if (!(vector instanceof Float32Array)) continue
          const [hits] = await core.vectors.search(index, { vectors: [vector], k: values.length, exact: true, within: [row.key] }, ctx), hit = hits!.find((h) => h.offset === offset)
          const self = index.measure === 'dot' ? -vector.reduce((sum, v) => sum + v * v, 0) : 0
          if (hit === undefined || Math.abs(hit.distance - self) > 1e-4 * Math.max(1, Math.abs(self))) wrong++
        }
      }
    }
  }
  return wrong
}

/** Artifacts that rows and models refer to and that are gone, and those that nothing refers to. */
async function checkArtifacts({ data, artifacts, listeners }: Core, components: readonly Component[], options: VerifyOptions, ctx: Ctx): Promise<{ readonly missing: number; readonly unreferenced: number; readonly removable: readonly string[] }> {
  const referenced = new Set(components.filter((c) => c.kind === 'model').flatMap((c) => c.versions.flatMap((v) => (v.spec as unknown as StoredModel).artifact ?? [])))
  const generations = listeners.all().flatMap(kept), lists = generations.filter(({ slot, broken }) => slot.many && broken === undefined).map(({ slot }) => slot.id)
  for (const { name, attached } of [...await data.list(ctx), ...[...new Set(lists)].map((list) => ({ name: list, attached: false }))]) {
    if (name.startsWith('_') && name !== keptCollection) continue
    const slots = [...new Set(generations.flatMap(({ slot, broken }) => (broken === undefined && slot.collection === name && slot.shape.kind === 'json' ? [slot.id] : [])))]
    // Of what is attached only outputs are kept apart from their rows.
    if (attached !== false && slots.length === 0) continue
    for await (const rows of data.find({ from: name, slots, ...(attached === false ? {} : { fields: [] }) }, ctx)) {
      for (const { doc, outputs = {} } of rows) {
        if (name === keptCollection) referenced.add(doc['artifact'] as string)
        for (const id of [...artifactsOf(doc), ...Object.values(outputs).flatMap((values) => values.flatMap(artifactsOf))]) referenced.add(id)
      }
    }
  }
  // Outputs that cannot be read may refer to anything.
  const there = new Set<string>(), removable: string[] = [], whole = generations.every(({ broken }) => broken === undefined)
  let unreferenced = 0
  for await (const page of artifacts.list(ctx)) {
    for (const { id, ageMs } of page) {
      there.add(id)
      if (referenced.has(id)) continue
      unreferenced++
      // Content is written before its row: what is young may have its row on the way.
      if (ageMs >= (options.graceMs ?? hourMs) && whole) removable.push(id)
    }
  }
  const gone = [...referenced].filter((id) => !there.has(id)).length
  const damaged = options.deep === true ? await countDamaged(artifacts, [...referenced].filter((id) => there.has(id)), ctx) : 0
  return { missing: gone + damaged, unreferenced, removable }
}

async function countDamaged(artifacts: Core['artifacts'], ids: readonly string[], ctx: Ctx): Promise<number> {
  let damaged = 0
  for (const id of ids) for await (const { bytes } of artifacts.readMany([id], ctx)) if (sha256(bytes) !== id) damaged++
  return damaged
}
