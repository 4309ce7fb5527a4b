import { describe, expect, it } from 'vitest'
import type { Port, Tensor } from '../../core/contract.ts'
import { agree } from '../../plugins/torch-onnx/self-check.ts'

type Tensors = Readonly<Record<string, Tensor>>
const inputs: readonly Port[] = [{ name: 'x', type: 'float32', dims: ['batch', 3] }, { name: 'ids', type: 'int64', dims: ['batch', 'length'] }]
const scaled = (by: number) => async ({ x }: Tensors): Promise<Tensors> => ({ y: { ...x!, data: (x!.data as Float32Array).map((value) => value * by) } })
const half = (...bits: readonly number[]) => async (): Promise<Tensors> => ({ y: { type: 'float16', dims: [bits.length], data: Uint16Array.from(bits) } })

describe('the comparison of a device with the CPU', () => {
  it('feeds both the same random inputs, free dimensions 2, whole numbers 0 or 1', async () => {
    const seen: Tensors[] = [], watch = async (feeds: Tensors): Promise<Tensors> => { seen.push(feeds); return { y: feeds['x']! } }
    expect(await agree(watch, watch, inputs)).toBe(undefined)
    expect(seen[0]).toBe(seen[1])
    expect([seen[0]!['x']!.dims, seen[0]!['ids']!.dims, [...seen[0]!['ids']!.data as BigInt64Array].every((id) => id === 0n || id === 1n)]).toEqual([[2, 3], [2, 2], true])
  })

  it('lets rounding pass and nothing else', async () => {
    expect(await agree(scaled(1.005), scaled(1), inputs)).toBe(undefined)
    expect(await agree(scaled(-5), scaled(1), inputs)).toMatch(/^its output "y" is -?[\d.e-]+ where the CPU's is -?[\d.e-]+$/)
    expect(await agree(half(0x3c00), half(0x3c01), [])).toBe(undefined)
    expect(await agree(half(0x3c00), half(0x3e00), [])).toBe(`its output "y" is 1 where the CPU's is 1.5`)
    expect(await agree(half(0x3c00), half(0x3c00, 0x3c00), [])).toBe(`its output "y" is of another shape than the CPU's`)
  })

  it('says when the graph takes no such inputs', async () => {
    await expect(agree(scaled(1), async () => { throw new Error('out of bounds') }, inputs)).rejects.toMatchObject({ code: 'UNSUPPORTED', message: 'its results cannot be compared with those of the CPU, because the graph takes no random inputs' })
  })
})
