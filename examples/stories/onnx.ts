/** Writes the ONNX graph of a linear layer, so that the stories run without files: the messages of onnx.proto, as far as such a graph goes. */

/** What torch.nn.Flatten and torch.nn.Linear are after `torch.onnx.export`: `weights` are [outputs, inputs], in rows; `input` are the dimensions of one input. */
export function linearGraph({ input, weights, bias }: { readonly input: readonly number[]; readonly weights: Float32Array; readonly bias: Float32Array }): Uint8Array {
  const features = input.reduce((a, b) => a * b)
  const graph = message(
    [1, message([1, 'x'], [2, 'flat'], [4, 'Flatten'])],
    [1, message([1, 'flat'], [1, 'weights'], [1, 'bias'], [2, 'y'], [4, 'Gemm'], [5, message([1, 'transB'], [3, 1], [20, 2])])],
    [2, 'linear'],
    [5, initializer('weights', [bias.length, features], weights)], [5, initializer('bias', [bias.length], bias)],
    [11, port('x', input)], [12, port('y', [bias.length])],
  )
  return message([1, 8], [7, graph], [8, message([1, ''], [2, 17])])
}

const float32 = 1

function initializer(name: string, dims: readonly number[], { buffer, byteOffset, byteLength }: Float32Array): Uint8Array {
  return message(...dims.map((dim) => [1, dim] as const), [2, float32], [8, name], [9, new Uint8Array(buffer, byteOffset, byteLength)])
}
/** An input or output of float32, with a free batch dimension before its own. */
function port(name: string, dims: readonly number[]): Uint8Array {
  const shape = message([1, message([2, 'batch'])], ...dims.map((dim) => [1, message([1, dim])] as const))
  return message([1, name], [2, message([1, message([1, float32], [2, shape])])])
}

/** A message of fields by their number: a whole number, a text, or the bytes of another message. */
function message(...fields: readonly (readonly [number, number | string | Uint8Array])[]): Uint8Array {
  return Buffer.concat(fields.flatMap(([field, value]) => {
    if (typeof value === 'number') return [Buffer.from([...varint(field * 8), ...varint(value)])]
    const bytes = Buffer.from(value as Uint8Array)
    return [Buffer.from([...varint(field * 8 + 2), ...varint(bytes.length)]), bytes]
  }))
}
function varint(n: number): readonly number[] {
  return n < 128 ? [n] : [n % 128 + 128, ...varint(Math.floor(n / 128))]
}
