/**
 * Runs once before all tests: one real PostgreSQL, one real mongod and one PGlite template for the whole run, offered to tests by `inject` (see servers.ts).
 * `INLAY_TEST_POSTGRES_URL` and `INLAY_TEST_MONGODB_URL` name a server to use instead of starting one, and then it must answer. What else is absent is said with its reason; with `CI=true` that is an error.
 */
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { PGlite } from '@electric-sql/pglite'
import { vector } from '@electric-sql/pglite-pgvector'
import { MongoClient } from 'mongodb'
import { Client } from 'pg'
import type { TestProject } from 'vitest/node'
import { startMongodb } from './mongodb-server.ts'
import { startPostgres } from './postgres-server.ts'
import type { Backend } from './servers.ts'

const undo: (() => Promise<void>)[] = []

/** Called by vitest. */
export async function setup(project: TestProject): Promise<void> {
  const { INLAY_TEST_POSTGRES_URL: given, INLAY_TEST_MONGODB_URL: givenMongodb } = process.env
  const [postgres, pglite, mongodb] = await Promise.all([given === undefined ? orReason(ownPostgres()) : backendAt(given), orReason(openTemplate()), givenMongodb === undefined ? orReason(ownMongodb()) : mongodbAt(givenMongodb)])
  project.provide('postgres', postgres)
  project.provide('pglite', pglite)
  project.provide('mongodb', mongodb)
  const absent = Object.entries({ PostgreSQL: postgres, PGlite: pglite, MongoDB: mongodb }).flatMap(([name, backend]) => ('absent' in backend ? [`${name} is not tested: ${backend.absent}`] : []))
  if (absent.length > 0 && process.env.CI === 'true') {
    await teardown()
    throw new Error(`${absent.join('\n')}\nWith CI=true every backend must be there. Install python3 with pip, or set INLAY_TEST_POSTGRES_URL and INLAY_TEST_MONGODB_URL.`)
  }
  for (const line of absent) console.warn(`\n!!! ${line}\n`)
}

/** Called by vitest. */
export async function teardown(): Promise<void> {
  for (const end of undo.splice(0).reverse()) await end()
}

async function orReason(opening: Promise<Backend>): Promise<Backend> {
  return opening.catch((error: unknown) => ({ absent: error instanceof Error ? error.message : String(error) }))
}

async function ownPostgres(): Promise<Backend> {
  const server = await startPostgres()
  undo.push(() => server.stop())
  return backendAt(server.url)
}

async function backendAt(url: string): Promise<Backend> {
  const client = new Client({ connectionString: url })
  try {
    await client.connect()
    const { rows } = await client.query<{ server: string; vector: string | null }>(`select current_setting('server_version') as server, (select default_version from pg_available_extensions where name = 'vector') as vector`)
    const { server, vector: extension } = rows[0]!
    if (extension === null) throw new Error(`PostgreSQL ${server} has no pgvector; install it on the server, or unset INLAY_TEST_POSTGRES_URL`)
    return { at: url, server: `PostgreSQL ${server.split(' ')[0]} + pgvector ${extension}` }
  } finally {
    await client.end()
  }
}

async function ownMongodb(): Promise<Backend> {
  const server = await startMongodb()
  undo.push(() => server.stop())
  return mongodbAt(server.url)
}

async function mongodbAt(url: string): Promise<Backend> {
  const client = new MongoClient(url, { serverSelectionTimeoutMS: 10_000 })
  try {
    const { version } = await client.db('admin').command({ buildInfo: 1 }) as { version: string }, hello = await client.db('admin').command({ hello: 1 })
    if (hello['setName'] === undefined && hello['msg'] !== 'isdbgrid') throw new Error(`MongoDB ${version} is not part of a replica set, so it has no change streams; start it with --replSet, or unset INLAY_TEST_MONGODB_URL`)
    return { at: url, server: `MongoDB ${version}` }
  } finally {
    await client.close()
  }
}

/** Making the template takes three seconds, so it is kept as long as the installed packages are. */
async function openTemplate(): Promise<Backend> {
  const version = (name: string): string => (JSON.parse(readFileSync(join(packages, name, 'package.json'), 'utf8')) as { version: string }).version
  const engine = version('@electric-sql/pglite'), extension = version('@electric-sql/pglite-pgvector')
  const folder = join(packages, '.cache/inlay'), file = join(folder, `pglite-${engine}-${extension}.tar`)
  if (!existsSync(file)) {
    const db = await PGlite.create({ extensions: { vector } })
    await db.exec('create extension vector')
    const dump = await db.dumpDataDir('none')
    await db.close()
    mkdirSync(folder, { recursive: true })
    writeFileSync(`${file}.${process.pid}`, await dump.bytes())
    renameSync(`${file}.${process.pid}`, file)
  }
  return { at: file, server: `PGlite ${engine} + pglite-pgvector ${extension}` }
}

const packages = join(import.meta.dirname, '../../node_modules')
