/** Who made an output is lost, or is somebody else. */
import type { Outcome, Row, Slot } from '../../core/contract.ts'
import { all, live } from '../conformance/subject.ts'
import { mutant, type Mutant, type Replaced } from './mutant.ts'

const made = (change: (outcome: Outcome, at: number, all: readonly Outcome[], slot: Slot) => string | undefined): Replaced => ({ data: (next) => ({ settle: (slot, outcomes, ctx) => next.settle(slot, outcomes.map((o, i) => by(o, change(o, i, outcomes, slot))), ctx) }) })
const by = (outcome: Outcome, maker: string | undefined): Outcome => { const { by: _, ...rest } = outcome; return { ...rest, ...(maker === undefined ? {} : { by: maker }) } as Outcome }
const marked = (row: Row, maker: string | null | undefined): Row => { if (row.mark === undefined) return row; const { by: _, ...mark } = row.mark; return { ...row, mark: { ...mark, ...(maker === undefined ? {} : { by: maker as string }) } } }
const seen = (change: (row: Row) => string | null | undefined): Replaced => ({ data: (next) => ({ async *rows(slot, ...of) { for await (const rows of next.rows(slot, ...of)) yield rows.map((row) => marked(row, change(row))) } }) })
/** Keeps makers of outcomes that `keeps` says beside the marks, under what `place` says, and shows them in place of the mark's. */
const beside = (keeps: (outcome: Outcome, refused: boolean) => boolean, place: (slot: Slot, key: string) => string): Replaced => ({
  data: (next) => {
    const kept = new Map<string, string>()
    return {
      async settle(slot, outcomes, ctx) {
        const refused = await next.settle(slot, outcomes, ctx)
        for (const o of outcomes) if (o.by !== undefined && keeps(o, refused.includes(o.key))) kept.set(place(slot, o.key), o.by)
        return refused
      },
      async *rows(slot, ...of) { for await (const rows of next.rows(slot, ...of)) yield rows.map((row) => marked(row, kept.get(place(slot, row.key)) ?? row.mark?.by)) },
    }
  },
})
/** The maker that is there already goes before a new one. */
const before = (wins: (old: string | undefined, outcome: Outcome) => string | undefined): Replaced => ({
  data: (next) => ({
    async settle(slot, outcomes, ctx) {
      const rows = new Map((await all(next.rows(slot, 'all', outcomes.map((o) => o.key), live))).map((row) => [row.key, row.mark?.by]))
      return next.settle(slot, outcomes.map((o) => by(o, wins(rows.get(o.key), o))), ctx)
    },
  }),
})
const own = (slot: Slot, key: string): string => `${slot.id}/${key}`

export const makers: readonly Mutant[] = [
  mutant('who made an error is not kept', 'slots.by.kinds', made((o) => (o.kind === 'error' ? undefined : o.by))),
  mutant('who made a skip is not kept', 'slots.by.kinds', made((o) => (o.kind === 'skip' ? undefined : o.by))),
  mutant('rows does not say who made a failed output', 'slots.by.kinds', seen((row) => (row.mark?.error === undefined ? row.mark?.by : undefined))),
  mutant('who made nothing known is null', 'slots.by.absent', seen((row) => row.mark?.by ?? null)),
  mutant('a maker that is not given is the one before', 'slots.by.absent', before((old, o) => o.by ?? old)),
  mutant('the maker goes when the row changes', 'slots.by.stale', seen((row) => (row.mark?.rev === row.rev ? row.mark.by : undefined))),
  mutant('same makes the output anew', 'slots.by.same', beside((o, refused) => o.kind === 'same' && !refused, own)),
  mutant('the first maker stays', 'slots.by.replaced', before((old, o) => old ?? o.by)),
  mutant('a batch has one maker', 'slots.by.each', made((_, __, outcomes) => outcomes[0]!.by)),
  mutant('a refused outcome leaves its maker', 'slots.by.refused', beside((_, refused) => refused, own)),
  mutant('a row has one maker for all slots', 'slots.by.chain', beside((_, refused) => !refused, (slot, key) => `${slot.collection}/${key}`)),
  mutant('lists have no maker', 'slots.by.many', made((o, _, __, slot) => (slot.many ? undefined : o.by))),
  mutant('an empty list has no maker', 'slots.by.many', made((o) => (o.kind === 'values' && o.values.length === 0 ? undefined : o.by))),
  mutant('a maker is cut to 100 characters', 'slots.by.texts', made((o) => o.by?.slice(0, 100))),
  mutant('blanks around a maker are cut', 'slots.by.texts', made((o) => o.by?.trim())),
  mutant('makers are lost on closing, though it is declared durable', 'slots.by.kept', { data: (next) => { const kept = beside((_, refused) => !refused, own).data!(next); return { ...kept, settle: (slot, outcomes, ctx) => kept.settle!(slot, outcomes, ctx).then(async (refused) => { const settled = outcomes.filter((o) => !refused.includes(o.key) && o.kind !== 'same'); await next.settle(slot, settled.map((o) => by(o, undefined)), ctx); return refused }) } } }),
]
