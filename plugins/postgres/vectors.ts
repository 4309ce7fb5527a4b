/** Vectors are searched where they lie, with the filter, in one statement. */
import type { Hit, Measure, VectorSearch } from '../../core/contract.ts'
import type { PostgresData } from './datalayer.ts'
import { maxDims } from './schema.ts'
import { name, vectorBytes } from './sql.ts'

const operators: Readonly<Record<Measure, string>> = { cosine: '<=>', dot: '<#>', l2: '<->' }

export function vectorSearch(schema: string, data: PostgresData): VectorSearch {
  return {
    capabilities: { place: 'slot', measures: ['cosine', 'dot', 'l2'], dims: maxDims, within: 20_000, approximate: false, notes: [] },
    create: async () => ({ epoch: 'slot' }),
    async drop() {},
    async put() {},
    async remove() {},
    async settled() {},
    search: (index, { vectors, k, query }, ctx) => Promise.all(vectors.map(async (vector): Promise<readonly Hit[]> => {
      const hits = await data.nearest(index.slot, (add) => `o.value operator(${name(schema)}.${operators[index.measure]}) ${add(vectorBytes(vector))}::${name(schema)}.vector`, k, query, ctx)
      return hits.map(({ row, offset, distance }) => ({ key: row.key, offset, distance, row }))
    })),
  }
}

