/** The collections that this process uses: its own, made when they are first used, and those that somebody else made and the user attached. */
import type { Fold } from './api.ts'
import type { Declared as Codecs } from './codec.ts'
import type { Collection, Ctx, Datalayer, Key } from './contract.ts'
import { sha256 } from './encoding.ts'
import { InlayError, quote } from './errors.ts'
import { race } from './guard.ts'
import type { Conjunct } from './match.ts'

/** What the application said of a collection. */
export interface Declared {
  readonly attach?: string
  readonly track?: Collection['track']
  readonly fold?: (key: Key) => Fold
  readonly codecs?: Codecs
}

const defaultFold = { valid: 0.05, seed: 0 }

export function foldBy({ valid = defaultFold.valid, seed = defaultFold.seed }: { readonly valid?: number; readonly seed?: number } = {}): (key: Key) => Fold {
  return (key) => (Number.parseInt(sha256(`${seed}:${key}`).slice(0, 8), 16) / 2 ** 32 < valid ? 'valid' : 'train')
}

export class Collections {
  readonly #data: Datalayer
  /** Lives as long as the `Inlay`: what several calls wait for is stopped by none of them. */
  readonly #shared: Ctx
  readonly #declared = new Map<string, Declared>()
  readonly #opened = new Map<string, Promise<Collection>>()
  readonly #attached = new Set<string>()
  /** Attached ones that were removed here: an old handle is not to make one of Inlay's own. */
  readonly #removed = new Set<string>()

  constructor(data: Datalayer, shared: Ctx) {
    this.#data = data
    this.#shared = shared
  }

  declare(name: string, declared: Declared): void {
    this.#removed.delete(name)
    const before = this.#declared.get(name)
    if (declared.attach !== undefined && (declared.attach !== before?.attach || declared.track !== before.track)) this.#opened.delete(name)
    // A handle without options takes away nothing that another one said.
    this.#declared.set(name, { ...before, ...declared })
  }
  /** What is declared here and would be attached. */
  attaching(): readonly (readonly [name: string, declared: Declared])[] {
    return [...this.#declared].filter(([, { attach }]) => attach !== undefined)
  }
  foldOf(name: string): (key: Key) => Fold {
    // Of what is attached it is not stored: every process must compute the same.
    return (this.#attached.has(name) ? undefined : this.#declared.get(name)?.fold) ?? foldBy()
  }
  /** Which codec the values of some fields have, by path. */
  codecsOf(name: string): Codecs | undefined {
    return this.#declared.get(name)?.codecs
  }
  /** Somebody else's, as far as this process has seen: it opens a collection before it reads it. */
  attached(name: string): boolean {
    return this.#attached.has(name)
  }

  /** Makes or attaches the collection when it is first used. */
  open(name: string, ctx: Ctx): Promise<Collection> {
    let opened = this.#opened.get(name)
    if (opened === undefined) {
      opened = this.#open(name)
      this.#opened.set(name, opened)
      opened.catch(() => this.#opened.delete(name))
    }
    return race(opened, ctx)
  }
  async #open(name: string): Promise<Collection> {
    if (this.#removed.has(name)) throw new InlayError('NOT_FOUND', `The collection ${quote(name)}, which was attached, was removed. Attach it again with db.collection().`)
    const declared = this.#declared.get(name), opened = declared?.attach === undefined ? await this.#own(name) : await this.#attach(name, declared.attach, declared.track)
    this.note([opened])
    return opened
  }
  async #own(name: string): Promise<Collection> {
    const own: Collection = { name, attached: false, track: 'notify' }
    try {
      await this.#data.create(own, this.#shared)
      return own
    } catch (error) {
      // Another process may have attached it.
      const there = InlayError.is(error) && error.code === 'CONFLICT' ? await this.#find(name) : undefined
      if (there === undefined) throw error
      return there
    }
  }
  async #attach(name: string, attached: string, track: Collection['track'] | undefined): Promise<Collection> {
    const { attaches, notices } = this.#data.capabilities
    if (!attaches) throw new InlayError('UNSUPPORTED', `The collection ${quote(name)} cannot be attached to ${quote(attached)}: this database has only collections of Inlay's own. Leave "attach" out, or use a database that holds tables of others.`)
    if (track === 'notify' && notices !== 'all') throw new InlayError('UNSUPPORTED', `The collection ${quote(name)} cannot be attached with track: "notify": this database tells nobody of the writes of others. Use track: "none"; db.verify({ repair: true, deep: true }) then finds changes.`)
    const there = await this.#find(name)
    if (there?.attached === attached && there.track === (track ?? there.track)) return there
    await this.#data.create({ name, attached, track: track ?? there?.track ?? 'none' }, this.#shared)
    return (await this.#find(name))!
  }
  async #find(name: string): Promise<Collection | undefined> {
    return (await this.#data.list(this.#shared)).find((c) => c.name === name && c.attached !== false)
  }

  /** Takes over what the database lists. */
  note(listed: readonly Collection[]): void {
    for (const { name, attached } of listed) if (attached !== false) this.#attached.add(name)
  }
  forget(name?: string): void {
    if (name === undefined) {
      this.#opened.clear()
      this.#attached.clear()
      return
    }
    this.#opened.delete(name)
    if (this.#attached.delete(name)) this.#removed.add(name)
    const { attach: _, track: __, ...rest } = this.#declared.get(name) ?? {}
    this.#declared.set(name, rest)
  }
}

/** On an attached collection `_fold` is computed, not stored: what reads it is tested here. */
export function withoutFold(conjuncts: readonly Conjunct[]): readonly Conjunct[] {
  return conjuncts.map((conjunct) => {
    if (!conjunct.reads.includes('_fold')) return conjunct
    const { filter: _, ...rest } = conjunct
    return rest
  })
}
