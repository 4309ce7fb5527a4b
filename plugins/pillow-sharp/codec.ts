/** Pictures in documents. */
import type { Codec } from '../../core/contract.ts'
import { Image } from './image.ts'

/** Stores the bytes of an `Image` as they are. Reading looks at the first bytes only; what is found damaged later names its field and document. */
export const image: Codec<Image> = {
  id: 'image',
  expects: 'an Image: Image.from(bytes), Image.open(path) or Image.fromPixels(data, { width, height, channels })',
  immutable: true,
  is: (value) => value instanceof Image,
  encode: (value) => value.bytes,
  decode: (bytes, of) => new Image(bytes, of),
}
