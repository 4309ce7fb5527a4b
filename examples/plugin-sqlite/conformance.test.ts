import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { conformance } from 'inlay/conformance'
import { afterAll } from 'vitest'
import sqlite from './index.ts'

const folder = mkdtempSync(join(tmpdir(), 'inlay-sqlite-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

conformance(sqlite, { uri: `sqlite:${join(folder, 'test.db')}` })
conformance(sqlite, { uri: 'sqlite::memory:', name: 'sqlite in memory' })
