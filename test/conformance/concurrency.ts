/** Races. Where the database takes many writers, from two connections. */
import { setImmediate } from 'node:timers/promises'
import { expect } from 'vitest'
import type { Datalayer, Doc, Key, Slot, Write, Written } from '../../core/contract.ts'
import { hashOf, sha256 } from '../../core/encoding.ts'
import { reconcile } from '../../core/reconcile.ts'
import { random } from './random.ts'
import { rule, type Rule } from './rule.ts'
import { all, keyOf, many, outcome, type Subject } from './subject.ts'

/** Two ways to the same rows. */
const both = async (s: Subject): Promise<readonly Datalayer[]> => (s.capabilities.writers === 'many' ? [s.data, (await s.once('second', () => s.another())).data] : [s.data, s.data])
/** Opens a slot on both. */
async function opened(s: Subject, slot: Slot): Promise<readonly [Datalayer, Datalayer]> {
  const [one, two] = await both(s)
  await two!.openSlot(slot, s.ctx)
  return [one!, two!]
}
const times = <T>(n: number, make: (i: number) => T): T[] => Array.from({ length: n }, (_, i) => make(i))
const statuses = (written: readonly (readonly Written[])[]): Record<string, number> => {
  const counted: Record<string, number> = {}
  for (const { status } of written.flat()) counted[status] = (counted[status] ?? 0) + 1
  return counted
}
/** Writers that put or patch the same 40 rows at once, each in an order of its own. */
async function collide(s: Subject, writers: number, puts: (i: number, writer: number) => boolean): Promise<void> {
  const name = await s.collection(many(40, () => ({}))), ways = await both(s), r = random(s.settings.seed)
  const shuffled = (): Key[] => times(40, (i) => ({ key: keyOf(i), at: r.next() })).sort((a, b) => a.at - b.at).map(({ key }) => key)
  const written = await Promise.all(times(writers, (w) => ways[w % 2]!.write(name, shuffled().map((key, i): Write => (puts(i, w) ? { kind: 'put', key, doc: { w } } : { kind: 'patch', key, set: { w }, unset: [] })), s.ctx)))
  expect(statuses(written)).toEqual({ done: 40 * writers })
  const revs = new Set(written.flat().map((w) => w.rev))
  expect(revs.size).toBe(40 * writers)
  for (const row of await s.find(name)) expect(revs.has(row.rev)).toBe(true)
}

