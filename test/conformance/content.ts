/** What core keeps of values that are no plain data, through the public API: contents of codecs, lists whose elements are rows, lineage and upgrades. */
import { expect } from 'vitest'
import type { Config, Inlay, ListenerHandle } from '../../core/api.ts'
import { codec, UriContent } from '../../core/codec.ts'
import type { Doc, Value } from '../../core/contract.ts'
import { base64Of, sha256 } from '../../core/encoding.ts'
import { InlayError } from '../../core/errors.ts'
import { listener, model, vectorIndex, type ModelSpec } from '../../core/spec.ts'
import { step } from '../../core/step.ts'
import { attaches, durable, otherProgram, rule, type Rule } from './rule.ts'
import type { Subject } from './subject.ts'

/** A value of a class, as bytes: its name, a zero, and its body. */
class Sheet {
  readonly title: string
  readonly body: Uint8Array
  constructor(title: string, body: Uint8Array) { this.title = title; this.body = body }
}
const bytesOf = ({ title, body }: Sheet): Uint8Array => Uint8Array.from([...new TextEncoder().encode(title), 0, ...body])
const sheet = codec<Sheet>({
  id: 'sheet', is: (value): value is Sheet => value instanceof Sheet, encode: bytesOf,
  decode: (bytes) => { const end = bytes.indexOf(0); if (end < 0) throw new Error('it has no title'); return new Sheet(new TextDecoder().decode(bytes.subarray(0, end)), Uint8Array.from(bytes.subarray(end + 1))) },
})
const paper = (title: string, size = 3): Sheet => new Sheet(title, Uint8Array.from({ length: size }, (_, i) => (i * 7 + title.length) % 256))
/** Of these bytes: up to 16 KiB lie in the row, more in the artifact store. */
const inline = 16 * 1024

type Row = Readonly<Record<string, unknown>> & { readonly _id: string }
/** Opens the API with the codec, and closes it at the end. */
async function using(s: Subject, work: (db: Inlay) => Promise<void>, config: Partial<Config> = {}): Promise<void> {
  const db = await s.open({ components: [sheet], ...config })
  try {
    await work(db)
  } finally {
    await db.close()
  }
}
/** As another program writes it: past core, in the form in which the database keeps it. */
async function written(s: Subject, db: Inlay, docs: Readonly<Record<string, Doc>>): Promise<ReturnType<typeof sheets>> {
  const of = sheets(db, s.name('sheets'))
  await of.insert({ _id: 'own', at: paper('own') })
  await s.insert(of.name, docs)
  return of
}
const sheets = (db: Inlay, name: string) => db.collection<Readonly<Record<string, unknown>>>(name)
const rowsOf = async (find: AsyncIterable<object>): Promise<readonly Row[]> => { const list: Row[] = []; for await (const row of find) list.push(row as Row); return list }
const failing = async (work: Promise<unknown>): Promise<InlayError> => work.then(() => expect.fail('nothing was thrown'), (error: unknown) => (InlayError.is(error) ? error : expect.fail(`${String(error)} is no InlayError`)))
const listFailures = async (of: ListenerHandle<never>): Promise<readonly (readonly [string, string])[]> => (await rowsOf(of.failures())).map((row) => [row._id, row['error'] as string])
/** How many artifacts nothing refers to, and how many are missing. */
const artifactsOf = async (db: Inlay): Promise<{ readonly missing: number; readonly unreferenced: number }> => (await db.verify()).artifacts

const title = (version = 1) => model<Sheet, string>('title', { run: step(`title@${version}`, (list: readonly Sheet[]) => list.map((one) => `${one.title}${version === 1 ? '' : ` ${version}`}`)) })
const copied = model<Sheet, Sheet>('copied', { run: step('copied@1', (list: readonly Sheet[]) => list.map((one) => new Sheet(`copy of ${one.title}`, one.body))) })
const words = (version = 1) => model<string, readonly string[]>('words', { run: step(`words@${version}`, (texts: readonly string[]) => texts.map((text) => { if (text === 'boom') throw new Error('boom'); return text === '' ? [] : text.split(version === 1 ? ' ' : '') })) })
const letters = model<string, Float32Array>('letters', { run: step('letters@1', (texts: readonly string[]) => texts.map((text) => Float32Array.of(text.length, text.charCodeAt(0) - 96))), shape: [2] })
const length = model<string, number>('length', { run: step('length@1', (texts: readonly string[]) => texts.map((text) => text.length)) })
interface Lists { readonly docs: ReturnType<typeof sheets>; readonly parts: ListenerHandle<readonly string[]>; readonly vectors: ListenerHandle<Float32Array>; readonly lengths: ListenerHandle<number>; remove(): Promise<void> }
/** A collection of texts, lists of their words, and what is made from each word: a vector, and its length. */
async function listening(db: Inlay, name: string, rows: readonly { readonly _id: string; readonly text: string }[] = [], of: ModelSpec<string, readonly string[]> = words()): Promise<Lists> {
  const parts = listener({ model: of, on: name, key: 'text', flatten: true, name: `words_${name}` }), docs = sheets(db, name)
  if (rows.length > 0) await docs.insert(rows)
  const handles = { parts: await db.add(parts), vectors: await db.add(listener({ model: letters, on: name, key: parts as never, name: `vec_${name}` })), lengths: await db.add(listener({ model: length, on: name, key: parts as never, name: `len_${name}` })) }
  return { docs, ...handles as unknown as Omit<Lists, 'docs' | 'remove'>, remove: async () => { for (const one of ['vec', 'len', 'words']) await db.remove('listener', `${one}_${name}`) } }
}
const healthOf = async (db: Inlay, name: string): Promise<object> => {
  const { rows, missing, stale, orphaned, failed } = (await db.verify({ deep: true })).listeners.find((l) => l.name === name)!
  return { rows, missing, stale, orphaned, failed }
}
const whole = (rows: number): object => ({ rows, missing: 0, stale: 0, orphaned: 0, failed: 0 })
const shout = (version: number) => model<string, string>('shout', { run: step(`shout@${version}`, (texts: readonly string[]) => texts.map((text) => `${text.toUpperCase()}${version}`)) })

