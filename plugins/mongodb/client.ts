/** A connection: one client of the driver, its options, and what the server has. */
import type { AbstractCursor, Document, MongoClient } from 'mongodb'
import { InlayError } from '../../core/errors.ts'
import type { Driver } from './bson.ts'

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

/** A row's marks and fields beside the document itself. */
const reserve = 256 * 1024

export async function connectServer(uri: string): Promise<Server> {
  const driver = await import('mongodb').catch((cause: unknown) => {
    throw new InlayError('DRIVER_MISSING', 'The driver "mongodb" is not installed, which "mongodb:" needs. Install it with "npm install mongodb".', { cause })
  })
  const client = new driver.MongoClient(uri, {
    useBigInt64: true, promoteBuffers: false, bsonRegExp: true, ignoreUndefined: false, retryWrites: true, retryReads: true,
    // What is acknowledged must be there after a failover, and what was written must be read.
    writeConcern: { w: 'majority' }, readPreference: 'primary', maxPoolSize: 16, appName: 'inlay',
    ...(/[?&]serverSelectionTimeoutMS=/i.test(uri) ? {} : { serverSelectionTimeoutMS: 10_000 }),
  })
  let closed: Promise<void> | undefined
  const close = (): Promise<void> => (closed ??= client.close())
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

/** The database that a URI names, if it names one. */
export function databaseOf(uri: string): string | undefined {
  const path = /^mongodb(?:\+srv)?:\/\/[^/?]*\/([^?]*)/i.exec(uri)?.[1]
  return path === undefined || path === '' ? undefined : decodeURIComponent(path)
}

/** All of a cursor that is known to be small, or one page. */
export async function list(cursor: AbstractCursor<Document>): Promise<Document[]> {
  try {
    return await cursor.toArray()
  } finally {
    await cursor.close()
  }
}
