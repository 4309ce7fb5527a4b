/** The backends of this run, for tests that hold on all of them. */
import { randomBytes } from 'node:crypto'
import type { TestContext } from 'vitest'
import { inlay, type Config, type Inlay } from '../../index.ts'
import { pgliteFolder, postgresUri } from './servers.ts'

export interface Backend {
  readonly name: string
  /** A database of its own for one test; skips the test with the reason where there is none. */
  uri(ctx: TestContext): string
}

export const backends: readonly Backend[] = [
  { name: 'memory', uri: () => `memory:${randomBytes(6).toString('hex')}` },
  { name: 'PGlite', uri: (ctx) => `pglite:${pgliteFolder(ctx)}` },
  { name: 'PostgreSQL', uri: postgresUri },
]

/** Opens a backend in a namespace of its own; closed, and dropped, when the test ends. */
export async function open(ctx: TestContext, backend: Backend, config: Config = {}): Promise<Inlay> {
  const namespace = `t_${randomBytes(6).toString('hex')}`, uri = backend.uri(ctx)
  const db = await inlay({ data: uri, namespace, config: false, log: {}, ...config })
  ctx.onTestFinished(async () => {
    await db.close({ abort: true })
    if (backend.name === 'PostgreSQL') await dropSchema(uri, namespace)
  })
  return db
}

export async function dropSchema(uri: string, schema: string): Promise<void> {
  const { default: pg } = await import('pg'), client = new pg.Client(uri)
  await client.connect()
  await client.query(`drop schema if exists "${schema}" cascade`)
  await client.end()
}

