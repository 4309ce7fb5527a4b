/** Filters: what matches is decided by Inlay's own `evaluate`; SQL only passes over documents that cannot match, without reading their JSON. */
import { encode, type Filter, type Key, type Path, type Scalar } from 'inlay/plugin'

/** A condition that holds for every row that matches, and for some others: the text of what is looked for stands in the text of the document. */
export function hint(filter: Filter, parameters: string[]): string | undefined {
  switch (filter.kind) {
    case 'and': case 'or': {
      const before = parameters.length, of = filter.of.map((part) => hint(part, parameters)), known = of.filter((sql) => sql !== undefined)
      if (known.length > 0 && (filter.kind === 'and' || known.length === of.length)) return `(${known.join(` ${filter.kind} `)})`
      parameters.length = before
      return undefined
    }
    case 'eq': return standsIn(filter.path, [needle(filter.value)], parameters)
    case 'in': return standsIn(filter.path, filter.values.map(needle), parameters)
    case 'prefix': return standsIn(filter.path, [encode(filter.value).slice(0, -1)], parameters)
    default: return undefined
  }
}
function standsIn(path: Path, needles: readonly (string | undefined)[], parameters: string[]): string | undefined {
  if (needles.length === 0 || needles.length > 20 || needles.includes(undefined) || (path.slot === undefined && path.at[0] === '_id')) return undefined
  parameters.push(...needles as readonly string[])
  return `(${needles.map(() => `instr(${path.slot === undefined ? 'r.doc' : `m_${path.slot}.value`}, ?) > 0`).join(' or ')})`
}
/** A number and an equal bigint begin alike in the encoding, but for large ones. */
function needle(value: Scalar): string | undefined {
  if (typeof value === 'bigint' || typeof value === 'number' && !Number.isNaN(value)) return value > -(2 ** 53) && value < 2 ** 53 ? String(value) : undefined
  return encode(value)
}

/** The keys that a filter names, if it names some for all rows. */
export function keysOf(filter: Filter | undefined): readonly Key[] | undefined {
  if (filter?.kind === 'keys') return filter.keys
  return filter?.kind === 'and' ? filter.of.map(keysOf).find((keys) => keys !== undefined) : undefined
}
/** The slots whose outputs a filter reads. */
export function slotsIn(filter: Filter | undefined): readonly string[] {
  if (filter === undefined || filter.kind === 'keys') return []
  if (filter.kind === 'not') return slotsIn(filter.of)
  return 'of' in filter ? filter.of.flatMap(slotsIn) : filter.path.slot === undefined ? [] : [filter.path.slot]
}
