/** Configuration: code over environment over file over defaults; an unknown key is an error. */
import { access } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { Config, Log } from './api.ts'
import { InlayError, messageOf, quote } from './errors.ts'
import { devices } from './spec.ts'
import { redact, redactUri } from './uri.ts'

/** Helps an editor with the config file; gives back what it is given. */
export function defineConfig(config: Config): Config {
  return config
}

const isText = (value: unknown): boolean => typeof value === 'string' && value !== ''
const isCount = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) > 0
const isObject = (value: unknown): boolean => typeof value === 'object' && value !== null && !Array.isArray(value)
/** Each key, what it takes, and whether the environment can give it. */
const keys: Readonly<Record<string, { readonly is: (value: unknown) => boolean; readonly expected: string; readonly env?: true }>> = {
  data: { is: isText, expected: 'a URI', env: true },
  vectors: { is: isText, expected: 'a URI, or "data"', env: true },
  artifacts: { is: isText, expected: 'a URI, or "data"', env: true },
  namespace: { is: (v) => typeof v === 'string' && /^[a-z][a-z0-9_]{0,39}$/.test(v), expected: 'a lower-case letter, then letters, digits and _, at most 40', env: true },
  models: { is: isObject, expected: 'an object' },
  'models.device': { is: (v) => devices.includes(v as string), expected: devices.map(quote).join(', '), env: true },
  outputs: { is: (v) => v === 'inline' || v === 'worker', expected: '"inline" or "worker"', env: true },
  plugins: { is: Array.isArray, expected: 'a list' },
  middleware: { is: Array.isArray, expected: 'a list' },
  content: { is: isObject, expected: 'an object: { allow: ["https://images.example.com/"] }' },
  'content.allow': { is: (v) => Array.isArray(v) && v.every(isText), expected: 'a list of schemes, URLs and folders' },
  'content.privateAddresses': { is: (v) => typeof v === 'boolean' || (Array.isArray(v) && v.every(isText)), expected: 'true, false, or a list of addresses and ranges' },
  'content.keep': { is: (v) => typeof v === 'boolean', expected: 'true or false' },
  'content.maxBytes': { is: isCount, expected: 'a whole number from 1' },
  'content.timeoutMs': { is: isCount, expected: 'a whole number from 1' },
  'content.concurrency': { is: isCount, expected: 'a whole number from 1' },
  'content.retries': { is: (v) => v === 0 || isCount(v), expected: 'a whole number from 0' },
  'content.schemes': { is: isObject, expected: 'an object of functions: { s3: async (uri, { signal, maxBytes }) => bytes }' },
  'content.resolve': { is: (v) => typeof v === 'function', expected: 'a function' },
  collections: { is: isObject, expected: 'an object: { users: { attach: "public.users" } }' },
  components: { is: Array.isArray, expected: 'a list' },
  container: { is: (v) => typeof v === 'function', expected: 'a function' },
  log: { is: isObject, expected: 'an object with functions debug, info, warn, error' },
  config: { is: (v) => v === false || isText(v), expected: 'a path, or false' },
}
const nested = new Set(['models', 'content'])
const fileNames = ['inlay.config.ts', 'inlay.config.js', 'inlay.config.json']

export interface Resolved extends Config {
  readonly data: string
  readonly namespace: string
  readonly outputs: 'inline' | 'worker'
  readonly log: Log
  /** The folder that relative paths of the config file mean. */
  readonly folder: string
}

/** What holds for this process. A string is `{ data }`. */
export async function resolveConfig(given: string | Config | undefined, env: Readonly<Record<string, string | undefined>> = process.env, cwd: string = process.cwd()): Promise<Resolved> {
  const code = typeof given === 'string' ? { data: given } : given ?? {}
  check(code, 'the argument of inlay()')
  const file = code.config === false ? undefined : await findFile(code.config, cwd)
  const fromFile = file === undefined ? {} : await readFile(file)
  const fromEnv = readEnv(env)
  const merged: Config = { ...fromFile, ...fromEnv, ...defined(code), models: { ...fromFile.models, ...fromEnv.models, ...defined(code.models ?? {}) }, content: { ...fromFile.content, ...defined(code.content ?? {}) } }
  const log = merged.log ?? stderrLog
  if (merged.data === undefined) log.warn?.('No database is configured: using "memory:", which is lost when the process ends. Give a URI to inlay(), set INLAY_DATA, or write inlay.config.ts.')
  return { ...merged, data: merged.data ?? 'memory:', namespace: merged.namespace ?? 'inlay', outputs: merged.outputs ?? 'inline', log, folder: file === undefined ? cwd : dirname(file) }
}

