/** Pictures that are inserted to stored vectors, on PostgreSQL: decode, resize, normalise, infer, write; against a hand-tuned loop over sharp, onnxruntime-node and `pg` on the same work. Needs the shared data. */
import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import ort from 'onnxruntime-node'
import sharp from 'sharp'
import { inlay, model } from '../index.ts'
import { Image, pixels } from '../plugins/pillow-sharp/index.ts'
import { noSharedData, sharedData } from '../test/support/shared-data.ts'
import { benchServer } from './server.ts'

const [, , countText = '1000', roundsText = '5'] = process.argv
const folder = sharedData('images/tiny-imagenet-1000/images'), graph = sharedData('models/tinyimagenet-dual-encoder/image_encoder.onnx')
if (folder === undefined || graph === undefined) throw new Error(noSharedData('images/tiny-imagenet-1000'))
const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((file) => /\.jpe?g$/i.test(file)).toSorted().slice(0, Number(countText)).map((file) => readFileSync(join(folder, file)))
const bytes = readFileSync(graph), server = await benchServer(), { pool, namespace } = server, chunk = 64, size = 128

const session = await ort.InferenceSession.create(bytes), input = session.inputNames[0]!
async function hand(): Promise<number> {
  const schema = `${namespace}_hand`
  await pool.query(`drop schema if exists ${schema} cascade; create schema ${schema}; create table ${schema}.docs (id text primary key, img bytea not null, emb vector(128) not null)`)
  const start = performance.now(), plane = size * size
  let writing: Promise<unknown> = Promise.resolve()
  for (let from = 0; from < files.length; from += chunk) {
    const part = files.slice(from, from + chunk), all = new Float32Array(part.length * 3 * plane)
    await Promise.all(part.map(async (file, n) => {
      const px = await sharp(file).resize(size, size, { fit: 'fill', kernel: 'cubic' }).removeAlpha().raw().toBuffer(), a = 1 / 255
      for (let i = 0, o = n * 3 * plane; i < px.length; i += 3, o++) {
        all[o] = px[i]! * a
        all[o + plane] = px[i + 1]! * a
        all[o + 2 * plane] = px[i + 2]! * a
      }
    }))
    const { data } = (await session.run({ [input]: new ort.Tensor('float32', all, [part.length, 3, size, size]) }))[session.outputNames[0]!]!, vectors = data as Float32Array
    await writing
    writing = pool.query(`insert into ${schema}.docs (id, img, emb) select v.id, v.img, v.emb::vector from unnest($1::text[], $2::bytea[], $3::text[]) v(id, img, emb)`, [part.map((_, n) => `p${from + n}`), part, part.map((_, n) => `[${vectors.subarray(n * 128, (n + 1) * 128).join(',')}]`)])
  }
  await writing
  return files.length / (performance.now() - start) * 1000
}

const encoder = model<Image>('image', { onnx: bytes, input: pixels('clip@1', { resize: { width: size, height: size, fit: 'fill', kernel: 'cubic' } }), shape: [128] })
async function ours(): Promise<number> {
  await pool.query(`drop schema if exists ${namespace} cascade`)
  const db = await inlay({ data: server.url, namespace, config: false }), docs = db.collection<{ img: Image }>('docs'), embed = await db.add(encoder)
  await embed.listen(docs.find(), 'img')
  await embed.predict([Image.from(files[0]!)])
  const start = performance.now(), { outputs } = await docs.insert(files.map((file) => ({ img: Image.from(file) })))
  const rate = files.length / (performance.now() - start) * 1000
  if (outputs.done !== files.length) throw new Error(`Only ${outputs.done} outputs of ${files.length}.`)
  await db.close()
  return rate
}

await hand()
await ours()
const rounds: { readonly ours: number; readonly hand: number }[] = []
for (let round = 0; round < Number(roundsText); round++) rounds.push({ hand: await hand(), ours: await ours() })
await server.stop()
const middle = rounds.toSorted((a, b) => a.ours / a.hand - b.ours / b.hand)[rounds.length >> 1]!, ratios = rounds.map((r) => Number((r.ours / r.hand).toFixed(2))).toSorted((a, b) => a - b)
process.stdout.write(`${JSON.stringify({ case: 'picture pipeline with write, per second', pictures: files.length, ours: Math.round(middle.ours), hand: Math.round(middle.hand), ratio: Number((middle.ours / middle.hand).toFixed(2)), ratios })}\n`)
process.exit()
