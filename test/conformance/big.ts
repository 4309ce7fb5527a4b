/** What grows with the data is streamed: the heap stays under a ceiling that does not. With the option `big` the figures are ten times these and more. */
import { createHash } from 'node:crypto'
import { setImmediate } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { expect } from 'vitest'
import { reconcile } from '../../core/reconcile.ts'
import { rule, type Need, type Rule } from './rule.ts'
import { outcome, type Subject } from './subject.ts'

const outside: Need = { says: "rows live in this process's memory, whose size they are", met: (s) => s.capabilities.durable && !s.uri.startsWith('memory:') }
const megabyte = 1024 * 1024
const rowsOf = (s: Subject): number => (s.settings.big ? 200_000 : 20_000)
const artifactBytes = (s: Subject): number => (s.settings.big ? 256 : 32) * megabyte
/** 2 kB each, so that all of them are well above the ceiling. */
const pad = 'x'.repeat(2000)
const ceiling = (s: Subject): number => (s.settings.big ? 96 : 28) * megabyte

/** The garbage collector of this process, where it can be had. */
const collect: () => void = (() => {
  try {
    setFlagsFromString('--expose-gc')
    return runInNewContext('gc') as () => void
  } catch {
    return () => {}
  }
})()
/** Says how far memory rose above where it was, at the points where it is asked. */
function meter(what: (m: NodeJS.MemoryUsage) => number): { look(): Promise<void>; readonly most: number } {
  collect()
  const start = what(process.memoryUsage())
  let most = 0
  return {
    async look() {
      collect()
      await setImmediate()                                                 // memory of buffers is given back beside the collector
      collect()
      most = Math.max(most, what(process.memoryUsage()) - start)
    },
    get most() { return most },
  }
}
/** Without buffers: an embedded database keeps its own memory in one. */
const heap = (m: NodeJS.MemoryUsage): number => m.heapUsed
const key = (i: number): string => `k${String(i).padStart(7, '0')}`

/** The rows, inserted once for the area through the API, under the ceiling too. */
const filled = (s: Subject): Promise<{ readonly name: string; readonly most: number }> => s.once('big', async () => {
  const docs = (await s.inlay()).collection<{ i: number; pad: string }>(s.name('big')), n = rowsOf(s), memory = meter(heap)
  const { ids } = await docs.insert((async function* () { for (let i = 0; i < n; i++) { if (i % (n / 10) === n / 20) await memory.look(); yield { _id: key(i), i, pad } } })())
  expect(ids.length).toBe(n)
  return { name: docs.name, most: memory.most }
})

