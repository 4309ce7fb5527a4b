/** What others write, by a change stream of a real mongod: whatever is not provably Inlay's own gets a new rev, and nothing stays wrong. */
import { Timestamp, type Document } from 'mongodb'
import { describe, expect, it } from 'vitest'
import type { Datalayer, Slot } from '../../core/contract.ts'
import { isOurs } from '../../plugins/mongodb/watch.ts'
import { found, rigOn, rows, settle, slotOn, until, watching, write, type Rig } from '../support/mongodb-rig.ts'
import { mongodbUri } from '../support/servers.ts'

interface Scene extends Rig { readonly slot: Slot; readonly notices: Awaited<ReturnType<typeof watching>>['notices'] }
/** Two rows with outputs, and a watcher. */
async function scene(uri: string): Promise<Scene> {
  const rig = await rigOn(uri), { data } = rig
  await write(data, { kind: 'insert', key: 'a', doc: { x: 1 } }, { kind: 'insert', key: 'b', doc: { x: 2 } })
  const slot = await slotOn(data)
  expect(await settle(data, slot, await rows(data, slot))).toEqual([])
  const { notices } = await watching(data)
  return { ...rig, slot, notices }
}
const revOf = async (data: Datalayer, key: string): Promise<string> => (await found(data)).find((row) => row.key === key)!.rev
const stale = async ({ data, slot }: Scene): Promise<string[]> => (await rows(data, slot)).map((row) => row.key)
/** Outputs name the documents they were made from. */
async function right({ data, slot }: Scene): Promise<void> {
  // A rev that comes between the two is refused, and the row looked at again.
  expect(await until(async () => (await settle(data, slot, await rows(data, slot))).length === 0 && (await rows(data, slot)).length === 0)).toBe(true)
  for (const row of await found(data, [slot.id])) expect(row.outputs![slot.id]).toEqual([{ of: row.doc['x'] ?? null }])
}

