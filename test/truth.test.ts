/** Filters, sorts and updates through the public API of every backend, against mongod's answers. */
import { describe, expect, it } from 'vitest'
import { parseSort, sortKey } from '../core/sort.ts'
import { isDoc } from '../core/value.ts'
import type { Collection, Inlay, InlayError } from '../index.ts'
import { backends, open } from './support/backends.ts'
import * as truth from './support/mongod-truth.ts'

type Any = Collection<Record<string, unknown>>
/** A backend that refuses NUL leaves out this document. */
const nul = 'saNul'
/** Sorts that compare two objects: a backend that loses the order of fields answers them otherwise. */
const objects = new Set(['s01', 's02', 's15', 's16', 's22', 's23', 's24'])

async function fill(db: Inlay, name: string, docs: readonly truth.Named[]): Promise<Any> {
  const collection = db.collection(name)
  const { refused } = await collection.insert(docs.map(({ id, doc }) => ({ ...doc, _id: id })))
  expect(refused.map((r) => r.id)).toEqual(db.capabilities.refuses.includes('nul') && docs.some((d) => d.id === nul) ? [nul] : [])
  return collection
}
const idsOf = async (find: { toArray(): Promise<readonly { readonly _id: string }[]> }): Promise<readonly string[]> => (await find.toArray()).map((row) => row._id)
const wrong: (id: string, got: unknown, want: unknown) => string = (id, got, want) => `${id}: got ${JSON.stringify(got)}, mongod ${JSON.stringify(want)}`

describe.each(backends)('$name agrees with mongod', (backend) => {
  // What a database declares that it loses matters when a sort compares two objects.

  it('on the hand-made filters, and refuses those that it is to refuse', async (ctx) => {
    const docs = await fill(await open(ctx, backend), 'docs', truth.docs), failed: string[] = []
    const held = new Set(await idsOf(docs.find()))
    for (const { id, kind, filter, match } of truth.filters) {
      if (kind === 'refuse') {
        const error = await docs.find(filter as never).toArray().then(() => undefined, (e: InlayError) => e)
        if (error?.code !== 'INVALID_ARGUMENT' && error?.code !== 'UNSUPPORTED') failed.push(`${id}: not refused, ${error?.code}`)
        continue
      }
      const got = [...await idsOf(docs.find(filter as never))].sort(), want = match.filter((m) => held.has(m)).sort()
      if (got.join() !== want.join()) failed.push(wrong(id, got, want))
      if (await docs.find(filter as never).count() !== want.length) failed.push(`${id}: another count`)
    }
    expect(failed).toEqual([])
  })

  it('on the sorts', async (ctx) => {
    const db = await open(ctx, backend), failed: string[] = [], made = new Map<string, Any>()
    for (const { id, kind, docs, sort, order } of truth.sorts) {
      if (db.capabilities.loses.includes('field-order') && objects.has(id)) continue
      const key = docs.map((d) => d.id).join() + JSON.stringify(docs, (_, v: unknown) => (typeof v === 'bigint' ? `${v}n` : v))
      const collection = made.get(key) ?? await fill(db, `sort${made.size}`, docs)
      made.set(key, collection)
      const held = new Set(await idsOf(collection.find()))
      const got = await Promise.resolve().then(() => idsOf(collection.find().sort(sort as never))).catch((e: InlayError) => e.code)
      const want = kind === 'refuse' || order === 'error' ? 'INVALID_ARGUMENT' : order.filter((o) => held.has(o))
      if (String(got) !== String(want)) failed.push(wrong(id, got, want))
      if (Array.isArray(got) && String(await idsOf(collection.find().sort(sort as never).skip(2).limit(5))) !== String(got.slice(2, 7))) failed.push(`${id}: another page`)
    }
    expect(failed).toEqual([])
  })

  it('on the random filters and sorts', async (ctx) => {
    const db = await open(ctx, backend), failed: string[] = []
    const collection = db.collection('pool')
    for (const [n, pool] of truth.pools.entries()) {
      await collection.delete({}, { all: true })
      await collection.insert(pool.docs.map(({ id, doc }) => ({ ...doc, _id: id })))
      for (const { id, filter, match } of pool.filters) {
        const got = await idsOf(collection.find(filter as never))
        if (String([...got].sort()) !== String([...match].sort())) failed.push(wrong(`${n}.${id}`, got, match))
      }
      for (const { id, sort, order } of pool.sorts) {
        const got = await idsOf(collection.find().sort(sort as never)).catch((e: InlayError) => e.code)
        if (String(got) !== String(order === 'error' ? 'INVALID_ARGUMENT' : order) && !(db.capabilities.loses.includes('field-order') && comparesObjects(pool.docs, sort))) failed.push(wrong(`${n}.${id}`, got, order))
      }
    }
    expect(failed).toEqual([])
  }, 120_000)

  it('on the updates, and refuses those that it is to refuse', async (ctx) => {
    const db = await open(ctx, backend), collection = db.collection('updates'), failed: string[] = []
    for (const { id, kind, before, update, after, error } of truth.updates) {
      await collection.insert({ ...before, _id: id })
      const outcome = await collection.update({ _id: id }, update as never).then((changed) => changed.refused[0]?.code ?? 'done', (e: InlayError) => `refused ${e.code}`)
      if (kind !== 'keep') {
        if (!outcome.startsWith('refused ')) failed.push(`${id}: not refused`)
      } else if (error !== undefined) {
        if (outcome === 'done') failed.push(`${id}: done, mongod error ${error}`)
      } else {
        const { _id: _, _fold: __, ...got } = (await collection.findOne({ _id: id }))!
        if (outcome !== 'done' || !looselyEqual(got, after)) failed.push(wrong(id, outcome === 'done' ? got : outcome, after))
      }
    }
    expect(failed).toEqual([])
  })
})

/** mongod makes int64 of an int32 that overflows; numbers are compared by value, objects without order. */
function looselyEqual(a: unknown, b: unknown): boolean {
  const text = (value: unknown): string => JSON.stringify(value, (_, v: unknown) => (typeof v === 'bigint' ? Number(v) : Number.isNaN(v) ? 'NaN' : v !== null && typeof v === 'object' && !Array.isArray(v) && !ArrayBuffer.isView(v) ? Object.fromEntries(Object.entries(v).sort(([x], [y]) => (x < y ? -1 : 1))) : v))
  return text(a) === text(b)
}

/** Two documents have an object of several fields at the same place of their sort keys. */
function comparesObjects(docs: readonly truth.Named[], sort: truth.Fields): boolean {
  const order = parseSort(sort), keys = docs.map(({ id, doc }) => sortKey({ ...doc, _id: id }, order))
  return order.some((_, i) => keys.filter((key) => isDoc(key[i]) && Object.keys(key[i]).length > 1).length > 1)
}
