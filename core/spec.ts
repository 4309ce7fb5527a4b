/** What a user declares: plain immutable data that may stand in the config. A handle is a spec bound to a database. */
import type { Codec, Device, Doc, Measure, Tensor } from './contract.ts'
import type { IndexHandle, ListenerHandle, ModelHandle } from './api.ts'
import { checkName } from './components.ts'
import { checkOptions, InlayError, quote } from './errors.ts'
import type { Step } from './step.ts'

/** Where a graph may run. */
export const devices: readonly string[] = ['auto', 'cpu', 'cuda', 'webgpu', 'coreml', 'directml'] satisfies readonly (Device | 'auto')[]

declare const handle: unique symbol
/** Declared data of one kind and name; `H` is what `db.add` gives for it. */
export interface Spec<H> {
  readonly kind: 'model' | 'listener' | 'index' | 'codec'
  readonly name: string
  readonly [handle]?: H
}

/** A declared model; see `model`. */
export interface ModelSpec<I = never, O = unknown> extends Spec<ModelHandle<I, O>> {
  readonly kind: 'model'
  readonly onnx?: string | URL | Uint8Array
  readonly run?: Step<readonly never[], readonly unknown[]>
  readonly input?: Step<never, unknown>
  readonly output?: Step<never, unknown>
  readonly shape?: readonly number[]
  readonly device?: Device | 'auto'
  readonly outputs?: readonly string[]
  readonly constants?: Readonly<Record<string, Tensor>>
  readonly state?: Readonly<Record<string, string>>
  readonly codec?: Codec | string
  readonly options?: Doc
  readonly sequence?: readonly ModelSpec[]
  readonly ensemble?: Readonly<Record<string, ModelSpec>>
  readonly retrieve?: { readonly index: IndexSpec; readonly by?: string; readonly n: number; readonly where?: Readonly<Record<string, unknown>>; readonly select?: readonly string[] }
}

type Tensors = Readonly<Record<string, Tensor>>
interface GraphOptions<I> {
  /** A path, a `file:` URL, or the bytes of an ONNX graph. They are stored as an artifact; weights in files beside the graph become part of it. */
  readonly onnx: string | URL | Uint8Array
  /** From one value to one row of tensors, without the batch dimension; with `state`, to a list of them. Absent: the value is a tensor or a typed array. */
  readonly input?: Step<I, Tensor | Tensors | readonly (Tensor | Tensors)[]>
  /** Where it runs. Default: the config's `models.device`. */
  readonly device?: Device | 'auto'
  /** Which outputs of the graph are made. Default: all that are no state. Models that differ in this share one loaded graph. */
  readonly outputs?: readonly string[]
  /** Inputs that are the same for every row: `{ sr: { type: 'int64', dims: [], data: BigInt64Array.of(16000n) } }`. */
  readonly constants?: Tensors
  /** For a graph with state: the outputs that are fed back, with the inputs they are fed to. Each row is then a sequence: a list of inputs, run in order from a state of zeros, whose outputs are a list. */
  readonly state?: Readonly<Record<string, string>>
}
interface Kept {
  /** How outputs are stored. Default: values say it themselves, and plain data is stored as it is. */
  readonly codec?: Codec | string
}

/** An ONNX graph with optional steps before and after it. `shape: [n]` declares vectors of n float32. */
export function model<I = Float32Array, O = Float32Array>(name: string, options: GraphOptions<I> & { readonly shape: readonly [number] }): ModelSpec<I, O>
export function model<I = Float32Array, O = Tensors>(name: string, options: GraphOptions<I> & Kept & { readonly output?: Step<Tensor, O> | Step<Tensors, O> | Step<readonly Tensor[], O> | Step<readonly Tensors[], O> }): ModelSpec<I, O>
/** A plain function over batches, named `name@version` like a step. It gives one output per input; an `Error` in the place of one is the failure of that row. `options` is what
 *  the function depends on besides its code, as data: it is stored, and part of the model's identity. */
