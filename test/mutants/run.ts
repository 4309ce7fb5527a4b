/** Runs one rule of the suite against one plugin, in a database of its own, and says how it ended. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Plugin } from '../../core/contract.ts'
import { areas, networkOf, type Rule } from '../conformance/index.ts'
import { Subject } from '../conformance/subject.ts'
import type { Mutant } from './mutant.ts'

/** `failed`: by an assertion. `error`: by something else that was thrown. `stuck`: it did not end. */
export interface End { readonly is: 'passed' | 'unmet' | 'failed' | 'error' | 'stuck'; readonly why: string }

/** Of what should end, and of what is wrong by not ending. */
const stuckMs = 12_000
const hangMs = 1500
export const rules: ReadonlyMap<string, Rule> = new Map(Object.values(areas).flat().map((rule) => [rule.id, rule]))
export function ruleOf(id: string): Rule {
  const rule = rules.get(id)
  if (rule === undefined) throw new Error(`There is no rule ${id}.`)
  return rule
}

/** What is run: a mutant, or a plugin without a fault. */
export interface Case extends Pick<Mutant, 'settings' | 'uri' | 'hangs'> { readonly plugin: Plugin }

export async function end(rule: Rule, { plugin, settings = {}, uri, hangs }: Case): Promise<End> {
  const at = await uri?.() ?? 'memory:mutants', network = networkOf(at), patienceMs = hangs === true ? hangMs : stuckMs
  const subject = await Subject.connect(plugin, at, { cases: 20, seed: 1, big: false, soonMs: 600, ...(network === undefined ? {} : { network }), ...settings })
  try {
    const unmet = rule.needs.find((need) => !need.met(subject))
    if (unmet !== undefined) return { is: 'unmet', why: unmet.says }
    const late = new AbortController(), running = rule.run(subject)
    running.catch(() => {})
    const ended = await Promise.race([running.then(() => true), sleep(patienceMs, false, { signal: late.signal }).catch(() => false)])
    late.abort()
    return ended ? { is: 'passed', why: '' } : { is: 'stuck', why: `not ended after ${patienceMs} ms` }
  } catch (error) {
    const assertion = error instanceof Error && error.name === 'AssertionError'
    return { is: assertion ? 'failed' : 'error', why: String(error).split('\n')[0]! }
  } finally {
    await Promise.race([subject.close().catch(() => {}), sleep(1000, undefined, { ref: false })])
  }
}

/** Whether a rule noticed a mutant: an assertion of the rule failed, or the very error or hang that the fault is happened. */
export function noticed({ is, why }: End, { throws, hangs }: Mutant): boolean {
  return is === 'failed' || (is === 'error' && throws?.test(why) === true) || (is === 'stuck' && hangs === true)
}
