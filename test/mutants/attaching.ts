/** The memory plugin with tables of another program, which can be attached, and with notices: what the areas `attached` and `notices` are proven on where no server is. */
import type { Collection, Connection, Ctx, Datalayer, Doc, Filter, Key, Notice, Outcome, Plugin, Query, Row, Slot, Value, Write, Written } from '../../core/contract.ts'
import { InlayError, quote } from '../../core/errors.ts'
import { memory } from '../../core/memory.ts'
import { rowArtifacts } from '../../core/row-artifacts.ts'
import { all, live, type Foreign, type ForeignRow, type Place, type Subject } from '../conformance/subject.ts'

interface Table { readonly kind: string; readonly rows: Map<Key, ForeignRow>; readonly readOnly: boolean; readonly changed: Set<(key: Key, row: ForeignRow | undefined) => void> }
interface Entry { readonly key: Key; done: boolean; stamped: boolean }
/** What all connections to one namespace share. */
interface Shared {
  readonly inner: Datalayer
  readonly attached: Map<string, { readonly collection: Collection; readonly table: Table; readonly tell: (key: Key, row: ForeignRow | undefined) => void }>
  readonly journals: Map<string, Entry[]>
  readonly slots: Map<string, Slot>
  readonly waiting: Set<() => void>
}
/** What a fault may turn off or on. */
export interface Faults {
  readonly noNews?: boolean
  readonly ownOnly?: boolean
  readonly forgetsUndone?: boolean
  readonly firstWatcherOnly?: boolean
  readonly feedback?: boolean
  readonly noFirst?: boolean
  readonly neverStamps?: boolean
  readonly stampsLate?: boolean
  readonly deaf?: boolean
  readonly textOrder?: boolean
  readonly leaves?: boolean
  readonly dropsRows?: boolean
  readonly silent?: boolean
  readonly mergesCollections?: boolean
  readonly touches?: boolean
  readonly cutsWide?: boolean
  readonly insertsAnyKey?: boolean
  readonly losesRestart?: boolean
}

const tables = new Map<string, Table>()
const spaces = new Map<string, Shared>()
let made = 0
const wideOf = (key: Key): string => `${key.length}12345678901234567890.5`
const serial = /^(0|[1-9]\d{0,17})$/

/** Keys as they sort: numbers with all their digits. Undefined: no key of the kind. */
function inward(kind: string | undefined, key: Key): Key | undefined {
  if (kind !== 'serial') return key
  const [head, ...rest] = key.split('#')
  return serial.test(head!) ? [head!.padStart(18, '0'), ...rest].join('#') : undefined
}
function outward(kind: string | undefined, key: Key): Key {
  if (kind !== 'serial') return key
  const [head, ...rest] = key.split('#')
  return [head!.replace(/^0+(?=.)/, ''), ...rest].join('#')
}

/** `foreign`: whether another program's write gives a new rev by itself, or by `watch`. */
export function attaching(name: string, { foreign = true, faults = {}, data }: { readonly foreign?: boolean; readonly faults?: Faults; readonly data?: (next: Datalayer) => Partial<Datalayer> } = {}): Plugin {
  return {
    ...memory, name,
    async connect(uri, { namespace }): Promise<Connection> {
      const id = `${name} ${uri} ${namespace}`
      if (!spaces.has(id)) spaces.set(id, { inner: (await memory.connect!(`memory:${id}`, { namespace }, live)).data!, attached: new Map(), journals: new Map(), slots: new Map(), waiting: new Set() })
      const shared = spaces.get(id)!, full = layer(shared, foreign, faults)
      return { server: 'memory with tables of others', data: { ...full, ...data?.(full) }, artifacts: rowArtifacts(shared.inner), close: async () => { if (faults.losesRestart === true) shared.journals.clear() } }
    },
  }
}

function note(shared: Shared, collection: string, key: Key, stamped: boolean): void {
  const journal = shared.journals.get(collection) ?? []
  shared.journals.set(collection, journal)
  journal.push({ key, done: false, stamped })
  for (const wake of shared.waiting) wake()
}

