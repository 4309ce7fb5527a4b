/** Outputs in, and out again with what they were made from. All within the transaction of the one who writes, so what is compared cannot move. */
import type { Key, Outcome, Slot, Value } from '../../core/contract.ts'
import { knownSlots, table, type Place } from './schema.ts'
import { valuesOf } from './shape.ts'
import { isOneOf, type Source } from './source.ts'
import { Params, type Run, type Writer } from './sql.ts'

/** Joins to the marks of what a slot reads: its composite rev, whether all of it has values, and whether all of it is current. */
export interface Upstream { readonly join: string; readonly rev: string; readonly valued: string; readonly current: string }

export function markOffset(slot: Pick<Slot, 'many'>): number {
  return slot.many ? -1 : 0
}

/** Stores what was made from the rows as they are now; gives the keys of the others. The row is the fence: it is compared in the statement that stores. */
export async function settle(place: Place, writer: Writer, slot: Slot, source: Source, upstream: Upstream, outcomes: readonly Outcome[]): Promise<readonly Key[]> {
  const { run } = writer, t = table(place, slot.id), off = markOffset(slot), accepted = new Set<Key>()
  const fence = (of: readonly Outcome[], p: Params): string => `join ${source.from} on ${source.key} = v.key ${upstream.join} where ${source.only} and ${source.narrowed(of.map((o) => o.key), p.add)} and ${upstream.rev} = v.rev and ${upstream.current}`
  const stored = outcomes.filter((o) => o.kind !== 'same'), same = outcomes.filter((o) => o.kind === 'same')
  if (stored.length > 0) {
    const p = new Params(), values = await valuesOf(writer, slot.shape, stored.map((o) => (o.kind === 'values' && !slot.many ? o.values[0] : undefined)), p.add)
    const staged = values.join === '' ? ['v.value', ''] as const : ['s.v', `join ${values.join} s on s.n = v.n`] as const
    const columns = [
      `unnest(${p.add(stored.map((o) => o.key))}) as key`, `unnest(${p.add(stored.map((o) => o.rev))}) as rev`, `unnest(${p.add(stored.map((o) => o.hash))}) as hash`, `unnest(${p.add(stored.map((o) => (o.kind === 'error' ? o.error : null)))}) as err`,
      `unnest(${p.add({ type: 'integer', items: stored.map((o) => (o.kind === 'error' ? o.tries : null)) })}) as tries`, `unnest(${p.add({ type: 'boolean', items: stored.map((o) => o.kind === 'skip') })}) as none`, `unnest(${p.add(stored.map((o) => o.by ?? null))}) as made_by`, values.column, `unnest(range(1, ${stored.length + 1})) as n`,
    ]
    const rows = await run(`insert into ${t} (key, off, rev, hash, err, tries, none, made_by, value) select v.key, ${off}, v.rev, v.hash, v.err, v.tries, v.none, v.made_by, ${staged[0]} from (select ${columns.join(', ')}) v ${staged[1]} ${fence(stored, p)}
      on conflict (key, off) do update set rev = excluded.rev, hash = excluded.hash, err = excluded.err, tries = excluded.tries, none = excluded.none, made_by = excluded.made_by, value = excluded.value returning key`, p.list)
    for (const row of rows) accepted.add(row['key'] as Key)
    if (slot.many) await replaceMany(place, writer, slot, stored.filter((o) => accepted.has(o.key)))
  }
  if (same.length > 0) {
    const p = new Params(), columns = [`unnest(${p.add(same.map((o) => o.key))}) as key`, `unnest(${p.add(same.map((o) => o.rev))}) as rev`, `unnest(${p.add(same.map((o) => o.hash))}) as hash`]
    const rows = await run(`update ${t} o set rev = ok.rev from (select v.* from (select ${columns.join(', ')}) v ${fence(same, p)}) ok where o.key = ok.key and o.off = ${off} and o.hash = ok.hash returning o.key`, p.list)
    for (const row of rows) accepted.add(row['key'] as Key)
  }
  return outcomes.filter((o) => !accepted.has(o.key)).map((o) => o.key)
}

/** A value that stays keeps its row and its rev, so that what was derived from it stays too; those that are gone take theirs along. */
async function replaceMany(place: Place, writer: Writer, slot: Slot, outcomes: readonly Outcome[]): Promise<void> {
  const { run } = writer, t = table(place, slot.id), valuesOfOne = (o: Outcome): readonly Value[] => (o.kind === 'values' ? o.values : [])
  const old = new Params()
  const gone = await run(`delete from ${t} o using (select unnest(${old.add(outcomes.map((o) => o.key))}) as key, unnest(${old.add({ type: 'integer', items: outcomes.map((o) => valuesOfOne(o).length) })}) as n) v where o.key = v.key and o.off >= v.n returning o.key || '#' || o.off as id`, old.list)
  await forgetDerived(place, run, slot.id, gone.map((row) => row['id'] as Key))
  const flat = outcomes.flatMap((o) => valuesOfOne(o).map((value, off) => ({ key: o.key, off, value })))
  if (flat.length === 0) return
  const p = new Params(), values = await valuesOf(writer, slot.shape, flat.map((f) => f.value), p.add), value = values.join === '' ? 'v.value' : 's.v'
  await run(`insert into ${t} as o (key, off, rev, hash, none, value) select v.key, v.off, md5(${value}::varchar), '', false, ${value} from (select unnest(${p.add(flat.map((f) => f.key))}) as key, unnest(${p.add({ type: 'integer', items: flat.map((f) => f.off) })}) as off, ${values.column}, unnest(range(1, ${flat.length + 1})) as n) v${values.join === '' ? '' : ` join ${values.join} s on s.n = v.n`}
    on conflict (key, off) do update set rev = excluded.rev, value = excluded.value where o.rev <> excluded.rev`, p.list)
}

/** Removes the outputs of a slot for these keys, and what was derived from them. */
export async function forget(place: Place, run: Run, slot: string, keys: readonly Key[]): Promise<void> {
  const p = new Params()
  const gone = await run(`delete from ${table(place, slot)} where ${isOneOf('key', keys, p.add)} returning key || '#' || off as id, off`, p.list)
  await forgetDerived(place, run, slot, gone.filter((row) => (row['off'] as number) >= 0).map((row) => row['id'] as Key))
}

/** Removes the outputs of all slots on these rows of a collection, or of a slot with many outputs. */
export async function forgetDerived(place: Place, run: Run, of: string, keys: readonly Key[]): Promise<void> {
  if (keys.length === 0) return
  for (const slot of await knownSlots(place, run)) if (slot.collection === of) await forget(place, run, slot.id, keys)
}
