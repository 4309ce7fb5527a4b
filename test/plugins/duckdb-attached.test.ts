import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it, type TestContext } from 'vitest'
import type { Connection, Doc, Filter, Row, Scalar, Slot, Write } from '../../core/contract.ts'
import { evaluate } from '../../core/match.ts'
import { arrayCodec, inlay, type UriContent } from '../../index.ts'
import { DuckData } from '../../plugins/duckdb/datalayer.ts'
import duckdb from '../../plugins/duckdb/index.ts'
import { connectDuck } from '../../plugins/duckdb/instance.ts'
import { openNamespace } from '../../plugins/duckdb/schema.ts'
import { areas, Subject } from '../conformance/index.ts'
import { all, codeOf, live } from '../conformance/subject.ts'
import { duckdbForeign } from '../support/duckdb-foreign.ts'

async function connect(test: TestContext): Promise<{ readonly c: Connection; readonly sql: (text: string) => Promise<readonly Doc[]>; readonly folder: string; readonly attach: (source: string) => Promise<string> }> {
  const folder = mkdtempSync(join(tmpdir(), 'inlay-duckdb-')), c = await duckdb.connect!(`duckdb:${folder}/app.duckdb`, { namespace: 'inlay' }, live)
  test.onTestFinished(async () => {
    await c.close()
    rmSync(folder, { recursive: true })
  })
  let n = 0
  return {
    c, folder, sql: async (text) => await c.data!.native!(text, live) as readonly Doc[],
    async attach(source) {
      const name = `c${++n}`
      await c.data!.create({ name, attached: source, track: 'none' }, live)
      return name
    },
  }
}
async function find(c: Connection, from: string, where?: Filter): Promise<Row[]> {
  return all(c.data!.find({ from, ...(where === undefined ? {} : { where }) }, live))
}
const write = (c: Connection, name: string, ...ops: readonly Write[]): ReturnType<NonNullable<Connection['data']>['write']> => c.data!.write(name, ops, live)

const types = `id integer primary key, small tinyint, unsigned uinteger, big bigint, ubig ubigint, huge hugeint, price decimal(12, 3), wide decimal(30, 2), f float, d double, t varchar, u uuid, e enum ('b', 'a'), yes boolean, day date, moment timestamp, at_s timestamp_s, at_ns timestamp_ns,
  tz timestamptz, bytes blob, j json, list integer[], days date[], s struct(x integer, y varchar[]), m map(varchar, double), v float[3], long interval, clock time, twice integer generated always as (small * 2)`
const first = `(1, -5, 4000000000, 9007199254740993, 18446744073709551615, 170141183460469231731687303715884105727, 1.500, 12345678901234567890.12, 0.1, 'nan', 'text', '00000000-0000-4000-8000-00000000000a', 'a', true, '2024-02-29', '1969-12-31 23:59:59.999999', '2024-01-01 00:00:01', '2024-01-01 00:00:00.000001',
  '2024-01-01 12:00:00+02', '\\x00\\xFF', '{"a": [1, 2.5, null]}', [1, null], ['2024-01-01'], {'x': 1, 'y': ['z']}, map {'k': 1.5}, [1, 2, 3], interval 1 day, '01:02:03')`
const values: Doc = {
  id: 1, small: -5, unsigned: 4000000000, big: 9007199254740993n, ubig: 18446744073709551615n, huge: '170141183460469231731687303715884105727', price: 1.5, wide: '12345678901234567890.12', f: Math.fround(0.1), d: Number.NaN, t: 'text', u: '00000000-0000-4000-8000-00000000000a', e: 'a', yes: true,
  day: new Date('2024-02-29'), moment: new Date(-1), at_s: new Date('2024-01-01T00:00:01Z'), at_ns: new Date('2024-01-01'), tz: new Date('2024-01-01T10:00:00Z'), bytes: Uint8Array.from([0, 255]), j: { a: [1, 2.5, null] }, list: [1, null], days: [new Date('2024-01-01')], s: { x: 1, y: ['z'] }, m: { k: 1.5 },
  v: Float32Array.from([1, 2, 3]), long: '1 day', clock: '01:02:03', twice: -10,
}

