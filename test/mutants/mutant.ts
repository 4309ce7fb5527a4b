/** Mutants: the memory plugin with one fault each, and the rule of the conformance suite that must notice it. */
import type { ArtifactStore, Connection, Datalayer, Doc, Filter, Key, Plugin, Query, Row, Value, VectorSearch, Write, Written } from '../../core/contract.ts'
import { memory } from '../../core/memory.ts'
import { rowArtifacts } from '../../core/row-artifacts.ts'
import { isDoc, setOwn } from '../../core/value.ts'
import { memoryVectors } from '../../core/vectors.ts'
import { all, live, type Settings } from '../conformance/subject.ts'

export interface Mutant {
  readonly fault: string
  /** The id of the rule that is written against it. Others may notice it too: see killers.ts. */
  readonly kills: string
  readonly plugin: Plugin
  readonly settings?: Partial<Settings>
  /** Where its database is. Default: memory. */
  readonly uri?: () => Promise<string>
  /** The fault is an error by design: this one. Any other error than a failed assertion does not count. */
  readonly throws?: RegExp
  /** The fault is a call that never ends, by design. */
  readonly hangs?: true
}
export type Design = Pick<Mutant, 'throws' | 'hangs'>
/** What a fault replaces. Each function is called once per connection. */
export interface Replaced {
  readonly data?: (next: Datalayer) => Partial<Datalayer>
  readonly vectors?: (next: VectorSearch) => Partial<VectorSearch>
  readonly artifacts?: (next: ArtifactStore) => Partial<ArtifactStore>
  readonly connect?: (uri: string, namespace: string) => readonly [uri: string, namespace: string]
}

/** The memory plugin with parts replaced. It says of itself that it is durable and takes many writers, which within one process is true. */
export function around(name: string, { data, vectors, artifacts, connect }: Replaced): Plugin {
  return {
    ...memory, name,
    async connect(uri, { namespace }, ctx): Promise<Connection> {
      const [to, space] = connect?.(uri, namespace) ?? [uri, namespace]
      const opened = await memory.connect!(to, { namespace: space }, ctx), plain = opened.data!, store = opened.artifacts ?? rowArtifacts(plain), search = memoryVectors()
      const full: Datalayer = { ...plain, capabilities: { ...plain.capabilities, durable: true, writers: 'many' } }
      return { ...opened, data: { ...full, ...data?.(full) }, artifacts: { ...store, ...artifacts?.(store) }, ...(vectors === undefined ? {} : { vectors: { ...search, ...vectors(search) } }) }
    },
  }
}
export function mutant(fault: string, kills: string, replaced: Replaced, design: Design = {}): Mutant {
  return { fault, kills, plugin: around('mutant', replaced), ...design }
}

/** Rewrites filters wherever one is given. */
export function rewriting(rewrite: (filter: Filter) => Filter): Replaced {
  const deep = (f: Filter): Filter => rewrite(f.kind === 'and' || f.kind === 'or' ? { ...f, of: f.of.map(deep) } : f.kind === 'not' ? { ...f, of: deep(f.of) } : f)
  const query = (q: Query): Query => (q.where === undefined ? q : { ...q, where: deep(q.where) })
  return { data: (next) => ({ find: (q, ctx) => next.find(query(q), ctx), count: (q, ctx) => next.count(query(q), ctx) }) }
}
/** Changes values on their way in, at any depth. */
export function writing(change: (value: Value) => Value): Replaced {
  return {
    data: (next) => ({
      write: (name, ops, ctx) => next.write(name, ops.map((op): Write => ('doc' in op ? { ...op, doc: deepMap(op.doc, change) as Doc } : 'set' in op ? { ...op, set: deepMap(op.set, change) as Doc } : op)), ctx),
    }),
  }
}
export function deepMap(value: Value, change: (value: Value) => Value): Value {
  if (Array.isArray(value)) return change(value.map((v: Value) => deepMap(v, change)))
  if (!isDoc(value)) return change(value)
  const copy: Record<string, Value> = {}
  for (const [name, v] of Object.entries(value)) setOwn(copy, name, deepMap(v, change))
  return change(copy)
}
/** Changes each page of what is found. */
export function finding(change: (rows: readonly Row[], query: Query, page: number) => readonly Row[]): Replaced {
  return {
    data: (next) => ({
      async *find(query, ctx) {
        let page = 0
        for await (const rows of next.find(query, ctx)) yield change(rows, query, page++)
      },
    }),
  }
}
/** Does the operations of a write one after the other, each as `each` does it. */
export function oneByOne(each: (next: Datalayer, name: string, op: Write) => Promise<Written>): Replaced {
  return {
    data: (next) => ({
      async write(name, ops) {
        const written: Written[] = []
        for (const op of ops) written.push(await each(next, name, op))
        return written
      },
    }),
  }
}
export async function rowOf(next: Datalayer, from: string, key: Key, slots: readonly string[] = []): Promise<Row | undefined> {
  return (await all(next.find({ from, where: { kind: 'keys', keys: [key] }, slots }, live)))[0]
}
export async function writeOne(next: Datalayer, name: string, op: Write): Promise<Written> {
  return (await next.write(name, [op], live))[0]!
}
/** Lets other work run. */
export function tick(): Promise<void> {
  return new Promise((resolve) => { setImmediate(resolve) })
}
