/** What MongoDB's own tools see, what a standalone server can do, and what is refused in collections of others. */
import { Binary, Decimal128, Double, Int32, Long, MongoClient, ObjectId, Timestamp, UUID, type Document } from 'mongodb'
import * as driver from 'mongodb'
import { describe, expect, it } from 'vitest'
import { arrayCodec, inlay, type UriContent } from '../../index.ts'
import type { Collection, Doc, Write } from '../../core/contract.ts'
import { classify } from '../../plugins/mongodb/errors.ts'
import mongodb from '../../plugins/mongodb/index.ts'
import { foreignKeys } from '../../plugins/mongodb/keys.ts'
import { list } from '../../plugins/mongodb/client.ts'
import { all, live } from '../conformance/subject.ts'
import { startMongodb } from '../support/mongodb-server.ts'
import { found, outcome, rigOn, rows, settle, slotOn, write } from '../support/mongodb-rig.ts'
import { mongodbUri } from '../support/servers.ts'

const attach = (attached: string, track: Collection['track'] = 'notify'): Collection => ({ name: 'theirs', attached, track })
const codeOf = async (work: Promise<unknown>): Promise<string> => work.then(() => 'no error', (error: unknown) => `${(error as { readonly code: string }).code}: ${(error as Error).message}`)

describe('a key', () => {
  const keys = foreignKeys(driver)
  it('is one for what mongod holds for one _id, and the text of common ones is readable', () => {
    const same: readonly (readonly unknown[])[] = [
      [1, 1n, Decimal128.fromString('1'), Decimal128.fromString('1.00'), Decimal128.fromString('10E-1')], [0, -0, 0n, Decimal128.fromString('-0.0')], [2 ** 60, 2n ** 60n, Decimal128.fromString(String(2n ** 60n))], [1.5, Decimal128.fromString('1.50')],
      [0.5, Decimal128.fromString('5E-1')], [Number.NaN, Decimal128.fromString('NaN')], [1e21, Decimal128.fromString('1E+21')],
    ]
    for (const ids of same) expect(new Set(ids.map((id) => keys.keyOf(id))).size).toBe(1)
    expect([1.5, new ObjectId('507f1f77bcf86cd799439011'), 'text', new Date(5), '507f1f77bcf86cd799439011', '~n1'].map((id) => keys.keyOf(id))).toEqual(['~n1.5', '507f1f77bcf86cd799439011', 'text', '~d5', '~s507f1f77bcf86cd799439011', '~s~n1'])
    expect(keys.keyOf(Decimal128.fromString('0.1'))).not.toBe(keys.keyOf(0.1))
    expect(keys.keyOf(Decimal128.fromString('0.10'))).toBe(keys.keyOf(Decimal128.fromString('0.1')))
  })
  it('leads back to the _id, and what is no key leads nowhere', async (ctx) => {
    const { db } = await rigOn(mongodbUri(ctx)), coll = db.collection<{ _id: unknown }>('ids')
    const ids = ['a', '', '~x', '507f1f77bcf86cd799439011', new ObjectId(), 1, -1.5, 9007199254740993n, 1e300, Decimal128.fromString('0.1'), new Date(-5), new UUID(), true, null, new Binary(Buffer.from([1])), { a: 1, b: 2 }, { b: 2, a: 1 }]
    for (const _id of ids) await coll.insertOne({ _id } as never, { forceServerObjectId: true }).catch(() => {})
    const texts = ids.map((id) => keys.keyOf(id)!)
    expect(new Set(texts).size).toBe(ids.length)
    for (const [i, text] of texts.entries()) if (ids[i] !== null) expect(await coll.countDocuments({ _id: keys.idOf(text) as never })).toBe(1)
    for (const text of ['~n01', '~n1.0', '~nx', '~u1', '~j{', '~q', '~', '~sa']) expect(keys.idOf(text)).toBeUndefined()
  })
})

