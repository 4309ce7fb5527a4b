/**
 * Everything a plugin may implement. Types and prose only.
 *
 * Core stands before every call: it validates, resolves paths, splits queries to what `capabilities` allow, cuts batches to `limits`, retries
 * what `classify` calls retryable, and closes. A plugin may assume valid arguments and a live signal. What it is given it does not change and
 * does not keep; what it returns nobody else holds. A database must give a `Datalayer`; vectors and artifacts have defaults in core.
 */
import type { ErrorCode } from './errors.ts'

/** A value without parts. */
export type Scalar = null | boolean | number | bigint | string | Date | Uint8Array
/** Typed arrays other than bytes: values of their own, equal by type and content. */
export type TypedArray = Int8Array | Uint8ClampedArray | Int16Array | Uint16Array | Int32Array | Uint32Array | BigInt64Array | BigUint64Array | Float32Array | Float64Array
/** What a field may hold. */
export type Value = Scalar | TypedArray | readonly Value[] | Doc
/** A plain object of fields. */
export interface Doc { readonly [field: string]: Value }
/** Canonical text of a native primary key; the plugin maps both ways and escapes composites. Compared and sorted by code point; of an attached collection rows come, and
 *  scans go on, in the order of the native key. */
export type Key = string
/** Names one content of one row. Every done write gives a new one, whoever wrote; not reused; compared for equality only. */
export type Rev = string
/** Goes with every call; an aborted signal stops it. */
export interface Ctx { readonly signal: AbortSignal }
/** How an output is stored: typed where the database has the type, else as JSON. */
export type Shape = { readonly kind: 'boolean' | 'number' | 'string' | 'bytes' | 'json' } | { readonly kind: 'vector'; readonly dims: number }

/**
 * Inlay's own collections are key + rev + document. An attached one is a table, collection or file that somebody else made: keys, columns and what lies in
 * them stay as they are, and its documents have a field for each column. What a Value cannot hold (a wide decimal, a geometry) reads as text, or in the form in
 * which its database writes it as JSON, and is refused in a write; a `put` that leaves it out may keep it. A row of it may be inserted without key, where the database makes keys.
 */
export interface Collection {
  readonly name: string
  /** The name of what is attached, as the user wrote it; false: Inlay's own. */
  readonly attached: string | false
  /** `notify`: `watch` reports foreign writes, and `create` installs what that needs. `none`: they are found by a scan only, and `watch` need not report anything. */
  readonly track: 'notify' | 'none'
  /** In `list`: its rows cannot be written. */
  readonly readOnly?: true
}
/**
 * The address of one derived value: (listener, identity of its model). A changed model is another slot, so no write asks for a version.
 * A slot with `many` outputs per row can itself be read and listened to, under its `id`: key `<key>#<offset>`, document `{ value, source, offset }`.
 */
export interface Slot {
  /** `[a-z][a-z0-9_]{0,39}`: a safe identifier everywhere. */
  readonly id: string
  /** A collection, or the id of a slot with `many`. */
  readonly collection: string
  /** What the listener selects; only kinds of `capabilities.filters`. */
  readonly where?: Filter
  /** Top-level fields that `rows` returns; absent: all. */
  readonly fields?: readonly string[]
  /** Slots of the same collection that the model reads, each opened before. */
  readonly upstream: readonly string[]
  readonly shape: Shape
  readonly many: boolean
  /** `<key>.<model>`: where people find the outputs: a plugin that can makes a view `<collection>_view` of all columns or fields with `_outputs.<label>`. Of two slots of one label the older is shown until it is dropped. Absent: not shown. */
  readonly label?: string
}

