/** What is asked of a picture: size, part, alpha and colours. */
import { checkOptions, InlayError, quote } from '../../core/errors.ts'
import type { Fitting } from './decode.ts'
import { limits } from './driver.ts'
import type { Colour } from './planes.ts'

/** The new size of a picture. */
export interface Resize {
  /** Without one of both, the ratio decides. */
  readonly width?: number
  readonly height?: number
  /** `cover` (default) cuts off what is too long, `contain` fills up with `background`, `fill` ignores the ratio, `inside` and `outside` keep all of it, at most and at least this large. */
  readonly fit?: Fitting['fit']
  /** Default `linear`, as Pillow and torchvision call it: bilinear. */
  readonly kernel?: Fitting['kernel']
  /** `#rrggbb`; default black. */
  readonly background?: `#${string}`
}
/** A part of a picture, in its middle unless its corner is given. */
export interface Crop { readonly width: number; readonly height: number; readonly left?: number; readonly top?: number }
/** From a picture to pixels, in this order: upright by EXIF, alpha, resize, crop, colour. */
export interface PictureOptions {
  /** A number is the length of the shorter side. */
  readonly resize?: number | Resize
  readonly crop?: Crop
  /** `#rrggbb` to lay the picture over, or `drop`, which shows what transparent pixels hide. Default: white where `colour` leaves alpha no place. */
  readonly alpha?: 'drop' | `#${string}`
  /** Default: as the picture is. `grey` is Pillow's: 0.299 R + 0.587 G + 0.114 B. */
  readonly colour?: Colour
}
export const pictureOptions: readonly string[] = ['resize', 'crop', 'alpha', 'colour']
export const white = '#ffffff'

/** The options with defaults, checked. */
export function parsed({ resize, crop, alpha, colour }: PictureOptions, of: string): { readonly resize?: Fitting; readonly crop?: Crop; readonly alpha?: 'drop' | `#${string}`; readonly colour?: Colour } {
  const check = (fits: boolean, name: string, value: unknown, expected: string): void => {
    if (!fits) throw new InlayError('INVALID_ARGUMENT', `The option ${quote(name)} of ${of} was given ${quote(value)}; ${expected} is expected.`)
  }
  const whole = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) > 0
  if (resize !== undefined && typeof resize === 'object') checkOptions(resize, ['width', 'height', 'fit', 'kernel', 'background'], `resize of ${of}`)
  if (crop !== undefined) checkOptions(crop, ['width', 'height', 'left', 'top'], `crop of ${of}`)
  const fitting: Fitting | undefined = resize === undefined ? undefined : typeof resize === 'number' ? { width: resize, height: resize, ...defaults, fit: 'outside' } : { ...defaults, ...resize }
  if (fitting !== undefined) {
    const { width, height, fit, kernel, background } = fitting
    check((width !== undefined || height !== undefined) && (width === undefined || whole(width)) && (height === undefined || whole(height)), 'resize', resize, 'a positive width or height, or the length of the shorter side,')
    check((width ?? 1) * (height ?? 1) <= limits().pixels, 'resize', resize, `at most ${limits().pixels} pixels (limits({ pixels }))`)
    check(fits.includes(fit), 'resize.fit', fit, `one of ${fits.join(', ')}`)
    check(kernels.includes(kernel), 'resize.kernel', kernel, `one of ${kernels.join(', ')}`)
    check(hex.test(background), 'resize.background', background, 'a colour like "#1e90ff"')
  }
  if (crop !== undefined) check(whole(crop.width) && whole(crop.height) && [crop.left ?? 0, crop.top ?? 0].every((at) => Number.isSafeInteger(at) && at >= 0), 'crop', crop, 'a positive width and height, and perhaps a left and top of at least 0,')
  if (alpha !== undefined) check(alpha === 'drop' || hex.test(alpha), 'alpha', alpha, '"drop" or a colour like "#1e90ff"')
  if (colour !== undefined) check(colours.includes(colour), 'colour', colour, `one of ${colours.join(', ')}`)
  return { ...(fitting === undefined ? {} : { resize: fitting }), ...(crop === undefined ? {} : { crop }), ...(alpha === undefined ? {} : { alpha }), ...(colour === undefined ? {} : { colour }) }
}
const defaults = { fit: 'cover', kernel: 'linear', background: '#000000' } as const
const fits: readonly string[] = ['cover', 'contain', 'fill', 'inside', 'outside'], kernels: readonly string[] = ['nearest', 'linear', 'cubic', 'lanczos3'], colours: readonly string[] = ['rgb', 'bgr', 'rgba', 'grey']
const hex = /^#[0-9a-f]{6}$/i
