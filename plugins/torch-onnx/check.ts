/** Reads a graph before anything native does, and refuses what would be misread, misunderstood or fatal there. */
import { InlayError, quote, type ErrorCode } from '../../core/errors.ts'
import { elementArrays } from '../../core/tensor.ts'
import { countOf, fieldsOf, Malformed, numbersOf, textOf, type Field } from './protobuf.ts'

/** Where the parts of a model lie that hold tensors: messages within messages, by field number. */
export const messages: Readonly<Record<string, Readonly<Record<number, string>>>> = {
  model: { 7: 'graph', 25: 'function' },
  graph: { 1: 'node', 5: 'tensor', 15: 'sparse' },
  function: { 7: 'node', 11: 'attribute' },
  node: { 5: 'attribute' },
  attribute: { 5: 'tensor', 6: 'graph', 10: 'tensor', 11: 'graph', 22: 'sparse', 23: 'sparse' },
  sparse: { 1: 'tensor', 2: 'tensor' },
  tensor: {},
}
/** Protocol buffers are refused beyond these by every reader, ours must not overflow the stack. */
const maxDepth = 100
export const maxBytes: number = 2 ** 31 - 1

/** Calls `found` for each message of a model, outer ones first. `subject` begins errors: "The 12 bytes given". */
export function visit(model: Uint8Array, subject: string, found: (message: string, fields: readonly Field[]) => void): void {
  const walk = (message: string, bytes: Uint8Array, depth: number): void => {
    if (depth > maxDepth) throw new Malformed(`it is nested more than ${maxDepth} levels deep`)
    const fields = [...fieldsOf(bytes)], inner = messages[message]!
    found(message, fields)
    for (const field of fields) if (field.number in inner) walk(inner[field.number]!, field.bytes, depth + 1)
  }
  wellFormed(subject, () => { walk('model', model, 0) })
}
function wellFormed(subject: string, read: () => void): void {
  try {
    read()
  } catch (error) {
    if (error instanceof Malformed) throw refusal(subject, `are no ONNX graph, or a damaged one: ${error.message}. Export or download the file again`)
    throw error
  }
}

/** Throws unless `bytes` are a graph that is complete in itself, sound as far as can be told without running it, and has ports that can be passed. */
export function checkGraph(bytes: Uint8Array): void {
  const subject = subjectOf(bytes)
  checkKind(bytes, subject)
  let graph: readonly Field[] = []
  const calls = new Map<string, Set<string>>()
  visit(bytes, subject, (message, fields) => {
    if (message === 'tensor') checkTensor(tensorOf(fields), subject)
    if (message === 'graph') graph = graph.length === 0 ? fields : graph        // The first is the outermost.
    if (message === 'function') calls.set(functionName(fields, 1, 10, 13), new Set(nodesIn(fields, 7)))
  })
  if (graph.length === 0) throw refusal(subject, 'are no ONNX graph: there is no graph in them. Give the file that torch.onnx.export or another exporter wrote')
  checkCalls(calls, subject)
  wellFormed(subject, () => { checkPorts(graph) })
}

export function subjectOf(bytes: Uint8Array): string {
  return `The ${bytes.length} bytes given`
}

function refusal(subject: string, sentence: string, code: ErrorCode = 'INVALID_ARGUMENT'): InlayError {
  return new InlayError(code, `${subject} ${sentence}.`)
}

/** What is often given instead of a graph. */
export function checkKind(bytes: Uint8Array, subject: string): void {
  if (bytes.length === 0) throw refusal(subject, 'are no ONNX graph: they are empty')
  if (bytes.length > maxBytes) throw refusal(subject, `are too many for an ONNX graph: its format ends at ${maxBytes} bytes. Make the graph smaller: float16 or int8 weights`, 'UNSUPPORTED')
  const start = Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.length, 100)).toString('latin1')
  if (start.startsWith('version https://git-lfs')) throw refusal(subject, 'are a Git LFS pointer, not the ONNX graph that it stands for. Run: git lfs pull')
  if (/^\s*<(!doctype|html|\?xml)/i.test(start)) throw refusal(subject, 'are a web page, not an ONNX graph. Download the file itself ("raw" or "resolve" in its address)')
  if (start.startsWith('PK\x03\x04')) throw refusal(subject, 'are a zip archive, as torch.save writes, not an ONNX graph. Export the model with torch.onnx.export')
}