/** Already split: no dots to parse. With `slot`, the path starts inside that slot's output. */
export interface Path { readonly slot?: string; readonly at: readonly string[] }
/** A condition on rows, in its smallest parts. */
export type Filter =
  | { readonly kind: 'and' | 'or'; readonly of: readonly Filter[] }
  | { readonly kind: 'not'; readonly of: Filter }
  | { readonly kind: 'eq' | 'lt' | 'lte' | 'gt' | 'gte'; readonly path: Path; readonly value: NonNullable<Scalar> }
  | { readonly kind: 'in'; readonly path: Path; readonly values: readonly NonNullable<Scalar>[] }
  /** Null or missing: the hard half of equality, so its own kind. */
  | { readonly kind: 'null'; readonly path: Path }
  | { readonly kind: 'exists'; readonly path: Path; readonly is: boolean }
  | { readonly kind: 'prefix'; readonly path: Path; readonly value: string }
  /** The row's key is one of these. Every plugin has this kind. */
  | { readonly kind: 'keys'; readonly keys: readonly Key[] }
/** Which rows, in which order, and what of them. */
export interface Query {
  /** A collection, or the id of a slot with `many`. */
  readonly from: string
  readonly where?: Filter
  /** Paths of the document, or `_id`; ties are broken by key, ascending; absent: by key. */
  readonly order?: readonly { readonly path: Path; readonly descending: boolean }[]
  readonly skip?: number
  readonly limit?: number
  /** Top-level fields to return; absent: all. */
  readonly fields?: readonly string[]
  /** Outputs to return with each row. */
  readonly slots?: readonly string[]
  /** Resume a scan: only keys above this one. */
  readonly after?: Key
}
/** What an output was made from. `rev` equals the row's when current and is anything else when not: core uses it for nothing more. */
export interface Mark {
  readonly rev: Rev
  readonly hash: string
  readonly error?: string
  readonly tries?: number
  /** Looked at, not selected. */
  readonly none?: true
  /** Who made it and when, as the outcome said. */
  readonly by?: string
}
/** A row with what is asked of it. */
export interface Row {
  readonly key: Key
  /** From `rows` of a slot with upstream: the row's own rev, then `|` and the hash of each upstream mark, in the order of `slot.upstream`. */
  readonly rev: Rev
  readonly doc: Doc
  /** Settled values by slot id; absent where there is none. A slot without `many` has exactly one value. */
  readonly outputs?: Readonly<Record<string, readonly Value[]>>
  readonly mark?: Mark
}

/** With `rev`, an operation is a compare-and-set. A patch replaces whole top-level fields and keeps the others as they are. `as` is the rev that a plugin with
 *  `givenRevs` gives the row, a new UUID; core sets it, so that after a lost answer the row tells whose write it holds. `was` is the document that was read under
 *  `rev`; core gives it where `capabilities.foreign` is false: a write of another program may not have given the row its new rev yet, and the operation is done only
 *  where the row still holds that document. */
export type Write =
  /** Without key, which core leaves out on attached collections only, the database makes one. */
  | { readonly kind: 'insert'; readonly key?: Key; readonly doc: Doc; readonly as?: Rev }
  | { readonly kind: 'put'; readonly key: Key; readonly doc: Doc; readonly rev?: Rev; readonly was?: Doc; readonly as?: Rev }
  | { readonly kind: 'patch'; readonly key: Key; readonly set: Doc; readonly unset: readonly string[]; readonly rev?: Rev; readonly was?: Doc; readonly as?: Rev }
  /** The row, and the outputs of that row. */
  | { readonly kind: 'remove'; readonly key: Key; readonly rev?: Rev; readonly was?: Doc }
/** `exists`: an insert found its key taken. `moved`: the row is there with another rev. `refused`: the database will not hold it; `reason` says why.
 *  `unknown` is core's alone: the answer was lost, and nothing tells whether it was done: others have written the row since, or its key was to be made. */
export interface Written {
  readonly status: 'done' | 'exists' | 'moved' | 'missing' | 'refused' | 'unknown'
  readonly key: Key
  /** The new rev, with `done` of anything but a remove. */
  readonly rev?: Rev
  readonly reason?: string
}
/** What was found for one row. `same`: the stored output has this hash already, only the rev of its mark moves (refused where that is not so). `skip`: looked at, not selected.
 *  `by`, of at most 200 characters, is kept in the mark; with `same` the one stays that is there. */
