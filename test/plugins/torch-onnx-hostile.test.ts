import { execFile } from 'node:child_process'
import { link, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { gunzipSync } from 'node:zlib'
import { describe, expect, it, onTestFinished } from 'vitest'
import type { Ctx, Tensor } from '../../core/contract.ts'
import { InlayError } from '../../core/errors.ts'
import { runGraph } from '../../core/graph.ts'
import { OnnxExecutor } from '../../plugins/torch-onnx/executor.ts'
import { good, hostile, withWeights } from '../support/hostile-graphs.ts'
import { noSharedData, sharedData } from '../support/shared-data.ts'

const root = join(import.meta.dirname, '../..'), ctx: Ctx = { signal: new AbortController().signal }
const faultOf = async (promise: Promise<unknown>): Promise<string> => promise.then(() => 'no error', (error: unknown) => (error instanceof InlayError ? `${error.code} ${error.message}` : `not ours: ${String(error)}`))
const newFolder = async (): Promise<string> => {
  const folder = await mkdtemp(join(tmpdir(), 'inlay-hostile-'))
  onTestFinished(() => rm(folder, { recursive: true }))
  return folder
}
const child = async (program: string, args: readonly string[] = []): Promise<string> => (await promisify(execFile)(process.execPath, ['--input-type=module', '-e', program, ...args], { maxBuffer: 2 ** 26, timeout: 110_000 })).stdout
const prelude = `
  import { OnnxExecutor } from ${JSON.stringify(join(root, 'plugins/torch-onnx/executor.ts'))}
  import { good, hostile } from ${JSON.stringify(join(root, 'test/support/hostile-graphs.ts'))}
  const executor = new OnnxExecutor(), ctx = { signal: new AbortController().signal }
  const attempt = async (bytes) => { const session = await executor.load({ bytes }, 'cpu', ctx); await session.close() }
  const works = async () => { const session = await executor.load({ bytes: good }, 'cpu', ctx); const { y } = await session.run({ x: { type: 'float32', dims: [1], data: Float32Array.of(5) } }, ctx); await session.close(); return y.data[0] === 5 }
`

describe('a hostile graph', () => {
  it('is refused in a sentence that says what is wrong, and the process runs a good one afterwards', async () => {
    const out = await child(`${prelude}
      const said = []
      for (const [name, bytes] of hostile) said.push([name, await attempt(bytes).then(() => 'no error', (error) => error.code + ' ' + error.message), await works()])
      console.log(JSON.stringify(said))`)
    const said = JSON.parse(out) as readonly (readonly [string, string, boolean])[]
    expect(said.length).toBe(hostile.length)
    expect(said.filter(([, fault, works], i) => !works || !hostile[i]![2].test(fault) || !fault.endsWith('.'))).toEqual([])
  }, 120_000)

  it('made at random from good ones neither ends the process nor hangs it', async ({ skip }) => {
    const models = sharedData('models') ?? skip(noSharedData('models')), files = (await readdir(models, { recursive: true })).filter((file) => file.endsWith('.onnx')).map((file) => join(models, file))
    const small: string[] = []
    for (const file of files) if ((await readFile(file)).length < 300_000) small.push(file)
    const archive = sharedData('onnx-conformance/onnx-1.22-node-simple.tar.gz') ?? skip(noSharedData('onnx-conformance')), folder = await newFolder()
    await promisify(execFile)('tar', ['xzf', archive, '-C', folder, '--wildcards', '*_scan*/model.onnx', '*_loop*/model.onnx', '*_if*/model.onnx', '*_lstm*/model.onnx', '*_conv*/model.onnx', '*_quant*/model.onnx', '*_softmax*/model.onnx'])
    for (const file of await readdir(folder, { recursive: true })) if (file.endsWith('.onnx')) small.push(join(folder, file))
    const out = await child(`${prelude}
      import { readFileSync } from 'node:fs'
      const files = process.argv.slice(1), codes = {}
      let seed = 20261121
      const random = (n) => { seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0; return Math.floor(seed / 2 ** 32 * n) }
      for (let i = 0; i < 600; i++) {
        const bytes = new Uint8Array(readFileSync(files[i % files.length])), kind = random(4)
        // Most of a file is weights: half of the changes are made where its structure lies, at the ends.
        const place = () => (random(2) === 0 ? random(bytes.length) : random(2) === 0 ? random(Math.min(400, bytes.length)) : bytes.length - 1 - random(Math.min(400, bytes.length)))
        let mutated = bytes
        if (kind === 0) for (let n = 1 + random(8); n > 0; n--) bytes[place()] = random(256)
        else if (kind === 1) for (let n = 1 + random(3); n > 0; n--) bytes[place()] ^= 1 << random(8)
        else if (kind === 2) mutated = bytes.subarray(0, place())
        else { const at = place(), length = random(16); mutated = Uint8Array.from([...bytes.subarray(0, at), ...bytes.subarray(at, at + length), ...bytes.subarray(at)]) }
        const code = await Promise.race([attempt(mutated).then(() => 'loaded', (error) => error.code ?? String(error)), new Promise((resolve) => setTimeout(resolve, 20_000, 'HANGS').unref())])
        if (code === 'INTERNAL') console.log('INTERNAL', await attempt(mutated).catch((error) => error.message))
        codes[code] = (codes[code] ?? 0) + 1
      }
      console.log(JSON.stringify([codes, await works()]))
      await executor.close()`, small)
    const [codes, works] = JSON.parse(out) as readonly [Readonly<Record<string, number>>, boolean]
    console.log(`600 mutated graphs: ${Object.entries(codes).map(([code, count]) => `${count} ${code}`).join(', ')}`)
    expect(works).toBe(true)
    expect(Object.keys(codes).filter((code) => !['loaded', 'INVALID_ARGUMENT', 'UNSUPPORTED', 'RESOURCE_EXHAUSTED'].includes(code))).toEqual([])
  }, 120_000)
})

describe('weights in a file beside the graph', () => {
  const executor = new OnnxExecutor()
  const read = (path: string): Promise<string> => faultOf(executor.read(path, ctx))

  it('become part of its bytes', async () => {
    const folder = await newFolder(), path = join(folder, 'model.onnx')
    onTestFinished(() => executor.close())
    await writeFile(path, withWeights('sub/weights.bin', 8, 4))
    await mkdir(join(folder, 'sub'))
    await writeFile(join(folder, 'sub/weights.bin'), new Uint8Array(Float32Array.of(9, 10, 20).buffer))
    const session = await executor.load({ bytes: await executor.read(path, ctx) }, 'cpu', ctx)
    expect((await session.run({ x: { type: 'float32', dims: [2], data: Float32Array.of(1, 2) } }, ctx))['y']).toEqual({ type: 'float32', dims: [2], data: Float32Array.of(11, 22) })
    await writeFile(path, good)
    expect(await executor.read(path, ctx)).toEqual(good)
  })

  it('must lie below its folder, links resolved, and be all there', async () => {
    const folder = await newFolder(), inner = join(folder, 'inner'), path = join(inner, 'model.onnx'), outside = join(folder, 'outside.bin')
    await mkdir(inner)
    await writeFile(outside, new Uint8Array(8))
    await symlink(outside, join(inner, 'link.bin'))
    await link(outside, join(inner, 'short.bin'))
    const fault = async (location: string, length = 8, offset = 0): Promise<string> => {
      await writeFile(path, withWeights(location, length, offset))
      return read(path)
    }
    for (const location of [outside, '../outside.bin', 'a/../../outside.bin', '', '.', 'a\0b']) expect(await fault(location)).toMatch(/^INVALID_ARGUMENT .* is not below its folder\. /)
    expect(await fault('link.bin')).toMatch(/^INVALID_ARGUMENT .* which is a link to .*outside\.bin", outside of its folder\. /)
    expect(await fault('none.bin')).toMatch(/^NOT_FOUND .*none\.bin/)
    expect(await fault('short.bin', 8, 4)).toMatch(/^INVALID_ARGUMENT .* too short: byte 12 is needed, it has 8\./)
    expect(await fault('short.bin', 4)).toMatch(/^INVALID_ARGUMENT .* "4" bytes, for a tensor that takes 8\./)
    expect(await read(join(inner, 'nowhere.onnx'))).toMatch(/^NOT_FOUND The ONNX graph ".*nowhere\.onnx" cannot be read/)
    expect(await read(inner)).toMatch(/^INVALID_ARGUMENT The ONNX graph /)
    await writeFile(path, 'version https://git-lfs.github.com/spec/v1\n')
    expect(await read(path)).toMatch(/^INVALID_ARGUMENT The bytes of ".*model\.onnx" are a Git LFS pointer/)
  })

  it('read digits as well as onnxruntime does with the files: 94.66 % of 10,000', async ({ skip }) => {
    onTestFinished(() => executor.close())
    const path = sharedData('models/mnist/rten-external/mnist.onnx') ?? skip(noSharedData('models/mnist/rten-external/mnist.onnx')), images = sharedData('mnist/t10k-images-idx3-ubyte.gz') ?? skip(noSharedData('mnist'))
    const pixels = gunzipSync(await readFile(images)), labels = gunzipSync(await readFile(images.replace('images-idx3', 'labels-idx1')))
    const session = await executor.load({ bytes: await executor.read(path, ctx) }, 'auto', ctx), port = session.inputs[0]!, whole = port.dims.slice(1) as number[]
    const results = await runGraph(session, Array.from({ length: 10_000 }, (_, i): Tensor => ({ type: 'float32', dims: whole, data: Float32Array.from(pixels.subarray(16 + i * 784, 16 + (i + 1) * 784), (p) => (p / 255 - 0.1307) / 0.3081) })), ctx)
    const right = results.filter((result, i) => { const data = [...Object.values(result)[0]!.data as Float32Array]; return data.indexOf(Math.max(...data)) === labels[8 + i] }).length
    expect(right / 100).toBe(94.66)
  })
})
