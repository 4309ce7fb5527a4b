/** Writes: every kind of operation against every state of its row. */
import { expect } from 'vitest'
import type { Write } from '../../core/contract.ts'
import { givenRevs, limited, ownRevs, rule, type Rule } from './rule.ts'
import { all, many } from './subject.ts'

export const rows: readonly Rule[] = [
  rule('rows.insert.new', 'an insert of a new key is done and gives the rev that a read gives', async (s) => {
    const name = await s.collection(), [written] = await s.write(name, { kind: 'insert', key: 'a', doc: { x: 1 } })
    expect(written).toMatchObject({ status: 'done', key: 'a' })
    expect(written!.rev).toMatch(/\S/)
    expect(await s.row(name, 'a')).toMatchObject({ key: 'a', rev: written!.rev, doc: { x: 1 } })
  }),
  rule('rows.insert.taken', 'an insert of a taken key answers "exists" and changes nothing', async (s) => {
    const name = await s.collection({ a: { x: 1 } }), before = await s.row(name, 'a')
    expect(await s.write(name, { kind: 'insert', key: 'a', doc: { x: 2 } })).toMatchObject([{ status: 'exists', key: 'a' }])
    expect(await s.row(name, 'a')).toEqual(before)
  }),
  rule('rows.insert.no-key', 'inserts without a key get different keys, by which the rows are read', async (s) => {
    const name = await s.collection(), written = await s.write(name, ...Array.from({ length: 20 }, (_, i): Write => ({ kind: 'insert', doc: { i } })))
    expect(written.every((w) => w.status === 'done')).toBe(true)
    expect(new Set(written.map((w) => w.key)).size).toBe(20)
    for (const [i, { key, rev }] of written.entries()) expect(await s.row(name, key)).toMatchObject({ key, rev, doc: { i } })
  }),
  rule('rows.insert.empty', 'a document may be empty', async (s) => {
    expect((await s.row(await s.collection({ a: {} }), 'a'))?.doc).toEqual({})
  }),

  rule('rows.put.new', 'a put without rev inserts', async (s) => {
    const name = await s.collection(), [written] = await s.write(name, { kind: 'put', key: 'a', doc: { x: 1 } })
    expect(await s.row(name, 'a')).toMatchObject({ rev: written!.rev, doc: { x: 1 } })
  }),
  rule('rows.put.replaces', 'a put replaces the whole document', async (s) => {
    const name = await s.collection({ a: { x: 1, y: { z: 1 } } }), [written] = await s.write(name, { kind: 'put', key: 'a', doc: { y: { w: 2 } } })
    expect(written).toMatchObject({ status: 'done', key: 'a' })
    const row = await s.row(name, 'a')
    expect([row?.doc, row?.rev]).toEqual([{ y: { w: 2 } }, written!.rev])
  }),
  rule('rows.put.right-rev', 'a put with the current rev is done', async (s) => {
    const name = await s.collection(), { a } = await s.insert(name, { a: { x: 1 } })
    expect(await s.write(name, { kind: 'put', key: 'a', doc: { x: 2 }, rev: a! })).toMatchObject([{ status: 'done', key: 'a' }])
    expect((await s.row(name, 'a'))?.doc).toEqual({ x: 2 })
  }),
  rule('rows.put.wrong-rev', 'a put with an older rev answers "moved" and changes nothing', async (s) => {
    const name = await s.collection(), { a } = await s.insert(name, { a: { x: 1 } })
    await s.patch(name, 'a', { x: 2 })
    const before = await s.row(name, 'a')
    expect(await s.write(name, { kind: 'put', key: 'a', doc: { x: 3 }, rev: a! })).toMatchObject([{ status: 'moved', key: 'a' }])
    expect(await s.row(name, 'a')).toEqual(before)
  }),
  rule('rows.put.rev-of-none', 'a put with a rev answers "missing" where there is no row, and inserts none', async (s) => {
    const name = await s.collection(), { a } = await s.insert(name, { a: {} })
    await s.remove(name, 'a')
    expect(await s.write(name, { kind: 'put', key: 'a', doc: { x: 1 }, rev: a! })).toMatchObject([{ status: 'missing', key: 'a' }])
    expect(await s.keys(name)).toEqual([])
  }),
  rule('rows.put.rev-of-another', 'the rev of one row is of no use on another', async (s) => {
    const name = await s.collection(), { a } = await s.insert(name, { a: { x: 1 }, b: { x: 1 } })
    expect(await s.write(name, { kind: 'put', key: 'b', doc: {}, rev: a! })).toMatchObject([{ status: 'moved' }])
    expect(await s.write(name, { kind: 'put', key: 'b', doc: {}, rev: 'no rev at all' })).toMatchObject([{ status: 'moved' }])
  }),

  rule('rows.patch.keeps', 'a patch keeps the fields that it does not name', async (s) => {
    const name = await s.collection({ a: { x: 1, y: [1], z: { k: 1n } } })
    const rev = await s.patch(name, 'a', { x: 2 })
    const row = await s.row(name, 'a')
    expect(row?.rev).toBe(rev)
    s.expectSame(row?.doc, { x: 2, y: [1], z: { k: 1n } })
  }),
  rule('rows.patch.whole-fields', 'a patch replaces whole top-level fields and merges nothing', async (s) => {
    const name = await s.collection({ a: { x: { a: 1, b: { c: 1 } }, list: [{ a: 1 }, 2] } })
    await s.patch(name, 'a', { x: { b: { d: 2 } }, list: [{ b: 2 }] })
    expect((await s.row(name, 'a'))?.doc).toEqual({ x: { b: { d: 2 } }, list: [{ b: 2 }] })
  }),
  rule('rows.patch.nulls', 'a patch sets null as a value', async (s) => {
    const name = await s.collection({ a: { x: 1, y: { z: 1 } } })
    await s.patch(name, 'a', { x: null, y: { z: null }, n: null })
    expect((await s.row(name, 'a'))?.doc).toEqual({ x: null, y: { z: null }, n: null })
  }),
  rule('rows.patch.unset', 'a patch removes the fields it unsets, and unsetting what is not there is no error', async (s) => {
    const name = await s.collection({ a: { x: 1, y: { x: 1 }, z: null } })
    await s.patch(name, 'a', { n: 1 }, ['x', 'z', 'none'])
    expect((await s.row(name, 'a'))?.doc).toEqual({ y: { x: 1 }, n: 1 })
    await s.patch(name, 'a', {}, ['y', 'n'])
    expect((await s.row(name, 'a'))?.doc).toEqual({})
  }),
  rule('rows.patch.same-field', 'each patch of a batch reaches its own row', async (s) => {
    const name = await s.collection({ a: { x: 1 }, b: { x: 1 }, c: { x: 1, y: 1 } })
    await s.write(name, { kind: 'patch', key: 'c', set: {}, unset: ['y'] }, { kind: 'patch', key: 'a', set: { x: 2, p: 1 }, unset: [] }, { kind: 'patch', key: 'b', set: { q: 1 }, unset: ['x'] })
    expect((await s.find(name)).map((row) => row.doc)).toEqual([{ x: 2, p: 1 }, { q: 1 }, { x: 1 }])
  }),
  rule('rows.patch.missing', 'a patch of no row answers "missing" and inserts none, with and without rev', async (s) => {
    const name = await s.collection()
    expect(await s.write(name, { kind: 'patch', key: 'a', set: { x: 1 }, unset: [] }, { kind: 'patch', key: 'b', set: { x: 1 }, unset: [], rev: 'x' })).toMatchObject([{ status: 'missing', key: 'a' }, { status: 'missing', key: 'b' }])
    expect(await s.keys(name)).toEqual([])
  }),
  rule('rows.patch.right-rev', 'a patch with the current rev is done', async (s) => {
    const name = await s.collection(), { a } = await s.insert(name, { a: { x: 1 } })
    expect(await s.write(name, { kind: 'patch', key: 'a', set: { y: 1 }, unset: [], rev: a! })).toMatchObject([{ status: 'done' }])
    expect((await s.row(name, 'a'))?.doc).toEqual({ x: 1, y: 1 })
  }),
  rule('rows.patch.wrong-rev', 'a patch with an older rev answers "moved" and changes nothing', async (s) => {
    const name = await s.collection(), { a } = await s.insert(name, { a: { x: 1 } })
    await s.patch(name, 'a', { x: 2 })
    expect(await s.write(name, { kind: 'patch', key: 'a', set: { x: 3 }, unset: [], rev: a! })).toMatchObject([{ status: 'moved', key: 'a' }])
    expect((await s.row(name, 'a'))?.doc).toEqual({ x: 2 })
  }),

  rule('rows.remove.present', 'a removed row is gone', async (s) => {
    const name = await s.collection({ a: {}, b: {} })
    const [written] = await s.write(name, { kind: 'remove', key: 'a' })
    expect(written).toMatchObject({ status: 'done', key: 'a' })
    expect(await s.keys(name)).toEqual(['b'])
  }),
  rule('rows.remove.missing', 'removing no row answers "missing", with and without rev', async (s) => {
    const name = await s.collection()
    expect(await s.write(name, { kind: 'remove', key: 'a' }, { kind: 'remove', key: 'b', rev: 'x' })).toMatchObject([{ status: 'missing', key: 'a' }, { status: 'missing', key: 'b' }])
  }),
  rule('rows.remove.right-rev', 'a remove with the current rev is done', async (s) => {
    const name = await s.collection(), { a } = await s.insert(name, { a: {} })
    expect(await s.write(name, { kind: 'remove', key: 'a', rev: a! })).toMatchObject([{ status: 'done' }])
    expect(await s.keys(name)).toEqual([])
  }),
  rule('rows.remove.wrong-rev', 'a remove with an older rev answers "moved" and keeps the row', async (s) => {
    const name = await s.collection(), { a } = await s.insert(name, { a: { x: 1 } })
    await s.patch(name, 'a', { x: 2 })
    expect(await s.write(name, { kind: 'remove', key: 'a', rev: a! })).toMatchObject([{ status: 'moved', key: 'a' }])
    expect((await s.row(name, 'a'))?.doc).toEqual({ x: 2 })
  }),

  rule('rows.rev.every-write', 'every done write gives a new rev, also with equal content', async (s) => {
    const name = await s.collection(), revs = new Set<string>(Object.values(await s.insert(name, { a: { x: 1 } })))
    const ops: readonly Write[] = [{ kind: 'put', key: 'a', doc: { x: 1 } }, { kind: 'patch', key: 'a', set: { x: 1 }, unset: [] }, { kind: 'patch', key: 'a', set: {}, unset: [] }, { kind: 'patch', key: 'a', set: {}, unset: ['none'] }, { kind: 'put', key: 'a', doc: { x: 1 } }]
    for (const op of ops) {
      const [written] = await s.write(name, op)
      revs.add(written!.rev!)
      expect((await s.row(name, 'a'))?.rev).toBe(written!.rev)
    }
    expect(revs.size).toBe(ops.length + 1)
  }),
  rule('rows.rev.equal-content-cas', 'of two equal compare-and-sets with one rev only the first is done', async (s) => {
    const name = await s.collection(), { a } = await s.insert(name, { a: { x: 1 } })
    const put: Write = { kind: 'put', key: 'a', doc: { x: 1 }, rev: a! }
    expect(await s.write(name, put)).toMatchObject([{ status: 'done' }])
    expect(await s.write(name, put)).toMatchObject([{ status: 'moved' }])
  }),
  rule('rows.rev.not-reused', 'a row removed and inserted again with the same content has a rev that it never had', async (s) => {
    const name = await s.collection(), revs = new Set<string>()
    for (let i = 0; i < 10; i++) {
      const { a } = await s.insert(name, { a: { x: 1 } })
      revs.add(a!)
      if (i % 2 === 1) revs.add(await s.patch(name, 'a', { x: 1 }))
      await s.remove(name, 'a')
    }
    expect(revs.size).toBe(15)
  }),
  rule('rows.rev.old-one-after-reinsert', 'a compare-and-set with the rev of a removed row does not reach the new one', async (s) => {
    const name = await s.collection(), { a } = await s.insert(name, { a: { x: 1 } })
    await s.remove(name, 'a')
    await s.insert(name, { a: { x: 1 } })
    for (const op of [{ kind: 'put', key: 'a', doc: {}, rev: a! }, { kind: 'patch', key: 'a', set: { x: 2 }, unset: [], rev: a! }, { kind: 'remove', key: 'a', rev: a! }] satisfies Write[]) expect(await s.write(name, op)).toMatchObject([{ status: 'moved' }])
    expect((await s.row(name, 'a'))?.doc).toEqual({ x: 1 })
  }),
  rule('rows.rev.unwritten-stays', 'a write to one row leaves the revs of the others', async (s) => {
    const name = await s.collection(), { b } = await s.insert(name, { a: { x: 1 }, b: { x: 1 } })
    await s.patch(name, 'a', { x: 2 })
    await s.write(name, { kind: 'insert', key: 'b', doc: { x: 5 } })
    expect((await s.row(name, 'b'))?.rev).toBe(b)
  }),
  rule('rows.rev.given', 'a done insert, put and patch gives its row the rev that the operation names, and no other row', async (s) => {
    const name = await s.collection({ b: { x: 1 } }), b = (await s.row(name, 'b'))!.rev
    const as = Array.from({ length: 4 }, () => crypto.randomUUID())
    const put = (await s.write(name, { kind: 'insert', key: 'a', doc: { x: 1 }, as: as[0]! }))[0]!
    expect([put.rev, (await s.row(name, 'a'))?.rev]).toEqual([as[0], as[0]])
    for (const op of [{ kind: 'put', key: 'a', doc: { x: 2 }, as: as[1]! }, { kind: 'patch', key: 'a', set: { x: 3 }, unset: [], as: as[2]! }, { kind: 'put', key: 'a', doc: { x: 4 }, rev: as[2]!, as: as[3]! }] satisfies Write[]) {
      expect(await s.write(name, op)).toEqual([{ status: 'done', key: 'a', rev: op.as }])
      expect((await s.row(name, 'a'))?.rev).toBe(op.as)
    }
    expect(await s.write(name, { kind: 'insert', key: 'b', doc: { x: 2 }, as: crypto.randomUUID() }, { kind: 'put', key: 'a', doc: {}, rev: as[0]!, as: crypto.randomUUID() })).toMatchObject([{ status: 'exists' }, { status: 'moved' }])
    expect([(await s.row(name, 'a'))?.rev, (await s.row(name, 'b'))?.rev]).toEqual([as[3], b])
  }, givenRevs),
  rule('rows.rev.own', 'a rev that an operation names does no harm where the database makes its own', async (s) => {
    const name = await s.collection(), [written] = await s.write(name, { kind: 'insert', key: 'a', doc: { x: 1 }, as: crypto.randomUUID() })
    expect((await s.row(name, 'a'))?.rev).toBe(written!.rev)
  }, ownRevs),

  rule('rows.batch.mixed', 'a batch of every kind and outcome answers each operation in order', async (s) => {
    const name = await s.collection()
    const { b, c, d, e, f } = await s.insert(name, { b: { x: 1 }, c: { x: 1 }, d: { x: 1 }, e: { x: 1 }, f: { x: 1 }, g: { x: 1 } })
    await s.patch(name, 'f', { x: 2 })
    const ops: readonly (readonly [Write, string])[] = [
      [{ kind: 'remove', key: 'b', rev: b! }, 'done'], [{ kind: 'insert', key: 'c', doc: { x: 9 } }, 'exists'], [{ kind: 'patch', key: 'f', set: { x: 9 }, unset: [], rev: f! }, 'moved'], [{ kind: 'insert', key: 'a', doc: { x: 3 } }, 'done'],
      [{ kind: 'put', key: 'd', doc: { y: 3 }, rev: d! }, 'done'], [{ kind: 'patch', key: 'none', set: {}, unset: [] }, 'missing'], [{ kind: 'put', key: 'new', doc: { x: 4 } }, 'done'], [{ kind: 'patch', key: 'e', set: { z: 1 }, unset: ['x'], rev: e! }, 'done'],
      [{ kind: 'remove', key: 'nobody' }, 'missing'], [{ kind: 'put', key: 'gone', doc: {}, rev: c! }, 'missing'], [{ kind: 'remove', key: 'g', rev: c! }, 'moved'],
    ]
    const written = await s.write(name, ...ops.map(([op]) => op))
    expect(written.map((w) => [w.key, w.status])).toEqual(ops.map(([op, status]) => [op.key, status]))
    const found = await s.find(name)
    expect(found.map((row) => [row.key, row.doc])).toEqual([['a', { x: 3 }], ['c', { x: 1 }], ['d', { y: 3 }], ['e', { z: 1 }], ['f', { x: 2 }], ['g', { x: 1 }], ['new', { x: 4 }]])
    for (const [i, { key, status, rev }] of written.entries()) if (status === 'done' && ops[i]![0].kind !== 'remove') expect((await s.row(name, key))?.rev).toBe(rev)
  }),
  rule('rows.batch.bad-one', 'an operation that cannot be done leaves the others done', async (s) => {
    const name = await s.collection({ taken: { x: 1 } })
    const written = await s.write(name, { kind: 'insert', key: 'a', doc: {} }, { kind: 'insert', key: 'taken', doc: {} }, { kind: 'insert', key: 'b', doc: {} })
    expect(written.map((w) => w.status)).toEqual(['done', 'exists', 'done'])
    expect(await s.keys(name)).toEqual(['a', 'b', 'taken'])
  }),
  rule('rows.batch.empty', 'a write of nothing answers nothing', async (s) => {
    expect(await s.data.write(await s.collection(), [], s.ctx)).toEqual([])
  }),
  rule('rows.batch.too-large', 'a document above the limit is refused with a reason, and the others are written', async (s) => {
    const name = await s.collection(), big = 'x'.repeat(s.capabilities.limits.docBytes! + 1)
    const written = await s.write(name, { kind: 'insert', key: 'a', doc: {} }, { kind: 'insert', key: 'big', doc: { big } }, { kind: 'insert', key: 'b', doc: {} })
    expect(written.map((w) => w.status)).toEqual(['done', 'refused', 'done'])
    expect(written[1]!.reason).toMatch(/\S/)
    expect(await s.keys(name)).toEqual(['a', 'b'])
  }, limited('docBytes')),
  rule('rows.batch.thousand', 'a thousand operations in one write are all done, in order', async (s) => {
    const name = await s.collection(), revs = await s.insert(name, many(1000, (i) => ({ i, text: 'x'.repeat(i % 50) })))
    expect(new Set(Object.values(revs)).size).toBe(1000)
    const written = await s.write(name, ...Object.keys(revs).map((key, i): Write => (i % 3 === 0 ? { kind: 'remove', key, rev: revs[key]! } : i % 3 === 1 ? { kind: 'patch', key, set: { j: i }, unset: [], rev: revs[key]! } : { kind: 'put', key, doc: { k: i }, rev: revs[key]! })))
    expect(written.filter((w) => w.status !== 'done')).toEqual([])
    const found = await s.find(name)
    expect(found.map((row) => row.key)).toEqual(Object.keys(revs).filter((_, i) => i % 3 !== 0))
    for (const row of found) { const i = Number(row.key.slice(1)); expect(row.doc).toEqual(i % 3 === 1 ? { i, text: 'x'.repeat(i % 50), j: i } : { k: i }) }
    expect(await s.data.count({ from: name }, s.ctx)).toBe(found.length)
  }),

  rule('rows.outputs.kept', 'put and patch keep the outputs of a row', async (s) => {
    const name = await s.collection({ a: { x: 1 }, b: { x: 1 } }), slot = await s.slot(name)
    await s.give(slot, { a: ['A'], b: ['B'] })
    await s.write(name, { kind: 'put', key: 'a', doc: { x: 2 } }, { kind: 'patch', key: 'b', set: { x: 2 }, unset: [] })
    expect([await s.output(slot, 'a'), await s.output(slot, 'b')]).toEqual([['A'], ['B']])
    expect((await s.at(slot, 'a')).mark).toBeDefined()
  }),
  rule('rows.outputs.removed', 'a remove takes the outputs of the row, and of no other', async (s) => {
    const name = await s.collection({ a: {}, ab: {}, b: {} }), one = await s.slot(name), two = await s.slot(name, { many: true })
    for (const slot of [one, two]) await s.give(slot, { a: [1], ab: [2], b: [3] })
    await s.remove(name, 'a')
    await s.insert(name, { a: {} })
    for (const slot of [one, two]) expect([await s.output(slot, 'a'), await s.output(slot, 'ab'), await s.output(slot, 'b')]).toEqual([undefined, [2], [3]])
  }),

  rule('rows.api.changed', 'the API says which rows an update, a replacement and a delete changed', async (s) => {
    const docs = (await s.inlay()).collection<{ x?: number; y?: number }>(s.name())
    await docs.insert([{ _id: 'a', x: 1 }, { _id: 'b', x: 2 }, { _id: 'c', x: 2 }])
    expect((await docs.insert([{ _id: 'a' }, { _id: 'd' }, { _id: 'd' }])).refused).toMatchObject([{ index: 0, id: 'a', code: 'ALREADY_EXISTS' }, { index: 2, id: 'd', code: 'ALREADY_EXISTS' }])
    expect([...(await docs.update({ x: 2 }, { $set: { y: 1 } })).ids].sort()).toEqual(['b', 'c'])
    expect((await docs.update({ x: 2 }, { $set: { y: 1 } })).ids).toEqual([])
    expect((await docs.update({ x: 2 }, { $inc: { y: 1 }, $unset: { x: true } })).ids.length).toBe(2)
    expect((await docs.replace('none', {})).refused).toMatchObject([{ id: 'none', code: 'NOT_FOUND' }])
    expect((await docs.replace('a', { y: 5 })).ids).toEqual(['a'])
    expect(await docs.find().sort({ _id: 1 }).select('x', 'y').toArray()).toMatchObject([{ _id: 'a', y: 5 }, { _id: 'b', y: 2 }, { _id: 'c', y: 2 }, { _id: 'd' }])
    expect((await docs.findOne({ _id: 'b' }))).not.toHaveProperty('x')
    expect([...(await docs.delete({ y: 2 })).ids].sort()).toEqual(['b', 'c'])
    await expect(docs.delete({})).rejects.toThrow(/all: true/)
    expect((await docs.delete({}, { all: true })).ids.length).toBe(2)
    expect(await docs.find().count()).toBe(0)
  }),
  rule('rows.api.stream', 'the API inserts a stream of 1,200 documents and reads them back', async (s) => {
    const docs = (await s.inlay()).collection<{ i: number }>(s.name())
    const { ids } = await docs.insert((async function* () { for (let i = 0; i < 1200; i++) yield { i } })())
    expect(new Set(ids).size).toBe(1200)
    const seen = new Set<number>()
    for await (const { i } of docs.find()) seen.add(i)
    expect(seen.size).toBe(1200)
  }),
  rule('rows.find.nothing', 'a collection without rows is read as nothing', async (s) => {
    const name = await s.collection()
    expect([await s.find(name), await s.data.count({ from: name }, s.ctx), await all(s.data.find({ from: name, limit: 5, skip: 2 }, s.ctx))]).toEqual([[], 0, []])
  }),
]
