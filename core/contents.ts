/** Content as it is read: large bytes are fetched, values decoded, and what lies behind URIs is fetched before models run. */
import { UriContent, mark, type Codecs, type Declared } from './codec.ts'
import { once } from './chunks.ts'
import { contentOf, contentsOf, readArtifacts, replace, type Content } from './content.ts'
import type { ArtifactStore, Codec, Ctx, Datalayer, Doc, Value, Write } from './contract.ts'
import { sha256 } from './encoding.ts'
import { InlayError, messageOf, quote } from './errors.ts'
import type { Fetcher } from './fetch.ts'
import { isOutage } from './reconcile.ts'
import { bytesOf, contentKey, isBytes, typedArrays, type TypedArrayName } from './value.ts'

/** Which documents, and what is known of them. */
export interface Reading {
  /** The `_id` of a document, for errors. */
  readonly name: (index: number) => string
  /** Codecs of fields, by path: there a text is a URI, and bytes are those of the codec. */
  readonly codecs?: Declared | undefined
  /** How many will read the values of a field. */
  readonly readers?: (field: string) => number
  /** Fetches what lies behind URIs; else it is left as `UriContent`. */
  readonly fetch?: boolean
  /** What a codec that is not known here does to a field: an error, or the field stays as it is stored. */
  readonly unknown?: (path: string) => 'error' | 'stored'
}
interface Found extends Content { readonly doc: number; readonly path: string; value?: unknown; error?: InlayError; stored?: boolean }

export interface ContentsParts {
  readonly artifacts: ArtifactStore
  readonly data: Datalayer
  readonly codecs: Codecs
  readonly fetcher: Fetcher
  /** Whether bytes that were fetched are kept as artifacts. */
  readonly keep: boolean
  /** Runs what a value does later, when it is asked for. */
  readonly call: <T>(signal: AbortSignal | undefined, work: (ctx: Ctx) => Promise<T>) => Promise<T>
}

/** Where it is noted which artifact holds what was fetched of a URI. */
export const keptCollection = '_content'
const cacheBytes = 64 * 1024 * 1024

export class Contents {
  readonly codecs: Codecs
  readonly #parts: ContentsParts
  /** Values that several listeners read, by codec and SHA-256, the last used last. */
  readonly #cache = new Map<string, { readonly value: unknown; readonly bytes: number }>()
  #cached = 0
  #opened: Promise<void> | undefined

  constructor(parts: ContentsParts) {
    this.#parts = parts
    this.codecs = parts.codecs
  }

