/** Vectors are searched where they lie, with the filter, in one statement, exactly. */
import type { Hit, Measure, VectorSearch } from '../../core/contract.ts'
import type { DuckData } from './datalayer.ts'
import { maxDims } from './schema.ts'

/** In doubles, as core measures. A vector of zeros has no direction. */
const distances: Readonly<Record<Measure, (a: string, b: string) => string>> = {
  cosine: (a, b) => `case when array_inner_product(${a}, ${a}) = 0 then 'nan'::double else array_cosine_distance(${a}, ${b}) end`,
  dot: (a, b) => `array_negative_inner_product(${a}, ${b})`,
  l2: (a, b) => `array_distance(${a}, ${b})`,
}

export function vectorSearch(data: DuckData): VectorSearch {
  return {
    capabilities: { place: 'slot', measures: ['cosine', 'dot', 'l2'], dims: maxDims, within: 20_000, approximate: false, notes: ['Searches are exact: each compares all vectors.'] },
    create: async () => ({ epoch: 'slot' }),
    async drop() {},
    async put() {},
    async remove() {},
    async settled() {},
    search: ({ slot, measure }, { vectors, k, query }, ctx) => Promise.all(vectors.map(async (vector): Promise<readonly Hit[]> => {
      const type = `double[${vector.length}]`
      const hits = await data.nearest(slot, (add) => distances[measure](`o.value::${type}`, `${add({ type: 'double', items: [...vector] })}::${type}`), k, query, ctx)
      return hits.map(({ row, offset, distance }) => ({ key: row.key, offset, distance, row }))
    })),
  }
}
