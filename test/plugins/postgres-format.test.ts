/** Namespaces of earlier formats, made by the SQL of the versions that wrote them: this version takes them over, and what was computed stays. */
import { randomBytes } from 'node:crypto'
import { Client } from 'pg'
import { expect, it, type TestContext } from 'vitest'
import type { Datalayer, Slot } from '../../core/contract.ts'
import { inlay, listener, model, step } from '../../index.ts'
import postgres from '../../plugins/postgres/index.ts'
import { noticeTables, ownTriggers } from '../../plugins/postgres/notices.ts'
import { all, live, outcome } from '../conformance/subject.ts'
import { dropSchema } from '../support/backends.ts'
import { postgresUri } from '../support/servers.ts'

const one: Slot = { id: 's_one', collection: 'docs', upstream: [], shape: { kind: 'json' }, many: false, label: 'x.one' }
const lists: Slot = { id: 's_lists', collection: 'docs', upstream: [], shape: { kind: 'string' }, many: true }
const of: Slot = { id: 's_of', collection: lists.id, fields: ['value'], upstream: [], shape: { kind: 'number' }, many: false }
const revs = { a: '00000000-0000-4000-8000-00000000000a', b: '00000000-0000-4000-8000-00000000000b', c: '00000000-0000-4000-8000-00000000000c' }

/** A namespace as it was: three rows, an output for each of them (a value, an error of another rev, nothing selected), a list of two elements, and an output of its second. */
function namespaceOf(format: '1' | '2', schema: string): readonly string[] {
  const bump = format === '1'
    ? [`create function ${schema}._bump() returns trigger language plpgsql as $$ begin
        if coalesce(current_setting('inlay.own', true), '') <> 'on' or new._rev is null or (tg_op = 'UPDATE' and new._rev = old._rev) then new._rev := gen_random_uuid(); end if;
        return new; end $$`, `create trigger _bump before insert or update on ${schema}.docs for each row execute function ${schema}._bump()`]
    : [`create function ${schema}._bump() returns trigger language plpgsql as $$ begin new._rev := gen_random_uuid(); return new; end $$`, ...noticeTables({ namespace: schema }),
      ...[['insert', `current_setting('inlay.own', true) is distinct from 'on' or new._rev is null`], ['update', `current_setting('inlay.own', true) is distinct from 'on' or new._rev is null or new._rev = old._rev`]]
        .map(([event, when]) => `create trigger _bump_${event} before ${event} on ${schema}.docs for each row when (${when}) execute function ${schema}._bump()`), ...ownTriggers({ namespace: schema }, 'docs')]
  const output = (id: string, on: string, key: string, value: string, more = ''): string =>
    `create table ${schema}.${id} (key text collate "C" not null references ${schema}.${on} (${key}) on delete cascade on update cascade, off int not null, rev text not null, hash text not null, err text, tries int, none boolean not null default false, value ${value},${more} primary key (key, off))`
  return [
    `create schema ${schema}`, `create table ${schema}._meta (kind text not null, name text collate "C" not null, spec jsonb not null, primary key (kind, name))`,
    `create table ${schema}._artifacts (id text collate "C" primary key, generation uuid not null, bytes bigint not null, written timestamptz not null default now())`,
    `create table ${schema}._chunks (id text collate "C" not null, generation uuid not null, n int not null, data bytea not null, written timestamptz not null default now(), primary key (id, generation, n))`,
    `create table ${schema}.docs (_id text collate "C" primary key default gen_random_uuid()::text, _rev uuid not null, doc jsonb not null)`,
    `insert into ${schema}.docs values ('a', '${revs.a}', '{"x": 1}'), ('b', '${revs.b}', '{"x": 2}'), ('c', '${revs.c}', '{"x": 3}')`, ...bump,
    output('s_one', 'docs', '_id', 'jsonb'), output('s_lists', 'docs', '_id', 'text', ` id text collate "C" generated always as (key || '#' || off::text) stored unique,`), output('s_of', 's_lists', 'id', 'double precision'),
    `insert into ${schema}.s_one (key, off, rev, hash, err, tries, none, value) values ('a', 0, '${revs.a}', 'ha', null, null, false, '1'), ('b', 0, 'another', 'hb', 'bad row', 2, false, null), ('c', 0, '${revs.c}', 'hc', null, null, true, null)`,
    `insert into ${schema}.s_lists (key, off, rev, hash, value) values ('a', -1, '${revs.a}', 'ha', null), ('a', 0, md5('p'), '', 'p'), ('a', 1, md5('q'), '', 'q')`,
    `insert into ${schema}.s_of (key, off, rev, hash, value) values ('a#1', 0, md5('q'), 'hq', 5)`,
    `insert into ${schema}._meta values ('format', 'format', to_jsonb('${format}'::text)), ('collection', 'docs', '{"name": "docs", "attached": false, "track": "notify"}'), ('slot', 's_one', '{"collection": "docs", "label": "x.one", "many": false, "opened": 1}'), ('slot', 's_lists', '{"collection": "docs"}'), ('slot', 's_of', '{"collection": "s_lists"}')`,
    ...(format === '2' ? [`create view ${schema}.docs_view as select d._id, d._rev, d.doc, o.value as "_outputs.x.one" from ${schema}.docs d left join ${schema}.s_one o on o.key = d._id and o.off = 0`] : []),
  ]
}
async function old(ctx: TestContext, format: '1' | '2'): Promise<{ readonly uri: string; readonly schema: string; readonly sql: Client }> {
  const uri = postgresUri(ctx), schema = `f_${randomBytes(6).toString('hex')}`, sql = new Client(uri)
  await sql.connect()
  ctx.onTestFinished(async () => { await sql.end(); await dropSchema(uri, schema) })
  for (const statement of namespaceOf(format, schema)) await sql.query(statement)
  return { uri, schema, sql }
}
async function connect(ctx: TestContext, uri: string, namespace: string): Promise<Datalayer> {
  const connection = await postgres.connect!(uri, { namespace }, live)
  ctx.onTestFinished(() => connection.close())
  return connection.data!
}
const formatOf = async (sql: Client, schema: string): Promise<unknown> => (await sql.query<{ format: string }>(`select spec #>> '{}' as format from ${schema}._meta where kind = 'format'`)).rows[0]!.format
const columns = async (sql: Client, schema: string): Promise<number> => (await sql.query(`select from information_schema.columns where table_schema = $1 and column_name = 'made_by' and data_type = 'text'`, [schema])).rowCount!

