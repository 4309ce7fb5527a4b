import { inspect } from 'node:util'
import { describe, expect, it, onTestFinished } from 'vitest'
import type { Ctx } from '../../core/contract.ts'
import type { InlayError } from '../../core/errors.ts'
import type { ModelSpec } from '../../core/spec.ts'
import { inlay, listener } from '../../index.ts'
import { chat, embedding, prompt, type ChatOptions, type EmbeddingOptions, type Message } from '../../plugins/openai/index.ts'
import { answer, embeddingOf, failing, openAiServer, type Fault, type OpenAiServer } from '../support/openai-server.ts'

const ctx: Ctx = { signal: new AbortController().signal }
const secret = 'sk-right-0123456789'
process.env['TEST_SERVICE_KEY'] = secret
process.env['WRONG_SERVICE_KEY'] = 'sk-wrong-0123456789'

const serving = async (): Promise<OpenAiServer> => {
  const server = await openAiServer({ secret })
  onTestFinished(() => server[Symbol.asyncDispose]())
  return server
}
const embedder = ({ url }: OpenAiServer, options: Partial<EmbeddingOptions> = {}): ModelSpec<string, Float32Array> => embedding('words', { url, model: 'words-1', dims: 8, key: 'TEST_SERVICE_KEY', retries: 0, ...options })
const chatter = ({ url }: OpenAiServer, options: Partial<ChatOptions> = {}): Pick<ModelSpec<never, unknown>, 'run'> => chat('echo', { url, model: 'echo-1', key: 'TEST_SERVICE_KEY', retries: 0, ...options })
/** What the model's own function gives. */
const run = async (spec: Pick<ModelSpec, 'run'>, inputs: readonly unknown[], at: Ctx = ctx): Promise<readonly unknown[]> => await spec.run!.run(inputs as never, at) as readonly unknown[]
const fault = async (work: Promise<unknown>): Promise<string> => work.then((value) => `no error: ${inspect(value)}`, (error: InlayError) => `${error.code}${error.retryable ? ' retryable' : ''} ${error.message}`)
const vectors = (...texts: readonly string[]): readonly Float32Array[] => texts.map((text) => Float32Array.from(embeddingOf(text, 8)))
const breaking: Fault = (response) => { response.destroy() }

