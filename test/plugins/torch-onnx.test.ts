import { execFile } from 'node:child_process'
import { cp, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Worker } from 'node:worker_threads'
import { gunzipSync, inflateRawSync } from 'node:zlib'
import { describe, expect, it, onTestFinished, type TestContext } from 'vitest'
import type { Ctx, Device, Session, Tensor } from '../../core/contract.ts'
import { sizeOf } from '../../core/tensor.ts'
import { InlayError } from '../../core/errors.ts'
import { runGraph } from '../../core/graph.ts'
import { model, predictOne, step } from '../../index.ts'
import { OnnxExecutor } from '../../plugins/torch-onnx/executor.ts'
import torchOnnx from '../../plugins/torch-onnx/index.ts'
import { noSharedData, sharedData } from '../support/shared-data.ts'

const root = join(import.meta.dirname, '../..')
const graphs = JSON.parse(await readFile(join(root, 'test/data/onnx-graphs.json'), 'utf8')) as Readonly<Record<string, string>>
const graph = (name: string): Uint8Array => new Uint8Array(Buffer.from(graphs[name]!, 'base64'))
const ctx: Ctx = { signal: new AbortController().signal }

const newExecutor = (): OnnxExecutor => {
  const executor = new OnnxExecutor()
  onTestFinished(() => executor.close())
  return executor
}
const load = (bytes: Uint8Array, executor = newExecutor(), device: Device | 'auto' = 'auto'): Promise<Session> => executor.load({ bytes }, device, ctx)
const faultOf = async (promise: Promise<unknown>): Promise<string> => promise.then(() => 'no error', (error: unknown) => (error instanceof InlayError ? `${error.code} ${error.message}` : `not ours: ${String(error)}`))
const float32 = (dims: readonly number[], ...data: readonly number[]): Tensor => ({ type: 'float32', dims, data: Float32Array.from(data) })
/** About 11 ms per 1,000 rounds of a matrix product. */
const slowly = (rounds: number): Record<string, Tensor> => ({ rounds: { type: 'int64', dims: [], data: BigInt64Array.of(BigInt(rounds)) } })
/** The threads that start while the test runs, and the kinds of messages that they are sent after their first tick. */
const watchThreads = (): { readonly threads: Worker[]; readonly sent: string[] } => {
  const threads: Worker[] = [], sent: string[] = []
  const seen = (worker: Worker): void => {
    threads.push(worker)
    const post = worker.postMessage.bind(worker)
    worker.postMessage = (message: { readonly kind: string }, transfer) => { sent.push(message.kind); post(message, transfer as []) }
  }
  process.on('worker', seen)
  onTestFinished(() => { process.off('worker', seen) })
  return { threads, sent }
}

