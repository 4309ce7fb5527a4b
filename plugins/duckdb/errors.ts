/** What errors of DuckDB mean. They have no code, only a message that begins with the kind of error. */
import type { ErrorCode } from '../../core/errors.ts'

/** `[beginning of the message, what it is, retryable]`; the first that fits holds. */
const table: readonly (readonly [RegExp, ErrorCode, boolean])[] = [
  [/^TransactionContext Error: (Conflict|Failed to commit: (write-write conflict|Constraint Error|PRIMARY KEY))/, 'CONFLICT', true],   // another program in this process wrote the row
  [/^Transaction(Context)? Error: .*conflict/i, 'CONFLICT', true],
  [/^INTERRUPT Error/i, 'ABORTED', false],
  [/^Out of Memory Error/i, 'RESOURCE_EXHAUSTED', false],
  [/^IO Error: .*(No space left|disk quota)/is, 'RESOURCE_EXHAUSTED', false],
  [/^IO Error: Could not set lock/, 'UNAVAILABLE', false],
  [/^IO Error: (No files found|.*No such file)/s, 'NOT_FOUND', false],
  [/^IO Error: .*(not a valid DuckDB database file|Permission denied|Is a directory)/is, 'CONFIG_INVALID', false],
  [/^Serialization Error|^IO Error: .*(checksum|corrupt)/is, 'CORRUPT', false],
  [/^IO Error/, 'UNAVAILABLE', false],
  [/^Catalog Error: (Table|View|Schema|Type) with name .* does not exist/, 'NOT_FOUND', false],
  [/^Constraint Error/, 'CONFLICT', false],
  [/^(Conversion|Invalid Input|Out of Range|Invalid unicode|Mismatch Type|Invalid type) Error/i, 'INVALID_ARGUMENT', false],
  [/^(Not implemented|Missing Extension|HTTP|Permission|Dependency) Error/i, 'UNSUPPORTED', false],
  [/^(FATAL|INTERNAL) Error/, 'INTERNAL', false],
]

export function classify(error: unknown): { readonly code: ErrorCode; readonly retryable: boolean } | undefined {
  const message = String((error as { readonly message?: unknown } | null | undefined)?.message), found = table.find(([prefix]) => prefix.test(message))
  return found === undefined ? undefined : { code: found[1], retryable: found[2] }
}

/** True for a value that the database will not hold, as opposed to a call that it cannot do. */
export function isDataFault(error: unknown): boolean {
  return /^(Conversion|Invalid Input|Out of Range|Constraint|Mismatch Type) Error/i.test(String((error as { readonly message?: unknown } | null)?.message))
}
/** True where a row of that key is there. */
export function isTaken(error: unknown): boolean {
  return /^Constraint Error: .*(PRIMARY KEY|UNIQUE|Duplicate key)/is.test(String((error as { readonly message?: unknown } | null)?.message))
}
/** True where a statement names a column that is not there, or has another type by now. */
export function isAltered(error: unknown): boolean {
  return String((error as { readonly message?: unknown } | null)?.message).startsWith('Binder Error')
}
