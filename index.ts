/** AI models inlaid in your database. */
import type { Config, Inlay } from './core/api.ts'
import { open } from './core/inlay.ts'
import { firstParty } from './plugins/index.ts'

export * from './core/index.ts'

/**
 * Opens a database, with the models declared on it. A string is the URI of the database; without an argument the config file is read.
 * The plugin and driver of a URI are loaded when it is opened, and nothing else.
 */
export function inlay(config?: string | Config): Promise<Inlay> {
  return open(config, firstParty)
}
