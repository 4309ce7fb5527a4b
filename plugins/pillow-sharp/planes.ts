/** The one pass from 8 bit pixels to the elements of a tensor: crop, colours, scale and layout at once, written where they shall lie. */
import { InlayError, quote } from '../../core/errors.ts'
import type { Pixels } from './npy.ts'

/** Element types of tensors of pixels, as ONNX names them. */
export type ElementType = 'float32' | 'float64' | 'float16' | 'uint8' | 'int8' | 'int32'
export type Elements = Float32Array | Float64Array | Uint16Array | Uint8Array | Int8Array | Int32Array
/** Channels of the result, in their order. `grey` is Pillow's: 0.299 R + 0.587 G + 0.114 B, rounded to 8 bits. */
export type Colour = 'rgb' | 'bgr' | 'rgba' | 'grey'
export interface Window { readonly left: number; readonly top: number; readonly width: number; readonly height: number }
/** What to write: a table for each channel from the 256 values of a pixel to elements. */
export interface Recipe { readonly colour: Colour; readonly tables: readonly Elements[]; readonly planes: boolean }

const arrays: Readonly<Record<ElementType, new (size: number) => Elements>> = { float32: Float32Array, float64: Float64Array, float16: Uint16Array, uint8: Uint8Array, int8: Int8Array, int32: Int32Array }
const ranges: Readonly<Partial<Record<ElementType, readonly [number, number]>>> = { uint8: [0, 255], int8: [-128, 127], int32: [-(2 ** 31), 2 ** 31 - 1] }
const counts = { rgb: 3, bgr: 3, rgba: 4, grey: 1 } as const

export function elements(type: ElementType, size: number): Elements {
  return new arrays[type](size)
}
export function isElementType(type: unknown): type is ElementType {
  return typeof type === 'string' && Object.hasOwn(arrays, type)
}
export function channelsOf(colour: Colour): Pixels['channels'] {
  return counts[colour]
}

/** `(value * scale - mean) / std` of each value of a pixel; whole types are rounded and cut to their range. */
export function tableOf(type: ElementType, scale: number, mean: number, std: number): Elements {
  const table = elements(type, 256), range = ranges[type]
  for (let value = 0; value < 256; value++) {
    const exact = (value * scale - mean) / std
    table[value] = type === 'float16' ? halfOf(exact) : range === undefined ? exact : Math.min(range[1], Math.max(range[0], Math.round(exact)))
  }
  return table
}

/** The bits of the nearest float16; ties go to the even one. */
export function halfOf(value: number): number {
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0, size = Math.abs(value)
  if (size >= 65520) return sign | 0x7c00
  const exponent = Math.max(-14, Math.floor(Math.log2(size || 1e-9))), steps = size / 2 ** (exponent - 10), below = Math.floor(steps), rest = steps - below
  const rounded = below + (rest > 0.5 || (rest === 0.5 && below % 2 === 1) ? 1 : 0)
  return sign | (((exponent + 14) << 10) + rounded)      // a carry out of the fraction is the next exponent, and 1024 steps are its hidden bit
}

/** Writes the window of the pixels to `out`, from `at` on; or only some of its lines. */
export function writePlanes({ data, width: lineWidth, channels }: Pixels, { left, top, width, height }: Window, { colour, tables, planes }: Recipe, out: Elements, at: number, [from, to]: readonly [number, number] = [0, height]): void {
  const step = planes ? 1 : tables.length, plane = planes ? width * height : 1, opaque = channels % 2 === 1
  const [first, second, third, fourth] = tables as readonly [Elements, Elements, Elements, Elements], [r, g, b] = channels < 3 ? [0, 0, 0] : colour === 'bgr' ? [2, 1, 0] : [0, 1, 2]
  for (let y = from, o = at + from * width * step; y < to; y++) {
    let i = ((top + y) * lineWidth + left) * channels
    const end = i + width * channels
    if (tables.length === 1) {
      if (channels < 3) for (; i < end; i += channels, o++) out[o] = first[data[i]!]!
      else for (; i < end; i += channels, o++) out[o] = first[(data[i]! * 19595 + data[i + 1]! * 38470 + data[i + 2]! * 7471 + 0x8000) >> 16]!
      continue
    }
    if (tables.length === 4) for (let alpha = i + channels - 1, into = o + 3 * plane; alpha < end; alpha += channels, into += step) out[into] = fourth[opaque ? 255 : data[alpha]!]!
    for (; i < end; i += channels, o += step) {
      out[o] = first[data[i + r!]!]!
      out[o + plane] = second[data[i + g!]!]!
      out[o + 2 * plane] = third[data[i + b!]!]!
    }
  }
}

/** A copy of a part of pixels, all channels as they are. */
export function cut({ data, width: lineWidth, channels }: Pixels, { left, top, width, height }: Window): Pixels {
  const part = new Uint8Array(width * height * channels)
  for (let y = 0; y < height; y++) part.set(data.subarray(((top + y) * lineWidth + left) * channels).subarray(0, width * channels), y * width * channels)
  return { data: part, width, height, channels }
}

/** Where a crop lies in pixels of this size; without a corner, in their middle. */
export function windowOf(pixels: Pick<Window, 'width' | 'height'>, crop: { readonly width: number; readonly height: number; readonly left?: number; readonly top?: number } | undefined, name: string): Window {
  if (crop === undefined) return { left: 0, top: 0, width: pixels.width, height: pixels.height }
  const { width, height, left = Math.round((pixels.width - width) / 2), top = Math.round((pixels.height - height) / 2) } = crop
  if (left < 0 || top < 0 || left + width > pixels.width || top + height > pixels.height) {
    throw new InlayError('INVALID_ARGUMENT', `${name} has ${pixels.width} x ${pixels.height} pixels where ${quote(crop)} is to be cut out of it. Resize it to at least that size first.`)
  }
  return { left, top, width, height }
}