export const contentRules: readonly Rule[] = [
  rule('content.codec.depth', 'values of codecs are given back at any depth, in lists and objects, beside plain data', async (s) => using(s, async (db) => {
    const docs = sheets(db, s.name('sheets')), doc = { at: paper('top'), list: [paper('first'), null, [paper('nested')], { at: paper('inside', 0) }], plain: { n: 1, bytes: Uint8Array.of(1, 0) } }
    expect((await docs.insert({ _id: 'a', ...doc })).refused).toEqual([])
    const { _id, _fold, ...read } = (await docs.findOne({ _id: 'a' }))! as Row
    expect([_id, read, read['at'] instanceof Sheet]).toEqual(['a', doc, true])
  })),
  rule('content.codec.where', 'up to 16 KiB of a value lie in its row, more in the artifact store, under their SHA-256', async (s) => using(s, async (db) => {
    const docs = sheets(db, s.name('sheets')), sizes = [0, 1, inline - 2, inline - 1, inline, 200_000], values = sizes.map((size) => paper('x', size))
    await docs.insert(values.map((at, i) => ({ _id: `k${i}`, at })))
    expect((await rowsOf(docs.find())).map((row) => row['at'])).toEqual(values)
    const stored = (await s.find(docs.name)).map((row) => (row.doc['at'] as { readonly _content: Doc })._content)
    expect(stored.map(({ codec: id, artifact, bytes }) => [id, artifact, typeof bytes])).toEqual(values.map((value, i) => ['sheet', sizes[i]! + 2 > inline ? sha256(bytesOf(value)) : undefined, sizes[i]! + 2 > inline ? 'number' : 'object']))
  })),
  rule('content.codec.own', 'of many rows each gets its own values, in order, and what is not asked for is not read', async (s) => using(s, async (db) => {
    const docs = sheets(db, s.name('sheets')), values = Array.from({ length: 40 }, (_, i) => paper(`sheet ${i}`, i % 4 === 0 ? inline + i : i))
    await docs.insert(values.map((at, i) => ({ _id: `k${String(i).padStart(2, '0')}`, at, n: i })))
    expect((await rowsOf(docs.find())).map((row) => row['at'])).toEqual(values)
    expect((await rowsOf(docs.find({ n: { $lt: 3 } }).select('n'))).map(({ _fold, ...row }) => row)).toEqual([{ _id: 'k00', n: 0 }, { _id: 'k01', n: 1 }, { _id: 'k02', n: 2 }])
  })),
  rule('content.codec.beside', 'a change beside values keeps them, one of them can be changed alone, and what was read can be written again', async (s) => using(s, async (db) => {
    const docs = sheets(db, s.name('sheets')), large = paper('large', 50_000), small = paper('small')
    await docs.insert({ _id: 'a', large, in: { list: [small, { n: 1 }] }, n: 1 })
    const stored = (await s.row(docs.name, 'a'))!.doc
    await docs.update({ _id: 'a' }, { $set: { n: 2, 'in.list.1.n': 2 } })
    const row = (await docs.findOne({ _id: 'a' }))! as Row, { _id, ...rest } = row
    expect([row['large'], row['in'], row['n'], (await s.row(docs.name, 'a'))!.doc['large']]).toEqual([large, { list: [small, { n: 2 }] }, 2, stored['large']])
    await docs.update({ _id: 'a' }, { $set: { 'in.list.0': paper('other', 40_000) } })
    expect((await docs.findOne({ _id: 'a' }))!['in']).toEqual({ list: [paper('other', 40_000), { n: 2 }] })
    expect((await docs.replace(_id, { ...rest, n: 3 })).refused).toEqual([])
    const again = (await docs.findOne({ _id: 'a' }))!
    expect([again['large'], again['in'], again['n']]).toEqual([large, row['in'], 3])
  })),
  rule('content.codec.kept', 'values are there after closing and connecting again', async (s) => {
    const name = s.name('sheets')
    await using(s, async (db) => { await sheets(db, name).insert({ _id: 'a', small: paper('small'), large: paper('large', 60_000) }) })
    await s.reopen()
    await using(s, async (db) => expect(await sheets(db, name).findOne({ _id: 'a' })).toMatchObject({ small: paper('small'), large: paper('large', 60_000) }))
  }, durable),

  rule('content.form.bytes', 'content that another program wrote is read: its bytes as such, and as base64', async (s) => using(s, async (db) => {
    const value = paper('théâtre', 400), bytes = bytesOf(value), docs = await written(s, db, { native: { at: { _content: { bytes, codec: 'sheet' } } }, text: { at: { _content: { bytes: base64Of(bytes), codec: 'sheet' } } }, deep: { list: [{ at: { _content: { codec: 'sheet', bytes: base64Of(bytes) } } }] }, plain: { at: { _content: { bytes } } } })
    expect((await rowsOf(docs.find())).map((row) => row['at'] ?? row['list'])).toEqual([[{ at: value }], value, paper('own'), bytes, value])
    expect((await docs.update({ _id: 'text' }, { $set: { n: 1 } })).ids).toEqual(['text'])
    expect((await docs.findOne({ _id: 'text' }))!['at']).toEqual(value)
  })),
  rule('content.form.artifact', 'a reference to an artifact that another program wrote is read, with its size or without', async (s) => using(s, async (db) => {
    const value = paper('apart', 30_000), bytes = bytesOf(value), artifact = sha256(bytes)
    await s.artifacts.write(artifact, (async function* () { yield bytes.slice() })(), s.ctx)
    const docs = await written(s, db, { sized: { at: { _content: { artifact, bytes: bytes.length, codec: 'sheet' } } }, plain: { at: [{ _content: { artifact, codec: 'sheet' } }] } })
    expect((await rowsOf(docs.find({ _id: { $in: ['sized', 'plain'] } }))).map((row) => row['at'])).toEqual([[value], value])
  })),
  rule('content.form.other', 'what only looks like content is plain data', async (s) => using(s, async (db) => {
    const plain: Readonly<Record<string, Value>> = { number: { _content: 5 }, text: { _content: 'x' }, beside: { _content: { bytes: 'AAAA', codec: 'sheet' }, n: 1 }, more: { _content: { bytes: 'AAAA', codec: 'sheet', n: 1 } }, none: { _content: { codec: 'sheet' } }, letters: { _content: { bytes: 'no base64!', codec: 'sheet' } }, id: { _content: { artifact: 'short', codec: 'sheet' } } }
    const docs = await written(s, db, { a: plain })
    const { _id, _fold, ...read } = (await docs.findOne({ _id: 'a' }))! as Row
    s.expectSame(read as Doc, plain)
  })),
  rule('content.form.uri', 'a URI is not fetched when it is read, but when it is asked for, or a model needs it', async (s) => {
    const fetched: string[] = [], content = { allow: ['here:'], schemes: { here: async (uri: string) => { fetched.push(uri); return bytesOf(paper(uri.slice('here:'.length))) } } }
    await using(s, async (db) => {
      const docs = await written(s, db, { a: { at: { _content: { uri: 'here:one', codec: 'sheet' } } } })
      const lazy = (await docs.findOne({ _id: 'a' }))!['at'] as UriContent<Sheet>
      expect([lazy instanceof UriContent, lazy.uri, lazy.codec, fetched]).toEqual([true, 'here:one', 'sheet', []])
      expect(await lazy.load()).toEqual(paper('one'))
      await docs.insert({ _id: 'b', at: lazy })
      expect((await s.row(docs.name, 'b'))!.doc['at']).toEqual({ _content: { uri: 'here:one', codec: 'sheet' } })
      const titles = await db.add(listener({ model: title(), on: docs.name, key: 'at', name: `uri_${docs.name}` }))
      expect((await rowsOf(docs.find())).map((row) => titles.of(row))).toEqual(['one', 'one', 'own'])
      await db.remove('listener', `uri_${docs.name}`)
    }, { content: content as never })
  }),
  rule('content.form.fetched', 'what was fetched and is to be kept is read from the artifact store from then on, by others too', async (s) => {
    let away = false
    const content = { allow: ['here:'], keep: true, schemes: { here: async () => { if (away) throw new Error('away'); return bytesOf(paper('fetched', 20_000)) } } }, name = s.name('sheets')
    await using(s, async (db) => {
      const docs = sheets(db, name)
      await docs.insert({ _id: 'a', at: { _content: { uri: 'here:x', codec: 'sheet' } } })
      const titles = await db.add(listener({ model: title(), on: name, key: 'at', name: `kept_${name}` }))
      expect(titles.of((await docs.findOne({ _id: 'a' }))!)).toBe('fetched')
    }, { content: content as never })
    away = true
    await using(s, async (db) => {
      expect((await sheets(db, name).findOne({ _id: 'a' }))!['at']).toEqual(paper('fetched', 20_000))
      const before = await artifactsOf(db), id = sha256(bytesOf(paper('fetched', 20_000)))
      await s.artifacts.remove([id], s.ctx)
      expect((await artifactsOf(db)).missing).toBe(before.missing + 1)
      await db.remove('listener', `kept_${name}`)
      await s.remove('_content', sha256('here:x'))
    }, { content: content as never })
  }),

  rule('content.damaged.bytes', 'bytes that are damaged are CORRUPT, with document, field and codec; other rows are read, and the row can be mended', async (s) => using(s, async (db) => {
    const docs = await written(s, db, { a: { in: [{ at: { _content: { bytes: Uint8Array.of(1, 2, 3), codec: 'sheet' } } }], n: 1 } }), error = await failing(rowsOf(docs.find()))
    expect([error.code, error.message, error.details]).toEqual(['CORRUPT', 'The field "in.0.at" of document "a" cannot be decoded by the codec "sheet": it has no title. Write the field again, or leave it out with select().', { id: 'a', path: 'in.0.at', codec: 'sheet' }])
    expect([(await docs.findOne({ _id: 'own' }))!['at'], (await rowsOf(docs.find({ _id: 'a' }).select('n')))[0]!['n']]).toEqual([paper('own'), 1])
    expect((await docs.update({ _id: 'a' }, { $set: { n: 2 } })).ids).toEqual(['a'])
    await docs.update({ _id: 'a' }, { $set: { in: [{ at: paper('mended') }] } })
    expect(await docs.findOne({ _id: 'a' })).toMatchObject({ in: [{ at: paper('mended') }], n: 2 })
  })),
  rule('content.damaged.codec', 'a codec that is not known is NOT_FOUND, with its name; the row can be changed and deleted', async (s) => using(s, async (db) => {
    const docs = await written(s, db, { a: { at: { _content: { bytes: Uint8Array.of(1), codec: 'nobody' } }, n: 1 } }), error = await failing(rowsOf(docs.find()))
    expect([error.code, error.details]).toEqual(['NOT_FOUND', { id: 'a', path: 'at', codec: 'nobody' }])
    await docs.update({ _id: 'a' }, { $set: { n: 2 } })
    s.expectSame((await s.row(docs.name, 'a'))!.doc['at'], { _content: { bytes: Uint8Array.of(1), codec: 'nobody' } })
    expect([(await docs.delete({ _id: 'a' })).ids, (await rowsOf(docs.find())).length]).toEqual([['a'], 1])
  })),
  rule('content.damaged.artifact', 'an artifact that is gone, or holds other bytes, is CORRUPT and counted by verify; writing the field again mends it', async (s) => using(s, async (db) => {
    const docs = sheets(db, s.name('sheets')), lost = paper('lost', 30_000), before = await artifactsOf(db)
    await docs.insert([{ _id: 'a', at: lost }, { _id: 'b', at: paper('other', 30_000) }])
    await s.artifacts.remove([sha256(bytesOf(lost))], s.ctx)
    const error = await failing(rowsOf(docs.find()))
    expect([error.code, error.details, (await artifactsOf(db)).missing - before.missing]).toEqual(['CORRUPT', { id: 'a', path: 'at', artifact: sha256(bytesOf(lost)) }, 1])
    expect((await docs.findOne({ _id: 'b' }))!['at']).toEqual(paper('other', 30_000))
    await s.artifacts.write(sha256(bytesOf(lost)), (async function* () { yield bytesOf(paper('else', 30_000)) })(), s.ctx)
    expect([(await failing(rowsOf(docs.find({ _id: 'a' })))).code, (await db.verify({ deep: true })).artifacts.missing - before.missing]).toEqual(['CORRUPT', 1])
    await s.artifacts.remove([sha256(bytesOf(lost))], s.ctx)
    await docs.update({ _id: 'a' }, { $set: { at: lost } })
    expect([(await docs.findOne({ _id: 'a' }))!['at'], (await db.verify({ deep: true })).artifacts.missing]).toEqual([lost, before.missing])
  })),
  rule('content.damaged.alone', 'one damaged value fails alone: the others have their outputs, and it has its own when it is mended', async (s) => using(s, async (db) => {
    const docs = await written(s, db, { bad: { at: { _content: { bytes: Uint8Array.of(1), codec: 'sheet' } } }, good: { at: { _content: { bytes: base64Of(bytesOf(paper('good'))), codec: 'sheet' } } } })
    const titles = await db.add(listener({ model: title(), on: docs.name, key: 'at', name: `alone_${docs.name}` }))
    expect([(await rowsOf(docs.find({ _id: { $ne: 'bad' } }))).map((row) => titles.of(row)), (await listFailures(titles as never)).map(([id]) => id)]).toEqual([['good', 'own'], ['bad']])
    expect((await docs.update({ _id: 'bad' }, { $set: { at: paper('mended') } })).outputs).toMatchObject({ done: 1, failed: 0 })
    expect(titles.of((await docs.findOne({ _id: 'bad' }))!)).toBe('mended')
    await db.remove('listener', `alone_${docs.name}`)
  })),

  rule('content.outputs.values', 'outputs are values of codecs, small and large, which others listen to; verify counts what they refer to, and a removal leaves it to be removed', async (s) => using(s, async (db) => {
    const name = s.name('sheets'), docs = sheets(db, name), copies = listener({ model: copied, on: name, key: 'at', name: `copied_${name}` }), before = await artifactsOf(db)
    const out = await db.add(copies), titles = await db.add(listener({ model: title(), on: name, key: copies, name: `title_${name}` }))
    const { outputs } = await docs.insert([{ _id: 'a', at: paper('a') }, { _id: 'b', at: paper('b', 40_000) }])
    expect(outputs).toEqual({ done: 4, failed: 0, pending: 0 })
    const rows = await rowsOf(docs.find())
    expect(rows.map((row) => [out.of(row), titles.of(row)])).toEqual([[new Sheet('copy of a', paper('a').body), 'copy of a'], [new Sheet('copy of b', paper('b', 40_000).body), 'copy of b']])
    expect([await artifactsOf(db), (await db.verify({ deep: true })).artifacts.missing]).toEqual([before, before.missing])
    await s.artifacts.remove([sha256(bytesOf(new Sheet('copy of b', paper('b', 40_000).body)))], s.ctx)
    expect((await artifactsOf(db)).missing).toBe(before.missing + 1)
    await docs.delete({}, { all: true })
    expect(await artifactsOf(db)).toEqual({ missing: before.missing, unreferenced: before.unreferenced + 1 })
    await db.verify({ repair: true, removeArtifacts: true, graceMs: 0 })
    expect((await artifactsOf(db)).unreferenced).toBe(0)
    for (const one of ['title', 'copied']) await db.remove('listener', `${one}_${name}`)
  })),
  rule('content.attached.column', 'a column of others with a declared codec holds URIs: they are read as such, given to models, and written back as plain text', async (s) => {
    const foreign = await s.foreign(), kind = foreign.keys[0]!, { source, keys } = await foreign.table(kind, [{ t: 'here:one', n: 1 }, { t: null, n: 2 }, { t: 'here:two', n: 3 }])
    await using(s, async (db) => {
      const name = s.name('attached_columns'), docs = db.collection<{ t: unknown; n: number }>(name, { attach: source, codecs: { t: 'sheet' } }), rows = await rowsOf(docs.find())
      expect(rows.map((row) => (row['t'] as UriContent | null)?.uri ?? null)).toEqual(['here:one', null, 'here:two'])
      const titles = await db.add(listener({ model: title(), on: name, key: 't', name: `column_${name}` }))
      expect((await rowsOf(docs.find())).map((row) => titles.of(row))).toEqual(['one', undefined, 'two'])
      await docs.update({ _id: keys[1]! }, { $set: { t: rows[0]!['t'] } })
      await docs.update({ _id: keys[2]! }, { $set: { n: 4 } })
      expect([...(await foreign.read({ source })).entries()]).toEqual([[keys[0], { t: 'here:one', n: 1 }], [keys[1], { t: 'here:one', n: 2 }], [keys[2], { t: 'here:two', n: 4 }]])
      expect((await rowsOf(docs.find())).map((row) => titles.of(row))).toEqual(['one', 'one', 'two'])
      await db.remove('listener', `column_${name}`)
      await db.remove('collection', name)
    }, { content: { allow: ['here:'], schemes: { here: async (uri: string) => bytesOf(paper(uri.slice('here:'.length))) } } as never })
  }, attaches, otherProgram),

  rule('content.lists.elements', 'a list is one output for each element, read as a row, with what others make from it', async (s) => using(s, async (db) => {
    const { docs, parts, lengths, remove } = await listening(db, s.name('lists'), [{ _id: 'a', text: 'one two' }, { _id: 'b', text: '' }])
    const { outputs } = await docs.insert([{ _id: 'c', text: 'three four five' }, { _id: 'd', text: 'boom' }])
    expect(outputs).toEqual({ done: 7, failed: 1, pending: 0 })
    expect((await rowsOf(docs.find())).map((row) => parts.of(row))).toEqual([['one', 'two'], [], ['three', 'four', 'five'], undefined])
    expect((await rowsOf(parts.chunks())).map((row) => [row._id, row['value'], row['source'], row['offset'], lengths.of(row)])).toEqual([['a#0', 'one', 'a', 0, 3], ['a#1', 'two', 'a', 1, 3], ['c#0', 'three', 'c', 0, 5], ['c#1', 'four', 'c', 1, 4], ['c#2', 'five', 'c', 2, 4]])
    expect([await healthOf(db, parts.name), await healthOf(db, lengths.name)]).toEqual([{ ...whole(4), failed: 1 }, whole(5)])
    await remove()
  })),
  rule('content.lists.asked', 'elements are filtered, sorted, skipped and counted as rows are', async (s) => using(s, async (db) => {
    const { parts, lengths, remove } = await listening(db, s.name('lists'), [{ _id: 'a', text: 'one two three' }, { _id: 'b', text: 'four five' }]), found = async (find: AsyncIterable<object>): Promise<readonly string[]> => (await rowsOf(find)).map((row) => row._id)
    expect(await found(parts.chunks({ source: 'a', offset: { $gte: 1 } }))).toEqual(['a#1', 'a#2'])
    expect(await found(parts.chunks({ value: { $regex: '^f' } }))).toEqual(['b#0', 'b#1'])
    expect(await found(parts.chunks({ [lengths.path]: { $gt: 3 } } as never))).toEqual(['a#2', 'b#0', 'b#1'])
    expect(await found(parts.chunks({ _id: { $in: ['b#1', 'a#0', 'a#9'] } }))).toEqual(['a#0', 'b#1'])
    expect(await found(parts.chunks().sort({ value: 1 }).skip(1).limit(2))).toEqual(['b#0', 'a#0'])
    expect(await parts.chunks({ source: 'b' }).count()).toBe(2)
    await remove()
  })),
  rule('content.lists.follow', 'a changed list computes what changed of it; what is no more goes, with all that was made from it', async (s) => using(s, async (db) => {
    const name = s.name('lists'), { docs, parts, vectors, lengths, remove } = await listening(db, name, [{ _id: 'a', text: 'one two three' }, { _id: 'b', text: 'four' }])
    expect((await docs.update({ _id: 'a' }, { $set: { text: 'one zwei' } })).outputs).toEqual({ done: 3, failed: 0, pending: 0 })
    expect((await rowsOf(parts.chunks())).map((row) => [row._id, row['value'], lengths.of(row), vectors.of(row)])).toEqual([['a#0', 'one', 3, Float32Array.of(3, 15)], ['a#1', 'zwei', 4, Float32Array.of(4, 26)], ['b#0', 'four', 4, Float32Array.of(4, 6)]])
    await docs.update({ _id: 'a' }, { $set: { other: 1 } })
    await docs.delete({ _id: 'b' })
    await docs.update({ _id: 'a' }, { $set: { text: 'boom' } })
    expect([await rowsOf(parts.chunks()), await healthOf(db, parts.name), await healthOf(db, lengths.name)]).toEqual([[], { ...whole(1), failed: 1 }, whole(0)])
    await docs.update({ _id: 'a' }, { $set: { text: 'one' } })
    expect((await rowsOf(parts.chunks())).map((row) => [row._id, lengths.of(row)])).toEqual([['a#0', 3]])
    // What is written past the API, repair finds.
    await s.patch(name, 'a', { text: 'past core' })
    expect((await db.verify({ repair: true })).repaired.computed).toBeGreaterThan(0)
    expect((await rowsOf(parts.chunks())).map((row) => [row['value'], lengths.of(row)])).toEqual([['past', 4], ['core', 4]])
    await remove()
  })),
  rule('content.lists.searched', 'vectors of elements are searched: hits are elements, filtered by their own fields', async (s) => using(s, async (db) => {
    const name = s.name('lists'), { docs, parts, remove } = await listening(db, name, [{ _id: 'a', text: 'ccc a b' }, { _id: 'b', text: 'dddd aaa' }])
    const near = await db.add(vectorIndex(`near_${name}`, { indexing: listener({ model: letters, on: name, key: listener({ model: words(), on: name, key: 'text', flatten: true, name: `words_${name}` }) as never, name: `vec_${name}` }) as never, measure: 'l2', compatible: { q: letters } }))
    const found = async (where?: object): Promise<readonly unknown[]> => (await rowsOf(parts.chunks(where as never).like({ q: 'ccc' } as never, near, { n: 2 }))).map((hit) => [hit._id, hit['value'], hit['source']])
    expect([await found(), await found({ source: 'b' })]).toEqual([[['a#0', 'ccc', 'a'], ['b#0', 'dddd', 'b']], [['b#0', 'dddd', 'b'], ['b#1', 'aaa', 'b']]])
    await docs.update({ _id: 'a' }, { $set: { text: 'x' } })
    await docs.insert({ _id: 'c', text: 'ccc' })
    expect(await found()).toEqual([['c#0', 'ccc', 'c'], ['b#0', 'dddd', 'b']])
    await docs.delete({ _id: 'c' })
    expect(await found()).toEqual([['b#0', 'dddd', 'b'], ['b#1', 'aaa', 'b']])
    expect((await db.verify({ deep: true })).listeners.find((l) => l.name === `vec_${name}`)).toMatchObject({ rows: 3, index: 0 })
    await db.remove('index', `near_${name}`)
    await remove()
  })),
  rule('content.lists.values', 'elements are values of codecs too, large ones in the artifact store, which verify counts', async (s) => using(s, async (db) => {
    const name = s.name('lists'), docs = sheets(db, name), cut = model<Sheet, readonly Sheet[]>('cut', { run: step('cut@1', (list: readonly Sheet[]) => list.map(({ title: of, body }) => [new Sheet(`${of} small`, body.slice(0, 4)), new Sheet(`${of} large`, body)])) }), before = await artifactsOf(db)
    const pieces = listener({ model: cut, on: name, key: 'at', flatten: true, name: `cut_${name}` }), parts = await db.add(pieces), titles = await db.add(listener({ model: title(), on: name, key: pieces as never, name: `cuts_${name}` }))
    await docs.insert([{ _id: 'a', at: paper('a', 30_000) }, { _id: 'b', at: paper('b') }])
    const rows = await rowsOf(parts.chunks())
    expect(rows.map((row) => [row._id, row['value'] instanceof Sheet, (titles as unknown as ListenerHandle<string>).of(row), (row['value'] as Sheet).body.length])).toEqual([['a#0', true, 'a small', 4], ['a#1', true, 'a large', 30_000], ['b#0', true, 'b small', 3], ['b#1', true, 'b large', 3]])
    expect(await artifactsOf(db)).toEqual(before)
    await s.artifacts.remove([sha256(bytesOf(new Sheet('a large', paper('a', 30_000).body)))], s.ctx)
    expect((await artifactsOf(db)).missing).toBe(before.missing + 1)
    await docs.delete({}, { all: true })
    expect((await artifactsOf(db)).missing).toBe(before.missing)
    for (const one of ['cuts', 'cut']) await db.remove('listener', `${one}_${name}`)
  })),
  rule('content.lists.attached', 'lists are made of rows of others, and go with them', async (s) => {
    const foreign = await s.foreign()
    for (const kind of foreign.keys.slice(0, 3)) {
      const { source, keys } = await foreign.table(kind, Array.from({ length: 11 }, (_, i) => ({ t: i === 4 ? '' : `row ${i}`, n: i })))
      await using(s, async (db) => {
        const name = s.name('attached_lists'), docs = db.collection<{ t: string; n: number }>(name, { attach: source })
        const split = listener({ model: words(), on: name, key: 't', flatten: true, name: `words_${name}` }), parts = await db.add(split), lengths = await db.add(listener({ model: length, on: name, key: split as never, name: `len_${name}` })) as unknown as ListenerHandle<number>
        expect((await rowsOf(docs.find())).map((row) => parts.of(row))).toEqual(keys.map((_, i) => (i === 4 ? [] : ['row', String(i)])))
        expect((await rowsOf(parts.chunks({ offset: 1 }))).map((row) => [row['source'], row['value'], lengths.of(row)]).sort()).toEqual(keys.flatMap((key, i) => (i === 4 ? [] : [[key, String(i), String(i).length]])).sort())
        await docs.update({ _id: keys[0]! }, { $set: { t: 'changed' } })
        await docs.delete({ _id: keys[1]! })
        expect((await rowsOf(parts.chunks({ source: { $in: [keys[0]!, keys[1]!] } }))).map((row) => [row['source'], row['value'], lengths.of(row)])).toEqual([[keys[0], 'changed', 7]])
        await foreign.replace({ source }, keys[2]!, { t: 'by another program', n: 2 })
        await foreign.remove({ source }, keys[3]!)
        await db.verify({ repair: true, deep: true })
        expect((await rowsOf(parts.chunks({ source: { $in: [keys[2]!, keys[3]!] } }))).map((row) => [row['source'], row['value'], lengths.of(row)])).toEqual([[keys[2], 'by', 2], [keys[2], 'another', 7], [keys[2], 'program', 7]])
        expect([await healthOf(db, parts.name), await healthOf(db, lengths.name)]).toEqual([whole(9), whole(16)])
        for (const one of ['len', 'words']) await db.remove('listener', `${one}_${name}`)
        await db.remove('collection', name)
      })
    }
  }, attaches, otherProgram),
  rule('content.lists.kept', 'lists and what is made from them are there after closing and connecting again, and are followed', async (s) => {
    const name = s.name('lists')
    await using(s, async (db) => { await listening(db, name, [{ _id: 'a', text: 'one two' }]) })
    await s.reopen()
    await using(s, async (db) => {
      const { docs, parts, lengths, remove } = await listening(db, name)
      expect([(await rowsOf(parts.chunks())).map((row) => [row['value'], lengths.of(row)]), await healthOf(db, lengths.name)]).toEqual([[['one', 3], ['two', 3]], whole(2)])
      expect((await docs.update({ _id: 'a' }, { $set: { text: 'one' } })).outputs).toMatchObject({ failed: 0, pending: 0 })
      expect((await rowsOf(parts.chunks())).map((row) => [row['value'], lengths.of(row)])).toEqual([['one', 3]])
      await remove()
    })
  }, durable),
  rule('content.lists.upgrade', 'a new version of what makes the lists takes along all that is made from their elements', async (s) => using(s, async (db) => {
    const name = s.name('lists'), { docs, parts, lengths, remove } = await listening(db, name, [{ _id: 'a', text: 'ab cd' }])
    await db.add(listener({ model: words(2), on: name, key: 'text', flatten: true, name: `words_${name}` }))
    expect((await rowsOf(parts.chunks())).map((row) => [row['value'], lengths.of(row)])).toEqual([['a', 1], ['b', 1], [' ', 1], ['c', 1], ['d', 1]])
    await docs.insert({ _id: 'b', text: 'x' })
    expect([await healthOf(db, parts.name), await healthOf(db, lengths.name)]).toEqual([whole(2), whole(6)])
    await remove()
  })),

  rule('content.lineage.says', 'an output says what it was made from, by what, when and by whom; a move of its mark leaves the latter', async (s) => using(s, async (db) => {
    const name = s.name('lists'), { docs, parts, lengths, remove } = await listening(db, name, [{ _id: 'a', text: 'one two' }, { _id: 'b', text: 'boom' }]), lineage = (await lengths.lineage('a#1'))!, began = Date.now() - 60_000
    expect(lineage).toMatchObject({ row: { _id: 'a#1', current: true }, model: { name: 'length', version: 0 }, steps: [{ step: 'length@1' }], upstream: [{ row: { _id: 'a', current: true }, model: { name: 'words' }, upstream: [] }] })
    for (const { at, worker } of [lineage, lineage.upstream[0]!]) expect([at! > new Date(began), at! <= new Date(Date.now() + 1000), worker !== undefined && worker.length > 3]).toEqual([true, true, true])
    expect([(await parts.lineage('b'))?.error, await parts.lineage('none'), await lengths.lineage('a#7')]).toEqual(['boom', undefined, undefined])
    const { at, worker, row } = (await parts.lineage('a'))!
    await docs.update({ _id: 'a' }, { $set: { other: 1 } })
    const moved = (await parts.lineage('a'))!
    expect([moved.at, moved.worker, moved.row.current, moved.row.rev === row.rev]).toEqual([at, worker, true, false])
    await remove()
  })),
  rule('content.upgrade.switch', 'a new version is computed beside the old one, compared, and read from the switch on; both are kept up to date until one is dropped', async (s) => using(s, async (db) => {
    const name = s.name('texts'), docs = sheets(db, name), first = listener({ model: shout(1), on: name, key: 'text', name: `up_${name}` }), a = await db.add(first), b = await db.add(listener({ model: length, on: name, key: first, name: `len_${name}` }))
    await docs.insert([{ _id: 'a', text: 'x' }, { _id: 'b', text: 'yy' }])
    const read = async (): Promise<readonly unknown[]> => (await rowsOf(docs.find())).map((row) => [a.of(row), b.of(row)]), up = await a.upgrade(shout(22))
    expect([await read(), await up.progress(), await up.compare()]).toEqual([[['X1', 2], ['YY1', 3]], { done: 2, total: 2, failed: 0, perSecond: 0 }, { rows: 2, equal: 0, failures: { before: 0, after: 0 }, examples: [{ _id: 'a', before: 'X1', after: 'X22' }, { _id: 'b', before: 'YY1', after: 'YY22' }] }])
    await docs.insert({ _id: 'c', text: 'z' })
    await up.switch()
    expect(await read()).toEqual([['X22', 3], ['YY22', 4], ['Z22', 3]])
    await docs.update({ _id: 'a' }, { $set: { text: 'again' } })
    await up.rollback()
    expect([await read(), await healthOf(db, a.name), await healthOf(db, b.name)]).toEqual([[['AGAIN1', 6], ['YY1', 3], ['Z1', 2]], whole(3), whole(3)])
    const again = await a.upgrade(shout(22))
    await again.switch()
    await again.drop()
    expect([await read(), await healthOf(db, a.name), await healthOf(db, b.name)]).toEqual([[['AGAIN22', 7], ['YY22', 4], ['Z22', 3]], whole(3), whole(3)])
    expect((await db.show('listener')).filter((l) => l.name.endsWith(name)).map((l) => l.state)).toEqual(['ready', 'ready'])
    for (const one of ['len', 'up']) await db.remove('listener', `${one}_${name}`)
  })),
  rule('content.upgrade.outlives', 'an upgrade is taken up after closing and connecting again, and given up before the switch', async (s) => {
    const name = s.name('texts'), first = (): ReturnType<typeof listener<string, string, 'text'>> => listener({ model: shout(1), on: name, key: 'text', name: `up_${name}` }) as never
    await using(s, async (db) => {
      const a = await db.add(first())
      await sheets(db, name).insert({ _id: 'a', text: 'x' })
      await a.upgrade(shout(3) as never)
    })
    await s.reopen()
    await using(s, async (db) => {
      const docs = sheets(db, name), a = await db.load(first()), up = await a.upgrade(shout(3) as never), read = async (): Promise<unknown> => a.of((await docs.findOne({ _id: 'a' }))!)
      expect([up.version, await up.progress(), await read()]).toEqual([1, { done: 1, total: 1, failed: 0, perSecond: 0 }, 'X1'])
      await up.rollback()
      expect([await read(), await healthOf(db, a.name)]).toEqual(['X1', whole(1)])
      const again = await a.upgrade(shout(3) as never)
      await again.switch()
      expect(await read()).toBe('X3')
      await again.drop()
      await db.remove('listener', `up_${name}`)
    })
  }, durable),
]
