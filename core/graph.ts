/** Runs a graph over lists of items: equal shapes are stacked into batches, also across callers, and the outputs are taken apart again. */
import type { Ctx, Port, Session, Tensor, TypedArray } from './contract.ts'
import { InlayError, quote } from './errors.ts'
import { aborted } from './guard.ts'
import { arrayOf, checkFeeds, elementArrays, isTensor, shapeText } from './tensor.ts'
import { bytesOf, isDoc, typedArrays, type TypedArrayName } from './value.ts'

type Tensors = Readonly<Record<string, Tensor>>
/** One row, without a batch dimension: tensors by input name; or a tensor, or the elements of a rank 1 tensor, for the only input. */
export type GraphItem = Tensor | Tensors | TypedArray | Uint8Array
export interface GraphOptions {
  /** Items of one run. Default 256. */
  readonly maxBatch?: number
  /** Only these outputs of the graph; absent: all. */
  readonly outputs?: readonly string[]
  /** Inputs that are the same for all items, as whole tensors: they are no part of an item. */
  readonly constants?: Tensors
  /** Nobody else holds the memory of the items: where a batch is all of a buffer it is taken instead of copied. */
  readonly fresh?: boolean
}

/**
 * The outputs of `session` for each item, in order, each without the batch dimension and with memory of its own. An input with one dimension more than the
 * item is batched along its first: a free one takes up to `maxBatch` (256) items, a fixed one exactly that many, the last batch being padded with its last
 * item. An input with as many dimensions as the item has no batch; such a graph runs once per item.
 *
 * What several callers ask of sessions of one `id` in the same tick, or while a run is under way, shares batches. If one fails, the items of each caller run
 * apart; a caller that aborts leaves the queue. The memory of items is read until the call ends.
 */
export async function runGraph(session: Session, items: readonly GraphItem[], ctx: Ctx, { maxBatch = 256, outputs, constants = {}, fresh = false }: GraphOptions = {}): Promise<readonly Tensors[]> {
  const known = session.outputs.map(({ name }) => name), unknown = outputs?.find((name) => !known.includes(name))
  if (unknown !== undefined) throw new InlayError('INVALID_ARGUMENT', `The graph has no output ${quote(unknown)}. It has ${known.map(quote).join(', ') || 'none'}.`)
  const inputs = session.inputs.filter(({ name }) => constants[name] === undefined), rows = items.map((item, i) => rowOf(inputs, item, `Item ${i}: `))
  if (rows.length === 0) return []
  const groups = Map.groupBy(rows.keys(), (i) => shapesOf(inputs, rows[i]!)), always = Object.keys(constants).length === 0 ? undefined : identify(constants)
  const lanes = [...groups].map(([shapes, indexes]) => ({ key: JSON.stringify([shapes, maxBatch, outputs, always]), indexes, batch: { ...batchOf(inputs, rows[indexes[0]!]!, maxBatch), constants } }))
  if (ctx.signal.aborted) throw aborted(ctx.signal)
  return new Promise((resolve, reject) => {
    const queue = queueOf(session.id)
    const stop = (): void => caller.fail(aborted(ctx.signal))
    const leave = (): void => {
      ctx.signal.removeEventListener('abort', stop)
      queue.leave(caller)
    }
    const caller: Caller = { turn: turns++, session, outputs, fresh, results: [], left: rows.length, over: false, resolve: (results) => { leave(); resolve(results) }, fail: (error) => { leave(); reject(error) } }
    ctx.signal.addEventListener('abort', stop, { once: true })
    try {
      queue.add(caller, lanes.map(({ key, indexes, batch }) => ({ key, batch, jobs: indexes.map((index) => ({ caller, index, row: rows[index]! })) })))
    } catch (error) {
      caller.fail(error)
    }
  })
}

function rowOf(inputs: readonly Port[], item: GraphItem, subject: string): Tensors {
  const bare = ArrayBuffer.isView(item)
  if (inputs.length !== 1 && (bare || isTensor(item))) {
    throw new InlayError('INVALID_ARGUMENT', `${subject}${bare ? `A ${arrayOf(item)}` : 'A single tensor'} was given, and the graph has ${inputs.length} inputs. Give tensors by name: ${inputs.map((port) => quote(port.name)).join(', ')}.`)
  }
  const only = inputs[0]!
  if (!isDoc(item) && !bare) throw new InlayError('INVALID_ARGUMENT', `${subject}${quote(item)} was given; a tensor { type, dims, data }, a typed array, or an object of tensors by input name is expected.`)
  const row: Tensors = bare ? { [only.name]: vectorOf(only, item) } : isTensor(item) ? { [only.name]: item } : item
  const ports = inputs.map((port) => (row[port.name]?.dims?.length === port.dims.length ? port : { ...port, dims: port.dims.slice(1) }))
  checkFeeds(ports, row, subject)
  return row
}

