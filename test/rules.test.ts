/** The rules of the house that a program can check: who may import whom, what may not stand in the code, and that docs, package.json and code agree. */
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { computed, nodes, place, root, source, sources, type Arrow, type Node, type Source } from './support/source.ts'

const core = sources('core/**/*.ts'), plugins = sources('plugins/**/*.ts'), conformance = sources('test/conformance/**/*.ts')
const all = sources('{core,plugins,test,bench,examples,scripts}/**/*.ts', '*.ts')
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
  readonly exports: Readonly<Record<string, string | { readonly types: string; readonly default: string }>>
  readonly files: readonly string[]
  readonly dependencies: Readonly<Record<string, string>>
  readonly peerDependencies: Readonly<Record<string, string>>
}
const isPath = (to: string): boolean => /^(core|plugins|test|bench|examples|scripts)\//.test(to)
const packageOf = (to: string): string => to.split('/', to.startsWith('@') ? 2 : 1).join('/')
const show = ({ from, to, type, lazy }: Arrow): string => `${from} imports ${to}${type ? ' (type)' : lazy ? ' (lazily)' : ''}`
const arrowsOf = (files: readonly Source[]): readonly Arrow[] => files.flatMap((file) => file.arrows)

describe('imports', () => {
  it('core imports core, node: and its few libraries', () => {
    // A computed `import()` loads what the user's config names.
    const allowed = ({ from, to, type }: Arrow): boolean => to.startsWith('core/') || to.startsWith('node:') || to === computed || to === 'uuid' || to === 'ipaddr.js' || to === 'file-type' || (to === '@standard-schema/spec' && type)
      || (from === 'core/container.ts' && (to === 'tsyringe' || to === 'reflect-metadata'))
    expect(arrowsOf(core).filter((arrow) => !allowed(arrow)).map(show)).toEqual([])
  })

  it('core has no cycle at run time; types may name each other', () => {
    const cycles: string[] = [], done = new Set<string>()
    const visit = (path: string, above: readonly string[]): void => {
      if (above.includes(path)) cycles.push([...above.slice(above.indexOf(path)), path].join(' -> '))
      if (above.includes(path) || done.has(path)) return
      for (const to of new Set(core.find((file) => file.path === path)?.arrows.filter(({ type }) => !type).map(({ to }) => to))) visit(to, [...above, path])
      done.add(path)
    }
    for (const { path } of core) visit(path, [])
    expect(cycles).toEqual([])
  })

  it('a plugin imports core, node:, its own files, and drivers as types or lazily', () => {
    const allowed = ({ from, to, type, lazy }: Arrow): boolean => to.startsWith('core/') || to.startsWith('node:') || to.startsWith(`${from.split('/', 2).join('/')}/`)
      || (packageOf(to) in manifest.peerDependencies && (type || lazy))
    expect(arrowsOf(plugins.filter(({ path }) => path !== 'plugins/index.ts')).filter((arrow) => !allowed(arrow)).map(show)).toEqual([])
  })

  it('two plugins share no driver', () => {
    const drivers = new Map<string, Set<string>>()
    for (const { from, to } of arrowsOf(plugins)) if (packageOf(to) in manifest.peerDependencies) drivers.set(packageOf(to), (drivers.get(packageOf(to)) ?? new Set()).add(from.split('/')[1]!))
    expect([...drivers].filter(([, users]) => users.size > 1).map(([driver, users]) => `${driver}: ${[...users].join(', ')}`)).toEqual([])
  })

  it('the table of plugins imports plugins lazily only', () => {
    expect(source('plugins/index.ts').arrows.filter(({ to, lazy }) => !to.startsWith('core/') && !(to.startsWith('plugins/') && lazy)).map(show)).toEqual([])
  })

  it('the conformance suite imports core, its own files, node:, vitest and fast-check, and no plugin', () => {
    const allowed = ({ to }: Arrow): boolean => /^(core|test\/conformance)\/|^node:|^(vitest|fast-check)$/.test(to)
    expect(arrowsOf(conformance).filter((arrow) => !allowed(arrow)).map(show)).toEqual([])
  })

  it('what is shipped imports packages that users have or can install: dependencies and peers', () => {
    const given = { ...manifest.dependencies, ...manifest.peerDependencies }
    expect(arrowsOf([...core, ...plugins, ...conformance]).filter(({ to }) => !isPath(to) && !to.startsWith('node:') && to !== computed && !(packageOf(to) in given)).map(show)).toEqual([])
  })

  it('every imported file exists', () => {
    expect(arrowsOf(all).filter(({ to }) => isPath(to) && !existsSync(join(root, to))).map(show)).toEqual([])
  })

  it('importing the entry point loads no driver and no plugin', () => {
    const program = `import { registerHooks } from 'node:module'
      const loaded = []
      registerHooks({ load(url, context, next) { loaded.push(url); return next(url, context) } })
      await import(process.argv[1])
      console.log(JSON.stringify(loaded))`
    const { stdout, stderr, status } = spawnSync(process.execPath, ['--input-type=module', '-e', program, join(root, 'index.ts')], { encoding: 'utf8' })
    expect(status, stderr).toBe(0)
    const urls = JSON.parse(stdout) as string[]
    const packages = new Set(urls.flatMap((url) => /.*\/node_modules\/(.*)/.exec(url)?.[1] ?? []).map(packageOf))
    expect([...packages].filter((name) => !(name in manifest.dependencies) && name !== 'tslib')).toEqual([])     // tslib: tsyringe's own
    expect(urls.filter((url) => /\/plugins\/[^/]+\//.test(url))).toEqual([])
  })
})

describe('code', () => {
  it('core names no backend outside of comments and examples of URIs', () => {
    const names = ['postgres', 'postgresql', 'pg', 'pglite', 'pgvector', 'mongodb', 'mongo', 'mongod', 'duckdb', 'sqlite', 'mysql', 'redis', 'lancedb', 'onnxruntime', ...pluginNames().filter((n) => n !== 'file')]     // an ordinary word
    const name = new RegExp(`\\b(${names.join('|')})\\b`, 'gi')
    const found = core.flatMap((file) => [...codeOf(file).matchAll(name)].map((match) => `${place(file, match.index)} ${match[0]}`))
    expect(found).toEqual([])
  })

  it('has no any, no @ts-ignore, no enum and no namespace', () => {
    const found = all.flatMap((file) => [
      ...[...nodes(file.body)].filter((node) => node.type === 'TSAnyKeyword' || node.type === 'TSEnumDeclaration' || (node.type === 'TSModuleDeclaration' && node.kind === 'namespace')).map((node) => `${place(file, node.start)} ${node.type}`),
      ...file.comments.filter(({ value }) => /@ts-(ignore|nocheck)/.test(value)).map(({ start, value }) => `${place(file, start)} ${value.trim()}`),
    ])
    expect(found).toEqual([])
  })

  it("has default exports only in plugins' index.ts and in config files", () => {
    const found = all.filter(({ path }) => !/^plugins\/[^/]+\/index\.ts$|\.config\.ts$/.test(path)).flatMap((file) => file.body.filter(({ type }) => type === 'ExportDefaultDeclaration').map(({ start }) => place(file, start)))
    expect(found).toEqual([])
  })

  it('reports long files', () => {
    const long = all.map(({ path, text }) => ({ path, lines: text.split('\n').length - 1 })).filter(({ lines }) => lines > 400).toSorted((a, b) => b.lines - a.lines)
    if (long.length > 0) console.log(`Files of more than 400 lines: ${long.map(({ path, lines }) => `${path} ${lines}`).join(', ')}`)
  })
})

describe('docs and package', () => {
  it('docs/errors.md lists every error code, and nothing else', () => {
    const rows = [...readFileSync(join(root, 'docs/errors.md'), 'utf8').matchAll(/^\| `([A-Z_]+)` \|/gm)].map((match) => match[1]!)
    expect(rows.toSorted()).toEqual(errorCodes().toSorted())
  })

  it('every error code is thrown somewhere', () => {
    const used = new Set([...core, ...plugins].flatMap((file) => file.body.flatMap((statement) => (isType(statement) ? [] : [...nodes(statement)].filter(({ type }) => type === 'Literal').map(({ value }) => value)))))
    expect(errorCodes().filter((code) => !used.has(code))).toEqual([])
  })

  it('every export of the entry point has a doc comment', () => {
    expect(exportsOf('core/index.ts').filter(([path, name]) => !documented(source(path), name)).map(([path, name]) => `${path}: ${name}`)).toEqual([])
  })

  it('exports of package.json and files agree', () => {
    const targets = Object.entries(manifest.exports).flatMap(([name, target]) => (typeof target === 'string' ? [] : [{ name, ...target }]))
    const wrong = targets.filter(({ types, default: code }) => types.replace(/\.d\.ts$/, '') !== code.replace(/\.js$/, '') || !existsSync(join(root, code.replace('./dist/', '').replace(/\.js$/, '.ts'))))
    expect(wrong.map(({ name, default: code }) => `${name} -> ${code}`)).toEqual([])
    expect(pluginNames().filter((name) => !(`./${name}` in manifest.exports))).toEqual([])
  })

  it('every folder and file that package.json ships exists, dist after a build', () => {
    expect(manifest.files.filter((file) => file !== 'dist' && !existsSync(join(root, file)))).toEqual([])
  })

  it('every peer dependency is optional, and docs/dependencies.md names every dependency, and nothing else', () => {
    const { dependencies, peerDependencies, peerDependenciesMeta, devDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as Readonly<Record<string, Readonly<Record<string, unknown>>>>
    expect(Object.keys(peerDependencies!).filter((name) => peerDependenciesMeta![name] === undefined)).toEqual([])
    const rows = [...readFileSync(join(root, 'docs/dependencies.md'), 'utf8').matchAll(/^\| `([^`]+)` \|/gm)].map((match) => match[1]!)
    expect([...new Set(rows)].toSorted()).toEqual([...new Set(Object.keys({ ...dependencies, ...peerDependencies, ...devDependencies }))].toSorted())
  })

  it('package-lock.json names no host and no path of a machine', () => {
    const lock = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as { packages: Record<string, { resolved?: string; link?: boolean }> }
    expect(Object.entries(lock.packages).filter(([path, entry]) => entry.resolved !== undefined || entry.link === true || (path !== '' && !path.startsWith('node_modules/')))).toEqual([])
  })
})

function pluginNames(): string[] {
  return readdirSync(join(root, 'plugins'), { withFileTypes: true }).filter((entry) => entry.isDirectory()).map((entry) => entry.name)
}

/** The text with comments and the URIs of string literals blanked, at the same offsets. */
function codeOf({ text, body, comments }: Source): string {
  const blank = (part: string): string => part.replace(/[^\n]/g, ' ')
  const parts = text.split('')
  const cover = (start: number, end: number, by: (part: string) => string): void => { parts.splice(start, end - start, ...by(text.slice(start, end)).split('')) }
  for (const { start, end } of comments) cover(start, end, blank)
  for (const { type, start, end } of nodes(body)) if (type === 'Literal' || type === 'TemplateElement') cover(start, end, (part) => part.replace(/\b[a-z][a-z0-9+.-]*:[^\s'"`]*/g, blank))
  return parts.join('')
}

function isType({ type, declaration }: Node): boolean {
  return /^TS(TypeAlias|Interface)Declaration$/.test((declaration as Node | null | undefined)?.type ?? type)
}

function errorCodes(): string[] {
  const alias = [...nodes(source('core/errors.ts').body)].find(({ type, id }) => type === 'TSTypeAliasDeclaration' && (id as unknown as { name: string }).name === 'ErrorCode')
  return [...nodes(alias)].flatMap(({ type, value }) => (type === 'Literal' ? [String(value)] : []))
}

/** Where each name that a file exports is declared: [file, name there]. */
function exportsOf(path: string): (readonly [string, string])[] {
  return source(path).body.flatMap((statement): (readonly [string, string])[] => {
    const from = statement.source as { readonly value: string } | null | undefined
    const target = from == null ? path : join(path, '..', from.value)
    if (statement.type === 'ExportAllDeclaration') return exportsOf(target)
    if (statement.type !== 'ExportNamedDeclaration') return []
    if (statement.declaration !== null) return namesOf(statement.declaration as Node).map((name) => [path, name])
    return (statement.specifiers as readonly { readonly local: { readonly name: string } }[]).flatMap(({ local }) => origin(target, local.name))
  })
}

/** Follows re-exports and imports of a name to its declaration. */
function origin(path: string, name: string): (readonly [string, string])[] {
  const { body } = source(path)
  if (body.some((statement) => declares(statement, name))) return [[path, name]]
  for (const statement of body) {
    const from = statement.source as { readonly value: string } | null | undefined
    if (from == null || !from.value.startsWith('.')) continue
    for (const { local, exported, imported } of (statement.specifiers ?? []) as readonly { readonly local: { readonly name: string }; readonly exported?: { readonly name: string }; readonly imported?: { readonly name: string } }[]) {
      if ((exported ?? local).name === name) return origin(join(path, '..', from.value), (imported ?? local).name)
    }
  }
  return [[path, name]]
}

function namesOf(declaration: Node): string[] {
  const of = (node: unknown): string[] => { const { name } = (node as { readonly id: { readonly name?: string } }).id; return name === undefined ? [] : [name] }
  return declaration.type === 'VariableDeclaration' ? (declaration.declarations as readonly unknown[]).flatMap(of) : of(declaration)
}

function declares(statement: Node, name: string): boolean {
  const declaration = (statement.type === 'ExportNamedDeclaration' ? statement.declaration : statement) as Node | null
  return declaration !== null && (declaration.type === 'VariableDeclaration' || 'id' in declaration) && namesOf(declaration).includes(name)
}

/** True where a doc comment stands right before one of the declarations: overloads share one. */
function documented({ text, body, comments }: Source, name: string): boolean {
  return body.filter((statement) => declares(statement, name)).some(({ start }) => comments.some((comment) => comment.type === 'Block' && comment.value.startsWith('*') && text.slice(comment.end, start).trim() === '' && comment.end <= start))
}
