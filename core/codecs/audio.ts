/** Sounds: WAV files, kept as the bytes they came as. */
import { codecKey } from '../codec.ts'
import type { Codec } from '../contract.ts'
import { InlayError, quote } from '../errors.ts'
import { readWav, samplesOf, writeWav, type Wav } from './wav.ts'

const most = 2 ** 32 - 1

/** A sound: a WAV file of PCM samples of 8 to 32 bits, or floats of 32 or 64, of any number of channels. It does not change; what it gives are copies. */
export class Audio {
  static { Object.defineProperty(this.prototype, codecKey, { value: 'audio' }) }
  readonly #bytes: Uint8Array
  readonly #wav: Wav

  constructor(bytes: Uint8Array) {
    this.#bytes = new Uint8Array(bytes)
    this.#wav = readWav(this.#bytes)
  }

  /** The sound of a WAV file. */
  static from(bytes: Uint8Array): Audio {
    if (!(bytes instanceof Uint8Array)) throw new InlayError('INVALID_ARGUMENT', `Audio.from was given ${quote(bytes)}; the bytes of a WAV file are expected.`)
    return new Audio(bytes)
  }
  /** A sound of samples from -1 to 1, one array for each channel, as a WAV file of float32. */
  static fromSamples(channels: readonly Float32Array[], sampleRate: number): Audio {
    const [first] = channels
    if (first === undefined || !channels.every((channel) => channel instanceof Float32Array && channel.length === first.length)) throw new InlayError('INVALID_ARGUMENT', 'Audio.fromSamples takes a Float32Array for each channel, all of one length, and at least one.')
    const block = channels.length * 4
    if (!Number.isSafeInteger(sampleRate) || sampleRate < 1 || sampleRate * block > most) throw new InlayError('INVALID_ARGUMENT', `The sample rate is ${quote(sampleRate)}; a whole number of samples in a second is expected, for example 16000.`)
    if (block > 0xffff || first.length * block + 50 > most) throw new InlayError('INVALID_ARGUMENT', `${channels.length} channels of ${first.length} samples do not fit into a WAV file, which has less than 4 GiB and at most 16,383 channels of float32. Cut the sound.`)
    return new Audio(writeWav(channels, sampleRate))
  }

  /** The WAV file, as it was given. */
  get bytes(): Uint8Array { return new Uint8Array(this.#bytes) }
  get sampleRate(): number { return this.#wav.sampleRate }
  get channels(): number { return this.#wav.channels }
  /** Samples of each channel. */
  get length(): number { return this.#wav.length }
  get seconds(): number { return this.#wav.length / this.#wav.sampleRate }

  /** One array for each channel, from -1 to 1; what float files have beyond is left. */
  samples(): Float32Array[] { return samplesOf(this.#bytes, this.#wav) }
  /** The mean of all channels. */
  mono(): Float32Array {
    const channels = this.samples(), mean = channels[0]!
    for (let i = 0; i < mean.length; i++) {
      let sum = 0
      for (const channel of channels) sum += channel[i]!
      mean[i] = sum / channels.length
    }
    return mean
  }
}

/** The codec `audio`. */
export const audioCodec: Codec<Audio> = {
  id: 'audio',
  expects: 'an Audio',
  immutable: true,
  is: (value): value is Audio => value instanceof Audio,
  encode: (audio) => audio.bytes,
  decode: (bytes) => new Audio(bytes),
}
