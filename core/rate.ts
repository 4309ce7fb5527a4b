/** Progress reports, with the rate since the start. */
import type { Progress } from './api.ts'

export class Rate {
  readonly #started = performance.now()
  readonly #report: ((progress: Progress) => void) | undefined

  constructor(report: ((progress: Progress) => void) | undefined) { this.#report = report }

  report(done: number, total: number | undefined, failed: number): void {
    const seconds = (performance.now() - this.#started) / 1000
    this.#report?.({ done, total, failed, perSecond: seconds > 0 ? done / seconds : 0 })
  }
}
