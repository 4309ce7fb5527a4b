/** From encoded pictures to pixels, upright and 8 bits per channel: what is kept, what is refused, what is told. */
import type { Metadata, Sharp } from 'sharp'
import type { ContentOf } from '../../core/contract.ts'
import { sha256 } from '../../core/encoding.ts'
import { InlayError, messageOf } from '../../core/errors.ts'
import { decodes, driver, inTurn, limits } from './driver.ts'
import type { Format } from './format.ts'
import type { Pixels } from './npy.ts'
import { resample, type Kernel } from './resample.ts'

/** What an `Image` holds. */
export interface Picture {
  readonly bytes: Uint8Array
  readonly format: Format
  /** The pixels of a raw one. */
  readonly raw?: Pixels
  readonly of?: ContentOf
}
/** How a picture gets its new size; see `Resize`. */
export interface Fitting { readonly width?: number; readonly height?: number; readonly fit: 'cover' | 'contain' | 'fill' | 'inside' | 'outside'; readonly kernel: Kernel; readonly background: string }
/** What sharp does in one go. `alpha`: kept, dropped, or laid over a colour. */
export interface Geometry { readonly resize?: Fitting; readonly alpha: 'keep' | 'drop' | `#${string}` }

/** The pixels, which others may read too; at once where no decoder is needed. Throws CORRUPT for damaged bytes and RESOURCE_EXHAUSTED above the limits. */
export function decoded(picture: Picture, geometry: Geometry, signal?: AbortSignal): Pixels | Promise<Pixels> {
  const { raw, of } = picture, { resize, alpha } = geometry
  if (raw !== undefined && (raw.channels % 2 === 1 || !alpha.startsWith('#'))) {
    if (resize === undefined) return raw
    if (raw.channels % 2 === 1 && isSmall(raw, resize)) return resample(raw, resize.width!, resize.height!, resize.kernel)
  }
  return raw === undefined && of !== undefined && of.readers > 1 ? shared(picture, geometry) : drawn(picture, geometry, raw, signal)
}

const smallPixels = 128 * 128
/** Sizes at which a call of sharp costs more than the work, and fits that are plain stretching. */
function isSmall({ width, height }: Pixels, resize: Fitting): boolean {
  if (resize.width === undefined || resize.height === undefined || width * height > smallPixels || resize.width * resize.height > smallPixels) return false
  return resize.fit === 'fill' || width * resize.height === height * resize.width
}

const entire: Geometry = { alpha: 'keep' }
/** For several readers: each size is made once, also where the readers hold copies of the picture, and all of them of the whole picture, decoded once. A size that sharp makes by
 *  loading the picture smaller has other pixels than one made of the whole: it is decoded by itself, so that how many read a picture never changes what they are given. */
function shared(picture: Picture, geometry: Geometry): Promise<Pixels> {
  const id = sha256(picture.bytes), whole = (): Promise<Pixels> => kept(id, () => drawn(picture, entire, undefined))
  if (geometry.resize === undefined && geometry.alpha === 'keep') return whole()
  return kept(`${id} ${JSON.stringify(geometry)}`, async () => drawn(picture, geometry, await loadsSmaller(picture, geometry.resize) ? undefined : await whole()))
}
/** Shrink-on-load: JPEG from half the size down, WebP at any smaller size. */
async function loadsSmaller(picture: Picture, resize: Fitting | undefined): Promise<boolean> {
  if (resize === undefined || (picture.format !== 'jpeg' && picture.format !== 'webp')) return false
  const { autoOrient: { width, height } } = await headerOf(picture), shrink = Math.max(width / (resize.width ?? Infinity), height / (resize.height ?? Infinity))
  return picture.format === 'jpeg' ? shrink >= 2 : shrink > 1
}

interface Entry { readonly pixels: Promise<Pixels>; bytes: number }
const entries = new Map<string, Entry>()
let held = 0

/** What was made last under this key, and is among the last `limits().keptBytes`. */
function kept(key: string, make: () => Promise<Pixels>): Promise<Pixels> {
  const known = entries.get(key)
  entries.delete(key)
  const entry = known ?? { pixels: make(), bytes: 0 }
  entries.set(key, entry)
  if (known === undefined) entry.pixels.then(({ data }) => { held += entry.bytes = data.length; forget() }, () => entries.delete(key))
  return entry.pixels
}
function forget(): void {
  for (const [key, { bytes }] of entries) {
    if (held <= limits().keptBytes) return
    if (bytes > 0) entries.delete(key)                 // others are not made yet
    held -= bytes
  }
}

