/** Rows, slots, settle. Reads go by key, page by page, so that nothing is held between two of them; what writes is one transaction, one after the other. */
import type { Collection, Ctx, DataCapabilities, Datalayer, Filter, Key, Mark, Outcome, Query as ContractQuery, Row, Slot, Value, Write, Written } from '../../core/contract.ts'
import { InlayError, messageOf, quote } from '../../core/errors.ts'
import { isAltered, isDataFault, isTaken } from './errors.ts'
import { compileFilter } from './filter.ts'
import { collections, createCollection, createSlot, drop, maxDims, table, type Place } from './schema.ts'
import { forget, forgetDerived, markOffset, settle, type Upstream } from './settle.ts'
import { columnOf } from './shape.ts'
import { manySource, ownSource, tableSource, type Source } from './source.ts'
import { Params, type Run, type SqlRow } from './sql.ts'
import { describe, type Table } from './table.ts'
import { writeTable } from './table-write.ts'
import { writeAll } from './write.ts'

const freshMs = 5000
const findRows = 1000
const staleRows = 500
/** So many inserts are tried as new rows first. */
const manyInserts = 50
/** Keys that are looked for at once, of which the pages are cut: else each page would go through the whole table. */
const keysAhead = 50_000

export function capabilitiesOf(place: Place): DataCapabilities {
  return Object.freeze({
    filters: ['and', 'or', 'not', 'eq', 'lt', 'lte', 'gt', 'gte', 'in', 'null', 'exists', 'prefix', 'keys'] as const, order: false, durable: place.sql.durable,
    writers: 'one-process', attaches: true, notices: 'none', givenRevs: true, foreign: false,
    refuses: ['int64'] as const, loses: [] as const, limits: { ops: 5000, keys: 20_000, dims: maxDims },
    notes: [
      'A file is open in one process at a time.', 'The rev of an attached row is a hash of its columns: a row that gets its former content back has its former rev.', 'Integers beyond 64 bits are refused.', 'What other programs write into collections of Inlay is not noticed.',
      ...(place.sql.durable ? [] : ['Rows live as long as the connection.']),
    ],
  } as const)
}

export class DuckData implements Datalayer {
  readonly capabilities: DataCapabilities
  readonly place: Place
  readonly #slots = new Map<string, Slot>()
  /** What names stand for: a table of others, or undefined for ours. */
  readonly #tables = new Map<string, { readonly of: Promise<Table | undefined>; readonly at: number }>()

  constructor(place: Place) {
    this.place = place
    this.capabilities = capabilitiesOf(place)
  }

