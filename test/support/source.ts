/** The project's own sources as syntax trees, for tests that check rules. */
import { globSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { parseSync } from 'rolldown/utils'

export interface Node { readonly type: string; readonly start: number; readonly end: number; readonly [field: string]: unknown }
/** One import or re-export. `type`: erased at run time; `lazy`: `import()`. */
export interface Arrow { readonly from: string; readonly to: string; readonly type: boolean; readonly lazy: boolean }
export interface Source {
  /** Path from the repository's root. */
  readonly path: string
  readonly text: string
  readonly body: readonly Node[]
  readonly comments: readonly { readonly type: 'Line' | 'Block'; readonly value: string; readonly start: number; readonly end: number }[]
  /** What it imports: a path from the root, or the specifier of a package. */
  readonly arrows: readonly Arrow[]
}

/** The target of an `import()` whose argument is no literal. */
export const computed = '(computed)'
export const root: string = join(import.meta.dirname, '../..')

/** All sources that match a glob, relative to the root. */
export function sources(...globs: readonly string[]): readonly Source[] {
  return globSync(globs, { cwd: root, exclude: (path) => /(^|\/)(node_modules|dist|out)$/.test(path) }).toSorted().map(source)
}

const parsed = new Map<string, Source>()

export function source(path: string): Source {
  const known = parsed.get(path)
  if (known !== undefined) return known
  const text = readFileSync(join(root, path), 'utf8'), { program, comments, module, errors } = parseSync(path, text)
  if (errors[0] !== undefined) throw new Error(`${path} does not parse: ${errors[0].message}`)
  const target = (specifier: string): string => (specifier.startsWith('.') ? relative(root, join(root, dirname(path), specifier)) : specifier)
  const arrows = [
    ...module.staticImports.map((at) => ({ to: at.moduleRequest.value, type: at.entries.length > 0 && at.entries.every((entry) => entry.isType), lazy: false })),
    ...module.staticExports.flatMap((at) => at.entries.flatMap((entry) => (entry.moduleRequest === null ? [] : [{ to: entry.moduleRequest.value, type: entry.isType, lazy: false }]))),
    ...module.dynamicImports.map((at) => ({ to: /^['"`](.*)['"`]$/.exec(text.slice(at.moduleRequest.start, at.moduleRequest.end))?.[1] ?? computed, type: false, lazy: true })),
  ].map((arrow) => ({ ...arrow, from: path, to: target(arrow.to) }))
  const result = { path, text, body: program.body as unknown as readonly Node[], comments, arrows }
  parsed.set(path, result)
  return result
}

/** Every node of a tree, parents first. */
export function* nodes(tree: unknown): Generator<Node> {
  if (typeof tree !== 'object' || tree === null) return
  if ('type' in tree && typeof tree.type === 'string') yield tree as Node
  for (const child of Object.values(tree)) yield* nodes(child)
}

/** `path:line` of an offset. */
export function place(of: Source, offset: number): string {
  return `${of.path}:${of.text.slice(0, offset).split('\n').length}`
}
