/** Pictures of digits: those of MNIST, where their files are, else some that are drawn here. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { Image } from '../../plugins/pillow-sharp/index.ts'                               // in a project of yours: from 'inlay/pillow-sharp'
import { randoms } from './story.ts'

/** A picture of 28 x 28 and what it shows. */
export interface Digit { readonly img: Image; readonly class: number }
const side = 28

/** The first `count` digits of `t10k-images-idx3-ubyte` and `t10k-labels-idx1-ubyte` in the folder, each plain or with `.gz`. */
export function mnist(folder: string, count: number): readonly Digit[] {
  const read = (name: string): Uint8Array => (existsSync(join(folder, name)) ? readFileSync(join(folder, name)) : gunzipSync(readFileSync(join(folder, `${name}.gz`))))
  const pixels = read('t10k-images-idx3-ubyte').subarray(16), labels = read('t10k-labels-idx1-ubyte').subarray(8, 8 + count)
  return Array.from(labels, (label, i) => ({ img: picture(pixels.subarray(i * side * side, (i + 1) * side * side)), class: label }))
}

/** `count` digits of wobbly strokes, each another, in the same order in every run. */
export function drawn(count: number): readonly Digit[] {
  const random = randoms(0)
  return Array.from({ length: count }, () => {
    const digit = Math.floor(random() * 10)
    return { img: picture(draw(strokes[digit]!, random)), class: digit }
  })
}

function picture(pixels: Uint8Array): Image {
  return Image.fromPixels(new Uint8Array(pixels), { width: side, height: side, channels: 1 })
}

type Point = readonly [number, number]
/** Each digit as one line through points of the unit square, y downwards. */
const strokes: readonly (readonly Point[])[] = [
  Array.from({ length: 13 }, (_, i) => [0.5 + 0.23 * Math.sin(i * Math.PI / 6), 0.5 - 0.4 * Math.cos(i * Math.PI / 6)] as const),
  [[0.35, 0.28], [0.54, 0.1], [0.54, 0.9]],
  [[0.26, 0.3], [0.36, 0.13], [0.6, 0.11], [0.72, 0.28], [0.64, 0.46], [0.25, 0.88], [0.78, 0.88]],
  [[0.26, 0.14], [0.56, 0.1], [0.7, 0.27], [0.6, 0.44], [0.42, 0.48], [0.65, 0.53], [0.74, 0.72], [0.56, 0.9], [0.25, 0.86]],
  [[0.62, 0.9], [0.62, 0.1], [0.22, 0.62], [0.8, 0.62]],
  [[0.72, 0.1], [0.33, 0.1], [0.29, 0.45], [0.55, 0.4], [0.74, 0.62], [0.6, 0.87], [0.25, 0.86]],
  [[0.64, 0.1], [0.38, 0.35], [0.27, 0.65], [0.4, 0.88], [0.62, 0.86], [0.72, 0.68], [0.58, 0.52], [0.32, 0.62]],
  [[0.22, 0.12], [0.76, 0.12], [0.42, 0.9]],
  [[0.5, 0.47], [0.3, 0.3], [0.5, 0.1], [0.7, 0.3], [0.5, 0.47], [0.26, 0.7], [0.5, 0.9], [0.74, 0.7], [0.5, 0.47]],
  [[0.7, 0.4], [0.5, 0.5], [0.3, 0.34], [0.45, 0.12], [0.68, 0.2], [0.7, 0.4], [0.6, 0.9]],
]

/** A line as a hand draws it: turned, leaned, stretched, moved, its points a little off, thick or thin. */
function draw(line: readonly Point[], random: () => number): Uint8Array {
  const by = (most: number): number => (random() * 2 - 1) * most
  const turn = by(0.25), lean = by(0.2), wide = 0.85 + by(0.15), high = 0.9 + by(0.1), left = by(1.2), down = by(1.2), thick = 1.4 + by(0.5)
  const points = line.map(([x, y]): Point => {
    const u = (x - 0.5 + by(0.04)) * wide + (y - 0.5) * lean, v = (y - 0.5 + by(0.04)) * high
    return [side / 2 + left + 22 * (u * Math.cos(turn) - v * Math.sin(turn)), side / 2 + down + 22 * (u * Math.sin(turn) + v * Math.cos(turn))]
  })
  return Uint8Array.from({ length: side * side }, (_, i) => {
    const at: Point = [i % side + 0.5, Math.floor(i / side) + 0.5]
    const away = Math.min(...points.slice(1).map((end, k) => distance(at, points[k]!, end)))
    return Math.round(255 * Math.min(1, Math.max(0, thick + 0.5 - away)))
  })
}
/** From a point to the nearest of a line from `a` to `b`. */
function distance([x, y]: Point, [ax, ay]: Point, [bx, by]: Point): number {
  const dx = bx - ax, dy = by - ay, t = Math.min(1, Math.max(0, ((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy)))
  return Math.hypot(x - ax - t * dx, y - ay - t * dy)
}