describe('watch', () => {
  it('gives a foreign $set a new rev within milliseconds, and makes the output stale', async (ctx) => {
    const of = await scene(mongodbUri(ctx)), rev = await revOf(of.data, 'a')
    await of.docs.updateOne({ _id: 'a' as never }, { $set: { x: 10 } })
    const began = performance.now()
    expect(await until(async () => await revOf(of.data, 'a') !== rev)).toBe(true)
    expect(performance.now() - began).toBeLessThan(500)
    expect(await stale(of)).toEqual(['a'])
    await right(of)
  })
  it('gives a bare replacement and a bare insert a rev, also before the stream comes to it', async (ctx) => {
    const of = await scene(mongodbUri(ctx))
    await of.docs.replaceOne({ _id: 'a' as never }, { x: 11 })
    await of.docs.insertOne({ _id: 'c' as never, x: 3 })
    expect(await stale(of)).toEqual(['a', 'c'])
    await right(of)
  })
  it('gives a document that was read, changed and written back whole a new rev: our fields in it prove nothing', async (ctx) => {
    const of = await scene(mongodbUri(ctx)), old = (await of.docs.findOne({ _id: 'a' as never }))!
    await of.docs.replaceOne({ _id: 'a' as never }, { ...old, x: 12 })
    expect(await until(async () => (await stale(of)).includes('a'))).toBe(true)
    await right(of)
  })
  it('gives a document that is inserted again with all its old fields a new rev', async (ctx) => {
    const of = await scene(mongodbUri(ctx)), old = (await of.docs.findOne({ _id: 'a' as never }))!
    await of.docs.deleteOne({ _id: 'a' as never })
    await of.docs.insertOne({ ...old, x: 13 })
    expect(await until(async () => (await stale(of)).includes('a'))).toBe(true)
    await right(of)
  })
  it('gives each row of a foreign transaction a new rev after its commit', async (ctx) => {
    const of = await scene(mongodbUri(ctx))
    await of.foreign.withSession((session) => session.withTransaction(async () => {
      for (const _id of ['a', 'b']) await of.docs.updateOne({ _id: _id as never }, { $inc: { x: 100 } }, { session })
    }))
    expect(await until(async () => (await stale(of)).length === 2)).toBe(true)
    await right(of)
  })
  it('tells of no settle, stamp or claim, so that nothing goes round in a circle', async (ctx) => {
    const of = await scene(mongodbUri(ctx))
    // The insert of both rows is told of first.
    await write(of.data, { kind: 'insert', key: 'c', doc: { x: 3 } })
    expect(await until(() => of.notices.some((n) => n.keys.includes('c')))).toBe(true)
    const start = of.notices.length
    await of.docs.updateOne({ _id: 'a' as never }, { $set: { x: 5 } })
    expect(await until(() => of.notices.slice(start).some((n) => n.keys.includes('a')))).toBe(true)
    const before = of.notices.length
    await right(of)
    await write(of.data, { kind: 'patch', key: 'b', set: { x: 7 }, unset: [] })
    expect(await until(() => of.notices.slice(before).some((n) => n.keys.includes('b')))).toBe(true)
    expect(of.notices.slice(before).flatMap((n) => n.keys)).toEqual(['b'])
  })
  it('does not give Inlay\'s own writes another rev: inserts, puts, patches of any field name', async (ctx) => {
    const of = await scene(mongodbUri(ctx)), other = await of.another()
    const written = [...await write(of.data, { kind: 'put', key: 'a', doc: { x: 20 } }, { kind: 'patch', key: 'b', set: { 'odd.name': 1 }, unset: [] }, { kind: 'insert', key: 'c', doc: {} }), ...await write(other, { kind: 'insert', key: 'd', doc: {} })]
    await of.docs.insertOne({ _id: 'last' as never })
    expect(await until(() => of.notices.some((n) => n.keys.includes('last')))).toBe(true)
    const now = new Map((await found(of.data)).map((row) => [row.key, row.rev]))
    for (const { key, rev } of written) expect([key, now.get(key)]).toEqual([key, rev])
  })
  it('gives one rev where two watch', async (ctx) => {
    const of = await scene(mongodbUri(ctx)), second = await watching(await of.another())
    await of.docs.updateOne({ _id: 'a' as never }, { $set: { x: 30 } })
    const read = async (): Promise<Document> => (await of.docs.findOne({ _id: 'a' as never }))!
    expect(await until(async () => '_seen' in await read())).toBe(true)
    const seen = await read()
    await of.docs.insertOne({ _id: 'z' as never })
    await until(() => of.notices.some((n) => n.keys.includes('z')) && second.notices.some((n) => n.keys.includes('z')))
    expect((await read())['_rev']).toEqual(seen['_rev'])
    expect(seen['_seen']).toBeInstanceOf(Timestamp)
  })
  it('goes on after what was done: what was written while nobody watched gets its rev', async (ctx) => {
    const of = await scene(mongodbUri(ctx)), first = await watching(of.data)
    first.stop()
    const rev = await revOf(of.data, 'b')
    await of.docs.updateOne({ _id: 'b' as never }, { $set: { x: 40 } })
    const later = await watching(await of.another())
    expect(later.notices[0]!.keys).toBe('stale')
    expect(await until(async () => await revOf(of.data, 'b') !== rev)).toBe(true)
    await right(of)
  })
  it('says "all" where its place is no longer in the oplog, or is no place', async (ctx) => {
    const of = await rigOn(mongodbUri(ctx)), meta = of.db.collection('ns._meta')
    for (const errorCode of [286, 280, 260, 136]) {
      await of.foreign.db('admin').command({ configureFailPoint: 'failCommand', mode: { times: 1 }, data: { failCommands: ['aggregate'], errorCode, namespace: `${of.db.databaseName}.ns.docs` } })
      const { notices, stop } = await watching(await of.another())
      expect([errorCode, notices[0]!.keys]).toEqual([errorCode, 'all'])
      stop()
    }
    await meta.updateOne({ _id: 'token:docs' as never }, { $set: { token: { _data: '00' } } })
    expect((await watching(await of.another())).notices[0]!.keys).toBe('all')
    for (const token of [{ _data: 'damaged' }, { _data: 5 }, 'damaged']) {
      await meta.updateOne({ _id: 'token:docs' as never }, { $set: { token } }, { upsert: true })
      const { notices, stop } = await watching(await of.another())
      expect([token, notices[0]!.keys]).toEqual([token, 'all'])
      stop()
      await until(async () => await meta.countDocuments({ _id: 'token:docs' as never, token }) === 0)
      expect((await meta.findOne({ _id: 'token:docs' as never }))?.['token']).not.toEqual(token)
    }
    await meta.deleteOne({ _id: 'token:docs' as never })
    expect((await watching(of.data)).notices[0]!.keys).toBe('all')
  })
  it('takes for its own what only Inlay writes', () => {
    const rev = '0', event = (operationType: string, updated: readonly string[] = [], marked = false): Parameters<typeof isOurs>[0] => ({ operationType, updated, marked, rev })
    const own = new Set([rev])
    expect(isOurs(event('replace'), own)).toBe(true)
    expect(isOurs(event('replace'), own)).toBe(false)                        // once
    expect(isOurs(event('update', ['x', '_rev']), own)).toBe(true)
    for (const names of [['x'], ['x', '_rev', '_marks'], ['x', '_rev', '_outputs'], ['x', '_rev', '_cur'], ['x', '_rev', '_seen']]) expect(isOurs(event('update', names), own)).toBe(false)
    expect([isOurs(event('insert'), own), isOurs(event('insert', [], true), own), isOurs({ ...event('insert'), rev: undefined }, own), isOurs(event('delete'), own)]).toEqual([true, false, false, true])
  })
})
