import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import sharp from 'sharp'
import { describe, expect, it } from 'vitest'
import type { Tensor } from '../../core/contract.ts'
import { sha256 } from '../../core/encoding.ts'
import { runStep, type Step } from '../../core/step.ts'
import pillowSharp, { contactSheet, Image, image, pixels, type Pixels, type PixelsOptions } from '../../plugins/pillow-sharp/index.ts'
import { halfOf } from '../../plugins/pillow-sharp/planes.ts'
import { resample } from '../../plugins/pillow-sharp/resample.ts'

/** The tensors of a batch, none of which fails. */
const batch = async (of: Step<Image, Tensor>, pictures: readonly Image[]): Promise<readonly Tensor[]> => (await runStep(of, pictures)).map((result) => {
  if (result instanceof Error) throw result
  return result
})
/** 4 x 2 pixels, no two alike: pixel i is (10 i, 10 i + 1, 10 i + 2). */
const small: Pixels = { data: Uint8Array.from({ length: 24 }, (_, i) => 10 * Math.floor(i / 3) + (i % 3)), width: 4, height: 2, channels: 3 }
const smallImage = (): Image => Image.fromPixels(small.data, small)
const plain = (colour: string, width = 20, height = 10): ReturnType<typeof sharp> => sharp({ create: { width, height, channels: 3, background: colour } })
const half = (): ReturnType<typeof sharp> => sharp({ create: { width: 6, height: 4, channels: 4, background: { r: 200, g: 100, b: 0, alpha: 0.5 } } })
const first = ({ data, channels }: Pixels): readonly number[] => [...data.subarray(0, channels)]
const tensor = async (of: Image, options: PixelsOptions): Promise<Tensor> => pixels('t@1', options).run(of)
const numbers = ({ data }: Tensor): readonly number[] => Array.from(data as Float32Array)