describe('a session', () => {
  it('names its ports and runs', async () => {
    const session = await load(graph('addOne'))
    expect([session.device, session.inputs, session.outputs]).toEqual(['cpu', [{ name: 'x', type: 'float32', dims: ['batch', 3] }], [{ name: 'y', type: 'float32', dims: ['batch', 3] }]])
    expect(await session.run({ x: float32([2, 3], 1, 2, 3, 4, 5, 6) }, ctx)).toEqual({ y: float32([2, 3], 2, 3, 4, 5, 6, 7) })
  })

  it('takes the memory of items that nobody else holds where a batch is all of it, and copies any other', async () => {
    const session = await load(graph('addOne')), rows = (buffer: ArrayBuffer, from = 0): readonly Tensor[] => [0, 1].map((i) => ({ type: 'float32', dims: [3], data: new Float32Array(buffer, (from + i * 3) * 4, 3) }))
    const given = async (items: readonly Tensor[], fresh: boolean): Promise<readonly number[]> => (await runGraph(session, items, ctx, { fresh })).flatMap(({ y }) => [...y!.data as Float32Array])
    const ones = (): ArrayBuffer => new Float32Array([1, 2, 3, 4, 5, 6]).buffer, [taken, held, larger, apart] = [ones(), ones(), new ArrayBuffer(36), ones()]
    expect([await given(rows(taken), true), taken.byteLength]).toEqual([[2, 3, 4, 5, 6, 7], 0])
    expect([await given(rows(held), false), held.byteLength]).toEqual([[2, 3, 4, 5, 6, 7], 24])
    expect([await given(rows(larger, 3), true), larger.byteLength]).toEqual([[1, 1, 1, 1, 1, 1], 36])
    expect([await given(rows(apart).toReversed(), true), apart.byteLength]).toEqual([[5, 6, 7, 2, 3, 4], 24])
    // Together with a caller who holds his: both are copied.
    const [mine, his] = [ones(), ones()]
    expect(await Promise.all([given(rows(mine), true), given(rows(his), false)])).toEqual([[2, 3, 4, 5, 6, 7], [2, 3, 4, 5, 6, 7]])
    expect([mine.byteLength, his.byteLength]).toEqual([24, 24])
  })

  it('of a model takes what a fresh step makes, and nothing that a step keeps', async () => {
    const made: Float32Array[] = [], make = (n: number): Tensor => { const data = Float32Array.of(n, n, n); made.push(data); return { type: 'float32', dims: [3], data } }
    const onnx = graph('addOne'), fresh = model<number, { readonly y: Tensor }>('fresh', { onnx, input: step('make@1', make, { fresh: true }) }), held = model<number, { readonly y: Tensor }>('held', { onnx, input: step('make@2', make) })
    for (const [spec, length] of [[fresh, 0], [held, 3]] as const) {
      made.length = 0
      expect([(await predictOne(spec, 5)).y.data, made.map((data) => data.length)]).toEqual([Float32Array.of(6, 6, 6), [length]])
    }
  })

  it('passes every element type in and out, also none of it', async () => {
    const executor = newExecutor()
    const data = {
      float32: Float32Array.of(1.5, Number.NaN, -Infinity), float64: Float64Array.of(Math.PI), float16: Uint16Array.of(0x3c00, 0xc000), bool: Uint8Array.of(1, 0), string: ['', 'a', 'é😀'],
      int8: Int8Array.of(-128), int16: Int16Array.of(-5, 5), int32: Int32Array.of(2 ** 31 - 1), int64: BigInt64Array.of(-(2n ** 63n), 5n),
      uint8: Uint8Array.of(255), uint16: Uint16Array.of(65535), uint32: Uint32Array.of(2 ** 32 - 1), uint64: BigUint64Array.of(2n ** 64n - 1n),
    }
    for (const [type, some] of Object.entries(data)) {
      const session = await load(graph(`same_${type}`), executor)
      for (const part of [some, some.slice(0, 0)]) {
        const x: Tensor = { type, dims: [part.length], data: part }
        const { y } = await session.run({ x }, ctx)
        expect([type, y]).toEqual([type, x])
        expect(y!.data.constructor.name).toBe(part.constructor.name)
      }
    }
  })

  it('neither takes, keeps nor changes the memory of its caller', async () => {
    const session = await load(graph('addOne'))
    const memory = Float32Array.of(9, 1, 2, 3, 9), pooled = Buffer.from(Float32Array.of(1, 2, 3).buffer)
    const running = session.run({ x: { type: 'float32', dims: [1, 3], data: memory.subarray(1, 4) } }, ctx)
    memory.fill(0, 1, 4)
    const { y } = await running
    expect([memory, y!.data]).toEqual([Float32Array.of(9, 0, 0, 0, 9), Float32Array.of(2, 3, 4)])
    const bytes = await load(graph('same_uint8'))
    expect((await bytes.run({ x: { type: 'uint8', dims: [12], data: pooled } }, ctx)).y!.data).toEqual(new Uint8Array(pooled))
  })

  it('refuses wrong feeds before it runs, and says what is wrong', async () => {
    const session = await load(graph('addOne')), fault = (feeds: unknown): Promise<string> => faultOf(session.run(feeds as Record<string, Tensor>, ctx))
    expect(await fault({})).toBe('INVALID_ARGUMENT The input "x" is missing; float32[batch,3] is expected.')
    expect(await fault({ x: float32([1, 3], 1, 2, 3), z: float32([0]) })).toBe('INVALID_ARGUMENT The graph has no input "z". It has "x" float32[batch,3].')
    expect(await fault({ x: float32([3], 1, 2, 3) })).toBe('INVALID_ARGUMENT The input "x" expects float32[batch,3] and was given float32[3].')
    expect(await fault({ x: float32([1, 4], 1, 2, 3, 4) })).toBe('INVALID_ARGUMENT The input "x" expects float32[batch,3] and was given float32[1,4].')
    expect(await fault({ x: float32([-1, 3], 1, 2, 3) })).toBe('INVALID_ARGUMENT The input "x" expects float32[batch,3] and was given float32[-1,3].')
    expect(await fault({ x: float32([2, 3], 1, 2, 3) })).toBe('INVALID_ARGUMENT The input "x" was given 3 elements for float32[2,3], which has 6.')
    expect(await fault({ x: { type: 'float64', dims: [1, 3], data: new Float64Array(3) } })).toBe('INVALID_ARGUMENT The input "x" expects float32[batch,3] and was given float64[1,3].')
    expect(await fault({ x: { type: 'float32', dims: [1, 3], data: new Float64Array(3) } })).toBe('INVALID_ARGUMENT The input "x" expects the elements of float32[1,3] as Float32Array and was given Float64Array.')
    expect(await fault({ x: [1, 2, 3] })).toBe('INVALID_ARGUMENT The input "x" expects a tensor { type, dims, data } of float32[batch,3] and was given [1,2,3].')
    const strings = await load(graph('same_string'))
    expect(await faultOf(strings.run({ x: { type: 'string', dims: [2], data: ['a', 5] as unknown as string[] } }, ctx))).toBe('INVALID_ARGUMENT The input "x" expects the elements of string[2] as string[] and was given array of other values than strings.')
  })

  it('says what the graph did not like, and runs on', async () => {
    const session = await load(graph('gather')), at = (i: bigint): Record<string, Tensor> => ({ x: { type: 'int64', dims: [1], data: BigInt64Array.of(i) } })
    expect(await faultOf(session.run(at(7n), ctx))).toBe("INVALID_ARGUMENT The graph failed on these inputs: Non-zero status code returned while running Gather node. Name:'' Status Message: indices element out of data bounds, idx=7 must be within the inclusive range [-3,2].")
    expect((await session.run(at(1n), ctx)).y).toEqual(float32([1], 2))
  })

  it('does not ask for initializers that old graphs list as inputs', async () => {
    const session = await load(graph('oldStyle'))
    expect(session.inputs.map(({ name }) => name)).toEqual(['x'])
    expect((await session.run({ x: float32([1, 2], 1, 2) }, ctx)).y).toEqual(float32([1, 2], 11, 22))
  })

  it('leaves the event loop free while it runs', async () => {
    const session = await load(graph('slow'))
    let longest = 0, last = performance.now()
    const ticks = setInterval(() => { longest = Math.max(longest, performance.now() - last); last = performance.now() }, 5)
    const start = performance.now()
    await session.run(slowly(60_000), ctx)
    const took = performance.now() - start
    clearInterval(ticks)
    expect(took).toBeGreaterThan(200)
    expect(longest).toBeLessThan(took / 2)
  })
})

