/** Models of every kind: made of models, of searches, of one graph, with state; with a database and without. */
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { ensemble, inlay, InlayError, listener, model, predict, predictOne, prompt, retrieve, sequence, step, vectorIndex, type Tensor } from '../index.ts'
import { backends, open } from './support/backends.ts'
import { noSharedData, sharedData } from './support/shared-data.ts'

const plus = (n: number, version = 1) => model<number, number>(`plus${n}`, { run: step(`plus${n}@${version}`, (all: readonly number[]) => all.map((v) => (v < 0 ? new Error('negative') as never : v + n))) })
const times = model<number, number>('times', { run: step('times@1', (all: readonly number[]) => all.map((v) => v * 10)) })
const chain = sequence('chain', [plus(1), times])
const both = ensemble('both', { a: plus(1), b: times })
const mean = ensemble('mean', { a: plus(1), b: times }, { output: step('mean@1', ({ a, b }: { readonly a: number; readonly b: number }) => (a + b) / 2) })
const letters = (text: string): Float32Array => { const counts = new Float32Array(26); for (const c of text.toLowerCase()) if (c >= 'a' && c <= 'z') counts[c.charCodeAt(0) - 97]! += 1; return counts }
const embed = model<string, Float32Array>('embed', { run: step('embed@1', (texts: readonly string[]) => texts.map(letters)), shape: [26] })

