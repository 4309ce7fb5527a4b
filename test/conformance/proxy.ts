/** A TCP proxy on loopback that does what networks do: it drops, refuses, stalls, goes silent, and cuts an answer in its midst. */
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import type { Network } from './subject.ts'

/** What a proxy does with the connections through it. */
export interface Proxy {
  readonly port: number
  /** Connections that are open now, on the side of the client. */
  readonly open: number
  /** Bytes of clients that were sent on. */
  readonly sent: number
  /** Everything goes through, new connections too. What a stall held back follows. */
  pass(): void
  /** Ends all connections at once, without a word. New ones go through. */
  drop(): void
  /** As `drop`, and new connections are ended too. */
  refuse(): void
  /** Nothing goes through in either direction; nobody is told. */
  stall(): void
  /** The server's side is gone and the client is not told: what it sends is lost, and nothing comes back. */
  halfOpen(): void
  /** Of the next answer after a client sent `marker`, half is sent on, and then the connection is ended. Resolves when that was done. */
  cut(marker: string): Promise<void>
  close(): Promise<void>
}

const most = 300

/** Opens a proxy before a server. Its sockets do not keep the process alive. */
export async function openProxy(host: string, port: number): Promise<Proxy> {
  type Mode = 'pass' | 'refuse' | 'stall' | 'half-open'
  interface Pair { readonly client: Socket; readonly upstream: Socket; marked: boolean; dead: boolean }
  const pairs = new Set<Pair>()
  let mode: Mode = 'pass', marker: Buffer | undefined, cutDone = (): void => {}, sent = 0
  const end = (pair: Pair): void => {
    pairs.delete(pair)
    for (const socket of [pair.client, pair.upstream]) socket.destroy()
  }
  const server = createServer({ noDelay: true }, (client) => {
    if (mode === 'refuse' || pairs.size >= most) { client.on('error', () => {}).destroy(); return }
    const upstream = connect({ host, port, noDelay: true }), pair: Pair = { client, upstream, marked: false, dead: mode === 'half-open' }
    pairs.add(pair)
    for (const socket of [client, upstream]) {
      socket.unref()
      socket.on('error', () => {})
      // A side that is gone is told to the other, unless the network is down.
      socket.on('close', () => { if (!(pair.dead && socket === upstream)) end(pair) })
    }
    client.on('data', (part) => {
      if (pair.dead) return
      sent += part.length
      if (marker !== undefined && part.includes(marker)) pair.marked = true
      if (!upstream.write(part)) { client.pause(); upstream.once('drain', () => { if (mode !== 'stall') client.resume() }) }
    })
    upstream.on('data', (part) => {
      if (pair.dead) return
      if (pair.marked) {
        pair.marked = false
        marker = undefined
        client.write(part.subarray(0, part.length >> 1), () => { end(pair); cutDone() })
        pair.dead = true
        return
      }
      if (!client.write(part)) { upstream.pause(); client.once('drain', () => { if (mode !== 'stall') upstream.resume() }) }
    })
    if (mode === 'stall') for (const socket of [client, upstream]) socket.pause()
  })
  server.unref()
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port: own } = server.address() as { readonly port: number }, dropAll = (): void => { for (const pair of pairs) end(pair) }
  return {
    port: own,
    get open() { return pairs.size },
    get sent() { return sent },
    pass() {
      mode = 'pass'
      marker = undefined
      for (const pair of pairs) { if (pair.dead) end(pair); else for (const socket of [pair.client, pair.upstream]) socket.resume() }
    },
    drop: dropAll,
    refuse() { mode = 'refuse'; dropAll() },
    stall() { mode = 'stall'; for (const { client, upstream } of pairs) for (const socket of [client, upstream]) socket.pause() },
    halfOpen() { mode = 'half-open'; for (const pair of pairs) { pair.dead = true; pair.upstream.destroy() } },
    cut(text) { marker = Buffer.from(text); return new Promise((done) => { cutDone = done }) },
    async close() {
      mode = 'refuse'
      dropAll()
      await new Promise((done) => { server.close(done) })
    },
  }
}

/** Where a URI of the form `scheme://[user@]host:port/…` points; undefined for any other. */
export function networkOf(uri: string): Network | undefined {
  const parts = /^([a-z][a-z0-9+.-]*:\/\/(?:[^@/?#]*@)?)(\[[^\]]+\]|[^[\]:,/?#@]+):(\d+)(?=[/?#]|$)/i.exec(uri)
  if (parts === null) return undefined
  const [whole, before, host, port] = parts as unknown as readonly [string, string, string, string]
  return { host: host.replace(/^\[|\]$/g, ''), port: Number(port), through: (of, own) => `${before}127.0.0.1:${own}${of.slice(whole.length)}` }
}
