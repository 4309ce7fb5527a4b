/** Graphs with state: each row is a sequence of inputs, run in order, and what the graph gives as its state is fed to its next run. */
import type { Ctx, Port, Session, Tensor } from './contract.ts'
import { InlayError, quote } from './errors.ts'
import { isOutage } from './reconcile.ts'
import { vectorOf, type GraphItem } from './graph.ts'
import { checkFeeds, elementArrays, isTensor, shapeText, sizeOf } from './tensor.ts'
import { typedArrays, type TypedArrayName } from './value.ts'

type Tensors = Readonly<Record<string, Tensor>>
/** What belongs to the graph and not to a row. */
export interface SequenceOptions {
  /** Outputs that are fed back, with the inputs they are fed to. */
  readonly state: Readonly<Record<string, string>>
  readonly constants?: Readonly<Record<string, Tensor>>
  /** Which outputs are given. Default: those that are no state. */
  readonly outputs?: readonly string[]
}

/**
 * For each row one result per element of its sequence, or the row's error, without the batch dimension. State begins as zeros, free dimensions of it being 1, and never passes from one
 * row to another. An element with one dimension less than its input is a batch of one.
 */
export async function runSequences(session: Session, rows: readonly (readonly GraphItem[])[], { state, constants = {}, outputs }: SequenceOptions, ctx: Ctx): Promise<readonly (readonly Tensors[] | Error)[]> {
  const fed = new Set(Object.values(state)), given = session.inputs.filter(({ name }) => !fed.has(name) && constants[name] === undefined)
  const wanted = outputs ?? session.outputs.map(({ name }) => name).filter((name) => state[name] === undefined)
  return Promise.all(rows.map((row, i) => one(row, i).catch((error: unknown) => {
    if (isOutage(error) || ctx.signal.aborted || !(error instanceof Error)) throw error
    return error
  })))

  async function one(row: readonly GraphItem[], i: number): Promise<readonly Tensors[]> {
    if (!Array.isArray(row)) throw new InlayError('INVALID_ARGUMENT', `Item ${i} is ${quote(row)}; a graph with state takes a list of inputs, which are run in order.`)
    let now: Tensors = Object.fromEntries(session.inputs.filter(({ name }) => fed.has(name)).map((port) => [port.name, zeros(port)]))
    const results: Tensors[] = []
    for (const [n, element] of row.entries()) {
      const feeds: Record<string, Tensor> = { ...constants, ...now }
      let batched = false
      for (const port of given) {
        const tensor = tensorAt(port, element, given.length === 1, `Item ${i}, element ${n}: `)
        batched ||= tensor.dims.length < port.dims.length
        feeds[port.name] = tensor.dims.length < port.dims.length ? { ...tensor, dims: [1, ...tensor.dims] } : tensor
      }
      checkFeeds(session.inputs.map((port) => (port.dims.length === 0 ? { ...port, dims: feeds[port.name]?.dims ?? [] } : port)), feeds, `Item ${i}, element ${n}: `)
      const made = await session.run(feeds, ctx)
      now = Object.fromEntries(Object.entries(state).map(([output, input]) => [input, made[output]!]))
      results.push(Object.fromEntries(wanted.map((name) => [name, batched && made[name]!.dims[0] === 1 ? { ...made[name]!, dims: made[name]!.dims.slice(1) } : made[name]!])))
    }
    return results
  }
}

function tensorAt(port: Port, element: GraphItem, only: boolean, subject: string): Tensor {
  if (only && ArrayBuffer.isView(element)) return vectorOf(port, element)
  if (only && isTensor(element)) return element
  const tensor = (element as Tensors)[port.name]
  if (!isTensor(tensor)) throw new InlayError('INVALID_ARGUMENT', `${subject}The input ${quote(port.name)} is missing; ${shapeText(port)} is expected.`)
  return tensor
}

function zeros({ name, type, dims }: Port): Tensor {
  const array = elementArrays[type], shape = dims.map((dim) => (typeof dim === 'number' ? dim : 1))
  if (array === undefined || array === 'string[]') throw new InlayError('UNSUPPORTED', `The state ${quote(name)} is of ${type}, which has no zero to begin with. Numbers are expected.`)
  const make = typedArrays[array as TypedArrayName]
  return { type, dims: shape, data: new make(new ArrayBuffer(sizeOf(shape) * make.BYTES_PER_ELEMENT)) }
}
