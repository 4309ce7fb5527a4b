/** The exact index in memory against the definition of the measures, in double precision. */
import { describe, expect, it } from 'vitest'
import type { Measure, VectorIndex } from '../../core/contract.ts'
import { distance, memoryVectors, nearer } from '../../core/vectors.ts'

const ctx = { signal: new AbortController().signal }
let seed = 7
const random = (): number => { seed = (seed * 1103515245 + 12345) % 2147483648; return seed / 2147483648 }
const normal = (): number => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random())

describe.each(['cosine', 'dot', 'l2'] as const)('%s', (measure: Measure) => {
  it.each([1, 3, 16, 17, 128, 1000])('of %i dimensions: the nearest are exactly those that double precision tells, ties by key, while vectors come and go', async (dims) => {
    const index = { id: 'i', slot: { id: 's' }, measure, approximate: false } as unknown as VectorIndex, vectors = memoryVectors(), all = new Map<string, Float32Array>()
    await vectors.create(index, ctx)
    for (let i = 0; i < 400; i++) {
      // Near ties by the hundred: the same direction with differences at the end of float32, copies, tiny and large ones, zeros.
      const base = i % 4 === 0 || all.size === 0 ? Float32Array.from({ length: dims }, normal) : Float32Array.from([...all.values()][i % all.size]!, (v) => v * (1 + (random() - 0.5) * 1e-6))
      const vector = i % 50 === 13 ? base.map((v) => v * 1e6) : i % 50 === 15 ? base.map((v) => v * 1e25) : i % 50 === 14 ? base.map((v) => v * 1e-6) : i % 97 === 5 ? new Float32Array(dims) : base, key = `k${i % 330}`
      all.set(key, vector)
      await vectors.put('i', [{ key, offset: 0, vector }], ctx)
      if (i % 7 === 3) {
        const gone = `k${Math.floor(random() * i)}`
        all.delete(gone)
        await vectors.remove('i', [gone], ctx)
      }
      if (i % 20 !== 19) continue
      const query = i % 3 === 0 ? [...all.values()][3]! : Float32Array.from({ length: dims }, normal), within = i % 40 === 19 ? [...all.keys()].filter((_, n) => n % 3 === 0) : undefined
      const expected = [...all].filter(([of]) => within?.includes(of) ?? true).map(([of, stored]) => ({ key: of, offset: 0, distance: distance(measure, query, stored) })).filter((hit) => !Number.isNaN(hit.distance)).sort(nearer)
      for (const k of [1, 10, 1000]) {
        const [hits] = await vectors.search(index, { vectors: [query], k, exact: true, ...(within === undefined ? {} : { within }) }, ctx)
        expect(hits).toEqual(expected.slice(0, k))
      }
    }
  })
})