export type Outcome = { readonly key: Key; readonly rev: Rev; readonly hash: string; readonly by?: string } & (
  | { readonly kind: 'values'; readonly values: readonly Value[] }
  | { readonly kind: 'same' | 'skip' }
  | { readonly kind: 'error'; readonly error: string; readonly tries: number })
/** How a slot stands. `rows`: selected rows whose upstream has values; of these `missing` have no mark, `stale` one of another rev, `failed` an error.
 *  `orphaned`: marks that `prune` would remove. Each row counts in one at most: an error of another rev is stale; a stale upstream value is a value. */
export interface Tally { readonly rows: number; readonly missing: number; readonly stale: number; readonly failed: number; readonly orphaned: number }
/** Keys whose row may have changed or gone. Order and duplicates do not matter. `done` says that core has done its work: notices without it may come again.
 *  `stale`: some notices were lost, and `rows(slot, 'stale')` finds what they told. `all`: changes were lost that gave no new rev; core compares the hashes of
 *  all rows (`rows(slot, 'all')`), because 'stale' would not find them. */
export interface Notice { readonly keys: readonly Key[] | 'stale' | 'all'; done(ctx: Ctx): Promise<void> }

/** What a database can do, as data. Opening may only narrow it. Core derives from it what is pushed down, done in core or refused; the suite its skips. */
export interface DataCapabilities {
  /** Evaluated exactly as core/match.ts does; core evaluates the rest. At least `keys`. */
  readonly filters: readonly Filter['kind'][]
  /** Sorts exactly as core/sort.ts does, any path. With `false` no query has `order`, and rows come by key, ascending. */
  readonly order: boolean
  /** What was written is there after `close`, or a crash of the process, and connecting again. */
  readonly durable: boolean
  readonly writers: 'many' | 'one-process'
  /** Collections, tables or files of others can be attached. */
  readonly attaches: boolean
  /** Whose changes `watch` reports: nobody's, Inlay's, everybody's. */
  readonly notices: 'none' | 'own' | 'all'
  /** A done write gives its row the rev `as` of the operation, where there is one. Without, core guesses by content after a lost answer. */
  readonly givenRevs: boolean
  /** A write by another program to a collection of Inlay's gives the row a new rev by itself. Otherwise `watch` gives it one, shortly after; until then the row bears the old one. */
  readonly foreign: boolean
  /** Values it cannot hold: refused with their path, before any I/O. */
  readonly refuses: readonly ('nul' | 'int64')[]
  /** What does not survive; said, never hidden. */
  readonly loses: readonly ('field-order' | 'negative-zero')[]
  /** `ops` per write and settle, `keys` per filter and hint: core cuts to them. Bytes of a collection's name and of a key: core refuses longer ones. Bytes of a document,
   *  dimensions of a vector: the plugin refuses larger ones. */
  readonly limits: { readonly docBytes?: number; readonly ops?: number; readonly keys?: number; readonly dims?: number; readonly nameBytes?: number; readonly keyBytes?: number }
  /** A sentence for each restriction, those found when connecting included. */
  readonly notes: readonly string[]
}
/** One database: rows, and the values derived from them. Of a collection or slot that is not there, another process may have dropped it, every call but `create`, `drop`, `list`,
 *  `openSlot` and `dropSlot` is NOT_FOUND, also where only a filter names it: then core looks at what is declared now. */
