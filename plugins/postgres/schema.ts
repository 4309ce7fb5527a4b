/** Tables of a namespace: `_meta` lists collections and slots; each is a table. */
import type { Collection, Shape, Slot } from '../../core/contract.ts'
import { InlayError, quote } from '../../core/errors.ts'
import { noticeTables, ownTriggers, tableTriggers, triggerNames, untellTable } from './notices.ts'
import { name, Params, type Query, type Sql } from './sql.ts'
import { describe, type Table } from './table.ts'
import { makeView } from './views.ts'

const format = '3'
/** Beyond these pgvector's type and its text form end. */
export const maxDims = 16_000

/** Where a namespace lies, and what the server has. */
export interface Place {
  readonly sql: Sql
  readonly namespace: string
  /** Schema of pgvector; undefined where it is not installed, and vectors are kept as JSON. */
  readonly vectors: { readonly schema: string; readonly oid: number; readonly version: string } | undefined
}

export function table({ namespace }: Pick<Place, 'namespace'>, of: string): string {
  return `${name(namespace)}.${name(of)}`
}

/** DDL of one namespace at a time: `if not exists` alone fails when two do it at once. */
export async function exclusively<T>(sql: Sql, namespace: string, signal: AbortSignal, work: (query: Query) => Promise<T>): Promise<T> {
  return sql.transaction(async (query) => {
    await query('select pg_advisory_xact_lock(hashtextextended($1, 0))', [`inlay:${namespace}`])
    return work(query)
  }, signal)
}

/** Makes the namespace, or checks that this Inlay understands the one that is there. */
export async function openNamespace(sql: Sql, namespace: string, signal: AbortSignal): Promise<Place> {
  const meta = table({ namespace }, '_meta')
  const there = async (): Promise<string | undefined> => {
    const [found] = await sql.query('select to_regclass($1)::text as t', [meta], signal)
    if (found!['t'] === null) return undefined
    const [row] = await sql.query(`select spec #>> '{}' as format from ${meta} where kind = 'format'`, [], signal)
    return row?.['format'] ?? undefined
  }
  const vectors = await openVectors(sql, signal)
  let found = await there()
  for (let attempt = 0; found === undefined && attempt < 5; attempt++) {
    await exclusively(sql, namespace, signal, async (query) => {
      await query(`create schema if not exists ${name(namespace)}`)
      await query(`create table if not exists ${meta} (kind text not null, name text collate "C" not null, spec jsonb not null, primary key (kind, name))`)
      await query(bumpFunction({ namespace }))
      await query(`create table if not exists ${table({ namespace }, '_artifacts')} (id text collate "C" primary key, generation uuid not null, bytes bigint not null, written timestamptz not null default now())`)
      await query(`create table if not exists ${table({ namespace }, '_chunks')} (id text collate "C" not null, generation uuid not null, n int not null, data bytea not null, written timestamptz not null default now(), primary key (id, generation, n))`)
      await query(`alter table ${table({ namespace }, '_chunks')} alter column data set storage external`)
      for (const statement of noticeTables({ namespace })) await query(statement)
      await query(`insert into ${meta} values ('format', 'format', to_jsonb($1::text)) on conflict do nothing`, [format])
    }).catch((error: unknown) => {
      // Another program made the schema or a table of it at the same time: "if not exists" does not see what is not committed.
      if (!/^(23505|42P06|42P07|42710)$/.test(String((error as { readonly code?: unknown }).code))) throw error
    })
    found = await there()
  }
  // Each step is taken once: who waited for the lock meanwhile finds it taken.
  const step = (from: string, to: string, change: (query: Query) => Promise<void>): Promise<void> => exclusively(sql, namespace, signal, async (query) => {
    const [row] = await query(`select spec #>> '{}' as format from ${meta} where kind = 'format'`)
    if (row?.['format'] !== from) return
    await change(query)
    await query(`update ${meta} set spec = to_jsonb($1::text) where kind = 'format'`, [to])
  })
  if (found === '1') {
    await step('1', '2', async (query) => {
      for (const statement of noticeTables({ namespace })) await query(statement)
      const own = await query(`select name from ${meta} where kind = 'collection' and left(name, 1) <> '_'`)
      await query(bumpFunction({ namespace }))
      for (const { name: of } of await query(`select name from ${meta} where kind = 'collection'`)) {
        await query(`drop trigger if exists _bump on ${table({ namespace }, of!)}`)
        for (const statement of bumpTriggers({ namespace }, table({ namespace }, of!))) await query(statement)
      }
      for (const row of own) for (const statement of ownTriggers({ namespace }, row['name']!)) await query(statement)
    })
  }
  if (found === '1' || found === '2') {
    await step('2', '3', async (query) => {
      for (const { name: of } of await query(`select name from ${meta} where kind = 'slot'`)) await query(`alter table ${table({ namespace }, of!)} add column if not exists made_by text`)
    })
    found = await there()
  }
  if (found !== format) {
    throw new InlayError('PLUGIN_INCOMPATIBLE', `The namespace ${quote(namespace)} has the format ${quote(found)}; this Inlay knows ${quote(format)}. Use the Inlay that made it, or another namespace.`)
  }
  return { sql, namespace, vectors }
}

