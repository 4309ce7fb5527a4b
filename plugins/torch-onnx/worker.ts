/** The thread's own side: the only file that touches onnxruntime-node, whose `run` blocks the event loop it is called on. */
import { existsSync } from 'node:fs'
import { setImmediate } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parentPort } from 'node:worker_threads'
import type * as Ort from 'onnxruntime-node'
import type { Device, Port, Tensor } from '../../core/contract.ts'
import { InlayError, messageOf, quote } from '../../core/errors.ts'
import { elementArrays } from '../../core/tensor.ts'
import { checkGraph, refusePort, subjectOf } from './check.ts'
import { agree } from './self-check.ts'
import type { FromWorker, Loaded, Request, Tensors, ToWorker } from './thread.ts'

const port = parentPort!
const sessions = new Map<string, Ort.InferenceSession>()
let queue: Exclude<ToWorker, { readonly kind: 'drop' }>[] = []
let busy = false

port.on('message', (message: ToWorker) => {
  if (message.kind === 'drop') queue = queue.filter((waiting) => waiting.kind === 'end' || waiting.id !== message.id)
  else queue.push(message)
  if (!busy) void work()
})

async function work(): Promise<void> {
  busy = true
  for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
    if (next.kind === 'end') port.close()
    else await answer(next)
    await setImmediate()       // Lets the messages in that came meanwhile: one may drop the call that is next.
  }
  busy = false
}

async function answer(request: Request & { readonly id: number }): Promise<void> {
  const { id } = request, send = (reply: FromWorker, transfer: readonly ArrayBuffer[] = []): void => { port.postMessage(reply, [...transfer]) }
  try {
    if (request.kind === 'load') send({ id, result: await load(request.key, request.bytes, request.device) })
    else if (request.kind === 'run') await run(request.key, request.feeds, request.outputs, (result, transfer) => { send({ id, result }, transfer) })
    else {
      await sessions.get(request.key)?.release()
      sessions.delete(request.key)
      send({ id, result: undefined })
    }
  } catch (error) {
    send({ id, fault: InlayError.is(error) ? { code: error.code, message: error.message } : { code: 'INTERNAL', message: messageOf(error) } })
  }
}

async function runtime(): Promise<(typeof Ort)['default']> {
  try {
    return (await import('onnxruntime-node')).default
  } catch (error) {
    const missing = (error as { readonly code?: unknown }).code === 'ERR_MODULE_NOT_FOUND'
    throw new InlayError('DRIVER_MISSING', missing ? 'ONNX graphs need the package "onnxruntime-node", which is not installed. Run: npm install onnxruntime-node'
      : `The package "onnxruntime-node" is installed but does not load on ${process.platform} ${process.arch}: ${messageOf(error)}. Run: npm install onnxruntime-node`)
  }
}

async function load(key: string, shared: Uint8Array, asked: Device | 'auto'): Promise<Loaded> {
  const bytes = new Uint8Array(shared)      // The native side takes no shared memory.
  await runtime()                           // Where the package is missing, that comes first.
  checkGraph(bytes)
  const { session, device, fallback } = await createOn(bytes, asked)
  try {
    const ports = portsOf(session)
    sessions.set(key, session)
    return { device, ...ports, ...(fallback === undefined ? {} : { fallback }) }
  } catch (error) {
    await session.release()
    throw badGraph(bytes, error)
  }
}

function portsOf(session: Ort.InferenceSession): Pick<Loaded, 'inputs' | 'outputs'> {
  return { inputs: session.inputMetadata.map((of) => portOf('input', of)), outputs: session.outputMetadata.map((of) => portOf('output', of)) }
}

