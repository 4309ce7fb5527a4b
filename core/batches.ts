/** Calls to a service over many values: in batches, several at once, where a bad value fails alone. */
import type { Ctx } from './contract.ts'
import { messageOf } from './errors.ts'
import { aborted } from './guard.ts'
import { isOutage } from './reconcile.ts'

/**
 * The results of `call` over batches of at most `size`. A batch that is refused is halved until the bad value stands alone, and its error takes the place of
 * its result. An outage ends all: calls that still run are stopped by their signal.
 */
export async function inBatches<I, O>(values: readonly I[], size: number, call: (batch: readonly I[], ctx: Ctx) => Promise<readonly (O | Error)[]>, ctx: Ctx): Promise<readonly (O | Error)[]> {
  const ended = new AbortController(), inner: Ctx = { signal: AbortSignal.any([ctx.signal, ended.signal]) }
  const results: (O | Error)[] = []
  const run = async (from: number, to: number): Promise<void> => {
    try {
      (await call(values.slice(from, to), inner)).forEach((result, i) => { results[from + i] = result })
    } catch (error) {
      if (isOutage(error) || inner.signal.aborted) throw error
      if (to - from === 1) results[from] = error instanceof Error ? error : new Error(messageOf(error))
      else await Promise.all([run(from, (from + to) >> 1), run((from + to) >> 1, to)])
    }
  }
  try {
    await Promise.all(Array.from({ length: Math.ceil(values.length / size) }, (_, i) => run(i * size, Math.min((i + 1) * size, values.length))))
    return results
  } catch (error) {
    if (ctx.signal.aborted) throw aborted(ctx.signal)
    throw error
  } finally {
    ended.abort()
  }
}
