import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it, type TestContext } from 'vitest'
import type { Plugin } from '../../core/contract.ts'
import duckdb from '../../plugins/duckdb/index.ts'
import { areas, Subject } from '../conformance/index.ts'
import { duckdbForeign } from '../support/duckdb-foreign.ts'
import { attachedMutants, checks, mutants, type DuckMutant } from './duckdb.ts'

const rules = new Map(Object.values(areas).flat().map((rule) => [rule.id, rule]))

function file(ctx: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'inlay-duckdb-mutant-'))
  ctx.onTestFinished(() => rmSync(folder, { recursive: true }))
  return `duckdb:${join(folder, 'app.duckdb')}`
}
/** Runs a rule or a check; gives what it failed with. */
async function failure(ctx: TestContext, notices: DuckMutant['notices'], plugin: Plugin): Promise<unknown> {
  const uri = file(ctx)
  if (typeof notices !== 'string') return notices(plugin, uri).then(() => undefined, (error: unknown) => error)
  const rule = rules.get(notices)
  if (rule === undefined) throw new Error(`There is no rule ${notices}.`)
  const subject = await Subject.connect(plugin, uri, { cases: 20, seed: 1, big: false, foreign: duckdbForeign })
  try {
    assert.deepEqual(rule.needs.filter((need) => !need.met(subject)).map((need) => need.says), [])
    await rule.run(subject)
    return undefined
  } catch (error) {
    return error
  } finally {
    await subject.close().catch(() => {})
  }
}

describe('a mutant of DuckDB is noticed', () => {
  for (const { fault, notices, plugin } of [...mutants, ...attachedMutants]) {
    it(`"${fault}" by ${typeof notices === 'string' ? notices : notices.name}`, async (ctx) => {
      let edits = 0
      const noticed = await failure(ctx, notices, plugin(() => { edits++ }))
      expect(edits, 'the mutant edits something').toBeGreaterThan(0)
      expect(noticed, 'the fault is noticed').toBeDefined()
      // Two collections that became one meet when the second is made.
      expect(String(noticed)).toMatch(/^AssertionError|something else of that name/)
    })
  }
})

describe('without a fault', () => {
  for (const notices of new Set([...mutants, ...attachedMutants].flatMap(({ notices }) => (typeof notices === 'string' ? [notices] : [])))) {
    it(`${notices} holds`, async (ctx) => { expect(await failure(ctx, notices, duckdb)).toBeUndefined() })
  }
  for (const check of checks) it(`${check.name} holds`, async (ctx) => { expect(await failure(ctx, check, duckdb)).toBeUndefined() })
})
