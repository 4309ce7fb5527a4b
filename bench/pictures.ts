/**
 * Pictures to outputs: decode, resize, normalise, infer; against a hand-tuned loop over sharp and onnxruntime-node on the same work. Files are read beforehand. `tensors` is the part without
 * the graph. What core does besides, reading rows and writing outputs, is not in it.
 */
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import ort from 'onnxruntime-node'
import sharp from 'sharp'
import { runStep } from '../core/step.ts'
import { model, predict, type Step, type Tensor } from '../index.ts'
import { Image, pixels } from '../plugins/pillow-sharp/index.ts'

const [, , name = 'tiny', roundsText = '5'] = process.argv
const data = join(import.meta.dirname, '../../shared/data'), chunk = 64

/** What is measured: pictures, how a graph wants them, and the same by hand for one picture, written into the memory of its batch. */
interface Case { readonly graph: string; readonly pictures: readonly Image[]; readonly step: Step<Image, Tensor>; readonly dims: readonly [number, number, number]; write(picture: Image, out: Float32Array, at: number): Promise<void> | void; readonly batch: number }

/** What somebody writes who measured it: raw pixels of sharp, one pass into planes, division made multiplication. */
async function bySharp(picture: Image, size: number, kernel: 'linear' | 'cubic', fit: 'cover' | 'fill', out: Float32Array, at: number): Promise<void> {
  const px = await sharp(picture.bytes).resize(size, size, { fit, kernel }).removeAlpha().raw().toBuffer(), plane = size * size, a = 1 / 255
  for (let i = 0, o = at; i < px.length; i += 3, o++) {
    out[o] = px[i]! * a
    out[o + plane] = px[i + 1]! * a
    out[o + 2 * plane] = px[i + 2]! * a
  }
}
const files = (folder: string): readonly Image[] => readdirSync(join(data, folder), { recursive: true, encoding: 'utf8' }).filter((file) => /\.jpe?g$/i.test(file)).toSorted().map((file) => Image.from(readFileSync(join(data, folder, file))))
const cases: Readonly<Record<string, () => Case>> = {
  tiny: () => ({
    graph: 'models/tinyimagenet-dual-encoder/image_encoder.onnx', pictures: files('images/tiny-imagenet-1000/images').slice(0, 512), dims: [3, 128, 128], batch: chunk,
    step: pixels('clip@1', { resize: { width: 128, height: 128, fit: 'fill', kernel: 'cubic' } }), write: (picture, out, at) => bySharp(picture, 128, 'cubic', 'fill', out, at),
  }),
  clothing: () => ({
    graph: 'models/vision/squeezenet1.0-fp32.onnx', pictures: files('images/clothing-200'), dims: [3, 224, 224], batch: 1,
    step: pixels('squeeze@1', { resize: { width: 224, height: 224 } }), write: (picture, out, at) => bySharp(picture, 224, 'linear', 'cover', out, at),
  }),
  mnist: () => {
    const digits = gunzipSync(readFileSync(join(data, 'mnist/t10k-images-idx3-ubyte.gz'))).subarray(16)
    return {
      graph: 'models/lenet/fyh620-lenet-dynbatch.onnx', dims: [1, 28, 28], batch: chunk, step: pixels('digit@1', { colour: 'grey', mean: 0.1307, std: 0.3081 }),
      pictures: Array.from({ length: 10_000 }, (_, i) => Image.fromPixels(digits.subarray(i * 784, (i + 1) * 784), { width: 28, height: 28, channels: 1 })),
      write: ({ bytes }, out, at) => { for (let i = bytes.length - 784, o = at; i < bytes.length; i++, o++) out[o] = (bytes[i]! / 255 - 0.1307) / 0.3081 },
    }
  },
}
const { graph, pictures, step, dims, write, batch } = (cases[name] ?? cases['tiny']!)(), size = dims[0] * dims[1] * dims[2], bytes = readFileSync(join(data, graph))
const chunks = Array.from({ length: Math.ceil(pictures.length / chunk) }, (_, i) => pictures.slice(i * chunk, (i + 1) * chunk))

const session = await ort.InferenceSession.create(bytes), input = session.inputNames[0]!
async function hand(infer: boolean): Promise<number> {
  const start = performance.now()
  for (const part of chunks) {
    const all = new Float32Array(part.length * size)
    await Promise.all(part.map((picture, i) => write(picture, all, i * size)))
    if (infer) for (let at = 0; at < part.length; at += batch) await session.run({ [input]: new ort.Tensor('float32', all.subarray(at * size, (at + batch) * size), [Math.min(batch, part.length - at), ...dims]) })
  }
  return pictures.length / (performance.now() - start) * 1000
}

const declared = model<Image, Tensor>('bench', { onnx: bytes, input: step })
async function ours(infer: boolean): Promise<number> {
  const start = performance.now()
  if (infer) await predict(declared, pictures)
  else for (const part of chunks) await runStep(step, part)
  return pictures.length / (performance.now() - start) * 1000
}

/** In turns, so that a busy neighbour slows both; the middle of the ratios counts. */
async function compare(infer: boolean): Promise<Readonly<Record<string, number>>> {
  await hand(infer)
  await ours(infer)
  const rounds: { readonly ours: number; readonly hand: number }[] = []
  for (let round = 0; round < Number(roundsText); round++) rounds.push({ hand: await hand(infer), ours: await ours(infer) })
  const middle = rounds.toSorted((a, b) => a.ours / a.hand - b.ours / b.hand)[rounds.length >> 1]!
  return { ours: Math.round(middle.ours), hand: Math.round(middle.hand), ratio: Number((middle.ours / middle.hand).toFixed(2)) }
}
const tensors = await compare(false), whole = await compare(true)
console.log(JSON.stringify({ case: `pictures ${name}, per second`, pictures: pictures.length, ...whole, tensors }))