export interface Datalayer {
  readonly capabilities: DataCapabilities
  /** Idempotent, also when two processes do it at once; one of that name that is attached to something else, or to nothing: CONFLICT. Attaching: NOT_FOUND where
   *  there is nothing of that name, UNSUPPORTED with the reason where it has no key or cannot be attached, or `attaches` is false; an attached one may be created again with another `track`. */
  create(collection: Collection, ctx: Ctx): Promise<void>
  /** What `create` would install in what belongs to others and does not find there: SQL, or a sentence, each. Absent: nothing is ever installed. */
  installs?(collection: Collection, ctx: Ctx): Promise<readonly string[]>
  /** With its slots. Of an attached collection only what is Inlay's goes, all of it; its rows stay as they are. Nothing there: no error. */
  drop(name: string, ctx: Ctx): Promise<void>
  list(ctx: Ctx): Promise<readonly Collection[]>
  /** One result per operation, in order; no key twice (core splits). Each operation is atomic; a bad one never fails the others. `put` without `rev` inserts
   *  or replaces; `put` keeps the row's outputs. Core does not repeat it after UNAVAILABLE (a repeat could answer `moved` to its own success): it reads again. */
  write(collection: string, ops: readonly Write[], ctx: Ctx): Promise<readonly Written[]>
  /** Lazy, in batches; leaving the loop early frees what it holds. A caller may write between two batches. */
  find(query: Query, ctx: Ctx): AsyncIterable<readonly Row[]>
  /** Rows that match; `skip`, `limit` and `order` are absent. */
  count(query: Query, ctx: Ctx): Promise<number>
  /** Idempotent; each connection opens a slot, its upstream before it, before it uses it. `filters`: whether outputs of this slot can be filtered natively. */
  openSlot(slot: Slot, ctx: Ctx): Promise<{ readonly filters: boolean }>
  /** With the slots on its outputs. */
  dropSlot(id: string, ctx: Ctx): Promise<void>
  /** Selected rows with the slot's fields, upstream outputs and mark; rev and doc come from one read. `stale`: the output is absent or was made from another rev,
   *  and no upstream output is stale itself, failed or none. `failed`: the mark is an error, of whatever rev. `all`: as `stale`, current ones too. `keys` narrows to a hint. In key order. */
  rows(slot: Slot, which: 'stale' | 'failed' | 'all', keys: readonly Key[] | 'all', ctx: Ctx): AsyncIterable<readonly Row[]>
  tally(slot: Slot, ctx: Ctx): Promise<Tally>
  /** Stores outputs with their marks, each row in one atomic step, only where the row still has the given rev. Returns the keys
   *  refused, because their row moved or is gone, or another settled it meanwhile; never the reverse. With `many`, output n is replaced in place: of equal
   *  content it keeps its rev, of other content it gets a new one, so that what was made from it is stale; outputs that are no more go with what was made from them. `error` and
   *  `skip` remove the values and leave a mark; `same` changes the rev of any mark with that hash, and nothing else. */
  settle(slot: Slot, outcomes: readonly Outcome[], ctx: Ctx): Promise<readonly Key[]>
  /** Removes outputs whose row is gone or no longer selected, or whose upstream output is failed, none or gone, and storage that nothing names; returns how many rows lost theirs. May give rows new revs. */
  prune(slot: Slot, keys: readonly Key[] | 'all', ctx: Ctx): Promise<number>
  /** Reports changes, and every watcher all of them, from now on until the signal; the first notice comes at once, with what is to be looked at for what was
   *  missed before. Inlay's own settles give none. A collection that is dropped gives no more. Where `foreign` is false, it first gives foreign writes their new rev. */
  watch?(collection: string, ctx: Ctx): AsyncIterable<Notice>
  native?(statement: unknown, ctx: Ctx): Promise<unknown>
}

