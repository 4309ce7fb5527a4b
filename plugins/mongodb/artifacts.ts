/** Artifacts in GridFS's own form, under their id as file name, so that every driver reads them. A file's document is written last; its `_id` is the generation of its chunks. */
import type { Binary, Document, ObjectId } from 'mongodb'
import { inChunks } from '../../core/chunks.ts'
import type { ArtifactStore, Ctx } from '../../core/contract.ts'
import { InlayError, quote } from '../../core/errors.ts'
import { list } from './client.ts'
import type { Place } from './schema.ts'

const chunkSize = 255 * 1024
const listRows = 1000
const tripBytes = 16 * 1024 * 1024
const dayMs = 24 * 60 * 60 * 1000

interface File { readonly _id: ObjectId; readonly filename: string; readonly length: number; readonly chunkSize: number }

export async function artifactStore({ home, server }: Place): Promise<ArtifactStore> {
  const { ObjectId: Id, Binary: Bytes } = server.driver, files = home.db.collection(`${home.prefix}_artifacts.files`), chunks = home.db.collection(`${home.prefix}_artifacts.chunks`)
  await Promise.all([files.createIndex({ filename: 1 }, { unique: true }), chunks.createIndex({ files_id: 1, n: 1 }, { unique: true })])
  const fileOf = async (id: string, { signal }: Ctx): Promise<File> => {
    const file = await files.findOne({ filename: id }, { signal }) as unknown as File | null
    if (file === null) throw new InlayError('NOT_FOUND', `There is no artifact ${quote(id)}.`)
    return file
  }
  /** The server's clock gives the age. */
  const now = { $currentDate: { uploadDate: true } } as const
  return {
    async write(id, body, { signal }) {
      signal.throwIfAborted()
      // Content is named by its hash: what is there already is the same, and only gets younger.
      if ((await files.updateOne({ filename: id }, now)).matchedCount > 0) return
      const generation = new Id()
      let length = 0, n = 0, needed = false
      try {
        for await (const data of inChunks(body, chunkSize)) {
          signal.throwIfAborted()
          await chunks.insertOne({ files_id: generation, n: n++, data: new Bytes(data) })
          length += data.byteLength
        }
        signal.throwIfAborted()
        needed = true                                                        // also when the answer is lost: the file may be there then
        needed = (await head(id, { _id: generation, length, chunkSize })) === 'made'
      } finally {
        // Chunks of a body that broke off, and of whoever lost a race for the file.
        if (!needed) await chunks.deleteMany({ files_id: generation })
      }
    },
    async *read(id, { offset, length }, ctx) {
      const file = await fileOf(id, ctx), end = Math.min(file.length, length === undefined ? file.length : offset + length)
      for (let n = Math.floor(offset / file.chunkSize); n * file.chunkSize < end; n++) {
        const chunk = await chunks.findOne({ files_id: file._id, n }, { signal: ctx.signal })
        if (chunk === null) throw new InlayError('CORRUPT', `The artifact ${quote(id)} lacks its part ${n}. Was it removed while it was read? Else restore it, or write it again.`)
        yield bytesOf(chunk).slice(Math.max(0, offset - n * file.chunkSize), end - n * file.chunkSize)
      }
    },
    async *readMany(ids, { signal }) {
      const found = await list(files.find({ filename: { $in: [...ids] } }, { signal })) as unknown as readonly File[]
      for (const trip of trips(found)) {
        const parts = new Map<string, Uint8Array[]>()
        for (const chunk of await list(chunks.find({ files_id: { $in: trip.map(({ _id }) => _id) } }, { sort: { files_id: 1, n: 1 }, signal }))) {
          const of = String(chunk['files_id'])
          parts.set(of, [...parts.get(of) ?? [], bytesOf(chunk)])
        }
        for (const { _id, filename, length } of trip) {
          const bytes = Buffer.concat(parts.get(String(_id)) ?? [])
          if (bytes.byteLength === length) yield { id: filename, bytes: Uint8Array.from(bytes) }      // removed meanwhile: not there
        }
      }
    },
    async *list({ signal }) {
      await sweep(signal)
      for (let after = ''; ;) {
        const page = await list(files.aggregate([{ $match: { filename: { $gt: after } } }, { $sort: { filename: 1 } }, { $limit: listRows }, { $project: { filename: 1, length: 1, age: { $toDouble: { $subtract: ['$$NOW', '$uploadDate'] } } } }], { signal }))
        if (page.length > 0) yield page.map((file) => ({ id: file['filename'] as string, bytes: Number(file['length']), ageMs: Number(file['age']) }))
        if (page.length < listRows) return
        after = page.at(-1)!['filename'] as string
      }
    },
    async remove(ids, { signal }, olderThanMs) {
      const found = (await list(files.find({ filename: { $in: [...ids] } }, { projection: { _id: 1 }, signal }))).map(({ _id }) => _id)
      if (found.length === 0) return
      await files.deleteMany({ _id: { $in: found }, ...(olderThanMs === undefined ? {} : { $expr: { $lte: ['$uploadDate', { $subtract: ['$$NOW', olderThanMs] }] } }) })
      const left = new Set((await list(files.find({ _id: { $in: found } }, { projection: { _id: 1 } }))).map(({ _id }) => String(_id)))
      await chunks.deleteMany({ files_id: { $in: found.filter((_id) => !left.has(String(_id))) } })
    },
  }

  async function head(id: string, file: Document): Promise<'made' | 'there'> {
    for (let tries = 0; ; tries++) {
      try {
        return (await files.updateOne({ filename: id }, { $setOnInsert: file, ...now }, { upsert: true })).upsertedCount === 1 ? 'made' : 'there'
      } catch (error) {
        if ((error as { readonly code?: unknown }).code !== 11000 || tries > 5) throw error      // another one made it at the same time
      }
    }
  }
  /** Chunks without a file that are a day old belong to dead processes. */
  async function sweep(signal: AbortSignal): Promise<void> {
    const old = await list(chunks.aggregate([
      { $match: { n: 0, files_id: { $lt: Id.createFromTime(Math.floor((Date.now() - dayMs) / 1000)) } } }, { $lookup: { from: files.collectionName, localField: 'files_id', foreignField: '_id', as: 'file' } }, { $match: { file: [] } }, { $project: { files_id: 1 } },
    ], { signal }))
    if (old.length > 0) await chunks.deleteMany({ files_id: { $in: old.map((chunk) => chunk['files_id'] as ObjectId) } })
  }
}

function bytesOf(chunk: Document): Uint8Array {
  const data = chunk['data'] as Binary
  return Uint8Array.from(data.buffer.subarray(0, data.position))
}

/** Files that are read at once; a larger one stands alone. */
function* trips(files: readonly File[]): Iterable<readonly File[]> {
  let trip: File[] = [], bytes = 0
  for (const file of files) {
    if (trip.length > 0 && bytes + file.length > tripBytes) {
      yield trip
      trip = []
      bytes = 0
    }
    trip.push(file)
    bytes += file.length
  }
  if (trip.length > 0) yield trip
}
