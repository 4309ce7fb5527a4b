/** Predictions in a child process with a warm-up, and how its memory changed over them. */
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'

/** `growth` is that of the whole run over the warm-up, from the median of its tenths: one late step of the runtime's arena is none, a leak is. */
export interface Soaked { readonly warmMB: number; readonly endMB: number; readonly growth: number; readonly seconds: number }

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
    const sizes = [await memory()], start = performance.now()
    for (let tenth = 0; tenth < 10; tenth++) { await predict(n / 10); sizes.push(await memory()) }
    const seconds = (performance.now() - start) / 1000, steps = sizes.slice(1).map((size, i) => size - sizes[i]).sort((a, b) => a - b)
    console.log(JSON.stringify({ warmMB: sizes[0], endMB: sizes[10], growth: 10 * (steps[4] + steps[5]) / 2 / sizes[0], seconds }))`
  // V8 keeps the room for young objects that it once took, and glibc an arena for each thread in which arrays were freed, tens of megabytes of them on a busy machine: bounded, they are no noise.
  const { stdout } = await promisify(execFile)(process.execPath, ['--expose-gc', '--max-semi-space-size=4', '--input-type=module', '-e', program, model, String(predictions)], { env: { ...process.env, MALLOC_ARENA_MAX: '1' } })
  return JSON.parse(stdout) as Soaked
}
