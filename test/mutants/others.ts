/** Faults of plugins that can do little, of searches over outputs, and of clients of a server. */
import { sha256 } from '../../core/encoding.ts'
import type { Datalayer, Write } from '../../core/contract.ts'
import { all } from '../conformance/subject.ts'
import type { Design, Mutant } from './mutant.ts'
import { narrowly } from './narrow.ts'
import { remote, remoteServer, type ClientFaults } from './remote.ts'
import { searching } from './searching.ts'

const little = (fault: string, kills: string, data: (next: Datalayer) => Partial<Datalayer>, design: Design = {}): Mutant => ({ fault, kills, plugin: narrowly(data), ...design })
const near = (fault: string, kills: string, change: Parameters<typeof searching>[1]): Mutant => ({ fault, kills, plugin: searching('mutant', change) })
let server: ReturnType<typeof remoteServer> | undefined
const uri = async (): Promise<string> => `remote://127.0.0.1:${(await (server ??= remoteServer())).port}/db`
const far = (fault: string, kills: string, faults: ClientFaults, design: Design = {}): Mutant => ({ fault, kills, plugin: remote('mutant', faults), uri, ...design })
const noNotes = (next: Datalayer): Partial<Datalayer> => ({ capabilities: { ...next.capabilities, notes: [] } })
const firstOnly = (next: Datalayer): Partial<Datalayer> => ({ async write(name, ops, ctx) { const written = await next.write(name, ops.slice(0, 1), ctx); return ops.map((op, i) => written[i] ?? { status: 'done', key: op.key!, rev: 'r' }) } })

