/** Elements of lists that are read, offered, counted or searched otherwise than rows. */
import type { Datalayer, Doc, Filter, Key, Query, Row, Slot, Value } from '../../core/contract.ts'
import { all } from '../conformance/subject.ts'
import { deepMap, mutant, type Mutant, type Replaced } from './mutant.ts'

type Change = (next: Datalayer, lists: ReadonlyMap<string, Slot>) => Partial<Datalayer>
/** A fault that knows which slots hold lists. */
const knowing = (change: Change): Replaced => ({ data: (next) => { const lists = new Map<string, Slot>(); return { openSlot(slot, ctx) { if (slot.many) lists.set(slot.id, slot); return next.openSlot(slot, ctx) }, ...change(next, lists) } } })
const finding = (change: (rows: readonly Row[], query: Query) => readonly Row[]): Replaced => knowing((next, lists) => ({ async *find(q, ctx) { for await (const rows of next.find(q, ctx)) yield lists.has(q.from) ? change(rows, q) : rows } }))
const asking = (change: (query: Query) => Query): Replaced => knowing((next, lists) => { const asked = (q: Query): Query => (lists.has(q.from) ? change(q) : q); return { find: (q, ctx) => next.find(asked(q), ctx), count: (q, ctx) => next.count(asked(q), ctx) } })
const offering = (change: (rows: readonly Row[], which: string) => readonly Row[], hints: (keys: readonly Key[]) => readonly Key[] = (keys) => keys): Replaced => knowing((next, lists) => ({ async *rows(slot, which, keys, ctx) { const of = lists.has(slot.collection); for await (const rows of next.rows(slot, which, of && keys !== 'all' ? hints(keys) : keys, ctx)) yield of ? change(rows, which) : rows } }))
const source = (key: Key): Key => key.slice(0, Math.max(0, key.lastIndexOf('#')))
const offset = (key: Key): number => Number(key.slice(key.lastIndexOf('#') + 1))
const without = (query: Query, ...parts: readonly (keyof Query)[]): Query => Object.fromEntries(Object.entries(query).filter(([part]) => !parts.includes(part as keyof Query))) as unknown as Query
const nothing: Filter = { kind: 'keys', keys: [] }
const deep = (f: Filter, change: (f: Filter) => Filter): Filter => change(f.kind === 'and' || f.kind === 'or' ? { ...f, of: f.of.map((part) => deep(part, change)) } : f.kind === 'not' ? { ...f, of: deep(f.of, change) } : f)
const filtering = (change: (f: Filter) => Filter): Replaced => asking((q) => (q.where === undefined ? q : { ...q, where: deep(q.where, change) }))

export const elements: readonly Mutant[] = [
  mutant('a hint for an element is one for its list', 'slots.elements.hints', offering((rows) => rows, (keys) => keys.flatMap((key) => Array.from({ length: 9 }, (_, i) => `${source(key)}#${i}`)))),
  mutant('failed elements are not offered again', 'slots.elements.outcomes', offering((rows, which) => (which === 'failed' ? [] : rows))),
  mutant('a failed element is taken for a missing one', 'slots.elements.outcomes', knowing((next, lists) => ({ tally: async (slot, ctx) => { const t = await next.tally(slot, ctx); return lists.has(slot.collection) ? { ...t, missing: t.missing + t.failed, failed: 0 } : t } }))),
  mutant('same is refused for elements', 'slots.elements.same', knowing((next, lists) => ({ settle: async (slot, outcomes, ctx) => { const kept = outcomes.filter((o) => o.kind !== 'same' || !lists.has(slot.collection)); return [...await next.settle(slot, kept, ctx), ...outcomes.filter((o) => !kept.includes(o)).map((o) => o.key)] } }))),
  mutant('the selection of a slot on elements is ignored', 'slots.elements.where-keys', knowing((next, lists) => { const open = ({ where, ...slot }: Slot): Slot => (lists.has(slot.collection) || where === undefined ? slot : { ...slot, where }); return { rows: (slot, ...of) => next.rows(open(slot), ...of), tally: (slot, ctx) => next.tally(open(slot), ctx) } })),
  mutant('elements found by key have no outputs', 'slots.elements.read', finding((rows, q) => (q.where?.kind === 'keys' ? rows.map((row) => ({ ...row, outputs: {} })) : rows))),
  mutant('elements come whole, whatever fields are asked', 'slots.elements.read', asking((q) => without(q, 'fields'))),
  mutant('elements come in the order of their offsets', 'slots.elements.stepwise', finding((rows) => [...rows].sort((a, b) => (source(a.key) < source(b.key) ? -1 : source(a.key) > source(b.key) ? 1 : offset(a.key) - offset(b.key))))),
  mutant('a source of elements is no text', 'slots.elements.filters', filtering((f) => ('path' in f && f.path.at[0] === 'source' ? nothing : f))),
  mutant('the key of an element is that of its list', 'slots.elements.filters', filtering((f) => (f.kind === 'eq' && f.path.at[0] === '_id' ? { ...f, path: { at: ['source'] } } : f))),
  mutant('count counts all elements', 'slots.elements.filters', knowing((next, lists) => ({ count: (q, ctx) => next.count(lists.has(q.from) ? without(q, 'where') : q, ctx) }))),
  mutant('elements are not filtered by what was made from them', 'slots.elements.filter-outputs', filtering((f) => ('path' in f && f.path.slot !== undefined ? nothing : f))),
  mutant('elements are not sorted', 'slots.elements.order', asking((q) => without(q, 'order'))),
  mutant('all lists of a collection are one', 'slots.elements.two', knowing((next, lists) => { const first = (id: string): string => { const of = lists.get(id)?.collection; return [...lists.values()].find(({ collection }) => collection === of && of !== undefined)?.id ?? id }; return { find: (q, ctx) => next.find({ ...q, from: first(q.from) }, ctx) } })),
  mutant('dropping a list leaves what was made from it', 'slots.elements.two', knowing((next, lists) => ({ dropSlot: async (id, ctx) => { const slot = lists.get(id); if (slot === undefined) return next.dropSlot(id, ctx); for await (const rows of next.rows({ ...slot, upstream: [] }, 'all', 'all', ctx)) await next.settle(slot, rows.map((row) => ({ key: row.key, rev: row.rev, hash: '', kind: 'values', values: [] })), ctx) } }))),
  mutant('a vector of a list is read as numbers', 'slots.elements.shapes', offering((rows) => rows.map((row) => ({ ...row, doc: deepMap(row.doc, (v): Value => (v instanceof Float32Array ? [...v] : v)) as Doc })))),
  mutant('what was settled between two batches of elements is offered again', 'slots.elements.batch', knowing((next, lists) => ({ async *rows(slot, which, keys, ctx) { const rows = await all(next.rows(slot, which, keys, ctx)); if (!lists.has(slot.collection) || rows.length < 300) { yield rows; return } yield rows.slice(0, 300); yield rows.slice(200) } }))),
  mutant('an element has one byte at most', 'content.lists.values', finding((rows) => rows.map((row) => ({ ...row, doc: deepMap(row.doc, (v): Value => (v instanceof Uint8Array ? Uint8Array.of(0) : v)) as Doc })))),
]