describe('without a database', () => {
  it('predicts lists and single values, of models and of models made of models', async () => {
    expect([await predict(chain, [1, 2]), await predictOne(both, 3), await predict(mean, [3])]).toEqual([[20, 30], { a: 4, b: 30 }, [17]])
    expect(await predict(chain, [])).toEqual([])
    const error = await predict(sequence('deep', [chain, plus(2)]), [1, -1]).catch((e: unknown) => e as InlayError)
    expect([InlayError.is(error), (error as InlayError).message, (error as InlayError).details]).toEqual([true, 'The model "deep" failed on input 1: negative.', { index: 1 }])
    await expect(predict(retrieve('search', { index: vectorIndex('i', { indexing: listener({ model: embed, on: 'docs', key: 'text' }) }) }), ['x' as never])).rejects.toThrow('needs a database')
    await expect(predict(times, 5 as never)).rejects.toThrow('there is predictOne()')
    await expect(predict(embed, [5 as never])).rejects.toThrow()
  })

  it('stops by its signal', async () => {
    const slow = model<number, number>('slow', { run: step('slow@1', async (all: readonly number[], { signal }) => new Promise<number[]>((_, reject) => { signal.addEventListener('abort', () => reject(new Error(`told, ${all.length}`)), { once: true }) })) })
    await expect(predict(slow, [1], { signal: AbortSignal.timeout(20) })).rejects.toMatchObject({ code: 'TIMEOUT' })
  })

  it('runs graphs; two models on one graph, each with its output', async ({ skip }) => {
    const onnx = sharedData('models/tabular/lgbm-classifier.onnx') ?? skip(noSharedData('models/tabular/lgbm-classifier.onnx')), row = Float32Array.from({ length: 13 }, (_, i) => i / 13)
    const label = model<Float32Array, number>('label', { onnx, outputs: ['output'], output: step('label@1', ({ data }: Tensor) => Number((data as BigInt64Array)[0])) })
    const scores = model('scores', { onnx, outputs: ['probabilities'], shape: [3] })
    const all = await predictOne(model('all', { onnx }), row)
    expect(Object.keys(all)).toEqual(['output', 'probabilities'])
    const p = await predictOne(scores, row)
    expect([p.length, p.indexOf(Math.max(...p)), Math.abs(p.reduce((a, b) => a + b) - 1) < 1e-5]).toEqual([3, await predictOne(label, row), true])
    const wrong = model('wrong', { onnx, outputs: ['none'] })
    await expect(predictOne(wrong, row)).rejects.toThrow('The graph of model "wrong" has no output "none". It has "output", "probabilities".')
    await expect(predictOne(model('two', { onnx, shape: [3] }), row)).rejects.toThrow('{ outputs: ["output"] }')
  })

  it('a graph with state runs over the sequence of each row, from zeros each time', async ({ skip, onTestFinished }) => {
    const onnx = sharedData('models/audio/silero-vad-16k.onnx') ?? skip(noSharedData('models/audio/silero-vad-16k.onnx'))
    const frames = (n: number, f: number): Tensor[] => Array.from({ length: n }, (_, k) => ({ type: 'float32', dims: [512], data: Float32Array.from({ length: 512 }, (_, i) => Math.sin((k * 512 + i) * f) * 0.5) }))
    const vad = model<readonly Tensor[], readonly number[]>('vad', {
      onnx, constants: { sr: { type: 'int64', dims: [], data: BigInt64Array.of(16000n) } }, state: { stateN: 'state' },
      input: step('frames@1', (list: readonly Tensor[]) => list.map((input) => ({ input }))), output: step('speech@1', (list: readonly Tensor[]) => list.map(({ data }) => (data as Float32Array)[0]!)),
    })
    const [a, b, none, again] = await predict(vad, [frames(4, 0.05), frames(2, 0.3), [], frames(4, 0.05)])
    expect([a!.length, b!.length, none]).toEqual([4, 2, []])
    expect(again).toEqual(a)
    // By hand: what each run gives as its state is what the next is given.
    const ort = (await import('onnxruntime-node')).default, session = await ort.InferenceSession.create(readFileSync(onnx))
    let state = new ort.Tensor('float32', new Float32Array(256), [2, 1, 128])
    const expected: number[] = []
    for (const { data } of frames(4, 0.05)) {
      const out = await session.run({ input: new ort.Tensor('float32', data as Float32Array, [1, 512]), state, sr: new ort.Tensor('int64', BigInt64Array.of(16000n), []) })
      state = out['stateN'] as typeof state
      expected.push((out['output']!.data as Float32Array)[0]!)
    }
    expect(a).toEqual(expected)
    expect(new Set(expected).size).toBe(4)
    // One bad sequence fails alone: the others of its batch have been run once, and count.
    const db = await inlay({ data: 'memory:', config: false, log: {} }), sounds = db.collection<{ frames: readonly Tensor[] }>('sounds'), heard = await db.add(listener({ model: vad, on: 'sounds', key: 'frames' }))
    onTestFinished(() => db.close())
    await sounds.insert([{ _id: 'a', frames: frames(4, 0.05) }, { _id: 'b', frames: [{ type: 'float64', dims: [512], data: new Float64Array(512) }] }, { _id: 'c', frames: frames(2, 0.3) }])
    expect((await sounds.find().toArray()).map((row) => heard.of(row))).toEqual([a, undefined, b])
    await expect(predictOne(model('flat', { onnx, state: { stateN: 'state' } }), [{ input: frames(1, 1)[0]! }] as never)).rejects.toThrow('"sr" is missing')
  })

  it('refuses declarations that make no sense', () => {
    expect(() => model('m', { run: plus(1).run as never, outputs: ['x'] } as never)).toThrow('is a function and has "outputs"')
    expect(() => model('m', { onnx: 'x.onnx', ouput: 1 } as never)).toThrow('The option "ouput" of model("m", …) is not known.')
    expect(() => sequence('s', [plus(1)] as never)).toThrow('two models or more')
    expect(() => ensemble('e', {})).toThrow('an object of models')
    expect(() => ensemble('e', { a: embed }, { shape: [26] })).toThrow('no "output" step')
    expect(() => retrieve('r', { index: 5 as never })).toThrow('what vectorIndex() makes is expected')
    expect(() => listener({ model: embed, on: 'docs', key: 'text', select: ['a'] })).toThrow('Give the key "_base"')
    expect(() => prompt('p@1', 'Use {context}').run({ question: 'x' })).toThrow('"context"')
  })
})

