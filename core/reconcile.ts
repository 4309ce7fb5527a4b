/** The engine: rows -> hash -> model -> settle, until nothing is stale. Level-triggered: losing a hint loses nothing. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Ctx, Datalayer, Key, Outcome, Row, Slot, Value } from './contract.ts'
import { InlayError, messageOf } from './errors.ts'

/** What the engine needs to know of a listener. */
export interface Work {
  readonly slot: Slot
  /** Which rows the listener selects, where the database could not tell. */
  select(rows: readonly Row[], ctx: Ctx): Promise<readonly boolean[]>
  /** Digest of what the model reads of the row, and of nothing else. */
  hash(row: Row): string
  /** One list of values or one error per row; undefined for a row that cannot be computed here, which waits. Throwing is the fault of some row of the batch, unless the error is `isOutage`. */
  predict(rows: readonly Row[], ctx: Ctx): Promise<readonly (readonly Value[] | Error | undefined)[]>
  /** Who computes, for the marks. */
  readonly worker?: string
}
/** `done`: model outputs stored. `same`: only the mark moved. `failed`: an error stored, or one that still stands. `skipped`: looked at, not selected. `pending`: rows that kept moving; a later run takes them. */
export interface Run { done: number; same: number; skipped: number; failed: number; pending: number }
export interface ReconcileOptions {
  /** A hint of what to look at. Default `all`. */
  readonly keys?: readonly Key[] | 'all'
  /** `stale` (default), `failed` to run failed rows again, or `all` to compare the hash of every row. */
  readonly which?: 'stale' | 'failed' | 'all'
  /** With `all`: runs the model on every row, whatever its hash. */
  readonly anew?: boolean
  /** Most rows of one model call. Default: as they come from the database. */
  readonly chunk?: number
  readonly onRows?: (run: Readonly<Run>) => void
  /** Rows that are somebody else's are left out. */
  readonly mine?: (key: Key) => boolean
  /** Ends the run between two batches. */
  readonly stop?: AbortSignal
}

const rounds = 20
const firstPauseMs = 2
const longestPauseMs = 250

/** Brings a slot up to date. Rows that were refused because they moved are looked at again; what was inferred for them is kept, by hash. */
export async function reconcile(data: Datalayer, work: Work, ctx: Ctx, options: ReconcileOptions = {}): Promise<Run> {
  const run: Run = { done: 0, same: 0, skipped: 0, failed: 0, pending: 0 }
  const known = new Map<string, readonly Value[]>()
  let waiting = 0, todo = options.keys ?? 'all', which = options.which ?? 'stale'
  for (let round = 0; round < rounds; round++) {
    if (round > 0) await sleep(Math.min(firstPauseMs * 2 ** (round - 1), longestPauseMs), undefined, { signal: ctx.signal }).catch(() => {})      // who holds the row may need a moment
    const refused: Key[] = []
    waiting = 0
    let settling: Promise<void> = Promise.resolve()
    try {
      for await (const rows of rowsInChunks(ahead(data.rows(work.slot, which, todo, ctx)), options)) {
        if (options.stop?.aborted === true) break
        const outcomes = await outcomesOf(work, rows, ctx, { known, again: which === 'failed' ? 'failed' : which === 'all' && options.anew === true ? 'all' : undefined })
        waiting += rows.length - outcomes.length
        await settling
        settling = settle(data, work, rows, outcomes, ctx, run, known).then((keys) => { refused.push(...keys); options.onRows?.(run) })
        settling.catch(() => {})                                           // thrown where it is awaited
      }
    } finally {
      await settling
    }
    run.pending = refused.length + waiting
    if (refused.length === 0 || options.stop?.aborted === true) break
    todo = refused
    if (which === 'all' && options.anew !== true) which = 'stale'
  }
  return run
}

/** Settles outcomes and counts them; returns the refused keys, whose values `known` keeps. */
async function settle(data: Datalayer, work: Work, rows: readonly Row[], outcomes: readonly Outcome[], ctx: Ctx, run: Run, known?: Map<string, readonly Value[]>): Promise<readonly Key[]> {
  if (outcomes.length === 0) return []
  // What stands as it is needs no write, which would have those who read it look again. A list may be fenced by who died replacing it: that is undone by settling it.
  const standing = new Set(rows.filter((row) => row.mark?.rev === row.rev && !work.slot.many).map((row) => row.key)), changed = outcomes.filter(({ kind, key }) => kind !== 'same' || !standing.has(key))
  const refused = new Set(changed.length === 0 ? [] : await data.settle(work.slot, changed, ctx)), stillFailed = new Set(rows.filter((row) => row.mark?.error !== undefined).map((row) => row.key))
  for (const outcome of outcomes) {
    if (!refused.has(outcome.key)) run[outcome.kind === 'same' && stillFailed.has(outcome.key) ? 'failed' : counter[outcome.kind]]++
    else if (outcome.kind === 'values') known?.set(outcome.hash, outcome.values)
  }
  return [...refused]
}
const counter = { values: 'done', same: 'same', skip: 'skipped', error: 'failed' } as const