export function model<I, O>(name: string, options: Kept & { readonly run: Step<readonly I[], readonly O[]>; readonly shape?: readonly [number]; readonly options?: Doc }): ModelSpec<I, O>
export function model(name: string, options: Omit<ModelSpec, 'kind' | 'name'>): unknown {
  checkName('model', name)
  checkOptions(options, ['onnx', 'run', 'input', 'output', 'shape', 'device', 'outputs', 'constants', 'state', 'codec', 'options'], `model(${quote(name)}, …)`)
  if ((options.onnx === undefined) === (options.run === undefined)) throw new InlayError('INVALID_ARGUMENT', `The model ${quote(name)} needs either "onnx" (a path or bytes) or "run" (a step over batches), not ${options.onnx === undefined ? 'none' : 'both'}.`)
  const shape: unknown = options.shape
  if (shape !== undefined && (!Array.isArray(shape) || shape.length !== 1 || !Number.isInteger(shape[0]) || shape[0] < 1)) throw new InlayError('INVALID_ARGUMENT', `The shape of model ${quote(name)} is ${quote(shape)}; one whole number of dimensions is expected, for example [384].`)
  if (shape !== undefined && options.output !== undefined) throw new InlayError('INVALID_ARGUMENT', `The model ${quote(name)} has both "shape" and an "output" step; a shape takes the graph's vector as it is. Leave one out.`)
  if (shape !== undefined && options.codec !== undefined) throw new InlayError('INVALID_ARGUMENT', `The model ${quote(name)} has both "shape" and a codec; vectors are stored as vectors. Leave one out.`)
  if (options.device !== undefined && !devices.includes(options.device)) throw new InlayError('INVALID_ARGUMENT', `The device of model ${quote(name)} is ${quote(options.device)}; one of ${devices.map(quote).join(', ')} is expected.`)
  if (options.run !== undefined) for (const only of ['input', 'output', 'outputs', 'constants', 'state', 'device'] as const) if (options[only] !== undefined) throw new InlayError('INVALID_ARGUMENT', `The model ${quote(name)} is a function and has "${only}", which is for graphs. Do that in the function.`)
  return Object.freeze({ ...options, kind: 'model', name })
}

/** Models one after the other: the output of each is the input of the next. Where one fails on a row, the row has its error. */
export function sequence<I, B, O>(name: string, models: readonly [ModelSpec<I, B>, ModelSpec<B, O>]): ModelSpec<I, O>
export function sequence<I, A, B, O>(name: string, models: readonly [ModelSpec<I, A>, ModelSpec<A, B>, ModelSpec<B, O>]): ModelSpec<I, O>
export function sequence<I, A, B, C, O>(name: string, models: readonly [ModelSpec<I, A>, ModelSpec<A, B>, ModelSpec<B, C>, ModelSpec<C, O>]): ModelSpec<I, O>
export function sequence(name: string, models: readonly unknown[]): unknown {
  checkName('model', name)
  if (!Array.isArray(models) || models.length < 2 || !models.every(isModel)) throw new InlayError('INVALID_ARGUMENT', `The sequence ${quote(name)} is given ${quote(models)}; two models or more are expected.`)
  const { shape } = models.at(-1) as ModelSpec
  return Object.freeze({ kind: 'model', name, sequence: [...models], ...(shape === undefined ? {} : { shape }) })
}

/** Models that are given the same input. The output is an object of theirs by name, or what `output` makes of it: a mean, a vote. */
export function ensemble<I, M extends Readonly<Record<string, ModelSpec<I, unknown>>>, O = { readonly [K in keyof M]: M[K] extends ModelSpec<infer _, infer P> ? P : unknown }>(name: string, models: M, options: { readonly output?: Step<{ readonly [K in keyof M]: M[K] extends ModelSpec<infer _, infer P> ? P : unknown }, O>; readonly shape?: readonly [number] } = {}): ModelSpec<I, O> {
  checkName('model', name)
  checkOptions(options, ['output', 'shape'], `ensemble(${quote(name)}, …)`)
  if (Object.keys(models).length === 0 || Object.values(models).some((m: unknown) => !isModel(m))) throw new InlayError('INVALID_ARGUMENT', `The ensemble ${quote(name)} is given ${quote(models)}; an object of models is expected.`)
  if (options.shape !== undefined && options.output === undefined) throw new InlayError('INVALID_ARGUMENT', `The ensemble ${quote(name)} has a shape and no "output" step, which would make one vector of several outputs. Give one, such as their mean.`)
  return Object.freeze({ kind: 'model' as const, name, ensemble: { ...models }, ...options }) as unknown as ModelSpec<I, O>
}

