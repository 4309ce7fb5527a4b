/** Tables of a namespace, which is a schema of the file: `_meta` lists collections and slots; each is a table. */
import type { Collection, Ctx, Slot } from '../../core/contract.ts'
import { InlayError, quote } from '../../core/errors.ts'
import { columnOf } from './shape.ts'
import { name, ownName, type Run, type Sql } from './sql.ts'
import { describe, type Table } from './table.ts'
import { makeView, standing } from './views.ts'

const format = '2'
/** DuckDB's limit of an array. */
export const maxDims = 100_000

/** Where a namespace lies. */
export interface Place {
  readonly sql: Sql
  readonly namespace: string
  /** Name of the open file where the namespace is called the same, which is ambiguous without it. Others are left out, so that a file may be renamed. */
  readonly catalog?: string
}
/** What `_meta` says of a slot. */
export interface KnownSlot { readonly id: string; readonly collection: string; readonly many: boolean; readonly label?: string }

export function table({ namespace, catalog }: Pick<Place, 'namespace' | 'catalog'>, of: string): string {
  return `${catalog === undefined ? '' : `${name(catalog)}.`}${ownName(namespace)}.${ownName(of)}`
}

/** Makes the namespace, or checks that this Inlay understands the one that is there. */
export async function openNamespace(sql: Sql, namespace: string, signal: AbortSignal): Promise<Place> {
  const [current] = await sql.read('select current_database() as name', [], signal), catalog = current!['name'] as string
  const place = { sql, namespace, ...(catalog.toLowerCase() === namespace.toLowerCase() ? { catalog } : {}) }, meta = table(place, '_meta')
  const found = await sql.write(async ({ run }) => {
    await run(`create schema if not exists ${name(catalog)}.${ownName(namespace)}`)
    await run(`create table if not exists ${meta} (kind varchar not null, name varchar not null, spec json not null, made bigint not null, primary key (kind, name))`)
    const [row] = await run(`select spec ->> '$' as format from ${meta} where kind = 'format'`)
    if (row?.['format'] === '1') {
      for (const { id } of await knownSlots(place, run)) await run(`alter table ${table(place, id)} add column made_by varchar`)
      await run(`update ${meta} set spec = to_json($1) where kind = 'format'`, [format])
      return format
    }
    if (row !== undefined) return row['format']
    await run(`insert into ${meta} values ('format', 'format', to_json($1), 0)`, [format])
    await run(`create table ${table(place, '_artifacts')} (id varchar primary key, generation varchar not null, bytes bigint not null, written timestamp not null)`)
    await run(`create table ${table(place, '_chunks')} (id varchar not null, generation varchar not null, n int not null, data blob not null, written timestamp not null)`)
    return format
  }, signal)
  if (found !== format) throw new InlayError('PLUGIN_INCOMPATIBLE', `The namespace ${quote(namespace)} has the format ${quote(found)}; this Inlay knows ${quote(format)}. Use the Inlay that made it, or another namespace.`)
  return place
}

export async function collections(place: Place, run: Run): Promise<readonly Collection[]> {
  return (await run(`select spec from ${table(place, '_meta')} where kind = 'collection' order by name`)).map((row) => JSON.parse(row['spec'] as string) as Collection)
}
/** Slots of the namespace, also those that nobody opened here, the last opened last. */
export async function knownSlots(place: Place, run: Run): Promise<readonly KnownSlot[]> {
  return (await run(`select name, spec from ${table(place, '_meta')} where kind = 'slot' order by made, name`)).map((row) => ({ id: row['name'] as string, ...JSON.parse(row['spec'] as string) as Omit<KnownSlot, 'id'> }))
}

