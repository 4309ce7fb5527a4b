/** Another program on PostgreSQL, for the suite: plain SQL that knows nothing of Inlay, by a driver of its own; on PGlite, which takes one connection, by the same one. */
import { randomUUID } from 'node:crypto'
import { Client } from 'pg'
import type { Key } from '../../core/contract.ts'
import type { Foreign, ForeignRow, Place, Subject } from '../conformance/index.ts'

type Rows = readonly Readonly<Record<string, string | null>>[]
type Run = (text: string, params?: readonly (string | null)[]) => Promise<Rows>

const asText = { getTypeParser: (): never => ((value: unknown) => value) as never }

/** Each kind: its columns, the key as text, and the columns of the n-th key, ascending. */
interface Kind { readonly columns: string; readonly key: string; readonly names: readonly string[]; readonly next: (n: number) => readonly string[]; readonly made?: true }
const uuid = (n: number): string => `00000000-0000-4000-8000-${String(n).padStart(12, '0')}`
const kinds: Readonly<Record<string, Kind>> = {
  int8: { names: ['id'], columns: 'id bigserial primary key', key: 'id::text', next: (n) => [String(n)], made: true },
  identity: { names: ['id'], columns: 'id int4 generated always as identity primary key', key: 'id::text', next: (n) => [String(n)], made: true },
  text: { names: ['id'], columns: 'id text collate "C" primary key', key: 'id', next: (n) => [`k${String(n).padStart(4, '0')}, "quoted" \\ 'and' more`] },
  uuid: { names: ['id'], columns: 'id uuid primary key default gen_random_uuid()', key: 'id::text', next: (n) => [uuid(n)], made: true },
  timestamptz: { names: ['at'], columns: '"at" timestamptz primary key', key: `to_char("at" at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`, next: (n) => [`2024-01-01T00:00:00.${String(n).padStart(6, '0')}Z`] },
  unique: { names: ['code'], columns: 'spare int4, code numeric not null unique', key: 'trim_scale(code)::text', next: (n) => [`${n}.25`] },
  composite: {
    columns: 'tenant text collate "C" not null, seq int4 not null, primary key (tenant, seq)', key: `replace(replace(tenant, '\\', '\\\\'), ',', '\\,') || ',' || seq::text`, names: ['tenant', 'seq'],
    next: (n) => ['a,b\\', String(n)],
  },
}
const keyOf = (parts: readonly string[]): Key => (parts.length === 1 ? parts[0]! : parts.map((p) => p.replace(/[\\,]/g, '\\$&')).join(','))

