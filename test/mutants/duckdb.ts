/** DuckDB with one fault each, a changed statement or another way to the driver, and what must notice it: a rule of the conformance suite, or a check from below. */
import assert from 'node:assert/strict'
import type { Connection, Plugin, Slot } from '../../core/contract.ts'
import { artifactStore } from '../../plugins/duckdb/artifacts.ts'
import { DuckData } from '../../plugins/duckdb/datalayer.ts'
import { loadDriver, runner, stage } from '../../plugins/duckdb/driver.ts'
import duckdb from '../../plugins/duckdb/index.ts'
import { connectDuck, fileOf } from '../../plugins/duckdb/instance.ts'
import { openNamespace } from '../../plugins/duckdb/schema.ts'
import type { Param, Sql, Writer } from '../../plugins/duckdb/sql.ts'
import { vectorSearch } from '../../plugins/duckdb/vectors.ts'
import { all, live, outcome } from '../conformance/subject.ts'

/** What notices a fault where no rule can. */
export type Check = (plugin: Plugin, uri: string) => Promise<void>
export interface DuckMutant {
  readonly fault: string
  /** The id of a rule, or a check. */
  readonly notices: string | Check
  /** `edited` is called where the fault is met. */
  plugin(edited: () => void): Plugin
}

function mutant(fault: string, notices: DuckMutant['notices'], connect: (uri: string, edited: () => void) => Promise<Sql>): DuckMutant {
  return {
    fault, notices, plugin: (edited) => ({
      ...duckdb, async connect(uri, { namespace }, ctx): Promise<Connection> {
        const sql = await connect(uri, edited), place = await openNamespace(sql, namespace, ctx.signal), data = new DuckData(place)
        return { server: sql.server, data, vectors: vectorSearch(data), artifacts: artifactStore(place), close: () => sql.close() }
      },
    }),
  }
}
/** Rewrites statements. */
function statement(fault: string, notices: DuckMutant['notices'], from: RegExp, to: string): DuckMutant {
  return mutant(fault, notices, async (uri, edited) => {
    const sql = await connectDuck(uri), edit = (text: string): string => {
      const after = text.replace(from, to)
      if (after !== text) edited()
      return after
    }
    return { ...sql, read: (text, params, signal) => sql.read(edit(text), params, signal), write: (work, signal) => sql.write((writer) => work({ ...writer, run: (text, params) => writer.run(edit(text), params) }), signal) }
  })
}
/** Rewrites documents and outputs on their way in. */
function json(fault: string, notices: string, from: RegExp, to: string): DuckMutant {
  return mutant(fault, notices, async (uri, edited) => {
    const sql = await connectDuck(uri), edit = (param: Param): Param => (Array.isArray(param) ? (param as readonly (string | null)[]).map((text) => {
      const after = text?.startsWith('{') === true ? text.replace(from, to) : text
      if (after !== text) edited()
      return after!
    }) : param)
    return { ...sql, write: (work, signal) => sql.write((writer) => work({ ...writer, run: (text, params = []) => writer.run(text, params.map(edit)) }), signal) }
  })
}

/** What the plugin takes care of between itself and the driver; a fault lacks one of it. */
interface Ways { readonly queue: boolean; readonly shared: boolean; readonly rollback: boolean; readonly deletesInside: boolean; readonly byMemory: boolean }
const ways = (lacks: keyof Ways): Ways => ({ queue: true, shared: true, rollback: true, deletesInside: true, byMemory: true, [lacks]: false })

