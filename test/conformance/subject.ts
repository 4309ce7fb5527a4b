/** A plugin under test: one connection in a namespace of its own, and short words for what most rules do. */
import { setMaxListeners } from 'node:events'
import { expect } from 'vitest'
import type { Config, Inlay } from '../../core/api.ts'
import type { ArtifactStore, Connection, Ctx, DataCapabilities, Datalayer, Doc, Filter, Key, Outcome, Plugin, Query, Rev, Row, Slot, Value, VectorSearch, Write, Written } from '../../core/contract.ts'
import { encode, hashOf } from '../../core/encoding.ts'
import { InlayError } from '../../core/errors.ts'
import { guardArtifacts, guardData, guardVectors, type Guard } from '../../core/guard.ts'
import { open } from '../../core/inlay.ts'
import { memory } from '../../core/memory.ts'
import { rowArtifacts } from '../../core/row-artifacts.ts'
import { redact } from '../../core/uri.ts'
import { isDoc, same, setOwn } from '../../core/value.ts'
import { memoryVectors } from '../../core/vectors.ts'

export interface Settings {
  /** Random filters of each differential test. */
  readonly cases: number
  readonly seed: number
  readonly foreign?: (subject: Subject) => Promise<Foreign>
  /** Where the server listens, for faults of the network. Absent: there is none, or it is not known. */
  readonly network?: Network
  /** The full figures of the area `big`. */
  readonly big: boolean
  /** How long a notice, a new rev of what others wrote, or the end of a watch may take. Default 10 seconds. */
  readonly soonMs?: number
}
/** A server on one host and port, and a URI that reaches it by another port of this machine, plain TCP. */
export interface Network { readonly host: string; readonly port: number; through(uri: string, port: number): string }
/** A collection of Inlay's, or what somebody else made. */
export type Place = { readonly own: string } | { readonly source: string }
/** Another program's client of the same database, which knows nothing of Inlay: what a plugin that attaches, or that says something about the writes of others, gives the suite. */
export interface Foreign {
  /** The kinds of keys that tables of others have here: `text`, `uuid`, `int8`, a composite one, … Empty: nothing is attached. */
  readonly keys: readonly string[]
  /** Those of `keys` whose tables make a key for a row that comes without. */
  readonly made: readonly string[]
  /** Every table has a column `wide`, and every row a value in it, that a Value cannot hold: a wide decimal, an ObjectId. */
  readonly wide: boolean
  /** Makes a table or collection with a key of that kind, a text `t`, a number `n`, `wide` perhaps, and these rows. Gives what `attached` takes, and the rows' keys as Inlay
   *  writes them: ascending in the order of that kind, which for numbers is not that of their text where there are ten rows or more. */
  table(kind: string, rows: readonly ForeignRow[]): Promise<{ readonly source: string; readonly keys: readonly Key[] }>
  /** A key of that kind that no row has yet, as Inlay writes it. Each call gives another. */
  key(kind: string): Key
  /** Makes what is there and cannot be attached: a table without key, a view. Absent: everything can be. */
  unfit?(): Promise<string>
  /** Makes what can be attached and not be written: a file. Absent: there is no such thing here. */
  readOnly?(rows: readonly ForeignRow[]): Promise<{ readonly source: string; readonly keys: readonly Key[] }>
  insert(at: Place, row: ForeignRow): Promise<Key>
  /** Sets `n`, by the least statement. */
  set(at: Place, key: Key, n: number): Promise<void>
  /** Writes the whole row, whatever else it holds. */
  replace(at: Place, key: Key, row: ForeignRow): Promise<void>
  remove(at: Place, key: Key): Promise<void>
  /** `t` and `n` of every row, by key as Inlay writes it; null where the row has none. */
  read(at: Place): Promise<ReadonlyMap<Key, ForeignRow>>
  /** What else of its own each row holds, as this client sees it, as text: `wide`, and what only this client can tell, such as the type of `n`. Not what Inlay put there. */
  rest(at: Place): Promise<ReadonlyMap<Key, string>>
  /** Names of what is not `table`'s or its rows' own in the table or beside it: triggers, functions, tables, fields. */
  leftovers(source: string): Promise<readonly string[]>
  /** Removes what `table`, `unfit` and `readOnly` made, and disconnects. The suite has dropped its collections before. */
  close(): Promise<void>
}
export interface ForeignRow { readonly t: string | null; readonly n: number | null }
/** What a connection gives, behind core's guards, with core's defaults for what is absent. */
export interface Parts {
  readonly connection: Connection
  readonly data: Datalayer
  /** Without the guards. */
  readonly raw: Datalayer
  readonly vectors: VectorSearch
  readonly artifacts: ArtifactStore
}
/** What a test finds for a row: values, an error, or that the row is not selected. */
export type Found = readonly Value[] | Error | 'skip' | 'same'

