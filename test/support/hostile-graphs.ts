/** Graphs put together by hand, field by field, as hostile as they come. */
import { delimited } from '../../plugins/torch-onnx/protobuf.ts'

type Part = Uint8Array | readonly Uint8Array[]
const join = (...parts: readonly Part[]): Uint8Array => new Uint8Array(Buffer.concat(parts.flatMap((part) => (part instanceof Uint8Array ? [part] : [...part]))))
const varint = (value: bigint): number[] => (value < 128n ? [Number(value)] : [Number(value & 127n) | 128, ...varint(value >> 7n)])
export const int = (number: number, value: number | bigint): Uint8Array => Uint8Array.from([...varint(BigInt(number * 8)), ...varint(BigInt.asUintN(64, BigInt(value)))])
export const text = (number: number, value: string): Uint8Array => join(delimited(number, [new TextEncoder().encode(value)]))
export const message = (number: number, ...parts: readonly Part[]): Uint8Array => join(delimited(number, [join(...parts)]))

/** `elem` is ONNX's number of the element type, 1 is float32. */
export const port = (number: 11 | 12, name: string, elem = 1, dims: readonly (string | number)[] = ['n']): Uint8Array => message(number, text(1, name), message(2, message(1, int(1, elem), message(2, ...dims.map((dim) => message(1, typeof dim === 'string' ? text(2, dim) : int(1, dim)))))))
export const node = (op: string, inputs: readonly string[], outputs: readonly string[], ...more: readonly Uint8Array[]): Uint8Array => message(1, ...inputs.map((name) => text(1, name)), ...outputs.map((name) => text(2, name)), text(4, op), ...more)
export const tensor = (number: number, name: string, elem: number, dims: readonly (number | bigint)[], ...more: readonly Uint8Array[]): Uint8Array => message(number, ...dims.map((dim) => int(1, dim)), int(2, elem), text(8, name), ...more)
export const raw = (bytes: number): Uint8Array => message(9, new Uint8Array(bytes))
export const outside = (location: string, length = 8, offset = 0): Uint8Array => join(...Object.entries({ location, offset: String(offset), length: String(length) }).map(([key, value]) => message(13, text(1, key), text(2, value))), int(14, 1))
export const model = (graph: readonly Uint8Array[], { ir = 8, opset = 17, more = [] }: { readonly ir?: number; readonly opset?: number; readonly more?: readonly Uint8Array[] } = {}): Uint8Array => join(int(1, ir), message(7, ...graph, text(2, 'g')), message(8, text(1, ''), int(2, opset)), ...more)

const x = port(11, 'x'), y = port(12, 'y'), add = node('Add', ['x', 'w'], ['y']), same = node('Identity', ['x'], ['y'])
/** y = x. */
export const good: Uint8Array = model([same, x, y])
/** y = x + w, with w of two float32 in the file `location`. */
export const withWeights = (location: string, length = 8, offset = 0): Uint8Array => model([add, tensor(5, 'w', 1, [2], outside(location, length, offset)), x, y])

const bytes = (value: string): Uint8Array => new TextEncoder().encode(value)
const typed = (kind: number, number: 11 | 12 = 12): Uint8Array => message(number, text(1, number === 11 ? 'x' : 'y'), message(2, message(kind, message(1, message(1, int(1, 1))))))
const sized = (elem: number, dims: readonly (number | bigint)[], ...more: readonly Uint8Array[]): Uint8Array => model([add, tensor(5, 'w', elem, dims, ...more), x, y])
const nested = (depth: number): Uint8Array => (depth === 0 ? new Uint8Array(0) : node('If', ['c'], ['y'], message(5, text(1, 'then_branch'), message(6, nested(depth - 1)))))
const callsItself = message(25, text(1, 'f'), text(4, 'a'), text(5, 'b'), message(7, text(1, 'a'), text(2, 'b'), text(4, 'f'), text(7, 'mine')), message(9, text(1, 'mine'), int(2, 1)), text(10, 'mine'))