/** From the bytes, or from pixels that were decoded before. */
async function drawn(picture: Picture, geometry: Geometry, source: Pixels | undefined, signal?: AbortSignal): Promise<Pixels> {
  const { resize, alpha } = geometry
  return attempt(picture, async () => {
    if (resize !== undefined) await checkSize(picture, resize, source)
    const sharp = await opened(picture, source)
    if (alpha === 'drop') sharp.removeAlpha()
    else if (alpha !== 'keep') sharp.flatten({ background: alpha })
    if (resize !== undefined) sharp.resize({ ...resize })
    const { data, info: { width, height, channels } } = await sharp.raw().toBuffer({ resolveWithObject: true })
    return { data, width, height, channels: channels as Pixels['channels'] }
  }, signal)
}

/** A picture in sharp, upright and in sRGB or grey. */
export async function opened(picture: Picture, source: Pixels | undefined = picture.raw): Promise<Sharp> {
  const sharp = await driver()
  if (source !== undefined) {
    const { data, width, height, channels } = source
    return sharp(data, { raw: { width, height, channels } }).toColourspace(channels < 3 ? 'b-w' : 'srgb')
  }
  if (decodes.hasSubscribers) decodes.publish({ format: picture.format, bytes: picture.bytes.length, where: picture.of?.where })
  return sharp(picture.bytes, { autoOrient: true, limitInputPixels: limits().pixels }).toColourspace('srgb')
}

/** What the bytes say of themselves, at the price of reading their beginning; limits do not hold here. */
export function headerOf(picture: Picture): Promise<Metadata> {
  return attempt(picture, async () => (await driver())(picture.bytes, { limitInputPixels: false }).metadata())
}

/** Does the work in its turn, unless it was stopped before, and says of which picture an error is. */
export async function attempt<T>(picture: Picture, work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
  try {
    return await inTurn(work, signal)
  } catch (error) {
    if (InlayError.is(error)) throw error
    // libvips has one buffer of messages for all its threads: where another picture failed just now, it may be empty.
    const message = messageOf(error).trim().split('\n')[0]!.replace(/[:.\s]+$/, '').replace(/^Warning treated as error.*/, 'its decoder warned of damage')
    if (message.includes('exceeds pixel limit')) throw tooLarge(`${nameOf(picture)} has ${await sizeOf(picture)} pixels`, error)
    throw new InlayError('CORRUPT', `${nameOf(picture)} cannot be decoded: ${message}. Its ${picture.bytes.length} bytes (${picture.format}) are damaged or cut off; write the picture again.`, { cause: error })
  }
}

async function sizeOf(picture: Picture): Promise<string> {
  const { width, height } = await headerOf(picture)
  return `${width} x ${height} = ${(width * height).toLocaleString('en')}`
}
function tooLarge(fault: string, cause?: unknown): InlayError {
  return new InlayError('RESOURCE_EXHAUSTED', `${fault}, and at most ${limits().pixels.toLocaleString('en')} are decoded. Make it smaller, or raise the limit of this process: limits({ pixels }).`, { cause })
}

/** A fit that keeps the ratio and is bound on one side only lets a thin picture grow without end. */
async function checkSize(picture: Picture, { width, height, fit }: Fitting, source: Pixels | undefined): Promise<void> {
  if (width !== undefined && height !== undefined && fit !== 'outside') return
  const before = source ?? (await (await driver())(picture.bytes, { limitInputPixels: limits().pixels }).metadata()).autoOrient
  const scale = Math.max((width ?? 0) / before.width, (height ?? 0) / before.height), pixels = Math.round(before.width * scale) * Math.round(before.height * scale)
  if (pixels > limits().pixels) throw tooLarge(`${nameOf(picture)}, ${before.width} x ${before.height}, would be resized to ${pixels.toLocaleString('en')} pixels`)
}

/** How a message begins. */
export function nameOf({ of, format }: Pick<Picture, 'of' | 'format'>): string {
  return of === undefined ? `The ${format} picture` : `The picture of ${of.where} (codec "image")`
}