describe('Image', () => {
  it.for(['jpeg', 'png', 'webp', 'avif', 'gif', 'tiff'] as const)('reads and writes %s', async (format) => {
    const bytes = await plain('#804020').toFormat(format).toBuffer(), given = Image.from(bytes)
    expect(given.format).toBe(format)
    expect(Buffer.compare(Buffer.from(given.bytes), bytes)).toBe(0)
    expect(await given.metadata()).toMatchObject({ format, width: 20, height: 10, orientation: 1, pages: 1 })
    const written = await given.encode(format)
    for (const each of [given, written]) {
      const { data, width, height, channels } = await each.pixels({ colour: 'rgb' })
      expect([width, height, channels, data.length]).toEqual([20, 10, 3, 600])
      expect(Math.max(...[128, 64, 32].map((value, c) => Math.abs(data[c]! - value)))).toBeLessThanOrEqual(6)
    }
    expect(written.format).toBe(format)
  })

  it('keeps raw pixels as NumPy writes them, and gives them back unchanged', async () => {
    const raw = smallImage(), again = Image.from(raw.bytes)
    expect([raw.format, again.format]).toEqual(['raw', 'raw'])
    expect(await again.pixels()).toEqual(small)
    expect(await again.metadata()).toEqual({ format: 'raw', width: 4, height: 2, channels: 3, depth: 'uchar', alpha: false, orientation: 1, pages: 1 })
    expect(Buffer.from(raw.bytes.subarray(0, 80)).toString('latin1')).toBe("\x93NUMPY\x01\0v\0{'descr': '|u1', 'fortran_order': False, 'shape': (2, 4, 3), }      ".padEnd(80))
    expect(raw.bytes.length).toBe(128 + 24)
    const grey = Buffer.from(`\x93NUMPY\x02\0\x46\0\0\0${"{'descr': '|u1', 'fortran_order': False, 'shape': (1, 2)}".padEnd(69)}\n\x07\x09`, 'latin1')
    expect(await Image.from(grey).pixels()).toEqual({ data: Uint8Array.of(7, 9), width: 2, height: 1, channels: 1 })
    expect(await (await raw.encode('png')).pixels()).toEqual(small)
  })

  it('is its own: neither the bytes given nor the pixels got are shared', async () => {
    const bytes = new Uint8Array(await plain('#804020').png().toBuffer()), given = Image.from(bytes), data = new Uint8Array(24), raw = Image.fromPixels(data, { width: 4, height: 2, channels: 3 })
    bytes.fill(0)
    data.fill(9)
    expect(first(await given.pixels())).toEqual([128, 64, 32])
    const got = await raw.pixels()
    got.data.fill(5)
    expect(first(await raw.pixels())).toEqual([0, 0, 0])
  })

  it('opens a file, and takes a Blob and an ArrayBuffer', async (ctx) => {
    const folder = mkdtempSync(join(tmpdir(), 'inlay-pictures-'))
    ctx.onTestFinished(() => rmSync(folder, { recursive: true }))
    writeFileSync(join(folder, 'a.png'), smallImage().bytes)
    const { bytes } = await Image.open(join(folder, 'a.png'))
    expect(await (await Image.from(new Blob([bytes.slice()]))).pixels()).toEqual(small)
    expect(await Image.from(bytes.slice().buffer).pixels()).toEqual(small)
    await expect(Image.open(join(folder, 'b.png'))).rejects.toMatchObject({ code: 'NOT_FOUND' })
  })

  it('turns pictures upright as EXIF says, before it resizes them', async () => {
    const tall = Image.from(await plain('#ffffff', 40, 20).composite([{ input: await plain('#ff0000', 20, 20).png().toBuffer(), left: 0, top: 0 }]).withMetadata({ orientation: 6 }).png().toBuffer())
    expect(await tall.metadata()).toMatchObject({ width: 20, height: 40, orientation: 6 })
    const upright = await tall.pixels({ colour: 'rgb' })
    expect([upright.width, upright.height, ...first(upright), ...upright.data.subarray(-3)]).toEqual([20, 40, 255, 0, 0, 255, 255, 255])
    expect(await tall.pixels({ resize: 10 })).toMatchObject({ width: 10, height: 20 })
    expect(await (await tall.encode('png')).metadata()).toMatchObject({ width: 20, height: 40, orientation: 1 })
  })

  it('lays alpha over white unless it is asked for, dropped, or another colour is named', async () => {
    const given = Image.from(await half().png().toBuffer())
    expect(first(await given.pixels())).toEqual([200, 100, 0, 128])
    expect(first(await given.pixels({ colour: 'rgba' }))).toEqual([200, 100, 0, 128])
    expect(first(await given.pixels({ colour: 'rgb' }))).toEqual([227, 177, 127])
    expect(first(await given.pixels({ alpha: 'drop' }))).toEqual([200, 100, 0])
    expect(first(await given.pixels({ colour: 'bgr', alpha: '#000000' }))).toEqual([0, 50, 100])
    expect(numbers(await tensor(given, { type: 'uint8' })).filter((_, i) => i % 24 === 0)).toEqual([227, 177, 127])
    const raw = await given.pixels(), same = Image.fromPixels(raw.data, raw)
    expect(first(await same.pixels({ colour: 'rgb' }))).toEqual([227, 177, 127])
    expect(first(await same.pixels({ alpha: 'drop', colour: 'rgb' }))).toEqual([200, 100, 0])
    expect(first(await smallImage().pixels({ colour: 'rgba' }))).toEqual([0, 1, 2, 255])
  })

  it('reads grey, 16 bits, CMYK, palettes, and the first of several frames', async () => {
    const grey = sharp(new Uint8Array(200).fill(100), { raw: { width: 20, height: 10, channels: 1 } })
    for (const bytes of [grey.clone().toColourspace('b-w').png(), grey.clone().toColourspace('b-w').jpeg(), grey.clone().toColourspace('grey16').png()]) {
      const given = Image.from(await bytes.toBuffer())
      expect([first(await given.pixels()), first(await given.pixels({ colour: 'grey' }))]).toEqual([[100, 100, 100], [100]])
    }
    const deep = Image.from(await plain('#804020').toColourspace('rgb16').png().toBuffer())
    expect([(await deep.metadata()).depth, first(await deep.pixels())]).toEqual(['ushort', [128, 64, 32]])
    const cmyk = Image.from(await plain('#804020').toColourspace('cmyk').jpeg().toBuffer()), converted = first(await cmyk.pixels())
    expect((await cmyk.metadata()).channels).toBe(4)
    expect(converted.length).toBe(3)
    expect(Math.max(...[128, 64, 32].map((value, c) => Math.abs(converted[c]! - value)))).toBeLessThan(40)
    expect(first(await Image.from(await half().png({ palette: true }).toBuffer()).pixels())).toEqual([200, 100, 0, 128])
    const frames = await sharp(await Promise.all([plain('#ff0000').png().toBuffer(), plain('#0000ff').png().toBuffer()]), { join: { animated: true } }).gif().toBuffer()
    expect(await Image.from(frames).metadata()).toMatchObject({ height: 10, pages: 2 })
    expect(await Image.from(frames).pixels({ alpha: 'drop' })).toMatchObject({ height: 10, width: 20 })
    expect(first(await Image.from(frames).pixels({ alpha: 'drop' }))).toEqual([255, 0, 0])
  })

  it('makes grey as Pillow does', async () => {
    const colours = Image.fromPixels(Uint8Array.of(255, 0, 0, 0, 255, 0, 0, 0, 255, 12, 200, 99), { width: 4, height: 1, channels: 3 })
    expect([...(await colours.pixels({ colour: 'grey' })).data]).toEqual([76, 150, 29, 132])
  })

  it('fits pictures in the five ways of sharp, and by their shorter side', async () => {
    const given = Image.from(await plain('#ffffff', 40, 20).png().toBuffer()), size = async (resize: NonNullable<PixelsOptions['resize']>): Promise<readonly number[]> => {
      const { width, height, data } = await given.pixels({ resize })
      return [width, height, data[0]!]
    }
    expect(await size({ width: 10, height: 10 })).toEqual([10, 10, 255])
    expect(await size({ width: 10, height: 10, fit: 'fill' })).toEqual([10, 10, 255])
    expect(await size({ width: 10, height: 10, fit: 'contain', background: '#070707' })).toEqual([10, 10, 7])
    expect(await size({ width: 10, height: 10, fit: 'inside' })).toEqual([10, 5, 255])
    expect(await size({ width: 10, height: 10, fit: 'outside' })).toEqual([20, 10, 255])
    expect(await size(10)).toEqual([20, 10, 255])
    expect(await size({ width: 10 })).toEqual([10, 5, 255])
    expect(String(await given.resize({ height: 10 }))).toBe(`Image(raw, ${128 + 600} bytes)`)
  })

  it('cuts out the middle, or the part that is named', async () => {
    expect((await smallImage().pixels({ crop: { width: 2, height: 1 } })).data).toEqual(Uint8Array.of(50, 51, 52, 60, 61, 62))
    expect((await smallImage().pixels({ crop: { width: 1, height: 2, left: 3, top: 0 } })).data).toEqual(Uint8Array.of(30, 31, 32, 70, 71, 72))
    await expect(smallImage().pixels({ crop: { width: 5, height: 1 } })).rejects.toThrow('The raw picture has 4 x 2 pixels where {"width":5,"height":1} is to be cut out of it. Resize it to at least that size first.')
  })

  it.for([
    ['resize', { resize: -1 }], ['resize', { resize: {} }], ['resize', { resize: { width: 1e6, height: 1e6 } }], ['resize.fit', { resize: { width: 1, fit: 'stretch' } }], ['resize.kernel', { resize: { width: 1, kernel: 'best' } }],
    ['resize.background', { resize: { width: 1, background: 'red' } }], ['crop', { crop: { width: 0, height: 1 } }], ['alpha', { alpha: 'white' }], ['colour', { colour: 'yuv' }], ['color', { color: 'rgb' }],
  ] as const)('refuses a wrong %s', async ([name, options]) => {
    await expect(smallImage().pixels(options as never)).rejects.toThrow(`The option "${name}" of`)
  })

  it('refuses pixels that do not agree with their size, and formats that it cannot write', async () => {
    expect(() => Image.fromPixels(new Uint8Array(5), { width: 2, height: 2, channels: 1 })).toThrow('2 x 2 pixels of 1 channels are 4 bytes; Uint8Array(5 bytes) was given.')
    expect(() => Image.fromPixels(new Uint8Array(5), { width: 1, height: 1, channels: 5 })).toThrow('1 to 4 channels')
    await expect(smallImage().encode('bmp' as never)).rejects.toThrow('A picture cannot be encoded as "bmp". Known: jpeg, png, webp, avif, gif, tiff.')
  })
})

