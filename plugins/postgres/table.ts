/** A table of others, as Inlay reads and writes it: which columns it has, what they are as Values, and what its key is as text. */
import type { Filter, Key, Scalar, Value } from '../../core/contract.ts'
import { decode } from '../../core/encoding.ts'
import { InlayError, quote } from '../../core/errors.ts'
import { isBytes } from '../../core/value.ts'
import type { Place } from './schema.ts'
import { jsonOf, tag } from './shape.ts'
import { name, Params } from './sql.ts'

/** What a column's values are. `opaque`: text to read, nothing to write. */
type Kind = 'int' | 'bigint' | 'decimal' | 'float' | 'text' | 'uuid' | 'boolean' | 'date' | 'timestamp' | 'timestamptz' | 'bytes' | 'json' | 'vector' | 'list' | 'opaque'
export interface TableColumn {
  readonly name: string
  /** Without length and precision, and not of a domain: a cast to `varchar(3)` would cut silently, an assignment to such a column does not. (`character` is `character(1)`.) */
  readonly type: string
  readonly kind: Kind
  /** Of a list. */
  readonly element?: Kind
  /** The database computes it. */
  readonly generated: boolean
  /** The database makes one where none is given. */
  readonly made: boolean
  /** Its collation takes different texts for equal. */
  readonly loose: boolean
  /** Of an enum. */
  readonly labels?: readonly string[]
}
export interface Table {
  /** As SQL. */
  readonly at: string
  readonly columns: readonly TableColumn[]
  readonly key: readonly TableColumn[]
  /** The role may lock rows. */
  readonly locks: boolean
  /** Rows lie in partitions, so that an insert cannot tell who wrote them. */
  readonly parted: boolean
}

const exactDigits = 15
/** Fields that core gives each row. */
const reserved: readonly string[] = ['_id', '_rev', '_outputs', '_fold']
const kinds: Readonly<Record<string, Kind>> = {
  int2: 'int', int4: 'int', int8: 'bigint', float4: 'float', float8: 'float', bool: 'boolean', text: 'text', varchar: 'text', bpchar: 'text', name: 'text', uuid: 'uuid', date: 'date', timestamp: 'timestamp',
  timestamptz: 'timestamptz', bytea: 'bytes', json: 'json', jsonb: 'json', vector: 'vector',
}
/** Kinds whose lists `to_jsonb` writes as we read them. */
const listed: readonly (Kind | undefined)[] = ['int', 'float', 'boolean', 'text', 'uuid']

function kindOf(type: string, isEnum: boolean, digits: number | undefined): Kind {
  if (isEnum) return 'text'
  if (type === 'numeric') return digits !== undefined && digits <= exactDigits ? 'decimal' : 'opaque'
  return Object.hasOwn(kinds, type) ? kinds[type]! : 'opaque'
}