describe('bytes that are no graph to run', () => {
  it('are refused with the reason', async () => {
    const fault = (bytes: Uint8Array): Promise<string> => faultOf(load(bytes))
    expect(await fault(new Uint8Array(0))).toBe('INVALID_ARGUMENT The 0 bytes given are no ONNX graph: they are empty.')
    expect(await fault(new Uint8Array(12))).toBe('INVALID_ARGUMENT The 12 bytes given are no ONNX graph, or a damaged one: a field in it has no valid number. Export or download the file again.')
    expect(await fault(graph('addOne').subarray(0, 60))).toBe('INVALID_ARGUMENT The 60 bytes given are no ONNX graph, or a damaged one: it ends in the middle of a field. Export or download the file again.')
    expect(await fault(graph('int4'))).toMatch(/^UNSUPPORTED The output "y" of the graph is a tensor of int4, which cannot be passed\./)
    expect(await fault(graph('sequence'))).toMatch(/^UNSUPPORTED The output "y" of the graph is a sequence, which cannot be passed\./)
    expect(await fault(graph('bfloat16'))).toMatch(/^UNSUPPORTED The output "y" of the graph is a tensor of bfloat16, which cannot be passed\./)
    expect(await fault(graph('opset99'))).toMatch(/^UNSUPPORTED The \d+ bytes given are an ONNX graph that this onnxruntime-node cannot run: .*Opset 99 is under development/)
  })

  it('are refused when weights lie in a second file, also where the working directory has one of that name', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'inlay-onnx-')), before = process.cwd()
    await writeFile(join(folder, 'inlay-weights.bin'), new Uint8Array(8))
    process.chdir(folder)
    onTestFinished(async () => { process.chdir(before); await rm(folder, { recursive: true }) })
    expect(await faultOf(load(graph('external')))).toMatch(/^INVALID_ARGUMENT The \d+ bytes given are an ONNX graph that keeps weights in a second file \("inlay-weights\.bin"\), which bytes do not carry\. Give the path of the graph, so that files beside it are read, or save it as one file, in Python: onnx\.save/)
  })
})

