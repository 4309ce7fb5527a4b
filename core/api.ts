/** What an application sees, as types. */
import type { StandardSchemaV1 } from '@standard-schema/spec'
import type { ComponentKind, Shown } from './components.ts'
import type { Container } from './container.ts'
import type { CodecSpec, Declared } from './codec.ts'
import type { DataCapabilities, Device, Middleware, Plugin, Scalar } from './contract.ts'
import type { ContentOptions } from './fetch.ts'
import type { ErrorCode } from './errors.ts'
import type { IndexSpec, ListenerSpec, ModelSpec, Spec } from './spec.ts'

/** How far a call is. */
export interface Progress {
  readonly done: number
  /** Rows to do in all, or undefined while that is not known. */
  readonly total: number | undefined
  readonly failed: number
  readonly perSecond: number
}
/** How long a call waits for outputs, and how it is stopped and watched. */
export interface Wait {
  /** `false`: resolve when the rows are written; outputs follow, and `close` awaits them. Default `true`. */
  readonly wait?: boolean
  readonly signal?: AbortSignal
  readonly onProgress?: (progress: Progress) => void
}
/** How a call is stopped. */
export interface Cancel { readonly signal?: AbortSignal }

type Element<V> = V extends readonly (infer E)[] ? E : never
/** Types by the names of `$type`. */
export type TypeName = 'null' | 'bool' | 'number' | 'string' | 'date' | 'binData' | 'object' | 'array'
/** Operators on a field of type V. */
export interface Operators<V> {
  readonly $eq?: V | Element<V> | null
  readonly $ne?: V | Element<V> | null
  readonly $in?: readonly (V | Element<V> | null)[]
  readonly $nin?: readonly (V | Element<V> | null)[]
  readonly $gt?: V | Element<V>
  readonly $gte?: V | Element<V> | null
  readonly $lt?: V | Element<V>
  readonly $lte?: V | Element<V> | null
  readonly $exists?: boolean
  readonly $not?: Operators<V>
  /** An anchored literal: `^An`. */
  readonly $regex?: `^${string}`
  readonly $size?: number
  readonly $all?: readonly (V | Element<V>)[]
  readonly $elemMatch?: Readonly<Record<string, unknown>>
  readonly $type?: TypeName | readonly TypeName[]
}
/** What may stand for a field of type V: a value, an element of it when it is an array, null (null or missing), or operators. */
export type Test<V> = V | Element<V> | null | Operators<V>
/** A filter, in MongoDB's syntax; see docs/queries.md for the subset and its meaning. */
export type Where<T> = { readonly [K in keyof T]?: Test<NonNullable<T[K]>> } & { readonly _id?: Test<string>; readonly _fold?: Test<Fold> } & { readonly [path: `${string}.${string}`]: Test<unknown> }
  & { readonly $and?: readonly Where<T>[]; readonly $or?: readonly Where<T>[]; readonly $nor?: readonly Where<T>[] }
/** A change of rows, in MongoDB's syntax. */
export interface Update<T> {
  readonly $set?: Partial<T> & { readonly [path: `${string}.${string}`]: unknown }
  readonly $unset?: { readonly [K in keyof T]?: true } & { readonly [path: `${string}.${string}`]: true }
  readonly $inc?: { readonly [K in keyof T]?: number | bigint } & { readonly [path: `${string}.${string}`]: number | bigint }
}
/** Which part of the data a row belongs to when models are trained. */
export type Fold = 'train' | 'valid'
/** A document to insert: `_id` and `_fold` are made where they are absent. */
export type New<T> = T & { readonly _id?: string; readonly _fold?: Fold }
/** A row as it is read. */
export type Row<T> = T & { readonly _id: string; readonly _fold?: Fold; readonly _outputs?: Readonly<Record<string, Readonly<Record<string, unknown>>>> }
/** `score` is larger for what is nearer: 1 - distance for cosine, -distance for dot and l2. */
export type Hit<T> = Row<T> & { readonly score: number; readonly distance: number }

