import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, inject, it } from 'vitest'
import postgres from '../../plugins/postgres/index.ts'
import { conformance } from '../conformance/index.ts'

/** The full figures of the area `big`: 200,000 rows and an artifact of 256 MiB. */
const server = inject('postgres'), embedded = inject('pglite')

if ('at' in server) conformance(postgres, { uri: server.at, name: server.server, areas: ['big'], big: true })
else it('PostgreSQL streams what is big', (ctx) => ctx.skip(`PostgreSQL: ${server.absent}`))

if ('at' in embedded) {
  const folder = mkdtempSync(join(tmpdir(), 'inlay-big-'))
  execFileSync('tar', ['-xf', embedded.at, '-C', folder])
  afterAll(() => rmSync(folder, { recursive: true, force: true }))
  conformance(postgres, { uri: `pglite:${folder}`, name: embedded.server, areas: ['big'], big: true })
} else it('PGlite streams what is big', (ctx) => ctx.skip(`PGlite: ${embedded.absent}`))
