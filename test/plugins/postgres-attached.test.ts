/** What only PostgreSQL has: its types, its constraints, its rights. What holds for attached collections everywhere is in the suite. */
import { randomBytes } from 'node:crypto'
import { setTimeout } from 'node:timers/promises'
import { Client } from 'pg'
import { expect, it, type TestContext } from 'vitest'
import { arrayCodec, inlay, listener, model, step, type Inlay, type UriContent } from '../../index.ts'
import postgres from '../../plugins/postgres/index.ts'
import { postgresUri } from '../support/servers.ts'

interface Place { readonly db: Inlay; readonly sql: Client; readonly schema: string }
async function place(ctx: TestContext, ...ddl: readonly string[]): Promise<Place> {
  const uri = postgresUri(ctx), schema = `a_${randomBytes(6).toString('hex')}`, sql = new Client(uri)
  await sql.connect()
  const db = await inlay({ data: uri, namespace: `${schema}_own`, config: false, log: {} })      // makes the extension where it is not there yet
  await sql.query(`create schema ${schema}; set search_path = ${schema}, public`)
  for (const statement of ddl) await sql.query(statement)
  ctx.onTestFinished(async () => {
    await db.close({ abort: true })
    await sql.query(`drop schema ${schema} cascade; drop schema ${schema}_own cascade`)
    await sql.end()
  })
  return { db, sql, schema }
}

it('reads each type of column as its value, and writes it back unchanged', async (ctx) => {
  const { db, sql, schema } = await place(ctx, `create type mood as enum ('glad', 'sad')`, 'create domain zip as varchar(5)', `create table all_types (id int4 primary key, small int2, whole int4, big int8, single float4, double float8, price numeric(12, 2), wide numeric(38, 10), bare numeric, yes boolean,
    words text, short varchar(5), padded char(4), one uuid, feeling mood, bytes bytea, day date, clock timestamp, moment timestamptz, plain json, binary_json jsonb, numbers int4[], texts text[], vec vector(3), span interval, code zip, doubled int8 generated always as (whole::int8 * 2) stored)`)
  await sql.query(`insert into all_types values (1, -5, 2147483647, 9007199254740993, 0.1, 'NaN', 1234567890.25, 123.4567890123, 1.5, true, 'é"\\,', 'abcde', 'ab', '00000000-0000-4000-8000-00000000000A', 'sad', '\\x00ff', '2024-02-29', '2024-02-29 12:34:56.789999', '2024-02-29 12:34:56.789999+02', '{"a": [1, null]}', '{"a": {"b": "c"}}', '{1,NULL,3}', '{"a,b","{"}', '[1,2,3]', '1 day 2 hours', '12345')`)
  await sql.query(`insert into all_types (id, moment) values (2, 'infinity')`)
  const rows = db.collection('all', { attach: `${schema}.all_types` }), row = (await rows.findOne({ _id: '1' }))!
  expect(row).toEqual({
    _id: '1', _fold: expect.any(String) as string, id: 1, small: -5, whole: 2147483647, big: 9007199254740993n, single: 0.1, double: Number.NaN, price: 1234567890.25, wide: '123.4567890123', bare: '1.5', yes: true, words: 'é"\\,', short: 'abcde', padded: 'ab',
    one: '00000000-0000-4000-8000-00000000000a', feeling: 'sad', bytes: Uint8Array.of(0, 255), day: new Date('2024-02-29'), clock: new Date('2024-02-29T12:34:56.789Z'), moment: new Date('2024-02-29T10:34:56.789Z'), plain: { a: [1, null] }, binary_json: { a: { b: 'c' } },
    numbers: [1, null, 3], texts: ['a,b', '{'], vec: Float32Array.of(1, 2, 3), span: '1 day 02:00:00', code: '12345', doubled: 4294967294n,
  })
  expect(await rows.findOne({ _id: '2' })).toMatchObject({ moment: 'infinity', whole: null })
  const text = async (): Promise<unknown> => (await sql.query(`select x::text as t from all_types x where id = 1`)).rows[0]
  const before = await text()
  expect((await rows.update({ _id: '1' }, { $set: { words: 'other' } })).refused).toEqual([])
  expect((await rows.update({ _id: '1' }, { $set: { words: 'é"\\,' } })).refused).toEqual([])
  expect(await text()).toEqual(before)
  const { wide: _, bare: __, span: ___, doubled: ____, _id: _____, _fold: ______, ...writable } = row as Record<string, unknown>
  expect((await rows.replace('1', { ...writable, clock: new Date('2024-02-29T12:34:56.789Z') })).refused).toEqual([])
  expect(await rows.findOne({ _id: '1' })).toEqual(row)
  for (const set of [{ padded: 'abcde' }, { code: '123456' }, { short: 'abcdef' }]) expect((await rows.update({ _id: '1' }, { $set: set } as never)).refused).toMatchObject([{ reason: expect.stringContaining('too long') as string }])
  for (const [where, found] of [[{ big: 9007199254740993n }, 1], [{ big: { $gt: 9007199254740992n } }, 1], [{ price: { $lt: 1234567890.3 } }, 1], [{ moment: new Date('2024-02-29T10:34:56.789Z') }, 1], [{ moment: { $gt: new Date('2024-02-29T10:34:56.789Z') } }, 0],
    [{ feeling: 'sad' }, 1], [{ double: { $gt: 0 } }, 0], [{ one: '00000000-0000-4000-8000-00000000000a' }, 1], [{ one: '00000000-0000-4000-8000-00000000000A' }, 0], [{ whole: { $in: [null, 7] } }, 1], [{ 'binary_json.a.b': 'c' }, 1], [{ numbers: 3 }, 1], [{ padded: 'ab' }, 1], [{ unknown: null }, 2], [{ day: { $lt: new Date('2024-03-01') } }, 1]] as const) {
    expect([where, await rows.find(where as never).count()]).toEqual([where, found])
  }
})

