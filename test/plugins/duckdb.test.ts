import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it, type TestContext } from 'vitest'
import type { Connection, Slot } from '../../core/contract.ts'
import { sha256 } from '../../core/encoding.ts'
import { decode, encode } from '../../plugins/duckdb/json.ts'
import { classify } from '../../plugins/duckdb/errors.ts'
import duckdb from '../../plugins/duckdb/index.ts'
import { connectDuck } from '../../plugins/duckdb/instance.ts'
import { hardValues } from '../conformance/hard-values.ts'
import { all, live, outcome } from '../conformance/subject.ts'
import { same } from '../../core/value.ts'

function place(test: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'inlay-duckdb-'))
  test.onTestFinished(() => rmSync(folder, { recursive: true }))
  return join(folder, 'app.duckdb')
}
async function connect(test: TestContext, uri: string, namespace = 'inlay'): Promise<Connection> {
  const connection = await duckdb.connect!(uri, { namespace }, live)
  test.onTestFinished(() => connection.close())
  return connection
}
const own = (name: string): { readonly name: string; readonly attached: false; readonly track: 'none' } => ({ name, attached: false, track: 'none' })
const rowsOf = async ({ data }: Connection, text: string): Promise<unknown> => data!.native!(text, live)
const child = (program: string, ...args: readonly string[]): ReturnType<typeof spawnSync> => spawnSync(process.execPath, ['--input-type=module', '-e', program, ...args], { encoding: 'utf8', cwd: new URL('../../', import.meta.url).pathname })

it('a second process is told which file, which process, and what to do', async (test) => {
  const file = place(test)
  await connect(test, `duckdb:${file}`)
  const program = `import duckdb from './plugins/duckdb/index.ts'
    const error = await duckdb.connect('duckdb:' + process.argv[1], { namespace: 'inlay' }, { signal: new AbortController().signal }).catch((e) => e)
    console.log(JSON.stringify({ code: error.code, message: error.message, details: error.details }))`
  const { stdout, stderr } = child(program, file)
  expect(stdout, String(stderr)).not.toBe('')
  expect(JSON.parse(String(stdout))).toEqual({ code: 'UNAVAILABLE', details: { pid: process.pid }, message: `The file ${JSON.stringify(file)} is open in the process ${process.pid}, and DuckDB takes one process at a time. Close that one, or use PostgreSQL or MongoDB, which take many.` })
})

it('a file opened twice in a process is one instance, also by a link and while it is closing', async (test) => {
  const file = place(test), link = `${file}-link`, one = await connect(test, `duckdb:${file}`)
  symlinkSync(file, link)
  const two = await connect(test, `duckdb:${link}`)
  await one.data!.create(own('docs'), live)
  await Promise.all([one, two].flatMap(({ data }, c) => Array.from({ length: 20 }, (_, i) => data!.write('docs', [{ kind: 'insert', key: `${c}-${i}`, doc: { i } }], live))))
  expect(await two.data!.count({ from: 'docs' }, live)).toBe(40)
  const closing = Promise.all([one.close(), two.close()]), again = await connect(test, `duckdb:${file}`)
  await closing
  expect(await again.data!.count({ from: 'docs' }, live)).toBe(40)
})

it('close writes the log into the file, and memory is private to its connection', async (test) => {
  const file = place(test), one = await duckdb.connect!(`duckdb:${file}`, { namespace: 'inlay' }, live)
  await one.data!.create(own('docs'), live)
  await one.data!.write('docs', [{ kind: 'insert', key: 'a', doc: {} }], live)
  expect(statSync(`${file}.wal`).size).toBeGreaterThan(0)
  await one.close()
  await one.close()
  expect(existsSync(`${file}.wal`)).toBe(false)
  const [a, b] = [await connect(test, 'duckdb:'), await connect(test, 'duckdb::memory:')]
  await a.data!.create(own('docs'), live)
  expect([await a.data!.list(live), await b.data!.list(live), a.data!.capabilities.durable]).toMatchObject([[{ name: 'docs' }], [], false])
})