/** A query that has not run yet. Each method gives a new one; iterating it, or a method that gives a promise, runs it. */
export interface Find<T, R = Row<T>> extends AsyncIterable<R> {
  sort(by: { readonly [K in keyof T]?: 1 | -1 } & { readonly _id?: 1 | -1 } & { readonly [path: `${string}.${string}`]: 1 | -1 }): Find<T, R>
  skip(n: number): Find<T, R>
  limit(n: number): Find<T, R>
  /** Only these fields, and `_id`, `_fold`, `_outputs`. */
  select<K extends keyof T & string>(...fields: readonly K[]): Find<Pick<T, K>, Pick<R, (K | '_id' | '_fold' | '_outputs' | 'score' | 'distance') & keyof R>>
  /** The `n` (default 10) nearest of the matching rows, nearest first. A string is the `_id` of a stored row. */
  like<Q>(example: Q | string, index: IndexHandle<Q>, options?: { readonly n?: number }): Find<T, Hit<T>>
  signal(signal: AbortSignal): Find<T, R>
  toArray(): Promise<R[]>
  first(): Promise<R | undefined>
  count(): Promise<number>
  /** How the query would run: what the database does, and what is done here. */
  explain(): Promise<string>
  /** What a listener takes of it: the collection, the filter, and with the key `_base` the fields. */
  readonly source: { readonly collection: string; readonly where: Readonly<Record<string, unknown>> | undefined; readonly select: readonly string[] | undefined }
}

/** A document or row that was not written. */
export interface Refused {
  /** Position among the documents given. Absent in updates and deletes. */
  readonly index?: number
  readonly id?: string
  readonly code: ErrorCode
  readonly reason: string
  readonly path?: string
}
/** What a write did. Row faults are entries, also for a single document; faults of the call are thrown. */
export interface Changed {
  readonly ids: readonly string[]
  /** Documents that were not written, with the reason. The others were. */
  readonly refused: readonly Refused[]
  /** Outputs of listeners: computed or found current, failed on their row, still to come. */
  readonly outputs: { readonly done: number; readonly failed: number; readonly pending: number }
}

/** Rows of one name, and the listeners on them. */
export interface Collection<T, I = T> {
  readonly name: string
  /** One document, several, or a stream of them, of which two chunks are in flight. */
  insert(docs: New<I> | readonly New<I>[] | AsyncIterable<New<I>>, options?: Wait): Promise<Changed>
  find(where?: Where<T>): Find<T>
  findOne(where?: Where<T>, options?: Cancel): Promise<Row<T> | undefined>
  /** The `n` (default 10) nearest rows of the collection; `find` then filters these. */
  like<Q>(example: Q | string, index: IndexHandle<Q>, options?: { readonly n?: number }): { find(where?: Where<T>): Find<T, Hit<T>> }
  /** Changes matching rows. `ids` are those that changed. */
  update(where: Where<T>, change: Update<T>, options?: Wait): Promise<Changed>
  replace(id: string, doc: New<I>, options?: Wait): Promise<Changed>
  /** Deletes matching rows with their outputs. An empty filter needs `{ all: true }`. */
  delete(where: Where<T>, options?: { readonly all?: true } & Cancel): Promise<Changed>
}
/** What a collection checks and adds when documents are written. */
export interface CollectionOptions<T, I = T> {
  /** Any Standard Schema (zod, valibot, arktype, …): checks documents before they are written, and gives what is written. */
  readonly schema?: StandardSchemaV1<I, T>
  /** Share of rows that get `_fold: 'valid'`, and its seed. Default 0.05 and 0. */
  readonly fold?: { readonly valid?: number; readonly seed?: number }
  /** A table, collection or file that somebody else made: `public.users`, `./events.parquet`. Its keys and columns stay as they are; `_id` is the text of its key, and `_fold` is
   *  computed. Said once, it holds for every process. Default: a collection of Inlay's own. */
  readonly attach?: string
  /** With `attach`: `notify` installs what tells of the writes of others (`plan` shows it, `remove` takes it away); `none`, the default, leaves them to be found by `verify`. */
  readonly track?: 'notify' | 'none'
  /** Which codec the values of some fields have, by path: `{ photo: 'image', 'meta.sound': 'audio' }`. It checks what is written; a text that is written or found there is the
   *  URI of the value, and bytes that are found there are those of the value. Without it values say themselves which codec they have. */
  readonly codecs?: Declared
}