describe.each(backends)('$name', (backend) => {
  it('sequences and ensembles are listened to; a part that changes is another version of the whole; parts in use stay', async (ctx) => {
    const db = await open(ctx, backend), docs = db.collection<{ n: number }>('docs'), a = await db.add(listener({ model: chain, on: 'docs', key: 'n' })), b = await db.add(listener({ model: both, on: 'docs', key: 'n' }))
    expect((await docs.insert([{ _id: 'x', n: 1 }, { _id: 'y', n: -1 }])).outputs).toEqual({ done: 2, failed: 2, pending: 0 })
    const x = (await docs.findOne({ _id: 'x' }))!
    expect([a.of(x), b.of(x), (await all(a.failures())).map(({ _id, error }) => [_id, error])]).toEqual([20, { a: 2, b: 10 }, [['y', 'negative']]])
    await expect(db.remove('model', 'times')).rejects.toThrow('in use by model "both", model "chain"')
    const next = sequence('chain', [plus(1, 2), times])
    expect((await (await db.add(listener({ model: next, on: 'docs', key: 'n' }))).lineage('x'))!.model).toMatchObject({ name: 'chain', version: 1, parts: [{ model: 'plus1' }, { model: 'times' }] })
    // A process that lacks a step of a part is blocked, and says which.
    const handle = await db.add(chain)
    expect([await handle.predictOne(4), handle.version]).toEqual([50, 0])
  })

  it('searches are inputs of other models: an answer is made from what was found', async (ctx) => {
    const db = await open(ctx, backend), facts = db.collection<{ text: string; year: number }>('facts'), index = vectorIndex('facts', { indexing: listener({ model: embed, on: 'facts', key: 'text' }), compatible: { q: embed } })
    await facts.insert([{ _id: 'a', text: 'lions sleep', year: 1 }, { _id: 'b', text: 'bicycles roll', year: 2 }, { _id: 'c', text: 'old lions', year: 2 }])
    const found = retrieve('found', { index, by: 'q', n: 2, where: { year: { $gte: 1 } }, select: ['text'] })
    const asked = model<string, { question: string }>('asked', { run: step('asked@1', (all: readonly string[]) => all.map((question) => ({ question }))) })
    const filled = model<{ context: readonly { text: string }[]; question: { question: string } }, string>('filled', { run: step('filled@1', async (all: readonly { context: readonly { text: string }[]; question: { question: string } }[]) => Promise.all(all.map((v) => prompt('qa@1', 'Use {context} for {question}').run({ context: v.context.map((c) => c.text), question: v.question.question })))) })
    const answer = sequence('answer', [ensemble('inputs', { context: found, question: asked }), filled as never])
    const qa = await db.add(answer), questions = db.collection<{ q: string }>('questions')
    expect(await qa.predict(['lions'] as never)).toEqual(['Use old lions\nlions sleep for lions'])
    const answers = await db.add(listener({ model: answer as never, on: 'questions', key: 'q' }))
    await questions.insert({ _id: '1', q: 'bicycle' })
    expect(String(answers.of((await questions.findOne())!))).toMatch(/^Use bicycles roll\n/)
    // What is found later changes nothing, until it is asked for.
    await facts.insert({ _id: 'd', text: 'bicycle', year: 3 })
    expect(String(answers.of((await questions.findOne())!))).toMatch(/^Use bicycles roll\n/)
    expect(await answers.refresh()).toEqual({ done: 1, failed: 0, pending: 0 })
    expect(String(answers.of((await questions.findOne())!))).toMatch(/^Use bicycle\nbicycles roll for bicycle$/)
    // What listens to it is made anew too.
    const shout = await db.add(listener({ model: model<string, string>('shout', { run: step('shout@1', (all: readonly string[]) => all.map((t) => t.toUpperCase())) }), on: 'questions', key: listener({ model: answer as never, on: 'questions', key: 'q' }) }))
    await facts.insert({ _id: 'e', text: 'bicyclee', year: 3 })
    await facts.delete({ _id: 'd' })
    await answers.refresh()
    expect(shout.of((await questions.findOne())!)).toMatch(/^USE BICYCLEE\n/)
    const [row] = await (await db.add(found)).predict(['lions'])
    expect(row!.map((r) => Object.keys(r))).toEqual([['_id', 'text', '_fold', 'score'], ['_id', 'text', '_fold', 'score']])
    await expect(db.remove('index', 'facts')).rejects.toThrow('in use by model "found"')
  })

  it('a whole document is given with the fields that are selected, and nothing runs for others', async (ctx) => {
    const db = await open(ctx, backend), docs = db.collection<{ a: number; b: number; c?: number }>('docs')
    let calls = 0
    const names = model<object, string>('names', { run: step('names@1', (all: readonly object[]) => { calls += all.length; return all.map((d) => Object.keys(d).sort().join()) }) }), handle = await db.add(names)
    const some = await handle.listen(docs.find().select('a', 'b') as never, '_base', { name: 'some', maxChunkSize: 2 }), idle = await handle.listen(docs.find() as never, '_base', { name: 'idle', active: false })
    await docs.insert(Array.from({ length: 5 }, (_, i) => ({ _id: `k${i}`, a: i, b: i, c: i })))
    expect([(await docs.find().toArray()).map((row) => [some.of(row), idle.of(row)]), calls]).toEqual([Array.from({ length: 5 }, () => ['_id,a,b', undefined]), 5])
    await docs.update({}, { $set: { c: 9 } })
    expect(calls).toBe(5)
    await docs.update({ _id: 'k1' }, { $set: { a: 9 } })
    expect(calls).toBe(6)
    await expect(handle.listen(docs.find().limit(3) as never, '_base', { name: 'limited' })).rejects.toThrow('"limit" of the query has no meaning')
  })
})

const all = async <T>(of: AsyncIterable<T>): Promise<T[]> => { const list: T[] = []; for await (const one of of) list.push(one); return list }
