import { PGlite } from '@electric-sql/pglite'
import { vector } from '@electric-sql/pglite-pgvector'
import { Client } from 'pg'
import { describe, expect, inject, it } from 'vitest'
import { startPostgres } from './postgres-server.ts'
import { openPglite, pgliteFolder, postgresUri } from './servers.ts'

const nearest = `select '[1,2]'::vector <-> '[4,6]'::vector as distance`

describe('the servers of the test set-up', () => {
  it('a real PostgreSQL answers and has pgvector', async (ctx) => {
    const client = new Client({ connectionString: postgresUri(ctx) })
    await client.connect()
    try {
      await client.query('create extension if not exists vector')
      expect((await client.query(nearest)).rows).toEqual([{ distance: 5 }])
    } finally {
      await client.end()
    }
  })

  it('PGlite starts from the template with pgvector in it', async (ctx) => {
    const db = await openPglite(ctx)
    expect((await db.query(nearest)).rows).toEqual([{ distance: 5 }])
    await db.close()
  })

  it('PGlite opens a folder made from the template', async (ctx) => {
    const db = await PGlite.create(pgliteFolder(ctx), { extensions: { vector } })
    expect((await db.query(nearest)).rows).toEqual([{ distance: 5 }])
    await db.close()
  })

  it('a stopped PostgreSQL leaves no process', async (ctx) => {
    const shared = inject('postgres')
    if ('absent' in shared || process.env.INLAY_TEST_POSTGRES_URL !== undefined) ctx.skip('PostgreSQL: not started by the set-up')
    const server = await startPostgres()
    expect(process.kill(server.pid, 0)).toBe(true)
    await server.stop()
    expect(() => process.kill(server.pid, 0)).toThrow('ESRCH')
  })
})
