/** One instance per file and process, one connection of it that writes, readers beside it. Two instances on one file lose acknowledged rows. */
import { mkdir, realpath, stat } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { DuckDBConnection, DuckDBInstance } from '@duckdb/node-api'
import { InlayError, messageOf, quote } from '../../core/errors.ts'
import { loadDriver, runner, stage, type Driver } from './driver.ts'
import type { Sql, Writer } from './sql.ts'

interface Started {
  readonly driver: Driver
  readonly instance: DuckDBInstance
  readonly path: string
  readonly server: string
  readonly idle: DuckDBConnection[]
  readonly running: Set<Promise<unknown>>
  writer: DuckDBConnection
  /** The end of the queue of those who write. */
  last: Promise<unknown>
}
interface Shared { readonly opened: Promise<Started>; uses: number }

const keptReaders = 4
/** So long a log is written into the file. DuckDB by itself decides by an estimate that takes 500 changed rows for 16 MB where they lie apart, and then rewrites the file with each commit. */
const logBytes = 64 * 1024 * 1024
const files = new Map<string, Shared>()
/** Files on their way to be closed: whoever opens one waits for that. */
const closing = new Map<string, Promise<void>>()

/** The file of a URI; undefined for `duckdb::memory:`. */
export function fileOf(uri: string): string | undefined {
  const path = uri.slice('duckdb:'.length)
  if (path === '' || path === ':memory:') return undefined
  if (path.startsWith('//') && !path.startsWith('///')) throw new InlayError('CONFIG_INVALID', 'The URI "duckdb://…" names a host, but DuckDB runs in this process. Write "duckdb:./app.duckdb" or "duckdb:///absolute/app.duckdb".')
  return path.startsWith('//') ? fileURLToPath(`file:${path}`) : resolve(path)
}

export async function connectDuck(uri: string): Promise<Sql> {
  const file = fileOf(uri)
  if (file === undefined) return open(await start(':memory:'), false, end)
  await mkdir(dirname(file), { recursive: true }).catch((cause: unknown) => {
    throw new InlayError('CONFIG_INVALID', `The folder of the file ${quote(file)} of "duckdb:" cannot be used: ${messageOf(cause)}. Give a file in a folder that can be written.`, { cause })
  })
  const path = await realpath(file).catch(async () => join(await realpath(dirname(file)), basename(file)))
  const shared = files.get(path) ?? { opened: (closing.get(path) ?? Promise.resolve()).then(() => start(path)), uses: 0 }
  shared.uses++
  files.set(path, shared)
  const leave = async (started: Started): Promise<void> => {
    if (--shared.uses > 0) return
    files.delete(path)
    const closed = end(started), over = closed.catch(() => {})
    closing.set(path, over)
    try {
      await closed
    } finally {
      if (closing.get(path) === over) closing.delete(path)
    }
  }
  try {
    return open(await shared.opened, true, leave)
  } catch (error) {
    if (files.get(path) === shared) files.delete(path)
    throw error
  }
}

async function start(path: string): Promise<Started> {
  const driver = await loadDriver()
  const instance = await (path === ':memory:' ? driver.DuckDBInstance.create(path) : driver.DuckDBInstance.fromCache(path)).catch((cause: unknown) => { throw cannotOpen(path, cause) })
  const writer = await instance.connect()
  await writer.run(`set checkpoint_threshold = '1GB'`)
  return { driver, instance, path, server: `DuckDB ${driver.version().replace(/^v/, '')}`, idle: [], running: new Set(), writer, last: Promise.resolve() }
}

function cannotOpen(path: string, cause: unknown): InlayError {
  const message = messageOf(cause), pid = /\(PID (\d+)\)/.exec(message)?.[1]
  if (message.includes('Could not set lock')) {
    return new InlayError('UNAVAILABLE', `The file ${quote(path)} is open in ${pid === undefined ? 'another process' : `the process ${pid}`}, and DuckDB takes one process at a time. Close that one, or use PostgreSQL or MongoDB, which take many.`, { cause, details: pid === undefined ? {} : { pid: Number(pid) } })
  }
  return new InlayError('CONFIG_INVALID', `The file ${quote(path)} of "duckdb:" cannot be opened: ${message.replace(/\.$/, '')}. Give a DuckDB file, or one that is not there yet.`, { cause })
}

/** Ends what still runs, writes the log into the file, and lets go of it. */
async function end(started: Started): Promise<void> {
  await started.last
  await Promise.allSettled(started.running)
  // Others in this process may be in a transaction: then the log stays, which is as safe.
  await started.writer.run('checkpoint').catch(() => {})
  for (const connection of [started.writer, ...started.idle]) connection.closeSync()
  started.instance.closeSync()
}

function open(started: Started, durable: boolean, leave: (started: Started) => Promise<void>): Sql {
  const { driver, idle, running } = started
  let closed: Promise<void> | undefined
  const tracked = <T>(work: Promise<T>): Promise<T> => {
    running.add(work)
    return work.finally(() => running.delete(work))
  }
  const reading = <T>(work: (connection: DuckDBConnection) => Promise<T>, signal: AbortSignal): Promise<T> => tracked((async () => {
    signal.throwIfAborted()
    const connection = idle.pop() ?? await started.instance.connect(), stop = (): void => connection.interrupt()
    signal.addEventListener('abort', stop, { once: true })
    try {
      return await work(connection)
    } finally {
      signal.removeEventListener('abort', stop)
      if (idle.length < keptReaders) idle.push(connection)
      else connection.closeSync()
    }
  })())
  return {
    server: started.server, durable,
    read: (text, params, signal) => reading((connection) => runner(driver, connection)(text, params), signal),
    columns: (from, signal) => reading(async (connection) => {
      const result = await connection.run(`select * ${from} limit 0`), types = result.columnTypes()
      return result.columnNames().map((name, i) => ({ name, type: types[i]! }))
    }, signal),
    write(work, signal) {
      const turn = started.last.then(() => transaction(started, work, signal))
      started.last = turn.catch(() => {})
      return turn
    },
    close: () => (closed ??= leave(started)),
  }
}

async function transaction<T>(started: Started, work: (writer: Writer) => Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted()
  const { driver, writer } = started, run = runner(driver, writer), stop = (): void => writer.interrupt()
  signal.addEventListener('abort', stop, { once: true })
  try {
    await run('begin')
    const result = await work({ run, stage: (dims, vectors) => stage(driver, writer, run, dims, vectors) })
    signal.throwIfAborted()
    signal.removeEventListener('abort', stop)                               // a commit is not stopped half-way
    await run('commit')
    // Where others in this process are in a transaction, a later write does it.
    if (await logSize(started.path) > logBytes) await run('checkpoint').catch(() => {})
    return result
  } catch (error) {
    signal.removeEventListener('abort', stop)
    // An error leaves its transaction open, in which every further statement fails or stays unseen. A connection that cannot roll back is given up.
    await run('rollback').catch(async () => {
      writer.closeSync()
      started.writer = await started.instance.connect()
    })
    throw error
  }
}

async function logSize(path: string): Promise<number> {
  return path === ':memory:' ? 0 : stat(`${path}.wal`).then(({ size }) => size, () => 0)
}
