/** Rows, slots, settle: each call one statement, or one transaction. Scans go by key, page by page, so that nothing is held between two of them. */
import type { Collection, Ctx, DataCapabilities, Datalayer, Doc, Filter, Key, Mark, Notice, Outcome, Query as ContractQuery, Row, Slot, Value, Write, Written } from '../../core/contract.ts'
import { encode } from '../../core/encoding.ts'
import { InlayError, messageOf, quote } from '../../core/errors.ts'
import { compareStrings } from '../../core/value.ts'
import { compileFilter } from './filter.ts'
import { watch } from './notices.ts'
import { createCollection, createSlot, drop, installsOf, maxDims, openNamespace, table, Tables, type Place } from './schema.ts'
import { columnOf, jsonOf } from './shape.ts'
import { ownSource, slotSource, tableSource, type Source } from './source.ts'
import { boolArray, intArray, jsonbArray, Params, textArray, type Query, type SqlRow } from './sql.ts'
import type { Table } from './table.ts'
import { isRowFault, writeTable, type Within } from './table-write.ts'

const findRows = 1000
const staleRows = 500
const windowRows = 2000

export function capabilitiesOf(place: Place): DataCapabilities {
  return Object.freeze({
    filters: ['and', 'or', 'not', 'eq', 'lt', 'lte', 'gt', 'gte', 'in', 'null', 'exists', 'prefix', 'keys'] as const, order: false, durable: true,
    writers: place.sql.server.startsWith('PGlite') ? 'one-process' : 'many', attaches: true, notices: 'all', givenRevs: true, foreign: true,
    refuses: ['nul'] as const, loses: ['field-order'] as const, limits: { ops: 5000, keys: 20_000, dims: maxDims, nameBytes: 58, keyBytes: 2000 },
    notes: [
      'jsonb keeps no order of fields; it matters only when a sort compares two objects.', 'Text cannot hold the NUL character.',
      ...(place.vectors === undefined ? ['pgvector is not installed: vectors are kept as JSON and searched in the process of Inlay.'] : []),
    ],
  } as const)
}

export class PostgresData implements Datalayer {
  readonly capabilities: DataCapabilities
  readonly #place: Place
  readonly #slots = new Map<string, Slot>()
  readonly #tables: Tables

  constructor(place: Place) {
    this.#place = place
    this.#tables = new Tables(place)
    this.capabilities = capabilitiesOf(place)
  }

