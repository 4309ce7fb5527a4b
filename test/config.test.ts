import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { resolveConfig } from '../core/config.ts'
import { race } from '../core/guard.ts'
import type { Middleware, Plugin } from '../core/contract.ts'
import { memory } from '../core/memory.ts'
import { redact } from '../core/uri.ts'
import { inlay, tokens } from '../index.ts'
import { temporaryFolder } from './support/temporary.ts'

function folder(files: Readonly<Record<string, string>>): string {
  const made = temporaryFolder()
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(join(made, name, '..'), { recursive: true })
    writeFileSync(join(made, name), text)
  }
  return made
}

describe('configuration', () => {
  it('takes code over the environment over the file over defaults, for nested keys too', async () => {
    const cwd = folder({ 'inlay.config.json': JSON.stringify({ data: 'memory:file', namespace: 'from_file', models: { device: 'cuda' }, artifacts: 'file:./a' }), 'deep/er/x': '' })
    const env = { INLAY_NAMESPACE: 'from_env', INLAY_MODELS__DEVICE: 'webgpu', INLAY_TEST_POSTGRES_URL: 'not configuration', PATH: '/bin' }
    const found = await resolveConfig({ outputs: 'worker' }, env, join(cwd, 'deep/er'))
    expect(found).toMatchObject({ data: 'memory:file', namespace: 'from_env', models: { device: 'webgpu' }, artifacts: 'file:./a', outputs: 'worker', folder: cwd })
    expect(await resolveConfig({ data: 'memory:code', namespace: 'code', models: { device: 'cpu' } }, env, cwd)).toMatchObject({ data: 'memory:code', namespace: 'code', models: { device: 'cpu' } })
    expect(await resolveConfig('memory:text', {}, cwd)).toMatchObject({ data: 'memory:text', namespace: 'from_file' })
    expect(await resolveConfig({ data: 'memory:', config: false }, {}, cwd)).toMatchObject({ namespace: 'inlay', outputs: 'inline' })
  })

  it('reads TypeScript and JavaScript files', async () => {
    expect(await resolveConfig(undefined, {}, folder({ 'inlay.config.ts': 'const data: string = "memory:ts"\nexport default { data }' }))).toMatchObject({ data: 'memory:ts' })
    expect(await resolveConfig({ config: 'other.js' }, {}, folder({ 'other.js': 'export default { data: "memory:js" }', 'package.json': '{"type":"module"}' }))).toMatchObject({ data: 'memory:js' })
  })

  it('refuses unknown keys and wrong values of the environment and of files, naming the place', async () => {
    await expect(resolveConfig({}, { INLAY_DATABASE: 'x' }, '/')).rejects.toThrow(/INLAY_DATABASE is not known. Known: INLAY_DATA, INLAY_VECTORS/)
    await expect(resolveConfig({}, { INLAY_OUTPUTS: 'none' }, '/')).rejects.toThrow(/"outputs" of the environment is "none"/)
    await expect(resolveConfig({}, {}, folder({ 'inlay.config.json': '{"dta": "memory:"}' }))).rejects.toThrow(/"dta" of .*inlay.config.json is not known/)
    await expect(resolveConfig({}, {}, folder({ 'inlay.config.ts': 'export const x = 1' }))).rejects.toThrow(/no default export/)
    await expect(resolveConfig({}, {}, folder({ 'inlay.config.ts': 'throw new Error("my mistake")' }))).rejects.toThrow(/cannot be read: my mistake/)
    await expect(resolveConfig({ config: './none.ts' }, {}, folder({}))).rejects.toThrow(/none.ts" does not exist/)
  })

  it('uses memory with one warning when there is nothing else', async () => {
    const said: string[] = []
    expect(await resolveConfig({ log: { warn: (m) => said.push(m) } }, {}, folder({}))).toMatchObject({ data: 'memory:' })
    expect(said).toEqual([expect.stringContaining('No database is configured')])
  })

  it('redacts passwords, whatever the text around them', () => {
    expect(redact('cannot reach postgres://me:s%3Acret@host:5432/db?sslpassword=s3cret&a=1 or mongodb://u:p@a,b/x')).toBe('cannot reach postgres://me:***@host:5432/db?sslpassword=***&a=1 or mongodb://u:***@a,b/x')
    expect(redact('memory:x and file:./y')).toBe('memory:x and file:./y')
  })
})

describe('opening', () => {
  const logging = (log: string[], name: string, schemes: readonly string[]): Plugin => ({
    name, contract: 1, schemes, identify: (uri) => uri.replace(/\?.*/, ''),
    async connect(uri, options, ctx) {
      log.push(`open ${uri}`)
      const made = await memory.connect!(`memory:${Math.random()}`, options, ctx)
      return { ...made, close: async () => { log.push(`close ${uri}`) } }
    },
  })

  it('opens one connection per identity, and closes last first', async () => {
    const log: string[] = [], plugins = [logging(log, 'a', ['a']), logging(log, 'b', ['b'])]
    const db = await inlay({ data: 'a:1?x', artifacts: 'b:2', vectors: 'a:1?y', plugins, config: false })
    await db.close()
    expect(log).toEqual(['open a:1?x', 'open b:2', 'close b:2', 'close a:1?x'])
  })

  it('closes what was opened when something later cannot be', async () => {
    const log: string[] = []
    await expect(inlay({ data: 'a:1', artifacts: 'none:2', plugins: [logging(log, 'a', ['a'])], config: false })).rejects.toMatchObject({ code: 'PLUGIN_NOT_FOUND' })
    expect(log).toEqual(['open a:1', 'close a:1'])
  })

  it('prefers plugin objects to its own, and refuses another contract', async () => {
    const log: string[] = [], db = await inlay({ data: 'memory:mine', plugins: [logging(log, 'mine', ['memory'])], config: false })
    await db.close()
    expect(log).toEqual(['open memory:mine', 'close memory:mine'])
    await expect(inlay({ data: 'a:1', plugins: [{ ...logging(log, 'old', ['a']), contract: 2 as never }], config: false })).rejects.toMatchObject({ code: 'PLUGIN_INCOMPATIBLE' })
  })

  it('puts middleware around in the order given, inside of its guards, and lets it spread a part', async () => {
    const log: string[] = []
    const named = (name: string): Middleware => ({ name, data: (next) => ({ ...next, count: async (query, ctx) => { log.push(name); return next.count(query, ctx) } }) })
    const db = await inlay({ data: 'memory:', config: false, middleware: [named('first'), named('second')] })
    await db.collection('docs').find().count()
    expect(log).toEqual(['first', 'second'])
    await db.close()
  })

  it('replaces any part by its token', async () => {
    const lines: string[] = []
    const db = await inlay({ data: 'memory:', config: false, container: (c) => { c.register(tokens.Log, { useValue: { warn: (m: string) => { lines.push(m) } } }) } })
    const { model, step } = await import('../index.ts')
    await db.add(model<string, string>('m', { run: step('same@1', (all: readonly string[]) => all) }))
    await db.add(model<string, string>('m', { run: step('same@1', (all: readonly string[]) => [...all]) }))
    expect(lines).toEqual([expect.stringContaining('declared twice with different code'), expect.stringContaining('other code than when its model was added')])
    await db.close()
  })
})

it('a call that is stopped before it waits does not wait', async () => {
  await expect(race(new Promise(() => {}), { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'ABORTED' })
})
