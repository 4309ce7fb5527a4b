/** Interleavings that chance seldom meets, made on purpose. Each is a function over a rig, so that mutants can be shown to fail it. */
import assert from 'node:assert/strict'
import type { Written } from '../../core/contract.ts'
import { live } from '../conformance/subject.ts'
import { docOf, later, read, rowOf, settle, settleAll, slotA, slotB, stored, type Rig } from './rig.ts'

export async function settleBehindAnOpenDelete(rig: Rig): Promise<void> {
  const { one, foreign } = rig, rows = await read(one, slotA)
  await foreign.query('begin')
  await foreign.query(`delete from docs where _id = 'k2'`)
  const settling = settle(one, slotA, rows)
  await Promise.race([rig.waiting(), settling])
  await foreign.query('commit')
  assert.deepEqual(await settling.catch((error: unknown) => `the batch failed: ${String(error)}`), ['k2'])
  assert.deepEqual(await stored(rig, slotA), { k0: 0, k1: 10, k3: 30, k4: 40 })
}

export async function settleBehindAnOpenUpdate(rig: Rig): Promise<void> {
  const { one, foreign } = rig, rows = await read(one, slotA)
  await foreign.query('begin')
  await foreign.query(`update docs set doc = '{"x":7,"y":1}' where _id = 'k2'`)
  const settling = settle(one, slotA, rows)
  await Promise.race([rig.waiting(), settling])
  await foreign.query('commit')
  assert.deepEqual(await settling, ['k2'], 'the row that moved is refused')
  assert.deepEqual(await stored(rig, slotA), { k0: 0, k1: 10, k3: 30, k4: 40 })
  assert.deepEqual((await read(one, slotA, 'stale')).map((row) => row.key), ['k2'])
}

export async function settleBehindAnUpdateThatIsRolledBack(rig: Rig): Promise<void> {
  const { one, foreign } = rig, rows = await read(one, slotA)
  await foreign.query('begin')
  await foreign.query(`update docs set doc = '{"x":7,"y":1}' where _id = 'k2'`)
  const settling = settle(one, slotA, rows)
  await Promise.race([rig.waiting(), settling])
  await foreign.query('rollback')
  const refused = await settling
  assert.ok(refused.every((key) => key === 'k2'))
  await settle(one, slotA, await read(one, slotA, 'stale'))
  assert.deepEqual(await stored(rig, slotA), { k0: 0, k1: 10, k2: 20, k3: 30, k4: 40 })
}

export async function deleteWhileSettleHoldsTheRow(rig: Rig): Promise<void> {
  const { one, two, foreign } = rig
  await settleAll(rig)
  await one.write('docs', [{ kind: 'patch', key: 'k1', set: { x: 11 }, unset: [] }, { kind: 'patch', key: 'k2', set: { x: 22 }, unset: [] }], live)
  const rows = await read(one, slotA, 'stale')
  // A lock on an output of the batch keeps settle between its lock on the rows and its end.
  await foreign.query('begin')
  await foreign.query(`select from s_a where key = 'k1' for update`)
  const settling = settle(one, slotA, rows)
  await rig.waiting()
  const deleting = later(two.write('docs', [{ kind: 'remove', key: 'k2' }], live))
  await rig.waiting(2)
  await foreign.query('commit')
  assert.deepEqual(await settling, [])
  assert.equal((await deleting)[0]!.status, 'done')
  assert.deepEqual(await stored(rig, slotA), { k0: 0, k1: 110, k3: 30, k4: 40 })
  assert.deepEqual(Object.keys(await stored(rig, slotB)), ['k0', 'k1', 'k3', 'k4'])
}

export async function deleteAndInsertOfTheSameKey(rig: Rig): Promise<void> {
  const { one, foreign } = rig
  await settleAll(rig)
  const rows = await read(one, slotA)
  await foreign.query(`delete from docs where _id = 'k3'`)
  await foreign.query(`insert into docs (_id, doc) values ('k3', '{"x":3,"y":1}')`)
  assert.deepEqual(await stored(rig, slotA), { k0: 0, k1: 10, k2: 20, k4: 40 }, 'the outputs of a deleted row go with it')
  assert.deepEqual(await settle(one, slotA, rows), ['k3'], 'the new row of the same key and content is another')
  assert.deepEqual((await read(one, slotA, 'stale')).map((row) => row.key), ['k3'])
}

