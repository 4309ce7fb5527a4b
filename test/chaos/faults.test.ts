/** What the network and the server do to a call that is under way: answers that are lost, statements that are cancelled, sessions that are ended. */
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import type { Datalayer, Write } from '../../core/contract.ts'
import { guardData } from '../../core/guard.ts'
import { intercept } from '../../core/middleware.ts'
import { inlay, InlayError, listener, model, step, type Inlay } from '../../index.ts'
import { all, codeOf, live } from '../conformance/subject.ts'
import { ownDatabase, runSql } from '../support/own-database.ts'
import { rigOn, rowOf, type Rig } from './rig.ts'

const database = ownDatabase()
const fresh = (): string => `f_${crypto.randomUUID().replaceAll('-', '').slice(0, 16)}`

type When = 'before' | 'after'
const broken = (): InlayError => new InlayError('UNAVAILABLE', 'The connection broke.', { retryable: true })
interface Losing { readonly data: Datalayer; lose(when: When, meanwhile?: () => Promise<unknown>): void }
/** After `lose`, the connection breaks once: before or after the next write is done. `fault` is what the writer is told. */
function losing(next: Datalayer, fault = broken): Losing {
  let wanted: { readonly when: When; readonly meanwhile: (() => Promise<unknown>) | undefined } | undefined
  const data = intercept(next, async (method, call) => {
    if (method !== 'write' || wanted === undefined) return call()
    const { when, meanwhile } = wanted
    wanted = undefined
    if (when === 'after') await call()
    await meanwhile?.()
    throw fault()
  })
  return { data, lose: (when, meanwhile) => { wanted = { when, meanwhile } } }
}
const guarded = (data: Datalayer): Datalayer => guardData(data, { name: 'the server', closed: false, classify: () => undefined })

const single: Readonly<Record<string, (rev: string) => Write>> = {
  insert: () => ({ kind: 'insert', key: 'new', doc: { x: 9 } }),
  put: () => ({ kind: 'put', key: 'k1', doc: { x: 9 } }),
  'put of a rev': (rev) => ({ kind: 'put', key: 'k1', doc: { x: 9 }, rev }),
  'put of a new key': () => ({ kind: 'put', key: 'new', doc: { x: 9 } }),
  patch: () => ({ kind: 'patch', key: 'k1', set: { x: 9 }, unset: ['y'] }),
  'patch of a rev': (rev) => ({ kind: 'patch', key: 'k1', set: { x: 9 }, unset: ['y'], rev }),
  remove: () => ({ kind: 'remove', key: 'k1' }),
  'remove of a rev': (rev) => ({ kind: 'remove', key: 'k1', rev }),
}
/** Each single write, with an answer that is lost. */
async function singleWrites({ one }: Rig, when: When, fault = broken): Promise<void> {
  for (const [name, make] of Object.entries(single)) {
    await one.write('docs', [{ kind: 'put', key: 'k1', doc: { x: 1, y: 1 } }, { kind: 'remove', key: 'new' }], live)
    const { data, lose } = losing(one, fault), op = make((await rowOf(one, 'k1'))!.rev)
    lose(when)
    const [written] = await guarded(data).write('docs', [op], live), row = await rowOf(one, op.key!)
    expect(written, name).toEqual({ status: 'done', key: op.key, ...(op.kind === 'remove' ? {} : { rev: row?.rev }) })
    expect(row?.doc, name).toEqual(op.kind === 'remove' ? undefined : { x: 9 })
  }
}
/** A batch of which some is done, some finds its key taken, its row gone, or written by others, who may have come after it. */
async function batch({ one }: Rig, when: When): Promise<void> {
  const { data, lose } = losing(one), [k1, k2] = [await rowOf(one, 'k1'), await rowOf(one, 'k2')]
  await one.write('docs', [{ kind: 'patch', key: 'k2', set: { x: 5 }, unset: [] }], live)
  lose(when)
  const written = await guarded(data).write('docs', [
    { kind: 'insert', key: 'a', doc: { x: 9 } }, { kind: 'insert', key: 'k0', doc: { x: 9 } }, { kind: 'patch', key: 'k1', set: { x: 9 }, unset: [], rev: k1!.rev }, { kind: 'patch', key: 'k2', set: { x: 9 }, unset: [], rev: k2!.rev },
    { kind: 'put', key: 'k3', doc: { x: 9 } }, { kind: 'patch', key: 'none', set: { x: 9 }, unset: [] }, { kind: 'remove', key: 'k4' },
  ], live)
  expect(written.map(({ key, status }) => `${key} ${status}`)).toEqual(['a done', 'k0 exists', 'k1 done', 'k2 unknown', 'k3 done', 'none missing', 'k4 done'])
  const rows = await all(one.find({ from: 'docs' }, live))
  expect(Object.fromEntries(rows.map((row) => [row.key, row.doc['x']]))).toEqual({ a: 9, k0: 0, k1: 9, k2: 5, k3: 9 })
  for (const { key, rev } of written) if (rev !== undefined) expect(rev).toBe(rows.find((row) => row.key === key)!.rev)
}

