/** Models: an ONNX graph with optional steps before and after it, or a plain function over batches. */
import { describe, markedFor, settleContent, type Codecs, type Pending } from './codec.ts'
import type { Ctx, Device, Doc, Executor, Model, Session, Shape, Tensor, Value } from './contract.ts'
import { hashOf } from './encoding.ts'
import { InlayError, quote } from './errors.ts'
import { runGraph, type GraphItem } from './graph.ts'
import { race } from './guard.ts'
import { runSequences } from './sequences.ts'
import { runStep, stepId, type Step } from './step.ts'
import { isTensor } from './tensor.ts'
import { copyIn, Unstorable } from './value.ts'

/** What is stored of a model: everything that its outputs depend on, and nothing else. What is undefined is not stored, and no part of the identity. */
export interface StoredModel {
  readonly format: string | null
  readonly artifact: string | null
  readonly run: string | null
  readonly input: string | null
  readonly output: string | null
  readonly shape: readonly number[] | null
  /** Which outputs of the graph. */
  readonly outputs?: readonly string[]
  /** Inputs of the graph that are the same for every row. */
  readonly constants?: Readonly<Record<string, Tensor>>
  /** Outputs of the graph that are fed back, with the inputs they are fed to. */
  readonly state?: Readonly<Record<string, string>>
  /** How outputs are stored. */
  readonly codec?: string
  /** What functions depend on besides their code. */
  readonly options?: Doc
  /** Models that this one is made of: the output of each is the input of the next, or all are given the same. */
  readonly sequence?: readonly Part[]
  readonly ensemble?: Readonly<Record<string, Part>>
  /** Outputs are the rows that a search finds. */
  readonly retrieve?: Retrieval
  /** Steps of the models it is made of. */
  readonly steps?: readonly string[]
}
/** A model within another, by its identity. */
export interface Part { readonly model: string; readonly identity: string }
/** A search as a model. */
export interface Retrieval {
  readonly index: string
  /** The key of the example that the input is; the key that the index is declared on where it is absent. */
  readonly by?: string
  readonly n: number
  /** The user's filter in the stored encoding. */
  readonly where?: string
  /** Fields of the rows. */
  readonly select?: readonly string[]
}