/** How far two vectors are apart: 1 - cosine, negative dot, or Euclidean. */
export type Measure = 'cosine' | 'dot' | 'l2'
/** Vectors of one slot that are searched by one measure. */
export interface VectorIndex { readonly id: string; readonly slot: Slot; readonly measure: Measure; readonly approximate: boolean }
/** Whom to find, how many, and among which rows. */
export interface Search {
  readonly vectors: readonly Float32Array[]
  readonly k: number
  readonly exact: boolean
  /** Place `slot`: restrict to these rows and return them, in one statement. `order`, `skip`, `limit` are absent. */
  readonly query?: Query
  /** Place `copy`: restrict to these rows. */
  readonly within?: readonly Key[]
}
/** Distance: 1 - cosine, negative dot, or Euclidean. Ascending; ties by key, then offset. */
export interface Hit { readonly key: Key; readonly offset: number; readonly distance: number; readonly row?: Row }
/** What a search can do, as data. */
export interface VectorCapabilities {
  readonly place: 'slot' | 'copy'
  readonly measures: readonly Measure[]
  readonly dims: number
  /** Most keys of one `within`. */
  readonly within: number
  readonly approximate: boolean
  readonly notes: readonly string[]
}
/**
 * Nearest neighbours. `slot`: searches the outputs where they lie, on the Datalayer's connection; `put` and `remove` are never called.
 * `copy`: keeps its own vectors; core feeds it, and feeds it anew when `epoch` is not the one it fed.
 */
export interface VectorSearch {
  readonly capabilities: VectorCapabilities
  create(index: VectorIndex, ctx: Ctx): Promise<{ readonly epoch: string }>
  drop(id: string, ctx: Ctx): Promise<void>
  put(id: string, items: readonly { readonly key: Key; readonly offset: number; readonly vector: Float32Array }[], ctx: Ctx): Promise<void>
  remove(id: string, keys: readonly Key[], ctx: Ctx): Promise<void>
  /** One list per vector: exactly min(k, matching rows) hits, also when approximate. */
  search(index: VectorIndex, search: Search, ctx: Ctx): Promise<readonly (readonly Hit[])[]>
  /** Earlier writes are findable. */
  settled(id: string, ctx: Ctx): Promise<void>
}
/** Bytes under the SHA-256 of their content, in lower-case hex. Writing an id again renews its age, so that the collector spares it. */
export interface ArtifactStore {
  /** All or nothing. */
  write(id: string, body: AsyncIterable<Uint8Array>, ctx: Ctx): Promise<void>
  /** Unknown id: NOT_FOUND. */
  read(id: string, range: { readonly offset: number; readonly length?: number }, ctx: Ctx): AsyncIterable<Uint8Array>
  /** Small ones, in any order; an unknown id is left out. */
  readMany(ids: readonly string[], ctx: Ctx): AsyncIterable<{ readonly id: string; readonly bytes: Uint8Array }>
  list(ctx: Ctx): AsyncIterable<readonly { readonly id: string; readonly bytes: number; readonly ageMs: number }[]>
  /** Unknown ids: no error. With `olderThanMs` only those of at least that age, decided in the same step as the removal. */
  remove(ids: readonly string[], ctx: Ctx, olderThanMs?: number): Promise<void>
}

/** A function over batches. `identity` changes whenever its outputs may. Core halves a rejected batch until the bad row is alone. */
export interface Model<I = unknown, O = unknown> {
  readonly identity: string
  readonly output: Shape
  predict(inputs: readonly I[], ctx: Ctx): Promise<readonly O[]>
  close(): Promise<void>
}
/** Where a graph runs. */
export type Device = 'cpu' | 'cuda' | 'webgpu' | 'coreml' | 'directml'
/** Numbers in a typed array (bool as bytes 0 and 1, float16 as its bits), or texts. */
export type TensorData = ArrayBufferView | readonly string[]
/** A dense array in row-major order. `type` is ONNX's: float32, int64, uint8, bool, string, … */
export interface Tensor { readonly type: string; readonly dims: readonly number[]; readonly data: TensorData }
/** A named input or output of a graph; a dimension is a number, or the name of a free one. */
export interface Port { readonly name: string; readonly type: string; readonly dims: readonly (number | string)[] }
/** A loaded graph. */
export interface Session {
  /** Equal for sessions that share one loaded graph: what several callers run may share a batch. */
  readonly id: string
  /** What it got, not what was asked. */
  readonly device: Device
  /** Why `auto` did not get a device that there seemed to be: core says it once. */
  readonly fallback?: string
  readonly inputs: readonly Port[]
  readonly outputs: readonly Port[]
  /** Never blocks the event loop. `outputs`: only these of the graph. `transfer`: memory of feeds that the session may take away, as in `postMessage`. */
  run(feeds: Readonly<Record<string, Tensor>>, ctx: Ctx, options?: { readonly outputs?: readonly string[]; readonly transfer?: readonly ArrayBuffer[] }): Promise<Readonly<Record<string, Tensor>>>
  close(): Promise<void>
}
/** Loads graphs of some formats. */
export interface Executor {
  readonly formats: readonly string[]
  load(graph: { readonly format: string; readonly bytes: Uint8Array }, device: Device | 'auto', ctx: Ctx): Promise<Session>
  /** A graph with all that belongs to it, weights in files beside it included, as the bytes that `load` takes. Absent: a file is complete as it is. */
  read?(path: string, ctx: Ctx): Promise<Uint8Array>
  /** Ends sessions and threads. Twice: no error. Core closes the sessions that it loads; the executor is shared by the process and ends with it. */
  close(): Promise<void>
}

