/** From a URI or a graph format to the plugin that handles it: objects in code, then names in the config, then the first-party table. */
import { isAbsolute, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { Codec, Plugin } from './contract.ts'
import { InlayError, messageOf, quote } from './errors.ts'
import { memory } from './memory.ts'
import { redactUri, schemeOf } from './uri.ts'

/** What a package of plugins offers, loaded when first needed. */
export interface PluginEntry {
  readonly schemes?: readonly string[]
  readonly formats?: readonly string[]
  readonly codecs?: readonly string[]
  load(): Promise<Plugin>
}

export class Plugins {
  readonly #entries: readonly PluginEntry[]

  constructor(entries: readonly PluginEntry[]) { this.#entries = entries }

  static async open(given: readonly (string | Plugin)[], firstParty: readonly PluginEntry[], folder: string): Promise<Plugins> {
    const own = await Promise.all(given.map(async (g) => entryOf(typeof g === 'string' ? await load(g, folder) : g)))
    return new Plugins([...own, entryOf(memory), ...firstParty])
  }

  async forUri(uri: string): Promise<Plugin> {
    const scheme = schemeOf(uri)
    const entry = this.#entries.find((e) => e.schemes?.includes(scheme))
    if (entry === undefined) throw new InlayError('PLUGIN_NOT_FOUND', `No plugin handles "${scheme}:" of ${quote(redactUri(uri))}. Known schemes: ${[...new Set(this.#entries.flatMap((e) => e.schemes ?? []))].sort().join(', ')}. Add the plugin to "plugins" in your config.`)
    return entry.load()
  }

  async forFormat(format: string): Promise<Plugin> {
    const entry = this.#entries.find((e) => e.formats?.includes(format))
    if (entry === undefined) throw new InlayError('PLUGIN_NOT_FOUND', `No plugin runs graphs of the format ${quote(format)}. Known formats: ${[...new Set(this.#entries.flatMap((e) => e.formats ?? []))].sort().join(', ')}.`)
    return entry.load()
  }

  async codec(id: string): Promise<Codec | undefined> {
    return (await this.#entries.find((e) => e.codecs?.includes(id))?.load())?.codecs?.find((of) => of.id === id)
  }
}

function entryOf(plugin: Plugin): PluginEntry {
  if (plugin.contract !== 1) throw new InlayError('PLUGIN_INCOMPATIBLE', `The plugin ${quote((plugin as Plugin).name)} implements contract ${quote((plugin as { contract: unknown }).contract)}; this Inlay has contract 1. Install a version of the plugin that fits.`)
  return { schemes: plugin.schemes ?? [], formats: (plugin.executors ?? []).flatMap((e) => e.formats), codecs: (plugin.codecs ?? []).map(({ id }) => id), load: () => Promise.resolve(plugin) }
}

async function load(name: string, folder: string): Promise<Plugin> {
  const specifier = name.startsWith('.') || isAbsolute(name) ? pathToFileURL(resolve(folder, name)).href : name
  let module: { default?: unknown }
  try {
    module = await import(specifier) as { default?: unknown }
  } catch (error) {
    throw new InlayError('PLUGIN_NOT_FOUND', `The plugin ${quote(name)} of the config cannot be loaded: ${messageOf(error)}${specifier === name ? ` Install it with "npm install ${name}".` : ''}`, { cause: error })
  }
  if (typeof module.default !== 'object' || module.default === null || !('contract' in module.default)) throw new InlayError('PLUGIN_INCOMPATIBLE', `The plugin ${quote(name)} has no default export that is a Plugin.`)
  return module.default as Plugin
}