type KeyOf<T, I> = { [K in keyof T]-?: NonNullable<T[K]> extends I ? K : never }[keyof T] & string
/** How a listener is named and run. */
export interface ListenOptions extends Wait {
  readonly name?: string
  /** Most rows of one call of the model. Default: a page. */
  readonly maxChunkSize?: number
  /** Default `true`. */
  readonly active?: boolean
  /** The model gives a list for each row, whose elements are outputs of their own. Default `false`. */
  readonly flatten?: boolean
}
/** An element of the lists of a listener, as a row: `_id` is that of its source, then `#` and its position. */
export interface Chunk<V = unknown> { readonly value: V; readonly source: string; readonly offset: number }
/** A model bound to a database. */
export interface ModelHandle<I, O> {
  readonly name: string
  readonly version: number
  readonly spec: ModelSpec<I, O>
  /** One output per input, in order; an input that fails fails the call. */
  predict(inputs: readonly I[], options?: Cancel): Promise<O[]>
  predictOne(input: I, options?: Cancel): Promise<O>
  /** Where the graph runs, which may be another device than was asked for with `auto`; undefined for a function. */
  device(): Promise<Device | undefined>
  /** Keeps the model's output for each row of the query: `db.add(listener(…))`. Resolves when all are computed, unless `wait: false`. */
  listen<T, K extends KeyOf<T, I>>(on: Find<T>, key: K, options?: ListenOptions): Promise<ListenerHandle<O, K, I>>
  listen<T>(on: Find<T>, key: ListenerHandle<I> | ListenerHandle<readonly I[]>, options?: ListenOptions): Promise<ListenerHandle<O, string, I>>
  listen<T, K extends keyof T & string>(on: Find<T>, key: readonly K[] & (Pick<T, K> extends I ? unknown : never), options: ListenOptions & { readonly name: string }): Promise<ListenerHandle<O, string, I>>
  listen<T>(on: Find<T> & (T extends I ? unknown : never), key: '_base', options?: ListenOptions): Promise<ListenerHandle<O, '_base', I>>
}
/** A listener knows its output type: `digits.of(row)` needs no path string; `digits.path` is the address for filters. */
export interface ListenerHandle<O, K extends string = string, I = unknown> {
  readonly kind: 'listener'
  readonly name: string
  readonly key: K
  readonly takes?: I
  readonly path: `_outputs.${string}`
  /** The settled output of a row that was read, or undefined. */
  of(row: object): O | undefined
  /** The rows on which the model failed, with the reason. */
  failures(options?: Cancel): AsyncIterable<Failure>
  /** Runs the model again on rows where it failed. */
  retry(options?: Wait): Promise<Changed['outputs']>
  /** Runs the model again on all rows: for one whose outputs depend on more than the row, such as a search. */
  refresh(options?: Wait): Promise<Changed['outputs']>
  /** With `flatten`: the elements of all lists as rows, to be filtered, searched by an index on a listener to them, and read with their outputs. */
  chunks(where?: Where<Chunk>): Find<Chunk<O extends readonly (infer E)[] ? E : unknown>>
  /** Of one row: what its output was made from, by what, when and by whom; undefined where there is none. */
  lineage(id: string, options?: Cancel): Promise<Lineage | undefined>
  /** Computes the outputs of another version of the model beside the present ones, which are read until `switch`. Resolves when the new ones are complete, unless `wait: false`. */
  upgrade<J>(to: ModelSpec<J, O>, options?: Wait): Promise<Upgrade>
}
/** Where an output comes from. */
export interface Lineage {
  /** The row, and the rev whose content was read; `current`: the row has not changed since. */
  readonly row: { readonly _id: string; readonly rev: string; readonly current: boolean }
  /** Digest of what the model read of the row. */
  readonly hash: string
  readonly listener: { readonly name: string; readonly version: number; readonly key: string }
  /** `identity` covers everything below it; `artifact` is the SHA-256 of the graph. */
  readonly model: { readonly name: string; readonly version: number; readonly identity: string; readonly artifact?: string; readonly shape?: readonly number[]; readonly codec?: string; readonly options?: Readonly<Record<string, unknown>>; readonly parts?: readonly { readonly model: string; readonly identity: string }[] }
  /** Steps by `name@version`, with the digests of their code when the model was added. */
  readonly steps: readonly { readonly step: string; readonly digest?: string }[]
  /** When it was computed, and by which worker (see `WorkStatus.worker`). Absent of outputs made before this was kept. */
  readonly at?: Date
  readonly worker?: string
  /** Where there is no output: why. */
  readonly error?: string
  /** Of the outputs that the model read. */
  readonly upstream: readonly Lineage[]
}
/** How two versions agree on rows that both have an output for. */
export interface Comparison {
  readonly rows: number
  readonly equal: number
  /** Rows on which one version failed and the other did not. */
  readonly failures: { readonly before: number; readonly after: number }
  /** Of vectors: the mean cosine of both. */
  readonly cosine?: number
  /** Some that differ. */
  readonly examples: readonly { readonly _id: string; readonly before: unknown; readonly after: unknown }[]
}
/** A new version of a listener's model that is computed beside the present one. What happens between these calls, a restart included, is taken up by `upgrade` of the same model. */
export interface Upgrade {
  readonly version: number
  /** What is done of the new outputs. */
  progress(options?: Cancel): Promise<Progress>
  /** Both versions on a sample of rows, chosen evenly; default 100. */
  compare(sample?: number, options?: Cancel): Promise<Comparison>
  /** Readers see the new outputs from one write on; the old ones are kept up to date too, for `rollback`, until `drop`. Refused while new outputs are missing. */
  switch(options?: Cancel): Promise<void>
  /** Readers see the old outputs again, and the new ones are dropped; before `switch`, too. */
  rollback(options?: Cancel): Promise<void>
  /** Drops the old outputs. */
  drop(options?: Cancel): Promise<void>
}
/** A vector index bound to a database; `Q` says what it can be searched by. */
export interface IndexHandle<Q> {
  readonly kind: 'index'
  readonly name: string
  readonly accepts?: Q
}

