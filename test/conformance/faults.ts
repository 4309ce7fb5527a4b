/** A network that fails: at most one typed error per call, no row or output lost or doubled, and recovery without a restart. */
import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'vitest'
import type { Ctx, Filter, Key, Notice, Written } from '../../core/contract.ts'
import { sha256 } from '../../core/encoding.ts'
import { InlayError } from '../../core/errors.ts'
import { listener, model } from '../../core/spec.ts'
import { step } from '../../core/step.ts'
import { openProxy, type Proxy } from './proxy.ts'
import { random } from './random.ts'
import { networked, notices, rule, type Need, type Rule } from './rule.ts'
import { all, codeOf, keyOf, many, outcome, Subject } from './subject.ts'

const within = (ms: number): Ctx => ({ signal: AbortSignal.timeout(ms) })
const givesRevs: Need = { says: 'the database makes its revs itself, so that core guesses after a lost answer', met: (s) => s.capabilities.givenRevs }
/** A connection through a proxy, in a namespace of its own. */
async function through(s: Subject, run: (t: Subject, proxy: Proxy) => Promise<void>): Promise<void> {
  const { host, port, through: by } = s.settings.network!, proxy = await openProxy(host, port)
  let t: Subject | undefined
  try {
    t = await Subject.connect(s.plugin, by(s.uri, proxy.port), s.settings)
    await run(t, proxy)
  } finally {
    proxy.pass()
    proxy.drop()
    if (t !== undefined) await settles(t.close(), 20_000)
    await proxy.close()
  }
}
async function settles(work: Promise<unknown>, ms: number): Promise<boolean> {
  return Promise.race([work.then(() => true, () => false), sleep(ms, false, { ref: false })])
}
/** The result, or undefined after the one error that a broken connection may give. */
async function orUnavailable<T>(work: Promise<T>): Promise<T | undefined> {
  return work.catch((error: unknown) => {
    if (InlayError.is(error) && /^(UNAVAILABLE|TIMEOUT)$/.test(error.code)) return undefined
    if (InlayError.is(error)) expect.fail(`${error.code} instead of UNAVAILABLE: ${error.message}`)
    expect.fail(`an error without a type: ${String(error)}`)
  })
}
/** Until the connection serves again; without a restart. */
async function recovered(t: Subject, name: string): Promise<void> {
  for (const late = Date.now() + (t.settings.soonMs ?? 10_000); Date.now() < late;) {
    if (await orUnavailable(t.data.count({ from: name }, within(10_000))) !== undefined) return
    await sleep(50)
  }
  expect.fail('the connection does not recover')
}
/** Writes with an answer that is cut, and says what they answered. */
async function cut(proxy: Proxy, marker: string, work: () => Promise<readonly Written[]>): Promise<readonly Written[] | undefined> {
  const done = proxy.cut(marker), written = await orUnavailable(work())
  expect(await settles(done, 5000), `the answer to ${marker} was cut`).toBe(true)
  return written
}
const codes = (work: Promise<unknown>): Promise<string> => codeOf(work)