it('a change of rows that lie apart does not rewrite the file, and a long log is written into it', async (test) => {
  const file = place(test), one = await connect(test, `duckdb:${file}`)
  await one.data!.create(own('docs'), live)
  await rowsOf(one, `insert into inlay.docs select format('k{:06d}', range), uuid()::varchar, json_object('text', repeat('x', 200), 'n', range::double) from range(300000)`)
  await rowsOf(one, 'checkpoint').catch(() => {})
  const before = statSync(file).mtimeMs, start = performance.now()
  expect((await one.data!.write('docs', Array.from({ length: 140 }, (_, i) => ({ kind: 'patch', key: `k${String(i * 2100).padStart(6, '0')}`, set: { n: i }, unset: [] })), live)).every((w) => w.status === 'done')).toBe(true)
  expect([statSync(file).mtimeMs === before, statSync(`${file}.wal`).size > 0, performance.now() - start < 3000]).toEqual([true, true, true])
  for (let i = 0; i < 4; i++) await one.data!.write('docs', Array.from({ length: 20 }, (_, n) => ({ kind: 'insert', key: `big ${i} ${n}`, doc: { text: 'y'.repeat(1_000_000) } })), live)
  expect(existsSync(`${file}.wal`) ? statSync(`${file}.wal`).size : 0).toBeLessThan(64 * 1024 * 1024)
  expect(await one.data!.count({ from: 'docs' }, live)).toBe(300_080)
}, 30_000)

it('what is no DuckDB file, and a host, are said to be so', async (test) => {
  const file = place(test)
  writeFileSync(file, 'hello, this is a text and by no means a database\n'.repeat(500))
  await expect(connect(test, `duckdb:${file}`)).rejects.toMatchObject({ code: 'CONFIG_INVALID', message: expect.stringContaining(JSON.stringify(file)) as string })
  await expect(connect(test, 'duckdb://host/x')).rejects.toMatchObject({ code: 'CONFIG_INVALID', message: expect.stringContaining('names a host') as string })
  await expect(connect(test, `duckdb:${file}/below`)).rejects.toMatchObject({ code: 'CONFIG_INVALID' })
})

it('a failed or stopped write leaves nothing in the transaction of the next one', async (test) => {
  const sql = await connectDuck(`duckdb:${place(test)}`)
  test.onTestFinished(() => sql.close())
  await sql.write(({ run }) => run('create table t (k int primary key)'), live.signal)
  const failing = sql.write(async ({ run }) => { await run('insert into t values (1)'); await run('insert into t values (1)') }, live.signal)
  const throwing = sql.write(async ({ run }) => { await run('insert into t values (2)'); throw new Error('mine') }, live.signal)
  const ended = sql.write(async ({ run }) => { await run('insert into t values (3)'); await run('commit'); await run('no sql') }, live.signal)
  const stop = new AbortController()
  const stopped = sql.write(async ({ run }) => { await run('insert into t values (4)'); setTimeout(() => stop.abort(), 20); await run('select count(*) from range(100000) a, range(100000) b') }, stop.signal)
  const next = sql.write(({ run }) => run('insert into t values (5)'), live.signal)
  await expect(failing).rejects.toThrow(/^Constraint Error/)
  await expect(throwing).rejects.toThrow('mine')
  await expect(ended).rejects.toThrow(/Parser Error/)
  await expect(stopped).rejects.toThrow(/^INTERRUPT Error/)
  await next
  expect((await sql.read('select k from t order by k', [], live.signal)).map((row) => row['k'])).toEqual([3, 5])
})

it('a read that is stopped ends soon, and its connection serves the next one', async (test) => {
  const sql = await connectDuck('duckdb:'), stop = new AbortController(), start = performance.now()
  test.onTestFinished(() => sql.close())
  setTimeout(() => stop.abort(), 30)
  await expect(sql.read('select count(*) from range(1000000) a, range(1000000) b', [], stop.signal)).rejects.toThrow(/Interrupted/)
  expect(performance.now() - start).toBeLessThan(2000)
  expect(await sql.read('select 1 as one', [], live.signal)).toEqual([{ one: 1 }])
})

