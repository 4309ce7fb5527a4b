/** The backends of this run, for tests that hold on all of them. */
import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'vitest'
import { inlay, type Config, type Inlay } from '../../index.ts'
import { mongodbUri, pgliteFolder, postgresUri } from './servers.ts'

export interface Backend {
  readonly name: string
  /** A database of its own for one test; skips the test with the reason where there is none. */
  uri(ctx: TestContext): string
}

export const backends: readonly Backend[] = [
  { name: 'memory', uri: () => `memory:${randomBytes(6).toString('hex')}` },
  { name: 'DuckDB', uri: (ctx) => `duckdb:${duckdbFile(ctx)}` },
  { name: 'PGlite', uri: (ctx) => `pglite:${pgliteFolder(ctx)}` },
  { name: 'PostgreSQL', uri: postgresUri },
  { name: 'MongoDB', uri: mongodbUri },
]

function duckdbFile(ctx: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'inlay-duckdb-'))
  ctx.onTestFinished(() => rmSync(folder, { recursive: true }))
  return join(folder, 'app.duckdb')
}

/** Opens a backend in a namespace of its own; closed, and dropped, when the test ends. */
export async function open(ctx: TestContext, backend: Backend, config: Config = {}): Promise<Inlay> {
  const namespace = `t_${randomBytes(6).toString('hex')}`, uri = backend.uri(ctx)
  const db = await inlay({ data: uri, namespace, config: false, log: {}, ...config })
  ctx.onTestFinished(async () => {
    await db.close({ abort: true })
    if (backend.name === 'PostgreSQL') await dropSchema(uri, namespace)
    if (backend.name === 'MongoDB') await dropNamespace(uri, namespace)
  })
  return db
}

/** The URI names no database, so the namespace is one. */
export async function dropNamespace(uri: string, namespace: string): Promise<void> {
  const { MongoClient } = await import('mongodb'), client = await MongoClient.connect(uri)
  await client.db(namespace).dropDatabase()
  await client.close()
}

export async function dropSchema(uri: string, schema: string): Promise<void> {
  const { default: pg } = await import('pg'), client = new pg.Client(uri)
  await client.connect()
  await client.query(`drop schema if exists "${schema}" cascade`)
  await client.end()
}

