import { setTimeout as sleep } from 'node:timers/promises'
import { Client } from 'pg'
import { describe, it } from 'vitest'
import type { Connection } from '../../core/contract.ts'
import postgres from '../../plugins/postgres/index.ts'
import { live } from '../conformance/subject.ts'
import { ownDatabase, runSql } from '../support/own-database.ts'
import * as races from './races.ts'
import { later, rigOn, type Rig } from './rig.ts'

const emptyDatabase = ownDatabase()
const database = ownDatabase({ deadlock_timeout: '100ms' })

const checks: Readonly<Record<string, (rig: Rig) => Promise<void>>> = {
  'settle that meets a transaction that deletes a row refuses that row and stores the others': races.settleBehindAnOpenDelete,
  'settle that meets a transaction that changes a row refuses that row and stores the others': races.settleBehindAnOpenUpdate,
  'settle that meets a transaction that is rolled back stores all, at the latest when repeated': races.settleBehindAnUpdateThatIsRolledBack,
  'a delete waits for a settle that has the row, and takes the new output along': races.deleteWhileSettleHoldsTheRow,
  'a row deleted and inserted again under its key is another row': races.deleteAndInsertOfTheSameKey,
  'a row whose key another program changes keeps its outputs, and late ones are refused': races.changeOfAKey,
  'truncate cascade takes all outputs along, and late ones are refused': races.truncateCascade,
  'settle refuses a row that moved after it was read': races.moveBetweenRowsAndSettle,
  'settle refuses an output whose upstream was settled again meanwhile': races.upstreamSettledAgain,
  'an output is neither offered nor stored while its upstream is stale': races.downstreamWaitsForItsUpstream,
  'of two settles of one rev one is stored, whole, and it was accepted': races.twoSettlesOfOneRev,
  '"same" is refused where the stored output is another': races.sameOnlyWhereTheStoredOutputIsTheSame,
  'another program cannot write an old rev back': races.foreignWriteOfAnOldRev,
  'a write by another program that changes nothing gives a new rev': races.foreignWriteThatChangesNothing,
  'of 16 equal compare-and-sets at once one wins': races.equalCompareAndSets,
  'two writers that want each other\'s rows both succeed': races.writersOfEachOthersRows,
  'a writer that deadlocks with another program is repeated': races.deadlockOfAWriterAndAForeignTransaction,
  'settle that meets another program in a circle of locks ends, and all is stored when repeated': races.deadlockOfSettleAndAForeignTransaction,
  'prune keeps an output that was made anew while it waited': races.pruneBehindAnOpenTransaction,
}

describe('on a PostgreSQL server', () => {
  it('a process that opens a new database while another makes the namespace waits for that one and finds it made', async (ctx) => {
    const uri = await emptyDatabase(ctx), namespace = 'made_meanwhile', other = new Client({ connectionString: uri })
    await other.connect()
    let opening: Promise<Connection> | undefined
    try {
      await other.query('begin')
      await other.query('select pg_advisory_xact_lock(hashtextextended($1, 0))', [`inlay:${namespace}`])
      opening = later(postgres.connect!(uri, { namespace }, live))
      const waits = (): Promise<unknown[]> => runSql(uri, `select 1 from pg_stat_activity where datname = current_database() and wait_event = 'advisory'`)
      for (let tries = 0; tries < 100 && (await waits()).length === 0; tries++) await sleep(5)
      await other.query(`create schema ${namespace}`)
      await other.query('commit')
      await (await opening).data!.create({ name: 'docs', attached: false, track: 'notify' }, live)
    } finally {
      await other.end()
      await opening?.then((connection) => connection.close(), () => {})
    }
  })

  for (const [name, check] of Object.entries(checks)) it(name, async (ctx) => { await rigOn(await database(ctx))(check) })
})
