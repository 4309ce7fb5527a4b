import { readFile } from 'node:fs/promises'
import { describe, expect, it, onTestFinished } from 'vitest'
import type { Ctx, Tensor } from '../../core/contract.ts'
import { runGraph } from '../../core/graph.ts'
import { sizeOf } from '../../core/tensor.ts'
import { OnnxExecutor } from '../../plugins/torch-onnx/executor.ts'
import { noSharedData, sharedData } from '../support/shared-data.ts'

const ctx: Ctx = { signal: new AbortController().signal }

describe('the size of a batch', () => {
  it.for([
    { path: 'lenet/fyh620-lenet-dynbatch.onnx', dims: [1, 28, 28] },
    { path: 'lenet/fyh620-lenet.onnx', dims: [1, 28, 28] },
    { path: 'lenet/ccoltong-lenet.onnx', dims: [1, 28, 28] },
    { path: 'vision/winml-cifar10-ImageClassifier.onnx', dims: [3, 32, 32] },
    { path: 'tinyimagenet-dual-encoder/image_encoder.onnx', dims: [3, 128, 128] },
  ])('changes no byte of the outputs: $path', async ({ path, dims }, { skip }) => {
    const file = sharedData(`models/${path}`) ?? skip(noSharedData(`models/${path}`)), executor = new OnnxExecutor()
    onTestFinished(() => executor.close())
    const session = await executor.load({ bytes: await readFile(file) }, 'cpu', ctx), size = sizeOf(dims)
    const items = Array.from({ length: 24 }, (_, n): Tensor => ({ type: 'float32', dims, data: Float32Array.from({ length: size }, (_, i) => Math.sin(n * 1.7 + i * 0.37)) }))
    const outputs = async (maxBatch: number): Promise<readonly number[]> => (await runGraph(session, items, ctx, { maxBatch })).flatMap((result) => [...Object.values(result)[0]!.data as Float32Array])
    const whole = await outputs(256)
    for (const maxBatch of [256, 1, 2, 7]) expect(await outputs(maxBatch), `batches of ${maxBatch}`).toEqual(whole)
  })
})

describe('the device', () => {
  it('auto is the CPU where no other device can be used, and says why where there seemed to be one', async ({ skip }) => {
    const file = sharedData('models/lenet/fyh620-lenet-dynbatch.onnx') ?? skip(noSharedData('models/lenet')), executor = new OnnxExecutor()
    onTestFinished(() => executor.close())
    const bytes = await readFile(file), { device, fallback } = await executor.load({ bytes }, 'auto', ctx)
    if (device !== 'cpu') skip(`this machine has ${device}`)
    expect(fallback ?? 'The device "webgpu" cannot be used').toMatch(/^The device "\w+" cannot be used/)
    expect((await executor.load({ bytes }, 'cpu', ctx)).fallback).toBeUndefined()
  })
})
