/** Answers of language models by an endpoint that speaks the OpenAI protocol: `POST {url}/chat/completions`. */
import { inBatches } from '../../core/batches.ts'
import type { Ctx, Doc, Value } from '../../core/contract.ts'
import { hashOf } from '../../core/encoding.ts'
import { checkOptions, InlayError, quote } from '../../core/errors.ts'
import { filler, type PromptValues } from '../../core/prompt.ts'
import { model, type ModelSpec } from '../../core/spec.ts'
import { step } from '../../core/step.ts'
import { Endpoint, endpointOptions, type EndpointOptions } from './endpoint.ts'

/** One message of a conversation, as the protocol has it. */
export interface Message { readonly role: 'system' | 'user' | 'assistant' | 'developer' | 'tool'; readonly content: Value }
/** What `chat` takes. All but how it is called is part of the model's identity. */
export interface ChatOptions extends EndpointOptions {
  /** Stands before every conversation. */
  readonly system?: string
  /** A template, `'Use {context} to answer {question}'`: then the input is an object of its values. Default: the input is a text, or a list of messages. */
  readonly prompt?: string
  readonly temperature?: number
  /** An answer that is longer fails: a part of one is no answer. */
  readonly maxTokens?: number
  /** The answer is JSON, and the output its value. */
  readonly json?: boolean
  /** A JSON schema that the answer is made to fit; the output is its value. */
  readonly schema?: Doc
}

/** A model that answers texts, conversations, or a filled template. An input that the service refuses fails alone; when the service is away, rows stay pending. */
export function chat<I = string | readonly Message[], O = string>(name: string, options: ChatOptions): ModelSpec<I, O> {
  const of = `chat(${quote(name)}, …)`
  checkOptions(options, [...endpointOptions, 'system', 'prompt', 'temperature', 'maxTokens', 'json', 'schema'], of)
  const { url, model: service, system, prompt, temperature, maxTokens, json = false, schema, body } = options
  const endpoint = new Endpoint(options, of), fill = prompt === undefined ? undefined : filler(prompt)
  const asked: Doc = {
    ...(temperature === undefined ? {} : { temperature }), ...(maxTokens === undefined ? {} : { max_tokens: maxTokens }),
    ...(schema !== undefined ? { response_format: { type: 'json_schema', json_schema: { name: 'answer', strict: true, schema } } } : json ? { response_format: { type: 'json_object' } } : {}),
  }
  const identity: Doc = { api: 'chat', url, model: service, asked, ...(system === undefined ? {} : { system }), ...(prompt === undefined ? {} : { prompt }), ...(body === undefined ? {} : { body }) }
  const request = async ([input]: readonly unknown[], ctx: Ctx): Promise<readonly O[]> => {
    const messages = [...(system === undefined ? [] : [{ role: 'system', content: system }]), ...messagesOf(name, fill === undefined ? input : fill(input as PromptValues))]
    const text = answerOf(await endpoint.post('/chat/completions', { ...asked, messages }, ctx))
    return [(schema === undefined && !json ? text : parsed(text)) as O]
  }
  // An error in the place of an answer is the failure of its row.
  const run = async (inputs: readonly I[], ctx: Ctx): Promise<readonly O[]> => await inBatches(inputs, 1, request, ctx) as readonly O[]
  return model<I, O>(name, { run: step(`openai-chat-${hashOf(identity).slice(0, 16)}@1`, run, { data: JSON.stringify(identity) }), options: identity })
}

function messagesOf(name: string, input: unknown): readonly Doc[] {
  if (typeof input === 'string') return [{ role: 'user', content: input }]
  if (Array.isArray(input) && input.length > 0 && input.every((m: unknown) => typeof (m as Message | null)?.role === 'string')) return input as readonly Doc[]
  throw new InlayError('INVALID_ARGUMENT', `The model ${quote(name)} was given ${quote(input)}; a text, or a list of messages { role, content }, is expected.`)
}

function answerOf(answer: Value): string {
  const { choices } = Object(answer) as { readonly choices?: unknown }
  const { message, finish_reason: end } = Object(Array.isArray(choices) ? choices[0] : undefined) as { readonly message?: { readonly content?: unknown; readonly refusal?: unknown }; readonly finish_reason?: unknown }
  if (end === 'length') throw new InlayError('INVALID_ARGUMENT', 'The answer was cut at its longest length. Raise maxTokens, or ask for less.')
  if (end === 'content_filter' || typeof message?.refusal === 'string') throw new InlayError('INVALID_ARGUMENT', `The service refused to answer${typeof message?.refusal === 'string' ? `: ${message.refusal.slice(0, 300)}` : ', by its filter of content'}.`)
  if (typeof message?.content !== 'string') throw new InlayError('INVALID_ARGUMENT', `The service answered ${quote(message ?? answer)}; a message with text is expected.`)
  return message.content
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw new InlayError('INVALID_ARGUMENT', `The model answered ${quote(text)}; JSON was asked for.`)
  }
}
