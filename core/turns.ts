/** Lets so many work at once, and the others wait in the order in which they came. */
import type { Ctx } from './contract.ts'
import { aborted, race } from './guard.ts'

export class Turns {
  readonly #most: number
  readonly #waiting = new Set<() => void>()
  #running = 0
  constructor(most: number) { this.#most = most }

  /** Runs `work` when it is its turn; who waits leaves on abort. */
  async run<T>(ctx: Ctx, work: () => Promise<T>): Promise<T> {
    await this.#take(ctx)
    try {
      if (ctx.signal.aborted) throw aborted(ctx.signal)
      return await work()
    } finally {
      this.#give()
    }
  }

  async #take(ctx: Ctx): Promise<void> {
    if (this.#running < this.#most) {
      this.#running++
      return
    }
    const turn = Promise.withResolvers<void>()
    this.#waiting.add(turn.resolve)
    try {
      await race(turn.promise, ctx)
    } catch (error) {
      if (!this.#waiting.delete(turn.resolve)) this.#give()                // its turn came together with the abort
      throw error
    }
  }

  #give(): void {
    const [next] = this.#waiting
    if (next === undefined) {
      this.#running--
      return
    }
    this.#waiting.delete(next)
    next()
  }
}
