/** One endpoint that speaks the OpenAI protocol: its secret, its limits, its errors. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Ctx, Doc, Value } from '../../core/contract.ts'
import { InlayError, messageOf, quote } from '../../core/errors.ts'
import { aborted } from '../../core/guard.ts'
import { backoffMs, isTransient, retryAfterMs } from '../../core/retry.ts'
import { Turns } from '../../core/turns.ts'
import { redact } from '../../core/uri.ts'

/** Where a model is, and how it is called. None of this but `url`, `model` and `body` is part of the model's identity. */
export interface EndpointOptions {
  /** Up to the version: `https://api.openai.com/v1`. */
  readonly url: string
  /** The service's name of the model. */
  readonly model: string
  /** The name of the environment variable that holds the secret; read when the model runs, and stored nowhere. Absent: none is sent. */
  readonly key?: string
  /** Further headers. */
  readonly headers?: Readonly<Record<string, string>>
  /** Further fields of each request, such as `seed`. Part of the model's identity. */
  readonly body?: Doc
  /** Most requests at once. Default 4. */
  readonly concurrency?: number
  /** Of all models that share `url` and `key`, spread over the minute. Default: no limit. */
  readonly requestsPerMinute?: number
  /** As `requestsPerMinute`; tokens are estimated as a quarter of the characters of a request. */
  readonly tokensPerMinute?: number
  /** How often a request is repeated after a status that may pass (408, 425, 429, 5xx) or a broken connection. Default 5. */
  readonly retries?: number
  /** For one request. A `Retry-After` beyond it is not waited for. Default 60,000. */
  readonly timeoutMs?: number
}
/** Their names, for checks. */
export const endpointOptions: readonly string[] = ['url', 'model', 'key', 'headers', 'body', 'concurrency', 'requestsPerMinute', 'tokensPerMinute', 'retries', 'timeoutMs']

/** When the next request may go, for all models of one URL and secret. */
interface Pace { requests: number; tokens: number; notBefore: number }
const paces = new Map<string, Pace>()
/** So far may requests run ahead of an even spread. */
const burstMs = 1000
const minuteMs = 60_000
const charactersPerToken = 4

export class Endpoint {
  readonly #options: EndpointOptions
  readonly #turns: Turns
  readonly #pace: Pace