export const concurrency: readonly Rule[] = [
  rule('concurrency.cas.one-winner', 'of 16 compare-and-sets with one rev exactly one is done', async (s) => {
    const name = await s.collection(), ways = await both(s)
    for (let round = 0; round < 4; round++) {
      const key = keyOf(round), rev = (await s.insert(name, { [key]: { n: -1 } }))[key]!
      const ops = times(16, (i): Write => (i % 4 === 3 ? { kind: 'patch', key, set: { n: i }, unset: [], rev } : { kind: 'put', key, doc: { n: i }, rev }))
      const written = await Promise.all(ops.map((op, i) => ways[i % 2]!.write(name, [op], s.ctx)))
      expect(statuses(written)).toEqual({ done: 1, moved: 15 })
      const winner = written.findIndex(([w]) => w!.status === 'done')
      expect(await s.row(name, key)).toMatchObject({ rev: written[winner]![0]!.rev, doc: { n: winner } })
    }
  }),
  rule('concurrency.insert.one-winner', 'of 16 inserts of one key exactly one is done', async (s) => {
    const name = await s.collection(), ways = await both(s)
    for (let round = 0; round < 4; round++) {
      const key = keyOf(round), written = await Promise.all(times(16, (n) => ways[n % 2]!.write(name, [{ kind: 'insert', key, doc: { n } }], s.ctx)))
      expect(statuses(written)).toEqual({ done: 1, exists: 15 })
      expect((await s.row(name, key))?.doc).toEqual({ n: written.findIndex(([w]) => w!.status === 'done') })
    }
  }),
  rule('concurrency.remove.one-winner', 'of 16 removes of one row exactly one is done', async (s) => {
    const name = await s.collection({ a: {} }), ways = await both(s)
    expect(statuses(await Promise.all(times(16, (n) => ways[n % 2]!.write(name, [{ kind: 'remove', key: 'a' }], s.ctx))))).toEqual({ done: 1, missing: 15 })
  }),
  rule('concurrency.cas.counter', 'eight workers that count by compare-and-set lose no step', async (s) => {
    const name = await s.collection({ n: { count: 0 } }), ways = await both(s)
    await Promise.all(times(8, async (w) => {
      for (let done = 0, tries = 0; done < 8; tries++) {
        expect(tries).toBeLessThan(2000)
        const [row] = await all(ways[w % 2]!.find({ from: name }, s.ctx))
        const [written] = await ways[w % 2]!.write(name, [{ kind: 'put', key: 'n', doc: { count: Number(row!.doc['count']) + 1 }, rev: row!.rev }], s.ctx)
        if (written!.status === 'done') done++
      }
    }))
    expect((await s.row(name, 'n'))?.doc).toEqual({ count: 64 })
  }),
  rule('concurrency.write.distinct-keys', 'eight writers on different keys lose nothing', async (s) => {
    const name = await s.collection(), ways = await both(s)
    await Promise.all(times(8, async (w) => { for (let i = 0; i < 5; i++) expect(statuses([await ways[w % 2]!.write(name, times(10, (j): Write => ({ kind: 'insert', key: `w${w}-${i}-${j}`, doc: { w, i, j } })), s.ctx)])).toEqual({ done: 10 }) }))
    expect((await s.find(name)).length).toBe(400)
  }),
  rule('concurrency.write.patches', 'patches of different fields of one row at once all stay', async (s) => {
    const name = await s.collection({ a: {} }), ways = await both(s)
    expect(statuses(await Promise.all(times(16, (i) => ways[i % 2]!.write(name, [{ kind: 'patch', key: 'a', set: { [`f${i}`]: i }, unset: [] }], s.ctx))))).toEqual({ done: 16 })
    expect((await s.row(name, 'a'))?.doc).toEqual(Object.fromEntries(times(16, (i) => [`f${i}`, i])))
  }),
  rule('concurrency.write.opposite-orders', 'batches that write the same rows in different orders all succeed', async (s) => {
    await collide(s, 8, (_, w) => w % 2 === 0)
  }),
  rule('concurrency.write.mixed-kinds', 'batches that write the same rows by different kinds of operations all succeed', async (s) => {
    await collide(s, 4, (i) => i % 2 === 0)
  }),
  rule('concurrency.settle.remove', 'a delete that races a settle leaves no orphan', async (s) => {
    const name = await s.collection(), slot = await s.slot(name), chunks = await s.slot(name, { many: true }), [one, two] = await opened(s, slot)
    await two.openSlot(chunks, s.ctx)
    for (let round = 0; round < 12; round++) {
      await s.insert(name, many(20, (i) => ({ i })))
      const rows = await s.rows(slot), settle = (of: Slot): Promise<readonly Key[]> => one.settle(of, rows.map((row) => outcome(row, [1])), s.ctx), remove = two.write(name, rows.map((row): Write => ({ kind: 'remove', key: row.key })), s.ctx)
      const [refused, , written] = await Promise.all([settle(slot), settle(chunks), remove])
      expect(statuses([written])).toEqual({ done: 20 })
      expect(refused.every((key) => rows.some((row) => row.key === key))).toBe(true)
      expect([await s.data.tally(slot, s.ctx), await s.data.tally(chunks, s.ctx), await s.keys(chunks.id)]).toEqual([{ rows: 0, missing: 0, stale: 0, failed: 0, orphaned: 0 }, { rows: 0, missing: 0, stale: 0, failed: 0, orphaned: 0 }, []])
      await s.insert(name, { [keyOf(0)]: { i: 0 } })
      expect([await s.output(slot, keyOf(0)), await s.output(chunks, keyOf(0))]).toEqual([undefined, undefined])
      await s.remove(name, keyOf(0))
    }
  }),
  rule('concurrency.settle.update', 'an update that races a settle leaves the row stale, and a refused result is not stored', async (s) => {
    const name = await s.collection(many(20, (i) => ({ i }))), slot = await s.slot(name), [one, two] = await opened(s, slot)
    for (let round = 0; round < 10; round++) {
      const rows = await s.rows(slot, 'all'), stored = new Map((await s.find(name, { slots: [slot.id] })).map((row) => [row.key, row.outputs?.[slot.id]?.[0]]))
      const [refused] = await Promise.all([one.settle(slot, rows.map((row) => outcome(row, [`round ${round}`])), s.ctx), two.write(name, rows.map((row): Write => ({ kind: 'patch', key: row.key, set: { round }, unset: [] })), s.ctx)])
      expect((await s.offered(slot)).length).toBe(20)
      for (const row of await s.find(name, { slots: [slot.id] })) expect(row.outputs?.[slot.id]?.[0]).toBe(refused.includes(row.key) ? stored.get(row.key) : `round ${round}`)
    }
  }),
  rule('concurrency.settle.settle', 'of results of one row that race, one that was accepted is stored', async (s) => {
    const name = await s.collection({ a: {} }), slot = await s.slot(name), chunks = await s.slot(name, { many: true }), ways = await opened(s, slot)
    await ways[1].openSlot(chunks, s.ctx)
    for (let round = 0; round < 6; round++) {
      await s.patch(name, 'a', { round })
      const row = await s.at(slot, 'a'), refused = await Promise.all(times(8, (i) => ways[i % 2]!.settle(slot, [outcome(row, [i], `h${i}`)], s.ctx)))
      const [value] = (await s.output(slot, 'a'))!, accepted = refused.flatMap((keys, i) => (keys.length === 0 ? [i] : []))
      expect(accepted).toContain(value)
      expect((await s.at(slot, 'a')).mark).toEqual({ rev: row.rev, hash: `h${String(value)}` })
      await Promise.all(times(8, (i) => ways[i % 2]!.settle(chunks, [outcome(row, times(i + 1, () => i), `h${i}`)], s.ctx)))
      const list = (await s.output(chunks, 'a'))!
      expect(list).toEqual(times(Number(list[0]) + 1, () => list[0]))
      expect((await s.find(chunks.id)).length).toBe(list.length)
    }
  }),
  rule('concurrency.settle.chain', 'a result that races a new result of its upstream is not taken for current', async (s) => {
    const name = await s.collection(many(10, () => ({ x: 1 }))), A = await s.slot(name), B = await s.slot(name, { upstream: [A.id] }), [one, two] = await opened(s, A)
    await two.openSlot(B, s.ctx)
    await s.give(A, Object.fromEntries(times(10, (i) => [keyOf(i), [0]])))
    for (let round = 1; round < 8; round++) {
      const above = await s.rows(A, 'all'), rows = await s.rows(B, 'all')
      await Promise.all([one.settle(B, rows.map((row) => outcome(row, [row.outputs![A.id]![0]!])), s.ctx), two.settle(A, above.map((row) => outcome(row, [round], hashOf([row.key, round]))), s.ctx)])
      expect((await s.offered(B)).length).toBe(10)
    }
  }),
  rule('concurrency.prune.settle', 'prune that races settles and writes removes no output of a selected row', async (s) => {
    const name = await s.collection(many(30, (i) => ({ i }))), slot = await s.slot(name), [one, two] = await opened(s, slot)
    for (let round = 0; round < 6; round++) {
      for (let i = 0; i < 30; i++) if (i % 3 === round % 3) await s.patch(name, keyOf(i), { round })
      const rows = await s.rows(slot)
      const [pruned, refused] = await Promise.all([two.prune(slot, 'all', s.ctx), one.settle(slot, rows.map((row) => outcome(row, [round])), s.ctx)])
      expect([pruned, refused]).toEqual([0, []])
      expect((await s.find(name, { slots: [slot.id] })).filter((row) => row.outputs?.[slot.id] === undefined)).toEqual([])
    }
  }),
  rule('concurrency.all.converges', 'writers, reconcilers and prunes at once end, after one more run, in the outputs of the last documents', async (s) => {
    const name = await s.collection(many(30, (i) => ({ x: i }))), slot = await s.slot(name, { fields: ['x'] }), ways = await opened(s, slot), r = random(s.settings.seed + 9)
    const work = { slot, select: async (rows: readonly unknown[]) => rows.map(() => true), hash: (row: { readonly doc: Doc }) => hashOf(row.doc), predict: async (rows: readonly { readonly doc: Doc }[]) => rows.map((row) => [Number(row.doc['x']) * 10]) }
    const writer = async (data: Datalayer): Promise<void> => {
      for (let i = 0; i < 25; i++) {
        const key = keyOf(r.below(30)), p = r.next()
        await data.write(name, [p < 0.5 ? { kind: 'patch', key, set: { x: r.below(1000) }, unset: [] } : p < 0.7 ? { kind: 'remove', key } : { kind: 'put', key, doc: { x: r.below(1000), n: i } }], s.ctx)
      }
    }
    await Promise.all([writer(ways[0]), writer(ways[1]), ...ways.map(async (data) => { for (let i = 0; i < 4; i++) { await reconcile(data, work, s.ctx, { chunk: 7 }); await data.prune(slot, 'all', s.ctx) } })])
    await reconcile(s.data, work, s.ctx)
    const rows = await s.find(name, { slots: [slot.id] })
    for (const row of rows) expect(row.outputs?.[slot.id]).toEqual([Number(row.doc['x']) * 10])
    expect(await s.data.tally(slot, s.ctx)).toEqual({ rows: rows.length, missing: 0, stale: 0, failed: 0, orphaned: 0 })
  }),
  rule('concurrency.create.both', 'a collection and a slot made on two ways at once are one', async (s) => {
    const ways = await both(s)
    for (let round = 0; round < 6; round++) {
      const name = s.name('made'), slot: Slot = { id: `s_made_${s.namespace.slice(-8)}_${round}`, collection: name, upstream: [], shape: { kind: 'number' }, many: round % 2 === 0 }
      await Promise.all(times(6, (i) => ways[i % 2]!.create({ name, attached: false, track: 'notify' }, s.ctx)))
      await Promise.all(times(6, (i) => ways[i % 2]!.openSlot(slot, s.ctx)))
      await s.insert(name, { a: {} })
      await s.give(slot, { a: [round] })
      expect([await all(ways[1]!.find({ from: name, slots: [slot.id] }, s.ctx)), (await s.data.list(s.ctx)).filter((c) => c.name === name).length]).toMatchObject([[{ key: 'a', outputs: { [slot.id]: [round] } }], 1])
    }
  }),
  rule('concurrency.settle.equal', 'eight equal results of one row at once: it ends settled, with one value and its mark', async (s) => {
    const name = await s.collection(many(12, (i) => ({ i }))), slot = await s.slot(name), chunks = await s.slot(name, { many: true }), ways = await opened(s, slot)
    await ways[1].openSlot(chunks, s.ctx)
    for (const of of [slot, chunks]) {
      const rows = await s.rows(of), values = of.many ? ['x', 'y'] : ['x']
      const refused = await Promise.all(times(8, (i) => ways[i % 2]!.settle(of, rows.map((row) => outcome(row, values)), s.ctx)))
      for (const row of rows) expect(refused.some((keys) => !keys.includes(row.key))).toBe(true)
      for (const row of await s.find(name, { slots: [of.id] })) expect(row.outputs?.[of.id]).toEqual(values)
      expect(await s.data.tally(of, s.ctx)).toEqual({ rows: 12, missing: 0, stale: 0, failed: 0, orphaned: 0 })
    }
  }),
  rule('concurrency.settle.chunks', 'new chunks that race results for the old ones: no result stays at a chunk that it was not made from', async (s) => {
    const name = await s.collection({ a: {} }), C = await s.slot(name, { many: true }), D = await s.slot(C.id, { fields: ['value'] }), [one, two] = await opened(s, C)
    await two.openSlot(D, s.ctx)
    await s.give(C, { a: ['0', '0', '0'] })
    for (let round = 1; round < 10; round++) {
      const [row] = await s.rows(C, 'all'), below = await s.rows(D, 'all')
      await Promise.all([one.settle(C, [outcome(row!, times(1 + (round % 4), (i) => `${i % 2 === 0 ? round : 'same'}`), `h${round}`)], s.ctx), two.settle(D, below.map((chunk) => outcome(chunk, [`of ${String(chunk.doc['value'])}`])), s.ctx)])
      const stale = new Set(await s.offered(D))
      for (const chunk of await s.find(C.id, { slots: [D.id] })) { const value = chunk.outputs?.[D.id]?.[0]; if (value !== undefined && !stale.has(chunk.key)) expect(value).toBe(`of ${String(chunk.doc['value'])}`) }
    }
    expect(await s.data.prune(D, 'all', s.ctx)).toBe(0)
  }),
  rule('concurrency.artifact.remove', 'an artifact that is written and removed at once is whole or gone', async (s) => {
    for (let round = 0; round < 6; round++) {
      const bytes = new Uint8Array(300_000).fill(round + 1), id = sha256(bytes), write = (): Promise<void> => s.artifacts.write(id, (async function* () { yield bytes.subarray(0, 100_000); yield bytes.subarray(100_000) })(), s.ctx)
      await write()
      await Promise.all([write(), s.artifacts.remove([id], s.ctx), write()])
      const parts: Uint8Array[] = []
      const read = await (async () => { for await (const part of s.artifacts.read(id, { offset: 0 }, s.ctx)) parts.push(part); return sha256(Buffer.concat(parts)) })().catch((error: unknown) => (error as { code?: unknown }).code)
      expect([id, 'NOT_FOUND']).toContain(read)
      await write()
      expect(await all(s.artifacts.list(s.ctx))).toContainEqual(expect.objectContaining({ id, bytes: 300_000 }))
    }
  }),
  rule('concurrency.read.whole-rows', 'a reader sees rows whole: rev and document of one write', async (s) => {
    const name = await s.collection(many(10, () => ({ a: 0, b: 0 }))), [one, two] = await both(s), slot = await s.slot(name), seen = new Map<string, Doc>()
    const written = { last: false }
    const writing = (async () => {
      for (let n = 1; n <= 20; n++) {
        const done = await two!.write(name, times(10, (i): Write => (n % 2 === 0 ? { kind: 'put', key: keyOf(i), doc: { a: n, b: n } } : { kind: 'patch', key: keyOf(i), set: { a: n, b: n }, unset: [] })), s.ctx)
        for (const { rev } of done) seen.set(rev!, { a: n, b: n })
      }
    })().finally(() => { written.last = true })
    writing.catch(() => {})
    const read: (readonly [string, Doc])[] = []
    while (!written.last) {
      for (const row of await all(one!.find({ from: name }, s.ctx))) read.push([row.rev, row.doc])
      for (const row of await s.rows(slot)) read.push([row.rev, row.doc])
      await setImmediate()
    }
    await writing
    for (const [rev, doc] of read) { expect(doc['a']).toBe(doc['b']); if (seen.has(rev)) expect(doc).toEqual(seen.get(rev)) }
  }),
  rule('concurrency.api.updates', 'updates through the API at once lose no step', async (s) => {
    const docs = (await s.inlay()).collection<{ n: number }>(s.name())
    await docs.insert([{ _id: 'a', n: 0 }, { _id: 'b', n: 0 }])
    await Promise.all(times(8, () => docs.update({}, { $inc: { n: 1 } })))
    expect((await docs.find().toArray()).map((row) => row.n)).toEqual([8, 8])
  }),
]
