/** Values of codecs in documents, and content behind URIs, on every backend. */
import { writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { describe, expect, it } from 'vitest'
import { z } from 'zod'
import { arrayCodec, Audio, codec, content, listener, model, step, tensorCodec, UriContent, type InlayError, type Tensor } from '../index.ts'
import { Image, pixels } from '../plugins/pillow-sharp/index.ts'
import { backends, open } from './support/backends.ts'
import { blackPng } from './support/black-png.ts'
import { temporaryFolder } from './support/temporary.ts'

class Point {
  readonly x: number
  readonly y: number
  constructor(x: number, y: number) { this.x = x; this.y = y }
}
const point = codec<Point>({
  id: 'point', is: (value): value is Point => value instanceof Point, encode: ({ x, y }) => new Uint8Array(Float64Array.of(x, y).buffer),
  decode: (bytes) => { if (bytes.length !== 16) throw new Error(`${bytes.length} bytes`); const [x, y] = new Float64Array(Uint8Array.from(bytes).buffer); return new Point(x!, y!) },
})
const picture = (shade: number, size = 4): Image => Image.fromPixels(new Uint8Array(size * size).fill(shade), { width: size, height: size, channels: 1 })
const mean = model<Image, number>('mean', { run: step('mean@1', async (images: readonly Image[]) => Promise.all(images.map(async (image) => { const { data } = await image.pixels(); return data.reduce((a, b) => a + b, 0) / data.length }))) })
const all = async <T>(of: AsyncIterable<T>): Promise<T[]> => { const list: T[] = []; for await (const one of of) list.push(one); return list }
const fails = async (act: Promise<unknown>): Promise<InlayError> => act.then(() => { throw new Error('nothing was thrown') }, (error: unknown) => error as InlayError)

describe.each(backends)('$name', (backend) => {
  it('keeps values of codecs at any depth, large and small, and gives them back', async (ctx) => {
    const db = await open(ctx, backend, { components: [point] }), docs = db.collection('docs')
    const tensor: Tensor = { type: 'float32', dims: [2, 2], data: Float32Array.of(1, 2, 3, 4) }, sound = Audio.fromSamples([Float32Array.of(0, 0.5, -0.5)], 8000)
    const small = picture(7), large = picture(9, 200)
    const { refused } = await docs.insert([{ _id: 'a', at: new Point(1, 2), list: [{ at: new Point(3, 4) }, null], small, large, sound, tensor, file: new File(['hello'], 'a.txt', { type: 'text/plain' }), plain: { n: 1 } }, { _id: 'b', bytes: new Uint8Array(50_000).fill(3) }])
    expect(refused).toEqual([])
    const row = (await docs.findOne({ _id: 'a' }))! as unknown as Record<string, never>
    expect([row['at'], row['list'], row['plain'], row['tensor']]).toEqual([new Point(1, 2), [{ at: new Point(3, 4) }, null], { n: 1 }, tensor])
    expect(row['at']).toBeInstanceOf(Point)
    expect([row['small'], row['large']].map((image) => image as unknown as Image).every((image) => image instanceof Image)).toBe(true)
    expect((await (row['large'] as unknown as Image).pixels()).data).toEqual((await large.pixels()).data)
    expect((row['sound'] as unknown as Audio).sampleRate).toBe(8000)
    expect([await (row['file'] as unknown as File).text(), (row['file'] as unknown as File).name]).toEqual(['hello', 'a.txt'])
    expect((await docs.findOne({ _id: 'b' }))!['bytes']).toEqual(new Uint8Array(50_000).fill(3))
    expect(await db.verify()).toMatchObject({ ok: true, artifacts: { missing: 0, unreferenced: 0 } })
    // What was read can be written again, and a change beside it leaves it alone.
    expect((await docs.replace('a', { ...row, _outputs: undefined })).refused).toEqual([])
    expect((await docs.update({ _id: 'a' }, { $set: { 'plain.n': 2, 'list.0.at': new Point(5, 6) } })).refused).toEqual([])
    const again = (await docs.findOne({ _id: 'a' }))! as unknown as Record<string, never>
    expect([again['at'], again['list'], again['plain']]).toEqual([new Point(1, 2), [{ at: new Point(5, 6) }, null], { n: 2 }])
    expect((await docs.find().select('plain').toArray()).map((r) => Object.keys(r))).toEqual([['_id', 'plain', '_fold'], ['_id', '_fold']])
  })

  it('declared codecs check what is written, name both types, and take what other programs write', async (ctx) => {
    const db = await open(ctx, backend), vec = arrayCodec('vec', { type: 'float32', length: 3 }), docs = db.collection('docs', { codecs: { v: vec, 'in.t': tensorCodec('t2', { type: 'float32', dims: [2] }) } })
    const { ids, refused } = await docs.insert([
      { _id: 'a', v: Float32Array.of(1, 2, 3) }, { _id: 'b', v: Float64Array.of(1, 2, 3) }, { _id: 'c', v: Float32Array.of(1) }, { _id: 'd', in: { t: { type: 'float64', dims: [2], data: Float64Array.of(1, 2) } } },
      { _id: 'e', v: [Float32Array.of(1, 2, 3), null] }, { _id: 'f', v: { _content: { bytes: new Uint8Array(Float32Array.of(7, 8, 9).buffer), codec: 'vec' } } }, { _id: 'g', v: null },
    ])
    expect(ids).toEqual(['a', 'e', 'f', 'g'])
    expect(refused.map(({ id, path, reason }) => [id, path, reason])).toEqual([
      ['b', 'v', 'it takes float32[3] and was given float64[3]'], ['c', 'v', 'it takes float32[3] and was given float32[1]'], ['d', 'in.t', 'it takes float32[2] and was given a tensor float64[2]'],
    ])
    expect((await docs.find().toArray()).map((row) => row['v'])).toEqual([Float32Array.of(1, 2, 3), [Float32Array.of(1, 2, 3), null], Float32Array.of(7, 8, 9), null])
    expect((await docs.update({ _id: 'a' }, { $set: { v: Float64Array.of(1) } })).refused).toMatchObject([{ id: 'a', path: 'v', reason: 'it takes float32[3] and was given float64[1]' }])
  })

  it('an unknown codec and damaged bytes are errors that name document, field and codec; the row can still be changed', async (ctx) => {
    const db = await open(ctx, backend, { components: [point] }), docs = db.collection('docs')
    await docs.insert([{ _id: 'a', at: { _content: { bytes: Uint8Array.of(1, 2), codec: 'point' } } }, { _id: 'b', deep: [{ at: { _content: { bytes: Uint8Array.of(1), codec: 'nobody' } } }] }, { _id: 'c', at: new Point(1, 1) }])
    expect(await fails(docs.find({ _id: 'a' }).toArray())).toMatchObject({ code: 'CORRUPT', message: 'The field "at" of document "a" cannot be decoded by the codec "point": 2 bytes. Write the field again, or leave it out with select().', details: { id: 'a', path: 'at', codec: 'point' } })
    const unknown = await fails(docs.find({ _id: 'b' }).toArray())
    expect([unknown.code, unknown.message]).toEqual(['NOT_FOUND', expect.stringMatching(/^The field "deep\.0\.at" of document "b" was stored with the codec "nobody", which is not known/)])
    expect((await docs.update({ _id: 'a' }, { $set: { n: 1 } })).ids).toEqual(['a'])
    expect((await docs.update({ _id: 'a' }, { $set: { at: new Point(2, 2) } })).ids).toEqual(['a'])
    expect((await docs.delete({ _id: 'b' })).ids).toEqual(['b'])
    expect((await docs.find().toArray()).map((row) => row['at'])).toEqual([new Point(2, 2), new Point(1, 1)])
  })

  it('models are given values, their outputs are kept by codecs, and one damaged picture fails alone', async (ctx) => {
    const db = await open(ctx, backend), docs = db.collection<{ img: Image }>('docs')
    const invert = model<Image, Image>('invert', { run: step('invert@1', async (images: readonly Image[]) => Promise.all(images.map(async (image) => { const { data, ...size } = await image.pixels(); return Image.fromPixels(data.map((v) => 255 - v), size as never) }))) })
    const inverted = listener({ model: invert, on: 'docs', key: 'img' }), both = listener({ model: mean, on: 'docs', key: inverted })
    const mine = await db.add(listener({ model: mean, on: 'docs', key: 'img' })), other = await db.add(both), out = await db.load(inverted)
    const png = (await picture(100, 64).encode('png')).bytes
    const { outputs } = await docs.insert([{ _id: 'a', img: picture(10) }, { _id: 'b', img: await picture(20, 300).encode('png') }, { _id: 'c', img: { _content: { bytes: png.slice(0, 60), codec: 'image' } } as never }, { _id: 'd', img: { _content: { bytes: Uint8Array.of(1, 2, 3), codec: 'image' } } as never }])
    expect(outputs).toEqual({ done: 6, failed: 6, pending: 0 })
    const rows = await docs.find({ _id: { $in: ['a', 'b'] } }).toArray()
    expect(rows.map((row) => [mine.of(row), other.of(row)])).toEqual([[10, 245], [20, 235]])
    expect(out.of(rows[0]!)).toBeInstanceOf(Image)
    const failures = await all(mine.failures())
    expect(failures.map(({ _id, error }) => [_id, /field "img" of document "[cd]"/.exec(error)?.[0] ?? error])).toEqual([['c', 'field "img" of document "c"'], ['d', 'field "img" of document "d"']])
    expect(await db.verify()).toMatchObject({ artifacts: { missing: 0, unreferenced: 0 } })
  })

  it('rows of an unknown codec wait alone; others are computed; outputs of an unknown codec do not hide their rows', async (ctx) => {
    const db = await open(ctx, backend), docs = db.collection<{ v: unknown }>('docs'), kind = await db.add(listener({ model: model<unknown, string>('kind', { run: step('kind@1', (all: readonly unknown[]) => all.map((v) => (v instanceof Point ? 'point' : typeof v))) }), on: 'docs', key: 'v' }))
    const { outputs } = await docs.insert(Array.from({ length: 10 }, (_, i) => ({ _id: `k${i}`, v: i === 3 ? content({ bytes: new Uint8Array(16), codec: 'point' }) : 'text' })))
    expect(outputs).toEqual({ done: 9, failed: 0, pending: 1 })
    expect(await db.verify({ repair: true })).toMatchObject({ missing: 1, failed: 0 })
    await db.add(point)
    await db.verify({ repair: true })
    expect(kind.of((await docs.findOne({ _id: 'k3' }))!)).toBe('point')
  })

  it('a key inside of a value with a codec follows that value, and a model that changes what it is given changes it for nobody else', async (ctx) => {
    const db = await open(ctx, backend), docs = db.collection<{ meta?: { title: string }; xs?: number[] }>('docs', { codecs: { meta: 'json' } })
    const up = await db.add(listener({ model: model<string, string>('up', { run: step('up@1', (all: readonly string[]) => all.map((t) => t.toUpperCase())) }), on: 'docs', key: 'meta.title', name: 'title' }))
    const median = await db.add(listener({ model: model<number[], number>('amedian', { run: step('amedian@1', (all: readonly number[][]) => all.map((xs) => xs.sort((a, b) => a - b)[xs.length >> 1]!)) }), on: 'docs', key: 'xs' }))
    const head = await db.add(listener({ model: model<number[], number>('head', { run: step('head@1', (all: readonly number[][]) => all.map((xs) => xs[0]!)) }), on: 'docs', key: 'xs' }))
    await docs.insert({ _id: 'a', meta: { title: 'one' }, xs: [9, 1, 5] })
    await docs.update({ _id: 'a' }, { $set: { meta: { title: 'two' } } })
    const row = (await docs.findOne())!
    expect([up.of(row), median.of(row), head.of(row)]).toEqual(['TWO', 5, 9])
  })

  it('two collections may give one codec id different shapes, and each is read by its own', async (ctx) => {
    const warnings: string[] = [], db = await open(ctx, backend, { log: { warn: (text: string) => { warnings.push(text) } } })
    const a = db.collection('a', { codecs: { v: arrayCodec('vec', { type: 'float32', length: 3 }) } }), b = db.collection('b', { codecs: { v: arrayCodec('vec', { type: 'int32', length: 2 }) } })
    await a.insert({ v: Float32Array.of(1, 2, 3) })
    await b.insert({ v: Int32Array.of(4, 5) })
    expect([(await a.findOne())!['v'], (await b.findOne())!['v'], warnings.filter((text) => text.includes('declared twice')).length]).toEqual([Float32Array.of(1, 2, 3), Int32Array.of(4, 5), 1])
  })

  it('what lies behind a URI is fetched before a model runs; what cannot be fetched fails alone, and can be tried again', async (ctx) => {
    const folder = temporaryFolder(), png = (await picture(50, 8).encode('png')).bytes
    let broken = true
    const server = createServer((request, response) => {
      if (request.url === '/late.png' && broken) return response.writeHead(404).end()
      response.end(request.url === '/page.png' ? '<html>' : png)
    }).listen(0, '127.0.0.1')
    ctx.onTestFinished(() => { server.close() })
    await new Promise((resolve) => { server.once('listening', resolve) })
    const at = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    writeFileSync(join(folder, 'a.png'), png)
    const db = await open(ctx, backend, { content: { allow: [pathToFileURL(folder).href, `${at}/`], privateAddresses: true, retries: 0 } }), docs = db.collection<{ img: Image }>('docs', { codecs: { img: 'image', 'other.item': 'image' } })
    const mine = await db.add(listener({ model: mean, on: 'docs', key: 'img' }))
    const { outputs, refused } = await docs.insert([
      { _id: 'a', img: `${at}/a.png` as never }, { _id: 'b', img: pathToFileURL(join(folder, 'a.png')).href as never, other: { item: pathToFileURL(join(folder, 'a.png')).href } } as never, { _id: 'c', img: `${at}/late.png` as never },
      { _id: 'd', img: `${at}/page.png` as never }, { _id: 'e', img: 'file:///etc/passwd' as never }, { _id: 'f', img: picture(3) }, { _id: 'g', img: content<Image>({ uri: `${at}/b.png`, codec: 'image' }) },
    ])
    expect([refused, outputs]).toEqual([[], { done: 4, failed: 3, pending: 0 }])
    const found = new Map((await all(mine.failures())).map(({ _id, error }) => [_id, error]))
    expect([...found.keys()]).toEqual(['c', 'd', 'e'])
    expect(found.get('c')).toContain('404')
    expect(found.get('d')).toContain('"image"')
    expect(found.get('e')).toContain('allow')
    broken = false
    expect(await db.verify({ repair: true })).toMatchObject({ failed: 3, repaired: { computed: 0 } })
    expect(await db.verify({ repair: true, retry: true })).toMatchObject({ failed: 3, repaired: { computed: 1 } })
    expect(await mine.retry()).toEqual({ done: 0, failed: 2, pending: 0 })
    const [a] = await docs.find({ _id: 'a' }).toArray(), lazy = a!.img as unknown as UriContent<Image>
    expect([lazy instanceof UriContent, lazy.uri]).toEqual([true, `${at}/a.png`])
    expect((await (await lazy.load()).pixels()).data[0]).toBe(50)
    expect((await docs.replace('a', { ...a!, _outputs: undefined } as never)).refused).toEqual([])
    expect((await docs.findOne({ _id: 'b' })) as unknown).toMatchObject({ other: { item: { codec: 'image' } } })
  })

  it('hostile content fails alone: a bomb, a huge length, a redirect inside, a name that means this machine; neighbours are stored', async (ctx) => {
    const png = (await picture(50, 8).encode('png')).bytes, connections: string[] = []
    const server = createServer((request, response) => {
      connections.push(request.url!)
      if (request.url === '/huge.png') response.writeHead(200, { 'content-length': 2 ** 30 }).end('x')
      else if (request.url === '/inside.png') response.writeHead(302, { location: 'http://169.254.169.254/latest/' }).end()
      else response.end(png)
    }).listen(0, '127.0.0.1')
    ctx.onTestFinished(() => { server.close() })
    await new Promise((resolve) => { server.once('listening', resolve) })
    const { port } = server.address() as AddressInfo, at = `http://images.example.com:${port}`
    const resolve = async (host: string): Promise<readonly string[]> => [host === 'images.example.com' ? '127.0.0.1' : '127.0.0.9']
    const db = await open(ctx, backend, { content: { allow: ['http:'], privateAddresses: ['127.0.0.1'], resolve } }), docs = db.collection<{ img: Image }>('docs', { codecs: { img: 'image' } })
    const mine = await db.add(listener({ model: mean, on: 'docs', key: 'img' }))
    const { ids, outputs } = await docs.insert([
      { _id: 'good', img: `${at}/a.png` as never }, { _id: 'bomb', img: { _content: { bytes: new Uint8Array(blackPng(30_000, 30_000)), codec: 'image' } } as never }, { _id: 'huge', img: `${at}/huge.png` as never },
      { _id: 'inside', img: `${at}/inside.png` as never }, { _id: 'named', img: `http://other.example.com:${port}/a.png` as never }, { _id: 'last', img: picture(3) },
    ])
    expect([ids.length, outputs]).toEqual([6, { done: 2, failed: 4, pending: 0 }])
    const found = new Map((await all(mine.failures())).map(({ _id, error }) => [_id, error]))
    expect([...found.keys()]).toEqual(['bomb', 'huge', 'inside', 'named'])
    expect([found.get('bomb'), found.get('huge'), found.get('inside'), found.get('named')]).toEqual([expect.stringContaining('900,000,000 pixels'), expect.stringContaining('1073741824 bytes'), expect.stringContaining('169.254.169.254'), expect.stringContaining('127.0.0.9')])
    expect(connections.toSorted()).toEqual(['/a.png', '/huge.png', '/inside.png'])
    expect((await docs.find().toArray()).map((row) => [row._id, mine.of(row)]).filter(([, value]) => value !== undefined)).toEqual([['good', 50], ['last', 3]])
  })

  it('fetched bytes are kept as artifacts where that is asked for, and read from there', async (ctx) => {
    const folder = temporaryFolder(), file = join(folder, 'a.png')
    writeFileSync(file, (await picture(50, 8).encode('png')).bytes)
    const db = await open(ctx, backend, { content: { allow: [pathToFileURL(folder).href], keep: true } }), docs = db.collection<{ img: Image }>('docs', { codecs: { img: 'image' } })
    await docs.insert({ _id: 'a', img: pathToFileURL(file).href as never })
    expect((await docs.findOne())!.img).toBeInstanceOf(UriContent)
    const mine = await db.add(listener({ model: mean, on: 'docs', key: 'img' }))
    writeFileSync(file, 'gone')
    const row = (await docs.findOne())!
    expect([mine.of(row), row.img instanceof Image, (await row.img.pixels()).data[0]]).toEqual([50, true, 50])
    expect(await db.verify({ repair: true, removeArtifacts: true, graceMs: 0 })).toMatchObject({ ok: true, artifacts: { missing: 0, unreferenced: 0 } })
    expect((await docs.findOne())!.img).toBeInstanceOf(Image)
  })

  it('a stream of files is bounded by their bytes, as one of bytes is', async (ctx) => {
    const db = await open(ctx, backend), docs = db.collection<{ file: File }>('docs')
    let pulled = 0, first = 0
    async function* files(): AsyncGenerator<{ file: File }> { for (; pulled < 48;) { pulled++; yield { file: new File([new Uint8Array(1 << 20)], 'f') } } }
    expect((await docs.insert(files(), { onProgress: () => { first ||= pulled } })).ids.length).toBe(48)
    expect(first).toBeLessThan(46)
  })

  it('a schema sees values, on insert and on update', async (ctx) => {
    const db = await open(ctx, backend), docs = db.collection('docs', { schema: z.object({ img: z.instanceof(Image), n: z.number() }) })
    const { refused } = await docs.insert([{ _id: 'a', img: picture(1), n: 1 }, { _id: 'b', img: 'none' as never, n: 1 }, { _id: 'c', img: picture(1, 300), n: 'x' as never }])
    expect(refused.map(({ id, path }) => [id, path])).toEqual([['b', 'img'], ['c', 'n']])
    expect((await docs.update({ _id: 'a' }, { $set: { n: 'x' as never } })).refused).toMatchObject([{ id: 'a', path: 'n' }])
    expect((await docs.update({ _id: 'a' }, { $set: { n: 2 } })).ids).toEqual(['a'])
    expect((await docs.findOne())!.img).toBeInstanceOf(Image)
  })

  it('ten listeners on one picture decode it once', async (ctx) => {
    const { subscribe, unsubscribe } = await import('node:diagnostics_channel'), decodes: unknown[] = [], on = (message: unknown): void => { decodes.push(message) }
    const db = await open(ctx, backend), docs = db.collection<{ img: Image }>('docs')
    for (let i = 0; i < 10; i++) {
      const small = pixels(`small${i}@1`, { resize: { width: 4 + i, height: 4 } })
      await db.add(listener({ model: model<Image, number>(`sized${i}`, { run: step(`sized${i}@1`, async (images: readonly Image[]) => (await small.batch!(images)).map((t) => (t as Tensor).dims[2]!)) }), on: 'docs', key: 'img' }))
    }
    subscribe('inlay.image.decode', on)
    ctx.onTestFinished(() => { unsubscribe('inlay.image.decode', on) })
    const { outputs } = await docs.insert(await Promise.all([10, 20, 30].map(async (shade, i) => ({ _id: `p${i}`, img: await picture(shade + backends.indexOf(backend), i === 2 ? 700 : 64).encode('png') }))))
    expect([outputs.done, decodes.length]).toEqual([30, 3])
  })
})
