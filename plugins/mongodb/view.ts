/** For people: `<collection>_view` beside each collection, its documents with outputs under `_outputs.<key>.<model>`. */
import type { Document } from 'mongodb'
import { slotsOf, valuesOf, viewEnd, viewOf, viewThere, type KeptSlot, type Place, type Table } from './schema.ts'

/** Makes the view of a collection, or what it shows, as its slots are now; without any it goes. */
export async function showViews(place: Place, table: Table): Promise<void> {
  const slots = (await slotsOf(place)).filter((slot) => slot.collection === table.name && slot.label !== undefined), name = viewOf(table), { db } = table.home, there = await viewThere(table)
  if (slots.length === 0) {
    if (there === 'ours') await db.dropCollection(name)
    return
  }
  if (there === 'strange') return                                            // it stays as it is
  const view = { viewOn: table.coll.collectionName, pipeline: pipelineOf(table, slots) }, change = (): Promise<unknown> => db.command({ collMod: name, ...view })
  const codeOf = (error: unknown): unknown => (error as { readonly code?: unknown }).code
  await change().catch(async (error: unknown) => {
    if (codeOf(error) !== 26) return
    await db.command({ create: name, ...view }).catch(async (lost: unknown) => {
      if (codeOf(lost) !== 48) throw lost
      await change().catch(() => {})
    })
  })
}

/** Of two slots of one label the older is shown. */
export function pipelineOf(table: Pick<Table, 'home'>, slots: readonly KeptSlot[]): readonly Document[] {
  const byLabel = new Map(slots.toSorted((a, b) => b.at - a.at).map((slot) => [slot.label!, slot])), shown: Document = {}, beside: Document[] = [], used: string[] = []
  for (const [label, { id, embedded, many }] of byLabel) {
    let value: unknown = `$_outputs.${id}`
    if (!embedded) {
      const at = `\u0001${id}`, key = { $ifNull: [`$_marks.${id}.k`, { $toString: '$_id' }] }, gen = `$_marks.${id}.gen`
      used.push(at)
      beside.push(
        { $set: { [at]: { $map: { input: { $range: [0, { $ifNull: [`$_marks.${id}.n`, 0] }] }, in: { k: key, g: gen, o: '$$this' } } } } },
        { $lookup: { from: valuesOf(table.home, id).collectionName, localField: at, foreignField: '_id', as: at } },
      )
      const all = { $map: { input: { $sortArray: { input: `$${at}`, sortBy: { '_id.o': 1 } } }, in: '$$this.v' } }
      value = { $cond: [{ $eq: [{ $type: gen }, 'missing'] }, '$$REMOVE', many ? all : { $ifNull: [{ $first: all }, '$$REMOVE'] }] }
    }
    const path = label.split('.'), last = path.pop()!
    let within = shown
    for (const name of path) within = (within[name] ??= {}) as Document
    within[last] = value
  }
  return [...beside, { $set: { '\u0001shown': shown } }, { $unset: ['_rev', '_marks', '_cur', '_seen', '_outputs', ...used] }, { $set: { _outputs: '$\u0001shown' } }, viewEnd]
}
