/** Writes that are not what they say. */
import type { Doc, Value, Write, Written } from '../../core/contract.ts'
import { hashOf } from '../../core/encoding.ts'
import { isDoc, same } from '../../core/value.ts'
import { mutant, oneByOne, rowOf, tick, writeOne, type Mutant } from './mutant.ts'

const withoutRev = (op: Write): Write => { const { rev: _, ...rest } = op as Write & { rev?: string }; return rest as Write }
const merged = (a: Value | undefined, b: Value): Value => (isDoc(a) && isDoc(b) ? Object.fromEntries([...Object.entries(a), ...Object.entries(b).map(([k, v]) => [k, merged(a[k], v as Value)] as const)]) : b)

export const rows: readonly Mutant[] = [
  mutant('compare-and-set does not compare', 'rows.put.wrong-rev', oneByOne((next, name, op) => writeOne(next, name, withoutRev(op)))),
  mutant('a patch does not compare', 'rows.patch.wrong-rev', oneByOne((next, name, op) => writeOne(next, name, op.kind === 'patch' ? withoutRev(op) : op))),
  mutant('a remove does not compare', 'rows.remove.wrong-rev', oneByOne((next, name, op) => writeOne(next, name, op.kind === 'remove' ? withoutRev(op) : op))),
  mutant('a put with a rev inserts where there is no row', 'rows.put.rev-of-none', oneByOne(async (next, name, op) => (op.kind === 'put' && await rowOf(next, name, op.key) === undefined ? writeOne(next, name, withoutRev(op)) : writeOne(next, name, op)))),
  mutant('the rev moves only when the content does', 'rows.rev.every-write', oneByOne(async (next, name, op) => {
    const row = op.key === undefined ? undefined : await rowOf(next, name, op.key)
    const equal = row !== undefined && (!('rev' in op) || op.rev === row.rev) && ((op.kind === 'put' && same(row.doc, op.doc)) || (op.kind === 'patch' && op.unset.every((f) => !(f in row.doc)) && same(row.doc, { ...row.doc, ...op.set })))
    return equal ? { status: 'done', key: row.key, rev: row.rev } : writeOne(next, name, op)
  })),
  mutant('two equal compare-and-sets both win', 'rows.rev.equal-content-cas', oneByOne(async (next, name, op) => {
    const row = op.kind === 'put' ? await rowOf(next, name, op.key) : undefined
    return op.kind === 'put' && row !== undefined && same(row.doc, op.doc) ? { status: 'done', key: row.key, rev: row.rev } : writeOne(next, name, op)
  })),
  mutant('revs are digests of the content, so they come back', 'rows.rev.not-reused', oneByOne(async (next, name, op) => {
    const written = await writeOne(next, name, op)
    return written.rev === undefined ? written : { ...written, rev: hashOf((await rowOf(next, name, written.key))!.doc) }
  })),
  mutant('revs are its own, though it says that it takes those of core', 'rows.rev.given', oneByOne((next, name, op) => { const { as: _, ...rest } = op as Write & { as?: string }; return writeOne(next, name, rest as Write) })),
  mutant('an insert overwrites', 'rows.insert.taken', oneByOne((next, name, op) => writeOne(next, name, op.kind === 'insert' && op.key !== undefined ? { kind: 'put', key: op.key, doc: op.doc } : op))),
  mutant('a taken key throws instead of being answered', 'rows.batch.bad-one', oneByOne(async (next, name, op) => { const w = await writeOne(next, name, op); if (w.status === 'exists') throw new Error('duplicate key'); return w }), { throws: /duplicate key/ }),
  mutant('inserts without a key share one', 'rows.insert.no-key', oneByOne((next, name, op) => writeOne(next, name, op.key === undefined ? { ...op, key: 'made' } as Write : op))),
  mutant('a put keeps fields that it does not name', 'rows.put.replaces', oneByOne(async (next, name, op) => writeOne(next, name, op.kind === 'put' ? { ...op, doc: { ...(await rowOf(next, name, op.key))?.doc, ...op.doc } } : op))),
  mutant('a patch merges nested fields', 'rows.patch.whole-fields', oneByOne(async (next, name, op) => { const old = op.kind === 'patch' ? await rowOf(next, name, op.key) : undefined; return writeOne(next, name, op.kind === 'patch' && old !== undefined ? { ...op, set: Object.fromEntries(Object.entries(op.set).map(([k, v]) => [k, merged(old.doc[k], v as Value)])) } : op) })),
  mutant('a patch forgets the other fields', 'rows.patch.keeps', oneByOne(async (next, name, op) => (op.kind === 'patch' && await rowOf(next, name, op.key) !== undefined ? writeOne(next, name, { kind: 'put', key: op.key, doc: op.set, ...(op.rev === undefined ? {} : { rev: op.rev }) }) : writeOne(next, name, op)))),
  mutant('a patch takes null for unset', 'rows.patch.nulls', oneByOne((next, name, op) => writeOne(next, name, op.kind === 'patch' ? { ...op, unset: [...op.unset, ...Object.keys(op.set).filter((k) => op.set[k] === null)], set: Object.fromEntries(Object.entries(op.set).filter(([, v]) => v !== null)) as Doc } : op))),
  mutant('a patch unsets nothing', 'rows.patch.unset', oneByOne((next, name, op) => writeOne(next, name, op.kind === 'patch' ? { ...op, unset: [] } : op))),
  mutant('a patch of no row inserts one', 'rows.patch.missing', oneByOne(async (next, name, op) => (op.kind === 'patch' && await rowOf(next, name, op.key) === undefined ? writeOne(next, name, { kind: 'put', key: op.key, doc: op.set }) : writeOne(next, name, op)))),
  mutant('a remove of no row says that it is done', 'rows.remove.missing', oneByOne(async (next, name, op) => { const w = await writeOne(next, name, op); return op.kind === 'remove' && w.status === 'missing' ? { status: 'done', key: op.key } : w })),
  mutant('moved and missing are taken for each other', 'rows.put.rev-of-another', oneByOne(async (next, name, op) => { const w = await writeOne(next, name, op); return w.status === 'moved' ? { ...w, status: 'missing' } : w })),
  mutant('results come by kind, not in order', 'rows.batch.mixed', { data: (next) => ({ async write(name, ops, ctx) { return [...await next.write(name, ops, ctx)].sort((a, b) => a.status.localeCompare(b.status)) } }) }),
  mutant('a batch ends at its first fault', 'rows.batch.bad-one', { data: (next) => ({ async write(name, ops, ctx) { const written: Written[] = []; let stop = false; for (const op of ops) { const w: Written = stop ? { status: 'refused' as const, key: op.key ?? '' } : (await next.write(name, [op], ctx))[0]!; stop ||= w.status !== 'done'; written.push(w) } return written } }) }),
  mutant('a long batch is cut at 500 operations', 'rows.batch.thousand', { data: (next) => ({ async write(name, ops, ctx) { const written = await next.write(name, ops.slice(0, 500), ctx); return ops.map((op, i) => written[i] ?? { status: 'done', key: op.key!, rev: `r-${i}` }) } }) }),
  mutant('a put drops the outputs', 'rows.outputs.kept', oneByOne(async (next, name, op) => {
    if (op.kind !== 'put') return writeOne(next, name, op)
    const removed = await writeOne(next, name, { kind: 'remove', key: op.key, ...(op.rev === undefined ? {} : { rev: op.rev }) })
    return removed.status === 'done' || (removed.status === 'missing' && op.rev === undefined) ? writeOne(next, name, { kind: 'insert', key: op.key, doc: op.doc }) : removed
  })),
  mutant('a remove leaves the outputs', 'rows.outputs.removed', {
    data: (next) => {
      const gone = new Set<string>()
      return {
        async write(name, ops, ctx) {
          return next.write(name, ops.map((op): Write => {
            const id = `${name}/${op.key}`
            if (op.kind === 'remove') { gone.add(id); return { kind: 'put', key: op.key, doc: {} } }
            return gone.delete(id) && op.kind === 'insert' ? { kind: 'put', key: op.key!, doc: op.doc } : op
          }), ctx)
        },
        async *find(query, ctx) { for await (const found of next.find(query, ctx)) yield found.filter((row) => !gone.has(`${query.from}/${row.key}`)) },
      }
    },
  }),

  mutant('compare-and-set reads, and writes later', 'concurrency.cas.one-winner', oneByOne(async (next, name, op) => {
    if (op.kind !== 'put' || op.rev === undefined) return writeOne(next, name, op)
    const row = await rowOf(next, name, op.key)
    await tick()
    return row?.rev === op.rev ? writeOne(next, name, withoutRev(op)) : { status: 'moved', key: op.key }
  })),
  mutant('an insert looks first, and writes later', 'concurrency.insert.one-winner', oneByOne(async (next, name, op) => {
    if (op.kind !== 'insert' || op.key === undefined) return writeOne(next, name, op)
    const row = await rowOf(next, name, op.key)
    await tick()
    return row === undefined ? writeOne(next, name, { kind: 'put', key: op.key, doc: op.doc }) : { status: 'exists', key: op.key }
  })),
  mutant('a patch reads, changes and writes the whole document', 'concurrency.write.patches', oneByOne(async (next, name, op) => {
    const row = op.kind === 'patch' && op.rev === undefined ? await rowOf(next, name, op.key) : undefined
    if (op.kind !== 'patch' || row === undefined) return writeOne(next, name, op)
    await tick()
    return writeOne(next, name, { kind: 'put', key: op.key, doc: { ...row.doc, ...op.set } })
  })),
  mutant('two removes of one row are both done', 'concurrency.remove.one-winner', oneByOne(async (next, name, op) => {
    if (op.kind !== 'remove') return writeOne(next, name, op)
    const row = await rowOf(next, name, op.key)
    await tick()
    await writeOne(next, name, op)
    return { status: row === undefined ? 'missing' : 'done', key: op.key }
  })),
  mutant('batches that meet end in a deadlock', 'concurrency.write.opposite-orders', {
    data: (next) => {
      const held = new Set<string>()
      return {
        async write(name, ops, ctx) {
          const own: string[] = []
          try {
            for (const op of ops) {
              if (held.has(op.key!)) throw new Error('deadlock detected')
              held.add(op.key!)
              own.push(op.key!)
              if (own.length % 10 === 0) await tick()
            }
            return await next.write(name, ops, ctx)
          } finally {
            for (const key of own) held.delete(key)
          }
        },
      }
    },
  }, { throws: /deadlock detected/ }),
]
