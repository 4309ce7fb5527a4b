/** The codecs that come with Inlay. Bytes need none: a Uint8Array is a value. */
import type { Codec } from '../contract.ts'
import { audioCodec } from './audio.ts'
import { fileCodec } from './file.ts'
import { jsonCodec } from './json.ts'
import { tensorCodec } from './tensor.ts'
import { videoCodec } from './video.ts'

export { arrayCodec, type ArrayOf, type ArrayType } from './array.ts'
export { Audio, audioCodec } from './audio.ts'
export { fileCodec } from './file.ts'
export { jsonCodec } from './json.ts'
export { tensorCodec, type TensorOptions } from './tensor.ts'
export { Video, videoCodec } from './video.ts'

/** Known to every database without being declared. */
export const builtIn: readonly Codec[] = [tensorCodec(), jsonCodec, fileCodec, audioCodec, videoCodec]