/** Of which field of which document bytes are, for errors of what is decoded later, and how many will read them. */
export interface ContentOf {
  /** `field "img" of document "a"`. */
  readonly where: string
  /** How many listeners are about to read this value: with more than one, what is costly to decode is kept. */
  readonly readers: number
}
/**
 * How values of one kind become bytes and come back. A value names its codec by the property `Symbol.for('inlay.codec')`, or `is` finds it, or a collection
 * declares it for a field. Stored as `{ _content: { bytes | artifact | uri, codec } }`.
 */
export interface Codec<T = unknown> {
  /** Stands in stored data: a letter, then letters, digits, `_` or `-`, at most 48. */
  readonly id: string
  /** What it takes, for messages: `float32[1024]`. */
  readonly expects?: string
  /** Its values never change, so that one may be given to several readers. Default `false`. */
  readonly immutable?: boolean
  is(value: unknown): value is T
  /** Begins at once, so that the caller may change the value afterwards. Throws for a value that has no bytes. */
  encode(value: T): Uint8Array | Promise<Uint8Array>
  /** Cheap: the value's own methods decode pixels and samples. The bytes are the value's to keep. Throws where they are not of this kind, never a blank value. */
  decode(bytes: Uint8Array, of: ContentOf): T | Promise<T>
}

/** What a plugin gives for a URI: any of the three interfaces. */
export interface Connection {
  /** Name and version, for messages: "PostgreSQL 18.6, pgvector 0.8.6". */
  readonly server: string
  readonly data?: Datalayer
  readonly vectors?: VectorSearch
  readonly artifacts?: ArtifactStore
  /** Twice: no error. */
  close(): Promise<void>
}
/** Wraps interfaces: log, meter, cache, encrypt, check. Core's own guards are middleware too. */
export interface Middleware {
  readonly name: string
  data?(next: Datalayer): Datalayer
  vectors?(next: VectorSearch): VectorSearch
  artifacts?(next: ArtifactStore): ArtifactStore
  model?(next: Model): Model
}
/** What a package implements. */
export interface Plugin {
  readonly name: string
  readonly contract: 1
  readonly schemes?: readonly string[]
  /** Equal for URIs that must share one connection; without secrets. Default: the URI without password and secret-looking keys of its query. */
  identify?(uri: string): string
  /** `namespace`: `[a-z][a-z0-9_]{0,39}`; two of them do not see each other. Not repeated by core. */
  connect?(uri: string, options: { readonly namespace: string }, ctx: Ctx): Promise<Connection>
  /** What an error of the driver means. `retryable`: nothing was done, the same call may succeed; core then makes six attempts within half a second. A lock or a
   *  serialization failure is CONFLICT; UNAVAILABLE of a `write` means that the answer may be lost, and core looks at the rows. Undefined: not known. */
  classify?(error: unknown): { readonly code: ErrorCode; readonly retryable: boolean } | undefined
  readonly executors?: readonly Executor[]
  readonly codecs?: readonly Codec[]
  readonly middleware?: readonly Middleware[]
}
