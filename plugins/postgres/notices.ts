/**
 * Who wrote: statement triggers put the keys of what was written into `_outbox`, one row for each watcher, and say NOTIFY. A watcher deletes what it has done and never
 * resumes from a number, as transactions commit in another order than they count. Nobody watches, nothing is kept.
 */
import { randomUUID } from 'node:crypto'
import type { Ctx, Key, Notice } from '../../core/contract.ts'
import { sha256 } from '../../core/encoding.ts'
import { table, type Place } from './schema.ts'
import { literal, name, Params, textArray } from './sql.ts'
import { keyText, type Table } from './table.ts'

/** A watcher not heard of for so long is told nothing more; after ten times that it is forgotten. */
const aliveSeconds = 60
const beatMs = 10_000
const pageRows = 100
/** So many are remembered as given and not done. Beyond that they are forgotten, and given again. */
const mostGiven = 10_000
/** Of one statement; beyond that the watcher is told to look at what is stale. */
const mostKeys = 10_000

/** Tables and the function of Inlay's own collections. */
export function noticeTables(place: Pick<Place, 'namespace'>): readonly string[] {
  return [
    `create table if not exists ${table(place, '_watchers')} (id uuid primary key, collection text not null, seen timestamptz not null default clock_timestamp())`,
    `create table if not exists ${table(place, '_outbox')} (n bigserial primary key, watcher uuid not null references ${table(place, '_watchers')} on delete cascade, keys text[])`,
    `create index if not exists _outbox_watcher on ${table(place, '_outbox')} (watcher, n)`,
    tellFunction(place, '_tell', '_id'),
  ]
}
/** With the rights of who installed it: other programs need none on Inlay's tables. What goes wrong in it fails no write: where the key has another name by now, all that is stale is looked at. */
function tellFunction(place: Pick<Place, 'namespace'>, of: string, key: string): string {
  const keys = (from: string): string => `select array_agg(k) into ks from (select distinct ${key} as k from ${from} limit ${mostKeys + 1}) all_keys`
  return `create or replace function ${table(place, of)}() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp as $tell$
declare ks text[];
begin
  if not exists (select from ${table(place, '_watchers')} where collection = tg_argv[0] and seen > clock_timestamp() - interval '${aliveSeconds} seconds') then return null; end if;
  begin
    if tg_op = 'INSERT' then ${keys('new_rows t')};
    elsif tg_op = 'DELETE' then ${keys('old_rows t')};
    elsif tg_op = 'UPDATE' then ${keys('(select * from old_rows union all select * from new_rows) t')};
    end if;
    if ks is null and tg_op <> 'TRUNCATE' then return null; end if;
    if cardinality(ks) > ${mostKeys} then ks := null; end if;
  exception when others then ks := null;
  end;
  -- A watcher that goes in this moment is told nothing: the reference to it would fail, and with it what the others are told.
  insert into ${table(place, '_outbox')} (watcher, keys) select id, ks from ${table(place, '_watchers')} where collection = tg_argv[0] and seen > clock_timestamp() - interval '${aliveSeconds} seconds' for key share skip locked;
  perform pg_notify(${literal(channelOf(place))}, '');
  return null;
exception when others then
  raise warning 'Inlay is not told of this write of %: %', tg_table_name, sqlerrm;
  return null;
end $tell$`
}
function channelOf({ namespace }: Pick<Place, 'namespace'>): string {
  return `inlay_${sha256(namespace).slice(0, 16)}`
}

const events = { insert: 'referencing new table as new_rows', delete: 'referencing old table as old_rows', update: 'referencing old table as old_rows new table as new_rows', truncate: '' } as const
/** Triggers of one table. `prefix` makes their names ours on tables of others. */
function tellTriggers(place: Pick<Place, 'namespace'>, on: string, of: string, collection: string, prefix: string): readonly string[] {
  return Object.entries(events).map(([event, tables]) => `create or replace trigger ${name(`${prefix}${event}`)} after ${event} on ${on} ${tables} for each statement execute function ${table(place, of)}(${literal(collection)})`)
}
/** Of a collection of Inlay's. */
export function ownTriggers(place: Pick<Place, 'namespace'>, collection: string): readonly string[] {
  return tellTriggers(place, table(place, collection), '_tell', collection, '_tell_')
}

