/** Broken variants of the statements, each noticed by a check of races.ts: proof that the checks bite. */
import assert from 'node:assert/strict'
import { describe, expect, it } from 'vitest'
import { ownDatabase } from '../support/own-database.ts'
import * as races from './races.ts'
import { rigOn, type Rig } from './rig.ts'

const database = ownDatabase({ deadlock_timeout: '100ms' })

interface Mutant {
  readonly name: string
  readonly from: string | RegExp
  readonly to: string
  readonly check: (rig: Rig) => Promise<void>
  /** What the check says. */
  readonly says: RegExp
}
const mutants: readonly Mutant[] = [
  { name: 'settle does not lock the row', from: / for share of d(?: skip locked)?/, to: '', check: races.settleBehindAnOpenDelete, says: /foreign key constraint/ },
  { name: 'settle does not compare the rev', from: /d\._rev::text = v\.rev/, to: 'true', check: races.moveBetweenRowsAndSettle, says: /the row that moved is refused/ },
  { name: 'settle compares the rev of the row only', from: /d\._rev::text(?: \|\| '\|' \|\| u_s_a\.hash) = v\.rev/, to: `d._rev::text = split_part(v.rev, '|', 1)`, check: races.upstreamSettledAgain, says: /of what its upstream was before/ },
  { name: 'settle does not ask whether the upstream is current', from: /( v\.rev and .*?) and u_s_a\.rev = d\._rev::text/s, to: '$1', check: races.downstreamWaitsForItsUpstream, says: /of a stale upstream/ },
  { name: '"same" does not compare the hash', from: ' and o.hash = ok.hash', to: '', check: races.sameOnlyWhereTheStoredOutputIsTheSame, says: /the stored output is another/ },
  { name: 'outputs do not reference their row', from: / references .* on update cascade/, to: '', check: races.deleteAndInsertOfTheSameKey, says: /go with it/ },
  { name: 'a change keeps the rev', from: /_rev = coalesce\(v\.fresh, d\._rev\), | or new\._rev = old\._rev/, to: '', check: races.equalCompareAndSets, says: /done/ },
  { name: 'the rev may be given by anybody', from: `current_setting('inlay.own', true) is distinct from 'on' or `, to: '', check: races.foreignWriteOfAnOldRev, says: /the database gives the rev/ },
  { name: 'a write does not compare the rev', from: ' and (v.rev is null or d._rev::text = v.rev)', to: '', check: races.equalCompareAndSets, says: /done/ },
]

describe('a mutant is noticed', () => {
  for (const { name, from, to, check, says } of mutants) {
    it(name, async (ctx) => {
      let edits = 0
      const mutated = rigOn(await database(ctx), (statement) => {
        const after = statement.replace(from, to)
        if (after !== statement) edits++
        return after
      })
      const noticed = await mutated(check).then(() => undefined, (error: unknown) => error)
      expect(noticed).toBeInstanceOf(assert.AssertionError)
      expect(String(noticed)).toMatch(says)
      expect(edits, 'the mutant edits a statement').toBeGreaterThan(0)
    })
  }
})