describe('the codec image', () => {
  it('belongs to the plugin, knows its values by their symbol, and keeps their bytes', async () => {
    const given = smallImage()
    expect(pillowSharp.codecs).toEqual([image])
    expect((given as unknown as Record<symbol, unknown>)[Symbol.for('inlay.codec')]).toBe('image')
    expect([image.is(given), image.is(given.bytes), image.immutable]).toEqual([true, false, true])
    const back = await image.decode(await image.encode(given), { where: 'field "img" of document "a"', readers: 1 })
    expect(await back.pixels()).toEqual(small)
  })
})

describe('pixels', () => {
  it('writes channels first or last, in RGB, BGR or grey, scaled, and as any type', async () => {
    const given = smallImage(), chw = await tensor(given, {})
    expect([chw.type, chw.dims]).toEqual(['float32', [3, 2, 4]])
    expect(numbers(chw)).toEqual([0, 1, 2].flatMap((c) => Array.from({ length: 8 }, (_, i) => Math.fround((10 * i + c) / 255))))
    expect(await tensor(given, { layout: 'hwc', type: 'uint8' })).toEqual({ type: 'uint8', dims: [2, 4, 3], data: small.data })
    expect(numbers(await tensor(given, { colour: 'bgr', type: 'int32' })).slice(0, 9)).toEqual([2, 12, 22, 32, 42, 52, 62, 72, 1])
    expect(await tensor(given, { colour: 'grey', type: 'uint8' })).toEqual({ type: 'uint8', dims: [1, 2, 4], data: Uint8Array.from({ length: 8 }, (_, i) => 10 * i + 1) })
    expect(numbers(await tensor(given, { type: 'int8', mean: 128 })).slice(0, 4)).toEqual([-128, -118, -108, -98])
    expect(numbers(await tensor(given, { type: 'uint8', scale: 10 })).slice(0, 5)).toEqual([0, 100, 200, 255, 255])
    expect((await tensor(given, { type: 'float64' })).data).toBeInstanceOf(Float64Array)
    expect(numbers(await tensor(given, { type: 'float64', mean: [0.1, 0.2, 0.3], std: [1, 2, 4] })).filter((_, i) => i % 8 === 1)).toEqual([(10 / 255 - 0.1), (11 / 255 - 0.2) / 2, (12 / 255 - 0.3) / 4])
    expect(numbers(await tensor(given, { type: 'float16', scale: 1 })).slice(0, 4)).toEqual([0, 0x4900, 0x4d00, 0x4f80])
  })

  it('rounds float16 to the nearest, ties to even, subnormal and too large numbers too', () => {
    const cases: readonly (readonly [number, number])[] = [[0, 0], [-0, 0x8000], [1, 0x3c00], [-2, 0xc000], [65504, 0x7bff], [65519, 0x7bff], [65520, 0x7c00], [2 ** -24, 1], [2 ** -25, 0], [3 * 2 ** -25, 2], [1 + 2 ** -11, 0x3c00], [1 + 3 * 2 ** -11, 0x3c02], [2047.75, 0x6800], [2 ** -14, 0x0400], [1 / 3, 0x3555]]
    expect(cases.map(([value]) => halfOf(value))).toEqual(cases.map(([, bits]) => bits))
  })

  it('gives the pictures of a batch one memory, in their order, where they have one shape', async () => {
    const of = pixels('t@1', { resize: { width: 8, height: 8, fit: 'fill' } }), pictures = await Promise.all(['#ff0000', '#00ff00', '#0000ff'].map(async (colour) => Image.from(await plain(colour).png().toBuffer())))
    const results = await batch(of, pictures), data = results.map((result) => result.data as Float32Array)
    expect(new Set(data.map(({ buffer }) => buffer)).size).toBe(1)
    expect(data.map(({ byteOffset }) => byteOffset)).toEqual([0, 768, 1536])
    expect(data.map((one) => [one[0], one[64], one[128]])).toEqual([[1, 0, 0], [0, 1, 0], [0, 0, 1]])
    const raw = await batch(pixels('t@1'), [smallImage(), smallImage()])
    expect((raw[1]!.data as Float32Array).buffer).toBe((raw[0]!.data as Float32Array).buffer)
  })

  it('takes pictures of several sizes, each with its shape, and none at all', async () => {
    const results = await batch(pixels('t@1', { resize: 4 }), [smallImage(), Image.from(await plain('#ffffff').png().toBuffer()), Image.fromPixels(new Uint8Array(9), { width: 3, height: 3, channels: 1 })])
    expect(results.map(({ dims }) => dims)).toEqual([[3, 4, 8], [3, 4, 8], [3, 4, 4]])
    expect(await runStep(pixels('t@1'), [])).toEqual([])
  })

  it('has a digest that covers its options, and none of what they leave out', () => {
    const digest = (options: PixelsOptions): string => pixels('t@1', options).digest
    expect(digest({ resize: { width: 8, height: 8 } })).toBe(digest({ resize: { width: 8, height: 8, fit: 'cover', kernel: 'linear' }, type: 'float32', layout: 'chw', mean: 0, std: [1, 1, 1], scale: 1 / 255 }))
    const others: readonly PixelsOptions[] = [{}, { resize: 8 }, { crop: { width: 8, height: 8 } }, { colour: 'bgr' }, { alpha: 'drop' }, { mean: 0.5 }, { std: 2 }, { scale: 1 }, { layout: 'hwc' }, { type: 'uint8' }, { type: 'float64' }]
    expect(new Set(others.map(digest)).size).toBe(others.length)
  })

  it('refuses wrong options, and what is no Image', async () => {
    expect(() => pixels('t@1', { mean: [1, 2] })).toThrow('The option "mean" of the step "t@1" was given [1,2]; a number or 3 of them are expected.')
    expect(() => pixels('t@1', { std: [1, 0, 1] })).toThrow('none of them 0')
    expect(() => pixels('t@1', { type: 'int4' as never })).toThrow('"int4"')
    expect(() => pixels('t@1', { layout: 'nchw' as never })).toThrow('chw or hwc')
    expect(() => pixels('t@1', { colour: 'rgba' as never })).toThrow('rgb, bgr or grey')
    expect(() => pixels('t@1', { size: 3 } as never)).toThrow('The option "size" of the step "t@1" is not known')
    await expect(runStep(pixels('t@1'), [small.data as never])).rejects.toThrow('The step "t@1" was given Uint8Array(24 bytes); an Image is expected: Image.from(bytes), Image.open(path).')
  })

  it('resizes small raw pictures as Pillow does', async () => {
    const line = (...data: readonly number[]): Pixels => ({ data: Uint8Array.from(data), width: data.length, height: 1, channels: 1 })
    expect([...resample(line(0, 255), 4, 1, 'linear').data]).toEqual([0, 64, 191, 255])
    expect([...resample(line(0, 100, 200, 255), 2, 1, 'linear').data]).toEqual([71, 209])
    expect([...resample(line(0, 255), 4, 1, 'nearest').data]).toEqual([0, 0, 255, 255])
    const spot = Image.fromPixels(Uint8Array.from({ length: 784 }, (_, i) => (i === 14 * 28 + 14 ? 255 : 0)), { width: 28, height: 28, channels: 1 })
    const { data } = await tensor(spot, { colour: 'grey', type: 'uint8', resize: { width: 56, height: 56 } }), around = Array.from({ length: 4 }, (_, y) => Array.from({ length: 4 }, (_, x) => (data as Uint8Array)[(27 + y) * 56 + 27 + x]))
    expect(around).toEqual([[16, 48, 48, 16], [48, 143, 143, 48], [48, 143, 143, 48], [16, 48, 48, 16]])
  })

  it.for([
    [28, 32, 'nearest', '525f6288177f'], [28, 32, 'linear', 'c6bf83b83cf3'], [28, 32, 'cubic', '371fc385f381'], [28, 32, 'lanczos3', '6bb1e511c407'],
    [64, 128, 'linear', 'dd17e1d90bd7'], [64, 128, 'lanczos3', '974b343867b2'], [120, 20, 'cubic', '660bcd68fbdf'], [120, 20, 'lanczos3', '86b13602a00d'],
  ] as const)('makes of %i pixels %i, %s, what Pillow 13 makes of them, bit by bit', ([before, after, kernel, digest]) => {
    const noise = Uint8Array.from({ length: before * before * 3 }, (_, i) => Number((BigInt(i * i * 7 + i * 13 + (i >> 5) * 31) * 2654435761n >> 9n) & 255n))
    expect(sha256(resample({ data: noise, width: before, height: before, channels: 3 }, after, after, kernel).data).slice(0, 12)).toBe(digest)
  })

  it('shrinks small raw pictures within three levels of what sharp makes of them', async () => {
    const wave = Uint8Array.from({ length: 100 * 80 * 3 }, (_, i) => 128 + 127 * Math.sin((i % 300) / 15) * Math.cos(Math.floor(i / 300) / 4)), raw = { width: 100, height: 80, channels: 3 as const }
    for (const kernel of ['linear', 'cubic', 'lanczos3'] as const) {
      const ours = (await Image.fromPixels(wave, raw).pixels({ resize: { width: 75, height: 60, kernel } })).data, theirs = await sharp(wave, { raw }).resize(75, 60, { kernel, fit: 'fill' }).raw().toBuffer()
      expect(Math.max(...ours.map((value, i) => Math.abs(value - theirs[i]!))), kernel).toBeLessThanOrEqual(3)
    }
  })
})

