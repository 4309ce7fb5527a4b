/**
 * The conformance suite: what every plugin must do, as tests. Published as `inlay/conformance`:
 *
 *     import { conformance } from 'inlay/conformance'
 *     import plugin from './index.ts'
 *     conformance(plugin, { uri: 'mydb://localhost/test' })
 *
 * There is no list of skips. What a plugin declares in its capabilities decides which rules hold, and what it declares to lack is tested too. What is known to be
 * wrong stands in `expectedFailures` by the stable id of its rule, and must fail.
 */
import { afterAll, beforeAll, describe, it } from 'vitest'
import type { Plugin } from '../../core/contract.ts'
import { aliasing } from './aliasing.ts'
import { artifacts } from './artifacts.ts'
import { attached } from './attached.ts'
import { big } from './big.ts'
import { cancellation } from './cancellation.ts'
import { chunks } from './chunks.ts'
import { componentRules } from './components.ts'
import { concurrency } from './concurrency.ts'
import { contentRules } from './content.ts'
import { randomSettles, randomWrites } from './differential.ts'
import { engine } from './engine.ts'
import { faults } from './faults.ts'
import { lifecycle } from './lifecycle.ts'
import { makers } from './makers.ts'
import { noticing } from './notices.ts'
import { networkOf } from './proxy.ts'
import { queries } from './queries.ts'
import { count, writeReport, type BackendReport, type Counts, type RuleMeta, type Verdict } from './report.ts'
import { rows } from './rows.ts'
import type { Rule } from './rule.ts'
import { slots } from './slots.ts'
import { Subject, type Foreign, type Network } from './subject.ts'
import { values } from './values.ts'
import { vectors } from './vectors.ts'

export type { Need, Rule } from './rule.ts'
export { networkOf, openProxy, type Proxy } from './proxy.ts'
export { matrix, type BackendReport, type ConformanceReport, type Counts, type RuleMeta, type Verdict } from './report.ts'
export { Subject, type Foreign, type ForeignRow, type Network, type Place, type Settings } from './subject.ts'

export type Area = 'lifecycle' | 'values' | 'rows' | 'queries' | 'slots' | 'engine' | 'vectors' | 'artifacts' | 'aliasing' | 'concurrency' | 'cancellation' | 'attached' | 'notices' | 'components' | 'content' | 'faults' | 'big'
/** Every rule, by the part of the contract that it belongs to. */
export const areas: Readonly<Record<Area, readonly Rule[]>> = { lifecycle, values, rows: [...rows, ...randomWrites], queries, slots: [...slots, ...makers, ...chunks, ...randomSettles], engine, vectors, artifacts, aliasing, concurrency, cancellation, attached, notices: noticing, components: componentRules, content: contentRules, faults, big }
/** The ids of all rules. They are stable: a plugin's author may refer to them. */
export const ruleIds: readonly string[] = Object.values(areas).flatMap((rules) => rules.map((rule) => rule.id))

export interface ConformanceOptions {
  /** A database to test in. The suite makes namespaces of its own, `c_…`, and drops what it made. A function is called once, before the first test. None, or an empty one, fails the run. */
  readonly uri: string | undefined | (() => string | Promise<string>)
  /** There are no skips: narrow the plugin's capabilities instead. */
  readonly skip?: never
  /** Rules that are known to fail, by id, and why. Strict: one that holds, or that is skipped, fails the run until it is taken off the list. */
  readonly expectedFailures?: Readonly<Record<string, string>>
  /** Default: all. */
  readonly areas?: readonly Area[]
  /** Random filters of each differential test. Default 300. */
  readonly cases?: number
  /** Of the random tests. Default 1. */
  readonly seed?: number
  /** The full figures of the area `big`: 200,000 rows and an artifact of 256 MiB, which takes minutes, instead of 20,000 and 32 MiB. Default `false`. */
  readonly big?: boolean
  /** A client of the same database that knows nothing of Inlay. Needed where the capabilities say `attaches`, `foreign`, or notices of `all`. */
  readonly foreign?: (subject: Subject) => Promise<Foreign>
  /** Where the server listens, for the area `faults`. Default: the host and port of the URI, where it names one of each. */
  readonly network?: Network
  /** A folder for `conformance.json`, to which each backend of a run adds its part. Default: the environment's `INLAY_TEST_CONFORMANCE_OUT`; without, nothing is written. */
  readonly out?: string
  /** Default: the plugin's name. */
  readonly name?: string
}

