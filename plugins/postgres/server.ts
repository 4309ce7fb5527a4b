/** A server over the driver `pg`. */
import { createHash } from 'node:crypto'
import type { Pool, PoolClient } from 'pg'
import { InlayError } from '../../core/errors.ts'
import type { Param, Query, Sql, SqlRow } from './sql.ts'

const connections = 8
const connectMs = 10_000
const pollMs = 1000

export async function connectServer(uri: string): Promise<Sql> {
  const { default: pg } = await import('pg').catch((cause: unknown) => {
    throw new InlayError('DRIVER_MISSING', 'The driver "pg" is not installed, which "postgres:" needs. Install it with "npm install pg".', { cause })
  })
  const config = { connectionString: uri, types: { getTypeParser: () => (value: unknown) => value }, connectionTimeoutMillis: connectMs }
  const pool: Pool = new pg.Pool({ ...config, max: connections, application_name: 'inlay', allowExitOnIdle: true } as never)
  pool.on('error', () => {})                                               // an idle connection that breaks is replaced when it is needed
  // Between the pool's listener and ours there is a moment without one, and an error that nobody listens to ends the process.
  pool.on('connect', (client) => { client.on('error', () => {}) })

  /** Tells the server to stop what the client runs. The client is not used by others before this has ended, so nothing else is hit. */
  const cancel = async (client: PoolClient): Promise<void> => {
    const other = new pg.Client(config as never)
    other.on('error', () => {})
    try {
      await other.connect()
      await other.query('select pg_cancel_backend($1)', [(client as unknown as { processID: number }).processID])
    } catch {
      // The statement then ends by itself.
    } finally {
      await other.end().catch(() => {})
    }
  }
  const on = async <T>(signal: AbortSignal, work: (query: Query, client: PoolClient) => Promise<T>): Promise<T> => {
    const client = await pool.connect()
    let cancelling: Promise<void> | undefined, broken = false
    const stop = (): void => { cancelling ??= cancel(client) }
    const watch = (error: Error): void => { void error; broken = true }
    client.on('error', watch)
    signal.addEventListener('abort', stop, { once: true })
    try {
      signal.throwIfAborted()
      return await work(async (text, params = [], prepared) => {
        signal.throwIfAborted()
        return (await client.query({ text, values: params as Param[], ...(prepared === undefined ? {} : { name: createHash('md5').update(text).digest('hex') }) })).rows as readonly SqlRow[]
      }, client)
    } catch (error) {
      // A statement whose result has another type by now stays so on its connection.
      broken ||= /cached plan must not change/.test(String((error as Error).message)) || typeof (error as { code?: unknown }).code !== 'string' || !/^[0-9A-Z]{5}$/.test((error as { code: string }).code)
      throw error
    } finally {
      signal.removeEventListener('abort', stop)
      await cancelling
      client.removeListener('error', watch)
      client.release(broken)
    }
  }
  let closed: Promise<void> | undefined
  // One connection for all that listen.
  const wakes = new Map<string, Set<() => void>>()
  let listener: Promise<InstanceType<typeof pg.Client>> | undefined, asked: Promise<unknown> = Promise.resolve()
  const connectListener = (): Promise<InstanceType<typeof pg.Client>> => {
    const client = new pg.Client({ ...config, application_name: 'inlay listen' } as never), connected = client.connect().then(() => client)
    const lost = (): void => {
      if (listener === connected) listener = undefined                      // an end follows an error, and may come when there is a new one
      for (const set of wakes.values()) for (const wake of set) wake()
    }
    client.on('error', lost)
    client.on('end', lost)
    client.on('notification', ({ channel }) => { for (const wake of wakes.get(channel) ?? []) wake() })
    connected.catch(lost)
    return connected
  }
  const listen = async (channel: string): Promise<void> => {
    const client = await (listener ??= connectListener())
    // One statement after the other: pg takes no second one while the first runs.
    asked = asked.catch(() => {}).then(() => client.query(`listen ${pg.escapeIdentifier(channel)}`))
    await asked
  }
  const sql: Sql = {
    server: '',
    query: (text, params, signal, prepared) => on(signal, (query) => query(text, params, prepared)),
    transaction: (work, signal) => on(signal, async (query, client) => {
      await query('begin')
      try {
        const result = await work(query)
        await query('commit')
        return result
      } catch (error) {
        await client.query('rollback').catch(() => {})
        throw error
      }
    }),
    async listen(channel, wake) {
      const set = wakes.get(channel) ?? new Set()
      wakes.set(channel, set.add(wake))
      try {
        await listen(channel)
      } catch (error) {
        set.delete(wake)
        throw error
      }
      // A connection that was lost is made anew; until then watchers look by themselves.
      const again = setInterval(() => { if (listener === undefined && closed === undefined) listen(channel).catch(() => {}) }, pollMs)
      again.unref()
      return {
        pollMs,
        stop() {
          clearInterval(again)
          set.delete(wake)
        },
      }
    },
    close: () => (closed ??= (async () => {
      await (await listener?.catch(() => undefined))?.end().catch(() => {})
      await pool.end()
    })()),
  }
  try {
    const rows = await sql.query('show server_version', [], new AbortController().signal)
    return { ...sql, server: `PostgreSQL ${rows[0]!['server_version']!.split(' ')[0]}` }
  } catch (error) {
    await pool.end().catch(() => {})
    throw error
  }
}