function layer(shared: Shared, foreign: boolean, faults: Faults): Datalayer {
  const { inner, attached, slots } = shared
  const kindOf = (from: string): string | undefined => (faults.textOrder === true ? undefined : attached.get(from)?.table.kind ?? (slots.has(from) ? kindOf(slots.get(from)!.collection) : undefined))
  const keysIn = (from: string, keys: readonly Key[]): Key[] => keys.flatMap((key) => inward(kindOf(from), key) ?? [])
  const filter = (from: string, f: Filter): Filter => (f.kind === 'and' || f.kind === 'or' ? { ...f, of: f.of.map((g) => filter(from, g)) } : f.kind === 'not' ? { ...f, of: filter(from, f.of) } : f.kind === 'keys' ? { ...f, keys: keysIn(from, f.keys) } : f.kind === 'in' && slots.has(from) && f.path.at[0] === 'source' ? { ...f, values: keysIn(from, f.values as readonly Key[]) } : f)
  const asked = (q: Query): Query => ({ ...q, ...(q.where === undefined ? {} : { where: filter(q.from, q.where) }), ...(q.after === undefined ? {} : { after: inward(kindOf(q.from), q.after) ?? q.after }) })
  const slotIn = (slot: Slot): Slot => (slot.where === undefined ? slot : { ...slot, where: filter(slot.collection, slot.where) })
  const out = (from: string, row: Row): Row => {
    const kind = kindOf(from), doc = 'source' in row.doc && slots.has(from) ? { ...row.doc, source: outward(kind, row.doc['source'] as Key) } : row.doc
    return { ...row, key: outward(kind, row.key), doc }
  }
  async function* outs(from: string, batches: AsyncIterable<readonly Row[]>): AsyncIterable<readonly Row[]> {
    for await (const rows of batches) yield rows.map((row) => out(from, row))
  }
  const writable = (name: string): Table | undefined => {
    const of = attached.get(name)
    if (of?.table.readOnly === true) throw new InlayError('UNSUPPORTED', `The collection ${quote(name)} cannot be written: ${quote(of.collection.attached)} is read only.`)
    return of?.table
  }
  /** One operation on an attached table; what others see changes in the same step. */
  const one = async (name: string, table: Table, op: Write): Promise<Written> => {
    if (op.kind === 'insert' && op.key === undefined && table.kind !== 'serial') return { status: 'refused', key: '', reason: 'the key is null, and this table makes none' }
    const key = op.key ?? String(Math.max(0, ...[...table.rows.keys()].map(Number)) + 1), within = inward(kindOf(name), key)
    if (within === undefined || (table.kind === 'serial' && !serial.test(key) && faults.insertsAnyKey !== true)) return op.kind === 'insert' || op.kind === 'put' ? { status: 'refused', key, reason: `the key ${quote(key)} is no ${table.kind}` } : { status: 'missing', key }
    const given: Doc = op.kind === 'patch' ? op.set : op.kind === 'remove' ? {} : op.doc
    const bad = Object.entries(given).find(([field, v]) => (field === 't' ? v !== null && typeof v !== 'string' : field === 'n' ? v !== null && typeof v !== 'number' : faults.silent !== true))
    if (bad !== undefined) return { status: 'refused', key, reason: `the column ${bad[0]} does not take ${quote(bad[1])}` }
    const old = table.rows.get(key), known = Object.fromEntries(Object.entries(given).filter(([field]) => field === 't' || field === 'n')), nothing = { t: null, n: null, wide: wideOf(key) }
    const inside: Write = op.kind === 'patch' ? { ...op, key: within, set: { ...known, ...Object.fromEntries(op.unset.map((field): [string, Value] => [field, null])) }, unset: [] } : op.kind === 'remove' ? { ...op, key: within } : { ...op, key: within, doc: { ...nothing, ...known } }
    const [written] = await inner.write(name, [inside], live)
    if (written!.status === 'done') {
      const row = op.kind === 'patch' ? { ...old!, ...(inside as { readonly set: Doc }).set } as unknown as ForeignRow : op.kind === 'remove' ? undefined : { ...nothing, ...known } as unknown as ForeignRow
      if (row === undefined) table.rows.delete(key)
      else table.rows.set(key, { t: row.t, n: row.n })
      for (const changed of table.changed) if (changed !== attached.get(name)!.tell) changed(key, row)
    }
    return { ...written!, key }
  }
  const stamp = async (name: string, entry: Entry): Promise<void> => {
    if (entry.stamped || faults.neverStamps === true) return
    entry.stamped = true
    const [row] = await all(inner.find({ from: name, where: { kind: 'keys', keys: keysIn(name, [entry.key]) } }, live))
    if (row !== undefined) await inner.write(name, [{ kind: 'put', key: row.key, doc: row.doc }], live)
  }
  return {
    ...inner,
    capabilities: { ...inner.capabilities, durable: true, writers: 'many', attaches: true, notices: 'all', foreign, notes: ['Tables of others lie in this process.'] },
    async create(collection, ctx) {
      const there = attached.get(collection.name), { name, attached: source, track } = collection
      if (there !== undefined && there.collection.attached !== source) throw new InlayError('CONFLICT', `The collection ${quote(name)} is attached to ${quote(there.collection.attached)}.`)
      if (source === false) return inner.create(collection, ctx)
      if (there === undefined && (await inner.list(ctx)).some((c) => c.name === name)) throw new InlayError('CONFLICT', `The collection ${quote(name)} is one of Inlay's own.`)
      if (source.startsWith('view_')) throw new InlayError('UNSUPPORTED', `${quote(source)} cannot be attached: a view has no key.`)
      const table = tables.get(source)
      if (table === undefined) throw new InlayError('NOT_FOUND', `There is no table ${quote(source)}.`)
      if (attached.has(name)) { attached.set(name, { ...attached.get(name)!, collection: { ...collection, ...(table.readOnly ? { readOnly: true as const } : {}) } }); return }
      const tell = (key: Key, row: ForeignRow | undefined): void => {
        const within = inward(kindOf(name), key)!
        void inner.find({ from: name, where: { kind: 'keys', keys: [within] } }, live)[Symbol.asyncIterator]().next().then(({ value }) => {
          const rev = (value as readonly Row[] | undefined)?.[0]?.rev
          return inner.write(name, [row === undefined ? { kind: 'remove', key: within } : { kind: 'put', key: within, doc: { t: row.t, n: row.n, wide: wideOf(key) }, ...(foreign || rev === undefined ? {} : { as: rev }) }], live)
        }).then(() => { if (attached.get(name)?.collection.track === 'notify' && faults.ownOnly !== true) note(shared, name, key, foreign) })
      }
      attached.set(name, { collection: { ...collection, ...(table.readOnly ? { readOnly: true as const } : {}) }, table, tell })
      await inner.create({ name, attached: false, track }, ctx)
      await inner.write(name, [...table.rows].map(([key, row]): Write => ({ kind: 'insert', key: inward(kindOf(name), key)!, doc: { t: row.t, n: row.n, wide: wideOf(key) } })), ctx)
      table.changed.add(tell)
      if (faults.touches === true) for (const [key, row] of table.rows) table.rows.set(key, { ...row, t: row.t?.trim() ?? '' })
    },
    installs: async ({ name, attached: source, track }) => (source === false || track === 'none' || attached.get(name)?.collection.track === 'notify' ? [] : [`create trigger inlay on ${source}`]),
    async drop(name, ctx) {
      const of = attached.get(name)
      if (of !== undefined && faults.leaves !== true) { of.table.changed.delete(of.tell); attached.delete(name) }
      if (faults.dropsRows === true) of?.table.rows.clear()
      shared.journals.delete(name)
      await inner.drop(name, ctx)
    },
    list: async (ctx) => (await inner.list(ctx)).map((c) => attached.get(c.name)?.collection ?? c),
    async write(name, ops, ctx) {
      const table = writable(name), written = table === undefined ? await inner.write(name, ops, ctx) : [] as Written[]
      if (table !== undefined) for (const op of ops) (written as Written[]).push(await one(name, table, op))
      if (attached.get(name)?.collection.track !== 'none') for (const { status, key } of written) if (status === 'done' && faults.deaf !== true) note(shared, name, key, true)
      return written
    },
    find: (query, ctx) => outs(query.from, inner.find(asked(query), ctx)),
    count: (query, ctx) => inner.count(asked(query), ctx),
    async openSlot(slot, ctx) { slots.set(slot.id, slot); return inner.openSlot(slotIn(slot), ctx) },
    rows: (slot, which, keys, ctx) => outs(slot.collection, inner.rows(slotIn(slot), which, keys === 'all' ? keys : keysIn(slot.collection, keys), ctx)),
    tally: (slot, ctx) => inner.tally(slotIn(slot), ctx),
    prune: (slot, keys, ctx) => inner.prune(slotIn(slot), keys === 'all' ? keys : keysIn(slot.collection, keys), ctx),
    async settle(slot, outcomes, ctx) {
      const refused = await inner.settle(slotIn(slot), outcomes.map((o): Outcome => ({ ...o, key: inward(kindOf(slot.collection), o.key) ?? o.key })), ctx)
      if (faults.feedback === true) for (const o of outcomes) note(shared, slot.collection, o.key, true)
      return refused.map((key) => outward(kindOf(slot.collection), key))
    },
    watch: (name, ctx) => watching(shared, name, ctx, stamp, faults),
  }
}

