/** Models: an ONNX graph with optional steps before and after it, or a plain function over batches. */
import type { Ctx, Device, Doc, Executor, Model, Session, Shape, Tensor, Value } from './contract.ts'
import { hashOf } from './encoding.ts'
import { InlayError, quote } from './errors.ts'
import { runGraph, type GraphItem } from './graph.ts'
import { race } from './guard.ts'
import { runStep, stepId, type Step } from './step.ts'
import { copyIn, isDoc, Unstorable } from './value.ts'

/** What is stored of a model: everything that its outputs depend on, and nothing else. */
export interface StoredModel {
  readonly format: string | null
  readonly artifact: string | null
  readonly run: string | null
  readonly input: string | null
  readonly output: string | null
  readonly shape: readonly number[] | null
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
  return hashOf({ ...stored })
}
/** The steps a stored model needs that are not there. */
export function missingSteps(stored: StoredModel, functions: Functions): readonly string[] {
  return [stored.run, stored.input, stored.output].filter((id): id is string => id !== null && functions.get(id) === undefined)
}

/** What a runnable model needs from outside. */
export interface ModelParts {
  readonly functions: Functions
  /** What is asked for, by the identity of the model. */
  device(identity: string): Device | 'auto'
  executor(format: string): Promise<Executor>
  artifact(id: string, ctx: Ctx): Promise<Uint8Array>
  /** What several callers wait for is stopped by the close of the database only. */
  readonly shared: Ctx
  /** Puts middleware around a model. */
  wrap(model: Model): Model
}
/** A model whose session can be loaded before the first prediction. */
export interface Runnable extends Model {
  ready(ctx: Ctx): Promise<Session | undefined>
}

/** A model that runs; its session is loaded at the first prediction. Call only when no step is missing. */
export function runnable(name: string, stored: StoredModel, parts: ModelParts): Runnable {
  const step = (id: string | null): Step<unknown, unknown> | undefined => (id === null ? undefined : parts.functions.get(id) as Step<unknown, unknown> | undefined)
  let session: Promise<Session> | undefined
  const load = (ctx: Ctx): Promise<Session> => {
    session ??= (async () => {
      const bytes = await parts.artifact(stored.artifact!, parts.shared)
      const loaded = await (await parts.executor(stored.format!)).load({ format: stored.format!, bytes }, parts.device(identityOf(stored)), parts.shared)
      checkPorts(name, stored, loaded)
      return loaded
    })()
    session.catch(() => { session = undefined })                           // only success is kept
    return race(session, ctx)
  }
  const graph = async (inputs: readonly unknown[], ctx: Ctx): Promise<readonly unknown[]> => {
    const before = step(stored.input), after = step(stored.output)
    const items = before === undefined ? inputs : await race(runStep(before, inputs), ctx)
    const results = await runGraph(await load(ctx), items as readonly GraphItem[], ctx)
    if (after !== undefined) return runStep(after, results.map((outputs) => onlyTensor(name, outputs)))
    return stored.shape === null ? results : results.map((outputs) => onlyTensor(name, outputs).data)
  }
  const plain = async (inputs: readonly unknown[], ctx: Ctx): Promise<readonly unknown[]> => {
    const outputs = await race(Promise.resolve(step(stored.run)!.run(inputs)), ctx)      // the function is not stopped, its caller is
    if (!Array.isArray(outputs) || outputs.length !== inputs.length) throw new InlayError('INVALID_ARGUMENT', `The model ${quote(name)} was given ${inputs.length} inputs and returned ${Array.isArray(outputs) ? `${outputs.length} outputs` : quote(outputs)}; one output per input is expected.`)
    return outputs
  }
  return {
    identity: identityOf(stored),
    output: shapeOf(stored),
    ready: async (ctx) => (stored.run === null ? load(ctx) : undefined),
    predict: (inputs, ctx) => (inputs.length === 0 ? Promise.resolve([]) : stored.run === null ? graph(inputs, ctx) : plain(inputs, ctx)),
    async close() {
      const open = session
      session = undefined
      await (await open?.catch(() => undefined))?.close()
    },
  }
}

/** What the declaration and the graph say of the output must agree, as far as the graph says it. */
function checkPorts(name: string, stored: StoredModel, { outputs }: Session): void {
  if (stored.shape === null) return
  const dims = outputs[0]?.dims ?? [], last = dims.at(-1)
  if (outputs.length !== 1) throw new InlayError('INVALID_ARGUMENT', `The graph of model ${quote(name)} has ${outputs.length} outputs (${outputs.map((o) => o.name).join(', ')}); a shape takes exactly one. Export the graph with the one that is wanted.`)
  if (typeof last === 'number' && last !== stored.shape[0]) throw new InlayError('INVALID_ARGUMENT', `The model ${quote(name)} is declared with { shape: [${stored.shape[0]}] }, but its graph gives ${last} dimensions (${outputs[0]!.name}: ${dims.join(' x ')}). Declare { shape: [${last}] }.`)
}

function onlyTensor(name: string, outputs: Readonly<Record<string, Tensor>>): Tensor {
  const [first, ...others] = Object.values(outputs)
  if (first === undefined || others.length > 0) throw new InlayError('INVALID_ARGUMENT', `The graph of model ${quote(name)} has ${others.length + (first === undefined ? 0 : 1)} outputs (${Object.keys(outputs).join(', ')}); an output step or a shape takes exactly one. Export the graph with the one that is wanted, or leave both out to store all.`)
  return first
}

/** A model's output as it is stored, or the error of its row. Vectors have the declared length and finite numbers. */
function checkOutput(value: unknown, shape: Shape, refuses: readonly string[]): Value | Error {
  if (shape.kind !== 'vector') {
    try {
      return copyIn(value, refuses)
    } catch (error) {
      if (!(error instanceof Unstorable)) throw error
      return new Error(`the output cannot be stored${error.fault.path === '' ? '' : ` at ${quote(error.fault.path)}`}: ${error.fault.reason}`)
    }
  }
  const vector = value instanceof Float32Array ? value : Array.isArray(value) && value.every((v) => typeof v === 'number') ? Float32Array.from(value) : undefined
  if (vector === undefined) return new Error(`the output is ${describe(value)}; a vector of ${shape.dims} float32 is expected`)
  if (vector.length !== shape.dims) return new Error(`the output has ${vector.length} dimensions, ${shape.dims} are expected`)
  const bad = vector.findIndex((v) => !Number.isFinite(v))
  return bad === -1 ? vector : new Error(`the vector has ${vector[bad]} at position ${bad}; finite numbers are expected`)
}

function describe(value: unknown): string {
  return isDoc(value) ? `an object with ${Object.keys(value).map(quote).join(', ')}` : ArrayBuffer.isView(value) ? `a ${value.constructor.name}` : quote(value)
}

/** Outputs that can be stored, or each row's error. */
export async function predictChecked(model: Model, inputs: readonly unknown[], refuses: readonly string[], ctx: Ctx): Promise<readonly (Value | Error)[]> {
  return (await model.predict(inputs, ctx)).map((value) => checkOutput(value, model.output, refuses))
}