describe.each(['before', 'after'] as const)('where the connection breaks %s a write is done', (when) => {
  it('a single write is done once, and gives the rev of its row', async (ctx) => { await rigOn(await database(ctx))((rig) => singleWrites(rig, when)) })

  it('each write of a batch is done once, and says what became of it', async (ctx) => { await rigOn(await database(ctx))((rig) => batch(rig, when)) })

  it('of two equal compare-and-sets one wins', async (ctx) => {
    await rigOn(await database(ctx))(async ({ one, two }) => {
      const { data, lose } = losing(one), before = await rowOf(one, 'k1')
      const op: Write = { kind: 'patch', key: 'k1', set: { x: 2 }, unset: [], rev: before!.rev }
      let others: string | undefined
      lose(when, async () => { others = (await two.write('docs', [op], live))[0]!.status })
      const own = await guarded(data).write('docs', [op], live).then(([written]) => written!.status, (error: unknown) => (error as InlayError).code)
      expect([own, others].filter((status) => status === 'done')).toHaveLength(1)
    })
  })

  it('of two increments none is lost or done twice; an unknown outcome is an error', async (ctx) => {
    let lose: Losing['lose'] = () => {}
    const db = await inlay({ data: await database(ctx), namespace: fresh(), config: false, middleware: [{ name: 'losing', data: (next) => { const made = losing(next); lose = made.lose; return made.data } }] })
    ctx.onTestFinished(() => db.close())
    const docs = db.collection<{ n: number }>('docs'), increment = (): Promise<number> => docs.update({ _id: 'a' }, { $inc: { n: 1 } }).then(({ ids }) => ids.length)
    await docs.insert({ _id: 'a', n: 0 })
    lose(when, increment)
    const done = 1 + await increment().catch((error: unknown) => { expect((error as InlayError).code).toBe('UNAVAILABLE'); return Number.NaN })
    const { n } = (await docs.findOne({ _id: 'a' }))!
    expect(Number.isNaN(done) ? [1, 2] : [done]).toContain(n)
  })

  it('the methods of a collection do what they say once', async (ctx) => {
    let lose: Losing['lose'] = () => {}
    const db = await inlay({ data: await database(ctx), namespace: fresh(), config: false, components: [tenfold], middleware: [{ name: 'losing', data: (next) => { const made = losing(next); lose = made.lose; return made.data } }] })
    ctx.onTestFinished(() => db.close())
    const docs = db.collection<{ x: number; z?: number }>('docs'), once = { refused: [], outputs: { failed: 0, pending: 0 } }
    await docs.insert({ _id: 'first', x: 0 })
    lose(when)
    const { ids } = await docs.insert([{ x: 1 }, { _id: 'b', x: 2 }])
    expect(ids).toHaveLength(2)
    lose(when)
    expect(await docs.insert({ _id: 'c', x: 3 })).toMatchObject({ ids: ['c'], ...once })
    lose(when)
    expect(await Promise.all([4, 5, 6].map((x) => docs.insert({ _id: `d${x}`, x })))).toMatchObject([4, 5, 6].map((x) => ({ ids: [`d${x}`], ...once })))
    lose(when)
    expect(await docs.update({ x: { $lt: 3 } }, { $inc: { x: 100 } })).toMatchObject({ refused: [], outputs: { done: 3, failed: 0, pending: 0 } })
    lose(when)
    expect(await docs.replace('c', { x: 30 })).toMatchObject({ ids: ['c'], ...once })
    lose(when)
    expect(await docs.delete({ _id: 'd4' })).toMatchObject({ ids: ['d4'], refused: [] })
    const rows = await docs.find().sort({ x: 1 }).toArray()
    expect(rows.map((row) => row.x)).toEqual([5, 6, 30, 100, 101, 102])
    expect(rows.map((row) => tenfoldOf(row))).toEqual(rows.map((row) => row.x * 10))
    expect(rows.find((row) => row.x === 101)!._id).toBe(ids[0])
  })
})