describe('devices', () => {
  it('are as asked or refused with what there is; auto is the CPU', async () => {
    const executor = newExecutor()
    expect((await load(graph('addOne'), executor, 'auto')).device).toBe('cpu')
    for (const device of ['cuda', 'webgpu', 'coreml', 'directml'] as const) {
      const session = await load(graph('addOne'), executor, device).catch((error: unknown) => error)
      if (session instanceof InlayError) expect(`${session.code} ${session.message}`).toMatch(new RegExp(`^UNSUPPORTED The device "${device}" cannot be used on this machine .* of which cpu always works\\.`))
      else expect((session as Session).device).toBe(device)
      expect(await faultOf(load(new Uint8Array(12), executor, device))).toMatch(/^INVALID_ARGUMENT The 12 bytes given are no ONNX graph/)
    }
  })
})

describe('sessions and their thread', () => {
  it('share one native session per graph, which stays warm when nobody uses it', async () => {
    const { threads, sent } = watchThreads(), executor = newExecutor()
    const [one, two, other] = await Promise.all([load(graph('addOne'), executor), load(graph('addOne'), executor), load(graph('gather'), executor)])
    const three = await load(graph('addOne'), executor), x = float32([1, 3], 1, 2, 3)
    expect([one.id === three.id, one.id === other.id]).toEqual([true, false])
    for (const session of [one, one, two]) await session.close()
    expect((await three.run({ x }, ctx)).y).toEqual(float32([1, 3], 2, 3, 4))
    await three.close()
    await other.close()
    expect(await faultOf(three.run({ x }, ctx))).toBe('CLOSED This session of an ONNX graph is closed. Load the graph again.')
    expect((await (await load(graph('addOne'), executor)).run({ x }, ctx)).y).toEqual(float32([1, 3], 2, 3, 4))
    expect([threads.length, sent.filter((kind) => kind !== 'load')]).toEqual([1, ['run', 'run']])
    expect(sent.filter((kind) => kind === 'load').length).toBeLessThanOrEqual(2)       // The first may come before the watch.
  })

  it('make room for one another: who ran longest ago is released, and loaded again when it runs', async () => {
    const { sent } = watchThreads(), bytes = graph('addOne').length
    const executor = new OnnxExecutor({ maxBytes: 2 * bytes + 10 })
    onTestFinished(() => executor.close())
    const x = float32([1, 3], 1, 2, 3), add = await load(graph('addOne'), executor)
    const names = ['float32', 'int64', 'bool'], others = await Promise.all(names.map((type) => load(graph(`same_${type}`), executor)))
    expect(sent.filter((kind) => kind === 'release').length).toBeGreaterThan(0)
    expect((await add.run({ x }, ctx)).y).toEqual(float32([1, 3], 2, 3, 4))
    expect((await others[0]!.run({ x: float32([1], 5) }, ctx)).y).toEqual(float32([1], 5))
    const runs = await Promise.all(Array.from({ length: 40 }, (_, i) => (i % 2 === 0 ? add.run({ x }, ctx) : others[1]!.run({ x: { type: 'int64', dims: [1], data: BigInt64Array.of(7n) } }, ctx))))
    expect(runs.length).toBe(40)
  })

  it('run only the outputs that are asked for', async () => {
    const session = await load(graph('addOne')), x = float32([1, 3], 1, 2, 3)
    expect(await session.run({ x }, ctx, { outputs: ['y'] })).toEqual({ y: float32([1, 3], 2, 3, 4) })
    expect(await faultOf(session.run({ x }, ctx, { outputs: ['z'] }))).toBe('INVALID_ARGUMENT The graph has no output "z". It has "y".')
    expect(await faultOf(runGraph(session, [Float32Array.of(1, 2, 3)], ctx, { outputs: ['z'] }))).toBe('INVALID_ARGUMENT The graph has no output "z". It has "y".')
  })

  it('finish runs that were begun before the close', async () => {
    const executor = newExecutor(), session = await load(graph('slow'), executor)
    const running = session.run(slowly(5_000), ctx)
    await session.close()
    expect((await running).y).toEqual(float32([], 0.5))
  })

  it('end with the executor, twice without an error, which loads again afterwards', async () => {
    const { threads } = watchThreads(), executor = newExecutor(), session = await load(graph('addOne'), executor)
    await executor.close()
    await executor.close()
    await session.close()
    expect(threads.map((thread) => thread.threadId)).toEqual([-1])
    expect(await faultOf(session.run({ x: float32([1, 3], 1, 2, 3) }, ctx))).toMatch(/^CLOSED/)
    expect((await load(graph('addOne'), executor)).device).toBe('cpu')
  })

  it('survive loads that fail, and those that nobody waits for', async () => {
    const { threads } = watchThreads(), executor = newExecutor(), abort = new AbortController()
    await Promise.all([faultOf(load(new Uint8Array(12), executor)), faultOf(load(new Uint8Array(12), executor))])
    const loading = faultOf(executor.load({ bytes: graph('addOne') }, 'auto', { signal: abort.signal }))
    abort.abort()
    expect(await loading).toBe('ABORTED The call was stopped by its signal: This operation was aborted.')
    expect((await (await load(graph('addOne'), executor)).run({ x: float32([1, 3], 1, 2, 3) }, ctx)).y).toEqual(float32([1, 3], 2, 3, 4))
    expect(threads.length).toBe(1)
  })

  it('drop a queued run that is aborted, and stop to wait for one that runs', async () => {
    const session = await load(graph('slow')), abort = new AbortController()
    await session.run(slowly(1), ctx)
    const start = performance.now()
    const first = session.run(slowly(20_000), ctx).then(() => performance.now() - start)
    const queued = Array.from({ length: 20 }, () => faultOf(session.run(slowly(20_000), { signal: abort.signal })))
    await new Promise((resolve) => setTimeout(resolve, 20))
    abort.abort(new Error('enough'))
    expect(new Set(await Promise.all(queued))).toEqual(new Set(['ABORTED The call was stopped by its signal: enough.']))
    expect(performance.now() - start).toBeLessThan(await first)
    await session.run(slowly(1), ctx)
    expect(performance.now() - start).toBeLessThan(5 * await first)

    const running = new AbortController(), long = session.run(slowly(100_000), { signal: running.signal }), begun = performance.now()
    setTimeout(() => { running.abort() }, 20)
    expect(await faultOf(long)).toMatch(/^ABORTED/)
    expect(performance.now() - begun).toBeLessThan(500)     // The run itself takes more than a second.
    expect(await faultOf(session.run(slowly(1), { signal: running.signal }))).toMatch(/^ABORTED/)
    expect((await session.run(slowly(1), ctx)).y).toEqual(float32([], 0.5))
  })

  it('survive the death of their thread: runs fail as retryable, the next one loads again', async () => {
    const { threads } = watchThreads(), executor = newExecutor(), [slow, quick] = await Promise.all([load(graph('slow'), executor), load(graph('addOne'), executor)])
    const running = slow.run(slowly(20_000), ctx).catch((error: unknown) => error)
    await threads[0]!.terminate()
    expect(await running).toMatchObject({ code: 'UNAVAILABLE', retryable: true, message: 'The thread that runs ONNX graphs died (exit code 1). Repeat the call: a new thread loads the graph again.' })
    expect((await quick.run({ x: float32([1, 3], 1, 2, 3) }, ctx)).y).toEqual(float32([1, 3], 2, 3, 4))
    expect((await slow.run(slowly(1), ctx)).y).toEqual(float32([], 0.5))
    await executor.close()
    expect(threads.map((thread) => thread.threadId)).toEqual([-1, -1])
  })

  it('neither keep a process alive nor let it end while a run or a close is waited for', async () => {
    const program = `
      import torchOnnx from ${JSON.stringify(join(root, 'plugins/torch-onnx/index.ts'))}
      const session = await torchOnnx.executors[0].load({ format: 'onnx', bytes: Buffer.from('${graphs['slow']}', 'base64') }, 'auto', { signal: new AbortController().signal })
      const { y } = await session.run({ rounds: { type: 'int64', dims: [], data: BigInt64Array.of(20000n) } }, { signal: new AbortController().signal })
      console.log(y.data[0])`
    const run = async (more = ''): Promise<string> => (await promisify(execFile)(process.execPath, ['--input-type=module', '-e', program + more])).stdout
    expect(await run()).toBe('0.5\n')
    expect(await run("; await session.close(); console.log('closed')")).toBe('0.5\nclosed\n')
    expect(await run("; await torchOnnx.executors[0].close(); console.log('closed')")).toBe('0.5\nclosed\n')
  })

  it('name the package that is missing', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'inlay-onnx-'))
    onTestFinished(() => rm(folder, { recursive: true }))
    for (const part of ['core', 'plugins/torch-onnx', 'package.json']) await cp(join(root, part), join(folder, part), { recursive: true })
    const program = `
      import torchOnnx, { wordPiece } from ${JSON.stringify(join(folder, 'plugins/torch-onnx/index.ts'))}
      const say = (error) => console.log(error.code, error.message)
      await torchOnnx.executors[0].load({ format: 'onnx', bytes: new Uint8Array(12) }, 'auto', { signal: new AbortController().signal }).catch(say)
      await wordPiece('words@1', { vocab: ['[PAD]', '[UNK]', '[CLS]', '[SEP]'] }).run('a').catch(say)`
    const run = async (): Promise<string> => (await promisify(execFile)(process.execPath, ['--input-type=module', '-e', program], { cwd: folder })).stdout
    const words = 'DRIVER_MISSING The wordPiece step needs the package "@huggingface/tokenizers", which is not installed. Run: npm install @huggingface/tokenizers\n'
    expect(await run()).toBe(`DRIVER_MISSING ONNX graphs need the package "onnxruntime-node", which is not installed. Run: npm install onnxruntime-node\n${words}`)
    await symlink(join(root, 'node_modules'), join(folder, 'node_modules'))
    expect(await run()).toBe('INVALID_ARGUMENT The 12 bytes given are no ONNX graph, or a damaged one: a field in it has no valid number. Export or download the file again.\n')
  })

  it('do not leak: 3,000 runs of 256 kB, 300 loads', async () => {
    const executor = newExecutor(), session = await load(graph('addOne'), executor), x: Tensor = { type: 'float32', dims: [21_845, 3], data: new Float32Array(65_535) }
    const rounds = async (n: number): Promise<void> => { for (let i = 0; i < n; i++) await session.run({ x }, ctx) }
    const loads = async (n: number): Promise<void> => { for (let i = 0; i < n; i++) await (await load(graph('slow'), executor)).close() }
    await rounds(300)
    await loads(30)
    const before = process.memoryUsage.rss()
    await rounds(3000)
    await loads(300)
    expect((process.memoryUsage.rss() - before) / 2 ** 20).toBeLessThan(150)      // Leaked, the runs alone were 1,500 MB.
  }, 60_000)

  it('belong to one executor that the plugin brings', () => {
    expect(torchOnnx).toMatchObject({ name: 'torch-onnx', contract: 1, executors: [{ formats: ['onnx'] }] })
  })
})

