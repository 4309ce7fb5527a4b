/** The in-memory plugin: rows, outputs and artifacts in maps. `memory:` is private to its connection, `memory:name` is shared within the process. */
import type { ArtifactStore, Collection, Connection, Ctx, DataCapabilities, Datalayer, Doc, Filter, Key, Mark, Notice, Outcome, Plugin, Query, Row, Slot, Tally, Value, Write, Written } from './contract.ts'
import { hashOf, pick } from './encoding.ts'
import { InlayError, quote } from './errors.ts'
import { evaluate } from './match.ts'
import { Top } from './sort.ts'
import { compareStrings, copyOut } from './value.ts'

interface Stored { readonly rev: string; readonly doc: Doc }
interface Output { readonly mark: Mark; readonly values: readonly Value[] | undefined }
interface Store {
  readonly collections: Map<string, { readonly of: Collection; readonly rows: Map<Key, Stored> }>
  readonly slots: Map<string, { readonly of: Slot; readonly outputs: Map<Key, Output> }>
  readonly artifacts: Map<string, { readonly bytes: Uint8Array; readonly written: number }>
  /** Who is told of writes. */
  readonly watchers: Set<{ readonly collection: string; tell(keys: readonly Key[]): void }>
  counter: number
}

const pageRows = 500
const named = new Map<string, Store>()
const capabilities: DataCapabilities = Object.freeze({
  filters: ['and', 'or', 'not', 'eq', 'lt', 'lte', 'gt', 'gte', 'in', 'null', 'exists', 'prefix', 'keys'] as const, order: true, durable: false, writers: 'one-process', attaches: false, notices: 'own', givenRevs: true, foreign: false,
  refuses: [], loses: [], limits: {}, notes: ['Rows live as long as the process.'],
} as const)

export const memory: Plugin = {
  name: 'memory',
  contract: 1,
  schemes: ['memory'],
  identify: (uri) => uri,
  async connect(uri, { namespace }) {
    const name = uri.slice('memory:'.length), id = `${name}\n${namespace}`
    const store = (name === '' ? undefined : named.get(id)) ?? { collections: new Map(), slots: new Map(), artifacts: new Map(), watchers: new Set(), counter: 0 }
    if (name !== '') named.set(id, store)
    return { server: 'memory', data: datalayer(store), artifacts: artifactStore(store), close: async () => {} } satisfies Connection
  },
}

