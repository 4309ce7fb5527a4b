/** Random sequences of calls, done to the plugin and to the memory database: both must answer alike at every step. */
import { expect } from 'vitest'
import type { Datalayer, Doc, Key, Row, Slot, Write, Written } from '../../core/contract.ts'
import { memory } from '../../core/memory.ts'
import { random, type Random } from './random.ts'
import { rule, type Rule } from './rule.ts'
import { all, keyOf, live, outcome, type Found, type Subject } from './subject.ts'

/** The plugin, and what it is compared with. */
interface Pair { readonly name: string; readonly sides: readonly [Datalayer, Datalayer] }
async function pair(s: Subject): Promise<Pair> {
  const name = await s.collection(), right = (await memory.connect!('memory:', { namespace: 'oracle' }, live)).data!
  await right.create({ name, attached: false, track: 'notify' }, live)
  return { name, sides: [s.data, right] }
}
const doc = (r: Random): Doc => Object.fromEntries([['x', r.below(3)], ['y', r.below(3)], ['text', `t${r.below(3)}`]].filter(() => r.next() < 0.7))
const answer = ({ key, status }: Written): string => `${key} ${status}`

/** One key once per batch; revs are right, old or of another row. */
function batch(r: Random, revs: ReadonlyMap<Key, readonly [string, string]>, old: readonly (readonly [string, string])[]): readonly (readonly [Write, Write])[] {
  const keys = Array.from({ length: 12 }, (_, i) => keyOf(i)).filter(() => r.next() < 0.35)
  return keys.map((key) => {
    const pick = r.next(), rev = pick < 0.5 ? undefined : pick < 0.8 ? revs.get(key) : old.length > 0 ? r.pick(old) : undefined, value = doc(r), fields = ['x', 'y', 'text', 'none'].filter(() => r.next() < 0.25), kind = r.next()
    const make = (side: 0 | 1): Write => {
      const cas = rev === undefined ? {} : { rev: rev[side] }
      return kind < 0.25 ? { kind: 'insert', key, doc: value } : kind < 0.5 ? { kind: 'put', key, doc: value, ...cas } : kind < 0.8 ? { kind: 'patch', key, set: value, unset: fields.filter((f) => !(f in value)), ...cas } : { kind: 'remove', key, ...cas }
    }
    return [make(0), make(1)] as const
  })
}
async function write({ name, sides }: Pair, ops: readonly (readonly [Write, Write])[], revs: Map<Key, readonly [string, string]>, old: (readonly [string, string])[], step: string): Promise<void> {
  const [mine, right] = await Promise.all(sides.map((data, side) => data.write(name, ops.map((op) => op[side]!), live)))
  expect([step, ops.map(([op]) => op), mine!.map(answer)]).toEqual([step, ops.map(([op]) => op), right!.map(answer)])
  for (const [i, w] of mine!.entries()) {
    if (w.status !== 'done') continue
    const before = revs.get(w.key)
    if (before !== undefined) old.push(before)
    if (w.rev === undefined) revs.delete(w.key)
    else revs.set(w.key, [w.rev, right![i]!.rev!])
  }
}
/** A row without what the databases make themselves. */
const bare = (row: Row): unknown => ({ key: row.key, doc: row.doc, outputs: row.outputs ?? {}, ...(row.mark === undefined ? {} : { mark: { ...row.mark, rev: row.mark.rev === row.rev } }) })
const seeds = [1, 2, 3, 4, 5, 6] as const

export const randomWrites: readonly Rule[] = seeds.map((seed) => rule(`rows.random.${seed}`, `forty random batches (${seed}) answer and end as in memory`, async (s) => {
  const of = await pair(s), r = random(s.settings.seed * 100 + seed), revs = new Map<Key, readonly [string, string]>(), old: (readonly [string, string])[] = []
  for (let step = 0; step < 40; step++) {
    await write(of, batch(r, revs, old), revs, old, `step ${step}`)
    const [mine, right] = await Promise.all(of.sides.map((data) => all(data.find({ from: of.name }, live))))
    expect([step, mine!.map(bare)]).toEqual([step, right!.map(bare)])
    for (const row of mine!) expect(row.rev).toBe(revs.get(row.key)![0])
  }
}))

