/** Reads that find too much, too little, or in another order. */
import type { Filter, Query } from '../../core/contract.ts'
import { all, live } from '../conformance/subject.ts'
import { finding, mutant, rewriting, tick, type Mutant, type Replaced } from './mutant.ts'

const nothing: Filter = { kind: 'keys', keys: [] }
const asking = (change: (query: Query) => Query): Replaced => ({ data: (next) => ({ find: (q, ctx) => next.find(change(q), ctx) }) })
const without = (query: Query, ...parts: readonly (keyof Query)[]): Query => Object.fromEntries(Object.entries(query).filter(([name]) => !(parts as readonly string[]).includes(name))) as unknown as Query

export const queries: readonly Mutant[] = [
  mutant('the last row of a page comes again on the next', 'queries.find.each-once', { data: (next) => ({ async *find(query, ctx) { let last; for await (const rows of next.find(query, ctx)) { yield last === undefined ? rows : [last, ...rows]; last = rows.at(-1) } } }) }),
  mutant('the first row of a later page is lost', 'queries.find.each-once', finding((rows, _, page) => (page === 0 ? rows : rows.slice(1)))),
  mutant('rows beyond 1,000 are lost', 'queries.find.each-once', finding((rows, _, page) => (page < 2 ? rows : []))),
  mutant('keys are ordered by UTF-16 units', 'queries.find.key-order', { data: (next) => ({ async *find(query, ctx) { yield (await all(next.find(query, ctx))).sort((a, b) => (a.key < b.key ? -1 : 1)) } }) }),
  mutant('keys are ordered as people do', 'queries.find.key-order', { data: (next) => ({ async *find(query, ctx) { yield (await all(next.find(query, ctx))).sort((a, b) => a.key.localeCompare(b.key, 'en')) } }) }),
  mutant('skip is ignored', 'queries.find.limit', asking((q) => without(q, 'skip'))),
  mutant('limit counts what was skipped', 'queries.find.limit', asking((q) => (q.skip === undefined || q.limit === undefined ? q : { ...q, limit: Math.max(0, q.limit - q.skip) }))),
  mutant('after includes its key', 'queries.find.after', asking((q) => (q.after === undefined ? q : { ...q, after: q.after.slice(0, -1) }))),
  mutant('after ignores the filter', 'queries.find.after', asking((q) => (q.after === undefined ? q : without(q, 'where')))),
  mutant('fields are ignored', 'queries.find.fields', asking((q) => without(q, 'fields'))),
  mutant('no fields means all', 'queries.find.fields', asking((q) => (q.fields?.length === 0 ? without(q, 'fields') : q))),
  mutant('outputs of failed rows are null', 'queries.find.outputs', finding((rows, q) => rows.map((row) => ({ ...row, outputs: Object.fromEntries((q.slots ?? []).map((id) => [id, row.outputs?.[id] ?? [null]])) })))),
  mutant('count ignores the filter', 'queries.count.agrees', { data: (next) => ({ count: (q, ctx) => next.count({ from: q.from }, ctx) }) }),
  mutant('many keys are cut', 'queries.keys.many', rewriting((f) => (f.kind === 'keys' ? { ...f, keys: f.keys.slice(0, 999) } : f))),
  mutant('an empty list of keys finds all', 'queries.keys.exact', asking((q) => (q.where?.kind === 'keys' && q.where.keys.length === 0 ? without(q, 'where') : q))),
  mutant('null finds nothing', 'queries.null.missing', rewriting((f) => (f.kind === 'null' ? nothing : f))),
  mutant('null finds missing only', 'queries.null.missing', rewriting((f) => (f.kind === 'null' ? { kind: 'exists', path: f.path, is: false } : f))),
  mutant('exists takes null for missing', 'queries.exists.both', rewriting((f) => (f.kind === 'exists' && f.is ? { kind: 'and', of: [f, { kind: 'not', of: { kind: 'null', path: f.path } }] } : f))),
  mutant('not needs the field to be there', 'queries.not.whole', rewriting((f) => (f.kind === 'not' && 'path' in f.of ? { kind: 'and', of: [f, { kind: 'exists', path: f.of.path, is: true }] } : f))),
  mutant('not is pushed through to the elements', 'queries.not.orders', rewriting((f) => (f.kind === 'not' && f.of.kind === 'gt' ? { ...f.of, kind: 'lte' } : f))),
  mutant('or takes the first only', 'queries.and-or.elements', rewriting((f) => (f.kind === 'or' ? f.of[0]! : f))),
  mutant('in takes its first value only', 'queries.in.groups', rewriting((f) => (f.kind === 'in' ? { kind: 'eq', path: f.path, value: f.values[0]! } : f))),
  mutant('prefix ignores case', 'queries.prefix.literal', rewriting((f) => (f.kind === 'prefix' ? { kind: 'or', of: [f, { ...f, value: f.value.toUpperCase() }, { ...f, value: f.value.toLowerCase() }] } : f))),
  mutant('prefix takes % for a pattern', 'queries.prefix.literal', rewriting((f) => (f.kind === 'prefix' && f.value.length > 1 && f.value.endsWith('%') ? { ...f, value: f.value.slice(0, -1) } : f))),
  mutant('bigints are compared as doubles', 'queries.eq.numbers', rewriting((f) => ('value' in f && typeof f.value === 'bigint' ? { ...f, value: Number(f.value) } as Filter : f))),
  mutant('NaN equals nothing', 'queries.eq.numbers', rewriting((f) => (f.kind === 'eq' && Number.isNaN(f.value) ? nothing : f))),
  mutant('numbers are above NaN', 'queries.gt.numbers', rewriting((f) => (f.kind === 'gt' && Number.isNaN(f.value) ? { ...f, value: -Infinity } : f))),
  mutant('lt compares with other kinds too', 'queries.lt.strings', rewriting((f) => (f.kind === 'lt' && typeof f.value === 'string' ? { kind: 'or', of: [f, { ...f, value: Infinity }] } : f))),
  mutant('lte takes less only', 'queries.lte.dates', rewriting((f) => (f.kind === 'lte' ? { ...f, kind: 'lt' } : f))),
  mutant('true equals 1', 'queries.eq.booleans', rewriting((f) => (f.kind === 'eq' && f.value === true ? { kind: 'in', path: f.path, values: [true, 1] } : f))),
  mutant('strings are compared by their normal form', 'queries.eq.strings', rewriting((f) => (f.kind === 'eq' && typeof f.value === 'string' ? { kind: 'in', path: f.path, values: [f.value, f.value.normalize('NFD')] } : f))),
  mutant('bytes are compared by their length', 'queries.eq.bytes', rewriting((f) => (f.kind === 'eq' && f.value instanceof Uint8Array && f.value.length === 1 ? { kind: 'in', path: f.path, values: [f.value, Uint8Array.from([1])] } : f))),
  mutant('a descending order reverses ties too', 'queries.order.table', { data: (next) => ({ async *find(q, ctx) { yield q.order?.[0]?.descending === true ? (await all(next.find({ ...q, order: q.order.map((o) => ({ ...o, descending: !o.descending })) }, ctx))).reverse() : await all(next.find(q, ctx)) } }) }),
  mutant('missing comes last in an order', 'queries.order.table', { data: (next) => ({ async *find(q, ctx) { const rows = await all(next.find(q, ctx)), path = q.order?.[0]?.path.at[0]; yield path === undefined || q.order![0]!.descending ? rows : [...rows.filter((row) => path in row.doc), ...rows.filter((row) => !(path in row.doc))] } }) }),
  mutant('limit is applied before the order', 'queries.order.page', { data: (next) => ({ async *find(q, ctx) { if (q.order === undefined || q.limit === undefined) { yield* next.find(q, ctx); return } const keys = (await all(next.find(without(q, 'order'), ctx))).map((row) => row.key); yield* next.find({ ...without(q, 'skip', 'limit'), where: { kind: 'keys', keys } }, ctx) } }) }),
  mutant('outputs of rows without one count as null in no filter', 'queries.outputs.eq', rewriting((f) => (f.kind === 'null' && f.path.slot !== undefined ? nothing : f))),

  mutant('an aborted find ends as if it were complete', 'cancellation.during.never-short', { data: (next) => ({ async *find(q, ctx) { for await (const rows of next.find(q, live)) { if (ctx.signal.aborted) return; yield rows } } }) }),
  mutant('a find that is left early keeps its cursor', 'cancellation.leave.find', {
    data: (next) => {
      let open = 0
      return { async *find(q, ctx) { if (open >= 10) throw new Error('no cursor is free'); open++; yield* next.find(q, ctx); open-- } }
    },
  }, { throws: /no cursor is free/ }),
  mutant('rows that are left early keep their cursor', 'cancellation.leave.rows', {
    data: (next) => {
      let open = 0
      return { async *rows(slot, which, keys, ctx) { if (open >= 10) throw new Error('no cursor is free'); open++; yield* next.rows(slot, which, keys, ctx); open-- } }
    },
  }, { throws: /no cursor is free/ }),
  mutant('a find that was never read holds a cursor', 'cancellation.leave.never-started', { data: (next) => { let open = 0; return { find(q, ctx) { if (q.limit === undefined) open++; if (open >= 40) throw new Error('no cursor is free'); return next.find(q, ctx) } } } }, { throws: /no cursor is free/ }),
  mutant('a write waits until open streams end', 'cancellation.slow.writes-between', {
    data: (next) => {
      const open = new Set<object>()
      return {
        async *find(q, ctx) { const stream = {}; open.add(stream); try { yield* next.find(q, ctx) } finally { open.delete(stream) } },
        async write(name, ops, ctx) { for (let i = 0; open.size > 0; i++) { if (i === 50) throw new Error('lock timeout'); await tick() } return next.write(name, ops, ctx) },
      }
    },
  }, { throws: /lock timeout/ }),
  mutant('pages are counted by offset, so removes between them lose rows', 'cancellation.slow.removes-between', { data: (next) => ({ async *find(q, ctx) { if (q.limit !== undefined || q.skip !== undefined) { yield* next.find(q, ctx); return } for (let skip = 0; ; skip += 400) { const rows = await all(next.find({ ...q, skip, limit: 400 }, ctx)); if (rows.length === 0) return; yield rows } } }) }),
  mutant('an aborted write keeps the connection busy', 'cancellation.during.write', { data: (next) => { let stuck = false; return { async write(name, ops, ctx) { if (stuck) throw new Error('another command is in progress'); await tick(); stuck = ctx.signal.aborted; return next.write(name, ops, ctx) } } } }, { throws: /another command is in progress/ }),

  mutant('find keeps what it returns', 'aliasing.returned.documents', { data: (next) => { const cache = new Map<string, readonly object[]>(); return { async *find(q, ctx) { const id = JSON.stringify(q), rows = cache.get(id) as never ?? await all(next.find(q, ctx)); cache.set(id, rows); yield rows } } } }),
  mutant('a document that was given is kept', 'aliasing.given.document', { data: (next) => { const given = new Map<string, object>(); return { async write(name, ops, ctx) { const written = await next.write(name, ops, ctx); for (const op of ops) if (op.kind === 'insert') given.set(`${name}/${op.key}`, op.doc); return written }, async *find(q, ctx) { for await (const rows of next.find(q, ctx)) yield rows.map((row) => ({ ...row, doc: (given.get(`${q.from}/${row.key}`) as never) ?? row.doc })) } } } }),
  mutant('a document that was given is changed', 'aliasing.given.unchanged', { data: (next) => ({ write(name, ops, ctx) { for (const op of ops) if (op.kind === 'put') (op.doc as Record<string, unknown>)['_rev'] = 1; return next.write(name, ops, ctx) } }) }, { throws: /object is not extensible/ }),
]