it('a guard that repeats a write instead of looking first is noticed', async (ctx) => {
  const uri = await database(ctx), conflict = (): InlayError => new InlayError('CONFLICT', 'The connection broke.', { retryable: true })
  await expect(rigOn(uri)((rig) => singleWrites(rig, 'after', conflict))).rejects.toThrow(/insert.*to deeply equal/)
})

describe('a signal', () => {
  it('ends the statement on the server, and the connections are usable afterwards', async (ctx) => {
    const uri = await database(ctx)
    await rigOn(uri)(async ({ one }) => {
      for (let round = 0; round < 3; round++) {
        const tag = crypto.randomUUID(), stop = new AbortController()
        const running = codeOf(one.native!(`select pg_sleep(60) /* ${tag} */`, { signal: stop.signal }))
        await until(async () => await active(uri, tag) === 1)
        stop.abort()
        expect(await running).toBe('ABORTED')
        await until(async () => await active(uri, tag) === 0)
        const counts = await Promise.all(Array.from({ length: 20 }, () => one.count({ from: 'docs' }, live)))
        expect(counts).toEqual(counts.map(() => 5))
      }
    })
  })

  it('ends a write that waits for a lock, which is then not done', async (ctx) => {
    await rigOn(await database(ctx))(async (rig) => {
      const { one, foreign } = rig, stop = new AbortController()
      await foreign.query('begin')
      await foreign.query(`select from docs where _id = 'k1' for update`)
      const writing = codeOf(one.write('docs', [{ kind: 'patch', key: 'k0', set: { x: 9 }, unset: [] }, { kind: 'patch', key: 'k1', set: { x: 9 }, unset: [] }], { signal: stop.signal }))
      await rig.waiting()
      stop.abort()
      expect(await writing).toBe('ABORTED')
      await foreign.query('rollback')
      expect((await all(one.find({ from: 'docs' }, live))).map((row) => row.doc['x'])).toEqual([0, 1, 2, 3, 4])
    })
  })
})

const tenfold = listener({ model: model('tenfold', { run: step('tenfold@1', (xs: readonly number[]) => xs.map((x) => x * 10)) }), on: 'docs', key: 'x' })
function tenfoldOf(row: { readonly _outputs?: unknown }): unknown {
  return (row._outputs as { readonly x?: { readonly tenfold?: number } } | undefined)?.x?.tenfold
}