/** Warnings and errors to stderr. */
const stderrLog: Log = {
  warn: (message) => { process.stderr.write(`inlay: ${redact(message)}\n`) },
  error: (message) => { process.stderr.write(`inlay: ${redact(message)}\n`) },
}

function defined<T extends object>(config: T): Partial<T> {
  return Object.fromEntries(Object.entries(config).filter(([, value]) => value !== undefined)) as Partial<T>
}

function check(config: object, where: string, prefix = ''): void {
  if (!isObject(config)) throw new InlayError('CONFIG_INVALID', `${where} is ${quote(config)}; an object or a URI is expected.`)
  for (const [name, value] of Object.entries(config)) {
    const key = `${prefix}${name}`, rule = keys[key]
    if (rule === undefined) {
      const known = Object.keys(keys).filter((k) => (prefix === '' ? !k.includes('.') : k.startsWith(prefix))).map((k) => k.slice(prefix.length))
      throw new InlayError('CONFIG_INVALID', `The key ${quote(key)} of ${where} is not known. Known: ${known.join(', ')}.`)
    }
    if (value === undefined) continue
    if (!rule.is(value)) throw new InlayError('CONFIG_INVALID', `The key ${quote(key)} of ${where} is ${typeof value === 'string' ? quote(redactUri(value)) : redact(quote(value))}; ${rule.expected} is expected.`)
    if (nested.has(key)) check(value as object, where, `${key}.`)
  }
}

/** `INLAY_DATA`, `INLAY_MODELS__DEVICE`, …; `INLAY_TEST_*` belongs to the tests. */
function readEnv(env: Readonly<Record<string, string | undefined>>): Config {
  const config: Record<string, unknown> = {}
  for (const [name, value] of Object.entries(env)) {
    if (!name.startsWith('INLAY_') || name.startsWith('INLAY_TEST_') || value === undefined) continue
    const path = name.slice('INLAY_'.length).toLowerCase().split('__')
    const rule = keys[path.join('.')]
    if (rule?.env !== true) {
      throw new InlayError('CONFIG_INVALID', `The environment variable ${name} is not known. Known: ${Object.keys(keys).filter((k) => keys[k]!.env).map((k) => `INLAY_${k.replace('.', '__').toUpperCase()}`).join(', ')}.`)
    }
    if (path.length === 1) config[path[0]!] = value
    else config[path[0]!] = { ...config[path[0]!] as object, [path[1]!]: value }
  }
  check(config, 'the environment')
  return config
}

async function findFile(given: string | undefined, cwd: string): Promise<string | undefined> {
  if (given !== undefined) {
    const path = resolve(cwd, given)
    if (!await exists(path)) throw new InlayError('CONFIG_INVALID', `The config file ${quote(path)} does not exist. Give another path, or false for none.`)
    return path
  }
  for (let folder = cwd; ; folder = dirname(folder)) {
    for (const name of fileNames) if (await exists(join(folder, name))) return join(folder, name)
    if (folder === dirname(folder)) return undefined
  }
}

function exists(path: string): Promise<boolean> {
  return access(path).then(() => true, () => false)
}

async function readFile(path: string): Promise<Config> {
  let loaded: unknown
  try {
    const module = await import(pathToFileURL(path).href, path.endsWith('.json') ? { with: { type: 'json' } } : undefined) as { default?: unknown }
    loaded = module.default
  } catch (error) {
    throw new InlayError('CONFIG_INVALID', `The config file ${quote(path)} cannot be read: ${messageOf(error)}`, { cause: error })
  }
  if (!isObject(loaded)) throw new InlayError('CONFIG_INVALID', `The config file ${quote(path)} has no default export that is an object. Write "export default defineConfig({ … })".`)
  check(loaded as object, path)
  return loaded as Config
}