function datalayer(store: Store): Datalayer {
  const slotOf = (id: string): { readonly of: Slot; readonly outputs: Map<Key, Output> } => store.slots.get(id) ?? missing('slot', id)
  const collectionOf = (name: string): Map<Key, Stored> => store.collections.get(name)?.rows ?? missing('collection', name)
  const chunk = (key: Key, offset: number, value: Value): [Key, Stored] => [`${key}#${offset}`, { rev: hashOf(value), doc: { value, source: key, offset } }]

  const stored = (from: string, key: Key): Stored | undefined => {
    const slot = store.slots.get(from)
    if (slot === undefined) return collectionOf(from).get(key)
    const cut = key.lastIndexOf('#'), offset = Number(key.slice(cut + 1)), value = slot.outputs.get(key.slice(0, cut))?.values?.[offset]
    return value === undefined ? undefined : chunk(key.slice(0, cut), offset, value)[1]
  }
  /** Rows of a collection or of a `many` slot, in key order. */
  const all = (from: string): readonly [Key, Stored][] => {
    const slot = store.slots.get(from)
    const entries = slot === undefined ? [...collectionOf(from)] : [...slot.outputs].flatMap(([key, o]) => (o.values ?? []).map((value, i) => chunk(key, i, value)))
    return entries.sort(([a], [b]) => compareStrings(a, b))
  }
  const some = (from: string, keys: readonly Key[] | 'all'): readonly [Key, Stored][] => (keys === 'all' ? all(from)
    : [...new Set(keys)].sort(compareStrings).flatMap((key): [Key, Stored][] => { const s = stored(from, key); return s === undefined ? [] : [[key, s]] }))
  const outputOf = (key: Key) => (slot: string): readonly Value[] | undefined => slotOf(slot).outputs.get(key)?.values
  const matches = (where: Filter | undefined, key: Key, doc: Doc): boolean => where === undefined || evaluate(where, key, doc, outputOf(key))
  /** The row's rev with its upstream's hashes; undefined while an upstream output is stale, failed or none. */
  const revOf = (slot: Slot, key: Key, row: Stored): string | undefined => {
    let rev = row.rev
    for (const id of slot.upstream) {
      const up = slotOf(id), output = up.outputs.get(key)
      if (output?.values === undefined || output.mark.rev !== revOf(up.of, key, row)) return undefined
      rev += `|${output.mark.hash}`
    }
    return rev
  }
  const belongs = (slot: Slot, key: Key): boolean => {
    const row = stored(slot.collection, key)
    return row !== undefined && matches(slot.where, key, row.doc) && slot.upstream.every((id) => outputOf(key)(id) !== undefined)
  }
  /** Removes the outputs of a row of `from`, and what was derived from them. */
  const forget = (from: string, key: Key): void => {
    for (const { of, outputs } of store.slots.values()) if (of.collection === from) drop(of, outputs, key)
  }
  const drop = (slot: Slot, outputs: Map<Key, Output>, key: Key): boolean => {
    outputs.get(key)?.values?.forEach((_, i) => forget(slot.id, `${key}#${i}`))
    return outputs.delete(key)
  }
  const dropDerived = (from: string): void => {
    for (const { of } of store.slots.values()) {
      if (of.collection !== from) continue
      store.slots.delete(of.id)
      dropDerived(of.id)
    }
  }
  const apply = (rows: Map<Key, Stored>, name: string, op: Write): Written => {
    const n = ++store.counter, rev = ('as' in op ? op.as : undefined) ?? `r${n}`, key = op.key ?? `k${n}`, old = rows.get(key)
    if (op.kind === 'insert') {
      if (old !== undefined) return { status: 'exists', key }
    } else {
      if (old === undefined && (op.kind !== 'put' || op.rev !== undefined)) return { status: 'missing', key }
      if (op.rev !== undefined && op.rev !== old?.rev) return { status: 'moved', key }
    }
    if (op.kind === 'remove') {
      rows.delete(key)
      forget(name, key)
      return { status: 'done', key }
    }
    const doc: Doc = op.kind === 'patch' ? Object.fromEntries([...Object.entries(old!.doc).filter(([f]) => !op.unset.includes(f)), ...Object.entries(op.set)]) : op.doc
    rows.set(key, { rev, doc: copyOut(doc) })
    return { status: 'done', key, rev }
  }
  const search = (query: Query): readonly Row[] => {
    const matching = all(query.from).filter(([key, s]) => (query.after === undefined || compareStrings(key, query.after) > 0) && matches(query.where, key, s.doc))
    const found = query.order === undefined ? matching : inOrder(matching, query.order)
    const skip = query.skip ?? 0
    return found.slice(skip, query.limit === undefined ? undefined : skip + query.limit).map(([key, s]) => ({
      key, rev: s.rev, doc: copyOut(query.fields === undefined ? s.doc : pick(s.doc, query.fields)), outputs: outputs(query.slots ?? [], key),
    }))
  }
  const outputs = (slots: readonly string[], key: Key): Record<string, readonly Value[]> =>
    Object.fromEntries(slots.flatMap((id) => { const values = outputOf(key)(id); return values === undefined ? [] : [[id, values.map((v) => copyOut(v))]] }))

  return {
    capabilities,
    async create(collection) {
      const there = store.collections.get(collection.name)
      if (collection.attached !== false) throw new InlayError(there === undefined ? 'UNSUPPORTED' : 'CONFLICT', `The collection ${quote(collection.name)} cannot be attached to ${quote(collection.attached)}: ${there === undefined ? 'memory holds nothing that others made' : 'it is one of Inlay\'s own'}.`)
      if (there === undefined) store.collections.set(collection.name, { of: collection, rows: new Map() })
    },
    async drop(name) {
      store.collections.delete(name)
      dropDerived(name)
    },
    list: async () => [...store.collections.values()].map(({ of }) => of),
    async write(name, ops) {
      const rows = collectionOf(name), written = ops.map((op) => apply(rows, name, op)), keys = written.flatMap((w) => (w.status === 'done' ? [w.key] : []))
      for (const watcher of store.watchers) if (watcher.collection === name && keys.length > 0) watcher.tell(keys)
      return written
    },
    watch: (collection, ctx) => watch(store, collection, ctx),
    find: (query, ctx) => pages(() => search(query), ctx),
    count: async (query) => search(query).length,
    async openSlot(slot) {
      if (!store.slots.has(slot.id)) store.slots.set(slot.id, { of: slot, outputs: new Map() })
      return { filters: true }
    },
    async dropSlot(id) {
      store.slots.delete(id)
      dropDerived(id)
    },
    rows: (slot, which, keys, ctx) => pages(() => some(slot.collection, keys).flatMap(([key, row]): Row[] => {
      const rev = revOf(slot, key, row), mark = slotOf(slot.id).outputs.get(key)?.mark
      if (rev === undefined || !matches(slot.where, key, row.doc) || (which === 'stale' ? mark?.rev === rev : which === 'failed' && mark?.error === undefined)) return []
      const doc = copyOut(slot.fields === undefined ? row.doc : pick(row.doc, slot.fields))
      return [{ key, rev, doc, outputs: outputs(slot.upstream, key), ...(mark === undefined ? {} : { mark: { ...mark } }) }]
    }), ctx),
    async tally(slot) {
      const { outputs } = slotOf(slot.id)
      const tally = { rows: 0, missing: 0, stale: 0, failed: 0, orphaned: 0 }
      for (const [key, row] of all(slot.collection)) {
        if (!belongs(slot, key)) continue
        const mark = outputs.get(key)?.mark
        tally.rows++
        if (mark === undefined) tally.missing++
        else if (mark.rev !== revOf(slot, key, row)) tally.stale++
        else if (mark.error !== undefined) tally.failed++
      }
      for (const key of outputs.keys()) if (!belongs(slot, key)) tally.orphaned++
      return tally satisfies Tally
    },
    async settle(slot, outcomes) {
      const { outputs } = slotOf(slot.id)
      return outcomes.filter((outcome) => !settleOne(slot, outputs, outcome)).map((o) => o.key)
    },
    async prune(slot, keys) {
      const { outputs } = slotOf(slot.id)
      return (keys === 'all' ? [...outputs.keys()] : keys).filter((key) => !belongs(slot, key) && drop(slot, outputs, key)).length
    },
  }

  function settleOne(slot: Slot, outputs: Map<Key, Output>, outcome: Outcome): boolean {
    const { key, rev, hash } = outcome, row = stored(slot.collection, key), old = outputs.get(key)
    if (row === undefined || revOf(slot, key, row) !== rev) return false
    if (outcome.kind === 'same') {
      if (old === undefined || old.mark.hash !== hash) return false
      outputs.set(key, { mark: { ...old.mark, rev }, values: old.values })
      return true
    }
    const values = outcome.kind === 'values' ? outcome.values.map((v) => copyOut(v)) : undefined
    old?.values?.forEach((_, i) => { if (values === undefined || i >= values.length) forget(slot.id, `${key}#${i}`) })
    outputs.set(key, { mark: { rev, hash, ...(outcome.kind === 'error' ? { error: outcome.error, tries: outcome.tries } : outcome.kind === 'skip' ? { none: true as const } : {}), ...(outcome.by === undefined ? {} : { by: outcome.by }) }, values })
    return true
  }
}