/** The functions this process has, by `name@version`. */
export class Functions {
  readonly #steps = new Map<string, Step<never, unknown>>()
  readonly #warn: (message: string) => void
  constructor(warn: (message: string) => void) { this.#warn = warn }

  add(step: Step<never, unknown>): void {
    const id = stepId(step), there = this.#steps.get(id)
    if (there !== undefined && there.digest !== step.digest) this.#warn(`The step ${id} was declared twice with different code in this process; the later one is used. Raise the version when a function changes, or its outputs go stale unseen.`)
    this.#steps.set(id, step)
  }
  get(id: string): Step<never, unknown> | undefined {
    return this.#steps.get(id)
  }
  /** Warns when a step's code is not what it was when the model was added. */
  compare(digests: Doc): void {
    for (const [id, digest] of Object.entries(digests)) {
      const step = this.#steps.get(id)
      if (step !== undefined && step.digest !== digest) this.#warn(`The step ${id} has other code than when its model was added. If its results changed, raise the version, so that outputs are computed anew.`)
    }
  }
}

export function shapeOf(stored: StoredModel): Shape {
  return stored.shape === null ? { kind: 'json' } : { kind: 'vector', dims: stored.shape[0]! }
}
export function identityOf(stored: StoredModel): string {
  return hashOf({ ...stored } as unknown as Doc)
}
/** The steps a stored model needs that are not there. */
export function missingSteps(stored: StoredModel, functions: Functions): readonly string[] {
  return stepsOf(stored).filter((id) => functions.get(id) === undefined)
}
/** All steps by `name@version`, those of the models it is made of included. */
export function stepsOf(stored: StoredModel): readonly string[] {
  return [...new Set([stored.run, stored.input, stored.output, ...stored.steps ?? []].filter((id): id is string => id !== null))]
}

/** What a runnable model needs from outside. */
export interface ModelParts {
  readonly functions: Functions
  /** What is asked for, by the identity of the model. */
  device(identity: string): Device | 'auto'
  executor(format: string): Promise<Executor>
  artifact(id: string, ctx: Ctx): Promise<Uint8Array>
  /** A model that another one is made of. */
  part(part: Part, ctx: Ctx): Promise<Model>
  /** The rows that a search finds for each input. */
  retrieve(retrieval: Retrieval, inputs: readonly unknown[], ctx: Ctx): Promise<readonly unknown[]>
  /** Says something once. */
  warn(message: string): void
  /** What several callers wait for is stopped by the close of the database only. */
  readonly shared: Ctx
  /** Puts middleware around a model. */
  wrap(model: Model): Model
}
/** A model whose session can be loaded before the first prediction. */
export interface Runnable extends Model {
  ready(ctx: Ctx): Promise<Session | undefined>
}

/** Tensors that a step makes ahead of the run that needs them. */
const aheadBytes = 16 * 1024 * 1024
const firstItems = 16
const mostItems = 256

/** A model that runs; its session is loaded at the first prediction. Call only when no step is missing. */
export function runnable(name: string, stored: StoredModel, parts: ModelParts): Runnable {
  const step = (id: string | null): Step<unknown, unknown> | undefined => (id === null ? undefined : parts.functions.get(id) as Step<unknown, unknown> | undefined)
  let session: Promise<Session> | undefined, itemBytes: number | undefined
  const load = (ctx: Ctx): Promise<Session> => {
    session ??= (async () => {
      const bytes = await parts.artifact(stored.artifact!, parts.shared)
      const loaded = await (await parts.executor(stored.format!)).load({ format: stored.format!, bytes }, parts.device(identityOf(stored)), parts.shared)
      if (loaded.fallback !== undefined) parts.warn(loaded.fallback)
      try {
        checkPorts(name, stored, loaded)
      } catch (error) {
        await loaded.close()
        throw error
      }
      return loaded
    })()
    session.catch(() => { session = undefined })                           // only success is kept
    return race(session, ctx)
  }
  /** What was made of each item; an item that is an error already stays one. */
  const run = async (of: Session, items: readonly unknown[], ctx: Ctx): Promise<readonly unknown[]> => {
    const { constants, outputs: wanted } = stored, good = items.flatMap((item, i) => (item instanceof Error ? [] : [i]))
    const given = good.map((i) => items[i] as GraphItem | readonly GraphItem[])
    const results = stored.state !== undefined ? await runSequences(of, given as readonly (readonly GraphItem[])[], { state: stored.state, ...(constants === undefined ? {} : { constants }), ...(wanted === undefined ? {} : { outputs: wanted }) }, ctx)
      : await runGraph(of, given as readonly GraphItem[], ctx, { fresh: step(stored.input)?.fresh === true, ...(constants === undefined ? {} : { constants }), ...(wanted === undefined ? {} : { outputs: wanted }) })
    const after = step(stored.output), made = results.map((of) => (of instanceof Error ? of : Array.isArray(of) ? of.map((one: Tensors) => onlyOf(one)) : onlyOf(of as Tensors)))
    const done = after === undefined ? stored.shape === null ? results : made.map((of) => (of instanceof Error ? of : vectorOf(name, of))) : await passing(made, (values) => runStep(after, values, ctx))
    const all = [...items]
    good.forEach((i, n) => { all[i] = done[n] })
    return all
  }
  /** While one part runs, the step makes the tensors of the next. */
  const graph = async (inputs: readonly unknown[], ctx: Ctx): Promise<readonly unknown[]> => {
    const before = step(stored.input), of = await load(ctx)
    if (before === undefined) return run(of, inputs, ctx)
    const results: unknown[] = []
    let running: Promise<void> = Promise.resolve()
    try {
      for (let at = 0; at < inputs.length;) {
        const size = itemBytes === undefined ? firstItems : Math.max(1, Math.min(mostItems, Math.floor(aheadBytes / itemBytes)))
        const start = at, items = await race(runStep(before, inputs.slice(start, start + size), ctx), ctx)
        at += items.length
        itemBytes ??= Math.max(1, ...items.map(weightOf))
        await running
        running = run(of, items, ctx).then((made) => { made.forEach((result, i) => { results[start + i] = result }) })
        running.catch(() => {})                                              // thrown where it is awaited
      }
    } finally {
      await running
    }
    return results
  }
  const plain = async (inputs: readonly unknown[], ctx: Ctx): Promise<readonly unknown[]> => {
    const outputs = await race(Promise.resolve(step(stored.run)!.run(inputs, ctx)), ctx)      // a function that does not heed the signal is not stopped, its caller is
    if (!Array.isArray(outputs) || outputs.length !== inputs.length) throw new InlayError('INVALID_ARGUMENT', `The model ${quote(name)} was given ${inputs.length} inputs and returned ${Array.isArray(outputs) ? `${outputs.length} outputs` : quote(outputs)}; one output per input is expected.`)
    return outputs
  }
  const composed = async (inputs: readonly unknown[], ctx: Ctx): Promise<readonly unknown[]> => {
    const { sequence, ensemble } = stored
    if (sequence !== undefined) {
      let values = inputs
      for (const part of sequence) values = await passing(values, async (good) => (await parts.part(part, ctx)).predict(good, ctx))
      return values
    }
    const members = await Promise.all(Object.entries(ensemble!).map(async ([key, part]) => [key, await (await parts.part(part, ctx)).predict(inputs, ctx)] as const)), after = step(stored.output)
    const joined = inputs.map((_, i): unknown => members.map(([, outputs]) => outputs[i]).find((output) => output instanceof Error) ?? Object.fromEntries(members.map(([key, outputs]) => [key, outputs[i]])))
    return after === undefined ? joined : passing(joined, (good) => runStep(after, good, ctx))
  }
  const predict = (inputs: readonly unknown[], ctx: Ctx): Promise<readonly unknown[]> => {
    if (inputs.length === 0) return Promise.resolve([])
    if (stored.retrieve !== undefined) return parts.retrieve(stored.retrieve, inputs, ctx)
    return stored.sequence !== undefined || stored.ensemble !== undefined ? composed(inputs, ctx) : stored.run === null ? graph(inputs, ctx) : plain(inputs, ctx)
  }
  return {
    identity: identityOf(stored),
    output: shapeOf(stored),
    ready: async (ctx) => (stored.artifact === null ? undefined : load(ctx)),
    predict,
    async close() {
      const open = session
      session = undefined
      await (await open?.catch(() => undefined))?.close()
    },
  }
}

/** What `work` makes of the values that are no errors; those stay in their places. */
async function passing(values: readonly unknown[], work: (good: readonly unknown[]) => Promise<readonly unknown[]>): Promise<readonly unknown[]> {
  const good = values.flatMap((value, i) => (value instanceof Error ? [] : [i]))
  if (good.length === 0) return values
  const made = await work(good.map((i) => values[i])), all = [...values]
  good.forEach((i, n) => { all[i] = made[n] })
  return all
}

function weightOf(item: unknown): number {
  if (item instanceof Error || typeof item !== 'object' || item === null) return 1
  if (ArrayBuffer.isView(item)) return item.byteLength
  if (Array.isArray(item)) return item.reduce<number>((sum, of) => sum + weightOf(of), 0)
  return isTensor(item) ? ArrayBuffer.isView(item.data) ? item.data.byteLength : item.data.length * 16 : Object.values(item).reduce<number>((sum, of) => sum + weightOf(of), 0)
}

/** What the declaration and the graph say must agree, as far as the graph says it. */
function checkPorts(name: string, stored: StoredModel, { inputs, outputs }: Session): void {
  const unknown = (what: string, given: readonly string[], known: readonly string[]): void => {
    const one = given.find((of) => !known.includes(of))
    if (one !== undefined) throw new InlayError('INVALID_ARGUMENT', `The graph of model ${quote(name)} has no ${what} ${quote(one)}. It has ${known.map(quote).join(', ') || 'none'}.`)
  }
  const names = outputs.map((o) => o.name), fed = Object.values(stored.state ?? {})
  unknown('output', [...stored.outputs ?? [], ...Object.keys(stored.state ?? {})], names)
  unknown('input', [...fed, ...Object.keys(stored.constants ?? {})], inputs.map((i) => i.name))
  const wanted = (stored.outputs === undefined ? outputs : outputs.filter((o) => stored.outputs!.includes(o.name))).filter((o) => stored.state?.[o.name] === undefined || stored.outputs !== undefined)
  if (stored.shape === null) return
  const dims = wanted[0]?.dims ?? [], last = dims.at(-1)
  if (wanted.length !== 1) throw new InlayError('INVALID_ARGUMENT', `The graph of model ${quote(name)} has ${wanted.length} outputs (${wanted.map((o) => o.name).join(', ')}); a shape takes exactly one. Name it: { outputs: [${quote(wanted[0]?.name)}] }.`)
  if (typeof last === 'number' && last !== stored.shape[0] && !(dims.length > 2)) throw new InlayError('INVALID_ARGUMENT', `The model ${quote(name)} is declared with { shape: [${stored.shape[0]}] }, but its graph gives ${last} dimensions (${wanted[0]!.name}: ${dims.join(' x ')}). Declare { shape: [${last}] }.`)
}

type Tensors = Readonly<Record<string, Tensor>>
/** The only tensor by itself, several by their names. */
function onlyOf(outputs: Tensors): Tensor | Tensors {
  const all = Object.values(outputs)
  return all.length === 1 ? all[0]! : outputs
}
function vectorOf(name: string, output: unknown): unknown {
  if (Array.isArray(output)) return output.map((one) => vectorOf(name, one))
  return isTensor(output) ? output.data : new InlayError('INVALID_ARGUMENT', `The graph of model ${quote(name)} gave ${quote(Object.keys(output as object))}; a shape takes exactly one output.`)
}

/** How outputs are taken. */
export interface Taking {
  /** Values that the database cannot hold. */
  readonly refuses: readonly string[]
  readonly codecs: Codecs
  /** Each output is a list. */
  readonly many: boolean
  readonly codec?: string | undefined
}

/** Outputs that can be stored, as lists of values, or each row's error. */
export async function predictChecked(model: Model, inputs: readonly unknown[], taking: Taking, ctx: Ctx): Promise<readonly (readonly Value[] | Error)[]> {
  const outputs = await model.predict(inputs, ctx)
  return Promise.all(outputs.map(async (output): Promise<readonly Value[] | Error> => {
    if (output instanceof Error) return output
    try {
      const list = taking.many ? listOf(output, model.output) : [output], values: Value[] = []
      for (const value of list) values.push(await checkOutput(value, model.output, taking))
      return values
    } catch (error) {
      if (!(error instanceof Unfit)) throw error
      return error
    }
  }))
}
/** The vectors of a model that declares them; any other output as it is. */
export function checkVector(value: unknown, { output }: Model): unknown {
  if (value instanceof Error || output.kind !== 'vector') return value
  try {
    return Array.isArray(value) && Array.isArray(value[0]) ? value.map((one) => vector(one, output.dims)) : vector(value, output.dims)
  } catch (error) {
    return error
  }
}

/** An output that is not what the model declares, or cannot be stored. */
class Unfit extends Error {}

/** The elements of an output that is a list: of one array the vectors that lie in it. */
function listOf(output: unknown, shape: Shape): readonly unknown[] {
  if (Array.isArray(output)) return output as readonly unknown[]
  if (shape.kind === 'vector' && output instanceof Float32Array && output.length % shape.dims === 0) return Array.from({ length: output.length / shape.dims }, (_, i) => output.slice(i * shape.dims, (i + 1) * shape.dims))
  throw new Unfit(`the output is ${describe(output)}; with flatten a list is expected`)
}

/** A value as it is stored. */
async function checkOutput(value: unknown, shape: Shape, { refuses, codecs, codec }: Taking): Promise<Value> {
  if (shape.kind === 'vector') return vector(value, shape.dims)
  const pending: Pending[] = []
  try {
    const copied = copyIn(codec === undefined ? value : markedFor(codec, value), refuses, codecs.encoder(pending))
    if (pending.length > 0) await settleContent(copied, pending)
    return copied
  } catch (error) {
    if (!(error instanceof Unstorable)) throw error
    throw new Unfit(`the output cannot be stored${error.fault.path === '' ? '' : ` at ${quote(error.fault.path)}`}: ${error.fault.reason}`)
  }
}

/** Vectors have the declared length and finite numbers. */
function vector(value: unknown, dims: number): Float32Array {
  const of = value instanceof Float32Array ? value : Array.isArray(value) && value.every((v) => typeof v === 'number') ? Float32Array.from(value) : undefined
  if (of === undefined) throw new Unfit(`the output is ${describe(value)}; a vector of ${dims} float32 is expected`)
  if (of.length !== dims) throw new Unfit(`the output has ${of.length} dimensions, ${dims} are expected`)
  const bad = of.findIndex((v) => !Number.isFinite(v))
  if (bad !== -1) throw new Unfit(`the vector has ${of[bad]} at position ${bad}; finite numbers are expected`)
  return of
}
