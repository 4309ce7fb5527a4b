/** The memory plugin with a search of its own over the outputs where they lie, by an index that says it is approximate: what rules of the place `slot` are proven on where no server is. */
import type { Datalayer, Hit, Plugin, Row, VectorSearch } from '../../core/contract.ts'
import { memory } from '../../core/memory.ts'
import { rowArtifacts } from '../../core/row-artifacts.ts'
import { distance, nearer } from '../../core/vectors.ts'
import { all } from '../conformance/subject.ts'

/** What a fault does to the hits of one vector. */
type Change = (hits: readonly Hit[], search: Parameters<VectorSearch['search']>[1], index: Parameters<VectorSearch['search']>[0]) => readonly Hit[]

export function searching(name: string, change: Change = (hits) => hits): Plugin {
  return {
    ...memory, name,
    async connect(uri, options, ctx) {
      const opened = await memory.connect!(uri, options, ctx), data = opened.data!
      return { ...opened, data, artifacts: rowArtifacts(data), vectors: over(data, change) }
    },
  }
}

function over(data: Datalayer, change: Change): VectorSearch {
  return {
    capabilities: { place: 'slot', measures: ['cosine', 'dot', 'l2'], dims: 2000, within: 0, approximate: true, notes: [] },
    create: async () => ({ epoch: 'with the outputs' }),
    async drop() {},
    async put() { throw new Error('put is never called where the place is "slot"') },
    async remove() { throw new Error('remove is never called where the place is "slot"') },
    async search(index, search, ctx) {
      const { id, collection } = index.slot, asked = search.query ?? { from: collection, fields: [] }, rows = await all(data.find({ ...asked, slots: [...new Set([...asked.slots ?? [], id])] }, ctx))
      const shown = (row: Row): Row => ({ ...row, outputs: Object.fromEntries(Object.entries(row.outputs ?? {}).filter(([slot]) => asked.slots?.includes(slot) === true)) })
      return search.vectors.map((query) => change(rows.flatMap((row) => (row.outputs?.[id] ?? []).map((v, offset): Hit => ({ key: row.key, offset, distance: distance(index.measure, query, v as Float32Array), row: shown(row) }))).sort(nearer).slice(0, search.k), search, index))
    },
    async settled() {},
  }
}