/** What a table has; `source` is a name as SQL takes it: `users`, `public.users`, `"My Table"`. */
export async function describe({ sql }: Pick<Place, 'sql'>, collection: string, source: string, signal: AbortSignal): Promise<Table> {
  const refuse = (code: 'NOT_FOUND' | 'UNSUPPORTED', why: string): InlayError => new InlayError(code, `The collection ${quote(collection)} cannot be attached to ${quote(source)}: ${why}`)
  const [found] = await sql.query(`select c.oid::text as oid, c.relkind::text as kind, quote_ident(n.nspname) || '.' || quote_ident(c.relname) as at, has_table_privilege(c.oid, 'UPDATE') as locks
    from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = to_regclass($1)`, [source], signal)
    .catch((error: unknown) => { if ((error as { readonly code?: unknown }).code === '42602') return []; throw error })
  if (found === undefined) throw refuse('NOT_FOUND', 'there is no such table. Give its name as SQL takes it, with its schema: "public.users".')
  if (found['kind'] !== 'r' && found['kind'] !== 'p') throw refuse('UNSUPPORTED', 'it is no table. A view has no key and no versions of rows: attach the table below it.')
  const rows = await sql.query(`select a.attnum::text as n, a.attname as name, case coalesce(b.typname, t.typname) when 'bpchar' then 'bpchar' when '_bpchar' then 'bpchar[]' else format_type(coalesce(b.oid, t.oid), null) end as type, coalesce(b.typname, t.typname) as base, (coalesce(b.typtype, t.typtype) = 'e') as enum, a.attgenerated <> '' as generated, (a.atthasdef or a.attidentity <> '') as made,
      case when coalesce(b.typname, t.typname) = 'numeric' and greatest(a.atttypmod, t.typtypmod) >= 4 then ((greatest(a.atttypmod, t.typtypmod) - 4) >> 16) & 65535 end as digits, e.typname as element, e.typtype = 'e' as "elementEnum", (select json_agg(enumlabel) from pg_enum where enumtypid = coalesce(b.oid, t.oid))::text as labels, not coalesce(l.collisdeterministic, true) as loose
    from pg_attribute a left join pg_collation l on l.oid = a.attcollation join pg_type t on t.oid = a.atttypid left join pg_type b on b.oid = t.typbasetype left join pg_type e on e.oid = t.typelem and t.typcategory = 'A'
    where a.attrelid = $1::oid and a.attnum > 0 and not a.attisdropped order by a.attnum`, [found['oid']!], signal)
  const columns = rows.map((row): TableColumn & { readonly n: string } => {
    const element = row['element'] === null ? undefined : kindOf(row['element']!, isTrue(row['elementEnum']!), undefined)
    const kind = element === undefined ? kindOf(row['base']!, isTrue(row['enum']!), row['digits'] === null ? undefined : Number(row['digits'])) : listed.includes(element) ? 'list' : 'opaque'
    return { n: row['n']!, name: row['name']!, type: row['type']!, kind, generated: isTrue(row['generated']!), made: isTrue(row['made']!), loose: isTrue(row['loose']!), ...(kind === 'list' ? { element: element! } : {}), ...(row['labels'] === null ? {} : { labels: JSON.parse(row['labels']!) as readonly string[] }) }
  })
  const unique = await sql.query(`select i.indkey::text as columns, i.indnkeyatts::text as n from pg_index i where i.indrelid = $1::oid and i.indisunique and i.indisvalid and i.indimmediate and i.indpred is null and i.indexprs is null
    and not exists (select from pg_attribute a where a.attrelid = i.indrelid and a.attnum = any(i.indkey::int2[]) and not a.attnotnull) order by not i.indisprimary, i.indnkeyatts, i.indexrelid`, [found['oid']!], signal)
  const keys = unique.map((row) => row['columns']!.split(' ').slice(0, Number(row['n'])).map((n) => columns.find((c) => c.n === n)!))
  // A decimal too wide to be a number still is a key, as text.
  const key = keys.map((of) => of.map((c): TableColumn => (c.type === 'numeric' ? { ...c, kind: 'decimal' } : c))).find((of) => of.every((c) => keyKinds.has(c.kind) && !c.loose))
  if (key === undefined) throw refuse('UNSUPPORTED', keys.length === 0 ? 'it has no primary key, and no unique index over columns that are not null. Add one.' : `its key has the type ${keys[0]!.map((c) => c.type).join(', ')}; keys of numbers, texts, uuids, booleans, bytes and times are expected.`)
  const ours = columns.find((c) => reserved.includes(c.name) && !(c.name === '_id' && key.length === 1 && key[0]!.name === '_id'))
  if (ours !== undefined) throw refuse('UNSUPPORTED', `it has a column ${quote(ours.name)}, which here is a field of Inlay's${ours.name === '_id' ? ': the key, which this column is not' : ''}. Give the column another name.`)
  return { at: found['at']!, columns, key, locks: isTrue(found['locks']!), parted: found['kind'] === 'p' }
}
function isTrue(text: string): boolean {
  return text === 't' || text === 'true'
}