describe('embedding', () => {
  it('asks in batches and gives vectors in the order of the texts', async () => {
    const server = await serving(), texts = Array.from({ length: 25 }, (_, i) => `text number ${i}`)
    expect(await run(embedder(server, { batch: 10 }), texts)).toEqual(vectors(...texts))
    expect(server.asked.map(({ body }) => (body['input'] as readonly string[]).length).toSorted()).toEqual([10, 10, 5])
    expect(server.asked[0]).toMatchObject({ path: '/v1/embeddings', headers: { 'authorization': `Bearer ${secret}`, 'content-type': 'application/json' }, body: { model: 'words-1', encoding_format: 'float' } })
    expect(await run(embedder(server), [])).toEqual([])
  })

  it('reads base64, asks for dimensions, and sends further headers and fields', async () => {
    const server = await serving()
    expect(await run(embedder(server, { url: `${server.url}/`, encoding: 'base64', dimensions: 4, dims: 4, headers: { 'x-tenant': 'me' }, body: { user: 'u' } }), ['a b'])).toEqual([Float32Array.from(embeddingOf('a b', 4))])
    expect(server.asked[0]).toMatchObject({ path: '/v1/embeddings', headers: { 'x-tenant': 'me' }, body: { dimensions: 4, encoding_format: 'base64', user: 'u' } })
  })

  it('repeats after 429 with Retry-After, 500 and a broken connection', async () => {
    const server = await serving()
    server.next(failing(429, 'slow down', { 'retry-after': '0.3' }), failing(500), breaking)
    expect(await run(embedder(server, { retries: 3 }), ['a'])).toEqual(vectors('a'))
    expect(server.asked).toHaveLength(4)
    expect(server.asked[1]!.at - server.asked[0]!.at).toBeGreaterThan(280)
  })

  it('ends with a retryable UNAVAILABLE after the last repetition, so that rows stay pending', async () => {
    const server = await serving()
    server.always(failing(503, 'overloaded', { 'retry-after': '0' }))
    const spec = embedder(server, { retries: 2 })
    expect(await fault(run(spec, ['a']))).toBe(`UNAVAILABLE retryable ${server.url}/embeddings answered with status 503 and said: overloaded. Check the service; a later run takes the rows again.`)
    expect(server.asked).toHaveLength(3)
    server.always(breaking)
    expect(await fault(run(embedder(server), ['a']))).toMatch(/^UNAVAILABLE retryable .* could not be reached: /)
    server.always((response) => { response.end('<html>') })
    expect(await fault(run(embedder(server), ['a']))).toContain('answered with something else than JSON')
    server.always(failing(429, 'next month', { 'retry-after': '2592000' }))
    expect(await fault(run(embedder(server, { retries: 5 }), ['a']))).toContain('status 429 and said: next month. Check the service; a later run takes the rows again. It asks to wait 2592000 s, which is beyond timeoutMs')
  })

  it('with a secret that is refused, or none, says so and names the environment variable, never the secret', async () => {
    const server = await serving()
    const wrong = await fault(run(embedder(server, { key: 'WRONG_SERVICE_KEY', retries: 5 }), ['a']))
    expect(wrong).toBe(`UNAVAILABLE ${server.url}/embeddings answered with status 401 and said: Incorrect API key provided: ***. Check the secret in the environment variable WRONG_SERVICE_KEY, and what it may use.`)
    expect(server.asked).toHaveLength(1)
    const { key: _, ...without } = { url: server.url, model: 'm', dims: 8, key: '' }
    expect(await fault(run(embedding('none', without), ['a']))).toContain('Name the environment variable that holds the secret')
    const missing = embedder(server, { key: 'MISSING_SERVICE_KEY' })         // said when it runs, not before
    expect(await fault(run(missing, ['a']))).toBe(`UNAVAILABLE The environment variable MISSING_SERVICE_KEY is not set, which holds the secret for ${server.url}. Set it, and start the program again.`)
    expect(await run(embedding('headers', { ...without, headers: { authorization: `Bearer ${secret}` } }), ['a'])).toEqual(vectors('a'))
  })

  it('never shows a secret, in an error, its cause, the declaration or its digest', async () => {
    const server = await serving(), spec = embedder(server, { headers: { 'x-api-key': 'header-secret-1' } })
    server.always((response, { headers }) => answer(response, 400, { error: { message: `you sent ${headers.authorization} and ${String(headers['x-api-key'])}` } }))
    const [error] = await run(spec, ['a']) as [InlayError]
    expect(error.message).toContain('you sent Bearer *** and ***')
    server.always((response, { headers }) => answer(response, 500, { error: `you sent ${headers.authorization}` }))
    const thrown: unknown = await run(spec, ['a']).catch((e: unknown) => e)
    for (const shown of [inspect(error, { depth: 9, showHidden: true }), inspect(thrown, { depth: 9, showHidden: true }), JSON.stringify(spec.options)]) expect(shown).not.toMatch(/sk-right|header-secret/)
    const digest = spec.run!.digest
    process.env['TEST_SERVICE_KEY'] = 'sk-other-0123456789'
    onTestFinished(() => { process.env['TEST_SERVICE_KEY'] = secret })
    expect(embedder(server, { headers: { 'x-api-key': 'header-secret-1' } }).run!.digest).toBe(digest)
  })

  it('of one bad input in a batch fails that input alone', async () => {
    const server = await serving(), texts = Array.from({ length: 20 }, (_, i) => (i === 13 ? 'bad' : `text ${i}`))
    server.always((response, asked) => ((asked.body['input'] as readonly string[]).includes('bad') ? failing(400, 'input too long')(response, asked) : false))
    const results = await run(embedder(server), texts)
    expect(results.flatMap((result, i) => (result instanceof Error ? [[i, result.message]] : []))).toEqual([[13, `${server.url}/embeddings answered with status 400 and said: input too long.`]])
    expect(results.filter((_, i) => i !== 13)).toEqual(vectors(...texts.filter((text) => text !== 'bad')))
    expect(server.asked.length).toBeLessThan(12)
    const mixed = await run(embedder(server), ['a', 7, 'b', null])
    expect(mixed.map((result) => (result instanceof Error ? result.message : 'ok'))).toEqual(['ok', 'The model "words" was given 7; a text is expected.', 'ok', 'The model "words" was given null; a text is expected.'])
  })

  it('checks the answer: count, indexes, and what vectors are', async () => {
    const server = await serving(), spec = embedder(server), item = (index: number, embedding: unknown): unknown => ({ index, embedding })
    const given = async (data: unknown): Promise<string> => {
      server.always((response) => answer(response, 200, { data }))
      return (await run(spec, ['a'])).map((result) => (result instanceof Error ? result.message : 'ok')).join()
    }
    expect(await given([item(0, [1])])).toBe('ok')
    expect(await given([item(1, [1])])).toBe('The service answered 1 embeddings to 1 texts, with the indexes [1]; one for each text is expected.')
    for (const data of [[], [item(0, [1]), item(0, [1])], [item(0, [1]), item(1, [1])], [item(-1, [1])], undefined, 'text', [null]]) expect(await given(data), JSON.stringify(data)).toMatch(/^The service answered \d embeddings to 1 texts/)
    server.always((response, { body }) => answer(response, 200, { data: (body['input'] as readonly string[]).map((text, index) => item(index, text === 'a' ? ['x'] : [1, 2])) }))
    expect((await run(spec, ['a', 'b'])).map((result) => (result instanceof Error ? result.message : result))).toEqual(['The service answered ["x"]; an embedding as numbers, or as base64 of float32, is expected.', Float32Array.of(1, 2)])
  })

  it('runs at most `concurrency` requests at once, and spreads them over the minute', async () => {
    const server = await serving()
    server.always((response, { body }) => { setTimeout(() => answer(response, 200, { data: (body['input'] as readonly string[]).map((text, index) => ({ index, embedding: embeddingOf(text, 8) })) }), 20); return true })
    await run(embedder(server, { batch: 1, concurrency: 3 }), Array.from({ length: 12 }, (_, i) => `t ${i}`))
    expect(server.most).toBe(3)
    const start = performance.now(), a = embedder(server, { batch: 1, requestsPerMinute: 600 }), b = embedder(server, { batch: 1, requestsPerMinute: 600, model: 'words-2' })
    await Promise.all([run(a, Array.from({ length: 10 }, () => 'a')), run(b, Array.from({ length: 10 }, () => 'b'))])
    expect(performance.now() - start).toBeGreaterThan(850)                  // 20 requests at 10 a second, of which one second's may go at once; both share it
    const tokens = performance.now()
    await run(embedder(server, { batch: 1, tokensPerMinute: 60_000, key: 'WRONG_SERVICE_KEY' }), ['x'.repeat(6000), 'y'])
    expect(performance.now() - tokens).toBeGreaterThan(450)                 // 1,500 tokens at 1,000 a second, less the second ahead
  })

  it('ends at once on abort, and by its own time otherwise', async () => {
    const server = await serving(), stop = new AbortController()
    let closed = 0
    server.always((response) => { response.on('close', () => { closed++ }) })
    const running = run(embedder(server), ['a'], { signal: stop.signal })
    setTimeout(() => stop.abort(), 50)
    expect(await fault(running)).toMatch(/^ABORTED /)
    expect(await fault(run(embedder(server, { timeoutMs: 100 }), ['a']))).toBe(`UNAVAILABLE retryable ${server.url}/embeddings did not answer within 100 ms. Check the service; a later run takes the rows again.`)
    await expect.poll(() => closed).toBe(2)
    const waits = new AbortController(), slow = embedder(server, { requestsPerMinute: 1, model: 'slow', key: 'WRONG_SERVICE_KEY', batch: 1, timeoutMs: 50 })
    await fault(run(slow, ['a']))
    const waiting = run(slow, ['b'], { signal: waits.signal })
    setTimeout(() => waits.abort(), 20)
    expect(await fault(waiting)).toMatch(/^ABORTED /)
  })

  it('stops what still runs when the service is away', async () => {
    const server = await serving()
    let closed = 0
    server.next((response) => { response.on('close', () => { closed++ }) }, failing(404, 'no such model'))
    expect(await fault(run(embedder(server, { batch: 1 }), ['a', 'b', 'c']))).toBe(`UNAVAILABLE ${server.url}/embeddings answered with status 404 and said: no such model. Check the url and the model "words-1".`)
    await expect.poll(() => closed).toBe(1)
  })

  it('has an identity of endpoint, model and what is asked, and of nothing else', async () => {
    const server = await serving(), same = embedder(server), name = (options: Partial<EmbeddingOptions>): string => embedder(server, options).run!.name
    for (const options of [{ batch: 7 }, { key: 'OTHER' }, { retries: 9 }, { timeoutMs: 1 }, { headers: { a: 'b' } }, { encoding: 'base64' }, { concurrency: 1 }, { requestsPerMinute: 1 }] as const) expect(name(options), JSON.stringify(options)).toBe(same.run!.name)
    const names = new Set([same.run!.name, ...[{ model: 'x' }, { url: 'http://other/v1' }, { dimensions: 8 }, { body: { seed: 1 } }].map(name)])
    expect(names.size).toBe(5)
    expect(same.options).toEqual({ api: 'embeddings', url: server.url, model: 'words-1' })
    expect(same.shape).toEqual([8])
  })

  it.each([
    [{ url: 'example.com' }, 'one up to the version is expected'], [{ url: 'https://me:hunter2@example.com/v1' }, 'holds a secret'], [{ url: 'https://example.com/v1?key=hunter2' }, 'holds a secret'], [{ url: 'ftp://example.com' }, 'one up to the version'], [{ key: 'sk-hunter2' }, 'is not the name of an environment variable'],
    [{ model: '' }, 'the service\'s name of it is expected'], [{ batch: 0 }, 'batch of embedding("words", …) is 0'], [{ retries: -1 }, 'retries of'], [{ dims: 0 }, 'shape of model "words"'], [{ encoding: 'hex' as 'float' }, '"float" or "base64"'], [{ modell: 1 } as object, 'The option "modell"'],
  ])('refuses %o', (options, reason) => {
    const make = (): unknown => embedding('words', { url: 'https://example.com/v1', model: 'm', dims: 8, ...options })
    expect(make).toThrow(reason)
    expect(make).not.toThrow('hunter2')
  })
})

