/** A copy of vectors in another database, over its rows and its search: one row per key, its vectors as outputs. So a database that searches only where its own rows lie serves others too. */
import { randomUUID } from 'node:crypto'
import type { Ctx, Datalayer, Hit, Key, Outcome, Slot, VectorIndex, VectorSearch } from './contract.ts'
import { hashOf, sha256 } from './encoding.ts'
import { InlayError, quote } from './errors.ts'

/** No row of a copied collection: this one says which copy it is. */
const epochKey = '\u0001epoch'

export function copyIndex(data: Datalayer, search: VectorSearch): VectorSearch {
  const opened = new Map<string, { readonly index: VectorIndex; readonly epoch: string }>()
  const get = (id: string): VectorIndex => {
    const found = opened.get(id)
    if (found === undefined) throw new InlayError('NOT_FOUND', `There is no copy of vectors ${quote(id)}. Create it first.`)
    return found.index
  }
  const open = async (index: VectorIndex, ctx: Ctx): Promise<string> => {
    const name = `_v_${sha256(index.id).slice(0, 24)}`, slot: Slot = { id: `v_${sha256(index.id).slice(0, 24)}`, collection: name, upstream: [], shape: index.slot.shape, many: index.slot.many }
    await data.create({ name, attached: false, track: 'none' }, ctx)
    await data.openSlot(slot, ctx)
    opened.set(index.id, { index: { ...index, slot }, epoch: '' })
    await data.write(name, [{ kind: 'insert', key: epochKey, doc: { epoch: randomUUID() } }], ctx)
    for await (const [row] of data.find({ from: name, where: { kind: 'keys', keys: [epochKey] } }, ctx)) return row!.doc['epoch'] as string
    throw new InlayError('UNAVAILABLE', `The copy of vectors ${quote(index.id)} was dropped while it was opened.`, { retryable: true })
  }
  /** When somebody dropped it, it is opened again: another epoch then has it fed anew. */
  const there = async (id: string, ctx: Ctx): Promise<boolean> => {
    const { collection } = get(id).slot
    for await (const [row] of data.find({ from: collection, where: { kind: 'keys', keys: [epochKey] }, fields: [] }, ctx)) if (row !== undefined) return true
    return false
  }
  return {
    capabilities: { ...search.capabilities, place: 'copy', within: Math.min(search.capabilities.within, data.capabilities.limits.keys ?? search.capabilities.within) },
    async create(index, ctx) {
      const known = opened.get(index.id)
      if (known !== undefined && known.epoch !== '' && await there(index.id, ctx).catch(() => false)) return { epoch: known.epoch }
      const epoch = await open(index, ctx)
      opened.set(index.id, { index: get(index.id), epoch })
      return { epoch }
    },
    async drop(id, ctx) {
      await data.drop(`_v_${sha256(id).slice(0, 24)}`, ctx)
      opened.delete(id)
    },
    async put(id, items, ctx) {
      const { slot } = get(id), byKey = new Map<Key, Float32Array[]>()
      for (const { key, offset, vector } of items) {
        const vectors = byKey.get(key) ?? []
        vectors[offset] = vector
        byKey.set(key, vectors)
      }
      if (byKey.size === 0) return
      const written = await data.write(slot.collection, [...byKey.keys()].map((key) => ({ kind: 'put', key, doc: {} })), ctx)
      // Refused is what another process puts at the same time.
      await data.settle(slot, written.flatMap(({ status, key, rev }): readonly Outcome[] => (status === 'done' ? [{ key, rev: rev!, hash: hashOf(byKey.get(key)!), kind: 'values', values: byKey.get(key)! }] : [])), ctx)
    },
    async remove(id, keys, ctx) {
      if (keys.length > 0) await data.write(get(id).slot.collection, [...new Set(keys)].map((key) => ({ kind: 'remove', key })), ctx)
    },
    async search({ id }, { vectors, k, within }, ctx) {
      const index = get(id)
      if (k < 1) return vectors.map(() => [])
      const found = await search.search(index, { vectors, k, exact: true, query: { from: index.slot.collection, fields: [], ...(within === undefined ? {} : { where: { kind: 'keys', keys: within } }) } }, ctx)
      return found.map((hits) => hits.map(({ key, offset, distance }): Hit => ({ key, offset, distance })))
    },
    settled: (id, ctx) => search.settled(get(id).id, ctx),
  }
}