/** A column as jsonb in the stored encoding, so that a filter means the same on every table. */
export function columnJson(place: Place, { kind, type }: TableColumn, at: string): string {
  switch (kind) {
    case 'int': case 'boolean': return `to_jsonb(${at})`
    case 'text': case 'uuid': case 'opaque': return `to_jsonb(${at}::text)`
    case 'bigint': return `(${at}::text || '.00000000000000000000')::jsonb`
    case 'float': return jsonOf(place, { kind: 'number' }, at)
    case 'decimal': return `case when ${at} = 'NaN' then '{"\\u0001nan": 1}' else to_jsonb(trim_scale(${at})) end`
    // A Date has milliseconds: what is finer is cut.
    case 'date': case 'timestamp': case 'timestamptz': return `case when isfinite(${at}) then jsonb_build_object(${tag('date')}, floor(extract(epoch from ${at}) * 1000)) else to_jsonb(${at}::text) end`
    case 'bytes': return `case when ${at} is not null then ${jsonOf(place, { kind: 'bytes' }, at)} end`
    case 'json': return `${at}::jsonb`
    case 'list': return type.startsWith('real') || type.startsWith('double') ? `case when ${at} && '{NaN,Infinity,-Infinity}' then to_jsonb(${at}::text) else to_jsonb(${at}) end` : `to_jsonb(${at})`
    case 'vector': return `${at}::text::jsonb`
  }
}
/** The same as a Value. */
export function columnValue({ kind }: TableColumn, json: string | null | undefined): Value {
  if (json === null || json === undefined) return null
  return kind === 'vector' ? Float32Array.from(JSON.parse(json) as readonly number[]) : decode(json)
}

/** A value as text that casts to the column's type. Throws a reason where the column does not hold it. */
export function columnText(column: TableColumn, value: Value): string | null {
  const { name: of, type, kind, generated } = column
  if (generated) throw new Refusal(of, `the database computes the column ${quote(of)}; leave it out`)
  if (kind === 'opaque') throw new Refusal(of, `the column ${quote(of)} has the type ${type}, which can be read here and not written`)
  if (value === null) return null
  const text = textOf(column, kind, value)
  if (text === undefined) throw new Refusal(of, `the column ${quote(of)} has the type ${type}; ${quote(value)} was given`)
  return text
}
/** Why a row was not written. */
export class Refusal extends Error {
  readonly column: string
  constructor(column: string, reason: string) {
    super(reason)
    this.column = column
  }
}

const int64 = 2n ** 63n
const ranges: Readonly<Record<string, number>> = { smallint: 2 ** 15, integer: 2 ** 31 }
function textOf(column: TableColumn, kind: Kind, value: Value): string | undefined {
  switch (kind) {
    case 'int': {
      const n = Number(value), most = ranges[column.type.replace('[]', '')] ?? 2 ** 31
      return (typeof value === 'number' || typeof value === 'bigint') && Number.isInteger(n) && n >= -most && n < most ? String(n) : undefined
    }
    case 'bigint': {
      const n = typeof value === 'bigint' ? value : Number.isSafeInteger(value) ? BigInt(value as number) : undefined
      return n === undefined || n < -int64 || n >= int64 ? undefined : String(n)
    }
    case 'float': return typeof value === 'number' ? String(value) : undefined
    case 'decimal': return typeof value === 'number' && (Number.isFinite(value) || Number.isNaN(value)) ? String(value) : undefined
    case 'text': return typeof value === 'string' ? value : undefined
    case 'uuid': return typeof value === 'string' && /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(value) ? value : undefined
    case 'boolean': return typeof value === 'boolean' ? String(value) : undefined
    case 'date': case 'timestamp': case 'timestamptz': {
      if (!(value instanceof Date) || !/^\d{4}-/.test(isoOf(value)) || isoOf(value).startsWith('0000')) return undefined
      const iso = isoOf(value)
      return kind === 'timestamptz' ? iso : kind === 'timestamp' ? iso.slice(0, -1) : iso.endsWith('T00:00:00.000Z') ? iso.slice(0, 10) : undefined
    }
    case 'bytes': return isBytes(value) ? `\\x${Buffer.from(value).toString('hex')}` : undefined
    case 'json': return isJson(value) ? JSON.stringify(value) : undefined
    case 'vector': return value instanceof Float32Array || (Array.isArray(value) && value.every((v) => typeof v === 'number')) ? `[${[...value as Iterable<number>].join(',')}]` : undefined
    case 'list': {
      if (!Array.isArray(value)) return undefined
      const parts = (value as readonly Value[]).map((v) => (v === null ? 'NULL' : textOf(column, column.element!, v)))
      return parts.includes(undefined) ? undefined : `{${parts.map((p, i) => ((value as readonly Value[])[i] === null ? p : `"${p!.replace(/["\\]/g, '\\$&')}"`)).join(',')}}`
    }
    case 'opaque': return undefined
  }
}
function isoOf(value: Date): string {
  return value.toISOString()
}
/** Nothing but what JSON has: other values would be read back as something else. */
function isJson(value: Value): boolean {
  if (typeof value === 'number') return Number.isFinite(value)
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return true
  if (Array.isArray(value)) return value.every(isJson)
  return typeof value === 'object' && Object.getPrototypeOf(value) === Object.prototype && Object.entries(value).every(([k, v]) => !k.startsWith('\u0001') && isJson(v as Value))
}

