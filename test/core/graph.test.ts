import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Ctx, Port, Session, Tensor } from '../../core/contract.ts'
import { InlayError } from '../../core/errors.ts'
import { runGraph, type GraphItem } from '../../core/graph.ts'
import { sizeOf } from '../../core/tensor.ts'

type Tensors = Readonly<Record<string, Tensor>>
const ctx: Ctx = { signal: new AbortController().signal }
const float32 = (dims: readonly number[], data: readonly number[]): Tensor => ({ type: 'float32', dims, data: Float32Array.from(data) })
const numbers = (tensor: Tensor | undefined): readonly number[] => Array.from(tensor!.data as Float32Array, Number)

/** A session that computes in this process and remembers the dimensions of what it was fed. */
const sessionOf = (inputs: readonly Port[], compute: (feeds: Tensors) => Tensors): Session & { readonly fed: (readonly number[])[] } => {
  const fed: (readonly number[])[] = []
  return { id: crypto.randomUUID(), device: 'cpu', inputs, outputs: [], fed, run: async (feeds) => { fed.push(feeds[inputs[0]!.name]!.dims); return compute(feeds) }, close: async () => {} }
}
/** y = x + 1 in the shape of x, and s: the sum of each row. */
const addOne = (...dims: Port['dims']): ReturnType<typeof sessionOf> => sessionOf([{ name: 'x', type: 'float32', dims }], ({ x }) => {
  const [rows, ...rest] = x!.dims as [number, ...number[]], all = numbers(x), size = sizeOf(rest)
  return { y: float32(x!.dims, all.map((value) => value + 1)), s: float32([rows], Array.from({ length: rows }, (_, i) => all.slice(i * size, (i + 1) * size).reduce((a, b) => a + b, 0))) }
})
const vectors = (count: number, length = 2): Float32Array[] => Array.from({ length: count }, (_, i) => new Float32Array(length).fill(i))
const fault = async (session: Session, ...items: readonly unknown[]): Promise<string> => runGraph(session, items as readonly GraphItem[], ctx).then(() => 'no error', (error: unknown) => (error instanceof InlayError ? `${error.code} ${error.message}` : String(error)))

describe('the batch dimension', () => {
  it('of any size takes all items up to maxBatch', async () => {
    const session = addOne('batch', 2)
    const results = await runGraph(session, vectors(600), ctx)
    expect(session.fed).toEqual([[256, 2], [256, 2], [88, 2]])
    expect(results.map(({ y, s }) => [y!.dims, ...numbers(y), s!.dims, ...numbers(s)])).toEqual(Array.from({ length: 600 }, (_, i) => [[2], i + 1, i + 1, [], 2 * i]))
    await runGraph(session, vectors(600), ctx, { maxBatch: 1000 })
    expect(session.fed.at(-1)).toEqual([600, 2])
  })

  it('of a fixed size takes that many, the last padded', async () => {
    const session = addOne(4, 2), results = await runGraph(session, vectors(6), ctx)
    expect(session.fed).toEqual([[4, 2], [4, 2]])
    expect(results.map(({ y }) => numbers(y))).toEqual(vectors(6).map((_, i) => [i + 1, i + 1]))
    const one = addOne(1, 2)
    expect((await runGraph(one, vectors(3), ctx)).map(({ y }) => numbers(y))).toEqual([[1, 1], [2, 2], [3, 3]])
    expect(one.fed).toEqual([[1, 2], [1, 2], [1, 2]])
  })

  it('may be absent: then the graph runs once per item', async () => {
    const session = addOne(2), results = await runGraph(session, vectors(3), ctx)
    expect(session.fed).toEqual([[2], [2], [2]])
    expect(results.map(({ y }) => [y!.dims, ...numbers(y)])).toEqual([[[2], 1, 1], [[2], 2, 2], [[2], 3, 3]])
  })

  it('may be absent from some inputs: then each item is a batch of one', async () => {
    const session = sessionOf([{ name: 'x', type: 'float32', dims: ['batch', 2] }, { name: 'by', type: 'float32', dims: [] }], ({ x, by }) => ({ y: float32(x!.dims, numbers(x).map((value) => value * numbers(by)[0]!)) }))
    const results = await runGraph(session, [{ x: float32([2], [1, 2]), by: float32([], [10]) }, { x: float32([2], [1, 2]), by: float32([], [-1]) }], ctx)
    expect(results.map(({ y }) => [y!.dims, ...numbers(y)])).toEqual([[[2], 10, 20], [[2], -1, -2]])
    expect(session.fed).toEqual([[1, 2], [1, 2]])
  })

  it('must be shared by the inputs that have it', async () => {
    const session = sessionOf([{ name: 'x', type: 'float32', dims: ['batch', 2] }, { name: 'state', type: 'float32', dims: [2, 2] }], (feeds) => feeds)
    expect(await fault(session, { x: float32([2], [1, 2]), state: float32([2], [1, 2]) })).toBe('INVALID_ARGUMENT The inputs "x" float32[batch,2] and "state" float32[2,2] do not share a first dimension, so items cannot be stacked along it. Export the graph with one free batch dimension, or give items that are whole tensors.')
  })

  it('must come first in every output', async () => {
    const mean = sessionOf([{ name: 'x', type: 'float32', dims: ['batch', 2] }], () => ({ y: float32([], [0.5]) }))
    expect(await fault(mean, ...vectors(3))).toBe('INVALID_ARGUMENT The output "y" is float32[] for a batch of 3: its first dimension is not the batch, so it has no value per item. Export the graph with the batch first in every output.')
  })
})

