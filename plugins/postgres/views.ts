/** What people see with their own tools: a view of each collection, its rows and the outputs of its listeners as `_outputs.<key>.<model>`; of a table of others the keys and the outputs, so that the view stands in nobody's way who changes the table. */
import { sha256 } from '../../core/encoding.ts'
import { table, type Place } from './schema.ts'
import { literal, name, type Query, type SqlRow } from './sql.ts'

const nameBytes = 63

/** Makes the view of a collection anew, from the slots that are there. Something else of that name stays as it is, and so does a view on which others have built. */
export async function makeView(query: Query, place: Place, collection: string): Promise<void> {
  const of = `${collection}_view`, meta = table(place, '_meta'), view = table(place, of)
  if (Buffer.byteLength(of) > nameBytes) return
  const [there] = await query('select c.relkind::text as kind, obj_description(c.oid) as comment from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and c.relname = $2', [place.namespace, of])
  if (there !== undefined && (there['kind'] !== 'v' || there['comment'] !== comment)) return
  const [known] = await query(`select coalesce(spec ->> 'attached', 'false') as attached from ${meta} where kind = 'collection' and name = $1`, [collection])
  const stand = (await query('select attname as name from pg_attribute where attrelid = to_regclass($1) and attnum > 0 order by attnum', [view])).map((row) => row['name'])
  const found = known === undefined ? [] : await query(`select name, label, many from (select distinct on (spec ->> 'label') name, spec ->> 'label' as label, spec ->> 'many' as many, (spec ->> 'opened')::numeric as opened from ${meta} where kind = 'slot' and spec ->> 'collection' = $1 and spec ->> 'label' is not null order by spec ->> 'label', (spec ->> 'opened')::numeric, name) slots order by opened, name`, [collection])
  // New columns come last, which leaves the others as they are.
  const columnOf = (slot: SqlRow): string => shortened(`_outputs.${slot['label']}`), rank = (slot: SqlRow): number => (stand.includes(columnOf(slot)) ? stand.indexOf(columnOf(slot)) : stand.length)
  const slots = [...found].sort((a, b) => rank(a) - rank(b)), own = known?.['attached'] === 'false', as = (slot: SqlRow): string => name(columnOf(slot))
  const outputs = (slot: SqlRow): string => (slot['many'] === 'true' ? `(select key, json_agg(value order by off) filter (where off >= 0) as value from ${table(place, slot['name']!)} group by key)` : `(select key, value from ${table(place, slot['name']!)} where off = 0)`)
  const [first, ...others] = slots
  const select = first === undefined ? undefined : own
    ? `select d._id, d.doc, ${slots.map((slot, i) => (slot['many'] === 'true' ? `(select json_agg(v.value order by v.off) from ${table(place, slot['name']!)} v where v.key = d._id and v.off >= 0)` : `o${i}.value`) + ` as ${as(slot)}`).join(', ')} from ${table(place, collection)} d ${slots.map((slot, i) => (slot['many'] === 'true' ? '' : `left join ${table(place, slot['name']!)} o${i} on o${i}.key = d._id and o${i}.off = 0`)).join(' ')}`
    : `select key as _id, ${slots.map((slot, i) => `o${i}.value as ${as(slot)}`).join(', ')} from ${outputs(first)} o0 ${others.map((slot, i) => `full join ${outputs(slot)} o${i + 1} using (key)`).join(' ')}`
  // What others have built on it stays where columns are only added.
  if (select !== undefined && await worked(query, [`create or replace view ${view} as ${select}`, `comment on view ${view} is ${literal(comment)}`])) return
  await worked(query, [`drop view if exists ${view}`, ...(select === undefined ? [] : [`create view ${view} as ${select}`, `comment on view ${view} is ${literal(comment)}`])])
}
const comment = 'Rows and outputs, made by Inlay.'

/** Runs the statements, all or none: a view is a convenience, and fails nothing. */
async function worked(query: Query, statements: readonly string[]): Promise<boolean> {
  await query('savepoint view')
  try {
    for (const statement of statements) await query(statement)
    await query('release savepoint view')
    return true
  } catch {
    await query('rollback to savepoint view')
    return false
  }
}

/** Names beyond 63 bytes would be cut silently, and could meet. */
function shortened(text: string): string {
  return Buffer.byteLength(text) <= nameBytes ? text : `${text.slice(0, nameBytes - 9)}_${sha256(text).slice(0, 8)}`
}
