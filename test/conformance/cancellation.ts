/** Signals, loops that are left early, and streams that are slow. */
import { expect } from 'vitest'
import type { Ctx, Key } from '../../core/contract.ts'
import { rule, type Rule } from './rule.ts'
import { all, codeOf, keyOf, many, outcome, type Subject } from './subject.ts'

const aborted = (): Ctx => ({ signal: AbortSignal.abort() })
const wide = (s: Subject): Promise<string> => s.once('wide', () => s.collection(many(1500, (i) => ({ i, pad: 'x'.repeat(50) }))))
const right = (n: number): Key[] => Array.from({ length: n }, (_, i) => keyOf(i))

export const cancellation: readonly Rule[] = [
  rule('cancellation.before.every-call', 'a call with an aborted signal is ABORTED and does nothing', async (s) => {
    const name = await s.collection({ a: { x: 1 } }), slot = await s.slot(name), [row] = await s.rows(slot), d = s.data
    const calls: readonly ((ctx: Ctx) => Promise<unknown>)[] = [
      (ctx) => d.write(name, [{ kind: 'put', key: 'a', doc: {} }, { kind: 'insert', key: 'b', doc: {} }], ctx), (ctx) => all(d.find({ from: name }, ctx)), (ctx) => d.count({ from: name }, ctx), (ctx) => all(d.rows(slot, 'stale', 'all', ctx)),
      (ctx) => d.settle(slot, [outcome(row!, [1])], ctx), (ctx) => d.prune(slot, 'all', ctx), (ctx) => d.tally(slot, ctx), (ctx) => d.drop(name, ctx), (ctx) => d.dropSlot(slot.id, ctx), (ctx) => d.list(ctx), (ctx) => d.create({ name: 'never', attached: false, track: 'notify' }, ctx), (ctx) => d.openSlot({ ...slot, id: 's_never' }, ctx),
    ]
    for (const call of calls) expect(await codeOf(call(aborted()))).toBe('ABORTED')
    expect((await s.find(name)).map((r) => [r.key, r.doc])).toEqual([['a', { x: 1 }]])
    expect([await s.offered(slot), (await s.data.list(s.ctx)).some((c) => c.name === 'never')]).toEqual([['a'], false])
  }),
  rule('cancellation.during.find', 'a signal that aborts in the midst of a find ends it with ABORTED', async (s) => {
    const name = await wide(s), stop = new AbortController()
    const reading = (async () => { for await (const rows of s.data.find({ from: name }, { signal: stop.signal })) { expect(rows.length).toBeGreaterThan(0); stop.abort(); if (rows.length === 1500) throw new Error('all at once') } })()
    expect(await codeOf(reading.catch((error: unknown) => { if ((error as Error).message !== 'all at once') throw error }))).toMatch(/^(ABORTED|no error)$/)
    expect(await s.keys(name)).toEqual(right(1500))
  }),
  rule('cancellation.during.never-short', 'an aborted stream of a plugin throws or gives all rows: it never looks complete when it is not', async (s) => {
    const name = await wide(s), slot = await s.once('wide slot', () => s.slot(name))
    for (const open of [(ctx: Ctx) => s.raw.find({ from: name }, ctx), (ctx: Ctx) => s.raw.rows(slot, 'all', 'all', ctx)]) {
      const stop = new AbortController()
      let seen = 0, threw = false
      try {
        for await (const rows of open({ signal: stop.signal })) { seen += rows.length; stop.abort() }
      } catch { threw = true }
      expect(threw || seen === 1500).toBe(true)
    }
  }),
  rule('cancellation.during.soon', 'a read that is aborted while it waits ends soon', async (s) => {
    const name = await wide(s), stop = new AbortController(), started = performance.now()
    const reads = [all(s.data.find({ from: name }, { signal: stop.signal })), s.data.count({ from: name }, { signal: stop.signal })].map((read) => codeOf(read))
    stop.abort()
    for (const code of await Promise.all(reads)) expect(code).toMatch(/^(ABORTED|no error)$/)
    expect(performance.now() - started).toBeLessThan(5000)
    expect(await s.data.count({ from: name }, s.ctx)).toBe(1500)
  }),
  rule('cancellation.during.write', 'a write that is aborted while it runs is wholly done or not at all for each row, and the connection works on', async (s) => {
    const name = await s.collection(), stop = new AbortController()
    const writing = codeOf(s.data.write(name, right(300).map((key, i) => ({ kind: 'insert', key, doc: { i, j: i } })), { signal: stop.signal }))
    stop.abort()
    const code = await writing, rows = await s.find(name)
    expect(code).toMatch(/^(ABORTED|no error)$/)
    if (code === 'no error') expect(rows.length).toBe(300)
    for (const row of rows) expect(row.doc['i']).toBe(row.doc['j'])
    await s.write(name, { kind: 'put', key: 'after', doc: {} })
    expect(await s.row(name, 'after')).toBeDefined()
  }),
  rule('cancellation.leave.find', 'leaving a find early frees what it holds: fifty times, and others still work', async (s) => {
    const name = await wide(s)
    for (let i = 0; i < 50; i++) for await (const rows of s.data.find({ from: name }, s.ctx)) { expect(rows[0]!.key).toBe(keyOf(0)); break }
    await s.write(name, { kind: 'patch', key: keyOf(0), set: { left: 1 }, unset: [] })
    expect(await s.data.count({ from: name }, s.ctx)).toBe(1500)
    expect((await s.find(name)).length).toBe(1500)
  }),
  rule('cancellation.leave.rows', 'leaving rows early frees what it holds: fifty times, and others still work', async (s) => {
    const name = await wide(s), slot = await s.once('wide slot', () => s.slot(name))
    for (let i = 0; i < 50; i++) for await (const rows of s.data.rows(slot, 'stale', 'all', s.ctx)) { expect(rows[0]!.key).toBe(keyOf(0)); break }
    expect((await s.offered(slot)).length).toBe(1500)
  }),
  rule('cancellation.leave.throws', 'a loop that throws frees what it holds', async (s) => {
    const name = await wide(s)
    for (let i = 0; i < 20; i++) await expect((async () => { for await (const _ of s.data.find({ from: name }, s.ctx)) throw new Error('left') })()).rejects.toThrow('left')
    expect((await s.find(name)).length).toBe(1500)
  }),
  rule('cancellation.leave.never-started', 'a find that is never read holds nothing', async (s) => {
    const name = await wide(s)
    for (let i = 0; i < 50; i++) s.raw.find({ from: name }, s.ctx)
    expect((await s.find(name, { limit: 3 })).length).toBe(3)
  }),
  rule('cancellation.slow.writes-between', 'writes between two batches of a find neither deadlock nor repeat or lose a row', async (s) => {
    const name = await s.collection(many(1500, (i) => ({ i }))), seen: Key[] = []
    for await (const rows of s.data.find({ from: name }, s.ctx)) {
      seen.push(...rows.map((row) => row.key))
      await s.write(name, ...rows.slice(0, 20).map((row) => ({ kind: 'put' as const, key: row.key, doc: { again: true } })), { kind: 'put', key: '0 before all', doc: {} })
      expect(await s.data.count({ from: name }, s.ctx)).toBe(1501)
    }
    expect(seen.filter((key) => key !== '0 before all')).toEqual(right(1500))
  }),
  rule('cancellation.slow.removes-between', 'removes between two batches lose no other row', async (s) => {
    const name = await s.collection(many(1500, (i) => ({ i }))), seen: Key[] = []
    for await (const rows of s.data.find({ from: name }, s.ctx)) {
      seen.push(...rows.map((row) => row.key))
      await s.remove(name, ...rows.map((row) => row.key))
    }
    expect(seen).toEqual(right(1500))
    expect(await s.keys(name)).toEqual([])
  }),
  rule('cancellation.slow.many-streams', 'twenty streams are read at once, batch by batch, with writes between', async (s) => {
    const name = await wide(s)
    const counts = await Promise.all(Array.from({ length: 20 }, async (_, i) => {
      let n = 0
      for await (const rows of s.data.find({ from: name }, s.ctx)) { n += rows.length; if (i < 5) await s.write(name, { kind: 'patch', key: keyOf(i), set: { n }, unset: [] }) }
      return n
    }))
    expect(counts).toEqual(counts.map(() => 1500))
  }),
  rule('cancellation.api.insert', 'the API ends a stopped insert with ABORTED and says which rows were written', async (s) => {
    const docs = (await s.inlay()).collection<{ i: number }>(s.name()), stop = new AbortController()
    const inserting = docs.insert((async function* () { for (let i = 0; i < 9000; i++) { if (i === 4600) stop.abort(); yield { _id: keyOf(i), i } } })(), { signal: stop.signal })
    const error = await inserting.then(() => undefined, (e: unknown) => e as { code: string; details: { ids: string[] } })
    expect(error?.code).toBe('ABORTED')
    expect([...error!.details.ids].sort()).toEqual(await s.keys(docs.name))
  }),
  rule('cancellation.api.find', 'the API ends a stopped find with ABORTED, and a find that is left early holds nothing', async (s) => {
    const docs = (await s.inlay()).collection<{ i: number }>(s.name()), stop = new AbortController()
    await docs.insert(Array.from({ length: 1200 }, (_, i) => ({ _id: keyOf(i), i })))
    expect(await codeOf((async () => { for await (const { i } of docs.find().signal(stop.signal)) if (i === 600) stop.abort() })())).toBe('ABORTED')
    for (let i = 0; i < 30; i++) for await (const row of docs.find({ i: { $gte: 0 } }).sort({ i: 1 })) { expect(row.i).toBe(0); break }
    expect(await docs.find().count()).toBe(1200)
  }),
]
