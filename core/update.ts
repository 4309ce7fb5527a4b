/** The meaning of updates (query-rules 8): `$set`, `$unset` and `$inc`. Core computes the new document; a database only stores it. */
import type { Doc, Value } from './contract.ts'
import { InlayError, quote } from './errors.ts'
import { isObject, parsePath } from './match.ts'
import { has, isDoc, setOwn } from './value.ts'

/** What an update does to one path. No path of a change begins with another of it, so their order does not matter. */
export interface Edit { readonly operator: '$set' | '$unset' | '$inc'; readonly path: readonly string[]; readonly value: Value }
export type Change = readonly Edit[]

const operators: readonly string[] = ['$set', '$unset', '$inc']
/** Not the user's to write. */
const kept = ['_id', '_outputs']
const maxPadding = 1000

/** Parses a user's update. Its operands are taken as they are: copy them before. */
export function parseUpdate(change: unknown): Change {
  const expected = 'an object of $set, $unset and $inc is expected, such as { $set: { field: value } }'
  if (!isDoc(change) || Object.keys(change).length === 0) throw new InlayError('INVALID_ARGUMENT', `An update is given as ${quote(change)}; ${expected}.`)
  const edits: Edit[] = []
  for (const [operator, fields] of Object.entries<unknown>(change)) {
    if (!operator.startsWith('$')) throw new InlayError('INVALID_ARGUMENT', `The update has the field ${quote(operator)} beside of operators, which some databases take for a whole new document; ${expected}. To replace a document, call replace.`)
    if (!operators.includes(operator)) throw new InlayError('UNSUPPORTED', `The operator ${quote(operator)} is not among the updates that mean the same on every database. Known here: ${operators.join(', ')}.`)
    if (!isDoc(fields)) throw new InlayError('INVALID_ARGUMENT', `The update's ${operator} is given ${quote(fields)}; an object of paths and values is expected.`)
    for (const [name, value] of Object.entries(fields)) {
      const fail = (why: string): never => { throw new InlayError('INVALID_ARGUMENT', `The update's ${operator} of ${quote(name)} ${why}.`, { details: { path: name } }) }
      const path = parsePath(name, 'update')
      if (path.some((p) => /^0\d/.test(p))) fail('has a part with leading zeros, which some databases read as a position and others as a name; write the number without them')
      if (kept.includes(path[0]!)) fail(path[0] === '_id' ? 'would change which row it is; insert a new row instead' : 'is not possible: outputs are computed, not written')
      if (operator === '$inc' && !isNumber(value)) fail(`is given ${quote(value)}; a number or bigint is expected`)
      if (operator === '$set' && value === undefined) fail('is given undefined; use null, or $unset to remove the field')
      const other = edits.find((e) => path.every((p, i) => i >= e.path.length || p === e.path[i]))
      if (other !== undefined) fail(`overlaps with ${other.operator} of ${quote(other.path.join('.'))}, and their order is not defined; change each part once`)
      edits.push({ operator: operator as Edit['operator'], path, value })
    }
  }
  return edits
}

/** The document after the change; the same object where nothing changes. Parts that changed are new, the others are shared. */
export function applyUpdate(doc: Doc, change: Change): Doc {
  return change.reduce((result, edit) => apply(result, edit, 0) as Doc, doc)
}

/** `target`, what the first `depth` parts of the path lead to, after the edit. */
function apply(target: Value, edit: Edit, depth: number): Value {
  const { operator, path } = edit, name = path[depth]!
  const after = (there: Value | undefined): Value => {
    if (depth + 1 < path.length) return apply(there === undefined ? {} : there, edit, depth + 1)
    return operator === '$inc' && there !== undefined ? add(there, edit) : edit.value
  }
  if (Array.isArray(target)) {
    const position = /^(0|[1-9]\d*)$/.test(name) ? Number(name) : -1, list = target as readonly Value[], there = list[position]
    if (operator === '$unset') return there === undefined ? target : replaced(list, position, depth + 1 < path.length ? apply(there, edit, depth + 1) : null)
    if (position < 0) return fault(edit, 28, `${quote(name)} is no position in the array there; positions are whole numbers from 0, and an update does not spread over elements`)
    if (position - list.length > maxPadding) return fault(edit, 34, `the array there has ${list.length} elements, and more than ${maxPadding} would have to be filled in; a position near its end is expected`)
    return replaced(list, position, after(there))
  }
  if (!isObject(target)) return operator === '$unset' ? target : fault(edit, 28, `${quote(path.slice(0, depth).join('.'))} is ${quote(target)}, which has no fields; an object or array is expected there`)
  const there = has(target, name) ? target[name] : undefined
  if (operator !== '$unset') return withField(target, name, after(there))
  if (there === undefined) return target
  if (depth + 1 < path.length) return withField(target, name, apply(there, edit, depth + 1))
  const { [name]: _, ...rest } = target
  return rest
}

function withField(doc: Doc, name: string, value: Value): Doc {
  if (has(doc, name) && Object.is(doc[name], value)) return doc
  const copy = { ...doc }
  setOwn(copy, name, value)
  return copy
}

/** A longer position is reached by filling in null. */
function replaced(list: readonly Value[], position: number, value: Value): readonly Value[] {
  if (Object.is(list[position], value)) return list
  const copy = [...list]
  while (copy.length < position) copy.push(null)
  copy[position] = value
  return copy
}

const isNumber = (value: unknown): value is number | bigint => typeof value === 'number' || typeof value === 'bigint'

/** A bigint stays one as long as the sum is integral. */
function add(a: Value, edit: Edit): number | bigint {
  const b = edit.value as number | bigint
  if (!isNumber(a)) return fault(edit, 14, `it is ${quote(a)} in this row, which is no number`)
  if (typeof a === 'number' && typeof b === 'number') return a + b
  if (!isIntegral(a) || !isIntegral(b)) return Number(a) + Number(b)
  const sum = BigInt(a) + BigInt(b)
  return BigInt.asIntN(64, sum) === sum ? sum : fault(edit, 2, `the sum ${quote(sum)} is outside of 64 bits`)
}

const isIntegral = (value: number | bigint): boolean => typeof value === 'bigint' || Number.isSafeInteger(value)

/** A fault of one row, with the code that mongod gives it. */
function fault({ operator, path }: Edit, code: number, why: string): never {
  const name = path.join('.')
  throw new InlayError('INVALID_ARGUMENT', `${operator} of ${quote(name)} is not possible: ${why}.`, { details: { path: name, code } })
}