describe('chat', () => {
  it('answers texts and conversations, with a system message', async () => {
    const server = await serving(), talk: readonly Message[] = [{ role: 'user', content: 'hi' }, { role: 'assistant', content: 'hello' }, { role: 'user', content: 'bye' }]
    expect(await run(chatter(server, { system: 'be brief', temperature: 0, maxTokens: 50, body: { seed: 7 } }), ['one', talk])).toEqual(['system: be brief|user: one', 'system: be brief|user: hi|assistant: hello|user: bye'])
    expect(server.asked[0]).toMatchObject({ path: '/v1/chat/completions', body: { model: 'echo-1', temperature: 0, max_tokens: 50, seed: 7 } })
  })

  it('fills a template', async () => {
    const server = await serving()
    expect(await run(chatter(server, { prompt: 'Use {context} to answer {question}' }), [{ context: ['a', 'b'], question: 'what?' }])).toEqual(['user: Use a\nb to answer what?'])
    const [failed, good] = await run(chatter(server, { prompt: 'Say {what}' }), [{ other: 1 }, { what: 'x' }]) as [Error, string]
    expect(failed.message).toBe('The prompt "Say {what}" has no value for "what"; it was given "other".')
    expect(good).toBe('user: Say x')
    expect(() => chatter(server, { prompt: 'Say {what' })).toThrow('has a "{" that belongs to no place')
  })

  it('gives the value of an answer in JSON', async () => {
    const server = await serving(), schema = { type: 'object', properties: { said: { type: 'string' } } }
    expect(await run(chatter(server, { json: true }), ['x'])).toEqual([{ said: 'user: x' }])
    expect(await run(chatter(server, { schema }), ['x'])).toEqual([{ said: 'user: x' }])
    expect(server.asked.map(({ body }) => body['response_format'])).toEqual([{ type: 'json_object' }, { type: 'json_schema', json_schema: { name: 'answer', strict: true, schema } }])
    server.always((response) => answer(response, 200, { choices: [{ message: { content: 'Sure! {' }, finish_reason: 'stop' }] }))
    expect((await run(chatter(server, { json: true }), ['x']))[0]).toMatchObject({ message: 'The model answered "Sure! {"; JSON was asked for.' })
  })

  it('fails the row whose answer is cut, refused, empty, or whose input is wrong, and no other', async () => {
    const server = await serving()
    const given: Readonly<Record<string, unknown>> = {
      cut: { message: { content: 'half' }, finish_reason: 'length' }, filter: { message: { content: '' }, finish_reason: 'content_filter' }, refusal: { message: { content: null, refusal: 'I will not' }, finish_reason: 'stop' }, empty: { message: { content: null }, finish_reason: 'stop' },
    }
    server.always((response, { body }) => {
      const [{ content }] = body['messages'] as readonly [{ readonly content: string }]
      if (content === 'none') answer(response, 200, {})
      else if (content in given) answer(response, 200, { choices: [given[content]] })
      else return content === 'bad' ? answer(response, 422, 'text of an error') : false
      return true
    })
    expect((await run(chatter(server), ['cut', 'filter', 'refusal', 'empty', 'none', 'bad', 'good', 7, [{ content: 'x' }]])).map((result) => (result instanceof Error ? result.message : result))).toEqual([
      'The answer was cut at its longest length. Raise maxTokens, or ask for less.', 'The service refused to answer, by its filter of content.', 'The service refused to answer: I will not.', 'The service answered {"content":null}; a message with text is expected.', 'The service answered {}; a message with text is expected.',
      `${server.url}/chat/completions answered with status 422 and said: text of an error.`, 'user: good', 'The model "echo" was given 7; a text, or a list of messages { role, content }, is expected.', 'The model "echo" was given [{"content":"x"}]; a text, or a list of messages { role, content }, is expected.',
    ])
  })

  it('has an identity of all that the answer depends on', async () => {
    const server = await serving(), names = new Set([{}, { system: 'a' }, { prompt: 'a' }, { temperature: 0 }, { maxTokens: 5 }, { json: true }, { schema: { type: 'object' } }, { model: 'b' }, { body: { seed: 1 } }].map((options) => chatter(server, options).run!.name))
    expect(names.size).toBe(9)
    expect(chatter(server, { retries: 3 }).run!.name).toBe(chatter(server).run!.name)
  })
})