export async function changeOfAKey(rig: Rig): Promise<void> {
  const { one, foreign } = rig
  await settleAll(rig)
  const rows = await read(one, slotA)
  await foreign.query('begin')
  await foreign.query(`update docs set _id = 'z' where _id = 'k3'`)
  const settling = settle(one, slotA, rows)
  await Promise.race([rig.waiting(), settling])
  await foreign.query('commit')
  assert.deepEqual(await settling, ['k3'])
  assert.deepEqual(await stored(rig, slotA), { k0: 0, k1: 10, k2: 20, k4: 40, z: 30 }, 'outputs follow their row')
  const [stale, ...more] = await read(one, slotA, 'stale')
  assert.deepEqual([stale?.key, more], ['z', []])
  assert.deepEqual(await one.settle(slotA, [{ key: 'z', rev: stale!.rev, hash: stale!.mark!.hash, kind: 'same' }], live), [])
  assert.deepEqual(await read(one, slotB, 'stale').then((found) => found.map((row) => row.key)), ['z'])
}

export async function truncateCascade(rig: Rig): Promise<void> {
  const { one, foreign } = rig
  await settleAll(rig)
  const rows = await read(one, slotA)
  await foreign.query('begin')
  await foreign.query('truncate docs cascade')
  const settling = settle(one, slotA, rows)
  await rig.waiting()
  await foreign.query('commit')
  assert.deepEqual(await settling, ['k0', 'k1', 'k2', 'k3', 'k4'])
  assert.deepEqual([await stored(rig, slotA), await stored(rig, slotB)], [{}, {}])
  await one.write('docs', [{ kind: 'insert', key: 'k0', doc: docOf(5) }], live)
  await settleAll(rig)
  assert.deepEqual([await stored(rig, slotA), await stored(rig, slotB)], [{ k0: 50 }, { k0: 51 }])
}

export async function upstreamSettledAgain(rig: Rig): Promise<void> {
  const { one, two } = rig
  await settleAll(rig)
  await one.write('docs', [{ kind: 'patch', key: 'k1', set: { y: 2 }, unset: [] }], live)
  await settle(one, slotA, await read(one, slotA, 'stale'))
  const rows = await read(one, slotB, 'stale')
  assert.deepEqual(rows.map((row) => row.key), ['k1'])
  // The same rev of the row, but another output: as after a failed one ran again.
  const [row] = await read(two, slotA, 'all', ['k1'])
  assert.deepEqual(await two.settle(slotA, [{ key: 'k1', rev: row!.rev, hash: 'another', kind: 'values', values: [1000] }], live), [])
  assert.deepEqual(await settle(one, slotB, rows), ['k1'], 'an output made of what its upstream was before')
  await settle(one, slotB, await read(one, slotB, 'stale'))
  assert.equal((await stored(rig, slotB))['k1'], 1002)
}

export async function downstreamWaitsForItsUpstream(rig: Rig): Promise<void> {
  const { one, foreign } = rig
  await settleAll(rig)
  await foreign.query(`update docs set doc = '{"x":100,"y":1}' where _id = 'k1'`)
  assert.deepEqual(await read(one, slotB, 'stale'), [], 'not offered while its upstream is stale')
  // Who composes the rev itself, of the new row and the old output, is refused too.
  const [a] = await read(one, slotA, 'stale')
  const outcome = { key: 'k1', rev: `${a!.rev}|${a!.mark!.hash}`, hash: 'of the old output', kind: 'values' as const, values: [11] }
  assert.deepEqual(await one.settle(slotB, [outcome], live), ['k1'], 'an output made of a stale upstream')
}