// Keys

const keyKinds: ReadonlySet<Kind> = new Set(['int', 'bigint', 'decimal', 'text', 'uuid', 'boolean', 'date', 'timestamp', 'timestamptz', 'bytes'])

/** The key of a row as text: that of its one column, or those of several, joined by commas, commas within escaped. */
export function keyText({ key }: Table, at: (column: TableColumn) => string): string {
  const parts = key.map((c) => partText(c, at(c)))
  return parts.length === 1 ? parts[0]! : parts.map((p) => `replace(replace(${p}, '\\', '\\\\'), ',', '\\,')`).join(` || ',' || `)
}
function partText({ kind }: TableColumn, at: string): string {
  switch (kind) {
    case 'decimal': return `trim_scale(${at})::text`
    case 'date': return timeText(at, 'YYYY-MM-DD')
    case 'timestamp': return timeText(at, 'YYYY-MM-DD"T"HH24:MI:SS.US')
    case 'timestamptz': return timeText(`(${at} at time zone 'UTC')`, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
    case 'bytes': return `encode(${at}, 'hex')`
    default: return `${at}::text`
  }
}
/** `to_char` alone writes a year before Christ as the same year after, and nothing for infinity. */
function timeText(at: string, form: string): string {
  return `case when isfinite(${at}) then to_char(${at}, '${form}') || case when extract(year from ${at}) < 0 then ' BC' else '' end else ${at}::text end`
}
const forms: Readonly<Partial<Record<Kind, RegExp>>> = {
  int: /^(0|-?[1-9]\d{0,9})$/, bigint: /^(0|-?[1-9]\d{0,18})$/, decimal: /^(0|-?[1-9]\d*|-?(0|[1-9]\d*)\.\d*[1-9]|NaN|-?Infinity)$/, uuid: /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/, boolean: /^(true|false)$/, bytes: /^([0-9a-f]{2})*$/,
  date: /^(\d{4,7}-\d\d-\d\d( BC)?|-?infinity)$/, timestamp: /^(\d{4,6}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}( BC)?|-?infinity)$/, timestamptz: /^(\d{4,6}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z( BC)?|-?infinity)$/,
}
/** The texts that cast to the columns of the key; undefined where no row can have this key. */
export function keyParts({ key }: Table, text: Key): readonly string[] | undefined {
  const parts = key.length === 1 ? [text] : [...`${text},`.matchAll(/((?:[^\\,]|\\[\\,])*),/g)].map(([, part]) => part!.replace(/\\([\\,])/g, '$1'))
  // Only the text that a row has names it.
  if (parts.length !== key.length || (parts.length > 1 && parts.map((part) => part.replace(/[\\,]/g, '\\$&')).join(',') !== text)) return undefined
  const casts = parts.map((part, i) => {
    const { kind, type, labels } = key[i]!
    if (labels?.includes(part) === false || (type === 'bpchar' && part.endsWith(' ')) || (type === 'name' && Buffer.byteLength(part) > nameBytes)) return undefined
    if (forms[kind] !== undefined && !forms[kind].test(part)) return undefined
    if (kind === 'int') return textOf(key[i]!, 'int', Number(part))
    if (kind === 'bigint') return textOf(key[i]!, 'bigint', BigInt(part))
    // A day that no month has would be an error of the cast.
    if ((kind === 'date' || kind === 'timestamp' || kind === 'timestamptz') && !isTime(part)) return undefined
    return type === 'uuid' || kind !== 'bytes' ? part : `\\x${part}`
  })
  return casts.includes(undefined) ? undefined : casts as readonly string[]
}

/** A cast would cut beyond them. */
const nameBytes = 63

