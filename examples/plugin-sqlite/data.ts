/** Rows, and the values derived from them, in three tables. Documents are text in Inlay's stored encoding; foreign keys take outputs along with their row. */
import { randomUUID } from 'node:crypto'
import type { DatabaseSync, StatementSync } from 'node:sqlite'
import { setImmediate } from 'node:timers/promises'
import {
  compareStrings, decode, encode, evaluate, InlayError, pick, quote,
  type Collection, type Ctx, type DataCapabilities, type Datalayer, type Doc, type Filter, type Key, type Mark, type Outcome, type Query, type Rev, type Row, type Slot, type Tally, type Value, type Write, type Written,
} from 'inlay/plugin'
import { hint, keysOf, slotsIn } from './filter.ts'

/** Most rows that one statement looks at: the driver is synchronous, and between two statements the event loop runs. */
const window = 500

type Columns = Readonly<Record<string, unknown>>
type Parameter = string | number | null

/** One row of a scan, before its document is read. */
interface Found { readonly key: Key; readonly own: Rev; readonly rev: Rev | null; readonly doc: Doc; readonly mark?: Mark; readonly outputs: Readonly<Record<string, readonly Value[]>> }
interface Scan {
  readonly from: string
  readonly where?: Filter | undefined
  readonly keys?: readonly Key[] | 'all' | undefined
  readonly after?: Key | undefined
  /** Whose outputs to read. */
  readonly slots?: readonly string[] | undefined
  /** Whose marks to read. */
  readonly slot?: Slot
  /** A condition in SQL. */
  readonly and?: string
  /** Whether documents are wanted where no filter reads them. */
  readonly docs: boolean
}

/** A database of Inlay in one file. */
export class SqliteData implements Datalayer {
  readonly capabilities: DataCapabilities
  readonly #db: DatabaseSync
  readonly #prefix: string
  readonly #statements = new Map<string, StatementSync>()