async function* watching(shared: Shared, name: string, { signal }: Ctx, stamp: (name: string, entry: Entry) => Promise<void>, faults: Faults): AsyncIterable<Notice> {
  let at = 0, first = true, wake = (): void => {}
  const stopped = new Promise<void>((stop) => { if (signal.aborted) stop(); signal.addEventListener('abort', () => stop(), { once: true }) })
  if (faults.firstWatcherOnly === true && shared.waiting.size > 0) { yield { keys: [], done: async () => {} }; await stopped; return }
  try {
    while (!signal.aborted) {
      const news = new Promise<void>((tell) => { shared.waiting.delete(wake); wake = tell; shared.waiting.add(wake) })
      const journal = shared.journals.get(faults.mergesCollections === true ? [...shared.journals.keys()].find((n) => (shared.journals.get(n)?.length ?? 0) > 0) ?? name : name) ?? [], entries = journal.slice(at).filter((e) => !first || !e.done)
      at = journal.length
      if (faults.stampsLate !== true) for (const entry of entries) await stamp(name, entry)
      if ((first && faults.noFirst !== true) || (entries.length > 0 && faults.noNews !== true)) yield { keys: [...new Set(entries.map((e) => e.key))], done: async () => { for (const entry of entries) entry.done = true } }
      if (faults.stampsLate === true) for (const entry of entries) { await new Promise((next) => { setTimeout(next, 50) }); await stamp(name, entry) }
      if (faults.forgetsUndone === true) for (const entry of entries) entry.done = true
      first = false
      await Promise.race([news, stopped])
    }
  } finally {
    shared.waiting.delete(wake)
  }
}

