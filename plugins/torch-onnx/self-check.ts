/** Compares a device with the CPU on random inputs. */
import type { Port, Tensor } from '../../core/contract.ts'
import { InlayError, quote } from '../../core/errors.ts'
import { elementArrays, sizeOf } from '../../core/tensor.ts'
import { typedArrays, type TypedArrayName } from '../../core/value.ts'
import type { Tensors } from './thread.ts'

type Run = (feeds: Tensors) => Promise<Tensors>

/** Why the results of `one` are not those of `other`, undefined where they are; free dimensions are 2. Throws where the graph takes no such inputs. */
export async function agree(one: Run, other: Run, inputs: readonly Port[]): Promise<string | undefined> {
  const feeds = Object.fromEntries(inputs.map((port) => [port.name, randomOf(port)]))
  const expected = await other(feeds).catch((error: unknown) => { throw new InlayError('UNSUPPORTED', 'its results cannot be compared with those of the CPU, because the graph takes no random inputs', { cause: error }) })
  const got = await one(feeds)
  for (const [name, { type, dims, data }] of Object.entries(expected)) {
    const ours = got[name]
    if (ours === undefined || ours.dims.join() !== dims.join() || ours.type !== type) return `its output ${quote(name)} is of another shape than the CPU's`
    const numbers = (data: Tensor['data']): readonly unknown[] => Array.from(data as ArrayLike<unknown>, (value) => (type === 'float16' ? halfOf(value as number) : value))
    const mine = numbers(ours.data), theirs = numbers(data), bad = theirs.findIndex((value, i) => !near(mine[i], value))
    if (bad !== -1) return `its output ${quote(name)} is ${String(mine[bad])} where the CPU's is ${String(theirs[bad])}`
  }
  return undefined
}

function near(a: unknown, b: unknown): boolean {
  if (typeof a !== 'number' || typeof b !== 'number') return a === b
  return Object.is(a, b) || a === b || Math.abs(a - b) <= 1e-3 + 1e-2 * Math.abs(b)
}

function halfOf(bits: number): number {
  const exponent = (bits >> 10) & 31, fraction = bits & 1023, sign = bits >> 15 === 0 ? 1 : -1
  if (exponent === 31) return fraction === 0 ? sign * Infinity : Number.NaN
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15))
}

/** Floats between -1 and 1; 0 or 1 in other types, which are often positions and masks. */
function randomOf({ type, dims }: Port): Tensor {
  const shape = dims.map((dim) => (typeof dim === 'number' ? dim : 2)), size = sizeOf(shape), array = elementArrays[type]
  if (type === 'string') return { type, dims: shape, data: Array.from({ length: size }, () => 'a') }
  const bit = (): number => Math.round(Math.random())
  const values = Array.from({ length: size }, () => (type.startsWith('float') ? (type === 'float16' ? 0x3800 * bit() : Math.random() * 2 - 1) : bit()))
  const maker = typedArrays[array as TypedArrayName]
  return { type, dims: shape, data: array?.startsWith('Big') === true ? new maker(values.map(BigInt)) : new maker(values) }
}
