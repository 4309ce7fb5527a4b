/** Bytes by the SHA-256 of their content: the plugin's own store, or core's over its rows. */
import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'vitest'
import { sha256 } from '../../core/encoding.ts'
import { random } from './random.ts'
import { rule, type Rule } from './rule.ts'
import { all, codeOf, type Subject } from './subject.ts'

const content = (n: number, seed: number): Uint8Array => {
  const r = random(seed), bytes = new Uint8Array(n)
  for (let i = 0; i < n; i++) bytes[i] = r.below(256)
  return bytes
}
async function* parts(bytes: Uint8Array, size: number): AsyncIterable<Uint8Array> {
  for (let at = 0; at < bytes.byteLength; at += size) yield bytes.subarray(at, at + size)
}
async function* failing(bytes: Uint8Array): AsyncIterable<Uint8Array> {
  yield bytes
  throw new Error('the body ends early')
}
async function store(s: Subject, bytes: Uint8Array, size = 65_537): Promise<string> {
  const id = sha256(bytes)
  await s.artifacts.write(id, parts(bytes, size), s.ctx)
  return id
}
async function read(s: Subject, id: string, range: { offset: number; length?: number } = { offset: 0 }): Promise<Uint8Array> {
  const list: Uint8Array[] = []
  for await (const part of s.artifacts.read(id, range, s.ctx)) list.push(part)
  return Uint8Array.from(Buffer.concat(list))
}
async function readMany(s: Subject, ids: readonly string[]): Promise<Map<string, Uint8Array>> {
  const found = new Map<string, Uint8Array>()
  for await (const { id, bytes } of s.artifacts.readMany(ids, s.ctx)) {
    expect(found.has(id)).toBe(false)
    found.set(id, bytes)
  }
  return found
}
const listed = (s: Subject): Promise<{ readonly id: string; readonly bytes: number; readonly ageMs: number }[]> => all(s.artifacts.list(s.ctx))
const entry = async (s: Subject, id: string): Promise<{ readonly bytes: number; readonly ageMs: number } | undefined> => (await listed(s)).find((a) => a.id === id)
const unknown = sha256('nobody wrote this')
const sizes: readonly (readonly [string, number, number])[] = [['0-bytes', 0, 1], ['1-byte', 1, 1], ['16-kb', 16 * 1024, 1000], ['256-kb', 256 * 1024, 256 * 1024], ['1-mb', 1024 * 1024 + 1, 99_991], ['5-mb', 5 * 1024 * 1024 - 3, 333_333]]

