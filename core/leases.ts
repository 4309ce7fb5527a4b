/**
 * Who works on what: one row per slot and part of the keys, taken by compare-and-set, and one per worker, whose rev changes as long as it lives. Leases only keep two
 * workers from doing the same twice; what makes a late result right is the fence in `settle`. No clocks are compared: a worker is dead when its row has not changed for
 * `ttlMs` on the clock of who looks.
 */
import type { Ctx, Datalayer, Key, Row, Write } from './contract.ts'

const collection = '_leases'
const ttlMs = 6000
const forgetMs = 10 * ttlMs
/** Parts of the keys of each slot. */
export const partitions = 16

/** Which part a key belongs to: FNV-1a over its UTF-16 code units. */
export function partitionOf(key: Key): number {
  return fnv(key) % partitions
}
function fnv(text: string): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  return hash >>> 0
}

export class Leases {
  readonly worker: string
  readonly #data: Datalayer
  /** When each worker's row was seen to change. */
  readonly #seen = new Map<string, { readonly rev: string; readonly at: number }>()
  /** Revs of the leases that this worker holds. */
  readonly #held = new Map<string, string>()

  constructor(data: Datalayer, worker: string) {
    this.#data = data
    this.worker = worker
  }

  open(ctx: Ctx): Promise<void> {
    return this.#data.create({ name: collection, attached: false, track: 'none' }, ctx)
  }
  holds(slot: string, key: Key): boolean {
    return this.#held.has(`${slot}/${partitionOf(key)}`)
  }
  /** Any part, or a certain one. */
  holdsAny(slot: string, part?: number): boolean {
    return part === undefined ? Array.from({ length: partitions }, (_, p) => p).some((p) => this.#held.has(`${slot}/${p}`)) : this.#held.has(`${slot}/${part}`)
  }
  get size(): number {
    return this.#held.size
  }

  /** Says that this worker lives, takes the leases that are its share of these slots, gives back the others. Returns the slots of which it took some. `groups`: slots of one
   *  collection go to the same worker, if it can, so that a chain is computed in one go. */
  async beat(groups: ReadonlyMap<string, readonly string[]>, ctx: Ctx): Promise<ReadonlySet<string>> {
    const rows = new Map<string, Row>(), now = performance.now()
    for await (const page of this.#data.find({ from: collection }, ctx)) for (const row of page) rows.set(row.key, row)
    const slotsOf = new Map<string, ReadonlySet<string>>([[this.worker, new Set([...groups.values()].flat())]]), writes: Write[] = []
    for (const row of rows.values()) {
      if (!row.key.startsWith('worker/')) continue
      const id = row.key.slice('worker/'.length), seen = this.#seen.get(id)
      if (seen?.rev !== row.rev) this.#seen.set(id, { rev: row.rev, at: now })
      else if (now - seen.at > forgetMs) writes.push({ kind: 'remove', key: row.key, rev: row.rev })
      if (id !== this.worker && now - this.#seen.get(id)!.at <= ttlMs) slotsOf.set(id, new Set(row.doc['slots'] as readonly string[]))
    }
    writes.push({ kind: 'put', key: `worker/${this.worker}`, doc: { slots: [...slotsOf.get(this.worker)!] } })
    const wanted = new Map<string, string>()
    for (const [group, slots] of groups) {
      for (const slot of slots) {
        const able = [...slotsOf].filter(([, of]) => of.has(slot)).map(([id]) => id)
        for (let p = 0; p < partitions; p++) if (highest(able, `${group}/${p}`) === this.worker) wanted.set(`${slot}/${p}`, slot)
      }
    }
    for (const [lease] of wanted) {
      const row = rows.get(lease), owner = row?.doc['owner'] as string | undefined
      if (row === undefined) writes.push({ kind: 'insert', key: lease, doc: { owner: this.worker } })
      else if (owner === this.worker) this.#held.set(lease, row.rev)
      else if (!slotsOf.has(owner!)) writes.push({ kind: 'put', key: lease, doc: { owner: this.worker }, rev: row.rev })
    }
    for (const [lease, rev] of this.#held) {
      const row = rows.get(lease)
      if (wanted.has(lease) && row?.doc['owner'] === this.worker) continue
      this.#held.delete(lease)
      if (row?.doc['owner'] === this.worker) writes.push({ kind: 'remove', key: lease, rev })
    }
    const taken = new Set<string>()
    for (const { status, key, rev } of await this.#data.write(collection, writes, ctx)) {
      if (status !== 'done' || !wanted.has(key)) continue
      this.#held.set(key, rev!)
      taken.add(wanted.get(key)!)
    }
    return taken
  }

  /** Gives all back. */
  async close(ctx: Ctx): Promise<void> {
    const held = [...this.#held]
    this.#held.clear()
    await this.#data.write(collection, [...held.map(([key, rev]): Write => ({ kind: 'remove', key, rev })), { kind: 'remove', key: `worker/${this.worker}` }], ctx)
  }
}

/** Rendezvous hashing: when a worker comes or goes, only its share moves. */
function highest(workers: readonly string[], what: string): string | undefined {
  let best: string | undefined, most = -1
  for (const worker of workers) {
    const weight = fnv(`${worker}/${what}/${worker}`)
    if (weight > most || (weight === most && worker > best!)) { best = worker; most = weight }
  }
  return best
}
