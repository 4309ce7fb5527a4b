/** What the set-up started, for tests. Type augmentation of vitest's `inject`, and the openers that most tests want. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, openAsBlob, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PGlite, type PGliteInterfaceExtensions } from '@electric-sql/pglite'
import { vector } from '@electric-sql/pglite-pgvector'
import { inject, type TestContext } from 'vitest'

/** What the set-up has of one backend: `at` (a URI or a file) and its name and version, or the reason why there is none. */
export type Backend = { readonly at: string; readonly server: string } | { readonly absent: string }

declare module 'vitest' {
  export interface ProvidedContext {
    /** `at`: URI of a superuser of a real PostgreSQL with pgvector. Shared by all test files: use a namespace or database of your own. */
    readonly postgres: Backend
    /** `at`: a tar file of a PGlite data folder, the extension `vector` created, for `loadDataDir`. */
    readonly pglite: Backend
    /** `at`: URI of a real mongod, a replica set, that names no database. Shared by all test files: use a namespace or database of your own. */
    readonly mongodb: Backend
  }
}

/** The URI of the real PostgreSQL; skips the test with the reason where there is none. */
export function postgresUri(ctx: TestContext): string {
  const backend = inject('postgres')
  return 'at' in backend ? backend.at : ctx.skip(`PostgreSQL: ${backend.absent}`)
}

/** The URI of the real mongod; skips the test with the reason where there is none. */
export function mongodbUri(ctx: TestContext): string {
  const backend = inject('mongodb')
  return 'at' in backend ? backend.at : ctx.skip(`MongoDB: ${backend.absent}`)
}

/** The same server by its address alone, and a database on it. */
export function directUri(uri: string, database = ''): string {
  return `${uri.replace(/\/[^/]*$/, '')}/${database}?directConnection=true`
}

/** A new in-memory PGlite from the template, in a third of a second instead of three. The caller closes it. */
export async function openPglite(ctx: TestContext): Promise<PGlite & PGliteInterfaceExtensions<{ vector: typeof vector }>> {
  const backend = inject('pglite')
  if (!('at' in backend)) return ctx.skip(`PGlite: ${backend.absent}`)
  return PGlite.create({ loadDataDir: await openAsBlob(backend.at), extensions: { vector } })
}

/** A new folder that `pglite:<folder>` opens in a fifth of a second instead of three; removed when the test ends. */
export function pgliteFolder(ctx: TestContext): string {
  const backend = inject('pglite')
  if (!('at' in backend)) return ctx.skip(`PGlite: ${backend.absent}`)
  const folder = mkdtempSync(join(tmpdir(), 'inlay-pglite-'))
  ctx.onTestFinished(() => rmSync(folder, { recursive: true }))
  execFileSync('tar', ['-xf', backend.at, '-C', folder], { stdio: 'ignore' })
  return folder
}
