/** Decoded pictures as arrays of NumPy: uint8 [height, width, channels], which is lossless and costs no decoder. */
import { InlayError, quote } from '../../core/errors.ts'

/** Decoded pixels, row by row from the top, 8 bits per channel: 1 is grey, 3 is RGB, 2 and 4 are the same with alpha. */
export interface Pixels { readonly data: Uint8Array; readonly width: number; readonly height: number; readonly channels: 1 | 2 | 3 | 4 }

/** Throws INVALID_ARGUMENT unless data, width, height and channels agree. */
export function checkPixels({ data, width, height, channels }: Pixels): void {
  const fits = [width, height].every((side) => Number.isSafeInteger(side) && side > 0) && [1, 2, 3, 4].includes(channels)
  if (!fits) throw new InlayError('INVALID_ARGUMENT', `${width} x ${height} pixels of ${channels} channels are no picture: positive whole numbers and 1 to 4 channels are expected.`)
  if (!(data instanceof Uint8Array) || data.length !== width * height * channels) {
    throw new InlayError('INVALID_ARGUMENT', `${width} x ${height} pixels of ${channels} channels are ${width * height * channels} bytes; ${quote(data)} was given.`)
  }
}

/** The array with its header, 64 bytes aligned. */
export function toNpy({ data, width, height, channels }: Pixels): Uint8Array {
  const description = `{'descr': '|u1', 'fortran_order': False, 'shape': (${height}, ${width}, ${channels}), }`
  const size = Math.ceil((10 + description.length + 1) / 64) * 64, bytes = new Uint8Array(size + data.length)
  bytes.set(Buffer.from(`\x93NUMPY\x01\0${String.fromCharCode((size - 10) & 255, (size - 10) >> 8)}${description.padEnd(size - 11)}\n`, 'latin1'))
  bytes.set(data, size)
  return bytes
}

const header = /'descr': *'[|<]u1', *'fortran_order': *False, *'shape': *\((\d+), *(\d+)(?:, *([1-4]))?,?\)/

/** Undefined where it is another array, or cut off. The pixels lie in `bytes`. */
export function fromNpy(bytes: Uint8Array): Pixels | undefined {
  const [from, to] = bytes[6] === 1 ? [10, 10 + bytes[8]! + (bytes[9]! << 8)] : [12, 12 + bytes[8]! + (bytes[9]! << 8)]
  const match = header.exec(Buffer.from(bytes.buffer, bytes.byteOffset + from, Math.max(0, Math.min(to, bytes.length) - from)).toString('latin1'))
  if (match === null) return undefined
  const [height, width, channels] = [Number(match[1]), Number(match[2]), Number(match[3] ?? 1) as Pixels['channels']]
  return width * height > 0 && bytes.length === to + width * height * channels ? { data: bytes.subarray(to), width, height, channels } : undefined
}
