/** ONNX graphs on onnxruntime-node. */
import { randomUUID, subtle } from 'node:crypto'
import type { Ctx, Device, Executor, Session, Tensor } from '../../core/contract.ts'
import { InlayError, quote } from '../../core/errors.ts'
import { aborted, race } from '../../core/guard.ts'
import { arrayOf, checkFeeds } from '../../core/tensor.ts'
import { typedArrays, type TypedArrayName } from '../../core/value.ts'
import { checkKind, subjectOf } from './check.ts'
import { readGraph } from './external.ts'
import { startThread, type Loaded, type OnnxThread, type Tensors } from './thread.ts'

export interface OnnxOptions {
  /** Bytes of the graphs that are kept loaded; those that nobody ran for longest make room, and are loaded again when they run. Default 1 GiB. */
  readonly maxBytes?: number
}

/** One graph for one device, shared by all that loaded the same bytes. The bytes are kept, in shared memory, to load them again after the death of the thread. */
interface Graph { readonly key: string; readonly bytes: Uint8Array; readonly asked: Device | 'auto'; users: number; calls: number }

/**
 * Runs graphs in one worker thread, which starts with the first `load` and keeps no process alive; onnxruntime spreads a run over the cores. Runs are
 * done one after the other. A graph that nobody uses stays warm as long as there is room. After `close` a new `load` starts anew.
 */
export class OnnxExecutor implements Executor {
  readonly formats: readonly string[] = ['onnx']
  readonly #id = randomUUID()
  readonly #maxBytes: number
  /** By key, the one that ran last at the end. */
  readonly #graphs = new Map<string, Graph>()
  readonly #ending = new Set<Promise<void>>()
  #thread: OnnxThread | undefined
  /** What the present thread has loaded, by key. */
  #loaded = new Map<string, Promise<Loaded>>()

  constructor({ maxBytes = 2 ** 30 }: OnnxOptions = {}) { this.#maxBytes = maxBytes }

  async load({ bytes }: { readonly bytes: Uint8Array }, asked: Device | 'auto', ctx: Ctx): Promise<Session> {
    checkKind(bytes, subjectOf(bytes))
    const key = `${Buffer.from(await subtle.digest('SHA-256', bytes as Uint8Array<ArrayBuffer>)).toString('hex')} ${asked} ${this.#id}`
    if (ctx.signal.aborted) throw aborted(ctx.signal)
    const graph = this.#graphs.get(key) ?? { key, bytes: sharedCopy(bytes), asked, users: 0, calls: 0 }
    graph.users++
    let closing: Promise<void> | undefined
    const leave = async (): Promise<void> => { graph.users-- }
    try {
      const { device, inputs, outputs, fallback } = await this.#call(graph, (_, loaded) => race(loaded, ctx))
      return {
        id: key, device, inputs, outputs, ...(fallback === undefined ? {} : { fallback }),
        run: async (feeds, { signal }, { outputs: names, transfer = [] } = {}) => {
          if (closing !== undefined || this.#graphs.get(key) !== graph) throw closed()
          // onnxruntime gives no dimensions for a scalar, and none for an input whose shape the graph leaves open: any are let through.
          checkFeeds(inputs.map((port) => (port.dims.length === 0 ? { ...port, dims: feeds[port.name]?.dims ?? [] } : port)), feeds)
          const unknown = names?.find((name) => !outputs.some((port) => port.name === name))
          if (unknown !== undefined) throw new InlayError('INVALID_ARGUMENT', `The graph has no output ${quote(unknown)}. It has ${outputs.map((port) => quote(port.name)).join(', ')}.`)
          if (signal.aborted) throw aborted(signal)
          return this.#run(graph, feeds, names, transfer, signal)
        },
        close: () => closing ??= leave(),
      }
    } catch (error) {
      await leave()
      throw error
    }
  }

  async read(path: string, ctx: Ctx): Promise<Uint8Array> {
    return readGraph(path, ctx)
  }

  async close(): Promise<void> {
    this.#graphs.clear()
    const thread = this.#thread
    this.#forget()
    if (thread !== undefined) {
      const ended = thread.end().finally(() => this.#ending.delete(ended))
      this.#ending.add(ended)
    }
    await Promise.all(this.#ending)
  }

  /** Calls with a thread that has been given the graph, which stays while the call is under way. */
  async #call<T>(graph: Graph, work: (thread: OnnxThread, loaded: Promise<Loaded>) => Promise<T>): Promise<T> {
    const thread = this.#thread ??= this.#start(), here = this.#loaded
    this.#graphs.delete(graph.key)
    this.#graphs.set(graph.key, graph)
    let loaded = here.get(graph.key)
    if (loaded === undefined) {
      loaded = thread.call({ kind: 'load', key: graph.key, bytes: graph.bytes, device: graph.asked })
      here.set(graph.key, loaded)
      loaded.catch(() => {
        here.delete(graph.key)
        if (graph.users === 0) this.#graphs.delete(graph.key)
      })
      this.#makeRoom(graph)
    }
    graph.calls++
    try {
      return await work(thread, loaded)
    } finally {
      graph.calls--
    }
  }

  /** Releases graphs that ran longest ago, except what is in use this moment, until the rest is within the bound. */
  #makeRoom(wanted: Graph): void {
    const warm = [...this.#graphs.values()].filter(({ key }) => this.#loaded.has(key))
    let bytes = warm.reduce((sum, graph) => sum + graph.bytes.length, 0)
    for (const graph of warm) {
      if (bytes <= this.#maxBytes) return
      if (graph === wanted || graph.calls > 0) continue
      bytes -= graph.bytes.length
      this.#loaded.delete(graph.key)
      if (graph.users === 0) this.#graphs.delete(graph.key)
      this.#thread?.call({ kind: 'release', key: graph.key }).catch(() => undefined)      // A thread that dies releases too.
    }
  }

  #start(): OnnxThread {
    const thread = startThread(() => {
      if (this.#thread === thread) this.#forget()
    })
    return thread
  }
  #forget(): void {
    this.#thread = undefined
    this.#loaded = new Map()
  }

  async #run(graph: Graph, feeds: Tensors, outputs: readonly string[] | undefined, given: readonly ArrayBuffer[], signal: AbortSignal): Promise<Tensors> {
    const transfer = new Set<ArrayBuffer>()
    // What was not given is copied, because a transfer would take the caller's memory away.
    const own = Object.fromEntries(Object.entries(feeds).map(([name, tensor]): [string, Tensor] => {
      const { data } = tensor
      if (!ArrayBuffer.isView(data)) return [name, tensor]
      const may = given.includes(data.buffer as ArrayBuffer), mine = may ? data : new typedArrays[arrayOf(data) as TypedArrayName](data as Uint8Array)
      transfer.add(mine.buffer as ArrayBuffer)
      return [name, { ...tensor, data: mine }]
    }))
    return this.#call(graph, async (thread, loaded) => {
      const [results] = await Promise.all([thread.call({ kind: 'run', key: graph.key, feeds: own, ...(outputs === undefined ? {} : { outputs }) }, [...transfer], signal), loaded])
      return results
    })
  }
}

/** A copy that the thread reads without one of its own. */
function sharedCopy(bytes: Uint8Array): Uint8Array {
  const copy = new Uint8Array(new SharedArrayBuffer(bytes.length))
  copy.set(bytes)
  return copy
}

function closed(): InlayError {
  return new InlayError('CLOSED', 'This session of an ONNX graph is closed. Load the graph again.')
}
