import { execFileSync, spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer as createSecureServer } from 'node:https'
import { createServer as createSocketServer, type AddressInfo, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { getCACertificates, setDefaultCACertificates } from 'node:tls'
import { describe, expect, it, onTestFinished } from 'vitest'
import type { Ctx } from '../../core/contract.ts'
import { InlayError } from '../../core/errors.ts'
import { allowed, parseUrl } from '../../core/allow.ts'
import { Fetcher, type ContentOptions } from '../../core/fetch.ts'
import { notPublic } from '../../core/http.ts'
import { isOutage } from '../../core/reconcile.ts'
import { Turns } from '../../core/turns.ts'

/** For "localhost", signed by itself, valid from 2024 to 2124; it protects nothing. */
const pem = (kind: string, base64: string): string => `-----BEGIN ${kind}-----\n${base64}\n-----END ${kind}-----\n`
const key = pem('PRIVATE KEY', 'MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg3D5PTku1WxzSs4dZPbOJM6oCgm8Y/peIwVfrNqPQhq2hRANCAAS63YjBLdTyRwA3RqE/7y44A5kI1DFRJ/M7galVS7gk9IJXgTySoKsLbXfMIUKyPXTvDqgdLZYMwvLhugT/NkRc')
const cert = pem('CERTIFICATE', 'MIIBXjCCAQSgAwIBAgIBATAKBggqhkjOPQQDAjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwIBcNMjQwMTAxMDAwMDAwWhgPMjEyNDAxMDEwMDAwMDBaMBQxEjAQBgNVBAMMCWxvY2FsaG9zdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABLrdiMEt1PJHADdGoT/vLjgDmQjUMVEn8zuBqVVLuCT0gleBPJKgqwttd8whQrI9dO8OqB0tlgzC8uG6BP82RFyjRTBDMBQGA1UdEQQNMAuCCWxvY2FsaG9zdDAMBgNVHRMEBTADAQH/MB0GA1UdDgQWBBQGWiYtDFFz/Zn2cj4BKMjdnLdOBzAKBggqhkjOPQQDAgNIADBFAiAHrP5qJNsHpPcObZ29KgvTztqPkuMTxwmbJMJ+2ch2UgIhAJLyjTQfkmo2DYK0sWVlq13mLDPkSFZnN0Z7CauBHBs1')

const ctx: Ctx = { signal: new AbortController().signal }
type Handler = (request: IncomingMessage, response: ServerResponse) => void
interface Listening { readonly origin: string; readonly port: number; connections(): number }

const listening = async (server: Server, scheme = 'http'): Promise<Listening> => {
  let connections = 0
  server.on('connection', (socket) => { connections++; onTestFinished(() => { socket.destroy() }) })
  await new Promise<void>((done) => { server.listen(0, '127.0.0.1', done) })
  onTestFinished(() => { server.close() })
  const { port } = server.address() as AddressInfo
  return { origin: `${scheme}://localhost:${port}`, port, connections: () => connections }
}
const serve = (handler: Handler): Promise<Listening> => listening(createServer(handler))
/** Writes the bytes of an answer as they are. */
const serveRaw = (answer: string): Promise<Listening> => listening(createSocketServer((socket) => { socket.on('error', () => {}).once('data', () => socket.write(answer)) }))

/** May connect to this machine; retries cost time, so by default there are none. */
const local = (options: ContentOptions = {}, folder = '/'): Fetcher => new Fetcher({ allow: ['http:', 'https:'], privateAddresses: true, retries: 0, timeoutMs: 5000, resolve: async () => ['127.0.0.1'], ...options }, folder)
/** The code and message; no error of a fetch may look like an outage. */
const fault = async (work: Promise<Uint8Array>): Promise<string> => {
  const error: unknown = await work.then((bytes) => `no error: ${Buffer.from(bytes).toString('utf8', 0, 50)}`, (error: unknown) => error)
  if (!InlayError.is(error)) return String(error)
  expect(isOutage(error), error.message).toBe(false)
  return `${error.code} ${error.message}`
}
const allows = async (allow: readonly string[], uri: string): Promise<boolean> => {
  const asked: string[] = []
  const fetcher = new Fetcher({ allow, retries: 0, resolve: async (host) => { asked.push(host); return [] }, schemes: { s3: async () => { asked.push('s3'); return new Uint8Array() } } }, '/')
  await fetcher.fetch(uri, ctx).catch(() => {})
  return asked.length > 0
}
const folder = (): string => {
  const path = mkdtempSync(join(tmpdir(), 'inlay-fetch-'))
  onTestFinished(() => rmSync(path, { recursive: true, force: true }))
  return path
}

describe('what is allowed', () => {
  it('is nothing by default, and the error says which line to add', async () => {
    const fetcher = new Fetcher({}, '/data')
    expect(await fault(fetcher.fetch('https://images.example.com/cats/1.png', ctx))).toBe('INVALID_ARGUMENT "https://images.example.com/cats/1.png" may not be fetched: it is not below any entry of content.allow. If it shall be, add to the config: content: { allow: ["https://images.example.com/"] }.')
    expect(await fault(fetcher.fetch('file:./pictures/1.png', ctx))).toContain('content: { allow: ["file:/data/pictures"] }')
    expect(await fault(fetcher.fetch('data:,hello', ctx))).toContain('content: { allow: ["data:"] }')
    expect(await fault(fetcher.fetch('s3://bucket/key', ctx))).toContain('UNSUPPORTED "s3://bucket/key" cannot be fetched: nothing handles "s3:". Add to the config: content: { schemes: { "s3": (uri, { signal, maxBytes }) => … } }.')
    expect(await fault(fetcher.fetch('cats/1.png', ctx))).toContain('INVALID_ARGUMENT "cats/1.png" is no URI that can be fetched')
  })

  const yes: readonly (readonly [string, string])[] = [
    ['https:', 'https://example.com/a'], ['https:', 'HTTPS://example.com'], ['HTTPS:', 'https://example.com'],
    ['https://example.com', 'https://example.com/a?b#c'], ['https://example.com', 'https://EXAMPLE.com:443/a'], ['https://example.com:443/', 'https://example.com/'],
    ['https://example.com', 'https://example.com./a'], ['https://example.com./', 'https://example.com/a'], ['https://bücher.example', 'https://xn--bcher-kva.example/a'], ['https://example.com', 'https://user:secret@example.com/a'],
    ['https://example.com/cats', 'https://example.com/cats'], ['https://example.com/cats', 'https://example.com/cats/1'], ['https://example.com/cats/', 'https://example.com/dogs/../cats/1'],
    ['https://example.com/cats/', 'https://example.com\\cats\\1'], ['https://example.com/cats/', 'https://example.com/cats/%E0%A4%A'], ['https://example.com/cats/', 'https://example.com/cats/a%2fb..c'],
    ['s3:', 's3://bucket/key'], ['s3://bucket/a/', 's3://bucket/a/key'],
  ]
  it.each(yes)('%s lets through %s', async (entry, uri) => {
    expect(await allows([entry], uri)).toBe(true)
  })
  const no: readonly (readonly [string, string])[] = [
    ['https:', 'http://example.com/'], ['https://example.com', 'https://example.com.evil.org/'], ['https://example.com', 'https://evil-example.com'], ['https://example.com', 'https://example.com@evil.org/'],
    ['https://example.com', 'https://example.com:secret@evil.org/'], ['https://example.com', 'https://sub.example.com/'], ['https://example.com', 'http://example.com/'], ['https://example.com', 'https://example.com:444/'],
    ['https://example.com', 'https://evil.org\\@example.com/'], ['https://example.com', 'https://evil.org#@example.com/'], ['https://bücher.example', 'https://bucher.example/'], ['https://example.com', 'https://exаmple.com/'],
    ['https://example.com/cats/', 'https://example.com/cats'], ['https://example.com/cats', 'https://example.com/catsanddogs'], ['https://example.com/cats/', 'https://example.com/Cats/1'],
    ['https://example.com/cats/', 'https://example.com/cats/../dogs'], ['https://example.com/cats/', 'https://example.com/cats/%2e%2e/dogs'], ['https://example.com/cats/', 'https://example.com/cats/.%2E/dogs'],
    ['https://example.com/cats/', 'https://example.com/cats\\..\\dogs'], ['https://example.com/cats/', 'https://example.com/cats/..%2fdogs'], ['https://example.com/cats/', 'https://example.com/cats/..%5cdogs'],
    ['https://example.com/cats/', 'https://example.com/cats/%252e%252e%252fdogs'], ['https://example.com/cats/', 'https://example.com/cats/..;/dogs'],
    ['s3://bucket/a/', 's3://bucket/a/../b'], ['s3://bucket/a/', 's3://other/a/b'], ['s3://bucket/a/', 's3://bucket/a\\..\\b'], ['https://example.com', 's3://example.com/'],
  ]
  it.each(no)('%s does not let through %s', async (entry, uri) => {
    expect(await allows([entry], uri)).toBe(false)
  })

  it.each([['example.com', 'a scheme ("https:")'], ['file:', 'a folder is expected'], ['file://host/share', 'no path on this machine'], ['https://me:pw@example.com', 'without user'], ['https://example.com?a=1', 'without user, query'], ['mailto:me', 'a URL with a host']])('an entry %s is refused', (entry, reason) => {
    const made = (): Fetcher => new Fetcher({ allow: [entry] }, '/')
    expect(made).toThrow(reason)
    expect(made).not.toThrow('pw')
  })
  it.each([[{ maxBytes: 0 }, 'content.maxBytes is 0'], [{ concurrency: 1.5 }, 'content.concurrency is 1.5'], [{ retries: -1 }, 'content.retries is -1'], [{ schemes: { 'https': async () => new Uint8Array() } }, 'is built in'], [{ schemes: { 's3:': async () => new Uint8Array() } }, 'is no scheme']] as readonly (readonly [ContentOptions, string])[])('options %o are refused', (options, reason) => {
    expect(() => new Fetcher(options, '/')).toThrow(reason)
  })
})

describe('addresses', () => {
  it.each(['127.0.0.1', '127.1.2.3', '10.0.0.1', '172.16.0.1', '192.168.1.1', '169.254.169.254', '100.64.0.1', '0.0.0.0', '255.255.255.255', '224.0.0.1', '192.0.2.1', '198.18.0.1', '240.0.0.1', '::', '::1', 'fe80::1', 'fe80::1%eth0', 'fc00::1', 'fd12::1', 'ff02::1', '::ffff:127.0.0.1', '::ffff:10.0.0.1', '::127.0.0.1', '64:ff9b::7f00:1', '64:ff9b::808:808', '2002:7f00:1::', '2001:db8::1', '2001::1', '::2', '200::1', '4000::1', '127.1', 'localhost', ''])('%s is not public', (address) => {
    expect(notPublic(address)).toBeTypeOf('string')
  })
  it.each(['8.8.8.8', '93.184.216.34', '2606:2800:220:1:248:1893:25c8:1946', '2a00:1450::1', '::ffff:8.8.8.8'])('%s is public', (address) => {
    expect(notPublic(address)).toBeUndefined()
  })

  it('that are not public are refused before any connection is made', async () => {
    const server = await serve((_, response) => response.end('secret'))
    for (const addresses of [['127.0.0.1'], ['8.8.8.8', '127.0.0.1'], ['::ffff:127.0.0.1'], ['::1']]) {
      const fetcher = new Fetcher({ allow: ['http:'], resolve: async () => addresses }, '/')
      expect(await fault(fetcher.fetch(`http://innocent.example.com:${server.port}/`, ctx))).toMatch(/^INVALID_ARGUMENT "http:\/\/innocent.example.com:\d+\/" may not be fetched: the host "innocent.example.com" has the address ".*", which is not public \(\w+\). If that is meant, add to the config: content: \{ privateAddresses: \[".*"\] \}.$/)
    }
    const literal = new Fetcher({ allow: ['http:'] }, '/')
    for (const host of ['127.0.0.1', '127.1', '2130706433', '0x7f.0.0.1', '0177.0.0.1', '[::1]', '[::ffff:7f00:1]', '0']) expect(await fault(literal.fetch(`http://${host}:${server.port}/`, ctx))).toContain('is not public')
    expect(await fault(literal.fetch(`http://localhost:${server.port}/`, ctx))).toContain('is not public')
    expect(await fault(new Fetcher({ allow: ['http:'], resolve: async () => ['8.8.8.8'] }, '/').fetch(`http://127.0.0.1:${server.port}/`, ctx))).toContain('is not public')
    expect(server.connections()).toBe(0)
    expect(await fault(literal.fetch(`http://[fe80::1%25eth0]:${server.port}/`, ctx))).toContain('is no URI')
  })

  it('that were checked are the ones that are connected to: the name is not resolved again', async () => {
    const server = await serve((request, response) => response.end(request.headers.host))
    let resolved = 0
    const fetcher = local({ resolve: async () => { resolved++; return ['127.0.0.1'] } })
    expect(Buffer.from(await fetcher.fetch(`http://nowhere.invalid:${server.port}/`, ctx)).toString()).toBe(`nowhere.invalid:${server.port}`)
    expect(resolved).toBe(1)
  })

  it('that cannot be found are an error of the row', async () => {
    expect(await fault(local({ resolve: async () => [] }).fetch('http://nowhere.invalid/', ctx))).toContain('NOT_FOUND The host "nowhere.invalid" of "http://nowhere.invalid/" has no address')
    expect(await fault(local({ resolve: async () => { throw Object.assign(new Error('getaddrinfo ENOTFOUND'), { code: 'ENOTFOUND' }) } }).fetch('http://nowhere.invalid/', ctx))).toContain('getaddrinfo ENOTFOUND')
  })
})

describe('redirects', () => {
  const redirecting = (to: (path: string) => string | undefined): Promise<Listening> => serve((request, response) => {
    const location = to(request.url!)
    if (location === undefined) response.end(`at ${request.url}, authorization ${request.headers.authorization}`)
    else response.writeHead(302, { location }).end()
  })

  it('are followed, relative ones too, without credentials', async () => {
    const server = await redirecting((path) => ({ '/a': 'b', '/b': `http://other:secret@localhost:${server.port}/c` })[path])
    expect(Buffer.from(await local().fetch(`http://user:secret@localhost:${server.port}/a`, ctx)).toString()).toBe('at /c, authorization undefined')
    expect(Buffer.from(await local().fetch(`http://user:secret@localhost:${server.port}/c`, ctx)).toString()).toContain('authorization Basic')
  })

  it('go through all checks: the allow-list, addresses, schemes', async () => {
    const target = await serve((_, response) => response.end('secret')), to = `http://metadata.example.com:${target.port}/`
    const server = await redirecting((path) => decodeURIComponent(path.slice(1)))
    const resolve = async (host: string): Promise<readonly string[]> => [host === 'localhost' ? '127.0.0.1' : '169.254.169.254']
    const go = (allow: readonly string[], location: string): Promise<string> => fault(local({ allow, resolve }).fetch(`${server.origin}/${encodeURIComponent(location)}`, ctx))
    expect(await go([server.origin], to)).toContain(`redirects to "${to}", which is refused: add to the config, if it shall be fetched: content: { allow: ["${to}"] }`)
    expect(await go(['http:', 'file:/'], 'file:///etc/passwd')).toContain('only http: and https: are followed')
    expect(await go(['http:', 'data:'], 'data:,x')).toContain('only http: and https: are followed')
    expect(await go(['http:'], 'http://[')).toContain('which is no URL')
    expect(target.connections()).toBe(0)
  })

  it('to a link-local address, by number or by name, are refused before a connection is made; a range that is allowed is', async () => {
    const server = await redirecting((path) => (path === '/there' ? undefined : path === '/literal' ? 'http://169.254.169.254/latest/' : path === '/named' ? 'http://metadata.example.com/latest/' : `http://other.example.com:${server.port}/there`))
    const resolve = async (host: string): Promise<readonly string[]> => [host === 'metadata.example.com' ? '169.254.169.254' : host === 'other.example.com' ? '127.0.0.2' : '127.0.0.1']
    const go = (path: string, privateAddresses: readonly string[]): Promise<string> => new Fetcher({ allow: ['http:'], resolve, privateAddresses }, '/').fetch(`${server.origin}/${path}`, ctx).then((bytes) => Buffer.from(bytes).toString(), (error: unknown) => `${(error as InlayError).code} ${(error as InlayError).message}`)
    expect(await go('literal', ['127.0.0.1'])).toMatch(/^INVALID_ARGUMENT .*169\.254\.169\.254.*not public \(linkLocal\)/)
    expect(await go('named', ['127.0.0.1'])).toMatch(/^INVALID_ARGUMENT .*"metadata\.example\.com" has the address "169\.254\.169\.254".*not public \(linkLocal\)/)
    expect(await go('other', ['127.0.0.1'])).toContain('the address "127.0.0.2"')
    expect(() => new Fetcher({ privateAddresses: ['10.0.0.0/99'] }, '/')).toThrow('an address or a range is expected')
  })

  it('have the addresses of each new host looked up and checked', async () => {
    const asked: string[] = [], server = await redirecting(() => 'http://second.example.com/latest/meta-data/')
    const resolve = async (host: string): Promise<readonly string[]> => { asked.push(host); return host === 'localhost' ? ['127.0.0.1'] : [] }
    expect(await fault(local({ resolve }).fetch(`${server.origin}/`, ctx))).toContain('NOT_FOUND The host "second.example.com"')
    expect(asked).toEqual(['localhost', 'second.example.com'])
  })

  it('from https: to http: are refused, and https: itself works', async () => {
    const before = getCACertificates('default')
    setDefaultCACertificates([...before, cert])
    onTestFinished(() => setDefaultCACertificates(before))
    const plain = await serve((_, response) => response.end('plain'))
    const secure = await listening(createSecureServer({ key, cert }, (request, response) => (request.url === '/' ? response.end('secure') : response.writeHead(307, { location: `${plain.origin}/` }).end())), 'https')
    expect(Buffer.from(await local().fetch(`${secure.origin}/`, ctx)).toString()).toBe('secure')
    expect(await fault(local().fetch(`${secure.origin}/down`, ctx))).toContain('which is refused: it leaves https:')
    expect(await fault(local().fetch(`https://other.example.com:${secure.port}/`, ctx))).toMatch(/NOT_FOUND .*could not be fetched: .*altnames/)
    expect(plain.connections()).toBe(0)
  })

  it('are followed five times', async () => {
    const server = await redirecting((path) => (path === '/0' ? undefined : `/${Number(path.slice(1)) - 1}`))
    expect(Buffer.from(await local().fetch(`${server.origin}/5`, ctx)).toString()).toContain('at /0')
    expect(await fault(local().fetch(`${server.origin}/6`, ctx))).toContain('redirects more than 5 times')
  })
})

describe('answers', () => {
  it('of another status than 200 are errors that name it', async () => {
    const server = await serve((request, response) => response.writeHead(Number(request.url!.slice(1))).end('body'))
    expect(await fault(local().fetch(`${server.origin}/404`, ctx))).toBe(`NOT_FOUND "${server.origin}/404" was answered with status 404; 200 is expected. Check the address.`)
    for (const status of [201, 204, 206, 301, 304, 401, 403, 410, 500]) expect(await fault(local().fetch(`${server.origin}/${status}`, ctx))).toMatch(new RegExp(`^NOT_FOUND .* status ${status};`))
    for (const status of [429, 503]) expect(await fault(local().fetch(`${server.origin}/${status}`, ctx))).toMatch(new RegExp(`^RESOURCE_EXHAUSTED .* status ${status};`))
  })

  it('that declare more than maxBytes are refused before the body is read', async () => {
    let written = 0
    const server = await serve((_, response) => {
      response.writeHead(200, { 'content-length': 1024 ** 3 })
      const more = (): void => { while (!response.destroyed && written < 1024 ** 3 && response.write(Buffer.alloc(65536))) written += 65536 }
      response.on('drain', more)
      more()
    })
    expect(await fault(local().fetch(`${server.origin}/`, ctx))).toBe(`RESOURCE_EXHAUSTED The content of "${server.origin}/" has 1073741824 bytes; content.maxBytes allows 67108864. Raise it if that is meant.`)
    expect(written).toBeLessThan(16 * 1024 ** 2)
  })

  it('that are longer than maxBytes without saying so are stopped', async () => {
    const server = await serve((_, response) => {
      const more = (): void => { while (!response.destroyed && response.write(Buffer.alloc(65536))); }
      response.on('drain', more)
      more()
    })
    expect(await fault(local({ maxBytes: 1_000_000 }).fetch(`${server.origin}/`, ctx))).toContain('RESOURCE_EXHAUSTED The content of')
    expect((await local({ maxBytes: 3 }).fetch(`${(await serve((_, response) => response.end('abc'))).origin}/`, ctx)).byteLength).toBe(3)
  })

  it('that are shorter or longer than declared never give other bytes than those declared', async () => {
    const short = await listening(createSocketServer((socket) => { socket.on('error', () => {}).once('data', () => socket.end('HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc')) }))
    expect(await fault(local().fetch(`${short.origin}/`, ctx))).toMatch(/^NOT_FOUND .*could not be fetched: aborted/)
    const long = await serveRaw('HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabcdef')
    expect(await fault(local().fetch(`${long.origin}/`, ctx))).toMatch(/^no error: abc$|^NOT_FOUND/)
    const chunked = await serveRaw('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nZZ\r\n')
    expect(await fault(local().fetch(`${chunked.origin}/`, ctx))).toMatch(/^NOT_FOUND .*Parse Error/)
  })

  it('that are no HTTP, or of an encoding, are errors', async () => {
    expect(await fault(local().fetch(`${(await serveRaw('hello\r\n\r\n')).origin}/`, ctx))).toMatch(/^NOT_FOUND .*Parse Error/)
    const seen: unknown[] = []
    const zipped = await serve((request, response) => { seen.push(request.headers['accept-encoding']); response.writeHead(200, { 'content-encoding': 'gzip' }).end('xx') })
    expect(await fault(local().fetch(`${zipped.origin}/`, ctx))).toContain('UNSUPPORTED The server of')
    expect(seen).toEqual(['identity'])
  })

  it('that do not come in time end with an error of the row, whether headers or body hang', async () => {
    const hanging = await serve((request, response) => { if (request.url === '/body') response.writeHead(200, { 'content-length': 10 }).write('abc') })
    for (const path of ['/headers', '/body']) {
      expect(await fault(local({ timeoutMs: 150 }).fetch(`${hanging.origin}${path}`, ctx))).toBe(`RESOURCE_EXHAUSTED "${hanging.origin}${path}" was not fetched within the 150 ms of content.timeoutMs. Check the server, or raise the limit.`)
    }
    const drip = await serve((_, response) => {
      const timer = setInterval(() => response.write('x'), 20)
      response.on('close', () => clearInterval(timer))
    })
    expect(await fault(local({ timeoutMs: 200, retries: 5 }).fetch(`${drip.origin}/`, ctx))).toContain('within the 200 ms')
  })

  it('never show a secret of the URI', async () => {
    const server = await serve((request, response) => response.writeHead(request.url!.startsWith('/r') ? 302 : 404, { location: 'http://u:hunter2@other.example.com/x?sig=hunter2' }).end())
    const messages = [
      await fault(local().fetch(`http://me:hunter2@localhost:${server.port}/a?X-Signature=hunter2#hunter2`, ctx)), await fault(local({ allow: [server.origin] }).fetch(`http://hunter2@localhost:${server.port}/r?hunter2`, ctx)),
      await fault(local({ allow: [] }).fetch('https://me:hunter2@example.com/?token=hunter2', ctx)), await fault(local().fetch('https://me:hunter2@[bad/', ctx)), await fault(local().fetch('//me:hunter2@host/x?a=hunter2', ctx)),
      await fault(local({ timeoutMs: 1, allow: ['s3:'], schemes: { s3: () => new Promise(() => {}) } }).fetch('s3://me:hunter2@bucket/?hunter2', ctx)),
    ]
    for (const message of messages) {
      expect(message).toMatch(/^[A-Z_]+ /)
      expect(message).not.toContain('hunter2')
    }
  })
})

describe('repeating', () => {
  it('helps against statuses that pass and connections that break', async () => {
    for (const fail of [(r: ServerResponse) => { r.writeHead(503, { 'retry-after': '0' }).end() }, (r: ServerResponse) => { r.writeHead(429, { 'retry-after': new Date().toUTCString() }).end() }, (r: ServerResponse) => { r.writeHead(500).end() }, (r: ServerResponse) => { r.destroy() }, (r: ServerResponse) => { r.writeHead(200, { 'content-length': 10 }).write('ab', () => r.destroy()) }]) {
      let calls = 0
      const server = await serve((_, response) => { if (++calls <= 1) fail(response); else response.end('ok') })
      expect(Buffer.from(await local({ retries: 2 }).fetch(`${server.origin}/`, ctx)).toString()).toBe('ok')
      expect(calls).toBe(2)
    }
  })

  it('ends after the last retry, and does not begin where nothing would change', async () => {
    let calls = 0
    const server = await serve((request, response) => { calls++; response.writeHead(Number(request.url!.slice(1)), { 'retry-after': '0' }).end() })
    expect(await fault(local({ retries: 2 }).fetch(`${server.origin}/503`, ctx))).toContain('status 503')
    expect(calls).toBe(3)
    await fault(local({ retries: 2 }).fetch(`${server.origin}/404`, ctx))
    expect(calls).toBe(4)
  })

  it('does not wait for a Retry-After beyond its time', async () => {
    const server = await serve((_, response) => response.writeHead(429, { 'retry-after': '3600' }).end()), start = performance.now()
    expect(await fault(local({ retries: 2 }).fetch(`${server.origin}/`, ctx))).toContain('status 429')
    expect(performance.now() - start).toBeLessThan(2000)
  })
})

describe('many fetches', () => {
  it('run at most `concurrency` at once, in order', async () => {
    const order: string[] = []
    let running = 0, most = 0
    const server = await serve((request, response) => {
      order.push(request.url!)
      most = Math.max(most, ++running)
      setTimeout(() => { running--; response.end(request.url) }, 5)
    })
    const fetcher = local({ concurrency: 3 }), paths = Array.from({ length: 30 }, (_, i) => `/${i}`)
    expect((await Promise.all(paths.map((path) => fetcher.fetch(`${server.origin}${path}`, ctx)))).map((bytes) => Buffer.from(bytes).toString())).toEqual(paths)
    expect(most).toBe(3)
    expect(new Set(order).size).toBe(30)
    expect(server.connections()).toBeLessThanOrEqual(4)                    // kept alive
    const single = local({ concurrency: 1 })
    order.length = 0
    await Promise.all(paths.map((path) => single.fetch(`${server.origin}${path}`, ctx)))
    expect(order).toEqual(paths)
  })

  it('that wait leave on abort, and the others go on', async () => {
    const held: ServerResponse[] = [], server = await serve((_, response) => { held.push(response) }), fetcher = local({ concurrency: 1 }), stop = new AbortController()
    const first = fetcher.fetch(`${server.origin}/1`, ctx), second = fetcher.fetch(`${server.origin}/2`, { signal: stop.signal }), third = fetcher.fetch(`${server.origin}/3`, ctx)
    stop.abort()
    await expect(second).rejects.toMatchObject({ code: 'ABORTED' })
    while (held.length < 1) await new Promise((done) => setTimeout(done, 5))
    held[0]!.end('one')
    expect(Buffer.from(await first).toString()).toBe('one')
    while (held.length < 2) await new Promise((done) => setTimeout(done, 5))
    held[1]!.end('three')
    expect(Buffer.from(await third).toString()).toBe('three')
  })

  it('lose no turn where an abort comes together with it', async () => {
    for (let after = 0; after < 12; after++) {
      const turns = new Turns(1), held = Promise.withResolvers<void>(), stop = new AbortController()
      const first = turns.run(ctx, () => held.promise), second = turns.run({ signal: stop.signal }, async () => {}).catch(() => {})
      held.resolve()
      for (let i = 0; i < after; i++) await Promise.resolve()
      stop.abort()
      await Promise.all([first, second])
      expect(await Promise.race([turns.run(ctx, async () => 'its turn'), new Promise((done) => setTimeout(done, 500, 'none'))]), `${after} steps later`).toBe('its turn')
    }
  })

  it('that run end on abort with ABORTED, and free their place', async () => {
    let closed = 0
    const server = await serve((request, response) => { response.on('close', () => { closed++ }); if (request.url === '/ok') response.end('ok') }), fetcher = local({ concurrency: 1 }), stop = new AbortController()
    const running = fetcher.fetch(`${server.origin}/`, { signal: stop.signal })
    setTimeout(() => stop.abort(), 50)
    await expect(running).rejects.toMatchObject({ code: 'ABORTED' })
    expect(Buffer.from(await fetcher.fetch(`${server.origin}/ok`, ctx)).toString()).toBe('ok')
    expect(closed).toBeGreaterThanOrEqual(1)
    await expect(fetcher.fetch(`${server.origin}/ok`, { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'ABORTED' })
  })

  it('keep connections, but not the process alive', async () => {
    const server = await serve((_, response) => response.end('ok'))
    const program = `import { Fetcher } from ${JSON.stringify(join(import.meta.dirname, '../../core/fetch.ts'))}
      const bytes = await new Fetcher({ allow: ['http:'], privateAddresses: true }, '/').fetch('http://127.0.0.1:${server.port}/', { signal: new AbortController().signal })
      process.stdout.write(String(bytes.byteLength))`
    const child = spawn(process.execPath, ['--input-type=module', '-e', program], { stdio: ['ignore', 'pipe', 'inherit'] })
    const ended = await new Promise<number>((done) => { child.stdout.once('data', () => { const start = performance.now(); child.once('exit', () => done(performance.now() - start)) }) })
    expect(ended).toBeLessThan(2000)
  })
})

describe('files', () => {
  it('are read below allowed folders only, after resolving links', async () => {
    const root = folder(), pictures = join(root, 'pictures')
    mkdirSync(join(pictures, 'deep'), { recursive: true })
    mkdirSync(join(root, 'pictures-private'))
    for (const path of ['pictures/a b#.txt', 'pictures/deep/b.txt', 'pictures-private/c.txt', 'secret.txt']) writeFileSync(join(root, path), path)
    symlinkSync(join(root, 'secret.txt'), join(pictures, 'out'))
    symlinkSync(root, join(pictures, 'up'))
    symlinkSync(join(pictures, 'deep'), join(pictures, 'in'))
    symlinkSync(pictures, join(root, 'alias'))
    const read = async (uri: string, allow = ['file:./pictures']): Promise<string> => fault(new Fetcher({ allow }, root).fetch(uri, ctx))
    for (const uri of ['file:./pictures/deep/b.txt', 'file:pictures/deep/b.txt', `file://${pictures}/deep/b.txt`, `file:${pictures}/in/b.txt`, `file://${root}/alias/deep/b.txt`, 'FILE:./pictures/x/../deep/b.txt']) expect(await read(uri), uri).toBe('no error: pictures/deep/b.txt')
    expect(await read('file:./pictures/a%20b%23.txt')).toBe('no error: pictures/a b#.txt')
    expect(await read('file:./pictures/deep/b.txt', [`file:${root}/alias`])).toBe('no error: pictures/deep/b.txt')
    for (const uri of ['file:./secret.txt', 'file:./pictures/../secret.txt', 'file:./pictures/%2e%2e/secret.txt', 'file:./pictures/out', 'file:./pictures/up/secret.txt', 'file:./pictures-private/c.txt', 'file:///etc/passwd', 'file:./missing.txt', 'file:///missing']) expect(await read(uri), uri).toMatch(/^INVALID_ARGUMENT .* may not be fetched/)
    for (const uri of ['file:./pictures/a#b', 'file:./pictures/a?b', 'file://host/pictures/a', 'file:./pictures/%2e%2e%2fsecret.txt', 'file:./pictures/a%00']) expect(await read(uri), uri).toMatch(/^INVALID_ARGUMENT .* is no URI/)
    expect(await read('file:./pictures/none.txt')).toMatch(/^NOT_FOUND There is no file/)
  })

  it('are regular, and not larger than maxBytes', async () => {
    const root = folder()
    execFileSync('mkfifo', [join(root, 'pipe')])
    writeFileSync(join(root, 'large'), 'x'.repeat(100))
    const fetcher = new Fetcher({ allow: ['file:.', 'file:/dev', 'file:/proc'], maxBytes: 99 }, root)
    expect(await fault(fetcher.fetch('file:pipe', ctx))).toContain('is a folder, pipe or device')
    expect(await fault(fetcher.fetch('file:.', ctx))).toContain('is a folder, pipe or device')
    expect(await fault(fetcher.fetch('file:large', ctx))).toContain('has 100 bytes; content.maxBytes allows 99')
    if (process.platform === 'linux') {
      expect(await fault(fetcher.fetch('file:/dev/zero', ctx))).toContain('is a folder, pipe or device')
      expect(await fault(fetcher.fetch('file:/proc/self/maps', ctx))).toContain('changed while it was read')
    }
  })
})

describe('other schemes', () => {
  it('data: is read where it is allowed', async () => {
    const fetcher = new Fetcher({ allow: ['data:'], maxBytes: 5 }, '/')
    expect(Buffer.from(await fetcher.fetch('data:text/plain;base64,aGVsbG8=', ctx)).toString()).toBe('hello')
    expect(Buffer.from(await fetcher.fetch('data:,h%20i', ctx)).toString()).toBe('h i')
    expect(await fault(fetcher.fetch('data:text/plain;base64,%%%', ctx))).toContain('INVALID_ARGUMENT')
    expect(await fault(fetcher.fetch('data:nothing', ctx))).toContain('is no data: URI that can be read')
    expect(await fault(fetcher.fetch('data:,toolong', ctx))).toContain('has 7 bytes')
  })

  it('are handed to the function of the config, whose failures are failures of the row', async () => {
    const asked: unknown[] = []
    const fetcher = new Fetcher({ allow: ['s3://bucket/'], maxBytes: 10, timeoutMs: 100, schemes: { s3: async (uri, { signal, maxBytes }) => {
      asked.push([uri, maxBytes, signal.aborted])
      if (uri.endsWith('away')) throw new InlayError('UNAVAILABLE', 'away', { retryable: true })
      if (uri.endsWith('hang')) await new Promise(() => {})
      return uri.endsWith('text') ? 'text' as unknown as Uint8Array : new Uint8Array(uri.endsWith('large') ? 11 : 3)
    } } }, '/')
    expect((await fetcher.fetch('s3://bucket/Key', ctx)).byteLength).toBe(3)
    expect(asked).toEqual([['s3://bucket/Key', 10, false]])
    expect(await fault(fetcher.fetch('s3://bucket/away', ctx))).toBe('NOT_FOUND "s3://bucket/away" could not be fetched: away')
    expect(await fault(fetcher.fetch('s3://bucket/large', ctx))).toContain('has 11 bytes')
    expect(await fault(fetcher.fetch('s3://bucket/text', ctx))).toContain('gave "text" for')
    expect(await fault(fetcher.fetch('s3://bucket/hang', ctx))).toContain('within the 100 ms')
    expect(await fault(fetcher.fetch('s3://other/key', ctx))).toContain('may not be fetched')
  })
})

it('a folder of an allowed URL is not left by an escape, whatever else is escaped beside it', () => {
  const list = allowed(['https://images.example.com/cats', 'https://h.com/'], '/')
  const takes = (uri: string): boolean => list.has(parseUrl(uri)!)
  expect(['https://images.example.com/cats/x.png', 'https://images.example.com:443/cats/x', 'HTTPS://H.COM/x'].map(takes)).toEqual([true, true, true])
  const refused = ['/catsx', '/cats/%2e%2e/x', '/cats/..%2fx', '/cats/%252e%252e/x', '/cats\\..\\x', '/cats/%2e%2e%5cx', '/cats/%zz/..%2fsecret', '/cats/..%2f%zz'].map((path) => `https://images.example.com${path}`)
  expect([...refused, 'https://h.com@evil.com/x', 'https://evil.com#@h.com/', 'https://h.com:8443/x', 'http://h.com/x'].filter(takes)).toEqual([])
})
