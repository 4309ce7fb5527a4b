/** The tokenizer of BERT and its relatives, as a step. */
import { readFileSync } from 'node:fs'
import type { Tensor } from '../../core/contract.ts'
import { InlayError, messageOf, quote } from '../../core/errors.ts'
import { step, type Step } from '../../core/step.ts'

/** What is needed of their Tokenizer; its own types do not resolve under nodenext. */
interface Tokenizer { encode(text: string): { readonly ids: readonly number[] } }

export interface WordPieceOptions {
  /** The tokens, one per line of a file, or as a list. The line is the token's id. */
  readonly vocab: string | URL | readonly string[]
  /** Longer texts are cut, [CLS] and [SEP] included. Default 512. */
  readonly maxTokens?: number
  /** Ignore case and accents, as "uncased" models do. Default `true`. */
  readonly lowerCase?: boolean
  /** Also give `token_type_ids`, all 0. Default `false`. */
  readonly typeIds?: boolean
}

/**
 * Text to `input_ids` and `attention_mask` (int64), padded to the longest of a batch with mask 0; an empty text is [CLS] [SEP]. It needs the package
 * @huggingface/tokenizers. The digest of the step covers the vocabulary and the options.
 */
export function wordPiece(nameAtVersion: `${string}@${number}`, { vocab: source, maxTokens = 512, lowerCase = true, typeIds = false }: WordPieceOptions): Step<string, Record<string, Tensor>> {
  const vocab = typeof source === 'string' || source instanceof URL ? readVocab(source) : [...source]
  const ids = Object.fromEntries(vocab.map((token, id) => [token, id]))
  const missing = specials.filter((token) => !Object.hasOwn(ids, token))
  if (missing.length > 0) throw new InlayError('INVALID_ARGUMENT', `The vocabulary of ${quote(nameAtVersion)} has ${vocab.length} tokens and lacks ${missing.join(', ')}. Give the vocab.txt of a BERT-like model.`)
  if (!Number.isSafeInteger(maxTokens) || maxTokens < 2) throw new InlayError('INVALID_ARGUMENT', `The step ${quote(nameAtVersion)} was given maxTokens ${quote(maxTokens)}; a whole number of at least 2 is expected, because [CLS] and [SEP] count.`)

  let loaded: Tokenizer | undefined
  const encode = async (texts: readonly string[]): Promise<Record<string, Tensor>[]> => {
    const tokenizer = loaded ??= await tokenizerOf(ids, lowerCase)
    const tokens = texts.map((text) => {
      if (typeof text !== 'string') throw new InlayError('INVALID_ARGUMENT', `The step ${quote(nameAtVersion)} was given ${quote(text)}; a text is expected.`)
      const all = tokenizer.encode(text).ids
      return all.length > maxTokens ? [...all.slice(0, maxTokens - 1), ids['[SEP]']!] : all
    })
    const length = tokens.reduce((longest, { length }) => Math.max(longest, length), 0)
    return tokens.map((of) => {
      const padded = new BigInt64Array(length).fill(BigInt(ids['[PAD]']!))
      of.forEach((id, i) => { padded[i] = BigInt(id) })
      const int64 = (data: BigInt64Array): Tensor => ({ type: 'int64', dims: [length], data })
      return { input_ids: int64(padded), attention_mask: int64(new BigInt64Array(length).fill(1n, 0, of.length)), ...(typeIds ? { token_type_ids: int64(new BigInt64Array(length)) } : {}) }
    })
  }
  return step(nameAtVersion, async (text: string) => (await encode([text]))[0]!, { batch: (texts) => encode(texts), data: JSON.stringify([vocab, maxTokens, lowerCase, typeIds]) })
}

const specials = ['[PAD]', '[UNK]', '[CLS]', '[SEP]'] as const

function readVocab(file: string | URL): readonly string[] {
  try {
    return readFileSync(file, 'utf8').replace(/\r?\n$/, '').split(/\r?\n/)
  } catch (error) {
    throw new InlayError('INVALID_ARGUMENT', `The vocabulary ${quote(String(file))} cannot be read: ${messageOf(error)}. Give the path of a vocab.txt, one token per line.`, { cause: error })
  }
}

/** What the file tokenizer.json of a BERT model says, for this vocabulary. */
async function tokenizerOf(ids: Readonly<Record<string, number>>, lowerCase: boolean): Promise<Tokenizer> {
  const { Tokenizer } = await import('@huggingface/tokenizers').catch((error: unknown) => {
    throw new InlayError('DRIVER_MISSING', 'The wordPiece step needs the package "@huggingface/tokenizers", which is not installed. Run: npm install @huggingface/tokenizers', { cause: error })
  })
  const special = (token: string): object => ({ SpecialToken: { id: token, type_id: 0 } })
  return new Tokenizer({
    added_tokens: specials.map((content) => ({ id: ids[content], content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: true })),
    normalizer: { type: 'BertNormalizer', clean_text: true, handle_chinese_chars: true, strip_accents: null, lowercase: lowerCase },
    pre_tokenizer: { type: 'BertPreTokenizer' },
    post_processor: { type: 'TemplateProcessing', single: [special('[CLS]'), { Sequence: { id: 'A', type_id: 0 } }, special('[SEP]')], pair: [], special_tokens: {} },
    decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
    model: { type: 'WordPiece', unk_token: '[UNK]', continuing_subword_prefix: '##', max_input_chars_per_word: 100, vocab: ids },
  }, {})
}
