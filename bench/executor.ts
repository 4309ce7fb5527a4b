/** The executor against onnxruntime-node in this thread on the same batches, shared batches against single runs, and what a heavy run does to the event loop. Prints; needs ../shared/data. */
import { readFileSync } from 'node:fs'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import ort from 'onnxruntime-node'
import type { Ctx, Tensor } from '../core/contract.ts'
import { runGraph } from '../core/graph.ts'
import { sizeOf } from '../core/tensor.ts'
import { OnnxExecutor } from '../plugins/torch-onnx/executor.ts'
import { noSharedData, sharedData } from '../test/support/shared-data.ts'

const ctx: Ctx = { signal: new AbortController().signal }, executor = new OnnxExecutor()
const bytesOf = (path: string): Uint8Array => {
  const file = sharedData(path)
  if (file === undefined) throw new Error(noSharedData(path))
  return new Uint8Array(readFileSync(file))
}
const random = (dims: readonly number[]): Tensor => ({ type: 'float32', dims, data: Float32Array.from({ length: sizeOf(dims) }, () => Math.random() * 2 - 1) })
const timed = async (work: () => Promise<unknown>): Promise<number> => {
  const start = performance.now()
  await work()
  return performance.now() - start
}
const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!
const ms = (value: number): string => `${value.toFixed(2)} ms`

/** Both in turns, so that what else the machine does meets both; a pause between, because the threads of a raw session spin on for a while after a run. */
async function compare(name: string, rounds: number, ours: () => Promise<unknown>, theirs: () => Promise<unknown>): Promise<void> {
  for (let i = 0; i < 3; i++) {
    await ours()
    await theirs()
  }
  const mine: number[] = [], other: number[] = []
  for (let turn = 0; turn < 6; turn++) {
    for (const [work, times] of [[ours, mine], [theirs, other]] as const) {
      await sleep(50)
      await work()
      for (let i = 0; i < rounds / 6; i++) times.push(await timed(work))
    }
  }
  console.log(`${name}: median ${ms(median(mine))} against ${ms(median(other))} (${(median(mine) / median(other)).toFixed(3)}x), least ${ms(Math.min(...mine))} against ${ms(Math.min(...other))} (${(Math.min(...mine) / Math.min(...other)).toFixed(3)}x)`)
}

for (const { name, path, dims, rounds } of [
  { name: 'LeNet, batch of 256', path: 'models/lenet/fyh620-lenet-dynbatch.onnx', dims: [256, 1, 28, 28], rounds: 120 },
  { name: 'image tower, batch of 32', path: 'models/tinyimagenet-dual-encoder/image_encoder.onnx', dims: [32, 3, 128, 128], rounds: 30 },
]) {
  const bytes = bytesOf(path), session = await executor.load({ bytes }, 'cpu', ctx), raw = await ort.InferenceSession.create(bytes), input = session.inputs[0]!.name, batch = random(dims)
  const data = batch.data as Float32Array, each = sizeOf(dims.slice(1))
  const items = Array.from({ length: dims[0]! }, (_, i): Tensor => ({ type: 'float32', dims: dims.slice(1), data: data.subarray(i * each, (i + 1) * each) })), apart = items.map((item): Tensor => ({ ...item, data: (item.data as Float32Array).slice() }))
  const theirs = async (): Promise<void> => { for (const tensor of Object.values(await raw.run({ [input]: new ort.Tensor('float32', data, dims) }))) tensor.dispose() }
  await compare(`${name}, Session.run against raw`, rounds, () => session.run({ [input]: batch }, ctx), theirs)
  await compare(`${name}, runGraph on views of one buffer against raw`, rounds, () => runGraph(session, items, ctx), theirs)
  const byHand = async (): Promise<void> => {
    const all = new Float32Array(data.length)
    apart.forEach((item, i) => { all.set(item.data as Float32Array, i * each) })
    for (const tensor of Object.values(await raw.run({ [input]: new ort.Tensor('float32', all, dims) }))) tensor.dispose()
  }
  await compare(`${name}, runGraph on items apart against stacking by hand and raw`, rounds, () => runGraph(session, apart, ctx), byHand)
  const given = Array.from({ length: rounds + 12 }, () => data.slice())
  await compare(`${name}, Session.run on memory given away against raw`, rounds, () => { const own = given.pop()!; return session.run({ [input]: { ...batch, data: own } }, ctx, { transfer: [own.buffer] }) }, theirs)
}

{
  // Many batches: while one runs the next is put together, so that the way to the thread and back costs little.
  const bytes = bytesOf('models/lenet/fyh620-lenet-dynbatch.onnx'), session = await executor.load({ bytes }, 'cpu', ctx), raw = await ort.InferenceSession.create(bytes), n = 10_240, each = 784, batch = 256
  const data = random([n, 1, 28, 28]).data as Float32Array, items = Array.from({ length: n }, (_, i): Tensor => ({ type: 'float32', dims: [1, 28, 28], data: data.subarray(i * each, (i + 1) * each) }))
  await compare('LeNet, 10,240 items in batches of 256, runGraph against raw', 18, () => runGraph(session, items, ctx), async () => {
    for (let i = 0; i < n; i += batch) for (const tensor of Object.values(await raw.run({ 'input.1': new ort.Tensor('float32', data.subarray(i * each, (i + batch) * each), [batch, 1, 28, 28]) }))) tensor.dispose()
  })
}

const lenet = await executor.load({ bytes: bytesOf('models/lenet/fyh620-lenet-dynbatch.onnx') }, 'cpu', ctx), singles = Array.from({ length: 64 }, () => random([1, 28, 28]))
const together = async (): Promise<void> => { await Promise.all(singles.map((item) => runGraph(lenet, [item], ctx))) }
const oneByOne = async (): Promise<void> => { for (const item of singles) await lenet.run({ 'input.1': { ...item, dims: [1, 1, 28, 28] } }, ctx) }
await compare('64 concurrent LeNet predictions, shared against one by one', 40, together, oneByOne)

const tower = await executor.load({ bytes: bytesOf('models/tinyimagenet-dual-encoder/image_encoder.onnx') }, 'cpu', ctx), heavy = random([128, 3, 128, 128])
const delay = monitorEventLoopDelay({ resolution: 1 })
delay.enable()
const took = await timed(() => tower.run({ pixel_values: heavy }, ctx))
delay.disable()
console.log(`event loop during a run of ${ms(took)}: delay p50 ${ms(delay.percentile(50) / 1e6)}, p99 ${ms(delay.percentile(99) / 1e6)}, most ${ms(delay.max / 1e6)} (1 ms is the resolution)`)
await executor.close()