const providers: Readonly<Record<Device, Ort.InferenceSession.ExecutionProviderConfig>> = {
  cpu: 'cpu', cuda: 'cuda', coreml: 'coreml', directml: 'dml',
  webgpu: { name: 'webgpu', preferredLayout: 'NCHW' },      // Its default layout computes wrong convolutions.
}
/** A graph from bytes is complete in them: without this, files of the working directory would be read as its weights. Nothing lies below a file. */
const nowhere = `${fileURLToPath(import.meta.url)}/none`

async function create(bytes: Uint8Array, device: Device): Promise<Ort.InferenceSession> {
  return (await runtime()).InferenceSession.create(bytes, {
    executionProviders: [providers[device]],
    logSeverityLevel: 4,       // What fails is thrown, and need not be written to stderr as well.
    // Threads spin during a run only: on after it they take the core that tokenizes and writes to the database. Without any, the best of 120 LeNet batches of 256 took 2.4 ms, with it 1.8.
    extra: { session: { model_external_initializers_file_folder_path: nowhere, force_spinning_stop: '1' } },
  })
}

interface Created { readonly session: Ort.InferenceSession; readonly device: Device; readonly fallback?: string }

/** The graph on the device that is asked for, or on the best that `auto` gets; the CPU decides whether it is a graph at all. */
async function createOn(bytes: Uint8Array, asked: Device | 'auto'): Promise<Created> {
  const onCpu = await create(bytes, 'cpu').catch((error: unknown) => { throw badGraph(bytes, error) })
  if (asked === 'cpu') return { session: onCpu, device: 'cpu' }
  let fallback: string | undefined
  for (const device of asked === 'auto' ? await candidates() : [asked]) {
    const found = await createChecked(bytes, device, onCpu)
    if (typeof found !== 'string') {
      await onCpu.release()
      return { session: found, device }
    }
    fallback ??= `The device ${quote(device)} cannot be used on this machine (${process.platform} ${process.arch}): ${found}.`
  }
  if (asked === 'auto') return { session: onCpu, device: 'cpu', ...(fallback === undefined ? {} : { fallback: `${fallback} Graphs that ask for "auto" run on the CPU.` }) }
  await onCpu.release()
  const backends = (await runtime()).listSupportedBackends?.().filter(({ bundled, name }) => bundled && providerName(name) !== asked).map(({ name }) => providerName(name)) ?? ['cpu']
  throw new InlayError('UNSUPPORTED', `${fallback} Here onnxruntime-node brings ${backends.join(', ')}, of which cpu always works. Ask for "cpu" or "auto", or install what ${quote(asked)} needs.`)
}

/** A session on the device whose results are those of the CPU, or why there is none. */
async function createChecked(bytes: Uint8Array, device: Device, onCpu: Ort.InferenceSession): Promise<Ort.InferenceSession | string> {
  const absent = await (absences[device] ??= absence(device))
  if (absent !== undefined) return absent
  const session = await create(bytes, device).catch((error: unknown) => reasonOf(error))
  if (typeof session === 'string' || device !== 'webgpu') return session
  const apart = await agree((feeds) => runOn(session, feeds), (feeds) => runOn(onCpu, feeds), portsOf(onCpu).inputs).catch((error: unknown) => messageOf(error))
  if (apart === undefined) return session
  await session.release()
  return apart
}

/** Why a device is not there, found out once, with a graph that every device can run. */
const absences: Partial<Record<Device, Promise<string | undefined>>> = {}
async function absence(device: Device): Promise<string | undefined> {
  // The smallest graph: y = Identity(x), float32[n].
  const session = await create(Buffer.from('CAg6RAoQCgF4EgF5IghJZGVudGl0eRIMc2FtZV9mbG9hdDMyWhAKAXgSCwoJCAESBQoDEgFuYhAKAXkSCwoJCAESBQoDEgFuQgQKABAR', 'base64'), device).catch((error: unknown) => reasonOf(error))
  if (typeof session === 'string') return session
  await session.release()
  return undefined
}

