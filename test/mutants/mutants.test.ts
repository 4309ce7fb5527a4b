/** Each mutant is noticed by the rule that was written against it, and every rule notices some mutant. That the rules hold without a fault is shown by test/conformance.test.ts. */
import { afterAll, describe, expect, it } from 'vitest'
import { ruleIds } from '../conformance/index.ts'
import { attachedMutants } from './attached.ts'
import { contentMutants } from './content.ts'
import { elements } from './elements.ts'
import { killers } from './killers.ts'
import { makers } from './makers.ts'
import type { Mutant } from './mutant.ts'
import { littleMutants } from './others.ts'
import { parts } from './parts.ts'
import { queries } from './queries.ts'
import { rest } from './rest.ts'
import { rows } from './rows.ts'
import { end, noticed, ruleOf } from './run.ts'
import { slots } from './slots.ts'
import { values } from './values.ts'

const mutants: readonly Mutant[] = [...values, ...rows, ...queries, ...slots, ...makers, ...elements, ...parts, ...rest, ...contentMutants, ...attachedMutants, ...littleMutants]
/** Rules that no fault of a plugin can break here, and why. A whole area by its name. */
const excused: Readonly<Record<string, string>> = {
  'lifecycle.name.too-long': 'core refuses the name before the plugin is asked', 'lifecycle.api.closed': 'core answers it', 'values.api.refused': 'core refuses the values before the plugin is asked', 'queries.api.explain': 'core says it, from the capabilities',
  'queries.api.core-sort': 'core says it, from the capabilities', 'cancellation.before.every-call': 'core ends the call before the plugin is asked', 'attached.api.unsupported': 'core answers it, from the capabilities', 'components.api.conflict': 'core compares what it stored in one document',
  'faults.watch.drop': 'needs a server that reports changes', big: 'needs a database whose rows are not in this process',
}
const report: string[] = []

describe.concurrent('mutants', () => {
  for (const [i, mutant] of mutants.entries()) {
    const also = mutants.findIndex(({ fault }) => fault === mutant.fault) === i ? killers[mutant.fault] ?? [] : []
    it(`"${mutant.fault}" is noticed by ${mutant.kills}${also.length === 0 ? '' : ` and ${also.length} more`}`, { timeout: 120_000 }, async () => {
      for (const id of [mutant.kills, ...also]) {
        const ended = await end(ruleOf(id), mutant)
        if (!noticed(ended, mutant)) expect.fail(`${id} does not notice it: ${ended.is}${ended.why === '' ? '' : `, ${ended.why}`}. Only an assertion of the rule counts, or the error or hang that the fault is by design.`)
      }
      report.push(`${mutant.fault} -> ${mutant.kills}`)
    })
  }
})

it('every rule notices a mutant, or stands in the table of those that cannot', () => {
  const noticing = new Set([...mutants.map(({ kills }) => kills), ...Object.values(killers).flat()])
  expect(ruleIds.filter((id) => !noticing.has(id) && !Object.hasOwn(excused, id) && !Object.hasOwn(excused, id.split('.')[0]!))).toEqual([])
  expect(Object.keys(excused).filter((id) => noticing.has(id)), 'excused, and noticing').toEqual([])
  expect(Object.keys(killers).filter((fault) => !mutants.some((m) => m.fault === fault)), 'faults that no mutant has').toEqual([])
})

afterAll(() => {
  console.log(`${report.length} of ${mutants.length} mutants died; ${new Set([...mutants.map(({ kills }) => kills), ...Object.values(killers).flat()]).size} of ${ruleIds.length} rules notice one.\n${report.sort().map((line) => `  ${line}`).join('\n')}`)
})
