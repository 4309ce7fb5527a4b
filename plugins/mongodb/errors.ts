/** What errors of the driver mean: by code of the server, by name and label of the driver. */
import type { ErrorCode } from '../../core/errors.ts'

type Meaning = readonly [code: ErrorCode, retryable: boolean]

/** Codes of the server; see https://www.mongodb.com/docs/manual/reference/error-codes. */
const codes: ReadonlyMap<number, Meaning> = new Map<number, Meaning>([
  ...[112, 24, 46].map((c) => [c, ['CONFLICT', true]] as [number, Meaning]),                                                 // write conflict, lock timeout, lock busy: nothing was done
  ...[6, 7, 89, 91, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436, 64, 133, 175, 43, 246, 136].map((c) => [c, ['UNAVAILABLE', true]] as [number, Meaning]),
  ...[13, 18, 8000].map((c) => [c, ['CONFIG_INVALID', false]] as [number, Meaning]),                                          // no right, wrong password
  [11601, ['ABORTED', false]], [50, ['TIMEOUT', false]], [26, ['NOT_FOUND', false]], [11000, ['CONFLICT', false]], [85, ['CONFLICT', false]], [86, ['CONFLICT', false]],
  ...[14031, 39, 146, 292, 16945].map((c) => [c, ['RESOURCE_EXHAUSTED', false]] as [number, Meaning]),
  ...[20, 59, 67, 115, 166, 40324, 40573, 73].map((c) => [c, ['UNSUPPORTED', false]] as [number, Meaning]),
  ...[2, 9, 14, 52, 56, 121, 10334, 17419, 17420].map((c) => [c, ['INVALID_ARGUMENT', false]] as [number, Meaning]),
])
const names: readonly (readonly [RegExp, Meaning])[] = [
  [/^Mongo(Network|ServerSelection|PoolCleared|WaitQueueTimeout|ConnectionPool|NotConnected|TopologyClosed|ServerClosed|Operation)/, ['UNAVAILABLE', true]],
  [/^Mongo(ClientClosed|PoolClosed)/, ['CLOSED', false]],
  [/^Mongo(Parse|MissingCredentials|MissingDependency|AWS|OIDC)/, ['CONFIG_INVALID', false]],
]

/** An error of the server's planner whose text has the whole query in it, and values with it, as one that says what is wrong only. */
export function withoutPlan(error: unknown): unknown {
  const { message, code, name } = error as { readonly message?: unknown; readonly code?: unknown; readonly name?: unknown }, at = typeof message === 'string' && message.startsWith('error processing query') ? message.indexOf('planner returned error') : undefined
  return at === undefined ? error : Object.assign(new Error(at < 0 ? 'the query cannot be planned' : (message as string).slice(at).replace(/^planner returned error[^:]*:+\s*/, 'the query cannot be planned: '), { cause: error }), { code, name })
}

export function classify(error: unknown): { readonly code: ErrorCode; readonly retryable: boolean } | undefined {
  const { name, code, cause, errorLabels, message } = error as { readonly name?: unknown; readonly code?: unknown; readonly cause?: unknown; readonly errorLabels?: unknown; readonly message?: unknown }
  const known = (typeof code === 'number' ? codes.get(code) : undefined) ?? names.find(([pattern]) => pattern.test(String(name)))?.[1]
  if (known !== undefined) return { code: known[0], retryable: known[1] }
  const labels = Array.isArray(errorLabels) ? errorLabels as readonly unknown[] : []
  if (labels.some((label) => label === 'RetryableWriteError' || label === 'TransientTransactionError' || label === 'ResetPool')) return { code: 'UNAVAILABLE', retryable: true }
  // A bulk write wraps what the network did to it, and keeps neither its name nor its code.
  if (name === 'MongoBulkWriteError' && /connection .* closed|ECONN|EPIPE|ETIMEDOUT|socket|timed out|server selection/i.test(String(message))) return { code: 'UNAVAILABLE', retryable: true }
  if (/^(Invalid scheme|mongodb\+srv|URI )/.test(String(message))) return { code: 'CONFIG_INVALID', retryable: false }
  return cause === undefined || cause === null ? undefined : classify(cause)
}
