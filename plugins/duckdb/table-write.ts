/** Writing a table of others: only the given columns, each as its type takes it, within the transaction of the one who writes. */
import type { Doc, Key, Write, Written } from '../../core/contract.ts'
import { quote } from '../../core/errors.ts'
import { same } from '../../core/value.ts'
import { cast, columnText, Refusal, type TableColumn } from './column.ts'
import { revOf, tableSource } from './source.ts'
import { name, Params, type Run, type SqlRow } from './sql.ts'
import { keyPart, keyParts, keyText, keyValue, type Table } from './table.ts'

/** A row to write: its key, where it has one, the columns that change, and their texts. */
interface Change { readonly at: number; readonly key: Key | undefined; readonly columns: readonly TableColumn[]; readonly texts: readonly (string | null)[] }

/** Does the operations. What the table itself refuses fails the transaction, which the caller then tries in halves. `forget` removes the outputs of removed rows. */
export async function writeTable(run: Run, of: Table, ops: readonly Write[], forget: (keys: readonly Key[]) => Promise<void>): Promise<readonly Written[]> {
  const written: Written[] = [], inserts: Change[] = [], updates: Change[] = [], removed: Key[] = [], source = tableSource(of), t = (c: TableColumn): string => `t.${name(c.name)}`
  const changes = ops.map((op, at): Change | undefined => {
    try {
      return changeOf(of, op, at)
    } catch (error) {
      if (!(error instanceof Refusal)) throw error
      written[at] = { status: 'refused', key: op.key ?? '', reason: error.message }
      return undefined
    }
  })
  const look = new Params(), keys = changes.flatMap((change) => change?.key ?? [])
  const found = new Map((keys.length === 0 ? [] : await run(`select ${source.key} as key, ${source.rev} as rev from ${source.from} where ${source.keys(keys, look.add)}`, look.list)).map((row) => [row['key'] as Key, row['rev'] as string]))
  for (const [at, op] of ops.entries()) {
    const change = changes[at], key = change?.key
    if (change === undefined) continue
    const old = key === undefined ? undefined : found.get(key)
    if (op.kind === 'insert' && old !== undefined) written[at] = { status: 'exists', key: key! }
    else if (op.kind !== 'insert' && old === undefined && (op.kind !== 'put' || op.rev !== undefined)) written[at] = { status: 'missing', key: key! }
    else if (op.kind !== 'insert' && op.rev !== undefined && op.rev !== old) written[at] = { status: 'moved', key: key! }
    else if (op.kind === 'remove') {
      removed.push(key!)
      written[at] = { status: 'done', key: key! }
    } else if (old !== undefined) updates.push(change)
    else if (op.kind === 'put' && keyParts(of, key!) === undefined) written[at] = { status: 'refused', key: key!, reason: noKey(of, key!) }
    else inserts.push(op.kind === 'insert' ? change : { ...change, columns: [...of.key, ...change.columns], texts: [...keyParts(of, key!)!, ...change.texts] })
  }
  // An alias is not known there.
  const bare = (c: TableColumn): string => name(c.name), returning = `returning ${keyText(of, bare)} as key, ${revOf(of, bare)} as rev`, done = (rows: readonly SqlRow[], part: readonly Change[]): void => {
    // Rows whose keys the table makes come back in the order in which they went in.
    const revs = new Map(rows.map((row) => [row['key'] as Key, row['rev'] as string]))
    for (const [i, { at, key = rows[i]!['key'] as Key }] of part.entries()) {
      const rev = revs.get(key)
      written[at] = rev === undefined ? { status: 'refused', key, reason: noKey(of, key) } : { status: 'done', key, rev }
    }
  }
  for (const part of groups(inserts)) {
    const p = new Params(), { columns } = part[0]!
    const lists = columns.map((_, i) => `unnest(${p.add(part.map(({ texts }) => texts[i]!))}) as c${i}, `).join(''), into = columns.length === 0 ? [of.key[0]!] : columns
    // A key that is no key of the table is left out, and refused below.
    const fits = part[0]!.key === undefined ? '' : ` where ${of.key.map((c) => `${keyPart(c, `c${columns.indexOf(c)}`)} is not null`).join(' and ')}`
    const values = columns.length === 0 ? `values ${part.map(() => '(default)').join(', ')}` : `select ${columns.map((c, i) => (of.key.includes(c) && part[0]!.key !== undefined ? keyPart(c, `c${i}`) : cast(c, `c${i}`))).join(', ')} from (select ${lists}unnest(range(${part.length})) as n)${fits} order by n`
    done(await run(`insert into ${of.at} (${into.map((c) => name(c.name)).join(', ')}) ${values} ${returning}`, p.list), part)
  }
  for (const part of groups(updates)) {
    const p = new Params(), { columns } = part[0]!, parts = part.map(({ key }) => keyParts(of, key!)!)
    const lists = [...of.key.map((_, i) => `unnest(${p.add(parts.map((k) => k[i]!))}) as k${i}`), ...columns.map((_, i) => `unnest(${p.add(part.map(({ texts }) => texts[i]!))}) as c${i}`)]
    const same = of.key.map((c, i) => `${t(c)} = v.k${i}`).join(' and ')
    const rows = columns.length === 0 ? part.map(({ key }) => ({ key, rev: found.get(key!) }))
      : await run(`update ${of.at} t set ${columns.map((c, i) => `${name(c.name)} = v.c${i}`).join(', ')} from (select ${[...of.key.map((c, i) => `${keyPart(c, `k${i}`)} as k${i}`), ...columns.map((c, i) => `${cast(c, `c${i}`)} as c${i}`)].join(', ')} from (select ${lists.join(', ')})) v where ${same} ${returning}`, p.list)
    done(rows, part)
  }
  if (removed.length > 0) {
    const p = new Params()
    await run(`delete from ${source.from} where ${source.keys(removed, p.add)}`, p.list)
    await forget(removed)
  }
  return written
}