/** One thing that would be done. */
export interface PlanStep {
  readonly what: string
  readonly why: string
  /** Rows whose outputs would be computed or looked at. */
  readonly rows?: number
}
/** What declaring some components would do. */
export interface Plan {
  readonly steps: readonly PlanStep[]
  toString(): string
  apply(options?: Wait): Promise<void>
}
/** What `verify` found, before repair. */
export interface Health {
  /** Nothing missing, stale, orphaned or failed, and no artifact lost. */
  readonly ok: boolean
  readonly rows: number
  readonly missing: number
  readonly stale: number
  readonly orphaned: number
  readonly failed: number
  readonly artifacts: { readonly missing: number; readonly unreferenced: number }
  readonly listeners: readonly ListenerHealth[]
  /** What was done, with `repair`: outputs computed, outputs and artifacts removed. */
  readonly repaired: { readonly computed: number; readonly pruned: number; readonly artifacts: number }
}
/** What `verify` found of one listener. */
export interface ListenerHealth {
  readonly name: string
  readonly rows: number
  readonly missing: number
  readonly stale: number
  readonly failed: number
  readonly orphaned: number
  /** With `deep`: vectors that a copy in memory lacks, or has otherwise than they are stored. */
  readonly index: number
  /** The first ten failed rows, with the reason; see `ListenerHandle.failures` for all. */
  readonly failures: readonly Failure[]
  /** Why nothing can be said of it: what it lies on is gone, or is not what it was. */
  readonly blocked?: string
}
/** A row whose output could not be computed. */
export interface Failure {
  readonly _id: string
  readonly error: string
  /** How often the model was tried on it. */
  readonly tries: number
}
/** How thorough `verify` is, and whether it repairs. */
export interface VerifyOptions extends Wait {
  /** Computes what is missing, removes what is orphaned. Failed rows stay failed, unless `retry` says otherwise. */
  readonly repair?: boolean
  /** Whether `repair` runs models again on rows where they failed: a URI could not be fetched, a service was away. Default `false`. */
  readonly retry?: boolean
  /** Compares the hash of every row instead of its rev only, and re-reads artifacts. */
  readonly deep?: boolean
  /** Whether `repair` removes artifacts that nothing of this database refers to. Default `false`: another database may keep its own in the same place. */
  readonly removeArtifacts?: boolean
  /** Unreferenced artifacts younger than this are spared, as their row may be on its way. Default one hour. */
  readonly graceMs?: number
}
/** What `show` says of a listener. */
export interface ShownListener extends Shown {
  readonly kind: 'listener'
  readonly key: string
  readonly model: string
  /** `<model>/<key>`. */
  readonly label: string
  readonly state: 'ready' | 'building' | 'blocked' | 'inactive'
  /** Why it is blocked. */
  readonly reason?: string
}

