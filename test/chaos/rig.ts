/** Two connections of Inlay and a program that knows nothing of it, on one namespace of a server. The statements of Inlay can be edited, to see that a check notices. */
import assert from 'node:assert/strict'
import { setTimeout as sleep } from 'node:timers/promises'
import { Client } from 'pg'
import type { Datalayer, Doc, Key, Outcome, Row, Slot, Value } from '../../core/contract.ts'
import { guardData, type Guard } from '../../core/guard.ts'
import { PostgresData } from '../../plugins/postgres/datalayer.ts'
import { classify } from '../../plugins/postgres/errors.ts'
import { openNamespace } from '../../plugins/postgres/schema.ts'
import { connectServer } from '../../plugins/postgres/server.ts'
import type { Sql } from '../../plugins/postgres/sql.ts'
import { all, live } from '../conformance/subject.ts'

export interface Rig {
  /** Each with core's guard around it. */
  readonly one: Datalayer
  readonly two: Datalayer
  /** Sessions of another program; `docs` and the slots are on their search path. */
  readonly foreign: Client
  readonly other: Client
  /** SQLSTATE of each error that a statement of Inlay met, below the guard. */
  readonly faults: readonly string[]
  /** Awaits that so many sessions of this database wait for a lock. */
  waiting(sessions?: number): Promise<void>
}
/** Makes a rig for one check, and takes it away afterwards. */
export type WithRig = (check: (rig: Rig) => Promise<void>) => Promise<void>
export type Edit = (statement: string) => string

/** An output for each row, and one that needs it. */
export const slotA: Slot = { id: 's_a', collection: 'docs', fields: ['x'], upstream: [], shape: { kind: 'number' }, many: false }
export const slotB: Slot = { id: 's_b', collection: 'docs', fields: ['y'], upstream: ['s_a'], shape: { kind: 'number' }, many: false }

/** The collection `docs` with the rows `k0` … `k4`, `{ x: i, y: 1 }`, and both slots, nothing settled. */
export function rigOn(uri: string, edit: Edit = (statement) => statement): WithRig {
  return async (check) => {
    const namespace = `r_${crypto.randomUUID().replaceAll('-', '').slice(0, 16)}`, closing: (() => Promise<unknown>)[] = [], faults: string[] = []
    const session = async (): Promise<Client> => {
      const client = new Client({ connectionString: uri })
      await client.connect()
      closing.push(() => client.end())
      await client.query(`set search_path = ${namespace}`)
      return client
    }
    const data = async (): Promise<Datalayer> => {
      const sql = edited(await connectServer(uri), edit, faults), guard: Guard = { name: 'the server', closed: false, classify }
      closing.push(() => sql.close())
      const opened = guardData(new PostgresData(await openNamespace(sql, namespace, live.signal)), guard)
      await opened.create({ name: 'docs', attached: false, track: 'notify' }, live)
      for (const slot of [slotA, slotB]) await opened.openSlot(slot, live)
      return opened
    }
    try {
      const one = await data(), two = await data(), foreign = await session(), other = await session(), watch = await session()
      await one.write('docs', Array.from({ length: 5 }, (_, i) => ({ kind: 'insert', key: `k${i}`, doc: { x: i, y: 1 } })), live)
      await check({
        one, two, foreign, other, faults,
        async waiting(sessions = 1) {
          for (let tries = 0; tries < 400; tries++) {
            const { rows } = await watch.query<{ n: string }>(`select count(*) as n from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`)
            if (Number(rows[0]!.n) >= sessions) return
            await sleep(5)
          }
          throw new assert.AssertionError({ message: `${sessions} sessions were to wait for a lock` })
        },
      })
    } finally {
      // Foreign sessions first, whose locks others may wait for.
      for (const close of closing.reverse()) await close()
    }
  }
}

function edited(sql: Sql, edit: Edit, faults: string[]): Sql {
  const noted = <T>(result: Promise<T>): Promise<T> => result.catch((error: unknown) => {
    faults.push(String((error as { readonly code?: unknown }).code))
    throw error
  })
  return {
    ...sql, query: (text, params, signal, prepared) => noted(sql.query(edit(text), params, signal, prepared)),
    transaction: (work, signal) => noted(sql.transaction((query) => work((text, params, prepared) => query(edit(text), params, prepared)), signal)),
  }
}

/** The rows of a slot as `rows` offers them. */
export function read(data: Datalayer, slot: Slot, which: 'stale' | 'failed' | 'all' = 'all', keys: readonly Key[] | 'all' = 'all'): Promise<Row[]> {
  return all(data.rows(slot, which, keys, live))
}
/** What the models give: ten times `x`, and that plus `y`. The hash names the input. */
export function made(slot: Slot, row: Row): Outcome {
  const a = row.outputs?.[slotA.id]?.[0] as number | undefined, { x, y } = row.doc as { readonly x?: number; readonly y?: number }
  const value: Value = slot === slotA ? x! * 10 : a! + y!
  return { key: row.key, rev: row.rev, hash: slot === slotA ? `x${x}` : `a${a} y${y}`, kind: 'values', values: [value] }
}
/** Settles rows; gives the refused keys. The promise may be awaited later. */
export function settle(data: Datalayer, slot: Slot, rows: readonly Row[]): Promise<readonly Key[]> {
  return later(data.settle(slot, rows.map((row) => made(slot, row)), live))
}
/** Both slots, up to date. */
export async function settleAll({ one }: Rig): Promise<void> {
  assert.deepEqual(await settle(one, slotA, await read(one, slotA)), [])
  assert.deepEqual(await settle(one, slotB, await read(one, slotB)), [])
}
/** A promise that is awaited after other things, which may fail before. */
export function later<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => {})
  return promise
}
/** `key: value` of a slot's table, and of rows that are not there `orphan`. */
export async function stored({ foreign }: Rig, slot: Slot): Promise<Record<Key, number | 'orphan'>> {
  const { rows } = await foreign.query<{ key: Key; value: number; there: boolean }>(`select o.key, o.value, d._id is not null as there from ${slot.id} o left join docs d on d._id = o.key order by o.key`)
  return Object.fromEntries(rows.map(({ key, value, there }) => [key, there ? value : 'orphan']))
}
export async function rowOf(data: Datalayer, key: Key): Promise<Row | undefined> {
  return (await all(data.find({ from: 'docs', where: { kind: 'keys', keys: [key] } }, live)))[0]
}
export function docOf(x: number): Doc {
  return { x, y: 1 }
}
