/**
 * Components: declared data such as models and listeners, kept in the collection `_components` of the data database. One row per name holds all its
 * versions, and is changed by compare-and-set: two processes that declare the same name at once get versions 0 and 1, never two 0s.
 */
import type { Ctx, Datalayer, Doc, Row, Value } from './contract.ts'
import { hashOf } from './encoding.ts'
import { InlayError, quote } from './errors.ts'

export type ComponentKind = 'model' | 'listener' | 'index' | 'codec'
export interface ComponentVersion { readonly version: number; readonly hash: string; readonly spec: Doc; readonly created: Date }
/** What is stored of one name. */
export interface Component {
  readonly kind: ComponentKind
  readonly name: string
  readonly versions: readonly ComponentVersion[]
  /** What changes while the content stays, by version: a listener's outputs being complete. */
  readonly state: Doc
  readonly rev: string
}
/** What `show` says of a component's version. */
export interface Shown { readonly kind: string; readonly name: string; readonly version: number }

const componentsCollection = '_components'
const attempts = 50

/** Names of components may stand in paths and tables; those of collections and fields are the user's and may be anything. */
export function checkName(what: string, name: unknown): string {
  if (typeof name === 'string' && /^[A-Za-z][A-Za-z0-9_-]{0,47}$/.test(name)) return name
  const suggestion = String(name).normalize('NFKD').replace(/[^A-Za-z0-9_-]+/g, '_').replace(/^[^A-Za-z]+/, '').slice(0, 48)
  throw new InlayError('INVALID_ARGUMENT', `The ${what} name ${quote(name)} is not allowed: a letter, then letters, digits, _ or -, at most 48 in all.${suggestion === '' ? '' : ` Try ${quote(suggestion)}.`}`)
}

export class Components {
  readonly #data: Datalayer
  constructor(data: Datalayer) { this.#data = data }

  async open(ctx: Ctx): Promise<void> {
    await this.#data.create({ name: componentsCollection, attached: false, track: 'none' }, ctx)
  }

  async all(ctx: Ctx): Promise<readonly Component[]> {
    const found: Component[] = []
    for await (const rows of this.#data.find({ from: componentsCollection }, ctx)) found.push(...rows.map(read))
    return found
  }

  /** The revs only: whether anything changed. */
  async revs(ctx: Ctx): Promise<readonly { readonly rev: string }[]> {
    const found: { readonly rev: string }[] = []
    for await (const rows of this.#data.find({ from: componentsCollection, fields: [] }, ctx)) found.push(...rows.map(({ rev }) => ({ rev })))
    return found
  }

  async get(kind: ComponentKind, name: string, ctx: Ctx): Promise<Component | undefined> {
    for await (const rows of this.#data.find({ from: componentsCollection, where: { kind: 'keys', keys: [idOf(kind, name)] } }, ctx)) {
      if (rows[0] !== undefined) return read(rows[0])
    }
    return undefined
  }

  /** Adds a version, unless one with equal content is there, and sets the state that goes with it, in one write. */
  async add(kind: ComponentKind, name: string, spec: Doc, ctx: Ctx, stateOf: (before: Doc, version: number) => Doc = (before) => before): Promise<{ readonly version: ComponentVersion; readonly added: boolean }> {
    const hash = hashOf(spec)
    let added: ComponentVersion | undefined
    const component = await this.change(kind, name, ctx, (there) => {
      const same = there?.versions.find((v) => v.hash === hash), before = there?.state ?? {}
      added = same === undefined ? { version: (there?.versions.at(-1)?.version ?? -1) + 1, hash, spec, created: new Date() } : undefined
      const state = stateOf(before, (same ?? added)!.version)
      if (added === undefined && hashOf(state) === hashOf(before)) return undefined
      return { versions: [...(there?.versions ?? []), ...(added === undefined ? [] : [added])], state }
    })
    return { version: component!.versions.find((v) => v.hash === hash)!, added: added !== undefined }
  }

  /** Compare-and-set with repetition: `make` sees what is there and says what shall be; `undefined` leaves it. */
  async change(kind: ComponentKind, name: string, ctx: Ctx, make: (there: Component | undefined) => { readonly versions: readonly ComponentVersion[]; readonly state: Doc } | undefined): Promise<Component | undefined> {
    const key = idOf(kind, name)
    for (let attempt = 0; attempt < attempts; attempt++) {
      const there = await this.get(kind, name, ctx), next = make(there)
      if (next === undefined) return there
      const doc = { kind, name, versions: next.versions.map((v): Doc => ({ ...v })), state: next.state }
      const [written] = await this.#data.write(componentsCollection, [there === undefined ? { kind: 'insert', key, doc } : { kind: 'put', key, doc, rev: there.rev }], ctx)
      if (written!.status === 'done') return { kind, name, ...next, rev: written!.rev! }
      if (written!.status === 'refused') throw new InlayError('INVALID_ARGUMENT', `The ${kind} ${quote(name)} cannot be stored: ${written!.reason}`)
    }
    throw new InlayError('CONFLICT', `The ${kind} ${quote(name)} was changed by others ${attempts} times while it was being changed here. Try again later.`, { retryable: true })
  }

  /** Removes a component while `still` holds of it. */
  async remove(kind: ComponentKind, name: string, ctx: Ctx, still: (component: Component) => boolean = () => true): Promise<void> {
    for (let attempt = 0; attempt < attempts; attempt++) {
      const there = await this.get(kind, name, ctx)
      if (there === undefined || !still(there)) return
      const [written] = await this.#data.write(componentsCollection, [{ kind: 'remove', key: idOf(kind, name), rev: there.rev }], ctx)
      if (written!.status !== 'moved') return
    }
  }
}

function idOf(kind: ComponentKind, name: string): string {
  return `${kind}/${name}`
}

function read(row: Row): Component {
  const { kind, name, versions, state } = row.doc as { kind: ComponentKind; name: string; versions: readonly Value[]; state: Doc }
  return { kind, name, versions: versions as unknown as readonly ComponentVersion[], state, rev: row.rev }
}
