/** A plugin that can do as little as is allowed, and says so. */
import type { DataCapabilities, Datalayer, Doc, Filter, Outcome, Plugin, Query, Slot, Value, Write } from '../../core/contract.ts'
import { compareStrings } from '../../core/value.ts'
import { around, deepMap } from './mutant.ts'

const capabilities: DataCapabilities = {
  filters: ['keys'], order: false, durable: false, writers: 'one-process', attaches: false, notices: 'none', givenRevs: false, foreign: false, refuses: ['nul', 'int64'], loses: ['field-order', 'negative-zero'],
  limits: { ops: 50, keys: 40, docBytes: 200_000, nameBytes: 63, keyBytes: 512, dims: 200 }, notes: ['Fields lose their order.', '-0 is read as 0.', 'Rows live as long as the process.'],
}
const lossy = (value: Value): Value => (typeof value === 'number' ? value + 0 : typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => compareStrings(a, b))) as Doc : value)
const bytesOf = (op: Write): number => ('doc' in op && typeof op.doc['big'] === 'string' ? op.doc['big'].length : 0)

function within(n: number, limit: number | undefined, what: string): void {
  if (n > limit!) throw new Error(`The narrow plugin was given ${n} ${what}.`)
}
function onlyKeys(where: Filter | undefined): void {
  if (where === undefined) return
  if (where.kind !== 'keys') throw new Error(`The narrow plugin was given the filter ${where.kind}.`)
  within(where.keys.length, capabilities.limits.keys, 'keys')
}
/** As little as a plugin may do: it throws where core asks for more than it declares. `faults` replaces parts of it. */
export function narrowly(faults: (next: Datalayer) => Partial<Datalayer> = () => ({})): Plugin {
  return around('narrow', { data: (next) => { const full: Datalayer = { ...next, ...limited(next) }; return { ...full, ...faults(full) } } })
}
function limited(next: Datalayer): Partial<Datalayer> {
  const asked = (q: Query): Query => {
    onlyKeys(q.where)
    if (q.order !== undefined) throw new Error('The narrow plugin was given an order.')
    return q
  }
  const checked = (slot: Slot): Slot => { onlyKeys(slot.where); return slot }
  const kept = (outcome: Outcome): Outcome => (outcome.kind === 'values' ? { ...outcome, values: outcome.values.map((v) => deepMap(v, lossy)) } : outcome)
  return {
    capabilities,
    async write(name, ops, ctx) {
      within(ops.length, capabilities.limits.ops, 'operations')
      const small = ops.filter((op) => bytesOf(op) <= capabilities.limits.docBytes!), written = await next.write(name, small.map((op): Write => ('doc' in op ? { ...op, doc: deepMap(op.doc, lossy) as Doc } : 'set' in op ? { ...op, set: deepMap(op.set, lossy) as Doc } : op)), ctx)
      return ops.map((op) => (small.includes(op) ? written[small.indexOf(op)]! : { status: 'refused', key: op.key!, reason: 'the document is too large' }))
    },
    find: (q, ctx) => next.find(asked(q), ctx),
    count: (q, ctx) => next.count(asked(q), ctx),
    openSlot: async (slot, ctx) => { await next.openSlot(checked(slot), ctx); return { filters: false } },
    settle: (slot, outcomes, ctx) => { within(outcomes.length, capabilities.limits.ops, 'outcomes'); return next.settle(slot, outcomes.map(kept), ctx) },
    prune: (slot, keys, ctx) => { if (keys !== 'all') within(keys.length, capabilities.limits.keys, 'keys'); return next.prune(slot, keys, ctx) },
  }
}
