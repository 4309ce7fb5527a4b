/** Named functions: what may stand before and after a graph, or be a model by itself. Code is never stored, only its name, version and digest. */
import type { Ctx } from './contract.ts'
import { sha256 } from './encoding.ts'
import { checkOptions, InlayError, messageOf, quote } from './errors.ts'
import { isOutage } from './reconcile.ts'

/** A named function; see `step`. */
export interface Step<A, B> {
  readonly name: string
  readonly version: number
  /** One value. `ctx.signal` stops it. */
  readonly run: (value: A, ctx?: Ctx) => B | Promise<B>
  /** All values of a batch at once, where that differs from one by one: a tokenizer that pads to the longest. An `Error` in the place of a result is the failure of that value alone. */
  readonly batch?: (values: readonly A[], ctx?: Ctx) => readonly (B | Error)[] | Promise<readonly (B | Error)[]>
  /** Its results are new memory that nobody else holds, which a graph may take. */
  readonly fresh?: true
  /** SHA-256 of the function's text, and of `data`. The same name and version with another digest is warned of. */
  readonly digest: string
}
/** What a step has besides its function. */
export interface StepOptions<A, B> {
  readonly batch?: (values: readonly A[], ctx: Ctx) => readonly (B | Error)[] | Promise<readonly (B | Error)[]>
  /** What the function depends on besides its text: a vocabulary, a table. */
  readonly data?: Uint8Array | string
  /** The results are tensors in new memory, which the function does not keep: as the input of a graph they are taken instead of copied. Default `false`. */
  readonly fresh?: boolean
}

/**
 * Names a function `name@version`. The version is part of the identity of every model that uses the step: raise it when the function's results change,
 * and outputs are computed anew.
 */
export function step<A, B>(nameAtVersion: `${string}@${number}`, run: (value: A, ctx: Ctx) => B | Promise<B>, options: StepOptions<A, B> = {}): Step<A, B> {
  const parsed = /^([A-Za-z][A-Za-z0-9_-]{0,47})@(\d{1,9})$/.exec(nameAtVersion)
  if (parsed === null) throw new InlayError('INVALID_ARGUMENT', `The step ${quote(nameAtVersion)} is not named "name@version" (letters, digits, _ and -, at most 48; a whole number). Write for example "tokenize@1".`)
  if (typeof run !== 'function') throw new InlayError('INVALID_ARGUMENT', `The step ${quote(nameAtVersion)} was given ${quote(run)}; a function is expected.`)
  checkOptions(options, ['batch', 'data', 'fresh'], `step(${quote(nameAtVersion)}, …)`)
  const digest = sha256(`${run}\n${options.batch ?? ''}\n${options.data === undefined ? '' : sha256(options.data)}`)
  const { batch } = options
  return Object.freeze({
    name: parsed[1]!, version: Number(parsed[2]), digest, run: (value: A, ctx: Ctx = live) => run(value, ctx),
    ...(batch === undefined ? {} : { batch: (values: readonly A[], ctx: Ctx = live) => batch(values, ctx) }), ...(options.fresh === true ? { fresh: true as const } : {}),
  })
}

const live: Ctx = { signal: new AbortController().signal }

/** `name@version`. */
export function stepId(of: Step<never, unknown>): string {
  return `${of.name}@${of.version}`
}

/** The results of a step over a batch, checked to be as many as the values. A value that fails alone has its error in the place of a result. */
export async function runStep<A, B>(of: Step<A, B>, values: readonly A[], ctx: Ctx = live): Promise<readonly (B | Error)[]> {
  const results = of.batch === undefined ? await Promise.all(values.map((value) => alone(of, value, ctx))) : await of.batch(values, ctx)
  if (!Array.isArray(results) || results.length !== values.length) {
    throw new InlayError('INVALID_ARGUMENT', `The step ${stepId(of)} was given ${values.length} values and returned ${Array.isArray(results) ? `${results.length} results` : quote(results)}; one result per value is expected.`)
  }
  return results
}
async function alone<A, B>(of: Step<A, B>, value: A, ctx: Ctx): Promise<B | Error> {
  try {
    return await of.run(value, ctx)
  } catch (error) {
    if (isOutage(error) || ctx.signal.aborted) throw error
    return error instanceof Error ? error : new Error(messageOf(error))
  }
}
