/** A worker: keeps outputs up to date that others leave to it. Notices tell it where to look, leases which part is its own; scans find what neither told. */
import type { Log, WorkOptions, WorkStatus } from './api.ts'
import type { Ctx, Key, Notice } from './contract.ts'
import type { Core } from './core.ts'
import { InlayError, messageOf, quote } from './errors.ts'
import { Leases } from './leases.ts'
import { kept, type Generation, type Listener } from './listeners.ts'
import { isOutage, type Run } from './reconcile.ts'

const beatMs = 2000
/** Where nothing tells of changes. */
const pollMs = 1000
/** A notice may be lost; then this finds what it told. */
const scanMs = 60_000
const firstPauseMs = 100
const longestPauseMs = 30_000
const leastStatusMs = 1000
/** Counting what waits may take this share of the time. */
const statusShare = 20

/** What is to be looked at in one collection. */
interface Todo { keys: Set<Key>; scan: 'stale' | 'all' | undefined; readonly done: Notice['done'][] }
interface Loop {
  todo: Todo
  wake: () => void
  /** All rows were to be compared, and not every listener could be here: the place in the feed is not given up, so that another worker is told too. */
  owes: boolean
  readonly end: AbortController
  running: Promise<unknown>
}

export class Worker {
  readonly #core: Core
  readonly #log: Log
  readonly #leases: Leases
  readonly #options: WorkOptions
  /** Ends the work between two batches. */
  readonly #stop: AbortSignal
  readonly #switchOver: (ctx: Ctx) => Promise<void>
  readonly #loops = new Map<string, Loop>()
  readonly #total = { done: 0, failed: 0 }

  constructor(core: Core, worker: string, options: WorkOptions, stop: AbortSignal, switchOver: (ctx: Ctx) => Promise<void>) {
    this.#core = core
    this.#log = core.log
    this.#leases = new Leases(core.data, worker)
    this.#options = options
    this.#stop = stop
    this.#switchOver = switchOver
  }

