/** What went wrong, for a program to act on. Each is documented in docs/errors.md. */
export type ErrorCode = 'CONFIG_INVALID' | 'PLUGIN_NOT_FOUND' | 'PLUGIN_INCOMPATIBLE' | 'DRIVER_MISSING' | 'CLOSED' | 'UNSUPPORTED' | 'INVALID_ARGUMENT' | 'NOT_FOUND'
  | 'ALREADY_EXISTS' | 'CONFLICT' | 'ABORTED' | 'TIMEOUT' | 'UNAVAILABLE' | 'RESOURCE_EXHAUSTED' | 'CORRUPT' | 'INTERNAL'

/** What an `InlayError` carries besides its message. */
export interface ErrorOptions {
  /** The same call may succeed when repeated. Default `false`. */
  readonly retryable?: boolean
  /** Facts for a program: ids, indexes, numbers. Never a secret. */
  readonly details?: Readonly<Record<string, unknown>>
  readonly cause?: unknown
}

const brand = Symbol.for('inlay.error')

/** The one error class of Inlay. The message is a sentence: subject, offending value, what was expected, what to do next. */
export class InlayError extends Error {
  readonly code: ErrorCode
  readonly retryable: boolean
  readonly details: Readonly<Record<string, unknown>>

  constructor(code: ErrorCode, message: string, options: ErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'InlayError'
    this.code = code
    this.retryable = options.retryable ?? false
    this.details = options.details ?? {}
    Object.defineProperty(this, brand, { value: true })
  }

  /** True for an `InlayError` of any copy of the package. */
  static is(error: unknown): error is InlayError {
    return typeof error === 'object' && error !== null && brand in error
  }
}

/** A misspelt option would be silently without effect. */
export function checkOptions(options: object, known: readonly string[], of: string): void {
  const unknown = Object.keys(options).find((name) => !known.includes(name))
  if (unknown !== undefined) throw new InlayError('INVALID_ARGUMENT', `The option ${quote(unknown)} of ${of} is not known. Known: ${known.join(', ')}.`)
}

/** A value as it may stand in a message: quoted, cut to 80 characters, control characters escaped. */
export function quote(value: unknown): string {
  let text: string
  if (typeof value === 'string') text = JSON.stringify(value)
  else if (typeof value === 'bigint') text = `${value}n`
  else if (value instanceof Date) text = Number.isNaN(+value) ? 'Invalid Date' : value.toISOString()
  else if (ArrayBuffer.isView(value)) text = `${value.constructor.name}(${value.byteLength} bytes)`
  else if (typeof value === 'function') text = `function ${value.name || '(anonymous)'}`
  else if (typeof value === 'object' && value !== null) text = JSON.stringify(value, (_, v: unknown) => (typeof v === 'bigint' ? `${v}n` : v)) ?? String(value)
  else text = String(value)
  return text.length > 80 ? `${text.slice(0, 77)}...` : text
}

/** The text of anything thrown. */
export function messageOf(error: unknown): string {
  if (error instanceof Error) return error.message
  return typeof error === 'object' && error !== null ? quote(error) : String(error)
}