it('refuses what a column or a constraint refuses, with its name, and stores the neighbours', async (ctx) => {
  const { db, schema } = await place(ctx, 'create table parents (id int4 primary key)', 'insert into parents values (1)',
    `create table strict (id bigserial primary key, name varchar(5) not null unique, age int2 check (age >= 0), parent int4 references parents, made timestamptz not null default now(), total int4 generated always as (age * 2) stored)`)
  const rows = db.collection('strict', { attach: `${schema}.strict` })
  const { ids, refused } = await rows.insert([{ name: 'a' }, { name: 'toolong' }, { name: 'a' }, { age: 1 }, { name: 'b', age: -1 }, { name: 'c', age: 70_000 }, { name: 'd', age: '5' }, { name: 'e', parent: 7 }, { name: 'f', other: 1 }, { name: 'g', total: 1 }, { _id: 'x', name: 'h' }, { _id: '90', name: 'i', age: 3 }, { name: 5 }] as never)
  expect([ids.length, ids.at(-1)]).toEqual([2, '90'])
  expect(refused.map(({ index, code }) => [index, code])).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12].map((index) => [index, 'INVALID_ARGUMENT']))
  const reasons = ['character varying(5)', 'unique constraint', 'null value in column "name"', 'check constraint', 'the column "age" has the type smallint; 70000 was given', '"5" was given', 'foreign key', 'no column "other"', 'computes the column "total"', 'whose key is id bigint', 'the column "name"']
  for (const [i, reason] of reasons.entries()) expect(refused[i]!.reason).toContain(reason)
  expect((await rows.update({ _id: '90' }, { $set: { id: 91 } } as never)).refused).toMatchObject([{ id: '90', reason: expect.stringContaining('part of the key') as string }])
  expect((await rows.update({}, { $set: { age: -3 } } as never)).refused).toHaveLength(2)
  expect(await rows.find().count()).toBe(2)
})

