/** Pictures to tensors, as a named step. */
import { setImmediate as breathe } from 'node:timers/promises'
import type { Ctx, Tensor } from '../../core/contract.ts'
import { checkOptions, InlayError, messageOf, quote } from '../../core/errors.ts'
import { isOutage } from '../../core/reconcile.ts'
import { step, type Step } from '../../core/step.ts'
import { decoded, nameOf, type Geometry } from './decode.ts'
import { Image, pictureOf } from './image.ts'
import type { Pixels } from './npy.ts'
import { parsed, pictureOptions, white, type PictureOptions } from './options.ts'
import { elements, isElementType, tableOf, windowOf, writePlanes, type Colour, type Elements, type ElementType, type Recipe } from './planes.ts'

/** From a picture to a tensor, in this order: upright by EXIF, alpha, resize, crop, colour, `(value * scale - mean) / std`, layout. */
export interface PixelsOptions extends PictureOptions {
  /** Channels of the tensor. Default `rgb`. */
  readonly colour?: Exclude<Colour, 'rgba'>
  /** What the values 0 to 255 are multiplied with. Default 1/255 for floats and 1 for whole numbers, which are rounded and cut to their range. */
  readonly scale?: number
  /** One number, or one for each channel of the tensor, in its order. Default 0. */
  readonly mean?: number | readonly number[]
  /** Default 1. */
  readonly std?: number | readonly number[]
  /** Channels first (default), as torch exports, or last. Either way there are three dimensions. */
  readonly layout?: 'chw' | 'hwc'
  /** Default `float32`. */
  readonly type?: ElementType
}

/**
 * A step from an `Image` to a tensor `[channels, height, width]`. sharp decodes and resizes in one go, which for JPEG and WebP includes its shrink-on-load. Where several listeners read a picture it is decoded
 * once for all sizes that need no shrink-on-load, and once for each other. One more pass does everything else, straight into the memory of the batch where all
 * pictures get the same shape. A picture that fails fails alone. The digest of the step covers the options.
 */
export function pixels(nameAtVersion: `${string}@${number}`, options: PixelsOptions = {}): Step<Image, Tensor> {
  const of = `the step ${quote(nameAtVersion)}`
  checkOptions(options, [...pictureOptions, 'scale', 'mean', 'std', 'layout', 'type'], of)
  const { type = 'float32', layout = 'chw' } = options, { resize, crop, alpha = white, colour = 'rgb' } = parsed(options, of)
  if (!isElementType(type)) throw new InlayError('INVALID_ARGUMENT', `The option "type" of ${of} was given ${quote(type)}; float32, float64, float16, uint8, int8 or int32 is expected.`)
  if (layout !== 'chw' && layout !== 'hwc') throw new InlayError('INVALID_ARGUMENT', `The option "layout" of ${of} was given ${quote(layout)}; chw or hwc is expected.`)
  if (options.colour as Colour | undefined === 'rgba') throw new InlayError('INVALID_ARGUMENT', `The option "colour" of ${of} was given "rgba"; rgb, bgr or grey is expected.`)
  const channels = colour === 'grey' ? 1 : 3, scale = options.scale ?? (type.startsWith('float') ? 1 / 255 : 1), perChannel = (name: 'mean' | 'std', normal: number): readonly number[] => {
    const given = options[name] ?? normal, list = typeof given === 'number' ? Array<number>(channels).fill(given) : given
    if (!Array.isArray(list) || list.length !== channels || !list.every((n) => Number.isFinite(n) && (name === 'mean' || n !== 0))) {
      throw new InlayError('INVALID_ARGUMENT', `The option ${quote(name)} of ${of} was given ${quote(given)}; a number or ${channels} of them are expected${name === 'std' ? ', none of them 0' : ''}.`)
    }
    return list
  }
  if (!Number.isFinite(scale)) throw new InlayError('INVALID_ARGUMENT', `The option "scale" of ${of} was given ${quote(scale)}; a number is expected.`)
  const mean = perChannel('mean', 0), std = perChannel('std', 1)
  const recipe: Recipe = { colour, planes: layout === 'chw', tables: mean.map((m, c) => tableOf(type, scale, m, std[c]!)) }
  const geometry: Geometry = { ...(resize === undefined ? {} : { resize }), alpha }

  /** Known before anything is decoded, or undefined. */
  const sizeOf = (image: Image): string | undefined => {
    const size = crop ?? (resize === undefined ? pictureOf(image).raw : resize.fit === 'inside' || resize.fit === 'outside' ? undefined : resize)
    return size?.width === undefined || size.height === undefined ? undefined : `${size.width} ${size.height}`
  }
  const run = async (images: readonly Image[], { signal }: Ctx): Promise<readonly (Tensor | Error)[]> => {
    for (const image of images) {
      if (!(image instanceof Image)) throw new InlayError('INVALID_ARGUMENT', `${of[0]!.toUpperCase()}${of.slice(1)} was given ${quote(image)}; an Image is expected: Image.from(bytes), Image.open(path).`)
    }
    const results = Array<Tensor | Error>(images.length), sizes = new Set(images.map(sizeOf)), known = sizes.size === 1 && !sizes.has(undefined)
    let together: Elements | undefined, written = 0
    const write = async (i: number, pixels: Pixels): Promise<void> => {
      const window = windowOf(pixels, crop, nameOf(pictureOf(images[i]!))), { width, height } = window, size = channels * width * height
      if (known) together ??= elements(type, images.length * size)
      const data = together?.subarray(i * size, (i + 1) * size) ?? elements(type, size)
      // Line by line where it is much, so that others have their turn.
      const lines = Math.max(1, Math.ceil(elementsAtOnce / (width * channels)))
      for (let from = 0; from < height; from += lines) {
        if (from > 0) await breathe()
        writePlanes(pixels, window, recipe, data, 0, [from, Math.min(height, from + lines)])
      }
      results[i] = { type, dims: layout === 'chw' ? [channels, height, width] : [height, width, channels], data }
      written += size
    }
    const fail = (i: number, error: unknown): void => { results[i] = error instanceof Error ? error : new Error(messageOf(error)) }
    const pending: Promise<void>[] = []
    for (let i = 0; i < images.length; i++) {
      try {
        const got = decoded(pictureOf(images[i]!), geometry, signal)
        if (got instanceof Promise) pending.push(got.then((pixels) => write(i, pixels)).catch((error: unknown) => fail(i, error)))
        else pending.push(write(i, got).catch((error: unknown) => fail(i, error)))
      } catch (error) {
        fail(i, error)
      }
      if (written < elementsAtOnce) continue
      written = 0
      await breathe()
    }
    await Promise.all(pending)
    const outage = results.find(isOutage)
    if (outage !== undefined) throw outage
    return results
  }
  const one = async (image: Image, ctx: Ctx): Promise<Tensor> => {
    const [result] = await run([image], ctx)
    if (result instanceof Error) throw result
    return result!
  }
  return step(nameAtVersion, one, { batch: (images, ctx) => run(images, ctx), fresh: true, data: JSON.stringify([geometry, crop, colour, scale, mean, std, layout, type]) })
}

/** About a millisecond of work. */
const elementsAtOnce = 500_000
