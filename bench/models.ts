/** The models of the benches, for Inlay and for the hand-written loop. */
import { readFileSync } from 'node:fs'
import ort from 'onnxruntime-node'
import { model, type ModelSpec, type Tensor } from '../index.ts'
import { wordPiece } from '../plugins/torch-onnx/index.ts'

export type ModelName = 'static' | 'heavy'
const vocab = new URL('../examples/emoji/model/vocab.txt', import.meta.url)
const graphs: Readonly<Record<ModelName, URL>> = { static: new URL('../examples/emoji/model/static-minilm-128-int8.onnx', import.meta.url), heavy: new URL('heavy.onnx', import.meta.url) }
export const dims: number = 128

const tokenize = wordPiece('tokenize@1', { vocab, maxTokens: 64 })

export function spec(name: ModelName): ModelSpec<string, Float32Array> {
  return model<string>(`bench_${name}`, { onnx: graphs[name], input: tokenize, shape: [dims] })
}

/** What somebody writes by hand: the same tokenizer, a session in this thread, one batch at a time. */
export async function byHand(name: ModelName): Promise<(texts: readonly string[]) => Promise<Float32Array>> {
  const session = await ort.InferenceSession.create(readFileSync(graphs[name]))
  return async (texts) => {
    const rows = await tokenize.batch!(texts, { signal: new AbortController().signal }) as readonly Record<string, Tensor>[], length = rows[0]!['input_ids']!.dims[0]!
    const stack = (port: string): ort.Tensor => {
      const all = new BigInt64Array(rows.length * length)
      rows.forEach((row, i) => all.set(row[port]!.data as BigInt64Array, i * length))
      return new ort.Tensor('int64', all, [rows.length, length])
    }
    const outputs = await session.run({ input_ids: stack('input_ids'), attention_mask: stack('attention_mask') })
    return Object.values(outputs)[0]!.data as Float32Array
  }
}
