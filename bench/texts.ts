/** Short texts for the benches: the same ones in every run, three to ten words of the model's vocabulary. */
import { readFileSync } from 'node:fs'

const words = readFileSync(new URL('../examples/emoji/model/vocab.txt', import.meta.url), 'utf8').split('\n').filter((word) => /^[a-z]{3,}$/.test(word))

export function* texts(count: number, seed = 1): Generator<string> {
  let state = seed
  const random = (below: number): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
  for (let i = 0; i < count; i++) yield Array.from({ length: 3 + random(8) }, () => words[random(words.length)]!).join(' ')
}