/** A shared file, or the test is skipped with the reason. */
const shared = async (path: string, { skip }: TestContext): Promise<Uint8Array> => {
  const file = sharedData(path)
  return new Uint8Array(await readFile(file ?? skip(noSharedData(path))))
}
/** The arrays of an .npz file: a zip of .npy files. */
const npz = (file: Uint8Array): Record<string, Tensor> => {
  const zip = Buffer.from(file), arrays: Record<string, Tensor> = {}
  for (let at = zip.readUInt32LE(zip.length - 6); zip.readUInt32LE(at) === 0x02014b50;) {
    const nameLength = zip.readUInt16LE(at + 28), name = zip.toString('latin1', at + 46, at + 46 + nameLength), local = zip.readUInt32LE(at + 42)
    const start = local + 30 + zip.readUInt16LE(local + 26) + zip.readUInt16LE(local + 28), packed = zip.subarray(start, start + zip.readUInt32LE(at + 20))
    const npy = zip.readUInt16LE(at + 10) === 0 ? packed : inflateRawSync(packed), headerEnd = 10 + npy.readUInt16LE(8), header = npy.toString('latin1', 10, headerEnd)
    const dims = /'shape': \(([^)]*)\)/.exec(header)![1]!.split(',').filter((dim) => dim.trim() !== '').map(Number), kind = /'descr': '[<|=]?(\w+)'/.exec(header)![1]!
    const body = Uint8Array.from(npy.subarray(headerEnd)).buffer
    arrays[name.replace('.npy', '')] = kind === 'f4' ? { type: 'float32', dims, data: new Float32Array(body) } : kind === 'i8' ? { type: 'int64', dims, data: new BigInt64Array(body) } : { type: 'uint8', dims, data: new Uint8Array(body) }
    at += 46 + nameLength + zip.readUInt16LE(at + 30) + zip.readUInt16LE(at + 32)
  }
  return arrays
}
const apart = (a: Tensor, b: Tensor): number => {
  const x = Array.from(a.data as Float32Array, Number), y = Array.from(b.data as Float32Array, Number)
  expect([x.length, sizeOf(a.dims)]).toEqual([y.length, y.length])
  return x.reduce((most, value, i) => Math.max(most, Math.abs(value - y[i]!)), 0)
}
const argmax = (of: Tensor): number => { const data = [...of.data as Float32Array]; return data.indexOf(Math.max(...data)) }