  constructor(options: EndpointOptions, of: string) {
    const url = URL.parse(options.url)
    if (url === null || !/^https?:$/.test(url.protocol)) throw new InlayError('INVALID_ARGUMENT', `The url of ${of} is ${quote(redact(String(options.url)))}; one up to the version is expected, for example "https://api.openai.com/v1".`)
    if (url.username !== '' || url.password !== '' || redact(options.url) !== options.url) throw new InlayError('INVALID_ARGUMENT', `The url of ${of} holds a secret, which would be stored. Give it by the environment: { key: 'OPENAI_API_KEY' }, or by "headers".`)
    if (typeof options.model !== 'string' || options.model === '') throw new InlayError('INVALID_ARGUMENT', `The model of ${of} is ${quote(options.model)}; the service's name of it is expected.`)
    if (options.key !== undefined && !/^[A-Za-z_][A-Za-z0-9_]*$/.test(options.key)) throw new InlayError('INVALID_ARGUMENT', `The key of ${of} is not the name of an environment variable. Never give the secret itself: put it into the environment, and write for example { key: 'OPENAI_API_KEY' }.`)
    for (const name of ['concurrency', 'timeoutMs', 'requestsPerMinute', 'tokensPerMinute', 'retries'] as const) {
      const value = options[name], least = name === 'retries' ? 0 : 1
      if (value !== undefined && (!Number.isSafeInteger(value) || value < least)) throw new InlayError('INVALID_ARGUMENT', `${name} of ${of} is ${quote(value)}; a whole number from ${least} is expected.`)
    }
    this.#options = options
    this.#turns = new Turns(options.concurrency ?? 4)
    const shared = JSON.stringify([url.href.replace(/\/$/, ''), options.key])
    this.#pace = paces.get(shared) ?? { requests: 0, tokens: 0, notBefore: 0 }
    paces.set(shared, this.#pace)
  }

  /** What the service answers to a request, repeated while that may help. Refusals of what was sent are INVALID_ARGUMENT; all else ends the run, so that rows stay pending. */
  async post(path: string, body: Doc, ctx: Ctx): Promise<Value> {
    const text = JSON.stringify({ ...body, ...this.#options.body, model: this.#options.model })
    return this.#turns.run(ctx, async () => {
      for (let attempt = 1; ; attempt++) {
        await this.#wait(text.length, ctx)
        const answer = await this.#send(path, text, ctx)
        if (!('failure' in answer)) return answer.value
        const pauseMs = answer.afterMs ?? backoffMs(attempt)
        if (attempt > (this.#options.retries ?? 5)) throw answer.failure
        if (pauseMs > this.#timeoutMs) throw new InlayError(answer.failure.code, `${answer.failure.message} It asks to wait ${Math.ceil(pauseMs / 1000)} s, which is beyond timeoutMs (${this.#timeoutMs}).`, { cause: answer.failure, retryable: answer.failure.retryable })
        if (answer.afterMs !== undefined) this.#pace.notBefore = Math.max(this.#pace.notBefore, performance.now() + answer.afterMs)
        else await this.#sleep(pauseMs, ctx)
      }
    })
  }

  get #timeoutMs(): number {
    return this.#options.timeoutMs ?? minuteMs
  }

  async #send(path: string, body: string, ctx: Ctx): Promise<{ readonly value: Value } | { readonly failure: InlayError; readonly afterMs: number | undefined }> {
    const url = new URL(this.#options.url), secret = this.#secret()
    url.pathname = `${url.pathname.replace(/\/$/, '')}${path}`
    const passing = (reason: string, afterMs?: number): { readonly failure: InlayError; readonly afterMs: number | undefined } => ({ failure: new InlayError('UNAVAILABLE', `${url.href} ${this.#scrubbed(reason)}. Check the service; a later run takes the rows again.`, { retryable: true }), afterMs })
    const timeout = AbortSignal.timeout(this.#timeoutMs)
    let response: Response, text: string
    try {
      response = await fetch(url, {
        method: 'POST', body, redirect: 'manual', signal: AbortSignal.any([ctx.signal, timeout]),
        headers: { 'content-type': 'application/json', ...(secret === undefined ? {} : { authorization: `Bearer ${secret}` }), ...this.#options.headers },
      })
      text = await response.text()
    } catch (error) {
      if (ctx.signal.aborted) throw aborted(ctx.signal)
      return passing(timeout.aborted ? `did not answer within ${this.#timeoutMs} ms` : `could not be reached: ${messageOf((error as { readonly cause?: unknown }).cause ?? error)}`)
    }
    if (response.ok) {
      try {
        return { value: JSON.parse(text) as Value }
      } catch {
        return passing('answered with something else than JSON')
      }
    }
    const reason = `answered with status ${response.status}${said(text)}`
    if (isTransient(response.status)) return passing(reason, retryAfterMs(response.headers.get('retry-after')))
    throw this.#refusal(url, response.status, this.#scrubbed(reason))
  }

  #refusal(url: URL, status: number, reason: string): InlayError {
    const { key, model } = this.#options
    if (status === 401 || status === 403) return new InlayError('UNAVAILABLE', `${url.href} ${reason}. ${key === undefined ? 'Name the environment variable that holds the secret: { key: \'OPENAI_API_KEY\' }.' : `Check the secret in the environment variable ${key}, and what it may use.`}`)
    if (status === 400 || status === 413 || status === 422) return new InlayError('INVALID_ARGUMENT', `${url.href} ${reason}.`)
    return new InlayError('UNAVAILABLE', `${url.href} ${reason}. Check the url and the model ${quote(model)}.`)
  }

  #secret(): string | undefined {
    const { key, url } = this.#options
    if (key === undefined) return undefined
    const secret = process.env[key]?.trim()
    if (secret === undefined || secret === '') throw new InlayError('UNAVAILABLE', `The environment variable ${key} is not set, which holds the secret for ${url}. Set it, and start the program again.`)
    return secret
  }

  /** A service may repeat in an error what it was sent. */
  #scrubbed(text: string): string {
    const { key, headers } = this.#options
    const secrets = [key === undefined ? undefined : process.env[key]?.trim(), ...Object.values(headers ?? {}).flatMap((value) => [value, ...value.split(/\s+/)])]
    return redact(secrets.reduce<string>((clean, secret) => (secret === undefined || secret.length < 6 ? clean : clean.replaceAll(secret, '***')), text))
  }

  async #wait(characters: number, ctx: Ctx): Promise<void> {
    const { requestsPerMinute, tokensPerMinute } = this.#options, now = performance.now()
    const requestsMs = this.#spread('requests', 1, requestsPerMinute, now), tokensMs = this.#spread('tokens', Math.ceil(characters / charactersPerToken), tokensPerMinute, now)
    await this.#sleep(Math.max(requestsMs, tokensMs), ctx)
    for (let ms = this.#pace.notBefore - performance.now(); ms > 0; ms = this.#pace.notBefore - performance.now()) await this.#sleep(ms, ctx)
  }
  /** How long to wait, and moves on the time of the next. */
  #spread(what: 'requests' | 'tokens', amount: number, perMinute: number | undefined, now: number): number {
    if (perMinute === undefined) return 0
    const due = Math.max(this.#pace[what], now)
    this.#pace[what] = due + amount * minuteMs / perMinute
    return due - now - burstMs
  }
  async #sleep(ms: number, ctx: Ctx): Promise<void> {
    if (ms > 0) await sleep(ms, undefined, { signal: ctx.signal }).catch(() => {})
    if (ctx.signal.aborted) throw aborted(ctx.signal)
  }
}

/** What the service says of an error: `{ error: { message } }`, or text. */
function said(text: string): string {
  let message: unknown = text
  try {
    const { error, message: plain } = Object(JSON.parse(text)) as { readonly error?: unknown; readonly message?: unknown }
    message = (error as { readonly message?: unknown } | undefined)?.message ?? error ?? plain ?? text
  } catch {
    // Text it is.
  }
  const short = (typeof message === 'string' ? message : quote(message)).trim().slice(0, 300).replace(/\.$/, '')
  return short === '' ? '' : ` and said: ${short}`
}