it('columns of every type are read as their Value, and filtered as core filters that', async (test) => {
  const { c, sql, attach } = await connect(test)
  await sql(`create table things (${types})`)
  await sql(`insert into things (${Object.keys(values).filter((name) => name !== 'twice').join(', ')}) values ${first}`)
  await sql('insert into things (id, d, moment, tz) values (2, \'-inf\', \'infinity\', \'2024-01-01 10:00:00.000999+00\')')
  const name = await attach('things'), found = await find(c, name)
  expect(found[0]!.doc).toEqual(values)
  expect(found[1]!.doc).toEqual({ ...Object.fromEntries(Object.keys(values).map((field) => [field, null])), id: 2, d: -Infinity, moment: 'infinity', tz: new Date('2024-01-01T10:00:00Z') })
  const operands: NonNullable<Scalar>[] = [-5, 4e9, 9007199254740992, 9007199254740993n, 2 ** 64, 1.5, 1.4999, Math.fround(0.1), 0.1, Number.NaN, -Infinity, 'text', 'tex', 'a', '170141183460469231731687303715884105727', '1 day', values['u'] as string, true, false, new Date(-1), new Date(0), new Date('2024-02-29'), new Date('2024-01-01T10:00:00Z'), new Date('2024-01-01T10:00:00.001Z'), Uint8Array.from([0, 255]), 1, 2.5, 'z', new Date('2024-01-01')]
  let n = 0
  for (const path of [...Object.keys(values).map((field) => [field]), ['j', 'a'], ['s', 'x'], ['s', 'y'], ['m', 'k'], ['t', 'below'], ['none']]) {
    const wheres: Filter[] = [{ kind: 'null', path: { at: path } }, { kind: 'exists', path: { at: path }, is: true }, { kind: 'not', of: { kind: 'null', path: { at: path } } }]
    for (const value of operands) for (const kind of ['eq', 'lt', 'lte', 'gt', 'gte'] as const) if (kind === 'eq' || !(value instanceof Uint8Array)) wheres.push({ kind, path: { at: path }, value }, ...(kind === 'lt' || kind === 'eq' ? [{ kind: 'not', of: { kind, path: { at: path }, value } } as const] : []))
    const right = wheres.map((where) => found.filter((row) => evaluate(where, row.key, row.doc)).map((row) => row.key))
    for (const [i, where] of wheres.entries()) if (path.length > 1 || i % 9 === n++ % 9) expect([where, (await find(c, name, where)).map((row) => row.key)]).toEqual([where, right[i]])
  }
}, 120_000)

it('a document that was read can be written back; what a column does not hold is refused with its name and type', async (test) => {
  const { c, sql, attach } = await connect(test)
  await sql(`create table things (${types})`)
  const name = await attach('things'), given = Object.fromEntries(Object.entries(values).filter(([field]) => !['huge', 'wide', 'long', 'clock', 'twice'].includes(field)))
  expect(await write(c, name, { kind: 'insert', doc: given }, { kind: 'insert', key: '2', doc: {} })).toMatchObject([{ status: 'done', key: '1' }, { status: 'done', key: '2' }])
  const [row] = await find(c, name)
  expect(row!.doc).toMatchObject(given)
  expect(await write(c, name, { kind: 'put', key: '2', doc: { ...given, id: 2 } })).toMatchObject([{ status: 'done' }])
  expect((await find(c, name))[1]!.doc).toEqual({ ...row!.doc, id: 2 })
  const wrong: Doc = { small: 128, unsigned: -1, big: 2n ** 63n, price: 1.0005, d: 'x', t: 5, u: 'no uuid', yes: 1, day: new Date(1), moment: '2024', bytes: 'x', j: new Date(5), list: ['x'], s: { z: 1 }, m: [1], v: [1, 2], huge: '1', wide: 1, long: '1 day', twice: 4, e: 'c' }
  for (const [field, value] of Object.entries(wrong)) {
    const [refused, beside] = await write(c, name, { kind: 'patch', key: '1', set: { [field]: value }, unset: [] }, { kind: 'patch', key: '2', set: { t: `beside ${field}` }, unset: [] })
    expect([field, refused!.status, beside!.status]).toEqual([field, 'refused', 'done'])
    expect(refused!.reason).toMatch(field === 'e' ? /Conversion Error/ : new RegExp(`"${field}"`))
    if (!['twice', 'e'].includes(field)) expect(refused!.reason).toMatch(/has the type [A-Z]/)
  }
  expect((await find(c, name))[0]!.doc).toEqual(row!.doc)
})

