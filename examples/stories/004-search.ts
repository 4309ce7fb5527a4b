/**
 * Story 004: two encoders and one index. Texts find pictures, and pictures find pictures.
 *
 *     node examples/stories/004-search.ts [uri] [--data folder] [--encoders folder] [--out file.png]
 *
 * `--data` is a folder of pictures, by default the emoji of the package @lobehub/fluent-emoji-3d; `--encoders` a folder with a pair of graphs, see encoders.ts, by default encoders of colours.
 * What was found is drawn on one picture.
 */
import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { inlay, vectorIndex } from '../../index.ts'                                                        // in a project of yours: from 'inlay'
import { contactSheet, Image, type Cell } from '../../plugins/pillow-sharp/index.ts'                       // and from 'inlay/pillow-sharp'
import { listed } from '../emoji/pictures.ts'
import { colourEncoders, graphs } from './encoders.ts'
import { main, randoms, type Story } from './story.ts'

/** What the story may be given. */
export interface Options extends Story {
  readonly data?: string
  readonly encoders?: string
  readonly out?: string
  /** How many pictures are taken, by chance. */
  readonly sample?: number
}
/** What was found for a text: names and scores, best first. */
export interface Found { readonly query: string; readonly hits: readonly { readonly name: string; readonly score: number }[] }
/** What came of it. */
export interface Numbers {
  readonly encoders: 'graphs' | 'colours'
  readonly pictures: number
  readonly dims: number
  readonly found: readonly Found[]
  /** The three nearest of one group; and of the six nearest, those of that group: the filter before, and after the search. */
  readonly group: string
  readonly filteredFirst: readonly string[]
  readonly searchedFirst: readonly string[]
  /** Of pictures that are asked with, how many find themselves first; by the picture, and by its _id. */
  readonly asked: number
  readonly byImage: number
  readonly byId: number
  readonly sheet: string
  readonly ok: boolean
}
interface Picture { readonly name: string; readonly group: string; readonly image: Image }

/** Stores pictures, declares the index, and searches it. */
export async function run({ uri, namespace = 'story_004', data, encoders, out = join(import.meta.dirname, 'out/004-search.png'), sample = 1000, log }: Options): Promise<Numbers> {
  const { image: visual, text, examples: queries } = encoders === undefined ? colourEncoders() : graphs(encoders)
  const files = shuffled(data === undefined ? emoji() : await pictures(data)).slice(0, sample)
  log(`The pictures are ${data === undefined ? 'emoji' : `those in ${data}`}. The encoders are ${encoders === undefined ? 'of colours, with words for them: no weights are needed, and no shapes are known' : `the graphs in ${encoders}`}.`)

  // What stands in "components" is known from the first row on: a second run on the same database finds the index there, which needs the models.
  await using db = await inlay({ data: uri, namespace, components: [visual, text] })
  const collection = db.collection<Picture>('pictures')
  await collection.delete({}, { all: true })                                   // of a run before
  const { ids } = await collection.insert(opened(files))
  log(`On ${db.server}: stored ${ids.length} pictures; the first is ${(await collection.findOne())!.image}.`)

  // The picture encoder makes the vectors of the rows. The text encoder only turns texts into vectors of the same space, when somebody searches.
  const index = await db.add(vectorIndex('my-index', { indexing: await (await db.add(visual)).listen(collection.find(), 'image'), compatible: { text } }))
  const vector = await (await db.load(text)).predictOne(queries[0]!)
  log(`"${queries[0]}" is ${vector.length} numbers, as is each picture.`)

  const cells: Cell[] = [], found: Found[] = []
  for (const query of queries) {
    const hits = await collection.like({ text: query }, index, { n: 6 }).find({}).toArray()
    found.push({ query, hits: hits.map(({ name, score }) => ({ name, score })) })
    cells.push(...hits.map(({ image, score }) => ({ image, caption: `${score.toFixed(2)} ${query}` })))
    log(`${query}: ${hits.slice(0, 3).map(({ name, score }) => `${name} ${score.toFixed(3)}`).join(', ')}`)
  }

  // A filter before the search leaves fewer to search in; after it, fewer of what was found.
  const example = { text: queries[0]! }, { group } = (await collection.find().like(example, index, { n: 1 }).first())!
  const filteredFirst = (await collection.find({ group }).like(example, index, { n: 3 }).toArray()).map((hit) => hit.name)
  const searchedFirst = (await collection.like(example, index, { n: 6 }).find({ group }).toArray()).map((hit) => hit.name)
  log(`Nearest to "${queries[0]}" in ${group}: ${filteredFirst.join(', ')}. In ${group}, of its 6 nearest: ${searchedFirst.join(', ')}.`)

  // Pictures find pictures, whether they are stored or not.
  const asked = await collection.find().limit(20).toArray()
  const byImage = await Promise.all(asked.map(({ image }) => collection.like({ image }, index, { n: 6 }).find().toArray())), byId = await Promise.all(asked.map(({ _id }) => collection.find().like(_id, index, { n: 6 }).toArray()))
  const first = (hits: readonly (readonly { readonly _id: string; readonly distance: number }[])[]): number => hits.filter((row, i) => row.some(({ _id, distance }) => _id === asked[i]!._id && distance - row[0]!.distance < 1e-6)).length
  for (const [i, row] of byImage.slice(0, 3).entries()) cells.push(...row.map(({ image, score }) => ({ image, caption: `${score.toFixed(2)} ~ ${asked[i]!.name}` })))
  log(`${first(byImage)} of ${asked.length} pictures find themselves first, ${first(byId)} by their _id.`)

  await mkdir(dirname(out), { recursive: true })
  await writeFile(out, (await contactSheet(cells, { columns: Math.min(6, ids.length), size: 140, title: 'Texts find pictures, pictures find pictures' })).bytes)
  log(`What was found is drawn in ${out}`)
  return {
    encoders: encoders === undefined ? 'colours' : 'graphs', pictures: ids.length, dims: vector.length, found, group, filteredFirst, searchedFirst, asked: asked.length, byImage: first(byImage), byId: first(byId), sheet: out,
    ok: (await db.verify()).ok,
  }
}

interface File { readonly name: string; readonly group: string; readonly file: string | URL }

/** Without flags, which are colours and little else. */
function emoji(): readonly File[] {
  return listed().filter(({ group }) => group !== 'Flags')
}
async function pictures(folder: string): Promise<readonly File[]> {
  const files = (await readdir(folder, { recursive: true })).filter((name) => /\.(jpe?g|png|webp|avif|gif|tiff?)$/i.test(name)).toSorted()
  if (files.length === 0) throw new Error(`There are no pictures in ${folder}: JPEG, PNG, WebP, AVIF, GIF or TIFF files are expected.`)
  return files.map((name) => ({ name, group: dirname(name), file: join(folder, name) }))
}
async function* opened(files: readonly File[]): AsyncGenerator<Picture> {
  for (const { name, group, file } of files) yield { name, group, image: await Image.open(file) }
}
/** The same list in another order, the same in every run. */
function shuffled<T>(list: readonly T[]): readonly T[] {
  const random = randoms(0)
  return list.map((value) => ({ value, at: random() })).toSorted((a, b) => a.at - b.at).map(({ value }) => value)
}

if (process.argv[1] === import.meta.filename) await main(run, 'data', 'encoders', 'out')
