/** Writes to collections of ours: what is there is read first, which nobody else changes meanwhile. */
import type { Doc, Key, Value, Write, Written } from '../../core/contract.ts'
import { setOwn } from '../../core/value.ts'
import { decode, encode } from './json.ts'
import { table, type Place } from './schema.ts'
import { forgetDerived } from './settle.ts'
import { isOneOf } from './source.ts'
import { Params, type Run, type Writer } from './sql.ts'

/** `fresh`: the keys are taken for new ones, which is faster; one that is not fails the transaction. */
export async function writeAll(place: Place, { run }: Writer, collection: string, ops: readonly Write[], fresh: boolean): Promise<readonly Written[]> {
  const t = table(place, collection)
  if (ops.every((op) => op.kind === 'insert')) return insert(run, t, ops, fresh)
  const found = await look(run, t, ops), written: Written[] = [], puts: { readonly key: Key; readonly rev: string; readonly doc: Doc }[] = [], removed: Key[] = []
  for (const op of ops) {
    const key = op.key ?? crypto.randomUUID(), old = found.get(key)
    if (op.kind === 'insert' ? old !== undefined : old === undefined && (op.kind !== 'put' || op.rev !== undefined)) written.push({ status: op.kind === 'insert' ? 'exists' : 'missing', key })
    else if (op.kind !== 'insert' && op.rev !== undefined && op.rev !== old!.rev) written.push({ status: 'moved', key })
    else if (op.kind === 'remove') {
      removed.push(key)
      written.push({ status: 'done', key })
    } else {
      const rev = op.as ?? crypto.randomUUID()
      puts.push({ key, rev, doc: op.kind === 'patch' ? patched(decode(old!.doc!) as Doc, op.set, op.unset) : op.doc })
      written.push({ status: 'done', key, rev })
    }
  }
  if (removed.length > 0) {
    const p = new Params()
    await run(`delete from ${t} where ${isOneOf('_id', removed, p.add)}`, p.list)
    await forgetDerived(place, run, collection, removed)
  }
  if (puts.length > 0) {
    const p = new Params()
    await run(`insert into ${t} select ${columns(puts, p)} on conflict (_id) do update set _rev = excluded._rev, doc = excluded.doc`, p.list)
  }
  return written
}

/** Nothing needs to be looked at before. */
async function insert(run: Run, t: string, ops: readonly (Write & { readonly kind: 'insert' })[], fresh: boolean): Promise<readonly Written[]> {
  const p = new Params(), rows = ops.map((op) => ({ key: op.key ?? crypto.randomUUID(), rev: op.as ?? crypto.randomUUID(), doc: op.doc }))
  if (rows.length === 0) return []
  if (fresh) {
    await run(`insert into ${t} select ${columns(rows, p)}`, p.list)
    return rows.map(({ key, rev }) => ({ status: 'done', key, rev }))
  }
  const done = new Set((await run(`insert into ${t} select ${columns(rows, p)} on conflict (_id) do nothing returning _id`, p.list)).map((row) => row['_id'] as Key))
  return rows.map(({ key, rev }) => (done.has(key) ? { status: 'done', key, rev } : { status: 'exists', key }))
}

function columns(rows: readonly { readonly key: Key; readonly rev: string; readonly doc: Doc }[], p: Params): string {
  return `unnest(${p.add(rows.map((row) => row.key))}), unnest(${p.add(rows.map((row) => row.rev))}), unnest(${p.add(rows.map((row) => encode(row.doc)))})::json`
}

/** Revs of the rows that are there, and the documents of those that are patched. */
async function look(run: Run, t: string, ops: readonly Write[]): Promise<ReadonlyMap<Key, { readonly rev: string; readonly doc: string | null }>> {
  const p = new Params(), patched = ops.flatMap((op) => (op.kind === 'patch' ? [op.key] : []))
  const doc = patched.length === 0 ? 'null' : patched.length === ops.length ? 'doc' : `case when ${isOneOf('_id', patched, p.add)} then doc end`
  const rows = await run(`select _id, _rev, ${doc} as doc from ${t} where ${isOneOf('_id', ops.flatMap((op) => op.key ?? []), p.add)}`, p.list)
  return new Map(rows.map((row) => [row['_id'] as Key, { rev: row['_rev'] as string, doc: row['doc'] as string | null }]))
}

function patched(doc: Doc, set: Doc, unset: readonly string[]): Doc {
  const next: Record<string, Value> = {}
  for (const [name, value] of Object.entries(doc)) if (!unset.includes(name)) setOwn(next, name, value)
  for (const [name, value] of Object.entries(set)) setOwn(next, name, value)
  return next
}
