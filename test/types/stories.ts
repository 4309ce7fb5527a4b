/** The stories as user code, checked by the compiler: what must compile, and what must not. Never run. */
import { z } from 'zod'
import { defineConfig, inlay, listener, model, step, vectorIndex, type IndexHandle, type ListenerHandle, type Tensor } from '../../index.ts'

interface Image { readonly width: number; pixels(size: { width: number; height: number; gray?: boolean }): Promise<Uint8Array> }
declare const images: Image[]
declare const pairs: { img: Image; label: number }[]

// 000: vectors on documents ------------------------------------------------------------------------------------------
const db = await inlay('postgres://localhost/app')
const docs = db.collection<{ x: Float32Array }>('docs')
const linear = await db.add(model<Float32Array, Float32Array>('linear_embedding', { onnx: './linear.onnx', shape: [64] }))
const embedding = await linear.listen(docs.find(), 'x')
await docs.insert(Array.from({ length: 100 }, () => ({ x: new Float32Array(1024) })))
const one = await docs.findOne()
export const vec: Float32Array | undefined = one && embedding.of(one)

// 002: steps around a graph ------------------------------------------------------------------------------------------
const Digit = z.object({ img: z.custom<Image>(), class: z.number(), update: z.boolean().optional() })
const mnist = db.collection('mnist', { schema: Digit })
const pre = step('mnist-pre@1', async (img: Image): Promise<Tensor> => ({ type: 'float32', dims: [1, 32, 32], data: Float32Array.from(await img.pixels({ width: 32, height: 32, gray: true }), (p) => (p / 255 - 0.1307) / 0.3081) }))
const argmax = step('argmax@1', (t: Tensor): number => { const d = t.data as Float32Array; return d.indexOf(Math.max(...d)) })
const lenet5 = model('lenet5', { onnx: './lenet5.onnx', input: pre, output: argmax })
const lenet = await db.add(lenet5)
export const ten: number[] = await lenet.predict(images.slice(0, 10))
const digits: ListenerHandle<number> = await lenet.listen(mnist.find(), 'img', { maxChunkSize: 100, onProgress: (p) => console.log(p.done, p.total) })
const report = await mnist.insert(pairs.map((p) => ({ img: p.img, class: p.label, update: true })))
console.log(report.outputs.done, await db.show('listener'))
const sevens = await mnist.find({ [digits.path]: 7, class: { $ne: 7 } }).limit(20).toArray()
for (const row of sevens) console.log(row._id, row.class, digits.of(row))
const spec = listener({ model: lenet5, on: 'mnist', where: { class: { $gte: 0 } }, key: 'img' })
// @ts-expect-error the model reads images: "class" is a number
await lenet.listen(mnist.find(), 'class')
// @ts-expect-error no such field
await lenet.listen(mnist.find(), 'picture')
// @ts-expect-error no such field
mnist.find({ colour: 3 })
// @ts-expect-error a number, not a text
await lenet.predict(['seven'])
// @ts-expect-error the class of a new row is a number
await mnist.insert({ img: images[0]!, class: 'seven' })

// filters of query-rules ---------------------------------------------------------------------------------------------
const people = db.collection<{ age: number; tags: string[]; name?: string; born: Date; n: bigint }>('people')
await people.insert({ _id: 'a', age: 5, tags: ['x'], born: new Date(), n: 5n })
people.find({ _id: 'a', tags: 'x', age: { $gte: 18, $lt: 65 }, name: null, born: { $gt: new Date(0) } }).sort({ _id: 1 })
people.find({ tags: { $all: ['x'], $size: 2 }, name: { $regex: '^An' }, 'a.b': { $elemMatch: { c: 1 } }, $or: [{ age: 1 }, { n: { $in: [5n] } }] }).sort({ '_outputs.img.lenet5': -1 })
people.find({ age: { $not: { $gt: 5 } }, _fold: 'train', tags: { $type: ['array', 'string'] } })
await people.update({ age: 5 }, { $set: { 'a.b': 1 }, $inc: { n: 1n }, $unset: { name: true } })
await people.replace('a', { age: 6, tags: [], born: new Date(), n: 6n })
await people.delete({ age: { $lt: 0 } })
await people.delete({}, { all: true })
const scored = await people.find().limit(1).select('age').toArray()
export const id: string = scored[0]!._id, age: number = scored[0]!.age
// @ts-expect-error the field was not selected
console.log(scored[0]!.tags)
// @ts-expect-error an operator that the subset does not have
people.find({ age: { $mod: [2, 1] } })
// @ts-expect-error only anchored prefixes
people.find({ name: { $regex: 'An' } })
// @ts-expect-error a number, not a text
people.find({ age: 'five' })
// @ts-expect-error an unknown operator of updates
await people.update({}, { $push: { tags: 'y' } })
// @ts-expect-error the age is a number
await people.update({}, { $set: { age: 'six' } })

// 004: search --------------------------------------------------------------------------------------------------------
const config = defineConfig({ data: 'pglite:./app', artifacts: 'file:./models', models: { device: 'auto' }, outputs: 'worker' })
// @ts-expect-error no such key
defineConfig({ database: 'pglite:./app' })
const tiny = db.collection<{ image: Image; label: string }>('tiny-imagenet')
const clipImage = await db.add(model<Image, Float32Array>('clip_image', { onnx: './clip-image.onnx', shape: [1024] }))
const clipText = model<string, Float32Array>('clip_text', { onnx: './clip-text.onnx', shape: [1024] })
const index = await db.add(vectorIndex('my-index', { indexing: await clipImage.listen(tiny.find(), 'image'), compatible: { text: clipText } }))
export const accepts: IndexHandle<{ readonly image?: Image } & { readonly text?: string }> = index
for await (const hit of tiny.like({ text: 'mushroom' }, index, { n: 3 }).find({})) console.log(hit.score, hit.image.width)
const near = await tiny.find({ label: 'x' }).like({ text: 'mushroom' }, index, { n: 3 }).toArray()
await tiny.find().like('an-id', index).first()
// @ts-expect-error the index takes image or text
tiny.like({ txt: 'mushroom' }, index)
// @ts-expect-error an image, not a number
tiny.like({ image: 5 }, index)
// @ts-expect-error numbers have no vectors
vectorIndex('digits', { indexing: digits })

// chains -------------------------------------------------------------------------------------------------------------
const halves = await db.add(model<Float32Array, Float32Array>('pca', { onnx: './pca.onnx', shape: [128] }))
const vectors = await clipImage.listen(tiny.find(), 'image')
await halves.listen(tiny.find(), vectors)
// @ts-expect-error lenet reads images, clip_image gives vectors
await lenet.listen(tiny.find(), vectors)
const both = await db.add(model<{ readonly image: Image; readonly label: string }, number>('both', { run: step('both@1', (all: readonly { readonly image: Image; readonly label: string }[]) => all.map(() => 1)) }))
await both.listen(tiny.find(), ['image', 'label'], { name: 'pairs' })
await both.listen(tiny.find(), '_base')
// @ts-expect-error several keys need a name
await both.listen(tiny.find(), ['image', 'label'])

// operations ---------------------------------------------------------------------------------------------------------
const plan = await db.plan([lenet5, clipText, spec])
console.log(String(plan), plan.steps[0]?.rows)
await plan.apply()
const health = await db.verify({ repair: true, deep: true, signal: AbortSignal.timeout(1000) })
await digits.retry()
await db.remove('listener', digits.name, { keepOutputs: true })
await db.load(lenet5, 0)
await db.close()
console.log(spec, config, near, health)
