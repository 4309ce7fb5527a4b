/** Codecs: values that are no plain data (pictures, sounds, tensors, yours) become bytes in documents and come back. */
import { checkName } from './components.ts'
import type { Codec, ContentOf, Doc, Tensor, Value } from './contract.ts'
import { contentOf } from './content.ts'
import { sha256 } from './encoding.ts'
import { checkOptions, InlayError, messageOf, quote } from './errors.ts'
import type { Spec } from './spec.ts'
import { arrayOf, elementArrays, sizeOf } from './tensor.ts'
import { contentKey, copyOut, fault, isTypedArray, setOwn, Unstorable } from './value.ts'

/** A declared codec; see `codec`. */
export interface CodecSpec<T = unknown> extends Spec<CodecSpec<T>>, Codec<T> {
  readonly kind: 'codec'
  /** SHA-256 of the texts of its functions. The same id with another digest is warned of. */
  readonly digest: string
}

/** Declares a codec of your own: `db.add` it, or name it in `components` of the config. Only its id is stored, never code. */
export function codec<T>(of: Codec<T>): CodecSpec<T> {
  checkName('codec', of.id)
  checkOptions(of, ['id', 'expects', 'immutable', 'is', 'encode', 'decode', 'kind', 'name', 'digest'], `codec(${quote(of.id)}, …)`)
  for (const name of ['is', 'encode', 'decode'] as const) if (typeof of[name] !== 'function') throw new InlayError('INVALID_ARGUMENT', `The codec ${quote(of.id)} has ${quote(of[name])} for "${name}"; a function is expected.`)
  const { id, expects, immutable } = of
  return Object.freeze({
    kind: 'codec' as const, name: id, id, digest: sha256(`${of.is}\n${of.encode}\n${of.decode}\n${expects ?? ''}`), ...(expects === undefined ? {} : { expects }), ...(immutable === undefined ? {} : { immutable }),
    is: (value: unknown): value is T => of.is(value), encode: (value: T) => of.encode(value), decode: (bytes: Uint8Array, at: ContentOf) => of.decode(bytes, at),
  })
}

/** Stored content in the place of a value: the bytes of a codec, or the URI behind which they lie. Typed as the value that it stands for, so that it may be inserted in its place. */
export function content<T>(of: { readonly codec: string; readonly bytes: Uint8Array } | { readonly codec: string; readonly uri: string }): T {
  const value = { [contentKey]: { ...of } }
  if (contentOf(value as unknown as Value) === undefined || typeof of.codec !== 'string') throw new InlayError('INVALID_ARGUMENT', `content() is given ${quote(of)}; { bytes, codec } or { uri, codec } is expected.`)
  return value as T
}

/** Values that bear this property say which codec takes them. */
export const codecKey: unique symbol = Symbol.for('inlay.codec') as never

/** Content that was not fetched: what a document has instead of a value whose bytes lie behind a URI. It can be stored again as it is. */
export class UriContent<T = unknown> {
  readonly uri: string
  readonly codec: string | undefined
  readonly #load: (signal?: AbortSignal) => Promise<T>
  constructor(uri: string, codec: string | undefined, load: (signal?: AbortSignal) => Promise<T>) {
    this.uri = uri
    this.codec = codec
    this.#load = load
  }
  /** Fetches and decodes it, by what `content` of the config allows. */
  load(options: { readonly signal?: AbortSignal } = {}): Promise<T> {
    return this.#load(options.signal)
  }
  toJSON(): object {
    return { uri: this.uri, codec: this.codec }
  }
}

/** Content that is still being made, for a place in a copied document that holds `{ _content }` already. A text is the URI of its bytes. */
export interface Pending { readonly content: Record<string, Value>; readonly codec: string; readonly made: Promise<Uint8Array | string> }
/** Which codec the values of some fields have, by path. */
export type Declared = Readonly<Record<string, Codec | string>>

/** A value in a field with a declared codec, until `copyIn` meets it. */
class Marked {
  readonly codec: Codec | string
  readonly value: unknown
  constructor(codec: Codec | string, value: unknown) {
    this.codec = codec
    this.value = value
  }
}

/** A value that shall be encoded by this codec. */
export function markedFor(codec: Codec | string, value: unknown): unknown {
  return value === null || value === undefined ? value : new Marked(codec, value)
}

/** The codecs that this process knows. */
export class Codecs {
  readonly #known = new Map<string, Codec>()
  /** Those that a user declared, which are asked about every value. */
  readonly #own: Codec[] = []
  readonly #plugin: (id: string) => Promise<Codec | undefined>
  readonly #warn: (message: string) => void