it('offers thousands of stale rows of a composite key once each and in order, and follows what plain SQL changes', async (ctx) => {
  const { db, sql, schema } = await place(ctx, 'create table readings (sensor int4, at timestamptz, n int4, primary key (sensor, at))', `insert into readings select i % 7, '2024-01-01'::timestamptz + i * interval '1 second', i from generate_series(1, 5321) i`)
  const rows = db.collection<{ n: number }>('readings', { attach: `${schema}.readings` }), seen: number[] = []
  const twice = model('twice', { run: step('twice@1', (ns: readonly number[]) => { seen.push(...ns); return ns.map((n) => 2 * n) }) }), handle = await db.add(listener({ model: twice, on: 'readings', key: 'n' }))
  const keys = (await sql.query<{ n: number }>('select n from readings order by sensor, at')).rows.map((row) => row.n)
  expect(seen).toEqual(keys)
  expect((await rows.find().toArray()).map((row) => row.n)).toEqual(keys)
  seen.length = 0
  await sql.query('update readings set n = -n where n % 1000 = 0')
  expect(await db.verify({ repair: true })).toMatchObject({ stale: 5, repaired: { computed: 5 } })
  expect(seen.sort((a, b) => a - b)).toEqual([-5000, -4000, -3000, -2000, -1000])
  expect(await rows.find({ [handle.path]: -2000 }).count()).toBe(1)
  await sql.query('delete from readings where n < 0')
  expect(await db.verify({ repair: true })).toMatchObject({ orphaned: 5, repaired: { pruned: 5 } })
  expect(await db.verify({ deep: true })).toMatchObject({ ok: true, rows: 5316 })
})

it('plan shows the triggers that track: "notify" installs, and remove takes them away', async (ctx) => {
  const { db, sql, schema } = await place(ctx, 'create table users (id uuid primary key default gen_random_uuid(), bio text)')
  const installed = async (): Promise<number> => (await sql.query('select 1 from pg_trigger where tgrelid = $1::regclass and not tgisinternal', [`${schema}.users`])).rowCount!
  db.collection('users', { attach: `${schema}.users`, track: 'notify' })
  const length = listener({ model: model('length', { run: step('length@1', (texts: readonly string[]) => texts.map((t) => t.length)) }), on: 'users', key: 'bio' }), plan = await db.plan([length])
  expect(plan.steps.map(({ what }) => what.slice(0, 33))).toEqual([`attach users to ${schema}.users`.slice(0, 33), 'create or replace function "', 'create or replace trigger "inlay_', 'create or replace trigger "inlay_', 'create or replace trigger "inlay_', 'create or replace trigger "inlay_', 'add model length version 0', 'compute bio_length'].map((t, i) => (i === 1 ? plan.steps[1]!.what.slice(0, 33) : t.slice(0, 33))))
  expect([await installed(), (await db.show('collection')).length]).toEqual([0, 0])
  await plan.apply()
  expect([await installed(), String(await db.plan([length]))]).toEqual([4, 'nothing to do'])
  await sql.query(`insert into users (bio) values ('written by SQL')`)
  await db.verify({ repair: true })
  const { rows: [shown] } = await sql.query<Record<string, unknown>>(`select * from "${schema}_own".users_view`)
  expect(shown).toEqual({ _id: expect.stringMatching(/^[0-9a-f-]{36}$/) as string, '_outputs.bio.length': 14 })
  await expect(db.remove('collection', 'users')).rejects.toMatchObject({ code: 'CONFLICT' })
  await db.remove('collection', 'users', { force: true })
  const left = await sql.query('select relname from pg_class c join pg_namespace n on n.oid = c.relnamespace where nspname = $1 and (relname like $2 or relname like $3)', [`${schema}_own`, 's\\_%', '%view'])
  expect([await installed(), left.rowCount, (await sql.query('select 1 from users')).rowCount]).toEqual([0, 0, 1])
})

const upper = model('upper', { run: step('upper@1', (texts: readonly string[]) => texts.map((t) => t.toUpperCase())) })

it('takes for a key only the text that a row has', async (ctx) => {
  const { db, sql, schema } = await place(ctx, 'create table pairs (a text, b text, v text, primary key (a, b))', `insert into pairs values ('x', 'b', 'kept')`, 'create table padded (k char(4) primary key, v text)', `insert into padded values ('ab', 'kept')`, 'create table numerics (k numeric primary key, v text)', `insert into numerics values (0, 'kept'), ('NaN', 'nan')`,
    'create table names (k name primary key, v text)', `insert into names values ('${'n'.repeat(63)}', 'kept')`, `create type mood as enum ('glad', 'sad')`, 'create table moods (k mood primary key, v text)', `insert into moods values ('sad', 'kept')`)
  for (const [of, no, yes] of [['pairs', 'a\\x,b', 'x,b'], ['padded', 'ab  ', 'ab'], ['numerics', '-0', '0'], ['numerics', '0.0', 'NaN'], ['names', 'n'.repeat(64), 'n'.repeat(63)], ['moods', 'happy', 'sad']] as const) {
    const rows = db.collection<{ v: string }>(of, { attach: `${schema}.${of}` })
    expect([of, await rows.find({ _id: no }).count(), await rows.find({ _id: yes }).count()]).toEqual([of, 0, 1])
    expect((await rows.update({ _id: no }, { $set: { v: 'hit' } })).ids).toEqual([])
    expect((await rows.delete({ _id: no })).ids).toEqual([])
    expect((await rows.insert({ _id: no, v: 'new' })).refused).toMatchObject([{ code: 'INVALID_ARGUMENT', reason: expect.stringContaining('is no key of the table') as string }])
    expect((await sql.query(`select v from ${of} where v <> 'nan'`)).rows).toEqual([{ v: 'kept' }])
  }
})

