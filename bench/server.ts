/** A PostgreSQL with pgvector for one bench: the one that `INLAY_TEST_POSTGRES_URL` names, or one of its own; each bench in a schema that is dropped. */
import pg from 'pg'
import { startPostgres } from '../test/support/postgres-server.ts'

export interface BenchServer {
  readonly url: string
  readonly namespace: string
  readonly pool: pg.Pool
  stop(): Promise<void>
}

export async function benchServer(): Promise<BenchServer> {
  const given = process.env['INLAY_TEST_POSTGRES_URL'], server = given === undefined ? await startPostgres() : undefined
  const url = given ?? server!.url, namespace = `bench_${process.pid}`
  const pool = new pg.Pool({ connectionString: url, max: 4 })
  pool.on('error', () => {})                                               // the server ends first
  await pool.query('create extension if not exists vector')
  return {
    url, namespace, pool,
    async stop() {
      await pool.query(`drop schema if exists ${namespace} cascade`)
      await pool.query(`drop schema if exists ${namespace}_hand cascade`)
      await pool.end()
      await server?.stop()
    },
  }
}