/** What is to be stored for each row. The model runs only where the hash is new, or with `again` where it failed. */
export async function outcomesOf(work: Work, rows: readonly Row[], ctx: Ctx, { known, again }: { readonly known?: ReadonlyMap<string, readonly Value[]>; readonly again?: 'failed' | 'all' | undefined } = {}): Promise<readonly Outcome[]> {
  const selected = await work.select(rows, ctx), looked = rows.map((row, i) => ({ row, hash: work.hash(row), selected: selected[i]! }))
  const current = ({ row, hash }: typeof looked[number]): boolean => row.mark?.hash === hash && row.mark.none === undefined && again !== 'all' && !(again === 'failed' && row.mark.error !== undefined)
  const fresh = looked.filter((l) => l.selected && !current(l) && !known?.has(l.hash))
  const results = fresh.length === 0 ? [] : await halving(fresh.map((f) => f.row), (rows) => work.predict(rows, ctx), ctx)
  const now = new Date().toISOString()
  const byKey = new Map(fresh.map((f, i) => [f.row.key, results[i]!]))
  return looked.filter((l) => !byKey.has(l.row.key) || byKey.get(l.row.key) !== undefined).map((l): Outcome => {
    const base = { key: l.row.key, rev: l.row.rev, hash: l.hash, by: work.worker === undefined ? now : `${now} ${work.worker}` }
    if (!l.selected) return { ...base, kind: 'skip' }
    const result = byKey.get(l.row.key) ?? (current(l) ? undefined : known?.get(l.hash))
    if (result instanceof Error) return { ...base, kind: 'error', error: storable(messageOf(result)), tries: (l.row.mark?.tries ?? 0) + 1 }
    return result === undefined ? { ...base, kind: 'same' } : { ...base, kind: 'values', values: result }
  })
}

const errorChars = 2000
/** An error's text as every database holds it. */
function storable(message: string): string {
  return message.slice(0, errorChars).replaceAll('\0', '\uFFFD').toWellFormed()
}

/** One result per item. A batch that throws is halved until the bad item stands alone. */
export async function halving<T, R>(items: readonly T[], work: (items: readonly T[]) => Promise<readonly R[]>, ctx: Ctx): Promise<readonly (R | Error)[]> {
  try {
    return await work(items)
  } catch (error) {
    if (isOutage(error) || ctx.signal.aborted) throw error
    if (items.length === 1) return [error instanceof Error ? error : new Error(messageOf(error))]
    const half = items.length >> 1
    return [...await halving(items.slice(0, half), work, ctx), ...await halving(items.slice(half), work, ctx)]
  }
}

/** Errors that say nothing about a row: the work was stopped, or what it needs is away. They end a run instead of being stored. */
export function isOutage(error: unknown): boolean {
  return InlayError.is(error) && (error.retryable || outages.has(error.code))
}
const outages: ReadonlySet<string> = new Set(['ABORTED', 'TIMEOUT', 'CLOSED', 'UNAVAILABLE', 'DRIVER_MISSING', 'PLUGIN_NOT_FOUND'])

/** Reads one batch ahead of the one in work. */
async function* ahead<T>(batches: AsyncIterable<T>): AsyncIterable<T> {
  const iterator = batches[Symbol.asyncIterator]()
  try {
    let next = iterator.next()
    for (;;) {
      const { done, value } = await next
      if (done === true) return
      next = iterator.next()
      next.catch(() => {})
      yield value
    }
  } finally {
    await iterator.return?.()
  }
}

async function* rowsInChunks(batches: AsyncIterable<readonly Row[]>, { chunk: size, mine }: ReconcileOptions): AsyncIterable<readonly Row[]> {
  for await (const batch of batches) {
    const rows = mine === undefined ? batch : batch.filter((row) => mine(row.key))
    for (let i = 0; i < rows.length; i += size ?? rows.length) yield rows.slice(i, i + (size ?? rows.length))
  }
}