it('tells keys before Christ, without end and NaN from others, and pages past them', async (ctx) => {
  const { db, sql, schema } = await place(ctx, 'create table times (k timestamptz primary key, t text)', `insert into times values ('-infinity', 'a'), ('0044-03-15 BC', 'b'), ('0044-03-15', 'c'), ('12024-02-29', 'd'), ('infinity', 'e')`, 'create table days (k date primary key, t text)', `insert into days values ('-infinity', 'a'), ('0005-02-29 BC', 'b'), ('12024-02-29', 'c')`,
    'create table numerics (k numeric primary key, t text)', `insert into numerics select i, 't' from generate_series(1, 999) i union all select 'NaN'::numeric, 't'`)
  const times = db.collection<{ t: string }>('times', { attach: `${schema}.times` }), keys = ['-infinity', '0044-03-15T00:00:00.000000Z BC', '0044-03-15T00:00:00.000000Z', '12024-02-29T00:00:00.000000Z', 'infinity']
  const handle = await db.add(listener({ model: upper, on: 'times', key: 't' }))
  expect((await times.find().toArray()).map((row) => [row._id, handle.of(row)])).toEqual(keys.map((key, i) => [key, 'ABCDE'[i]]))
  for (const key of keys) expect(await times.find({ _id: key }).count()).toBe(1)
  expect((await times.delete({ t: 'b' })).ids).toEqual([keys[1]])
  expect((await sql.query('select t from times order by k')).rows.map((row: { t: string }) => row.t).join('')).toBe('acde')
  const days = db.collection('days', { attach: `${schema}.days` })
  for (const key of ['-infinity', '0005-02-29 BC', '12024-02-29']) expect([key, await days.find({ _id: key }).count()]).toEqual([key, 1])
  for (const key of ['0004-02-29 BC', '0000-01-01', '02024-01-01', '2023-02-29', '9999999-01-01']) expect([key, await days.find({ _id: key }).count()]).toEqual([key, 0])
  let n = 0
  for await (const _ of db.collection('numerics', { attach: `${schema}.numerics` }).find()) if (++n > 2000) break
  expect(n).toBe(1000)
})

it('of rows inserted with one key in its column the first is done, and what a trigger skips is refused', async (ctx) => {
  const { db, sql, schema } = await place(ctx, 'create table dup (id int primary key, v text, w text)', 'create table skips (id serial primary key, v text)', `create function skip() returns trigger language plpgsql as $$ begin if new.v = 'no' then return null; end if; return new; end $$`, 'create trigger skip before insert or update on skips for each row execute function skip()')
  const dup = db.collection('dup', { attach: `${schema}.dup` }), inserted = await dup.insert([{ id: 2, v: 'first' }, { _id: '2', v: 'second' }, { id: 1, w: 'x' }, { id: 2, w: 'third' }] as never)
  expect([inserted.ids, inserted.refused.map(({ index, code }) => [index, code])]).toEqual([['2', '1'], [[1, 'ALREADY_EXISTS'], [3, 'ALREADY_EXISTS']]])
  expect((await sql.query('select id, v from dup order by id')).rows).toEqual([{ id: 1, v: null }, { id: 2, v: 'first' }])
  const skips = db.collection('skips', { attach: `${schema}.skips` })
  const skipped = { code: 'INVALID_ARGUMENT', reason: expect.stringContaining('trigger') as string }, given = await skips.insert([{ v: 'no' }, { v: 'yes' }, { id: 900, v: 'no' }] as never)
  expect([given.ids.length, given.refused]).toEqual([1, [expect.objectContaining({ index: 0, ...skipped }), expect.objectContaining({ index: 2, ...skipped })]])
  expect((await skips.update({}, { $set: { v: 'no' } })).refused).toMatchObject([skipped])
})

