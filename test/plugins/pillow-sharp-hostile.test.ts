import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import sharp from 'sharp'
import { describe, expect, it, type TestContext } from 'vitest'
import type { Row, Slot, Tensor, Value } from '../../core/contract.ts'
import { InlayError } from '../../core/errors.ts'
import { outcomesOf, type Work } from '../../core/reconcile.ts'
import { runStep, type Step } from '../../core/step.ts'
import { Image, image, limits, pixels } from '../../plugins/pillow-sharp/index.ts'
import { inTurn } from '../../plugins/pillow-sharp/driver.ts'
import { blackPng } from '../support/black-png.ts'

const photo = (width = 64, height = 48): ReturnType<typeof sharp> => sharp({ create: { width, height, channels: 3, background: '#888888', noise: { type: 'gaussian', mean: 128, sigma: 40 } } })
const where = 'field "img" of document "a"'
/** How often bytes were decoded while the work was done. */
async function decodes(work: () => Promise<unknown>): Promise<number> {
  let count = 0
  const counter = (): void => { count++ }
  subscribe('inlay.image.decode', counter)
  try {
    await work()
  } finally {
    unsubscribe('inlay.image.decode', counter)
  }
  return count
}
function restoreLimits(ctx: TestContext): void {
  const before = limits()
  ctx.onTestFinished(() => { limits(before) })
}
/** The engine's work over pictures. */
async function settle(of: Step<Image, unknown>, pictures: readonly Image[]): Promise<readonly (string | number)[]> {
  const slot: Slot = { id: 's', collection: 'c', upstream: [], shape: { kind: 'json' }, many: false }, rows = pictures.map((_, i): Row => ({ key: String(i), rev: '1', doc: {} }))
  const work: Work = { slot, select: async (all) => all.map(() => true), hash: (row) => row.key, predict: async (all) => (await runStep(of, all.map(({ key }) => pictures[Number(key)]!))).map((result): Error | readonly Value[] => (result instanceof Error ? result : [1])) }
  return (await outcomesOf(work, rows, { signal: new AbortController().signal })).map((outcome) => (outcome.kind === 'error' ? outcome.error : 1))
}