  /** Resolves when it was told to stop and what it had begun is done. */
  async run(ctx: Ctx): Promise<WorkStatus> {
    const reporting = this.#report(ctx)
    try {
      await this.#leases.open(ctx)
      for (let beaten = true; !this.#stop.aborted;) {
        const started = performance.now()
        try {
          await this.#core.look(ctx)
          await this.#beat(ctx)
          beaten = true
        } catch (error) {
          if (ctx.signal.aborted || this.#stop.aborted) break
          if (beaten) this.#log.warn?.(`The worker cannot reach its leases and waits: ${messageOf(error)}`)
          beaten = false
        }
        await pause(Math.max(0, beatMs - (performance.now() - started)), this.#stop)
      }
    } finally {
      for (const { end, wake } of this.#loops.values()) { end.abort(); wake() }
      await Promise.allSettled([...this.#loops.values()].map(({ running }) => running))
      await reporting
      if (!ctx.signal.aborted) await this.#leases.close(ctx).catch(() => {})        // they end by themselves
    }
    return this.#status(ctx)
  }

  #listeners(): readonly Listener[] {
    const { listeners } = this.#options
    return this.#core.listeners.all().filter((l) => l.state.active && (listeners === undefined || listeners.includes(l.name)))
  }
  /** What of a listener can be computed here. */
  #able(listener: Listener): readonly Generation[] {
    return this.#core.listeners.generations(listener).filter((g) => g.work !== undefined)
  }

  async #beat(ctx: Ctx): Promise<void> {
    const groups = new Map<string, string[]>(), collectionOf = new Map<string, string>()
    for (const listener of this.#listeners()) {
      for (const { slot } of this.#able(listener)) {
        groups.set(slot.collection, [...groups.get(slot.collection) ?? [], slot.id])
        collectionOf.set(slot.id, slot.collection)
      }
    }
    const taken = await this.#leases.beat(groups, ctx)
    for (const [collection, { end, wake }] of this.#loops) if (!groups.has(collection)) { this.#loops.delete(collection); end.abort(); wake() }
    for (const collection of groups.keys()) if (!this.#loops.has(collection)) this.#start(collection, ctx)
    for (const slot of taken) this.#tell(collectionOf.get(slot)!, { keys: 'stale', done: async () => {} })
  }

  #start(collection: string, ctx: Ctx): void {
    const end = new AbortController(), todo: Todo = { keys: new Set(), scan: 'stale', done: [] }
    const loop: Loop = { todo, wake: () => {}, owes: false, end, running: Promise.resolve() }
    this.#loops.set(collection, loop)
    loop.running = Promise.all([this.#watch(collection, { signal: AbortSignal.any([ctx.signal, this.#stop, end.signal]) }), this.#loop(collection, loop, ctx)])
  }
  #tell(collection: string, { keys, done }: Notice): void {
    const loop = this.#loops.get(collection)
    if (loop === undefined) return
    if (keys === 'all' || keys === 'stale') loop.todo.scan = keys === 'all' || loop.todo.scan === 'all' ? 'all' : 'stale'
    else for (const key of keys) loop.todo.keys.add(key)
    loop.todo.done.push(done)
    loop.wake()
  }

  /** Nothing tells of settled lists but who settles them. */
  #told(source: string): boolean {
    const { data, listeners } = this.#core
    return data.watch !== undefined && data.capabilities.notices !== 'none' && listeners.ofChunks(source) === undefined
  }

  async #watch(collection: string, ctx: Ctx): Promise<void> {
    const { data } = this.#core
    if (!this.#told(collection)) return
    for (let attempt = 0; !ctx.signal.aborted; attempt++) {
      try {
        for await (const notice of data.watch!(collection, ctx)) {
          this.#tell(collection, notice)
          attempt = 0
        }
      } catch (error) {
        if (ctx.signal.aborted) return
        this.#log.warn?.(`Notices of ${quote(collection)} ended, and are asked for again: ${messageOf(error)}`)
      }
      await pause(backoff(attempt), ctx.signal)
    }
  }

  async #loop(collection: string, loop: Loop, ctx: Ctx): Promise<void> {
    const told = this.#told(collection), over = AbortSignal.any([this.#stop, loop.end.signal])
    let failures = 0, away = 0, retry: NodeJS.Timeout | undefined, scanned = performance.now()
    while (!over.aborted) {
      const { todo } = loop
      if (todo.keys.size === 0 && todo.scan === undefined) {
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, told ? scanMs : pollMs)
          loop.wake = () => { clearTimeout(timer); resolve() }
          if (todo.keys.size > 0 || todo.scan !== undefined || over.aborted) loop.wake()
        })
        if (performance.now() - scanned >= (told ? scanMs : pollMs)) todo.scan ??= 'stale'
        continue
      }
      loop.todo = { keys: new Set(), scan: undefined, done: [] }
      try {
        if (todo.scan !== undefined) scanned = performance.now()
        const { complete, waiting } = await this.#work(collection, todo, over, ctx)
        if (over.aborted) break
        if (todo.scan === 'all') loop.owes = !complete
        if (!loop.owes) for (const done of todo.done) await done(ctx)
        failures = 0
        // What a model that is away left is looked at again, more and more rarely; the others do not wait for it. A pass over some keys says nothing of others that wait.
        if (todo.scan !== undefined) {
          clearTimeout(retry)
          retry = undefined
          if (!waiting) away = 0
        }
        if (waiting) retry ??= setTimeout(() => { retry = undefined; loop.todo.scan ??= 'stale'; loop.wake() }, backoff(++away))
      } catch (error) {
        if (ctx.signal.aborted) return
        if (InlayError.is(error) && error.code === 'NOT_FOUND') await this.#core.reopen(ctx).catch(() => {})
        else if (failures === 0) this.#log[isOutage(error) ? 'warn' : 'error']?.(`The worker could not go on with ${quote(collection)} and tries again: ${messageOf(error)}`)
        for (const key of todo.keys) loop.todo.keys.add(key)
        if (todo.scan !== undefined && loop.todo.scan !== 'all') loop.todo.scan = todo.scan
        loop.todo.done.push(...todo.done)
        await pause(backoff(failures++), over)
      }
    }
    clearTimeout(retry)
  }

  /** One pass over the listeners of a collection, upstream first. `complete`: every one of them was looked at, whole where all rows were to be compared. `waiting`: a model was away, or rows kept moving. */
  async #work(collection: string, { keys, scan }: Todo, stop: AbortSignal, ctx: Ctx): Promise<{ readonly complete: boolean; readonly waiting: boolean }> {
    const { listeners, data } = this.#core, all = listeners.of(collection).filter((l) => l.state.active), ours = new Set(this.#listeners())
    let complete = true, waiting = false
    for (const listener of all) {
      const able = ours.has(listener) ? this.#able(listener).filter((g) => g.slot.collection === collection) : []
      if (able.length < kept(listener).filter((g) => g.slot.collection === collection).length) complete = false
      for (const generation of able) {
        const { slot } = generation
        if (stop.aborted) return { complete: false, waiting }
        // Changes that gave no rev are nowhere else to be found again: all rows are compared, whoever has which part.
        const holds = scan === 'all' ? (): boolean => true : (key: Key): boolean => this.#leases.holds(slot.id, key)
        if (scan !== 'all' && !this.#leases.holdsAny(slot.id)) continue
        const mine = scan === undefined ? [...keys].filter(holds) : 'all'
        if (mine.length === 0) continue
        // One worker removes what has no row any more.
        if (mine !== 'all' || scan === 'all' || this.#leases.holdsAny(slot.id, 0)) await data.prune(slot, mine, ctx)
        let before = { done: 0, failed: 0 }
        const count = ({ done, failed }: Readonly<Run>): void => {
          this.#total.done += done - before.done
          this.#total.failed += failed - before.failed
          before = { done, failed }
        }
        try {
          const run = await listeners.run(listener, generation, ctx, { keys: mine, which: scan ?? 'stale', mine: holds, stop, onRows: count })
          count(run)
          if (stop.aborted) complete = false
          // Rows that moved whenever they were settled: what moved them may have told nobody, such as the pruning of another worker.
          if (run.pending > 0) waiting = true
          if (slot.many && run.done > 0) this.#tell(slot.id, { keys: mine === 'all' ? 'stale' : await listeners.chunksOf(generation, mine, ctx), done: async () => {} })
        } catch (error) {
          // A model that is away holds up its own outputs only. What is away of the database is met again by the others.
          if (!isOutage(error) || ctx.signal.aborted) throw error
          if (!waiting) this.#log.warn?.(`Outputs of the listener ${quote(listener.name)} wait: ${messageOf(error)}`)
          waiting = true
          complete = false
        }
      }
    }
    if (all.some((l) => l.serving !== l.target)) await this.#switchOver(ctx)
    return { complete, waiting }
  }

  async #status(ctx: Ctx): Promise<WorkStatus> {
    const listeners = []
    for (const listener of this.#listeners()) {
      // A listener that another process is removing, or whose table is gone, has nothing to say.
      const none = { missing: 0, stale: 0, failed: 0 }, { missing, stale, failed } = ctx.signal.aborted || listener.target.broken !== undefined ? none : await this.#core.data.tally(listener.target.slot, ctx).catch(() => none)
      listeners.push({ name: listener.name, lag: missing + stale, failed, ...(listener.target.reason === undefined ? {} : { blocked: listener.target.reason }) })
    }
    return { worker: this.#leases.worker, leases: this.#leases.size, lag: listeners.reduce((sum, l) => sum + l.lag, 0), ...this.#total, listeners }
  }
  async #report(ctx: Ctx): Promise<void> {
    const { onStatus } = this.#options
    if (onStatus === undefined) return
    while (!this.#stop.aborted) {
      const started = performance.now()
      const status = await this.#status(ctx).catch(() => undefined)           // the database is away, or a listener is being removed
      const took = performance.now() - started
      try {
        if (status !== undefined) onStatus(status)
      } catch (error) {
        this.#log.error?.(`onStatus of work() failed: ${messageOf(error)}`)
      }
      await pause(Math.max(leastStatusMs, took * statusShare), this.#stop)
    }
  }
}

function backoff(attempt: number): number {
  return Math.min(firstPauseMs * 2 ** attempt, longestPauseMs)
}
/** Ends early, without an error, when the signal says so. */
function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = (): void => {
      clearTimeout(timer)
      signal.removeEventListener('abort', end)
      resolve()
    }
    const timer = setTimeout(end, ms)
    signal.addEventListener('abort', end)
    if (signal.aborted) end()
  })
}
