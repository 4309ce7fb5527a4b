/** Videos: bytes of a known type. */
import { codecKey } from '../codec.ts'
import type { Codec } from '../contract.ts'
import { InlayError, quote } from '../errors.ts'

/** A video as the bytes it came as, which begin as a file of its type does. Frames are not offered: decode `bytes` with a program that has the video's codec. It does not change; `bytes` is a copy. */
export class Video {
  static { Object.defineProperty(this.prototype, codecKey, { value: 'video' }) }
  /** `video/mp4`, `video/webm`, … */
  readonly type: string
  readonly #bytes: Uint8Array

  private constructor(bytes: Uint8Array, type: string) {
    this.#bytes = bytes
    this.type = type
  }

  /** The video of some bytes, whose type is found from how they begin. */
  static async from(bytes: Uint8Array): Promise<Video> {
    if (!(bytes instanceof Uint8Array)) throw new InlayError('INVALID_ARGUMENT', `Video.from was given ${quote(bytes)}; the bytes of a video are expected.`)
    const own = new Uint8Array(bytes), { fileTypeFromBuffer } = await import('file-type')
    const found = await fileTypeFromBuffer(own).catch(() => undefined)
    if (found?.mime.startsWith('video/') !== true) throw new InlayError('CORRUPT', `The bytes are no video: they begin as ${found === undefined ? 'no file that is known' : `a file of type ${quote(found.mime)}`}. Give those of an MP4, WebM, Matroska or another video.`)
    return new Video(own, found.mime)
  }

  get bytes(): Uint8Array { return new Uint8Array(this.#bytes) }
}

/** The codec `video`. */
export const videoCodec: Codec<Video> = {
  id: 'video',
  expects: 'a Video',
  immutable: true,
  is: (value): value is Video => value instanceof Video,
  encode: (video) => video.bytes,
  decode: (bytes) => Video.from(bytes),
}