describe('prompt', () => {
  it('fills places by name, joins lists, escapes braces, and takes no value for a template', async () => {
    const step = prompt('qa@1', 'Use {context} to answer {question} {{as "{question}"}}')
    expect(await step.run({ context: ['a', { b: 1n }, new Date(0)], question: '{context}' }, ctx)).toBe('Use a\n{"b":"1"}\n1970-01-01T00:00:00.000Z to answer {context} {as "{context}"}')
    expect([step.name, step.version]).toEqual(['qa', 1])
    expect(prompt('qa@1', 'other {x}').digest).not.toBe(step.digest)
    expect(await prompt('p@1', 'no places').run({}, ctx)).toBe('no places')
  })
  it('names what is missing', async () => {
    const { run: fill } = prompt('qa@1', '{a} and {b}')
    expect(() => fill({ a: 1 }, ctx)).toThrow('The prompt "{a} and {b}" has no value for "b"; it was given "a".')
    expect(() => fill({ a: 1, b: null }, ctx)).toThrow('no value for "b"')
    expect(() => prompt('p@1', '{toString}').run({}, ctx)).toThrow('no value for "toString"; it was given nothing')
    expect(() => fill('text' as never, ctx)).toThrow('was given "text"; an object with "a", "b" is expected')
    for (const bad of ['{', '}', '{a', 'a}', '{}', '{a{b}}']) expect(() => prompt('p@1', bad), bad).toThrow('belongs to no place')
  })
})