for (const format of ['1', '2'] as const) {
  it(`takes over a namespace of format ${format}: rows, outputs and marks are as they were, and new ones say who made them`, async (ctx) => {
    const { uri, schema, sql } = await old(ctx, format), data = await connect(ctx, uri, schema)
    for (const slot of [one, lists, of]) await data.openSlot(slot, live)
    expect([await formatOf(sql, schema), await columns(sql, schema)]).toEqual(['3', 3])
    expect((await all(data.rows(one, 'all', 'all', live))).map((row) => [row.key, row.rev, row.mark])).toEqual([['a', revs.a, { rev: revs.a, hash: 'ha' }], ['b', revs.b, { rev: 'another', hash: 'hb', error: 'bad row', tries: 2 }], ['c', revs.c, { rev: revs.c, hash: 'hc', none: true }]])
    expect([(await all(data.rows(one, 'stale', 'all', live))).map((row) => row.key), (await all(data.rows(lists, 'stale', 'all', live))).map((row) => row.key), (await all(data.rows(of, 'stale', 'all', live))).map((row) => row.key)]).toEqual([['b'], ['b', 'c'], ['a#0']])
    expect((await all(data.find({ from: 'docs', slots: [one.id, lists.id] }, live))).map((row) => row.outputs)).toEqual([{ [one.id]: [1], [lists.id]: ['p', 'q'] }, {}, {}])
    expect((await all(data.find({ from: lists.id, slots: [of.id] }, live))).map((row) => [row.key, row.doc['value'], row.outputs])).toEqual([['a#0', 'p', {}], ['a#1', 'q', { [of.id]: [5] }]])
    const [a, b] = await all(data.rows(one, 'all', 'all', live))
    expect(await data.settle(one, [{ key: 'a', rev: a!.rev, hash: 'ha', by: 'somebody', kind: 'same' }, { ...outcome(b!, [2]), by: 'new' }], live)).toEqual([])
    expect((await all(data.rows(one, 'all', 'all', live))).map((row) => row.mark?.by)).toEqual([undefined, 'new', undefined])
    // What tells of others' writes is there, of format 1 for the first time.
    const stop = new AbortController(), told: string[] = []
    const watching = (async () => { for await (const { keys, done } of data.watch!('docs', { signal: stop.signal })) { told.push(...keys); await done(live); if (told.includes('c')) stop.abort() } })()
    for (const end = Date.now() + 10_000; Date.now() < end && !stop.signal.aborted;) { await sql.query(`update ${schema}.docs set doc = '{"x": 4}' where _id = 'c'`); await new Promise((next) => { setTimeout(next, 50) }) }
    await watching
    expect((await sql.query(`select from ${schema}.docs where _id = 'c' and _rev <> $1`, [revs.c])).rowCount).toBe(1)
    await data.drop('docs', live)
  })

  it(`six connections that open a namespace of format ${format} at once take it over once`, async (ctx) => {
    const { uri, schema, sql } = await old(ctx, format), datas = await Promise.all(Array.from({ length: 6 }, () => connect(ctx, uri, schema)))
    expect([await formatOf(sql, schema), await columns(sql, schema)]).toEqual(['3', 3])
    for (const data of datas) {
      await data.openSlot(one, live)
      expect((await all(data.rows(one, 'stale', 'all', live))).map((row) => row.key)).toEqual(['b'])
    }
  })
}

