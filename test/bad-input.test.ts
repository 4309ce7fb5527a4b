/** Bad input: a typed error, or an entry for the row, that names the value, what was expected and what to do; and never a lost neighbour. */
import { writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { inspect } from 'node:util'
import { describe, expect, it } from 'vitest'
import { inlay, InlayError, listener, model, step, vectorIndex, type ErrorCode } from '../index.ts'
import { backends, open } from './support/backends.ts'
import { root } from './support/source.ts'
import { temporaryFolder } from './support/temporary.ts'

async function errorOf(act: () => unknown): Promise<InlayError> {
  try {
    await act()
  } catch (error) {
    if (error instanceof InlayError) return error
    throw error
  }
  throw new Error('Nothing was thrown.')
}
async function expectError(act: () => unknown, code: ErrorCode, ...says: readonly (string | RegExp)[]): Promise<void> {
  const error = await errorOf(act)
  expect(error.code, error.message).toBe(code)
  for (const part of says) expect(error.message).toMatch(part)
}

describe('opening', () => {
  it.each([
    ['no-uri', 'CONFIG_INVALID', ['"no-uri"', 'a scheme such as']],
    ['cassandra://user:secret@host/db', 'PLUGIN_NOT_FOUND', ['"cassandra:"', 'Known schemes: duckdb, file, memory, mongodb, mongodb+srv, pglite, postgres', 'Add the plugin']],
    ['postgres://user:secret@127.0.0.1:1/db', 'UNAVAILABLE', ['127.0.0.1:1', 'ECONNREFUSED', 'Is the server running']],
    ['postgres://user:secret@127.0.0.1:notaport/db', 'CONFIG_INVALID', ['127.0.0.1', 'Invalid URL', 'Are host, port']],
    ['pglite:', 'CONFIG_INVALID', ['names no folder', 'pglite:./folder']],
    [`file:${join(tmpdir(), 'inlay-no-rows')}`, 'CONFIG_INVALID', ['keeps no rows']],
    ['postgres//u:secret@h/x', 'CONFIG_INVALID', ['***@h/x', 'a scheme such as']],
    ['u:secret@h/x', 'PLUGIN_NOT_FOUND', ['***@h/x']],
    ['postgres://u: secret@127.0.0.1:1/x', 'UNAVAILABLE', ['postgres://***@127.0.0.1:1/x']],
    ['postgres://u:secr/et@127.0.0.1:1/x', 'CONFIG_INVALID', ['127.0.0.1:1/x']],
    ['pglite:./package.json', 'CONFIG_INVALID', ['package.json', 'not a file']],
    ['pglite:./package.json/deeper', 'CONFIG_INVALID', ['deeper', 'not a file']],
    ['pglite://u:secret@h/x', 'CONFIG_INVALID', ['pglite:./folder']],
  ] as const)('%s is refused with %s', async (uri, code, says) => {
    const error = await errorOf(() => inlay({ data: uri, config: false }))
    expect(error.code, error.message).toBe(code)
    for (const part of says) expect(error.message).toContain(part)
    expect(inspect(error, { depth: 9 })).not.toContain('secret')
  })

  it('names an unknown key of the configuration and the known ones', async () => {
    await expectError(() => inlay({ data: 'memory:', database: 'x' } as never), 'CONFIG_INVALID', '"database"', 'Known: data, vectors')
    await expectError(() => inlay({ data: 'memory:', namespace: 'No Good' }), 'CONFIG_INVALID', '"namespace"', '"No Good"')
    await expectError(() => inlay({ data: 'memory:', models: { gpu: true } } as never), 'CONFIG_INVALID', '"models.gpu"', 'Known: device')
    await expectError(() => inlay({ data: 'memory:', artifacts: 'memory:', plugins: ['@acme/not-there'] }), 'PLUGIN_NOT_FOUND', '@acme/not-there', 'npm install')
  })

  it('tells a missing driver from a missing plugin, with the command that installs it', async () => {
    // The sources in a folder without node_modules next to them: what an application without the driver has.
    const { cpSync, symlinkSync, mkdirSync } = await import('node:fs'), folder = temporaryFolder()
    for (const part of ['core', 'plugins', 'index.ts', 'package.json']) cpSync(join(root, part), join(folder, part), { recursive: true })
    mkdirSync(join(folder, 'node_modules'))
    for (const library of ['tsyringe', 'tslib', 'reflect-metadata', 'uuid', 'ipaddr.js']) symlinkSync(join(root, 'node_modules', library), join(folder, 'node_modules', library))
    const { spawnSync } = await import('node:child_process')
    const program = `const { inlay } = await import('./index.ts'); for (const data of ['postgres://127.0.0.1/x', 'pglite::memory:']) await inlay({ data, config: false }).catch((e) => console.log(e.code, e.message))`
    const { stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', program], { cwd: folder, encoding: 'utf8' })
    expect(stdout).toContain('DRIVER_MISSING The driver "pg" is not installed, which "postgres:" needs. Install it with "npm install pg".')
    expect(stdout).toContain('DRIVER_MISSING The drivers of "pglite:" are not installed. Install them with "npm install @electric-sql/pglite@0.5.14 @electric-sql/pglite-pgvector@0.0.15".')
  }, 30_000)
})

describe.each(backends)('$name', (backend) => {
  const vectors = (name: string, of: (text: string) => number[]) => model<string, Float32Array>(name, { run: step(`${name}@1`, (all: readonly string[]) => all.map((text) => Float32Array.from(of(text)))), shape: [2] })

  it('refuses single rows and stores their neighbours', async (ctx) => {
    const db = await open(ctx, backend), docs = db.collection('docs')
    await docs.insert({ _id: 'there', n: 1 })
    const { ids, refused } = await docs.insert([
      { _id: 'a', n: 1 }, { _id: 'there' }, { _id: 5 }, { _id: '' }, { _id: 'b\0' }, { _id: 'x'.repeat(100_000) }, { text: '\ud800' }, { deep: { list: [1, () => 1] } }, { map: new Map() },
      { at: new Date(Number.NaN) }, { '\u0001date': 1 }, { x: { _content: 1 } }, { _outputs: {} }, { _fold: 'test' }, { _id: 'a' }, 5, null, { _id: 'z', n: 2 },
    ] as never)
    const { refuses, limits } = db.capabilities
    expect(ids).toEqual(limits.keyBytes === undefined ? ['a', 'x'.repeat(100_000), 'z'] : ['a', 'z'])
    expect(refused.filter((r) => r.index !== 5).map(({ index, code, path, reason }) => [index, code, path, reason])).toEqual([
      [1, 'ALREADY_EXISTS', undefined, 'a row with _id "there" exists already; use replace or update to change it'],
      [2, 'INVALID_ARGUMENT', '_id', '_id is 5; a string of at least one character is expected'],
      [3, 'INVALID_ARGUMENT', '_id', '_id is ""; a string of at least one character is expected'],
      [4, 'INVALID_ARGUMENT', '_id', '_id "b\\u0000" has a lone surrogate or a NUL character'],
      [6, 'INVALID_ARGUMENT', 'text', '"\\ud800" has a lone surrogate, which has no UTF-8 form'],
      [7, 'INVALID_ARGUMENT', 'deep.list.1', 'function (anonymous) is no value that can be stored: use null, or leave the field out'],
      [8, 'INVALID_ARGUMENT', 'map', 'a Map cannot be stored: give a plain object, or add a codec for it'],
      [9, 'INVALID_ARGUMENT', 'at', 'the date is invalid'],
      [10, 'INVALID_ARGUMENT', '\u0001date', 'a field name that begins with U+0001 is reserved'],
      [11, 'INVALID_ARGUMENT', 'x', 'the form of _content is { bytes | uri | artifact, codec }; {"_content":1} has another'],
      [12, 'INVALID_ARGUMENT', '_outputs', 'the field "_outputs" is kept by Inlay; leave it out'],
      [13, 'INVALID_ARGUMENT', '_fold', '_fold is "test"; "train" or "valid" is expected'],
      [14, 'ALREADY_EXISTS', undefined, 'a row with _id "a" exists already; use replace or update to change it'],
      [15, 'INVALID_ARGUMENT', undefined, '5 is no document: a plain object is expected'],
      [16, 'INVALID_ARGUMENT', undefined, 'null is no document: a plain object is expected'],
    ])
    expect(await docs.find().count()).toBe(ids.length + 1)
    const nul = await docs.insert([{ _id: 'nul', s: 'a\0b' }, { _id: 'beside' }])
    expect(nul.ids.includes('beside')).toBe(true)
    expect(nul.refused.map((r) => [r.id, r.path])).toEqual(refuses.includes('nul') ? [['nul', 's']] : [])
  })

  it('refuses a replace and an update that cannot be, for their row only', async (ctx) => {
    const docs = (await open(ctx, backend)).collection<{ n: unknown }>('docs')
    await docs.insert([{ _id: 'a', n: 1 }, { _id: 'b', n: 'text' }, { _id: 'c', n: 3 }])
    const changed = await docs.update({}, { $inc: { n: 1 } } as never)
    expect([changed.ids, changed.refused.map((r) => [r.id, r.code])]).toEqual([['a', 'c'], [['b', 'INVALID_ARGUMENT']]])
    expect((await docs.replace('none', { n: 1 })).refused).toMatchObject([{ id: 'none', code: 'NOT_FOUND', reason: 'there is no row with _id "none"; insert it' }])
    expect((await docs.replace('a', { _id: 'b', n: 1 })).refused).toMatchObject([{ id: 'a', code: 'INVALID_ARGUMENT', path: '_id' }])
    await expectError(() => docs.delete({}), 'INVALID_ARGUMENT', 'would delete every row of "docs"', '{ all: true }')
    await expectError(() => docs.update({}, {} as never), 'INVALID_ARGUMENT', '$set')
    expect(await docs.find().count()).toBe(3)
  })

  it('refuses names', async (ctx) => {
    const db = await open(ctx, backend)
    await expectError(() => db.collection('_own'), 'INVALID_ARGUMENT', '"_own"', 'reserved')
    await expectError(() => db.collection(''), 'INVALID_ARGUMENT', '""')
    const { nameBytes } = db.capabilities.limits
    if (nameBytes === undefined) db.collection('n'.repeat(200))
    else await expectError(() => db.collection('é'.repeat(nameBytes)), 'INVALID_ARGUMENT', `${2 * nameBytes} bytes; this database takes ${nameBytes}`, 'shorter')
    await expectError(() => model('my model', { run: step('x@1', (all: readonly string[]) => all) }), 'INVALID_ARGUMENT', '"my model"', 'Try "my_model"')
    await expectError(() => step('no-version' as never, () => 1), 'INVALID_ARGUMENT', 'name@version')
    await expectError(() => listener({ model: vectors('v', () => [1, 1]), on: 'docs', key: 'a.b' }), 'INVALID_ARGUMENT', 'needs a name', '"a_b_v"')
    await expectError(() => listener({ model: vectors('v', () => [1, 1]), on: 'docs', key: 'x'.repeat(60) }), 'INVALID_ARGUMENT', 'needs a name')
  })

  it('refuses filters, orders and pages that have no portable meaning', async (ctx) => {
    const docs = (await open(ctx, backend)).collection<{ n: number; text: string }>('docs')
    await expectError(() => docs.find({ n: { $near: 1 } } as never).toArray(), 'UNSUPPORTED', '$near', 'Known here')
    await expectError(() => docs.find({ n: { $mod: [2, 1] } } as never).count(), 'UNSUPPORTED', '$mod')
    await expectError(() => docs.find({ text: /a/ } as never).first(), 'INVALID_ARGUMENT', 'text')
    await expectError(() => docs.find({ text: { $regex: 'a' } } as never).first(), 'INVALID_ARGUMENT', '$regex')
    await expectError(() => docs.find({ '_outputs.text.none': 1 }).toArray(), 'NOT_FOUND', '_outputs.text.none', 'no listeners')
    await expectError(() => docs.find().limit(0), 'INVALID_ARGUMENT', 'limit is 0')
    await expectError(() => docs.find().skip(-1), 'INVALID_ARGUMENT', 'skip is -1')
    await expectError(() => docs.find().sort({ 'n.0': 1 }), 'INVALID_ARGUMENT', 'n.0')
  })

  it('stores the error of a row whose model throws, or gives what is no such vector, and the outputs of all others', async (ctx) => {
    const db = await open(ctx, backend), docs = db.collection<{ text: string }>('docs')
    const of = (text: string): number[] => { if (text === 'boom') throw new Error('no embedding for boom \0 \ud800'); return text === 'nan' ? [Number.NaN, 1] : text === 'long' ? [1, 2, 3] : text === '' ? [0, 0] : [text.length, 1] }
    const vector = await (await db.add(vectors('vector', of))).listen(docs.find(), 'text'), index = await db.add(vectorIndex('near', { indexing: vector }))
    const { outputs } = await docs.insert(['a', 'boom', 'nan', 'bb', 'long', '', 'ccc'].map((text) => ({ _id: `t-${text}`, text })))
    expect(outputs).toEqual({ done: 3, failed: 4, pending: 0 })
    expect((await docs.find().like({ text: 'bb' }, index).toArray()).map((hit) => hit.text).sort()).toEqual(['a', 'bb', 'ccc'])
    const health = await db.verify()
    expect(health).toMatchObject({ ok: false, missing: 0, stale: 0, failed: 4 })
    expect(health.listeners[0]!.failures.find((f) => f._id === 't-boom')).toEqual({ _id: 't-boom', error: 'no embedding for boom \uFFFD \uFFFD', tries: 1 })
    await expectError(() => docs.find().like({ text: '' }, index).toArray(), 'INVALID_ARGUMENT', 'no direction')
    await expectError(() => docs.find().like({ text: 'nan' }, index).toArray(), 'INVALID_ARGUMENT', 'NaN at position 0')
    await expectError(() => docs.find().like({ text: 'long' }, index).toArray(), 'INVALID_ARGUMENT', '3 dimensions, 2 are expected')
    await expectError(() => docs.find().like('t-none', index).toArray(), 'NOT_FOUND', '"t-none"')
    await expectError(() => docs.find().like('t-boom', index).toArray(), 'NOT_FOUND', '"t-boom"', 'no vector')
    await expectError(() => docs.find().like({ txt: 'a' } as never, index).toArray(), 'INVALID_ARGUMENT', '"text"', 'txt')
    await expectError(() => docs.find().like({ text: 'a' }, index, { n: 0 }), 'INVALID_ARGUMENT', 'n is 0')
    await expectError(() => docs.find().like({ text: 'a' }, { kind: 'index', name: 'far' } as never).toArray(), 'NOT_FOUND', '"far"', 'Known: near')
    await expectError(() => db.add(vectorIndex('other', { indexing: vector, compatible: { title: model<string, Float32Array>('wide', { run: step('wide@1', (all: readonly string[]) => all.map(() => new Float32Array(3))), shape: [3] }) } })), 'INVALID_ARGUMENT', '3 dimensions; the indexed listener gives 2')
  })

  it('refuses a graph that is missing or damaged before anything is stored', async (ctx) => {
    const db = await open(ctx, backend), folder = temporaryFolder(), cut = join(folder, 'cut.onnx')
    writeFileSync(cut, 'not a graph at all')
    await expectError(() => db.add(model('absent', { onnx: join(folder, 'absent.onnx'), shape: [2] })), 'NOT_FOUND', 'absent.onnx', 'cannot be read')
    await expectError(() => db.add(model('cut', { onnx: cut, shape: [2] })), 'INVALID_ARGUMENT', 'cut.onnx', 'no ONNX graph')
    expect(await db.show('model')).toEqual([])
  })

  it('refuses calls after close, and stops by its signal', async (ctx) => {
    const db = await open(ctx, backend), docs = db.collection<{ n: number }>('docs')
    await docs.insert([{ n: 1 }, { n: 2 }])
    await expectError(() => docs.insert([{ n: 3 }], { signal: AbortSignal.abort(new Error('enough')) }), 'ABORTED', 'enough')
    await expectError(() => docs.find().signal(AbortSignal.abort()).toArray(), 'ABORTED')
    const stop = new AbortController()
    async function* endless(): AsyncGenerator<{ n: number }> {
      for (let n = 0; ; n++) {
        if (n === 4200) stop.abort(new Error('long enough'))
        yield { n }
      }
    }
    const error = await errorOf(() => docs.insert(endless(), { signal: stop.signal }))
    expect(error.code).toBe('ABORTED')
    expect((error.details['ids'] as readonly string[]).length).toBe(await docs.find().count() - 2)
    await db.close()
    await db.close()
    await expectError(() => docs.find().toArray(), 'CLOSED', 'inlay()')
    await expectError(() => docs.insert({ n: 1 }), 'CLOSED')
    await expectError(() => db.show(), 'CLOSED')
  })
})
