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
export const attaches: Need = need('needs a database in which what others made can be attached, and this one says that it cannot', (c) => c.attaches)
export const attachesNothing: Need = need('what others made can be attached', (c) => !c.attaches)
export const notices: Need = need('needs a database that reports changes, and this one says that it does not', (c) => c.notices !== 'none')
export const noNotices: Need = need('the database reports changes', (c) => c.notices === 'none')
export const allNotices: Need = need("needs a database that reports others' changes, and this one says that it does not", (c) => c.notices === 'all')
/** Something is said of other programs: then the suite must be given one. */
export const speaksOfOthers: Need = need('the plugin says nothing of what other programs write', (c) => c.attaches || c.foreign || c.notices === 'all')
export const revsOfOthers: Need = need("a write by another program gives no new rev by itself", (c) => c.foreign)
export const otherProgram: Need = { says: 'conformance() was given no client of another program (option "foreign")', met: (subject) => subject.settings.foreign !== undefined }
export const networked: Need = { says: 'the database is no server on one known host and port (option "network")', met: (subject) => subject.settings.network !== undefined }
