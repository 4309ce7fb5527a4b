/** Reads a graph with the weights that lie in files beside it, and makes both one. */
import { open, readFile, realpath } from 'node:fs/promises'
import { dirname, isAbsolute, join, sep } from 'node:path'
import type { Ctx } from '../../core/contract.ts'
import { InlayError, messageOf, quote } from '../../core/errors.ts'
import { aborted } from '../../core/guard.ts'
import { bytesIn, checkKind, maxBytes, messages, tensorOf, visit } from './check.ts'
import { delimited, fieldsOf } from './protobuf.ts'

/** The graph at `path` as bytes that are complete in themselves. */
export async function readGraph(path: string, ctx: Ctx): Promise<Uint8Array> {
  const subject = `The bytes of ${quote(path)}`
  const graph = new Uint8Array(await readFile(path, { signal: ctx.signal }).catch((error: unknown) => { throw unreadable('The ONNX graph', path, error, ctx) }))
  checkKind(graph, subject)
  const stored: { readonly start: number; readonly size: number; readonly external: Readonly<Record<string, string>> }[] = []
  visit(graph, subject, (message, fields) => {
    if (message !== 'tensor') return
    const tensor = tensorOf(fields)
    // A tensor without fields has no place, and nothing outside.
    if (tensor.external !== undefined) stored.push({ start: fields[0]!.all.byteOffset, size: bytesIn(tensor, subject), external: tensor.external })
  })
  if (stored.length === 0) return graph
  const total = stored.reduce((total, { size }) => total + size, graph.length)
  if (total > maxBytes) throw new InlayError('UNSUPPORTED', `The ONNX graph ${quote(path)} has ${total} bytes with the weights beside it, and one graph of them can have ${maxBytes}: its format ends there. Make it smaller: float16 or int8 weights.`)
  const weights = new Map<number, Uint8Array>()
  for (const { start, size, external } of stored) weights.set(start, await readWeights(path, size, external, ctx))
  const parts = joined(graph, 'model', weights), whole = new Uint8Array(parts.reduce((length, part) => length + part.length, 0))
  parts.reduce((at, part) => { whole.set(part, at); return at + part.length }, 0)
  return whole
}

async function readWeights(path: string, size: number, { location = '', offset = '0', length = String(size) }: Readonly<Record<string, string>>, ctx: Ctx): Promise<Uint8Array> {
  const subject = `The ONNX graph ${quote(path)} keeps weights in the file ${quote(location)}`
  const refuse = (why: string): never => { throw new InlayError('INVALID_ARGUMENT', `${subject}, ${why}.`) }
  const folder = await realpath(dirname(path)), asked = join(folder, location)
  if (location === '' || location.includes('\0') || isAbsolute(location) || !asked.startsWith(folder + sep)) refuse('which is not below its folder. Save it with weights in a file beside it')
  const file = await realpath(asked).catch((error: unknown) => { throw unreadable(`${subject}, and that`, asked, error, ctx) })
  if (!file.startsWith(folder + sep)) refuse(`which is a link to ${quote(file)}, outside of its folder. Copy both into one folder`)
  if (!/^\d{1,15}$/.test(offset) || !/^\d{1,15}$/.test(length) || Number(length) !== size) refuse(`from ${quote(offset)}, ${quote(length)} bytes, for a tensor that takes ${size}. One of the files is damaged: export them again`)
  const handle = await open(file).catch((error: unknown) => { throw unreadable(`${subject}, and that`, file, error, ctx) })
  try {
    const stat = await handle.stat()
    if (!stat.isFile() || stat.size < Number(offset) + size) refuse(`and that is too short: byte ${Number(offset) + size} is needed, it has ${stat.size}. Is it the file of this graph, or a Git LFS pointer (git lfs pull)`)
    const bytes = new Uint8Array(size)
    for (let at = 0; at < size;) {
      ctx.signal.throwIfAborted()
      const { bytesRead } = await handle.read(bytes, at, Math.min(size - at, 2 ** 24), Number(offset) + at)
      if (bytesRead === 0) refuse('which was cut while it was read. Read the graph again')
      at += bytesRead
    }
    return bytes
  } finally {
    await handle.close()
  }
}

/** `message` with the weights, by the place of their tensor, in place of where they lie; parts that stay are views. */
function joined(bytes: Uint8Array, message: string, weights: ReadonlyMap<number, Uint8Array>): readonly Uint8Array[] {
  const fields = [...fieldsOf(bytes)], raw = message === 'tensor' && fields.length > 0 ? weights.get(fields[0]!.all.byteOffset) : undefined
  // 13 and 14 say where the weights lie, 9 is raw data.
  if (raw !== undefined) return [...fields.filter(({ number }) => number !== 13 && number !== 14 && number !== 9).map(({ all }) => all), ...delimited(9, [raw])]
  return fields.flatMap(({ number, bytes, all }) => {
    const inner = messages[message]![number]
    return inner === undefined ? [all] : delimited(number, joined(bytes, inner, weights))
  })
}

function unreadable(what: string, path: string, error: unknown, { signal }: Ctx): InlayError {
  if (signal.aborted) return aborted(signal)
  const code = (error as { readonly code?: unknown }).code
  return new InlayError(code === 'ENOENT' ? 'NOT_FOUND' : 'INVALID_ARGUMENT', `${what} ${quote(path)} cannot be read: ${messageOf(error)}. Give the path of an .onnx file, with its weights beside it.`, { cause: error })
}
