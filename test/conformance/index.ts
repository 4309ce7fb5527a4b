/**
 * The conformance suite: what every plugin must do, as tests. Published as `inlay/conformance`:
 *
 *     import { conformance } from 'inlay/conformance'
 *     import plugin from './index.ts'
 *     conformance(plugin, { uri: 'mydb://localhost/test' })
 *
 * There is no list of skips. What a plugin declares in its capabilities decides which rules hold, and what it declares to lack is tested too.
 */
import { afterAll, beforeAll, describe, it } from 'vitest'
import type { Plugin } from '../../core/contract.ts'
import { aliasing } from './aliasing.ts'
import { artifacts } from './artifacts.ts'
import { cancellation } from './cancellation.ts'
import { concurrency } from './concurrency.ts'
import { engine } from './engine.ts'
import { lifecycle } from './lifecycle.ts'
import { queries } from './queries.ts'
import { rows } from './rows.ts'
import type { Rule } from './rule.ts'
import { slots } from './slots.ts'
import { Subject, type Foreign, type Settings } from './subject.ts'
import { values } from './values.ts'
import { vectors } from './vectors.ts'

export type { Need, Rule } from './rule.ts'
export { Subject, type Foreign, type ForeignRow, type Place, type Settings } from './subject.ts'

export type Area = 'lifecycle' | 'values' | 'rows' | 'queries' | 'slots' | 'engine' | 'vectors' | 'artifacts' | 'aliasing' | 'concurrency' | 'cancellation'
/** Every rule, by the part of the contract that it belongs to. */
export const areas: Readonly<Record<Area, readonly Rule[]>> = { lifecycle, values, rows, queries, slots, engine, vectors, artifacts, aliasing, concurrency, cancellation }
/** The ids of all rules. They are stable: a plugin's author may refer to them. */
export const ruleIds: readonly string[] = Object.values(areas).flatMap((rules) => rules.map((rule) => rule.id))

export interface ConformanceOptions {
  /** A database to test in. The suite makes namespaces of its own, `c_…`, and drops what it made. A function is called once, before the first test. */
  readonly uri: string | (() => string | Promise<string>)
  /** There are no skips: narrow the plugin's capabilities instead. */
  readonly skip?: never
  /** Default: all. */
  readonly areas?: readonly Area[]
  /** Random filters of each differential test. Default 300. */
  readonly cases?: number
  /** Of the random tests. Default 1. */
  readonly seed?: number
  /** A client of the same database that knows nothing of Inlay. Needed where the capabilities say `attaches`, `foreign`, or notices of `all`. */
  readonly foreign?: (subject: Subject) => Promise<Foreign>
  /** Default: the plugin's name. */
  readonly name?: string
}

/** Declares the suite's tests for a plugin. Call it at the top of a vitest file. */
export function conformance(plugin: Plugin, options: ConformanceOptions): void {
  const settings: Settings = { cases: options.cases ?? 300, seed: options.seed ?? 1, ...(options.foreign === undefined ? {} : { foreign: options.foreign }) }
  let uri: string | undefined
  describe(`${options.name ?? plugin.name} conforms`, () => {
    for (const area of options.areas ?? Object.keys(areas) as Area[]) {
      describe(area, () => {
        let subject: Subject | undefined
        beforeAll(async () => {
          uri ??= typeof options.uri === 'string' ? options.uri : await options.uri()
          subject = await Subject.connect(plugin, uri, settings)
        })
        afterAll(() => subject?.close())
        for (const { id, says, needs, run } of areas[area]) {
          it(`${id}: ${says}`, async (ctx) => {
            const unmet = needs.find((need) => !need.met(subject!))
            if (unmet !== undefined) ctx.skip(unmet.says)
            await run(subject!)
          })
        }
      })
    }
  })
}
