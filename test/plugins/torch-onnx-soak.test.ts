import { describe, expect, it } from 'vitest'
import { noSharedData, sharedData } from '../support/shared-data.ts'
import { soak } from '../support/soak.ts'

describe('memory', () => {
  it('stays within 5 % over 10,000 predictions', async ({ skip }) => {
    const path = 'models/lenet/fyh620-lenet-dynbatch.onnx', { warmMB, endMB, seconds } = await soak(sharedData(path) ?? skip(noSharedData(path)), 10_000)
    console.log(`10,000 predictions: ${warmMB.toFixed(1)} MB after the warm-up, ${endMB.toFixed(1)} MB at the end, ${seconds.toFixed(1)} s`)
    expect(endMB / warmMB).toBeLessThan(1.05)
  }, 60_000)
})