/** What `track: 'notify'` installs on a table of others. */
export function tableTriggers(place: Pick<Place, 'namespace'>, collection: string, of: Table): readonly string[] {
  const id = idOf(place, collection), tell = `_tell_${id}`
  return [tellFunction(place, tell, keyText(of, (c) => `t.${name(c.name)}`)), ...tellTriggers(place, of.at, tell, collection, `inlay_${id}_`)]
}
/** Takes the function away, and the triggers with it. */
export function untellTable(place: Pick<Place, 'namespace'>, collection: string): string {
  return `drop function if exists ${table(place, `_tell_${idOf(place, collection)}`)}() cascade`
}
function idOf({ namespace }: Pick<Place, 'namespace'>, collection: string): string {
  return sha256(`${namespace}.${collection}`).slice(0, 12)
}

/** The names of the triggers above, to see whether they are there. */
export function triggerNames(place: Pick<Place, 'namespace'>, collection: string): readonly string[] {
  const id = idOf(place, collection)
  return Object.keys(events).map((event) => `inlay_${id}_${event}`)
}

export async function* watch(place: Place, collection: string, ctx: Ctx): AsyncIterable<Notice> {
  const { sql } = place, { signal } = ctx, id = randomUUID(), watchers = table(place, '_watchers'), outbox = table(place, '_outbox')
  let ring = (): void => {}, rung = false
  const wake = (): void => { rung = true; ring() }
  const listening = await sql.listen(channelOf(place), wake)
  signal.addEventListener('abort', wake)
  const live = new AbortController().signal
  try {
    await sql.query(`insert into ${watchers} (id, collection) values ($1::uuid, $2)`, [id, collection], signal)
    await sql.query(`delete from ${watchers} where seen < clock_timestamp() - interval '${aliveSeconds * 10} seconds'`, [], signal)
    // What was written before is found by its revs.
    yield { keys: 'stale', done: async () => {} }
    const given = new Set<string>()
    let beaten = Date.now()
    while (!signal.aborted) {
      rung = false
      if (Date.now() - beaten > beatMs) {
        const [before] = await sql.query(`update ${watchers} w set seen = clock_timestamp() from (select id, seen from ${watchers} where id = $1::uuid for no key update) b where w.id = b.id returning (b.seen < clock_timestamp() - interval '${aliveSeconds} seconds')::text as late`, [id], signal)
        beaten = Date.now()
        if (before === undefined) await sql.query(`insert into ${watchers} (id, collection) values ($1::uuid, $2)`, [id, collection], signal)
        if (before === undefined || before['late'] === 'true' || before['late'] === 't') yield { keys: 'stale', done: async () => {} }
      }
      const rows = await sql.query(`select n::text as n, array_to_json(keys)::text as keys from ${outbox} where watcher = $1::uuid and n <> all($2::text[]::bigint[]) order by n limit ${pageRows}`, [id, textArray([...given])], signal)
      if (rows.length === 0) {
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, listening.pollMs)
          ring = () => { clearTimeout(timer); resolve() }
          if (rung || signal.aborted) ring()
        })
        continue
      }
      // Not by the last number: a transaction that began earlier may commit later, under a lower one.
      const numbers = rows.map((row) => row['n']!)
      if (given.size > mostGiven) given.clear()
      for (const n of numbers) given.add(n)
      const keys = rows.some((row) => row['keys'] === null) ? 'stale' as const : [...new Set(rows.flatMap((row) => JSON.parse(row['keys']!) as readonly Key[]))]
      yield {
        keys,
        done: async (c) => {
          const p = new Params()
          await sql.query(`delete from ${outbox} where watcher = ${p.add(id)}::uuid and n = any(${p.add(numbers)}::text[]::bigint[])`, p.list, c.signal)
          for (const n of numbers) given.delete(n)
        },
      }
    }
  } catch (error) {
    if (!signal.aborted) throw error
  } finally {
    signal.removeEventListener('abort', wake)
    listening.stop()
    await sql.query(`delete from ${watchers} where id = $1::uuid`, [id], live).catch(() => {})      // else it is forgotten in time
  }
}