export const artifacts: readonly Rule[] = [
  ...sizes.map(([name, size, part]) => rule(`artifacts.hold.${name}`, `${name} written in parts of ${part} are read back`, async (s) => {
    const bytes = content(size, size), id = await store(s, bytes, part)
    expect(sha256(await read(s, id))).toBe(id)
    expect((await entry(s, id))?.bytes).toBe(size)
    expect(sha256((await readMany(s, [id])).get(id)!)).toBe(id)
  })),
  rule('artifacts.hold.tiny-parts', 'a body may come in single bytes and in empty parts', async (s) => {
    const bytes = content(300, 1), id = sha256(bytes)
    await s.artifacts.write(id, (async function* () { for (const byte of bytes) { yield new Uint8Array(); yield Uint8Array.from([byte]) } })(), s.ctx)
    expect(await read(s, id)).toEqual(bytes)
  }),
  rule('artifacts.range.every', 'ranges give exactly their bytes, also across parts and beyond the end', async (s) => {
    const bytes = content(700_001, 2), id = await store(s, bytes)
    for (const [offset, length] of [[0, 1], [0, 700_001], [1, 5], [262_143, 2], [262_144, 1], [262_144, 262_144], [524_287, 100_000], [700_000, 1], [699_990, 100], [3, undefined], [700_000, undefined], [0, 0], [700_001, 5], [900_000, 5], [700_001, undefined]] as const) {
      const got = await read(s, id, { offset, ...(length === undefined ? {} : { length }) }), right = bytes.subarray(offset, length === undefined ? undefined : offset + length)
      expect([offset, length, got.byteLength, sha256(got)]).toEqual([offset, length, right.byteLength, sha256(right)])
    }
  }),
  rule('artifacts.read.unknown', 'an unknown id is NOT_FOUND', async (s) => {
    expect(await codeOf(read(s, unknown))).toBe('NOT_FOUND')
    expect(await codeOf(read(s, unknown, { offset: 5, length: 1 }))).toBe('NOT_FOUND')
  }),
  rule('artifacts.read.leave', 'reading may be left early', async (s) => {
    const id = await store(s, content(1_000_000, 3))
    for (let i = 0; i < 20; i++) for await (const part of s.artifacts.read(id, { offset: 0 }, s.ctx)) { expect(part.byteLength).toBeGreaterThan(0); break }
    expect(sha256(await read(s, id))).toBe(id)
  }),
  rule('artifacts.many.mixed', 'readMany gives what is there, each once, and leaves out what is not', async (s) => {
    const list = await Promise.all(Array.from({ length: 30 }, (_, i) => store(s, content(i * 100, 100 + i)))), found = await readMany(s, [unknown, ...list, sha256('neither this')])
    expect([...found.keys()].sort()).toEqual([...list].sort())
    for (const [id, bytes] of found) expect(sha256(bytes)).toBe(id)
    expect([...await readMany(s, []), ...await readMany(s, [unknown])]).toEqual([])
  }),
  rule('artifacts.write.again', 'writing an id again keeps its content and renews its age', async (s) => {
    const bytes = content(5000, 4), id = await store(s, bytes)
    await sleep(120)
    const before = (await entry(s, id))!.ageMs
    expect(before).toBeGreaterThanOrEqual(100)
    await store(s, bytes)
    expect((await entry(s, id))!.ageMs).toBeLessThan(before)
    expect(await read(s, id)).toEqual(bytes)
    expect((await listed(s)).filter((a) => a.id === id).length).toBe(1)
  }),
  rule('artifacts.write.throws', 'a body that throws leaves nothing', async (s) => {
    const bytes = content(400_000, 5), id = sha256(bytes)
    await expect(s.artifacts.write(id, failing(bytes), s.ctx)).rejects.toThrow('the body ends early')
    expect([await codeOf(read(s, id)), await entry(s, id), [...await readMany(s, [id])]]).toEqual(['NOT_FOUND', undefined, []])
    await store(s, bytes)
    expect(sha256(await read(s, id))).toBe(id)
  }),
  rule('artifacts.write.throws-again', 'a body that throws while an id is written again leaves what was there', async (s) => {
    const bytes = content(400_000, 6), id = await store(s, bytes)
    // A store that knows the id may leave the body unread.
    await s.artifacts.write(id, failing(bytes.subarray(0, 1000)), s.ctx).catch(() => {})
    expect([sha256(await read(s, id)), (await entry(s, id))?.bytes]).toEqual([id, 400_000])
  }),
  rule('artifacts.write.at-once', 'one id written eight times at once is there, whole and once', async (s) => {
    const bytes = content(600_000, 7), id = sha256(bytes)
    await Promise.all(Array.from({ length: 8 }, () => store(s, bytes)))
    expect([sha256(await read(s, id)), (await listed(s)).filter((a) => a.id === id).length]).toEqual([id, 1])
  }),
  rule('artifacts.write.many-at-once', 'forty artifacts written at once are all there', async (s) => {
    const ids = await Promise.all(Array.from({ length: 40 }, (_, i) => store(s, content(3000 + i, 200 + i))))
    expect((await readMany(s, ids)).size).toBe(40)
  }),
  rule('artifacts.list.all', 'list names every artifact once, with size and age', async (s) => {
    const ids = await Promise.all(Array.from({ length: 12 }, (_, i) => store(s, content(i, 300 + i)))), found = await listed(s)
    expect(new Set(found.map((a) => a.id)).size).toBe(found.length)
    for (const [i, id] of ids.entries()) expect(found.find((a) => a.id === id)?.bytes).toBe(i)
    for (const { ageMs } of found) { expect(ageMs).toBeGreaterThan(-5000); expect(ageMs).toBeLessThan(600_000) }
  }),
  rule('artifacts.remove.some', 'what is removed is gone, the others are not; removing what is not there is no error', async (s) => {
    const [gone, kept] = [await store(s, content(300_000, 8)), await store(s, content(300_000, 9))]
    await s.artifacts.remove([gone, unknown], s.ctx)
    await s.artifacts.remove([gone], s.ctx)
    await s.artifacts.remove([], s.ctx)
    expect([await codeOf(read(s, gone)), await entry(s, gone), sha256(await read(s, kept))]).toEqual(['NOT_FOUND', undefined, kept])
    await store(s, content(300_000, 8))
    expect(sha256(await read(s, gone))).toBe(gone)
  }),

  rule('artifacts.api.large-bytes', 'large bytes of a document are kept apart, a reference in the row, and read as they were', async (s) => {
    const docs = (await s.inlay()).collection<Record<string, unknown>>(s.name()), image = content(20_000, 10), floats = new Float32Array(content(80_000, 11).buffer), small = content(100, 12)
    await docs.insert({ _id: 'a', image, in: { list: [small, floats] }, x: 1 })
    expect(JSON.stringify((await s.row(docs.name, 'a'))!.doc['image'])).toContain(sha256(image))
    s.expectSame(await docs.findOne({ _id: 'a' }) as never, { _id: 'a', image, in: { list: [small, floats] }, x: 1, _fold: (await docs.findOne({ _id: 'a' }))!['_fold'] as string })
    expect((await docs.find({ image }).toArray()).length).toBe(1)
    await docs.update({ _id: 'a' }, { $set: { x: 2 } })
    await docs.update({ _id: 'a' }, { $set: { 'in.more': content(30_000, 13) } })
    const row = await docs.findOne({ _id: 'a' })
    s.expectSame(row!['image'] as never, image)
    s.expectSame(row!['in'] as never, { list: [small, floats], more: content(30_000, 13) })
  }),
  rule('artifacts.api.shared', 'content that two documents share is stored once, and stays while one of them has it', async (s) => {
    const db = await s.inlay(), docs = db.collection<Record<string, unknown>>(s.name()), bytes = content(40_000, 14)
    await docs.insert([{ _id: 'a', bytes }, { _id: 'b', in: [bytes] }])
    expect((await listed(s)).filter((a) => a.id === sha256(bytes)).length).toBe(1)
    await docs.delete({ _id: 'a' })
    await db.verify({ repair: true, graceMs: 0, removeArtifacts: true })
    s.expectSame((await docs.findOne({ _id: 'b' }))!['in'] as never, [bytes])
    await docs.delete({ _id: 'b' })
    await db.verify({ repair: true, graceMs: 0, removeArtifacts: true })
    expect(await entry(s, sha256(bytes))).toBeUndefined()
  }),
  rule('artifacts.read.while-written', 'an artifact can be read while it is written again', async (s) => {
    const bytes = content(600_000, 15), id = await store(s, bytes)
    const writing = (async () => { for (let i = 0; i < 4; i++) await store(s, bytes) })()
    for (let i = 0; i < 8; i++) expect(sha256(await read(s, id))).toBe(id)
    await writing
  }),
]