it('inserts into partitioned tables, compares a real as what is read of it, and refuses columns that are fields of Inlay', async (ctx) => {
  const { db, schema } = await place(ctx, 'create table parts (id int primary key, v text) partition by range (id)', 'create table parts_1 partition of parts for values from (0) to (100)', 'create table reals (id int primary key, r real, "__proto__" text, "constructor" text)', `insert into reals values (1, 0.1, 'p', 'c'), (2, 'NaN', null, null), (3, 'Infinity', null, null)`,
    'create table own_rev (id int primary key, _rev text)', 'create table own_id (id int primary key, _id text)', 'create table own_key (_id int primary key)')
  const parts = db.collection<{ v: string }>('parts', { attach: `${schema}.parts` }), handle = await db.add(listener({ model: upper, on: 'parts', key: 'v' }))
  expect((await parts.insert([{ id: 1, v: 'a' }, { _id: '2', v: 'b' }, { id: 2, v: 'c' }, { id: 100, v: 'd' }] as never)).refused.map(({ index, code }) => [index, code])).toEqual([[2, 'ALREADY_EXISTS'], [3, 'INVALID_ARGUMENT']])
  expect((await parts.replace('2', { v: 'e' })).refused).toEqual([])
  expect((await parts.find().toArray()).map((row) => handle.of(row))).toEqual(['A', 'E'])
  const reals = db.collection<{ r: number }>('reals', { attach: `${schema}.reals` })
  for (const [where, n] of [[{ r: 0.1 }, 1], [{ r: { $gt: 0.1 } }, 1], [{ r: { $lte: 0.1 } }, 1], [{ r: { $in: [0.1, 0.2] } }, 1]] as const) expect([where, await reals.find(where as never).count()]).toEqual([where, n])
  expect((await reals.replace('1', { r: 0.5 })).refused).toEqual([])
  for (const [of, column] of [['own_rev', '_rev'], ['own_id', '_id']] as const) await expect(db.collection(of, { attach: `${schema}.${of}` }).find().count()).rejects.toMatchObject({ code: 'UNSUPPORTED', message: expect.stringContaining(`column "${column}"`) as string })
  expect(await db.collection('own_key', { attach: `${schema}.own_key` }).find().count()).toBe(0)
})

it('stands in the way of no one who alters the table, sees it as it is by then, and leaves views that others have built', async (ctx) => {
  const { db, sql, schema } = await place(ctx, 'create table migrated (id int primary key, t varchar(20), extra int)', `insert into migrated values (1, 'a', 1)`)
  const rows = db.collection<{ t: string }>('migrated', { attach: `${schema}.migrated` }), view = `"${schema}_own".migrated_view`
  await db.add(listener({ model: upper, on: 'migrated', key: 't' }))
  await sql.query(`create view mine as select * from ${view}`)
  await db.add(listener({ model: upper, on: 'migrated', key: 't', name: 'again' }))
  expect((await sql.query(`select * from ${view}`)).rows).toEqual([{ _id: '1', '_outputs.t.upper': 'A', '_outputs.again.upper': 'A' }])
  expect((await sql.query('select * from mine')).rowCount).toBe(1)
  await sql.query('alter table migrated alter column t type text; alter table migrated rename column extra to other')
  expect((await rows.find().toArray()).map((row) => Object.keys(row))).toEqual([['_id', 'id', 't', 'other', '_fold', '_outputs']])
  await sql.query('alter table migrated drop column other')
  expect((await rows.update({ _id: '1' }, { $set: { t: 'b' } })).refused).toEqual([])
  expect(await db.verify()).toMatchObject({ ok: true })
  await db.remove('listener', 'again')
  await sql.query('drop table migrated')
})

