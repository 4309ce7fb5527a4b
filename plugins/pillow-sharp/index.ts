/** Pictures: the codec `image`, steps from pictures to tensors, and contact sheets. It needs the package sharp. */
import type { Plugin } from '../../core/contract.ts'
import { image } from './codec.ts'

export { image } from './codec.ts'
export { limits, type Limits } from './driver.ts'
export type { Format } from './format.ts'
export { Image, type EncodedFormat, type PictureMetadata } from './image.ts'
export type { Pixels } from './npy.ts'
export type { Crop, PictureOptions, Resize } from './options.ts'
export { pixels, type PixelsOptions } from './pixels.ts'
export type { Colour, ElementType } from './planes.ts'
export type { Kernel } from './resample.ts'
export { contactSheet, type Cell, type SheetOptions } from './sheet.ts'

const pillowSharp: Plugin = { name: 'pillow-sharp', contract: 1, codecs: [image] }
export default pillowSharp
