/** A worker thread that owns native sessions, and the calls that wait for it. */
import { Worker } from 'node:worker_threads'
import type { Device, Port, Tensor } from '../../core/contract.ts'
import { InlayError, messageOf, type ErrorCode } from '../../core/errors.ts'
import { race } from '../../core/guard.ts'

/** A loaded graph; `fallback` says why `auto` did not get another device than the CPU, where there seemed to be one. */
export interface Loaded { readonly device: Device; readonly inputs: readonly Port[]; readonly outputs: readonly Port[]; readonly fallback?: string }
export type Tensors = Readonly<Record<string, Tensor>>
export type Request =
  | { readonly kind: 'load'; readonly key: string; readonly bytes: Uint8Array; readonly device: Device | 'auto' }
  | { readonly kind: 'run'; readonly key: string; readonly feeds: Tensors; readonly outputs?: readonly string[] }
  | { readonly kind: 'release'; readonly key: string }
/** `drop`: the call `id` is not waited for any more. `end`: nothing follows. */
export type ToWorker = (Request & { readonly id: number }) | { readonly kind: 'drop'; readonly id: number } | { readonly kind: 'end' }
export type FromWorker = { readonly id: number } & ({ readonly result: unknown } | { readonly fault: { readonly code: ErrorCode; readonly message: string } })

export interface OnnxThread {
  /** Calls are answered in order. One that is aborted rejects at once: it is not begun any more, or its result is dropped. */
  call(request: Request & { readonly kind: 'load' }): Promise<Loaded>
  call(request: Request & { readonly kind: 'run' }, transfer: readonly ArrayBuffer[], signal: AbortSignal): Promise<Tensors>
  call(request: Request & { readonly kind: 'release' }): Promise<void>
  /** After the calls made before. */
  end(): Promise<void>
}

/** Starts a thread. It keeps the process alive only while a call or the end is waited for. `gone` is told when it ends, by `end` or by itself. */
export function startThread(gone: () => void): OnnxThread {
  // Node strips types from our sources, never inside node_modules: there the built file lies beside this one. Flags of the process are not for the thread.
  const worker = new Worker(new URL(import.meta.url.endsWith('.ts') ? './worker.ts' : './worker.js', import.meta.url), { name: 'inlay-onnx', execArgv: [] })
  worker.unref()
  const calls = new Map<number, { resolve(result: unknown): void; reject(error: unknown): void }>()
  let last = 0, ending = false, failure: unknown, death: InlayError | undefined

  const settle = (id: number): { resolve(result: unknown): void; reject(error: unknown): void } | undefined => {
    const call = calls.get(id)
    calls.delete(id)
    if (calls.size === 0 && !ending) worker.unref()
    return call
  }
  worker.on('message', (reply: FromWorker) => {
    const call = settle(reply.id)
    if ('fault' in reply) call?.reject(new InlayError(reply.fault.code, reply.fault.message))
    else call?.resolve(reply.result)
  })
  worker.on('error', (error) => { failure = error })
  const exited = new Promise<void>((resolve) => {
    worker.on('exit', (code) => {
      gone()
      const why = failure === undefined ? `exit code ${code}` : messageOf(failure)
      death = new InlayError('UNAVAILABLE', `The thread that runs ONNX graphs died (${why}). Repeat the call: a new thread loads the graph again.`, { retryable: true, cause: failure })
      for (const id of calls.keys()) settle(id)?.reject(death)
      resolve()
    })
  })

  const call = (request: Request, transfer: readonly ArrayBuffer[] = [], signal?: AbortSignal): Promise<unknown> => {
    const id = ++last
    const reply = new Promise((resolve, reject) => {
      if (death !== undefined) return reject(death)
      if (calls.size === 0) worker.ref()
      calls.set(id, { resolve, reject })
      worker.postMessage({ ...request, id } satisfies ToWorker, [...transfer])
    })
    return signal === undefined ? reply : race(reply, { signal }).catch((error: unknown) => {
      if (settle(id) !== undefined) worker.postMessage({ kind: 'drop', id } satisfies ToWorker, [])
      throw error
    })
  }
  return {
    call: call as OnnxThread['call'],
    end: () => {
      ending = true
      worker.ref()
      worker.postMessage({ kind: 'end' } satisfies ToWorker, [])
      return exited
    },
  }
}
