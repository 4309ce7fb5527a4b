/**
 * Writes docs/capabilities.md from `conformance.json`, which a run of the suite leaves in `INLAY_TEST_CONFORMANCE_OUT`:
 *
 *     INLAY_TEST_CONFORMANCE_OUT=/tmp/out npx vitest run test/conformance
 *     npx node scripts/capabilities.ts /tmp/out/conformance.json
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { DataCapabilities, VectorCapabilities } from '../core/contract.ts'
import type { BackendReport, ConformanceReport, Counts } from '../test/conformance/report.ts'

const root = join(import.meta.dirname, '..')
export const page: string = join(root, 'docs/capabilities.md')
/** What a column of the page is made from. */
export type Shown = Pick<BackendReport, 'name' | 'capabilities' | 'vectors' | 'artifacts'>

/** The name of a server without its version: `PostgreSQL 18.6, pgvector 0.8.6` is PostgreSQL. */
function shortName(server: string): string {
  return server.split(/[\s,]/, 1)[0]!
}
/** The backends that a user can name, of those that the whole suite ran on: not the plugins that it is proven on. */
export function published(backends: readonly BackendReport[]): readonly BackendReport[] {
  const plugins = ['memory', ...readdirSync(join(root, 'plugins'), { withFileTypes: true }).filter((entry) => entry.isDirectory()).map((entry) => entry.name)], most = Math.max(...backends.map(({ areas }) => Object.keys(areas).length))
  return backends.filter(({ plugin, areas }) => plugins.includes(plugin) && Object.keys(areas).length === most).map((backend) => ({ ...backend, name: shortName(backend.server) })).sort((a, b) => (a.name === 'memory' ? -1 : b.name === 'memory' ? 1 : a.name < b.name ? -1 : 1))
}

const list = (of: readonly string[]): string => (of.length === 0 ? 'none' : of.map((one) => `\`${one}\``).join(', '))
const number = (n: number | undefined): string => (n === undefined ? 'no limit' : n.toLocaleString('en'))
const yes = (is: boolean): string => (is ? 'yes' : 'no')
const allFilters = 13
const dataRows: readonly (readonly [string, (c: DataCapabilities) => string])[] = [
  ['filters done by the database', (c) => (c.filters.length === allFilters ? 'all kinds' : list(c.filters))], ['sorts', (c) => (c.order ? 'the database' : 'core')], ['durable', (c) => yes(c.durable)], ['writers', (c) => (c.writers === 'many' ? 'many' : 'one process')],
  ['tables of others can be attached', (c) => yes(c.attaches)], ['reports changes', (c) => ({ none: 'no', own: "Inlay's own", all: "everybody's" })[c.notices]], ["others' writes get a new rev by themselves", (c) => yes(c.foreign)], ['takes revs from core', (c) => yes(c.givenRevs)],
  ['refuses', (c) => list(c.refuses)], ['loses', (c) => list(c.loses)], ['operations per write', (c) => number(c.limits.ops)], ['keys per filter', (c) => number(c.limits.keys)], ['bytes of a document', (c) => number(c.limits.docBytes)], ['bytes of a name', (c) => number(c.limits.nameBytes)],
  ['bytes of a key', (c) => number(c.limits.keyBytes)], ['dimensions of a stored vector', (c) => number(c.limits.dims)],
]
const vectorRows: readonly (readonly [string, (v: VectorCapabilities | undefined) => string])[] = [
  ['vectors are searched', (v) => (v === undefined ? 'by core, exactly, in memory' : v.place === 'slot' ? 'by the database, where the outputs lie' : 'in a copy of the plugin')], ['measures', (v) => list(v?.measures ?? ['cosine', 'dot', 'l2'])], ['approximate index', (v) => (v === undefined ? 'no' : yes(v.approximate))],
]

/** The part of the page that says what the connections say: it can be checked without running the suite. */
export function capabilitiesTable(backends: readonly Shown[]): string {
  const row = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`
  const rows = [...dataRows.map(([what, of]) => [what, ...backends.map(({ capabilities }) => of(capabilities))]), ...vectorRows.map(([what, of]) => [what, ...backends.map(({ vectors }) => of(vectors))]), ['artifacts are kept', ...backends.map(({ artifacts }) => (artifacts === 'plugin' ? 'by the plugin' : 'as rows'))]]
  const notes = backends.flatMap(({ name, capabilities, vectors }) => [...capabilities.notes, ...vectors?.notes ?? []].map((note) => `- ${name}: ${note}`))
  return [row(['', ...backends.map(({ name }) => name)]), row(['---', ...backends.map(() => '---')]), ...rows.map(row), '', ...notes].join('\n')
}

/** The whole page. */
export function render({ backends: all }: ConformanceReport): string {
  const backends = published(all), areas = [...new Set(backends.flatMap((backend) => Object.keys(backend.areas)))]
  const cell = (c: Counts | undefined): string => (c === undefined ? 'not run' : [`${c.passed}`, ...(c.skipped > 0 ? [`${c.skipped} skipped`] : []), ...(c.expected > 0 ? [`${c.expected} known to fail`] : []), ...(c.failed > 0 ? [`${c.failed} failed`] : [])].join(', '))
  const skips = backends.map(({ name, skipped }) => {
    const reasons = new Map<string, number>()
    for (const { reason } of skipped) reasons.set(reason, (reasons.get(reason) ?? 0) + 1)
    return [`- ${name}:`, ...[...reasons].sort(([, a], [, b]) => b - a).map(([reason, n]) => `  - ${n}: ${reason}`)].join('\n')
  })
  const expected = backends.flatMap(({ name, expected: list_ }) => list_.map(({ id, why }) => `- ${name}: \`${id}\`: ${why}`))
  return `# What each database can do
Made by \`scripts/capabilities.ts\` from a run of the [conformance suite](writing-a-plugin.md); a test compares it with the connections. What a database does not do, core does: answers are the same everywhere.

## Capabilities
${capabilitiesTable(backends)}

## Rules of the suite
How many rules hold. A rule is skipped where the capabilities say that it cannot hold; then another one tests what holds instead.

| area | rules | ${backends.map(({ name }) => name).join(' | ')} |
| --- | --- | ${backends.map(() => '---').join(' | ')} |
${areas.map((area) => `| ${area} | ${Math.max(...backends.map((backend) => backend.areas[area]?.rules ?? 0))} | ${backends.map((backend) => cell(backend.areas[area])).join(' | ')} |`).join('\n')}

Skipped, and why:
${skips.join('\n')}
${expected.length === 0 ? '' : `\nKnown to fail:\n${expected.join('\n')}\n`}`
}

if (import.meta.main) {
  const from = process.argv[2]
  if (from === undefined) throw new Error('Give the path of conformance.json: npx node scripts/capabilities.ts <folder>/conformance.json')
  writeFileSync(page, render(JSON.parse(readFileSync(from, 'utf8')) as ConformanceReport))
  console.log(`Wrote ${page}.`)
}