  /** The documents with their large typed arrays in place. What has another codec stays as it is stored; with `lost: 'stored'` so does an array whose bytes are lost. */
  async stored(docs: readonly Doc[], name: (index: number) => string, ctx: Ctx, { lost: whenLost = 'error' }: { readonly lost?: 'error' | 'stored' } = {}): Promise<readonly Doc[]> {
    const found = docs.flatMap((doc, i) => contentsOf(doc).flatMap((content): Found[] => (content.artifact !== undefined && isArray(content.codec) ? [{ ...content, doc: i }] : [])))
    if (found.length === 0) return docs
    const got = await readArtifacts(this.#parts.artifacts, new Map(found.map((f) => [f.artifact!, f.size])), ctx)
    if (whenLost === 'error') for (const f of found) if (!got.has(f.artifact!)) throw lost(f, name(f.doc))
    return docs.map((doc) => replace(doc, '', (value) => {
      const content = contentOf(value)
      return content?.artifact !== undefined && isArray(content.codec) && got.has(content.artifact) ? arrayOf(content.codec, got.get(content.artifact)!) : undefined
    }) as Doc)
  }

  /** The documents with all values decoded; in the place of a document, the error of one of its fields. */
  async decoded(docs: readonly Doc[], reading: Reading, ctx: Ctx): Promise<readonly (Doc | InlayError)[]> {
    const { codecs } = reading, read = codecs === undefined || Object.keys(codecs).length === 0 ? docs : docs.map((doc) => columns(doc, codecs))
    const each = read.map((doc, i) => contentsOf(doc).map((content): Found => ({ ...content, doc: i }))), found = each.flat()
    if (found.length === 0) return read
    const kept = this.#parts.keep ? await this.#kept(found.flatMap((f) => f.uri ?? []), ctx) : new Map<string, { readonly artifact: string; readonly bytes: number }>()
    const artifactOf = (f: Found): readonly [string, number] | undefined => {
      const there = f.uri === undefined ? undefined : kept.get(f.uri)
      return f.artifact !== undefined ? [f.artifact, f.size] : there === undefined ? undefined : [there.artifact, there.bytes]
    }
    const cached = new Set<Found>(), fetched = new Map<string, Promise<Uint8Array>>()
    for (const f of found) {
      const [artifact] = artifactOf(f) ?? [], there = artifact === undefined ? undefined : this.#cache.get(keyOf(f, reading.name(f.doc), artifact))
      if (there === undefined) continue
      f.value = there.value
      cached.add(f)
    }
    const got = await readArtifacts(this.#parts.artifacts, new Map(found.flatMap((f) => { const at = cached.has(f) ? undefined : artifactOf(f); return at === undefined ? [] : [at] })), ctx)
    const uses = Map.groupBy(found, (f) => artifactOf(f)?.[0] ?? f.uri)
    await Promise.all(found.map(async (f) => {
      if (cached.has(f)) return
      try {
        const [artifact] = artifactOf(f) ?? [], stored = f.bytes ?? (artifact === undefined ? undefined : got.get(artifact))
        if (f.uri !== undefined && stored === undefined && reading.fetch !== true) {
          f.value = this.#uri(f, reading.name(f.doc))
          return
        }
        if (f.uri !== undefined && stored === undefined && !fetched.has(f.uri)) fetched.set(f.uri, this.#fetch(f, ctx))
        const bytes = stored ?? (f.uri === undefined ? undefined : await fetched.get(f.uri))
        if (bytes === undefined) throw lost(f, reading.name(f.doc))
        const readers = reading.readers?.(f.path.split('.')[0]!) ?? 1
        f.value = await this.#value(f, (uses.get(artifact ?? f.uri)?.length ?? 1) > 1 ? bytes.slice() : bytes, reading.name(f.doc), readers, artifact, declaredAt(codecs, f))
      } catch (error) {
        // What is away says nothing of the row.
        if (ctx.signal.aborted || !InlayError.is(error) || isOutage(error)) throw error
        if (isUnknown(error) && reading.unknown?.(f.path) === 'stored') f.stored = true
        else f.error = error
      }
    }))
    return read.map((doc, i) => {
      const own = each[i]!, failed = own.find((f) => f.error !== undefined)
      if (failed !== undefined) return failed.error!
      let n = 0
      return own.length === 0 ? doc : replace(doc, '', (value) => {
        if (contentOf(value) === undefined) return undefined
        const f = own[n++]!
        return f.stored === true ? value : f.value as Value
      }) as Doc
    })
  }

  async #value(f: Found, bytes: Uint8Array, id: string, readers: number, artifact: string | undefined, declared?: Codec): Promise<unknown> {
    if (f.codec === undefined || f.codec === 'bytes') return bytes
    if (isArray(f.codec)) return arrayOf(f.codec, bytes)
    const of = declared ?? await this.codecs.get(f.codec)
    if (of === undefined) throw new InlayError('NOT_FOUND', `The field ${quote(f.path)} of document ${quote(id)} was stored with the codec ${quote(f.codec)}, which is not known in this process. Add it with db.add(codec(…)), name it in "components" of the config, or add its plugin to "plugins".`, { details: { id, path: f.path, codec: f.codec } })
    const shared = readers > 1 && of.immutable === true, key = shared ? keyOf(f, id, artifact ?? sha256(bytes)) : '', there = shared ? this.#cache.get(key) : undefined
    if (there !== undefined) return there.value
    const value = await decode(of, bytes, f, id, readers)
    if (shared) this.#keep(key, value, bytes.byteLength)
    return value
  }
  #keep(key: string, value: unknown, bytes: number): void {
    if (this.#cache.has(key)) return
    this.#cache.set(key, { value, bytes })
    this.#cached += bytes
    for (const [oldest, { bytes: size }] of this.#cache) {
      if (this.#cached <= cacheBytes) break
      this.#cache.delete(oldest)
      this.#cached -= size
    }
  }

  #uri(f: Found, id: string): UriContent {
    const { doc, path, codec, uri, size } = f
    return new UriContent(uri!, codec, (signal) => this.#parts.call(signal, async (ctx) => this.#value({ doc, path, codec, size }, await this.#fetch(f, ctx), id, 1, undefined)))
  }
  async #fetch(f: Found, ctx: Ctx): Promise<Uint8Array> {
    const bytes = await this.#parts.fetcher.fetch(f.uri!, ctx)
    if (this.#parts.keep) {
      const artifact = sha256(bytes)
      await this.#parts.artifacts.write(artifact, once(bytes), ctx)
      await this.#open(ctx)
      const write: Write = { kind: 'put', key: sha256(f.uri!), doc: { uri: f.uri!, artifact, bytes: bytes.byteLength, fetched: new Date() } }
      const [written] = await this.#parts.data.write(keptCollection, [write], ctx)
      if (written!.status !== 'done' && written!.status !== 'moved') throw new InlayError('INTERNAL', `What was fetched of a URI could not be noted: ${written!.reason ?? written!.status}.`)
    }
    return bytes
  }
  async #kept(uris: readonly string[], ctx: Ctx): Promise<ReadonlyMap<string, { readonly artifact: string; readonly bytes: number }>> {
    const kept = new Map<string, { readonly artifact: string; readonly bytes: number }>()
    if (uris.length === 0) return kept
    await this.#open(ctx)
    for await (const rows of this.#parts.data.find({ from: keptCollection, where: { kind: 'keys', keys: [...new Set(uris)].map((uri) => sha256(uri)) } }, ctx)) {
      for (const { doc } of rows) kept.set(doc['uri'] as string, { artifact: doc['artifact'] as string, bytes: doc['bytes'] as number })
    }
    return kept
  }
  #open(ctx: Ctx): Promise<void> {
    this.#opened ??= this.#parts.data.create({ name: keptCollection, attached: false, track: 'none' }, ctx)
    this.#opened.catch(() => { this.#opened = undefined })
    return this.#opened
  }
}

