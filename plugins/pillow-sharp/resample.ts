/** Resizing of small decoded pictures without a call of sharp, which costs more than they do. */
import type { Pixels } from './npy.ts'

/** How a pixel is made of its neighbours: nearest neighbour, bilinear, bicubic (Catmull-Rom) or Lanczos with three lobes, each widened to what it covers when a picture shrinks. */
export type Kernel = 'nearest' | 'linear' | 'cubic' | 'lanczos3'

const sinc = (x: number): number => (x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI))
const filters: Readonly<Record<Exclude<Kernel, 'nearest'>, { readonly reach: number; at(distance: number): number }>> = {
  linear: { reach: 1, at: (x) => 1 - x },
  cubic: { reach: 2, at: (x) => (x < 1 ? (1.5 * x - 2.5) * x * x + 1 : ((-0.5 * x + 2.5) * x - 4) * x + 2) },
  lanczos3: { reach: 3, at: (x) => sinc(x) * sinc(x / 3) },
}

/** For each new position the old ones that it is made of, and their shares. */
interface Tap { readonly from: number; readonly shares: readonly number[] }
function tapsOf(before: number, after: number, kernel: Kernel): readonly Tap[] {
  const scale = before / after, wide = Math.max(scale, 1)
  return Array.from({ length: after }, (_, i) => {
    const centre = (i + 0.5) * scale
    if (kernel === 'nearest') return { from: Math.floor(centre), shares: [1] }
    const { reach, at } = filters[kernel]
    const from = Math.max(0, Math.trunc(centre - reach * wide + 0.5)), to = Math.min(before, Math.trunc(centre + reach * wide + 0.5))
    const shares = Array.from({ length: to - from }, (_, j) => { const x = Math.abs(from + j + 0.5 - centre) / wide; return x < reach ? at(x) : 0 })
    const sum = shares.reduce((a, b) => a + b, 0)
    return { from, shares: shares.map((share) => share / sum) }
  })
}
/** Pictures that need no sharp are mostly of one size. */
let last: { readonly of: string; readonly across: readonly Tap[]; readonly down: readonly Tap[] } | undefined

/** Across, then down, each rounded to 8 bits: what Pillow's `Image.resize` gives, within one level. sharp's differs by up to half a pixel where a picture grows, whose middle Pillow keeps. */
export function resample({ data, width, height, channels }: Pixels, newWidth: number, newHeight: number, kernel: Kernel): Pixels {
  const of = `${width} ${height} ${newWidth} ${newHeight} ${kernel}`
  if (last?.of !== of) last = { of, across: tapsOf(width, newWidth, kernel), down: tapsOf(height, newHeight, kernel) }
  const wide = new Uint8ClampedArray(newWidth * height * channels), done = new Uint8ClampedArray(newWidth * newHeight * channels)
  blend(data, wide, last.across, { lines: height, lineStep: width * channels, step: channels, outLineStep: newWidth * channels, outStep: channels, width: channels })
  blend(wide, done, last.down, { lines: 1, lineStep: 0, step: newWidth * channels, outLineStep: 0, outStep: newWidth * channels, width: newWidth * channels })
  return { data: new Uint8Array(done.buffer), width: newWidth, height: newHeight, channels }
}

interface Strides { readonly lines: number; readonly lineStep: number; readonly step: number; readonly outLineStep: number; readonly outStep: number; readonly width: number }
function blend(from: ArrayLike<number>, to: Uint8ClampedArray, taps: readonly Tap[], { lines, lineStep, step, outLineStep, outStep, width }: Strides): void {
  for (let line = 0; line < lines; line++) {
    for (let i = 0; i < taps.length; i++) {
      const { from: first, shares } = taps[i]!, at = line * lineStep + first * step, out = line * outLineStep + i * outStep
      for (let x = 0; x < width; x++) {
        let sum = 0.5
        for (let j = 0; j < shares.length; j++) sum += from[at + j * step + x]! * shares[j]!
        to[out + x] = Math.floor(sum)
      }
    }
  }
}