it('errors are told apart by how their message begins', async (test) => {
  const sql = await connectDuck('duckdb:')
  test.onTestFinished(() => sql.close())
  const codes: Record<string, unknown> = {}
  for (const text of ['select * from nothing', `select 'a'::int`, 'select 1 = ', `from read_csv('/nowhere/x.csv')`, `select error('Conflict')`]) codes[text] = await sql.read(text, [], live.signal).catch((error: unknown) => classify(error)?.code)
  expect(codes).toEqual({ 'select * from nothing': 'NOT_FOUND', [`select 'a'::int`]: 'INVALID_ARGUMENT', 'select 1 = ': undefined, [`from read_csv('/nowhere/x.csv')`]: 'NOT_FOUND', [`select error('Conflict')`]: 'INVALID_ARGUMENT' })
  expect(classify(new Error('TransactionContext Error: Conflict on update!'))).toEqual({ code: 'CONFLICT', retryable: true })
  expect(classify(new Error('Out of Memory Error: failed to allocate'))).toEqual({ code: 'RESOURCE_EXHAUSTED', retryable: false })
  expect([classify(new Error('mine')), classify(undefined)]).toEqual([undefined, undefined])
})

it('a write that another connection of the program crosses may be tried again', async (test) => {
  const file = place(test), one = await connect(test, `duckdb:${file}`), { DuckDBInstance } = await import('@duckdb/node-api'), other = await (await DuckDBInstance.fromCache(file)).connect()
  await one.data!.create(own('docs'), live)
  await one.data!.write('docs', [{ kind: 'insert', key: 'a', doc: { n: 1 } }], live)
  await other.run('begin')
  await other.run(`update inlay.docs set doc = '{"n":2.0}'`)
  const crossed = await one.data!.write('docs', [{ kind: 'put', key: 'a', doc: { n: 3 } }], live).catch((error: unknown) => classify(error))
  await other.run('commit')
  other.closeSync()
  expect(crossed).toEqual({ code: 'CONFLICT', retryable: true })
})

it('a key that was removed is free at once, in the same write and while an older read is open', async (test) => {
  const file = place(test), one = await connect(test, `duckdb:${file}`), { DuckDBInstance } = await import('@duckdb/node-api'), other = await (await DuckDBInstance.fromCache(file)).connect(), slot: Slot = { id: 's_v', collection: 'docs', upstream: [], shape: { kind: 'vector', dims: 3 }, many: false }
  await one.data!.create(own('docs'), live)
  await one.data!.openSlot(slot, live)
  await one.data!.write('docs', [{ kind: 'insert', key: 'a', doc: {} }], live)
  for (let i = 0; i < 5; i++) {
    await one.data!.settle(slot, (await all(one.data!.rows(slot, 'all', 'all', live))).map((row) => outcome(row, [new Float32Array(3).fill(i)])), live)
    await other.run('begin')
    await other.run('select * from inlay.docs, inlay.s_v')
    expect(await one.data!.write('docs', [{ kind: 'remove', key: 'a' }], live)).toEqual([{ status: 'done', key: 'a' }])
    expect(await one.data!.write('docs', [{ kind: 'insert', key: 'a', doc: { i } }, { kind: 'insert', key: `b${i}`, doc: {} }], live)).toMatchObject([{ status: 'done' }, { status: 'done' }])
    expect(await one.data!.settle(slot, (await all(one.data!.rows(slot, 'all', ['a'], live))).map((row) => outcome(row, [new Float32Array(3)])), live)).toEqual([])
    await other.run('commit')
  }
  other.closeSync()
})

