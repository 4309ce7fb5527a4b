import { afterAll, describe, expect, it } from 'vitest'
import { areas, Subject, type Rule } from '../conformance/index.ts'
import { around, type Mutant } from './mutant.ts'
import { parts } from './parts.ts'
import { queries } from './queries.ts'
import { rows } from './rows.ts'
import { slots } from './slots.ts'
import { values } from './values.ts'

const mutants: readonly Mutant[] = [...values, ...rows, ...queries, ...slots, ...parts]
const rules = new Map(Object.values(areas).flat().map((rule) => [rule.id, rule]))
const settings = { cases: 20, seed: 1 }
const stuckMs = 3000

/** Runs one rule in a database of its own; returns why it failed. */
async function failure(rule: Rule, plugin: Mutant['plugin']): Promise<string | undefined> {
  const subject = await Subject.connect(plugin, 'memory:mutants', settings)
  const stuck = AbortSignal.timeout(stuckMs)
  try {
    expect(rule.needs.filter((need) => !need.met(subject)).map((need) => need.says)).toEqual([])
    await Promise.race([rule.run(subject), new Promise((_, fail) => { stuck.addEventListener('abort', () => fail(new Error(`stuck for ${stuckMs} ms`))) })])
    return undefined
  } catch (error) {
    return String(error)
  } finally {
    await subject.close().catch(() => {})
  }
}

describe('mutants', () => {
  for (const { fault, kills, plugin } of mutants) {
    it(`"${fault}" is noticed by ${kills}`, async () => {
      const rule = rules.get(kills)
      if (rule === undefined) throw new Error(`There is no rule ${kills}.`)
      expect(await failure(rule, plugin), `${kills} passes on the mutant`).toBeDefined()
    })
  }

  const whole = around('memory', {})
  for (const id of new Set(mutants.map((m) => m.kills))) {
    it(`${id} holds without a fault`, async () => {
      expect(await failure(rules.get(id)!, whole)).toBeUndefined()
    })
  }

  afterAll(() => {
    const killed = new Map<string, number>()
    for (const { kills } of mutants) { const area = kills.split('.')[0]!; killed.set(area, (killed.get(area) ?? 0) + 1) }
    console.log(`${mutants.length} mutants, by the area that notices them: ${[...killed].map(([area, n]) => `${area} ${n}`).join(', ')}`)
  })
})
