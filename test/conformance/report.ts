/** What a run of the suite found, as data (`conformance.json`) and as a table for people. */
import { mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { DataCapabilities, VectorCapabilities } from '../../core/contract.ts'

/** `expected`: it failed, and the caller said that it would. */
export type Verdict = 'passed' | 'skipped' | 'expected' | 'failed'
export interface Counts { readonly rules: number; readonly passed: number; readonly skipped: number; readonly expected: number; readonly failed: number }
/** One backend's part of a run. */
export interface BackendReport {
  /** As the caller named it. */
  readonly name: string
  readonly plugin: string
  /** Name and version, from the connection. */
  readonly server: string
  readonly capabilities: DataCapabilities
  /** Absent: core searches, in memory. */
  readonly vectors?: VectorCapabilities
  /** Where artifacts are kept: by the plugin, or as rows by core. */
  readonly artifacts: 'plugin' | 'rows'
  readonly areas: Readonly<Record<string, Counts>>
  readonly skipped: readonly { readonly id: string; readonly reason: string }[]
  readonly expected: readonly { readonly id: string; readonly why: string }[]
  readonly failed: readonly string[]
}
/** `conformance.json`. */
export interface ConformanceReport { readonly format: 1; readonly backends: readonly BackendReport[] }

/** What is told of one rule to a reporter of vitest, as `task.meta.conformance`. */
export interface RuleMeta { readonly backend: string; readonly area: string; readonly verdict: Verdict }

export function count(verdicts: readonly (Verdict | undefined)[]): Counts {
  const of = (verdict: Verdict): number => verdicts.filter((v) => v === verdict).length
  return { rules: verdicts.length, passed: of('passed'), skipped: of('skipped'), expected: of('expected'), failed: of('failed') }
}

/** Areas by backends: how many rules held, and how many were skipped, failed as expected, or failed. */
export function matrix(backends: readonly { readonly name: string; readonly areas: Readonly<Record<string, Counts>> }[]): string {
  const areas = [...new Set(backends.flatMap((backend) => Object.keys(backend.areas)))]
  const cell = (c: Counts | undefined): string => (c === undefined ? '' : [`${c.passed}`, ...(c.skipped > 0 ? [`${c.skipped} skipped`] : []), ...(c.expected > 0 ? [`${c.expected} expected`] : []), ...(c.failed > 0 ? [`${c.failed} FAILED`] : [])].join(', '))
  const total = (of: Readonly<Record<string, Counts>>): Counts => Object.values(of).reduce((a, b) => ({ rules: a.rules + b.rules, passed: a.passed + b.passed, skipped: a.skipped + b.skipped, expected: a.expected + b.expected, failed: a.failed + b.failed }))
  const rows = [['area', ...backends.map(({ name }) => name)], ...areas.map((area) => [area, ...backends.map((backend) => cell(backend.areas[area]))]), ['all', ...backends.map((backend) => cell(total(backend.areas)))]]
  const widths = rows[0]!.map((_, i) => Math.max(...rows.map((row) => row[i]!.length)))
  return rows.map((row) => row.map((text, i) => text.padEnd(widths[i]!)).join('  ').trimEnd()).join('\n')
}

/** Writes one backend's part into a folder, and all parts that lie there as `conformance.json` and, for people, `conformance.txt`. */
export function writeReport(folder: string, report: BackendReport): void {
  const parts = join(folder, 'parts')
  mkdirSync(parts, { recursive: true })
  const put = (path: string, text: string): void => { writeFileSync(`${path}.${process.pid}`, text); renameSync(`${path}.${process.pid}`, path) }
  put(join(parts, `${report.name.replace(/[^A-Za-z0-9.]+/g, '-')}.json`), JSON.stringify(report, null, 1))
  const backends = readdirSync(parts).filter((name) => name.endsWith('.json')).sort().map((name) => JSON.parse(readFileSync(join(parts, name), 'utf8')) as BackendReport)
  put(join(folder, 'conformance.json'), `${JSON.stringify({ format: 1, backends } satisfies ConformanceReport, null, 1)}\n`)
  put(join(folder, 'conformance.txt'), `${matrix(backends)}\n`)
}