/** How `retrieve` searches. */
export interface RetrieveOptions<Q, K extends keyof Q & string> {
  readonly index: IndexSpec<Q>
  /** The key of the example that the input is. Default: the key that the index lies on. */
  readonly by?: K
  /** How many rows. Default 5. */
  readonly n?: number
  /** Which rows, as in `find`. */
  readonly where?: Readonly<Record<string, unknown>>
  /** Which of their fields. Default: all. */
  readonly select?: readonly string[]
}
/** A search as a model: its output is the list of the rows nearest to the input, each with `_id` and `score`, to be the input of another model. Outputs of a listener on it are
 *  what was found when the row was computed: rows that are found later change nothing, until the listener's `refresh`. It needs a database. */
export function retrieve<Q, K extends keyof Q & string>(name: string, options: RetrieveOptions<Q, K>): ModelSpec<NonNullable<Q[K]>, readonly Readonly<Record<string, unknown>>[]> {
  checkName('model', name)
  checkOptions(options, ['index', 'by', 'n', 'where', 'select'], `retrieve(${quote(name)}, …)`)
  const { n = 5 } = options
  if ((options.index as { readonly kind?: unknown } | undefined)?.kind !== 'index' || !('indexing' in options.index)) throw new InlayError('INVALID_ARGUMENT', `The model ${quote(name)} searches ${quote(options.index)}; what vectorIndex() makes is expected.`)
  if (!Number.isInteger(n) || n < 1) throw new InlayError('INVALID_ARGUMENT', `n of the model ${quote(name)} is ${quote(n)}; a whole number from 1 is expected.`)
  return Object.freeze({ kind: 'model' as const, name, retrieve: { ...options, index: options.index as IndexSpec, n } }) as unknown as ModelSpec<NonNullable<Q[K]>, readonly Readonly<Record<string, unknown>>[]>
}

function isModel(value: unknown): value is ModelSpec {
  return typeof value === 'object' && value !== null && (value as { readonly kind?: unknown }).kind === 'model'
}

/** A declared listener; see `listener`. */
export interface ListenerSpec<I = never, O = unknown, K extends string = string> extends Spec<ListenerHandle<O, K, I>> {
  readonly kind: 'listener'
  readonly model: ModelSpec<I, O>
  readonly on: string
  readonly where?: Readonly<Record<string, unknown>>
  readonly key: ListenerKey
  /** Given by the user: then it stands in the path of the outputs in place of the key. */
  readonly named: boolean
  readonly maxChunkSize?: number
  readonly active?: boolean
  readonly flatten?: boolean
  readonly select?: readonly string[]
}
/** A listener as the key of another: its spec, or its handle. */
export interface Listened {
  readonly kind: 'listener'
  readonly name: string
}
/** What a model is given of a row: a field, several as an object, the whole document (`_base`), or the output of another listener. */
export type ListenerKey = string | Listened | readonly (string | Listened)[]

/** What `listener` takes. */
export interface ListenerOptions<I, O, K extends ListenerKey> {
  readonly model: ModelSpec<I, O>
  /** The collection. */
  readonly on: string
  /** Which rows. Default: all. */
  readonly where?: Readonly<Record<string, unknown>>
  readonly key: K
  /** Default `<key>_<model>`. Needed for keys with dots, several keys, and when the default is taken. */
  readonly name?: string
  /** Most rows of one call of the model. Default: a page. */
  readonly maxChunkSize?: number
  /** An inactive listener is declared but computes nothing. Default `true`. */
  readonly active?: boolean
  /** The model gives a list for each row, and each element is an output of its own: others listen to it by giving this listener as their key, and it is searched by itself. Default `false`. */
  readonly flatten?: boolean
  /** With the key `_base`: the fields that the model is given. A change of others runs nothing. Default: all. */
  readonly select?: readonly string[]
}