it('a vector of other dimensions is refused, and no neighbour is touched', async (test) => {
  const { data } = await connect(test, 'duckdb:'), slot: Slot = { id: 's_v', collection: 'docs', upstream: [], shape: { kind: 'vector', dims: 3 }, many: false }
  await data!.create(own('docs'), live)
  await data!.openSlot(slot, live)
  await data!.write('docs', [{ kind: 'insert', key: 'a', doc: {} }, { kind: 'insert', key: 'b', doc: {} }], live)
  const rows = await all(data!.rows(slot, 'all', 'all', live))
  await expect(data!.settle(slot, rows.map((row, i) => outcome(row, [new Float32Array(4 - i)])), live)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  expect(await data!.tally(slot, live)).toMatchObject({ missing: 2 })
})

it('the stored encoding goes through DuckDB as it is', async (test) => {
  const sql = await connectDuck('duckdb:')
  test.onTestFinished(() => sql.close())
  for (const { name, value, has } of hardValues) {
    if (has === 'int64') continue
    const text = encode({ a: value }), [row] = await sql.read(`select $1::json as whole, json_extract($1::json, '/a') as part`, [text], live.signal)
    expect(row!['whole'], name).toBe(text)
    for (const got of [(decode(row!['whole'] as string) as { a: typeof value }).a, decode(row!['part'] as string)]) expect(same(got, value), name).toBe(true)
  }
})

it('people see rows with their outputs in a view', async (test) => {
  const one = await connect(test, `duckdb:${place(test)}`), { data } = one
  const slot = async (id: string, of: Partial<Slot>): Promise<Slot> => {
    const made: Slot = { id, collection: 'Docs', upstream: [], shape: { kind: 'number' }, many: false, ...of }
    await data!.openSlot(made, live)
    return made
  }
  const settle = async (of: Slot, values: readonly (number | string)[]): Promise<void> => { await data!.settle(of, (await all(data!.rows(of, 'all', ['a'], live))).map((row) => outcome(row, values)), live) }
  const view = async (): Promise<unknown> => rowsOf(one, 'select * exclude (doc, _outputs), doc ->> \'$.x\' as x, to_json(_outputs) as o from "inlay"."^docs_view" order by _id')
  await data!.create(own('Docs'), live)
  await data!.write('Docs', [{ kind: 'insert', key: 'a', doc: { x: 'X' } }, { kind: 'insert', key: 'b', doc: {} }], live)
  await settle(await slot('s_old', { label: 'img.lenet5' }), [4])
  const now = await slot('s_new', { label: 'img.lenet5' }), parts = await slot('s_parts', { label: 'text.split.parts', many: true, shape: { kind: 'string' } })
  await slot('s_hidden', {})
  await settle(now, [5])
  await settle(parts, ['p', 'q'])
  expect(await view()).toEqual([{ _id: 'a', x: 'X', o: '{"img":{"lenet5":4.0},"text.split":{"parts":["p","q"]}}' }, { _id: 'b', x: null, o: '{"img":{"lenet5":null},"text.split":{"parts":null}}' }])
  expect(await rowsOf(one, 'select _outputs.img.lenet5 as four from inlay."^docs_view" where _outputs.img.lenet5 > 3')).toEqual([{ four: 4 }])
  await data!.dropSlot('s_old', live)
  expect(await view()).toMatchObject([{ o: '{"img":{"lenet5":5.0},"text.split":{"parts":["p","q"]}}' }, { _id: 'b' }])
  await data!.create(own('Docs_view'), live)
  await data!.openSlot(now, live)
  expect(await data!.count({ from: 'Docs_view' }, live)).toBe(0)
  await data!.drop('Docs_view', live)
  await data!.openSlot(parts, live)
  await data!.drop('Docs', live)
  expect(await rowsOf(one, `select view_name from duckdb_views() where not internal`)).toEqual([])
})

it('a part of a large artifact is read without the rest', async (test) => {
  const { artifacts } = await connect(test, `duckdb:${place(test)}`), bytes = Uint8Array.from({ length: 3_500_000 }, (_, i) => (i * 31 + (i >> 8)) % 256), id = sha256(bytes)
  await artifacts!.write(id, (async function* () { yield bytes })(), live)
  const parts: Uint8Array[] = []
  for await (const part of artifacts!.read(id, { offset: 1_048_570, length: 20 }, live)) parts.push(part)
  expect(parts.map((part) => part.byteLength)).toEqual([6, 14])
  expect(Buffer.concat(parts).equals(bytes.subarray(1_048_570, 1_048_590))).toBe(true)
})

it('a file may be called like the namespace, in whatever case, and be opened again', async (test) => {
  for (const file of ['inlay.duckdb', 'INLAY.db']) {
    const uri = `duckdb:${join(place(test), '..', file)}`
    for (let i = 0; i < 2; i++) {
      const { data, close } = await duckdb.connect!(uri, { namespace: 'inlay' }, live)
      await data!.create(own('books'), live)
      await data!.write('books', [{ kind: 'insert', key: `k${i}`, doc: { n: i } }], live)
      expect(await data!.count({ from: 'books' }, live)).toBe(i + 1)
      expect((await data!.native!('select _id from inlay.inlay.books', live) as readonly unknown[]).length).toBe(i + 1)
      await close()
    }
  }
})
