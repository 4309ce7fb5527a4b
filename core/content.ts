/** Large bytes of documents: more than 16 kB go to the artifact store under their SHA-256, and a reference stays in the row. */
import { once } from './chunks.ts'
import type { ArtifactStore, Ctx, Doc, Value } from './contract.ts'
import { sha256 } from './encoding.ts'
import { InlayError, quote } from './errors.ts'
import { bytesOf, contentKey, isDoc, isTypedArray, setOwn, typedArrayName, typedArrays, type TypedArrayName } from './value.ts'

/** Bytes up to this many stay in the row. */
export const inlineBytes: number = 16 * 1024
const pageBytes = 32 * 1024 * 1024

/** What stands in a row for large bytes: `{ _content: { artifact, codec, bytes } }`. The codec is the kind of typed array. */
interface Reference { readonly artifact: string; readonly codec: TypedArrayName; readonly bytes: number }

function referenceOf(value: Value): Reference | undefined {
  if (!isDoc(value) || !Object.hasOwn(value, contentKey)) return undefined
  const content = value[contentKey]
  return isDoc(content) && typeof content['artifact'] === 'string' ? content as unknown as Reference : undefined
}

function replace(value: Value, path: string, by: (value: Value, path: string) => Value | undefined): Value {
  const replacement = by(value, path)
  if (replacement !== undefined) return replacement
  if (Array.isArray(value)) {
    const list = value.map((v: Value, i) => replace(v, `${path}.${i}`, by))
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
export function externalise(doc: Doc, found: Map<string, Uint8Array>): Doc {
  return !hasLarge(doc) ? doc : replace(doc, '', (value) => {
    if (!isTypedArray(value) || value.byteLength <= inlineBytes) return undefined
    const bytes = bytesOf(value), artifact = sha256(bytes)
    found.set(artifact, bytes)
    return { [contentKey]: { artifact, codec: typedArrayName(value), bytes: bytes.byteLength } }
  }) as Doc
}

/** Ids of the artifacts a stored document refers to, with the paths of the fields. */
export function referencesOf(doc: Doc): readonly (Reference & { readonly path: string })[] {
  const found: (Reference & { readonly path: string })[] = []
  replace(doc, '', (value, path) => {
    const reference = referenceOf(value)
    if (reference !== undefined) found.push({ ...reference, path })
    return reference === undefined ? undefined : value
  })
  return found
}

export async function writeContent(artifacts: ArtifactStore, found: ReadonlyMap<string, Uint8Array>, ctx: Ctx): Promise<void> {
  for (const [id, bytes] of found) await artifacts.write(id, once(bytes), ctx)
}

/** Rows in parts whose large bytes may be held at once. */
export function* byContent<R extends { readonly doc: Doc }>(rows: readonly R[]): Iterable<readonly R[]> {
  yield* bounded(rows, (row) => referencesOf(row.doc).reduce((sum, r) => sum + r.bytes, 0))
}

/** The documents with their large bytes in place, fetched in bounded trips. `name` names a document in errors. */
export async function hydrate(artifacts: ArtifactStore, docs: readonly Doc[], name: (index: number) => string, ctx: Ctx): Promise<readonly Doc[]> {
  const references = docs.map(referencesOf)
  if (references.every((r) => r.length === 0)) return docs
  const wanted = new Map(references.flat().map((r) => [r.artifact, r.bytes]))
  const got = new Map<string, Uint8Array>()
  for (const part of bounded([...wanted], ([, bytes]) => bytes)) {
    for await (const { id, bytes } of artifacts.readMany(part.map(([id]) => id), ctx)) {
      if (sha256(bytes) === id) got.set(id, bytes)
    }
  }
  return docs.map((doc, i) => {
    for (const { artifact, path, codec } of references[i]!) {
      if (!got.has(artifact)) throw new InlayError('CORRUPT', `The content of field ${quote(path)} of document ${quote(name(i))} is missing or damaged in the artifact store (SHA-256 ${artifact}). Restore the artifact, or write the field again.`, { details: { id: name(i), path, artifact } })
      if (!Object.hasOwn(typedArrays, codec)) throw new InlayError('NOT_FOUND', `Field ${quote(path)} of document ${quote(name(i))} was stored with the codec ${quote(codec)}, which is not known here. Use an Inlay that has it.`)
    }
    return replace(doc, '', (value) => {
      const reference = referenceOf(value)
      return reference === undefined ? undefined : new typedArrays[reference.codec](Uint8Array.from(got.get(reference.artifact)!).buffer)     // not slice(): a Buffer's shares its memory
    }) as Doc
  })
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