/** Declares that a model's output is kept for each selected row of a collection. `collection.find().…`: see `ModelHandle.listen`. */
export function listener<I, O, K extends ListenerKey>(options: ListenerOptions<I, O, K>): ListenerSpec<I, O, K extends string ? K : string> {
  const { name, ...rest } = options
  if (options.maxChunkSize !== undefined && (!Number.isInteger(options.maxChunkSize) || options.maxChunkSize < 1)) throw new InlayError('INVALID_ARGUMENT', `maxChunkSize is ${quote(options.maxChunkSize)}; a whole number from 1 is expected.`)
  checkOptions(options, ['model', 'on', 'where', 'key', 'name', 'maxChunkSize', 'active', 'flatten', 'select'], 'listener(…)')
  if ((options.model as { readonly kind?: unknown } | undefined)?.kind !== 'model') throw new InlayError('INVALID_ARGUMENT', `The model of a listener is ${quote(options.model)}; what model() makes is expected.`)
  if (typeof options.on !== 'string') throw new InlayError('INVALID_ARGUMENT', `A listener with the model ${quote(options.model.name)} has ${quote(options.on)} for "on"; the name of a collection is expected.`)
  for (const key of [options.key].flat() as readonly ListenerKey[]) if (typeof key !== 'string' && (key as { readonly kind?: unknown } | undefined)?.kind !== 'listener') throw new InlayError('INVALID_ARGUMENT', `The key of a listener on ${quote(options.on)} is ${quote(key)}; a field, "_base", or what listener() makes is expected, or a list of them.`)
  if (options.select !== undefined && options.key !== '_base') throw new InlayError('INVALID_ARGUMENT', `The listener on ${quote(labelOf(options.key))} has "select", which says what of a whole document the model is given. Give the key "_base" with it, or the fields as the key.`)
  return Object.freeze({ ...rest, kind: 'listener', name: name === undefined ? defaultName(options.key, options.model.name) : checkName('listener', name), named: name !== undefined })
}

/** The segment of `_outputs.<key>.<model>` that stands for the key, when the listener has no name of its own. */
export function labelOf(key: ListenerKey): string {
  if (typeof key === 'string') return key
  if (Array.isArray(key)) return key.map((k: ListenerKey) => labelOf(k)).join('_')
  return (key as Listened).name
}

function defaultName(key: ListenerKey, model: string): string {
  const name = `${key === '_base' ? 'base' : labelOf(key)}_${model}`
  if (Array.isArray(key) || !/^[A-Za-z][A-Za-z0-9_-]{0,47}$/.test(name)) {
    throw new InlayError('INVALID_ARGUMENT', `A listener on ${quote(Array.isArray(key) ? key.map((k: ListenerKey) => labelOf(k)) : labelOf(key))} needs a name: give { name: ${quote(name.normalize('NFKD').replace(/[^A-Za-z0-9_-]+/g, '_').replace(/^[^A-Za-z]+/, '').slice(0, 48))} } or another (a letter, then letters, digits, _ or -, at most 48).`)
  }
  return name
}

/** A declared vector index; see `vectorIndex`. */
export interface IndexSpec<Q = unknown> extends Spec<IndexHandle<Q>> {
  readonly kind: 'index'
  readonly indexing: ListenerHandle<Float32Array> | ListenerSpec<never, Float32Array>
  readonly compatible: Readonly<Record<string, ModelSpec<never, Float32Array>>>
  readonly measure: Measure
}

/** Declares that the vectors of a listener can be searched; with `flatten`, those of its lists one by one. `compatible` names models that turn other kinds of example into such vectors; they compute nothing on inserts. */
export function vectorIndex<K extends string, I, Q extends object = object>(name: string, options: {
  readonly indexing: ListenerHandle<Float32Array, K, I> | ListenerSpec<I, Float32Array, K> | ListenerHandle<readonly Float32Array[], K, I> | ListenerSpec<I, readonly Float32Array[], K>
  readonly compatible?: { readonly [P in keyof Q]: ModelSpec<Q[P], Float32Array> }
  /** Default `cosine`. */
  readonly measure?: Measure
}): IndexSpec<{ readonly [P in K]?: I } & { readonly [P in keyof Q]?: Q[P] }> {
  checkOptions(options, ['indexing', 'compatible', 'measure'], `vectorIndex(${quote(name)}, …)`)
  const measure = options.measure ?? 'cosine'
  if (!['cosine', 'dot', 'l2'].includes(measure)) throw new InlayError('INVALID_ARGUMENT', `The measure of index ${quote(name)} is ${quote(measure)}; "cosine", "dot" or "l2" is expected.`)
  return Object.freeze({ kind: 'index', name: checkName('index', name), indexing: options.indexing as unknown as IndexSpec['indexing'], compatible: (options.compatible ?? {}) as IndexSpec['compatible'], measure })
}
