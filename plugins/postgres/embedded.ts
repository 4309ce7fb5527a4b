/** The same SQL in this process, by PGlite. One instance per folder and process, locked against other processes. */
import { mkdir, realpath } from 'node:fs/promises'
import { resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { PGlite, Transaction } from '@electric-sql/pglite'
import { InlayError, messageOf, quote } from '../../core/errors.ts'
import { lockFolder } from './lock.ts'
import type { Param, Sql, SqlRow } from './sql.ts'

interface Started {
  readonly db: PGlite
  readonly server: string
  /** Results pass as they are, as text. */
  readonly parsers: Readonly<Record<number, (value: string) => string>>
  close(): Promise<void>
}
interface Shared { readonly opened: Promise<Started>; uses: number }

const pollMs = 1000
const folders = new Map<string, Shared>()
/** Folders on their way to be closed: whoever opens one waits for that. */
const closing = new Map<string, Promise<void>>()
/** Parameters pass as they are, text or bytes in binary form, whatever their type: those of extensions too. */
const serializers = new Proxy<Record<number, (value: unknown) => never>>({}, { get: () => (value: unknown) => value })
/** The folder of a URI; undefined for `pglite::memory:`. */
export function folderOf(uri: string): string | undefined {
  const path = uri.slice('pglite:'.length)
  if (path === ':memory:') return undefined
  if (path === '') throw new InlayError('CONFIG_INVALID', 'The URI "pglite:" names no folder. Write "pglite:./folder", or "pglite::memory:" for a database that is lost with the process.')
  if (path.startsWith('//') && !path.startsWith('///')) throw new InlayError('CONFIG_INVALID', 'The URI "pglite://…" names a host, but PGlite runs in this process. Write "pglite:./folder" or "pglite:///absolute/folder".')
  return path.startsWith('//') ? fileURLToPath(`file:${path}`) : resolve(path)
}

export async function connectEmbedded(uri: string): Promise<Sql> {
  const folder = folderOf(uri)
  if (folder === undefined) return open(await start(undefined), async (started) => { await started.close() })
  await mkdir(folder, { recursive: true }).catch((cause: unknown) => {
    throw new InlayError('CONFIG_INVALID', `The folder ${quote(folder)} of "pglite:" cannot be used: ${messageOf(cause)}. Give a folder that can be written, not a file.`, { cause })
  })
  const path = await realpath(folder)
  const shared = folders.get(path) ?? { opened: (closing.get(path) ?? Promise.resolve()).then(() => start(path)), uses: 0 }
  shared.uses++
  folders.set(path, shared)
  const leave = async (): Promise<void> => {
    if (--shared.uses > 0) return
    folders.delete(path)
    const closed = shared.opened.then((started) => started.close()), over = closed.catch(() => {})
    closing.set(path, over)
    try {
      await closed
    } finally {
      if (closing.get(path) === over) closing.delete(path)
    }
  }
  try {
    return open(await shared.opened, leave)
  } catch (error) {
    if (folders.get(path) === shared) folders.delete(path)
    throw error
  }
}

function open(started: Started, leave: (started: Started) => Promise<void>): Sql {
  const { db, server, parsers } = started
  let closed: Promise<void> | undefined
  const options = { serializers, parsers }
  const run = async (on: PGlite | Transaction, text: string, params: readonly Param[]): Promise<readonly SqlRow[]> => (await on.query(text, params as Param[], options)).rows as SqlRow[]
  return {
    server,
    async query(text, params, signal) {
      signal.throwIfAborted()
      return run(db, text, params)
    },
    transaction: (work, signal) => db.transaction((tx) => {
      signal.throwIfAborted()
      return work((text, params = []) => run(tx, text, params))
    }) as Promise<never>,
    listen: async (channel, wake) => {
      const stop = await db.listen(channel, wake)
      return { pollMs, stop: () => { stop().catch(() => {}) } }                // closed meanwhile
    },
    close: () => (closed ??= leave(started)),
  }
}

async function start(folder: string | undefined): Promise<Started> {
  const missing = (cause: unknown): never => {
    throw new InlayError('DRIVER_MISSING', 'The drivers of "pglite:" are not installed. Install them with "npm install @electric-sql/pglite@0.5.14 @electric-sql/pglite-pgvector@0.0.15".', { cause })
  }
  const [{ PGlite: Database, types }, { vector }] = await Promise.all([import('@electric-sql/pglite').catch(missing), import('@electric-sql/pglite-pgvector').catch(missing)])
  const unlock = folder === undefined ? async () => {} : await lockFolder(folder)
  try {
    const db = await Database.create({ ...(folder === undefined ? {} : { dataDir: folder }), extensions: { vector } })
    const { rows } = await db.query<{ server_version: string }>('show server_version')
    return {
      db: db as unknown as PGlite, parsers: Object.fromEntries(Object.keys(types.parsers).map((oid) => [oid, (value: string) => value])), server: `PGlite (PostgreSQL ${rows[0]!.server_version.split(' ')[0]})`,
      async close() {
        try {
          await db.close()
        } finally {
          await unlock()
        }
      },
    }
  } catch (error) {
    await unlock()
    throw error
  }
}
