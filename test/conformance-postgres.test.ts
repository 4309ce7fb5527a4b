import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, inject, it } from 'vitest'
import postgres from '../plugins/postgres/index.ts'
import { conformance } from './conformance/index.ts'
import { postgresForeign } from './support/postgres-foreign.ts'

const server = inject('postgres'), embedded = inject('pglite')

if ('at' in server) conformance(postgres, { uri: server.at, name: server.server, foreign: postgresForeign })
else it('PostgreSQL conforms', (ctx) => ctx.skip(`PostgreSQL: ${server.absent}`))

if ('at' in embedded) {
  const folder = mkdtempSync(join(tmpdir(), 'inlay-conformance-'))
  execFileSync('tar', ['-xf', embedded.at, '-C', folder])
  afterAll(() => rmSync(folder, { recursive: true, force: true }))
  conformance(postgres, { uri: `pglite:${folder}`, name: embedded.server, foreign: postgresForeign })
} else it('PGlite conforms', (ctx) => ctx.skip(`PGlite: ${embedded.absent}`))
