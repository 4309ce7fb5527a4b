/** Encoders of pictures and of texts into one space: a pair of graphs such as CLIP's, where one is given, else one of colours, which needs no weights. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { model, step, type ModelSpec, type Tensor } from '../../index.ts'                                  // in a project of yours: from 'inlay'
import { pixels, type Image } from '../../plugins/pillow-sharp/index.ts'                                   // and from 'inlay/pillow-sharp'

/** Two models whose vectors can be compared, and texts to try them with. */
export interface Encoders { readonly image: ModelSpec<Image, Float32Array>; readonly text: ModelSpec<string, Float32Array>; readonly examples: readonly string[] }

/**
 * A pair of graphs in a folder: `image_encoder.onnx` and `text_encoder.onnx`, and `config.json` with `{ dim, vocab }`, the number of each word. For a CLIP of your own change the two steps:
 * they are all that differs.
 */
export function graphs(folder: string): Encoders {
  const config = readFileSync(join(folder, 'config.json'), 'utf8'), { dim, vocab } = JSON.parse(config) as { readonly dim: number; readonly vocab: Readonly<Record<string, number>> }
  const row = (numbers: readonly number[]): Tensor => ({ type: 'int64', dims: [numbers.length], data: BigInt64Array.from(numbers, BigInt) })
  const tokens = (text: string): readonly number[] => text.toLowerCase().split(/[^a-z0-9]+/).filter((word) => word !== '').slice(0, 16).map((word) => vocab[word] ?? vocab['[UNK]']!)
  return {
    image: model('clip_image', { onnx: join(folder, 'image_encoder.onnx'), input: pixels('clip-pixels@1', { resize: { width: 128, height: 128, fit: 'fill', kernel: 'cubic' } }), shape: [dim] }),
    text: model('clip_text', {
      onnx: join(folder, 'text_encoder.onnx'), shape: [dim],
      input: step('clip-words@1', (text: string) => { const numbers = tokens(text); return { input_ids: row(numbers), attention_mask: row(numbers.map(() => 1)) } }, { data: config }),
    }),
    examples: ['mushroom', 'a photo of a go-kart', 'pizza', 'goldfish', 'school bus'],
  }
}

const colours = ['black', 'grey', 'white', 'red', 'orange', 'brown', 'yellow', 'green', 'cyan', 'blue', 'purple', 'pink'] as const
type Colour = (typeof colours)[number]

/** A vector of twelve colours: of a picture, how much of it has each; of a text, those that its words name. It knows no shapes, and no other words: a green apple is green. */
export function colourEncoders(): Encoders {
  return {
    image: model('colours_of_picture', { shape: [12], run: step('colours-of-picture@1', (images: readonly Image[]) => Promise.all(images.map(coloursOf))) }),
    text: model('colours_of_words', { shape: [12], run: step('colours-of-words@1', (texts: readonly string[]) => texts.map(coloursIn)) }),
    examples: ['red', 'green apple', 'blue and white', 'yellow', 'pink and purple'],
  }
}

async function coloursOf(image: Image): Promise<Float32Array> {
  const { data, channels } = await image.pixels({ resize: { width: 32, height: 32, fit: 'fill' }, colour: 'rgba' }), shares = new Float32Array(colours.length)
  for (let i = 0; i < data.length; i += channels) if (data[i + 3]! > 127) shares[colours.indexOf(nameOf(data[i]! / 255, data[i + 1]! / 255, data[i + 2]! / 255))]! += 1
  return shares
}

function nameOf(r: number, g: number, b: number): Colour {
  const most = Math.max(r, g, b), least = Math.min(r, g, b), spread = most - least, strength = spread / most
  if (most < 0.2) return 'black'
  if (strength < 0.15) return most < 0.85 ? 'grey' : 'white'
  const hue = 60 * (most === r ? ((g - b) / spread + 6) % 6 : most === g ? (b - r) / spread + 2 : (r - g) / spread + 4)
  if (hue < 12 || hue >= 330) return strength > 0.6 && most > 0.5 ? 'red' : most > 0.7 ? 'pink' : 'brown'
  if (hue < 45) return most < 0.65 || strength < 0.5 ? 'brown' : 'orange'
  if (hue < 68) return 'yellow'
  if (hue < 165) return 'green'
  if (hue < 200) return 'cyan'
  if (hue < 255) return 'blue'
  return hue < 295 ? 'purple' : 'pink'
}

function coloursIn(text: string): Float32Array {
  const vector = new Float32Array(colours.length), words = text.toLowerCase().split(/[^a-z]+/)
  colours.forEach((colour, i) => { if (words.includes(colour)) vector[i] = 1 })
  if (!vector.some((value) => value > 0)) throw new Error(`there is no colour in ${JSON.stringify(text)}; known are ${colours.join(', ')}`)
  return vector
}