function isTime(text: string): boolean {
  if (text.endsWith('infinity')) return true
  const [, digits, day, clock, era] = /^(\d+)-(\d\d-\d\d)(?:T(.{8}).*?)?( BC)?$/.exec(text)!, year = Number(digits)
  if (year === 0 || digits !== String(year).padStart(4, '0') || year > (era !== undefined ? 4713 : clock === undefined ? 5_874_897 : 294_276)) return false
  // Days are the same every 400 years, and a Date has no year so late.
  const same = `${2000 + (era === undefined ? year : 400 * 12 + 1 - year) % 400}-${day}T${clock ?? '00:00:00'}`, time = new Date(`${same}Z`)
  return !Number.isNaN(time.getTime()) && isoOf(time).startsWith(same)
}

// Filters

const signs = { eq: '=', lt: '<', lte: '<=', gt: '>', gte: '>=' } as const

/** A condition on a column itself, which an index may serve, where it is exactly what the filter means; undefined where only the JSON can tell. Never null. */
export function columnFilter(column: TableColumn, filter: Filter, at: string, p: Params): string | undefined {
  const never = (sql: string): string => `coalesce(${sql}, false)`
  switch (filter.kind) {
    case 'null': return filter.path.at.length > 1 || column.kind === 'json' ? undefined : `${at} is null`
    case 'exists': return filter.path.at.length > 1 ? undefined : String(filter.is)
    case 'in': {
      if (filter.path.at.length > 1 || filter.values.length === 0) return undefined
      if (filter.values.some((value) => condition(column, 'eq', value, at, new Params()) === undefined)) return undefined
      return never(`(${filter.values.map((value) => condition(column, 'eq', value, at, p)).join(' or ')})`)
    }
    case 'eq': case 'lt': case 'lte': case 'gt': case 'gte': {
      const sql = filter.path.at.length > 1 ? undefined : condition(column, filter.kind, filter.value, at, p)
      return sql === undefined ? undefined : never(sql)
    }
    default: return undefined
  }
}
function condition({ kind, type, loose }: TableColumn, op: keyof typeof signs, value: NonNullable<Scalar>, at: string, p: Params): string | undefined {
  const sign = signs[op]
  switch (kind) {
    case 'int': case 'bigint': return Number.isSafeInteger(value) ? `${at} ${sign} ${p.add(String(value))}::int8` : typeof value === 'number' || typeof value === 'bigint' ? undefined : 'false'
    // What is read of a real is its shortest text.
    case 'float': return typeof value === 'number' && Number.isFinite(value) ? `(${type === 'real' ? `${at}::text::float8` : at} ${sign} ${p.add(String(value))}::float8${op === 'gt' || op === 'gte' ? ` and ${at} <> 'NaN'` : ''})` : typeof value === 'number' || typeof value === 'bigint' ? undefined : 'false'
    case 'boolean': return typeof value === 'boolean' ? `${at} ${sign} ${p.add(String(value))}::boolean` : 'false'
    case 'text': return typeof value !== 'string' ? 'false' : op === 'eq' && !loose ? `${at}::text = ${p.add(value)}` : `${at}::text collate "C" ${sign} ${p.add(value)}`
    case 'uuid': return typeof value !== 'string' ? 'false' : op !== 'eq' ? undefined : forms.uuid!.test(value) ? `${at} = ${p.add(value)}::uuid` : 'false'
    case 'timestamptz': {
      // The column may be finer than the milliseconds that are read.
      if (!(value instanceof Date)) return undefined
      const [from, to] = [value, new Date(value.getTime() + 1)].map((date) => textOf({ name: '', type: '', kind, generated: false, made: false, loose: false }, kind, date))
      if (from === undefined || to === undefined) return undefined
      const [a, b] = [() => `${p.add(from)}::timestamptz`, () => `${p.add(to)}::timestamptz`]
      const bounds = { eq: () => `(${at} >= ${a()} and ${at} < ${b()})`, lt: () => `${at} < ${a()}`, lte: () => `${at} < ${b()}`, gt: () => `${at} >= ${b()}`, gte: () => `${at} >= ${a()}` }
      return `(isfinite(${at}) and ${bounds[op]()})`
    }
    default: return undefined
  }
}

/** The names of columns, quoted. */
export function columnNames(columns: readonly TableColumn[]): string {
  return columns.map((c) => name(c.name)).join(', ')
}