export const faults: readonly Rule[] = [
  rule('faults.proxy.through', 'all that is written goes through the given host and port, and no connection stays after close', async (s) => through(s, async (t, proxy) => {
    const before = proxy.sent
    await t.insert(await t.collection(), { a: { text: 'x'.repeat(50_000) } })
    expect(proxy.sent - before).toBeGreaterThan(40_000)
    await t.connection.close()
    for (let i = 0; i < 100 && proxy.open > 0; i++) await sleep(20)
    expect(proxy.open).toBe(0)
    await t.reopen()
  }), networked),
  rule('faults.refuse.connect', 'a server that is not there is one typed error, soon', async (s) => {
    const { host, port, through: by } = s.settings.network!, proxy = await openProxy(host, port), uri = by(s.uri, proxy.port), started = performance.now()
    await proxy.close()
    const opening = s.plugin.connect!(uri, { namespace: s.namespace }, within(10_000)).then(async (connection) => { await connection.close(); return 'connected' }, (error: unknown) => (InlayError.is(error) ? error.code : s.plugin.classify?.(error)?.code ?? `not classified: ${String(error)}`))
    expect(await opening).toMatch(/^(UNAVAILABLE|TIMEOUT|ABORTED)$/)
    expect(performance.now() - started).toBeLessThan(20_000)
  }, networked),
  rule('faults.refuse.calls', 'while the server is away each call gives one typed error, and none does harm; afterwards all works without a restart', async (s) => through(s, async (t, proxy) => {
    const name = await t.collection({ a: { x: 1 } }), slot = await t.slot(name), row = await t.at(slot, 'a')
    proxy.refuse()
    const calls: readonly ((ctx: Ctx) => Promise<unknown>)[] = [(ctx) => all(t.data.find({ from: name }, ctx)), (ctx) => t.data.write(name, [{ kind: 'insert', key: 'b', doc: {} }], ctx), (ctx) => t.data.settle(slot, [outcome(row, [1])], ctx), (ctx) => t.data.tally(slot, ctx)]
    for (const call of calls) expect(await codes(call(within(4000)))).toMatch(/^(UNAVAILABLE|TIMEOUT)$/)
    proxy.pass()
    await recovered(t, name)
    expect([await t.keys(name), await t.output(slot, 'a')]).toEqual([['a'], undefined])
    await t.give(slot, { a: [2] })
    expect(await t.output(slot, 'a')).toEqual([2])
  }), networked),
  rule('faults.drop.idle', 'connections that were dropped while nobody used them cost at most one typed error', async (s) => through(s, async (t, proxy) => {
    const name = await t.collection({ a: { x: 1 } }), slot = await t.slot(name)
    for (const [i, call] of [() => t.find(name), () => t.data.count({ from: name }, t.ctx), () => t.write(name, { kind: 'put', key: 'b', doc: { x: 2 } }), () => t.rows(slot), () => t.data.tally(slot, t.ctx), () => t.data.list(t.ctx), () => t.slot(name), () => t.collection()].entries()) {
      await Promise.all(Array.from({ length: 6 }, () => t.data.count({ from: name }, t.ctx)))
      proxy.drop()
      if (i % 2 === 0) await sleep(30)
      if (await orUnavailable(call() as Promise<unknown>) === undefined) await call()
    }
    expect(await t.keys(name)).toEqual(['a', 'b'])
  }), networked),
  rule('faults.drop.during', 'what is under way when connections drop is done or not, as its answer says, and never by half', async (s) => through(s, async (t, proxy) => {
    const name = await t.collection(many(40, (i) => ({ a: i, b: i }))), slot = await t.slot(name, { many: true }), r = random(t.settings.seed + 30)
    for (let round = 1; round <= 12; round++) {
      const rows = await t.rows(slot, 'all')
      const work = [
        orUnavailable(t.write(name, ...rows.slice(0, 20).map(({ key }) => ({ kind: 'patch' as const, key, set: { a: round, b: round }, unset: [] })))), orUnavailable(t.data.settle(slot, rows.slice(20).map((row) => outcome(row, [round, round, round], `h${round}`)), t.ctx)),
        orUnavailable(t.write(name, ...Array.from({ length: 10 }, (_, i) => ({ kind: 'insert' as const, key: `n${round}-${i}`, doc: { a: round, b: round } })))), orUnavailable(t.find(name)),
      ] as const
      await sleep(r.below(25))
      proxy.drop()
      const [patched, , inserted] = await Promise.all(work)
      await recovered(t, name)
      const found = new Map((await t.find(name, { slots: [slot.id] })).map((row) => [row.key, row]))
      for (const w of patched ?? []) if (w.status === 'done') expect([w.key, found.get(w.key)?.doc]).toEqual([w.key, { a: round, b: round }])
      for (const w of inserted ?? []) expect([w.key, w.status, found.get(w.key)?.doc]).toEqual([w.key, 'done', { a: round, b: round }])
      for (const { doc, outputs } of found.values()) { expect(doc['a']).toBe(doc['b']); const list = outputs?.[slot.id] ?? []; expect(list.every((v) => v === list[0]) && [0, 3].includes(list.length)).toBe(true) }
      await t.remove(name, ...[...found.keys()].filter((key) => key.startsWith('n')))
    }
    expect(await t.data.prune(slot, 'all', t.ctx)).toBe(0)
  }), networked),
  rule('faults.cut.insert', 'an insert whose answer is cut is done once, and says so', async (s) => through(s, async (t, proxy) => {
    const name = await t.collection()
    for (let i = 0; i < 4; i++) {
      const mark = `cut-insert-${i}`, written = await cut(proxy, mark, () => t.write(name, { kind: 'insert', key: `a${i}`, doc: { mark } }, { kind: 'insert', key: `b${i}`, doc: { mark } }))
      if (t.capabilities.givenRevs) expect(written?.map((w) => w.status)).toEqual(['done', 'done'])
      for (const w of written ?? []) expect((await t.row(name, w.key))?.rev).toBe(w.rev)
    }
    expect((await t.keys(name)).length).toBe(8)
  }), networked),
  rule('faults.cut.insert-no-key', 'an insert without key whose answer is cut is not done twice', async (s) => through(s, async (t, proxy) => {
    const name = await t.collection(), mark = 'cut-insert-no-key'
    const written = await cut(proxy, mark, () => t.data.write(name, [{ kind: 'insert', doc: { mark } }], t.ctx))
    await recovered(t, name)
    expect((await t.find(name)).length).toBeLessThanOrEqual(1)
    if (written?.[0]?.status === 'done') expect((await t.find(name)).map((row) => row.key)).toEqual([written[0].key])
  }), networked),
  rule('faults.cut.cas', 'a compare-and-set whose answer is cut does not answer "moved" to its own success', async (s) => through(s, async (t, proxy) => {
    const name = await t.collection({ n: { count: 0 } })
    let count = 0
    for (const kind of ['put', 'patch', 'put', 'patch'] as const) {
      const { rev } = (await t.row(name, 'n'))!, mark = `cut-cas-${++count}`
      const written = await cut(proxy, mark, () => t.write(name, kind === 'put' ? { kind, key: 'n', doc: { count, mark }, rev } : { kind, key: 'n', set: { count, mark }, unset: [], rev }))
      expect(written?.map((w) => w.status) ?? ['done']).toEqual(['done'])
      await recovered(t, name)
      expect((await t.row(name, 'n'))?.doc).toEqual({ count, mark })
    }
  }), networked, givesRevs),
  rule('faults.cut.remove', 'a remove whose answer is cut is done', async (s) => through(s, async (t, proxy) => {
    const name = await t.collection({ 'cut-remove': {}, kept: {} }), slot = await t.slot(name)
    await t.give(slot, { 'cut-remove': [1], kept: [2] })
    const written = await cut(proxy, 'cut-remove', () => t.write(name, { kind: 'remove', key: 'cut-remove' }))
    if (written !== undefined) expect(written.map((w) => w.status)).toEqual(['done'])
    await recovered(t, name)
    if (written === undefined) await t.write(name, { kind: 'remove', key: 'cut-remove' })
    expect([await t.keys(name), await t.data.tally(slot, t.ctx)]).toEqual([['kept'], { rows: 1, missing: 0, stale: 0, failed: 0, orphaned: 0 }])
  }), networked),
  rule('faults.cut.settle', 'a settle whose answer is cut is stored once, whole, with its mark', async (s) => through(s, async (t, proxy) => {
    const name = await t.collection({ a: { x: 1 }, b: { x: 2 } }), one = await t.slot(name), chunks = await t.slot(name, { many: true })
    for (const [i, slot] of [one, chunks].entries()) {
      const mark = `cut-settle-${i}`, rows = await t.rows(slot), values = slot.many ? [mark, 'y', 'z'] : [mark], done = proxy.cut(mark)
      const refused = await orUnavailable(t.data.settle(slot, rows.map((row) => outcome(row, values)), t.ctx))
      expect(await settles(done, 5000)).toBe(true)
      if (refused !== undefined) expect(refused).toEqual([])
      await recovered(t, name)
      await t.settle(slot, Object.fromEntries((await t.rows(slot)).map((row) => [row.key, values])))
      expect([await t.output(slot, 'a'), await t.output(slot, 'b'), await t.data.tally(slot, t.ctx), await t.data.prune(slot, 'all', t.ctx)]).toEqual([values, values, { rows: 2, missing: 0, stale: 0, failed: 0, orphaned: 0 }, 0])
    }
    expect((await t.find(chunks.id)).length).toBe(6)
  }), networked),
  rule('faults.cut.find', 'a find whose answer is cut gives each row once, or one error, and never looks complete when it is not', async (s) => through(s, async (t, proxy) => {
    const name = await t.collection(many(1500, (i) => ({ i, pad: 'x'.repeat(200) }))), keys = Array.from({ length: 1500 }, (_, i) => keyOf(i))
    const some = keys.slice(0, Math.min(1500, (t.capabilities.limits.keys ?? 2000) - 1)), where: Filter = { kind: 'keys', keys: [...some, 'cut-find'] }
    for (const q of [{ where }, { where, skip: 0, limit: 2000 }]) {
      const done = proxy.cut('cut-find'), found = await orUnavailable(t.find(name, q))
      expect(await settles(done, 5000)).toBe(true)
      if (found !== undefined) expect(found.map((row) => row.key)).toEqual(some)
    }
    const seen: Key[] = []
    let batches = 0
    const reading = (async () => { for await (const rows of t.data.find({ from: name }, t.ctx)) { seen.push(...rows.map((row) => row.key)); if (batches++ === 0) proxy.drop() } return true })()
    if (await orUnavailable(reading) === true) expect(seen).toEqual(keys)
    else expect(seen).toEqual(keys.slice(0, seen.length))
  }), networked),
  rule('faults.cut.artifact', 'an artifact whose writing or reading breaks is whole or not there', async (s) => through(s, async (t, proxy) => {
    const bytes = new Uint8Array(900_000).map((_, i) => (i * 7) % 251), id = sha256(bytes), body = async function* (drop: boolean): AsyncIterable<Uint8Array> {
      for (let at = 0; at < bytes.length; at += 100_000) { if (drop && at === 500_000) proxy.drop(); yield bytes.subarray(at, at + 100_000) }
    }
    const whole = async (): Promise<string> => { const parts: Uint8Array[] = []; for await (const part of t.artifacts.read(id, { offset: 0 }, t.ctx)) parts.push(part); return sha256(Buffer.concat(parts)) }
    const wrote = await orUnavailable(t.artifacts.write(id, body(true), t.ctx).then(() => true))
    const there = await whole().catch((error: unknown) => (InlayError.is(error) ? error.code : String(error)))
    expect(wrote === true ? [id] : [id, 'NOT_FOUND', 'UNAVAILABLE']).toContain(there)
    await t.artifacts.write(id, body(false), t.ctx)
    let parts = 0
    await orUnavailable((async () => { for await (const part of t.artifacts.read(id, { offset: 0 }, t.ctx)) { parts += part.length; if (parts < 300_000) proxy.drop() } })())
    await orUnavailable(t.data.list(t.ctx))
    expect(await whole()).toBe(id)
  }), networked),
  rule('faults.stall.read', 'a read on a network that stalls ends with its signal, and goes on where the network does', async (s) => through(s, async (t, proxy) => {
    const name = await t.collection(many(50, (i) => ({ i }))), slot = await t.slot(name)
    for (const read of [(ctx: Ctx) => all(t.data.find({ from: name }, ctx)), (ctx: Ctx) => t.data.count({ from: name }, ctx), (ctx: Ctx) => all(t.data.rows(slot, 'stale', 'all', ctx))]) {
      proxy.stall()
      const started = performance.now()
      expect(await codes(read(within(250)))).toBe('TIMEOUT')
      expect(performance.now() - started).toBeLessThan(3000)
      proxy.pass()
      await recovered(t, name)
    }
    proxy.stall()
    const patient = t.find(name)
    await sleep(150)
    proxy.pass()
    expect((await patient).length).toBe(50)
  }), networked),
  rule('faults.stall.write', 'a write on a network that stalls and then drops ends with one typed error or done, and is whole', async (s) => through(s, async (t, proxy) => {
    const name = await t.collection({ a: { x: 0, y: 0 } })
    for (const x of [1, 2, 3]) {
      proxy.stall()
      const stop = new AbortController(), writing = t.data.write(name, [{ kind: 'put', key: 'a', doc: { x, y: x } }], { signal: stop.signal }).then(([w]) => w!.status, (error: unknown) => (InlayError.is(error) ? error.code : String(error)))
      await sleep(100)
      if (x !== 2) stop.abort()
      await sleep(100)
      proxy.pass()
      proxy.drop()
      expect(await writing).toMatch(/^(done|ABORTED|UNAVAILABLE)$/)
      await recovered(t, name)
      const { doc } = (await t.row(name, 'a'))!
      expect(doc['x']).toBe(doc['y'])
    }
  }), networked),
  rule('faults.half-open.read', 'a server that went away without a word costs a read its time, not more', async (s) => through(s, async (t, proxy) => {
    const name = await t.collection({ a: {} })
    proxy.halfOpen()
    const started = performance.now()
    expect(await codes(t.data.count({ from: name }, within(300)))).toBe('TIMEOUT')
    expect(await codes(all(t.data.find({ from: name }, within(300))))).toBe('TIMEOUT')
    expect(performance.now() - started).toBeLessThan(5000)
    proxy.pass()
    await recovered(t, name)
    expect(await t.keys(name)).toEqual(['a'])
  }), networked),
  rule('faults.close.dropped', 'a connection whose network broke can be closed, and nothing stays open', async (s) => through(s, async (t, proxy) => {
    const name = await t.collection({ a: {} })
    await Promise.all(Array.from({ length: 8 }, () => t.data.count({ from: name }, t.ctx)))
    proxy.drop()
    expect(await settles(t.connection.close().catch(() => {}), 8000)).toBe(true)
    for (let i = 0; i < 100 && proxy.open > 0; i++) await sleep(20)
    expect(proxy.open).toBe(0)
    await t.reopen()
  }), networked),
  rule('faults.close.refused', 'a connection whose server is away can be closed', async (s) => through(s, async (t, proxy) => {
    await t.collection({ a: {} })
    proxy.refuse()
    const reading = codes(t.data.list(within(3000)))
    expect(await settles(t.connection.close().catch(() => {}), 10_000)).toBe(true)
    expect(await reading).toMatch(/^(UNAVAILABLE|TIMEOUT|CLOSED|INTERNAL|no error)$/)
    proxy.pass()
    await t.reopen()
  }), networked),
  rule('faults.storm.api', 'while connections drop again and again no acknowledged row is lost, none is doubled, counters count, and outputs end right', async (s) => through(s, async (t, proxy) => {
    const db = await t.open(), docs = db.collection<{ x: number; n?: number }>(t.name()), on = listener({ model: model('tenfold', { run: step('tenfold@1', (xs: readonly number[]) => xs.map((x) => x * 10)) }), on: docs.name, key: 'x', name: 'tenfold_x' })
    const handle = await db.add(on)
    await docs.insert({ _id: 'counter', x: -1, n: 0 })
    const tried = new Map<string, number>(), acknowledged = new Set<string>(), count = { done: 0, unknown: 0 }
    let made = 0
    const storm = { over: false }
    await Promise.all([
      (async () => { for (let i = 0; i < 20; i++) { await sleep(25); proxy.drop() } storm.over = true })(),
      ...[1, 2].map(async () => {
        while (!storm.over) {
          const batch = Array.from({ length: 3 }, () => { const x = ++made; return { _id: `i${x}`, x } })
          for (const { _id, x } of batch) tried.set(_id, x)
          const changed = await orUnavailable(docs.insert(batch))
          expect(changed?.refused.filter(({ code }) => code !== 'UNAVAILABLE') ?? []).toEqual([])
          for (const id of changed?.ids ?? []) acknowledged.add(id)
        }
      }),
      (async () => {
        while (!storm.over) {
          const changed = await orUnavailable(docs.update({ _id: 'counter' }, { $inc: { n: 1 } }))
          if (changed === undefined || changed.refused.length > 0) count.unknown++
          else count.done += changed.ids.length
        }
      })(),
    ])
    for (let tries = 0; tries < 10 && await orUnavailable(db.verify({ repair: true })) === undefined; tries++) await sleep(50)
    const rows = await docs.find().toArray(), ids = new Set(rows.map((row) => row._id))
    expect(ids.size).toBe(rows.length)
    expect([...acknowledged].filter((id) => !ids.has(id))).toEqual([])
    for (const row of rows) { if (row._id !== 'counter') expect(row.x).toBe(tried.get(row._id)); expect(handle.of(row)).toBe(row.x * 10) }
    const { n } = rows.find((row) => row._id === 'counter')!
    expect(n).toBeGreaterThanOrEqual(count.done)
    expect(n).toBeLessThanOrEqual(count.done + count.unknown)
    expect(await db.verify()).toMatchObject({ ok: true, missing: 0, stale: 0, orphaned: 0 })
    await db.close()
  }), networked),
  rule('faults.watch.drop', 'a watch whose connection drops goes on or ends with one typed error; the next one tells what was missed', async (s) => through(s, async (t, proxy) => {
    const name = await t.collection({ a: { n: 1 }, b: { n: 1 } }), slot = await t.slot(name), stop = new AbortController(), told = new Set<Key | 'stale' | 'all'>()
    let last: Notice['done'] = async () => {}
    const watch = async (): Promise<void> => {
      while (!stop.signal.aborted) {
        await orUnavailable((async () => { for await (const { keys, done } of t.data.watch!(name, stop)) { for (const key of typeof keys === 'string' ? [keys] : keys) told.add(key as Key); await done(t.ctx); last = done } })().catch((error: unknown) => { if (!stop.signal.aborted) throw error }))
        await sleep(50)
      }
    }
    const watching = watch()
    watching.catch(() => {})                                                // thrown where it is awaited
    await sleep(300)
    let n = 1
    const patched = async (key: Key): Promise<void> => {
      told.clear()
      await t.patch(name, key, { n: ++n })
      for (let i = 0; i < 200 && !told.has(key) && !told.has('stale') && !told.has('all'); i++) await Promise.race([sleep(50), watching])
      expect([...told].some((k) => k === key || k === 'stale' || k === 'all')).toBe(true)
    }
    for (const key of ['a', 'b', 'a']) {
      proxy.drop()
      await patched(key)
    }
    // Until a key is told, whose notice leaves something to be done.
    for (let i = 0; i < 5 && !told.has('b'); i++) await patched('b')
    stop.abort()
    await watching
    proxy.refuse()
    await orUnavailable(last(within(4000)))
    proxy.pass()
    await recovered(t, name)
    expect(await t.offered(slot)).toEqual(['a', 'b'])
  }), networked, notices),
]