describe('hostile pictures', () => {
  it('refuses a PNG of 30,000 x 30,000 at once and in little memory, and its neighbours are well', async () => {
    const bytes = blackPng(30_000, 30_000), before = process.memoryUsage.rss(), good = Image.from(await photo().jpeg().toBuffer())
    expect(bytes.length).toBeLessThan(2 ** 20)
    const bomb = image.decode(bytes, { where, readers: 2 }) as Image, message = `The picture of ${where} (codec "image") has 30000 x 30000 = 900,000,000 pixels, and at most 64,000,000 are decoded. Make it smaller, or raise the limit of this process: limits({ pixels }).`
    await expect(bomb.pixels()).rejects.toMatchObject({ code: 'RESOURCE_EXHAUSTED', message })
    expect(await settle(pixels('t@1', { resize: { width: 32, height: 32 } }), [good, bomb, good, good])).toEqual([1, message, 1, 1])
    expect(await bomb.metadata()).toMatchObject({ width: 30_000, height: 30_000 })
    expect(process.memoryUsage.rss() - before).toBeLessThan(64 * 2 ** 20)
  })

  it('decodes what is below the limit, which a process may change', async (ctx) => {
    restoreLimits(ctx)
    const picture = Image.from(blackPng(3000, 2500))
    expect((await picture.pixels({ resize: { width: 8, height: 8 } })).data.length).toBe(192)
    expect(limits({ pixels: 7_000_000 }).pixels).toBe(7_000_000)
    await expect(picture.pixels()).rejects.toThrow('3000 x 2500 = 7,500,000 pixels, and at most 7,000,000')
    limits({ pixels: 8_000_000 })
    expect((await picture.pixels({ colour: 'grey' })).data.length).toBe(7_500_000)
    expect(() => limits({ pixels: -1 })).toThrow('The limit "pixels" was given -1')
    expect(() => limits({ pixel: 1 } as never)).toThrow('"pixel"')
  })

  it('does not let a thin picture grow without end', async () => {
    for (const [width, height] of [[1, 60_000], [60_000, 1]] as const) {
      const thin = Image.from(blackPng(width, height)), long = width === 1 ? { width: 2000 } : { height: 2000 }
      await expect(thin.pixels({ resize: 256 })).rejects.toThrow(`The png picture, ${width} x ${height}, would be resized to 3,932,160,000 pixels`)
      await expect(thin.pixels({ resize: long })).rejects.toMatchObject({ code: 'RESOURCE_EXHAUSTED' })
      for (const fit of ['cover', 'contain', 'fill', 'inside'] as const) expect((await thin.pixels({ resize: { width: 224, height: 224, fit } })).data.length).toBeLessThanOrEqual(224 * 224 * 3)
    }
  })

  it('takes the first of thousands of pages and frames', async () => {
    const tags = [[256, 3, 1], [257, 3, 1], [258, 3, 8], [259, 3, 1], [262, 3, 1], [273, 4, 8], [278, 3, 1], [279, 4, 1]] as const, count = 5000, size = 2 + 12 * tags.length + 4, tiff = Buffer.alloc(10 + count * size)
    tiff.write('II*\0', 'latin1')
    tiff.writeUInt32LE(10, 4)
    for (let page = 0; page < count; page++) {
      const at = 10 + page * size
      tiff.writeUInt16LE(tags.length, at)
      tags.forEach(([tag, type, value], i) => { tiff.writeUInt16LE(tag, at + 2 + 12 * i); tiff.writeUInt16LE(type, at + 4 + 12 * i); tiff.writeUInt32LE(1, at + 6 + 12 * i); tiff.writeUInt32LE(value, at + 10 + 12 * i) })
      tiff.writeUInt32LE(page + 1 === count ? 0 : at + size, at + size - 4)
    }
    const one = await sharp({ create: { width: 4, height: 4, channels: 3, background: '#f00' } }).gif().toBuffer(), start = one.indexOf(Buffer.of(0x21, 0xf9))
    const gif = Buffer.concat([one.subarray(0, start), ...Array<Buffer>(count).fill(one.subarray(start, -1)), one.subarray(-1)])
    for (const bytes of [tiff, gif]) {
      const many = Image.from(bytes)
      expect((await many.metadata()).pages).toBe(count)
      expect((await many.pixels()).data.length).toBeLessThanOrEqual(64)
    }
    tiff.writeUInt32LE(10, tiff.length - 4)                   // the last page leads to the first again
    await Image.from(tiff).pixels().catch((error: unknown) => { expect(error).toMatchObject({ code: 'CORRUPT' }) })
  })

  it.for([
    ['empty', ''], ['SVG', '<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'], ['SVG', '<?xml version="1.0"?><svg/>'], ['PDF', '%PDF-1.7'], ['HTML', '<!DOCTYPE html><html>'],
    ['HEIC', '\0\0\0\x18ftypheic\0\0\0\0heicmif1'], ['a media file (isom)', '\0\0\0\x14ftypisom\0\0\0\0mp42'], ['BMP', 'BM\x36\0'], ['a pointer of Git LFS', 'version https://git-lfs.github.com/spec/v1\n'], ['JPEG XL', '\xff\x0a\0'],
    ['an array of NumPy that is cut off', "\x93NUMPY\x01\0v\0{'descr': '<f4', 'fortran_order': False, 'shape': (2, 4, 3), }"], ['of no known kind (they begin with 6162)', 'ab'],
  ] as const)('refuses what is %s', ([kind, text]) => {
    const bytes = Buffer.from(text, 'latin1')
    expect(() => Image.from(bytes)).toThrow(new RegExp(`^These ${bytes.length} bytes are no picture: they are ${kind.replace(/[()]/g, '\\$&')}.*\\. JPEG, PNG, WebP, AVIF, GIF or TIFF is expected\\.$`))
    expect(() => image.decode(bytes, { where, readers: 1 })).toThrow(InlayError)
  })

  it('takes an AVIF whose first brand is another one', async () => {
    const bytes = await photo().avif().toBuffer()
    bytes.write('mif1', 8, 'latin1')
    expect(bytes.subarray(16, bytes.readUInt32BE(0)).toString('latin1')).toContain('avif')
    expect(Image.from(bytes).format).toBe('avif')
  })

  it.for(['jpeg', 'png', 'webp', 'avif', 'gif', 'tiff'] as const)('finds every cut of a %s, and names field and document', async (format) => {
    const whole = await photo().toFormat(format).toBuffer()
    for (const share of [0.1, 0.25, 0.5, 0.75, 0.9, 0.97]) {
      const cut = image.decode(whole.subarray(0, Math.floor(whole.length * share)), { where, readers: 1 }) as Image
      await expect(cut.pixels(), `${share}`).rejects.toMatchObject({ code: 'CORRUPT', message: expect.stringMatching(/^The picture of field "img" of document "a" \(codec "image"\) cannot be decoded: .+ Its \d+ bytes \(\w+\) are damaged or cut off; write the picture again\.$/) })
    }
  })

  it('decodes or refuses damaged bytes, and lives', async () => {
    const of = pixels('t@1', { resize: { width: 16, height: 16 } })
    let state = 7, refused = 0
    const random = (below: number): number => (state = (Math.imul(state, 1103515245) + 12345) >>> 0) % below
    for (const format of ['jpeg', 'png', 'webp', 'gif', 'tiff'] as const) {
      const whole = await photo(32, 32).toFormat(format).toBuffer()
      for (let i = 0; i < 40; i++) {
        const damaged = Buffer.from(whole)
        for (let n = 0; n < 4; n++) damaged[random(damaged.length - 16) + 16] = random(256)
        await Promise.resolve(of.run(Image.from(damaged))).catch((error: unknown) => {
          expect(InlayError.is(error)).toBe(true)
          refused++
        })
      }
    }
    expect(refused).toBeGreaterThan(20)
  })

  it('makes a bad picture of a batch its own error, and decodes each once', async () => {
    const bytes = await photo().jpeg().toBuffer(), of = pixels('t@1', { resize: { width: 32, height: 32 } })
    const pictures = Array.from({ length: 16 }, (_, i) => image.decode(i === 13 ? bytes.subarray(0, 700) : bytes, { where: `field "img" of document "${i}"`, readers: 1 }) as Image)
    let outcomes: readonly (string | number)[] = []
    expect(await decodes(async () => { outcomes = await settle(of, pictures) })).toBe(16)
    expect(outcomes.filter((outcome) => outcome === 1).length).toBe(15)
    expect(outcomes[13]).toMatch(/^The picture of field "img" of document "13" \(codec "image"\) cannot be decoded: (VipsJpeg: premature end of JPEG image|its decoder warned of damage)\. Its 700 bytes/)
  })

  it('decodes no more of a batch that was stopped', async () => {
    const bytes = await photo().jpeg().toBuffer(), stop = new AbortController(), of = pixels('t@1', { resize: { width: 32, height: 32 } })
    expect(await decodes(async () => {
      const running = runStep(of, Array.from({ length: 50 }, () => Image.from(bytes)), { signal: stop.signal })
      stop.abort()
      await expect(running).rejects.toMatchObject({ code: 'ABORTED' })
    })).toBeLessThan(10)
  })
})

