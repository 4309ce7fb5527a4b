/** The wire format of protocol buffers, as far as an ONNX file needs it: fields are read where they lie, and put together again. */

/** One field of a message. `value` is that of a varint (wire type 0), `bytes` the content of any other; `all` is the field as it stands, key included. */
export interface Field { readonly number: number; readonly wire: number; readonly value: bigint; readonly bytes: Uint8Array; readonly all: Uint8Array }

/** Thrown for bytes that are no protocol buffer. */
export class Malformed extends Error {}

/** The fields of a message, in order; views, no copies. */
export function* fieldsOf(message: Uint8Array): Generator<Field> {
  let at = 0
  const varint = (): bigint => {
    let low = 0
    for (let shift = 0; shift < 28; shift += 7) {
      const byte = next()
      low |= (byte & 127) << shift
      if (byte < 128) return BigInt(low)
    }
    let high = 0n
    for (let shift = 28n; shift < 70n; shift += 7n) {
      const byte = next()
      high |= BigInt(byte & 127) << shift
      if (byte < 128) return BigInt.asUintN(64, high | BigInt(low))
    }
    throw new Malformed('a number in it is longer than 64 bits')
  }
  const next = (): number => {
    if (at >= message.length) throw new Malformed('it ends in the middle of a field')
    return message[at++]!
  }
  const take = (length: number): Uint8Array => {
    if (at + length > message.length) throw new Malformed('it ends in the middle of a field')
    return message.subarray(at, at += length)
  }
  while (at < message.length) {
    const start = at, key = Number(varint()), number = Math.floor(key / 8), wire = key % 8
    if (number === 0 || key >= 2 ** 32) throw new Malformed('a field in it has no valid number')
    let value = 0n, bytes: Uint8Array = nothing
    if (wire === 0) value = varint()
    else if (wire === 1) bytes = take(8)
    else if (wire === 2) bytes = take(Number(varint()))
    else if (wire === 5) bytes = take(4)
    else throw new Malformed(`a field in it is of the wire type ${wire}, which is not in use`)
    yield { number, wire, value, bytes, all: message.subarray(start, at) }
  }
}
const nothing = new Uint8Array(0)

/** The numbers of a repeated varint, which may be packed. */
export function numbersOf({ wire, value, bytes }: Field): readonly bigint[] {
  if (wire === 0) return [value]
  const numbers: bigint[] = []
  for (let at = 0; at < bytes.length;) {
    let number = 0n, byte = 128
    for (let shift = 0n; byte >= 128; shift += 7n) {
      if (at === bytes.length || shift > 63n) throw new Malformed('it ends in the middle of a number')
      byte = bytes[at++]!
      number |= BigInt(byte & 127) << shift
    }
    numbers.push(BigInt.asUintN(64, number))
  }
  return numbers
}

/** How many varints lie in a packed field, without reading them. */
export function countOf({ wire, bytes }: Field): number {
  return wire === 0 ? 1 : bytes.reduce((count, byte) => count + (byte < 128 ? 1 : 0), 0)
}

export function textOf({ bytes }: Field): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('utf8')
}

/** A length-delimited field of these parts, which are not copied. */
export function delimited(number: number, parts: readonly Uint8Array[]): readonly Uint8Array[] {
  return [Uint8Array.from([...varintOf(number * 8 + 2), ...varintOf(parts.reduce((length, part) => length + part.length, 0))]), ...parts]
}
function varintOf(number: number): readonly number[] {
  return number < 128 ? [number] : [number % 128 + 128, ...varintOf(Math.floor(number / 128))]
}
