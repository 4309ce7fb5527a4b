import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { inspect } from 'node:util'
import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { describe, expect, it, onTestFinished } from 'vitest'
import type { Ctx } from '../../core/contract.ts'
import type { InlayError } from '../../core/errors.ts'
import type { ModelSpec } from '../../core/spec.ts'
import { inlay, listener } from '../../index.ts'
import { aiEmbedding, aiText, type AiEmbeddingOptions, type AiTextOptions } from '../../plugins/ai-sdk/index.ts'
import { answer, embeddingOf, failing, openAiServer, type OpenAiServer } from '../support/openai-server.ts'

const ctx: Ctx = { signal: new AbortController().signal }
const secret = 'sk-right-0123456789'

const serving = async (): Promise<OpenAiServer> => {
  const server = await openAiServer({ secret })
  onTestFinished(() => server[Symbol.asyncDispose]())
  return server
}
const provider = ({ url }: OpenAiServer, apiKey = secret): ReturnType<typeof createOpenAICompatible> => createOpenAICompatible({ name: 'small', baseURL: url, apiKey })
const embedder = (server: OpenAiServer, options: Partial<AiEmbeddingOptions> = {}): ModelSpec<string, Float32Array> => aiEmbedding('words', { model: provider(server).embeddingModel('words-1'), dims: 8, retries: 0, ...options })
const texter = (server: OpenAiServer, options: Partial<AiTextOptions> = {}): Pick<ModelSpec, 'run'> => aiText('echo', { model: provider(server).chatModel('echo-1'), retries: 0, ...options })
const run = async (spec: Pick<ModelSpec, 'run'>, inputs: readonly unknown[], at: Ctx = ctx): Promise<readonly unknown[]> => await spec.run!.run(inputs as never, at) as readonly unknown[]
const shownOf = (results: readonly unknown[]): readonly unknown[] => results.map((result) => (result instanceof Error ? result.message : result))
const fault = async (work: Promise<unknown>): Promise<string> => work.then((value) => `no error: ${inspect(value)}`, (error: InlayError) => `${error.code}${error.retryable ? ' retryable' : ''} ${error.message}`)
const vectors = (...texts: readonly string[]): readonly Float32Array[] => texts.map((text) => Float32Array.from(embeddingOf(text, 8)))
/** The AI SDK takes embeddings as they come; this server otherwise gives them in another order. */
const inOrder = (server: OpenAiServer, but: (texts: readonly string[]) => boolean = () => false): void => server.always((response, asked) => {
  const texts = asked.body['input'] as readonly string[]
  if (but(texts)) failing(400, 'input too long')(response, asked)
  else answer(response, 200, { data: texts.map((text, index) => ({ index, embedding: embeddingOf(text, 8) })), usage: { prompt_tokens: 1 } })
})

describe('aiEmbedding', () => {
  it('gives the vectors of texts, in batches', async () => {
    const server = await serving(), texts = Array.from({ length: 25 }, (_, i) => `text number ${i}`)
    inOrder(server)
    expect(await run(embedder(server, { batch: 10 }), texts)).toEqual(vectors(...texts))
    expect(server.asked.map(({ body }) => (body['input'] as readonly string[]).length).toSorted()).toEqual([10, 10, 5])
    expect(server.asked[0]!.headers.authorization).toBe(`Bearer ${secret}`)
  })

  it('fails a bad text alone', async () => {
    const server = await serving(), texts = ['a', 'b', 'bad', 'c', 'd']
    inOrder(server, (asked) => asked.includes('bad'))
    expect(shownOf(await run(embedder(server), texts))).toEqual([...vectors('a', 'b'), 'The provider answered with status 400: input too long.', ...vectors('c', 'd')])
    expect(shownOf(await run(embedder(server), ['a', 7, null]))).toEqual([...vectors('a'), 'The model "words" was given 7; a text is expected.', 'The model "words" was given null; a text is expected.'])
  })

  it('repeats what may pass, and then ends with a retryable UNAVAILABLE', async () => {
    const server = await serving()
    inOrder(server)
    server.next(failing(429, 'slow down', { 'retry-after': '0' }))
    expect(await run(embedder(server, { retries: 1 }), ['a'])).toEqual(vectors('a'))
    server.always(failing(503, 'overloaded'))
    expect(await fault(run(embedder(server), ['a']))).toBe('UNAVAILABLE retryable The provider answered with status 503: overloaded. Check the service; a later run takes the rows again.')
    server.always((response) => { response.destroy() })
    expect(await fault(run(embedder(server), ['a']))).toMatch(/^UNAVAILABLE retryable /)
  })

  it('never shows the secret, also where the provider does', async () => {
    const server = await serving(), spec = embedder(server, { model: provider(server, 'sk-wrong-0123456789').embeddingModel('words-1') })
    const error: unknown = await run(spec, ['a']).catch((e: unknown) => e)
    expect(error).toMatchObject({ code: 'UNAVAILABLE', retryable: false, message: 'The provider answered with status 401. Check the secret that it was given, and what it may use.' })
    expect(inspect(error, { depth: 9, showHidden: true })).not.toContain('sk-wrong')
    expect(JSON.stringify([spec.options, spec.run!.digest])).not.toContain('sk-wrong')
    server.always(failing(404, 'no such model'))
    expect(await fault(run(spec, ['a']))).toBe('UNAVAILABLE The provider answered with status 404: no such model. Check the model and the address of its provider.')
  })

  it('ends at once on abort', async () => {
    const server = await serving(), stop = new AbortController()
    server.always(() => {})
    const running = run(embedder(server), ['a'], { signal: stop.signal })
    setTimeout(() => stop.abort(), 50)
    expect(await fault(running)).toMatch(/^ABORTED /)
  })

  it('has an identity of provider, model and options', async () => {
    const server = await serving(), { embeddingModel } = provider(server), names = new Set([embedder(server), embedder(server, { version: '2' }), embedder(server, { model: embeddingModel('words-2') }), embedder(server, { model: createOpenAICompatible({ name: 'other', baseURL: server.url }).embeddingModel('words-1') }), embedder(server, { providerOptions: { small: { user: 'u' } } })].map((spec) => spec.run!.name))
    expect(names.size).toBe(5)
    expect(embedder(server, { batch: 3, retries: 9, concurrency: 1 }).run!.name).toBe(embedder(server).run!.name)
    expect(embedder(server).options).toEqual({ api: 'embedding', provider: 'small.embedding', model: 'words-1' })
    expect(aiEmbedding('gateway', { model: 'openai/text-embedding-3-small', dims: 8 }).options).toEqual({ api: 'embedding', provider: 'gateway', model: 'openai/text-embedding-3-small' })
    expect(() => aiEmbedding('none', { model: {} as never, dims: 8 })).toThrow('is no model of the AI SDK')
    expect(() => aiEmbedding('none', { model: 'a/b', dims: 8, modell: 1 } as never)).toThrow('The option "modell"')
  })
})

