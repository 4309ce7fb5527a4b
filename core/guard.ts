/**
 * Core's own middleware around every plugin: use after close, cancellation, errors made typed, retry of what may be repeated, and limits.
 * Plugins stay narrow because this stands before them.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { ArtifactStore, Collection, Ctx, Datalayer, Doc, Key, Notice, Plugin, Query, Row, VectorSearch, Write, Written } from './contract.ts'
import { InlayError, messageOf } from './errors.ts'
import { redact } from './uri.ts'
import { same } from './value.ts'

/** Lifetime and knowledge that the guards of one connection share. */
export interface Guard {
  /** Of the URI, for messages. */
  readonly name: string
  closed: boolean
  readonly classify: NonNullable<Plugin['classify']>
}

const attempts = 6
const firstDelayMs = 10
const longestDelayMs = 1000

function stopped(guard: Guard, ctx: Ctx): void {
  if (guard.closed) throw new InlayError('CLOSED', `The connection to ${guard.name} is closed. Open it again with inlay().`)
  if (ctx.signal.aborted) throw aborted(ctx.signal)
}

export function aborted(signal: AbortSignal): InlayError {
  const reason: unknown = signal.reason
  if (InlayError.is(reason)) return reason
  const late = (reason as { readonly name?: unknown } | undefined)?.name === 'TimeoutError'
  return late ? new InlayError('TIMEOUT', 'The call was stopped because its time was over. Give it more, or less to do.', { cause: reason })
    : new InlayError('ABORTED', `The call was stopped by its signal: ${messageOf(reason)}.`, { cause: reason })
}

/** Any error of a plugin as an `InlayError`. */
function typed(guard: Guard, error: unknown, ctx: Ctx): InlayError {
  if (InlayError.is(error)) return error
  if (ctx.signal.aborted) return aborted(ctx.signal)
  const known = guard.classify(error)
  const message = `${guard.name}: ${redact(messageOf(error))}`
  return new InlayError(known?.code ?? 'INTERNAL', message.endsWith('.') ? message : `${message}.`, { cause: error, retryable: known?.retryable ?? false })
}

/** The result, or ABORTED as soon as the signal says so. The work itself is told by the same signal. */
export function race<T>(work: Promise<T>, ctx: Ctx): Promise<T> {
  const { signal } = ctx
  return new Promise((done, fail) => {
    const stop = (): void => fail(aborted(signal))
    if (signal.aborted) stop()                                             // its event is over
    signal.addEventListener('abort', stop, { once: true })
    work.then(done, fail).finally(() => signal.removeEventListener('abort', stop))
  })
}

async function repeated<T>(guard: Guard, ctx: Ctx, call: () => Promise<T>, may: (error: InlayError) => boolean = () => true): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    stopped(guard, ctx)
    try {
      return await call()
    } catch (cause) {
      const error = typed(guard, cause, ctx)
      if (!error.retryable || !may(error) || attempt === attempts || guard.closed) throw error
      await pause(attempt, ctx)
    }
  }
}

/** Exponential, with jitter, so that two writers that met do not meet again. */
async function pause(attempt: number, ctx: Ctx): Promise<void> {
  await sleep(firstDelayMs * 2 ** (attempt - 1) * (0.5 + Math.random()), undefined, { signal: ctx.signal }).catch(() => {})
  if (ctx.signal.aborted) throw aborted(ctx.signal)
}

/** Repeats a stream that fails before its end: from after the last row seen where `resume` can say so, else only while nothing was given. */
async function* repeatedStream(guard: Guard, ctx: Ctx, open: (after: Key | undefined) => AsyncIterable<readonly Row[]>, resumable: boolean): AsyncIterable<readonly Row[]> {
  let last: Key | undefined, given = false
  for (let attempt = 1; ; attempt++) {
    try {
      stopped(guard, ctx)
      const iterator = open(last)[Symbol.asyncIterator]()
      try {
        for (;;) {
          const next = await race(iterator.next(), ctx)
          if (next.done === true) return
          stopped(guard, ctx)
          yield next.value
          given = true
          last = next.value.at(-1)?.key ?? last
        }
      } finally {
        // After an abort the plugin may still be busy with the last page: nobody waits for that.
        const left = iterator.return?.()
        if (ctx.signal.aborted) left?.catch(() => {})
        else await left
      }
    } catch (cause) {
      const error = typed(guard, cause, ctx)
      if (!error.retryable || (given && !resumable) || attempt === attempts || guard.closed) throw error
      await pause(attempt, ctx)
    }
  }
}