describe('items', () => {
  it('of one shape share a batch; none is lost, reordered or mixed up', async () => {
    await fc.assert(fc.asyncProperty(fc.array(fc.array(fc.integer({ min: -99, max: 99 }), { maxLength: 3 }), { maxLength: 40 }), fc.integer({ min: 1, max: 5 }), fc.constantFrom<string | number>('batch', 1, 3), async (rows, maxBatch, batch) => {
      const session = addOne(batch, 'length'), items = rows.map((row) => Float32Array.from(row))
      const results = await runGraph(session, items, ctx, { maxBatch })
      expect(results.map(({ y, s }) => ({ dims: y!.dims, y: numbers(y), s: numbers(s) }))).toEqual(rows.map((row) => ({ dims: [row.length], y: row.map((value) => value + 1), s: [row.reduce((a, b) => a + b, 0)] })))
      const size = typeof batch === 'number' ? batch : maxBatch
      expect(session.fed.length).toBe([0, 1, 2, 3].reduce((runs, length) => runs + Math.ceil(rows.filter((row) => row.length === length).length / size), 0))
    }), { numRuns: 200 })
  })

  it('may be tensors by name, tensors, typed arrays and parts of larger memory, of any type', async () => {
    const same = (type: string): Session => sessionOf([{ name: 'x', type, dims: ['batch', 2] }], ({ x }) => ({ y: x! }))
    const memory = Float32Array.of(9, 1, 2, 9)
    expect(await runGraph(same('float32'), [memory.subarray(1, 3), { type: 'float32', dims: [2], data: memory.subarray(2) }, { x: float32([2], [5, 6]) }], ctx)).toEqual([{ y: float32([2], [1, 2]) }, { y: float32([2], [2, 9]) }, { y: float32([2], [5, 6]) }])
    expect(await runGraph(same('int64'), [BigInt64Array.of(1n, -2n)], ctx)).toEqual([{ y: { type: 'int64', dims: [2], data: BigInt64Array.of(1n, -2n) } }])
    expect(await runGraph(same('bool'), [Buffer.from([1, 0])], ctx)).toEqual([{ y: { type: 'bool', dims: [2], data: Uint8Array.of(1, 0) } }])
    expect(await runGraph(same('float16'), [Uint16Array.of(1, 2)], ctx)).toEqual([{ y: { type: 'float16', dims: [2], data: Uint16Array.of(1, 2) } }])
    expect(await runGraph(same('string'), [{ type: 'string', dims: [2], data: ['a', 'b'] }, { type: 'string', dims: [2], data: ['c', 'd'] }], ctx)).toEqual([{ y: { type: 'string', dims: [2], data: ['a', 'b'] } }, { y: { type: 'string', dims: [2], data: ['c', 'd'] } }])
    expect(await runGraph(same('float32'), [], ctx)).toEqual([])
  })

  it('get outputs with memory of their own', async () => {
    const results = await runGraph(addOne('batch', 2), vectors(2), ctx)
    const [one, two] = results.map(({ y }) => (y!.data as Float32Array).buffer)
    expect([one === two, one!.byteLength, two!.byteLength]).toEqual([false, 8, 8])
  })

  it('that do not fit are named, with what is expected', async () => {
    const session = addOne('batch', 1, 28)
    expect(await fault(session, float32([1, 28], Array(28).fill(0)), float32([28], Array(28).fill(0)))).toBe('INVALID_ARGUMENT Item 1: The input "x" expects float32[1,28] and was given float32[28].')
    expect(await fault(session, float32([2, 1, 28], Array(56).fill(0)))).toBe('no error')      // As many dimensions as the input: a whole tensor.
    expect(await fault(session, float32([1, 27], Array(27).fill(0)))).toBe('INVALID_ARGUMENT Item 0: The input "x" expects float32[1,28] and was given float32[1,27].')
    expect(await fault(session, new Float32Array(28))).toBe('INVALID_ARGUMENT Item 0: The input "x" expects float32[1,28] and was given float32[28].')
    expect(await fault(session, new Float64Array(28))).toBe('INVALID_ARGUMENT Item 0: The input "x" expects float32[1,28] and was given float64[28].')
    expect(await fault(session, float32([1, 28], [1, 2]))).toBe('INVALID_ARGUMENT Item 0: The input "x" was given 2 elements for float32[1,28], which has 28.')
    expect(await fault(session, { z: float32([1, 28], []) })).toBe('INVALID_ARGUMENT Item 0: The input "x" is missing; float32[1,28] is expected.')
    expect(await fault(session, [1, 2])).toBe('INVALID_ARGUMENT Item 0: [1,2] was given; a tensor { type, dims, data }, a typed array, or an object of tensors by input name is expected.')
    const two = sessionOf([{ name: 'a', type: 'float32', dims: ['n'] }, { name: 'b', type: 'float32', dims: ['n'] }], (feeds) => feeds)
    expect(await fault(two, new Float32Array(1))).toBe('INVALID_ARGUMENT Item 0: A Float32Array was given, and the graph has 2 inputs. Give tensors by name: "a", "b".')
  })
})