/** Makes a collection of ours, or notes what is attached. */
export async function createCollection(place: Place, collection: Collection, { signal }: Ctx): Promise<void> {
  const meta = table(place, '_meta'), { name, attached } = collection
  const exists = (spec: unknown): boolean => {
    const there = JSON.parse(spec as string) as Collection
    if (there.attached === attached) return true
    const [is, asked] = [there.attached, attached].map((to) => (to === false ? 'one of Inlay\'s own' : `attached to ${quote(to)}`))
    throw new InlayError('CONFLICT', `The collection ${quote(name)} is ${is}, and cannot be ${asked}. Choose another name, or drop it first.`)
  }
  const known = async (run: Run): Promise<boolean> => {
    const [row] = await run(`select spec from ${meta} where kind = 'collection' and name = $1`, [name])
    return row !== undefined && exists(row['spec'])
  }
  const there = await known((text, params = []) => place.sql.read(text, params, signal))
  if (there && attached === false) return
  const of = attached === false ? undefined : await describe(place, name, attached, signal)
  await place.sql.write(async ({ run }) => {
    const spec = JSON.stringify({ name, attached, track: collection.track, ...(of?.file === true ? { readOnly: true } : {}) } satisfies Collection)
    const again = await known(run)
    if (!again && of === undefined) {
      const there = await standing(place, run, name)
      if (there === 'other') throw new InlayError('CONFLICT', `The collection ${quote(name)} cannot be made: the schema ${quote(place.namespace)} has something else of that name. Choose another name, or another namespace.`)
      if (there === 'view') await run(`drop view ${table(place, name)}`)
      await run(`create table ${table(place, name)} (_id varchar primary key, _rev varchar not null, doc json not null)`)
    }
    if (!again || of !== undefined) await run(`insert into ${meta} select 'collection', $1, $2::json, 0 on conflict (kind, name) do update set spec = excluded.spec`, [name, spec])
  }, signal)
}

/** The table of a slot: one row per output, and with `many` a row at offset -1 that carries the mark, so that an empty list is a known answer. */
export async function createSlot(place: Place, slot: Slot, attached: Table | undefined, { signal }: Ctx): Promise<void> {
  const meta = table(place, '_meta')
  if (slot.shape.kind === 'vector' && slot.shape.dims > maxDims) throw new InlayError('UNSUPPORTED', `The output ${quote(slot.id)} has ${slot.shape.dims} dimensions; DuckDB takes ${maxDims}.`)
  const spec: Omit<KnownSlot, 'id'> = { collection: slot.collection, many: slot.many, ...(slot.label === undefined ? {} : { label: slot.label }) }
  await place.sql.write(async ({ run }) => {
    await run(`create table if not exists ${table(place, slot.id)} (key varchar not null, off int not null, rev varchar not null, hash varchar not null, err varchar, tries int, none boolean not null, made_by varchar, value ${columnOf(slot.shape).type}, primary key (key, off))`)
    const [last] = await run(`select name, spec from ${meta} where kind = 'slot' order by made desc limit 1`)
    if (last?.['name'] === slot.id && last['spec'] === JSON.stringify(spec)) return
    await run(`insert into ${meta} select 'slot', $1, $2::json, coalesce(max(made), 0) + 1 from ${meta} on conflict (kind, name) do update set spec = excluded.spec, made = excluded.made`, [slot.id, JSON.stringify(spec)])
    if (slot.label !== undefined) await makeView(place, run, slot.collection, attached)
  }, signal)
}

/** Drops a collection or slot with the slots derived from it. `attached` tells the table of a collection. */
export async function drop(place: Place, of: string, attached: (collection: string) => Promise<Table | undefined>, { signal }: Ctx): Promise<void> {
  const meta = table(place, '_meta')
  await place.sql.write(async ({ run }) => {
    const slots = await knownSlots(place, run), gone = [of]
    for (const name of gone) gone.push(...slots.filter((slot) => slot.collection === name).map((slot) => slot.id))
    const [collection] = await run(`select name from ${meta} where kind = 'collection' and name = $1`, [of])
    for (const name of gone) if (name !== of || collection !== undefined || slots.some((slot) => slot.id === name)) await run(`drop table if exists ${table(place, name)}`)
    await run(`delete from ${meta} where kind in ('slot', 'collection') and name in (select unnest($1))`, [gone])
    const shown = slots.find((slot) => slot.id === of && slot.label !== undefined)?.collection
    if (collection !== undefined) await makeView(place, run, of, undefined)                                  // none, as it has no slots now
    if (shown === undefined) return
    // A table that its owner dropped is in the way of no removal.
    const to = await attached(shown).catch((error: unknown) => { if (InlayError.is(error) && error.code === 'NOT_FOUND') return 'gone' as const; throw error })
    if (to !== 'gone') await makeView(place, run, shown, to)
    else if (await standing(place, run, `${shown}_view`) === 'view') await run(`drop view ${table(place, `${shown}_view`)}`)
  }, signal)
}
