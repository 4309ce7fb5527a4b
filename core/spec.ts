/** What a user declares: plain immutable data that may stand in the config. A handle is a spec bound to a database. */
import type { Device, Measure, Tensor } from './contract.ts'
import type { IndexHandle, ListenerHandle, ModelHandle } from './api.ts'
import { checkName } from './components.ts'
import { InlayError, quote } from './errors.ts'
import type { Step } from './step.ts'

declare const handle: unique symbol
/** Declared data of one kind and name; `H` is what `db.add` gives for it. */
export interface Spec<H> {
  readonly kind: 'model' | 'listener' | 'index'
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
}

interface GraphOptions<I> {
  /** A path, a `file:` URL, or the bytes of an ONNX graph. They are stored as an artifact. */
  readonly onnx: string | URL | Uint8Array
  /** From one value to one row of tensors, without the batch dimension. Absent: the value is a tensor or a typed array. */
  readonly input?: Step<I, Tensor | Readonly<Record<string, Tensor>>>
  /** Where it runs. Default: the config's `models.device`. */
  readonly device?: Device | 'auto'
}

/** An ONNX graph with optional steps before and after it. `shape: [n]` declares vectors of n float32. */
export function model<I = Float32Array, O = Float32Array>(name: string, options: GraphOptions<I> & { readonly shape: readonly [number] }): ModelSpec<I, O>
export function model<I = Float32Array, O = Readonly<Record<string, Tensor>>>(name: string, options: GraphOptions<I> & { readonly output?: Step<Tensor, O> }): ModelSpec<I, O>
/** A plain function over batches, named `name@version` like a step. It gives one output per input. */
export function model<I, O>(name: string, options: { readonly run: Step<readonly I[], readonly O[]>; readonly shape?: readonly [number] }): ModelSpec<I, O>
export function model(name: string, options: Omit<ModelSpec, 'kind' | 'name'>): unknown {
  checkName('model', name)
  if ((options.onnx === undefined) === (options.run === undefined)) throw new InlayError('INVALID_ARGUMENT', `The model ${quote(name)} needs either "onnx" (a path or bytes) or "run" (a step over batches), not ${options.onnx === undefined ? 'none' : 'both'}.`)
  if (options.shape !== undefined && (options.shape.length !== 1 || !Number.isInteger(options.shape[0]) || options.shape[0]! < 1)) throw new InlayError('INVALID_ARGUMENT', `The shape of model ${quote(name)} is ${quote(options.shape)}; one whole number of dimensions is expected, for example [384].`)
  if (options.shape !== undefined && options.output !== undefined) throw new InlayError('INVALID_ARGUMENT', `The model ${quote(name)} has both "shape" and an "output" step; a shape takes the graph's vector as it is. Leave one out.`)
  return Object.freeze({ ...options, kind: 'model', name })
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
}

/** Declares that a model's output is kept for each selected row of a collection. `collection.find().…`: see `ModelHandle.listen`. */
export function listener<I, O, K extends ListenerKey>(options: ListenerOptions<I, O, K>): ListenerSpec<I, O, K extends string ? K : string> {
  const { name, ...rest } = options
  if (options.maxChunkSize !== undefined && (!Number.isInteger(options.maxChunkSize) || options.maxChunkSize < 1)) throw new InlayError('INVALID_ARGUMENT', `maxChunkSize is ${quote(options.maxChunkSize)}; a whole number from 1 is expected.`)
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

/** Declares that the vectors of a listener can be searched. `compatible` names models that turn other kinds of example into such vectors; they compute nothing on inserts. */
export function vectorIndex<K extends string, I, Q extends object = object>(name: string, options: {
  readonly indexing: ListenerHandle<Float32Array, K, I> | ListenerSpec<I, Float32Array, K>
  readonly compatible?: { readonly [P in keyof Q]: ModelSpec<Q[P], Float32Array> }
  /** Default `cosine`. */
  readonly measure?: Measure
}): IndexSpec<{ readonly [P in K]?: I } & { readonly [P in keyof Q]?: Q[P] }> {
  const measure = options.measure ?? 'cosine'
  if (!['cosine', 'dot', 'l2'].includes(measure)) throw new InlayError('INVALID_ARGUMENT', `The measure of index ${quote(name)} is ${quote(measure)}; "cosine", "dot" or "l2" is expected.`)
  return Object.freeze({ kind: 'index', name: checkName('index', name), indexing: options.indexing as unknown as IndexSpec['indexing'], compatible: (options.compatible ?? {}) as IndexSpec['compatible'], measure })
}
