import { execFile } from 'node:child_process'
import { createServer, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'
import { root } from '../support/source.ts'

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