describe('values', () => {
  it('are what every other program reads', async (ctx) => {
    const { data, db } = await rigOn(mongodbUri(ctx)), at = new Date(7)
    await write(data, { kind: 'insert', key: 'a', doc: { n: 5, big: 5n, half: 0.5, at, bytes: Uint8Array.of(1, 2), v: Float32Array.of(1.5), ints: Int8Array.of(-1), o: { _bsontype: 'ObjectId', 'a\0b': 1 } } })
    const raw = (await db.collection('ns.docs', { promoteValues: false, promoteBuffers: false, promoteLongs: false }).findOne({ _id: 'a' as never }))!
    expect([raw['n'], raw['big'], raw['half'], raw['at']].map((v: unknown) => (v as object).constructor)).toEqual([Int32, Long, Double, Date])
    expect([(raw['bytes'] as Binary).sub_type, (raw['v'] as Binary).sub_type, [...(raw['v'] as Binary).toFloat32Array()], [...(raw['ints'] as Binary).toInt8Array()]]).toEqual([0, 9, [1.5], [-1]])
    expect((await found(data))[0]!.doc['o']).toEqual({ _bsontype: 'ObjectId', 'a\0b': 1 })
    await write(data, { kind: 'insert', key: 'photo', doc: { in: [{ _content: { bytes: Uint8Array.of(3), codec: 'image' } }], far: { _content: { artifact: 'ab', codec: 'image', bytes: 9 } } } })
    expect(await db.collection('ns.docs').findOne({ 'in._content.codec': 'image' })).toMatchObject({ in: [{ _content: { bytes: new Binary(Uint8Array.of(3)), codec: 'image' } }], far: { _content: { artifact: 'ab', codec: 'image', bytes: 9 } } })
  })
  it('that BSON would cut or change are refused for their row alone', async (ctx) => {
    const { data } = await rigOn(mongodbUri(ctx))
    const written = await write(data, { kind: 'insert', key: 'a', doc: {} }, { kind: 'insert', key: 'b', doc: { x: { y: 2n ** 63n } } }, { kind: 'put', key: 'c', doc: { big: 'x'.repeat(17 * 1024 * 1024) } }, { kind: 'insert', key: 'd', doc: {} })
    expect(written.map((w) => w.status)).toEqual(['done', 'refused', 'refused', 'done'])
    expect(written[1]!.reason).toMatch(/"x".*64 bits/)
    expect(written[2]!.reason).toMatch(/bytes/)
  })
  it('that do not fit into a row beside its document become the error of that row', async (ctx) => {
    const { data } = await rigOn(mongodbUri(ctx)), half = 'x'.repeat(9 * 1024 * 1024)
    await write(data, { kind: 'insert', key: 'a', doc: { half } }, { kind: 'insert', key: 'b', doc: { x: 1 } })
    const slot = await slotOn(data), list = await rows(data, slot)
    expect(await data.settle(slot, list.map((row) => outcome(row, [row.key === 'a' ? half : 1], 'h')), live)).toEqual([])
    expect((await rows(data, slot, 'failed')).map((row) => [row.key, row.mark!.error])).toEqual([['a', expect.stringMatching(/does not fit/)]])
    expect((await found(data, [slot.id])).map((row) => row.outputs![slot.id])).toEqual([undefined, [1]])
  })
})

describe('the view', () => {
  it('shows documents with outputs of every kind under their labels, and goes with the collection', async (ctx) => {
    const { data, db } = await rigOn(mongodbUri(ctx))
    await write(data, { kind: 'insert', key: 'a', doc: { x: 1 } }, { kind: 'insert', key: 'b', doc: { x: 2 } })
    const labels = await slotOn(data, { id: 's_label', label: 'img.lenet5' }), vectors = await slotOn(data, { id: 's_vec', label: 'img.clip', shape: { kind: 'vector', dims: 2 } }), chunks = await slotOn(data, { id: 's_many', label: 'text.chunks', many: true })
    for (const slot of [labels, vectors, chunks]) await settle(data, slot, (await rows(data, slot)).filter((row) => row.key === 'a'))
    const seen = await db.collection('ns.docs_view').find().sort({ _id: 1 }).toArray() as Document[]
    expect(Object.keys(seen[0]!).sort()).toEqual(['_id', '_outputs', 'x'])
    expect([seen[0]!['_outputs'].img.lenet5, [...(seen[0]!['_outputs'].img.clip as Binary).toFloat32Array()], seen[0]!['_outputs'].text.chunks]).toEqual([{ of: 1 }, [1, 1], ['p', 'q']])
    expect(seen[1]).toMatchObject({ _id: 'b', x: 2, _outputs: { img: {}, text: {} } })
    await data.dropSlot(chunks.id, live)
    expect((await db.collection('ns.docs_view').findOne())!['_outputs']).not.toHaveProperty('text')
    await data.drop('docs', live)
    expect((await db.listCollections().toArray()).map((c) => c.name).filter((name) => /docs|_values/.test(name))).toEqual([])
  })
})