async function openVectors(sql: Sql, signal: AbortSignal): Promise<Place['vectors']> {
  const find = async (): Promise<Place['vectors']> => {
    const [row] = await sql.query(`select n.nspname as schema, t.oid::text as oid, e.extversion as version from pg_extension e join pg_namespace n on n.oid = e.extnamespace join pg_type t on t.typname = 'vector' and t.typnamespace = n.oid where e.extname = 'vector'`, [], signal)
    return row === undefined ? undefined : { schema: row['schema']!, oid: Number(row['oid']), version: row['version']! }
  }
  const there = await find()
  if (there !== undefined) return there
  const [available] = await sql.query(`select 1 as yes from pg_available_extensions where name = 'vector'`, [], signal)
  if (available === undefined) return undefined
  try {
    await exclusively(sql, 'vector', signal, (query) => query('create extension if not exists vector'))
  } catch {
    return undefined                                                       // a role without the right to: the notes say that vectors are searched in this process
  }
  return find()
}

/** Every write by anybody gives a new rev, also one that changes nothing: else two equal compare-and-sets would both win. Inlay gives its own, new UUIDs, in statements
 *  that say so; what others write into _rev, an old one perhaps, is overwritten. */
function bumpFunction(place: Pick<Place, 'namespace'>): string {
  return `create or replace function ${table(place, '_bump')}() returns trigger language plpgsql as $$ begin new._rev := gen_random_uuid(); return new; end $$`
}
/** The conditions stand in the triggers, where they cost no call of the function. */
function bumpTriggers(place: Pick<Place, 'namespace'>, on: string): readonly string[] {
  const foreign = `current_setting('inlay.own', true) is distinct from 'on' or new._rev is null`
  return [['insert', foreign], ['update', `${foreign} or new._rev = old._rev`]].map(([event, when]) => `create or replace trigger _bump_${event} before ${event} on ${on} for each row when (${when}) execute function ${table(place, '_bump')}()`)
}

export async function createCollection(place: Place, collection: Collection, signal: AbortSignal): Promise<void> {
  const meta = table(place, '_meta'), t = table(place, collection.name), { attached, track } = collection
  const check = (spec: string | null | undefined): Collection | undefined => {
    if (spec === null || spec === undefined) return undefined
    const there = JSON.parse(spec) as Collection
    if (there.attached !== attached) throw new InlayError('CONFLICT', `The collection ${quote(collection.name)} exists, ${there.attached === false ? 'as Inlay\'s own' : `attached to ${quote(there.attached)}`}. Choose another name, or remove that one first.`)
    return there
  }
  const [row] = await place.sql.query(`select spec from ${meta} where kind = 'collection' and name = $1`, [collection.name], signal)
  const known = check(row?.['spec'])
  if (known !== undefined && (attached === false || known.track === track)) return
  const of = attached === false ? undefined : await describe(place, collection.name, attached, signal)
  await exclusively(place.sql, place.namespace, signal, async (query) => {
    const [exists] = await query(`select to_regclass($1)::text as t, (select spec from ${meta} where kind = 'collection' and name = $2) as spec`, [t, collection.name])
    const there = check(exists!['spec'])
    if (of === undefined) {
      if (there !== undefined) return
      if (exists!['t'] !== null) throw new InlayError('CONFLICT', `The collection ${quote(collection.name)} cannot be made: the schema ${quote(place.namespace)} has another table of that name. Choose another name, or another namespace.`)
      await query(`create table ${t} (_id text collate "C" primary key default gen_random_uuid()::text, _rev uuid not null, doc jsonb not null)`)
      for (const statement of bumpTriggers(place, t)) await query(statement)
      if (track === 'notify') for (const statement of ownTriggers(place, collection.name)) await query(statement)
    } else {
      for (const statement of track === 'notify' ? tableTriggers(place, collection.name, of) : there === undefined ? [] : [untellTable(place, collection.name)]) await query(statement)
    }
    await query(`insert into ${meta} values ('collection', $1, $2::jsonb) on conflict (kind, name) do update set spec = excluded.spec`, [collection.name, JSON.stringify(collection)])
  })
}

/** Statements on a table of others that `create` would run. */
export async function installsOf(place: Place, collection: Collection, signal: AbortSignal): Promise<readonly string[]> {
  if (collection.attached === false || collection.track === 'none') return []
  const of = await describe(place, collection.name, collection.attached, signal), p = new Params()
  const [there] = await place.sql.query(`select count(*) as n from pg_trigger where tgrelid = to_regclass(${p.add(of.at)}) and tgname = any(${p.add(triggerNames(place, collection.name))}::text[])`, p.list, signal)
  return Number(there!['n']) === triggerNames(place, collection.name).length ? [] : tableTriggers(place, collection.name, of)
}

