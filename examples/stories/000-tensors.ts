/**
 * Story 000: tensors on documents, and a model whose outputs stay with them.
 *
 *     node examples/stories/000-tensors.ts [uri]
 */
import { arrayCodec, inlay, model, vectorIndex, type Changed, type Middleware } from '../../index.ts'   // in a project of yours: from 'inlay'
import { linearGraph } from './onnx.ts'
import { main, randn, randoms, type Story } from './story.ts'

/** A document as it is read: `x` is an array again. */
interface Doc { readonly x: Float32Array; readonly note?: string }
/** A document as it may be written: `x` may be given as the bytes that another program made of it. */
interface NewDoc { readonly x: Float32Array | { readonly _content: { readonly bytes: Uint8Array; readonly codec: string } }; readonly note?: string }

/** What came of it. */
export interface Numbers {
  readonly inserted: number
  readonly outputs: Changed['outputs']
  readonly folds: { readonly train: number; readonly valid: number }
  /** Lengths of what is read. */
  readonly x: number
  readonly embedding: number
  readonly path: string
  /** How far an output is from the product by hand, at most. */
  readonly worst: number
  /** Calls of the model for reading, and for a change of another field. */
  readonly callsToRead: number
  readonly callsForNote: number
  /** The document itself is what is nearest to it. */
  readonly anchor: boolean
  /** The output followed the change. */
  readonly updated: boolean
  readonly replaced: boolean
  readonly deleted: boolean
  readonly ok: boolean
  readonly rows: number
}

/** Inserts, reads, searches and changes 100 documents. */
export async function run({ uri, namespace = 'story_000', log }: Story): Promise<Numbers> {
  // How an array of 1,024 float32 becomes bytes, and comes back: torch's `x.numpy().tobytes()`.
  const floatTensor = arrayCodec('float_tensor', { type: 'float32', length: 1024 })
  // torch.nn.Linear(1024, 64), with the weights that torch would draw for it, as an ONNX graph. Usually this is the path of a file.
  const random = randoms(0), weights = randn(64 * 1024, random, 1 / 32), bias = randn(64, random, 1 / 32)
  const linearEmbedding = model('linear_embedding', { onnx: linearGraph({ input: [1024], weights, bias }), shape: [64] })

  // Middleware sees every call of the model.
  let calls = 0
  const counter: Middleware = { name: 'counter', model: (next) => ({ ...next, predict: (inputs, ctx) => { calls++; return next.predict(inputs, ctx) } }) }

  await using db = await inlay({ data: uri, namespace, middleware: [counter] })
  const docs = db.collection<Doc, NewDoc>('docs', { codecs: { x: floatTensor } })
  await docs.delete({}, { all: true })                                         // of a run before
  const linear = await db.add(linearEmbedding), embedding = await linear.listen(docs.find(), 'x')
  log(`On ${db.server}: the model "linear_embedding" listens to the field "x" of "docs".`)

  // 50 documents with the bytes of x, as the story has it, and 50 with x itself: both are stored in the same form.
  const { ids: asBytes } = await docs.insert(Array.from({ length: 50 }, () => ({ x: { _content: { bytes: new Uint8Array(randn(1024, random).buffer), codec: 'float_tensor' } } })))
  const { ids: asArrays, outputs } = await docs.insert(Array.from({ length: 50 }, () => ({ x: randn(1024, random) })))
  log(`Inserted ${asBytes.length} documents as bytes and ${asArrays.length} as arrays; ${calls} calls of the model.`)

  // What is read has x decoded, its fold, and the output, without another call.
  const callsBefore = calls, one = (await docs.findOne({ _id: asBytes[0]! }))!
  log(`findOne() gives { _id: ${JSON.stringify(one._id)}, x: ${shown(one.x)}, _fold: ${JSON.stringify(one._fold)}, _outputs: { x: { linear_embedding: ${shown(one._outputs!['x']!['linear_embedding'] as Float32Array)} } } }`)
  let worst = 0
  const folds = { train: 0, valid: 0 }
  for await (const row of docs.find()) {
    folds[row._fold!]++
    worst = Math.max(worst, farthest(embedding.of(row)!, byHand(row.x)))
  }
  const callsToRead = calls - callsBefore
  log(`Folds: ${folds.train} train, ${folds.valid} valid. No output is farther than ${worst.toExponential(1)} from the product by hand.`)

  // The outputs can be searched: by a document, which the model is run on, and by the _id of one that is stored.
  const index = await db.add(vectorIndex('similar', { indexing: embedding }))
  const byDocument = await docs.find().like({ x: one.x }, index, { n: 3 }).toArray()
  const byId = await docs.like(one._id, index, { n: 3 }).find().toArray()
  log(`Nearest to it: ${byDocument.map((hit) => `…${hit._id.slice(-6)} ${hit.score.toFixed(3)}`).join(', ')}`)

  // Outputs follow the rows; a field that the model does not read costs no call.
  const [id, other] = asArrays as [string, string], next = randn(1024, random), third = randn(1024, random)
  const follows = async (_id: string, x: Float32Array): Promise<boolean> => farthest(embedding.of((await docs.findOne({ _id }))!)!, byHand(x)) < 1e-4
  await docs.update({ _id: id }, { $set: { x: next } })
  const updated = await follows(id, next)
  await docs.replace(id, { x: third })
  const replaced = await follows(id, third)
  const callsBeforeNote = calls
  await docs.update({ _id: id }, { $set: { note: 'nothing that the model reads' } })
  const callsForNote = calls - callsBeforeNote
  await docs.delete({ _id: other })
  const deleted = !(await docs.find().like({ x: third }, index, { n: 100 }).toArray()).some((hit) => hit._id === other)
  const { ok, rows } = await db.verify()
  log(`After update: ${updated ? 'follows' : 'STALE'}; after replace: ${replaced ? 'follows' : 'STALE'}; deleted: ${deleted ? 'not found any more' : 'STILL FOUND'}; verify: ${ok ? 'all is well' : 'NOT WELL'}.`)

  return {
    inserted: asBytes.length + asArrays.length, outputs, folds, x: one.x.length, embedding: embedding.of(one)!.length, path: embedding.path, worst, callsToRead, callsForNote,
    anchor: [byDocument[0]!._id, byId[0]!._id].every((_id) => _id === one._id), updated, replaced, deleted, ok, rows,
  }

  /** The output that x should have. */
  function byHand(x: Float32Array): Float32Array {
    return bias.map((b, row) => x.reduce((sum, value, i) => sum + value * weights[row * 1024 + i]!, b))
  }
}

function farthest(a: Float32Array, b: Float32Array): number {
  return a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i]!)), 0)
}
function shown(array: Float32Array): string {
  return `[${Array.from(array.subarray(0, 3), (value) => value.toFixed(4)).join(', ')}, … ${array.length} in all]`
}

if (process.argv[1] === import.meta.filename) await main(run)
