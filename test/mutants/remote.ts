/** The memory database behind a socket, so that the area `faults` is proven on it, and a client that is right, or wrong in one way. */
import { once } from 'node:events'
import { connect, createServer, type Server, type Socket } from 'node:net'
import type { Ctx, Datalayer, Plugin, Row, Value } from '../../core/contract.ts'
import { decode, encode } from '../../core/encoding.ts'
import { InlayError, messageOf } from '../../core/errors.ts'
import { memory } from '../../core/memory.ts'
import { all, live } from '../conformance/subject.ts'

/** What a client may do wrong. */
export interface ClientFaults {
  /** Sends a call again when its answer is lost. */
  readonly repeats?: boolean
  readonly untyped?: boolean
  /** Keeps a socket that broke. */
  readonly neverReconnects?: boolean
  /** Takes an answer that ends in its midst for all there is. */
  readonly believesHalves?: boolean
  /** Does not listen to signals. */
  readonly deaf?: boolean
  readonly staysOpen?: boolean
  readonly neverCloses?: boolean
  /** Connects to where it first connected, past the host and port of the URI. */
  readonly goesAround?: boolean
  readonly splitsWrites?: boolean
  readonly losesWrites?: boolean
  readonly connectsLater?: boolean
  /** A call that is stopped closes the connection. */
  readonly diesOfAbort?: boolean
}
type Reply = { readonly id: number; readonly value: Value } | { readonly id: number; readonly error: { readonly code: string; readonly message: string; readonly typed: boolean } }
interface Waiting { done(reply: Reply): void; fail(error: unknown): void }

const broken = (): InlayError => new InlayError('UNAVAILABLE', 'The connection to the server broke.', { retryable: true })

/** A server on a port of this machine, for `remote://127.0.0.1:<port>/`. */
export async function remoteServer(): Promise<{ readonly port: number; close(): void }> {
  const databases = new Map<string, Promise<Datalayer>>(), sockets = new Set<Socket>()
  const open = (namespace: string): Promise<Datalayer> => databases.get(namespace) ?? databases.set(namespace, memory.connect!('memory:', { namespace }, live).then(({ data }) => data!)).get(namespace)!
  const answer = async (line: string): Promise<string> => {
    const { id, namespace, method, args } = decode(line) as unknown as { readonly id: number; readonly namespace: string; readonly method: keyof Datalayer; readonly args: readonly unknown[] }
    try {
      const data = await open(namespace), call = data[method] as (...of: readonly unknown[]) => unknown, result = call.call(data, ...args, live), value = method === 'find' || method === 'rows' ? await all(result as AsyncIterable<readonly Row[]>) : await result
      return encode({ id, value: plain(value) })
    } catch (error) {
      return encode({ id, error: { code: InlayError.is(error) ? error.code : 'INTERNAL', message: messageOf(error), typed: InlayError.is(error) } })
    }
  }
  const server: Server = createServer((socket) => {
    sockets.add(socket)
    socket.unref()
    socket.on('error', () => {}).on('close', () => sockets.delete(socket))
    lines(socket, (line) => { void answer(line).then((text) => socket.write(`${text}\n`)) })
  })
  server.unref()
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return { port: (server.address() as { readonly port: number }).port, close() { for (const socket of sockets) socket.destroy(); server.close() } }
}

/** What is undefined is left out, as the encoding has no form for it. */
function plain(value: unknown): Value {
  if (Array.isArray(value)) return value.map(plain)
  if (typeof value !== 'object' || value === null || Object.getPrototypeOf(value) !== Object.prototype) return value === undefined ? null : value as Value
  return Object.fromEntries(Object.entries(value).filter(([, v]) => v !== undefined).map(([name, v]) => [name, plain(v)]))
}
function lines(socket: Socket, each: (line: string) => void): { rest(): string } {
  let text = ''
  socket.setEncoding('utf8').on('data', (part: string) => {
    text += part
    for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n')) { each(text.slice(0, at)); text = text.slice(at + 1) }
  })
  return { rest: () => text }
}

