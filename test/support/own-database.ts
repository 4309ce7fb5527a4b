/** A database of one test file on the shared server: its sessions, deadlocks and settings are the file's own. */
import { Client } from 'pg'
import { afterAll, type TestContext } from 'vitest'
import { postgresUri } from './servers.ts'

/** Call at the top of a test file. Gives the URI of a database that is made at the first call and dropped after the file; skips where there is no server. */
export function ownDatabase(settings: Readonly<Record<string, string>> = {}): (ctx: TestContext) => Promise<string> {
  const name = `t_${crypto.randomUUID().replaceAll('-', '')}`
  let server: string | undefined, made: Promise<string> | undefined
  afterAll(async () => { if (server !== undefined) await runSql(server, `drop database if exists ${name} with (force)`) })
  return (ctx) => {
    server = postgresUri(ctx)
    return made ??= make(server)
  }

  async function make(at: string): Promise<string> {
    await runSql(at, `create database ${name}`, ...Object.entries(settings).map(([setting, value]) => `alter database ${name} set ${setting} = '${value}'`))
    const uri = new URL(at)
    uri.pathname = `/${name}`
    return uri.href
  }
}

/** Runs statements, one by one, on a connection of their own; gives the rows of the last. */
export async function runSql<R extends object = Record<string, unknown>>(uri: string, ...statements: readonly string[]): Promise<R[]> {
  const client = new Client({ connectionString: uri })
  await client.connect()
  try {
    let rows: R[] = []
    for (const statement of statements) rows = (await client.query<R>(statement)).rows
    return rows
  } finally {
    await client.end()
  }
}