/** A small way to the driver of its own, which works where nothing is lacking. */
export async function connectBy({ queue, shared, rollback, deletesInside, byMemory }: Ways, uri: string, edited: () => void = () => {}): Promise<Sql> {
  const driver = await loadDriver(), { DuckDBInstance } = driver, file = fileOf(uri)!, instance = await (shared ? DuckDBInstance.fromCache(file) : DuckDBInstance.create(file)), one = await instance.connect(), reader = await instance.connect()
  let last: Promise<unknown> = Promise.resolve()
  const later: (() => Promise<unknown>)[] = []
  const transaction = async <T>(work: (writer: Writer) => Promise<T>): Promise<T> => {
    edited()
    const connection = queue ? one : await instance.connect(), plain = runner(driver, connection)
    const run: Writer['run'] = async (text, params) => {
      const apart = !deletesInside && /^delete from "[^"]+"\."s_.*returning key \|\|/.test(text)
      if (!apart) return plain(text, params)
      later.push(() => plain(text, params))
      return []
    }
    try {
      await run('begin').catch((error: unknown) => { if (rollback) throw error })
      const result = await work({ run, stage: byMemory ? (dims, vectors) => stage(driver, connection, run, dims, vectors) : async (dims, vectors) => {
        await run(`create or replace temp table _vectors (n int, v float[${dims}])`)
        const appender = await connection.createAppender('_vectors', 'main', 'temp')
        for (const [i, vector] of vectors.entries()) {
          appender.appendInteger(i + 1)
          appender.appendArray([...vector!], driver.ARRAY(driver.FLOAT, dims))
          appender.endRow()
        }
        appender.flushSync()
        appender.closeSync()
        return 'temp.main._vectors'
      } })
      await run('commit')
      return result
    } catch (error) {
      if (rollback) await run('rollback')
      throw error
    } finally {
      if (!queue) connection.closeSync()
    }
  }
  return {
    server: 'DuckDB', durable: true,
    read: (text, params) => runner(driver, reader)(text, params),
    columns: async (from) => {
      const result = await reader.run(`select * ${from} limit 0`), types = result.columnTypes()
      return result.columnNames().map((name, i) => ({ name, type: types[i]! }))
    },
    write<T>(work: (writer: Writer) => Promise<T>): Promise<T> {
      const turn = (queue ? last : Promise.resolve()).then(async () => {
        const result = await transaction(work)
        for (const remove of later.splice(0)) setTimeout(() => { last = last.then(remove).catch(() => {}) }, 50)
        return result
      })
      if (queue) last = turn.catch(() => {})
      return turn
    },
    async close() {
      await last
      for (const connection of [one, reader]) connection.closeSync()
      instance.closeSync()
    },
  }
}
const way = (fault: string, notices: DuckMutant['notices'], lacks: keyof Ways): DuckMutant => mutant(fault, notices, (uri, edited) => connectBy(ways(lacks), uri, edited))

const slot: Slot = { id: 's_one', collection: 'docs', upstream: [], shape: { kind: 'number' }, many: false }
async function opened<T>(plugin: Plugin, uri: string, work: (connection: Connection) => Promise<T>): Promise<T> {
  const connection = await plugin.connect!(uri, { namespace: 'inlay' }, live)
  try {
    await connection.data!.create({ name: 'docs', attached: false, track: 'none' }, live)
    return await work(connection)
  } finally {
    await connection.close()
  }
}

