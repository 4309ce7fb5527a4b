/** Faults of connections, of empty answers, and of what core keeps as rows. */
import type { Connection, Doc, Filter, Plugin, Row, Slot, Value } from '../../core/contract.ts'
import { InlayError } from '../../core/errors.ts'
import { around, finding, mutant, rewriting, tick, type Design, type Mutant } from './mutant.ts'

const nothing: Filter = { kind: 'keys', keys: [] }
const connecting = (fault: string, kills: string, change: (opened: Connection) => Connection, design: Design = {}): Mutant => {
  const whole = around('mutant', {}), plugin: Plugin = { ...whole, connect: async (...args) => change(await whole.connect!(...args)) }
  return { fault, kills, plugin, ...design }
}
const ordered = (f: Filter): boolean => (f.kind === 'lt' || f.kind === 'lte' || f.kind === 'gt' || f.kind === 'gte') && typeof f.value === 'boolean'
/** A call that fails while another one of its kind runs. */
function alone(): <T>(work: () => Promise<T>) => Promise<T> {
  let busy = false
  return async (work) => {
    if (busy) throw new Error('tuple concurrently updated')
    busy = true
    await tick()
    try { return await work() } finally { busy = false }
  }
}
const stored = (change: (doc: Doc) => Doc): ReturnType<typeof finding> => finding((rows, query) => (query.from === '_components' ? rows.map((row): Row => ({ ...row, doc: change(row.doc) })) : rows))

