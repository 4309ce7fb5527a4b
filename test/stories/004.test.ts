/** Story 004 on every backend: examples/stories/004-search.ts; and the dual encoder on the story's own pictures, against what plain onnxruntime gave. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it, type TestContext } from 'vitest'
import { graphs } from '../../examples/stories/encoders.ts'
import { run } from '../../examples/stories/004-search.ts'
import { vectorIndex } from '../../index.ts'
import { Image } from '../../plugins/pillow-sharp/index.ts'
import { open } from '../support/backends.ts'
import { noSharedData, sharedData } from '../support/shared-data.ts'
import { backends, place } from './places.ts'

const shared = (path: string, { skip }: TestContext): string => sharedData(path) ?? skip(noSharedData(path))
const picture = (ctx: TestContext): string => {
  const folder = mkdtempSync(join(tmpdir(), 'inlay-story-'))
  ctx.onTestFinished(() => rmSync(folder, { recursive: true }))
  return join(folder, 'sheet.png')
}

describe.each(backends)('story 004 on $name', (backend) => {
  it('runs without any data: words find emoji of their colour, emoji find themselves', async (ctx) => {
    const out = picture(ctx), { found, group, filteredFirst, searchedFirst, ...numbers } = await run({ ...place(ctx, backend), out, sample: 300, log: () => {} })
    expect(numbers).toEqual({ encoders: 'colours', pictures: 300, dims: 12, asked: 20, byImage: 20, byId: 20, sheet: out, ok: true })
    expect(found.map(({ query, hits }) => [query, hits.length, hits[0]!.score > 0.7])).toEqual(['red', 'green apple', 'blue and white', 'yellow', 'pink and purple'].map((query) => [query, 6, true]))
    for (const [i, name] of ['telephone', 'shamrock', 'sun behind rain cloud', 'lemon', 'unicorn'].entries()) expect(found[i]!.hits.map((hit) => hit.name)).toContain(name)
    // The nearest of all is the first of its group, whether the group is chosen before the search or after it.
    const [first] = found[0]!.hits
    expect([group, filteredFirst[0], filteredFirst.length, searchedFirst[0]]).toEqual(['Objects', first!.name, 3, first!.name])
    const { format, width, height } = await (await Image.open(out)).metadata()
    expect([format, width > 800, height > 1200]).toEqual(['png', true, true])
  })
})

describe('story 004 with pictures and graphs', () => {
  it('takes a folder of pictures and a pair of encoders', async (ctx) => {
    const out = picture(ctx), data = shared('images/tiny-imagenet-1000/images', ctx), encoders = shared('models/tinyimagenet-dual-encoder', ctx)
    const { found, filteredFirst, searchedFirst, ...numbers } = await run({ uri: 'memory:', data, encoders, out, sample: 200, log: () => {} })
    expect(numbers).toEqual({ encoders: 'graphs', pictures: 200, dims: 128, group: '.', asked: 20, byImage: 20, byId: 20, sheet: out, ok: true })
    expect([found[0]!.query, filteredFirst, searchedFirst]).toEqual(['mushroom', found[0]!.hits.slice(0, 3).map((hit) => hit.name), found[0]!.hits.map((hit) => hit.name)])
    await expect(run({ uri: 'memory:', data: import.meta.dirname, out, log: () => {} })).rejects.toThrow('There are no pictures in')
  })
})

/** The pictures of the story's data set with their class, and for the name of each class what an exact search gave. */
interface Golden { readonly rPrecision: number; readonly mrr: number; readonly queries: readonly { readonly query: string; readonly wnid: string; readonly top10: readonly (readonly [string, number])[] }[] }

describe.each(backends)('the dual encoder on $name', (backend) => {
  const count = ['memory', 'PostgreSQL'].includes(backend.name) ? 1000 : 200
  it(`gives ${count} pictures the vectors that they should have, and finds them by text`, { timeout: 120_000 }, async (ctx) => {
    const folder = shared('images/tiny-imagenet-1000', ctx), { image, text } = graphs(shared('models/tinyimagenet-dual-encoder', ctx))
    const files = readFileSync(join(folder, 'labels.tsv'), 'utf8').trim().split('\n').slice(1, 1 + count).map((line) => line.split('\t') as [string, string])
    const vectors = new Float32Array(Uint8Array.from(readFileSync(join(folder, 'golden-image-embeds.f32'))).buffer), golden = JSON.parse(readFileSync(join(folder, 'golden-search.json'), 'utf8')) as Golden
    const db = await open(ctx, backend), tiny = db.collection<{ image: Image; wnid: string }>('tiny-imagenet'), listener = await (await db.add(image)).listen(tiny.find(), 'image')
    const index = await db.add(vectorIndex('my-index', { indexing: listener, compatible: { text } }))
    await tiny.insert(await Promise.all(files.map(async ([file, wnid]) => ({ _id: file, wnid, image: await Image.open(join(folder, 'images', file)) }))))

    const outputs = new Map((await tiny.find().select().toArray()).map((row) => [row._id, listener.of(row)!]))
    let worst = 0
    for (const [i, [file]] of files.entries()) outputs.get(file)!.forEach((value, d) => { worst = Math.max(worst, Math.abs(value - vectors[i * 128 + d]!)) })
    expect([outputs.size, worst < 1e-3], `${worst}`).toEqual([count, true])

    // What is nearest to each text has the score that it should have, of those pictures that are there.
    const queries = golden.queries.slice(0, count / 5), ranked = await Promise.all(queries.map(async ({ query }) => (await tiny.like({ text: query }, index, { n: count }).find().select('wnid').toArray()).map(({ _id, wnid, score }) => ({ _id, wnid, score }))))
    for (const [q, { query, top10 }] of queries.entries()) {
      const scores = new Map(ranked[q]!.map(({ _id, score }) => [_id, score]))
      for (const [file, score] of top10) if (count === 1000 || scores.has(file)) expect(scores.get(file), `${query}: ${file}`).toBeCloseTo(score, 2)
    }
    if (count < 1000) return
    // R-precision: a class has five pictures, and as many are looked at.
    const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b) / values.length
    const precision = mean(queries.map(({ wnid }, q) => {
      const relevant = files.filter((file) => file[1] === wnid).length
      return ranked[q]!.slice(0, relevant).filter((hit) => hit.wnid === wnid).length / relevant
    }))
    const reciprocal = mean(queries.map(({ wnid }, q) => 1 / (1 + ranked[q]!.findIndex((hit) => hit.wnid === wnid))))
    console.log(`R-precision ${precision.toFixed(4)} (${golden.rPrecision.toFixed(4)}), MRR ${reciprocal.toFixed(4)} (${golden.mrr.toFixed(4)}), farthest from the golden vectors ${worst.toExponential(1)}`)
    expect([precision, reciprocal].map((value) => value.toFixed(3))).toEqual([golden.rPrecision, golden.mrr].map((value) => value.toFixed(3)))
  })
})
