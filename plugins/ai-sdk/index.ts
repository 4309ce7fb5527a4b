/** Models of the AI SDK (the package `ai`): any embedding or language model that one of its providers gives. */
import type * as ai from 'ai'
import type { EmbeddingModel, LanguageModel } from 'ai'
import { inBatches } from '../../core/batches.ts'
import type { Ctx, Doc } from '../../core/contract.ts'
import { hashOf } from '../../core/encoding.ts'
import { checkOptions, InlayError, messageOf, quote } from '../../core/errors.ts'
import { aborted } from '../../core/guard.ts'
import { filler, type PromptValues } from '../../core/prompt.ts'
import { model, type ModelSpec } from '../../core/spec.ts'
import { step } from '../../core/step.ts'
import { Turns } from '../../core/turns.ts'
import { redact } from '../../core/uri.ts'

/** What both kinds of model take. */
export interface AiOptions {
  /** Raise it when the outputs change though nothing else here does: then they are computed anew. */
  readonly version?: string
  /** What only this provider knows, by its name. Part of the model's identity. */
  readonly providerOptions?: Readonly<Record<string, Doc>>
  /** Most requests at once. Default 4. */
  readonly concurrency?: number
  /** How often the AI SDK repeats a request that may pass. Default 5. */
  readonly retries?: number
}
/** What `aiEmbedding` takes. */
export interface AiEmbeddingOptions extends AiOptions {
  readonly model: EmbeddingModel
  /** How many numbers a vector has. */
  readonly dims: number
  /** Most texts of one request. Default 100, and never more than the model takes. */
  readonly batch?: number
}
/** What `aiText` takes. */
export interface AiTextOptions extends AiOptions {
  readonly model: LanguageModel
  readonly system?: string
  /** A template, `'Use {context} to answer {question}'`: then the input is an object of its values. Default: the input is a text. */
  readonly prompt?: string
  readonly temperature?: number
  /** An answer that is longer fails: a part of one is no answer. */
  readonly maxTokens?: number
}

const shared = ['model', 'version', 'providerOptions', 'concurrency', 'retries']

/** A model that turns texts into vectors by an embedding model of the AI SDK. A text that the provider refuses fails alone; when it is away, rows stay pending. */
export function aiEmbedding(name: string, options: AiEmbeddingOptions): ModelSpec<string, Float32Array> {
  checkOptions(options, [...shared, 'dims', 'batch'], `aiEmbedding(${quote(name)}, …)`)
  const { model: of, dims, batch = 100, retries: maxRetries = 5, providerOptions } = options, turns = new Turns(options.concurrency ?? 4)
  const identity = identityOf(name, 'embedding', options)
  const request = (texts: readonly string[], ctx: Ctx): Promise<readonly Float32Array[]> => turns.run(ctx, () => called(ctx, async ({ embedMany }) => {
    const bad: unknown = texts.find((text) => typeof text !== 'string')
    if (bad !== undefined) throw new InlayError('INVALID_ARGUMENT', `The model ${quote(name)} was given ${quote(bad)}; a text is expected.`)
    const { embeddings } = await embedMany({ model: of, values: [...texts], maxRetries, abortSignal: ctx.signal, ...(providerOptions === undefined ? {} : { providerOptions: providerOptions as never }) })
    if (embeddings.length !== texts.length) throw new InlayError('INVALID_ARGUMENT', `The provider answered ${embeddings.length} embeddings to ${texts.length} texts; one for each is expected.`)
    return embeddings.map((vector) => Float32Array.from(vector))
  }))
  const run = async (texts: readonly string[], ctx: Ctx): Promise<readonly Float32Array[]> => await inBatches(texts, batch, request, ctx) as readonly Float32Array[]
  return model(name, { run: step(`ai-embedding-${hashOf(identity).slice(0, 16)}@1`, run, { data: JSON.stringify(identity) }), shape: [dims], options: identity })
}