describe('real graphs', () => {
  it.for([
    { file: 'lenet/fyh620-lenet.onnx', batch: 'fixed at 1', pixel: (p: number) => (p / 255 - 0.1307) / 0.3081, output: '24', right: 0.96 },
    { file: 'lenet/fyh620-lenet-dynbatch.onnx', batch: 'free', pixel: (p: number) => (p / 255 - 0.1307) / 0.3081, output: '24', right: 0.96 },
    { file: 'lenet/ccoltong-lenet.onnx', batch: 'fixed at 10', pixel: (p: number) => p, output: 'output_0', right: 0.97 },
    { file: 'mnist/ort-cntk-mnist-8.onnx', batch: 'fixed at 1, IR 3', pixel: (p: number) => p, output: 'Plus214_Output_0', right: 0.97 },
  ])('read digits: $file, batch $batch', async ({ file, pixel, output, right }, context) => {
    const pixels = gunzipSync(await shared('mnist/t10k-images-idx3-ubyte.gz', context)), labels = gunzipSync(await shared('mnist/t10k-labels-idx1-ubyte.gz', context))
    const session = await load(await shared(`models/${file}`, context))
    const items = Array.from({ length: 503 }, (_, i): Tensor => ({ type: 'float32', dims: [1, 28, 28], data: Float32Array.from(pixels.subarray(16 + i * 784, 16 + (i + 1) * 784), pixel) }))
    const results = await runGraph(session, items, ctx)
    expect(results.map((result) => result[output]!.dims)).toEqual(items.map(() => [10]))
    expect(results.filter((result, i) => argmax(result[output]!) === labels[8 + i]).length / items.length).toBeGreaterThan(right)
  })

  it.for(['tabular/lgbm-classifier', 'tabular/xgboost-classifier', 'text/byte-sentence-bilstm'])('reproduce their expected outputs, whole and by item: %s', async (name, context) => {
    const session = await load(await shared(`models/${name}.onnx`, context)), golden = npz(await shared(`models/${name}.io.npz`, context))
    const input = session.inputs[0]!, given = golden[input.name]!, whole = await session.run({ [input.name]: given }, ctx)
    // The file of one names its output otherwise than the graph.
    const expected = Object.entries(golden).filter(([name]) => name !== input.name).map(([name, value]) => ({ output: name in whole ? name : session.outputs[0]!.name, value }))
    expect(expected.length).toBe(1)
    for (const { output, value } of expected) expect(apart(whole[output]!, value)).toBeLessThan(1e-5)

    const [rows, ...dims] = given.dims as [number, ...number[]], each = sizeOf(dims), data = given.data as Float32Array
    const byItem = await runGraph(session, Array.from({ length: rows }, (_, i) => ({ type: given.type, dims, data: data.slice(i * each, (i + 1) * each) })), ctx)
    for (const { output } of expected) {
      const size = sizeOf(whole[output]!.dims.slice(1)), all = whole[output]!.data as Float32Array
      byItem.forEach((item, i) => { expect(apart(item[output]!, { ...item[output]!, data: all.slice(i * size, (i + 1) * size) })).toBe(0) })
    }
  })

  it('reduce vectors without a batch dimension, one by one', async (context) => {
    const session = await load(await shared('models/embed/clip768-to-128-pca.onnx', context))
    const results = await runGraph(session, [new Float32Array(768).fill(1), new Float32Array(768), new Float32Array(768).fill(2)], ctx)
    expect(results.map(({ reduced_vector }) => reduced_vector!.dims)).toEqual([[128], [128], [128]])
    const [one, zero, two] = results.map(({ reduced_vector }) => [...reduced_vector!.data as Float32Array])
    expect(Math.max(...one!.map((value, i) => Math.abs(2 * (value - zero![i]!) - (two![i]! - zero![i]!))))).toBeLessThan(1e-5)
  })

  it('carry a state from run to run', async (context) => {
    const session = await load(await shared('models/audio/silero-vad-16k.onnx', context)), sr: Tensor = { type: 'int64', dims: [], data: BigInt64Array.of(16000n) }
    let state: Tensor = { type: 'float32', dims: [2, 2, 128], data: new Float32Array(512) }
    for (let i = 0; i < 3; i++) {
      const { output, stateN } = await session.run({ input: { type: 'float32', dims: [2, 512], data: new Float32Array(1024).fill(0.1) }, state, sr }, ctx)
      expect([output!.dims, stateN!.dims]).toEqual([[2, 1], [2, 2, 128]])
      state = stateN!
    }
    expect((state.data as Float32Array).some((value) => value !== 0)).toBe(true)
    expect(await faultOf(runGraph(session, [{ input: { type: 'float32', dims: [512], data: new Float32Array(512) }, state: { type: 'float32', dims: [2, 128], data: new Float32Array(256) }, sr }], ctx))).toMatch(/^INVALID_ARGUMENT The inputs "input" float32\[batch,sequence\] and "state" float32\[2,batch,128\] do not share a first dimension/)
  })

  it('are asked only for what is no initializer: squeezenet, IR 3', async (context) => {
    const session = await load(await shared('models/vision/squeezenet1.0-fp32.onnx', context))
    expect(session.inputs).toEqual([{ name: 'data_0', type: 'float32', dims: [1, 3, 224, 224] }])
    const [result] = await runGraph(session, [{ type: 'float32', dims: [3, 224, 224], data: new Float32Array(3 * 224 * 224) }], ctx)
    expect(result!['softmaxout_1']!.dims).toEqual([1000, 1, 1])
  })

  it('are refused from bytes when their weights lie in a second file', async (context) => {
    expect(await faultOf(load(await shared('models/mnist/rten-external/mnist.onnx', context)))).toMatch(/^INVALID_ARGUMENT The 10880 bytes given are an ONNX graph that keeps weights in a second file/)
  })
})