it('a key makes no difference of how it is declared; without one a table is not attached, and the error says what to do', async (test) => {
  const { c, sql, attach } = await connect(test)
  await sql('create schema "Sales"; create table "Sales"."The Orders" (n int, name varchar not null, made timestamptz not null, unique (name, made)); insert into "Sales"."The Orders" values (1, \'b,\\\', \'2024-01-01 00:00:00+00\'), (2, \'a\', \'1969-01-01 00:00:00.000001+00\')')
  expect((await find(c, await attach('"Sales"."The Orders"'))).map((row) => row.key)).toEqual(['a,1969-01-01T00:00:00.000001Z', 'b\\,\\\\,2024-01-01T00:00:00.000000Z'])
  await sql('create table loose (n int unique, f double primary key); create view seen as select 1 as n')
  for (const [source, code, says] of [['loose', 'UNSUPPORTED', /type DOUBLE; keys of numbers/], ['seen', 'UNSUPPORTED', /view/], ['nothing', 'NOT_FOUND', /main\.users/], ['a.b.c', 'NOT_FOUND', /no such table/], ['x; drop table loose', 'NOT_FOUND', /no such table/], ['./none.parquet', 'NOT_FOUND', /relative to/]] as const) {
    const attaching = attach(source)
    expect([source, await codeOf(attaching)]).toEqual([source, code])
    await expect(attaching).rejects.toThrow(says)
  }
})

it('what is left of a table that its owner dropped can be removed', async (test) => {
  const { c, sql, attach, folder } = await connect(test), slot: Slot = { id: 's_a', collection: 'c1', upstream: [], shape: { kind: 'number' }, many: false, label: 'n.one' }
  await sql('create table users (id integer primary key, n integer)')
  const name = await attach('users')
  await c.data!.openSlot(slot, live)
  await c.data!.openSlot({ ...slot, id: 's_b', label: 'n.two' }, live)
  await sql('insert into users values (1, 5)')
  expect(await sql(`select id, n, to_json(_outputs) as o from inlay.c1_view`)).toEqual([{ id: 1, n: 5, o: '{"n":{"one":null,"two":null}}' }])
  await sql('drop table users')
  const again = await duckdb.connect!(`duckdb:${folder}/app.duckdb`, { namespace: 'inlay' }, live)
  await again.data!.dropSlot('s_a', live)
  await again.data!.drop(name, live)
  await again.close()
  expect(await sql(`select table_name as t from duckdb_tables() where schema_name = 'inlay' and table_name not like '\\_%' escape '\\' union all select view_name from duckdb_views() where schema_name = 'inlay'`)).toEqual([])
})

it('files are read: Parquet, CSV and JSON, one or several; their rows have keys of path and number, and are not written', async (test) => {
  const { c, sql, attach, folder } = await connect(test)
  mkdirSync(join(folder, 'logs'))
  await sql(`copy (select range as n, 'v' || range as t, range % 2 = 0 as even from range(3000)) to '${folder}/events.parquet'`)
  writeFileSync(join(folder, 'logs', 'a.csv'), 'n,t\n1,x\n2,\n')
  writeFileSync(join(folder, 'logs', 'b.csv'), 'n,t\n3,z\n')
  writeFileSync(join(folder, 'rows.jsonl'), '{"n": 1, "deep": {"a": [1, 2]}}\n{"n": 2}\n')
  const parquet = await attach(`${folder}/events.parquet`), csv = await attach(`${folder}/logs/*.csv`), json = await attach(`${folder}/rows.jsonl`)
  expect(await c.data!.list(live)).toEqual([parquet, csv, json].map((name) => expect.objectContaining({ name, track: 'none', readOnly: true }) as unknown))
  const events = await find(c, parquet)
  expect([events.length, events[10], new Set(events.map((row) => row.rev)).size]).toEqual([3000, { key: `${folder}/events.parquet#10`, rev: events[10]!.rev, doc: { n: 10n, t: 'v10', even: true }, outputs: {} }, 3000])
  expect((await find(c, parquet, { kind: 'keys', keys: [`${folder}/events.parquet#2999`, `${folder}/events.parquet#3000`, 'x'] })).map((row) => row.doc['t'])).toEqual(['v2999'])
  expect((await find(c, csv)).map((row) => [row.key, row.doc])).toEqual([[`${folder}/logs/a.csv#0`, { n: 1n, t: 'x' }], [`${folder}/logs/a.csv#1`, { n: 2n, t: null }], [`${folder}/logs/b.csv#0`, { n: 3n, t: 'z' }]])
  expect((await find(c, json, { kind: 'eq', path: { at: ['deep', 'a'] }, value: 2 })).map((row) => row.key)).toEqual([`${folder}/rows.jsonl#0`])
  await expect(write(c, csv, { kind: 'patch', key: `${folder}/logs/a.csv#0`, set: { t: 'y' }, unset: [] })).rejects.toMatchObject({ code: 'UNSUPPORTED', message: expect.stringContaining('/logs/*.csv') as string })
  await sql(`copy (select range as n, 'changed' as t, true as even from range(10)) to '${folder}/events.parquet'`)
  expect((await find(c, parquet)).length).toBe(10)
})

