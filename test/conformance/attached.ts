/** What others made: attached, read, written and left as it was. Null and a missing field are the same here: a table has no other way to lack a value. */
import { expect } from 'vitest'
import type { Inlay } from '../../core/api.ts'
import type { Doc, Filter, Key, Row, Scalar, Slot } from '../../core/contract.ts'
import { InlayError } from '../../core/errors.ts'
import { evaluate } from '../../core/match.ts'
import { listener, model } from '../../core/spec.ts'
import { step } from '../../core/step.ts'
import { random } from './random.ts'
import { attaches, attachesNothing, durable, otherProgram, revsOfOthers, rule, speaksOfOthers, type Need, type Rule } from './rule.ts'
import { codeOf, outcome, type Foreign, type ForeignRow, type Subject } from './subject.ts'

const some: readonly ForeignRow[] = [{ t: 'one', n: 1 }, { t: 'two', n: 2 }, { t: null, n: 3 }, { t: 'four', n: null }, { t: '', n: -0.5 }]
const dozen: readonly ForeignRow[] = Array.from({ length: 12 }, (_, i) => ({ t: ['a', 'A', 'ab', 'é', null, 'a%'][i % 6]!, n: i % 5 === 4 ? null : i % 4 }))

/** A table of others, attached. */
interface Table { readonly f: Foreign; readonly kind: string; readonly name: string; readonly source: string; readonly keys: readonly Key[] }
/** Runs a test on a table of every kind of key. */
async function each(s: Subject, rows: readonly ForeignRow[], run: (table: Table) => Promise<void>, kinds: (f: Foreign) => readonly string[] = (f) => f.keys): Promise<void> {
  const f = await s.foreign()
  expect(f.keys.length).toBeGreaterThan(0)
  for (const kind of kinds(f)) {
    const { source, keys } = await f.table(kind, rows)
    try {
      await run({ f, kind, name: await s.attach(source), source, keys })
    } catch (error) {
      if (error instanceof Error) error.message = `with a key of the kind ${kind}: ${error.message}`
      throw error
    }
  }
}
const plain = (doc: Doc): Doc => ({ t: doc['t'] ?? null, n: doc['n'] ?? null })
const read = async (s: Subject, name: string): Promise<readonly (readonly [Key, Doc])[]> => (await s.find(name)).map((row) => [row.key, plain(row.doc)])
const paired = (keys: readonly Key[], rows: readonly ForeignRow[]): readonly (readonly [Key, Doc])[] => keys.map((key, i) => [key, { ...rows[i]! }])
const list = async (f: Foreign, source: string): Promise<readonly (readonly [Key, Doc])[]> => [...await f.read({ source })].map(([key, row]) => [key, { ...row }] as const)
const byKey = (rows: readonly (readonly [Key, Doc])[]): Record<Key, Doc> => Object.fromEntries(rows)
/** What another program sees of a table and beside it. */
const seen = async (f: Foreign, source: string): Promise<unknown> => ({ rows: byKey(await list(f, source)), rest: Object.fromEntries(await f.rest({ source })) })
const listed = async (s: Subject, name: string): Promise<unknown> => (await s.data.list(s.ctx)).find((c) => c.name === name)
/** Outputs as core would make them: those of the rows that a slot offers. */
async function work(s: Subject, slot: Slot, value: (row: Row) => Scalar): Promise<readonly Key[]> {
  const rows = await s.rows(slot)
  expect(await s.data.settle(slot, rows.map((row) => outcome(row, [value(row)])), s.ctx)).toEqual([])
  return rows.map((row) => row.key)
}
const n10 = (row: Row): Scalar => Number(row.doc['n'] ?? 0) * 10
const outputs = async (s: Subject, slot: Slot): Promise<readonly unknown[]> => (await s.find(slot.collection, { slots: [slot.id] })).map((row) => row.outputs?.[slot.id]?.[0])
/** Awaits what watch does where revs of foreign writes come by it. */
async function stamped(s: Subject, name: string, look: () => Promise<boolean>): Promise<void> {
  if (s.capabilities.foreign) return
  const stop = new AbortController()
  const watching = (async () => { for await (const notice of s.data.watch!(name, { signal: stop.signal })) { await notice.done(s.ctx); if (stop.signal.aborted) return } })()
  watching.catch(() => {})
  for (const late = Date.now() + (s.settings.soonMs ?? 10_000); Date.now() < late && !await look();) await new Promise((next) => { setTimeout(next, 25) })
  stop.abort()
  await watching.catch(() => {})
}
const revOf = async (s: Subject, name: string, key: Key): Promise<string | undefined> => (await s.row(name, key))?.rev
const changes: Need = { says: 'revs of what others write come by watch, and this plugin reports nothing', met: (s) => s.capabilities.foreign || s.capabilities.notices === 'all' }
/** The table through an `Inlay` of its own, under another name. */
async function api(s: Subject, { name: other, source }: Table): Promise<{ readonly db: Inlay; readonly name: string; readonly docs: ReturnType<typeof collectionOf> }> {
  await s.data.drop(other, s.ctx)
  const db = await s.open(), name = s.name('users')
  return { db, name, docs: collectionOf(db, name, source, s.capabilities.notices === 'all' ? 'notify' : 'none') }
}
const collectionOf = (db: Inlay, name: string, attach: string, track: 'notify' | 'none') => db.collection<{ t?: string | null; n?: number | null }>(name, { attach, track })