export async function twoSettlesOfOneRev(rig: Rig): Promise<void> {
  const { one, two } = rig
  for (let round = 0; round < 10; round++) {
    await one.write('docs', [{ kind: 'patch', key: 'k1', set: { x: round + 100 }, unset: [] }], live)
    const [row] = await read(one, slotA, 'all', ['k1'])
    const outcome = (n: number): Parameters<typeof one.settle>[1] => [{ key: 'k1', rev: row!.rev, hash: `h${n}`, kind: 'values', values: [n] }]
    const refused = await Promise.all([one.settle(slotA, outcome(1), live), two.settle(slotA, outcome(2), live)])
    const [after] = await read(one, slotA, 'all', ['k1']), value = (await stored(rig, slotA))['k1'] as number
    assert.equal(after!.mark!.hash, `h${value}`, 'output and mark are of one settle')
    assert.deepEqual(refused[value - 1], [], 'what is stored was accepted')
  }
}

export async function sameOnlyWhereTheStoredOutputIsTheSame(rig: Rig): Promise<void> {
  const { one, two } = rig
  await settleAll(rig)
  const [row] = await read(one, slotA, 'all', ['k1'])
  await two.settle(slotA, [{ key: 'k1', rev: row!.rev, hash: 'another', kind: 'values', values: [1] }], live)
  assert.deepEqual(await one.settle(slotA, [{ key: 'k1', rev: row!.rev, hash: row!.mark!.hash, kind: 'same' }], live), ['k1'], 'the stored output is another')
  assert.deepEqual(await one.settle(slotA, [{ key: 'k1', rev: row!.rev, hash: 'another', kind: 'same' }], live), [])
}

export async function foreignWriteOfAnOldRev(rig: Rig): Promise<void> {
  const { one, foreign } = rig, rows = await read(one, slotA), old = rows.find((row) => row.key === 'k1')!.rev
  await foreign.query(`update docs set doc = '{"x":7,"y":1}' where _id = 'k1'`)
  await foreign.query(`update docs set _rev = $1 where _id = 'k1'`, [old])
  assert.notEqual((await rowOf(one, 'k1'))!.rev, old, 'the database gives the rev, whatever is written')
  assert.deepEqual(await settle(one, slotA, rows), ['k1'])
  await foreign.query(`insert into docs (_id, _rev, doc) values ('k9', $1, '{}')`, [old])
  assert.notEqual((await rowOf(one, 'k9'))!.rev, old)
}

export async function foreignWriteThatChangesNothing(rig: Rig): Promise<void> {
  const { one, foreign } = rig, before = await rowOf(one, 'k1'), rows = await read(one, slotA)
  await foreign.query(`update docs set doc = doc where _id = 'k1'`)
  assert.notEqual((await rowOf(one, 'k1'))!.rev, before!.rev)
  assert.deepEqual(await settle(one, slotA, rows), ['k1'])
}

export async function equalCompareAndSets(rig: Rig): Promise<void> {
  const { one, two } = rig, before = await rowOf(one, 'k1')
  // What they write is also what is there.
  const written = await Promise.all(Array.from({ length: 16 }, (_, i) => (i % 2 === 0 ? one : two).write('docs', [{ kind: 'put', key: 'k1', doc: before!.doc, rev: before!.rev }], live)))
  assert.deepEqual(written.flat().map((w) => w.status).sort(), ['done', ...Array.from({ length: 15 }, () => 'moved')])
}

export async function moveBetweenRowsAndSettle(rig: Rig): Promise<void> {
  const { one, two } = rig, rows = await read(one, slotA)
  await two.write('docs', [{ kind: 'patch', key: 'k1', set: { x: 7 }, unset: [] }], live)
  assert.deepEqual(await settle(one, slotA, rows), ['k1'], 'the row that moved is refused')
  assert.equal((await stored(rig, slotA))['k1'], undefined)
}