it('a filter of a column is a filter of the scan: rows are not made to JSON to be looked at', async (test) => {
  const folder = mkdtempSync(join(tmpdir(), 'inlay-duckdb-')), sql = await connectDuck('duckdb:'), said: (readonly [string, Parameters<typeof sql.read>[1]])[] = []
  test.onTestFinished(async () => { await sql.close(); rmSync(folder, { recursive: true }) })
  await sql.write(({ run }) => run(`copy (select range as n, 't' || range % 7 as t, range / 3 as d, timestamp '2024-01-01' + interval (range) second as at from range(2000000)) to '${folder}/big.parquet'`), live.signal)
  const data = new DuckData(await openNamespace({ ...sql, read: (text, params, signal) => { said.push([text, params]); return sql.read(text, params, signal) } }, 'inlay', live.signal))
  await data.create({ name: 'big', attached: `${folder}/big.parquet`, track: 'none' }, live)
  const of = (kind: 'eq' | 'gte' | 'lt', field: string, value: NonNullable<Scalar>): Filter => ({ kind, path: { at: [field] }, value })
  for (const [where, n] of [[of('gte', 'n', 1_999_990), 10], [{ kind: 'and', of: [of('gte', 'n', 1_000_000), of('lt', 'n', 1_000_005.5)] }, 6], [of('lt', 'at', new Date('2024-01-01T00:00:05Z')), 5]] as const) {
    const start = performance.now()
    expect(await data.count({ from: 'big', where: where as Filter }, live)).toBe(n)
    expect(performance.now() - start).toBeLessThan(500)
    const [text, params] = said.at(-1)!, plan = JSON.stringify(await sql.read(`explain ${text}`, params, live.signal))
    expect(plan).toMatch(/PARQUET[^]*Filters/)
    expect(plan).not.toMatch(/json/i)
  }
})

it('what others change is stale, and a settle that it overtook is refused: the rules for that hold on attached tables', async (test) => {
  const folder = mkdtempSync(join(tmpdir(), 'inlay-duckdb-')), { connect: open, ...rest } = duckdb
  // The capability speaks of own collections too, where no other program gives a new rev.
  const plugin = { ...rest, connect: async (...args: Parameters<NonNullable<typeof open>>) => { const c = await open!(...args), data = c.data! as DuckData; Object.defineProperty(data, 'capabilities', { value: { ...data.capabilities, foreign: true } }); return c } }
  const subject = await Subject.connect(plugin, `duckdb:${folder}/app.duckdb`, { cases: 1, seed: 1, big: false, foreign: duckdbForeign })
  test.onTestFinished(async () => { await subject.close(); rmSync(folder, { recursive: true }) })
  const ids = ['attached.patch.foreign-cas', 'attached.rev.foreign-write', 'attached.slots.foreign-change']
  for (const id of ids) await areas.attached.find((rule) => rule.id === id)!.run(subject)
})

it('a name that is a file is that file, with whatever characters of patterns', async (test) => {
  const { c, sql, folder, attach } = await connect(test)
  for (const name of ['a[1]', 'a1', 'b*', 'bc']) await sql(`copy (select '${name}' as t) to '${folder}/${name}.parquet'`)
  for (const name of ['a[1]', 'b*']) expect((await find(c, await attach(`${folder}/${name}.parquet`))).map((row) => row.doc)).toEqual([{ t: name }])
  expect((await find(c, await attach(`${folder}/a*.parquet`))).map((row) => row.doc['t']).sort()).toEqual(['a1', 'a[1]'])
})

it('columns that are fields of Inlay are refused, of tables and of files, and a field that only objects have is none', async (test) => {
  const { c, sql, folder, attach } = await connect(test)
  await sql('create table own_rev (id integer primary key, _rev varchar)')
  await sql('create table own_id (id integer primary key, _id varchar)')
  await sql('create table own_key (_id integer primary key, "constructor" varchar)')
  await sql(`copy (select 1 as _fold) to '${folder}/fold.parquet'`)
  for (const [source, column] of [['own_rev', '_rev'], ['own_id', '_id'], [`${folder}/fold.parquet`, '_fold']] as const) await expect(attach(source).then((of) => find(c, of))).rejects.toMatchObject({ code: 'UNSUPPORTED', message: expect.stringContaining(`column "${column}"`) as string })
  const name = await attach('own_key')
  expect(await write(c, name, { kind: 'insert', key: '1', doc: {} })).toMatchObject([{ status: 'done' }])
  expect(await write(c, name, { kind: 'put', key: '1', doc: {} })).toMatchObject([{ status: 'done' }])
  expect(await write(c, name, { kind: 'insert', key: '01', doc: {} }, { kind: 'insert', key: '2', doc: {} })).toMatchObject([{ status: 'refused', reason: expect.stringContaining('is no key of the table, whose key is _id INTEGER') as string }, { status: 'done', key: '2' }])
})