export function guardData(next: Datalayer, guard: Guard): Datalayer {
  const { limits } = next.capabilities
  /** Collections of others, whose revs are their own. */
  const attached = new Set<string>()
  const read = <T>(ctx: Ctx, call: () => Promise<T>): Promise<T> => repeated(guard, ctx, () => race(call(), ctx))
  const settled = <T>(ctx: Ctx, call: () => Promise<T>): Promise<T> => repeated(guard, ctx, call)
  /** Nothing but a lost answer leaves a write's outcome unknown; then the rows tell. */
  const writeOnce = async (collection: string, given: readonly Write[], ctx: Ctx): Promise<readonly Written[]> => {
    const ops = next.capabilities.givenRevs ? given.map((op): Write => (op.kind === 'remove' ? op : { as: crypto.randomUUID(), ...op })) : given
    try {
      return await repeated(guard, ctx, () => next.write(collection, ops, ctx), (error) => error.code !== 'UNAVAILABLE')
    } catch (error) {
      if (!InlayError.is(error) || error.code !== 'UNAVAILABLE') throw error
      // A row whose key the database was to make cannot be looked for.
      const keyed = ops.filter((op) => op.key !== undefined), recovered = keyed.length === 0 ? [] : await recover(collection, keyed, ctx)
      let n = 0
      return ops.map((op): Written => (op.key === undefined ? { status: 'unknown', key: '', reason: error.message } : recovered[n++]!))
    }
  }
  const recover = async (collection: string, ops: readonly Write[], ctx: Ctx): Promise<readonly Written[]> => {
    const givenRevs = next.capabilities.givenRevs && !attached.has(collection)
    const look = async (at: readonly Write[]): Promise<readonly (Written | undefined)[]> => {
      const rows = new Map<Key, Row>()
      for (const keys of batches(at.map((op) => op.key!), limits.keys)) {
        for await (const page of repeatedStream(guard, ctx, (after) => next.find(query({ from: collection, where: { kind: 'keys', keys } }, after), ctx), true)) {
          for (const row of page) rows.set(row.key, row)
        }
      }
      return at.map((op) => landed(op, rows.get(op.key!), givenRevs, attached.has(collection)))
    }
    const known = await look(ops), open = ops.filter((_, i) => known[i] === undefined)
    if (open.length === 0) return known as readonly Written[]
    const again = await repeated(guard, ctx, () => next.write(collection, open, ctx), (error) => error.code !== 'UNAVAILABLE')
    // What was sent first may have been under way still, and met the second: then the row bears its rev.
    const met = open.filter((_, i) => again[i]!.status !== 'done' && again[i]!.status !== 'refused'), found = met.length === 0 ? [] : await look(met)
    let n = 0
    return known.map((written) => {
      if (written !== undefined) return written
      const op = open[n]!, answer = again[n++]!
      return found[met.indexOf(op)] ?? answer
    })
  }
  return {
    capabilities: next.capabilities,
    create: (collection, ctx) => settled(ctx, () => next.create(collection, ctx)),
    ...(next.installs === undefined ? {} : { installs: (collection: Collection, ctx: Ctx) => read(ctx, () => next.installs!(collection, ctx)) }),
    drop: (name, ctx) => settled(ctx, () => next.drop(name, ctx)),
    async list(ctx) {
      const listed = await read(ctx, () => next.list(ctx))
      for (const { name, attached: to } of listed) if (to !== false) attached.add(name)
      return listed
    },
    async write(collection, ops, ctx) {
      const results: Written[] = []
      for (const part of batches(ops, limits.ops)) results.push(...await writeOnce(collection, part, ctx))
      return results
    },
    find: (q, ctx) => repeatedStream(guard, ctx, (after) => next.find(query(q, after), ctx), q.order === undefined && q.skip === undefined && q.limit === undefined),
    count: (q, ctx) => read(ctx, () => next.count(q, ctx)),
    openSlot: (slot, ctx) => settled(ctx, () => next.openSlot(slot, ctx)),
    dropSlot: (id, ctx) => settled(ctx, () => next.dropSlot(id, ctx)),
    // Repeating offers a row again at worst, which the engine takes for what it is.
    async *rows(slot, which, keys, ctx) {
      for (const part of keys === 'all' ? ['all' as const] : batches(keys, limits.keys)) yield* repeatedStream(guard, ctx, () => next.rows(slot, which, part, ctx), true)
    },
    tally: (slot, ctx) => read(ctx, () => next.tally(slot, ctx)),
    async settle(slot, outcomes, ctx) {
      const refused: Key[] = []
      for (const part of batches(outcomes, limits.ops)) refused.push(...await settled(ctx, () => next.settle(slot, part, ctx)))
      return refused
    },
    async prune(slot, keys, ctx) {
      let pruned = 0
      for (const part of keys === 'all' ? ['all' as const] : batches(keys, limits.keys)) pruned += await settled(ctx, () => next.prune(slot, part, ctx))
      return pruned
    },
    ...(next.watch === undefined ? {} : { watch: (collection: string, ctx: Ctx) => watched(guard, ctx, () => next.watch!(collection, ctx)) }),
    ...(next.native === undefined ? {} : { native: (statement: unknown, ctx: Ctx) => read(ctx, () => next.native!(statement, ctx)) }),
  }
}