describe('with a database', () => {
  it('outputs are computed, found, and stay pending while the service is away', async () => {
    const server = await serving()
    await using db = await inlay('memory:')
    const notes = db.collection<{ text: string }>('notes'), spec = embedder(server)
    const listening = await db.add(listener({ model: spec, on: 'notes', key: 'text' }))
    const written = await notes.insert([{ _id: 'a', text: 'red apples' }, { _id: 'b', text: 'blue sky' }])
    expect(written.outputs).toMatchObject({ done: 2, failed: 0, pending: 0 })
    expect(listening.of((await notes.findOne({ _id: 'a' }))!)).toEqual(vectors('red apples')[0])

    server.always(failing(500))
    expect((await notes.insert([{ _id: 'c', text: 'green grass' }])).outputs).toMatchObject({ done: 0, failed: 0, pending: 1 })
    expect(listening.of((await notes.findOne({ _id: 'c' }))!)).toBeUndefined()
    server.always(undefined)
    await db.verify({ repair: true })
    expect(listening.of((await notes.findOne({ _id: 'c' }))!)).toEqual(vectors('green grass')[0])
    expect(inspect(await db.show('model', 'words'), { depth: 9 })).not.toContain('sk-right')
  })

  it('vectors of another length than declared, or not finite, are errors of their rows', async () => {
    const server = await serving()
    await using db = await inlay('memory:')
    const notes = db.collection<{ text: string }>('notes')
    await db.add(listener({ model: embedder(server, { dims: 9 }), on: 'notes', key: 'text' }))
    expect((await notes.insert([{ _id: 'a', text: 'x' }])).outputs).toMatchObject({ done: 0, failed: 1 })
    server.always((response) => answer(response, 200, '{"data":[{"index":0,"embedding":[1e999,0,0,0,0,0,0,0,0]}]}'))
    expect((await notes.insert([{ _id: 'b', text: 'y' }])).outputs).toMatchObject({ done: 0, failed: 1 })
  })
})
