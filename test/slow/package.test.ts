/** The package as users get it: packed, installed into empty projects, imported and type-checked. */
import { execFile } from 'node:child_process'
import { existsSync, globSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { root, sources } from '../support/source.ts'

const run = promisify(execFile)
const { exports, peerDependencies, devDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
  readonly exports: Readonly<Record<string, string | { readonly default: string }>>
  readonly peerDependencies: Readonly<Record<string, string>>
  readonly devDependencies: Readonly<Record<string, string>>
}
const folder = mkdtempSync(join(tmpdir(), 'inlay-package-'))
let tarball: string

beforeAll(async () => {
  await run('npm', ['pack', '--pack-destination', folder], { cwd: root })     // builds first: "prepack"
  tarball = join(folder, globSync('*.tgz', { cwd: folder })[0]!)
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

/** An empty project with the packed Inlay and some more packages. */
async function project(packages: readonly string[]): Promise<string> {
  const at = mkdtempSync(join(folder, 'project-'))
  writeFileSync(join(at, 'package.json'), '{ "private": true, "type": "module" }\n')
  await run('npm', ['install', '--prefer-offline', '--no-audit', '--no-fund', '--ignore-scripts', '--no-package-lock', tarball, ...packages], { cwd: at })
  return at
}

/** The peers that the sources of a subpath import. */
function peersOf(entry: string): string[] {
  const inside = /^(.*)\/index\.js$/.exec(entry)?.[1]?.replace('./dist/', '') ?? 'none'
  const imported = new Set(sources(inside === 'core' ? 'none' : `${inside}/**/*.ts`).flatMap(({ arrows }) => arrows.map(({ to }) => to)))
  return Object.keys(peerDependencies).filter((name) => imported.has(name))
}

describe('the packed package', () => {
  it('holds code and types for every export, and no sources or tests', async () => {
    const { stdout } = await run('tar', ['-tf', tarball])
    const files = stdout.trim().split('\n').map((line) => line.replace('package/', ''))
    const targets = Object.values(exports).flatMap((target) => (typeof target === 'string' ? [target] : Object.values(target))).map((target) => target.slice('./'.length))
    expect(targets.filter((target) => !files.includes(target))).toEqual([])
    expect(files.filter((file) => /\.test\.|^(core|plugins|test|bench|examples)\/|(?<!\.d)\.ts$/.test(file))).toEqual([])
    expect(files).toEqual(expect.arrayContaining(['LICENSE', 'README.md', 'CHANGELOG.md', 'docs/errors.md']))
  })

  for (const [subpath, target] of Object.entries(exports)) {
    if (typeof target === 'string') continue
    const name = join('inlay', subpath), peers = peersOf(target.default)
    it(`${name} can be imported with ${peers.length === 0 ? 'no peer' : peers.join(', ')} installed`, async () => {
      const at = await project(peers.map((peer) => `${peer}@${devDependencies[peer]}`))
      expect(Object.keys(peerDependencies).filter((peer) => !peers.includes(peer) && existsSync(join(at, 'node_modules', peer)))).toEqual([])
      const { stdout } = await run(process.execPath, ['--input-type=module', '-e', `console.log(Object.keys(await import('${name}')).length > 0)`], { cwd: at })
      expect(stdout).toBe('true\n')
    })
  }

  it('gives its types to a program in TypeScript, which runs', async () => {
    const at = await project([`@types/node@${devDependencies['@types/node']}`])
    writeFileSync(join(at, 'program.ts'), `import { inlay, InlayError, type Inlay } from 'inlay'
import type { Plugin } from 'inlay/plugin'
const db: Inlay = await inlay('memory:'), notes = db.collection<{ text: string }>('notes')
await notes.insert({ text: 'hello' })
const text: string | undefined = (await notes.findOne({ text: 'hello' }))?.text
// @ts-expect-error a field that is not in the type: so the types are found, and are not any
const wrong = async (): Promise<unknown> => notes.findOne({ txet: 'hello' })
const name = (plugin: Plugin): string => plugin.name
console.log(text, typeof wrong, typeof name, typeof InlayError)
await db.close()
`)
    const { stdout: found } = await run(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '--noEmit', '--strict', '--target', 'es2024', '--lib', 'es2024,esnext.disposable', '--module', 'nodenext', '--types', 'node', 'program.ts'], { cwd: at }).catch((error: { stdout: string }) => error)
    expect(found).toBe('')
    const { stdout } = await run(process.execPath, ['program.ts'], { cwd: at })
    expect(stdout).toBe('hello function function function\n')
  })
})