/** Two connections of one process to one file both write, and what both were told is done is there after. */
export const twoOnOneFile: Check = async (plugin, uri) => {
  let done = 0
  await opened(plugin, uri, () => opened(plugin, uri, async (two) => opened(plugin, uri, async (one) => {
    for (let i = 0; i < 20; i++) for (const [n, { data }] of [one, two].entries()) done += (await data!.write('docs', [{ kind: 'insert', key: `${n} ${i}`, doc: {} }], live)).filter((w) => w.status === 'done').length
  }))).catch((error: unknown) => { if (done === 0) throw error })
  assert.equal(await opened(duckdb, uri, ({ data }) => data!.count({ from: 'docs' }, live)), done, 'rows that were acknowledged')
}
/** A settle and a remove of the same row at once leave no output without a row. */
export const settleBesideRemove: Check = (plugin, uri) => opened(plugin, uri, async ({ data }) => {
  await data!.openSlot(slot, live)
  for (let round = 0; round < 40; round++) {
    await data!.write('docs', Array.from({ length: 20 }, (_, i) => ({ kind: 'put', key: `k${i}`, doc: {} })), live)
    const rows = await all(data!.rows(slot, 'all', 'all', live))
    await Promise.allSettled([data!.settle(slot, rows.map((row) => outcome(row, [1])), live), data!.write('docs', rows.map(({ key }) => ({ kind: 'remove', key })), live)])
    const { orphaned } = await data!.tally(slot, live), there = await data!.count({ from: 'docs' }, live)
    assert.equal(there === 0 ? orphaned : 0, 0, 'outputs without a row')
  }
})
/** After a removal its outputs are gone with it, so that those of a new row of that key stay. */
export const removeThenInsert: Check = (plugin, uri) => opened(plugin, uri, async ({ data }) => {
  await data!.openSlot(slot, live)
  for (let round = 0; round < 2; round++) {
    await data!.write('docs', [{ kind: 'insert', key: 'a', doc: {} }], live)
    await data!.settle(slot, (await all(data!.rows(slot, 'all', 'all', live))).map((row) => outcome(row, [1])), live)
    await data!.write('docs', [{ kind: 'remove', key: 'a' }], live)
    assert.equal((await data!.tally(slot, live)).orphaned, 0, 'outputs of a removed row')
  }
})
/** What a write that failed has done is not there, also after the next one. */
export const failThenWrite: Check = (plugin, uri) => opened(plugin, uri, async ({ data }) => {
  await data!.native!('create table t (k int primary key)', live)
  await data!.native!('insert into t values (1); insert into t values (1)', live).catch(() => {})
  await data!.write('docs', [{ kind: 'insert', key: 'a', doc: {} }], live).catch(() => {})
  assert.deepEqual([await data!.native!('select count(*)::int as n from t', live).catch(String), await data!.count({ from: 'docs' }, live)], [[{ n: 0 }], 1], 'rows after a failed write')
})
/** 1,000 vectors of 512 dimensions are settled within half a second. */
export const manyVectors: Check = (plugin, uri) => opened(plugin, uri, async ({ data }) => {
  const vectors: Slot = { ...slot, id: 's_vectors', shape: { kind: 'vector', dims: 512 } }
  await data!.openSlot(vectors, live)
  await data!.write('docs', Array.from({ length: 1000 }, (_, i) => ({ kind: 'insert', key: `k${i}`, doc: {} })), live)
  const rows = await all(data!.rows(vectors, 'all', 'all', live)), outcomes = rows.map((row) => outcome(row, [new Float32Array(512).fill(0.5)])), start = performance.now()
  await data!.settle(vectors, outcomes, live)
  assert.ok(performance.now() - start < 500, `1,000 vectors took ${Math.round(performance.now() - start)} ms`)
})
export const checks: readonly Check[] = [twoOnOneFile, settleBesideRemove, removeThenInsert, failThenWrite, manyVectors]