/** Changes of the same columns, which are one statement. */
function groups(changes: readonly Change[]): Iterable<readonly Change[]> {
  return Map.groupBy(changes, ({ key, columns }) => JSON.stringify([key === undefined, ...columns.map((c) => c.name)])).values()
}

function noKey(of: Table, key: Key): string {
  return `the _id ${quote(key)} is no key of the table, whose key is ${keyShape(of)}`
}
function keyShape(of: Table): string {
  return of.key.map((c) => `${c.name} ${c.type}`).join(', ')
}

/** What an operation does to columns. The key stands in `_id`, in its columns, or in both, where they agree. */
function changeOf(of: Table, op: Write, at: number): Change {
  if (op.kind === 'remove') return { at, key: op.key, columns: [], texts: [] }
  const given: Doc = op.kind === 'patch' ? { ...op.set, ...Object.fromEntries(op.unset.map((field) => [field, null])) } : op.doc
  const unknown = Object.keys(given).find((field) => !of.columns.some((c) => c.name === field))
  if (unknown !== undefined) throw new Refusal(`the table has no column ${quote(unknown)}; it has ${of.columns.map((c) => quote(c.name)).join(', ')}`)
  const isKey = (c: TableColumn): boolean => of.key.includes(c), inDoc = of.key.filter((c) => Object.hasOwn(given, c.name)), text = (c: TableColumn): string | null => columnText(c, Object.hasOwn(given, c.name) ? given[c.name]! : null)
  const parts = op.key === undefined ? undefined : keyParts(of, op.key)
  if (op.kind === 'insert' && op.key !== undefined && parts === undefined) throw new Refusal(noKey(of, op.key))
  for (const c of inDoc) {
    const value = given[c.name]!, part = parts === undefined ? null : keyValue(c, parts[of.key.indexOf(c)]!)
    if (op.key !== undefined && !same(typeof value === 'number' && typeof part === 'bigint' ? BigInt(Math.trunc(value)) : value, part)) throw new Refusal(`the column ${quote(c.name)} is part of the key, which is ${quote(op.key)}; leave it out, or give the same`)
  }
  const columns = of.columns.filter((c) => !isKey(c) && (Object.hasOwn(given, c.name) || (op.kind === 'put' && !c.generated && c.kind.is !== 'opaque')))
  if (op.kind !== 'insert') return { at, key: op.key, columns, texts: columns.map(text) }
  const own = op.key === undefined ? inDoc : of.key, lacking = of.key.find((c) => !own.includes(c) && !c.given)
  if (lacking !== undefined) throw new Refusal(`the key is missing, and the table makes none: it is ${keyShape(of)}. Give it as _id, or in its columns`)
  return { at, key: op.key, columns: [...own, ...columns], texts: [...own.map((c) => (parts === undefined ? text(c) : parts[of.key.indexOf(c)]!)), ...columns.map(text)] }
}
