import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { afterAll, describe, expect, it, type TestContext } from 'vitest'
import type { Executor, Session, Tensor } from '../../core/contract.ts'
import { runGraph } from '../../core/graph.ts'
import { runStep, type Step } from '../../core/step.ts'
import { Image, image, pixels, type PixelsOptions } from '../../plugins/pillow-sharp/index.ts'
import { OnnxExecutor } from '../../plugins/torch-onnx/executor.ts'
import { noSharedData, sharedData } from '../support/shared-data.ts'

const executor: Executor = new OnnxExecutor(), ctx = { signal: new AbortController().signal }
afterAll(() => executor.close())
const shared = (path: string, { skip }: TestContext): string => sharedData(path) ?? skip(noSharedData(path))
const load = (path: string): Promise<Session> => executor.load({ format: 'onnx', bytes: readFileSync(path) }, 'cpu', ctx)
const batch = async (of: Step<Image, Tensor>, pictures: readonly Image[]): Promise<readonly Tensor[]> => (await runStep(of, pictures)).filter((result): result is Tensor => !(result instanceof Error))
const best = (scores: Float32Array): number => scores.indexOf(Math.max(...scores))

describe('pictures of the shared data', () => {
  it.for([
    ['fyh620-lenet-dynbatch', { mean: 0.1307, std: 0.3081 }, 98.13], ['jinsoo9595-lenet', { resize: { width: 32, height: 32 }, mean: 0.1307, std: 0.3081 }, 98.64], ['ccoltong-lenet', { scale: 1 }, 99.11],
  ] as const satisfies readonly (readonly [string, PixelsOptions, number])[])('%s reads MNIST as well as it does without Inlay', { timeout: 60_000 }, async ([name, options, accuracy], test) => {
    const folder = shared('mnist', test), digits = gunzipSync(readFileSync(join(folder, 't10k-images-idx3-ubyte.gz'))).subarray(16), labels = gunzipSync(readFileSync(join(folder, 't10k-labels-idx1-ubyte.gz'))).subarray(8)
    const pictures = Array.from(labels, (_, i) => Image.fromPixels(digits.subarray(i * 784, (i + 1) * 784), { width: 28, height: 28, channels: 1 }))
    const session = await load(shared(`models/lenet/${name}.onnx`, test)), of = pixels('digit@1', { ...options, colour: 'grey' }), start = performance.now()
    const tensors: Tensor[] = []
    for (let at = 0; at < pictures.length; at += 256) tensors.push(...await batch(of, pictures.slice(at, at + 256)))
    console.log(`${name}: ${Math.round(pictures.length / (performance.now() - start) * 1000)} pictures/s to tensors`)
    const outputs = await runGraph(session, tensors, ctx)
    const right = outputs.filter((output, i) => best(Object.values(output)[0]!.data as Float32Array) === labels[i]).length
    expect(right / 100).toBeCloseTo(accuracy, 2)
    await session.close()
  })

  it('gives the dual encoder what its golden embeddings were made of', { timeout: 120_000 }, async (test) => {
    const folder = shared('images/tiny-imagenet-1000', test), files = readFileSync(join(folder, 'labels.tsv'), 'utf8').trim().split('\n').slice(1).map((line) => line.split('\t')[0]!)
    const golden = new Float32Array(Uint8Array.from(readFileSync(join(folder, 'golden-image-embeds.f32'))).buffer), session = await load(shared('models/tinyimagenet-dual-encoder/image_encoder.onnx', test))
    const of = pixels('clip@1', { resize: { width: 128, height: 128, fit: 'fill', kernel: 'cubic' } })
    let worst = 0, compared = 0
    for (let at = 0; at < files.length; at += 100) {
      const pictures = await Promise.all(files.slice(at, at + 100).map((file) => Image.open(join(folder, 'images', file))))
      const outputs = await runGraph(session, await batch(of, pictures), ctx)
      outputs.forEach(({ image_embeds }, i) => (image_embeds!.data as Float32Array).forEach((value, d) => { worst = Math.max(worst, Math.abs(value - golden[(at + i) * 128 + d]!)) }))
      compared += outputs.length
    }
    expect(compared).toBe(1000)
    expect(worst).toBeLessThan(1e-3)
    await session.close()
  })

  it('decodes every photo, and what several listeners share is the same', { timeout: 60_000 }, async (test) => {
    const folder = shared('images/clothing-200', test), files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.jpg')).toSorted()
    for (const [i, file] of files.entries()) {
      const one = await Image.open(join(folder, file)), whole = await one.pixels()
      expect(whole.data.length).toBe(whole.width * whole.height * 3)
      if (i % 10 !== 0) continue
      const many = image.decode(one.bytes, { where: file, readers: 2 }) as Image
      const differ = async (size: number): Promise<number> => {
        const resize = { width: size, height: size }, a = (await one.pixels({ resize })).data, b = (await many.pixels({ resize })).data
        return a.reduce((total, value, at) => total + Math.abs(value - b[at]!), 0) / a.length
      }
      for (const size of [64, 224]) expect(await differ(size), file).toBe(0)
    }
    expect(files.length).toBe(179)
  })
})