/** What a watcher has not taken yet is kept as keys, so that it is bounded by the rows. */
async function* watch(store: Store, collection: string, { signal }: Ctx): AsyncIterable<Notice> {
  let told = new Set<Key>(), wake = (): void => {}
  const watcher = { collection, tell: (keys: readonly Key[]): void => { for (const key of keys) told.add(key); wake() } }
  const stop = (): void => wake()
  store.watchers.add(watcher)
  signal.addEventListener('abort', stop)
  try {
    yield { keys: 'stale', done: async () => {} }
    while (!signal.aborted) {
      const keys = [...told]
      told = new Set()
      if (keys.length > 0) yield { keys, done: async () => {} }
      else await new Promise<void>((resolve) => { wake = resolve })
    }
  } finally {
    store.watchers.delete(watcher)
    signal.removeEventListener('abort', stop)
  }
}

function inOrder(rows: readonly [Key, Stored][], by: NonNullable<Query['order']>): readonly [Key, Stored][] {
  const top = new Top<[Key, Stored]>(by.map(({ path, descending }) => ({ path: path.at, descending })), undefined)
  for (const row of rows) top.add({ ...row[1].doc, _id: row[0] }, row[0], row)
  return top.rows()
}

async function* pages(read: () => readonly Row[], ctx: Ctx): AsyncIterable<readonly Row[]> {
  const rows = read()
  for (let i = 0; i < rows.length; i += pageRows) {
    ctx.signal.throwIfAborted()
    yield rows.slice(i, i + pageRows)
  }
}

function missing(what: string, name: string): never {
  throw new InlayError('NOT_FOUND', `There is no ${what} ${quote(name)} in this database. Was it dropped by another program?`)
}

function artifactStore(store: Store): ArtifactStore {
  const bytesOf = (id: string): Uint8Array => store.artifacts.get(id)?.bytes ?? missing('artifact', id)
  return {
    async write(id, body) {
      const parts: Uint8Array[] = []
      for await (const part of body) parts.push(Uint8Array.from(part))
      store.artifacts.set(id, { bytes: Buffer.concat(parts), written: Date.now() })
    },
    async *read(id, { offset, length }) {
      yield Uint8Array.from(bytesOf(id).subarray(offset, length === undefined ? undefined : offset + length))
    },
    async *readMany(ids) {
      for (const id of ids) if (store.artifacts.has(id)) yield { id, bytes: Uint8Array.from(bytesOf(id)) }
    },
    async *list() {
      yield [...store.artifacts].map(([id, { bytes, written }]) => ({ id, bytes: bytes.byteLength, ageMs: Date.now() - written }))
    },
    async remove(ids, _, olderThanMs = -Infinity) {
      for (const id of ids) if (Date.now() - (store.artifacts.get(id)?.written ?? 0) >= olderThanMs) store.artifacts.delete(id)
    },
  }
}