describe('what is decoded', () => {
  it('is decoded once for ten listeners, whatever sizes they want', async (ctx) => {
    restoreLimits(ctx)
    const bytes = await photo(300, 200).png().toBuffer(), sizes = [32, 48, 64, 80, 96, 112, 128, 160, 192, 224]
    const readers = (count: number): readonly Image[] => sizes.map(() => image.decode(bytes, { where, readers: count }) as Image)
    const read = (pictures: readonly Image[]): Promise<unknown> => Promise.all(pictures.map((picture, i) => pixels('t@1', { resize: { width: sizes[i]!, height: sizes[i]! } }).run(picture)))
    expect(await decodes(() => read(readers(10)))).toBe(1)
    expect(await decodes(() => read(readers(10)))).toBe(0)
    expect(await decodes(() => read(readers(1)))).toBe(10)
    limits({ keptBytes: 0 })
    await read([image.decode(await photo().png().toBuffer(), { where, readers: 2 }) as Image])      // what was kept goes when something is added
    expect(await decodes(() => read(readers(10).slice(0, 1)))).toBe(1)
  })

  it('is decoded once for equal transforms; how many listeners read a picture changes nothing of what they are given', async (ctx) => {
    restoreLimits(ctx)
    const large = photo(640, 480), read = (bytes: Uint8Array, size: number, readers: number): Promise<Tensor> => Promise.resolve(pixels('t@1', { resize: { width: size, height: size } }).run(image.decode(bytes, { where, readers }) as Image))
    for (const bytes of [await large.jpeg().toBuffer(), await large.webp().toBuffer(), await large.png().toBuffer()]) {
      for (const size of [32, 100, 224, 300, 500]) expect((await read(bytes, size, 10)).data).toEqual((await read(bytes, size, 1)).data)
      limits({ keptBytes: 0 })
      await read(await photo(9, 9).png().toBuffer(), 4, 2)
      limits({ keptBytes: 2 ** 28 })
      expect(await decodes(() => Promise.all(Array.from({ length: 10 }, () => read(bytes, 64, 10))))).toBe(1)
    }
  })

  it('is at most as many pictures at once as threads decode', async () => {
    let now = 0, most = 0
    await Promise.all(Array.from({ length: 40 }, () => inTurn(async () => {
      most = Math.max(most, ++now)
      await new Promise((done) => { setTimeout(done, 2) })
      now--
    })))
    expect(most).toBeGreaterThan(0)
    expect(most).toBeLessThanOrEqual(Number(process.env['UV_THREADPOOL_SIZE'] ?? 4))
    await expect(inTurn(async () => { throw new Error('no') })).rejects.toThrow('no')
    expect(await inTurn(async () => 1)).toBe(1)
  })
})
