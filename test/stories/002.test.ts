/** Story 002 on every backend: examples/stories/002-mnist.ts; and LeNets on MNIST, against plain onnxruntime. */
import ort from 'onnxruntime-node'
import { describe, expect, it, type TestContext } from 'vitest'
import { mnist, type Digit } from '../../examples/stories/digits.ts'
import { run } from '../../examples/stories/002-mnist.ts'
import { model, step, type Tensor } from '../../index.ts'
import { pixels, type Image, type PixelsOptions } from '../../plugins/pillow-sharp/index.ts'
import { open } from '../support/backends.ts'
import { noSharedData, sharedData } from '../support/shared-data.ts'
import { backends, place } from './places.ts'

const shared = (path: string, { skip }: TestContext): string => sharedData(path) ?? skip(noSharedData(path))

describe.each(backends)('story 002 on $name', (backend) => {
  it('runs without any data', async (ctx) => {
    const { ten, tenInDatabase, right, mistakes, ...numbers } = await run({ ...place(ctx, backend), log: () => {} })
    expect(numbers).toEqual({
      digits: 'drawn', classifier: 'nearest_mean', equal: 900, path: '_outputs.img.nearest_mean', filled: 900, listeners: ['nearest_mean/img (ready)'], outputs: { done: 100, failed: 0, pending: 0 }, updated: 100, rows: 1000, ok: true,
    })
    expect(ten).toHaveLength(10)
    expect(tenInDatabase).toEqual(ten)
    expect(right + mistakes).toBe(1000)
    expect(right).toBeGreaterThan(900)
  })

  it('reads MNIST with a LeNet5', async (ctx) => {
    const data = shared('mnist', ctx), lenet = shared('models/lenet/jinsoo9595-lenet.onnx', ctx), ten = [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    expect(await run({ ...place(ctx, backend), data, lenet, log: () => {} })).toEqual({
      digits: 'MNIST', classifier: 'lenet5', equal: 900, ten, tenInDatabase: ten, path: '_outputs.img.lenet5', filled: 900, listeners: ['lenet5/img (ready)'], outputs: { done: 100, failed: 0, pending: 0 }, updated: 100, rows: 1000,
      right: 991, mistakes: 9, ok: true,
    })
  })
})

/** Each graph with the pixels that it wants, and what plain onnxruntime scores with it on the 10,000 pictures of t10k. */
const lenets: readonly { readonly name: string; readonly path: string; readonly wants: PixelsOptions; readonly batch: number; readonly score: number }[] = [
  { name: 'batch_of_one', path: 'models/lenet/fyh620-lenet.onnx', wants: { mean: 0.1307, std: 0.3081 }, batch: 1, score: 98.13 },
  { name: 'free_batch', path: 'models/lenet/fyh620-lenet-dynbatch.onnx', wants: { mean: 0.1307, std: 0.3081 }, batch: 100, score: 98.13 },
  { name: 'larger', path: 'models/lenet/jinsoo9595-lenet.onnx', wants: { resize: { width: 32, height: 32 }, mean: 0.1307, std: 0.3081 }, batch: 1, score: 98.64 },
  { name: 'batch_of_ten', path: 'models/lenet/ccoltong-lenet.onnx', wants: { scale: 1 }, batch: 10, score: 99.11 },
  { name: 'cntk', path: 'models/mnist/ort-cntk-mnist-8.onnx', wants: { mean: 0.1307, std: 0.3081 }, batch: 1, score: 98.93 },
  { name: 'external', path: 'models/mnist/rten-external/mnist.onnx', wants: { mean: 0.1307, std: 0.3081 }, batch: 1, score: 94.66 },
]

/** What plain onnxruntime predicts for the first thousand, once for all backends. */
const plainly: Record<string, Promise<readonly number[]>> = {}

describe.each(backends)('LeNets on $name', (backend) => {
  const count = backend.name === 'memory' ? 10_000 : 1000
  it(`read ${count} pictures of MNIST as plain onnxruntime does`, { timeout: 120_000 }, async (ctx) => {
    const digits = mnist(shared('mnist', ctx), count), db = await open(ctx, backend), collection = db.collection<Digit & { readonly n: number }>('mnist')
    await collection.insert(digits.map((digit, n) => ({ ...digit, n })))
    const listeners = []
    for (const { name, path, wants } of lenets) {
      const lenet = model<Image, number>(name, { onnx: shared(path, ctx), input: pixels(`${name}@1`, { ...wants, colour: 'grey' }), output: step('best@1', ({ data }: Tensor) => best(data as Float32Array)) })
      listeners.push(await (await db.add(lenet)).listen(collection.find(), 'img', { maxChunkSize: 100 }))
    }
    const rows = await collection.find().select('n', 'class').toArray(), predicted = listeners.map((listener) => new Map(rows.map((row) => [row.n, listener.of(row)])))
    expect(rows).toHaveLength(count)
    for (const [i, { name, path, wants, batch, score }] of lenets.entries()) {
      const plain = await (plainly[name] ??= byHand(shared(path, ctx), digits.slice(0, 1000), wants, batch))
      expect(plain.map((_, n) => predicted[i]!.get(n)), name).toEqual(plain)
      if (count === 10_000) expect(digits.filter((digit, n) => predicted[i]!.get(n) === digit.class).length / 100, name).toBeCloseTo(score, 2)
    }
  })
})

const best = (scores: Float32Array): number => scores.indexOf(Math.max(...scores))

/** What onnxruntime predicts in a loop of its own. */
async function byHand(path: string, digits: readonly Digit[], wants: PixelsOptions, batch: number): Promise<readonly number[]> {
  const session = await ort.InferenceSession.create(path), tensors = await pixels('by-hand@1', { ...wants, colour: 'grey' }).batch!(digits.map(({ img }) => img)) as readonly Tensor[]
  const [input, output] = [session.inputNames[0]!, session.outputNames[0]!], { dims } = tensors[0]!, size = dims.reduce((a, b) => a * b), predicted: number[] = []
  for (let at = 0; at < tensors.length; at += batch) {
    const all = new Float32Array(batch * size)
    for (let i = 0; i < batch; i++) all.set(tensors[at + i]!.data as Float32Array, i * size)
    const scores = (await session.run({ [input]: new ort.Tensor('float32', all, [batch, ...dims]) }))[output]!.data as Float32Array
    for (let i = 0; i < batch; i++) predicted.push(best(scores.subarray(i * 10, (i + 1) * 10)))
  }
  await session.release()
  return predicted
}