describe('aiText', () => {
  it('answers texts and templates, each by itself', async () => {
    const server = await serving()
    expect(await run(texter(server, { system: 'be brief', temperature: 0, maxTokens: 50 }), ['one', 'two'])).toEqual(['system: be brief|user: one', 'system: be brief|user: two'])
    expect(server.asked[0]!.body).toMatchObject({ model: 'echo-1', temperature: 0, max_tokens: 50 })
    expect(shownOf(await run(texter(server, { prompt: 'Use {context}' }), [{ context: ['a', 'b'] }, {}]))).toEqual(['user: Use a\nb', 'The prompt "Use {context}" has no value for "context"; it was given nothing.'])
    expect(shownOf(await run(texter(server), [7, 'x']))).toEqual(['The model "echo" was given 7; a text is expected.', 'user: x'])
  })

  it('fails the row whose answer is cut or filtered', async () => {
    const server = await serving()
    server.always((response, { body }) => {
      const [{ content }] = body['messages'] as readonly [{ readonly content: string }]
      answer(response, 200, { choices: [{ index: 0, message: { role: 'assistant', content: 'half' }, finish_reason: content }], usage: {} })
    })
    expect(shownOf(await run(texter(server), ['length', 'content_filter', 'stop']))).toEqual(['The answer was cut at its longest length. Raise maxTokens, or ask for less.', 'The provider refused to answer, by its filter of content.', 'half'])
    server.always((response) => answer(response, 200, { nothing: true }))
    expect(shownOf(await run(texter(server), ['x']))).toEqual([expect.stringMatching(/^The provider answered with status 200: Invalid JSON response/)])
  })
})

describe('with a database', () => {
  it('outputs of both kinds are computed and stored', async () => {
    const server = await serving()
    await using db = await inlay('memory:')
    const notes = db.collection<{ text: string }>('notes')
    const answers = await db.add(listener({ model: aiText('echo', { model: provider(server).chatModel('echo-1') }), on: 'notes', key: 'text' }))
    await notes.insert([{ _id: 'a', text: 'red' }])
    expect(answers.of((await notes.findOne({ _id: 'a' }))!)).toBe('user: red')
    inOrder(server)
    const listening = await db.add(listener({ model: embedder(server), on: 'notes', key: 'text', name: 'vectors' }))
    expect(listening.of((await notes.findOne({ _id: 'a' }))!)).toEqual(vectors('red')[0])
  })
})

describe('the package "ai"', () => {
  it('is loaded when a model runs, and its absence says how to install it', () => {
    const program = `import { registerHooks } from 'node:module'
      registerHooks({ resolve(specifier, context, next) { if (specifier === 'ai') throw new Error('Cannot find package'); return next(specifier, context) } })
      const { aiEmbedding } = await import(${JSON.stringify(join(import.meta.dirname, '../../plugins/ai-sdk/index.ts'))})
      const spec = aiEmbedding('words', { model: 'a/b', dims: 8 })
      const error = await spec.run.run(['x'], { signal: new AbortController().signal }).catch((e) => e)
      console.log(error.code, error.message)`
    const { stdout, stderr, status } = spawnSync(process.execPath, ['--input-type=module', '-e', program], { encoding: 'utf8' })
    expect(status, stderr).toBe(0)
    expect(stdout.trim()).toBe('DRIVER_MISSING The package "ai" is not installed, which models of the AI SDK need. Install it with "npm install ai".')
  })
})
