/**
 * Content behind URIs: fetched before a model runs, from where the config allows, within bounds of size, time and number.
 *
 * A failed fetch is the failure of one row, and never of the batch that the row is in. So no error of a fetch is `retryable`, and none has a code that ends a
 * run (`isOutage`): time that is over and a server that is overloaded are RESOURCE_EXHAUSTED, a server that cannot be reached or breaks off is NOT_FOUND.
 * Repeating was done here; `verify` and `retry` come back to such rows later. Only the caller's own signal ends a fetch as ABORTED.
 */
import { constants } from 'node:fs'
import { open, realpath, type FileHandle } from 'node:fs/promises'
import { isIP } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { allowed, entryFor, filePath, isInside, parseUrl, shown, type Allowed } from './allow.ts'
import type { Ctx } from './contract.ts'
import { InlayError, messageOf, quote } from './errors.ts'
import { aborted, race } from './guard.ts'
import { agents, get, notPublic, privateAddresses, resolveHost, tooLarge, type Agents, type Answer } from './http.ts'
import { backoffMs, isTransient, retryAfterMs } from './retry.ts'
import { Turns } from './turns.ts'
import { redact } from './uri.ts'

/** Fetches the content of a URI of a scheme that is not built in. */
export type SchemeFetch = (uri: string, options: { readonly signal: AbortSignal; readonly maxBytes: number }) => Promise<Uint8Array>
/** What may be fetched, and within which bounds. */
export interface ContentOptions {
  /** Schemes (`https:`), URLs up to a boundary of the path (`https://images.example.com/cats/`), folders (`file:./pictures`). Default: nothing. */
  readonly allow?: readonly string[]
  /** Hosts may have addresses that are not public (loopback, private, link-local): all of them, or those of a list of addresses and ranges (`10.0.0.0/8`). Default `false`. */
  readonly privateAddresses?: boolean | readonly string[]
  /** Default 64 MiB. */
  readonly maxBytes?: number
  /** For one fetch with its redirects and repetitions; waiting for a turn does not count. Default 30,000. */
  readonly timeoutMs?: number
  /** Most fetches at once. Default 8. */
  readonly concurrency?: number
  /** How often a fetch is tried again after a broken connection or a status that may pass. Default 2. */
  readonly retries?: number
  /** Fetched bytes are kept in the artifact store. Default `false`. */
  readonly keep?: boolean
  /** Other schemes, by their name without colon. They too must stand in `allow`. */
  readonly schemes?: Readonly<Record<string, SchemeFetch>>
  /** All addresses of a host. Default: the system's resolver. */
  readonly resolve?: (host: string) => Promise<readonly string[]>
}

const maxRedirects = 5
const builtIn = ['http:', 'https:', 'file:', 'data:']

/** A failure that may pass. */
class Passing extends Error {
  readonly failure: InlayError
  readonly afterMs: number | undefined
  constructor(failure: InlayError, afterMs?: number) {
    super(failure.message)
    this.failure = failure
    this.afterMs = afterMs
  }
}

/** Fetches URIs; `folder` is what relative `file:` URIs, in `allow` and in documents, are relative to. */
export class Fetcher {
  readonly #folder: string
  readonly #allowed: Allowed
  readonly #agents: Agents = agents()
  readonly #schemes: ReadonlyMap<string, SchemeFetch>
  readonly #resolve: (host: string) => Promise<readonly string[]>
  readonly #privateAddresses: (address: string) => boolean
  readonly #maxBytes: number
  readonly #timeoutMs: number
  readonly #retries: number
  readonly #turns: Turns

  constructor(options: ContentOptions, folder: string) {
    this.#folder = folder
    this.#allowed = allowed(options.allow ?? [], folder)
    this.#schemes = new Map(Object.entries(options.schemes ?? {}).map(([name, fetch]) => [checkScheme(name), fetch]))
    this.#resolve = options.resolve ?? resolveHost
    this.#privateAddresses = privateAddresses(options.privateAddresses ?? false)
    this.#maxBytes = whole('maxBytes', options.maxBytes ?? 64 * 1024 * 1024, 1)
    this.#timeoutMs = whole('timeoutMs', options.timeoutMs ?? 30_000, 1)
    this.#turns = new Turns(whole('concurrency', options.concurrency ?? 8, 1))
    this.#retries = whole('retries', options.retries ?? 2, 0)
  }

