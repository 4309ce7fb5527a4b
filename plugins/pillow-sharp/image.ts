/** A picture as a value: the bytes as they were given, decoded when somebody looks. */
import { readFile } from 'node:fs/promises'
import type { ContentOf } from '../../core/contract.ts'
import { checkOptions, InlayError, messageOf, quote } from '../../core/errors.ts'
import { attempt, decoded, headerOf, nameOf, opened, type Picture } from './decode.ts'
import { foreignKind, formatOf, type Format } from './format.ts'
import { checkPixels, fromNpy, toNpy, type Pixels } from './npy.ts'
import { parsed, pictureOptions, white, type PictureOptions, type Resize } from './options.ts'
import { channelsOf, cut, elements, tableOf, windowOf, writePlanes } from './planes.ts'

/** What the bytes of a picture say of it. */
export interface PictureMetadata {
  readonly format: Format
  /** Upright, as EXIF tells. */
  readonly width: number
  readonly height: number
  /** As stored; pixels have 8 bits. */
  readonly channels: number
  readonly depth: string
  readonly alpha: boolean
  /** The EXIF value, 1 to 8; 1 is upright. */
  readonly orientation: number
  /** Frames of an animation or pages; pixels are of the first. */
  readonly pages: number
}
/** Formats to encode to. */
export type EncodedFormat = Exclude<Format, 'raw'>

/** The pixels of a picture, for this plugin's own files. */
export let pictureOf: (image: Image) => Picture

/**
 * A picture that never changes: JPEG, PNG, WebP, AVIF, GIF, TIFF, or raw pixels. It holds the encoded bytes, and its methods decode them: upright by EXIF, in sRGB, 8 bits per channel
 * (16 are cut to 8, CMYK is converted), the first frame or page. Damaged or cut off bytes are CORRUPT, too many pixels RESOURCE_EXHAUSTED (see `limits`), never a blank picture.
 */
export class Image {
  readonly #picture: Picture
  static { pictureOf = (image) => image.#picture }

  /** Takes the bytes over; `Image.from` copies them. Throws for what is no picture. */
  constructor(bytes: Uint8Array, of?: ContentOf) {
    const format = formatOf(bytes), raw = format === 'raw' ? fromNpy(bytes) : undefined
    if (format === undefined || (format === 'raw' && raw === undefined)) {
      const kind = format === 'raw' ? 'an array of NumPy that is cut off or not uint8 [height, width, 1 to 4 channels]' : foreignKind(bytes)
      throw new InlayError(of === undefined ? 'INVALID_ARGUMENT' : 'CORRUPT', `These ${bytes.length} bytes are no picture: they are ${kind}. JPEG, PNG, WebP, AVIF, GIF or TIFF is expected.`)
    }
    this.#picture = { bytes, format, ...(raw === undefined ? {} : { raw }), ...(of === undefined ? {} : { of }) }
  }

  /** A picture of encoded bytes, which are copied. */
  static from(bytes: Uint8Array | ArrayBuffer): Image
  static from(blob: Blob): Promise<Image>
  static from(source: Uint8Array | ArrayBuffer | Blob): Image | Promise<Image> {
    if (source instanceof Blob) return source.arrayBuffer().then((bytes) => new Image(new Uint8Array(bytes)))
    if (!(source instanceof Uint8Array) && !(source instanceof ArrayBuffer)) throw new InlayError('INVALID_ARGUMENT', `Image.from was given ${quote(source)}; the encoded bytes of a picture or a Blob are expected. Image.open reads a file, Image.fromPixels takes pixels.`)
    return new Image(new Uint8Array(source instanceof Uint8Array ? source : source.slice(0)))
  }

  /** A picture of a file. */
  static async open(path: string | URL): Promise<Image> {
    const bytes = await readFile(path).catch((error: unknown) => {
      throw new InlayError('NOT_FOUND', `The picture ${quote(String(path))} cannot be read: ${messageOf(error)}.`, { cause: error })
    })
    return new Image(bytes)
  }

  /** A picture of decoded pixels, kept as they are: lossless, and without a decoder. Good for small ones. */
  static fromPixels(data: Uint8Array, { width, height, channels }: { readonly width: number; readonly height: number; readonly channels: number }): Image {
    const pixels = { data, width, height, channels: channels as Pixels['channels'] }
    checkPixels(pixels)
    return new Image(toNpy(pixels))
  }

  /** The bytes as they were given: not to be changed. */
  get bytes(): Uint8Array {
    return this.#picture.bytes
  }
  get format(): Format {
    return this.#picture.format
  }

  /** What the bytes say, without decoding them. */
  async metadata(): Promise<PictureMetadata> {
    const { format, raw } = this.#picture
    if (raw !== undefined) return { format, width: raw.width, height: raw.height, channels: raw.channels, depth: 'uchar', alpha: raw.channels % 2 === 0, orientation: 1, pages: 1 }
    const { autoOrient, channels, depth, hasAlpha, orientation = 1, pages = 1 } = await headerOf(this.#picture)
    return { format, ...autoOrient, channels, depth, alpha: hasAlpha, orientation, pages }
  }

  /** The decoded pixels, for the caller to keep. */
  async pixels(options: PictureOptions = {}): Promise<Pixels> {
    checkOptions(options, pictureOptions, 'pixels()')
    const { resize, crop, alpha, colour } = parsed(options, 'pixels()')
    const keeps = colour === undefined || colour === 'rgba', pixels = await decoded(this.#picture, { ...(resize === undefined ? {} : { resize }), alpha: alpha ?? (keeps ? 'keep' : white) })
    const window = windowOf(pixels, crop, nameOf(this.#picture)), { width, height } = window
    if (colour === undefined) return cut(pixels, window)
    const channels = channelsOf(colour), data = elements('uint8', width * height * channels) as Uint8Array
    writePlanes(pixels, window, { colour, tables: Array.from({ length: channels }, () => identity), planes: false }, data, 0)
    return { data, width, height, channels }
  }

  /** A raw picture of another size; `encode` makes a file of it. */
  async resize(resize: number | Resize): Promise<Image> {
    const pixels = await this.pixels({ resize })
    return Image.fromPixels(pixels.data, pixels)
  }

  /** The upright picture in another format, without its metadata; in JPEG, alpha is laid over white. `quality` is 1 to 100. */
  async encode(format: EncodedFormat, { quality }: { readonly quality?: number } = {}): Promise<Image> {
    if (!encodedFormats.includes(format)) throw new InlayError('INVALID_ARGUMENT', `A picture cannot be encoded as ${quote(format)}. Known: ${encodedFormats.join(', ')}.`)
    const picture = this.#picture
    return new Image(await attempt(picture, async () => {
      const sharp = await opened(picture)
      if (format === 'jpeg') sharp.flatten({ background: white })
      return sharp.toFormat(format, quality === undefined ? {} : { quality }).toBuffer()
    }))
  }

  toString(): string {
    return `Image(${this.format}, ${this.bytes.length} bytes)`
  }
}
Object.defineProperty(Image.prototype, Symbol.for('inlay.codec'), { value: 'image' })
Object.defineProperty(Image.prototype, Symbol.for('nodejs.util.inspect.custom'), { value: Image.prototype.toString })

const identity = tableOf('uint8', 1, 0, 1)
const encodedFormats: readonly string[] = ['jpeg', 'png', 'webp', 'avif', 'gif', 'tiff'] satisfies EncodedFormat[]