/** A tensor of the file, without its elements. */
interface StoredTensor {
  readonly name: string
  readonly type: number
  readonly dims: readonly bigint[]
  /** Bytes of raw data, where there are. */
  readonly raw: number | undefined
  /** Elements in the field of each other number. */
  readonly counts: Readonly<Record<number, number>>
  /** Location, offset and length of weights in another file. */
  readonly external: Readonly<Record<string, string>> | undefined
}
const data = { float: 4, int32: 5, string: 6, int64: 7, raw: 9, double: 10, uint64: 11 } as const

export function tensorOf(fields: readonly Field[]): StoredTensor {
  const counts: Record<number, number> = {}, dims: bigint[] = [], entries: Record<string, string> = {}
  let name = '', type = 0, raw: number | undefined, isExternal = false
  for (const field of fields) {
    const { number, value, bytes } = field
    if (number === 1) dims.push(...numbersOf(field).map((dim) => BigInt.asIntN(64, dim)))
    else if (number === 2) type = Number(value)
    else if (number === 8) name = textOf(field)
    else if (number === data.raw) raw = bytes.length
    else if (number === 13) entries[entryText(bytes, 1)] = entryText(bytes, 2)
    else if (number === 14) isExternal = value === 1n
    else if (number === data.float || number === data.double) counts[number] = (counts[number] ?? 0) + bytes.length / (number === data.float ? 4 : 8)
    else if (number === data.string) counts[number] = (counts[number] ?? 0) + 1
    else if (number === data.int32 || number === data.int64 || number === data.uint64) counts[number] = (counts[number] ?? 0) + countOf(field)
  }
  return { name, type, dims, raw, counts, external: isExternal ? entries : undefined }
}
function entryText(entry: Uint8Array, number: number): string {
  const field = [...fieldsOf(entry)].find((field) => field.number === number)
  return field === undefined ? '' : textOf(field)
}

/** Element types by their number in a file: name, bits, the field that holds elements which are not raw, and how many of its numbers make how many elements. */
const elements: Readonly<Record<number, readonly [name: string, bits: number, field: number, numbers?: number]>> = {
  1: ['float32', 32, data.float], 2: ['uint8', 8, data.int32], 3: ['int8', 8, data.int32], 4: ['uint16', 16, data.int32], 5: ['int16', 16, data.int32], 6: ['int32', 32, data.int32], 7: ['int64', 64, data.int64],
  8: ['string', 0, data.string], 9: ['bool', 8, data.int32], 10: ['float16', 16, data.int32], 11: ['float64', 64, data.double], 12: ['uint32', 32, data.uint64], 13: ['uint64', 64, data.uint64],
  14: ['complex64', 64, data.float, 2], 15: ['complex128', 128, data.double, 2], 16: ['bfloat16', 16, data.int32], 17: ['float8e4m3fn', 8, data.int32], 18: ['float8e4m3fnuz', 8, data.int32],
  19: ['float8e5m2', 8, data.int32], 20: ['float8e5m2fnuz', 8, data.int32], 21: ['uint4', 4, data.int32, 0.5], 22: ['int4', 4, data.int32, 0.5], 23: ['float4e2m1', 4, data.int32, 0.5],
  24: ['float8e8m0', 8, data.int32], 25: ['uint2', 2, data.int32, 0.25], 26: ['int2', 2, data.int32, 0.25],
}

/** The bytes that a tensor's elements take; refused where dimensions are negative or would not fit any file. */
export function bytesIn({ name, type, dims }: StoredTensor, subject: string): number {
  const of = `hold a tensor ${quote(name)} of the dimensions [${dims.join(',')}]`, [, bits] = elements[type] ?? []
  if (bits === undefined) throw refusal(subject, `hold a tensor ${quote(name)} of the element type ${type}, which is not known. Export the graph with common types`, 'UNSUPPORTED')
  if (dims.some((dim) => dim < 0n)) throw refusal(subject, `${of}; dimensions of weights cannot be negative. Export the graph again`)
  const count = dims.reduce((count, dim) => count * dim, 1n), bytes = (count * BigInt(bits || 8) + 7n) / 8n
  if (bytes > BigInt(maxBytes)) throw refusal(subject, `${of}, which is ${bytes} bytes: more than fits an ONNX graph (${maxBytes}). Export the graph again, or make it smaller`)
  return Number(bytes)
}

