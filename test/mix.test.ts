/** Data in one database, artifacts in another, vectors in a third, from a config file. */
import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it, type TestContext } from 'vitest'
import { inlay, listener, model, step, vectorIndex, type Inlay } from '../index.ts'
import { backends, dropSchema, type Backend } from './support/backends.ts'

const letters = 'abcdefgh'
const embed = model<string, Float32Array>('embed', { run: step('embed@1', (texts: readonly string[]) => texts.map((text) => Float32Array.from(letters, (l) => text.split(l).length - 1))), shape: [8] })
const near = vectorIndex('near', { indexing: listener({ model: embed, on: 'docs', key: 'text' }), measure: 'l2' })

async function open(ctx: TestContext, parts: { readonly data: Backend; readonly artifacts: Backend | 'file'; readonly vectors: Backend }): Promise<{ readonly db: Inlay; readonly again: () => Promise<Inlay>; readonly vectorsUri: string; readonly namespace: string }> {
  const folder = mkdtempSync(join(tmpdir(), 'inlay-mix-')), namespace = `t_${randomBytes(6).toString('hex')}`, opened: Inlay[] = []
  const uris = { data: parts.data.uri(ctx), artifacts: parts.artifacts === 'file' ? `file:${join(folder, 'artifacts')}` : parts.artifacts.uri(ctx), vectors: parts.vectors.uri(ctx) }
  ctx.onTestFinished(async () => {
    for (const db of opened) await db.close({ abort: true })
    for (const uri of Object.values(uris)) if (uri.startsWith('postgres')) await dropSchema(uri, namespace)
    rmSync(folder, { recursive: true, force: true })
  })
  const config = join(folder, 'inlay.config.json')
  writeFileSync(config, JSON.stringify({ ...uris, namespace }))
  const again = async (): Promise<Inlay> => {
    const db = await inlay({ config, log: {}, components: [near as never] })
    opened.push(db)
    return db
  }
  return { db: await again(), again, vectorsUri: uris.vectors, namespace }
}

const searching = backends.filter((b) => b.name !== 'memory' && b.name !== 'MongoDB')
const cases = backends.flatMap((data, i) => searching.filter((v) => v !== data).map((vectors, j) => ({ data, vectors, artifacts: (i + j) % 2 === 0 ? 'file' as const : backends[(i + 1) % backends.length]! })))

describe.each(cases.map((parts) => ({ ...parts, name: `data in ${parts.data.name}, vectors in ${parts.vectors.name}, artifacts in ${parts.artifacts === 'file' ? 'a folder' : parts.artifacts.name}` })))('$name', (parts) => {
  it('finds what it finds in one database, follows changes, keeps content, and feeds a copy that was lost anew', async (ctx) => {
    const { db, again } = await open(ctx, parts), docs = db.collection<{ text: string; bytes?: Uint8Array }>('docs'), index = await db.add(near)
    const bytes = new Uint8Array(40_000).fill(7)
    await docs.insert([...Array.from({ length: 40 }, (_, i) => ({ _id: `k${String(i).padStart(2, '0')}`, text: letters[i % 8]!.repeat(1 + i % 5) })), { _id: 'content', text: 'none', bytes }])
    const found = async (of: Inlay, text: string, k = 3): Promise<readonly string[]> => (await of.collection<{ text: string }>('docs').find().like({ text }, index, { n: k }).toArray()).map((row) => row._id)
    expect(await found(db, 'aaa')).toEqual(['k32', 'k08', 'k16'])
    expect((await docs.find({ text: { $in: ['bb', 'b', 'h'] } }).like({ text: 'bb' }, index, { n: 2 }).toArray()).map((row) => row.text)).toEqual(['bb', 'b'])
    await docs.update({ _id: 'k32' }, { $set: { text: 'hhhhh' } })
    await docs.delete({ _id: 'k16' })
    expect(await found(db, 'aaa')).toEqual(['k08', 'k00', 'k24'])
    expect((await docs.findOne({ _id: 'content' }))!.bytes).toEqual(bytes)
    expect(await db.verify({ deep: true })).toMatchObject({ ok: true, artifacts: { missing: 0 } })
    const other = await again()
    await other.collection('docs').insert({ _id: 'late', text: 'aaaa' })
    expect(await found(other, 'aaaa', 1)).toEqual(['k08'])
    // Another process wrote; the copy is late by a second at most.
    await expect.poll(() => found(db, 'aaaa', 2), { timeout: 5000 }).toEqual(['k08', 'late'])
    const [copied] = await loseCopy(other)
    expect(copied).toBeDefined()
    await expect.poll(() => found(db, 'aaa', 4), { timeout: 5000 }).toEqual(['k08', 'late', 'k00', 'k24'])
  })
})

/** Drops every copy in the vectors' database, behind the back of who uses it. */
async function loseCopy(db: Inlay): Promise<readonly string[]> {
  const { core } = db as unknown as { core: { vectors: { drop(id: string, ctx: { signal: AbortSignal }): Promise<void> }; indexes: { open(handle: { name: string }, ctx: { signal: AbortSignal }): Promise<{ id: string }> } } }
  const ctx = { signal: new AbortController().signal }, { id } = await core.indexes.open({ name: 'near' }, ctx)
  await core.vectors.drop(id, ctx)
  return [id]
}