  async create(collection: Collection, ctx: Ctx): Promise<void> {
    await createCollection(this.#place, collection, ctx.signal).catch(async (error: unknown) => {
      // Somebody dropped the schema since it was opened.
      if (!/^(42P01|3F000)$/.test(codeOf(error))) throw error
      await openNamespace(this.#place.sql, this.#place.namespace, ctx.signal)
      await createCollection(this.#place, collection, ctx.signal)
    })
    this.#tables.forget(collection.name)
  }
  installs(collection: Collection, ctx: Ctx): Promise<readonly string[]> {
    return installsOf(this.#place, collection, ctx.signal)
  }
  async drop(name: string, ctx: Ctx): Promise<void> {
    await drop(this.#place, name, ctx.signal)
    this.#tables.forget(name)
  }
  async list(ctx: Ctx): Promise<readonly Collection[]> {
    const rows = await this.#place.sql.query(`select spec from ${table(this.#place, '_meta')} where kind = 'collection' order by name`, [], ctx.signal)
    return rows.map((row) => JSON.parse(row['spec']!) as Collection)
  }

  async write(collection: string, ops: readonly Write[], ctx: Ctx): Promise<readonly Written[]> {
    if (await this.#tables.of(collection, ctx.signal) !== undefined) return this.#asIs(collection, async () => this.#writeTable(collection, (await this.#tables.of(collection, ctx.signal))!, ops, ctx))
    const { sql } = this.#place, t = table(this.#place, collection)
    const kinds = new Set(ops.map((op) => (op.kind === 'patch' || (op.kind === 'put' && op.rev !== undefined) ? 'change' : op.kind)))
    try {
      if (kinds.size > 1) {
        return await sql.transaction(async (query) => {
          const p = new Params()
          await query(`select from ${t} where _id = any(${p.add(ops.flatMap((op) => op.key ?? []))}::text[]) order by _id for update`, p.list)      // all locks in one order
          return writeAll(query, t, ops)
        }, ctx.signal)
      }
      return await writeAll((text, params = []) => sql.query(text, params, ctx.signal, 'prepared'), t, ops)
    } catch (error) {
      // What the server will not hold fails its statement: the batch is halved until it stands alone.
      if (!isDataFault(error)) throw error
      if (ops.length === 1) return [{ status: 'refused', key: ops[0]!.key ?? '', reason: messageOf(error) }]
      const half = ops.length >> 1
      return [...await this.write(collection, ops.slice(0, half), ctx), ...await this.write(collection, ops.slice(half), ctx)]
    }
  }

  /** Does it once more where the table was altered since it was looked at. */
  async #asIs<T>(collection: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } catch (error) {
      if (!isAltered(error)) throw error
      this.#tables.forget(collection)
      return work()
    }
  }

  /** In one transaction; when the table refuses a row, once more with savepoints, so that the others are not lost. */
  async #writeTable(collection: string, of: Table, ops: readonly Write[], ctx: Ctx): Promise<readonly Written[]> {
    const run = (alone: boolean): Promise<readonly Written[]> => this.#place.sql.transaction((query) => {
      const within: Within = !alone ? (work) => work() : async (work) => {
        await query('savepoint row')
        const result = await work().catch(async (error: unknown) => {
          await query('rollback to savepoint row')
          throw error
        })
        await query('release savepoint row')
        return result
      }
      return writeTable(query, within, of, ops, async (keys) => {
        const p = new Params(), slots = await query(`select name from ${table(this.#place, '_meta')} where kind = 'slot' and spec ->> 'collection' = $1`, [collection])
        for (const { name: slot } of slots) await query(`delete from ${table(this.#place, slot!)} where key = any(${p.list.length === 0 ? p.add(keys) : '$1'}::text[])`, p.list)
      }, alone)
    }, ctx.signal)
    try {
      return await run(false)
    } catch (error) {
      if (!isRowFault(error)) throw error
      return run(true)
    }
  }

  watch(collection: string, ctx: Ctx): AsyncIterable<Notice> {
    return watch(this.#place, collection, ctx)
  }

  async *find(query: ContractQuery, ctx: Ctx): AsyncIterable<readonly Row[]> {
    const { skip = 0, limit } = query
    if (query.order !== undefined) throw new InlayError('INTERNAL', 'This database does not sort, as its capabilities say.')
    const slots = (query.slots ?? []).map((id) => ({ id, slot: this.#slot(id) }))
    let after = query.after, left = limit ?? Number.POSITIVE_INFINITY
    const page = async (size: number, first: boolean): Promise<readonly Row[]> => {
      const source = await this.#source(query.from, ctx), { from, key, rev, only } = source, p = new Params()
      const columns = [`${key} as k`, `${rev} as r`, ...source.columns(query.fields, p)]
      const joins = slots.map(({ id, slot }, i) => {
        columns.push(outputColumn(slot, i))
        return this.#outputJoin(id, slot, i, key)
      })
      const where = [only, this.#where(query.where, p, source), ...(after === undefined ? [] : [source.after(after, p)])].join(' and ')
      const rows = await this.#place.sql.query(`select ${columns.join(', ')} from ${from} ${joins.join(' ')} where ${where} order by ${source.order} limit ${size}${first && skip > 0 ? ` offset ${skip}` : ''}`, p.list, ctx.signal)
      return rows.map((row): Row => ({ key: row['k']!, rev: row['r']!, doc: source.doc(row, query.fields), outputs: this.#outputs(row, slots) }))
    }
    for (let first = true; left > 0; first = false) {
      const size = Math.min(findRows, left), rows = await this.#asIs(query.from, () => page(size, first))
      if (rows.length > 0) yield rows
      if (rows.length < size) return
      left -= rows.length
      after = rows.at(-1)!.key
    }
  }
  #outputs(row: SqlRow, slots: readonly { readonly id: string; readonly slot: Slot }[]): Record<string, readonly Value[]> {
    const outputs: Record<string, readonly Value[]> = {}
    for (const [i, { id, slot }] of slots.entries()) {
      const text = row[`o${i}`], column = columnOf(this.#place, slot.shape)
      if (text === null || text === undefined) continue
      outputs[id] = slot.many ? (JSON.parse(text) as readonly string[]).map((value) => column.read(value)) : [column.read(text)]
    }
    return outputs
  }

  count(query: ContractQuery, ctx: Ctx): Promise<number> {
    return this.#asIs(query.from, () => this.#count(query, ctx))
  }
  async #count(query: ContractQuery, ctx: Ctx): Promise<number> {
    const source = await this.#source(query.from, ctx), { from, only } = source, p = new Params()
    const where = [only, this.#where(query.where, p, source), ...(query.after === undefined ? [] : [source.after(query.after, p)])].join(' and ')
    const [row] = await this.#place.sql.query(`select count(*) as n from ${from} where ${where}`, p.list, ctx.signal)
    return Number(row!['n'])
  }

  async openSlot(slot: Slot, ctx: Ctx): Promise<{ readonly filters: boolean }> {
    const many = this.#slots.has(slot.collection)
    await createSlot(this.#place, slot, many, !many && await this.#tables.of(slot.collection, ctx.signal) !== undefined, ctx.signal)
    this.#slots.set(slot.id, slot)
    return { filters: !slot.many }
  }
  async dropSlot(id: string, ctx: Ctx): Promise<void> {
    await drop(this.#place, id, ctx.signal)
    this.#slots.delete(id)
  }

  async *rows(slot: Slot, which: 'stale' | 'failed' | 'all', keys: readonly Key[] | 'all', ctx: Ctx): AsyncIterable<readonly Row[]> {
    const ups = slot.upstream.map((id) => ({ id, slot: this.#slot(id) }))
    const read = (after: Key | undefined, to?: Key): Promise<readonly Row[]> => this.#asIs(slot.collection, async () => {
      const source = await this.#source(slot.collection, ctx), { from, key, only } = source, upstream = this.#upstream(slot, source), p = new Params()
      const test = which === 'stale' ? `(o.key is null or o.rev <> ${upstream.rev})` : which === 'failed' ? 'o.err is not null' : 'true'
      const columns = [`${key} as k`, `${upstream.rev} as r`, 'o.rev as mr', 'o.hash as mh', 'o.err as me', 'o.tries as mt', 'o.none as mn', 'o.made_by as mb', ...source.columns(slot.fields, p)]
      const joins = ups.map(({ id, slot: up }, i) => {
        columns.push(outputColumn(up, i))
        return this.#outputJoin(id, up, i, key)
      })
      const where = [only, test, upstream.current, this.#where(slot.where, p, source), ...(keys === 'all' ? [] : [source.among(keys, p)]), ...(after === undefined ? [] : [source.after(after, p)]), ...(to === undefined ? [] : [source.upTo!(to, p)])].join(' and ')
      const outputs = `left join ${table(this.#place, slot.id)} o on o.key = ${key} and o.off = ${markOffset(slot)}${after === undefined ? '' : source.outputsAfter?.(after, p) ?? ''}`
      const rows = await this.#place.sql.query(`select ${columns.join(', ')} from ${from} ${upstream.join} ${joins.join(' ')} ${outputs} where ${where} order by ${source.order}${to === undefined ? ` limit ${staleRows}` : ''}`, p.list, ctx.signal)
      return rows.map((row): Row => ({
        key: row['k']!, rev: row['r']!, doc: source.doc(row, slot.fields), outputs: this.#outputs(row, ups),
        ...(row['mr'] === null ? {} : { mark: { rev: row['mr']!, hash: row['mh']!, ...(row['me'] === null ? {} : { error: row['me']! }), ...(row['mt'] === null ? {} : { tries: Number(row['mt']) }), ...(isTrue(row['mn']) ? { none: true as const } : {}), ...(row['mb'] === null ? {} : { by: row['mb']! }) } satisfies Mark }),
      }))
    })
    for (let after: Key | undefined; ;) {
      const rows = await read(after)
      if (rows.length > 0) yield rows
      if (rows.length < staleRows) return
      after = rows.at(-1)!.key
      while ((await this.#source(slot.collection, ctx)).upTo !== undefined) {
        const to: Key | undefined = await this.#keyAfter(slot.collection, after, ctx)
        if (to === undefined) break
        const page = await read(after, to)
        for (let i = 0; i < page.length; i += staleRows) yield page.slice(i, i + staleRows)
        after = to
      }
    }
  }
  /** The key that ends the next page of all rows; undefined where fewer are left. */
  async #keyAfter(of: string, after: Key, ctx: Ctx): Promise<Key | undefined> {
    const source = await this.#source(of, ctx), p = new Params()
    const [row] = await this.#place.sql.query(`select ${source.key} as k from ${source.from} where ${source.after(after, p)} order by ${source.order} offset ${windowRows - 1} limit 1`, p.list, ctx.signal)
    return row?.['k'] ?? undefined
  }

  tally(slot: Slot, ctx: Ctx): ReturnType<Datalayer['tally']> {
    return this.#asIs(slot.collection, () => this.#tally(slot, ctx))
  }
  async #tally(slot: Slot, ctx: Ctx): ReturnType<Datalayer['tally']> {
    const source = await this.#source(slot.collection, ctx), { from, key, only } = source, upstream = this.#upstream(slot, source), t = table(this.#place, slot.id), p = new Params()
    const where = `${only} and ${upstream.valued} and ${this.#where(slot.where, p, source)}`
    const current = `o.rev = ${upstream.rev} and ${upstream.current}`
    const [row] = await this.#place.sql.query(`select count(*) as rows, count(*) filter (where o.key is null) as missing, count(*) filter (where o.key is not null and not (${current})) as stale, count(*) filter (where o.err is not null and ${current}) as failed,
      (select count(*) from ${t} o where o.off = ${markOffset(slot)} and not exists (select from ${from} ${upstream.join} where ${key} = o.key and ${where})) as orphaned
      from ${from} ${upstream.join} left join ${t} o on o.key = ${key} and o.off = ${markOffset(slot)} where ${where}`, p.list, ctx.signal)
    return { rows: Number(row!['rows']), missing: Number(row!['missing']), stale: Number(row!['stale']), failed: Number(row!['failed']), orphaned: Number(row!['orphaned']) }
  }

  settle(slot: Slot, outcomes: readonly Outcome[], ctx: Ctx): Promise<readonly Key[]> {
    return this.#asIs(slot.collection, () => this.#settle(slot, outcomes, ctx))
  }
  async #settle(slot: Slot, outcomes: readonly Outcome[], ctx: Ctx): Promise<readonly Key[]> {
    const marks = this.#marks(slot, await this.#source(slot.collection, ctx), outcomes), { sql } = this.#place
    const accepted = slot.many
      ? await sql.transaction(async (query) => {
        const rows = await query(marks.text, marks.params, 'prepared')
        const keys = new Set(rows.map((row) => row['key']!))
        await this.#replaceMany(slot, outcomes.filter((o) => keys.has(o.key) && o.kind !== 'same'), query)
        return keys
      }, ctx.signal).catch((error: unknown) => {
        // Two first settles at once meet in the unique `id`, which "on conflict (key, off)" does not arbitrate. The transaction was rolled back.
        if ((error as { readonly code?: unknown }).code === '23505') throw new InlayError('CONFLICT', `Two processes settled rows of ${quote(slot.id)} for the first time at once.`, { cause: error, retryable: true })
        throw error
      })
      : new Set((await sql.query(marks.text, marks.params, ctx.signal, 'prepared')).map((row) => row['key']!))
    return outcomes.filter((o) => !accepted.has(o.key)).map((o) => o.key)
  }
  /** The row is the fence: it is locked and compared in the statement that stores. Without the lock a concurrent delete would leave an orphan. A row that
   *  another transaction is writing is refused rather than waited for: its rev is about to change, and waiting for it ends in deadlocks with foreign writers. */
  #marks(slot: Slot, source: Source, outcomes: readonly Outcome[]): { readonly text: string; readonly params: Params['list'] } {
    const { from, key, only, lock } = source, upstream = this.#upstream(slot, source), t = table(this.#place, slot.id), off = markOffset(slot), column = columnOf(this.#place, slot.shape)
    const p = new Params()
    const lists = [
      `${p.add(textArray(outcomes.map((o) => o.key)))}::text[]`, `${p.add(textArray(outcomes.map((o) => o.rev)))}::text[]`, `${p.add(textArray(outcomes.map((o) => o.hash)))}::text[]`,
      `${p.add(textArray(outcomes.map((o) => o.kind)))}::text[]`, `${p.add(textArray(outcomes.map((o) => (o.kind === 'error' ? o.error : null))))}::text[]`,
      `${p.add(intArray(outcomes.map((o) => (o.kind === 'error' ? o.tries : 0))))}::int[]`, `${p.add(textArray(outcomes.map((o) => o.by ?? null)))}::text[]`,
      `${p.add(column.param(outcomes.map((o) => (o.kind === 'values' && !slot.many ? o.values[0] : undefined))))}::${column.list}`,
    ]
    return {
      params: p.list,
      text: `with ok as materialized (select v.* from unnest(${lists.join(', ')}) v(key, rev, hash, kind, err, tries, made_by, value) join ${from} on ${source.isOf('v', outcomes.map((o) => o.key), p)} ${upstream.join} where ${only} and ${upstream.rev} = v.rev and ${upstream.current} order by ${key} ${lock}),
        stored as (insert into ${t} as o (key, off, rev, hash, err, tries, none, made_by, value) select key, ${off}, rev, hash, err, case when kind = 'error' then tries end, kind = 'skip', made_by, value from ok where kind <> 'same' order by key
          on conflict (key, off) do update set rev = excluded.rev, hash = excluded.hash, err = excluded.err, tries = excluded.tries, none = excluded.none, made_by = excluded.made_by, value = excluded.value returning o.key),
        moved as (update ${t} o set rev = ok.rev from ok where ok.kind = 'same' and o.key = ok.key and o.off = ${off} and o.hash = ok.hash returning o.key)
        select key from stored union all select key from moved`,
    }
  }
  /** A value that stays keeps its row and its rev, so that what was derived from it stays too; those that are gone take theirs along. */
  async #replaceMany(slot: Slot, outcomes: readonly Outcome[], query: Query): Promise<void> {
    if (outcomes.length === 0) return
    const t = table(this.#place, slot.id), column = columnOf(this.#place, slot.shape)
    const valuesOf = (o: Outcome): readonly Value[] => (o.kind === 'values' ? o.values : [])
    const gone = new Params()
    await query(`delete from ${t} o using unnest(${gone.add(textArray(outcomes.map((o) => o.key)))}::text[], ${gone.add(intArray(outcomes.map((o) => valuesOf(o).length)))}::int[]) v(key, n) where o.key = v.key and o.off >= v.n`, gone.list)
    const flat = outcomes.flatMap((o) => valuesOf(o).map((value, off) => ({ key: o.key, off, value })))
    if (flat.length === 0) return
    const p = new Params()
    await query(`insert into ${t} as o (key, off, rev, hash, value) select key, off, md5(value::text), '', value from unnest(${p.add(textArray(flat.map((f) => f.key)))}::text[], ${p.add(intArray(flat.map((f) => f.off)))}::int[], ${p.add(column.param(flat.map((f) => f.value)))}::${column.list}) v(key, off, value)
      on conflict (key, off) do update set rev = excluded.rev, value = excluded.value where o.rev <> excluded.rev`, p.list)
  }

  prune(slot: Slot, keys: readonly Key[] | 'all', ctx: Ctx): Promise<number> {
    return this.#asIs(slot.collection, () => this.#prune(slot, keys, ctx))
  }
  /** What is removed is what was seen: an output that was made anew while this waited for its lock has another rev, and stays. */
  async #prune(slot: Slot, keys: readonly Key[] | 'all', ctx: Ctx): Promise<number> {
    const source = await this.#source(slot.collection, ctx), { from, key, only } = source, upstream = this.#upstream(slot, source), t = table(this.#place, slot.id), p = new Params()
    const hint = keys === 'all' ? 'true' : `o.key = any(${p.add(keys)}::text[])`
    const [row] = await this.#place.sql.query(`with seen as materialized (select o.key, o.rev from ${t} o where o.off = ${markOffset(slot)} and ${hint} and not exists (select from ${from} ${upstream.join} where ${key} = o.key and ${only} and ${upstream.valued} and ${this.#where(slot.where, p, source)})),
      gone as (delete from ${t} o using seen where o.key = seen.key and o.off = ${markOffset(slot)} and o.rev = seen.rev returning o.key)${slot.many ? `,
      parts as (delete from ${t} o using gone where o.key = gone.key and o.off >= 0)` : ''}
      select count(*) as n from gone`, p.list, ctx.signal)
    return Number(row!['n'])
  }

  async native(statement: unknown, ctx: Ctx): Promise<unknown> {
    const { text, params = [] } = typeof statement === 'string' ? { text: statement } : statement as { readonly text: string; readonly params?: Params['list'] }
    return this.#place.sql.query(text, params, ctx.signal)
  }

  /** Nearest outputs with their rows, in one statement. `distance` is SQL over `o.value`. */
  async nearest(slot: Slot, distance: (add: Params['add']) => string, k: number, query: ContractQuery | undefined, ctx: Ctx): Promise<readonly { readonly row: Row; readonly offset: number; readonly distance: number }[]> {
    const source = await this.#source(slot.collection, ctx), { from, key, rev, only } = source, p = new Params(), of: ContractQuery = query ?? { from: slot.collection, fields: [] }
    const slots = (of.slots ?? []).map((id) => ({ id, slot: this.#slot(id) }))
    const columns = [`${key} as k`, `${rev} as r`, 'o.off', `${distance(p.add)} as distance`, ...source.columns(of.fields, p)]
    const joins = slots.map(({ id, slot: out }, i) => {
      columns.push(outputColumn(out, i))
      return this.#outputJoin(id, out, i, key)
    })
    const rows = await this.#place.sql.query(`select * from (select ${columns.join(', ')} from ${table(this.#place, slot.id)} o join ${from} on ${key} = o.key ${joins.join(' ')} where o.value is not null and ${only} and ${this.#where(of.where, p, source)}) found where distance <> 'NaN'::float8 order by distance, k, off limit ${k}`, p.list, ctx.signal)
    return rows.map((row) => ({ row: { key: row['k']!, rev: row['r']!, doc: source.doc(row, of.fields), outputs: this.#outputs(row, slots) }, offset: Number(row['off']), distance: Number(row['distance']) }))
  }

  #slot(id: string): Slot {
    const slot = this.#slots.get(id)
    if (slot === undefined) throw new InlayError('NOT_FOUND', `The slot ${quote(id)} is not open here. Open it first.`)
    return slot
  }

  /** Of a collection, or of a slot with many outputs. Another process may have attached what this one has not seen. */
  async #source(of: string, ctx: Ctx): Promise<Source> {
    const slot = this.#slots.get(of)
    if (slot !== undefined) return slotSource(this.#place, slot)
    const attached = await this.#tables.of(of, ctx.signal)
    return attached === undefined ? ownSource(this.#place, of) : tableSource(this.#place, attached)
  }

  /** Joins to the marks of what a slot reads: its composite rev, whether all of it has values, and whether all of it is current. */
  #upstream(slot: Slot, { key, rev: own }: Source): { readonly join: string; readonly rev: string; readonly valued: string; readonly current: string } {
    const joined = new Map<string, string>()
    const visit = (of: Slot): { readonly rev: string; readonly valued: readonly string[]; readonly current: readonly string[] } => {
      let rev = own
      const valued: string[] = [], current: string[] = []
      for (const id of of.upstream) {
        const up = this.#slot(id), alias = `u_${id}`, inner = visit(up)
        joined.set(id, `left join ${table(this.#place, id)} ${alias} on ${alias}.key = ${key} and ${alias}.off = ${markOffset(up)}`)
        valued.push(`${alias}.key is not null and ${alias}.err is null and not ${alias}.none`)
        current.push(...inner.current, `${alias}.rev = ${inner.rev}`)
        rev += ` || '|' || ${alias}.hash`
      }
      return { rev, valued, current }
    }
    const { rev, valued, current } = visit(slot)
    const all = [...valued].join(' and ') || 'true'
    return { join: [...joined.values()].join(' '), rev, valued: all, current: [all, ...current].join(' and ') }
  }

  #outputJoin(id: string, slot: Slot, i: number, key: string): string {
    const t = table(this.#place, id)
    return slot.many
      ? `left join lateral (select (select coalesce(json_agg(v.value::text order by v.off), '[]') from ${t} v where v.key = m.key and v.off >= 0) as value from ${t} m where m.key = ${key} and m.off = -1 and m.err is null and not m.none) j${i} on true`
      : `left join ${t} j${i} on j${i}.key = ${key} and j${i}.off = 0`
  }

  #where(filter: Filter | undefined, p: Params, source: Source): string {
    if (filter === undefined) return 'true'
    const { key } = source
    return compileFilter(filter, {
      key, param: p.add, among: (keys) => source.among(keys, p),
      ...(source.condition === undefined ? {} : { condition: (f: Filter) => source.condition!(f, p) }),
      json: (path) => (path.slot === undefined ? source.json(path.at)
        : { root: `coalesce((select jsonb_build_object('v', ${jsonOf(this.#place, this.#slot(path.slot).shape, 's.value')}) from ${table(this.#place, path.slot)} s where s.key = ${key} and s.off = 0 and s.value is not null), '{}'::jsonb)`, at: ['v', ...path.at] }),
    })
  }
}

function outputColumn(slot: Slot, i: number): string {
  return slot.many ? `j${i}.value as o${i}` : `j${i}.value::text as o${i}`
}
function markOffset(slot: Slot): number {
  return slot.many ? -1 : 0
}
function isTrue(text: string | null | undefined): boolean {
  return text === 't' || text === 'true'
}

/** SQLSTATE classes of values that the server will not hold. */
function isDataFault(error: unknown): boolean {
  return /^(22|54)/.test(codeOf(error))
}
/** Columns have other names or types than before. */
function isAltered(error: unknown): boolean {
  return /^(42703|42883|42804)$/.test(codeOf(error)) || /cached plan must not change/.test(messageOf(error))
}
function codeOf(error: unknown): string {
  return String((error as { readonly code?: unknown }).code)
}

/** Says to the trigger, until the transaction ends, that the revs are ours: new UUIDs, which it takes as they are. */
const own = "(select set_config('inlay.own', 'on', true)) own"

/** At most one statement per kind of operation. */
async function writeAll(query: Query, t: string, ops: readonly Write[]): Promise<readonly Written[]> {
  const written: Written[] = []
  const of = (test: (op: Write) => boolean): readonly number[] => ops.flatMap((op, i) => (test(op) ? [i] : [])).sort((a, b) => compareStrings(keyOf(ops[a]!), keyOf(ops[b]!)))
  const revs = (p: Params, at: readonly number[]): string => `${p.add(textArray(at.map((i) => (ops[i] as { readonly as?: string }).as ?? null)))}::text[]::uuid[]`
  const revsOf = (rows: readonly SqlRow[]): ReadonlyMap<string, string> => new Map(rows.map((row) => [row['_id']!, row['_rev']!]))
  await insert(of((op) => op.kind === 'insert'))
  await put(of((op) => op.kind === 'put' && op.rev === undefined))
  await change(of((op) => op.kind === 'patch' || (op.kind === 'put' && op.rev !== undefined)))
  await remove(of((op) => op.kind === 'remove'))
  return written

  async function insert(at: readonly number[]): Promise<void> {
    if (at.length === 0) return
    const keys = at.map((i) => ops[i]!.key ?? crypto.randomUUID()), p = new Params()
    const found = revsOf(await query(`insert into ${t} (_id, _rev, doc) select v.* from ${own} cross join unnest(${p.add(textArray(keys))}::text[], ${revs(p, at)}, ${p.add(jsonbArray(at.map((i) => encode((ops[i] as { readonly doc: Doc }).doc))))}::jsonb[]) v on conflict (_id) do nothing returning _id, _rev`, p.list))
    for (const [n, i] of at.entries()) {
      const key = keys[n]!, rev = found.get(key)
      written[i] = rev === undefined ? { status: 'exists', key } : { status: 'done', key, rev }
    }
  }
  async function put(at: readonly number[]): Promise<void> {
    if (at.length === 0) return
    const p = new Params()
    const found = revsOf(await query(`insert into ${t} (_id, _rev, doc) select v.* from ${own} cross join unnest(${p.add(textArray(at.map((i) => keyOf(ops[i]!))))}::text[], ${revs(p, at)}, ${p.add(jsonbArray(at.map((i) => encode((ops[i] as { readonly doc: Doc }).doc))))}::jsonb[]) v on conflict (_id) do update set _rev = excluded._rev, doc = excluded.doc returning _id, _rev`, p.list))
    for (const i of at) written[i] = { status: 'done', key: keyOf(ops[i]!), rev: found.get(keyOf(ops[i]!))! }
  }
  async function change(at: readonly number[]): Promise<void> {
    if (at.length === 0) return
    const p = new Params()
    const lists = [
      `${p.add(textArray(at.map((i) => keyOf(ops[i]!))))}::text[]`, `${p.add(textArray(at.map((i) => (ops[i] as { readonly rev?: string }).rev ?? null)))}::text[]`, `${p.add(boolArray(at.map((i) => ops[i]!.kind === 'put')))}::boolean[]`,
      `${p.add(jsonbArray(at.map((i) => { const op = ops[i]!; return encode(op.kind === 'patch' ? op.set : (op as { readonly doc: Doc }).doc) })))}::jsonb[]`,
      `${p.add(jsonbArray(at.map((i) => { const op = ops[i]!; return encode(op.kind === 'patch' ? [...op.unset] : []) })))}::jsonb[]`, revs(p, at),
    ]
    const found = revsOf(await query(`${locked(t, lists.join(', '), 'v(key, rev, put, doc, unset, fresh)')} update ${t} d set _rev = coalesce(v.fresh, d._rev), doc = case when v.put then v.doc else (d.doc - array(select jsonb_array_elements_text(v.unset))) || v.doc end from v join locked on locked._id = v.key cross join ${own} where d._id = v.key and (v.rev is null or d._rev::text = v.rev) returning d._id, d._rev`, p.list))
    await finish(at, (key) => { const rev = found.get(key); return rev === undefined ? undefined : { status: 'done', key, rev } })
  }
  async function remove(at: readonly number[]): Promise<void> {
    if (at.length === 0) return
    const p = new Params()
    const lists = `${p.add(textArray(at.map((i) => keyOf(ops[i]!))))}::text[], ${p.add(textArray(at.map((i) => (ops[i] as { readonly rev?: string }).rev ?? null)))}::text[]`
    const rows = await query(`${locked(t, lists, 'v(key, rev)')} delete from ${t} d using v join locked on locked._id = v.key where d._id = v.key and (v.rev is null or d._rev::text = v.rev) returning d._id`, p.list)
    const gone = new Set(rows.map((row) => row['_id']!))
    await finish(at, (key) => (gone.has(key) ? { status: 'done', key } : undefined))
  }
  /** What was not done is there with another rev, or not there. */
  async function finish(at: readonly number[], done: (key: Key) => Written | undefined): Promise<void> {
    const lost: number[] = []
    for (const i of at) {
      const result = done(keyOf(ops[i]!))
      if (result === undefined) lost.push(i)
      else written[i] = result
    }
    if (lost.length === 0) return
    const p = new Params()
    const there = new Set((await query(`select _id from ${t} where _id = any(${p.add(lost.map((i) => keyOf(ops[i]!)))}::text[])`, p.list)).map((row) => row['_id']!))
    for (const i of lost) written[i] = { status: there.has(keyOf(ops[i]!)) ? 'moved' : 'missing', key: keyOf(ops[i]!) }
  }
}

/** The operations as `v`, and their rows locked in the order of their keys, so that two writers never wait for each other in a circle. */
function locked(t: string, lists: string, v: string): string {
  return `with v as materialized (select * from unnest(${lists}) ${v}), locked as materialized (select d._id from ${t} d join v on d._id = v.key order by d._id for update of d)`
}

function keyOf(op: Write): Key {
  return op.key ?? ''
}
