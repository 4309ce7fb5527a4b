/** Decoded pictures as arrays of NumPy: uint8 [height, width, channels], which is lossless and costs no decoder. */
import { readNpy, writeNpy } from '../../core/codecs/tensor.ts'
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

/** The bytes of a .npy file. */
export function toNpy({ data, width, height, channels }: Pixels): Uint8Array {
  return writeNpy({ type: 'uint8', dims: [height, width, channels], data })
}

/** Undefined where it is another array, or damaged. */
export function fromNpy(bytes: Uint8Array): Pixels | undefined {
  try {
    const { type, dims: [height = 0, width = 0, channels = 1, ...more], data } = readNpy(bytes)
    return type === 'uint8' && more.length === 0 && width * height > 0 && channels >= 1 && channels <= 4 ? { data: data as Uint8Array, width, height, channels: channels as Pixels['channels'] } : undefined
  } catch {
    return undefined
  }
}
