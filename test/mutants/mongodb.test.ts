/** Broken variants of the MongoDB plugin, made by editing its commands and its encoding, each noticed by a check that holds without: proof that the checks bite. */
import assert from 'node:assert/strict'
import type { Document } from 'mongodb'
import { MaxKey } from 'mongodb'
import { describe, expect, it } from 'vitest'
import type { Doc, Slot } from '../../core/contract.ts'
import type { Codec } from '../../plugins/mongodb/bson.ts'
import { live } from '../conformance/subject.ts'
import { found, outcome, rigOn, rows, settle, slotOn, until, watching, write, type Edit, type Rig } from '../support/mongodb-rig.ts'
import { mongodbUri } from '../support/servers.ts'

/** Runs before a command is sent, once. */
interface Hook { before?: (method: string, args: readonly unknown[], coll: string) => Promise<void> | undefined }
type Check = (rig: Rig, hook: Hook) => Promise<void>
const same: Edit = (_, args) => args
interface Update { readonly updateOne?: { readonly filter: Document; readonly update: Document; readonly upsert?: boolean } }

const beside: Partial<Slot> = { shape: { kind: 'vector', dims: 2 } }
const update = (change: (op: NonNullable<Update['updateOne']>) => object | undefined): Edit => (method, args) => (method !== 'bulkWrite' ? args : [(args[0] as readonly Update[]).map((op) => (op.updateOne === undefined ? op : { updateOne: { ...op.updateOne, ...change(op.updateOne) } })), ...args.slice(1)])
const settles = (op: NonNullable<Update['updateOne']>): boolean => Object.keys(op.update['$set'] as object | undefined ?? {}).some((name) => name.startsWith('_marks.'))
const stamps = (op: NonNullable<Update['updateOne']>): boolean => '_seen' in (op.update['$set'] as object | undefined ?? {})
const without = (filter: Document, ...names: readonly (string | RegExp)[]): Document => Object.fromEntries(Object.entries(filter).filter(([name]) => !names.some((n) => (typeof n === 'string' ? n === name : n.test(name)))))

/** A row, and an output of it. */
async function one({ data }: Rig, of: Partial<Slot> = {}): Promise<Slot> {
  await write(data, { kind: 'insert', key: 'a', doc: { x: 1 } })
  const slot = await slotOn(data, of)
  assert.deepEqual(await settle(data, slot, await rows(data, slot)), [])
  return slot
}
/** What is said to be current has its value. */
async function whole({ data }: Rig, slot: Slot): Promise<void> {
  const current = (await rows(data, slot, 'all')).filter((row) => row.mark?.rev === row.rev).map((row) => row.key), there = await found(data, [slot.id])
  for (const key of current) assert.ok(there.find((row) => row.key === key)!.outputs![slot.id], `the output of ${key} is there`)
}

