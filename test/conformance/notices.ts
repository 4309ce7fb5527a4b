/** What `watch` reports: at once, of everybody that the plugin names, to every watcher, and nothing of Inlay's own settles. */
import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'vitest'
import type { Datalayer, Key, Notice, Row, Slot } from '../../core/contract.ts'
import { allNotices, attaches, durable, manyWriters, noNotices, notices, otherProgram, rule, type Rule } from './rule.ts'
import { all, keyOf, many, outcome, type Place, type Subject } from './subject.ts'

const soonMs = (s: Subject): number => s.settings.soonMs ?? 10_000

/** Reads notices until it is stopped, and remembers them. */
class Watcher {
  readonly notices: Notice[] = []
  readonly #stop = new AbortController()
  readonly #done: Promise<void>
  readonly #soonMs: number
  #news: (() => void)[] = []
  ended = false

  /** With `finish`, each notice is done at once. */
  constructor(s: Subject, name: string, finish = true, data: Datalayer = s.data) {
    this.#soonMs = soonMs(s)
    this.#done = (async () => {
      try {
        for await (const notice of data.watch!(name, { signal: this.#stop.signal })) {
          if (finish) await notice.done(s.ctx)
          this.notices.push(notice)
          for (const tell of this.#news.splice(0)) tell()
        }
      } catch (error) {
        if (!this.#stop.signal.aborted) throw error
      } finally {
        this.ended = true
        for (const tell of this.#news.splice(0)) tell()
      }
    })()
    this.#done.catch(() => {})
  }
  /** Awaits what `found` looks for, of the notices after the first `since`. */
  async until(what: string, found: (notices: readonly Notice[]) => boolean, since = 0, ms: number = this.#soonMs): Promise<void> {
    const late = Date.now() + ms
    while (!found(this.notices.slice(since))) {
      if (this.ended) await this.#done
      if (Date.now() > late || this.ended) expect.fail(`No notice ${what}; there were ${JSON.stringify(this.notices.slice(since).map((n) => n.keys))}`)
      await Promise.race([sleep(50), new Promise<void>((tell) => { this.#news.push(tell) })])
    }
  }
  first(): Promise<void> {
    return this.until('at once', (list) => list.length > 0, 0, this.#soonMs / 2)
  }
  covers(keys: readonly Key[], since = 0): Promise<void> {
    return this.until(`of ${keys.slice(0, 5).join(', ')}${keys.length > 5 ? ' …' : ''}`, (list) => covered(list, keys), since)
  }
  /** Stops, and awaits the end. */
  async stop(): Promise<void> {
    this.#stop.abort()
    const late = sleep(this.#soonMs / 2, 'late' as const)
    expect(await Promise.race([this.#done.then(() => 'ended' as const), late]), 'the end of the watch after its signal').toBe('ended')
  }
}
/** Keys that were told; `stale` and `all` tell any. */
const covered = (list: readonly Notice[], keys: readonly Key[]): boolean => list.some((n) => typeof n.keys === 'string') || keys.every((key) => list.some((n) => n.keys.includes(key)))
async function watched(s: Subject, name: string, run: (watcher: Watcher) => Promise<void>, data: Datalayer = s.data): Promise<void> {
  const watcher = new Watcher(s, name, true, data)
  try {
    await watcher.first()
    await run(watcher)
  } finally {
    await watcher.stop()
  }
}
/** The rows that core would look at for a notice. */
async function looked(s: Subject, slot: Slot, notice: Notice): Promise<readonly Row[]> {
  return notice.keys === 'all' ? s.rows(slot, 'all') : s.rows(slot, 'stale', notice.keys === 'stale' ? 'all' : notice.keys)
}
/** Settles whatever the slot offers. */
async function settled(s: Subject, slot: Slot): Promise<void> {
  const rows = await s.rows(slot)
  await s.data.settle(slot, rows.map((row) => outcome(row, [Number(row.doc['n'] ?? 0) * 10])), s.ctx)
}
interface Site { readonly name: string; readonly at: Place; readonly keys: readonly Key[] }
/** An own collection with three rows, and, where others' can be attached, a table of each kind of key. */
async function sites(s: Subject): Promise<readonly Site[]> {
  const rows = [{ t: 'a', n: 1 }, { t: 'b', n: 2 }, { t: 'c', n: 3 }], own = await s.collection({ a: rows[0]!, b: rows[1]!, c: rows[2]! }), f = await s.foreign(), made: Site[] = [{ name: own, at: { own }, keys: ['a', 'b', 'c'] }]
  if (s.capabilities.attaches) for (const kind of f.keys) {
    const { source, keys } = await f.table(kind, rows)
    made.push({ name: await s.attach(source), at: { source }, keys })
  }
  return made
}
async function everywhere(s: Subject, run: (site: Site) => Promise<void>): Promise<void> {
  for (const site of await sites(s)) {
    try {
      await run(site)
    } catch (error) {
      if (error instanceof Error) error.message = `${'own' in site.at ? 'an own collection' : `attached ${site.at.source}`}: ${error.message}`
      throw error
    }
  }
}

export const noticing: readonly Rule[] = [
  rule('notices.none.scanned', 'where nothing is reported, a scan offers what was written: by this connection and by another', async (s) => {
    const name = await s.collection({ a: { n: 1 }, b: { n: 2 } }), slot = await s.slot(name)
    await settled(s, slot)
    await s.patch(name, 'a', { n: 5 })
    expect(await s.offered(slot)).toEqual(['a'])
    if (s.capabilities.writers !== 'many') return
    await (await s.another()).data.write(name, [{ kind: 'patch', key: 'b', set: { n: 6 }, unset: [] }], s.ctx)
    expect(await s.offered(slot)).toEqual(['a', 'b'])
  }, noNotices),
  rule('notices.given.watch', 'a plugin that reports changes has watch', async (s) => {
    expect(s.raw.watch).toBeTypeOf('function')
  }, notices),

  rule('notices.first.at-once', 'the first notice comes at once, with rows and without', async (s) => {
    for (const docs of [{}, { a: {} }]) await watched(s, await s.collection(docs), async (w) => { expect(w.notices.length).toBeGreaterThan(0) })
  }, notices),
  rule('notices.first.missed', 'the first notice tells what was written while nobody watched', async (s) => {
    const name = await s.collection({ a: { n: 1 }, b: { n: 2 } }), slot = await s.slot(name)
    await watched(s, name, async () => settled(s, slot))
    await s.patch(name, 'b', { n: 3 })
    const watcher = new Watcher(s, name, false)
    await watcher.first()
    await watcher.covers(['b'])
    expect((await Promise.all(watcher.notices.map((n) => looked(s, slot, n)))).flat().map((row) => row.key)).toContain('b')
    await watcher.stop()
  }, notices),
  rule('notices.own.every-kind', "Inlay's own inserts, puts, patches and removes are reported", async (s) => {
    const name = await s.collection({ a: { n: 1 }, b: { n: 2 }, c: { n: 3 } })
    await watched(s, name, async (w) => {
      for (const op of [{ kind: 'insert', key: 'new', doc: { n: 1 } }, { kind: 'put', key: 'a', doc: { n: 5 } }, { kind: 'patch', key: 'b', set: { n: 6 }, unset: [] }, { kind: 'remove', key: 'c' }, { kind: 'put', key: 'put', doc: {} }] as const) {
        const since = w.notices.length
        await s.write(name, op)
        await w.covers([op.key], since)
      }
    })
  }, notices),
  rule('notices.own.equal-content', 'a write of equal content is reported, as it gave a new rev', async (s) => {
    const name = await s.collection({ a: { n: 1 } })
    await watched(s, name, async (w) => {
      const since = w.notices.length
      await s.write(name, { kind: 'put', key: 'a', doc: { n: 1 } })
      await w.covers(['a'], since)
      const later = w.notices.length
      await s.patch(name, 'a', { n: 1 })
      await w.covers(['a'], later)
    })
  }, notices),
  rule('notices.own.batch', 'of a write of 600 rows all are reported', async (s) => {
    const name = await s.collection(many(300, (n) => ({ n })))
    await watched(s, name, async (w) => {
      const since = w.notices.length
      await s.write(name, ...Array.from({ length: 600 }, (_, n) => ({ kind: 'put' as const, key: keyOf(n), doc: { n: -n } })))
      await w.covers(Array.from({ length: 600 }, (_, n) => keyOf(n)), since)
    })
  }, notices),
  rule('notices.own.hard-keys', 'keys are reported as they were written', async (s) => {
    const keys = ['a#0', ' a', '"', `'`, '\\', '\n', 'é', 'e\u0301', '😀', '{}', '[1]', ',', 'null', '__proto__', 'k'.repeat(200)], name = await s.collection()
    await watched(s, name, async (w) => {
      const since = w.notices.length
      await s.insert(name, Object.fromEntries(keys.filter((key) => key !== '__proto__').map((key) => [key, {}])))
      await s.write(name, { kind: 'insert', key: '__proto__', doc: {} })
      await w.covers(keys, since)
    })
  }, notices),
  rule('notices.own.settles', "Inlay's own settles, prunes and slots are not reported", async (s) => {
    const name = await s.collection({ a: { n: 1 }, b: { n: 2 }, c: { n: 3 } })
    await watched(s, name, async (w) => {
      const slot = await s.slot(name), chunks = await s.slot(name, { many: true }), near = await s.slot(name, { shape: { kind: 'vector', dims: 2 } })
      await sleep(300)
      const since = w.notices.length
      await settled(s, slot)
      await s.give(slot, { a: ['again'], b: new Error('bad'), c: 'skip' })
      await s.give(chunks, { a: ['x', 'y'], b: [] })
      await s.give(near, { a: [Float32Array.from([1, 2])] })
      await s.data.prune(slot, 'all', s.ctx)
      await s.slot(name)
      await sleep(700)
      expect(w.notices.slice(since).filter((n) => n.keys.length > 0).map((n) => n.keys)).toEqual([])
    })
  }, notices),
  rule('notices.own.settle-beside-write', 'of a write and a settle of one row the write is reported', async (s) => {
    const name = await s.collection(many(20, (n) => ({ n }))), slot = await s.slot(name)
    await watched(s, name, async (w) => {
      await settled(s, slot)
      const since = w.notices.length, rows = await s.rows(slot, 'all')
      await Promise.all([s.data.settle(slot, rows.map((row) => outcome(row, [0], 'other')), s.ctx), ...rows.map((row) => s.patch(name, row.key, { n: -1 }))])
      await w.covers(rows.map((row) => row.key), since)
      expect((await s.offered(slot)).length).toBe(20)
    })
  }, notices),
  rule('notices.watchers.all', 'every watcher is told everything: three on this connection', async (s) => {
    const name = await s.collection({ a: {} }), watchers = [1, 2, 3].map(() => new Watcher(s, name))
    for (const w of watchers) await w.first()
    const since = watchers.map((w) => w.notices.length)
    await s.write(name, ...Array.from({ length: 30 }, (_, n) => ({ kind: 'put' as const, key: keyOf(n), doc: { n } })), { kind: 'remove', key: 'a' })
    for (const [i, w] of watchers.entries()) await w.covers([...Array.from({ length: 30 }, (_, n) => keyOf(n)), 'a'], since[i])
    for (const w of watchers) await w.stop()
  }, notices),
  rule('notices.watchers.second', 'every watcher is told everything: one on another connection, of what either wrote', async (s) => {
    const name = await s.collection({ a: {} }), { data } = await s.another()
    await watched(s, name, async (one) => watched(s, name, async (two) => {
      const since = [one.notices.length, two.notices.length] as const
      await s.patch(name, 'a', { n: 1 })
      await data.write(name, [{ kind: 'insert', key: 'b', doc: {} }], s.ctx)
      await one.covers(['a', 'b'], since[0])
      await two.covers(['a', 'b'], since[1])
    }, data))
  }, notices, manyWriters),
  rule('notices.watchers.leave', 'watchers that leave while rows are written take no notice from one that stays', async (s) => {
    const name = await s.collection({ a: {} })
    await watched(s, name, async (w) => {
      const since = w.notices.length, keys: Key[] = []
      for (let round = 0; round < 10; round++) {
        const leaving = [1, 2, 3, 4].map(() => new Watcher(s, name)), writes = many(30, (n) => ({ n }))
        for (const other of leaving) await other.first()
        const writing = Object.entries(writes).map(async ([key, doc], n) => { await sleep(n); await s.write(name, { kind: 'insert', key: `${round}-${key}`, doc }) })
        for (const other of leaving) { await sleep(5); await other.stop() }
        await Promise.all(writing)
        keys.push(...Object.keys(writes).map((key) => `${round}-${key}`))
      }
      await w.covers(keys, since)
    })
  }, notices),
  rule('notices.watchers.collections', 'watches of two collections are told of their own', async (s) => {
    const [a, b] = [await s.collection({ only: {} }), await s.collection({ other: {} })]
    await watched(s, a, async (one) => watched(s, b, async (two) => {
      await sleep(200)
      const since = [one.notices.length, two.notices.length] as const
      await s.patch(a, 'only', { n: 1 })
      await s.patch(b, 'other', { n: 1 })
      await one.covers(['only'], since[0])
      await two.covers(['other'], since[1])
      expect([one.notices.slice(since[0]), two.notices.slice(since[1])].map((list) => new Set(list.flatMap((n) => (typeof n.keys === 'string' ? [n.keys] : n.keys))))).toEqual([new Set(['only']), new Set(['other'])])
    }))
  }, notices),
  rule('notices.done.again', 'what was not done is told again to the next watch', async (s) => {
    const name = await s.collection({ a: { n: 1 } }), slot = await s.slot(name)
    await settled(s, slot)
    const first = new Watcher(s, name, false)
    await first.first()
    await s.patch(name, 'a', { n: 2 })
    await first.covers(['a'])
    await first.stop()
    const second = new Watcher(s, name)
    await second.first()
    await second.covers(['a'])
    await second.stop()
    expect(await s.offered(slot)).toEqual(['a'])
  }, notices),
  rule('notices.done.late', 'a notice may be done after others came, and after the watch ended', async (s) => {
    const name = await s.collection({ a: { n: 1 } }), w = new Watcher(s, name, false)
    await w.first()
    for (let n = 0; n < 3; n++) {
      const since = w.notices.length
      await s.patch(name, 'a', { n })
      await w.covers(['a'], since)
    }
    for (const notice of [...w.notices].reverse().slice(0, -1)) await notice.done(s.ctx)
    await w.stop()
    await w.notices[0]!.done(s.ctx).catch(() => {})
    await watched(s, name, async () => {})
  }, notices),
  rule('notices.end.abort', 'a watch ends soon after its signal, idle or not, and one whose signal is over ends at once', async (s) => {
    const name = await s.collection({ a: {} })
    for (let i = 0; i < 10; i++) {
      const w = new Watcher(s, name)
      if (i % 2 === 0) await w.first()
      if (i % 3 === 0) await s.patch(name, 'a', { i })
      await w.stop()
    }
    const ended = (async () => { try { for await (const _ of s.data.watch!(name, { signal: AbortSignal.abort() })) void _ } catch { /* or it throws */ } return 'ended' })()
    expect(await Promise.race([ended, sleep(soonMs(s) / 4, 'late')])).toBe('ended')
    expect(await s.keys(name)).toEqual(['a'])
  }, notices),
  rule('notices.end.leave', 'a watch that is left frees what it holds: twenty times, and others still work', async (s) => {
    const name = await s.collection({ a: {} })
    for (let i = 0; i < 20; i++) {
      const stop = new AbortController()
      for await (const notice of s.data.watch!(name, { signal: stop.signal })) { await notice.done(s.ctx); break }
      stop.abort()
    }
    await watched(s, name, async (w) => {
      const since = w.notices.length
      await s.patch(name, 'a', { n: 1 })
      await w.covers(['a'], since)
    })
    expect(await all(s.data.find({ from: name }, s.ctx))).toMatchObject([{ doc: { n: 1 } }])
  }, notices),
  rule('notices.end.many', 'a watched collection can be read, written, settled and dropped meanwhile', async (s) => {
    const name = await s.collection(many(50, (n) => ({ n }))), slot = await s.slot(name), w = new Watcher(s, name)
    await w.first()
    await settled(s, slot)
    expect([(await s.find(name)).length, await s.offered(slot), await s.data.count({ from: name }, s.ctx)]).toEqual([50, [], 50])
    await w.stop()
    const gone = new Watcher(s, name)
    await gone.first()
    await s.data.drop(name, s.ctx)
    await gone.stop()
    expect(await s.keys(await s.collection({ z: {} }, name))).toEqual(['z'])
  }, notices),
  rule('notices.reopen.missed', 'after closing and connecting again the first notice tells what was not done', async (s) => {
    const name = await s.collection({ a: { n: 1 } }), slot = await s.slot(name)
    await watched(s, name, async () => settled(s, slot))
    await s.patch(name, 'a', { n: 2 })
    await s.reopen()
    await s.data.create({ name, attached: false, track: 'notify' }, s.ctx)
    await s.data.openSlot(slot, s.ctx)
    await watched(s, name, async (w) => {
      await w.covers(['a'])
      expect(await s.offered(slot)).toEqual(['a'])
    })
  }, notices, durable),

  rule('notices.foreign.every-kind', "another program's inserts, changes, replacements and removes are reported", async (s) => everywhere(s, async ({ name, at, keys }) => {
    const f = await s.foreign()
    await watched(s, name, async (w) => {
      const told = async (write: () => Promise<Key>): Promise<void> => { const since = w.notices.length; await w.covers([await write()], since) }
      await told(() => f.insert(at, { t: 'new', n: 9 }))
      await told(async () => { await f.set(at, keys[0]!, 100); return keys[0]! })
      await told(async () => { await f.replace(at, keys[1]!, { t: 'replaced', n: 5 }); return keys[1]! })
      await told(async () => { await f.remove(at, keys[2]!); return keys[2]! })
    })
  }), allNotices, otherProgram),
  rule('notices.foreign.offered', 'what a notice of another program tells is offered: new rows, changed ones, and outputs of removed ones are pruned', async (s) => everywhere(s, async ({ name, at, keys }) => {
    const f = await s.foreign(), slot = await s.slot(name)
    await settled(s, slot)
    await watched(s, name, async (w) => {
      const since = w.notices.length
      await f.set(at, keys[0]!, 100)
      await f.replace(at, keys[1]!, { t: 'replaced', n: 5 })
      await f.remove(at, keys[2]!)
      const key = await f.insert(at, { t: 'new', n: 9 })
      await w.covers([...keys, key], since)
      const found = new Set((await Promise.all(w.notices.slice(since).map((n) => looked(s, slot, n)))).flat().map((row) => row.key))
      for (const k of [keys[0]!, keys[1]!, key]) expect(found.has(k)).toBe(true)
      await settled(s, slot)
      await s.data.prune(slot, 'all', s.ctx)
      expect(await s.data.tally(slot, s.ctx)).toEqual({ rows: 3, missing: 0, stale: 0, failed: 0, orphaned: 0 })
      expect(Object.fromEntries((await s.find(name, { slots: [slot.id] })).map((row) => [row.key, row.outputs?.[slot.id]?.[0]]))).toEqual({ [keys[0]!]: 1000, [keys[1]!]: 50, [key]: 90 })
    })
  }), allNotices, otherProgram),
  rule('notices.foreign.rev-first', 'when a notice tells of a change by another program, the row has its new rev', async (s) => everywhere(s, async ({ name, at, keys }) => {
    const f = await s.foreign()
    await watched(s, name, async (w) => {
      for (let n = 0; n < 5; n++) {
        const before = (await s.row(name, keys[0]!))!.rev, since = w.notices.length
        await f.set(at, keys[0]!, 1000 + n)
        await w.covers([keys[0]!], since)
        expect((await s.row(name, keys[0]!))!.rev).not.toBe(before)
      }
    })
  }), allNotices, otherProgram),
  rule('notices.foreign.no-feedback', 'outputs of what another program wrote are settled once: no notice follows', async (s) => everywhere(s, async ({ name, at, keys }) => {
    const f = await s.foreign(), slot = await s.slot(name)
    await settled(s, slot)
    await watched(s, name, async (w) => {
      const since = w.notices.length
      await f.set(at, keys[0]!, 100)
      await w.covers([keys[0]!], since)
      await sleep(300)
      const then = w.notices.length
      await settled(s, slot)
      await sleep(700)
      expect([w.notices.slice(then).filter((n) => n.keys.length > 0).map((n) => n.keys), await s.offered(slot)]).toEqual([[], []])
    })
  }), allNotices, otherProgram),
  rule('notices.foreign.missed', 'what another program wrote while nobody watched is told by the first notice', async (s) => everywhere(s, async ({ name, at, keys }) => {
    const f = await s.foreign(), slot = await s.slot(name)
    await watched(s, name, async () => settled(s, slot))
    await f.set(at, keys[0]!, 100)
    await f.replace(at, keys[1]!, { t: 'replaced', n: 5 })
    const key = await f.insert(at, { t: 'new', n: 9 })
    await watched(s, name, async (w) => {
      await w.covers([keys[0]!, keys[1]!, key])
      const found = new Set((await Promise.all(w.notices.map((n) => looked(s, slot, n)))).flat().map((row) => row.key))
      for (const k of [keys[0]!, keys[1]!, key]) expect(found.has(k)).toBe(true)
    })
  }), allNotices, otherProgram),
  rule('notices.foreign.burst', 'of 200 writes by another program, in the midst of own ones, every row ends with its last output', async (s) => everywhere(s, async ({ name, at, keys }) => {
    const f = await s.foreign(), slot = await s.slot(name), stop = new AbortController()
    const working = (async () => {
      for await (const notice of s.data.watch!(name, { signal: stop.signal })) {
        const rows = await looked(s, slot, notice)
        await s.data.settle(slot, rows.map((row) => outcome(row, [Number(row.doc['n'] ?? 0) * 10])), s.ctx)
        await notice.done(s.ctx)
      }
    })()
    working.catch(() => {})
    for (let n = 0; n < 200; n++) {
      if (n % 5 === 4) await s.patch(name, keys[n % 3]!, { n })
      else await f.set(at, keys[n % 3]!, n)
    }
    const right = JSON.stringify([...await f.read(at)].map(([key, { n }]) => [key, n! * 10]).sort()), now = async (): Promise<string> => JSON.stringify((await s.find(name, { slots: [slot.id] })).map((row) => [row.key, row.outputs?.[slot.id]?.[0]]).sort())
    for (const late = Date.now() + soonMs(s); Date.now() < late && await now() !== right;) await sleep(50)
    stop.abort()
    await working.catch(() => {})
    expect(await now()).toBe(right)
  }), allNotices, otherProgram),
  rule('notices.foreign.track-none', 'a collection that is not tracked is found by a scan or a comparison, and watching it harms nothing', async (s) => {
    const f = await s.foreign()
    for (const kind of f.keys) {
      const { source, keys } = await f.table(kind, [{ t: 'a', n: 1 }, { t: 'b', n: 2 }]), name = await s.attach(source, s.name('attached'), 'none'), slot = await s.slot(name)
      await settled(s, slot)
      await f.set({ source }, keys[0]!, 50)
      const changed = (await s.rows(slot, 'all')).filter((row) => row.mark?.hash !== outcome(row, 'same').hash)
      expect(changed.map((row) => row.key)).toEqual([keys[0]])
    }
  }, attaches, allNotices, otherProgram),
]
