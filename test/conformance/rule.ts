/** One rule of the contract: a stable id, a sentence, what it needs of a plugin, and the test. Rules run under vitest and without it. */
import type { DataCapabilities, Filter } from '../../core/contract.ts'
import type { Subject } from './subject.ts'

/** What a rule needs; where it is not met the rule is skipped with the sentence. */
export interface Need {
  readonly says: string
  met(subject: Subject): boolean
}
export interface Rule {
  /** `area.topic.rule` */
  readonly id: string
  readonly says: string
  readonly needs: readonly Need[]
  run(subject: Subject): Promise<void>
}

export function rule(id: string, says: string, run: (subject: Subject) => Promise<void>, ...needs: readonly Need[]): Rule {
  return { id, says, needs, run }
}

const need = (says: string, met: (capabilities: DataCapabilities) => boolean): Need => ({ says, met: (subject) => met(subject.capabilities) })

/** The plugin evaluates these kinds of filters itself. */
export function filters(...kinds: readonly Filter['kind'][]): Need {
  return need(`needs the filters ${kinds.join(', ')}, which core evaluates for this plugin`, (c) => kinds.every((kind) => c.filters.includes(kind)))
}
export function holds(what: DataCapabilities['refuses'][number]): Need {
  return need(`needs a database that holds "${what}", which this one refuses`, (c) => !c.refuses.includes(what))
}
export function refuses(what: DataCapabilities['refuses'][number]): Need {
  return need(`the plugin does not refuse "${what}"`, (c) => c.refuses.includes(what))
}
export function keeps(what: DataCapabilities['loses'][number]): Need {
  return need(`needs a database that keeps "${what}", which this one loses`, (c) => !c.loses.includes(what))
}
export function loses(what: DataCapabilities['loses'][number]): Need {
  return need(`the plugin does not lose "${what}"`, (c) => c.loses.includes(what))
}
export function limited(limit: keyof DataCapabilities['limits']): Need {
  return need(`the plugin declares no limit "${limit}"`, (c) => c.limits[limit] !== undefined)
}
export const sorts: Need = need('needs sorting in the database, which core does for this plugin', (c) => c.order)
export const sortsInCore: Need = need('the database sorts by itself', (c) => !c.order)
export const narrowFilters: Need = need('the plugin evaluates every kind of filter itself', (c) => c.filters.length < 13)
export const durable: Need = need('needs a durable database, and this one says that it is not', (c) => c.durable)
export const volatile: Need = need('the database is durable', (c) => !c.durable)
export const givenRevs: Need = need('the database makes its revs itself', (c) => c.givenRevs)
export const ownRevs: Need = need('the plugin takes the revs that core gives', (c) => !c.givenRevs)
export const manyWriters: Need = need('needs a second connection beside the first, and this database takes one process', (c) => c.writers === 'many')
export const onePerProcess: Need = need('the database takes many writers', (c) => c.writers === 'one-process')
