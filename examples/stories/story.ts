/** What the stories share: how they are started, and chance that is the same in every run. */
import { parseArgs } from 'node:util'
import { onError } from '../emoji/show.ts'

/** What every story takes. */
export interface Story {
  /** The database: `memory:`, `pglite:./folder`, `postgres://…`, `mongodb://…`, `duckdb:./file`. */
  readonly uri: string
  /** What the story makes lies in a schema or database of this name. */
  readonly namespace?: string
  readonly log: (line: string) => void
}

/** Runs a story as the command line says: `[uri] [--option value]…`. */
export async function main<O extends string>(run: (story: Story & { readonly [K in O]?: string }) => Promise<unknown>, ...options: readonly O[]): Promise<void> {
  onError()
  const { positionals, values } = parseArgs({ allowPositionals: true, options: Object.fromEntries(options.map((name) => [name, { type: 'string' as const }])) })
  console.log('\nThe numbers:', await run({ ...values, uri: positionals[0] ?? 'memory:', log: console.log } as Story & { readonly [K in O]?: string }))
}

/** Numbers from 0 to 1, the same for the same seed (mulberry32). */
export function randoms(seed: number): () => number {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0
    let t = Math.imul(seed ^ (seed >>> 15), seed | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

/** `length` numbers of the normal distribution, as `torch.randn` gives them. */
export function randn(length: number, random: () => number, deviation = 1): Float32Array {
  return Float32Array.from({ length }, () => deviation * Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random()))
}