/** Awaits servers that come back, and streams large data. */
const slowMs = 300_000

/** Declares the suite's tests for a plugin. Call it at the top of a vitest file. */
export function conformance(plugin: Plugin, options: ConformanceOptions): void {
  const { name = plugin.name, cases = 300, seed = 1, big: full = false, expectedFailures = {}, foreign, out = process.env['INLAY_TEST_CONFORMANCE_OUT'] } = options, chosen = options.areas ?? Object.keys(areas) as Area[]
  const verdicts = new Map<string, Verdict>(), skipped: { readonly id: string; readonly reason: string }[] = []
  let uri: string | undefined, about: Pick<BackendReport, 'server' | 'capabilities' | 'vectors' | 'artifacts'> | undefined
  const connect = async (): Promise<Subject> => {
    uri ??= typeof options.uri === 'function' ? await options.uri() : options.uri
    if (uri === undefined || uri === '') throw new Error(`The conformance suite was given no database for ${name}: "uri" is ${uri === '' ? 'empty' : 'missing'}. Set the variable that it is taken from, or do not call conformance().`)
    const network = options.network ?? networkOf(uri), subject = await Subject.connect(plugin, uri, { cases, seed, big: full, ...(foreign === undefined ? {} : { foreign }), ...(network === undefined ? {} : { network }) })
    const { server, vectors: search, artifacts: store } = subject.connection
    about ??= { server, capabilities: subject.capabilities, artifacts: store === undefined ? 'rows' : 'plugin', ...(search === undefined ? {} : { vectors: search.capabilities }) }
    return subject
  }
  describe(`${name} conforms`, () => {
    const known = chosen.flatMap((area) => areas[area].map((rule) => rule.id)), unknown = Object.keys(expectedFailures).filter((id) => !known.includes(id))
    if (unknown.length > 0) it('has expected failures of rules that there are', () => { throw new Error(`"expectedFailures" names ${unknown.join(', ')}, which are no rules of the areas ${chosen.join(', ')}. See ruleIds.`) })
    for (const area of chosen) {
      describe(area, () => {
        let subject: Subject | undefined
        beforeAll(async () => { subject = await connect() })
        afterAll(() => subject?.close(), slowMs)
        for (const { id, says, needs, run } of areas[area]) {
          it(`${id}: ${says}`, async (ctx) => {
            const why = expectedFailures[id], unmet = needs.find((need) => !need.met(subject!))
            const verdict = (is: Verdict): void => { verdicts.set(id, is); (ctx.task.meta as { conformance?: RuleMeta }).conformance = { backend: name, area, verdict: is } }
            verdict('failed')
            if (unmet !== undefined) {
              if (why !== undefined) throw new Error(`${id} is listed as an expected failure and is skipped: ${unmet.says}. Take it off the list.`)
              verdict('skipped')
              skipped.push({ id, reason: unmet.says })
              ctx.skip(unmet.says)
            }
            const failure = await run(subject!).then(() => undefined, (error: unknown) => ({ error }))
            if (why !== undefined) {
              if (failure === undefined) throw new Error(`${id} is listed as an expected failure (${why}) and holds. Take it off the list.`)
              verdict('expected')
              ctx.skip(`expected to fail: ${why}`)
            }
            if (failure !== undefined) throw failure.error
            verdict('passed')
          }, area === 'faults' || area === 'big' || area === 'notices' ? slowMs : undefined)
        }
      })
    }
    afterAll(() => {
      if (about === undefined) return
      const report: BackendReport = {
        name, plugin: plugin.name, ...about, areas: Object.fromEntries(chosen.map((area) => [area, count(areas[area].map((rule) => verdicts.get(rule.id)))])), skipped,
        expected: [...verdicts].flatMap(([id, verdict]) => (verdict === 'expected' ? [{ id, why: expectedFailures[id]! }] : [])), failed: [...verdicts].flatMap(([id, verdict]) => (verdict === 'failed' ? [id] : [])),
      }
      console.log(said(report))
      if (out !== undefined && out !== '') writeReport(out, report)
    })
  })
}

/** A run in one line; the table of all backends is in `conformance.txt`. */
function said({ name, areas: of }: BackendReport): string {
  const sum = (what: keyof Counts): number => Object.values(of).reduce((n, counts) => n + counts[what], 0)
  return `${name}: ${sum('passed')} of ${sum('rules')} rules hold, ${sum('skipped')} are skipped by its capabilities, ${sum('expected')} fail as expected, ${sum('failed')} fail.`
}