/** What `show('collection')` says. */
export interface ShownCollection {
  readonly kind: 'collection'
  readonly name: string
  /** What it is attached to; absent: Inlay's own. */
  readonly attached?: string
  readonly track?: 'notify' | 'none'
  readonly readOnly?: boolean
}

/** How a worker runs. */
export interface WorkOptions {
  /** Stops it: what it has begun it ends, and it gives back what it holds. */
  readonly signal?: AbortSignal
  /** Work for these listeners only. Default: for all whose functions this process has. */
  readonly listeners?: readonly string[]
  /** Called about once a second, more rarely where counting takes long. */
  readonly onStatus?: (status: WorkStatus) => void
}
/** How a worker stands. */
export interface WorkStatus {
  readonly worker: string
  /** Parts of listeners that this worker has taken. */
  readonly leases: number
  /** Rows whose outputs are missing or stale, of all listeners, whoever works on them. */
  readonly lag: number
  /** Outputs that this worker has stored, and rows that failed, since it began. */
  readonly done: number
  readonly failed: number
  /** `blocked`: why this process cannot compute it. */
  readonly listeners: readonly { readonly name: string; readonly lag: number; readonly failed: number; readonly blocked?: string }[]
}

/** A database with its models. `await using db = await inlay(…)` closes it. */
export interface Inlay {
  /** Name and version of the data database: "PostgreSQL 18.6, pgvector 0.8.6". */
  readonly server: string
  /** What the data database can do and cannot, with a sentence for each restriction. */
  readonly capabilities: DataCapabilities
  collection<T extends object = Record<string, unknown>, I extends object = T>(name: string, options?: CollectionOptions<T, I>): Collection<T, I>
  /** Declares a component, and what it needs. Equal content is a no-op, other content a new version. The outputs of a listener, and of one that an index is
   *  declared on by its spec, are computed before it resolves. */
  add<I, O>(spec: ModelSpec<I, O>, options?: Wait): Promise<ModelHandle<I, O>>
  add<I, O, K extends string>(spec: ListenerSpec<I, O, K>, options?: Wait): Promise<ListenerHandle<O, K, I>>
  add<Q>(spec: IndexSpec<Q>, options?: Wait): Promise<IndexHandle<Q>>
  /** For this process: other processes add it too, or name it in their config. */
  add<T>(spec: CodecSpec<T>): Promise<CodecSpec<T>>
  /** A handle for what was added before; NOT_FOUND otherwise. Stores nothing and computes nothing. */
  load<I, O>(spec: ModelSpec<I, O>, version?: number): Promise<ModelHandle<I, O>>
  load<I, O, K extends string>(spec: ListenerSpec<I, O, K>): Promise<ListenerHandle<O, K, I>>
  load<Q>(spec: IndexSpec<Q>): Promise<IndexHandle<Q>>
  show(kind: 'listener', name?: string): Promise<readonly ShownListener[]>
  show(kind: 'collection', name?: string): Promise<readonly ShownCollection[]>
  show(kind?: ComponentKind, name?: string): Promise<readonly Shown[]>
  /** With `keepOutputs`, a listener's outputs stay readable and are not kept up to date any more. Of an attached collection only what Inlay installed goes; one of
   *  Inlay's own goes with its rows, and needs `force`. */
  remove(kind: ComponentKind | 'collection', name: string, options?: { readonly version?: number; readonly force?: boolean; readonly keepOutputs?: boolean }): Promise<void>
  /** What `add` of these would do, and why; changes nothing. */
  plan(specs: readonly Spec<unknown>[], options?: Cancel): Promise<Plan>
  /** Keeps outputs up to date, of what this and other processes write, until the signal or `close`. Any number of workers share the work. Where the database tells of
   *  changes they follow at once, else within a second. */
  work(options?: WorkOptions): Promise<WorkStatus>
  /** Compares outputs, marks, indexes and artifacts with the rows. */
  verify(options?: VerifyOptions): Promise<Health>
  /** Awaits work in flight, or stops it with `abort`, then closes what was opened, last first. Twice: no error. */
  close(options?: { readonly abort?: boolean }): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

/** Where messages go; what is left out is not said. Secrets are redacted before. */
export interface Log {
  debug?(message: string): void
  info?(message: string): void
  warn?(message: string): void
  error?(message: string): void
}
/** See docs/configuration.md. Code overrides the environment, which overrides the file, which overrides defaults. */
export interface Config {
  /** URI of the database. Default `memory:`, with a warning. */
  readonly data?: string
  /** URI of another database for vectors. Default: the data database where it can search, else this process's memory. */
  readonly vectors?: string
  /** URI for artifacts: `file:./models`, or another database. Default: the data database. */
  readonly artifacts?: string
  /** Schema or database that holds Inlay's own tables. Default `inlay`. */
  readonly namespace?: string
  readonly models?: { readonly device?: Device | 'auto' }
  /** `inline` (default): this process computes outputs of what it writes. `worker`: it computes none. */
  readonly outputs?: 'inline' | 'worker'
  /** Plugin objects, package names or paths. */
  readonly plugins?: readonly (string | Plugin)[]
  readonly middleware?: readonly Middleware[]
  /** Options of collections by name, above all what they are attached to: `{ users: { attach: 'public.users' } }`. They hold for `components` too. */
  /** What may be fetched of URIs in documents, and how. Default: nothing. */
  readonly content?: ContentOptions
  readonly collections?: Readonly<Record<string, CollectionOptions<object>>>
  /** Added when the database is opened with `inlay`, without computing anything. */
  readonly components?: readonly Spec<unknown>[]
  /** Replaces parts: `(c) => c.register(tokens.VectorSearch, { useValue: mine })`. */
  readonly container?: (container: Container) => void
  /** Default: warnings and errors to stderr. */
  readonly log?: Log
  /** `false`: no config file is read. A path: this one. Default: `inlay.config.{ts,js,json}`, found upwards. */
  readonly config?: string | false
}
export type { Scalar }