/** The client, as a plugin. */
export function remote(name: string, faults: ClientFaults = {}): Plugin {
  let firstPort: number | undefined
  return {
    name, contract: 1, schemes: ['remote'],
    async connect(uri, { namespace }, ctx) {
      const { hostname, port } = new URL(uri), waiting = new Map<number, Waiting>()
      firstPort ??= Number(port)
      let socket: Socket | undefined, opening: Promise<Socket> | undefined, closed = false, id = 0
      const dial = async (): Promise<Socket> => {
        const made = connect({ host: hostname, port: faults.goesAround === true ? firstPort! : Number(port), noDelay: true }), reader = lines(made, (line) => {
          const reply = decode(line) as unknown as Reply
          waiting.get(reply.id)?.done(reply)
        })
        made.unref()
        made.on('error', () => {})
        await new Promise<void>((done, fail) => { made.once('connect', () => done()).once('close', () => fail(broken())) })
        made.once('close', () => {
          if (faults.neverReconnects !== true) { socket = undefined; opening = undefined }
          for (const [n, each] of waiting) {
            if (faults.believesHalves === true && reader.rest() !== '') each.done({ id: n, value: [] })
            else each.fail(faults.untyped === true ? Object.assign(new Error('read ECONNRESET'), { name: 'Error' }) : broken())
          }
        })
        return made
      }
      const ready = async (): Promise<Socket> => {
        if (closed) throw new InlayError('CLOSED', 'The connection is closed.')
        if (socket?.destroyed === true) throw broken()
        socket ??= await (opening ??= dial().catch((error: unknown) => { opening = undefined; throw error }))
        return socket
      }
      const once = async (method: string, args: readonly unknown[], { signal }: Ctx): Promise<unknown> => {
        if (faults.deaf !== true) signal.throwIfAborted()
        const to = await ready(), n = ++id
        const reply = await new Promise<Reply>((done, fail) => {
          waiting.set(n, { done, fail })
          if (faults.deaf !== true) signal.addEventListener('abort', () => { closed ||= faults.diesOfAbort === true; fail(signal.reason) }, { once: true })
          to.write(`${encode({ id: n, namespace, method, args: plain(args) })}\n`)
        }).finally(() => waiting.delete(n))
        if ('error' in reply) throw new InlayError(reply.error.code as 'INTERNAL', reply.error.message)
        return reply.value
      }
      const call = async (method: string, args: readonly unknown[], c: Ctx): Promise<never> => {
        if (faults.losesWrites === true && method === 'write') { void once(method, args, c).catch(() => {}); return (args[1] as readonly { readonly key?: string }[]).map((op) => ({ status: 'done', key: op.key ?? 'k', rev: crypto.randomUUID() })) as never }
        if (faults.splitsWrites === true && method === 'write') {
          const written: unknown[] = []
          for (const op of args[1] as readonly { readonly kind: string; readonly set?: Readonly<Record<string, Value>> }[]) {
            if (op.kind === 'patch') for (const [field, value] of Object.entries(op.set!).slice(0, -1)) await once(method, [args[0], [{ ...op, set: { [field]: value } }]], c)
            written.push(...await once(method, [args[0], [op]], c) as readonly unknown[])
          }
          return written as never
        }
        try {
          return await once(method, args, c) as never
        } catch (error) {
          if (faults.repeats !== true || !InlayError.is(error) || error.code !== 'UNAVAILABLE') throw error
          return await once(method, (args as readonly [string, readonly object[]]).map((a) => (Array.isArray(a) ? a.map((op: object) => ({ ...op, as: crypto.randomUUID() })) : a)), c) as never
        }
      }
      async function* stream(method: string, args: readonly unknown[], c: Ctx): AsyncIterable<readonly Row[]> {
        const rows = await call(method, args, c) as readonly Row[]
        for (let i = 0; i < rows.length; i += 500) yield rows.slice(i, i + 500)
      }
      const { capabilities } = (await memory.connect!('memory:', { namespace }, ctx)).data!
      const data: Datalayer = {
        capabilities: { ...capabilities, durable: true, writers: 'many', givenRevs: true, notices: 'none' },
        create: (...a) => call('create', a.slice(0, -1), a[1]), drop: (...a) => call('drop', a.slice(0, -1), a[1]), list: (c) => call('list', [], c), write: (...a) => call('write', a.slice(0, -1), a[2]), find: (q, c) => stream('find', [q], c),
        count: (...a) => call('count', a.slice(0, -1), a[1]), openSlot: (...a) => call('openSlot', a.slice(0, -1), a[1]), dropSlot: (...a) => call('dropSlot', a.slice(0, -1), a[1]), rows: (slot, which, keys, c) => stream('rows', [slot, which, keys], c),
        tally: (...a) => call('tally', a.slice(0, -1), a[1]), settle: (...a) => call('settle', a.slice(0, -1), a[2]), prune: (...a) => call('prune', a.slice(0, -1), a[2]),
      }
      if (faults.connectsLater !== true) await ready()
      return {
        server: 'memory behind a socket', data,
        async close() {
          closed = true
          if (faults.neverCloses === true && (socket === undefined || socket.destroyed)) await new Promise(() => {})
          if (faults.staysOpen !== true) socket?.destroy()
        },
      }
    },
  }
}
