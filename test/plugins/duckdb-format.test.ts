/** Namespaces of format 1, made by the SQL of the version that wrote them: this version takes them over, and what was computed stays. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it, type TestContext } from 'vitest'
import type { Datalayer, Slot } from '../../core/contract.ts'
import duckdb from '../../plugins/duckdb/index.ts'
import { all, live, outcome } from '../conformance/subject.ts'

const one: Slot = { id: 's_one', collection: 'docs', upstream: [], shape: { kind: 'json' }, many: false, label: 'x.one' }
const lists: Slot = { id: 's_lists', collection: 'docs', upstream: [], shape: { kind: 'string' }, many: true }
const of: Slot = { id: 's_of', collection: lists.id, fields: ['value'], upstream: [], shape: { kind: 'number' }, many: false }
/** Three rows, an output for each of them (a value, an error of another rev, nothing selected), a list of two elements, and an output of its second. */
const old: readonly string[] = [
  'create schema old', 'create table old._meta (kind varchar not null, name varchar not null, spec json not null, made bigint not null, primary key (kind, name))',
  'create table old._artifacts (id varchar primary key, generation varchar not null, bytes bigint not null, written timestamp not null)', 'create table old._chunks (id varchar not null, generation varchar not null, n int not null, data blob not null, written timestamp not null)',
  'create table old.docs (_id varchar primary key, _rev varchar not null, doc json not null)', `insert into old.docs values ('a', 'ra', '{"x":1}'), ('b', 'rb', '{"x":2}'), ('c', 'rc', '{"x":3}')`,
  ...[['s_one', 'json'], ['s_lists', 'varchar'], ['s_of', 'double']].map(([id, type]) => `create table old.${id} (key varchar not null, off int not null, rev varchar not null, hash varchar not null, err varchar, tries int, none boolean not null, value ${type}, primary key (key, off))`),
  `insert into old.s_one values ('a', 0, 'ra', 'ha', null, null, false, '1.0'), ('b', 0, 'another', 'hb', 'bad row', 2, false, null), ('c', 0, 'rc', 'hc', null, null, true, null)`,
  `insert into old.s_lists values ('a', -1, 'ra', 'ha', null, null, false, null), ('a', 0, md5('p'), '', null, null, false, 'p'), ('a', 1, md5('q'), '', null, null, false, 'q')`, `insert into old.s_of values ('a#1', 0, md5('q'), 'hq', null, null, false, 5)`,
  `insert into old._meta values ('format', 'format', to_json('1'), 0), ('collection', 'docs', '{"name":"docs","attached":false,"track":"notify"}', 0), ('slot', 's_one', '{"collection":"docs","many":false,"label":"x.one"}', 1), ('slot', 's_lists', '{"collection":"docs","many":true}', 2), ('slot', 's_of', '{"collection":"s_lists","many":false}', 3)`,
]
/** Runs statements in a file through a namespace of its own; gives what the last one gave. */
async function run(uri: string, ...statements: readonly string[]): Promise<unknown> {
  const { data, close } = await duckdb.connect!(uri, { namespace: 'tools' }, live)
  let rows: unknown
  for (const statement of statements) rows = await data!.native!(statement, live)
  await close()
  return rows
}
async function oldFile(ctx: TestContext): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'inlay-duckdb-')), uri = `duckdb:${join(folder, 'app.duckdb')}`
  ctx.onTestFinished(() => rmSync(folder, { recursive: true }))
  await run(uri, ...old)
  return uri
}
async function connect(ctx: TestContext, uri: string): Promise<Datalayer> {
  const connection = await duckdb.connect!(uri, { namespace: 'old' }, live)
  ctx.onTestFinished(() => connection.close())
  return connection.data!
}
const keysOf = async (data: Datalayer, slot: Slot): Promise<readonly string[]> => (await all(data.rows(slot, 'stale', 'all', live))).map((row) => row.key)

it('takes over a namespace of format 1, twice at once: rows, outputs and marks are as they were, and new ones say who made them', async (ctx) => {
  const uri = await oldFile(ctx), datas = await Promise.all([connect(ctx, uri), connect(ctx, uri)])
  for (const data of datas) {
    for (const slot of [one, lists, of]) await data.openSlot(slot, live)
    expect([await keysOf(data, one), await keysOf(data, lists), await keysOf(data, of)]).toEqual([['b'], ['b', 'c'], ['a#0']])
  }
  const [data] = datas
  expect((await all(data!.rows(one, 'all', 'all', live))).map((row) => row.mark)).toEqual([{ rev: 'ra', hash: 'ha' }, { rev: 'another', hash: 'hb', error: 'bad row', tries: 2 }, { rev: 'rc', hash: 'hc', none: true }])
  expect((await all(data!.find({ from: 'docs', slots: [one.id, lists.id] }, live))).map((row) => row.outputs)).toEqual([{ [one.id]: [1], [lists.id]: ['p', 'q'] }, {}, {}])
  expect((await all(data!.find({ from: lists.id, slots: [of.id] }, live))).map((row) => [row.key, row.doc['value'], row.outputs])).toEqual([['a#0', 'p', {}], ['a#1', 'q', { [of.id]: [5] }]])
  const [a, b] = await all(data!.rows(one, 'all', 'all', live))
  expect(await data!.settle(one, [{ key: 'a', rev: a!.rev, hash: 'ha', by: 'somebody', kind: 'same' }, { ...outcome(b!, [2]), by: 'new' }], live)).toEqual([])
  expect((await all(data!.rows(one, 'all', 'all', live))).map((row) => row.mark?.by)).toEqual([undefined, 'new', undefined])
})

it('a namespace that was taken over is opened again as it is', async (ctx) => {
  const uri = await oldFile(ctx)
  for (let i = 0; i < 2; i++) {
    const connection = await duckdb.connect!(uri, { namespace: 'old' }, live)
    for (const slot of [one, lists, of]) await connection.data!.openSlot(slot, live)
    expect(await keysOf(connection.data!, of)).toEqual(['a#0'])
    await connection.close()
  }
  expect(JSON.stringify(await run(uri, `select spec ->> '$' as format from old._meta where kind = 'format'`))).toContain('"2"')
})

it('a namespace of a newer format is refused, and left as it is', async (ctx) => {
  const uri = await oldFile(ctx)
  await run(uri, `update old._meta set spec = to_json('3') where kind = 'format'`)
  await expect(connect(ctx, uri)).rejects.toMatchObject({ code: 'PLUGIN_INCOMPATIBLE', message: 'The namespace "old" has the format "3"; this Inlay knows "2". Use the Inlay that made it, or another namespace.' })
  expect(JSON.stringify(await run(uri, `select count(*)::varchar as n from information_schema.columns where table_schema = 'old' and column_name = 'made_by'`))).toContain('"0"')
})