  async create(collection: Collection, ctx: Ctx): Promise<void> {
    await createCollection(this.place, collection, ctx)
    this.#tables.delete(collection.name)
  }
  async drop(name: string, ctx: Ctx): Promise<void> {
    await this.#drop(name, ctx)
    this.#tables.delete(name)
  }
  list(ctx: Ctx): Promise<readonly Collection[]> {
    return collections(this.place, this.#read(ctx))
  }

  write(collection: string, ops: readonly Write[], ctx: Ctx): Promise<readonly Written[]> {
    return this.#asIs(collection, () => this.#write(collection, ops, ctx))
  }
  /** Does it once more where the table or file was altered since it was looked at. */
  async #asIs<T>(collection: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } catch (error) {
      if (!isAltered(error)) throw error
      this.#tables.delete(collection)
      return work()
    }
  }
  /** The same of pages, as long as none was given. */
  async *#pagesAsIs(collection: string, pages: () => AsyncIterable<readonly Row[]>): AsyncIterable<readonly Row[]> {
    let given = false
    try {
      for await (const page of pages()) {
        given = true
        yield page
      }
    } catch (error) {
      if (given || !isAltered(error)) throw error
      this.#tables.delete(collection)
      yield* pages()
    }
  }
  async #write(collection: string, ops: readonly Write[], ctx: Ctx): Promise<readonly Written[]> {
    const table = await this.#table(collection, ctx)
    if (table?.file === true) throw new InlayError('UNSUPPORTED', `The collection ${quote(collection)} is attached to the file ${quote(table.source)}, whose rows are read and not written. Copy them into a table, and attach that.`)
    const write = (fresh: boolean): Promise<readonly Written[]> => this.place.sql.write((writer) => (table === undefined ? writeAll(this.place, writer, collection, ops, fresh)
      : writeTable(writer.run, table, ops, (keys) => forgetDerived(this.place, writer.run, collection, keys))), ctx.signal)
    try {
      if (table !== undefined || ops.length < manyInserts) return await write(false)
      return await write(true).catch((error: unknown) => { if (isTaken(error)) return write(false); throw error })
    } catch (error) {
      // What the database will not hold fails its statement: the batch is halved until it stands alone.
      if (!isDataFault(error)) throw error
      if (ops.length === 1) return [{ status: 'refused', key: ops[0]!.key ?? '', reason: messageOf(error) }]
      const half = ops.length >> 1
      return [...await this.#write(collection, ops.slice(0, half), ctx), ...await this.#write(collection, ops.slice(half), ctx)]
    }
  }

  find(query: ContractQuery, ctx: Ctx): AsyncIterable<readonly Row[]> {
    return this.#pagesAsIs(query.from, () => this.#find(query, ctx))
  }
  async *#find(query: ContractQuery, ctx: Ctx): AsyncIterable<readonly Row[]> {
    const source = await this.source(query.from, ctx), { skip = 0, limit } = query, read = this.#read(ctx)
    if (query.order !== undefined) throw new InlayError('INTERNAL', 'This database does not sort, as its capabilities say.')
    const outputs = this.outputs(query.slots ?? [])
    let left = limit ?? Number.POSITIVE_INFINITY
    const few = query.where?.kind === 'keys' && query.where.keys.length <= findRows && skip === 0
    const pages = few ? [{ from: query.after, to: undefined, last: true }] : this.#pages(read, findRows, query.after, (after, ahead, first) => {
      const p = new Params(), filter = this.filter(source, query.where, p)
      return [`select ${source.key} as k from ${source.from} ${filter.join} where ${[source.only, filter.where, ...(after === undefined ? [] : [source.beside('>', after, p.add)])].join(' and ')} order by ${source.order} limit ${Math.min(ahead, left)}${first && skip > 0 ? ` offset ${skip}` : ''}`, p]
    })
    for await (const { from, to } of pages) {
      const p = new Params(), filter = this.filter(source, query.where, p)
      const where = [source.only, filter.where, ...(from === undefined ? [] : [source.beside(to === undefined ? '>' : '>=', from, p.add)]), ...(to === undefined ? [] : [source.beside('<=', to, p.add)])]
      const page = `select ${[`${source.key} as k`, `${source.rev} as r`, `${source.order} as ord`, ...source.columns(query.fields)].join(', ')} from ${source.from} ${filter.join} where ${where.join(' and ')} order by ord${left === Number.POSITIVE_INFINITY ? '' : ` limit ${left}`}`
      const rows = await read(outputs.around(page), p.list)
      if (rows.length > 0) yield rows.map((row) => ({ key: row['k'] as Key, rev: row['r'] as string, doc: source.doc(row, query.fields), outputs: outputs.of(row) }))
      left -= rows.length
      if (left <= 0) return
    }
  }
  /** Ranges of keys that hold a page each. `select` gives the statement for the next keys. */
  async *#pages(read: Run, size: number, after: Key | undefined, select: (after: Key | undefined, ahead: number, first: boolean) => readonly [string, Params]): AsyncIterable<{ readonly from: Key; readonly to: Key }> {
    for (let ahead = size, first = true; ; ahead = keysAhead, first = false) {
      const [text, { list }] = select(after, ahead, first), keys = (await read(text, list)).map((row) => row['k'] as Key)
      for (let i = 0; i < keys.length; i += size) yield { from: keys[i]!, to: keys[Math.min(i + size, keys.length) - 1]! }
      if (keys.length < ahead) return
      after = keys.at(-1)!
    }
  }

  count(query: ContractQuery, ctx: Ctx): Promise<number> {
    return this.#asIs(query.from, () => this.#count(query, ctx))
  }
  async #count(query: ContractQuery, ctx: Ctx): Promise<number> {
    const source = await this.source(query.from, ctx), p = new Params(), filter = this.filter(source, query.where, p)
    const where = [source.only, filter.where, ...(query.after === undefined ? [] : [source.beside('>', query.after, p.add)])].join(' and ')
    const [row] = await this.#read(ctx)(`select count(*) as n from ${source.from} ${filter.join} where ${where}`, p.list)
    return Number(row!['n'])
  }

  async openSlot(slot: Slot, ctx: Ctx): Promise<{ readonly filters: boolean }> {
    await createSlot(this.place, slot, this.#slots.has(slot.collection) ? undefined : await this.#table(slot.collection, ctx), ctx)
    this.#slots.set(slot.id, slot)
    return { filters: !slot.many }
  }
  #drop(name: string, ctx: Ctx): Promise<void> {
    return drop(this.place, name, (collection) => (this.#slots.has(collection) ? Promise.resolve(undefined) : this.#table(collection, ctx)), ctx)
  }
  async dropSlot(id: string, ctx: Ctx): Promise<void> {
    await this.#drop(id, ctx)
    this.#slots.delete(id)
  }

  rows(slot: Slot, which: 'stale' | 'failed' | 'all', keys: readonly Key[] | 'all', ctx: Ctx): AsyncIterable<readonly Row[]> {
    return this.#pagesAsIs(slot.collection, () => this.#rows(slot, which, keys, ctx))
  }
  async *#rows(slot: Slot, which: 'stale' | 'failed' | 'all', keys: readonly Key[] | 'all', ctx: Ctx): AsyncIterable<readonly Row[]> {
    const source = await this.source(slot.collection, ctx), upstream = this.upstream(slot, source), outputs = this.outputs(slot.upstream), read = this.#read(ctx)
    const test = which === 'stale' ? `(o.key is null or o.rev <> ${upstream.rev})` : which === 'failed' ? 'o.err is not null' : 'true'
    const part = (p: Params): { readonly from: string; readonly where: readonly string[] } => {
      const filter = this.filter(source, slot.where, p)
      return {
        from: `${source.from} ${upstream.join} ${filter.join} left join ${table(this.place, slot.id)} o on o.key = ${source.key} and o.off = ${markOffset(slot)}`,
        where: [source.only, test, upstream.current, filter.where, ...(keys === 'all' ? [] : [source.keys(keys, p.add)])],
      }
    }
    const pages = this.#pages(read, staleRows, undefined, (after, ahead) => {
      const p = new Params(), { from, where } = part(p)
      return [`select ${source.key} as k from ${from} where ${[...where, ...(after === undefined ? [] : [source.beside('>', after, p.add)])].join(' and ')} order by ${source.order} limit ${ahead}`, p]
    })
    for await (const range of pages) {
      const p = new Params(), { from, where } = part(p), columns = [`${source.key} as k`, `${upstream.rev} as r`, `${source.order} as ord`, 'o.rev as mr', 'o.hash as mh', 'o.err as me', 'o.tries as mt', 'o.none as mn', 'o.made_by as mb', ...source.columns(slot.fields)]
      const page = `select ${columns.join(', ')} from ${from} where ${[...where, source.beside('>=', range.from, p.add), source.beside('<=', range.to, p.add)].join(' and ')} order by ord`
      const rows = await read(outputs.around(page), p.list)
      if (rows.length > 0) yield rows.map((row) => ({ key: row['k'] as Key, rev: row['r'] as string, doc: source.doc(row, slot.fields), outputs: outputs.of(row), ...markOf(row) }))
    }
  }

  tally(slot: Slot, ctx: Ctx): ReturnType<Datalayer['tally']> {
    return this.#asIs(slot.collection, () => this.#tally(slot, ctx))
  }
  async #tally(slot: Slot, ctx: Ctx): ReturnType<Datalayer['tally']> {
    const source = await this.source(slot.collection, ctx), upstream = this.upstream(slot, source), t = table(this.place, slot.id), p = new Params(), filter = this.filter(source, slot.where, p)
    const where = `${source.only} and ${upstream.valued} and ${filter.where}`, current = `(o.rev = ${upstream.rev} and ${upstream.current})`
    const [row] = await this.#read(ctx)(`select count(*) as rows, count(*) filter (where o.key is null) as missing, count(*) filter (where o.key is not null and not ${current}) as stale, count(*) filter (where o.err is not null and ${current}) as failed, count(o.key) as there,
      (select count(*) from ${t} where off = ${markOffset(slot)}) as marks
      from ${source.from} ${upstream.join} ${filter.join} left join ${t} o on o.key = ${source.key} and o.off = ${markOffset(slot)} where ${where}`, p.list)
    return { rows: Number(row!['rows']), missing: Number(row!['missing']), stale: Number(row!['stale']), failed: Number(row!['failed']), orphaned: Number(row!['marks']) - Number(row!['there']) }
  }

  settle(slot: Slot, outcomes: readonly Outcome[], ctx: Ctx): Promise<readonly Key[]> {
    return this.#asIs(slot.collection, () => this.#settle(slot, outcomes, ctx))
  }
  async #settle(slot: Slot, outcomes: readonly Outcome[], ctx: Ctx): Promise<readonly Key[]> {
    if (outcomes.length === 0) return []
    const source = await this.source(slot.collection, ctx)
    return this.place.sql.write((writer) => settle(this.place, writer, slot, source, this.upstream(slot, source), outcomes), ctx.signal)
  }

  prune(slot: Slot, keys: readonly Key[] | 'all', ctx: Ctx): Promise<number> {
    return this.#asIs(slot.collection, () => this.#prune(slot, keys, ctx))
  }
  async #prune(slot: Slot, keys: readonly Key[] | 'all', ctx: Ctx): Promise<number> {
    const source = await this.source(slot.collection, ctx), upstream = this.upstream(slot, source)
    return this.place.sql.write(async ({ run }) => {
      const p = new Params(), filter = this.filter(source, slot.where, p), t = table(this.place, slot.id)
      const hint = keys === 'all' ? 'true' : `o.key in (select unnest(${p.add(keys)}))`
      const gone = await run(`select o.key from ${t} o where o.off = ${markOffset(slot)} and ${hint} and o.key not in (select ${source.key} from ${source.from} ${upstream.join} ${filter.join} where ${source.only} and ${upstream.valued} and ${filter.where})`, p.list)
      if (gone.length > 0) await forget(this.place, run, slot.id, gone.map((row) => row['key'] as Key))
      return gone.length
    }, ctx.signal)
  }

  async native(statement: unknown, ctx: Ctx): Promise<unknown> {
    const { text, params = [] } = typeof statement === 'string' ? { text: statement } : statement as { readonly text: string; readonly params?: Params['list'] }
    return this.place.sql.write(({ run }) => run(text, params), ctx.signal)
  }

  /** Nearest outputs with their rows, in one statement. `distance` is SQL over `o.value`. */
  async nearest(slot: Slot, distance: (add: Params['add']) => string, k: number, query: ContractQuery | undefined, ctx: Ctx): Promise<readonly { readonly row: Row; readonly offset: number; readonly distance: number }[]> {
    const source = await this.source(slot.collection, ctx), p = new Params(), of: ContractQuery = query ?? { from: slot.collection, fields: [] }, outputs = this.outputs(of.slots ?? []), filter = this.filter(source, of.where, p)
    // Which ones comes first, what is in them after: documents are read of the hits only.
    const near = `select o.key, o.off, o.distance from (select o.key, o.off, ${distance(p.add)} as distance from ${table(this.place, slot.id)} o where o.value is not null) o join ${source.from} on ${source.key} = o.key ${filter.join} where ${source.only} and ${filter.where}`
    const page = `select ${[`${source.key} as k`, `${source.rev} as r`, 'n.off', 'n.distance', ...source.columns(of.fields)].join(', ')} from (select * from (${near}) where not isnan(distance) order by distance, key, off limit ${k}) n join ${source.from} on ${source.key} = n.key where ${source.only}`
    const rows = await this.#read(ctx)(outputs.around(page, 'distance, k, off'), p.list)
    return rows.map((row) => ({ row: { key: row['k'] as Key, rev: row['r'] as string, doc: source.doc(row, of.fields), outputs: outputs.of(row) }, offset: row['off'] as number, distance: row['distance'] as number }))
  }

  #read({ signal }: Ctx): Run {
    return (text, params = []) => this.place.sql.read(text, params, signal)
  }
  slot(id: string): Slot {
    const slot = this.#slots.get(id)
    if (slot === undefined) throw new InlayError('NOT_FOUND', `The slot ${quote(id)} is not open here. Open it first.`)
    return slot
  }
  async source(of: string, ctx: Ctx): Promise<Source> {
    const slot = this.#slots.get(of)
    if (slot !== undefined) return manySource(this.place, slot)
    const table = await this.#table(of, ctx)
    return table === undefined ? ownSource(this.place, of) : tableSource(table)
  }
  /** A table of others, as it was a moment ago: its owner may add columns. What is ours stays that. */
  #table(collection: string, ctx: Ctx): Promise<Table | undefined> {
    const known = this.#tables.get(collection)
    if (known !== undefined && Date.now() - known.at < freshMs) return known.of
    const found = this.#read(ctx)(`select spec ->> 'attached' as source from ${table(this.place, '_meta')} where kind = 'collection' and name = $1`, [collection]).then(([row]) => {
      // What is not there yet may be attached later.
      if (row === undefined) this.#tables.delete(collection)
      const source = row?.['source'] as string | undefined
      if (source === 'false') this.#tables.set(collection, { of: found, at: Infinity })
      return source === undefined || source === 'false' ? undefined : describe(this.place, collection, source, ctx.signal)
    })
    this.#tables.set(collection, { of: found, at: Date.now() })
    found.catch(() => this.#tables.delete(collection))
    return found
  }

  upstream(slot: Slot, source: Source): Upstream {
    const joined = new Map<string, string>()
    const visit = (of: Slot): { readonly rev: string; readonly valued: readonly string[]; readonly current: readonly string[] } => {
      let rev = source.rev
      const valued: string[] = [], current: string[] = []
      for (const id of of.upstream) {
        const up = this.slot(id), alias = `u_${id}`, inner = visit(up)
        joined.set(id, `left join ${table(this.place, id)} ${alias} on ${alias}.key = ${source.key} and ${alias}.off = ${markOffset(up)}`)
        valued.push(`${alias}.key is not null and ${alias}.err is null and not ${alias}.none`)
        current.push(...inner.current, `${alias}.rev = ${inner.rev}`)
        rev += ` || '|' || ${alias}.hash`
      }
      return { rev, valued, current }
    }
    const { rev, valued, current } = visit(slot), all = valued.join(' and ') || 'true'
    return { join: [...joined.values()].join(' '), rev: `(${rev})`, valued: `(${all})`, current: `(${[all, ...current].join(' and ')})` }
  }

  /** Puts the outputs of slots beside the rows of a statement that has their keys as `k`. */
  outputs(ids: readonly string[]): { around(page: string, order?: string): string; of(row: SqlRow): Record<string, readonly Value[]> } {
    const slots = ids.map((id) => this.slot(id)), { place } = this
    return {
      around(page, order = 'ord') {
        const joins = slots.map((slot, i) => {
          const t = table(place, slot.id), only = 'key in (select k from page)'
          return slot.many
            ? `left join (select key, coalesce(list(value order by off) filter (where off >= 0), []) as o${i} from ${t} where ${only} group by key having bool_or(off = -1 and err is null and not none)) j${i} on j${i}.key = page.k`
            : `left join (select key, value as o${i} from ${t} where off = 0 and ${only}) j${i} on j${i}.key = page.k`
        })
        return slots.length === 0 ? `select * from (${page}) order by ${order}` : `with page as materialized (${page}) select page.*, ${slots.map((_, i) => `o${i}`).join(', ')} from page ${joins.join(' ')} order by ${order}`
      },
      of(row) {
        const outputs: Record<string, readonly Value[]> = {}
        for (const [i, slot] of slots.entries()) {
          const cell = row[`o${i}`], column = columnOf(slot.shape)
          if (cell !== null) outputs[slot.id] = slot.many ? (cell as readonly unknown[]).map((item) => column.read(item)) : [column.read(cell)]
        }
        return outputs
      },
    }
  }

  /** A filter as SQL, with joins to the outputs that it asks for. */
  filter(source: Source, where: Filter | undefined, p: Params): { readonly where: string; readonly join: string } {
    if (where === undefined) return { where: 'true', join: '' }
    const joined = new Map<string, string>()
    const sql = compileFilter(where, {
      key: source.key, param: p.add, keys: (keys) => source.keys(keys, p.add),
      start: (path) => {
        if (path.slot === undefined) return source.start(path)
        const alias = `f_${path.slot}`
        joined.set(path.slot, `left join ${table(this.place, path.slot)} ${alias} on ${alias}.key = ${source.key} and ${alias}.off = 0`)
        return { start: columnOf(this.slot(path.slot).shape).start(`${alias}.value`), at: path.at }
      },
    })
    return { where: sql, join: [...joined.values()].join(' ') }
  }
}

function markOf(row: SqlRow): { readonly mark?: Mark } {
  if (row['mr'] === null) return {}
  return { mark: { rev: row['mr'] as string, hash: row['mh'] as string, ...(row['me'] === null ? {} : { error: row['me'] as string }), ...(row['mt'] === null ? {} : { tries: row['mt'] as number }), ...(row['mn'] === true ? { none: true as const } : {}), ...(row['mb'] === null ? {} : { by: row['mb'] as string }) } }
}
