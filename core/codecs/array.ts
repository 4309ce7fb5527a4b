/** Typed arrays of one checked type and length, as nothing but their elements: what `array.tobytes()` gives in Python. */
import { codec, type CodecSpec } from '../codec.ts'
import type { TypedArray } from '../contract.ts'
import { checkOptions, InlayError, quote } from '../errors.ts'
import { bytesOf, isTypedArray, typedArrayName, typedArrays } from '../value.ts'

const arrays = {
  int8: 'Int8Array', uint8: 'Uint8Array', int16: 'Int16Array', uint16: 'Uint16Array', int32: 'Int32Array', uint32: 'Uint32Array', int64: 'BigInt64Array', uint64: 'BigUint64Array', float32: 'Float32Array', float64: 'Float64Array',
} as const
/** The types of elements that an array codec can have. */
export type ArrayType = keyof typeof arrays
/** The typed array of a type of elements. */
export type ArrayOf<T extends ArrayType> = InstanceType<(typeof globalThis)[(typeof arrays)[T]]>

/** A codec of typed arrays, stored as raw little-endian bytes. With `length`, others are refused, before anything is stored and when it is read. */
export function arrayCodec<T extends ArrayType>(id: string, options: { readonly type: T; readonly length?: number }): CodecSpec<ArrayOf<T>> {
  checkOptions(options, ['type', 'length'], `arrayCodec(${quote(id)}, …)`)
  const { type, length } = options
  if (!Object.hasOwn(arrays, type)) throw new InlayError('INVALID_ARGUMENT', `The codec ${quote(id)} is declared for elements of type ${quote(type)}; one of ${Object.keys(arrays).join(', ')} is expected.`)
  if (length !== undefined && !(Number.isSafeInteger(length) && length >= 0)) throw new InlayError('INVALID_ARGUMENT', `The codec ${quote(id)} is declared for ${quote(length)} elements; a whole number from 0 is expected.`)
  const name = arrays[type], make = typedArrays[name], expects = `${type}[${length ?? '?'}]`
  const fits = (array: TypedArray | Uint8Array): boolean => length === undefined || array.length === length
  return codec<ArrayOf<T>>({
    id,
    expects,
    is: (value): value is ArrayOf<T> => isTypedArray(value) && typedArrayName(value) === name && fits(value),
    encode: (array) => new Uint8Array(bytesOf(array)),
    decode(bytes) {
      const array = bytes.byteLength % make.BYTES_PER_ELEMENT === 0 ? new make(new Uint8Array(bytes).buffer) : undefined
      if (array === undefined || !fits(array)) throw new InlayError('CORRUPT', `The content has ${bytes.byteLength} bytes; ${expects} of ${make.BYTES_PER_ELEMENT} bytes each is expected.`)
      return array as ArrayOf<T>
    },
  })
}