  /** The bytes behind `uri`. Refused before anything is opened where the config does not allow it. */
  async fetch(uri: string, ctx: Ctx): Promise<Uint8Array> {
    if (ctx.signal.aborted) throw aborted(ctx.signal)
    const url = parseUrl(uri), path = url?.protocol === 'file:' ? filePath(uri.trim(), this.#folder) : undefined
    if (url === undefined || (url.protocol === 'file:' && path === undefined)) throw new InlayError('INVALID_ARGUMENT', `${shown(uri)} is no URI that can be fetched: an absolute one is expected, for example "https://images.example.com/cat.png" or "file:./pictures/cat.png", with "?" and "#" in a file's name written as %3F and %23.`)
    this.#check(url, path)
    return this.#turns.run(ctx, () => this.#timed(uri, url, path, ctx))
  }

  async #timed(uri: string, url: URL, path: string | undefined, ctx: Ctx): Promise<Uint8Array> {
    const timeout = AbortSignal.timeout(this.#timeoutMs), signal = AbortSignal.any([ctx.signal, timeout])
    try {
      return await race(this.#bytes(uri, url, path, signal), { signal })
    } catch (error) {
      if (ctx.signal.aborted) throw aborted(ctx.signal)
      if (timeout.aborted) throw new InlayError('RESOURCE_EXHAUSTED', `${shown(url)} was not fetched within the ${this.#timeoutMs} ms of content.timeoutMs. Check the server, or raise the limit.`)
      throw error
    }
  }

  #check(url: URL, path: string | undefined): void {
    if (!builtIn.includes(url.protocol) && !this.#schemes.has(url.protocol)) throw new InlayError('UNSUPPORTED', `${shown(url)} cannot be fetched: nothing handles "${url.protocol}". Add to the config: content: { schemes: { ${JSON.stringify(url.protocol.slice(0, -1))}: (uri, { signal, maxBytes }) => … } }.`)
    if (path === undefined && !this.#allowed.has(url)) throw this.#notAllowed(url)
  }

  #notAllowed(url: URL, path?: string): InlayError {
    return new InlayError('INVALID_ARGUMENT', `${shown(url)} may not be fetched: it is not below any entry of content.allow. If it shall be, add to the config: content: { allow: [${JSON.stringify(entryFor(url, path))}] }.`)
  }

  async #bytes(uri: string, url: URL, path: string | undefined, signal: AbortSignal): Promise<Uint8Array> {
    if (path !== undefined) return this.#file(url, path)
    if (url.protocol === 'data:') return this.#data(url)
    const scheme = this.#schemes.get(url.protocol)
    return scheme === undefined ? this.#repeated(url, signal) : this.#custom(scheme, uri, url, signal)
  }

  async #repeated(url: URL, signal: AbortSignal): Promise<Uint8Array> {
    const end = performance.now() + this.#timeoutMs
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#http(url, signal)
      } catch (error) {
        if (!(error instanceof Passing)) throw error
        const pauseMs = error.afterMs ?? backoffMs(attempt)
        if (signal.aborted || attempt > this.#retries || performance.now() + pauseMs >= end) throw error.failure
        await sleep(pauseMs, undefined, { signal })
      }
    }
  }

  /** One attempt, with its redirects. Each new URL goes through all checks; a user and password go to the first host only. */
  async #http(first: URL, signal: AbortSignal): Promise<Uint8Array> {
    let url = first
    for (let redirects = 0; redirects <= maxRedirects; redirects++) {
      const answer = await this.#answer(url, signal), { status, location, retryAfter, body } = answer
      if (body !== undefined) return body
      if (![301, 302, 303, 307, 308].includes(status) || location === undefined) throw failureOf(url, status, retryAfter)
      url = this.#redirected(url, location)
    }
    throw new InlayError('INVALID_ARGUMENT', `${shown(first)} redirects more than ${maxRedirects} times. Use the address that it leads to.`)
  }

  #redirected(from: URL, location: string): URL {
    const to = parseUrl(URL.parse(location, from.href)?.href ?? '')
    if (to === undefined) throw new InlayError('INVALID_ARGUMENT', `${shown(from)} redirects to ${shown(location)}, which is no URL.`)
    const refuse = (reason: string): never => { throw new InlayError('INVALID_ARGUMENT', `${shown(from)} redirects to ${shown(to)}, which is refused: ${reason}.`) }
    if (to.protocol !== 'https:' && to.protocol !== 'http:') refuse('only http: and https: are followed')
    if (from.protocol === 'https:' && to.protocol === 'http:') refuse('it leaves https:')
    if (!this.#allowed.has(to)) refuse(`add to the config, if it shall be fetched: content: { allow: [${JSON.stringify(entryFor(to))}] }`)
    to.username = ''
    to.password = ''
    return to
  }

  async #answer(url: URL, signal: AbortSignal): Promise<Answer> {
    const addresses = await this.#addresses(url)
    try {
      return await get(url, { agents: this.#agents, addresses, maxBytes: this.#maxBytes, signal })
    } catch (error) {
      if (InlayError.is(error)) throw error
      throw new Passing(new InlayError('NOT_FOUND', `${shown(url)} could not be fetched: ${messageOf(error) || 'the connection failed'}. Check that the server runs; a retry fetches it again.`, { cause: error }))
    }
  }

  /** The addresses that may be connected to. One that is not public is enough to refuse a name: who owns the name chooses which is tried. */
  async #addresses(url: URL): Promise<readonly string[]> {
    const host = url.hostname.replace(/^\[|\]$/g, '')
    const addresses = isIP(host) !== 0 ? [host] : await this.#resolve(host).catch((error: unknown) => {
      const failure = new InlayError('NOT_FOUND', `The host ${quote(host)} of ${shown(url)} has no address: ${messageOf(error)}. Check the name.`, { cause: error })
      throw (error as { readonly code?: unknown } | null)?.code === 'ENOTFOUND' ? failure : new Passing(failure)
    })
    if (addresses.length === 0) throw new InlayError('NOT_FOUND', `The host ${quote(host)} of ${shown(url)} has no address. Check the name.`)
    for (const address of addresses) {
      const reason = this.#privateAddresses(address) ? undefined : notPublic(address)
      if (reason !== undefined) throw new InlayError('INVALID_ARGUMENT', `${shown(url)} may not be fetched: ${host === address ? quote(address) : `the host ${quote(host)} has the address ${quote(address)}, which`} is not public (${reason}). If that is meant, add to the config: content: { privateAddresses: [${quote(address)}] }.`)
    }
    return addresses
  }

  async #file(url: URL, path: string): Promise<Uint8Array> {
    const folders = await Promise.all(this.#allowed.folders.map((folder) => realpath(folder).catch(() => folder)))
    const real = await realpath(path).catch(() => undefined)
    // Whether there is a file outside of the folders is nobody's business.
    if (![...folders, ...(real === undefined ? this.#allowed.folders : [])].some((folder) => isInside(folder, real ?? path))) throw this.#notAllowed(url, real ?? path)
    const missing = (cause?: unknown): InlayError => new InlayError('NOT_FOUND', `There is no file ${shown(url)} that can be read${cause === undefined ? '' : `: ${messageOf(cause)}`}. Check its path and its permissions.`, { cause })
    if (real === undefined) throw missing()
    let file: FileHandle
    try {
      file = await open(real, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)     // a pipe would wait for its writer
    } catch (error) {
      throw missing(error)
    }
    try {
      const status = await file.stat()
      if (!status.isFile()) throw new InlayError('INVALID_ARGUMENT', `${shown(url)} is a folder, pipe or device; a regular file is expected.`)
      if (status.size > this.#maxBytes) throw tooLarge(shown(url), `has ${status.size} bytes`, this.#maxBytes)
      const bytes = new Uint8Array(status.size + 1)                          // one more, to see the end
      let length = 0
      for (let read = -1; read !== 0 && length < bytes.length; length += read) read = (await file.read(bytes, length, bytes.length - length)).bytesRead
      if (length !== status.size) throw new InlayError('CONFLICT', `The file ${shown(url)} changed while it was read. Fetch it again when it is complete.`)
      return bytes.subarray(0, length)
    } finally {
      await file.close()
    }
  }

  async #data(url: URL): Promise<Uint8Array> {
    const answer = await fetch(url.href).catch(() => { throw new InlayError('INVALID_ARGUMENT', `${shown(url)} is no data: URI that can be read: "data:<type>;base64,<content>" is expected.`) })
    return this.#bounded(url, new Uint8Array(await answer.arrayBuffer()))
  }

  async #custom(scheme: SchemeFetch, uri: string, url: URL, signal: AbortSignal): Promise<Uint8Array> {
    let bytes: unknown
    try {
      bytes = await scheme(uri, { signal, maxBytes: this.#maxBytes })
    } catch (error) {
      throw new InlayError('NOT_FOUND', `${shown(url)} could not be fetched: ${redact(messageOf(error))}`, { cause: error })
    }
    if (!(bytes instanceof Uint8Array)) throw new InlayError('INVALID_ARGUMENT', `content.schemes gave ${quote(bytes)} for ${shown(url)}; a Uint8Array is expected.`)
    return this.#bounded(url, bytes)
  }

  #bounded(url: URL, bytes: Uint8Array): Uint8Array {
    if (bytes.byteLength > this.#maxBytes) throw tooLarge(shown(url), `has ${bytes.byteLength} bytes`, this.#maxBytes)
    return bytes
  }
}

function failureOf(url: URL, status: number, retryAfter: string | undefined): InlayError | Passing {
  const failure = new InlayError(status === 429 || status === 503 ? 'RESOURCE_EXHAUSTED' : 'NOT_FOUND', `${shown(url)} was answered with status ${status}; 200 is expected. ${isTransient(status) ? 'The server may be busy or broken; a retry fetches it again.' : 'Check the address.'}`, { details: { status } })
  return isTransient(status) ? new Passing(failure, retryAfterMs(retryAfter)) : failure
}

function checkScheme(name: string): string {
  if (/^[a-z][a-z0-9+.-]*$/.test(name) && !builtIn.includes(`${name}:`)) return `${name}:`
  throw new InlayError('CONFIG_INVALID', `The name ${quote(name)} in content.schemes is ${builtIn.includes(`${name}:`) ? 'built in' : 'no scheme'}: one in lower case without colon is expected, for example "s3".`)
}

function whole(name: string, value: number, least: number): number {
  if (Number.isSafeInteger(value) && value >= least) return value
  throw new InlayError('CONFIG_INVALID', `content.${name} is ${quote(value)}; a whole number from ${least} is expected.`)
}