/** A signal that is never aborted. */
export const live: Ctx = { signal: new AbortController().signal }
// Many calls at once listen to it.
setMaxListeners(0, live.signal)

export class Subject {
  readonly plugin: Plugin
  readonly uri: string
  readonly namespace: string
  readonly settings: Settings
  readonly ctx: Ctx = live
  #parts: Parts
  #others: Connection[] = []
  #foreigners: Foreign[] = []
  #inlay: Promise<Inlay> | undefined
  #made = new Map<string, Promise<unknown>>()
  #names = 0

  private constructor(plugin: Plugin, uri: string, namespace: string, settings: Settings, parts: Parts) {
    this.plugin = plugin
    this.uri = uri
    this.namespace = namespace
    this.settings = settings
    this.#parts = parts
  }

  static async connect(plugin: Plugin, uri: string, settings: Settings): Promise<Subject> {
    const namespace = `c_${crypto.randomUUID().replaceAll('-', '').slice(0, 16)}`
    return new Subject(plugin, uri, namespace, settings, await partsOf(plugin, uri, namespace))
  }

  get connection(): Connection { return this.#parts.connection }
  get data(): Datalayer { return this.#parts.data }
  get raw(): Datalayer { return this.#parts.raw }
  get vectors(): VectorSearch { return this.#parts.vectors }
  get artifacts(): ArtifactStore { return this.#parts.artifacts }
  get capabilities(): DataCapabilities { return this.#parts.raw.capabilities }

  /** Another connection to the same database, closed at the end. */
  async another(namespace: string = this.namespace): Promise<Parts> {
    const parts = await partsOf(this.plugin, this.uri, namespace)
    this.#others.push(parts.connection)
    return parts
  }
  /** Closes the connection and connects again. */
  async reopen(): Promise<void> {
    await this.#closeInlay()
    try {
      await this.#parts.connection.close()
    } finally {
      this.#parts = await partsOf(this.plugin, this.uri, this.namespace)
      this.#made.clear()
    }
  }
  /** The public API over this connection. */
  async open(config: Partial<Config> = {}): Promise<Inlay> {
    const { connection, raw } = this.#parts, { name, contract, classify } = this.plugin
    const plugin: Plugin = {
      name, contract, schemes: [this.uri.slice(0, this.uri.indexOf(':'))], ...(classify === undefined ? {} : { classify: classify.bind(this.plugin) }),
      connect: async () => ({ server: connection.server, data: raw, ...(connection.vectors === undefined ? {} : { vectors: connection.vectors }), ...(connection.artifacts === undefined ? {} : { artifacts: connection.artifacts }), close: async () => {} }),
    }
    return open({ data: this.uri, plugins: [plugin], config: false, log: {}, middleware: this.plugin.middleware ?? [], ...config }, [])
  }
  /** One for the whole area. */
  inlay(): Promise<Inlay> {
    return this.#inlay ??= this.open()
  }
  async #closeInlay(): Promise<void> {
    await (await this.#inlay)?.close()
    this.#inlay = undefined
  }
  /** The other program. */
  foreign(): Promise<Foreign> {
    const { foreign } = this.settings
    if (foreign === undefined) throw new Error('This plugin attaches collections, or says something about the writes of others: give conformance() the option "foreign".')
    return this.once('foreign', async () => {
      const opened = await foreign(this)
      this.#foreigners.push(opened)
      return opened
    })
  }
  /** Makes what several rules of an area share. */
  once<T>(what: string, make: () => Promise<T>): Promise<T> {
    const made = (this.#made.get(what) ?? make()) as Promise<T>
    this.#made.set(what, made)
    return made
  }

  /** Drops all collections of the namespace and closes all connections. */
  async close(): Promise<void> {
    await this.#closeInlay()
    try {
      for (const { name } of await this.data.list(this.ctx)) await this.data.drop(name, this.ctx)
    } finally {
      for (const foreign of this.#foreigners) await foreign.close()
      for (const other of this.#others) await other.close()
      await this.#parts.connection.close()
    }
  }

  name(prefix = 'docs'): string {
    return `${prefix}_${++this.#names}`
  }
  /** A new empty collection, or one with these rows. */
  async collection(docs: Readonly<Record<Key, Doc>> = {}, name: string = this.name()): Promise<string> {
    await this.data.create({ name, attached: false, track: 'notify' }, this.ctx)
    if (Object.keys(docs).length > 0) await this.insert(name, docs)
    return name
  }
  /** Attaches what another program made, under a new name. */
  async attach(source: string, name: string = this.name('attached'), track: 'notify' | 'none' = this.capabilities.notices === 'all' ? 'notify' : 'none'): Promise<string> {
    await this.data.create({ name, attached: source, track }, this.ctx)
    return name
  }
  /** A new slot, opened. */
  async slot(collection: string, of: Partial<Slot> = {}): Promise<Slot> {
    const slot: Slot = { id: `s_${crypto.randomUUID().replaceAll('-', '').slice(0, 24)}`, collection, upstream: [], shape: { kind: 'json' }, many: false, ...of }
    await this.data.openSlot(slot, this.ctx)
    return slot
  }

  write(collection: string, ...ops: readonly Write[]): Promise<readonly Written[]> {
    return this.data.write(collection, ops, this.ctx)
  }
  /** Inserts rows that must be new, and returns their revs. */
  async insert(collection: string, docs: Readonly<Record<Key, Doc>>): Promise<Record<Key, Rev>> {
    const entries = Object.entries(docs), written = await this.write(collection, ...entries.map(([key, doc]): Write => ({ kind: 'insert', key, doc })))
    expect(written.map(({ key, status }) => `${key} ${status}`)).toEqual(entries.map(([key]) => `${key} done`))
    return Object.fromEntries(written.map(({ key, rev }) => [key, rev!]))
  }
  async patch(collection: string, key: Key, set: Doc, unset: readonly string[] = []): Promise<Rev> {
    const [written] = await this.write(collection, { kind: 'patch', key, set, unset })
    expect(written).toMatchObject({ status: 'done', key })
    return written!.rev!
  }
  async remove(collection: string, ...keys: readonly Key[]): Promise<void> {
    const written = await this.write(collection, ...keys.map((key): Write => ({ kind: 'remove', key })))
    expect(written.map((w) => w.status)).toEqual(keys.map(() => 'done'))
  }
  find(from: string, query: Omit<Query, 'from'> = {}): Promise<Row[]> {
    return all(this.data.find({ from, ...query }, this.ctx))
  }
  async keys(from: string, where?: Filter): Promise<Key[]> {
    return (await this.find(from, where === undefined ? {} : { where })).map((row) => row.key)
  }
  async row(from: string, key: Key, slots: readonly string[] = []): Promise<Row | undefined> {
    const rows = await this.find(from, { where: { kind: 'keys', keys: [key] }, slots })
    expect(rows.length).toBeLessThan(2)
    return rows[0]
  }
  /** The settled values of one row. */
  async output(slot: Slot, key: Key): Promise<readonly Value[] | undefined> {
    return (await this.row(slot.collection, key, [slot.id]))?.outputs?.[slot.id]
  }
  rows(slot: Slot, which: 'stale' | 'failed' | 'all' = 'stale', keys: readonly Key[] | 'all' = 'all'): Promise<Row[]> {
    return all(this.data.rows(slot, which, keys, this.ctx))
  }
  async offered(slot: Slot, which: 'stale' | 'failed' | 'all' = 'stale', keys: readonly Key[] | 'all' = 'all'): Promise<Key[]> {
    return (await this.rows(slot, which, keys)).map((row) => row.key)
  }
  async at(slot: Slot, key: Key): Promise<Row> {
    const [row, ...more] = await this.rows(slot, 'all', [key])
    expect(row?.key).toBe(key)
    expect(more).toEqual([])
    return row!
  }
  /** Settles rows as they are now; returns the refused keys. */
  async settle(slot: Slot, found: Readonly<Record<Key, Found>>): Promise<readonly Key[]> {
    const rows = await this.rows(slot, 'all', Object.keys(found))
    expect(rows.map((row) => row.key).sort()).toEqual(Object.keys(found).sort())
    return this.data.settle(slot, rows.map((row) => outcome(row, found[row.key]!)), this.ctx)
  }
  /** As `settle`, where nothing may be refused. */
  async give(slot: Slot, found: Readonly<Record<Key, Found>>): Promise<void> {
    expect(await this.settle(slot, found)).toEqual([])
  }

  /** Throws where `actual` is not `expected` as this database keeps it. */
  expectSame(actual: Value | undefined, expected: Value, what: string = 'the value'): void {
    const wanted = this.capabilities.loses.includes('negative-zero') ? withoutNegativeZero(expected) : expected
    if (!same(actual, wanted)) expect.fail(`${what} was written as ${show(wanted)} and is read as ${show(actual)}`)
  }
}

async function partsOf(plugin: Plugin, uri: string, namespace: string): Promise<Parts> {
  if (plugin.connect === undefined) throw new Error(`The plugin ${plugin.name} cannot connect.`)
  const connection = await plugin.connect(uri, { namespace }, live)
  const guard: Guard = { name: redact(uri), closed: false, classify: plugin.classify?.bind(plugin) ?? (() => undefined) }
  // A plugin for vectors or artifacts only is tested with its rows in memory.
  const raw = connection.data ?? (await memory.connect!('memory:', { namespace }, live)).data!
  return { connection, raw, data: guardData(raw, guard), vectors: guardVectors(connection.vectors ?? memoryVectors(), guard), artifacts: guardArtifacts(connection.artifacts ?? rowArtifacts(raw), guard) }
}

/** What is to be stored for a row as it was read. */
export function outcome(row: Row, found: Found, hash: string = hashOf([row.doc, (row.outputs ?? {}) as Doc])): Outcome {
  const base = { key: row.key, rev: row.rev, hash }
  if (found === 'skip' || found === 'same') return { ...base, kind: found }
  return found instanceof Error ? { ...base, kind: 'error', error: found.message, tries: 1 } : { ...base, kind: 'values', values: found }
}

export async function all<T>(batches: AsyncIterable<readonly T[]>): Promise<T[]> {
  const list: T[] = []
  for await (const batch of batches) list.push(...batch)
  return list
}

/** Documents `k000`, `k001`, … */
export function many(n: number, doc: (i: number) => Doc): Record<Key, Doc> {
  return Object.fromEntries(Array.from({ length: n }, (_, i) => [keyOf(i), doc(i)]))
}
export function keyOf(i: number): Key {
  return `k${String(i).padStart(4, '0')}`
}

/** The code of the `InlayError` that `work` ends in. */
export async function codeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work
  } catch (error) {
    if (InlayError.is(error)) return error.code
    throw error
  }
  return 'no error'
}

function withoutNegativeZero(value: Value): Value {
  if (typeof value === 'number') return value + 0
  if (Array.isArray(value)) return value.map((v: Value) => withoutNegativeZero(v))
  if (!isDoc(value)) return value
  const copy: Record<string, Value> = {}
  for (const [name, v] of Object.entries(value)) setOwn(copy, name, withoutNegativeZero(v))
  return copy
}

function show(value: Value | undefined): string {
  const text = value === undefined ? 'nothing' : encode(value)
  return text.length > 300 ? `${text.slice(0, 300)}… (${text.length} characters)` : text
}
