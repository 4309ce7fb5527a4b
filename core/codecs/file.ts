/** The web's files: one line of JSON with name, type, lastModified and size, and after it the bytes as they are. */
import type { Codec } from '../contract.ts'
import { InlayError } from '../errors.ts'

const newline = 10

/** The codec `file`: takes a `File` or `Blob`, and gives a `File`; that of a `Blob` has no name and the time 0. */
export const fileCodec: Codec<Blob> = {
  id: 'file',
  expects: 'a File or Blob',
  immutable: true,
  is: (value): value is Blob => value instanceof Blob,
  async encode(blob) {
    const { name, lastModified } = blob instanceof File ? blob : { name: '', lastModified: 0 }
    return new Uint8Array(Buffer.concat([Buffer.from(`${JSON.stringify({ name, type: blob.type, lastModified, size: blob.size })}\n`), new Uint8Array(await blob.arrayBuffer())]))
  },
  decode(bytes) {
    const end = bytes.indexOf(newline), content = bytes.subarray(end + 1), { name, type, lastModified, size } = headOf(Buffer.from(bytes.subarray(0, Math.max(end, 0))).toString())
    if (typeof name !== 'string' || typeof type !== 'string' || typeof lastModified !== 'number' || typeof size !== 'number') throw new InlayError('CORRUPT', 'The bytes are no stored file: they do not begin with a line of its name, type, lastModified and size.')
    if (size !== content.byteLength) throw new InlayError('CORRUPT', `The bytes are no whole file: ${size} are expected after its head, and ${content.byteLength} are there.`)
    return new File([new Uint8Array(content)], name, { type, lastModified })
  },
}

function headOf(line: string): Readonly<Record<string, unknown>> {
  try {
    return Object(JSON.parse(line)) as Readonly<Record<string, unknown>>
  } catch {
    return {}
  }
}
