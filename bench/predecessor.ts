/**
 * The phases in which the predecessor was measured, on the same data (MNIST), the same network (LeNet5 on 32 x 32), MongoDB and a machine of the same class, beside what was recorded of it:
 * `predecessor.ts <mongodb uri> <rows>`. It needs the shared data beside the checkout. Its figures are those of SuperDuperDB 0.0.12 with one thread; ours run one process and mongod.
 */
import { readFileSync } from 'node:fs'
import { gunzipSync } from 'node:zlib'
import { fieldsOf } from '../plugins/torch-onnx/protobuf.ts'
import { Image, pixels } from '../plugins/pillow-sharp/index.ts'
import { inlay, listener, model, step, vectorIndex, type Tensor } from '../index.ts'
import { noSharedData, sharedData } from '../test/support/shared-data.ts'

const [, , uri = '', countText = '10000'] = process.argv
const count = Number(countText), namespace = `bench_${process.pid}`
const read = (path: string): Buffer => { const full = sharedData(path); if (full === undefined) throw new Error(noSharedData(path)); return readFileSync(full) }
const images = gunzipSync(read('mnist/train-images-idx3-ubyte.gz')).subarray(16), labels = gunzipSync(read('mnist/train-labels-idx1-ubyte.gz')).subarray(8)
const picture = (i: number): Image => Image.fromPixels(Uint8Array.from(images.subarray(i * 784, (i + 1) * 784)), { width: 28, height: 28, channels: 1 })

const argmax = step('argmax@1', ({ data }: Tensor) => { const d = data as Float32Array; let best = 0; for (let i = 1; i < d.length; i++) if (d[i]! > d[best]!) best = i; return best })
const lenet5 = model('lenet5', { onnx: freeBatch(read('models/lenet/jinsoo9595-lenet.onnx')), input: pixels('mnist@1', { resize: { width: 32, height: 32 }, colour: 'grey', mean: 0.1307, std: 0.3081 }), output: argmax })
const digits = listener({ model: lenet5, on: 'mnist', key: 'img' })
const identity = model<Float32Array, Float32Array>('identity', { run: step('identity@1', (all: readonly Float32Array[]) => all), shape: [128] })

const started = performance.now(), db = await inlay({ data: uri, namespace, config: false, log: {} }), mnist = db.collection<{ img: Image; class: number }>('mnist')
await mnist.insert({ _id: 'first', img: picture(0), class: 0 })
const openMs = performance.now() - started
const rate = async (rows: number, work: () => Promise<unknown>): Promise<number> => { const start = performance.now(); await work(); return Math.round(rows / (performance.now() - start) * 1000) }
const data = Array.from({ length: count }, (_, i) => ({ img: picture(i), class: labels[i]! }))
const insert = await rate(count, () => mnist.insert(data))
const cpu = process.cpuUsage(), backfill = await rate(count, () => db.add(digits)), { user, system } = process.cpuUsage(cpu)
const hundred = await rate(100, () => mnist.insert(data.slice(0, 100)))
const single = await rate(300, async () => { for (const doc of data.slice(0, 300)) await mnist.insert(doc) })
const right = (await mnist.find().toArray()).filter((row) => digitsOf(row) === row.class).length / (count + 401)

const vectors = db.collection<{ v: Float32Array }>('vectors'), normal = (): number => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random())
const random = (): Float32Array => Float32Array.from({ length: 128 }, normal)
await vectors.insert(Array.from({ length: count }, (_, i) => ({ _id: `v${i}`, v: random() })))
const build = await rate(count, () => db.add(listener({ model: identity, on: 'vectors', key: 'v' })))
const near = await db.add(vectorIndex('near', { indexing: listener({ model: identity, on: 'vectors', key: 'v' }) }))
let start = performance.now()
await vectors.find().like({ v: random() }, near).toArray()
const firstMs = performance.now() - start, times: number[] = []
for (let i = 0; i < 200; i++) {
  const v = random()
  start = performance.now()
  const hits = await vectors.find().like({ v }, near, { n: 10 }).toArray()
  times.push(performance.now() - start)
  if (hits.length !== 10) throw new Error(`${hits.length} hits`)
}
times.sort((a, b) => a - b)
for (const name of ['mnist', 'vectors']) await db.remove('collection', name, { force: true })
await db.close()

const p50 = Number(times[100]!.toFixed(2)), beside = (ours: number, theirs: number, wanted: number): object => ({ ours, theirs, times: Number((ours / theirs).toFixed(1)), wanted })
process.stdout.write(`${JSON.stringify({
  case: 'the predecessor, MNIST on MongoDB', rows: count, right: Number(right.toFixed(4)),
  pictureInsert: beside(insert, 3864, 3), backfillDefault: beside(backfill, 863, 10), backfillBest: beside(backfill, 3255, 3), insert100: { ours: hundred, theirs: [648, 1629] }, rowByRow: beside(single, 37, 10),
  searchP50Ms: { ours: p50, theirs: 6.3, times: Number((6.3 / p50).toFixed(1)), wanted: 5 }, searchP95Ms: Number(times[190]!.toFixed(2)), searchFirstMs: Math.round(firstMs), vectorsPerS: build, openMs: Math.round(openMs), backfillCpuS: Number(((user + system) / 1e6).toFixed(2)), rssMB: Math.round(process.resourceUsage().maxRSS / 1024),
})}\n`)
process.exit()

function digitsOf(row: object): unknown {
  return (row as { _outputs?: Record<string, Record<string, unknown>> })._outputs?.['img']?.['lenet5']
}

/** The graph with a free first dimension of its inputs and outputs: it was exported for one picture, and computes any number. */
function freeBatch(graph: Uint8Array): Uint8Array {
  const varint = (n: number): number[] => (n < 128 ? [n] : [n % 128 + 128, ...varint(Math.floor(n / 128))])
  const field = (number: number, bytes: Uint8Array): Uint8Array => Buffer.concat([Uint8Array.from([...varint(number * 8 + 2), ...varint(bytes.length)]), bytes])
  const within = (message: Uint8Array, path: readonly number[], change: (bytes: Uint8Array) => Uint8Array): Uint8Array => {
    if (path.length === 0) return change(message)
    let n = 0
    // Of repeated dimensions only the first.
    return Buffer.concat([...fieldsOf(message)].map((f) => (f.number === path[0] && f.wire === 2 && (path.length > 1 || n++ === 0) ? field(f.number, within(f.bytes, path.slice(1), change)) : f.all)))
  }
  const batch = (): Uint8Array => field(2, Buffer.from('batch'))
  return [11, 12].reduce((bytes, port) => within(bytes, [7, port, 2, 1, 2, 1], batch), graph)
}