/** Of the same bytes in another field or document, errors name that one. */
function keyOf({ codec, path }: Found, id: string, artifact: string): string {
  return `${codec} ${artifact} ${path} ${id}`
}
/** The codec that the collection gives a field, where that is the one it was stored with. */
function declaredAt(codecs: Declared | undefined, { path, codec }: Found): Codec | undefined {
  const of = codecs?.[path] ?? codecs?.[path.split('.').filter((name) => !/^\d+$/.test(name)).join('.')]
  return of !== undefined && typeof of !== 'string' && of.id === codec ? of : undefined
}
/** Whether a codec is not known in this process. */
export function isUnknown(error: unknown): error is InlayError {
  return InlayError.is(error) && error.code === 'NOT_FOUND' && 'codec' in error.details
}

function isArray(codec: string | undefined): codec is TypedArrayName {
  return codec !== undefined && Object.hasOwn(typedArrays, codec)
}
function arrayOf(codec: TypedArrayName, bytes: Uint8Array): Value {
  return new typedArrays[codec](Uint8Array.from(bytes).buffer)             // not slice(): a Buffer's shares its memory
}
function lost({ path, artifact }: Found, id: string): InlayError {
  return new InlayError('CORRUPT', `The content of field ${quote(path)} of document ${quote(id)} is missing or damaged in the artifact store (SHA-256 ${artifact}). Restore the artifact, or write the field again.`, { details: { id, path, artifact } })
}

async function decode(of: Codec, bytes: Uint8Array, { path }: Found, id: string, readers: number): Promise<unknown> {
  try {
    return await of.decode(bytes, { where: `field ${quote(path)} of document ${quote(id)}`, readers })
  } catch (error) {
    throw new InlayError('CORRUPT', `The field ${quote(path)} of document ${quote(id)} cannot be decoded by the codec ${quote(of.id)}: ${messageOf(error).replace(/\.$/, '')}. Write the field again, or leave it out with select().`, { cause: error, details: { id, path, codec: of.id } })
  }
}

/** Plain columns as contents: a text is where the bytes lie, bytes are those of the codec. */
export function columns(doc: Doc, codecs: Declared): Doc {
  return Object.entries(codecs).reduce((next, [path, of]) => mark(next, path.split('.'), (value) => {
    const codec = typeof of === 'string' ? of : of.id
    return typeof value === 'string' ? { [contentKey]: { uri: value, codec } } : isBytes(value) ? { [contentKey]: { bytes: bytesOf(value), codec } } : value
  }) as Doc, doc)
}
/** The reverse, for a table of somebody else: columns hold the bytes themselves, or where they lie. */
export function plainColumns(doc: Doc, codecs: Declared): Doc {
  return Object.keys(codecs).reduce((next, path) => mark(next, path.split('.'), (value) => {
    const content = contentOf(value as Value)
    return content?.bytes ?? content?.uri ?? value
  }) as Doc, doc)
}