/** A model that answers texts, or a filled template, by a language model of the AI SDK. An input that the provider refuses fails alone; when it is away, rows stay pending. */
export function aiText<I = string>(name: string, options: AiTextOptions): ModelSpec<I, string> {
  checkOptions(options, [...shared, 'system', 'prompt', 'temperature', 'maxTokens'], `aiText(${quote(name)}, …)`)
  const { model: of, system, prompt, temperature, maxTokens, retries: maxRetries = 5, providerOptions } = options, turns = new Turns(options.concurrency ?? 4)
  const asked = { ...(system === undefined ? {} : { system }), ...(prompt === undefined ? {} : { prompt }), ...(temperature === undefined ? {} : { temperature }), ...(maxTokens === undefined ? {} : { maxTokens }) }
  const identity: Doc = { ...identityOf(name, 'text', options), asked }, fill = prompt === undefined ? undefined : filler(prompt)
  const request = ([input]: readonly unknown[], ctx: Ctx): Promise<readonly string[]> => turns.run(ctx, () => called(ctx, async ({ generateText }) => {
    const text: unknown = fill === undefined ? input : fill(input as PromptValues)
    if (typeof text !== 'string') throw new InlayError('INVALID_ARGUMENT', `The model ${quote(name)} was given ${quote(text)}; a text is expected.`)
    const answer = await generateText({
      model: of, prompt: text, maxRetries, abortSignal: ctx.signal, ...(system === undefined ? {} : { instructions: system }), ...(temperature === undefined ? {} : { temperature }),
      ...(maxTokens === undefined ? {} : { maxOutputTokens: maxTokens }), ...(providerOptions === undefined ? {} : { providerOptions: providerOptions as never }),
    })
    if (answer.finishReason === 'length') throw new InlayError('INVALID_ARGUMENT', 'The answer was cut at its longest length. Raise maxTokens, or ask for less.')
    if (answer.finishReason === 'content-filter') throw new InlayError('INVALID_ARGUMENT', 'The provider refused to answer, by its filter of content.')
    return [answer.text]
  }))
  const run = async (inputs: readonly I[], ctx: Ctx): Promise<readonly string[]> => await inBatches(inputs, 1, request, ctx) as readonly string[]
  return model<I, string>(name, { run: step(`ai-text-${hashOf(identity).slice(0, 16)}@1`, run, { data: JSON.stringify(identity) }), options: identity })
}

/** Provider, id and options say which model it is; the object's own settings (its secret, its URL) are not looked into. */
function identityOf(name: string, api: string, { model: of, version, providerOptions }: AiOptions & { readonly model: EmbeddingModel | LanguageModel }): Doc {
  const { provider, modelId } = typeof of === 'string' ? { provider: 'gateway', modelId: of } : Object(of) as { readonly provider?: unknown; readonly modelId?: unknown }
  if (typeof provider !== 'string' || typeof modelId !== 'string') throw new InlayError('INVALID_ARGUMENT', `The model ${quote(name)} was given ${typeof of} that is no model of the AI SDK; what a provider gives is expected, for example openai.embedding("text-embedding-3-small").`)
  return { api, provider, model: modelId, ...(version === undefined ? {} : { version }), ...(providerOptions === undefined ? {} : { providerOptions }) }
}

/** Calls the AI SDK, which is loaded here, and says what its errors mean. Their causes are left out: they hold requests and URLs, and those may hold secrets. */
async function called<T>(ctx: Ctx, call: (sdk: typeof ai) => Promise<T>): Promise<T> {
  const sdk = await import('ai').catch((cause: unknown) => {
    throw new InlayError('DRIVER_MISSING', 'The package "ai" is not installed, which models of the AI SDK need. Install it with "npm install ai".', { cause })
  })
  try {
    return await call(sdk)
  } catch (thrown) {
    if (ctx.signal.aborted) throw aborted(ctx.signal)
    if (InlayError.is(thrown)) throw thrown
    const error = sdk.RetryError.isInstance(thrown) ? thrown.lastError : thrown
    const message = redact(messageOf(error)).replace(/\.$/, '')
    if (sdk.LoadAPIKeyError.isInstance(error)) throw new InlayError('UNAVAILABLE', `${message}. Set it, and start the program again.`)
    if (!sdk.APICallError.isInstance(error)) throw new InlayError('INVALID_ARGUMENT', `The provider's answer cannot be used: ${message}.`)
    const { statusCode, isRetryable } = error, said = `The provider answered${statusCode === undefined ? '' : ` with status ${statusCode}`}: ${message}.`
    if (isRetryable || statusCode === undefined) throw new InlayError('UNAVAILABLE', `${said} Check the service; a later run takes the rows again.`, { retryable: true })
    if (statusCode === 200 || statusCode === 400 || statusCode === 413 || statusCode === 422) throw new InlayError('INVALID_ARGUMENT', said)
    // Who refuses a secret may repeat it.
    if (statusCode === 401 || statusCode === 403) throw new InlayError('UNAVAILABLE', `The provider answered with status ${statusCode}. Check the secret that it was given, and what it may use.`)
    throw new InlayError('UNAVAILABLE', `${said} Check the model and the address of its provider.`)
  }
}
