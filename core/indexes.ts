/** Vector indexes as components: which listener's outputs they search, and how an example becomes a vector. */
import type { IndexHandle } from './api.ts'
import type { Component } from './components.ts'
import type { Core } from './core.ts'
import type { Ctx, Measure, Model, VectorIndex } from './contract.ts'
import { InlayError, quote } from './errors.ts'
import type { Listener } from './listeners.ts'
import { checkVector, missingSteps, type StoredModel } from './model.ts'
import { isDoc } from './value.ts'

/** What is stored of an index, and makes its version. */
export interface StoredIndex {
  readonly listener: string
  readonly measure: Measure
  /** Model identity by the key of the example. */
  readonly compatible: Readonly<Record<string, { readonly model: string; readonly identity: string }>>
}

/** What holds now of an index that may have been declared in several ways. */
export function storedIndex({ versions, state }: Component): StoredIndex {
  return (versions.find((v) => v.version === state['target']) ?? versions.at(-1)!).spec as unknown as StoredIndex
}

export class Indexes {
  readonly #core: () => Core
  readonly #warned = new Set<string>()
  #byName: ReadonlyMap<string, StoredIndex> = new Map()
  #models: ReadonlyMap<string, Component> = new Map()

  constructor(core: () => Core) { this.#core = core }

  /** Takes over the stored indexes. Called after the listeners were refreshed. */
  refresh(components: readonly Component[]): void {
    this.#byName = new Map(components.filter((c) => c.kind === 'index').map((c) => [c.name, storedIndex(c)]))
    this.#models = new Map(components.filter((c) => c.kind === 'model').map((c) => [c.name, c]))
    const { listeners } = this.#core()
    for (const index of this.#byName.values()) {
      const listener = listeners.get(index.listener)
      if (index.measure === 'cosine' && listener !== undefined) for (const { slot } of [listener.serving, listener.target]) listeners.directed.add(slot.id)
    }
  }
  entries(): Iterable<[string, StoredIndex]> {
    return this.#byName.entries()
  }

  #get(handle: IndexHandle<unknown>): { readonly stored: StoredIndex; readonly listener: Listener } {
    const name = (handle as { readonly name?: unknown } | undefined)?.name
    const stored = typeof name === 'string' ? this.#byName.get(name) : undefined, listener = stored === undefined ? undefined : this.#core().listeners.get(stored.listener)
    if (stored === undefined || listener === undefined) throw new InlayError('NOT_FOUND', `There is no vector index ${quote(name)}. Known: ${[...this.#byName.keys()].join(', ') || 'none'}. Add it with db.add(vectorIndex(…)).`)
    return { stored, listener }
  }

  /** The key of the example that is encoded by the indexed listener's own model. */
  keyOf(handle: IndexHandle<unknown>): string {
    return this.#get(handle).listener.spec.label
  }

  /** The index as the contract knows it, ready to be searched; warns once when its listener is not finished. */
  async open(handle: IndexHandle<unknown>, ctx: Ctx): Promise<VectorIndex> {
    const { stored, listener } = this.#get(handle), { data, vectors, log } = this.#core()
    const { slot } = listener.serving
    const index: VectorIndex = { id: `${handle.name}_${slot.id}`, slot, measure: stored.measure, approximate: false }
    if (vectors.capabilities.place === 'slot') await vectors.create(index, ctx)
    if (!this.#warned.has(index.id)) {
      this.#warned.add(index.id)
      const { rows, missing, stale } = await data.tally(slot, ctx)
      if (missing + stale > 0) log.warn?.(`The index ${quote(handle.name)} is searched while its listener ${quote(listener.name)} is unfinished: ${rows - missing - stale} of ${rows} rows are settled.`)
    }
    return index
  }

  async describe(handle: IndexHandle<unknown>, ctx: Ctx): Promise<{ readonly index: VectorIndex; readonly total: number; readonly settled: number }> {
    const index = await this.open(handle, ctx), tally = await this.#core().data.tally(index.slot, ctx)
    return { index, total: tally.rows, settled: tally.rows - tally.missing - tally.stale - tally.failed }
  }

  /** The vector of an example: a stored row's by its `_id`, or what the model of the example's key gives. */
  async vectorOf(handle: IndexHandle<unknown>, example: unknown, ctx: Ctx): Promise<Float32Array> {
    const { stored, listener } = this.#get(handle)
    const vector = typeof example === 'string' ? await this.#stored(listener, example, ctx) : await this.#encoded(handle.name, stored, listener, example, ctx)
    if (stored.measure === 'cosine' && vector.every((v) => v === 0)) throw new InlayError('INVALID_ARGUMENT', `The example ${quote(example)} becomes the zero vector, which has no direction, so nothing is near to it by cosine. Give another example.`)
    return vector
  }

  async #stored(listener: Listener, id: string, ctx: Ctx): Promise<Float32Array> {
    const { data } = this.#core(), { slot } = listener.serving
    for await (const [row] of data.find({ from: slot.collection, where: { kind: 'keys', keys: [id] }, fields: [], slots: [slot.id] }, ctx)) {
      const vector = row?.outputs?.[slot.id]?.[0]
      if (vector instanceof Float32Array) return vector
      if (row !== undefined) throw new InlayError('NOT_FOUND', `The row ${quote(id)} has no vector of ${quote(listener.name)}: it is pending, failed or not selected. See db.verify().`, { details: { id } })
    }
    throw new InlayError('NOT_FOUND', `There is no row ${quote(id)} in ${quote(slot.collection)}. A string is taken as an _id; to search by content give an object such as { ${listener.spec.label}: … }.`, { details: { id } })
  }

  async #encoded(name: string, stored: StoredIndex, listener: Listener, example: unknown, ctx: Ctx): Promise<Float32Array> {
    const keys = [listener.spec.label, ...Object.keys(stored.compatible)]
    const given = isDoc(example) ? Object.keys(example).filter((k) => example[k] !== undefined) : []
    const key = given[0]
    if (!isDoc(example) || given.length !== 1 || !keys.includes(key!)) throw new InlayError('INVALID_ARGUMENT', `The index ${quote(name)} is searched by an _id, or by an object with one of the keys ${keys.map(quote).join(', ')}; it was given ${quote(example)}.`)
    const compatible = key === listener.spec.label ? undefined : stored.compatible[key!]
    const model = compatible === undefined ? listener.model : this.#model(compatible.model, compatible.identity)
    if (model === undefined) throw new InlayError('NOT_FOUND', `The model of key ${quote(key)} of index ${quote(name)} cannot run in this process. Add its spec with db.add(), or name it in "components" of the config.`)
    const dims = (listener.serving.slot.shape as { readonly dims: number }).dims
    const [vector] = (await model.predict([example[key!]], ctx)).map((value) => checkVector(value, model))
    if (vector instanceof Float32Array && vector.length === dims) return vector
    const what = vector instanceof Float32Array ? `it has ${vector.length} dimensions, the index has ${dims}` : vector instanceof Error ? vector.message : 'it is no vector'
    throw new InlayError('INVALID_ARGUMENT', `The vector of the example ${quote(example)} cannot be searched: ${what}.`)
  }

  #model(name: string, identity: string): Model | undefined {
    const { functions, listeners } = this.#core()
    const stored = this.#models.get(name)?.versions.find((v) => v.hash === identity)?.spec as unknown as StoredModel | undefined
    return stored === undefined || missingSteps(stored, functions).length > 0 ? undefined : listeners.model(name, stored)
  }
}