/** The tables that are attached here, as they were a moment ago: others may add columns. */
export class Tables {
  readonly #place: Place
  readonly #known = new Map<string, { readonly of: Promise<Table | undefined>; readonly at: number }>()

  constructor(place: Place) { this.#place = place }

  of(collection: string, signal: AbortSignal): Promise<Table | undefined> {
    const known = this.#known.get(collection)
    if (known !== undefined && Date.now() - known.at < freshMs) return known.of
    const of = this.#read(collection, signal)
    this.#known.set(collection, { of, at: Date.now() })
    of.catch(() => this.forget(collection))
    return of
  }
  async #read(collection: string, signal: AbortSignal): Promise<Table | undefined> {
    const [row] = await this.#place.sql.query(`select spec ->> 'attached' as attached from ${table(this.#place, '_meta')} where kind = 'collection' and name = $1`, [collection], signal, 'prepared')
    if (row === undefined) this.forget(collection)
    if (row?.['attached'] === 'false') this.#known.set(collection, { of: Promise.resolve(undefined), at: Infinity })       // one of Inlay's own stays that
    return row === undefined || row['attached'] === 'false' ? undefined : describe(this.#place, collection, row['attached']!, signal)
  }
  forget(collection: string): void {
    this.#known.delete(collection)
  }
}
const freshMs = 5000

/** The table of a slot: one row per output, and with `many` a row at offset -1 that carries the mark, so that an empty list is a known answer. */
export async function createSlot(place: Place, slot: Slot, many: boolean, attached: boolean, signal: AbortSignal): Promise<void> {
  const meta = table(place, '_meta'), t = table(place, slot.id)
  if (slot.shape.kind === 'vector' && slot.shape.dims > maxDims) throw new InlayError('UNSUPPORTED', `The output ${quote(slot.id)} has ${slot.shape.dims} dimensions; pgvector takes ${maxDims}.`)
  const [there] = await place.sql.query(`select 1 as yes from ${meta} where kind = 'slot' and name = $1`, [slot.id], signal)
  if (there !== undefined) return
  // The key of a table of others may be of another type: prune removes what cannot go by itself.
  const references = attached ? '' : ` references ${table(place, slot.collection)} (${many ? 'id' : '_id'}) on delete cascade on update cascade`
  await exclusively(place.sql, place.namespace, signal, async (query) => {
    await query(`create table if not exists ${t} (key text collate "C" not null${references}, off int not null, rev text not null, hash text not null, err text, tries int, none boolean not null default false, made_by text, value ${columnType(place, slot.shape)},${slot.many ? ` id text collate "C" generated always as (key || '#' || off::text) stored unique,` : ''} primary key (key, off))`)
    await query(`insert into ${meta} values ('slot', $1, $2::jsonb) on conflict do nothing`, [slot.id, JSON.stringify({ collection: slot.collection, ...(slot.label === undefined ? {} : { label: slot.label, many: slot.many, opened: Date.now() }) })])
    if (slot.label !== undefined) await makeView(query, place, slot.collection)
  })
}

function columnType({ vectors }: Place, shape: Shape): string {
  switch (shape.kind) {
    case 'vector': return vectors === undefined ? 'jsonb' : `${name(vectors.schema)}.vector(${shape.dims})`
    case 'boolean': return 'boolean'
    case 'number': return 'double precision'
    case 'string': return 'text'
    case 'bytes': return 'bytea'
    case 'json': return 'jsonb'
  }
}

/** Drops a collection or slot with the slots derived from it. Of a table of others only what is Inlay's. */
export async function drop(place: Place, of: string, signal: AbortSignal): Promise<void> {
  const meta = table(place, '_meta')
  await exclusively(place.sql, place.namespace, signal, async (query) => {
    const rows = await query(`with recursive derived(name) as (select $1::text collate "C" union select m.name from ${meta} m join derived d on m.kind = 'slot' and m.spec ->> 'collection' = d.name)
      select m.name, m.kind, m.spec ->> 'collection' as collection, m.spec ->> 'label' as label, coalesce(m.spec ->> 'attached', 'false') <> 'false' as attached from derived d join ${meta} m on m.name = d.name and m.kind in ('slot', 'collection')`, [of])
    const params = new Params()
    await query(`delete from ${meta} where kind in ('slot', 'collection') and name = any(${params.add(rows.map((row) => row['name']!))}::text[])`, params.list)
    const collection = rows.find((row) => row['name'] === of && row['kind'] === 'collection'), slot = rows.find((row) => row['name'] === of && row['kind'] === 'slot')
    if (collection !== undefined) await query(untellTable(place, of))
    const seen = collection !== undefined ? of : slot !== undefined && slot['label'] !== null ? slot['collection'] : undefined
    // Before its table goes, so that a view which another output takes over stays, and after, as what was built on one without a successor went along.
    if (typeof seen === 'string') await makeView(query, place, seen)
    for (const row of rows) if (row['attached'] !== 't' && row['attached'] !== 'true') await query(`drop table if exists ${table(place, row['name']!)} cascade`)
    if (typeof seen === 'string') await makeView(query, place, seen)
  })
}
