/** Opens the parts of an `Inlay`: connections, the container, middleware and guards around them. */
import { randomBytes } from 'node:crypto'
import { hostname } from 'node:os'
import { inspect } from 'node:util'
import type { Log } from './api.ts'
import { Collections } from './collections.ts'
import { Components } from './components.ts'
import { builtIn } from './codecs/index.ts'
import { Codecs } from './codec.ts'
import { Contents } from './contents.ts'
import { Fetcher } from './fetch.ts'
import { copyIndex } from './copy-index.ts'
import type { Resolved } from './config.ts'
import { assemble } from './container.ts'
import type { Connection, Ctx, Device, Middleware, Plugin } from './contract.ts'
import type { Core, Life } from './core.ts'
import { InlayError, messageOf, quote } from './errors.ts'
import { guardArtifacts, guardData, guardVectors, type Guard } from './guard.ts'
import { Indexes } from './indexes.ts'
import { Listeners } from './listeners.ts'
import { plain } from './middleware.ts'
import { Functions, type ModelParts, type StoredModel } from './model.ts'
import type { Plugins } from './plugins.ts'
import { retrieveRows } from './retrieve.ts'
import { rowArtifacts } from './row-artifacts.ts'
import { identityOfUri, redact, redactUri } from './uri.ts'
import { Copies, memoryVectors } from './vectors.ts'

/** The core with what models are made of. */
export type OpenedCore = Core & { readonly modelParts: ModelParts }

/** One connection per identity, closed last first. */
export class Connections {
  readonly plugins: Plugins
  readonly #config: Resolved
  readonly #opened = new Map<string, { readonly connection: Connection; readonly plugin: Plugin; readonly guard: Guard }>()

  constructor(config: Resolved, plugins: Plugins) {
    this.#config = config
    this.plugins = plugins
  }