export const littleMutants: readonly Mutant[] = [
  little('a database of one process does not say so', 'lifecycle.second.one-per-process', noNotes),
  little('what is not durable is not said', 'lifecycle.durable.said', noNotes),
  little('that fields lose their order is not said', 'values.order.lost', noNotes),
  little('that -0 is lost is not said', 'values.negative-zero.lost', noNotes),
  ...['int64-max-plus-1', 'int64-min-less-1', '2-to-100', 'nul-string', 'nul-key'].map((name) => little('of a batch the first operation is done', `values.refuse.${name}`, firstOnly)),
  little('a find gives one row at most', 'values.refuse.nul-in-filter', (next) => ({ async *find(q, ctx) { yield (await all(next.find(q, ctx))).slice(0, q.from.startsWith('_') ? undefined : 0) } })),
  little('the answer is the rev that was given, and the row has another', 'rows.rev.own', (next) => ({ write: async (name, ops, ctx) => (await next.write(name, ops.map((op): Write => { const { as: _, ...rest } = op as Write & { as?: string }; return rest as Write }), ctx)).map((w, i) => ({ ...w, ...('as' in ops[i]! ? { rev: ops[i].as } : {}) })) })),
  little('a large document fails its batch', 'rows.batch.too-large', (next) => ({ async write(name, ops, ctx) { const written = await next.write(name, ops, ctx); if (written.some((w) => w.status === 'refused')) throw new Error('offset is out of range'); return written } }), { throws: /offset is out of range/ }),
  little('a large document is cut', 'rows.batch.too-large', (next) => ({ write: (name, ops, ctx) => next.write(name, ops.map((op): Write => ('doc' in op && typeof op.doc['big'] === 'string' ? { ...op, doc: { big: '' } } : op)), ctx) })),
  little('the filter "keys" finds all', 'queries.api.core-filters', (next) => ({ find: (q, ctx) => next.find(q.from.startsWith('_') ? q : Object.fromEntries(Object.entries(q).filter(([name]) => name !== 'where')) as unknown as typeof q, ctx) })),
  little('what cannot be attached is made as an own collection', 'attached.none.unsupported', (next) => ({ create: (c, ctx) => next.create({ ...c, attached: false }, ctx) })),
  little('what is written is not offered', 'notices.none.scanned', (next) => ({ async *rows(slot, which, keys, ctx) { for await (const rows of next.rows(slot, which, keys, ctx)) yield rows.filter((row) => row.mark === undefined) } })),

  near('hits have no outputs', 'vectors.slot.rows', (hits) => hits.map((hit) => ({ ...hit, row: { ...hit.row!, outputs: {} } }))),
  near('hits have the rev of their output', 'vectors.slot.rows', (hits) => hits.map((hit) => ({ ...hit, row: { ...hit.row!, rev: sha256(hit.key) } }))),
  near('of several vectors of a row the nearest counts', 'vectors.slot.offsets', (hits) => hits.filter((hit, i) => hits.findIndex((other) => other.key === hit.key) === i)),
  near('hits of elements are those of their lists', 'slots.elements.vectors', (hits) => hits.map((hit) => ({ ...hit, key: hit.key.split('#')[0]! }))),
  near('outputs of changed rows are not found', 'vectors.slot.stale', (hits) => hits.filter((hit) => hit.row!.doc['changed'] !== true)),
  near('an approximate search gives half of what was asked', 'vectors.approximate.k', (hits, { exact }) => (exact ? hits : hits.slice(0, hits.length >> 1))),
  near('an approximate search gives estimates of distances', 'vectors.approximate.k', (hits, { exact }) => (exact ? hits : hits.map((hit) => ({ ...hit, distance: Math.round(hit.distance * 50) / 50 })))),
  ...(['cosine', 'dot', 'l2'] as const).map((measure) => near(`an approximate search by ${measure} misses every third of the nearest`, `vectors.${measure}.recall`, (hits, { exact }) => (exact ? hits : hits.map((hit, i) => (i % 3 === 0 ? { ...hit, key: `miss${i}` } : hit))))),

  far('the client connects past its URI', 'faults.proxy.through', { goesAround: true }),
  far('a socket stays open after close', 'faults.proxy.through', { staysOpen: true }),
  far('a server that is not there is found out later', 'faults.refuse.connect', { connectsLater: true }),
  far('the error of a broken connection has no type', 'faults.refuse.calls', { untyped: true }),
  far('a socket that broke is kept', 'faults.refuse.calls', { neverReconnects: true }),
  far('a socket that broke is kept, and every call after it fails', 'faults.drop.idle', { neverReconnects: true }, { throws: /connection to the server broke/ }),
  far('a patch is several statements', 'faults.drop.during', { splitsWrites: true }),
  far('an insert is acknowledged before it is done', 'faults.cut.insert', { losesWrites: true }),
  far('the driver repeats an insert whose answer was lost', 'faults.cut.insert', { repeats: true }),
  far('the driver repeats an insert without key', 'faults.cut.insert-no-key', { repeats: true }),
  far('the driver repeats a compare-and-set, which then did not hold', 'faults.cut.cas', { repeats: true }),
  far('the driver repeats a remove, which then finds no row', 'faults.cut.remove', { repeats: true }),
  far('an error without a type ends a settle', 'faults.cut.settle', { untyped: true }),
  far('an answer that was cut looks complete', 'faults.cut.find', { believesHalves: true }),
  far('an artifact whose answer was cut is an error without a type', 'faults.cut.artifact', { untyped: true }),
  far('a call that is stopped ends the connection for good', 'faults.stall.read', { diesOfAbort: true }),
  far('an error without a type ends a write', 'faults.stall.write', { untyped: true }),
  far('after a server went away without a word its socket is kept', 'faults.half-open.read', { neverReconnects: true }),
  far('close awaits a network that broke', 'faults.close.dropped', { neverCloses: true, neverReconnects: true }, { hangs: true }),
  far('close awaits a server that is away', 'faults.close.refused', { neverCloses: true, neverReconnects: true }, { hangs: true }),
  far('rows are acknowledged that were never written', 'faults.storm.api', { losesWrites: true }),
]
