/** The thread's own side: the only file that touches onnxruntime-node, whose `run` blocks the event loop it is called on. */
import { setImmediate } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parentPort } from 'node:worker_threads'
import type * as Ort from 'onnxruntime-node'
import type { Device, Port, Tensor } from '../../core/contract.ts'
import { InlayError, messageOf, quote } from '../../core/errors.ts'
import { elementArrays } from '../../core/tensor.ts'
import type { FromWorker, Ports, Request, Tensors, ToWorker } from './thread.ts'

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
    else if (request.kind === 'run') await run(request.key, request.feeds, (result, transfer) => { send({ id, result }, transfer) })
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

async function load(key: string, bytes: Uint8Array, device: Device): Promise<Ports> {
  const session = await create(bytes, device)
  try {
    const ports = { inputs: session.inputMetadata.map((of) => portOf('input', of)), outputs: session.outputMetadata.map((of) => portOf('output', of)) }
    sessions.set(key, session)
    return ports
  } catch (error) {
    await session.release()
    throw error
  }
}

const providers: Readonly<Record<Device, Ort.InferenceSession.ExecutionProviderConfig>> = {
  cpu: 'cpu', cuda: 'cuda', coreml: 'coreml', directml: 'dml',
  webgpu: { name: 'webgpu', preferredLayout: 'NCHW' },      // Its default layout computes wrong convolutions.
}
/** A graph from bytes is complete in them: without this, files of the working directory would be read as its weights. Nothing lies below a file. */
const nowhere = `${fileURLToPath(import.meta.url)}/none`

async function create(bytes: Uint8Array, device: Device): Promise<Ort.InferenceSession> {
  const ort = await runtime()
  const tryOn = (on: Device): Promise<Ort.InferenceSession> => ort.InferenceSession.create(bytes, {
    executionProviders: [providers[on]],
    logSeverityLevel: 4,       // What fails is thrown, and need not be written to stderr as well.
    // Threads that spin between runs take the core that tokenizes and writes to the database: a batch of 500 texts took 15.7 ms, 11.4 without.
    extra: { session: { model_external_initializers_file_folder_path: nowhere, intra_op: { allow_spinning: '0' } } },
  })
  try {
    return await tryOn(device)
  } catch (error) {
    if (device === 'cpu') throw badGraph(bytes, error)
    // Either the device or the graph is to blame: what loads on the CPU is a graph.
    const other = await tryOn('cpu').catch((reason: unknown) => { throw badGraph(bytes, reason) })
    await other.release()
    const bundled = ort.listSupportedBackends?.().filter((backend) => backend.bundled && providerName(backend.name) !== device).map((backend) => providerName(backend.name)) ?? ['cpu']
    throw new InlayError('UNSUPPORTED', `The device ${quote(device)} cannot be used on this machine (${process.platform} ${process.arch}): ${reasonOf(error)}. Here onnxruntime-node brings ${bundled.join(', ')}, of which cpu always works. Ask for "cpu" or "auto", or install what ${quote(device)} needs.`)
  }
}

/** What onnxruntime says, without the place in its sources. */
function reasonOf(error: unknown): string {
  return messageOf(error).replace(/^\/onnxruntime_src\/.*?\) (?=[A-Z])/, '').split('\n')[0]!.trim().replace(/\.+$/, '')
}

function providerName(name: string): string {
  return name === 'dml' ? 'directml' : name
}

function badGraph(bytes: Uint8Array, error: unknown): InlayError {
  const reason = reasonOf(error), subject = `The ${bytes.length} bytes given`
  if (/external data/i.test(reason)) return new InlayError('INVALID_ARGUMENT', `${subject} are an ONNX graph that keeps weights in a second file, which bytes do not carry. Save it as one file, in Python: onnx.save(onnx.load(path), path, save_as_external_data=False)`)
  if (/Unsupported data type|not currently registered|Could not find an implementation|not a registered|opset versions/.test(reason)) return new InlayError('UNSUPPORTED', `${subject} are an ONNX graph that this onnxruntime-node cannot run: ${reason}. Export it with older operators or common types, or update onnxruntime-node.`)
  return new InlayError('INVALID_ARGUMENT', `${subject} are no ONNX graph: ${reason}.`)
}

function portOf(role: string, of: Ort.InferenceSession.ValueMetadata): Port {
  const refuse = (what: string): never => { throw new InlayError('UNSUPPORTED', `The ${role} ${quote(of.name)} of the graph is ${what}, which cannot be passed. Tensors of these types can: ${Object.keys(elementArrays).join(', ')}. Cast it inside of the graph, or remove it.`) }
  if (!of.isTensor) return refuse('a sequence, a map or an optional')
  // An int4 output would end the process when it is read.
  if (!Object.hasOwn(elementArrays, of.type)) return refuse(`a tensor of ${of.type}`)
  return { name: of.name, type: of.type, dims: of.shape.map((dim) => (dim === '' ? '?' : dim)) }
}

async function run(key: string, feeds: Tensors, done: (outputs: Tensors, transfer: readonly ArrayBuffer[]) => void): Promise<void> {
  // Plain objects, not their Tensor class: on a Node with Float16Array that class turns the bits of a float16 into one, which the native side refuses.
  const native = Object.fromEntries(Object.entries(feeds).map(([name, tensor]) => [name, { ...tensor, location: 'cpu' }])) as unknown as Ort.InferenceSession.FeedsType
  const results = await sessions.get(key)!.run(native).catch((error: unknown) => {
    const reason = reasonOf(error)
    throw new InlayError(/allocate memory|bad_alloc/.test(reason) ? 'RESOURCE_EXHAUSTED' : 'INVALID_ARGUMENT', `The graph failed on these inputs: ${reason}.`)
  })
  try {
    const outputs: Record<string, Tensor> = {}, transfer = new Set<ArrayBuffer>()
    for (const [name, { type, dims, data }] of Object.entries(results)) {
      const bits = type === 'float16' && ArrayBuffer.isView(data)
      outputs[name] = { type, dims, data: bits ? new Uint16Array(data.buffer, data.byteOffset, data.length) : data as Tensor['data'] }
      if (ArrayBuffer.isView(data)) transfer.add(data.buffer as ArrayBuffer)
    }
    done(outputs, [...transfer])
  } finally {
    for (const tensor of Object.values(results)) tensor.dispose()
  }
}