it('outputs of listeners that an earlier version computed are not computed again; they do not say by whom, new ones do', async (ctx) => {
  const uri = postgresUri(ctx), namespace = `f_${randomBytes(6).toString('hex')}`, seen: unknown[] = [], sql = new Client(uri)
  const twice = listener({ model: model('twice', { run: step('twice@1', (xs: readonly number[]) => { seen.push(...xs); return xs.map((x) => x * 2) }) }), on: 'docs', key: 'x' })
  await sql.connect()
  ctx.onTestFinished(async () => { await sql.end(); await dropSchema(uri, namespace) })
  const open = (): ReturnType<typeof inlay> => inlay({ data: uri, namespace, config: false, log: {}, components: [] }), before = await open(), docs = before.collection<{ x: number }>('docs')
  await docs.insert([{ _id: 'a', x: 1 }, { _id: 'b', x: 2 }])
  await before.add(twice)
  await before.close()
  const { rows } = await sql.query<{ name: string }>(`select name from ${namespace}._meta where kind = 'slot'`)
  for (const { name } of rows) await sql.query(`alter table ${namespace}."${name}" drop column made_by`)
  await sql.query(`update ${namespace}._meta set spec = to_jsonb('2'::text) where kind = 'format'`)
  seen.length = 0
  const after = await open()
  ctx.onTestFinished(() => after.close())
  const handle = await after.add(twice), found = after.collection<{ x: number }>('docs')
  expect([(await found.find().toArray()).map((row) => handle.of(row)), seen, (await after.verify({ deep: true })).ok]).toEqual([[2, 4], [], true])
  const lineage = (await handle.lineage('a'))!
  expect([lineage.row.current, lineage.at, lineage.worker]).toEqual([true, undefined, undefined])
  await found.update({ _id: 'a' }, { $set: { x: 5 } })
  expect([seen, (await handle.lineage('a'))!.at instanceof Date, (await handle.lineage('b'))!.at]).toEqual([[5], true, undefined])
})

it('a namespace of a newer format is refused, and left as it is', async (ctx) => {
  const { uri, schema, sql } = await old(ctx, '2')
  await sql.query(`update ${schema}._meta set spec = to_jsonb('4'::text) where kind = 'format'`)
  await expect(connect(ctx, uri, schema)).rejects.toMatchObject({ code: 'PLUGIN_INCOMPATIBLE', message: `The namespace "${schema}" has the format "4"; this Inlay knows "3". Use the Inlay that made it, or another namespace.` })
  expect([await formatOf(sql, schema), await columns(sql, schema)]).toEqual(['4', 0])
})
