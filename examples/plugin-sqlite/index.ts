/** SQLite as a database of Inlay: `sqlite:./file.db`, or `sqlite::memory:`. */
import { resolve } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { InlayError, type ErrorCode, type Plugin } from 'inlay/plugin'
import { SqliteData } from './data.ts'

const memory = ':memory:'
const fileOf = (uri: string): string => uri.slice(uri.indexOf(':') + 1)

/** SQLITE_BUSY: another process is writing, and nothing was done. CONFLICT, because core repeats a write after any retryable error but UNAVAILABLE. */
const busy = 5
/** What SQLite's primary result codes mean: IOERR, CANTOPEN; NOMEM, FULL, TOOBIG; READONLY; CORRUPT, NOTADB. */
const meanings: Readonly<Record<number, ErrorCode>> = {
  [busy]: 'CONFLICT', 10: 'UNAVAILABLE', 14: 'UNAVAILABLE', 7: 'RESOURCE_EXHAUSTED', 13: 'RESOURCE_EXHAUSTED', 18: 'RESOURCE_EXHAUSTED', 8: 'UNSUPPORTED', 11: 'CORRUPT', 26: 'CORRUPT',
}

const sqlite: Plugin = {
  name: 'sqlite',
  contract: 1,
  schemes: ['sqlite'],
  identify: (uri) => `sqlite:${fileOf(uri) === memory ? memory : resolve(fileOf(uri))}`,
  async connect(uri, { namespace }) {
    const file = fileOf(uri)
    if (file === '') throw new InlayError('CONFIG_INVALID', `The URI "${uri}" names no file; "sqlite:./file.db" or "sqlite::memory:" is expected.`)
    const db = new DatabaseSync(file, { timeout: 500 })
    try {
      db.exec('pragma journal_mode = wal')
      const data = new SqliteData(db, namespace, file !== memory), version = db.prepare('select sqlite_version() as version').get()!['version'] as string
      return { server: `SQLite ${version}`, data, close: async () => { if (db.isOpen) db.close() } }
    } catch (error) {
      db.close()
      throw error
    }
  },
  classify(error) {
    if (!(error instanceof Error) || !('errcode' in error)) return undefined
    const primary = Number(error.errcode) & 0xff, code = meanings[primary]
    return code && { code, retryable: primary === busy }
  },
}
export { sqlite as default }