/** Name, bytes, and what the refusal says. */
export const hostile: readonly (readonly [name: string, graph: Uint8Array, says: RegExp])[] = [
  ['nothing', new Uint8Array(0), /^INVALID_ARGUMENT .* they are empty\.$/],
  ['a truncated file', good.subarray(0, good.length - 20), /^INVALID_ARGUMENT .* damaged one/],
  ['a Git LFS pointer', bytes('version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n'), /^INVALID_ARGUMENT .* Git LFS pointer.* git lfs pull\.$/],
  ['a web page', bytes('\n<!DOCTYPE html><html><body>Not found</body></html>'), /^INVALID_ARGUMENT .* web page/],
  ['a PyTorch checkpoint', Uint8Array.from([80, 75, 3, 4, 20, 0, 0, 0]), /^INVALID_ARGUMENT .* torch\.onnx\.export\.$/],
  ['some JSON', bytes('{"model": 1}'), /^INVALID_ARGUMENT .* no ONNX graph/],
  ['a protocol buffer without a graph', int(1, 8), /^INVALID_ARGUMENT .* no graph in them/],
  ['an IR version of the future', model([same, x, y], { ir: 99 }), /^UNSUPPORTED .* IR version/i],
  ['an opset of the future', model([same, x, y], { opset: 99 }), /^UNSUPPORTED .*[Oo]pset/],
  ['an unknown operator', model([node('Nonesuch', ['x'], ['y']), x, y]), /^UNSUPPORTED .*Nonesuch/],
  ['an unknown domain', model([node('Thing', ['x'], ['y'], text(7, 'com.nobody')), x, y]), /^(UNSUPPORTED|INVALID_ARGUMENT) .*(com\.nobody|Thing)/],
  ...([[22, 'int4'], [21, 'uint4'], [17, 'float8e4m3fn'], [16, 'bfloat16'], [14, 'complex64']] as const).flatMap(([elem, name]) => [
    [`an output of ${name}`, model([node('Cast', ['x'], ['y'], message(5, text(1, 'to'), int(3, elem), int(20, 2))), x, port(12, 'y', elem)], { opset: 21, ir: 10 }), new RegExp(`^UNSUPPORTED The output "y" .* ${name}`)] as const,
    [`an input of ${name}`, model([node('Cast', ['x'], ['y'], message(5, text(1, 'to'), int(3, 1), int(20, 2))), port(11, 'x', elem), y], { opset: 21, ir: 10 }), new RegExp(`^UNSUPPORTED The input "x" .* ${name}`)] as const,
  ]),
  ['an int4 output that the file does not declare', model([node('Cast', ['x'], ['y'], message(5, text(1, 'to'), int(3, 22), int(20, 2))), x, message(12, text(1, 'y'))], { opset: 21, ir: 10 }), /^(UNSUPPORTED|INVALID_ARGUMENT) /],
  ['a sequence output', model([node('SequenceConstruct', ['x'], ['y']), x, typed(4)]), /^UNSUPPORTED The output "y" .* a sequence/],
  ['a map output', model([same, x, typed(5)]), /^UNSUPPORTED The output "y" .* a map/],
  ['an optional input', model([node('OptionalGetElement', ['x'], ['y']), typed(9, 11), y]), /^UNSUPPORTED The input "x" .* an optional/],
  ['a tensor of terabytes', sized(1, [2 ** 20, 2 ** 20], raw(8)), /^INVALID_ARGUMENT .* \[1048576,1048576\], which is \d+ bytes/],
  ['dimensions whose product wraps', sized(1, [2n ** 62n, 4n], raw(8)), /^INVALID_ARGUMENT .* more than fits/],
  ['negative dimensions', sized(1, [-1, -2], raw(8)), /^INVALID_ARGUMENT .* cannot be negative/],
  ['too little data', sized(1, [4], raw(8)), /^INVALID_ARGUMENT .* takes 16 bytes, and 8 are there/],
  ['too much data', sized(1, [1], raw(8)), /^INVALID_ARGUMENT .* takes 4 bytes, and 8 are there/],
  ['no data', sized(1, [2]), /^INVALID_ARGUMENT .* takes 2 numbers, and 0 are there/],
  ['strings as raw bytes', sized(8, [1], raw(8)), /^INVALID_ARGUMENT .* strings as raw bytes/],
  ['an unknown element type', sized(77, [1], raw(8)), /^UNSUPPORTED .* element type 77/],
  ['weights in another file', withWeights('weights.bin'), /^INVALID_ARGUMENT .* second file \("weights\.bin"\)/],
  ['weights in /etc', withWeights('/etc/hostname'), /^INVALID_ARGUMENT .* second file/],
  ['weights at an address in memory', withWeights('*/_ORT_MEM_ADDR_/*', 8, 4096), /^INVALID_ARGUMENT .* second file/],
  ['a cycle', model([node('Add', ['x', 'b'], ['y']), node('Identity', ['y'], ['b']), x, y]), /^INVALID_ARGUMENT .*(cycl|acyclic|sorted|topolog|not output)/i],
  ['a function that calls itself', model([node('f', ['x'], ['y'], text(7, 'mine')), x, y], { more: [message(8, text(1, 'mine'), int(2, 1)), callsItself] }), /^INVALID_ARGUMENT .* calls itself/],
  ['graphs within graphs without end', model([nested(60), x, y]), /^INVALID_ARGUMENT .* nested/],
  ['a node that reads what is nowhere', model([node('Add', ['x', 'nowhere'], ['y']), x, y]), /^INVALID_ARGUMENT .*nowhere/],
]