/** The elements of a rank 1 tensor for a port, which decides between types that lie in the same array. */
export function vectorOf(port: Port, data: TypedArray | Uint8Array): Tensor {
  const array = arrayOf(data)
  const type = elementArrays[port.type] === array ? port.type : Object.keys(elementArrays).find((name) => elementArrays[name] === array) ?? array
  return { type, dims: [data.length], data }
}

/** Equal for rows that may share a batch. */
function shapesOf(inputs: readonly Port[], row: Tensors): string {
  return inputs.map(({ name }) => shapeText(row[name]!)).join()
}

/** Which inputs are stacked, how many items a run takes, and the size that it must have where the graph fixes it. */
function batchOf(inputs: readonly Port[], row: Tensors, maxBatch: number): Omit<Batch, 'constants'> {
  const batched = inputs.filter(({ name, dims }) => dims.length > row[name]!.dims.length)
  const names = new Set(batched.map(({ name }) => name))
  const sizes = new Set(batched.map(({ dims: [first] }) => (typeof first === 'number' ? first : undefined)))
  if (sizes.size > 1) {
    throw new InlayError('INVALID_ARGUMENT', `The inputs ${batched.map((port) => `${quote(port.name)} ${shapeText(port)}`).join(' and ')} do not share a first dimension, so items cannot be stacked along it. Export the graph with one free batch dimension, or give items that are whole tensors.`)
  }
  const [fixed] = sizes, bytes = batched.reduce((bytes, { name }) => bytes + ((row[name]!.data as Partial<Uint8Array>).byteLength ?? 0), 0)
  const items = batched.length < inputs.length ? 1 : fixed || Math.max(1, Math.min(maxBatch, Math.floor(maxBytes / Math.max(1, bytes))))
  return { inputs: names, items, ...(fixed === undefined ? {} : { fixed }) }
}

/** One tensor of equal ones, along a new first dimension: where they lie one after the other in memory it is a view on it, else in memory of its own. `own` gets what may be taken. */
function stack(tensors: readonly Tensor[], own: ArrayBuffer[], fresh: boolean): Tensor {
  const { type, dims, data } = tensors[0]!
  const stacked = [tensors.length, ...dims]
  if (!ArrayBuffer.isView(data)) return { type, dims: stacked, data: tensors.flatMap((tensor) => tensor.data as readonly string[]) }
  const { buffer, byteOffset, byteLength } = data, length = (data as Uint8Array).length, array = typedArrays[arrayOf(data) as TypedArrayName] as unknown as ViewMaker
  if (tensors.every(({ data }, i) => ArrayBuffer.isView(data) && data.buffer === buffer && data.byteOffset === byteOffset + i * byteLength)) {
    if (fresh && buffer instanceof ArrayBuffer && buffer.byteLength === tensors.length * byteLength) own.push(buffer)
    return { type, dims: stacked, data: new array(buffer, byteOffset, tensors.length * length) }
  }
  const bytes = new Uint8Array(tensors.length * byteLength)
  tensors.forEach((tensor, i) => { bytes.set(bytesOf(tensor.data as Uint8Array), i * byteLength) })
  own.push(bytes.buffer)
  return { type, dims: stacked, data: new array(bytes.buffer) }
}

/** Constants that are the same object share batches. */
function identify(constants: Tensors): number {
  const known = identities.get(constants) ?? ++lastIdentity
  identities.set(constants, known)
  return known
}
const identities = new WeakMap<Tensors, number>()
let lastIdentity = 0

interface ViewMaker { new (buffer: ArrayBufferLike, byteOffset?: number, length?: number): TypedArray }

/** Part `i` of `size` of each tensor along its first dimension, copied. */
function unstack(outputs: Tensors, i: number, size: number): Tensors {
  return Object.fromEntries(Object.entries(outputs).map(([name, output]) => {
    if (output.dims[0] !== size) {
      throw new InlayError('INVALID_ARGUMENT', `The output ${quote(name)} is ${shapeText(output)} for a batch of ${size}: its first dimension is not the batch, so it has no value per item. Export the graph with the batch first in every output.`)
    }
    const data = output.data as TypedArray | readonly string[], length = data.length / size
    return [name, { type: output.type, dims: output.dims.slice(1), data: data.slice(i * length, (i + 1) * length) }]
  }))
}

/** How items of one shape make a batch. */
interface Batch { readonly inputs: ReadonlySet<string>; readonly items: number; readonly fixed?: number; readonly constants: Tensors }
interface Caller {
  /** Who came first has the lower one. */
  readonly turn: number
  readonly session: Session
  readonly outputs: readonly string[] | undefined
  readonly fresh: boolean
  readonly results: Tensors[]
  left: number
  /** Answered, or gone. */
  over: boolean
  resolve(results: readonly Tensors[]): void
  fail(error: unknown): void
}
interface Job { readonly caller: Caller; readonly index: number; readonly row: Tensors }
/** Jobs that may share a run. */
interface Lane { readonly key: string; readonly batch: Batch; readonly jobs: Job[] }
interface Queue {
  add(caller: Caller, lanes: readonly Lane[]): void
  leave(caller: Caller): void
}

