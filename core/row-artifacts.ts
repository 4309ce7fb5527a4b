/** The default artifact store: chunks of bytes as rows of the data database, for plugins that give a Datalayer only. */
import { inChunks } from './chunks.ts'
import type { ArtifactStore, Ctx, Datalayer, Key, Row, Write } from './contract.ts'
import { InlayError, quote } from './errors.ts'

const collection = '_artifacts'
const chunkBytes = 256 * 1024
const removeAtOnce = 500

interface Head { readonly rev: string; readonly bytes: number; readonly generation: string; readonly written: Date }

/** A head row `<id>` names size, age and the generation of chunk rows `<id>/<generation>/<n>`; it is written last, so that a crash leaves no half artifact.
 *  It goes before its chunks, by compare-and-set, so that no head is left without them. Chunks that a crash or a body that broke off leaves without a head are not collected. */
export function rowArtifacts(data: Datalayer): ArtifactStore {
  let opened: Promise<void> | undefined
  const open = (ctx: Ctx): Promise<void> => {
    opened ??= data.create({ name: collection, attached: false, track: 'none' }, ctx)
    opened.catch(() => { opened = undefined })
    return opened
  }
  const rows = async (keys: readonly Key[], ctx: Ctx): Promise<ReadonlyMap<Key, Row>> => {
    await open(ctx)
    const found = new Map<Key, Row>()
    for await (const page of data.find({ from: collection, where: { kind: 'keys', keys } }, ctx)) for (const row of page) found.set(row.key, row)
    return found
  }
  const chunkKey = (id: string, generation: string, n: number): Key => `${id}/${generation}/${String(n).padStart(8, '0')}`
  /** False where another one was faster. */
  const write = async (op: Write & { readonly key: Key }, ctx: Ctx): Promise<boolean> => {
    const [written] = await data.write(collection, [op], ctx)
    if (written!.status === 'refused') throw new InlayError('INTERNAL', `The artifact row ${quote(op.key)} could not be written: ${written!.reason ?? written!.status}.`)
    return written!.status === 'done'
  }
  const head = async (id: string, ctx: Ctx): Promise<Head | undefined> => {
    const row = (await rows([id], ctx)).get(id)
    return row === undefined ? undefined : { ...row.doc as unknown as Omit<Head, 'rev'>, rev: row.rev }
  }
  /** Makes the head young that is there, and tells its generation. */
  const renew = async (id: string, ctx: Ctx): Promise<string | undefined> => {
    for (;;) {
      const of = await head(id, ctx)
      if (of === undefined || await write({ kind: 'put', key: id, doc: { bytes: of.bytes, generation: of.generation, written: new Date() }, rev: of.rev }, ctx)) return of?.generation
    }
  }
  const read = async function* (id: string, offset: number, length: number | undefined, ctx: Ctx): AsyncIterable<Uint8Array> {
    const of = await head(id, ctx)
    if (of === undefined) throw new InlayError('NOT_FOUND', `There is no artifact ${quote(id)}.`)
    const end = Math.min(of.bytes, length === undefined ? of.bytes : offset + length)
    for (let n = Math.floor(offset / chunkBytes); n * chunkBytes < end; n++) {
      const key = chunkKey(id, of.generation, n), bytes = (await rows([key], ctx)).get(key)?.doc['bytes']
      if (!(bytes instanceof Uint8Array)) throw new InlayError('CORRUPT', `The artifact ${quote(id)} lacks its part ${n}. Restore it, or write it again.`)
      yield bytes.slice(Math.max(0, offset - n * chunkBytes), end - n * chunkBytes)
    }
  }
  return {
    async write(id, body, ctx) {
      await open(ctx)
      // Content is named by its hash: what is there already is the same, and only gets younger.
      if (await renew(id, ctx) !== undefined) return
      const generation = crypto.randomUUID()
      let bytes = 0, n = 0
      for await (const chunk of inChunks(body, chunkBytes)) {
        await write({ kind: 'put', key: chunkKey(id, generation, n++), doc: { bytes: chunk } }, ctx)
        bytes += chunk.byteLength
      }
      while (!await write({ kind: 'insert', key: id, doc: { bytes, generation, written: new Date() } }, ctx)) {
        const kept = await renew(id, ctx)
        if (kept === undefined) continue
        if (kept !== generation) await removeChunks(id, { bytes, generation }, ctx)
        return
      }
    },
    read: (id, { offset, length }, ctx) => read(id, offset, length, ctx),
    async *readMany(ids, ctx) {
      const there = await rows(ids, ctx)
      for (const id of ids) {
        if (!there.has(id)) continue
        const parts: Uint8Array[] = []
        for await (const part of read(id, 0, undefined, ctx)) parts.push(part)
        yield { id, bytes: Buffer.concat(parts) }
      }
    },
    async *list(ctx) {
      await open(ctx)
      for await (const page of data.find({ from: collection, fields: ['bytes', 'written', 'generation'] }, ctx)) {
        yield page.flatMap(({ key, doc }) => (doc['written'] instanceof Date ? [{ id: key, bytes: doc['bytes'] as number, ageMs: Date.now() - +doc['written'] }] : []))
      }
    },
    async remove(ids, ctx, olderThanMs = -Infinity) {
      for (const id of ids) {
        for (let of = await head(id, ctx); of !== undefined && Date.now() - +of.written >= olderThanMs; of = await head(id, ctx)) {
          if (!await write({ kind: 'remove', key: id, rev: of.rev }, ctx)) continue
          await removeChunks(id, of, ctx)
          break
        }
      }
    },
  }

  async function removeChunks(id: string, { bytes, generation }: Pick<Head, 'bytes' | 'generation'>, ctx: Ctx): Promise<void> {
    const keys = Array.from({ length: Math.ceil(bytes / chunkBytes) }, (_, n) => chunkKey(id, generation, n))
    for (let i = 0; i < keys.length; i += removeAtOnce) await data.write(collection, keys.slice(i, i + removeAtOnce).map((key) => ({ kind: 'remove' as const, key })), ctx)
  }
}