it('a table or file that was altered is looked at once more', async (test) => {
  const { c, sql, folder, attach } = await connect(test)
  await sql(`create table altered as select 1 as id, 'a' as t, 2 as other`)
  await sql('alter table altered add primary key (id)')
  await sql(`copy (select 'a' as t) to '${folder}/altered.parquet'`)
  const name = await attach('altered'), file = await attach(`${folder}/altered.parquet`)
  expect([(await find(c, name)).length, (await find(c, file)).length]).toEqual([1, 1])
  await sql('alter table altered drop column other')
  await sql(`copy (select 'b' as u) to '${folder}/altered.parquet'`)
  expect((await find(c, name)).map((row) => row.doc)).toEqual([{ id: 1, t: 'a' }])
  expect((await find(c, file)).map((row) => row.doc)).toEqual([{ u: 'b' }])
  await sql('alter table altered rename column t to renamed')
  expect((await find(c, name)).map((row) => row.doc)).toEqual([{ id: 1, renamed: 'a' }])
  expect(await write(c, name, { kind: 'patch', key: '1', set: { renamed: 'c' }, unset: [] })).toMatchObject([{ status: 'done' }])
})

it('reads contents that other programs keep in columns, and writes them back as those read them', async (test) => {
  const bytes = (...ns: readonly number[]): Buffer => Buffer.from(Float64Array.from(ns).buffer), hex = (content: Buffer): string => `'${content.toString('hex').replace(/../g, '\\x$&')}'::blob`
  const form = (content: Buffer): string => `'${JSON.stringify({ at: { _content: { bytes: content.toString('base64'), codec: 'pair' } } })}'`
  const folder = mkdtempSync(join(tmpdir(), 'inlay-duckdb-')), db = await inlay({ data: `duckdb:${folder}/app.duckdb`, config: false, log: {} }), tools = await duckdb.connect!(`duckdb:${folder}/app.duckdb`, { namespace: 'tools' }, live), sql = async (text: string): Promise<unknown> => tools.data!.native!(text, live)
  test.onTestFinished(async () => { await db.close(); await tools.close(); rmSync(folder, { recursive: true }) })
  await sql('create table pictures (id integer primary key, doc json, raw blob, link varchar)')
  await sql(`insert into pictures values (1, ${form(bytes(1, 2))}, ${hex(bytes(3, 4))}, 'https://example.com/a'), (2, null, null, null), (3, ${form(bytes(1))}, ${hex(bytes(5))}, null)`)
  const pair = arrayCodec('pair', { type: 'float64', length: 2 }), rows = db.collection<Readonly<Record<string, unknown>>>('pictures', { attach: 'pictures', codecs: { raw: pair, link: pair } }), row = (await rows.findOne({ _id: '1' }))!
  expect([row['doc'], row['raw'], (row['link'] as UriContent).uri, await rows.findOne({ _id: '2' })]).toEqual([{ at: Float64Array.of(1, 2) }, Float64Array.of(3, 4), 'https://example.com/a', expect.objectContaining({ doc: null, raw: null, link: null })])
  await expect(rows.findOne({ _id: '3' })).rejects.toMatchObject({ code: 'CORRUPT', details: { id: '3', codec: 'pair' } })
  expect((await rows.update({ _id: '1' }, { $set: { raw: Float64Array.of(7, 8), link: 'https://example.com/b' } })).refused).toEqual([])
  expect((await rows.update({ _id: '3' }, { $set: { raw: Float64Array.of(9, 9), doc: { at: { _content: { bytes: bytes(6, 6).toString('base64'), codec: 'pair' } } } } })).refused).toEqual([])
  expect(await sql('select hex(raw) as raw, link from pictures order by id')).toEqual([{ raw: bytes(7, 8).toString('hex').toUpperCase(), link: 'https://example.com/b' }, { raw: null, link: null }, { raw: bytes(9, 9).toString('hex').toUpperCase(), link: null }])
  expect([(await rows.findOne({ _id: '1' }))!['doc'], (await rows.findOne({ _id: '3' }))!['doc']]).toEqual([{ at: Float64Array.of(1, 2) }, { at: Float64Array.of(6, 6) }])
})
