/** What the programs of chaos keep in step, and the same computed cleanly. */
import { listener, model, step, type Spec } from '../../index.ts'

/** A document as any of the writers makes it: each field may be absent. */
export interface Doc { x?: number | null; y?: number; n?: number; t?: string; tags?: string[] }

export const collection = 'docs'
/** The value of `x` on which the model fails. */
export const poison = 13

const tenfold = (x: number): number => {
  if (x === poison) throw new Error(`${poison} is not possible`)
  return x * 10
}
const sum = ({ x_tenfold: a, y = 0 }: { readonly x_tenfold: number; readonly y?: number }): number => a + y
const embed = (t: string): Float32Array => Float32Array.of(t.length, [...t].reduce((total, c) => total + c.codePointAt(0)!, 0) % 101, 1)
const total = (v: Float32Array): number => v.reduce((a, b) => a + b, 0)
const twice = (y: number): number => y * 2

/** All kinds of listeners: a field, a chain of several keys, vectors of a filter that the database runs, a chain on those, and a filter that core runs. `around` delays and counts each call of a model. */
export function listeners(around: (rows: number) => Promise<void>): readonly Spec<unknown>[] {
  const each = <I, O>(name: `${string}@${number}`, of: (input: I) => O): ReturnType<typeof step<readonly I[], readonly O[]>> => step(name, async (inputs: readonly I[]) => {
    await around(inputs.length)
    return inputs.map(of)
  })
  const a = listener({ model: model('tenfold', { run: each('tenfold@1', tenfold) }), on: collection, key: 'x' })
  const v = listener({ model: model('embed', { run: each('embed@1', embed), shape: [3] }), on: collection, key: 't', where: { n: { $gt: 50 } } })
  return [
    a, listener({ model: model('sum', { run: each('sum@1', sum) }), on: collection, key: [a, 'y'], name: 'sum', maxChunkSize: 20 }),
    v, listener({ model: model('total', { run: each('total@1', total) }), on: collection, key: v }),
    listener({ model: model('twice', { run: each('twice@1', twice) }), on: collection, key: 'y', where: { tags: { $size: 2 } } }),
  ]
}

/** `_outputs` of a document, computed cleanly; undefined where it has none. */
export function outputsOf({ x, y, n, t, tags }: Doc): Record<string, Record<string, unknown>> | undefined {
  const outputs: Record<string, Record<string, unknown>> = {}
  if (typeof x === 'number' && x !== poison) {
    outputs['x'] = { tenfold: tenfold(x) }
    outputs['sum'] = { sum: sum({ x_tenfold: tenfold(x), ...(y === undefined ? {} : { y }) }) }
  }
  if (n !== undefined && n > 50 && t !== undefined) {
    outputs['t'] = { embed: embed(t) }
    outputs['t_embed'] = { total: total(embed(t)) }
  }
  if (tags?.length === 2 && y !== undefined) outputs['y'] = { twice: twice(y) }
  return Object.keys(outputs).length === 0 ? undefined : outputs
}
