import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll } from 'vitest'
import duckdb from '../plugins/duckdb/index.ts'
import { conformance } from './conformance/index.ts'
import { duckdbForeign } from './support/duckdb-foreign.ts'

const folder = mkdtempSync(join(tmpdir(), 'inlay-conformance-duckdb-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

conformance(duckdb, { uri: `duckdb:${join(folder, 'test.duckdb')}`, name: 'a DuckDB file', foreign: duckdbForeign })
conformance(duckdb, { uri: 'duckdb::memory:', name: 'DuckDB in memory', areas: ['lifecycle', 'cancellation'] })