describe('a view of somebody else\'s that has the name of ours', () => {
  it('stays as it is, and so does a collection of that name', async (ctx) => {
    const { data, db } = await rigOn(mongodbUri(ctx)), pipeline = [{ $match: { x: 1 } }]
    await data.create({ name: 'docs_view', attached: false, track: 'none' }, live)
    await data.write('docs_view', [{ kind: 'insert', key: 'a', doc: {} }], live)
    await data.create({ name: 'more', attached: false, track: 'none' }, live)
    await db.createCollection('ns.more_view', { viewOn: 'ns.more', pipeline })
    for (const collection of ['docs', 'more']) {
      await slotOn(data, { id: `s_${collection}`, collection, label: 'x.m' })
      await data.drop(collection, live)
    }
    expect((await found(data, [], 'docs_view')).map((row) => row.key)).toEqual(['a'])
    expect((await db.listCollections({ name: 'ns.more_view' }).toArray())[0]).toMatchObject({ type: 'view', options: { pipeline } })
  })
})

describe('an order', () => {
  it('by fields that are named like ours is that of the user\'s fields', async (ctx) => {
    const { data } = await rigOn(mongodbUri(ctx))
    await write(data, ...[3, 1, 2].map((x): Write => ({ kind: 'insert', key: `k${4 - x}`, doc: { _seen: x, _marks: x } })), { kind: 'patch', key: 'k2', set: { _rev: 1 }, unset: [] })
    for (const name of ['_seen', '_marks']) expect((await all(data.find({ from: 'docs', order: [{ path: { at: [name] }, descending: false }] }, live))).map((row) => row.key)).toEqual(['k3', 'k2', 'k1'])
    expect((await all(data.find({ from: 'docs', order: [{ path: { at: ['_id'] }, descending: true }] }, live))).map((row) => row.key)).toEqual(['k3', 'k2', 'k1'])
  })
})

describe('two who remove the same rows at once', () => {
  it('report each row once, and leave none, nor one that a dead process had claimed', async (ctx) => {
    const rig = await rigOn(mongodbUri(ctx)), other = await rig.another(), keys = Array.from({ length: 300 }, (_, i) => `k${i}`), remove = keys.map((key): Write => ({ kind: 'remove', key }))
    for (let round = 0; round < 3; round++) {
      await write(rig.data, ...keys.map((key): Write => ({ kind: 'insert', key, doc: {} })))
      const done = (await Promise.all([write(rig.data, ...remove), write(other, ...remove.toReversed())])).flat().filter((w) => w.status === 'done')
      expect([done.length, new Set(done.map((w) => w.key)).size, await rig.docs.countDocuments()]).toEqual([300, 300, 0])
    }
    for (const given of [false, true]) {
      await rig.docs.insertOne({ _id: 'a' as never, _rev: new UUID('ffffffff-ffff-4000-8000-000000000001') })
      const [row] = await found(rig.data)
      expect((await write(rig.data, { kind: 'remove', key: 'a', ...(given ? { rev: row!.rev } : {}) }))[0]!.status).toBe('missing')
      expect(await rig.docs.countDocuments()).toBe(0)
    }
  })
})

