/** The plugin of examples/plugin-sqlite as its author has it: a folder of its own, with a packed Inlay in node_modules and nothing else of this repository. No network. */
import { execFile } from 'node:child_process'
import { cpSync, globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { ConformanceReport } from './conformance/index.ts'
import { programsOf } from './support/doc-blocks.ts'
import { root, sources } from './support/source.ts'

const run = promisify(execFile)
const example = join(root, 'examples/plugin-sqlite'), packages = join(root, 'node_modules')
const folder = mkdtempSync(join(tmpdir(), 'inlay-stranger-')), project = join(folder, 'plugin-sqlite')
const { dependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { readonly dependencies: Readonly<Record<string, string>> }

/** Builds and packs in a folder of its own, so that `dist/` stays as it is for whoever uses it. */
beforeAll(async () => {
  const staged = join(folder, 'staged'), installed = join(project, 'node_modules/inlay')
  await run(process.execPath, [join(packages, 'typescript/bin/tsc'), '--project', join(root, 'tsconfig.build.json'), '--outDir', join(staged, 'dist')])
  for (const file of ['package.json', 'README.md', 'LICENSE', 'NOTICE', 'CHANGELOG.md', 'docs']) cpSync(join(root, file), join(staged, file), { recursive: true })
  await run('npm', ['pack', '--ignore-scripts', '--offline', '--pack-destination', folder], { cwd: staged })
  cpSync(example, project, { recursive: true, filter: (from) => !/\/(node_modules|dist)$/.test(from) })
  mkdirSync(installed, { recursive: true })
  await run('tar', ['-xzf', join(folder, globSync('*.tgz', { cwd: folder })[0]!), '--strip-components=1', '-C', installed])
  for (const name of [...Object.keys(dependencies), 'vitest', 'typescript', '@types/node']) {
    mkdirSync(dirname(join(project, 'node_modules', name)), { recursive: true })
    symlinkSync(join(packages, name), join(project, 'node_modules', name), 'dir')
  }
}, 120_000)
afterAll(() => rmSync(folder, { recursive: true, force: true }))

/** vitest in the project, in a process of its own; output in full where it fails. */
async function vitest(...args: readonly string[]): Promise<{ readonly numPassedTests: number; readonly numFailedTests: number }> {
  const report = join(folder, 'vitest.json')
  const { INLAY_TEST_CONFORMANCE_OUT: _, VITEST: __, ...env } = process.env
  const said = await run(process.execPath, [join(packages, 'vitest/vitest.mjs'), 'run', '--reporter=default', '--reporter=json', `--outputFile=${report}`, ...args], { cwd: project, env: { ...env, INLAY_TEST_CONFORMANCE_OUT: join(folder, 'out') }, maxBuffer: 2 ** 26 })
    .catch((error: { stdout: string; stderr: string }) => error)
  const counts = JSON.parse(readFileSync(report, 'utf8')) as { readonly numPassedTests: number; readonly numFailedTests: number }
  expect(counts.numFailedTests, said.stdout + said.stderr).toBe(0)
  return counts
}

describe('examples/plugin-sqlite', () => {
  it('imports what a stranger has: node:, vitest, its own files, and three entries of the package', () => {
    const allowed = ['inlay', 'inlay/plugin', 'inlay/conformance', 'vitest', 'vitest/config']
    expect(sources('examples/plugin-sqlite/**/*.ts').flatMap(({ arrows }) => arrows).filter(({ to }) => !allowed.includes(to) && !to.startsWith('node:') && !to.startsWith('examples/plugin-sqlite/'))).toEqual([])
  })

  it('type-checks against the types of the packed package', { timeout: 60_000 }, async () => {
    const { stdout } = await run(process.execPath, [join(packages, 'typescript/bin/tsc'), '--project', project], { cwd: project }).catch((error: { stdout: string }) => error)
    expect(stdout).toBe('')
  })

  it('conforms, on a file in all areas but "big", and in memory', { timeout: 240_000 }, async () => {
    await vitest('conformance.test.ts', '-t', '^sqlite (conforms > (?!big > )|in memory conforms > (lifecycle|rows|slots) > )')
    const { backends } = JSON.parse(readFileSync(join(folder, 'out/conformance.json'), 'utf8')) as ConformanceReport
    for (const { name, server, areas, skipped } of backends) {
      const all = Object.values(areas), sum = (of: 'passed' | 'skipped' | 'failed'): number => all.reduce((n, counts) => n + counts[of], 0)
      console.log(`${name}, ${server}: ${sum('passed')} rules hold, ${sum('skipped')} are skipped by its capabilities, ${sum('failed')} fail.`)
      expect([sum('failed'), skipped.length]).toEqual([0, sum('skipped')])
    }
    const [inMemory, onFile] = [backends.find(({ name }) => name === 'sqlite in memory'), backends.find(({ name }) => name === 'sqlite')]
    expect(inMemory?.capabilities).toMatchObject({ durable: false, writers: 'one-process' })
    expect(onFile?.capabilities).toMatchObject({ durable: true, writers: 'many', givenRevs: true })
    // "faults" needs a server on a host and port.
    expect(Object.entries(onFile!.areas).flatMap(([area, { passed }]) => (passed === 0 ? [area] : []))).toEqual(['faults', 'big'])
  })

  it('loses nothing between processes, and lets the event loop run', { timeout: 60_000 }, async () => {
    expect((await vitest('sqlite.test.ts')).numPassedTests).toBe(4)
  })
})

describe('docs/writing-a-plugin.md', () => {
  it('has a Datalayer for which every rule holds that applies', { timeout: 120_000 }, async () => {
    writeFileSync(join(project, 'tiny.ts'), programsOf(readFileSync(join(root, 'docs/writing-a-plugin.md'), 'utf8'))[0]!.code)
    writeFileSync(join(project, 'tiny.test.ts'), `import { conformance } from 'inlay/conformance'
import { plugin } from './tiny.ts'
conformance(plugin, { uri: 'tiny:test', areas: ['lifecycle', 'rows', 'slots', 'aliasing', 'engine'] })
`)
    expect((await vitest('tiny.test.ts')).numPassedTests).toBeGreaterThan(150)
  })
})