export const big: readonly Rule[] = [
  rule('big.insert.stream', 'a stream of many rows is inserted under a heap ceiling', async (s) => {
    const { name, most } = await filled(s)
    expect(await s.data.count({ from: name }, s.ctx)).toBe(rowsOf(s))
    expect(most).toBeLessThan(ceiling(s))
  }, outside),
  rule('big.find.stream', 'many rows are read as a stream, each once and in order, under a heap ceiling', async (s) => {
    const { name } = await filled(s), n = rowsOf(s), memory = meter(heap)
    let i = 0
    for await (const rows of s.data.find({ from: name }, s.ctx)) {
      for (const row of rows) { if (row.key !== key(i) || row.doc['i'] !== i) expect.fail(`row ${i} is ${row.key}`); i++ }
      if (i % (n / 10) < rows.length) await memory.look()
    }
    expect(i).toBe(n)
    expect(memory.most).toBeLessThan(ceiling(s))
  }, outside),
  rule('big.find.api', 'the API streams many rows, filtered here and sorted by key, under a heap ceiling', async (s) => {
    const { name } = await filled(s), n = rowsOf(s), memory = meter(heap)
    let i = 0
    for await (const row of (await s.inlay()).collection<{ i: number; pad: string }>(name).find({ pad: { $type: 'string' } })) {
      if (row.i !== i++) expect.fail(`row ${i - 1} is ${row._id}`)
      if (i % (n / 10) === 0) await memory.look()
    }
    expect([i, memory.most < ceiling(s)]).toEqual([n, true])
  }, outside),
  rule('big.rows.stream', 'many stale rows are offered as a stream and settled as they come, under a heap ceiling; then nothing is left', async (s) => {
    const { name } = await filled(s), n = rowsOf(s), slot = await s.slot(name, { fields: ['i'], shape: { kind: 'number' } }), memory = meter(heap)
    let seen = 0
    for await (const rows of s.data.rows(slot, 'stale', 'all', s.ctx)) {
      seen += rows.length
      if ((await s.data.settle(slot, rows.map((row) => outcome(row, [Number(row.doc['i']) * 2])), s.ctx)).length > 0) expect.fail('a settle was refused')
      if (seen % (n / 10) < rows.length) await memory.look()
    }
    expect([seen, await s.data.tally(slot, s.ctx)]).toEqual([n, { rows: n, missing: 0, stale: 0, failed: 0, orphaned: 0 }])
    expect(memory.most).toBeLessThan(ceiling(s))
    const started = performance.now()
    expect(await s.offered(slot)).toEqual([])
    expect(performance.now() - started).toBeLessThan(5000)
    await s.data.dropSlot(slot.id, s.ctx)
  }, outside),
  rule('big.engine.stream', 'the engine back-fills many rows under a heap ceiling', async (s) => {
    const { name } = await filled(s), n = rowsOf(s), slot = await s.slot(name, { fields: ['i'], shape: { kind: 'vector', dims: 8 } }), memory = meter(heap)
    let calls = 0
    const run = await reconcile(s.data, {
      slot, select: async (rows) => rows.map(() => true), hash: (row) => String(row.doc['i']),
      predict: async (rows) => { if (calls++ % 10 === 0) await memory.look(); return rows.map((row) => [new Float32Array(8).fill(Number(row.doc['i']))]) },
    }, s.ctx)
    expect([run.done, run.failed, run.pending, memory.most < ceiling(s)]).toEqual([n, 0, 0, true])
    await s.data.dropSlot(slot.id, s.ctx)
  }, outside),
  rule('big.artifact.stream', 'a large artifact is written and read as a stream, under a memory ceiling, and ranges of it do not read it all', async (s) => {
    const size = artifactBytes(s), memory = meter(s.settings.network === undefined ? heap : (m) => m.heapUsed + m.arrayBuffers), part = (at: number): Uint8Array => { const bytes = new Uint8Array(Math.min(megabyte, size - at)); for (let i = 0; i < bytes.length; i += 64) bytes[i] = (at / megabyte + i / 64) % 251; return bytes }
    const hash = createHash('sha256')
    for (let at = 0; at < size; at += megabyte) hash.update(part(at))
    const id = hash.digest('hex')
    await s.artifacts.write(id, (async function* () { for (let at = 0; at < size; at += megabyte) { if (at % (size / 8) === 0) await memory.look(); yield part(at) } })(), s.ctx)
    const read = createHash('sha256')
    let got = 0
    for await (const bytes of s.artifacts.read(id, { offset: 0 }, s.ctx)) {
      read.update(bytes)
      got += bytes.length
      if (got % (size / 8) < bytes.length) await memory.look()
    }
    expect([got, read.digest('hex')]).toEqual([size, id])
    for (const offset of [0, 3 * megabyte - 5, size - 10]) {
      const bytes: Uint8Array[] = []
      for await (const p of s.artifacts.read(id, { offset, length: 10 }, s.ctx)) bytes.push(p)
      const first = Math.floor(offset / megabyte) * megabyte, around = Buffer.concat([part(first), ...(first + megabyte < size ? [part(first + megabyte)] : [])])
      expect(Buffer.concat(bytes).equals(around.subarray(offset - first, offset - first + 10))).toBe(true)
    }
    expect(memory.most).toBeLessThan(s.settings.big ? 128 * megabyte : 28 * megabyte)
    await s.artifacts.remove([id], s.ctx)
  }, outside),
]
