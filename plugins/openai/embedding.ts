/** Embeddings of texts by an endpoint that speaks the OpenAI protocol: `POST {url}/embeddings`. */
import { inBatches } from '../../core/batches.ts'
import type { Ctx, Doc, Value } from '../../core/contract.ts'
import { hashOf } from '../../core/encoding.ts'
import { checkOptions, InlayError, quote } from '../../core/errors.ts'
import { model, type ModelSpec } from '../../core/spec.ts'
import { step } from '../../core/step.ts'
import { Endpoint, endpointOptions, type EndpointOptions } from './endpoint.ts'

/** What `embedding` takes. */
export interface EmbeddingOptions extends EndpointOptions {
  /** How many numbers a vector has. */
  readonly dims: number
  /** Asks the service for so many, where its model can be cut. Default: not asked. */
  readonly dimensions?: number
  /** Most texts of one request. Default 100. */
  readonly batch?: number
  /** How the service writes vectors; both forms are read. `base64` is shorter. Default `float`. */
  readonly encoding?: 'float' | 'base64'
}

/** A model that turns texts into vectors. A text that the service refuses fails alone; when the service is away, rows stay pending. */
export function embedding(name: string, options: EmbeddingOptions): ModelSpec<string, Float32Array> {
  const of = `embedding(${quote(name)}, …)`
  checkOptions(options, [...endpointOptions, 'dims', 'dimensions', 'batch', 'encoding'], of)
  const { url, model: service, dims, dimensions, batch = 100, encoding = 'float', body } = options
  if (!Number.isSafeInteger(batch) || batch < 1) throw new InlayError('INVALID_ARGUMENT', `batch of ${of} is ${quote(batch)}; a whole number from 1 is expected.`)
  if (encoding !== 'float' && encoding !== 'base64') throw new InlayError('INVALID_ARGUMENT', `encoding of ${of} is ${quote(encoding)}; "float" or "base64" is expected.`)
  const endpoint = new Endpoint(options, of)
  const asked = { encoding_format: encoding, ...(dimensions === undefined ? {} : { dimensions }) }
  const identity: Doc = { api: 'embeddings', url, model: service, ...(dimensions === undefined ? {} : { dimensions }), ...(body === undefined ? {} : { body }) }
  const request = async (texts: readonly string[], ctx: Ctx): Promise<readonly (Float32Array | Error)[]> => {
    const bad: unknown = texts.find((text) => typeof text !== 'string')
    if (bad !== undefined) throw new InlayError('INVALID_ARGUMENT', `The model ${quote(name)} was given ${quote(bad)}; a text is expected.`)
    return vectorsOf(await endpoint.post('/embeddings', { ...asked, input: texts }, ctx), texts.length)
  }
  // An error in the place of a vector is the failure of its row.
  const run = async (texts: readonly string[], ctx: Ctx): Promise<readonly Float32Array[]> => await inBatches(texts, batch, request, ctx) as readonly Float32Array[]
  return model(name, { run: step(`openai-embedding-${hashOf(identity).slice(0, 16)}@1`, run, { data: JSON.stringify(identity) }), shape: [dims], options: identity })
}

/** The vectors in the order of the texts, whatever that of the answer; that they have `dims` finite numbers core checks. */
function vectorsOf(answer: Value, count: number): readonly (Float32Array | Error)[] {
  const { data } = Object(answer) as { readonly data?: unknown }
  const items = Array.isArray(data) ? data as readonly { readonly index?: unknown; readonly embedding?: unknown }[] : []
  const byIndex = new Map(items.map((item) => [item?.index, item?.embedding]))
  if (items.length !== count || byIndex.size !== count || !Array.from({ length: count }, (_, i) => byIndex.has(i)).every(Boolean)) {
    throw new InlayError('INVALID_ARGUMENT', `The service answered ${items.length} embeddings to ${count} texts, with the indexes ${quote([...byIndex.keys()])}; one for each text is expected.`)
  }
  return Array.from({ length: count }, (_, i) => vectorOf(byIndex.get(i)))
}

function vectorOf(embedding: unknown): Float32Array | Error {
  if (Array.isArray(embedding) && embedding.every((v) => typeof v === 'number')) return Float32Array.from(embedding)
  const bytes = typeof embedding === 'string' ? Buffer.from(embedding, 'base64') : undefined
  if (bytes !== undefined && bytes.length > 0 && bytes.length % 4 === 0) return new Float32Array(new Uint8Array(bytes).buffer)
  return new InlayError('INVALID_ARGUMENT', `The service answered ${quote(embedding)}; an embedding as numbers, or as base64 of float32, is expected.`)
}
