/** A client of the same DuckDB file that knows nothing of Inlay: another connection of the instance, as another part of the program would have. */
import { rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { DuckDBValue } from '@duckdb/node-api'
import type { Foreign, ForeignRow, Place, Subject } from '../conformance/index.ts'

interface Kind {
  /** Columns and constraint of the key. */
  readonly columns: string
  readonly names: readonly string[]
  /** SQL of the key of row `i`, in the order of the kind, and its text. */
  key(i: number): readonly [sql: readonly string[], text: string]
  readonly made?: true
}
const two = (i: number): string => String(i).padStart(2, '0')
const kinds: Readonly<Record<string, Kind>> = {
  text: { columns: 'id varchar primary key', names: ['id'], key: (i) => [[`'k${two(i)}'`], `k${two(i)}`] },
  integer: { columns: 'id integer primary key default nextval(\'%seq\')', names: ['id'], key: (i) => [[String(i + 1)], String(i + 1)], made: true },
  bigint: { columns: 'id bigint primary key', names: ['id'], key: (i) => [[`(9007199254740990 + ${i})`], String(9007199254740990n + BigInt(i))] },
  decimal: { columns: 'id decimal(12, 2) unique not null', names: ['id'], key: (i) => [[`(${i} + 0.5)`], `${i}.50`] },
  uuid: { columns: 'id uuid primary key default uuid()', names: ['id'], key: (i) => [[`'00000000-0000-4000-8000-0000000000${two(i)}'`], `00000000-0000-4000-8000-0000000000${two(i)}`], made: true },
  date: { columns: 'id date primary key', names: ['id'], key: (i) => [[`(date '1999-12-25' + ${i}::int)`], new Date(Date.UTC(1999, 11, 25 + i)).toISOString().slice(0, 10)] },
  timestamp: { columns: 'id timestamp primary key', names: ['id'], key: (i) => [[`(timestamp '1969-12-31 23:59:58.000001' + interval (${i}) second)`], `${new Date((i - 2) * 1000).toISOString().slice(0, 19)}.000001`] },
  bytes: { columns: 'id blob primary key', names: ['id'], key: (i) => [[`unhex('ff${two(i)}')`], `ff${two(i)}`] },
  composite: { columns: 'a integer, b varchar, primary key (a, b)', names: ['a', 'b'], key: (i) => [[String(Math.floor(i / 2) + 1), `'x,\\${i % 2}'`], `${Math.floor(i / 2) + 1},x\\,\\\\${i % 2}`] },
}

export async function duckdbForeign(subject: Subject): Promise<Foreign> {
  const { DuckDBInstance } = await import('@duckdb/node-api'), instance = await DuckDBInstance.fromCache(subject.uri.slice('duckdb:'.length)), client = await instance.connect()
  const run = async (text: string, params: readonly DuckDBValue[] = []): Promise<readonly Record<string, DuckDBValue>[]> => (await client.runAndReadAll(text, [...params])).getRowObjects()
  const schema = `others_${crypto.randomUUID().slice(0, 8)}`, tables = new Map<string, Kind>(), files: string[] = []
  await run(`create schema ${schema}`)
  let made = 0
  const at = (place: Place): string => ('own' in place ? `"${subject.namespace}"."${place.own}"` : place.source)
  const kindOf = (place: Place): Kind => tables.get((place as { readonly source: string }).source)!
  const keyed = ({ columns, names }: Kind): string => {
    if (names.length === 2) return `a::varchar || ',' || replace(replace(b, '\\', '\\\\'), ',', '\\,')`
    return columns.includes(' blob ') ? 'lower(hex(id))' : columns.includes(' timestamp ') ? `strftime(id, '%Y-%m-%dT%H:%M:%S.%f')` : 'id::varchar'
  }
  const values = ({ t, n }: ForeignRow): DuckDBValue[] => [t, n]
  return {
    keys: Object.keys(kinds), made: Object.keys(kinds).filter((kind) => kinds[kind]!.made), wide: true,
    async table(kindName, rows) {
      const kind = kinds[kindName]!, source = `${schema}.${kindName}_${++made}`, sequence = `${schema}.seq_${made}`
      if (kind.columns.includes('%seq')) await run(`create sequence ${sequence} start 1000`)
      await run(`create table ${source} (${kind.columns.replace('%seq', sequence)}, t varchar, n double, wide decimal(38, 10))`)
      tables.set(source, kind)
      for (const [i, row] of rows.entries()) await run(`insert into ${source} values (${kind.key(i)[0].join(', ')}, $1, $2::double, 12345678901234567890.0123456789 + ${i})`, values(row))
      return { source, keys: rows.map((_, i) => kind.key(i)[1]) }
    },
    key: (kindName) => kinds[kindName]!.key(20 + made++ % 79)[1],
    async unfit() {
      const source = `${schema}.unfit_${++made}`
      await run(`create table ${source} (t varchar, n double)`)
      return source
    },
    async readOnly(rows) {
      const path = join(tmpdir(), `inlay-foreign-${crypto.randomUUID()}.parquet`)
      files.push(path)
      await run(`copy (select unnest($1::varchar[]) as t, unnest($2::double[]) as n) to '${path}'`.replace('$1', listOf(rows.map(({ t }) => (t === null ? 'null' : `'${t}'`)))).replace('$2', listOf(rows.map(({ n }) => String(n)))))
      return { source: path, keys: rows.map((_, i) => `${path}#${i}`) }
    },
    async insert(place, row) {
      const kind = kindOf(place), key = kind.key(60 + made++ % 39)
      await run(`insert into ${at(place)} values (${key[0].join(', ')}, $1, $2::double, 0.5)`, values(row))
      return key[1]
    },
    async set(place, key, n) { await run(`update ${at(place)} set n = $1::double where ${keyed(kindOf(place))} = $2`, [n, key]) },
    async replace(place, key, { t, n }) { await run(`update ${at(place)} set t = $1, n = $2::double where ${keyed(kindOf(place))} = $3`, [t, n, key]) },
    async remove(place, key) { await run(`delete from ${at(place)} where ${keyed(kindOf(place))} = $1`, [key]) },
    async read(place) {
      return new Map((await run(`select ${keyed(kindOf(place))} as k, t, n from ${at(place)}`)).map((row) => [row['k'] as string, { t: row['t'] as string | null, n: row['n'] as number | null }]))
    },
    async rest(place) {
      return new Map((await run(`select ${keyed(kindOf(place))} as k, wide::varchar as w, typeof(n) as y from ${at(place)}`)).map((row) => [row['k'] as string, `${String(row['w'])} ${String(row['y'])}`]))
    },
    async leftovers() {
      const found = await run(`select table_name as name from duckdb_tables() where schema_name = '${schema}' union all select view_name from duckdb_views() where schema_name = '${schema}' union all select column_name from duckdb_columns() where schema_name = '${schema}' and column_name not in ('id', 'a', 'b', 't', 'n', 'wide')`)
      return found.map((row) => row['name'] as string).filter((name) => !tables.has(`${schema}.${name}`) && !name.startsWith('unfit_'))
    },
    async close() {
      await run(`drop schema ${schema} cascade`)
      client.closeSync()
      instance.closeSync()
      for (const file of files) rmSync(file, { force: true })
    },
  }
}
function listOf(items: readonly string[]): string {
  return `[${items.join(', ')}]`
}
