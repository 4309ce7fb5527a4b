/** Bytes in documents: the stored form `{ _content: { bytes | artifact | uri, codec } }`, and large ones in the artifact store under their SHA-256. */
import { once } from './chunks.ts'
import type { ArtifactStore, Ctx, Doc, Value } from './contract.ts'
import { sha256 } from './encoding.ts'
import { bytesOf, contentKey, isBytes, isDoc, isTypedArray, setOwn, typedArrayName } from './value.ts'

/** Bytes up to this many stay in the row. */
export const inlineBytes: number = 16 * 1024
const pageBytes = 32 * 1024 * 1024

/** What stands in a document for bytes: one of `bytes`, `artifact` and `uri`. The codec says what they are; without one they are bytes. */
export interface Content {
  readonly codec: string | undefined
  readonly bytes?: Uint8Array
  readonly artifact?: string
  readonly uri?: string
  /** How many bytes an artifact has; 0 where another program did not say. */
  readonly size: number
}

const parts: ReadonlySet<string> = new Set(['bytes', 'artifact', 'uri', 'codec'])

/** The content that a value stands for. Other programs may write bytes as base64 text. Anything else under `_content` is the user's own. */
export function contentOf(value: Value): Content | undefined {
  if (!isDoc(value) || !Object.hasOwn(value, contentKey)) return undefined
  const content = value[contentKey]
  if (!isDoc(content) || Object.keys(value).length !== 1 || !Object.keys(content).every((part) => parts.has(part))) return undefined
  const { bytes, artifact, uri, codec } = content
  if (codec !== undefined && typeof codec !== 'string') return undefined
  if (typeof artifact === 'string') return uri === undefined && (bytes === undefined || typeof bytes === 'number') && /^[0-9a-f]{64}$/.test(artifact) ? { codec, artifact, size: bytes ?? 0 } : undefined
  if (artifact !== undefined) return undefined
  if (typeof uri === 'string') return bytes === undefined ? { codec, uri, size: 0 } : undefined
  if (isBytes(bytes)) return { codec, bytes, size: bytes.byteLength }
  if (typeof bytes !== 'string' || !/^[A-Za-z0-9+/]*={0,2}$/.test(bytes)) return undefined
  const read = Uint8Array.from(Buffer.from(bytes, 'base64'))
  return { codec, bytes: read, size: read.byteLength }
}

/** `value` with what `by` gives for its parts, from the outside in; what has no replacement is shared. */
export function replace(value: Value, path: string, by: (value: Value, path: string) => Value | undefined): Value {
  const replacement = by(value, path)
  if (replacement !== undefined) return replacement
  if (Array.isArray(value)) {
    const list = value.map((v: Value, i) => replace(v, path === '' ? String(i) : `${path}.${i}`, by))
    return list.some((v, i) => v !== value[i]) ? list : value
  }
  if (!isDoc(value)) return value
  let changed: Record<string, Value> | undefined
  for (const [name, v] of Object.entries(value)) {
    const next = replace(v, path === '' ? name : `${path}.${name}`, by)
    if (next === v) continue
    changed ??= { ...value }
    setOwn(changed, name, next)
  }
  return changed ?? value
}

function hasLarge(value: Value): boolean {
  if (typeof value !== 'object' || value === null) return false
  if (isTypedArray(value)) return value.byteLength > inlineBytes
  return Array.isArray(value) ? value.some(hasLarge) : !(value instanceof Date) && Object.values(value).some((v) => hasLarge(v as Value))
}

/** The document with references in place of its large bytes, which are added to `found` by their id. */
export function externalise<V extends Value>(doc: V, found: Map<string, Uint8Array>): V {
  const reference = (bytes: Uint8Array, codec: string | undefined): Doc => {
    const artifact = sha256(bytes)
    found.set(artifact, bytes)
    return { [contentKey]: { artifact, ...(codec === undefined ? {} : { codec }), bytes: bytes.byteLength } }
  }
  return !hasLarge(doc) ? doc : replace(doc, '', (value) => {
    if (isTypedArray(value)) return value.byteLength > inlineBytes ? reference(bytesOf(value), typedArrayName(value)) : value
    const content = contentOf(value)
    return content?.bytes === undefined || content.size <= inlineBytes ? undefined : reference(content.bytes, content.codec)
  }) as V
}

/** Whether anything in a value may be content: most documents have none, and this is cheap. */
export function hasContent(value: Value): boolean {
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value) || value instanceof Date) return false
  if (Array.isArray(value)) return value.some(hasContent)
  for (const name in value as Doc) if (name === contentKey || hasContent((value as Doc)[name]!)) return true
  return false
}

/** The contents of a value with the paths of their fields, in the order in which `replace` meets them. */
export function contentsOf(value: Value): readonly (Content & { readonly path: string })[] {
  const found: (Content & { readonly path: string })[] = []
  if (!hasContent(value)) return found
  replace(value, '', (part, path) => {
    const content = contentOf(part)
    if (content !== undefined) found.push({ ...content, path })
    return content === undefined ? undefined : part
  })
  return found
}

/** Ids of the artifacts that a stored value refers to. */
export function artifactsOf(value: Value): readonly string[] {
  return contentsOf(value).flatMap(({ artifact }) => artifact ?? [])
}

export async function writeContent(artifacts: ArtifactStore, found: ReadonlyMap<string, Uint8Array>, ctx: Ctx): Promise<void> {
  for (const [id, bytes] of found) await artifacts.write(id, once(bytes), ctx)
}

/** What lies behind a URI is taken to have so many bytes, as long as it is not known. */
const unknownBytes = 1024 * 1024

/** Rows in parts whose large bytes may be held at once. */
export function* byContent<R extends { readonly doc: Doc }>(rows: readonly R[]): Iterable<readonly R[]> {
  yield* bounded(rows, (row) => contentsOf(row.doc).reduce((sum, { size, uri }) => sum + (uri === undefined ? size : unknownBytes), 0))
}

/** Artifacts by id, fetched in bounded trips. Those that are gone or damaged are left out. */
export async function readArtifacts(artifacts: ArtifactStore, wanted: ReadonlyMap<string, number>, ctx: Ctx): Promise<ReadonlyMap<string, Uint8Array>> {
  const got = new Map<string, Uint8Array>()
  for (const part of bounded([...wanted], ([, bytes]) => bytes)) {
    for await (const { id, bytes } of artifacts.readMany(part.map(([id]) => id), ctx)) if (sha256(bytes) === id) got.set(id, bytes)
  }
  return got
}

/** Items in order, in parts of at most `pageBytes`; a larger one stands alone. */
function* bounded<T>(items: readonly T[], bytesOf: (item: T) => number): Iterable<readonly T[]> {
  let part: T[] = [], total = 0
  for (const item of items) {
    const bytes = bytesOf(item)
    if (part.length > 0 && total + bytes > pageBytes) {
      yield part
      part = []
      total = 0
    }
    part.push(item)
    total += bytes
  }
  if (part.length > 0) yield part
}
