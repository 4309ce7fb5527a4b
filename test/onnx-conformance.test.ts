/** The node tests of ONNX 1.22 through the executor: each that plain onnxruntime-node passes must pass, each other must end in an error of ours, or in the other result that plain onnxruntime gives. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import type { Ctx, Tensor } from '../core/contract.ts'
import { InlayError } from '../core/errors.ts'
import { OnnxExecutor } from '../plugins/torch-onnx/executor.ts'
import { fieldsOf, numbersOf, textOf } from '../plugins/torch-onnx/protobuf.ts'
import { noSharedData, sharedData } from './support/shared-data.ts'

const ctx: Ctx = { signal: new AbortController().signal }
const path = 'onnx-conformance/onnx-1.22-node-simple.tar.gz'

type Numbers = Float32Array | Float64Array | BigInt64Array | Uint8Array
/** Element types as the file numbers them, with the array of each and the field of elements that are not raw. */
const types: Readonly<Record<number, readonly [string, (new (from: ArrayBuffer) => Numbers) | undefined]>> = {
  1: ['float32', Float32Array], 2: ['uint8', Uint8Array], 3: ['int8', Int8Array as never], 4: ['uint16', Uint16Array as never], 5: ['int16', Int16Array as never], 6: ['int32', Int32Array as never], 7: ['int64', BigInt64Array],
  8: ['string', undefined], 9: ['bool', Uint8Array], 10: ['float16', Uint16Array as never], 11: ['float64', Float64Array], 12: ['uint32', Uint32Array as never], 13: ['uint64', BigUint64Array as never],
}
/** A tensor of a test, or undefined for a sequence, an optional, or elements that no array holds. */
function tensorAt(file: string): Tensor | undefined {
  const fields = [...fieldsOf(new Uint8Array(readFileSync(file)))], [type, Maker] = types[Number(fields.find(({ number }) => number === 2)?.value ?? 0)] ?? []
  if (type === undefined) return undefined
  const dims = fields.filter(({ number }) => number === 1).flatMap(numbersOf).map(Number), raw = fields.find(({ number }) => number === 9)
  if (Maker === undefined) return { type, dims, data: fields.filter(({ number }) => number === 6).map(textOf) }
  const listed = fields.filter(({ number }) => number === 5 || number === 7).flatMap(numbersOf).map((value) => BigInt.asIntN(64, value)), floats = fields.find(({ number }) => number === 4)
  if (listed.length > 0) return { type, dims, data: (Maker as unknown as { from(values: readonly (number | bigint)[]): Numbers }).from(type === 'int64' ? listed : listed.map(Number)) }
  if (floats !== undefined) return { type, dims, data: new Maker(Uint8Array.from(floats.bytes).buffer) }
  return { type, dims, data: new Maker(Uint8Array.from(raw?.bytes ?? []).buffer) }
}
function halfOf(bits: number): number {
  const exponent = (bits >> 10) & 31, fraction = bits & 1023, sign = bits >> 15 === 0 ? 1 : -1
  return sign * (exponent === 31 ? (fraction === 0 ? Infinity : Number.NaN) : exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15))
}
/** As the backend tests of ONNX compare, and within 1e-6 of the largest value: a Fourier transform is 0 only up to the rounding of what it sums. */
function equal(got: Tensor | undefined, expected: Tensor): boolean {
  if (got === undefined || got.type !== expected.type || got.dims.join() !== expected.dims.join()) return false
  const a = got.data as ArrayLike<unknown>, b = expected.data as ArrayLike<unknown>
  const most = Array.from(b).reduce<number>((most, value) => (typeof value === 'number' && Number.isFinite(value) ? Math.max(most, Math.abs(value)) : most), 0)
  return a.length === b.length && Array.from(b).every((value, i) => {
    if (typeof value !== 'number') return a[i] === value
    const [x, y] = got.type === 'float16' ? [halfOf(a[i] as number), halfOf(value)] : [a[i] as number, value]
    return Object.is(x, y) || x === y || Math.abs(x - y) <= Math.max(1e-7, 1e-6 * most) + 1e-3 * Math.abs(y)
  })
}

describe('ONNX conformance', () => {
  it('passes what plain onnxruntime-node passes, and answers everything else', async ({ skip }) => {
    const tar = sharedData(path) ?? skip(noSharedData(path)), results = sharedData('onnx-conformance/results-ort-node-1.30.0.json') ?? skip(noSharedData('onnx-conformance'))
    const plain = JSON.parse(readFileSync(results, 'utf8')) as { readonly pass: readonly string[]; readonly other: Readonly<Record<string, readonly [string, string]>> }
    const folder = mkdtempSync(join(tmpdir(), 'inlay-conformance-')), executor = new OnnxExecutor({ maxBytes: 2 ** 20 })
    onTestFinished(async () => { await executor.close(); rmSync(folder, { recursive: true }) })
    expect(spawnSync('tar', ['xzf', tar, '-C', folder]).status).toBe(0)

    const run = async (name: string): Promise<string> => {
      const at = join(folder, 'node', name)
      try {
        const session = await executor.load({ bytes: await executor.read(join(at, 'model.onnx'), ctx) }, 'cpu', ctx)
        try {
          for (const set of readdirSync(at).filter((file) => file.startsWith('test_data_set_'))) {
            const files = readdirSync(join(at, set)), all = (kind: string): (Tensor | undefined)[] => files.filter((file) => file.startsWith(kind)).map((_, i) => tensorAt(join(at, set, `${kind}_${i}.pb`)))
            const feeds: Record<string, Tensor> = {}
            all('input').forEach((tensor, i) => { if (tensor !== undefined && session.inputs[i] !== undefined) feeds[session.inputs[i].name] = tensor })
            const got = await session.run(feeds, ctx)
            for (const [i, expected] of all('output').entries()) if (expected === undefined || !equal(got[session.outputs[i]!.name], expected)) return 'mismatch'
          }
          return 'pass'
        } finally {
          await session.close()
        }
      } catch (error) {
        return InlayError.is(error) && error.code !== 'INTERNAL' ? error.code : `not ours: ${String(error)}`
      }
    }
    const names = readdirSync(join(folder, 'node')), outcomes: Record<string, string> = {}, start = performance.now()
    for (const name of names) outcomes[name] = await run(name)
    const counts = Object.entries(Object.groupBy(Object.values(outcomes), (outcome) => outcome)).map(([outcome, of]) => `${of!.length} ${outcome}`)
    console.log(`ONNX conformance: ${names.length} node tests in ${((performance.now() - start) / 1000).toFixed(1)} s: ${counts.join(', ')}; plain onnxruntime-node passes ${plain.pass.length}`)
    console.log(`Mismatches: ${names.filter((name) => outcomes[name] === 'mismatch').map((name) => `${name} (plain: ${plain.other[name]?.join(' ').trim() ?? 'pass'})`).join('; ')}`)
    expect(names.length).toBe(1765)
    expect(plain.pass.filter((name) => outcomes[name] !== 'pass').map((name) => `${name}: ${outcomes[name]}`)).toEqual([])
    expect(names.filter((name) => outcomes[name]!.startsWith('not ours') || (outcomes[name] === 'mismatch' && plain.other[name]?.[0] === undefined)).map((name) => `${name}: ${outcomes[name]}`)).toEqual([])
  }, 240_000)
})