export const mutants: readonly DuckMutant[] = [
  statement('settle does not compare the rev', 'slots.fence.moved', / and \(d\._rev\) = v\.rev/, ''),
  statement('settle does not ask whether the upstream is current', 'slots.chain.fence', /( = v\.rev) and \(u_.*?\)(?=\n|\) ok)/, '$1'),
  statement('"same" does not compare the hash', 'slots.same.other-hash', / and o\.hash = ok\.hash/, ''),
  statement('a new outcome keeps the maker that was there', 'slots.by.replaced', /made_by = excluded\.made_by, /, ''),
  statement('an element that changed keeps its rev', 'slots.elements.same', /set rev = excluded\.rev, (value = excluded\.value)/, 'set $1'),
  statement('stale compares the row\'s own rev only', 'slots.chain.follows', /o\.rev <> \(d\._rev \|\| '\|' \|\| [^)]*\)/, `split_part(o.rev, '|', 1) <> d._rev`),
  statement('outputs of removed rows stay', 'slots.many.row-removed', /^(delete from "[^"]+"\."s_\w+" where )(.*returning key \|\|)/, '$1false and $2'),
  statement('what was derived from a removed row stays', 'slots.many.row-removed', /returning key \|\| '#' \|\| off as id, off$/, `returning 'none' as id, off`),
  statement('values of a list that got shorter stay', 'slots.many.replaces', /o\.off >= v\.n returning/, 'false returning'),
  statement('the rev of a chunk is new each time', 'slots.many.same-values', /md5\([^ ]*::varchar\)/, 'uuid()::varchar'),
  statement('prune does not look at the upstream', 'slots.prune.upstream', /(not in \(select .* where true and )\(u_.*?\)( and true\))/, '$1true$2'),
  statement('an insert replaces', 'rows.insert.taken', /on conflict \(_id\) do nothing/, 'on conflict (_id) do update set doc = excluded.doc'),
  statement('a page begins with the last row of the one before', 'queries.find.by-pages', /d\._id > \$/, 'd._id >= $'),
  statement('rows come as they lie', 'queries.find.key-order', /order by ord/g, ''),
  statement('ties of a search are ordered from behind', 'vectors.l2.ties', /order by distance, key, off limit/, 'order by distance, key desc, off limit'),
  statement('a search of hits is not limited to the rows that match', 'vectors.search.filter', /(join .*? d on d\._id = o\.key\s+where true and ).*?(\) where not isnan)/, '$1true$2'),
  statement('names that differ in case are one', 'lifecycle.name.case', /"\^case"/, '"case"'),
  statement('an empty list of values is no answer', 'slots.many.empty', /coalesce\((list\(value order by off\) filter \(where off >= 0\)), \[\]\)/, '$1'),
  statement('a null of an array is not looked at', 'queries.null.missing', /json_type\(e0\) = 'NULL'/, 'false'),
  statement('an array is not opened', 'queries.eq.numbers', /json_extract\(([^()]*(?:\([^()]*\))?), '\$\[\*\]'\)/, '[$1]'),
  statement('bigints are compared as doubles', 'queries.eq.numbers', /try_cast\((\S+) as hugeint\) = (-?\d+)(?:::hugeint)?/, 'try_cast($1 as double) = $2::double'),
  json('a bigint is stored as a double', 'values.hold.int64-max', /([:[,])(-?\d{15,})(?=[,}\]])/g, '$1$2.0'),
  json('a number is stored as a bigint', 'values.hold.zero', /([:[,])(-?\d+)\.0(?=[,}\]])/g, '$1$2'),
  way('two who write do not wait for each other', settleBesideRemove, 'queue'),
  way('each connection has its own instance of the file', twoOnOneFile, 'shared'),
  way('an error stays in the transaction', failThenWrite, 'rollback'),
  way('outputs are removed after the transaction of their row', removeThenInsert, 'deletesInside'),
  way('vectors go in as lists of values', manyVectors, 'byMemory'),
]
/** On tables of others. */
export const attachedMutants: readonly DuckMutant[] = [
  statement('a hash of an attached row does not see its columns', 'attached.rev.own-write', /hash\((?:d\.)?"[^)]*\)::varchar/, `'1'`),
  statement('keys of numbers are in the order of their text', 'attached.find.order', /(d\."id") as ord/, '$1::varchar as ord'),
  statement('keys that no row of the kind has are cast', 'attached.find.keys', /case when try_cast\((.*?) as (\w+)\)::varchar = .*? then try_cast\(.*? as \w+\) end/, 'try_cast($1 as $2)'),
  statement('a removed row of others keeps its outputs', 'attached.slots.remove', /^(delete from "[^"]+"\."s_\w+" where )(.*returning key \|\|)/, '$1false and $2'),
]
