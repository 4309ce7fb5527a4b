import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { memory } from '../core/memory.ts'
import { conformance, ruleIds, type ConformanceReport } from './conformance/index.ts'
import { attaching, foreignOf } from './mutants/attaching.ts'
import { around } from './mutants/mutant.ts'
import { narrowly } from './mutants/narrow.ts'
import { remote, remoteServer } from './mutants/remote.ts'
import { searching } from './mutants/searching.ts'

conformance(memory, { uri: 'memory:conformance' })
conformance(narrowly(), { uri: 'memory:narrow', name: 'a plugin that can do as little as is allowed', cases: 60 })
/** Rows only: core gives artifacts and vectors. */
conformance({ ...memory, name: 'bare', connect: async (...args) => { const { server, data, close } = await memory.connect!(...args); return { server, data: data!, close } } }, { uri: 'memory:bare', name: 'a plugin that gives a Datalayer only', areas: ['lifecycle', 'vectors', 'artifacts', 'aliasing'] })
conformance(around('full', { vectors: () => ({}) }), { uri: 'memory:full', name: 'a plugin that can do everything', cases: 60, seed: 2 })

conformance(searching('searching'), { uri: 'memory:searching', name: 'a plugin that searches outputs where they lie', areas: ['vectors', 'aliasing'] })
conformance(attaching('attaching'), { uri: 'memory:attaching', name: 'a plugin that attaches tables of others', areas: ['lifecycle', 'attached', 'notices', 'content'], foreign: foreignOf })
conformance(attaching('stamping', { foreign: false }), { uri: 'memory:stamping', name: "a plugin that gives revs to others' writes by watch", areas: ['attached', 'notices'], foreign: foreignOf })
const server = await remoteServer()
afterAll(() => server.close())
conformance(remote('remote'), { uri: `remote://127.0.0.1:${server.port}/db`, name: 'a plugin behind a network', areas: ['lifecycle', 'rows', 'slots', 'engine', 'concurrency', 'components', 'faults'] })

describe('the suite', () => {
  it('gives each rule an id of its own, by area, topic and rule', () => {
    expect(new Set(ruleIds).size).toBe(ruleIds.length)
    expect(ruleIds.filter((id) => !/^[a-z]+\.[a-z0-9-]+\.[a-z0-9-]+$/.test(id))).toEqual([])
  })

  it('has 600 rules and more', () => {
    expect(ruleIds.length).toBeGreaterThan(600)
  })
})

describe('a run of the suite', () => {
  const folder = mkdtempSync(join(tmpdir(), 'inlay-suite-')), here = (path: string): string => JSON.stringify(join(import.meta.dirname, path))
  afterAll(() => rmSync(folder, { recursive: true, force: true }))
  /** Runs these calls of conformance() in a vitest of their own; gives its tests and what it wrote. */
  function run(calls: string): { readonly status: number | null; readonly output: string; readonly backends: ConformanceReport['backends'] } {
    const at = mkdtempSync(join(folder, 'run-'))
    writeFileSync(join(at, 'run.test.ts'), `import { memory } from ${here('../core/memory.ts')}\nimport { conformance } from ${here('conformance/index.ts')}\nimport { around } from ${here('mutants/mutant.ts')}\n${calls}\n`)
    const { INLAY_TEST_CONFORMANCE_OUT: _, ...env } = process.env
    const { status, stdout, stderr } = spawnSync(process.execPath, [join(import.meta.dirname, '../node_modules/vitest/vitest.mjs'), 'run', '--root', at, '--reporter', 'default'], { encoding: 'utf8', env: { ...env, NO_COLOR: '1' }, cwd: join(import.meta.dirname, '..') })
    return { status, output: stdout + stderr, backends: existsSync(join(at, 'out')) ? (JSON.parse(readFileSync(join(at, 'out/conformance.json'), 'utf8')) as ConformanceReport).backends : [] }
  }
  const out = `out: import.meta.dirname + '/out'`

  it('fails with a sentence where there is no URI, or an empty one', () => {
    for (const uri of ['undefined', `''`, `() => ''`]) {
      const { status, output } = run(`conformance(memory, { uri: ${uri}, name: 'mine', areas: ['aliasing'] })`)
      expect([uri, status]).toEqual([uri, 1])
      expect(output).toMatch(/was given no database for mine: "uri" is (missing|empty)\. Set the variable/)
    }
  })

  it('counts a rule that fails as expected, and goes on', () => {
    const { status, backends } = run(`const overwrites = around('overwrites', { data: (next) => ({ write: (name, ops, ctx) => next.write(name, ops.map((op) => (op.kind === 'insert' ? { ...op, kind: 'put' } : op)), ctx) }) })
conformance(overwrites, { uri: 'memory:runner', areas: ['aliasing', 'components'], ${out}, expectedFailures: { 'components.race.equal': 'inserts overwrite', 'components.race.versions': 'inserts overwrite' } })`)
    expect(backends[0]!.failed).toEqual([])
    expect(backends[0]!.expected).toContainEqual({ id: 'components.race.equal', why: 'inserts overwrite' })
    expect([status, backends[0]!.areas['components']!.expected, backends[0]!.areas['aliasing']!.passed]).toEqual([0, 2, 11])
  })

  it('fails where an expected failure holds, is skipped, or is no rule', () => {
    const { status, output, backends } = run(`conformance(memory, { uri: 'memory:runner', areas: ['aliasing', 'components'], ${out}, expectedFailures: { 'aliasing.given.document': 'was wrong', 'components.durable.kept': 'was wrong', 'aliasing.none.such': 'is none' } })`)
    expect([status, [...backends[0]!.failed].sort()]).toEqual([1, ['aliasing.given.document', 'components.durable.kept']])
    for (const said of ['aliasing.given.document is listed as an expected failure (was wrong) and holds', 'components.durable.kept is listed as an expected failure and is skipped', '"expectedFailures" names aliasing.none.such, which are no rules']) expect(output).toContain(said)
  })

  it('writes what it found as data and as a table, of all backends of the run', () => {
    const at = mkdtempSync(join(folder, 'both-')), both = `out: ${JSON.stringify(at)}`
    run(`conformance(memory, { uri: 'memory:one', name: 'one', areas: ['aliasing', 'components'], ${both} })\nconformance(memory, { uri: 'memory:two', name: 'two', areas: ['aliasing'], ${both} })`)
    const { backends } = JSON.parse(readFileSync(join(at, 'conformance.json'), 'utf8')) as ConformanceReport
    expect(backends.map(({ name, plugin, server, capabilities: { durable }, artifacts }) => [name, plugin, server, durable, artifacts])).toEqual([['one', 'memory', 'memory', false, 'plugin'], ['two', 'memory', 'memory', false, 'plugin']])
    expect(backends[0]!.skipped).toContainEqual({ id: 'components.durable.kept', reason: 'needs a durable database, and this one says that it is not' })
    expect(readFileSync(join(at, 'conformance.txt'), 'utf8')).toMatch(/^area +one +two\naliasing +11 +11\ncomponents +\d+, 2 skipped\nall +\d+, 2 skipped +11\n$/)
  })
})