function checkTensor(tensor: StoredTensor, subject: string): void {
  const size = bytesIn(tensor, subject)
  if (tensor.external !== undefined) {
    throw refusal(subject, `are an ONNX graph that keeps weights in a second file (${quote(tensor.external['location'] ?? '')}), which bytes do not carry. Give the path of the graph, so that files beside it are read, or save it as one file, in Python: onnx.save(onnx.load(path), path, save_as_external_data=False)`)
  }
  const [type, , field, numbers = 1] = elements[tensor.type]!, count = Number(tensor.dims.reduce((count, dim) => count * dim, 1n))
  const [has, needs, unit] = tensor.raw === undefined ? [tensor.counts[field] ?? 0, Math.ceil(count * numbers), 'numbers'] : [tensor.raw, size, 'bytes']
  if (type === 'string' && tensor.raw !== undefined) throw refusal(subject, `hold a tensor ${quote(tensor.name)} of strings as raw bytes, which ONNX does not allow. Export the graph again`)
  if (has !== needs) throw refusal(subject, `hold a tensor ${quote(tensor.name)} of ${type}[${tensor.dims.join(',')}], which takes ${needs} ${type === 'string' ? 'strings' : unit}, and ${has} are there. The file is damaged: export or download it again`)
}

function functionName(fields: readonly Field[], name: number, domain: number, overload: number): string {
  return [domain, name, overload].map((number) => fields.findLast((field) => field.number === number)).map((field) => (field === undefined ? '' : textOf(field))).join(':')
}
/** What the nodes of a function call, those of graphs within them included. */
function nodesIn(fields: readonly Field[], number: number): readonly string[] {
  return fields.filter((field) => field.number === number).flatMap(({ bytes }) => {
    const node = [...fieldsOf(bytes)]
    const inner = node.filter(({ number }) => number === 5).flatMap(({ bytes }) => [...fieldsOf(bytes)].filter(({ number }) => number === 6 || number === 11).flatMap(({ bytes }) => nodesIn([...fieldsOf(bytes)], 1)))
    return [functionName(node, 4, 7, 8), ...inner]
  })
}
/** Functions that call themselves would be put in place of their calls without end. */
function checkCalls(calls: ReadonlyMap<string, ReadonlySet<string>>, subject: string): void {
  const done = new Set<string>()
  const walk = (name: string, above: ReadonlySet<string>): void => {
    if (above.has(name)) throw refusal(subject, `have a function ${quote(name.split(':')[1])} that calls itself, which ONNX does not allow. Export the graph again`)
    if (done.has(name)) return
    for (const called of calls.get(name) ?? []) walk(called, new Set([...above, name]))
    done.add(name)
  }
  for (const name of calls.keys()) walk(name, new Set())
}

const kinds: Readonly<Record<number, string>> = { 4: 'a sequence', 5: 'a map', 7: 'an opaque value', 8: 'a sparse tensor', 9: 'an optional' }

/** Ports as the file declares them; what it leaves open is looked at again in the loaded graph. */
function checkPorts(graph: readonly Field[]): void {
  const weights = new Set(graph.filter(({ number }) => number === 5).map(({ bytes }) => tensorOf([...fieldsOf(bytes)]).name))
  for (const { number, bytes } of graph) {
    if (number !== 11 && number !== 12) continue
    const fields = [...fieldsOf(bytes)], name = fields.find(({ number }) => number === 1), type = fields.find(({ number }) => number === 2)
    const [kind] = type === undefined ? [] : [...fieldsOf(type.bytes)].filter(({ number }) => number === 1 || number in kinds)
    if (name === undefined || kind === undefined || (number === 11 && weights.has(textOf(name)))) continue
    const role = number === 11 ? 'input' : 'output'
    if (kind.number !== 1) refusePort(role, textOf(name), kinds[kind.number]!)
    const element = [...fieldsOf(kind.bytes)].find(({ number }) => number === 1), [known] = elements[Number(element?.value ?? 0)] ?? [`the unknown type ${element?.value}`]
    if (element !== undefined && !Object.hasOwn(elementArrays, known)) refusePort(role, textOf(name), `a tensor of ${known}`)
  }
}

export function refusePort(role: string, name: string, what: string): never {
  throw new InlayError('UNSUPPORTED', `The ${role} ${quote(name)} of the graph is ${what}, which cannot be passed. Tensors of these types can: ${Object.keys(elementArrays).join(', ')}. Cast it inside of the graph, or remove it.`)
}