  constructor(builtIn: readonly Codec[], plugin: (id: string) => Promise<Codec | undefined>, warn: (message: string) => void) {
    for (const of of builtIn) this.#known.set(of.id, of)
    this.#plugin = plugin
    this.#warn = warn
  }

  add(of: CodecSpec): void {
    if (this.#known.get(of.id) === of) return
    this.#compare(of)
    this.#known.set(of.id, of)
    const at = this.#own.findIndex(({ id }) => id === of.id)
    if (at === -1) this.#own.push(of)
    else this.#own[at] = of
  }

  /** One that an application gives as an object: known, and not asked about values that do not name it. */
  learn(of: Codec): void {
    this.#compare(of)
    if (!this.#known.has(of.id)) this.#known.set(of.id, of)
  }
  #compare(of: Codec): void {
    const there = this.#known.get(of.id) as Partial<CodecSpec> | undefined
    if (there !== undefined && there.digest !== (of as Partial<CodecSpec>).digest) this.#warn(`The codec ${quote(of.id)} was declared twice, and differently, in this process. Give one of them another id, or what was stored may be read wrong.`)
  }
  async get(id: string): Promise<Codec | undefined> {
    const there = this.#known.get(id) ?? await this.#plugin(id)
    if (there !== undefined) this.#known.set(id, there)
    return there
  }
  /** One that is known already. */
  known(id: string): Codec | undefined {
    return this.#known.get(id)
  }

  /** Who takes a value; the id where that is not loaded yet. */
  #of(value: object): Codec | string | undefined {
    const own = this.#own.find((of) => isOf(of, value))
    if (own !== undefined) return own
    const named = (value as { readonly [codecKey]?: unknown })[codecKey]
    if (typeof named === 'string') return this.#known.get(named) ?? named
    return value instanceof Blob ? this.#known.get('file') : undefined
  }
  /** Whether a value is one that a codec takes, and no plain data. */
  takes(value: object): boolean {
    return value instanceof Marked || value instanceof UriContent || this.#of(value) !== undefined
  }

  /** For `copyIn`: puts `{ _content }` in the place of values that codecs take. Encoding begins at once; bytes that come later are added to `pending`. */
  encoder(pending: Pending[]): (value: object) => unknown {
    return (value) => {
      if (value instanceof Marked) return this.#encode(value.codec, value.value, pending)
      if (value instanceof UriContent) return { [contentKey]: { uri: value.uri, ...(value.codec === undefined ? {} : { codec: value.codec }) } }
      if (Object.hasOwn(value, contentKey)) return contentOf(value as Value) === undefined ? fault(`the form of ${contentKey} is { bytes | uri | artifact, codec }; ${quote(value)} has another`) : copyOut(value as Value)
      const of = this.#of(value)
      return of === undefined ? undefined : this.#encode(of, value, pending)
    }
  }

  #encode(of: Codec | string, value: unknown, pending: Pending[]): unknown {
    if (typeof value === 'object' && value !== null) {
      if (value instanceof UriContent) return { [contentKey]: { uri: value.uri, codec: typeof of === 'string' ? of : of.id } }
      if (Object.hasOwn(value, contentKey) && contentOf(value as Value) !== undefined) return copyOut(value as Value)
    }
    const codec = typeof of === 'string' ? this.#known.get(of) : of
    if (codec === undefined) {
      // A plugin that is not loaded yet: what the caller may change is copied.
      const kept = isTypedArray(value) ? copyOut(value) : value
      return later(of as string, (async () => this.#made(await this.get(of as string) ?? fault(`the codec ${quote(of)} is not known here`), kept))(), pending)
    }
    const made = this.#made(codec, value)
    return made instanceof Promise ? later(codec.id, made, pending) : { [contentKey]: contentFor(codec.id, made) }
  }
  /** Bytes; or a text, which is no value of the codec and tells where its bytes lie. */
  #made(codec: Codec, value: unknown): Uint8Array | string | Promise<Uint8Array> {
    if (!isOf(codec, value)) {
      if (typeof value === 'string' && URL.canParse(value)) return value
      fault(`it takes ${codec.expects ?? `what the codec ${quote(codec.id)} is for`} and was given ${describe(value)}`)
    }
    try {
      return codec.encode(value)
    } catch (error) {
      if (error instanceof Unstorable) throw error
      return fault(`the codec ${quote(codec.id)} cannot encode it: ${messageOf(error)}`)
    }
  }
}

