/** A connection: one client of the driver, its options, and what the server has. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { AbstractCursor, Document, MongoClient } from 'mongodb'
import type { Ctx } from '../../core/contract.ts'
import { InlayError } from '../../core/errors.ts'
import type { Driver } from './bson.ts'
import { withoutPlan } from './errors.ts'

export interface Server {
  readonly driver: Driver
  readonly client: MongoClient
  /** Name and version. */
  readonly name: string
  /** A replica set or a sharded cluster: it has change streams. */
  readonly streams: boolean
  readonly docBytes: number
  close(): Promise<void>
}

/** A server that does not answer is waited for no longer than this, by what is stopped or closed. */
const patienceMs = 2000
/** A row's marks and fields beside the document itself. */
export const reserve: number = 256 * 1024

export async function connectServer(uri: string): Promise<Server> {
  const driver = await import('mongodb').catch((cause: unknown) => {
    throw new InlayError('DRIVER_MISSING', 'The driver "mongodb" is not installed, which "mongodb:" needs. Install it with "npm install mongodb".', { cause })
  })
  const client = new driver.MongoClient(uri, {
    useBigInt64: true, promoteBuffers: false, bsonRegExp: true, ignoreUndefined: false, retryWrites: true, retryReads: true,
    // What is acknowledged must be there after a failover, and what was written must be read.
    writeConcern: { w: 'majority' }, readPreference: 'primary', maxPoolSize: 64, appName: 'inlay',
    ...(/[?&]serverSelectionTimeoutMS=/i.test(uri) ? {} : { serverSelectionTimeoutMS: 10_000 }),
  })
  let closed: Promise<void> | undefined
  const close = (): Promise<void> => (closed ??= Promise.race([client.close(), sleep(patienceMs, undefined, { ref: false })]))
  try {
    await client.connect()
    const admin = client.db('admin'), hello = await admin.command({ hello: 1 }), { version } = await admin.command({ buildInfo: 1 }) as { version: string }
    const streams = typeof hello['setName'] === 'string' || hello['msg'] === 'isdbgrid'
    return { driver, client, name: `MongoDB ${version}${streams ? '' : ', standalone'}`, streams, docBytes: Number(hello['maxBsonObjectSize']) - reserve, close }
  } catch (error) {
    await close().catch(() => {})
    throw error
  }
}

/** What the server answers. From an abort on it has a moment to say what was done; then the work is left, and may still be done. */
export function answered<T>(work: Promise<T>, { signal }: Ctx): Promise<T> {
  return new Promise((done, fail) => {
    let timer: NodeJS.Timeout | undefined
    const stop = (): void => { timer = setTimeout(() => fail(signal.reason as Error), patienceMs) }
    if (signal.aborted) stop()
    signal.addEventListener('abort', stop, { once: true })
    work.then(done, fail).finally(() => { clearTimeout(timer); signal.removeEventListener('abort', stop) })
  })
}

/** The database that a URI names, if it names one. */
export function databaseOf(uri: string): string | undefined {
  const path = /^mongodb(?:\+srv)?:\/\/[^/?]*\/([^?]*)/i.exec(uri)?.[1]
  return path === undefined || path === '' ? undefined : decodeURIComponent(path)
}

/** All of a cursor that is known to be small, or one page. */
export async function list(cursor: AbstractCursor<Document>): Promise<Document[]> {
  try {
    return await cursor.toArray()
  } catch (error) {
    throw withoutPlan(error)
  } finally {
    await cursor.close()
  }
}