describe('contactSheet', () => {
  it('draws pictures with captions in a grid, and says which cannot be decoded', async () => {
    const red = Image.from(await plain('#ff0000', 100, 100).png().toBuffer()), cut = Image.from(red.bytes.subarray(0, red.bytes.length - 30))
    const sheet = await contactSheet([{ image: red, caption: '<a> & "b" \u0000 \ud800' }, { image: cut }, { image: smallImage() }], { size: 50, columns: 2, title: 'Three' }), { data, width, height } = await sheet.pixels()
    expect([sheet.format, width, height]).toEqual(['png', 142, 220])
    const at = (x: number, y: number): readonly number[] => [...data.subarray((y * width + x) * 3, (y * width + x) * 3 + 3)]
    expect([at(39, 73), at(80, 60), at(2, 2)]).toEqual([[255, 0, 0], [238, 238, 238], [255, 255, 255]])
    const black = (top: number, bottom: number): number => Array.from({ length: (bottom - top) * 70 }, (_, i) => at(i % 70, top + Math.floor(i / 70))).filter(([r]) => r! < 100).length
    expect(black(14, 48)).toBeGreaterThan(20)                // the title
    expect(black(98, 120)).toBeGreaterThan(10)               // the caption
  })

  it('refuses nothing to draw, and more than is drawn', async () => {
    await expect(contactSheet([])).rejects.toThrow('contactSheet was given no pictures')
    await expect(contactSheet([{ image: smallImage() }], { columns: 0 })).rejects.toThrow('The option "columns" of contactSheet was given 0')
    await expect(contactSheet([{ image: smallImage() }], { size: 10_000 })).rejects.toMatchObject({ code: 'RESOURCE_EXHAUSTED' })
  })
})