/** A value that makes `is` throw is none of its codec: others are asked. */
function isOf(of: Codec, value: unknown): boolean {
  try {
    return of.is(value)
  } catch {
    return false
  }
}

function later(codec: string, made: Promise<Uint8Array | string>, pending: Pending[]): unknown {
  const content: Record<string, Value> = {}
  made.catch(() => {})                                                       // thrown where it is awaited
  pending.push({ content, codec, made })
  return { [contentKey]: content }
}
function contentFor(codec: string, made: unknown): Doc {
  if (typeof made === 'string') return { uri: made, codec }
  return made instanceof Uint8Array ? { bytes: made, codec } : fault(`the codec ${quote(codec)} encoded it as ${describe(made)}; bytes are expected`)
}

/** Fills in the bytes of a copied document. A codec that fails is the fault of its field. */
export async function settleContent(doc: Value, pending: readonly Pending[]): Promise<void> {
  for (const { content, codec, made } of pending) {
    try {
      Object.assign(content, contentFor(codec, await made))
    } catch (error) {
      throw new Unstorable({ path: pathTo(doc, content) ?? '', reason: error instanceof Unstorable ? error.fault.reason : `the codec ${quote(codec)} cannot encode it: ${messageOf(error)}` })
    }
  }
}
function pathTo(value: Value, content: object): string | undefined {
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value) || value instanceof Date) return undefined
  if ((value as { readonly [contentKey]?: unknown })[contentKey] === content) return ''
  for (const [name, part] of Object.entries(value)) {
    const path = pathTo(part as Value, content)
    if (path !== undefined) return path === '' ? name : `${name}.${path}`
  }
  return undefined
}

/** The document with the values of declared fields marked for their codec, those of lists one by one, but for those that are `known`. Shares what is not on the way. */
export function marked(doc: object, declared: Declared, known?: ReadonlyMap<unknown, Value>): object {
  return Object.entries(declared).reduce((next, [path, of]) => mark(next, path.split('.'), (value) => new Marked(of, known?.has(value) === true ? known.get(value) : value)) as object, doc)
}
/** `value` with what `by` gives for what a path leads to; null and what is missing stay. */
export function mark(value: unknown, [name, ...rest]: readonly string[], by: (value: unknown) => unknown): unknown {
  if (Array.isArray(value)) return value.map((v: unknown) => mark(v, name === undefined ? [] : [name, ...rest], by))
  if (value === null || value === undefined) return value
  if (name === undefined) return by(value)
  if (typeof value !== 'object' || !Object.hasOwn(value, name)) return value
  const next = { ...value } as Record<string, Value>
  setOwn(next, name, mark((value as Record<string, unknown>)[name], rest, by) as Value)
  return next
}

/** A value in a few words: its type and size. */
export function describe(value: unknown): string {
  if (isTypedArray(value)) return `${value.constructor.name.replace(/Array$/, '').toLowerCase().replace('big', '').replace('uint8clamped', 'clamped uint8')}[${value.length}]`
  if (typeof value !== 'object' || value === null) return quote(value)
  const { type, dims, constructor } = value as { readonly type?: unknown; readonly dims?: unknown; readonly constructor?: { readonly name?: string } }
  if (typeof type === 'string' && Array.isArray(dims)) {
    const { data } = value as Tensor, whole = isTypedArray(data) && arrayOf(data) === elementArrays[type] && data.length === sizeOf(dims)
    return `a tensor ${type}[${dims.join(',')}]${whole ? '' : `, whose data are ${describe(data)}`}`
  }
  return Array.isArray(value) ? `a list of ${value.length}` : constructor === Object || constructor === undefined ? `an object with ${Object.keys(value).map(quote).join(', ') || 'nothing'}` : `a ${constructor.name}`
}

/** Refuses what is no codec. */
export function checkDeclared(declared: unknown, of: string): Declared {
  if (typeof declared !== 'object' || declared === null) throw new InlayError('INVALID_ARGUMENT', `codecs of ${of} is ${quote(declared)}; an object of fields and codecs is expected: { photo: 'image' }.`)
  for (const [path, codec] of Object.entries(declared)) {
    const id: unknown = typeof codec === 'string' ? codec : (codec as { readonly id?: unknown } | null)?.id
    if (typeof id !== 'string' || path === '' || path.startsWith('_')) throw new InlayError('INVALID_ARGUMENT', `codecs of ${of} gives ${quote(path)} the codec ${quote(codec)}; a codec, or the id of one, is expected.`)
  }
  return declared as Declared
}
