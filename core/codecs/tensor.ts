/** Tensors as bytes: the .npy file that numpy writes and reads, version 1.0, little-endian, in C order. */
import { codec, type CodecSpec } from '../codec.ts'
import type { Tensor } from '../contract.ts'
import { checkOptions, InlayError, messageOf, quote } from '../errors.ts'
import { arrayOf, elementArrays, isTensor, shapeText, sizeOf } from '../tensor.ts'
import { bytesOf, typedArrays, type TypedArrayName } from '../value.ts'

/** What a tensor codec takes; absent: any. */
export interface TensorOptions {
  /** The element type: float32, int64, bool, … */
  readonly type?: string
  /** The dimensions; null or `'?'` is any. */
  readonly dims?: readonly (number | null | '?')[]
}

const descrs: Readonly<Record<string, string>> = {
  bool: '|b1', int8: '|i1', uint8: '|u1', int16: '<i2', uint16: '<u2', int32: '<i4', uint32: '<u4', int64: '<i8', uint64: '<u8', float16: '<f2', float32: '<f4', float64: '<f8',
}

/** A codec of tensors `{ type, dims, data }`. With `type` and `dims` only those fit: a float64 tensor is refused by a float32 codec, before anything is stored and when it is read. */
export function tensorCodec(id: string = 'tensor', options: TensorOptions = {}): CodecSpec<Tensor> {
  checkOptions(options, ['type', 'dims'], `tensorCodec(${quote(id)}, …)`)
  const { type, dims } = options
  if (type !== undefined && descrs[type] === undefined) throw new InlayError('INVALID_ARGUMENT', `The codec ${quote(id)} is declared for elements of type ${quote(type)}; one of ${Object.keys(descrs).join(', ')} is expected.`)
  if (dims !== undefined && !dims.every((dim) => dim === null || dim === '?' || isSize(dim))) throw new InlayError('INVALID_ARGUMENT', `The codec ${quote(id)} is declared for the dimensions ${quote(dims)}; whole numbers from 0 are expected, and null where any fits.`)
  const expects = `${type ?? 'any type'}[${dims === undefined ? '…' : dims.map((dim) => dim ?? '?').join(',')}]`
  const fits = (tensor: Tensor): boolean => (type === undefined || tensor.type === type) && (dims === undefined || (dims.length === tensor.dims.length && dims.every((dim, i) => typeof dim !== 'number' || dim === tensor.dims[i])))
  return codec<Tensor>({
    id,
    expects,
    is: (value): value is Tensor => isTensor(value) && isWhole(value) && fits(value),
    encode: writeNpy,
    decode(bytes) {
      const tensor = readNpy(bytes)
      if (!fits(tensor)) throw new InlayError('CORRUPT', `The bytes hold ${shapeText(tensor)}; ${expects} is expected.`)
      return tensor
    },
  })
}

function isSize(dim: unknown): dim is number {
  return Number.isSafeInteger(dim) && (dim as number) >= 0
}
/** As many elements as its dimensions say, in the array of its type; texts have no .npy form. */
function isWhole({ type, dims, data }: Tensor): boolean {
  return descrs[type] !== undefined && dims.every(isSize) && arrayOf(data) === elementArrays[type] && (data as ArrayLike<unknown>).length === sizeOf(dims)
}

/** A tensor as the bytes of a .npy file. */
export function writeNpy({ type, dims, data }: Tensor): Uint8Array {
  const dict = `{'descr': '${descrs[type]}', 'fortran_order': False, 'shape': (${dims.join(', ')}${dims.length === 1 ? ',' : ''}), }`
  const header = `${dict.padEnd(Math.ceil((dict.length + 11) / 64) * 64 - 11)}\n`                 // so that the elements begin at a multiple of 64
  const elements = bytesOf(data as Uint8Array), file = new Uint8Array(10 + header.length + elements.length)
  file.set([0x93, ...Buffer.from('NUMPY', 'latin1'), 1, 0, header.length & 255, header.length >> 8])
  file.set(Buffer.from(header, 'latin1'), 10)
  file.set(elements, 10 + header.length)
  return file
}

/** The tensor of a .npy file of any version, of either byte order. */
export function readNpy(bytes: Uint8Array): Tensor {
  const file = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength), long = file[6] === 1 ? 10 : 12
  if (file.length < long || file.toString('latin1', 0, 6) !== '\x93NUMPY' || file[6]! < 1 || file[6]! > 3) throw damaged('they do not begin as a .npy file does')
  const start = long + (long === 10 ? file.readUInt16LE(8) : file.readUInt32LE(8))
  if (start > file.length) throw damaged('the header is cut off')
  const { descr, order, dims } = headerOf(file.toString('latin1', long, start))
  const type = Object.keys(descrs).find((name) => descrs[name]!.slice(1) === descr.slice(1))
  if (type === undefined || !/^[<>=|]/.test(descr)) throw new InlayError('UNSUPPORTED', `The .npy file has elements of the kind ${quote(descr)}; numbers and booleans of at most 8 bytes are expected.`)
  if (order && dims.length > 1) throw new InlayError('UNSUPPORTED', 'The .npy file is in Fortran order; C order is expected. Write it with numpy.save(file, numpy.ascontiguousarray(array)).')
  const make = typedArrays[elementArrays[type] as TypedArrayName], size = make.BYTES_PER_ELEMENT
  if (file.length - start !== sizeOf(dims) * size) throw damaged(`${type}[${dims.join(',')}] takes ${sizeOf(dims) * size} bytes, and ${file.length - start} are there`)
  const elements = new Uint8Array(file.subarray(start))                      // a copy: aligned, and nobody else's
  if (descr.startsWith('>')) swap(elements, size)
  if (type === 'bool' && elements.some((element) => element > 1)) throw damaged('a boolean is neither 0 nor 1')
  return { type, dims, data: new make(elements.buffer) }
}

/** The header is a literal of Python, of which only what numpy writes is understood. */
function headerOf(text: string): { readonly descr: string; readonly order: boolean; readonly dims: readonly number[] } {
  const json = text.replaceAll("'", '"').replace('True', 'true').replace('False', 'false').replace('(', '[').replace(')', ']').replace(/,(\s*[\]}])/g, '$1')
  let header: Readonly<Record<string, unknown>> | null
  try {
    header = JSON.parse(json) as typeof header
  } catch (error) {
    throw damaged(`the header ${quote(text.trim())} is not understood: ${messageOf(error)}`)
  }
  const { descr, fortran_order: order, shape } = header ?? {}
  if (Array.isArray(descr)) throw new InlayError('UNSUPPORTED', 'The .npy file has records as elements; numbers are expected. Store each field by itself.')
  if (typeof descr !== 'string' || typeof order !== 'boolean' || !Array.isArray(shape) || !shape.every(isSize)) throw damaged(`the header ${quote(text.trim())} is not understood`)
  return { descr, order, dims: shape }
}

function swap(elements: Uint8Array, size: number): void {
  const buffer = Buffer.from(elements.buffer)
  if (size === 2) buffer.swap16()
  else if (size === 4) buffer.swap32()
  else if (size === 8) buffer.swap64()
}

function damaged(reason: string): InlayError {
  return new InlayError('CORRUPT', `The bytes are no tensor: ${reason}.`)
}