export const rest: readonly Mutant[] = [
  connecting('the server has no name', 'lifecycle.connect.says-server', (opened) => ({ ...opened, server: '' })),
  connecting('closing twice is an error', 'lifecycle.close.twice', (opened) => { let closed = false; return { ...opened, async close() { if (closed) throw new Error('end was called twice on the pool'); closed = true; await opened.close() } } }, { throws: /called twice/ }),
  mutant('a note is no sentence', 'lifecycle.capabilities.are-data', { data: (next) => ({ capabilities: { ...next.capabilities, notes: ['no end'] } }) }),
  mutant('a collection that is being made is an error to others', 'lifecycle.create.at-once', { data: (next) => { const one = alone(); return { create: (c, ctx) => one(() => next.create(c, ctx)) } } }, { throws: /concurrently updated/ }),
  mutant('list says another track', 'lifecycle.list.names', { data: (next) => ({ list: async (ctx) => (await next.list(ctx)).map((c) => ({ ...c, track: 'none' })) }) }),
  mutant('list names slots', 'lifecycle.list.no-slots', { data: (next) => { const opened: Slot[] = []; return { openSlot(slot, ctx) { opened.push(slot); return next.openSlot(slot, ctx) }, list: async (ctx) => [...await next.list(ctx), ...opened.map(({ id }) => ({ name: id, attached: false, track: 'notify' }) as const)] } } }),
  mutant('artifacts are lost on closing, though it is declared durable', 'lifecycle.durable.content', { artifacts: (next) => { const own = new Set<string>(); return { write(id, body, ctx) { own.add(id); return next.write(id, body, ctx) }, read(id, range, ctx) { if (!own.has(id)) throw new InlayError('NOT_FOUND', `There is no artifact ${id}.`); return next.read(id, range, ctx) } } } }, { throws: /There is no artifact/ }),
  ...(['lifecycle.api.unknown-collection', 'rows.find.nothing'] as const).map((kills) => mutant('nothing is read as one empty row', kills, { data: (next) => ({ async *find(q, ctx) { let any = false; for await (const rows of next.find(q, ctx)) { any ||= rows.length > 0; yield rows } if (!any && !q.from.startsWith('_') && q.where === undefined) yield [{ key: '', rev: '', doc: {} }] } }) })),
  mutant('what core declares is not found again', 'lifecycle.api.components', { data: (next) => ({ find: (q, ctx) => next.find(q.from === '_components' ? { ...q, where: nothing } : q, ctx) }) }, { throws: /NOT_FOUND|There is no|no model/ }),
  mutant('long bytes equal nothing', 'values.operand.16-kb', rewriting((f) => (f.kind === 'eq' && f.value instanceof Uint8Array && f.value.length > 2000 ? nothing : f))),
  mutant('an empty document is null', 'rows.insert.empty', finding((rows) => rows.map((row) => (Object.keys(row.doc).length === 0 ? { ...row, doc: null as unknown as Doc } : row)))),
  mutant('a remove is only said', 'rows.remove.present', { data: (next) => ({ write: async (name, ops, ctx) => { const rest_ = ops.filter((op) => op.kind !== 'remove'), written = await next.write(name, rest_, ctx); return ops.map((op) => (op.kind === 'remove' ? { status: 'done', key: op.key } : written[rest_.indexOf(op)]!)) } }) }),
  mutant('an empty write is an error of the driver', 'rows.batch.empty', { data: (next) => ({ write(name, ops, ctx) { if (ops.length === 0) throw new Error('Batch cannot be empty'); return next.write(name, ops, ctx) } }) }, { throws: /cannot be empty/ }),
  mutant('an empty settle is an error of the driver', 'slots.settle.empty', { data: (next) => ({ settle(slot, outcomes, ctx) { if (outcomes.length === 0) throw new Error('Batch cannot be empty'); return next.settle(slot, outcomes, ctx) } }) }, { throws: /cannot be empty/ }),
  mutant('a sum of nothing is null', 'slots.tally.empty', { data: (next) => ({ tally: async (slot, ctx) => { const t = await next.tally(slot, ctx); return { ...t, rows: t.rows === 0 ? null as unknown as number : t.rows } } }) }),
  ...['queries.lt.booleans', 'queries.gt.booleans', 'queries.gte.booleans', 'queries.user.range-boolean'].map((kills) => mutant('booleans have no order', kills, rewriting((f) => (ordered(f) ? nothing : f)))),
  mutant('a range leaves out its lower end', 'queries.user.range-number', rewriting((f) => (f.kind === 'gte' ? { ...f, kind: 'gt' } : f))),
  mutant('a slot that is being opened is an error to others', 'slots.open.at-once', { data: (next) => { const one = alone(); return { openSlot: (slot, ctx) => one(() => next.openSlot(slot, ctx)) } } }, { throws: /concurrently updated/ }),
  mutant('long ids of slots are one', 'slots.open.id', { data: (next) => { const short = (id: string): string => id.slice(0, 38); return { openSlot: (slot, ctx) => next.openSlot({ ...slot, id: short(slot.id) }, ctx), settle: (slot, outcomes, ctx) => next.settle({ ...slot, id: short(slot.id) }, outcomes, ctx), rows: (slot, ...of) => next.rows({ ...slot, id: short(slot.id) }, ...of), async *find(q, ctx) { for await (const rows of next.find({ ...q, slots: [...new Set(q.slots?.map(short) ?? [])] }, ctx)) yield rows.map((row) => ({ ...row, outputs: Object.fromEntries((q.slots ?? []).flatMap((id): [string, readonly Value[]][] => { const values = row.outputs?.[short(id)]; return values === undefined ? [] : [[id, values]] })) })) } } } }),
  mutant('a hundred rows are offered at most, once', 'engine.backfill.once', { data: (next) => ({ async *rows(slot, which, keys, ctx) { for await (const rows of next.rows(slot, which, keys, ctx)) yield rows.filter((row) => Number(row.doc['x']) < 100) } }) }),
  mutant('results are kept until a run ends well', 'engine.failure.outage', { data: () => ({ settle: async () => [] }) }),
  mutant('one row too many is missing', 'engine.at-once.two', { data: (next) => ({ tally: async (slot, ctx) => { const t = await next.tally(slot, ctx); return { ...t, missing: t.missing + 1 } } }) }),
  mutant('a search has no measure', 'vectors.capabilities.are-data', { vectors: (next) => ({ capabilities: { ...next.capabilities, measures: [] } }) }),
  mutant('of artifacts that are written at once some are lost', 'artifacts.write.many-at-once', { artifacts: (next) => { let busy = false; return { async write(id, body, ctx) { if (busy) { for await (const part of body) void part; return } busy = true; await tick(); await next.write(id, body, ctx); busy = false } } } }),
  mutant('declared indexes are not found again', 'components.api.in-use', finding((rows, query) => (query.from === '_components' ? rows.filter((row) => !row.key.startsWith('index/')) : rows))),
  mutant('versions lose their hash', 'components.add.equal', stored((doc) => ({ ...doc, versions: (doc['versions'] as readonly Doc[]).map(({ hash, ...v }) => ({ ...v, hash: `${String(hash)}x` })) }))),
]
