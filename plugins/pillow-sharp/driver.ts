/** sharp, loaded when the first picture is decoded, and what the process allows it. */
import { channel, type Channel } from 'node:diagnostics_channel'
import { availableParallelism } from 'node:os'
import type { SharpConstructor } from 'sharp'
import { checkOptions, InlayError, messageOf, quote } from '../../core/errors.ts'
import { Turns } from '../../core/turns.ts'

/** What pictures may cost this process. */
export interface Limits {
  /** Most pixels of a picture, and of what it is resized to. Default 64,000,000. */
  readonly pixels?: number
  /** Most bytes of decoded pictures that are kept because several listeners read them. Default 256 MiB. */
  readonly keptBytes?: number
}
const current = { pixels: 64_000_000, keptBytes: 256 * 1024 * 1024 }

/** Changes the limits of this process, and returns those that hold. */
export function limits(changed: Limits = {}): Readonly<Required<Limits>> {
  checkOptions(changed, Object.keys(current), 'limits')
  for (const [name, value] of Object.entries(changed)) {
    if (!Number.isSafeInteger(value) || value < 0) throw new InlayError('INVALID_ARGUMENT', `The limit ${quote(name)} was given ${quote(value)}; a whole number is expected.`)
  }
  return Object.freeze({ ...Object.assign(current, changed) })
}

/** `node:diagnostics_channel`: told each time that the bytes of a picture are decoded, with its format. */
export const decodes: Channel = channel('inlay.image.decode')

let loading: Promise<SharpConstructor> | undefined
export function driver(): Promise<SharpConstructor> {
  return loading ??= import('sharp').then(({ default: sharp }) => {
    sharp.concurrency(1)                               // pictures side by side are faster than threads within one
    return sharp
  }, (error: unknown) => {
    loading = undefined
    throw new InlayError('DRIVER_MISSING', `Pictures need the package "sharp", which cannot be loaded: ${messageOf(error).split('\n')[0]}. Run: npm install sharp`, { cause: error })
  })
}

/** More at once than threads that do the work would only hold more memory. */
const turns = new Turns(Math.max(1, Math.min(2 * availableParallelism(), Number(process.env['UV_THREADPOOL_SIZE'] ?? 4) || 4)))
const never = new AbortController().signal

/** Waits for its turn among the pictures in work. */
export function inTurn<T>(work: () => Promise<T>, signal: AbortSignal = never): Promise<T> {
  return turns.run({ signal }, work)
}
