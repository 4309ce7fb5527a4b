/** Any plain value as UTF-8 text of JSON, with the tags of the stored encoding for what JSON has no form for. */
import type { Codec, Value } from '../contract.ts'
import { decode, encode } from '../encoding.ts'
import { InlayError, messageOf } from '../errors.ts'
import { copyIn } from '../value.ts'

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: false })

/** The codec `json`: keeps in one piece what would otherwise be fields of the document. */
export const jsonCodec: Codec<Value> = {
  id: 'json',
  expects: 'a plain value',
  is: (value): value is Value => value !== undefined && typeof value !== 'function' && typeof value !== 'symbol',
  encode: (value) => new Uint8Array(Buffer.from(encode(copyIn(value)))),
  decode(bytes) {
    try {
      return decode(utf8.decode(bytes))
    } catch (error) {
      if (InlayError.is(error)) throw error
      throw new InlayError('CORRUPT', `The bytes are no JSON: ${messageOf(error)}.`)
    }
  },
}