export const attached: readonly Rule[] = [
  rule('attached.client.given', 'where the capabilities speak of what others write, conformance() is given a client of another program', async (s) => {
    expect(s.settings.foreign, 'the option "foreign" of conformance()').toBeTypeOf('function')
    const { keys, made } = await s.foreign()
    expect(made.filter((kind) => !keys.includes(kind))).toEqual([])
    if (s.capabilities.attaches) expect(keys.length).toBeGreaterThan(0)
  }, speaksOfOthers),
  rule('attached.none.unsupported', 'a database in which nothing can be attached says UNSUPPORTED with a reason, and keeps nothing of the try', async (s) => {
    const name = s.name(), trying = s.data.create({ name, attached: 'users', track: 'none' }, s.ctx)
    expect(await codeOf(trying)).toMatch(/^(UNSUPPORTED|NOT_FOUND)$/)
    expect(await trying.catch((error: unknown) => (error as Error).message)).toMatch(/\w+ \w+/)
    expect(await listed(s, name)).toBeUndefined()
    expect(await s.keys(await s.collection({ a: {} }, name))).toEqual(['a'])
  }, attachesNothing),

  rule('attached.create.reads', 'an attached table is read: its keys, its columns, and list says what is attached', async (s) => each(s, some, async ({ name, source, keys }) => {
    expect(await read(s, name)).toEqual(paired(keys, some))
    expect(await s.data.count({ from: name }, s.ctx)).toBe(5)
    expect(await listed(s, name)).toMatchObject({ name, attached: source })
    expect(await listed(s, name)).not.toHaveProperty('readOnly')
    for (const row of await s.find(name)) expect(row.rev).toMatch(/\S/)
  }), attaches, otherProgram),
  rule('attached.create.empty', 'a table without rows is attached', async (s) => each(s, [], async ({ f, name, source }) => {
    expect([await s.find(name), await s.data.count({ from: name }, s.ctx)]).toEqual([[], 0])
    const key = await f.insert({ source }, { t: 'late', n: 1 })
    expect(await read(s, name)).toEqual([[key, { t: 'late', n: 1 }]])
  }), attaches, otherProgram),
  rule('attached.create.again', 'attaching again, also eight times at once, is no error and changes nothing', async (s) => each(s, some, async ({ f, name, source, keys }) => {
    const slot = await s.slot(name)
    await work(s, slot, n10)
    await Promise.all(Array.from({ length: 8 }, () => s.attach(source, name)))
    expect([await read(s, name), await outputs(s, slot), (await s.data.list(s.ctx)).filter((c) => c.name === name).length]).toEqual([paired(keys, some), [10, 20, 30, 0, -5], 1])
    expect((await seen(f, source) as { rows: unknown }).rows).toEqual(byKey(paired(keys, some)))
  }), attaches, otherProgram),
  rule('attached.create.at-once', 'a table can be attached eight times at once', async (s) => {
    const f = await s.foreign()
    for (const kind of f.keys) {
      const { source, keys } = await f.table(kind, some), name = s.name('attached')
      await Promise.all(Array.from({ length: 8 }, () => s.attach(source, name)))
      expect((await s.find(name)).map((row) => row.key)).toEqual(keys)
    }
  }, attaches, otherProgram),
  rule('attached.create.other-track', 'an attached collection may be created again with another track, which list then says', async (s) => each(s, some, async ({ name, source, keys }) => {
    for (const track of ['none', 'notify', 'none'] as const) {
      await s.attach(source, name, track)
      expect([await listed(s, name), (await s.find(name)).map((row) => row.key)]).toMatchObject([{ attached: source, track }, keys])
    }
  }), attaches, otherProgram, { says: 'the plugin does not report what others write, so there is one way to track', met: (s) => s.capabilities.notices === 'all' }),
  rule('attached.create.conflict', 'a name that stands for something else is CONFLICT: an own collection, or another table', async (s) => {
    const f = await s.foreign(), kind = f.keys[0]!, one = await f.table(kind, some), two = await f.table(kind, some), name = await s.attach(one.source), own = await s.collection({ a: {} })
    expect(await codeOf(s.attach(two.source, name))).toBe('CONFLICT')
    expect(await codeOf(s.data.create({ name, attached: false, track: 'notify' }, s.ctx))).toBe('CONFLICT')
    expect(await codeOf(s.attach(one.source, own))).toBe('CONFLICT')
    expect([await listed(s, name), await s.keys(own), (await s.find(name)).length]).toMatchObject([{ attached: one.source }, ['a'], 5])
  }, attaches, otherProgram),
  rule('attached.create.not-found', 'what is not there is NOT_FOUND, and is not listed', async (s) => {
    const f = await s.foreign(), { source } = await f.table(f.keys[0]!, []), name = s.name('attached')
    expect(await codeOf(s.attach(`${source}_none`, name))).toBe('NOT_FOUND')
    expect(await listed(s, name)).toBeUndefined()
  }, attaches, otherProgram),
  rule('attached.create.unfit', 'what cannot be attached is UNSUPPORTED with the reason, and is not listed', async (s) => {
    const f = await s.foreign()
    if (f.unfit === undefined) return
    const name = s.name('attached'), attaching = s.attach(await f.unfit(), name)
    expect(await codeOf(attaching)).toBe('UNSUPPORTED')
    expect(await attaching.catch((error: unknown) => (error as Error).message)).toMatch(/\w+ \w+ \w+/)
    expect(await listed(s, name)).toBeUndefined()
  }, attaches, otherProgram),
  rule('attached.create.apart', 'two attached tables with equal keys do not see each other, nor their outputs', async (s) => {
    const f = await s.foreign()
    for (const kind of f.keys) {
      const [one, two] = [await f.table(kind, some), await f.table(kind, dozen)], [a, b] = [await s.attach(one.source), await s.attach(two.source)], [A, B] = [await s.slot(a), await s.slot(b)]
      await work(s, A, n10)
      expect([(await s.find(a)).length, (await s.find(b)).length, (await s.offered(A)).length, (await s.offered(B)).length]).toEqual([5, 12, 0, 12])
    }
  }, attaches, otherProgram),
  rule('attached.create.untouched', 'attaching leaves keys, columns and values as another program sees them', async (s) => {
    const f = await s.foreign()
    for (const kind of f.keys) {
      const { source } = await f.table(kind, some), before = await seen(f, source), name = await s.attach(source)
      await work(s, await s.slot(name), n10)
      expect(await seen(f, source)).toEqual(before)
    }
  }, attaches, otherProgram),
  rule('attached.installs.said', 'what create installs is said before, and nothing is left to say after; what says nothing installs nothing', async (s) => {
    const f = await s.foreign()
    for (const kind of f.keys) for (const track of s.capabilities.notices === 'all' ? ['none', 'notify'] as const : ['none'] as const) {
      const { source } = await f.table(kind, some), collection = { name: s.name('attached'), attached: source, track }
      expect(await f.leftovers(source)).toEqual([])
      const before = await s.raw.installs?.(collection, s.ctx) ?? []
      for (const said of before) expect(said).toMatch(/\w+ \w+/)
      expect(await f.leftovers(source)).toEqual([])
      await s.data.create(collection, s.ctx)
      expect(await s.raw.installs?.(collection, s.ctx) ?? []).toEqual([])
      if (before.length === 0) expect(await f.leftovers(source)).toEqual([])
    }
  }, attaches, otherProgram),

  rule('attached.find.order', 'rows come in the order of the native key, whole and by pages', async (s) => each(s, dozen, async ({ name, keys }) => {
    const found = async (q: object): Promise<readonly Key[]> => (await s.find(name, q)).map((row) => row.key)
    expect(await found({})).toEqual(keys)
    for (const limit of [1, 5, 12]) {
      const pages: Key[] = []
      for (let after: Key | undefined; ;) {
        const page = await found({ limit, ...(after === undefined ? {} : { after }) })
        pages.push(...page)
        expect(pages.length).toBeLessThanOrEqual(12)
        if (page.length < limit) break
        after = page.at(-1)!
      }
      expect(pages).toEqual(keys)
    }
    expect([await found({ skip: 7, limit: 3 }), await found({ skip: 12 }), await found({ after: keys[8]! })]).toEqual([keys.slice(7, 10), [], keys.slice(9)])
    expect(await found({ after: keys[8]!, where: { kind: 'keys', keys: keys.slice(6, 11).reverse() } })).toEqual(keys.slice(9, 11))
    expect(await s.offered(await s.slot(name, { fields: [] }))).toEqual(keys)
  }), attaches, otherProgram),
  rule('attached.find.after-gone', 'a scan resumes after a row that is gone', async (s) => each(s, dozen, async ({ f, name, source, keys }) => {
    await f.remove({ source }, keys[8]!)
    expect((await s.find(name, { after: keys[8]! })).map((row) => row.key)).toEqual(keys.slice(9))
  }), attaches, otherProgram),
  rule('attached.find.keys', 'rows are found by their keys; what is no key of the kind finds nothing', async (s) => each(s, dozen, async ({ f, kind, name, keys }) => {
    for (const [i, key] of keys.entries()) expect((await s.row(name, key))?.doc, key).toMatchObject(dozen[i]!.t === null ? {} : { t: dozen[i]!.t })
    expect(await s.keys(name, { kind: 'keys', keys: [keys[9]!, keys[1]!, f.key(kind)] })).toEqual([keys[1], keys[9]])
    const strange = ['', ' ', 'none', '-1', '1.5', '01', `${keys[0]!} `, `'`, 'x'.repeat(300), '99999999999999999999', '{}', 'é'].filter((key) => !keys.includes(key))
    expect(await s.keys(name, { kind: 'keys', keys: strange })).toEqual([])
    expect(await s.keys(name, { kind: 'keys', keys: [...strange, keys[2]!] })).toEqual([keys[2]])
    expect(await s.data.count({ from: name, where: { kind: 'keys', keys: [...strange, keys[2]!, keys[3]!] } }, s.ctx)).toBe(2)
  }), attaches, otherProgram),
  rule('attached.find.fields', 'fields narrows what is read', async (s) => each(s, some, async ({ name }) => {
    expect((await s.find(name, { fields: ['n'] })).map((row) => [row.doc['n'] ?? null, 't' in row.doc])).toEqual(some.map(({ n }) => [n, false]))
    expect((await s.find(name, { fields: [] })).map((row) => row.doc)).toEqual(some.map(() => ({})))
    expect((await s.find(name, { fields: ['none'] })).map((row) => row.doc['none'] ?? null)).toEqual(some.map(() => null))
  }), attaches, otherProgram),
  rule('attached.find.filters', 'filters of columns find what core finds in the documents', async (s) => each(s, dozen, async ({ name }) => {
    const rows = await s.find(name), can = (kind: Filter['kind']): boolean => s.capabilities.filters.includes(kind)
    const values: readonly NonNullable<Scalar>[] = [0, 1, 2, 2.5, -1, 3n, 1e308, 5e-324, Number.NaN, Infinity, -Infinity, 'a', 'A', '', 'é', 'a%', '1', true, false, new Date(0), Uint8Array.from([97])]
    const wheres: Filter[] = ['t', 'n', 'none'].flatMap((field): Filter[] => {
      const path = { at: [field] }
      return [
        ...values.flatMap((value): Filter[] => (['eq', 'lt', 'lte', 'gt', 'gte'] as const).filter((kind) => kind === 'eq' || !(value instanceof Uint8Array)).map((kind) => ({ kind, path, value }))),
        { kind: 'in', path, values: [1, 'a', true, Number.NaN] }, { kind: 'null', path }, ...['a', 'A', '%', '', '1'].filter((v) => v !== '').map((value): Filter => ({ kind: 'prefix', path, value })),
        ...(can('not') ? [{ kind: 'not', of: { kind: 'eq', path, value: 1 } }, { kind: 'not', of: { kind: 'null', path } }, { kind: 'not', of: { kind: 'gt', path, value: 'a' } }] as const : []),
      ]
    }).filter((where) => can(where.kind) && (where.kind !== 'not' || can(where.of.kind)))
    wheres.push(...(can('exists') ? ['t', 'n', 'none'].flatMap((field) => [true, false].map((is): Filter => ({ kind: 'exists', path: { at: [field] }, is }))) : []))
    for (const where of wheres) expect([where, await s.keys(name, where)]).toEqual([where, rows.filter((row) => evaluate(where, row.key, row.doc)).map((row) => row.key)])
  }), attaches, otherProgram),
  rule('attached.find.random', 'random filters of columns, and their counts and selections, agree with core', async (s) => each(s, dozen, async ({ name }) => {
    const rows = await s.find(name), r = random(s.settings.seed + 20), leaves = s.capabilities.filters.filter((kind) => ['eq', 'lt', 'gte', 'null', 'in'].includes(kind)), joins = s.capabilities.filters.filter((kind) => ['and', 'or', 'not'].includes(kind))
    const one = (depth: number): Filter => {
      const kind = depth > 0 && joins.length > 0 && r.next() < 0.5 ? r.pick(joins) : leaves.length === 0 ? 'keys' : r.pick(leaves), path = { at: [r.pick(['t', 'n'])] }, value = r.pick([0, 1, 2, 3, 'a', 'A', 'é'])
      switch (kind) {
        case 'and': case 'or': return { kind, of: [one(depth - 1), one(depth - 1)] }
        case 'not': return { kind, of: one(depth - 1) }
        case 'null': return { kind, path }
        case 'in': return { kind, path, values: [value, r.pick([0, 'a', 'ab'])] }
        case 'keys': return { kind, keys: rows.filter(() => r.next() < 0.5).map((row) => row.key) }
        default: return { kind: kind as 'eq', path, value }
      }
    }
    for (let i = 0; i < 40; i++) {
      const where = one(3), right = rows.filter((row) => evaluate(where, row.key, row.doc)).map((row) => row.key)
      expect([where, await s.keys(name, where), await s.data.count({ from: name, where }, s.ctx)]).toEqual([where, right, right.length])
      if (i % 10 === 0) expect(await s.offered(await s.slot(name, { where, fields: [] }))).toEqual(right)
    }
  }), attaches, otherProgram),
  rule('attached.find.sorted', 'the database sorts columns as core does, ties by the native key', async (s) => each(s, dozen, async ({ name, keys }) => {
    const rank = (row: Row): number => Number(row.doc['n'] ?? -1), rows = await s.find(name)
    for (const descending of [false, true]) {
      const right = [...rows].sort((a, b) => (rank(a) - rank(b)) * (descending ? -1 : 1) || keys.indexOf(a.key) - keys.indexOf(b.key)).map((row) => row.key)
      expect((await s.find(name, { order: [{ path: { at: ['n'] }, descending }] })).map((row) => row.key)).toEqual(right)
      expect((await s.find(name, { order: [{ path: { at: ['n'] }, descending }], skip: 2, limit: 5 })).map((row) => row.key)).toEqual(right.slice(2, 7))
    }
  }), attaches, otherProgram, { says: 'needs sorting in the database, which core does for this plugin', met: (s) => s.capabilities.order }),
  rule('attached.find.foreign-writes', 'what another program writes is read at once', async (s) => each(s, some, async ({ f, name, source, keys }) => {
    await f.set({ source }, keys[0]!, 100)
    await f.replace({ source }, keys[1]!, { t: 'new', n: 5 })
    await f.remove({ source }, keys[2]!)
    const key = await f.insert({ source }, { t: 'more', n: 7 })
    expect(byKey(await read(s, name))).toEqual({ [keys[0]!]: { t: 'one', n: 100 }, [keys[1]!]: { t: 'new', n: 5 }, [keys[3]!]: some[3], [keys[4]!]: some[4], [key]: { t: 'more', n: 7 } })
  }), attaches, otherProgram),

  rule('attached.patch.only-given', 'a patch touches the fields it names, in its row', async (s) => each(s, some, async ({ f, name, source, keys }) => {
    const before = await f.rest({ source }), revs = new Map((await s.find(name)).map((row) => [row.key, row.rev]))
    const rev = await s.patch(name, keys[1]!, { t: 'patched' })
    expect(byKey(await list(f, source))).toEqual({ ...byKey(paired(keys, some)), [keys[1]!]: { t: 'patched', n: 2 } })
    expect(Object.fromEntries(await f.rest({ source }))).toEqual(Object.fromEntries(before))
    for (const row of await s.find(name)) expect(row.rev === revs.get(row.key)).toBe(row.key !== keys[1])
    expect(await revOf(s, name, keys[1]!)).toBe(rev)
  }), attaches, otherProgram),
  rule('attached.patch.null', 'a patch sets null, and unsets', async (s) => each(s, some, async ({ f, name, source, keys }) => {
    await s.patch(name, keys[0]!, { t: null })
    await s.patch(name, keys[1]!, {}, ['n'])
    await s.patch(name, keys[2]!, { t: 'x' }, ['n', 'n'])
    const right = { ...byKey(paired(keys, some)), [keys[0]!]: { t: null, n: 1 }, [keys[1]!]: { t: 'two', n: null }, [keys[2]!]: { t: 'x', n: null } }
    expect([byKey(await list(f, source)), byKey(await read(s, name))]).toEqual([right, right])
  }), attaches, otherProgram),
  rule('attached.patch.values', 'texts and numbers are written as they are', async (s) => each(s, some, async ({ f, name, source, keys }) => {
    for (const t of ['', ' ', `it's "quoted" \\ %s $1 {}`, 'two\nlines', '😀 é e\u0301', 'null', '2024-01-01', 'x'.repeat(20_000), '-- ; drop table']) {
      await s.patch(name, keys[0]!, { t })
      expect([(await s.row(name, keys[0]!))?.doc['t'], (await f.read({ source })).get(keys[0]!)?.t]).toEqual([t, t])
    }
    for (const n of [0, 1, -1, 0.1, 1e-7, 2 ** 31, 2 ** 53, 1.5e300]) {
      const [written] = await s.write(name, { kind: 'patch', key: keys[0]!, set: { n }, unset: [] })
      if (written!.status === 'refused') { expect(written!.reason).toMatch(/\bn\b/); continue }
      expect([written!.status, (await s.row(name, keys[0]!))?.doc['n'], (await f.read({ source })).get(keys[0]!)?.n]).toEqual(['done', n, n])
    }
  }), attaches, otherProgram),
  rule('attached.patch.cas', 'a compare-and-set is done with the current rev only, and a missing row is missing', async (s) => each(s, some, async ({ f, kind, name, keys }) => {
    const rev = (await revOf(s, name, keys[0]!))!, next = await s.patch(name, keys[0]!, { n: 11 })
    expect(next).not.toBe(rev)
    expect(await s.write(name, { kind: 'patch', key: keys[0]!, set: { n: 12 }, unset: [], rev }, { kind: 'patch', key: f.key(kind), set: { n: 12 }, unset: [] }, { kind: 'remove', key: keys[1]!, rev })).toMatchObject([{ status: 'moved' }, { status: 'missing' }, { status: 'moved' }])
    expect(await s.write(name, { kind: 'patch', key: keys[0]!, set: { n: 13 }, unset: [], rev: next })).toMatchObject([{ status: 'done', key: keys[0] }])
    expect((await read(s, name)).slice(0, 2)).toEqual([[keys[0], { t: 'one', n: 13 }], [keys[1], { t: 'two', n: 2 }]])
  }), attaches, otherProgram),
  rule('attached.patch.foreign-cas', 'a compare-and-set does not overwrite what another program wrote meanwhile', async (s) => each(s, some, async ({ f, name, source, keys }) => {
    const rev = (await revOf(s, name, keys[0]!))!
    await f.set({ source }, keys[0]!, 99)
    await stamped(s, name, async () => await revOf(s, name, keys[0]!) !== rev)
    expect(await s.write(name, { kind: 'patch', key: keys[0]!, set: { n: 12 }, unset: [], rev }, { kind: 'put', key: keys[0]!, doc: { n: 13 }, rev })).toMatchObject([{ status: 'moved' }, { status: 'moved' }].slice(0, 2))
    expect((await f.read({ source })).get(keys[0]!)).toEqual({ t: 'one', n: 99 })
  }), attaches, otherProgram, changes),
  rule('attached.patch.one-winner', 'of eight compare-and-sets with one rev exactly one is done', async (s) => each(s, some, async ({ f, name, source, keys }) => {
    const rev = (await revOf(s, name, keys[0]!))!, written = await Promise.all(Array.from({ length: 8 }, (_, i) => s.write(name, { kind: 'patch', key: keys[0]!, set: { n: 100 + i }, unset: [], rev })))
    expect(written.map(([w]) => w!.status).sort()).toEqual(['done', ...Array.from({ length: 7 }, () => 'moved')])
    expect((await f.read({ source })).get(keys[0]!)?.n).toBe(100 + written.findIndex(([w]) => w!.status === 'done'))
  }), attaches, otherProgram),
  rule('attached.put.replaces', 'a put replaces what it does not name by nothing', async (s) => each(s, some, async ({ f, name, source, keys }) => {
    expect(await s.write(name, { kind: 'put', key: keys[1]!, doc: { t: 'put' } })).toMatchObject([{ status: 'done', key: keys[1] }])
    expect(byKey(await list(f, source))).toEqual({ ...byKey(paired(keys, some)), [keys[1]!]: { t: 'put', n: null } })
  }), attaches, otherProgram),
  rule('attached.insert.key', 'a row is inserted under a key of the kind, which is then taken', async (s) => each(s, some, async ({ f, kind, name, source, keys }) => {
    const key = f.key(kind), [written] = await s.write(name, { kind: 'insert', key, doc: { t: 'new', n: 5 } })
    expect(written).toMatchObject({ status: 'done', key })
    expect([(await f.read({ source })).get(key), await revOf(s, name, key)]).toEqual([{ t: 'new', n: 5 }, written!.rev])
    expect(await s.write(name, { kind: 'insert', key, doc: { t: 'again', n: 6 } }, { kind: 'insert', key: keys[0]!, doc: { n: 6 } })).toMatchObject([{ status: 'exists', key }, { status: 'exists' }])
    expect([(await f.read({ source })).get(key), (await f.read({ source })).get(keys[0]!)]).toEqual([{ t: 'new', n: 5 }, some[0]])
  }), attaches, otherProgram),
  rule('attached.insert.no-key', 'a row without key gets one where the database makes keys, and is refused where it does not', async (s) => each(s, some, async ({ f, kind, name, source }) => {
    const written = await s.write(name, { kind: 'insert', doc: { t: 'x', n: 1 } }, { kind: 'insert', key: f.key(kind), doc: { t: 'z', n: 3 } }, { kind: 'insert', doc: { t: 'y', n: 2 } }), rows = await f.read({ source })
    if (f.made.includes(kind)) {
      expect(written.map((w) => w.status)).toEqual(['done', 'done', 'done'])
      expect(new Set(written.map((w) => w.key)).size).toBe(3)
      expect(written.map((w) => rows.get(w.key)?.t)).toEqual(['x', 'z', 'y'])
      for (const { key, rev } of written) expect(await revOf(s, name, key)).toBe(rev)
    } else {
      expect(written.map((w) => w.status)).toEqual(['refused', 'done', 'refused'])
      expect(written[0]!.reason).toMatch(/key/i)
      expect([rows.size, rows.get(written[1]!.key)?.t]).toEqual([6, 'z'])
    }
  }), attaches, otherProgram),
  rule('attached.remove.row', 'a removed row is gone for everybody, the others are not', async (s) => each(s, some, async ({ f, kind, name, source, keys }) => {
    expect(await s.write(name, { kind: 'remove', key: keys[1]! }, { kind: 'remove', key: f.key(kind) })).toMatchObject([{ status: 'done', key: keys[1] }, { status: 'missing' }])
    expect([(await s.find(name)).map((row) => row.key), (await f.read({ source })).size]).toEqual([keys.filter((key) => key !== keys[1]), 4])
  }), attaches, otherProgram),
  rule('attached.refuse.wide', 'what a Value cannot hold is read, kept, and refused in a write; the rest of its row can be written', async (s) => each(s, some, async ({ f, name, source, keys }) => {
    if (!f.wide) return
    const before = await f.rest({ source }), { wide } = (await s.row(name, keys[0]!))!.doc
    expect(wide).toBeDefined()
    const written = await s.write(name, { kind: 'patch', key: keys[1]!, set: { t: 'fine' }, unset: [] }, { kind: 'patch', key: keys[0]!, set: { wide: wide! }, unset: [] }, { kind: 'patch', key: keys[2]!, set: { n: 4 }, unset: [] })
    expect(written.map((w) => w.status)).toEqual(['done', 'refused', 'done'])
    expect(written[1]!.reason).toMatch(/wide/)
    expect([await f.rest({ source }), byKey(await list(f, source))]).toEqual([before, { ...byKey(paired(keys, some)), [keys[1]!]: { t: 'fine', n: 2 }, [keys[2]!]: { t: null, n: 4 } }])
  }), attaches, otherProgram),
  rule('attached.refuse.field', 'what a column or a table will not hold is refused by name, alone; what is done is read as it was written', async (s) => each(s, some, async ({ f, name, source, keys }) => {
    const cases: readonly (readonly [string, Doc[string]])[] = [['n', 'no number'], ['t', { deep: 1 }], ['t', [1]], ['n', new Date(5)], ['n', true], ['unknown', 1], ['n', 10n ** 30n], ['t', Uint8Array.from([1])]]
    for (const [field, value] of cases) {
      const before = (await f.read({ source })).get(keys[0]!)
      const written = await s.write(name, { kind: 'patch', key: keys[1]!, set: { t: `beside ${field}` }, unset: [] }, { kind: 'patch', key: keys[0]!, set: { [field]: value }, unset: [] }, { kind: 'patch', key: keys[2]!, set: { n: 8 }, unset: [] })
      expect([written[0]!.status, written[2]!.status]).toEqual(['done', 'done'])
      if (written[1]!.status === 'refused') {
        expect(written[1]!.reason).toContain(field)
        expect((await f.read({ source })).get(keys[0]!)).toEqual(before)
      } else {
        expect(written[1]!.status).toBe('done')
        s.expectSame((await s.row(name, keys[0]!))!.doc[field], value, field)
        await f.replace({ source }, keys[0]!, before!)
      }
    }
  }), attaches, otherProgram),
  rule('attached.refuse.key', 'a key that is not of the kind is refused, or kept as it is', async (s) => each(s, some, async ({ f, kind, name, source }) => {
    for (const key of ['no number', '1.5', ' 1', '01', `'`, 'é']) {
      const [written, beside] = await s.write(name, { kind: 'insert', key, doc: { t: key, n: 1 } }, { kind: 'insert', key: f.key(kind), doc: { n: 2 } })
      expect(beside!.status).toBe('done')
      if (written!.status === 'refused') expect(written!.reason).toMatch(/\w/)
      else expect([written!.status, (await f.read({ source })).get(key)?.t, (await s.row(name, key))?.doc['t']]).toEqual(['done', key, key])
    }
  }), attaches, otherProgram),
  rule('attached.rev.own-write', 'a done write gives the row a new rev, that of the answer', async (s) => each(s, some, async ({ name, keys }) => {
    const revs = new Set([await revOf(s, name, keys[0]!)])
    for (const n of [10, 11, 12]) {
      const rev = await s.patch(name, keys[0]!, { n })
      expect([revs.has(rev), await revOf(s, name, keys[0]!)]).toEqual([false, rev])
      revs.add(rev)
    }
  }), attaches, otherProgram),
  rule('attached.rev.foreign-write', "another program's change gives the row a new rev, at once or by watch, and no other row", async (s) => each(s, some, async ({ f, name, source, keys }) => {
    const before = new Map((await s.find(name)).map((row) => [row.key, row.rev]))
    await f.set({ source }, keys[0]!, 77)
    await f.replace({ source }, keys[1]!, { t: 'replaced', n: 2 })
    await stamped(s, name, async () => await revOf(s, name, keys[0]!) !== before.get(keys[0]!) && await revOf(s, name, keys[1]!) !== before.get(keys[1]!))
    expect((await s.find(name)).map((row) => row.rev === before.get(row.key))).toEqual([false, false, true, true, true])
  }), attaches, otherProgram, changes),

  rule('attached.slots.chain', 'outputs of attached rows are offered, settled, chained and found, under their own keys', async (s) => each(s, some, async ({ name, keys }) => {
    const A = await s.slot(name, { fields: ['n'], shape: { kind: 'number' } }), B = await s.slot(name, { fields: ['t'], upstream: [A.id] })
    expect([await work(s, A, n10), await work(s, B, (row) => `${String(row.outputs![A.id]![0])} ${String(row.doc['t'] ?? '')}`)]).toEqual([keys, keys])
    expect([await outputs(s, A), await outputs(s, B)]).toEqual([[10, 20, 30, 0, -5], ['10 one', '20 two', '30 ', '0 four', '-5 ']])
    expect([await s.offered(A), await s.offered(B), await s.data.tally(B, s.ctx)]).toEqual([[], [], { rows: 5, missing: 0, stale: 0, failed: 0, orphaned: 0 }])
    await s.patch(name, keys[1]!, { n: 200 })
    expect([await s.offered(A), await s.offered(B)]).toEqual([[keys[1]], []])
  }), attaches, otherProgram),
  rule('attached.slots.foreign-change', "another program's change makes the output stale, and what was computed before it is refused or corrected", async (s) => each(s, some, async ({ f, name, source, keys }) => {
    const slot = await s.slot(name, { fields: ['n'] })
    await work(s, slot, n10)
    const before = await s.at(slot, keys[0]!)
    await f.set({ source }, keys[0]!, 500)
    await stamped(s, name, async () => (await s.offered(slot)).includes(keys[0]!))
    expect(await s.offered(slot)).toEqual([keys[0]])
    expect(await s.data.settle(slot, [outcome(before, ['late'])], s.ctx)).toEqual([keys[0]])
    await work(s, slot, n10)
    expect(await outputs(s, slot)).toEqual([5000, 20, 30, 0, -5])
  }), attaches, otherProgram, changes),
  rule('attached.slots.unrelated', 'a change of what the model does not read moves the mark only', async (s) => each(s, some, async ({ name, keys }) => {
    const slot = await s.slot(name, { fields: ['n'] })
    await work(s, slot, n10)
    const { hash } = (await s.at(slot, keys[0]!)).mark!
    await s.patch(name, keys[0]!, { t: 'other' })
    const row = await s.at(slot, keys[0]!)
    expect([await s.offered(slot), row.mark?.hash, outcome(row, 'same').hash]).toEqual([[keys[0]], hash, hash])
    expect([await s.settle(slot, { [keys[0]!]: 'same' }), await s.offered(slot), (await outputs(s, slot))[0]]).toEqual([[], [], 10])
  }), attaches, otherProgram),
  rule('attached.slots.foreign-remove', 'outputs of rows that another program removed are gone after prune', async (s) => each(s, some, async ({ f, name, source, keys }) => {
    const slot = await s.slot(name), chunks = await s.slot(name, { many: true })
    await work(s, slot, n10)
    await s.give(chunks, Object.fromEntries(keys.map((key) => [key, ['x', 'y']])))
    await f.remove({ source }, keys[0]!)
    for (const of of [slot, chunks]) {
      expect(await s.data.prune(of, 'all', s.ctx)).toBeLessThanOrEqual(1)
      expect(await s.data.tally(of, s.ctx)).toMatchObject({ rows: 4, missing: 0, orphaned: 0 })
    }
    expect((await s.find(chunks.id)).map((row) => row.doc['source'])).toEqual(keys.slice(1).flatMap((key) => [key, key]))
    expect(await s.data.prune(slot, 'all', s.ctx)).toBe(0)
  }), attaches, otherProgram),
  rule('attached.slots.remove', 'a remove takes the outputs of its row, chunks and what was derived from them too', async (s) => each(s, some, async ({ name, keys }) => {
    const slot = await s.slot(name), C = await s.slot(name, { many: true }), D = await s.slot(C.id, { fields: ['value'] })
    await work(s, slot, n10)
    await s.give(C, Object.fromEntries(keys.map((key) => [key, [`of ${key}`, 2]])))
    await work(s, D, (row) => String(row.doc['value']).length)
    await s.remove(name, keys[1]!)
    const left = keys.filter((key) => key !== keys[1])
    for (const [of, rows] of [[slot, 4], [C, 4], [D, 8]] as const) expect(await s.data.tally(of, s.ctx)).toEqual({ rows, missing: 0, stale: 0, failed: 0, orphaned: 0 })
    expect(new Set((await s.find(C.id)).map((row) => row.doc['source']))).toEqual(new Set(left))
  }), attaches, otherProgram),
  rule('attached.slots.shapes', 'outputs of every shape are kept beside attached rows', async (s) => each(s, some.slice(0, 1), async ({ name, keys }) => {
    for (const [shape, value] of [[{ kind: 'boolean' }, true], [{ kind: 'number' }, 0.1], [{ kind: 'string' }, 'é'], [{ kind: 'bytes' }, Uint8Array.from([0, 255])], [{ kind: 'json' }, { a: [1n, new Date(5)] }], [{ kind: 'vector', dims: 3 }, Float32Array.from([0.1, -1, 5])]] as const) {
      const slot = await s.slot(name, { shape })
      await s.give(slot, { [keys[0]!]: [value] })
      s.expectSame(await s.output(slot, keys[0]!), [value])
    }
  }), attaches, otherProgram),

  rule('attached.drop.leaves', 'a drop takes what is Inlay\'s, all of it, and leaves the rows as they were', async (s) => each(s, some, async ({ f, name, source, keys }) => {
    const before = await seen(f, source), A = await s.slot(name), B = await s.slot(name, { upstream: [A.id], shape: { kind: 'vector', dims: 2 } }), C = await s.slot(name, { many: true }), D = await s.slot(C.id)
    await work(s, A, n10)
    await s.give(B, { [keys[0]!]: [Float32Array.from([1, 2])] })
    await s.give(C, Object.fromEntries(keys.map((key) => [key, ['x', 'y']])))
    await work(s, D, () => 1)
    await s.data.drop(name, s.ctx)
    await s.data.drop(name, s.ctx)
    expect([await seen(f, source), await f.leftovers(source), await listed(s, name)]).toEqual([before, [], undefined])
    await s.attach(source, name)
    const again = await s.slot(name, { ...A })
    expect([await s.offered(again), await outputs(s, again), await s.data.tally(again, s.ctx)]).toEqual([keys, keys.map(() => undefined), { rows: 5, missing: 5, stale: 0, failed: 0, orphaned: 0 }])
    await s.data.drop(name, s.ctx)
    expect([await seen(f, source), await f.leftovers(source)]).toEqual([before, []])
  }), attaches, otherProgram),
  rule('attached.drop.other-name', 'a table whose collection was dropped can be attached under another name', async (s) => each(s, some, async ({ name, source, keys }) => {
    await s.data.drop(name, s.ctx)
    expect((await s.find(await s.attach(source))).map((row) => row.key)).toEqual(keys)
  }), attaches, otherProgram),
  rule('attached.reopen.kept', 'after closing and connecting again the attached rows, outputs and marks are there', async (s) => each(s, some, async ({ name, source, keys }) => {
    const slot = await s.slot(name)
    await work(s, slot, n10)
    const before = await s.find(name, { slots: [slot.id] })
    await s.reopen()
    expect(await listed(s, name)).toMatchObject({ name, attached: source })
    await s.attach(source, name)
    await s.data.openSlot(slot, s.ctx)
    expect([await s.find(name, { slots: [slot.id] }), await s.offered(slot)]).toEqual([before, []])
    await s.patch(name, keys[0]!, { n: 6 })
    expect(await s.offered(slot)).toEqual([keys[0]])
  }), attaches, otherProgram, durable),
  rule('attached.read-only.said', 'what cannot be written is listed as such, is read and listened to, and refuses writes', async (s) => {
    const f = await s.foreign()
    if (f.readOnly === undefined) return
    const { source, keys } = await f.readOnly(some), name = await s.attach(source, s.name('attached'), 'none'), slot = await s.slot(name)
    expect([await listed(s, name), await read(s, name)]).toMatchObject([{ attached: source, readOnly: true }, paired(keys, some)])
    await work(s, slot, n10)
    expect([await outputs(s, slot), await s.offered(slot)]).toEqual([[10, 20, 30, 0, -5], []])
    for (const op of [{ kind: 'insert', doc: { t: 'x' } }, { kind: 'put', key: keys[0]!, doc: { t: 'x' } }, { kind: 'patch', key: keys[0]!, set: { t: 'x' }, unset: [] }, { kind: 'remove', key: keys[0]! }] as const) {
      const answer = await s.write(name, op).then(([w]) => w!.status, (error: unknown) => (InlayError.is(error) ? error.code : String(error)))
      expect(answer).toMatch(/^(UNSUPPORTED|refused)$/)
    }
    expect(await read(s, name)).toEqual(paired(keys, some))
    await s.data.drop(name, s.ctx)
    expect(await read(s, await s.attach(source, s.name('attached'), 'none'))).toEqual(paired(keys, some))
  }, attaches, otherProgram),
  rule('attached.own.foreign-rev', "another program's write of an own collection gives the row a new rev, whatever it writes", async (s) => {
    const name = await s.collection({ a: { t: 'a', n: 1 }, b: { t: 'b', n: 2 }, c: { t: 'c', n: 3 } }), f = await s.foreign(), slot = await s.slot(name), revs = new Set((await s.find(name)).map((row) => row.rev)), c = await revOf(s, name, 'c')
    await work(s, slot, n10)
    const writes = [() => f.set({ own: name }, 'a', 5), () => f.set({ own: name }, 'a', 5), () => f.replace({ own: name }, 'a', { t: 'A', n: 6 }), () => f.replace({ own: name }, 'a', { t: 'A', n: 6 })]
    for (const write of writes) {
      await write()
      const rev = (await revOf(s, name, 'a'))!
      expect(revs.has(rev)).toBe(false)
      revs.add(rev)
    }
    await f.remove({ own: name }, 'b')
    const key = await f.insert({ own: name }, { t: 'new', n: 8 })
    expect(await s.offered(slot)).toEqual(['a', key].sort())
    expect([await revOf(s, name, 'c'), (await s.row(name, 'a'))?.doc, (await s.row(name, key))?.doc]).toMatchObject([c, { t: 'A', n: 6 }, { t: 'new', n: 8 }])
    expect(await s.row(name, 'b')).toBeUndefined()
    expect((await f.read({ own: name })).get('c')).toEqual({ t: 'c', n: 3 })
  }, revsOfOthers, otherProgram),
  rule('attached.api.listener', 'through the API: an attached table is listened to, changed, found by its outputs, verified after the writes of others, and left', async (s) => each(s, some, async (table) => {
    const { f, source, keys } = table, { db, name, docs } = await api(s, table)
    expect((await docs.find().toArray()).map((row) => [row._id, plain(row as Doc)])).toEqual(paired(keys, some))
    const handle = await db.add(listener({ model: model('tenfold', { run: step('tenfold@1', (xs: readonly (number | null)[]) => xs.map((x) => (x ?? 0) * 10)) }), on: name, key: 'n', where: { n: { $gte: 1 } }, name: `l_${name}` }))
    const values = async (): Promise<readonly unknown[]> => (await docs.find().toArray()).map((row) => handle.of(row))
    expect(await values()).toEqual([10, 20, 30, undefined, undefined])
    expect((await docs.find({ [handle.path]: 20 } as never).toArray()).map((row) => row._id)).toEqual([keys[1]])
    await docs.update({ _id: keys[0]! }, { $set: { n: 7 } })
    await f.set({ source }, keys[1]!, 9)
    await f.remove({ source }, keys[2]!)
    const key = await f.insert({ source }, { t: 'late', n: 5 })
    await db.verify({ repair: true, deep: true })
    const found = new Map((await docs.find().toArray()).map((row) => [row._id, handle.of(row)]))
    expect(found).toEqual(new Map<Key, unknown>([[keys[0]!, 70], [keys[1]!, 90], [keys[3]!, undefined], [keys[4]!, undefined], [key, 50]]))
    expect(await db.verify()).toMatchObject({ ok: true, rows: 3 })
    await db.remove('listener', `l_${name}`)
    await db.remove('collection', name)
    await db.close()
    expect([await f.leftovers(source), byKey(await list(f, source))]).toEqual([[], { [keys[0]!]: { t: 'one', n: 7 }, [keys[1]!]: { t: 'two', n: 9 }, [keys[3]!]: some[3], [keys[4]!]: some[4], [key]: { t: 'late', n: 5 } }])
  }), attaches, otherProgram),
  rule('attached.api.writes', 'through the API: rows are inserted with and without key, replaced field by field and deleted, and another program sees it', async (s) => each(s, some, async (table) => {
    const { f, kind, source, keys } = table, { db, docs } = await api(s, table), key = f.key(kind), rest = await f.rest({ source })
    const { ids, refused } = await docs.insert([{ _id: key, t: 'with key', n: 1 }, { t: 'without', n: 2 }, { _id: keys[0]!, t: 'taken', n: 3 }])
    expect([ids.length, ids.includes(key), refused.map((r) => r.index)]).toEqual(f.made.includes(kind) ? [2, true, [2]] : [1, true, [1, 2]])
    const rows = await f.read({ source })
    expect([rows.get(key), rows.get(keys[0]!), ids.map((id) => rows.get(id)?.t)]).toEqual([{ t: 'with key', n: 1 }, some[0], f.made.includes(kind) ? ['with key', 'without'] : ['with key']])
    expect((await docs.update({ t: 'two' }, { $inc: { n: 1 } })).ids).toEqual([keys[1]])
    expect((await docs.update({ t: 'four' }, { $set: { n: 5 }, $unset: { t: true } })).ids).toEqual([keys[3]])
    expect((await docs.delete({ n: 1 })).ids.length).toBe(2)
    const after = await f.read({ source })
    expect([after.get(keys[1]!), after.get(keys[3]!), after.has(keys[0]!), after.has(key)]).toEqual([{ t: 'two', n: 3 }, { t: null, n: 5 }, false, false])
    const other = await f.rest({ source })
    for (const k of [keys[1]!, keys[2]!, keys[3]!, keys[4]!]) expect(other.get(k)).toBe(rest.get(k))
    await db.close()
  }), attaches, otherProgram),
  rule('attached.api.queries', 'through the API: an attached table is filtered, sorted, paged and counted, with keys in the order of their kind', async (s) => each(s, dozen, async (table) => {
    const { keys } = table, { db, docs } = await api(s, table), ids = (rows: readonly { readonly _id: string }[]): Key[] => rows.map((row) => row._id)
    expect([ids(await docs.find().skip(8).limit(3).toArray()), await docs.find({ n: { $gte: 1 } }).count(), ids(await docs.find({ t: { $size: 1 } } as never).toArray())]).toEqual([keys.slice(8, 11), dozen.filter(({ n }) => n !== null && n >= 1).length, []])
    expect(ids(await docs.find({ _id: { $in: [keys[10]!, keys[2]!] } }).toArray())).toEqual([keys[2], keys[10]])
    expect((await docs.find().sort({ n: -1 }).limit(2).toArray()).map((row) => row.n)).toEqual([3, 3])
    expect((await docs.findOne({ _id: keys[11]! }))?._fold).toMatch(/^(train|valid)$/)
    await db.close()
  }), attaches, otherProgram),
  rule('attached.api.refused', 'through the API: what is not there is NOT_FOUND, and a name of another table is CONFLICT', async (s) => {
    const f = await s.foreign(), kind = f.keys[0]!, one = await f.table(kind, some), two = await f.table(kind, some), db = await s.open(), name = s.name('users')
    expect(await codeOf(db.collection(name, { attach: `${one.source}_none`, track: 'none' }).find().toArray())).toBe('NOT_FOUND')
    expect((await db.collection(name, { attach: one.source, track: 'none' }).find().toArray()).length).toBe(5)
    expect(await codeOf(db.collection(name, { attach: two.source, track: 'none' }).find().toArray())).toBe('CONFLICT')
    await db.close()
  }, attaches, otherProgram),
  rule('attached.api.unsupported', 'through the API: attaching where nothing can be attached is UNSUPPORTED, and says what to do', async (s) => {
    const finding = (await s.inlay()).collection(s.name(), { attach: 'users' }).find().toArray()
    expect(await codeOf(finding)).toBe('UNSUPPORTED')
    expect(await finding.catch((error: unknown) => (error as Error).message)).toMatch(/attach/)
  }, attachesNothing),
]
