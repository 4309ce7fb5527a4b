/**
 * Story 002: pictures of digits, and a classifier whose predictions stay with them.
 *
 *     node examples/stories/002-mnist.ts [uri] [--data folder] [--lenet file]
 *
 * `--data` is a folder with MNIST's t10k files, `--lenet` a LeNet5 as ONNX that takes 32 x 32 grey pixels, normalised. Without them digits are drawn, and a graph is made here that knows
 * the mean picture of each digit: less clever than a LeNet, and the story is the same.
 */
import { inlay, model, predict, step, type Changed, type ModelSpec, type Tensor } from '../../index.ts'      // in a project of yours: from 'inlay'
import { pixels, type Image, type PixelsOptions } from '../../plugins/pillow-sharp/index.ts'               // and from 'inlay/pillow-sharp'
import { drawn, mnist, type Digit } from './digits.ts'
import { linearGraph } from './onnx.ts'
import { main, type Story } from './story.ts'

/** What the story may be given: a folder of MNIST files, and a LeNet with how it wants its pixels. */
export interface Options extends Story { readonly data?: string; readonly lenet?: string; readonly wants?: PixelsOptions }
/** What came of it. */
export interface Numbers {
  readonly digits: 'MNIST' | 'drawn'
  readonly classifier: 'lenet5' | 'nearest_mean'
  /** Pictures that were read from the database with the pixels that were written. */
  readonly equal: number
  /** Of ten pictures, without the database and with it. */
  readonly ten: readonly number[]
  readonly tenInDatabase: readonly number[]
  readonly path: string
  /** Rows that have an output after the listener was declared. */
  readonly filled: number
  readonly listeners: readonly string[]
  /** Of the last hundred. */
  readonly outputs: Changed['outputs']
  readonly updated: number
  readonly rows: number
  readonly right: number
  readonly mistakes: number
  readonly ok: boolean
}

/** How the notebook of the story prepares a picture. */
const notebook: PixelsOptions = { resize: { width: 32, height: 32 }, mean: 0.1307, std: 0.3081 }
const best = step('best@1', ({ data }: Tensor) => (data as Float32Array).indexOf(Math.max(...data as Float32Array)))

/** Inserts 900 pictures, declares the classifier on them, and inserts 100 more. */
export async function run({ uri, namespace = 'story_002', data, lenet, wants = notebook, log }: Options): Promise<Numbers> {
  const all = data === undefined ? drawn(1500) : mnist(data, 1500), digits = all.slice(0, 1000)
  // A picture is turned into the tensor that the graph reads, and its scores into a digit.
  const classifier = lenet === undefined ? nearestMean(all.slice(1000)) : model<Image, number>('lenet5', { onnx: lenet, input: pixels('pixels@1', { ...wants, colour: 'grey' }), output: best })
  log(`The digits are ${data === undefined ? 'drawn by this program' : 'those of MNIST'}. The classifier is ${lenet === undefined ? 'no LeNet: a graph made by this program of the means of 500 other digits' : 'a LeNet5 read from a file'}.`)

  // A model predicts without a database, too.
  const ten = await predict(classifier, digits.slice(0, 10).map(({ img }) => img))
  log(`Predicted ${ten.join(' ')} of ${digits.slice(0, 10).map((digit) => digit.class).join(' ')}.`)

  // What stands in "components" is known from the first row on: a second run on the same database finds the listener there, which needs the model's steps.
  await using db = await inlay({ data: uri, namespace, components: [classifier] })
  const collection = db.collection<Digit & { readonly update?: boolean }>('mnist')
  await collection.delete({}, { all: true })                                   // of a run before
  const { ids } = await collection.insert(digits.slice(0, 900))
  const first = (await collection.findOne({ _id: ids[0]! }))!
  log(`On ${db.server}: inserted ${ids.length} digits. findOne() gives { img: ${first.img}, class: ${first.class}, _fold: ${JSON.stringify(first._fold)} }.`)
  const stored = new Map((await collection.find().toArray()).map((row) => [row._id, row.img]))
  const equal = ids.filter((id, i) => Buffer.compare(stored.get(id)!.bytes, digits[i]!.img.bytes) === 0).length

  const handle = await db.add(classifier)
  const tenInDatabase = await handle.predict(digits.slice(0, 10).map(({ img }) => img))

  // From here on the predictions are kept for each row: of those that are there, and of those that come.
  const listener = await handle.listen(collection.find(), 'img', { maxChunkSize: 100 })
  const filled = await collection.find({ [listener.path]: { $exists: true } }).count()
  const listeners = (await db.show('listener')).map(({ label, state }) => `${label} (${state})`)
  log(`The outputs are at ${listener.path}: ${filled} rows have one. show('listener') gives ${listeners.join(', ')}.`)

  const { outputs } = await collection.insert(digits.slice(900).map((digit) => ({ ...digit, update: true })))
  const late = await collection.find({ update: true }).toArray(), updated = late.filter((row) => listener.of(row) !== undefined).length
  log(`Inserted ${late.length} more with { update: true }: ${updated} have a prediction, the first is { _outputs: ${JSON.stringify(late[0]!._outputs)} }.`)

  // Outputs are filtered like fields.
  const counts = await Promise.all(Array.from({ length: 10 }, (_, n) => collection.find({ [listener.path]: n, class: n }).count())), right = counts.reduce((a, b) => a + b)
  const wrong = (await Promise.all(counts.map((_, n) => collection.find({ [listener.path]: n, class: { $ne: n } }).toArray()))).flat()
  const rows = await collection.find().count(), { ok } = await db.verify()
  log(`${right} of ${rows} are right. Mistaken: ${wrong.slice(0, 12).map((row) => `${row.class} for ${listener.of(row)}`).join(', ')}${wrong.length > 12 ? ', …' : ''}`)

  return {
    digits: data === undefined ? 'drawn' : 'MNIST', classifier: lenet === undefined ? 'nearest_mean' : 'lenet5', equal, ten, tenInDatabase, path: listener.path, filled, listeners, outputs, updated, rows, right,
    mistakes: wrong.length, ok,
  }
}

/** A graph that gives each digit the higher a score, the nearer its mean picture m is to the picture x: m·x - m·m/2. */
function nearestMean(known: readonly Digit[]): ModelSpec<Image, number> {
  const size = 28 * 28, weights = new Float32Array(10 * size), bias = new Float32Array(10)
  for (let n = 0; n < 10; n++) {
    const those = known.filter((digit) => digit.class === n), mean = weights.subarray(n * size, (n + 1) * size)
    for (const { img } of those) img.bytes.subarray(-size).forEach((value, i) => { mean[i]! += value / 255 / those.length })
    bias[n] = -mean.reduce((sum, value) => sum + value * value, 0) / 2
  }
  return model<Image, number>('nearest_mean', { onnx: linearGraph({ input: [1, 28, 28], weights, bias }), input: pixels('pixels@1', { colour: 'grey' }), output: best })
}

if (process.argv[1] === import.meta.filename) await main(run, 'data', 'lenet')
