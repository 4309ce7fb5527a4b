/** Artifacts as files: `file:./models` keeps each under its SHA-256, in folders by the first two digits. */
import { createReadStream, createWriteStream } from 'node:fs'
import { mkdir, opendir, readdir, readFile, rename, rm, stat, utimes } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { fileURLToPath } from 'node:url'
import type { ArtifactStore, Plugin } from '../../core/contract.ts'
import { InlayError, messageOf, quote } from '../../core/errors.ts'

const listFiles = 1000
/** What was written for so long is nobody's any more. */
const abandonedMs = 24 * 3_600_000
const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/, sha256 = /^[0-9a-f]{64}$/

const file: Plugin = {
  name: 'file',
  contract: 1,
  schemes: ['file'],
  identify: (uri) => folderOf(uri),
  async connect(uri) {
    const folder = folderOf(uri)
    try {
      await mkdir(join(folder, 'tmp'), { recursive: true })
    } catch (error) {
      throw new InlayError('CONFIG_INVALID', `The folder ${quote(folder)} of ${quote(uri)} cannot be used: ${messageOf(error)}. Give a folder that can be written.`, { cause: error })
    }
    return { server: `files in ${folder}`, artifacts: fileArtifacts(folder), close: async () => {} }
  },
  classify(error) {
    const { code } = error as { readonly code?: unknown }
    return code === 'ENOSPC' || code === 'EMFILE' || code === 'EDQUOT' ? { code: 'RESOURCE_EXHAUSTED', retryable: false } : code === 'EACCES' || code === 'EROFS' ? { code: 'CONFIG_INVALID', retryable: false } : undefined
  },
}
export default file

function folderOf(uri: string): string {
  const path = uri.slice('file:'.length)
  if (path === '') throw new InlayError('CONFIG_INVALID', 'The URI "file:" names no folder. Write for example "file:./models".')
  if (path.startsWith('//') && !path.startsWith('///')) throw new InlayError('CONFIG_INVALID', 'The URI "file://…" names a host. Write "file:./folder" or "file:///absolute/folder".')
  return path.startsWith('//') ? fileURLToPath(uri) : resolve(path)
}

function fileArtifacts(folder: string): ArtifactStore {
  const place = (id: string): string => {
    if (!sha256.test(id)) throw new InlayError('INVALID_ARGUMENT', `${quote(id)} is no id of an artifact: the SHA-256 of its content in lower-case hex is expected.`)
    return join(folder, id.slice(0, 2), id)
  }
  const missing = (id: string, error: unknown): never => {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') throw new InlayError('NOT_FOUND', `There is no artifact ${quote(id)} in ${quote(folder)}.`)
    throw error
  }
  return {
    async write(id, body, { signal }) {
      const to = place(id), part = join(folder, 'tmp', crypto.randomUUID())
      try {
        await pipeline(body, createWriteStream(part, { flush: true }), { signal })
        await mkdir(join(folder, id.slice(0, 2)), { recursive: true })
        const now = new Date()
        await utimes(part, now, now)
        await rename(part, to)                                             // all or nothing
      } finally {
        await rm(part, { force: true })
      }
    },
    async *read(id, { offset, length }, { signal }) {
      const path = place(id), { size } = await stat(path).catch((error: unknown) => missing(id, error))
      const end = Math.min(size, length === undefined ? size : offset + length)
      if (offset < end) for await (const part of createReadStream(path, { start: offset, end: end - 1, signal })) yield Uint8Array.from(part as Uint8Array)
    },
    async *readMany(ids) {
      for (const id of ids) {
        const bytes = await readFile(place(id)).catch((error: NodeJS.ErrnoException) => { if (error.code === 'ENOENT') return undefined; throw error })
        if (bytes !== undefined) yield { id, bytes: Uint8Array.from(bytes) }
      }
    },
    async *list() {
      for (const part of (await readdir(join(folder, 'tmp'))).filter((name) => uuid.test(name))) {
        const path = join(folder, 'tmp', part), found = await stat(path).catch(() => undefined)
        if (found !== undefined && Date.now() - found.mtimeMs > abandonedMs) await rm(path, { force: true })
      }
      let page: { readonly id: string; readonly bytes: number; readonly ageMs: number }[] = []
      for (const prefix of (await readdir(folder)).filter((name) => /^[0-9a-f]{2}$/.test(name)).sort()) {
        for await (const entry of await opendir(join(folder, prefix))) {
          if (!sha256.test(entry.name) || !entry.name.startsWith(prefix)) continue
          const found = await stat(join(folder, prefix, entry.name)).catch(() => undefined)
          if (found === undefined) continue
          page.push({ id: entry.name, bytes: found.size, ageMs: Math.max(0, Date.now() - found.mtimeMs) })
          if (page.length < listFiles) continue
          yield page
          page = []
        }
      }
      if (page.length > 0) yield page
    },
    async remove(ids, _, olderThanMs) {
      for (const id of ids) await (olderThanMs === undefined ? rm(place(id), { force: true }) : removeOld(place(id), olderThanMs))
    },
  }

  /** Moves the file aside before it decides: what is written again meanwhile is another file. */
  async function removeOld(path: string, olderThanMs: number): Promise<void> {
    const young = async (of: string): Promise<boolean> => Date.now() - (await stat(of)).mtimeMs < olderThanMs
    const aside = join(folder, 'tmp', crypto.randomUUID())
    try {
      if (await young(path)) return
      await rename(path, aside)
      await (await young(aside) ? rename(aside, path) : rm(aside))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    }
  }
}
