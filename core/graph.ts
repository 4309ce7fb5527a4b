/** Runs a graph over a list of items: equal shapes are stacked into batches, the outputs are taken apart again. */
import type { Ctx, Port, Session, Tensor, TypedArray } from './contract.ts'
import { InlayError, quote } from './errors.ts'
import { arrayOf, checkFeeds, elementArrays, isTensor, shapeText } from './tensor.ts'
import { bytesOf, isDoc, typedArrays, type TypedArrayName } from './value.ts'

type Tensors = Readonly<Record<string, Tensor>>
/** One row, without a batch dimension: tensors by input name; or a tensor, or the elements of a rank 1 tensor, for the only input. */
export type GraphItem = Tensor | Tensors | TypedArray | Uint8Array

/**
 * The outputs of `session` for each item, in order, each without the batch dimension and with memory of its own. An input with one dimension more than the
 * item is batched along its first: a free one takes up to `maxBatch` (256) items, a fixed one exactly that many, the last batch being padded with its last
 * item. An input with as many dimensions as the item has no batch; such a graph runs once per item.
 */
export async function runGraph(session: Session, items: readonly GraphItem[], ctx: Ctx, { maxBatch = 256 }: { readonly maxBatch?: number } = {}): Promise<readonly Tensors[]> {
  const rows = items.map((item, i) => rowOf(session.inputs, item, `Item ${i}: `))
  const results: Tensors[] = []
  for (const indexes of Map.groupBy(rows.keys(), (i) => shapesOf(session.inputs, rows[i]!)).values()) {
    const batch = batchOf(session.inputs, rows[indexes[0]!]!, maxBatch)
    for (let at = 0; at < indexes.length; at += batch.items) {
      const part = indexes.slice(at, at + batch.items)
      const size = batch.fixed || part.length
      const padded = Array.from({ length: size }, (_, i) => rows[part[Math.min(i, part.length - 1)]!]!)
      const feeds = Object.fromEntries(session.inputs.map(({ name }) => [name, batch.inputs.has(name) ? stack(padded.map((row) => row[name]!)) : padded[0]![name]!]))
      const outputs = await session.run(feeds, ctx)
      part.forEach((index, i) => { results[index] = batch.inputs.size === 0 ? outputs : unstack(outputs, i, size) })
    }
  }
  return results
}

function rowOf(inputs: readonly Port[], item: GraphItem, subject: string): Tensors {
  const bare = ArrayBuffer.isView(item)
  if (inputs.length !== 1 && (bare || isTensor(item))) {
    throw new InlayError('INVALID_ARGUMENT', `${subject}${bare ? `A ${arrayOf(item)}` : 'A single tensor'} was given, and the graph has ${inputs.length} inputs. Give tensors by name: ${inputs.map((port) => quote(port.name)).join(', ')}.`)
  }
  const only = inputs[0]!
  if (!isDoc(item) && !bare) throw new InlayError('INVALID_ARGUMENT', `${subject}${quote(item)} was given; a tensor { type, dims, data }, a typed array, or an object of tensors by input name is expected.`)
  const row: Tensors = bare ? { [only.name]: vectorOf(only, item) } : isTensor(item) ? { [only.name]: item } : item
  const ports = inputs.map((port) => (row[port.name]?.dims?.length === port.dims.length ? port : { ...port, dims: port.dims.slice(1) }))
  checkFeeds(ports, row, subject)
  return row
}

/** The port decides between types that lie in the same array. */
function vectorOf(port: Port, data: TypedArray | Uint8Array): Tensor {
  const array = arrayOf(data)
  const type = elementArrays[port.type] === array ? port.type : Object.keys(elementArrays).find((name) => elementArrays[name] === array) ?? array
  return { type, dims: [data.length], data }
}

/** Equal for rows that may share a batch. */
function shapesOf(inputs: readonly Port[], row: Tensors): string {
  return inputs.map(({ name }) => shapeText(row[name]!)).join()
}

/** Which inputs are stacked, how many items a run takes, and the size that it must have where the graph fixes it. */
function batchOf(inputs: readonly Port[], row: Tensors, maxBatch: number): { readonly inputs: ReadonlySet<string>; readonly items: number; readonly fixed?: number } {
  const batched = inputs.filter(({ name, dims }) => dims.length > row[name]!.dims.length)
  const names = new Set(batched.map(({ name }) => name))
  const sizes = new Set(batched.map(({ dims: [first] }) => (typeof first === 'number' ? first : undefined)))
  if (sizes.size > 1) {
    throw new InlayError('INVALID_ARGUMENT', `The inputs ${batched.map((port) => `${quote(port.name)} ${shapeText(port)}`).join(' and ')} do not share a first dimension, so items cannot be stacked along it. Export the graph with one free batch dimension, or give items that are whole tensors.`)
  }
  const [fixed] = sizes
  const items = batched.length < inputs.length ? 1 : fixed || maxBatch
  return { inputs: names, items, ...(fixed === undefined ? {} : { fixed }) }
}

/** One tensor of equal ones, along a new first dimension. */
function stack(tensors: readonly Tensor[]): Tensor {
  const { type, dims, data } = tensors[0]!
  const stacked = [tensors.length, ...dims]
  if (!ArrayBuffer.isView(data)) return { type, dims: stacked, data: tensors.flatMap((tensor) => tensor.data as readonly string[]) }
  const bytes = new Uint8Array(tensors.length * data.byteLength)
  tensors.forEach((tensor, i) => { bytes.set(bytesOf(tensor.data as Uint8Array), i * data.byteLength) })
  return { type, dims: stacked, data: new typedArrays[arrayOf(data) as TypedArrayName](bytes.buffer) }
}

/** Part `i` of `size` of each tensor along its first dimension, copied. */
function unstack(outputs: Tensors, i: number, size: number): Tensors {
  return Object.fromEntries(Object.entries(outputs).map(([name, output]) => {
    if (output.dims[0] !== size) {
      throw new InlayError('INVALID_ARGUMENT', `The output ${quote(name)} is ${shapeText(output)} for a batch of ${size}: its first dimension is not the batch, so it has no value per item. Export the graph with the batch first in every output.`)
    }
    return [name, { type: output.type, dims: output.dims.slice(1), data: partOf(output.data, i, size) }]
  }))
}

function partOf(data: Tensor['data'], i: number, size: number): Tensor['data'] {
  if (!ArrayBuffer.isView(data)) return data.slice(i * data.length / size, (i + 1) * data.length / size)
  const length = data.byteLength / size
  return new typedArrays[arrayOf(data) as TypedArrayName](bytesOf(data).slice(i * length, (i + 1) * length).buffer)
}
