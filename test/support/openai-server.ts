/** A small server that speaks the OpenAI protocol: embeddings are counts of words, answers repeat the question. */
import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { json } from 'node:stream/consumers'
import { sha256 } from '../../core/encoding.ts'

/** What was asked. */
export interface Asked { readonly path: string; readonly headers: IncomingHttpHeaders; readonly body: Readonly<Record<string, unknown>>; readonly at: number }
/** Answers a request in place of the server; what gives false leaves it to the server. */
export type Fault = (response: ServerResponse, asked: Asked) => boolean | void

export interface OpenAiServer extends AsyncDisposable {
  /** Up to the version. */
  readonly url: string
  readonly asked: readonly Asked[]
  /** The next requests meet these, in order. */
  next(...faults: readonly Fault[]): void
  /** Every request meets this, until another is given. */
  always(fault: Fault | undefined): void
  /** Most requests at once. */
  readonly most: number
}

/** The embedding of a text: how many of its words fall into each of `dims` places, as a unit vector. */
export function embeddingOf(text: string, dims: number): number[] {
  const counts = new Array<number>(dims).fill(0)
  for (const word of text.toLowerCase().split(/\W+/)) counts[parseInt(sha256(word).slice(0, 8), 16) % dims]!++
  const length = Math.hypot(...counts)
  return counts.map((count) => Math.fround(count / length))
}

export function answer(response: ServerResponse, status: number, body: unknown, headers: Readonly<Record<string, string>> = {}): void {
  response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(typeof body === 'string' ? body : JSON.stringify(body))
}
/** An error as the protocol has it. */
export function failing(status: number, message = 'no luck', headers: Readonly<Record<string, string>> = {}): Fault {
  return (response) => answer(response, status, { error: { message, type: 'some_error', param: null, code: null } }, headers)
}

/** Serves embeddings of `dims` numbers to who bears `secret`. */
export async function openAiServer({ dims = 8, secret = 'sk-right-0123456789' }: { readonly dims?: number; readonly secret?: string } = {}): Promise<OpenAiServer> {
  const asked: Asked[] = [], queue: Fault[] = [], sockets = new Set<Socket>()
  let standing: Fault | undefined, running = 0, most = 0

  const embeddings = ({ input, encoding_format: format, dimensions = dims }: Readonly<Record<string, unknown>>): unknown => {
    const data = [input].flat().map((text, index) => {
      const vector = embeddingOf(String(text), dimensions as number)
      return { object: 'embedding', index, embedding: format === 'base64' ? Buffer.from(Float32Array.from(vector).buffer).toString('base64') : vector }
    })
    return { object: 'list', data: data.toReversed(), model: 'words', usage: { prompt_tokens: 1, total_tokens: 1 } }       // any order is right
  }
  const completion = ({ messages, response_format: format }: Readonly<Record<string, unknown>>): unknown => {
    const said = (messages as readonly { readonly role: string; readonly content: unknown }[]).map(({ role, content }) => `${role}: ${typeof content === 'string' ? content : (content as readonly { readonly text: string }[])[0]!.text}`).join('|')
    return { id: 'x', object: 'chat.completion', created: 0, model: 'echo', choices: [{ index: 0, message: { role: 'assistant', content: format === undefined ? said : JSON.stringify({ said }) }, finish_reason: 'stop' }], usage: { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 } }
  }

  const server = createServer(async (request, response) => {
    running++
    most = Math.max(most, running)
    response.on('close', () => { running-- })
    const one: Asked = { path: request.url!, headers: request.headers, body: await json(request) as Asked['body'], at: performance.now() }
    asked.push(one)
    const fault = queue.shift() ?? standing
    if (fault !== undefined && fault(response, one) !== false) return
    if (one.headers.authorization !== `Bearer ${secret}`) failing(401, `Incorrect API key provided: ${one.headers.authorization?.replace('Bearer ', '')}.`)(response, one)
    else if (one.path === '/v1/embeddings') answer(response, 200, embeddings(one.body))
    else if (one.path === '/v1/chat/completions') answer(response, 200, completion(one.body))
    else failing(404, 'no such path')(response, one)
  })
  server.on('connection', (socket) => { sockets.add(socket.on('close', () => { sockets.delete(socket) })) })
  await new Promise<void>((done) => { server.listen(0, '127.0.0.1', done) })
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`,
    asked,
    next: (...faults) => { queue.push(...faults) },
    always: (fault) => { standing = fault },
    get most() { return most },
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy()
      await new Promise((done) => { server.close(done) })
    },
  }
}
