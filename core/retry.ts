/** How long to wait before something is tried again over the network. */

const firstDelayMs = 250
const longestDelayMs = 30_000

/** Exponential, with jitter, so that callers that failed together do not come again together. `attempt` counts from 1. */
export function backoffMs(attempt: number): number {
  return Math.min(firstDelayMs * 2 ** (attempt - 1), longestDelayMs) * (0.5 + Math.random())
}

/** What a `Retry-After` header asks for, in seconds or as a date; undefined where there is none, or none that is understood. */
export function retryAfterMs(header: string | null | undefined): number | undefined {
  if (header === null || header === undefined) return undefined
  const ms = /^\s*\d+(\.\d+)?\s*$/.test(header) ? Number(header) * 1000 : Date.parse(header) - Date.now()
  return Number.isNaN(ms) ? undefined : Math.max(0, ms)
}

/** A status that says nothing about what was asked: the same request may succeed later. */
export function isTransient(status: number): boolean {
  return status === 408 || status === 425 || status === 429 || status >= 500
}
