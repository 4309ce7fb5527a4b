import { execFile } from 'node:child_process'
import { createServer, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { Client } from 'pg'
import { expect, it } from 'vitest'
import { classify } from '../../plugins/postgres/errors.ts'
import { connectServer } from '../../plugins/postgres/server.ts'
import { live } from '../conformance/subject.ts'
import { ownDatabase, runSql } from '../support/own-database.ts'
import { root } from '../support/source.ts'

const database = ownDatabase()

/** A message of the protocol: its type, its length, its content. */
function message(type: string, content: Buffer): Buffer {
  const length = Buffer.alloc(4)
  length.writeInt32BE(content.length + 4)
  return Buffer.concat([Buffer.from(type), length, content])
}

it('a session that the server ends with its greeting is an error of the call, and does not end the process', async (ctx) => {
  const greeting = [message('R', Buffer.alloc(4)), message('Z', Buffer.from('I')), message('E', Buffer.from('SFATAL\0C57P01\0Mterminating connection\0\0'))]
  const server = createServer((socket) => {
    socket.on('error', () => {})
    socket.once('data', () => socket.end(Buffer.concat(greeting)))           // in one packet
  }).listen(0, '127.0.0.1')
  ctx.onTestFinished(() => { server.close() })
  await new Promise((resolve) => { server.once('listening', resolve) })
  const program = `const { connectServer } = await import(process.argv[1]); await connectServer(process.argv[2]).catch(() => console.log('refused'))`
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', program, join(root, 'plugins/postgres/server.ts'), `postgres://u@127.0.0.1:${(server.address() as AddressInfo).port}/x`], { timeout: 15_000 })
  expect(stdout).toBe('refused\n')
})

it('channels that are listened to at once share one session, which the driver warns of nothing', async (ctx) => {
  const warnings: string[] = [], warn = ({ message }: Error): void => { warnings.push(message) }
  process.on('warning', warn)
  ctx.onTestFinished(() => { process.off('warning', warn) })
  const uri = await database(ctx), sql = await connectServer(uri), rung: string[] = [], names = ['a', 'b', 'c', 'd']
  const listening = await Promise.all(names.map((name) => sql.listen(name, () => { rung.push(name) })))
  await sql.query(names.map((name) => `select pg_notify('${name}', '')`).join(' union all '), [], live.signal)
  await expect.poll(() => [...rung].sort()).toEqual(names)
  expect(await runSql(uri, `select count(*)::int as n from pg_stat_activity where datname = current_database() and application_name = 'inlay listen'`)).toEqual([{ n: 1 }])
  for (const { stop } of listening) stop()
  await sql.close()
  expect(warnings).toEqual([])
})

it('a server that does not greet, and a session that is closed, are away', async (ctx) => {
  const server = createServer((socket) => { socket.on('error', () => {}) }).listen(0, '127.0.0.1')
  ctx.onTestFinished(() => { server.close() })
  await new Promise((resolve) => { server.once('listening', resolve) })
  const client = new Client({ host: '127.0.0.1', port: (server.address() as AddressInfo).port, connectionTimeoutMillis: 100 })
  client.on('error', () => {})
  const late = await client.connect().catch((error: unknown) => error), closed = await client.query('select 1').catch((error: unknown) => error)
  expect([late, closed].map(classify)).toEqual([{ code: 'UNAVAILABLE', retryable: true }, { code: 'UNAVAILABLE', retryable: true }])
})