describe('callers of one graph', () => {
  /** Each run ends when `next` is called. */
  const gated = (fails: (x: Tensor) => boolean = () => false): { readonly session: Session; readonly fed: number[]; next(): Promise<void>; readonly signals: AbortSignal[] } => {
    const fed: number[] = [], waiting: (() => void)[] = [], signals: AbortSignal[] = []
    const session: Session = {
      id: crypto.randomUUID(), device: 'cpu', inputs: [{ name: 'x', type: 'float32', dims: ['batch', 1] }], outputs: [{ name: 'y', type: 'float32', dims: ['batch', 1] }], close: async () => {},
      run: async ({ x }, { signal }) => {
        fed.push(x!.dims[0]!)
        signals.push(signal)
        await new Promise<void>((resolve) => { waiting.push(resolve) })
        if (fails(x!)) throw new InlayError('INVALID_ARGUMENT', 'bad batch')
        return { y: x! }
      },
    }
    const turn = (): Promise<void> => new Promise((resolve) => { setTimeout(resolve, 5) })
    return { session, fed, signals, next: async () => { await turn(); waiting.shift()?.(); await turn() } }
  }
  const ask = (session: Session, values: readonly number[], signal = ctx.signal): Promise<string> => runGraph(session, values.map((value) => Float32Array.of(value)), { signal }).then((results) => results.map(({ y }) => numbers(y)[0]).join(), (error: unknown) => (error instanceof InlayError ? error.code : String(error)))

  it('share a batch when they come in one tick, and what comes during a run shares the next', async () => {
    const { session, fed, next } = gated()
    const first = [ask(session, [1]), ask({ ...session }, [2, 3]), ask(session, [4])]
    await next()
    expect(await Promise.all(first)).toEqual(['1', '2,3', '4'])
    const running = ask(session, [5])
    await new Promise((resolve) => { setTimeout(resolve, 5) })
    const later = [ask(session, [6]), ask(session, [7])]
    await next()
    await next()
    expect(await Promise.all([running, ...later])).toEqual(['5', '6', '7'])
    expect(fed).toEqual([4, 1, 2])
  })

  it('do not fail of one another: a batch that fails is run apart', async () => {
    const { session, fed, next } = gated((x) => numbers(x).includes(13)), asked = [ask(session, [1]), ask(session, [13, 2]), ask(session, [3])]
    for (let i = 0; i < 4; i++) await next()
    expect(await Promise.all(asked)).toEqual(['1', 'INVALID_ARGUMENT', '3'])
    expect(fed).toEqual([4, 1, 2, 1])
  })

  it('leave the queue at once when they abort; a run that nobody waits for is not begun, and one under way is told', async () => {
    const { session, fed, signals, next } = gated(), one = new AbortController(), two = new AbortController()
    const gone = ask(session, [1], one.signal)
    one.abort()
    expect(await gone).toBe('ABORTED')
    const running = ask(session, [2], two.signal)
    await new Promise((resolve) => { setTimeout(resolve, 5) })
    const queued = [ask(session, [3], two.signal), ask(session, [4])]
    two.abort()
    expect([await running, await queued[0]!, signals.map(({ aborted }) => aborted)]).toEqual(['ABORTED', 'ABORTED', [true]])
    await next()
    await next()
    expect([await queued[1], fed, await ask(session, [5], two.signal)]).toEqual(['4', [1, 1], 'ABORTED'])
  })

  it('are refused beyond some thousands, retryably, and the others are answered', async () => {
    const { session, next } = gated(), asked = Array.from({ length: 4100 }, (_, i) => ask(session, [i % 7]))
    for (let i = 0; i < 20; i++) await next()
    const answers = await Promise.all(asked)
    expect(answers.filter((answer) => answer === 'RESOURCE_EXHAUSTED').length).toBe(4)
    expect(answers.slice(0, 4096)).toEqual(Array.from({ length: 4096 }, (_, i) => String(i % 7)))
  })

  it('share padded batches of a fixed size, but not those of other shapes or outputs', async () => {
    const fixed = addOne(4, 2)
    await Promise.all(vectors(6).map((item) => runGraph(fixed, [item], ctx)))
    expect(fixed.fed).toEqual([[4, 2], [4, 2]])
    const free = addOne('batch', 'length')
    await Promise.all([...vectors(3, 2), ...vectors(3, 5)].map((item) => runGraph(free, [item], ctx)))
    expect(free.fed).toEqual([[3, 2], [3, 5]])
  })

  it('copy no memory where items lie one after the other, and give away what was stacked', async () => {
    const memory = Float32Array.from({ length: 12 }, (_, i) => i), seen: [boolean, number][] = []
    const session: Session = { ...addOne('batch', 2), run: async ({ x }, _, { transfer = [] } = {}) => { seen.push([(x!.data as Float32Array).buffer === memory.buffer, transfer.length]); return { y: x! } } }
    const views = Array.from({ length: 6 }, (_, i) => memory.subarray(2 * i, 2 * i + 2))
    const results = await runGraph(session, views, ctx)
    expect(results.map(({ y }) => numbers(y))).toEqual(views.map((view) => [...view]))
    await runGraph(session, views.toReversed(), ctx)
    expect(seen).toEqual([[true, 0], [false, 1]])
  })
})
