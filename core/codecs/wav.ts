/** WAV files: where their samples lie, and how they are written. */
import { InlayError, quote } from '../errors.ts'
import { bytesOf } from '../value.ts'

/** What the chunks of a WAV file say. */
export interface Wav {
  readonly sampleRate: number
  readonly channels: number
  readonly float: boolean
  readonly bits: number
  /** Where the samples begin. */
  readonly start: number
  /** Samples of each channel. */
  readonly length: number
}

const pcm = 1, ieeeFloat = 3, extensible = 0xfffe
/** What follows the format in the GUID of WAVE_FORMAT_EXTENSIBLE. */
const guidEnd = '000000001000800000aa00389b71'

/** Reads the chunks. Whatever contradicts itself is refused, and so is what is compressed. */
export function readWav(bytes: Uint8Array): Wav {
  const file = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength), tag = file.toString('latin1', 0, 4)
  if (tag === 'RF64' || tag === 'BW64' || tag === 'RIFX') throw new InlayError('UNSUPPORTED', `The sound is of the kind ${quote(tag)}; a RIFF file of less than 4 GiB is expected. Convert it, or cut it.`)
  if (file.length < 12 || tag !== 'RIFF' || file.toString('latin1', 8, 12) !== 'WAVE') throw damaged('they do not begin as a WAV file does')
  const end = file.readUInt32LE(4) + 8
  if (end > file.length) throw damaged(`the file says that it has ${end} bytes, and ${file.length} are there`)
  const chunks = new Map<string, { readonly start: number; readonly size: number }>()
  for (let at = 12; at + 8 <= end;) {
    const name = file.toString('latin1', at, at + 4), size = file.readUInt32LE(at + 4), start = at + 8
    if (start + size > end) throw damaged(`the chunk ${quote(name)} says that it has ${size} bytes, and ${end - start} are there`)
    if ((name === 'fmt ' || name === 'data') && chunks.has(name)) throw damaged(`there are two chunks ${quote(name)}`)
    chunks.set(name, { start, size })
    at = start + size + size % 2
  }
  const fmt = chunks.get('fmt '), data = chunks.get('data')
  if (fmt === undefined || data === undefined || fmt.size < 16) throw damaged(`the chunk ${fmt === undefined || fmt.size < 16 ? '"fmt "' : '"data"'} is not there`)
  const format = formatOf(file.subarray(fmt.start, fmt.start + fmt.size)), block = format.channels * format.bits / 8
  if (data.size % block !== 0) throw damaged(`its ${data.size} bytes of samples are no multiple of the ${block} that one of each channel takes`)
  return { ...format, start: data.start, length: data.size / block }
}

function formatOf(fmt: Buffer): Pick<Wav, 'sampleRate' | 'channels' | 'float' | 'bits'> {
  const channels = fmt.readUInt16LE(2), sampleRate = fmt.readUInt32LE(4), byteRate = fmt.readUInt32LE(8), block = fmt.readUInt16LE(12), bits = fmt.readUInt16LE(14)
  let kind = fmt.readUInt16LE(0)
  if (kind === extensible) {
    if (fmt.length < 40 || fmt.toString('hex', 26, 40) !== guidEnd || fmt.readUInt16LE(18) > bits) throw damaged('the extension of its format is not understood')
    kind = fmt.readUInt16LE(24)
  }
  if (kind !== pcm && kind !== ieeeFloat) throw new InlayError('UNSUPPORTED', `The sound is compressed (WAV format ${kind}); PCM or float samples are expected. Convert it, for example with: ffmpeg -i in.wav -c:a pcm_s16le out.wav`)
  if (!(kind === pcm ? [8, 16, 24, 32] : [32, 64]).includes(bits)) throw new InlayError('UNSUPPORTED', `The sound has ${kind === pcm ? 'PCM' : 'float'} samples of ${bits} bits; ${kind === pcm ? '8, 16, 24 or 32' : '32 or 64'} are expected.`)
  if (channels === 0 || sampleRate === 0 || block !== channels * bits / 8 || byteRate !== sampleRate * block) throw damaged(`its format contradicts itself: ${channels} channels of ${bits} bits in blocks of ${block} bytes, ${sampleRate} a second in ${byteRate} bytes`)
  return { sampleRate, channels, float: kind === ieeeFloat, bits }
}

/** The samples of each channel, from -1 to 1; of float files as they are. */
export function samplesOf(bytes: Uint8Array, { channels, float, bits, start, length }: Wav): Float32Array[] {
  const read = reader(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), float, bits), size = bits / 8, block = channels * size
  return Array.from({ length: channels }, (_, channel) => {
    const samples = new Float32Array(length)
    for (let i = 0, at = start + channel * size; i < length; i++, at += block) samples[i] = read(at)
    return samples
  })
}
function reader(file: DataView, float: boolean, bits: number): (at: number) => number {
  switch (bits) {
    case 8: return (at) => (file.getUint8(at) - 128) / 128                   // the only unsigned one
    case 16: return (at) => file.getInt16(at, true) / 2 ** 15
    case 24: return (at) => (file.getUint16(at, true) + file.getInt8(at + 2) * 2 ** 16) / 2 ** 23
    case 32: return float ? (at) => file.getFloat32(at, true) : (at) => file.getInt32(at, true) / 2 ** 31
    default: return (at) => file.getFloat64(at, true)
  }
}

/** A WAV file of float32 samples. */
export function writeWav(samples: readonly Float32Array[], sampleRate: number): Uint8Array {
  const channels = samples.length, length = samples[0]!.length, block = channels * 4, size = length * block, head = 58
  const file = Buffer.alloc(head + size)
  file.write('RIFF', 0, 'latin1')
  file.writeUInt32LE(head - 8 + size, 4)
  file.write('WAVEfmt ', 8, 'latin1')
  file.writeUInt32LE(18, 16)
  file.writeUInt16LE(ieeeFloat, 20)
  file.writeUInt16LE(channels, 22)
  file.writeUInt32LE(sampleRate, 24)
  file.writeUInt32LE(sampleRate * block, 28)
  file.writeUInt16LE(block, 32)
  file.writeUInt16LE(32, 34)
  file.write('fact', 38, 'latin1')                                           // formats other than PCM have this chunk
  file.writeUInt32LE(4, 42)
  file.writeUInt32LE(length, 46)
  file.write('data', 50, 'latin1')
  file.writeUInt32LE(size, 54)
  const interleaved = new Float32Array(length * channels)
  for (const [c, channel] of samples.entries()) for (let i = 0, at = c; i < length; i++, at += channels) interleaved[at] = channel[i]!
  file.set(bytesOf(interleaved), head)
  return file
}

function damaged(reason: string): InlayError {
  return new InlayError('CORRUPT', `The bytes are no sound: ${reason}.`)
}
