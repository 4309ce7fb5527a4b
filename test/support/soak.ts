/** Predictions in a child process with a warm-up, and how its memory changed over them. */
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'

export interface Soaked { readonly warmMB: number; readonly endMB: number; readonly seconds: number }

export async function soak(model: string, predictions: number): Promise<Soaked> {
  const root = join(import.meta.dirname, '../..')
  const program = `
    import { readFileSync } from 'node:fs'
    import { OnnxExecutor } from ${JSON.stringify(join(root, 'plugins/torch-onnx/executor.ts'))}
    import { runGraph } from ${JSON.stringify(join(root, 'core/graph.ts'))}
    const executor = new OnnxExecutor(), ctx = { signal: new AbortController().signal }, session = await executor.load({ bytes: readFileSync(process.argv[1]) }, 'auto', ctx)
    const predict = async (n) => {
      for (let done = 0; done < n; done += 50) await Promise.all(Array.from({ length: 50 }, (_, i) => runGraph(session, [{ type: 'float32', dims: [1, 28, 28], data: new Float32Array(784).fill(i) }], ctx)))
    }
    const memory = async () => {
      for (let i = 0; i < 4; i++) { gc(); await new Promise((resolve) => setTimeout(resolve, 50)) }
      return process.memoryUsage.rss() / 2 ** 20
    }
    const n = Number(process.argv[2])
    await predict(100_000)
    const warmMB = await memory(), start = performance.now()
    await predict(n)
    const seconds = (performance.now() - start) / 1000
    console.log(JSON.stringify({ warmMB, endMB: await memory(), seconds }))`
  // The thread that runs graphs leaves garbage of arrays, up to 50 MB of it before V8 collects it, and `gc()` collects that of its own thread only: so every collection is a full one.
  // V8 keeps the room for young objects that it once took, tens of megabytes of it: bounded, it is no noise.
  const { stdout } = await promisify(execFile)(process.execPath, ['--expose-gc', '--gc-global', '--max-semi-space-size=4', '--input-type=module', '-e', program, model, String(predictions)])
  return JSON.parse(stdout) as Soaked
}
