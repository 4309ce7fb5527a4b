/** What errors of the driver mean: by SQLSTATE, or by the code of the network. */
import type { ErrorCode } from '../../core/errors.ts'

/** `[prefix of the code, what it is, retryable]`; the first that fits holds. */
const table: readonly (readonly [string, ErrorCode, boolean])[] = [
  ['40001', 'CONFLICT', true], ['40P01', 'CONFLICT', true], ['55P03', 'CONFLICT', true],     // serialization failure, deadlock, lock not available: rolled back
  ['57014', 'ABORTED', false],                                                               // query canceled
  ['57P', 'UNAVAILABLE', true], ['08', 'UNAVAILABLE', true], ['53300', 'UNAVAILABLE', true], // shutdown, connection, too many connections
  ['53', 'RESOURCE_EXHAUSTED', false], ['54', 'RESOURCE_EXHAUSTED', false],
  ['28', 'CONFIG_INVALID', false], ['3D000', 'CONFIG_INVALID', false], ['42501', 'CONFIG_INVALID', false],  // credentials, no such database, no right
  ['42P01', 'NOT_FOUND', false], ['3F000', 'NOT_FOUND', false],                              // undefined table, no such schema
  ['22', 'INVALID_ARGUMENT', false], ['23', 'CONFLICT', false], ['0A', 'UNSUPPORTED', false], ['XX001', 'CORRUPT', false], ['XX002', 'CORRUPT', false],
  ['ERR_INVALID_URL', 'CONFIG_INVALID', false],
  ['ECONN', 'UNAVAILABLE', true], ['EPIPE', 'UNAVAILABLE', true], ['ETIMEDOUT', 'UNAVAILABLE', true], ['EHOSTUNREACH', 'UNAVAILABLE', true], ['ENOTFOUND', 'UNAVAILABLE', false], ['EAI_AGAIN', 'UNAVAILABLE', true],
]

export function classify(error: unknown): { readonly code: ErrorCode; readonly retryable: boolean } | undefined {
  const { code, message } = error as { readonly code?: unknown; readonly message?: unknown }
  if (typeof code === 'string') {
    const found = table.find(([prefix]) => code.startsWith(prefix))
    if (found !== undefined) return { code: found[1], retryable: found[2] }
  }
  // The driver gives these without a code.
  return /connection terminated|connection ended|timeout exceeded|timeout expired|client was closed|client has encountered a connection error|PGlite is clos/i.test(String(message)) ? { code: 'UNAVAILABLE', retryable: true } : undefined
}