/** What `auto` tries, the fastest first. */
async function candidates(): Promise<readonly Device[]> {
  // Where Linux shows no graphics device there is none, and asking for one would be answered on stderr.
  if (process.platform === 'linux' && !['/dev/dri', '/dev/nvidiactl', '/dev/dxg'].some((path) => existsSync(path))) return []
  const brought = new Set((await runtime()).listSupportedBackends?.().map(({ name }) => providerName(name)))
  return (['cuda', 'directml', 'coreml', 'webgpu'] as const).filter((device) => brought.has(device))
}

/** What onnxruntime says, without the place in its sources. */
function reasonOf(error: unknown): string {
  return messageOf(error).replace(/^\/onnxruntime_src\/.*?\) (?=[A-Z])/, '').split('\n')[0]!.trim().replace(/\.+$/, '')
}

function providerName(name: string): string {
  return name === 'dml' ? 'directml' : name
}

function badGraph(bytes: Uint8Array, error: unknown): InlayError {
  if (InlayError.is(error)) return error
  const reason = reasonOf(error), subject = subjectOf(bytes)
  if (/Unsupported data type|not currently registered|Could not find an implementation|Failed to find kernel|not a registered|No Op registered|No opset import for domain|opset versions|IR version|NOT_IMPLEMENTED|not implemented/i.test(reason)) return new InlayError('UNSUPPORTED', `${subject} are an ONNX graph that this onnxruntime-node cannot run: ${reason}. Export it with older operators or common types, or update onnxruntime-node.`)
  if (/allocate memory|bad_alloc/.test(reason)) return new InlayError('RESOURCE_EXHAUSTED', `${subject} are an ONNX graph that needs more memory than there is: ${reason}.`)
  return new InlayError('INVALID_ARGUMENT', `${subject} are no ONNX graph that can be loaded: ${reason}. Export the graph again, and look at it with onnx.checker.`)
}

function portOf(role: string, of: Ort.InferenceSession.ValueMetadata): Port {
  if (!of.isTensor) return refusePort(role, of.name, 'a sequence, a map or an optional')
  // An int4 output would end the process when it is read.
  if (!Object.hasOwn(elementArrays, of.type)) return refusePort(role, of.name, `a tensor of ${of.type}`)
  return { name: of.name, type: of.type, dims: of.shape.map((dim) => (dim === '' ? '?' : dim)) }
}

async function run(key: string, feeds: Tensors, names: readonly string[] | undefined, done: (outputs: Tensors, transfer: readonly ArrayBuffer[]) => void): Promise<void> {
  const results = await runOn(sessions.get(key)!, feeds, names)
  done(results, [...new Set(Object.values(results).flatMap(({ data }) => (ArrayBuffer.isView(data) ? [data.buffer as ArrayBuffer] : [])))])
}

async function runOn(session: Ort.InferenceSession, feeds: Tensors, names: readonly string[] = session.outputNames): Promise<Tensors> {
  // Plain objects, not their Tensor class: on a Node with Float16Array that class turns the bits of a float16 into one, which the native side refuses.
  const native = Object.fromEntries(Object.entries(feeds).map(([name, tensor]) => [name, { ...tensor, location: 'cpu' }])) as unknown as Ort.InferenceSession.FeedsType
  const results = await session.run(native, names).catch((error: unknown) => {
    const reason = reasonOf(error)
    throw new InlayError(/allocate memory|bad_alloc/.test(reason) ? 'RESOURCE_EXHAUSTED' : 'INVALID_ARGUMENT', `The graph failed on these inputs: ${reason}.`)
  })
  const outputs: Record<string, Tensor> = {}
  for (const [name, tensor] of Object.entries(results)) {
    const { type, dims, data } = tensor, bits = type === 'float16' && ArrayBuffer.isView(data)
    outputs[name] = { type, dims, data: bits ? new Uint16Array(data.buffer, data.byteOffset, data.length) : data as Tensor['data'] }
    tensor.dispose()
  }
  return outputs
}