const maxBytes = 2 ** 26, maxCallers = 4096
/** Full batches follow one another without a pause: while one runs the next is put together. */
const maxRuns = 2
const queues = new Map<string, Queue>()
let turns = 0

/** The queue of a graph, which is forgotten when nobody waits. */
function queueOf(id: string): Queue {
  const there = queues.get(id)
  if (there !== undefined) return there
  const lanes = new Map<string, Lane>(), callers = new Set<Caller>(), runs = new Set<{ readonly jobs: readonly Job[]; readonly abort: AbortController }>()
  let ticking = false

  const tick = (): void => {
    if (ticking) return
    ticking = true
    setImmediate(() => {
      ticking = false
      begin()
    })
  }
  /** Begins what can begin: the longest waiting first; beside a run only full batches. */
  const begin = (): void => {
    while (runs.size < maxRuns) {
      const ready = [...lanes.values()].filter(({ jobs, batch }) => runs.size === 0 || jobs.length >= batch.items)
      if (ready.length === 0) return
      const lane = ready.reduce((first, lane) => (lane.jobs[0]!.caller.turn < first.jobs[0]!.caller.turn ? lane : first))
      const jobs = lane.jobs.splice(0, lane.batch.items), run = { jobs, abort: new AbortController() }
      if (lane.jobs.length === 0) lanes.delete(lane.key)
      runs.add(run)
      void shared(lane.batch, jobs, run.abort.signal).finally(() => {
        runs.delete(run)
        tick()      // Callers that were answered may ask again at once.
      })
    }
  }
  const queue: Queue = {
    add(caller, more) {
      if (callers.size >= maxCallers) throw new InlayError('RESOURCE_EXHAUSTED', `${callers.size} calls of one graph wait already, and no more are taken. Call again later, or give many items in one call.`, { retryable: true, details: { waiting: callers.size } })
      callers.add(caller)
      for (const { key, batch, jobs } of more) {
        const lane = lanes.get(key)
        if (lane === undefined) lanes.set(key, { key, batch, jobs: [...jobs] })
        else for (const job of jobs) lane.jobs.push(job)
      }
      tick()
    },
    leave(caller) {
      caller.over = true
      callers.delete(caller)
      if (caller.left > 0) {
        for (const [key, { jobs, ...lane }] of lanes) {
          const others = jobs.filter((job) => job.caller !== caller)
          if (others.length === 0) lanes.delete(key)
          else if (others.length < jobs.length) lanes.set(key, { ...lane, jobs: others })
        }
        for (const { jobs, abort } of runs) if (jobs.every(({ caller }) => caller.over)) abort.abort()
      }
      if (callers.size === 0) queues.delete(id)
    },
  }
  queues.set(id, queue)
  return queue
}

/** Runs jobs as one batch; where that fails, those of each caller apart, so that nobody fails of another's items. Never rejects. */
async function shared(batch: Batch, jobs: readonly Job[], signal: AbortSignal): Promise<void> {
  try {
    await runJobs(batch, jobs, signal)
  } catch (error) {
    const apart = [...Map.groupBy(jobs.filter(({ caller }) => !caller.over), ({ caller }) => caller)]
    for (const [caller, own] of apart) {
      if (apart.length === 1 && own.length === jobs.length) caller.fail(error)
      else if (!caller.over) await runJobs(batch, own, signal).catch((error: unknown) => { if (!caller.over) caller.fail(error) })
    }
  }
}

async function runJobs({ inputs, fixed, constants }: Batch, jobs: readonly Job[], signal: AbortSignal): Promise<void> {
  const { session, outputs } = jobs[0]!.caller, fresh = jobs.every(({ caller }) => caller.fresh), size = fixed || jobs.length, transfer: ArrayBuffer[] = []
  const padded = Array.from({ length: size }, (_, i) => jobs[Math.min(i, jobs.length - 1)]!.row)
  const feeds = Object.fromEntries(session.inputs.map(({ name }) => [name, constants[name] ?? (inputs.has(name) ? stack(padded.map((row) => row[name]!), transfer, fresh) : padded[0]![name]!)]))
  const results = await session.run(feeds, { signal }, { transfer, ...(outputs === undefined ? {} : { outputs }) })
  const parts = inputs.size === 0 ? [results] : jobs.map((_, i) => unstack(results, i, size))
  jobs.forEach(({ caller, index }, i) => {
    if (caller.over) return
    caller.results[index] = parts[i]!
    if (--caller.left === 0) caller.resolve(caller.results)
  })
}