const settled = (): Promise<void> => new Promise((next) => { setImmediate(() => setImmediate(next)) })
/** The other program. */
export async function foreignOf(subject: Subject): Promise<Foreign> {
  const shared = spaces.get(`${subject.plugin.name} ${subject.uri} ${subject.namespace}`)!, own: string[] = []
  const rows = (at: Place): Table => tables.get((at as { readonly source: string }).source)!
  const write = async (at: Place, key: Key, row: (old: ForeignRow | undefined) => ForeignRow | undefined): Promise<void> => {
    if ('source' in at) {
      const table = rows(at), next = row(table.rows.get(key))
      if (next === undefined) table.rows.delete(key)
      else table.rows.set(key, { t: next.t, n: next.n })
      for (const changed of table.changed) changed(key, next)
    } else {
      const [old] = await all(shared.inner.find({ from: at.own, where: { kind: 'keys', keys: [key] } }, live)), next = row(old?.doc as unknown as ForeignRow | undefined), { foreign } = subject.capabilities
      await shared.inner.write(at.own, [next === undefined ? { kind: 'remove', key } : { kind: 'put', key, doc: { ...next }, ...(foreign || old === undefined ? {} : { as: old.rev }) }], live)
      note(shared, at.own, key, foreign)
    }
    await settled()
  }
  const table = (kind: string, list: readonly ForeignRow[], readOnly = false): { readonly source: string; readonly keys: readonly Key[] } => {
    const source = `t${++made}`, keys = list.map((_, i) => (kind === 'serial' ? String(i + 1) : `k-${String(i).padStart(3, '0')}`))
    tables.set(source, { kind, readOnly, rows: new Map(list.map((row, i) => [keys[i]!, { ...row }])), changed: new Set() })
    own.push(source)
    return { source, keys }
  }
  return {
    keys: ['text', 'serial'], made: ['serial'], wide: true,
    table: async (kind, list) => table(kind, list),
    key: (kind) => (kind === 'serial' ? String(1000 + ++made) : `new-${++made}`),
    unfit: async () => `view_${++made}`,
    readOnly: async (list) => table('text', list, true),
    async insert(at, row) {
      const key = 'source' in at && rows(at).kind === 'serial' ? String(Math.max(0, ...[...rows(at).rows.keys()].map(Number)) + 1) : `f-${++made}`
      await write(at, key, () => row)
      return key
    },
    set: (at, key, n) => write(at, key, (old) => ({ ...old!, n })),
    replace: (at, key, row) => write(at, key, () => row),
    remove: (at, key) => write(at, key, () => undefined),
    async read(at) {
      if ('source' in at) return new Map([...rows(at).rows].map(([key, { t, n }]) => [key, { t, n }]))
      return new Map((await all(shared.inner.find({ from: at.own }, live))).map(({ key, doc }) => [key, { t: (doc['t'] ?? null) as string | null, n: (doc['n'] ?? null) as number | null }]))
    },
    rest: async (at) => new Map('source' in at ? [...rows(at).rows.keys()].map((key) => [key, wideOf(key)]) : []),
    leftovers: async (source) => [...shared.attached.values()].filter((a) => a.collection.attached === source && a.collection.track === 'notify').map((a) => `trigger of ${a.collection.name}`),
    async close() { for (const source of own) tables.delete(source) },
  }
}
