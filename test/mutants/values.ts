/** Values and collections that are not kept as they are. */
import type { Value, Write } from '../../core/contract.ts'
import { compareStrings, setOwn } from '../../core/value.ts'
import { mutant, oneByOne, writeOne, writing, type Mutant } from './mutant.ts'

const isPlain = (v: Value): v is Record<string, Value> => typeof v === 'object' && v !== null && Object.getPrototypeOf(v) === Object.prototype
const withoutField = (v: Value, lost: (name: string, value: Value) => boolean): Value => {
  if (!isPlain(v)) return v
  const copy: Record<string, Value> = {}
  for (const [name, value] of Object.entries(v)) if (!lost(name, value)) setOwn(copy, name, value)
  return copy
}

export const values: readonly Mutant[] = [
  mutant('dates become strings', 'values.hold.milliseconds', writing((v) => (v instanceof Date ? v.toISOString() : v))),
  mutant('dates lose their milliseconds', 'values.hold.milliseconds', writing((v) => (v instanceof Date ? new Date(Math.floor(+v / 1000) * 1000) : v))),
  mutant('dates of early years become later ones', 'values.hold.year-0', writing((v) => (v instanceof Date && +v < -6e13 ? new Date(+v + 1) : v))),
  mutant('-0 becomes 0 though that is not declared', 'values.hold.negative-zero', writing((v) => (v === 0 ? 0 : v))),
  mutant('NaN becomes null', 'values.hold.nan', writing((v) => (Number.isNaN(v) ? null : v))),
  mutant('infinity becomes the greatest number', 'values.hold.infinity', writing((v) => (v === Infinity ? Number.MAX_VALUE : v))),
  mutant('bigints become numbers', 'values.hold.five-bigint', writing((v) => (typeof v === 'bigint' ? Number(v) : v))),
  mutant('bigints are cut to 64 bits', 'values.hold.int64-max-plus-1', writing((v) => (typeof v === 'bigint' ? BigInt.asIntN(64, v) : v))),
  mutant('numbers keep 15 digits', 'values.hold.17-digits', writing((v) => (typeof v === 'number' ? Number(v.toPrecision(15)) : v))),
  mutant('typed arrays become lists', 'values.hold.int16', writing((v) => (v instanceof Int16Array ? [...v] : v))),
  mutant('bytes are those of the whole buffer', 'values.hold.bytes-within-a-buffer', writing((v) => (v instanceof Uint8Array ? new Uint8Array(v.buffer.slice(0)) : v))),
  mutant('NaNs of typed arrays lose their payload', 'values.hold.nan-payload', writing((v) => (v instanceof Float32Array ? Float32Array.from(v, (x) => (Number.isNaN(x) ? Number.NaN : x)) : v))),
  mutant('strings are normalised', 'values.hold.combining', writing((v) => (typeof v === 'string' ? v.normalize('NFC') : v))),
  mutant('strings end at NUL', 'values.hold.nul-string', writing((v) => (typeof v === 'string' ? v.split('\0')[0]! : v))),
  mutant('strings that look like dates become dates', 'values.hold.date-string', writing((v) => (typeof v === 'string' && /^\d{4}-\d\d-\d\dT/.test(v) ? new Date('2024-03-01') : v))),
  mutant('the field __proto__ is lost', 'values.hold.proto-key', writing((v) => withoutField(v, (name) => name === '__proto__'))),
  mutant('fields with empty names are lost', 'values.hold.empty-key', writing((v) => withoutField(v, (name) => name === ''))),
  mutant('null fields are left out', 'values.hold.nulls', writing((v) => withoutField(v, (_, value) => value === null))),
  mutant('empty lists are left out', 'values.hold.nested-empty', writing((v) => withoutField(v, (_, value) => Array.isArray(value) && value.length === 0))),
  mutant('dots in names of fields become nested fields', 'values.hold.dotted-key', writing((v) => (isPlain(v) && 'a.b' in v ? { ...v, a: { b: v['a.b']! } } : v))),
  mutant('fields are sorted though that is not declared', 'values.order.kept', writing((v) => (isPlain(v) ? Object.fromEntries(Object.entries(v).sort(([a], [b]) => compareStrings(a, b))) : v))),
  mutant('blanks at the end of keys are cut', 'values.keys.apart', oneByOne((next, name, op) => writeOne(next, name, op.key === undefined ? op : { ...op, key: op.key.trimEnd() }))),
  mutant('keys are normalised', 'values.keys.apart', oneByOne((next, name, op) => writeOne(next, name, op.key === undefined ? op : { ...op, key: op.key.normalize('NFC') }))),
  mutant('keys are folded', 'values.keys.hard', oneByOne((next, name, op) => writeOne(next, name, op.key === undefined ? op : { ...op, key: op.key.toLowerCase() }))),

  mutant('creating a collection again empties it', 'lifecycle.create.idempotent', { data: (next) => ({ async create(collection, ctx) { await next.drop(collection.name, ctx); await next.create(collection, ctx) } }) }),
  mutant('another shape is accepted', 'lifecycle.create.other-shape', { data: (next) => ({ create: (collection, ctx) => next.create({ ...collection, attached: false }, ctx) }) }),
  mutant('names of collections are folded', 'lifecycle.name.case', { data: (next) => ({ create: (c, ctx) => next.create({ ...c, name: c.name.toLowerCase() }, ctx), write: (name, ops, ctx) => next.write(name.toLowerCase(), ops, ctx), find: (q, ctx) => next.find({ ...q, from: q.from.toLowerCase() }, ctx) }) }),
  mutant('long names are cut without a word', 'lifecycle.name.long', { data: (next) => { const cut = (name: string): string => name.slice(0, 63); return { create: (c, ctx) => next.create({ ...c, name: cut(c.name) }, ctx), write: (name, ops, ctx) => next.write(cut(name), ops, ctx), find: (q, ctx) => next.find({ ...q, from: cut(q.from) }, ctx) } } }),
  mutant('list forgets collections with a dot', 'lifecycle.name.dot', { data: (next) => ({ list: async (ctx) => (await next.list(ctx)).filter((c) => !c.name.includes('.')) }) }),
  mutant('drop keeps the rows', 'lifecycle.drop.rows', { data: () => ({ async drop() {} }) }),
  mutant('drop of a missing collection throws', 'lifecycle.drop.nothing-there', { data: (next) => ({ async drop(name, ctx) { if (!(await next.list(ctx)).some((c) => c.name === name)) throw new Error('no such table'); await next.drop(name, ctx) } }) }, { throws: /no such table/ }),
  mutant('drop leaves the slots', 'lifecycle.drop.slots', {
    data: (next) => {
      const left = new Set<string>()
      return {
        async drop(name, ctx) { if ((await next.count({ from: name }, ctx)) > 0) left.add(name); else await next.drop(name, ctx) },
        write: (name, ops, ctx) => next.write(name, ops.map((op): Write => (op.kind === 'insert' && left.has(name) ? { kind: 'put', key: op.key!, doc: op.doc } : op)), ctx),
      }
    },
  }),
  mutant('namespaces share their collections', 'lifecycle.namespace.apart', { connect: (uri) => [uri, 'shared'] }),
  mutant('what was written is lost on closing, though it is declared durable', 'lifecycle.durable.rows', { connect: () => ['memory:', 'own'] }),
  mutant('a second connection has its own rows', 'lifecycle.second.sees-writes', { connect: () => ['memory:', 'own'] }, { throws: /There is no collection/ }),
]