const lateResult: Check = async (rig) => {
  const slot = await one(rig), [row] = await rows(rig.data, slot, 'all')
  await write(rig.data, { kind: 'patch', key: 'a', set: { x: 2 }, unset: [] })
  assert.deepEqual(await rig.data.settle(slot, [outcome(row!)], live), ['a'], 'the late result is refused')
}
const upstreamMoved: Check = async (rig) => {
  const A = await one(rig), B = await slotOn(rig.data, { id: 's_b', upstream: [A.id] }), [row] = await rows(rig.data, B), [above] = await rows(rig.data, A, 'all')
  await rig.data.settle(A, [outcome(above!, [5], 'other')], live)
  assert.deepEqual(await rig.data.settle(B, [outcome(row!)], live), ['a'], 'the result of what was before is refused')
}
const upstreamSettled: Check = async (rig) => {
  const A = await one(rig), B = await slotOn(rig.data, { id: 's_b', upstream: [A.id] })
  await settle(rig.data, B, await rows(rig.data, B))
  const [above] = await rows(rig.data, A, 'all')
  await rig.data.settle(A, [outcome(above!, [5], 'other')], live)
  assert.equal((await rows(rig.data, B)).length, 1, 'what reads it is stale')
}
const foreignSet: Check = async (rig) => {
  const slot = await one(rig)
  await watching(rig.data)
  await rig.docs.updateOne({ _id: 'a' as never }, { $set: { x: 2 } })
  assert.ok(await until(async () => (await rows(rig.data, slot)).length === 1, 1500), 'the output of what another wrote is stale')
}
const writtenBack: Check = async (rig) => {
  const slot = await one(rig), old = (await rig.docs.findOne({ _id: 'a' as never }))!
  await watching(rig.data)
  await rig.docs.replaceOne({ _id: 'a' as never }, { ...old, x: 2 })
  assert.ok(await until(async () => (await rows(rig.data, slot)).length === 1, 1500), 'the output of what was written back is stale')
}
const noCircle: Check = async (rig) => {
  const slot = await one(rig), { notices } = await watching(rig.data)
  await write(rig.data, { kind: 'patch', key: 'a', set: { x: 2 }, unset: [] }, { kind: 'insert', key: 'm', doc: {} })
  await write(rig.data, { kind: 'insert', key: 'y', doc: {} })
  await until(() => notices.some((n) => n.keys.includes('y')))
  const before = notices.length
  await settle(rig.data, slot, await rows(rig.data, slot))
  await write(rig.data, { kind: 'insert', key: 'z', doc: {} })
  await until(() => notices.some((n) => n.keys.includes('z')))
  assert.ok(!notices.slice(before).some((n) => n.keys.includes('a')), 'a settle gives no notice')
}
/** Between the removal of a row and that of its values the row is made again, and settled. */
const madeAgain: Check = async (rig, hook) => {
  const slot = await one(rig, beside), other = await rig.another()
  await other.openSlot(slot, live)
  hook.before = (method, _, coll) => (method === 'deleteMany' && coll.includes('_values') ? (async () => {
    await write(other, { kind: 'insert', key: 'a', doc: { x: 5 } })
    await settle(other, slot, await rows(other, slot))
  })() : undefined)
  await write(rig.data, { kind: 'remove', key: 'a' })
  await whole(rig, slot)
}
/** Between the values of a result and the mark that names them everything unnamed is swept. */
const sweptMeanwhile: Check = async (rig, hook) => {
  await write(rig.data, { kind: 'insert', key: 'a', doc: { x: 1 } })
  const slot = await slotOn(rig.data, beside), list = await rows(rig.data, slot)
  hook.before = (method, args, coll) => (method === 'bulkWrite' && coll === 'ns.docs' && (args[0] as readonly Update[])[0]!.updateOne !== undefined ? (async () => { await rig.data.prune(slot, 'all', live) })() : undefined)
  await settle(rig.data, slot, list)
  await whole(rig, slot)
}
/** Two results for one row and rev at once. */
const twoResults: Check = async (rig, hook) => {
  await write(rig.data, { kind: 'insert', key: 'a', doc: { x: 1 } })
  const slot = await slotOn(rig.data, beside), list = await rows(rig.data, slot), other = await rig.another()
  await other.openSlot(slot, live)
  hook.before = (method, args, coll) => (method === 'bulkWrite' && coll === 'ns.docs' && (args[0] as readonly Update[])[0]!.updateOne !== undefined ? (async () => { await settle(other, slot, list) })() : undefined)
  await settle(rig.data, slot, list)
  await whole(rig, slot)
  assert.equal(await rig.db.collection('ns._values.s_a').countDocuments(), 1, 'nothing is left of the other result')
}
const collated: Check = async ({ data, db }) => {
  await db.createCollection('theirs', { collation: { locale: 'en', strength: 2 } })
  await db.collection('theirs').insertMany([{ _id: 'a' as never, t: 'x' }, { _id: 'b' as never, t: 'X' }])
  await data.create({ name: 'theirs', attached: 'theirs', track: 'none' }, live)
  const [row, ...more] = (await data.write('theirs', [{ kind: 'patch', key: 'A', set: { t: 'y' }, unset: [] }], live)), list = (await found(data, [], 'theirs')).map(({ doc }) => doc['t'])
  assert.deepEqual([row!.status, more.length, list], ['missing', 0, ['x', 'X']], 'another key is not reached')
}
const stored = (doc: Doc): Check => async ({ data }) => {
  const written = await write(data, { kind: 'insert', key: 'a', doc: {} }, { kind: 'insert', key: 'b', doc }, { kind: 'insert', key: 'c', doc: {} }).catch((error: unknown) => assert.fail(`the batch is lost: ${String(error)}`))
  assert.deepEqual([written[0]!.status, written[2]!.status], ['done', 'done'], 'the others are written')
  if (written[1]!.status === 'done') assert.deepEqual((await found(data))[1]!.doc, doc, 'what is done is read as it was')
}
const uniqueMail: Check = async ({ data, docs }) => {
  await docs.createIndex({ mail: 1 }, { unique: true, partialFilterExpression: { mail: { $exists: true } } })
  await write(data, { kind: 'insert', key: 'a', doc: { mail: 'a' } })
  const written = await write(data, { kind: 'insert', key: 'b', doc: { mail: 'a' } }, { kind: 'insert', key: 'a', doc: {} })
  assert.deepEqual(written.map((w) => w.status), ['refused', 'exists'], 'an index of the user is not the key')
}
/** Longer than the driver itself repeats. */
const cutOff: Check = async ({ data, docs, foreign }) => {
  await write(data, { kind: 'insert', key: 'a', doc: {} })
  await foreign.db('admin').command({ configureFailPoint: 'failCommand', mode: { times: 2 }, data: { failCommands: ['insert'], closeConnection: true, namespace: docs.namespace } })
  const written = await write(data, { kind: 'insert', key: 'b', doc: {} }).catch((error: unknown) => assert.fail(`a connection that breaks is ${(error as { readonly code?: unknown }).code}`))
  assert.deepEqual(written.map((w) => w.status), ['done'])
}
/** Sends the command and changes its error. */
const failing = (change: (error: { message: string; errorLabelSet?: Set<string>; writeErrors?: readonly { readonly err: { errmsg?: string } }[] }) => void): Edit => async (method, args, coll) => {
  if (method !== 'bulkWrite') return args
  const error = await coll.bulkWrite(...args as [never]).then(() => undefined, (lost: unknown) => lost)
  if (error === undefined) return [[{ deleteOne: { filter: { _id: 'nobody' } } }], ...args.slice(1)]
  change(error as never)
  throw error
}
const raw = (of: Doc): Record<string, unknown> => ({ ...of })