/** Watches on after an outage: the first notice then says what is to be looked at for what was missed. Ends with the signal. */
async function* watched(guard: Guard, ctx: Ctx, open: () => AsyncIterable<Notice>): AsyncIterable<Notice> {
  for (let attempt = 1; ; attempt++) {
    try {
      stopped(guard, ctx)
      for await (const notice of open()) {
        yield { keys: notice.keys, done: (c) => repeated(guard, c, () => notice.done(c)) }
        attempt = 1
      }
      if (ctx.signal.aborted) return
      throw new InlayError('INTERNAL', `${guard.name} ended its notices.`)
    } catch (cause) {
      if (ctx.signal.aborted) return
      const error = typed(guard, cause, ctx)
      if (!error.retryable || guard.closed) throw error
      await sleep(Math.min(firstDelayMs * 2 ** (attempt - 1), longestDelayMs), undefined, { signal: ctx.signal }).catch(() => {})
    }
  }
}

function query(of: Query, after: Key | undefined): Query {
  return after === undefined ? of : { ...of, after }
}

/** What became of an operation whose answer was lost, by the row that is there now; undefined: it was not done, or may be repeated. */
function landed(op: Write, row: Row | undefined, givenRevs: boolean, attached: boolean): Written | undefined {
  const key = op.key!
  if (op.kind === 'remove') return row === undefined ? { status: 'done', key } : undefined
  if (row === undefined) return undefined
  // Where revs are not given, content that is as it was to be is taken for ours.
  const mine = givenRevs ? row.rev === op.as : row.rev !== ('rev' in op ? op.rev : undefined) && holds(op, row.doc, attached)
  if (mine) return { status: 'done', key, rev: row.rev }
  if (op.kind === 'insert') return { status: 'exists', key }
  return op.rev === undefined || op.rev === row.rev ? undefined : { status: 'unknown', key }
}

function holds(op: Exclude<Write, { readonly kind: 'remove' }>, doc: Doc, attached: boolean): boolean {
  // A table has its key and its defaults beside what was given, and null for nothing.
  if (attached) return Object.entries(op.kind === 'patch' ? op.set : op.doc).every(([field, value]) => same(doc[field] ?? null, value)) && (op.kind !== 'patch' || op.unset.every((field) => (doc[field] ?? null) === null))
  return op.kind === 'patch' ? same({ ...doc, ...op.set }, doc) && op.unset.every((field) => !Object.hasOwn(doc, field)) : same(doc, op.doc)
}

function* batches<T>(list: readonly T[], size: number | undefined): Iterable<readonly T[]> {
  if (size === undefined || list.length <= size) yield list
  else for (let i = 0; i < list.length; i += size) yield list.slice(i, i + size)
}

export function guardArtifacts(next: ArtifactStore, guard: Guard): ArtifactStore {
  const stream = <T>(ctx: Ctx, open: () => AsyncIterable<T>): AsyncIterable<T> => guarded(guard, ctx, open)
  return {
    write: async (id, body, ctx) => {
      stopped(guard, ctx)
      await next.write(id, body, ctx).catch((error: unknown) => { throw typed(guard, error, ctx) })
    },
    read: (id, range, ctx) => stream(ctx, () => next.read(id, range, ctx)),
    readMany: (ids, ctx) => stream(ctx, () => next.readMany(ids, ctx)),
    list: (ctx) => stream(ctx, () => next.list(ctx)),
    remove: (ids, ctx, olderThanMs) => repeated(guard, ctx, () => next.remove(ids, ctx, olderThanMs)),
  }
}

async function* guarded<T>(guard: Guard, ctx: Ctx, open: () => AsyncIterable<T>): AsyncIterable<T> {
  stopped(guard, ctx)
  try {
    for await (const part of open()) {
      yield part
      stopped(guard, ctx)
    }
  } catch (error) {
    throw typed(guard, error, ctx)
  }
}

export function guardVectors(next: VectorSearch, guard: Guard): VectorSearch {
  const call = <T>(ctx: Ctx, work: () => Promise<T>): Promise<T> => repeated(guard, ctx, () => race(work(), ctx))
  return {
    capabilities: next.capabilities,
    create: (index, ctx) => call(ctx, () => next.create(index, ctx)),
    drop: (id, ctx) => call(ctx, () => next.drop(id, ctx)),
    put: (id, items, ctx) => call(ctx, () => next.put(id, items, ctx)),
    remove: (id, keys, ctx) => call(ctx, () => next.remove(id, keys, ctx)),
    search: (index, search, ctx) => call(ctx, () => next.search(index, search, ctx)),
    settled: (id, ctx) => call(ctx, () => next.settled(id, ctx)),
  }
}