describe('a server that does not answer', () => {
  it('holds up neither a write that is stopped nor close()', async (ctx) => {
    mongodbUri(ctx)                                                          // where there is none, there is none to be paused
    const server = await startMongodb()
    ctx.onTestFinished(() => server.stop())
    const connection = await mongodb.connect!(server.url, { namespace: 'ns' }, live), data = connection.data!
    await data.create({ name: 'docs', attached: false, track: 'none' }, live)
    const slot = await slotOn(data)
    process.kill(server.pid, 'SIGSTOP')
    const began = performance.now(), brief = (): { readonly signal: AbortSignal } => ({ signal: AbortSignal.timeout(100) })
    const ended = await Promise.allSettled([data.write('docs', [{ kind: 'insert', key: 'a', doc: {} }], brief()), data.settle(slot, [{ key: 'a', rev: 'r', hash: 'h', kind: 'skip' }], brief()), data.prune(slot, 'all', brief()), data.drop('docs', brief())])
    await connection.close()
    process.kill(server.pid, 'SIGCONT')
    expect(ended.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected', 'rejected'])
    expect(performance.now() - began).toBeLessThan(8000)
  }, 30_000)
})

describe('a collection of others', () => {
  it('that keeps fields of its own under our names is not attached, and what is ours there passes', async (ctx) => {
    const { data, db } = await rigOn(mongodbUri(ctx)), _rev = new UUID(), mark = { rev: 'r', hash: 'h' }
    const strange = { _seen: [{ _seen: true }, { _rev, _seen: { by: 'bob' } }, { _seen: new Timestamp({ t: 1, i: 1 }) }], _marks: [{ _rev, _marks: { score: 3 } }, { _marks: { s: mark } }], _outputs: [{ _rev, _outputs: { mine: 1 } }, { _rev, _outputs: 5 }], _cur: [{ _rev, _cur: { x: {} } }], _rev: [{ _rev: '1-abc' }, { _rev: new Binary(Buffer.from('x')) }, { _rev: 5 }] }
    for (const [field, docs] of Object.entries(strange)) for (const [i, doc] of docs.entries()) {
      await db.collection(`c${field}${i}`).insertMany([{ x: 1 }, { _id: 'bad' as never, ...doc }] as never)
      expect(await codeOf(data.create(attach(`c${field}${i}`), live))).toMatch(new RegExp(`^UNSUPPORTED.*"bad".*"${field}"`))
    }
    await db.collection('fine').insertOne({ _id: 'a' as never, _rev, _marks: { s: mark, u: mark }, _cur: { s: {} }, _outputs: { s: 1 }, _seen: new Timestamp({ t: 1, i: 1 }) })
    await data.create(attach('fine'), live)
  })
  it('keeps, when it is let go, what another program has put under our names since', async (ctx) => {
    const { data, db } = await rigOn(mongodbUri(ctx)), coll = db.collection('theirs')
    await coll.insertMany([{ _id: 'a' as never, x: 1 }, { _id: 'b' as never, x: 2 }])
    await data.create(attach('theirs'), live)
    const slot = await slotOn(data, { collection: 'theirs' })
    await settle(data, slot, await rows(data, slot))
    const late = { _id: 'c' as never, _rev: '1-abc', _seen: 'mine', _marks: 3, _outputs: { 'mine.too': 1 } }
    await coll.updateOne({ _id: 'a' as never }, { $set: { '_outputs.mine': 1, '_marks.score': 3, _seen: true } })
    await coll.insertOne(late)
    await data.drop('theirs', live)
    expect(await coll.find().sort({ _id: 1 }).toArray()).toEqual([{ _id: 'a', x: 1, _outputs: { mine: 1 }, _marks: { score: 3 }, _seen: true }, { _id: 'b', x: 2 }, late])
  })
  it('whose validator lets no document have our fields is not attached', async (ctx) => {
    const { data, db } = await rigOn(mongodbUri(ctx)), closed = { $jsonSchema: { properties: { _id: {}, x: {} }, additionalProperties: false } }
    await db.createCollection('empty', { validator: closed })
    await db.createCollection('nested', { validator: { $and: [closed] } })
    await db.collection('nested').insertOne({ x: 1 })
    await db.createCollection('open', { validator: { $jsonSchema: { required: ['x'] } } })
    await db.collection('open').insertOne({ x: 1 })
    for (const name of ['empty', 'nested']) expect(await codeOf(data.create(attach(name), live))).toMatch(/^UNSUPPORTED.*validator/)
    await data.create(attach('open'), live)
    expect(classify(Object.assign(new Error(), { code: 121 }))).toEqual({ code: 'INVALID_ARGUMENT', retryable: false })
  })
  it('with a document that has no room for a mark has outputs of all the others', async (ctx) => {
    const { data, db } = await rigOn(mongodbUri(ctx)), coll = db.collection('theirs'), pad = 'x'.repeat(16 * 1024 * 1024 - 80)
    await coll.insertMany([{ _id: 'a' as never, x: 1 }, { _id: 'full' as never, pad }])
    await data.create(attach('theirs'), live)
    const slot = await slotOn(data, { collection: 'theirs' }), vector = await slotOn(data, { id: 's_vec', collection: 'theirs', shape: { kind: 'vector', dims: 2 } })
    for (const of of [slot, vector]) {
      expect(await settle(data, of, await rows(data, of, 'all'))).toEqual(['full'])
      expect(await rows(data, of)).toEqual([])
    }
  })
  it('in another database is attached, shown there, and left as it was', async (ctx) => {
    const { data, foreign, db } = await rigOn(mongodbUri(ctx)), other = foreign.db(`${db.databaseName}_b`), coll = other.collection('shop.items')
    ctx.onTestFinished(async () => { await foreign.db(other.databaseName).dropDatabase().catch(() => {}) })
    const before = [{ _id: new ObjectId('507f1f77bcf86cd799439011'), x: 1, at: new Date(0) }, { _id: new ObjectId('507f1f77bcf86cd799439012'), x: Long.fromString('9007199254740993') }]
    await coll.insertMany(before as never)
    expect(await codeOf(data.create(attach('shop.items'), live))).toMatch(/^NOT_FOUND.*database/)
    const name = `${other.databaseName}.shop.items`
    expect(await data.installs!(attach(name), live)).toEqual([expect.stringMatching(/_rev, _marks/), expect.stringMatching(/inlay_<slot>/), expect.stringMatching(/view/)])
    await data.create(attach(name), live)
    expect(await data.installs!(attach(name), live)).toEqual([])
    const slot = await slotOn(data, { collection: 'theirs', label: 'x.m', shape: { kind: 'vector', dims: 2 }, fields: ['x'] })
    await settle(data, slot, await rows(data, slot))
    expect((await found(data, [], 'theirs')).map((row) => row.doc['x'])).toEqual([1, 9007199254740993n])
    expect((await other.collection('ns.theirs_view').find().toArray()).every((row) => row['_outputs'].x.m instanceof Binary)).toBe(true)
    await data.drop('theirs', live)
    expect(await coll.find({}, { promoteLongs: false } as never).toArray()).toEqual(before)
    expect([(await other.listCollections().toArray()).map((c) => c.name).filter((n) => n !== 'system.views'), (await coll.indexes()).map((i) => i.name)]).toEqual([['shop.items'], ['_id_']])
  })
  it('shows what a Value cannot hold as extended JSON, which is refused in a write', async (ctx) => {
    const { data, db } = await rigOn(mongodbUri(ctx)), of = new ObjectId('507f1f77bcf86cd799439011'), decimal = Decimal128.fromString('1.5')
    await db.collection('theirs').insertOne({ _id: 'a' as never, of, decimal, re: /x/i, id: new UUID('00000000-0000-4000-8000-000000000001') })
    await data.create(attach('theirs'), live)
    const [row] = await found(data, [], 'theirs')
    expect(row!.doc).toEqual({ of: { $oid: '507f1f77bcf86cd799439011' }, decimal: { $numberDecimal: '1.5' }, re: { $regularExpression: { pattern: 'x', options: 'i' } }, id: { $binary: { base64: 'AAAAAAAAQACAAAAAAAAAAQ==', subType: '04' } } })
    expect(await data.write('theirs', [{ kind: 'patch', key: 'a', set: { of: row!.doc['of']! }, unset: [] }], live)).toMatchObject([{ status: 'refused', reason: expect.stringMatching(/"of"/) }])
    expect(await data.count({ from: 'theirs', where: { kind: 'eq', path: { at: ['of'] }, value: '507f1f77bcf86cd799439011' } }, live)).toBe(0)
    expect((await db.collection('theirs').findOne())!['of']).toEqual(of)
  })
  it('that is no place for rows is UNSUPPORTED with the reason', async (ctx) => {
    const { data, db } = await rigOn(mongodbUri(ctx))
    await db.createCollection('capped', { capped: true, size: 4096 })
    await db.createCollection('times', { timeseries: { timeField: 't' } })
    await db.createCollection('seen', { viewOn: 'capped', pipeline: [] })
    await db.collection('couch').insertOne({ _rev: '1-abc' })
    for (const [name, reason] of [['capped', /capped/], ['times', /time-series/], ['seen', /view/], ['couch', /_rev/]] as const) expect(await codeOf(data.create(attach(name), live))).toMatch(new RegExp(`^UNSUPPORTED.*${reason.source}`))
    expect(await data.list(live)).toMatchObject([{ name: 'docs' }])
  })
  it('with a unique index refuses the row that breaks it, and no other', async (ctx) => {
    const { data, db } = await rigOn(mongodbUri(ctx))
    await db.collection('theirs').createIndex({ mail: 1 }, { unique: true })
    await db.collection('theirs').insertMany([{ _id: 'a' as never, mail: 'a' }, { _id: 'b' as never, mail: 'b' }])
    await data.create(attach('theirs'), live)
    const ops: Write[] = [{ kind: 'insert', key: 'c', doc: { mail: 'a' } }, { kind: 'insert', key: 'a', doc: { mail: 'z' } }, { kind: 'patch', key: 'b', set: { mail: 'a' }, unset: [] }, { kind: 'insert', key: 'd', doc: { mail: 'd' } }, { kind: 'put', key: 'e', doc: { mail: 'b' } }]
    const written = await data.write('theirs', ops, live)
    expect(written.map((w) => w.status)).toEqual(['refused', 'exists', 'refused', 'done', 'refused'])
    expect(written[0]!.reason).toMatch(/mail/)
  })
  it('with a collation of its own is compared by code point all the same', async (ctx) => {
    const { data, db } = await rigOn(mongodbUri(ctx))
    await db.createCollection('theirs', { collation: { locale: 'en', strength: 2 } })
    await db.collection('theirs').insertMany([{ _id: 'a' as never, t: 'x' }, { _id: 'b' as never, t: 'X' }])
    await data.create(attach('theirs'), live)
    const count = (value: string): Promise<number> => data.count({ from: 'theirs', where: { kind: 'eq', path: { at: ['t'] }, value } }, live)
    expect([await count('x'), await count('X'), await count('é')]).toEqual([1, 1, 0])
    expect((await data.write('theirs', [{ kind: 'patch', key: 'A', set: { t: 'wrong' }, unset: [] }, { kind: 'remove', key: 'B' }], live)).map((w) => w.status)).toEqual(['missing', 'missing'])
    const slot = await slotOn(data, { collection: 'theirs' })
    expect(await settle(data, slot, await rows(data, slot))).toEqual([])
  })
})

describe('a scan of what is stale', () => {
  it('reads as many keys of its index as there are such rows', async (ctx) => {
    const { data, docs } = await rigOn(mongodbUri(ctx))
    await write(data, ...Array.from({ length: 300 }, (_, i): Write => ({ kind: 'insert', key: `k${i}`, doc: { x: i } })))
    const slot = await slotOn(data)
    await settle(data, slot, await rows(data, slot))
    await write(data, { kind: 'patch', key: 'k7', set: { x: -1 }, unset: [] })
    const { executionStats } = await docs.find({ '_cur.s_a': { $exists: false } }, { sort: { _id: 1 }, hint: 'inlay_s_a', collation: { locale: 'simple' } }).explain('executionStats') as { executionStats: { totalDocsExamined: number } }
    expect(executionStats.totalDocsExamined).toBe(1)
    expect((await rows(data, slot)).map((row) => row.key)).toEqual(['k7'])
  })
  it('makes its index again where another program has dropped it', async (ctx) => {
    const { data, docs } = await rigOn(mongodbUri(ctx)), slot = await slotOn(data)
    await write(data, { kind: 'insert', key: 'a', doc: {} })
    await docs.dropIndex('inlay_s_a')
    expect((await rows(data, slot)).map((row) => row.key)).toEqual(['a'])
    expect((await docs.indexes()).map((index) => index.name)).toContain('inlay_s_a')
    await docs.drop()
    expect(await rows(data, slot)).toEqual([])
  })
})

describe('an error', () => {
  it('of the network is known in a bulk write that wraps it, by name and by label', () => {
    for (const message of ['connection 3 to 127.0.0.1:27017 closed', 'read ECONNRESET']) expect(classify(Object.assign(new Error(message), { name: 'MongoBulkWriteError', writeErrors: [] }))).toEqual({ code: 'UNAVAILABLE', retryable: true })
    expect(classify(Object.assign(new Error('x'), { name: 'MongoNetworkError' }))).toMatchObject({ code: 'UNAVAILABLE' })
    expect([18, 13, 112, 50, 11601, 26].map((code) => classify(Object.assign(new Error(), { code }))?.code)).toEqual(['CONFIG_INVALID', 'CONFIG_INVALID', 'CONFLICT', 'TIMEOUT', 'ABORTED', 'NOT_FOUND'])
  })
  it('of a query that cannot be planned does not tell the query', async (ctx) => {
    const { docs } = await rigOn(mongodbUri(ctx))
    await docs.insertOne({ x: 1 })
    const fault = await list(docs.find({ x: 'secret' }, { hint: 'nope' })).then(() => undefined, (error: unknown) => error as Error & { code: number })
    expect([fault!.message, fault!.code]).toEqual([expect.stringMatching(/^the query cannot be planned.*hint/), 2])
    expect(fault!.message).not.toMatch(/secret|Tree/)
  })
  it('of a malformed URI names what is expected', async () => {
    await expect(inlay({ data: 'mongodb://', config: false, log: {} })).rejects.toMatchObject({ code: 'CONFIG_INVALID' })
  })
})

describe('a server that is killed', () => {
  it('loses nothing that was acknowledged, and what it held half is refused, stale, or swept', async (ctx) => {
    mongodbUri(ctx)                                                          // where there is none, there is none to be killed
    const server = await startMongodb()
    ctx.onTestFinished(() => server.stop())
    const { data } = await rigOn(server.url), slots = [await slotOn(data), await slotOn(data, { id: 's_vec', shape: { kind: 'vector', dims: 2 } }), await slotOn(data, { id: 's_many', many: true })], acked = new Map<string, number>()
    const over = new AbortController()
    let n = 0
    const calm = async (work: () => Promise<unknown>): Promise<void> => { await work().catch((error: unknown) => { if ((error as { readonly code?: unknown }).code !== 'UNAVAILABLE') throw error }) }
    const writing = (async () => {
      while (!over.signal.aborted) await calm(async () => { const key = `k${n % 40}`, x = n++; if ((await write(data, { kind: 'put', key, doc: { x } }))[0]!.status === 'done') acked.set(key, x) })
    })()
    const working = Promise.all(slots.map(async (slot) => { while (!over.signal.aborted) await calm(async () => settle(data, slot, await rows(data, slot))) }))
    for (let i = 0; i < 2; i++) {
      await new Promise((resolve) => { setTimeout(resolve, 700) })
      await server.kill()
    }
    await new Promise((resolve) => { setTimeout(resolve, 500) })
    over.abort()
    await Promise.all([writing, working])
    for (const slot of slots) {
      expect(await settle(data, slot, await rows(data, slot))).toEqual([])
      await data.prune(slot, 'all', live)
      expect([await rows(data, slot), await data.tally(slot, live)]).toEqual([[], { rows: acked.size, missing: 0, stale: 0, failed: 0, orphaned: 0 }])
    }
    for (const row of await found(data, slots.map(({ id }) => id))) {
      expect(Number(row.doc['x'])).toBeGreaterThanOrEqual(acked.get(row.key)!)
      expect([row.outputs!['s_a'], [...row.outputs!['s_vec']![0] as Float32Array], row.outputs!['s_many']]).toEqual([[{ of: row.doc['x'] }], [row.doc['x'], 1], ['p', 'q']])
    }
  }, 60_000)
})

describe('a standalone server', () => {
  it('works, reports nothing, and its notes say so', async (ctx) => {
    mongodbUri(ctx)                                                          // where there is none, there is no standalone one either
    const server = await startMongodb({ replicaSet: false })
    ctx.onTestFinished(() => server.stop())
    const connection = await mongodb.connect!(server.url, { namespace: 'alone' }, live), data = connection.data!
    ctx.onTestFinished(() => connection.close())
    expect(connection.server).toMatch(/standalone/)
    expect([data.capabilities.notices, data.watch, data.capabilities.notes.filter((note) => /replica set/.test(note)).length]).toEqual(['none', undefined, 2])
    await data.create({ name: 'docs', attached: false, track: 'none' }, live)
    await data.write('docs', [{ kind: 'insert', key: 'a', doc: { x: 1 } }, { kind: 'insert', key: 'b', doc: { x: 2 } }], live)
    const slot = await slotOn(data)
    expect(await settle(data, slot, await rows(data, slot))).toEqual([])
    await data.write('docs', [{ kind: 'patch', key: 'a', set: { x: 3 }, unset: [] }, { kind: 'remove', key: 'b' }], live)
    expect([(await rows(data, slot)).map((row) => row.key), (await found(data)).map((row): Doc => row.doc)]).toEqual([['a'], [{ x: 3 }]])
    const client = await MongoClient.connect(server.url)
    expect((await client.db('alone').collection('docs').findOne())!['x']).toBe(3)
    await client.close()
  })
})

it('contents that other programs keep in documents are read, as Binary and as base64, in collections of Inlay and of others', async (ctx) => {
  const uri = mongodbUri(ctx), name = `t_${crypto.randomUUID().replaceAll('-', '').slice(0, 12)}`, client = await MongoClient.connect(uri), db = await inlay({ data: uri, namespace: name, config: false, log: {} })
  ctx.onTestFinished(async () => { await db.close(); await client.db(name).dropDatabase(); await client.close() })
  const bytes = (...ns: readonly number[]): Buffer => Buffer.from(Float64Array.from(ns).buffer), pair = arrayCodec('pair', { type: 'float64', length: 2 }), form = (content: Buffer | string): Document => ({ at: { _content: { bytes: content, codec: 'pair' } } })
  await client.db(name).collection<Document>('theirs').insertMany([{ _id: 1, doc: form(bytes(1, 2)), raw: bytes(3, 4), link: 'https://example.com/a' }, { _id: 2, doc: form(bytes(1, 2).toString('base64')), raw: null }, { _id: 3, doc: form(bytes(1)), raw: bytes(5) }] as never)
  const rows = db.collection<Readonly<Record<string, unknown>>>('pictures', { attach: `${name}.theirs`, codecs: { raw: pair, link: pair } }), ids = (await rows.find().select('link').toArray()).map((row) => row._id), row = (await rows.findOne({ _id: ids[0]! }))!
  expect([row['doc'], row['raw'], (row['link'] as UriContent).uri, await rows.findOne({ _id: ids[1]! })]).toEqual([{ at: Float64Array.of(1, 2) }, Float64Array.of(3, 4), 'https://example.com/a', expect.objectContaining({ doc: { at: Float64Array.of(1, 2) }, raw: null })])
  await expect(rows.findOne({ _id: ids[2]! })).rejects.toMatchObject({ code: 'CORRUPT', details: { codec: 'pair' } })
  expect((await rows.update({ _id: ids[0]! }, { $set: { raw: Float64Array.of(7, 8), link: 'https://example.com/b' } })).refused).toEqual([])
  const seen = (await client.db(name).collection<Document>('theirs').findOne({ _id: 1 } as never))!
  expect([(seen['raw'] as Binary).sub_type, Buffer.from((seen['raw'] as Binary).value()), seen['link'], Buffer.from((seen['doc'] as { at: { _content: { bytes: Binary } } }).at._content.bytes.value())]).toEqual([0, bytes(7, 8), 'https://example.com/b', bytes(1, 2)])
  const own = db.collection<Readonly<Record<string, unknown>>>('own', { codecs: { raw: pair } })
  await own.insert({ _id: 'a', at: 1 })
  await client.db(name).collection<Document>('own').updateOne({ _id: 'a' } as never, { $set: { doc: form(bytes(5, 6)), text: form(bytes(5, 6).toString('base64')), raw: bytes(7, 7) } })
  expect(await own.findOne({ _id: 'a' })).toMatchObject({ doc: { at: Float64Array.of(5, 6) }, text: { at: Float64Array.of(5, 6) }, raw: Float64Array.of(7, 7) })
})