describe('a server that ends the sessions of Inlay again and again', () => {
  /** Runs `work` while sessions are ended every 25 ms, 24 times. `ended` tells when that is over. */
  async function attacked(uri: string, work: (ended: () => boolean) => Promise<void>): Promise<number> {
    let over = false, sessions = 0
    const attack = async (): Promise<void> => {
      for (let i = 0; i < 24; i++) {
        await sleep(25)
        const [{ n }] = await runSql<{ n: string }>(uri, `select count(pg_terminate_backend(pid)) as n from pg_stat_activity where datname = current_database() and application_name = 'inlay'`) as [{ n: string }]
        sessions += Number(n)
      }
      over = true
    }
    await Promise.all([attack(), work(() => over)])
    return sessions
  }
  async function opened(uri: string): Promise<Inlay> {
    return inlay({ data: uri, namespace: fresh(), config: false, components: [tenfold], log: {} })
  }
  /** The result, or undefined after a typed error. */
  async function orUnavailable<T>(call: Promise<T>): Promise<T | undefined> {
    return call.catch((error: unknown) => {
      if (InlayError.is(error) && error.code === 'UNAVAILABLE') return undefined
      throw error
    })
  }

  it('loses and doubles no insert and no increment', async (ctx) => {
    const uri = await database(ctx), db = await opened(uri), docs = db.collection<{ x: number; n?: number }>('docs')
    ctx.onTestFinished(() => db.close())
    const tried = new Map<string, number>(), acknowledged = new Set<string>(), counter = { done: 0, unknown: 0 }
    await docs.insert({ _id: 'counter', x: -1, n: 0 })
    let made = 0
    const inserter = async (ended: () => boolean): Promise<void> => {
      while (!ended()) {
        const batch = Array.from({ length: 3 }, () => { const x = ++made; return { _id: `i${x}`, x } })
        for (const { _id, x } of batch) tried.set(_id, x)
        const changed = await orUnavailable(docs.insert(batch))
        expect(changed?.refused ?? []).toEqual([])
        for (const id of changed?.ids ?? []) acknowledged.add(id)
      }
    }
    const incrementer = async (ended: () => boolean): Promise<void> => {
      while (!ended()) {
        const changed = await orUnavailable(docs.update({ _id: 'counter' }, { $inc: { n: 1 } }))
        if (changed === undefined) counter.unknown++
        else counter.done += changed.ids.length
      }
    }
    const sessions = await attacked(uri, async (ended) => { await Promise.all([inserter(ended), incrementer(ended), incrementer(ended), incrementer(ended)]) })
    await db.verify({ repair: true })
    const rows = await docs.find({ _id: { $ne: 'counter' } }).toArray(), { n } = (await docs.findOne({ _id: 'counter' }))!
    console.log(`ended ${sessions} sessions; inserts: ${tried.size} tried, ${acknowledged.size} acknowledged, ${rows.length} there; increments: ${JSON.stringify(counter)}, ${n} there`)
    expect(sessions).toBeGreaterThan(10)
    expect(rows.filter((row) => tried.get(row._id) !== row.x)).toEqual([])
    const there = new Set(rows.map((row) => row._id))
    expect([...acknowledged].filter((id) => !there.has(id))).toEqual([])
    expect(n).toBeGreaterThanOrEqual(counter.done)
    expect(n).toBeLessThanOrEqual(counter.done + counter.unknown)
    expect(rows.filter((row) => tenfoldOf(row) !== row.x * 10)).toEqual([])
  })

  it('a find gives each row once, or ends in one typed error', async (ctx) => {
    const uri = await database(ctx), db = await opened(uri), docs = db.collection<{ x: number }>('docs')
    ctx.onTestFinished(() => db.close())
    await docs.insert(Array.from({ length: 3500 }, (_, x) => ({ _id: `k${String(x).padStart(4, '0')}`, x })))
    let whole = 0, failed = 0
    await attacked(uri, async (ended) => {
      while (!ended()) {
        const found = await orUnavailable((async () => {
          const xs: number[] = []
          for await (const row of docs.find()) {
            if (xs.push(row.x) % 1000 === 0) await sleep(10)
          }
          return xs
        })())
        if (found === undefined) { failed++; continue }
        whole++
        expect(found).toEqual(Array.from({ length: 3500 }, (_, x) => x))
      }
    })
    console.log(`finds: ${whole} whole, ${failed} failed`)
    expect(whole).toBeGreaterThan(0)
  })
})

/** How many sessions run a statement that has this in its text. */
async function active(uri: string, tag: string): Promise<number> {
  const [{ n }] = await runSql<{ n: string }>(uri, `select count(*) as n from pg_stat_activity where state = 'active' and pid <> pg_backend_pid() and query like '%${tag}%'`) as [{ n: string }]
  return Number(n)
}
async function until(holds: () => Promise<boolean>): Promise<void> {
  for (let tries = 0; !await holds(); tries++) {
    if (tries === 100) throw new Error('It did not come to hold within two seconds.')
    await sleep(20)
  }
}
