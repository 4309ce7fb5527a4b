/** Predictions by a model as it is declared, with or without a database. */
import type { Cancel } from './api.ts'
import type { Ctx, Device, Executor, Model } from './contract.ts'
import { modelsOf, ownSteps, readGraph, storedOf } from './declarations.ts'
import { InlayError, messageOf, quote } from './errors.ts'
import { checkVector, Functions, identityOf, runnable, type ModelParts, type StoredModel } from './model.ts'
import type { ModelSpec } from './spec.ts'

/** Outputs in the order of the inputs. The first input that fails fails the call, with its position. */
export async function predicted<O>(name: string, model: Model, inputs: readonly unknown[], ctx: Ctx): Promise<O[]> {
  if (!Array.isArray(inputs)) throw new InlayError('INVALID_ARGUMENT', `The model ${quote(name)} was given ${quote(inputs)} to predict; a list of inputs is expected. For one input there is predictOne().`)
  const outputs = (await model.predict(inputs, ctx)).map((value) => checkVector(value, model)), bad = outputs.findIndex((output) => output instanceof Error)
  if (bad !== -1) throw new InlayError(InlayError.is(outputs[bad]) ? outputs[bad].code : 'INVALID_ARGUMENT', `The model ${quote(name)} failed on input ${bad}: ${messageOf(outputs[bad]).replace(/\.$/, '')}.`, { cause: outputs[bad], details: { index: bad } })
  return outputs as O[]
}

/** What runs models without a database: each is made once, and its session stays for the next call. */
export class Predictor {
  readonly #executor: (format: string) => Promise<Executor>
  readonly #made = new WeakMap<ModelSpec, Promise<Model>>()
  readonly #shared: Ctx = { signal: new AbortController().signal }

  constructor(executor: (format: string) => Promise<Executor>) { this.#executor = executor }

  async predict<O>(spec: ModelSpec, inputs: readonly unknown[], { signal }: Cancel = {}): Promise<O[]> {
    if ((spec as { readonly kind?: unknown } | undefined)?.kind !== 'model') throw new InlayError('INVALID_ARGUMENT', `${quote(spec)} is no model: give what model() makes.`)
    const ctx = signal === undefined ? this.#shared : { signal }
    return predicted(spec.name, await this.#model(spec), inputs, ctx)
  }

  #model(spec: ModelSpec): Promise<Model> {
    let made = this.#made.get(spec)
    if (made === undefined) {
      made = this.#make(spec)
      this.#made.set(spec, made)
      made.catch(() => this.#made.delete(spec))
    }
    return made
  }
  async #make(spec: ModelSpec): Promise<Model> {
    const graphs = new Map<string, Uint8Array>(), parts = new Map<string, ModelSpec>(), devices = new Map<string, Device | 'auto'>()
    const stored = async (of: ModelSpec): Promise<StoredModel> => {
      const bytes = of.onnx === undefined ? undefined : await readGraph(of.name, of.onnx, async (path) => (await this.#executor('onnx')).read?.(path, this.#shared)), made = await storedOf(of, bytes, stored), identity = identityOf(made)
      if (bytes !== undefined) graphs.set(made.artifact!, bytes)
      if (of.device !== undefined) devices.set(identity, of.device)
      parts.set(identity, of)
      return made
    }
    const functions = new Functions(() => {})
    for (const of of modelsOf(spec)) for (const step of ownSteps(of)) functions.add(step)
    const own = await stored(spec)
    const needed: ModelParts = {
      functions, device: (identity) => devices.get(identity) ?? 'cpu', executor: this.#executor, shared: this.#shared, wrap: (model) => model, warn: (message) => { process.emitWarning(message) },
      artifact: async (id) => graphs.get(id)!,
      part: ({ identity }) => this.#model(parts.get(identity)!),
      retrieve: async (_, inputs) => inputs.map(() => new InlayError('INVALID_ARGUMENT', `The model ${quote(spec.name)} searches an index, which needs a database. Add it with db.add(), and predict with what that gives.`)),
    }
    return runnable(spec.name, own, needed)
  }
}