export async function writersOfEachOthersRows(rig: Rig): Promise<void> {
  const { one, two, foreign } = rig
  // Without an order of locks, each would have written one row and wait for the row of the other.
  await foreign.query('begin')
  await foreign.query(`select from docs where _id in ('k3', 'k4') for update`)
  const write = (data: Rig['one'], own: string, gate: string, others: string): Promise<readonly Written[]> =>
    later(data.write('docs', [{ kind: 'put', key: own, doc: docOf(9) }, { kind: 'patch', key: gate, set: { x: 9 }, unset: [] }, { kind: 'remove', key: others }], live))
  const writing = [write(one, 'k0', 'k3', 'k1'), write(two, 'k1', 'k4', 'k0')]
  await rig.waiting(2)
  await foreign.query('commit')
  const statuses = (await Promise.all(writing)).flat().map((w) => w.status)
  const { rows } = await foreign.query<{ _id: string }>(`select _id from docs where _id < 'k2'`)
  assert.equal(rows.length, 1, 'the second of them wrote its row and removed that of the first')
  assert.ok(statuses.every((status) => status === 'done'), `all is done: ${statuses.join()}`)
}

export async function deadlockOfAWriterAndAForeignTransaction(rig: Rig): Promise<void> {
  const { one, foreign } = rig
  await foreign.query(`set deadlock_timeout = '5s'`)                       // so that Inlay is the one that is told
  await foreign.query('begin')
  await foreign.query(`update docs set doc = doc || '{"y":2}' where _id = 'k3'`)
  const writing = later(one.write('docs', ['k0', 'k1', 'k2', 'k3'].map((key) => ({ kind: 'patch', key, set: { x: 9 }, unset: [] })), live))
  await rig.waiting()
  await foreign.query(`update docs set doc = doc || '{"y":2}' where _id in ('k0', 'k1', 'k2')`)
  await foreign.query('commit')
  assert.deepEqual((await writing).map((w) => w.status), ['done', 'done', 'done', 'done'])
  assert.deepEqual(rig.faults, ['40P01'])
  for (const key of ['k0', 'k3']) assert.deepEqual((await rowOf(one, key))!.doc, { x: 9, y: 2 }, 'both changes are there')
}

export async function deadlockOfSettleAndAForeignTransaction(rig: Rig): Promise<void> {
  const { one, foreign } = rig, rows = await read(one, slotA)
  await foreign.query(`set deadlock_timeout = '5s'`)                       // so that Inlay is the one that is told
  await foreign.query('begin')
  await foreign.query(`update docs set doc = doc where _id = 'k3'`)
  const settling = settle(one, slotA, rows)
  await Promise.race([rig.waiting(), settling])
  await foreign.query(`update docs set doc = doc where _id in ('k0', 'k1', 'k2')`)
  await foreign.query('commit')
  const refused = await settling
  assert.ok(refused.includes('k3'), 'the row that moved is refused')
  await settle(one, slotA, await read(one, slotA, 'stale'))
  assert.deepEqual(await stored(rig, slotA), { k0: 0, k1: 10, k2: 20, k3: 30, k4: 40 })
}

export async function pruneBehindAnOpenTransaction(rig: Rig): Promise<void> {
  const { one, two, other } = rig
  await settleAll(rig)
  const rows = await read(one, slotA, 'all', ['k0', 'k1'])
  await one.settle(slotA, rows.map(({ key, rev }) => ({ key, rev, hash: 'bad', kind: 'error', error: 'bad', tries: 1 })), live)
  // Prune has seen that B of both rows is to go, and waits for the first. Meanwhile the second row changes and gets well, and its B is made anew.
  await other.query('begin')
  await other.query(`select from s_b where key = 'k0' for update`)
  const pruning = later(two.prune(slotB, 'all', live))
  await rig.waiting()
  await one.write('docs', [{ kind: 'patch', key: 'k1', set: { x: 7 }, unset: [] }], live)
  for (const slot of [slotA, slotB]) assert.deepEqual(await settle(one, slot, await read(one, slot, 'stale', ['k1'])), [])
  await other.query('commit')
  await pruning
  assert.deepEqual(await stored(rig, slotB), { k1: 71, k2: 21, k3: 31, k4: 41 }, 'what was made anew is kept')
}
