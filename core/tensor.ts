/** Tensors: how their elements lie in memory, and what does not fit a port. Element types are named as ONNX names them. */
import type { Port, Tensor, TensorData } from './contract.ts'
import { InlayError, quote } from './errors.ts'
import { typedArrayName, type TypedArrayName } from './value.ts'

/** The array that holds the elements of each type that can be held; of two types with the same array the first is the one it has by itself. */
export const elementArrays: Readonly<Record<string, TypedArrayName | 'string[]'>> = {
  float32: 'Float32Array', float64: 'Float64Array', int8: 'Int8Array', int16: 'Int16Array', int32: 'Int32Array', int64: 'BigInt64Array',
  uint8: 'Uint8Array', uint16: 'Uint16Array', uint32: 'Uint32Array', uint64: 'BigUint64Array', string: 'string[]',
  bool: 'Uint8Array',
  /** Its bits: not every Node has a Float16Array. */
  float16: 'Uint16Array',
}

/** The kind of array that `data` is, as `elementArrays` names it. */
export function arrayOf(data: TensorData): string {
  if (ArrayBuffer.isView(data)) return typedArrayName(data as Uint8Array)
  return data.every((element) => typeof element === 'string') ? 'string[]' : 'array of other values than strings'
}

export function isTensor(value: unknown): value is Tensor {
  if (typeof value !== 'object' || value === null) return false
  const { type, dims, data } = value as Partial<Record<keyof Tensor, unknown>>
  return typeof type === 'string' && Array.isArray(dims) && (ArrayBuffer.isView(data) || Array.isArray(data))
}

/** How many elements a tensor of these dimensions has. */
export function sizeOf(dims: readonly number[]): number {
  return dims.reduce((size, dim) => size * dim, 1)
}

/** A type and its dimensions for a message: `float32[batch,1,28,28]`. */
export function shapeText({ type, dims }: Pick<Port, 'type' | 'dims'>): string {
  return `${type}[${dims.join(',')}]`
}

/** Throws INVALID_ARGUMENT unless there is exactly one fitting tensor per port. `subject` begins the message: "Item 3: ". */
export function checkFeeds(ports: readonly Port[], feeds: Readonly<Record<string, Tensor>>, subject = ''): void {
  const refuse = (message: string): never => { throw new InlayError('INVALID_ARGUMENT', `${subject}${message}`) }
  for (const port of ports) {
    if (!Object.hasOwn(feeds, port.name)) refuse(`The input ${quote(port.name)} is missing; ${shapeText(port)} is expected.`)
    const fault = misfit(port, feeds[port.name]!)
    if (fault !== undefined) refuse(`The input ${quote(port.name)} ${fault}.`)
  }
  for (const name of Object.keys(feeds)) {
    if (!ports.some((port) => port.name === name)) refuse(`The graph has no input ${quote(name)}. It has ${ports.map((port) => `${quote(port.name)} ${shapeText(port)}`).join(', ') || 'none'}.`)
  }
}

function misfit(port: Port, tensor: Tensor): string | undefined {
  if (!isTensor(tensor)) return `expects a tensor { type, dims, data } of ${shapeText(port)} and was given ${quote(tensor)}`
  if (tensor.type !== port.type || !fits(port.dims, tensor.dims)) return `expects ${shapeText(port)} and was given ${shapeText(tensor)}`
  const array = arrayOf(tensor.data), length = (tensor.data as ArrayLike<unknown>).length
  if (array !== elementArrays[tensor.type]) return `expects the elements of ${shapeText(tensor)} as ${elementArrays[tensor.type]} and was given ${array}`
  if (length !== sizeOf(tensor.dims)) return `was given ${length} elements for ${shapeText(tensor)}, which has ${sizeOf(tensor.dims)}`
  return undefined
}

function fits(expected: readonly (number | string)[], dims: readonly number[]): boolean {
  return expected.length === dims.length && dims.every((dim, i) => Number.isSafeInteger(dim) && dim >= 0 && (typeof expected[i] === 'string' || expected[i] === dim))
}
