/** What people see with their own tools: a view of each collection, its columns and the outputs of its listeners as the struct `_outputs`, so that `_outputs.img.lenet5` is a column. */
import { ownName, literal, name, type Run } from './sql.ts'
import { knownSlots, table, type KnownSlot, type Place } from './schema.ts'
import { keyText, type Table } from './table.ts'

const comment = 'Rows and outputs, made by Inlay.'

/** What stands in our schema under a name: a view that was made here, something else, or nothing. */
export async function standing(place: Place, run: Run, of: string): Promise<'view' | 'other' | undefined> {
  const own = (schema: string, found: string): string => `'"' || replace(${schema}, '"', '""') || '"' = $1 and '"' || replace(${found}, '"', '""') || '"' = $2`
  const [row] = await run(`select comment from duckdb_views() where database_name = current_database() and ${own('schema_name', 'view_name')} union all select '' from duckdb_tables() where database_name = current_database() and ${own('schema_name', 'table_name')}`, [ownName(place.namespace), ownName(of)])
  return row === undefined ? undefined : row['comment'] === comment ? 'view' : 'other'
}

/** Makes the view of a collection anew, from the slots that are there. Something else of that name stays as it is. */
export async function makeView(place: Place, run: Run, collection: string, attached: Table | undefined): Promise<void> {
  const of = `${collection}_view`, view = table(place, of), there = await standing(place, run, of), slots = await knownSlots(place, run)
  if (there === 'other' || slots.some((slot) => slot.id === collection)) return
  // Fields of a struct that differ in case only are one to DuckDB. Of two slots the older is shown.
  const keys = new Map<string, { readonly key: string; readonly models: Map<string, { readonly model: string; readonly slot: KnownSlot }> }>()
  for (const slot of slots) {
    if (slot.collection !== collection || slot.label === undefined) continue
    const cut = slot.label.lastIndexOf('.'), key = slot.label.slice(0, Math.max(0, cut)), model = slot.label.slice(cut + 1), group = keys.get(key.toLowerCase()) ?? { key, models: new Map() }
    keys.set(key.toLowerCase(), group)
    if (!group.models.has(model.toLowerCase())) group.models.set(model.toLowerCase(), { model, slot })
  }
  if (there === 'view') await run(`drop view ${view}`)
  if (keys.size === 0) return
  const row = attached === undefined ? 'd._id' : keyText(attached, (c) => `d.${name(c.name)}`), joins: string[] = []
  const groups = [...keys.values()].map(({ key, models }) => {
    const values = [...models.values()].map(({ model, slot }) => {
      const t = table(place, slot.id)
      if (slot.many) return `${name(model)} := (select list(v.value order by v.off) from ${t} v where v.key = ${row} and v.off >= 0)`
      const alias = `o${joins.push(`left join ${t} o${joins.length} on o${joins.length}.key = ${row} and o${joins.length}.off = 0`) - 1}`
      return `${name(model)} := ${alias}.value`
    })
    return key === '' ? values.join(', ') : `${name(key)} := struct_pack(${values.join(', ')})`
  })
  await run(`create view ${view} as select ${attached === undefined ? 'd._id, d.doc' : 'd.*'}, struct_pack(${groups.join(', ')}) as _outputs from ${attached === undefined ? table(place, collection) : attached.at} d ${joins.join(' ')}`)
  await run(`comment on view ${view} is ${literal(comment)}`)
}