export async function postgresForeign(subject: Subject): Promise<Foreign> {
  const server = subject.uri.startsWith('pglite:') ? undefined : new Client({ connectionString: subject.uri })
  await server?.connect()
  const run: Run = async (text, params = []) => (server === undefined ? await subject.connection.data!.native!({ text, params }, subject.ctx) as Rows : (await server.query({ text, values: [...params], types: asText })).rows as Rows)
  const schema = `f_${randomUUID().replaceAll('-', '').slice(0, 12)}`, made = new Map<string, { readonly kind: Kind; last: number }>()
  const last = new Map<string, number>()
  let tables = 0
  await run(`create schema ${schema}`)
  const own: Kind = { names: [], columns: '', key: '_id', next: () => [] }
  const at = (place: Place): { readonly table: string; readonly kind: Kind; readonly t: string; readonly n: string } => ('own' in place
    ? { table: `"${subject.namespace}"."${place.own}"`, kind: own, t: `doc ->> 't'`, n: `doc ->> 'n'` } : { table: place.source, kind: made.get(place.source)!.kind, t: 't', n: 'n::text' })
  const doc = ({ t, n }: ForeignRow): string => JSON.stringify({ ...(t === null ? {} : { t }), ...(n === null ? {} : { n }) })
  const text = (n: number | null): string | null => (n === null ? null : String(n))
  const insertInto = async (place: Place, row: ForeignRow, parts?: readonly string[]): Promise<Key> => {
    const { table, kind } = at(place)
    if ('own' in place) return (await run(`insert into ${table} (doc) values ($1::jsonb) returning _id as key`, [doc(row)]))[0]!['key']!
    const of = made.get(place.source)!, given = parts ?? (kind.made === true ? undefined : kind.next(++of.last))
    if (given === undefined) return (await run(`insert into ${table} (t, n) values ($1, $2::float8) returning ${kind.key} as key`, [row.t, text(row.n)]))[0]!['key']!
    return (await run(`insert into ${table} (t, n, ${kind.names.map((c) => `"${c}"`).join(', ')}) overriding system value values ($1, $2::float8, ${kind.names.map((_, i) => `$${i + 3}`).join(', ')}) returning ${kind.key} as key`, [row.t, text(row.n), ...given]))[0]!['key']!
  }
  return {
    keys: Object.keys(kinds), made: Object.keys(kinds).filter((k) => kinds[k]!.made === true), wide: true,
    async table(name, rows) {
      const kind = kinds[name]!, source = `${schema}.t${++tables}`
      await run(`create table ${source} (${kind.columns}, t text, n float8, wide numeric(38, 10) not null default 12345678901234567890.0123456789)`)
      made.set(source, { kind, last: 0 })
      const keys: Key[] = []
      for (const row of rows) keys.push(await insertInto({ source }, row, kind.made === true && name !== 'uuid' ? undefined : kind.next(++made.get(source)!.last)))
      last.set(name, Math.max(last.get(name) ?? 0, 1000))
      return { source, keys }
    },
    key(name) {
      last.set(name, (last.get(name) ?? 1000) + 1)
      return keyOf(kinds[name]!.next(last.get(name)!))
    },
    async unfit() {
      const source = `${schema}.t${++tables}`
      await run(`create table ${source} (t text, n float8)`)
      return source
    },
    insert: (place, row) => insertInto(place, row),
    async set(place, key, n) {
      const { table, kind } = at(place)
      if ('own' in place) await run(`update ${table} set doc = doc || jsonb_build_object('n', $1::float8) where _id = $2`, [String(n), key])
      else await run(`update ${table} set n = $1::float8 where ${kind.key} = $2`, [String(n), key])
    },
    async replace(place, key, row) {
      const { table, kind } = at(place)
      if ('own' in place) await run(`update ${table} set doc = $1::jsonb where _id = $2`, [doc(row), key])
      else await run(`update ${table} set t = $1, n = $2::float8, wide = default where ${kind.key} = $3`, [row.t, text(row.n), key])
    },
    async remove(place, key) {
      const { table, kind } = at(place)
      await run(`delete from ${table} where ${kind.key} = $1`, [key])
    },
    async read(place) {
      const { table, kind, t, n } = at(place)
      return new Map((await run(`select ${kind.key} as key, ${t} as t, ${n} as n from ${table}`)).map((row) => [row['key']!, { t: row['t']!, n: row['n'] === null ? null : Number(row['n']) }]))
    },
    async rest(place) {
      const { table, kind } = at(place)
      const rest = 'own' in place ? `doc - 't' - 'n' || jsonb_build_object('n', jsonb_typeof(doc -> 'n'))` : `to_jsonb(x) - 't' - 'n'`
      return new Map((await run(`select ${kind.key} as key, (${rest})::text as rest from ${table} x`)).map((row) => [row['key']!, row['rest'] ?? '']))
    },
    async leftovers(source) {
      const rows = await run(`select tgname as name from pg_trigger where tgrelid = $1::regclass and not tgisinternal
        union all select attname from pg_attribute where attrelid = $1::regclass and attnum > 0 and not attisdropped and attname like '\\_%'
        union all select proname from pg_proc f join pg_namespace n on n.oid = f.pronamespace where n.nspname = $2 and proname like '\\_tell\\__%' and not exists (select from pg_trigger g where g.tgfoid = f.oid)`, [source, subject.namespace])
      return rows.map((row) => row['name']!)
    },
    async close() {
      await run(`drop schema ${schema} cascade`)
      await server?.end()
    },
  }
}
