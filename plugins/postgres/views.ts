/** What people see with their own tools: a view of each collection, its columns and the outputs of its listeners as `_outputs.<key>.<model>`. */
import { sha256 } from '../../core/encoding.ts'
import { table, type Place } from './schema.ts'
import { literal, name, type Query } from './sql.ts'
import { keyText, type Table } from './table.ts'

const nameBytes = 63

/** Makes the view of a collection anew, from its columns and the slots that are there. Something else of that name stays as it is. */
export async function makeView(query: Query, place: Place, collection: string, attached: Table | undefined): Promise<void> {
  const of = `${collection}_view`, meta = table(place, '_meta')
  if (Buffer.byteLength(of) > nameBytes) return
  const [there] = await query('select c.relkind::text as kind, obj_description(c.oid) as comment from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and c.relname = $2', [place.namespace, of])
  if (there !== undefined && (there['kind'] !== 'v' || there['comment'] !== comment)) return
  const slots = await query(`select distinct on (spec ->> 'label') name, spec ->> 'label' as label, spec ->> 'many' as many from ${meta} where kind = 'slot' and spec ->> 'collection' = $1 and spec ->> 'label' is not null order by spec ->> 'label', (spec ->> 'opened')::numeric, name`, [collection])
  await query(`drop view if exists ${table(place, of)} cascade`)
  if (slots.length === 0) return
  const key = attached === undefined ? 'd._id' : keyText(attached, (c) => `d.${name(c.name)}`)
  const columns = slots.map((slot, i) => (slot['many'] === 'true' ? `(select json_agg(v.value order by v.off) from ${table(place, slot['name']!)} v where v.key = ${key} and v.off >= 0)` : `o${i}.value`) + ` as ${name(shortened(`_outputs.${slot['label']}`))}`)
  const joins = slots.map((slot, i) => (slot['many'] === 'true' ? '' : `left join ${table(place, slot['name']!)} o${i} on o${i}.key = ${key} and o${i}.off = 0`))
  await query(`create view ${table(place, of)} as select ${attached === undefined ? 'd._id, d.doc' : 'd.*'}, ${columns.join(', ')} from ${attached === undefined ? table(place, collection) : attached.at} d ${joins.join(' ')}`)
  await query(`comment on view ${table(place, of)} is ${literal(comment)}`)
}
const comment = 'Rows and outputs, made by Inlay.'

/** Names beyond 63 bytes would be cut silently, and could meet. */
function shortened(text: string): string {
  return Buffer.byteLength(text) <= nameBytes ? text : `${text.slice(0, nameBytes - 9)}_${sha256(text).slice(0, 8)}`
}
