import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { describe, expect, it } from 'vitest'
import type { Tensor } from '../../core/contract.ts'
import { runGraph } from '../../core/graph.ts'
import { runStep } from '../../core/step.ts'
import { OnnxExecutor } from '../../plugins/torch-onnx/executor.ts'
import { wordPiece } from '../../plugins/torch-onnx/index.ts'
import { noSharedData, sharedData } from '../support/shared-data.ts'

const vocab = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', 'play', '##ing', '##s', 'cafe', ',', 'Cafe']
const ids = (tensors: Record<string, Tensor> | Error, name = 'input_ids'): readonly number[] => Array.from((tensors as Record<string, Tensor>)[name]!.data as BigInt64Array, Number)

describe('wordPiece', () => {
  it('reproduces the ids of the reference tokenizer', async ({ skip }) => {
    const golden = sharedData('tokenizers/golden.json') ?? skip(noSharedData('tokenizers/golden.json')), file = join(golden, '../bert-base-uncased-vocab.txt')
    const cases = JSON.parse(readFileSync(golden, 'utf8')) as readonly { readonly text: string; readonly bert: readonly number[] }[]
    const tokenize = wordPiece('bert@1', { vocab: file })
    for (const { text, bert } of cases) expect([text, ids(await tokenize.run(text))]).toEqual([text, bert])
    const batch = await runStep(tokenize, cases.map(({ text }) => text)), longest = Math.max(...cases.map(({ bert }) => bert.length))
    batch.forEach((tensors, i) => {
      const { bert } = cases[i]!, padding = Array(longest - bert.length).fill(0)
      expect(ids(tensors)).toEqual([...bert, ...padding])
      expect(ids(tensors, 'attention_mask')).toEqual([...bert.map(() => 1), ...padding])
    })
    expect(cases.length).toBe(24)
  })

  it('splits words into pieces, longest first, and pads to the longest text of a batch', async () => {
    const [two, none, unknown] = await runStep(wordPiece('words@1', { vocab, typeIds: true }), ['Plays, playing', '', 'Café zebra'])
    expect(two).toEqual(Object.fromEntries([['input_ids', [2, 4, 6, 8, 4, 5, 3]], ['attention_mask', [1, 1, 1, 1, 1, 1, 1]], ['token_type_ids', [0, 0, 0, 0, 0, 0, 0]]]
      .map(([name, list]) => [name, { type: 'int64', dims: [7], data: BigInt64Array.from(list as number[], BigInt) }])))
    expect([ids(none!), ids(none!, 'attention_mask')]).toEqual([[2, 3, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0, 0]])
    expect(ids(unknown!)).toEqual([2, 7, 1, 3, 0, 0, 0])
  })

  it('cuts long texts before the last [SEP], and keeps case where it is told to', async () => {
    expect(ids(await wordPiece('words@1', { vocab, maxTokens: 4 }).run('play play play'))).toEqual([2, 4, 4, 3])
    expect(ids(await wordPiece('words@1', { vocab, maxTokens: 5 }).run('play play play'))).toEqual([2, 4, 4, 4, 3])
    expect(ids(await wordPiece('words@1', { vocab, lowerCase: false }).run('Cafe cafe Play'))).toEqual([2, 9, 7, 1, 3])
  })

  it('has a digest over the vocabulary and the options', () => {
    const digests = [{ vocab }, { vocab: [...vocab, 'more'] }, { vocab, maxTokens: 4 }, { vocab, lowerCase: false }, { vocab, typeIds: true }].map((options) => wordPiece('words@1', options).digest)
    expect(new Set(digests).size).toBe(5)
    expect(wordPiece('words@1', { vocab: [...vocab] }).digest).toBe(digests[0])
  })

  it('refuses what it cannot work with', async () => {
    expect(() => wordPiece('words@1', { vocab: ['[PAD]', '[UNK]', 'a'] })).toThrow('The vocabulary of "words@1" has 3 tokens and lacks [CLS], [SEP]. Give the vocab.txt of a BERT-like model.')
    expect(() => wordPiece('words@1', { vocab, maxTokens: 1 })).toThrow('The step "words@1" was given maxTokens 1; a whole number of at least 2 is expected, because [CLS] and [SEP] count.')
    expect(() => wordPiece('words@1', { vocab: './none/vocab.txt' })).toThrow('The vocabulary "./none/vocab.txt" cannot be read: ENOENT')
    await expect(wordPiece('words@1', { vocab }).run(5 as unknown as string)).rejects.toThrow('The step "words@1" was given 5; a text is expected.')
  })

  it('feeds a sentence encoder: near texts are near', async ({ skip }) => {
    const folder = sharedData('models/text/static-minilm') ?? skip(noSharedData('models/text/static-minilm')), ctx = { signal: new AbortController().signal }
    const executor = new OnnxExecutor(), session = await executor.load({ bytes: readFileSync(join(folder, 'static-minilm-128-int8.onnx')) }, 'auto', ctx)
    const tokens = await runStep(wordPiece('minilm@1', { vocab: pathToFileURL(join(folder, 'vocab.txt')) }), ['a dog runs in the park', 'a puppy is running outside', 'quarterly report of the central bank'])
    const [dog, puppy, bank] = (await runGraph(session, tokens as readonly Record<string, Tensor>[], ctx)).map(({ sentence_embedding }) => sentence_embedding!.data as Float32Array)
    const cosine = (a: Float32Array, b: Float32Array): number => a.reduce((sum, value, i) => sum + value * b[i]!, 0) / Math.hypot(...a) / Math.hypot(...b)
    expect(cosine(dog!, puppy!)).toBeGreaterThan(cosine(dog!, bank!) + 0.2)
    await executor.close()
  })
})