it('fails no write of others, whatever became of the key, and makes its schema anew when somebody dropped it', async (ctx) => {
  const { db, sql, schema } = await place(ctx, 'create table told (id int primary key, t text)')
  db.collection('told', { attach: `${schema}.told`, track: 'notify' })
  await db.add(listener({ model: upper, on: 'told', key: 't' }))
  await sql.query(`insert into "${schema}_own"._watchers (id, collection) values (gen_random_uuid(), 'told'); select setval('"${schema}_own"._outbox_n_seq', 3000000000)`)
  await sql.query(`insert into told values (1, 'a')`)
  await sql.query('alter table told rename column id to ident')
  await sql.query(`insert into told values (2, 'b')`)
  expect((await sql.query(`select keys from "${schema}_own"._outbox order by n`)).rows).toEqual([{ keys: ['1'] }, { keys: null }])
  await sql.query(`alter table "${schema}_own"._outbox rename to hidden`)
  await sql.query(`insert into told values (3, 'c')`)
  const place_ = await postgres.connect!(postgresUri(ctx), { namespace: `${schema}_late` }, { signal: ctx.signal })
  ctx.onTestFinished(() => place_.close())
  await sql.query(`drop schema ${schema}_late cascade`)
  await place_.data!.create({ name: 'fresh', attached: false, track: 'none' }, { signal: ctx.signal })
  expect(await place_.data!.list({ signal: ctx.signal })).toHaveLength(1)
  await sql.query(`drop schema ${schema}_late cascade`)
})

it('a watcher is given what is not done yet once, and the rest after it', async (ctx) => {
  const { sql, schema } = await place(ctx), end = new AbortController(), c = { signal: end.signal }
  const { data, close } = await postgres.connect!(postgresUri(ctx), { namespace: `${schema}_own` }, { signal: ctx.signal })
  ctx.onTestFinished(() => close())
  await data!.create({ name: 'docs', attached: false, track: 'notify' }, c)
  const notices = data!.watch!('docs', c)[Symbol.asyncIterator](), given: string[] = []
  await notices.next()
  for (const key of ['a', 'b', 'c']) {
    const next = notices.next()                                            // it waits by now
    await setTimeout(100)
    await sql.query(`insert into "${schema}_own".docs (_id, doc) values ($1, '{}')`, [key])
    given.push(...(await next).value!.keys as readonly string[])
  }
  end.abort()
  await notices.return?.(undefined)
  expect(given).toEqual(['a', 'b', 'c'])
})

it('reads contents that other programs keep in columns, and writes them back as those read them', async (ctx) => {
  const bytes = (...ns: readonly number[]): Buffer => Buffer.from(Float64Array.from(ns).buffer), form = (content: Buffer): string => JSON.stringify({ at: { _content: { bytes: content.toString('base64'), codec: 'pair' } } })
  const pair = arrayCodec('pair', { type: 'float64', length: 2 }), { db, sql, schema } = await place(ctx, 'create table pictures (id int4 primary key, doc jsonb, raw bytea, link text)')
  await sql.query('insert into pictures values (1, $1, $2, $3), (2, null, null, null), (3, $4, $5, null)', [form(bytes(1, 2)), bytes(3, 4), 'https://example.com/a', form(bytes(1)), bytes(5)])
  const rows = db.collection<Readonly<Record<string, unknown>>>('pictures', { attach: `${schema}.pictures`, codecs: { raw: pair, link: pair } }), row = (await rows.findOne({ _id: '1' }))!
  expect([row['doc'], row['raw'], (row['link'] as UriContent).uri, await rows.findOne({ _id: '2' })]).toEqual([{ at: Float64Array.of(1, 2) }, Float64Array.of(3, 4), 'https://example.com/a', expect.objectContaining({ doc: null, raw: null, link: null })])
  await expect(rows.findOne({ _id: '3' })).rejects.toMatchObject({ code: 'CORRUPT', details: { id: '3', codec: 'pair' } })
  expect((await rows.update({ _id: '1' }, { $set: { raw: Float64Array.of(7, 8), link: 'https://example.com/b' } })).refused).toEqual([])
  expect((await rows.update({ _id: '3' }, { $set: { raw: Float64Array.of(9, 9), doc: { at: { _content: { bytes: bytes(6, 6).toString('base64'), codec: 'pair' } } } } })).refused).toEqual([])
  expect((await sql.query('select raw, link from pictures order by id')).rows).toEqual([{ raw: bytes(7, 8), link: 'https://example.com/b' }, { raw: null, link: null }, { raw: bytes(9, 9), link: null }])
  expect([(await rows.findOne({ _id: '1' }))!['doc'], (await rows.findOne({ _id: '3' }))!['doc']]).toEqual([{ at: Float64Array.of(1, 2) }, { at: Float64Array.of(6, 6) }])
})