const mutants: readonly { readonly name: string; readonly check: Check; readonly edit?: Edit; readonly codec?: Partial<Codec>; readonly says: RegExp }[] = [
  { name: 'settle does not compare the rev', check: lateResult, edit: update((op) => (settles(op) ? { filter: without(op.filter, '_rev') } : undefined)), says: /late result is refused/ },
  { name: 'a refused update is no upsert', check: lateResult, edit: update(() => ({ upsert: false })), says: /late result is refused/ },
  { name: 'settle does not compare what it was made from upstream', check: upstreamMoved, edit: update((op) => (settles(op) ? { filter: without(op.filter, /hash$/) } : undefined)), says: /of what was before/ },
  { name: 'settle leaves what reads it current', check: upstreamSettled, edit: update((op) => (settles(op) ? { update: { ...op.update, $set: without(op.update['$set'] as Document, '_cur.s_a') } } : undefined)), says: /what reads it is stale/ },
  { name: 'no foreign write gets a rev', check: foreignSet, edit: update((op) => (stamps(op) ? { filter: { _id: 'nobody' } } : undefined)), says: /another wrote is stale/ },
  { name: 'a stamp leaves the outputs current', check: foreignSet, edit: update((op) => (stamps(op) ? { update: without(op.update, '$unset') } : undefined)), says: /another wrote is stale/ },
  { name: 'a replacement with a rev of ours is trusted', check: writtenBack, says: /written back is stale/, edit: (method, args) => (method !== 'command' || !('aggregate' in (args[0] as object)) ? args
    : [{ ...args[0] as Document, pipeline: [...(args[0] as Document)['pipeline'] as Document[], { $set: { marked: false, operationType: { $cond: [{ $eq: ['$operationType', 'replace'] }, 'insert', '$operationType'] } } }] }, ...args.slice(1)]) },
  { name: 'the stream tells of updates of our own fields', check: noCircle, says: /settle gives no notice/, edit: (method, args) => (method !== 'command' || !('aggregate' in (args[0] as object)) ? args
    : [{ ...args[0] as Document, pipeline: ((args[0] as Document)['pipeline'] as Document[]).filter((stage) => !('$match' in stage)) }, ...args.slice(1)]) },
  { name: 'values are removed by their key', check: madeAgain, says: /output of a is there/, edit: (method, args, coll) => (method === 'deleteMany' && coll.collectionName.includes('_values') ? [{ _id: { $gte: { k: 'a' }, $lt: { k: 'a', g: new MaxKey() } } }] : args) },
  { name: 'a sweep does not give the row a new rev', check: sweptMeanwhile, says: /output of a is there/, edit: (method, args, coll) => (method === 'updateMany' && coll.collectionName === 'ns.docs' ? [{ _id: 'nobody' }, ...args.slice(1)] : args) },
  { name: 'a mark does not compare the generation that it replaces', check: twoResults, says: /nothing is left/, edit: update((op) => (settles(op) ? { filter: without(op.filter, /gen$/) } : undefined)) },
  { name: 'commands leave the collation to the collection', check: collated, says: /another key is not reached/, edit: (method, args) => (method === 'find' ? [args[0], without(args[1] as Document, 'collation')] : update(() => ({ collation: undefined }))(method, args, undefined as never) as readonly unknown[]) },
  { name: 'every duplicate is one of the key', check: uniqueMail, says: /index of the user/, edit: failing((error) => { for (const { err } of error.writeErrors ?? []) err.errmsg = String(err.errmsg).replace(/index: \S+/, 'index: _id_') }) },
  { name: 'an error of the network inside of a bulk write is not known', check: cutOff, says: /INTERNAL/, edit: failing((error) => { error.message = 'something'; error.errorLabelSet?.clear() }) },
  { name: 'a bigint beyond 64 bits is cut', check: stored({ x: 2n ** 63n }), codec: { encodeFields: raw }, says: /read as it was/ },
  { name: 'a Float32Array is stored as an object', check: stored({ x: Float32Array.of(1, 2) }), codec: { encodeFields: raw }, says: /read as it was/ },
  { name: 'a document is not measured before it is sent', check: stored({ x: 'x'.repeat(17 * 1024 * 1024) }), codec: { fits: () => true }, says: /batch is lost/ },
]

describe('a mutant of the MongoDB plugin is noticed', () => {
  for (const { name, check, edit = same, codec = {}, says } of mutants) {
    it(name, async (ctx) => {
      const uri = mongodbUri(ctx)
      const run = async (mutated: boolean): Promise<unknown> => {
        const hook: Hook = {}
        const rig = await rigOn(uri, async (method, args, coll) => {
          const first = hook.before?.(method, args, coll.collectionName)
          if (first !== undefined) {
            delete hook.before
            await first
          }
          return mutated ? edit(method, args, coll) : args
        }, mutated ? codec : {})
        return check(rig, hook).then(() => undefined, (error: unknown) => error)
      }
      expect(await run(false), 'the check holds').toBeUndefined()
      const noticed = await run(true)
      expect(noticed).toBeInstanceOf(assert.AssertionError)
      expect(String(noticed)).toMatch(says)
    })
  }
})
