/** The opened parts of one `Inlay`, as its services see them. */
import type { Log } from './api.ts'
import type { Collections } from './collections.ts'
import type { Component, Components } from './components.ts'
import type { Contents } from './contents.ts'
import type { ArtifactStore, Ctx, Device } from './contract.ts'
import type { Functions } from './model.ts'
import { InlayError } from './errors.ts'
import { aborted } from './guard.ts'
import type { Indexes } from './indexes.ts'
import type { Listeners } from './listeners.ts'
import type { SearchParts } from './search.ts'

export interface Core extends SearchParts {
  /** Name and version of the data database. */
  readonly server: string
  /** Who computes here: host, process, and this `Inlay` of it. */
  readonly worker: string
  readonly artifacts: ArtifactStore
  readonly components: Components
  readonly functions: Functions
  /** Where models shall run that say so themselves, by identity. */
  readonly devices: Map<string, Device | 'auto'>
  readonly listeners: Listeners
  readonly indexes: Indexes
  readonly log: Log
  readonly outputs: 'inline' | 'worker'
  readonly collections: Collections
  readonly contents: Contents
  /** Takes over what is declared, also by other processes. */
  refresh(ctx: Ctx): Promise<readonly Component[]>
  /** The same, when something that was known is not there: slots are opened anew too. */
  reopen(ctx: Ctx): Promise<readonly Component[]>
  /** Takes over what other processes declared, looked for at most once a second. */
  look(ctx: Ctx): Promise<void>
  /** Runs a call of the user: refused after close, stopped by its signal or by `close({ abort: true })`, awaited by `close`. */
  call<T>(signal: AbortSignal | undefined, work: (ctx: Ctx) => Promise<T>): Promise<T>
  stream<T>(signal: AbortSignal | undefined, work: (ctx: Ctx) => AsyncIterable<T>): AsyncGenerator<T>
  /** Work that no caller waits for; `close` does. */
  background(work: (ctx: Ctx) => Promise<void>): void
}

/** Calls in flight, and the end of them. */
export class Life {
  readonly #stop = new AbortController()
  readonly #closing = new AbortController()
  readonly #running = new Set<Promise<unknown>>()
  #closed = false

  /** Told when `close` begins: what runs until it is told to stop, stops. */
  get closing(): AbortSignal {
    return this.#closing.signal
  }
  ctx(signal: AbortSignal | undefined): Ctx {
    if (this.#closed) throw new InlayError('CLOSED', 'This Inlay is closed. Open the database again with inlay().')
    const ctx = { signal: signal === undefined ? this.#stop.signal : AbortSignal.any([signal, this.#stop.signal]) }
    if (ctx.signal.aborted) throw aborted(ctx.signal)
    return ctx
  }
  async call<T>(signal: AbortSignal | undefined, work: (ctx: Ctx) => Promise<T>): Promise<T> {
    const running = work(this.ctx(signal))
    this.#running.add(running)
    try {
      return await running
    } finally {
      this.#running.delete(running)
    }
  }
  async *stream<T>(signal: AbortSignal | undefined, work: (ctx: Ctx) => AsyncIterable<T>): AsyncGenerator<T> {
    const ctx = this.ctx(signal)
    for await (const item of work(ctx)) {
      yield item
      if (ctx.signal.aborted) throw aborted(ctx.signal)
      if (this.#closed) this.ctx(signal)
    }
  }
  background(work: (ctx: Ctx) => Promise<void>, failed: (error: unknown) => void): void {
    const running = work({ signal: this.#stop.signal }).catch(failed)
    this.#running.add(running)
    void running.finally(() => this.#running.delete(running))
  }
  /** True the first time. Afterwards calls are refused; those in flight have ended. */
  async close(abort: boolean): Promise<boolean> {
    if (this.#closed) return false
    this.#closed = true
    this.#closing.abort()
    if (abort) this.#stop.abort(new InlayError('ABORTED', 'The Inlay was closed with { abort: true } while this call was running.'))
    while (this.#running.size > 0) await Promise.allSettled(this.#running)
    return true
  }
}