  async open(uri: string, ctx: Ctx): Promise<{ readonly connection: Connection; readonly plugin: Plugin; readonly guard: Guard }> {
    const plugin = await this.plugins.forUri(uri)
    if (plugin.connect === undefined) throw new InlayError('PLUGIN_INCOMPATIBLE', `The plugin ${quote(plugin.name)} names the scheme of ${quote(redactUri(uri))} but cannot connect.`)
    const id = `${plugin.name}\n${(plugin.identify ?? identityOfUri)(uri)}`, there = this.#opened.get(id)
    if (there !== undefined) return there
    const classify = plugin.classify?.bind(plugin) ?? (() => undefined)
    let connection: Connection
    try {
      connection = await plugin.connect(uri, { namespace: this.#config.namespace }, ctx)
    } catch (error) {
      if (InlayError.is(error)) throw error
      const known = classify(error)
      const code = known?.code ?? 'UNAVAILABLE', advice = code === 'UNAVAILABLE' ? 'Is the server running, and are host and port right?' : 'Are host, port, database and credentials of the URI right?'
      // Some errors carry the URI as it was given.
      const cause = redact(inspect(error)) === inspect(error) && !(uri.includes('@') && inspect(error).includes(uri)) ? { cause: error } : {}
      throw new InlayError(code, `${quote(redactUri(uri))} cannot be opened: ${redact(messageOf(error).replaceAll(uri, redactUri(uri)))}. ${advice}`, { ...cause, retryable: known?.retryable ?? true })
    }
    const opened = { connection, plugin, guard: { name: redactUri(uri), closed: false, classify } }
    this.#opened.set(id, opened)
    return opened
  }

  async close(): Promise<void> {
    const failed: unknown[] = []
    for (const { connection, guard } of [...this.#opened.values()].reverse()) {
      guard.closed = true
      await connection.close().catch((error: unknown) => failed.push(error))
    }
    this.#opened.clear()
    if (failed.length > 0) throw new InlayError('INTERNAL', `Closing failed: ${failed.map((e) => redact(messageOf(e))).join('; ')}.`, { cause: failed[0] })
  }
}

const lookMs = 1000

export async function openCore(config: Resolved, life: Life, connections: Connections): Promise<OpenedCore> {
  const ctx = life.ctx(undefined)
  const main = await connections.open(config.data, ctx)
  if (main.connection.data === undefined) throw new InlayError('CONFIG_INVALID', `${quote(redactUri(config.data))} keeps no rows; "data" needs a database.`)
  const elsewhere = (uri: string | undefined): Promise<typeof main> => (uri === undefined || uri === 'data' ? Promise.resolve(main) : connections.open(uri, ctx))
  const artifactsAt = await elsewhere(config.artifacts), vectorsAt = await elsewhere(config.vectors)
  const vectorsThere = vectorsAt.connection.vectors
  if (vectorsAt !== main && vectorsThere === undefined && config.vectors !== 'memory:') throw new InlayError('CONFIG_INVALID', `${quote(redactUri(config.vectors!))} does not search vectors. Use a database that does, "memory:", or leave "vectors" out.`)
  // A database that searches where its own rows lie holds the vectors of another one as a copy.
  const copied = vectorsAt !== main && vectorsThere?.capabilities.place === 'slot' && vectorsAt.connection.data !== undefined ? copyIndex(guardData(vectorsAt.connection.data, vectorsAt.guard), vectorsThere) : vectorsThere
  if (artifactsAt !== main && artifactsAt.connection.artifacts === undefined) throw new InlayError('CONFIG_INVALID', `${quote(redactUri(config.artifacts!))} keeps no artifacts. Use "file:./folder", or leave "artifacts" out.`)
  const rawArtifacts = artifactsAt.connection.artifacts ?? rowArtifacts(main.connection.data)
  const parts = assemble({
    data: main.connection.data, artifacts: rawArtifacts, vectors: copied ?? memoryVectors(), log: redacting(config.log),
    executor: async (format) => (await connections.plugins.forFormat(format)).executors!.find((e) => e.formats.includes(format))!,
  }, config.container)
  const middleware: readonly Middleware[] = [...config.middleware ?? [], ...[...new Set([main.plugin, artifactsAt.plugin, vectorsAt.plugin])].flatMap((p) => p.middleware ?? [])]
  const around = <T extends object>(part: T, wrap: (m: Middleware, next: T) => T | undefined): T => (middleware.length === 0 ? part : middleware.reduceRight((next, m) => wrap(m, next) ?? next, plain(part)))
  const vectors = guardVectors(around(parts.vectors, (m, next) => m.vectors?.(next)), vectorsAt.guard)
  const artifacts = guardArtifacts(around(parts.artifacts, (m, next) => m.artifacts?.(next)), artifactsAt.guard)
  const copies = new Copies(vectors)
  const guarded = guardData(around(parts.data, (m, next) => m.data?.(next)), main.guard)
  const data = vectors.capabilities.place === 'copy' ? copies.watch(guarded) : guarded
  const components = new Components(data), warn = (message: string): void => parts.log.warn?.(message), functions = new Functions(warn), devices = new Map<string, Device | 'auto'>()
  const said = new Set<string>()
  const modelParts: ModelParts = {
    functions, device: (identity) => devices.get(identity) ?? config.models?.device ?? 'cpu', executor: parts.executor,
    artifact: (id, c) => readWhole(artifacts.read(id, { offset: 0 }, c)),
    part: async ({ model: name, identity }, c) => {
      const stored = (await components.get('model', name, c))?.versions.find((v) => v.hash === identity)?.spec as unknown as StoredModel | undefined
      if (stored === undefined) throw new InlayError('NOT_FOUND', `The model ${quote(name)} is gone, and another is made of it. Add it again.`)
      return core.listeners.model(name, stored)
    },
    warn: (message) => {
      if (!said.has(message)) warn(message)
      said.add(message)
    },
    retrieve: (retrieval, inputs, c) => retrieveRows(core, retrieval, inputs, c),
    shared: ctx,
    wrap: (model) => around(model, (m, next) => m.model?.(next)),
  }
  const worker = `${hostname().slice(0, 60)}:${process.pid}:${randomBytes(3).toString('hex')}`
  const collections = new Collections(data, ctx), { keep = false, ...fetching } = config.content ?? {}
  const contents = new Contents({ artifacts, data, codecs: new Codecs(builtIn, (id) => connections.plugins.codec(id), warn), fetcher: new Fetcher(fetching, config.folder), keep, call: (signal, work) => life.call(signal, work) })
  let refreshing: Promise<unknown> = Promise.resolve(), looked = { at: 0, revs: '' }
  const revsOf = (stored: readonly { readonly rev: string }[]): string => stored.map((c) => c.rev).sort().join()
  const core: OpenedCore = {
    server: main.connection.server, worker, devices, data, artifacts, vectors, copies, collections, contents, components, functions, log: parts.log, outputs: config.outputs, modelParts,
    listeners: new Listeners({ ...modelParts, data, artifacts, collections, contents, worker, warn }),
    indexes: new Indexes(() => core),
    call: (signal, work) => life.call(signal, work),
    stream: (signal, work) => life.stream(signal, work),
    background: (work) => life.background(work, (error) => parts.log.warn?.(`Work in the background stopped: ${messageOf(error)}`)),
    // One after the other: an older view must not replace a newer one.
    refresh(c) {
      const next = refreshing.catch(() => {}).then(async () => {
        const stored = await components.all(c)
        if (stored.some((s) => s.kind === 'listener')) collections.note(await data.list(c))
        looked = { at: Date.now(), revs: revsOf(stored) }
        await core.listeners.refresh(c, stored)
        core.indexes.refresh(stored)
        return stored
      })
      refreshing = next
      return next
    },
    async look(c) {
      if (Date.now() - looked.at < lookMs) return
      looked = { ...looked, at: Date.now() }
      if (revsOf(await components.revs(c)) !== looked.revs) await core.refresh(c)
    },
    reopen(c) {
      core.listeners.forgetAll()
      collections.forget()
      return core.refresh(c)
    },
  }
  return core
}

/** Secrets never reach a log, whoever wrote it. */
function redacting(log: Log): Log {
  const say = (level: keyof Log) => (message: string): void => log[level]?.(redact(message))
  return { debug: say('debug'), info: say('info'), warn: say('warn'), error: say('error') }
}

async function readWhole(parts: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const all: Uint8Array[] = []
  for await (const part of parts) all.push(part)
  return Buffer.concat(all)
}
