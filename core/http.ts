/** One GET by HTTP, to addresses that were checked, with a bounded body. */
import { lookup as dnsLookup } from 'node:dns/promises'
import { get as getPlain, Agent as PlainAgent, type ClientRequest, type IncomingMessage } from 'node:http'
import { get as getSecure, Agent as SecureAgent } from 'node:https'
import { isIP, type LookupFunction } from 'node:net'
import ipaddr from 'ipaddr.js'
import { shown } from './allow.ts'
import { InlayError, quote } from './errors.ts'

const idleMs = 5000
/** Connections that wait for another request do not keep the process alive, and end after five seconds. */
export interface Agents { readonly plain: PlainAgent; readonly secure: SecureAgent }
export function agents(): Agents {
  const options = { keepAlive: true, timeout: idleMs }
  return { plain: new PlainAgent(options), secure: new SecureAgent(options) }
}

/** What came back. The body is read for status 200 only. */
export interface Answer { readonly status: number; readonly location: string | undefined; readonly retryAfter: string | undefined; readonly body: Uint8Array | undefined }
export interface GetOptions {
  readonly agents: Agents
  readonly addresses: readonly string[]
  readonly maxBytes: number
  readonly signal: AbortSignal
}

/** Requests `url` from the first of `addresses` that answers; no name is resolved again. */
export function get(url: URL, { agents, addresses, maxBytes, signal }: GetOptions): Promise<Answer> {
  const found = addresses.map((address) => ({ address, family: isIP(address) }))
  const lookup: LookupFunction = (_host, { all }, done) => (all === true ? done(null, found) : done(null, found[0]!.address, found[0]!.family))
  const options = { lookup, signal, headers: { 'accept': '*/*', 'accept-encoding': 'identity', 'user-agent': 'inlay' } }
  return new Promise((done, fail) => {
    const request: ClientRequest = url.protocol === 'https:' ? getSecure(url, { ...options, agent: agents.secure }) : getPlain(url, { ...options, agent: agents.plain })
    request.on('error', fail)
    request.once('response', (response) => {
      const { statusCode: status = 0, headers } = response
      const answer = { status, location: headers.location, retryAfter: headers['retry-after'] }
      if (status === 200) bodyOf(url, response, maxBytes).then((body) => done({ ...answer, body }), fail)
      else {
        response.destroy()
        done({ ...answer, body: undefined })
      }
    })
  })
}

async function bodyOf(url: URL, response: IncomingMessage, maxBytes: number): Promise<Uint8Array> {
  const { 'content-length': declared, 'content-encoding': encoding = 'identity' } = response.headers
  const stop = (error: InlayError): never => {
    response.destroy()
    throw error
  }
  if (encoding.toLowerCase() !== 'identity') stop(new InlayError('UNSUPPORTED', `The server of ${shown(url)} sent the content in the encoding ${quote(encoding)} though it was asked for none. Have it serve the bytes as they are.`))
  if (declared !== undefined && Number(declared) > maxBytes) stop(tooLarge(shown(url), `has ${declared} bytes`, maxBytes))
  const chunks: Uint8Array[] = []
  let length = 0
  for await (const chunk of response as AsyncIterable<Uint8Array>) {      // leaving the loop ends the connection; a body shorter than declared throws
    length += chunk.byteLength
    if (length > maxBytes) throw tooLarge(shown(url), 'has more bytes than that', maxBytes)
    chunks.push(chunk)
  }
  const body = new Uint8Array(length)
  let at = 0
  for (const chunk of chunks) {
    body.set(chunk, at)
    at += chunk.byteLength
  }
  return body
}

/** The error of content above the limit; `subject` is quoted already. */
export function tooLarge(subject: string, has: string, maxBytes: number): InlayError {
  return new InlayError('RESOURCE_EXHAUSTED', `The content of ${subject} ${has}; content.maxBytes allows ${maxBytes}. Raise it if that is meant.`)
}

/** All addresses of a host by the system's resolver. */
export async function resolveHost(host: string): Promise<readonly string[]> {
  return (await dnsLookup(host, { all: true })).map(({ address }) => address)
}

/** Which addresses that are not public may be fetched from: all, none, or those of a list of addresses and ranges (`10.0.0.0/8`). */
export function privateAddresses(allowed: boolean | readonly string[]): (address: string) => boolean {
  if (typeof allowed === 'boolean') return () => allowed
  const ranges = allowed.map((entry) => {
    try {
      return entry.includes('/') ? ipaddr.parseCIDR(entry) : ipaddr.parseCIDR(`${entry}/${isIP(entry) === 6 ? 128 : 32}`)
    } catch {
      throw new InlayError('CONFIG_INVALID', `privateAddresses of "content" has ${quote(entry)}; an address or a range is expected, such as 10.0.0.0/8.`)
    }
  })
  return (address) => {
    if (isIP(address) === 0) return false
    const parsed = ipaddr.process(address)
    return ranges.some(([range, bits]) => range.kind() === parsed.kind() && parsed.match(range as never, bits))
  }
}

/** What makes an address unfit to be fetched from, or undefined for a public one. Forms of IPv6 that carry an IPv4 address are not public, whatever that address is. */
export function notPublic(address: string): string | undefined {
  if (!ipaddr.isValid(address) || isIP(address) === 0) return 'no IP address'
  const parsed = ipaddr.process(address), range = parsed.range()
  if (range !== 'unicast') return range
  return parsed.kind() === 'ipv6' && (parsed as ipaddr.IPv6).parts[0]! >> 13 !== 1 ? 'not in 2000::/3' : undefined
}
