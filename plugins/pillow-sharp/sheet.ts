/** Many pictures on one, to look at. */
import type { OverlayOptions } from 'sharp'
import { checkOptions, InlayError, quote } from '../../core/errors.ts'
import { decoded, type Picture } from './decode.ts'
import { driver, inTurn, limits } from './driver.ts'
import { Image, pictureOf } from './image.ts'
import type { Pixels } from './npy.ts'

/** A picture and what stands below it. */
export interface Cell { readonly image: Image; readonly caption?: string }
/** How a contact sheet looks. */
export interface SheetOptions {
  /** Pictures in a row. Default: about square, at most 10. */
  readonly columns?: number
  /** Most pixels of a picture's width and height. Default 160. */
  readonly size?: number
  /** A line above the pictures. */
  readonly title?: string
}

const gap = 14, captionHeight = 22, titleHeight = 34
/** Of a letter, in ems: a wide average, so that lines end before their cell does. */
const letterWidth = 0.62

/** Draws pictures with captions in a grid, as a PNG. A picture that cannot be decoded is a box that says so. */
export async function contactSheet(cells: readonly Cell[], options: SheetOptions = {}): Promise<Image> {
  checkOptions(options, ['columns', 'size', 'title'], 'contactSheet')
  if (cells.length === 0) throw new InlayError('INVALID_ARGUMENT', 'contactSheet was given no pictures; at least one is expected.')
  const { columns = Math.min(10, Math.ceil(Math.sqrt(cells.length))), size = 160, title } = options
  for (const [name, value] of Object.entries({ columns, size })) {
    if (!Number.isSafeInteger(value) || value < 1) throw new InlayError('INVALID_ARGUMENT', `The option ${quote(name)} of contactSheet was given ${quote(value)}; a positive whole number is expected.`)
  }
  const captions = cells.some(({ caption }) => caption !== undefined) ? captionHeight : 0, above = title === undefined ? gap : gap + titleHeight
  const width = gap + Math.min(columns, cells.length) * (size + gap), height = above + Math.ceil(cells.length / columns) * (size + captions + gap)
  if (width * height > limits().pixels) throw new InlayError('RESOURCE_EXHAUSTED', `A contact sheet of ${cells.length} pictures would have ${width} x ${height} pixels, and at most ${limits().pixels} are drawn. Give fewer, or a smaller "size".`)

  const drawn = await Promise.all(cells.map(async ({ image }) => thumbnail(pictureOf(image), size).catch(() => undefined)))
  const overlays: OverlayOptions[] = [], texts: string[] = title === undefined ? [] : [line(title, { x: gap, y: gap, width: width - 2 * gap, height: titleHeight }, 18, 'start')]
  cells.forEach(({ caption }, i) => {
    const left = gap + (i % columns) * (size + gap), top = above + Math.floor(i / columns) * (size + captions + gap), picture = drawn[i]
    if (picture === undefined) texts.push(`<rect x="${left}" y="${top}" width="${size}" height="${size}" fill="#eee" stroke="#bbb"/>`, line('cannot be decoded', { x: left, y: top, width: size, height: size }, 12, 'middle'))
    else overlays.push({ input: Buffer.from(picture.data), raw: picture, left: left + Math.floor((size - picture.width) / 2), top: top + Math.floor((size - picture.height) / 2) })
    if (caption !== undefined) texts.push(line(caption, { x: left, y: top + size, width: size, height: captions }, 13, 'middle'))
  })
  overlays.push({ input: Buffer.from(`<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}">${texts.join('')}</svg>`), left: 0, top: 0 })
  const sharp = await driver()
  return new Image(await inTurn(() => sharp({ create: { width, height, channels: 3, background: '#ffffff' } }).composite(overlays).removeAlpha().png().toBuffer()))
}

/** Tiny pictures are shown by their pixels. */
async function thumbnail(picture: Picture, size: number): Promise<Pixels> {
  const { raw } = picture, tiny = raw !== undefined && Math.max(raw.width, raw.height) * 2 <= size
  return decoded(picture, { resize: { width: size, height: size, fit: 'inside', kernel: tiny ? 'nearest' : 'lanczos3', background: '#ffffff' }, alpha: '#ffffff' })
}

function line(text: string, { x, y, width, height }: { readonly x: number; readonly y: number; readonly width: number; readonly height: number }, fontSize: number, anchor: 'start' | 'middle'): string {
  const most = Math.max(1, Math.floor(width / (fontSize * letterWidth))), letters = [...text.toWellFormed().replace(/[\p{Cc}\uFFFE\uFFFF]+/gu, ' ')]
  const shown = letters.length > most ? `${letters.slice(0, most - 1).join('').trimEnd()}…` : letters.join('')
  const escaped = shown.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`)
  return `<svg x="${x}" y="${y}" width="${width}" height="${height}"><text x="${anchor === 'middle' ? '50%' : 0}" y="50%" dy="0.35em" text-anchor="${anchor}" font-family="sans-serif" font-size="${fontSize}" fill="#222">${escaped}</text></svg>`
}
