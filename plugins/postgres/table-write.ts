/** Writing a table of others: only the given columns, each as its type takes it. A row that the table refuses fails alone. */
import type { Doc, Key, Write, Written } from '../../core/contract.ts'
import { messageOf, quote } from '../../core/errors.ts'
import { compareStrings } from '../../core/value.ts'
import { name, Params, textArray, type Query, type SqlRow } from './sql.ts'
import { columnNames, columnText, keyParts, keyText, Refusal, type Table, type TableColumn } from './table.ts'

/** A row to write: its key, the columns that change, and their texts. */
interface Change { readonly at: number; readonly key: Key | undefined; readonly rev: string | undefined; readonly columns: readonly TableColumn[]; readonly texts: readonly (string | null)[] }
/** Runs work that is undone alone when it fails. */
export type Within = <T>(work: () => Promise<T>) => Promise<T>

/** Does the operations in one transaction. With `halve`, `within` is a savepoint, and a statement that fails is halved until the faulty row is alone. `forget` removes the outputs of removed rows. */
export async function writeTable(query: Query, within: Within, of: Table, ops: readonly Write[], forget: (keys: readonly Key[]) => Promise<void>, halve: boolean): Promise<readonly Written[]> {
  const written: Written[] = []
  const refuse = (i: number, reason: string): void => { written[i] = { status: 'refused', key: ops[i]!.key ?? '', reason } }
  const prepared = (kinds: readonly Write['kind'][]): readonly Change[] => ops.flatMap((op, i): Change[] => {
    if (!kinds.includes(op.kind)) return []
    try {
      return [changeOf(of, op, i)]
    } catch (error) {
      if (!(error instanceof Refusal)) throw error
      refuse(i, error.message)
      return []
    }
  })
  const keyOfRow = keyText(of, (c) => `t.${name(c.name)}`), returning = `returning ${keyOfRow} as key${of.parted ? '' : ', t.xmin::text as rev'}`
  const existing = async (keys: readonly Key[]): Promise<Map<string, string>> => {
    if (keys.length === 0) return new Map()
    const p = new Params(), lists = of.key.map((c, i) => `${p.add(textArray(keys.map((key) => keyParts(of, key)![i]!)))}::text[]::${c.type}[]`)
    return new Map((await query(`select ${keyOfRow} as key, t.xmin::text as rev from ${of.at} t where (${of.key.map((c) => `t.${name(c.name)}`).join(', ')}) in (select * from unnest(${lists.join(', ')}))`, p.list)).map((row) => [row['key']!, row['rev']!]))
  }
  const revsOf = async (rows: readonly SqlRow[]): Promise<Map<string, string>> => (of.parted ? existing(rows.map((row) => row['key']!)) : new Map(rows.map((row) => [row['key']!, row['rev']!])))
  /** Changes of the same columns in one statement; halved until what is refused stands alone. */
  const run = async (changes: readonly Change[], statement: (part: readonly Change[]) => Promise<void>): Promise<void> => {
    const groups = new Map<string, Change[]>()
    for (const change of [...changes].sort((a, b) => compareStrings(a.key ?? '', b.key ?? ''))) {
      const id = JSON.stringify([change.key === undefined, ...change.columns.map((c) => c.name)]), group = groups.get(id)
      if (group === undefined) groups.set(id, [change])
      else group.push(change)
    }
    const halves = async (part: readonly Change[]): Promise<void> => {
      try {
        await within(() => statement(part))
      } catch (error) {
        if (!halve || !isRowFault(error)) throw error
        if (part.length === 1) return refuse(part[0]!.at, messageOf(error))
        await halves(part.slice(0, part.length >> 1))
        await halves(part.slice(part.length >> 1))
      }
    }
    for (const group of groups.values()) await halves(group)
  }

  const insert = async (part: readonly Change[]): Promise<void> => {
    const p = new Params(), { columns } = part[0]!, keyed = part[0]!.key !== undefined
    const values = columns.length === 0 ? `select from generate_series(1, ${part.length})` : `select ${columns.map((c, i) => `v.c${i}::${c.type}`).join(', ')} from unnest(${textLists(p, part)}) with ordinality v(${columns.map((_, i) => `c${i}, `).join('')}n) order by n`
    const into = columns.length === 0 ? '' : ` (${columnNames(columns)}) overriding system value`
    const rows = await query(`insert into ${of.at} as t${into} ${columns.length === 0 && part.length === 1 ? 'default values' : values}${keyed ? ` on conflict (${columnNames(of.key)}) do nothing` : ''} ${returning}`, p.list)
    if (!keyed && rows.length < part.length) throw skipped()
    const found = await revsOf(rows), lost = new Set(part.flatMap(({ key }) => (key === undefined || found.has(key) ? [] : [key]))), there = await existing([...lost])
    // Rows whose keys the table makes come back in the order in which they went in.
    for (const [n, { at, key = rows[n]!['key']! }] of part.entries()) {
      const rev = found.get(key)
      if (rev !== undefined) written[at] = { status: 'done', key, rev }
      else if (!lost.has(key) || there.has(key)) written[at] = { status: 'exists', key }
      else refuse(at, skipped().message)
      found.delete(key)
    }
  }
  // Of two with one key the first is done.
  const firsts = new Set<Key>(), inserted = prepared(['insert']), isFirst = ({ key }: Change): boolean => key === undefined || (!firsts.has(key) && firsts.add(key) === firsts), first = inserted.map(isFirst)
  await run(inserted.filter((_, i) => first[i]), insert)
  await run(inserted.filter((_, i) => !first[i]), insert)
  const change = async (part: readonly Change[], upsert: boolean): Promise<void> => {
    const { columns } = part[0]!, p = new Params()
    const parts = part.map(({ key }) => keyParts(of, key!)), known = part.filter((_, i) => parts[i] !== undefined), keys = parts.filter((k) => k !== undefined)
    for (const { at, key } of part) written[at] = { status: 'missing', key: key! }
    if (known.length === 0) return
    const lists = [...of.key.map((_, i) => `${p.add(textArray(keys.map((k) => k[i]!)))}::text[]`), `${p.add(textArray(known.map((c) => c.rev ?? null)))}::text[]`, ...(columns.length === 0 ? [] : [textLists(p, known)])]
    const v = `v(${of.key.map((_, i) => `k${i}`).join(', ')}, rev${columns.map((_, i) => `, c${i}`).join('')})`, same = of.key.map((c, i) => `t.${name(c.name)} = v.k${i}::${c.type}`).join(' and ')
    const set = columns.length === 0 ? of.key.map((c) => `${name(c.name)} = t.${name(c.name)}`) : columns.map((c, i) => `${name(c.name)} = v.c${i}::${c.type}`)
    const rows = await query(`with v as materialized (select * from unnest(${lists.join(', ')}) ${v}), locked as materialized (select ${of.key.map((c, i) => `t.${name(c.name)} as k${i}`).join(', ')} from ${of.at} t join v on ${same} order by ${of.key.map((c) => `t.${name(c.name)}`).join(', ')} for update of t)
      update ${of.at} t set ${set.join(', ')} from v join locked on ${of.key.map((c, i) => `locked.k${i} = v.k${i}::${c.type}`).join(' and ')} where ${same} and (v.rev is null or t.xmin::text = v.rev) ${returning}`, p.list), found = await revsOf(rows)
    for (const { at, key } of known) if (found.has(key!)) written[at] = { status: 'done', key: key!, rev: found.get(key!)! }
    const lost = known.filter(({ key }) => !found.has(key!)), there = await existing(lost.map((c) => c.key!))
    for (const { at, key, rev } of lost) {
      if (rev !== undefined && there.get(key!) === rev) refuse(at, skipped().message)
      else if (there.has(key!)) written[at] = { status: 'moved', key: key! }
    }
    if (!upsert) return
    // A put without rev of a row that is not there inserts it.
    for (const c of lost) if (!there.has(c.key!) && c.rev === undefined) inserts.push(c)
  }
  const inserts: Change[] = []
  await run(prepared(['put', 'patch']), (part) => change(part, ops[part[0]!.at]!.kind === 'put'))
  await run(inserts, async (part) => {
    const p = new Params(), columns = [...of.key, ...part[0]!.columns]
    const rows = await query(`insert into ${of.at} as t (${columnNames(columns)}) overriding system value select ${columns.map((c, i) => `v.c${i}::${c.type}`).join(', ')} from unnest(${textLists(p, part.map((c) => ({ ...c, columns, texts: [...keyParts(of, c.key!)!, ...c.texts] })))}) v(${columns.map((_, i) => `c${i}`).join(', ')}) ${returning}`, p.list), found = await revsOf(rows)
    for (const { at, key } of part) {
      if (found.has(key!)) written[at] = { status: 'done', key: key!, rev: found.get(key!)! }
      else refuse(at, skipped().message)
    }
  })
  await run(prepared(['remove']), async (part) => {
    const p = new Params(), known = part.filter(({ key }) => keyParts(of, key!) !== undefined), keys = known.map(({ key }) => keyParts(of, key!)!)
    for (const { at, key } of part) written[at] = { status: 'missing', key: key! }
    if (known.length === 0) return
    const lists = [...of.key.map((_, i) => `${p.add(textArray(keys.map((k) => k[i]!)))}::text[]`), `${p.add(textArray(known.map((c) => c.rev ?? null)))}::text[]`]
    const rows = await query(`delete from ${of.at} t using unnest(${lists.join(', ')}) v(${of.key.map((_, i) => `k${i}`).join(', ')}, rev) where ${of.key.map((c, i) => `t.${name(c.name)} = v.k${i}::${c.type}`).join(' and ')} and (v.rev is null or t.xmin::text = v.rev) returning ${keyOfRow} as key`, p.list)
    const gone = new Set(rows.map((row) => row['key']!)), lost = known.filter(({ key }) => !gone.has(key!)), there = await existing(lost.map((c) => c.key!))
    await forget([...gone])
    for (const { at, key, rev } of known) {
      if (rev !== undefined && there.get(key!) === rev) refuse(at, skipped().message)
      else written[at] = gone.has(key!) ? { status: 'done', key: key! } : { status: there.has(key!) ? 'moved' : 'missing', key: key! }
    }
  })
  return written
}