export const randomSettles: readonly Rule[] = seeds.map((seed) => rule(`slots.random.${seed}`, `a random life of a chain and of chunks (${seed}): what is offered, refused, tallied and pruned is as in memory`, async (s) => {
  const of = await pair(s), { name, sides } = of, r = random(s.settings.seed * 200 + seed), revs = new Map<Key, readonly [string, string]>(), old: (readonly [string, string])[] = []
  const A = await s.slot(name, { fields: ['x'] }), B = await s.slot(name, { fields: ['y'], upstream: [A.id] }), C = await s.slot(name, { fields: ['text'], many: true, upstream: r.next() < 0.5 ? [A.id] : [] }), D = await s.slot(C.id, { fields: ['value'] }), slots = [A, B, C, D]
  for (const slot of slots) await sides[1].openSlot(slot, live)
  const held: (readonly [Slot, readonly Row[], readonly Row[]])[] = []
  const found = (slot: Slot): Found => { const p = r.next(); return p < 0.1 ? 'skip' : p < 0.2 ? new Error(`bad ${r.below(2)}`) : p < 0.35 ? 'same' : slot.many ? Array.from({ length: r.below(4) }, () => `c${r.below(3)}`) : [r.below(5)] }
  const settle = async (slot: Slot, mine: readonly Row[], right: readonly Row[], step: string): Promise<void> => {
    const chosen = mine.filter(() => r.next() < 0.6).map((row) => [row.key, found(slot), r.next() < 0.8 ? `h${r.below(4)}` : `h${row.key}`] as const)
    const outcomes = (rows: readonly Row[]) => chosen.map(([key, what, hash]) => outcome(rows.find((row) => row.key === key)!, what, hash))
    const refused = await Promise.all([sides[0].settle(slot, outcomes(mine), live), sides[1].settle(slot, outcomes(right), live)])
    expect([step, chosen, [...refused[0]].sort()]).toEqual([step, chosen, [...refused[1]].sort()])
  }
  for (let i = 0; i < 45; i++) {
    const p = r.next(), slot = r.pick(slots), step = `step ${i}`
    if (p < 0.35) await write(of, batch(r, revs, old), revs, old, step)
    else if (p < 0.9) {
      const which = r.pick(['stale', 'stale', 'all', 'failed'] as const), [mine, right] = await Promise.all(sides.map((data) => all(data.rows(slot, which, 'all', live))))
      expect([step, slots.indexOf(slot), which, mine!.map(bare)]).toEqual([step, slots.indexOf(slot), which, right!.map(bare)])
      if (r.next() < 0.25) held.push([slot, mine!, right!])
      else await settle(slot, mine!, right!, step)
      if (held.length > 0 && r.next() < 0.3) { const [late, m, o] = held.shift()!; await settle(late, m, o, `${step}, late`) }
    } else {
      const [mine, right] = await Promise.all(sides.map((data) => data.prune(slot, 'all', live)))
      expect([step, slots.indexOf(slot), mine]).toEqual([step, slots.indexOf(slot), right])
    }
    for (const each of slots) {
      const [mine, right] = await Promise.all(sides.map((data) => data.tally(each, live)))
      expect([step, slots.indexOf(each), mine]).toEqual([step, slots.indexOf(each), right])
    }
    const [mine, right] = await Promise.all(sides.map((data) => all(data.find({ from: name, slots: [A.id, B.id, C.id] }, live))))
    expect([step, mine!.map(bare)]).toEqual([step, right!.map(bare)])
    const [chunks, others] = await Promise.all(sides.map((data) => all(data.find({ from: C.id, slots: [D.id] }, live))))
    expect([step, chunks!.map(bare)]).toEqual([step, others!.map(bare)])
  }
}))
