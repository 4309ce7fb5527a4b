/** ONNX graphs on onnxruntime-node. */
import type { Ctx, Device, Executor, Session } from '../../core/contract.ts'
import { sha256 } from '../../core/encoding.ts'
import { InlayError } from '../../core/errors.ts'
import { arrayOf, checkFeeds } from '../../core/tensor.ts'
import { typedArrays, type TypedArrayName } from '../../core/value.ts'
import { aborted, orAborted, startThread, type OnnxThread, type Ports, type Tensors } from './thread.ts'

/** One native session, shared by all that loaded the same bytes for the same device. The bytes are kept to load them again when the thread dies. */
interface Graph { readonly key: string; readonly bytes: Uint8Array; readonly device: Device; users: number }

/**
 * Runs graphs in one worker thread, which starts with the first `load` and ends with the last session; onnxruntime spreads a run over the cores. Runs are
 * done one after the other. `auto` is the CPU. After `close` a new `load` starts anew.
 */
export class OnnxExecutor implements Executor {
  readonly formats: readonly string[] = ['onnx']
  readonly #graphs = new Map<string, Graph>()
  readonly #ending = new Set<Promise<void>>()
  #thread: OnnxThread | undefined
  /** What the present thread has loaded, by key. */
  #loaded = new Map<string, Promise<Ports>>()

  async load({ bytes }: { readonly bytes: Uint8Array }, asked: Device | 'auto', ctx: Ctx): Promise<Session> {
    if (bytes.length === 0) throw new InlayError('INVALID_ARGUMENT', 'The 0 bytes given are no ONNX graph: they are empty.')
    const device = asked === 'auto' ? 'cpu' : asked, key = `${sha256(bytes)} ${device}`
    const graph = this.#graphs.get(key) ?? { key, bytes: new Uint8Array(bytes), device, users: 0 }
    this.#graphs.set(key, graph)
    graph.users++
    try {
      const { inputs, outputs } = await orAborted(this.#ready(graph).loaded, ctx.signal)
      let closing: Promise<void> | undefined
      return {
        device, inputs, outputs,
        run: async (feeds, { signal }) => {
          if (closing !== undefined) throw closed()
          // onnxruntime gives no dimensions for a scalar, and none for an input whose shape the graph leaves open: any are let through.
          checkFeeds(inputs.map((port) => (port.dims.length === 0 ? { ...port, dims: feeds[port.name]?.dims ?? [] } : port)), feeds)
          return this.#run(graph, feeds, signal)
        },
        close: () => closing ??= this.#leave(graph),
      }
    } catch (error) {
      void this.#leave(graph)
      throw error
    }
  }

  async close(): Promise<void> {
    this.#graphs.clear()
    this.#end()
    await Promise.all(this.#ending)
  }

  /** A thread that has been given the graph. */
  #ready(graph: Graph): { readonly thread: OnnxThread; readonly loaded: Promise<Ports> } {
    const thread = this.#thread ??= this.#start()
    const known = this.#loaded.get(graph.key)
    if (known !== undefined) return { thread, loaded: known }
    const loaded = thread.call({ kind: 'load', key: graph.key, bytes: graph.bytes, device: graph.device }), here = this.#loaded
    here.set(graph.key, loaded)
    loaded.catch(() => here.delete(graph.key))
    return { thread, loaded }
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

  async #run(graph: Graph, feeds: Tensors, signal: AbortSignal): Promise<Tensors> {
    if (this.#graphs.get(graph.key) !== graph) throw closed()
    if (signal.aborted) throw aborted(signal)
    const transfer: ArrayBuffer[] = []
    // Copied, because a transfer would take the caller's memory away.
    const copies = Object.fromEntries(Object.entries(feeds).map(([name, { type, dims, data }]) => {
      if (!ArrayBuffer.isView(data)) return [name, { type, dims, data }]
      const copy = new typedArrays[arrayOf(data) as TypedArrayName](data as Uint8Array)
      transfer.push(copy.buffer as ArrayBuffer)
      return [name, { type, dims, data: copy }]
    }))
    const { thread, loaded } = this.#ready(graph)
    const [results] = await Promise.all([thread.call({ kind: 'run', key: graph.key, feeds: copies }, transfer, signal), loaded])
    return results
  }

  async #leave(graph: Graph): Promise<void> {
    if (--graph.users > 0 || this.#graphs.get(graph.key) !== graph) return
    this.#graphs.delete(graph.key)
    const thread = this.#thread
    if (thread === undefined) return
    const released = this.#loaded.delete(graph.key) ? thread.call({ kind: 'release', key: graph.key }).catch(() => undefined) : undefined      // A thread that dies releases too.
    if (this.#graphs.size === 0) this.#end()
    await released
    await Promise.all(this.#ending)
  }

  /** The thread ends when it has done what it was asked before. */
  #end(): void {
    if (this.#thread === undefined) return
    const ended = this.#thread.end().finally(() => this.#ending.delete(ended))
    this.#ending.add(ended)
    this.#forget()
  }
}

function closed(): InlayError {
  return new InlayError('CLOSED', 'This session of an ONNX graph is closed. Load the graph again.')
}
