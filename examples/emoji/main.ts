/**
 * Pictures of emoji, found by what they mean. Rows, pictures and vectors lie in one database; Inlay keeps the vectors in step with the rows.
 *
 *     npm start                         PGlite in a folder beside this file: a second run finds everything there
 *     npm start -- memory:              or any other URI: postgres://user@host/database
 */
import { join } from 'node:path'
import { inlay, listener, model, vectorIndex, type Middleware } from '../../index.ts'     // in a project of yours: from 'inlay'
import { wordPiece } from '../../plugins/torch-onnx/index.ts'                             // in a project of yours: from 'inlay/torch-onnx'
import { listed, read, type Picture } from './pictures.ts'
import { bar, count, done, onError, say, table } from './show.ts'
import { writePage } from './page.ts'

const here = import.meta.dirname
const uri = process.argv[2] ?? `pglite:${join(here, '.inlay/pglite')}`

// The model is an ONNX graph with a tokenizer before it. It turns a text into 128 numbers.
const embed = model('embed', {
  onnx: join(here, 'model/static-minilm-128-int8.onnx'),
  input: wordPiece('tokenize@1', { vocab: join(here, 'model/vocab.txt') }),
  shape: [128],
})
// Of every row of "emoji", the model reads the field "text". Its outputs can be searched.
const vectors = listener({ model: embed, on: 'emoji', key: 'text' })
const similar = vectorIndex('similar', { indexing: vectors })

// Middleware sees every call of the model.
let calls = 0
const counter: Middleware = {
  name: 'counter',
  model: (next) => ({ ...next, predict: (inputs, ctx) => { calls++; return next.predict(inputs, ctx) } }),
}
/** How often the model is called meanwhile. */
async function callsOf(work: Promise<unknown>): Promise<number> {
  const before = calls
  await work
  return calls - before
}

onError()
say('Inlay: pictures of emoji, found by what they mean', 'opening the database …')

// 1. Open. What is declared in "components" is stored with the database, so that it is known from the first row on.
await using db = await inlay({ data: uri, components: [similar], middleware: [counter] })
const emoji = db.collection<Picture>('emoji')
done('open', uri.replace(/\/\/[^@/]*@/, '//').replace(`${process.cwd()}/`, ''))

// 2. Store what is not there yet. The model runs on what is stored, and on nothing else. A run that was stopped is taken up where it ended.
await emoji.delete({ _id: 'mine' })                        // left by a run that was stopped in step 4
const there = new Set((await emoji.find().select().toArray()).map((row) => row._id))
const missing = listed().filter(({ _id }) => !there.has(_id))
const inserting = await callsOf(emoji.insert(read(missing), { onProgress: (progress) => bar(progress.done, missing.length) }))
const catchingUp = await callsOf(db.add(vectors, { onProgress: (progress) => bar(progress.done, progress.total) }))
const index = await db.add(similar)
const computed = inserting + catchingUp
if (missing.length + computed === 0) done('store', `${count(there.size, 'picture')} there, nothing to do: 0 model calls`)
else done('store', `${count(missing.length, 'new picture')}, ${count(computed, 'model call')}`)

// 3. Search: a text is turned into a vector by the same model, and the database finds the nearest rows, filtered or not.
const queries = [
  { text: 'animal that lives in the ocean' },
  { text: 'birthday party' },
  { text: 'I am very tired' },
  { text: 'something sweet for dessert' },
  { text: 'flying high in the sky' },
  { text: 'flying high in the sky', where: { group: 'Animals & Nature' } },
]
const results = await Promise.all(queries.map(async ({ text, where }) => ({
  title: where === undefined ? text : `${text}, in ${where.group}`,
  hits: await emoji.find(where).like({ text }, index, { n: 8 }).toArray(),
})))
done('search', count(queries.length, 'query', 'queries'))
table(results.map(({ title, hits }) => [title, ...hits.slice(0, 3).map((hit) => hit.name)]))

const page = await writePage(join(here, 'out'), results, await emoji.find().count())
done('page', page.replace(`${process.cwd()}/`, ''))

// 4. Change rows: outputs and search follow. The row is taken away in the end, so that the next run finds everything as it was.
const nearest = async (text: string): Promise<string> => (await emoji.find().like({ text }, index, { n: 1 }).first())?.name ?? ''
const followed: string[][] = []
async function follow(what: string, change?: Promise<unknown>): Promise<void> {
  const called = change === undefined ? '' : count(await callsOf(change), 'model call')
  followed.push([what, called, await nearest('submarine under the sea'), await nearest('banana for dessert')])
}
const ship = await emoji.findOne({ name: 'ship' })
await follow('before')
await follow('insert "yellow submarine"', emoji.insert({ _id: 'mine', name: 'yellow submarine', text: 'yellow submarine. under water, sea', group: 'Travel & Places', tags: [], image: ship!.image }))
await follow('rename to "banana split"', emoji.update({ _id: 'mine' }, { $set: { name: 'banana split', text: 'banana split. dessert, sweet' } }))
await follow('change its group', emoji.update({ _id: 'mine' }, { $set: { group: 'Food & Drink' } }))
await follow('delete it', emoji.delete({ _id: 'mine' }))
done('follow', 'a row changes, its vector and the search follow')
table([['', '', 'submarine under the sea', 'banana for dessert'], ...followed])

// 5. Nothing is missing, out of date, failed or left over.
const { ok, rows, missing: absent, stale, failed, orphaned } = await db.verify()
done('verify', `${ok ? 'all is well' : 'something is wrong'}: ${count(rows, 'row')}, ${absent} missing, ${stale} stale, ${failed} failed, ${orphaned} orphaned`)