function textLists(p: Params, part: readonly Pick<Change, 'columns' | 'texts'>[]): string {
  return part[0]!.columns.map((_, i) => `${p.add(textArray(part.map((c) => c.texts[i]!)))}::text[]`).join(', ')
}

/** What an operation does to columns. The key stands in `_id`, in its columns, or in both, where they agree. */
function changeOf(of: Table, op: Write, at: number): Change {
  const rev = op.kind === 'insert' ? undefined : op.rev
  if (op.kind === 'remove') return { at, key: op.key, rev, columns: [], texts: [] }
  const given: Doc = op.kind === 'patch' ? { ...op.set, ...Object.fromEntries(op.unset.map((field) => [field, null])) } : op.doc
  const unknown = Object.keys(given).find((field) => !of.columns.some((c) => c.name === field))
  if (unknown !== undefined) throw new Refusal(unknown, `the table has no column ${quote(unknown)}; it has ${of.columns.map((c) => quote(c.name)).join(', ')}`)
  const keyNames = of.key.map((c) => c.name), isKey = (c: TableColumn): boolean => keyNames.includes(c.name)
  const keyed = of.key.filter((c) => Object.hasOwn(given, c.name)), texts = keyed.map((c) => (c.kind === 'decimal' && typeof given[c.name] === 'string' ? given[c.name] as string : columnText(c, given[c.name]!)))
  let key = op.key
  if (op.kind === 'insert') {
    if (key === undefined && keyed.length === of.key.length && !texts.includes(null)) key = of.key.length === 1 ? canonical(keyed[0]!, texts[0]!) : texts.map((text, i) => canonical(keyed[i]!, text!).replace(/[\\,]/g, '\\$&')).join(',')
    if (key !== undefined && keyParts(of, key) === undefined) throw new Refusal('_id', `the _id ${quote(key)} is no key of the table, whose key is ${keyShape(of)}`)
    const absent = key === undefined ? of.key.find((c) => !c.made && !keyed.includes(c)) : undefined
    if (absent !== undefined) throw new Refusal(absent.name, `the row has no key: give _id, or the column ${quote(absent.name)}, for which the table makes no value`)
  }
  const own = key === undefined ? undefined : keyParts(of, key)
  for (const [i, c] of keyed.entries()) {
    const part = own?.[keyNames.indexOf(c.name)]
    if (key !== undefined && part !== texts[i] && (texts[i] === null || canonicalPart(c, texts[i]!) !== part)) throw new Refusal(c.name, `the column ${quote(c.name)} is part of the key, which is ${quote(key)}; leave it out, or give the same`)
  }
  const whole = op.kind === 'put' ? of.columns.filter((c) => !isKey(c) && !c.generated && c.kind !== 'opaque') : of.columns.filter((c) => !isKey(c) && Object.hasOwn(given, c.name))
  const extra = op.kind === 'put' ? of.columns.filter((c) => !isKey(c) && (c.generated || c.kind === 'opaque') && Object.hasOwn(given, c.name)) : []
  for (const c of extra) columnText(c, given[c.name]!)
  const columns = op.kind !== 'insert' ? whole : [...(own === undefined ? keyed : of.key), ...whole]
  return { at, key, rev, columns, texts: columns.map((c) => (op.kind === 'insert' && isKey(c) ? own?.[keyNames.indexOf(c.name)] ?? texts[keyed.indexOf(c)]! : columnText(c, Object.hasOwn(given, c.name) ? given[c.name]! : null))) }
}
function keyShape(of: Table): string {
  return of.key.map((c) => `${c.name} ${c.type}`).join(', ')
}
/** The text of a key's part, of the text of its column. */
function canonical(c: TableColumn, text: string): string {
  const time = c.kind === 'timestamp' || c.kind === 'timestamptz'
  return c.kind === 'uuid' ? text.toLowerCase() : c.type === 'bpchar' ? text.replace(/ +$/, '') : c.kind === 'decimal' ? decimalText(text) : c.kind === 'bytes' ? text.slice(2) : time ? text.replace(/(\.\d{3})(Z?)$/, '$1000$2') : text
}
function canonicalPart(c: TableColumn, text: string): string {
  return c.kind === 'bytes' ? text : canonical(c, text)
}

/** A number as `trim_scale` writes it, where it is written plainly. */
function decimalText(text: string): string {
  return /^-?\d+(\.\d+)?$/.test(text) ? text.replace(/(\.\d*?)0+$/, '$1').replace(/\.$/, '').replace(/^-0$/, '0') : text
}
/** A trigger that returns no row says nothing. */
function skipped(): Error {
  return Object.assign(new Error('a trigger of the table did not let the row through'), { code: 'P0001' })
}

/** What the table says of a row: a value that it will not hold, a constraint, a trigger that refuses. */
export function isRowFault(error: unknown): boolean {
  return /^(22|23|54|P0001)/.test(String((error as { readonly code?: unknown }).code))
}
