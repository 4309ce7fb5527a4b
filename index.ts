/** AI models inlaid in your database. */
import type { Cancel, Config, Inlay } from './core/api.ts'
import { open } from './core/inlay.ts'
import { Plugins } from './core/plugins.ts'
import { Predictor } from './core/predict.ts'
import type { ModelSpec } from './core/spec.ts'
import { firstParty } from './plugins/index.ts'

export * from './core/index.ts'

const predictor = new Predictor(async (format) => (await new Plugins(firstParty).forFormat(format)).executors!.find((e) => e.formats.includes(format))!)

/**
 * Opens a database, with the models declared on it. A string is the URI of the database; without an argument the config file is read.
 * The plugin and driver of a URI are loaded when it is opened, and nothing else.
 */
export function inlay(config?: string | Config): Promise<Inlay> {
  return open(config, firstParty)
}

/** Outputs of a declared model in the order of the inputs, without a database. The model stays loaded for the next call. The first input that fails fails the call. */
export function predict<I, O>(model: ModelSpec<I, O>, inputs: readonly I[], options?: Cancel): Promise<O[]> {
  return predictor.predict<O>(model as unknown as ModelSpec, inputs, options)
}
/** The output for one input; see `predict`. */
export async function predictOne<I, O>(model: ModelSpec<I, O>, input: I, options?: Cancel): Promise<O> {
  return (await predict(model, [input], options))[0]!
}
