/** Story 000 on every backend: examples/stories/000-tensors.ts. */
import { describe, expect, it } from 'vitest'
import { run } from '../../examples/stories/000-tensors.ts'
import { backends, place } from './places.ts'

describe.each(backends)('story 000 on $name', (backend) => {
  it('keeps the linear embedding of tensors in step, and finds by it', async (ctx) => {
    const { worst, folds, ...numbers } = await run({ ...place(ctx, backend), log: () => {} })
    expect(numbers).toEqual({
      inserted: 100, outputs: { done: 50, failed: 0, pending: 0 }, x: 1024, embedding: 64, path: '_outputs.x.linear_embedding', callsToRead: 0, callsForNote: 0, anchor: true, updated: true, replaced: true, deleted: true,
      ok: true, rows: 99,
    })
    expect(worst).toBeLessThan(1e-4)
    expect(folds.train + folds.valid).toBe(100)
  })
})