  constructor(db: DatabaseSync, namespace: string, file: boolean) {
    this.#db = db
    this.#prefix = namespace
    this.capabilities = Object.freeze<DataCapabilities>({
      filters: ['and', 'or', 'not', 'eq', 'in', 'null', 'exists', 'lt', 'lte', 'gt', 'gte', 'prefix', 'keys'],
      order: false, durable: file, writers: file ? 'many' : 'one-process', attaches: false, notices: 'none', givenRevs: true, foreign: false, refuses: [], loses: [],
      limits: { ops: window },
      notes: [
        `The driver is synchronous: a statement looks at ${window} rows at most, and the event loop runs between two.`,
        'A writer waits for the writer of another process, and blocks its event loop meanwhile, for half a second at most at a time.',
        'Tables of others cannot be attached, and what other programs write is not noticed.',
        'There is no view of rows with their outputs for other programs.',
      ],
    })
    this.#atomic(() => db.exec(this.#named(`
      create table if not exists $collections (name text primary key, track text not null);
      create table if not exists $slots (id text primary key, collection text not null, slot text not null);
      create table if not exists $rows (collection text not null, key text not null, rev text not null, parent text, source text, doc text not null, primary key (collection, key),
        foreign key (parent, source) references $rows (collection, key) on delete cascade);
      create index if not exists $sources on $rows (parent, source) where parent is not null;
      create table if not exists $marks (collection text not null, key text not null, slot text not null, rev text not null, hash text not null, error text, tries integer, none integer, made_by text, value text,
        primary key (collection, key, slot), foreign key (collection, key) references $rows (collection, key) on delete cascade)`)))
  }

  async create({ name, attached, track }: Collection): Promise<void> {
    if (attached !== false) {
      const own = this.#get('select 1 from $collections where name = ?', name) !== undefined
      throw own ? new InlayError('CONFLICT', `The collection ${quote(name)} is there already and is attached to nothing.`) : new InlayError('UNSUPPORTED', `${quote(attached)} cannot be attached: this plugin keeps collections of Inlay only.`)
    }
    this.#run('insert into $collections values (?, ?) on conflict (name) do update set track = excluded.track', name, track)
  }
  async drop(name: string): Promise<void> {
    await this.#emptied(name)
    this.#run('delete from $collections where name = ?', name)
  }
  async list(): Promise<readonly Collection[]> {
    return this.#all('select name, track from $collections order by name').map(({ name, track }) => ({ name: name as string, attached: false, track: track as Collection['track'] }))
  }

  async write(collection: string, ops: readonly Write[]): Promise<readonly Written[]> {
    return this.#atomic(() => {
      this.#check(collection)
      return ops.map((op) => this.#apply(collection, op))
    })
  }
  #apply(collection: string, op: Write): Written {
    const key = op.key ?? randomUUID()
    if (op.kind === 'remove') return this.#run('delete from $rows where collection = ? and key = ? and rev = coalesce(?, rev)', collection, key, op.rev ?? null) === 1 ? { status: 'done', key } : this.#lost(collection, key)
    const rev = op.as ?? randomUUID(), done: Written = { status: 'done', key, rev }
    if (op.kind === 'insert') return this.#run('insert into $rows (collection, key, rev, doc) values (?, ?, ?, ?) on conflict do nothing', collection, key, rev, encode(op.doc)) === 1 ? done : { status: 'exists', key }
    if (op.kind === 'put' && op.rev === undefined) {
      this.#run('insert into $rows (collection, key, rev, doc) values (?, ?, ?, ?) on conflict (collection, key) do update set rev = excluded.rev, doc = excluded.doc', collection, key, rev, encode(op.doc))
      return done
    }
    const doc = op.kind === 'put' ? op.doc : this.#patched(collection, op)
    if (doc === undefined) return { status: 'missing', key }
    return this.#run('update $rows set rev = ?, doc = ? where collection = ? and key = ? and rev = coalesce(?, rev)', rev, encode(doc), collection, key, op.rev ?? null) === 1 ? done : this.#lost(collection, key)
  }
  #patched(collection: string, { key, set, unset }: Write & { kind: 'patch' }): Doc | undefined {
    const found = this.#get('select doc from $rows where collection = ? and key = ?', collection, key)
    return found && Object.fromEntries(Object.entries({ ...decode(found['doc'] as string) as Doc, ...set }).filter(([field]) => !unset.includes(field)))
  }
  #lost(collection: string, key: Key): Written {
    return { status: this.#get('select 1 from $rows where collection = ? and key = ?', collection, key) === undefined ? 'missing' : 'moved', key }
  }

  async *find(query: Query, ctx: Ctx): AsyncIterable<readonly Row[]> {
    const { from, where, after, fields, slots, skip = 0, limit = Infinity } = query
    let passed = 0
    for await (const found of this.#scan({ from, where, after, slots, docs: true }, ctx)) {
      const rows = found.slice(Math.max(0, skip - passed), skip + limit - passed).map(({ key, own, doc, outputs }) => ({ key, rev: own, doc: fields === undefined ? doc : pick(doc, fields), ...(slots === undefined ? {} : { outputs: only(outputs, slots) }) }))
      passed += found.length
      if (rows.length > 0) yield rows
      if (passed >= skip + limit) return
    }
  }
  async count({ from, where, after }: Query, ctx: Ctx): Promise<number> {
    let n = 0
    for await (const found of this.#scan({ from, where, after, docs: false }, ctx)) n += found.length
    return n
  }

  async openSlot(slot: Slot): Promise<{ readonly filters: boolean }> {
    this.#run('insert into $slots values (?, ?, ?) on conflict (id) do update set slot = excluded.slot', slot.id, slot.collection, JSON.stringify({ id: slot.id, upstream: slot.upstream, many: slot.many }))
    return { filters: !slot.many }
  }
  async dropSlot(id: string): Promise<void> {
    await this.#emptied(id)                                                           // of a slot with many
    const slot = this.#get('select collection from $slots where id = ?', id)
    if (slot === undefined) return
    await this.#empty('$marks where collection = ? and slot = ?', slot['collection'] as string, id)
    this.#run('delete from $slots where id = ?', id)
  }

  async *rows(slot: Slot, which: 'stale' | 'failed' | 'all', keys: readonly Key[] | 'all', ctx: Ctx): AsyncIterable<readonly Row[]> {
    const rev = this.#rev(slot), and = `${rev} is not null and ${this.#ready(slot)}${which === 'stale' ? ` and m.rev is not ${rev}` : which === 'failed' ? ' and m.error is not null' : ''}`
    for await (const found of this.#scan({ from: slot.collection, where: slot.where, keys, slot, slots: slot.upstream, and, docs: true }, ctx)) {
      const rows = found.map(({ key, rev, doc, mark, outputs }) => ({ key, rev: rev!, doc: slot.fields === undefined ? doc : pick(doc, slot.fields), outputs: only(outputs, slot.upstream), ...(mark && { mark }) }))
      if (rows.length > 0) yield rows
    }
  }
  async tally(slot: Slot, ctx: Ctx): Promise<Tally> {
    let rows = 0, missing = 0, stale = 0, failed = 0, orphaned = 0
    for await (const found of this.#scan({ from: slot.collection, slot, slots: slotsIn(slot.where), docs: slot.where !== undefined }, ctx)) {
      for (const one of found) {
        const { rev, mark } = one
        if (!belongs(slot, one)) orphaned += mark === undefined ? 0 : 1
        else {
          rows++
          if (mark === undefined) missing++
          else if (mark.rev !== rev) stale++
          else if (mark.error !== undefined) failed++
        }
      }
    }
    return { rows, missing, stale, failed, orphaned }
  }

  async settle(slot: Slot, outcomes: readonly Outcome[]): Promise<readonly Key[]> {
    return this.#atomic(() => outcomes.filter((outcome) => !this.#settled(slot, outcome)).map(({ key }) => key))
  }
  #settled(slot: Slot, outcome: Outcome): boolean {
    const { id, collection, many } = slot, { key, rev, hash, kind } = outcome
    const found = this.#get(`select ${this.#rev(slot)} as rev, m.hash from ${this.#joined(slot.upstream, slot)} where r.collection = ? and r.key = ? and exists (select 1 from $slots where id = ?)`, collection, key, id)
    if (found === undefined || found['rev'] !== rev) return false
    if (kind === 'same') return found['hash'] === hash && this.#run('update $marks set rev = ? where collection = ? and key = ? and slot = ?', rev, collection, key, id) === 1
    const values = kind === 'values' ? outcome.values : []
    this.#run('insert into $marks values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) on conflict do update set rev = excluded.rev, hash = excluded.hash, error = excluded.error, tries = excluded.tries, none = excluded.none, made_by = excluded.made_by, value = excluded.value',
      collection, key, id, rev, hash, kind === 'error' ? outcome.error : null, kind === 'error' ? outcome.tries : null, kind === 'skip' ? 1 : null, outcome.by ?? null, kind === 'values' && !many ? encode(values) : null)
    if (!many) return true
    this.#run(`delete from $rows where parent = ? and source = ? and collection = ? and doc ->> 'offset' >= ?`, collection, key, id, values.length)
    for (const [offset, value] of values.entries()) {
      this.#run('insert into $rows (collection, key, rev, parent, source, doc) values (?, ?, ?, ?, ?, ?) on conflict (collection, key) do update set rev = excluded.rev, doc = excluded.doc where doc <> excluded.doc', id, `${key}#${offset}`, randomUUID(), collection, key, encode({ value, source: key, offset }))
    }
    return true
  }
  async prune(slot: Slot, keys: readonly Key[] | 'all', ctx: Ctx): Promise<number> {
    let n = 0
    for await (const found of this.#scan({ from: slot.collection, keys, slot, slots: slotsIn(slot.where), and: 'm.rev is not null', docs: slot.where !== undefined }, ctx)) {
      this.#atomic(() => {
        for (const one of found) {
          if (belongs(slot, one)) continue
          this.#run('delete from $rows where parent = ? and source = ? and collection = ?', slot.collection, one.key, slot.id)
          n += this.#run('delete from $marks where collection = ? and key = ? and slot = ?', slot.collection, one.key, slot.id)
        }
      })
    }
    return n
  }

  /** Rows that match, one batch for each window of keys, which may be empty. */
  async *#scan({ from, where, keys = 'all', after, slots = [], slot, and, docs }: Scan, ctx: Ctx): AsyncGenerator<readonly Found[]> {
    this.#check(from)
    const read = [...new Set([...slots, ...slotsIn(where)])], parameters: string[] = [], near = where && hint(where, parameters)
    const sql = `select r.key, r.rev as own, ${docs || where !== undefined ? 'r.doc' : 'null'} as doc${slot === undefined ? '' : `, ${this.#rev(slot)} as rev, m.rev as made, m.hash, m.error, m.tries, m.none, m.made_by as "by"`}${read.map((id) => `, ${this.#output(id)} as "v_${id}"`).join('')}
      from ${this.#joined(read, slot)} where r.collection = ?`, rest = `${and === undefined ? '' : ` and ${and}`}${near === undefined ? '' : ` and ${near}`} order by r.key`
    for (const { range, bounds } of this.#windows(from, keys === 'all' ? keysOf(where) ?? 'all' : keys, after)) {
      ctx.signal.throwIfAborted()
      const found = this.#all(`${sql} and ${range}${rest}`, from, ...bounds, ...parameters).map((row) => foundOf(row, read))
      yield where === undefined ? found : found.filter(({ key, doc, outputs }) => evaluate(where, key, doc, (id) => outputs[id]))
      await setImmediate()
    }
  }
  /** Ranges of keys that hold some hundred rows each. */
  *#windows(from: string, keys: readonly Key[] | 'all', after: Key | undefined): Generator<{ readonly range: string; readonly bounds: readonly Parameter[] }> {
    if (keys !== 'all') {
      const sorted = [...new Set(keys)].filter((key) => after === undefined || compareStrings(key, after) > 0).toSorted(compareStrings)
      for (let i = 0; i < sorted.length; i += window) yield { range: 'r.key in (select value from json_each(?))', bounds: [JSON.stringify(sorted.slice(i, i + window))] }
      return
    }
    for (let last = after ?? '';;) {                                                  // no key is empty
      const end = this.#get(`select key from $rows where collection = ? and key > ? order by key limit 1 offset ${window - 1}`, from, last)?.['key'] as Key | undefined
      yield end === undefined ? { range: 'r.key > ?', bounds: [last] } : { range: 'r.key > ? and r.key <= ?', bounds: [last, end] }
      if (end === undefined) return
      last = end
    }
  }

  /** Rows `r` with their marks: `m` of the slot, `m_<id>` of those that it reads, directly or not. */
  #joined(read: readonly string[], slot?: Slot): string {
    const ids = new Set<string>(), add = (id: string): void => { if (!ids.has(id)) { ids.add(id); this.#slot(id).upstream.forEach(add) } }
    for (const id of [...read, ...slot?.upstream ?? []]) add(id)
    const join = (as: string, id: string): string => ` left join $marks ${as} on ${as}.collection = r.collection and ${as}.key = r.key and ${as}.slot = '${id}'`
    return `$rows r${[...ids].map((id) => join(`m_${id}`, id)).join('')}${slot === undefined ? '' : join('m', slot.id)}`
  }
  /** The rev that a mark of the slot has when it is current; null where an upstream output has no value. */
  #rev({ upstream }: Pick<Slot, 'upstream'>): string {
    return ['r.rev', ...upstream.map((id) => `case when m_${id}.error is null and m_${id}.none is null then m_${id}.hash end`)].join(` || '|' || `)
  }
  /** Whether no upstream output is stale, however far up. */
  #ready({ upstream }: Pick<Slot, 'upstream'>): string {
    return ['true', ...upstream.map((id) => `m_${id}.rev = ${this.#rev(this.#slot(id))} and ${this.#ready(this.#slot(id))}`)].join(' and ')
  }
  /** The values of a slot as a list in JSON, null where there are none. */
  #output(id: string): string {
    if (!this.#slot(id).many) return `m_${id}.value`
    return `case when m_${id}.rev is not null and m_${id}.error is null and m_${id}.none is null then
      (select '[' || coalesce(group_concat(v.doc -> 'value', ',' order by v.doc ->> 'offset'), '') || ']' from $rows v where v.parent = r.collection and v.source = r.key and v.collection = '${id}') end`
  }
  #slot(id: string): Pick<Slot, 'id' | 'upstream' | 'many'> {
    const found = this.#get('select slot from $slots where id = ?', id)
    if (found === undefined) throw new InlayError('NOT_FOUND', `There is no slot ${quote(id)}; it was dropped.`)
    return JSON.parse(found['slot'] as string) as Slot
  }
  #check(name: string): void {
    if (this.#get('select 1 from $collections where name = ?1 union all select 1 from $slots where id = ?1', name) === undefined) throw new InlayError('NOT_FOUND', `There is no collection ${quote(name)}; create it first.`)
  }

  /** Drops the slots on a collection, then its rows. */
  async #emptied(name: string): Promise<void> {
    for (const { id } of this.#all('select id from $slots where collection = ?', name)) await this.dropSlot(id as string)
    await this.#empty('$rows where collection = ?', name)
  }
  /** Deletes in steps, so that the event loop runs between them. */
  async #empty(what: string, ...parameters: readonly Parameter[]): Promise<void> {
    const table = what.split(' ', 1)[0]!
    while (this.#run(`delete from ${table} where rowid in (select rowid from ${what} limit ${window})`, ...parameters) > 0) await setImmediate()
  }
  /** All or nothing: the lock for writing is taken at once, so that nothing that was read inside can be out of date. */
  #atomic<T>(work: () => T): T {
    this.#db.exec('begin immediate')
    try {
      const result = work()
      this.#db.exec('commit')
      return result
    } catch (error) {
      if (this.#db.isTransaction) this.#db.exec('rollback')
      throw error
    }
  }
  #named(sql: string): string {
    return sql.replace(/\$(\w+)/g, `"${this.#prefix}_$1"`)
  }
  #prepared(sql: string): StatementSync {
    let statement = this.#statements.get(sql)
    if (statement === undefined) {
      if (this.#statements.size === 200) this.#statements.clear()                     // filters come in any number of forms
      this.#statements.set(sql, statement = this.#db.prepare(this.#named(sql)))
    }
    return statement
  }
  #all(sql: string, ...parameters: readonly Parameter[]): readonly Columns[] {
    return this.#prepared(sql).all(...parameters)
  }
  #get(sql: string, ...parameters: readonly Parameter[]): Columns | undefined {
    return this.#prepared(sql).get(...parameters)
  }
  #run(sql: string, ...parameters: readonly Parameter[]): number {
    return Number(this.#prepared(sql).run(...parameters).changes)
  }
}

function foundOf(row: Columns, read: readonly string[]): Found {
  const text = (name: string): string => row[name] as string
  const mark: Mark | undefined = row['made'] == null ? undefined
    : { rev: text('made'), hash: text('hash'), ...(row['error'] === null ? {} : { error: text('error'), tries: row['tries'] as number }), ...(row['none'] === null ? {} : { none: true }), ...(row['by'] === null ? {} : { by: text('by') }) }
  const outputs = Object.fromEntries(read.flatMap((id) => (row[`v_${id}`] === null ? [] : [[id, decode(text(`v_${id}`)) as readonly Value[]]])))
  return { key: text('key'), own: text('own'), rev: row['rev'] as Rev | null, doc: row['doc'] === null ? {} : decode(text('doc')) as Doc, outputs, ...(mark && { mark }) }
}
function only(outputs: Found['outputs'], slots: readonly string[]): Found['outputs'] {
  return Object.fromEntries(Object.entries(outputs).filter(([id]) => slots.includes(id)))
}
/** Whether the row is to have an output: it is selected, and its upstream has values. */
function belongs({ where }: Slot, { key, rev, doc, outputs }: Found): boolean {
  return rev !== null && (where === undefined || evaluate(where, key, doc, (id) => outputs[id]))
}
