/**
 * A process that is killed while it works, or whose server is: `node kill.ts <uri> <namespace> <seed> <life> [server]`. It says "up", then `try` and `ack` lines around each write and "wrote" after the first, written at
 * once, so that after its death it is known which writes were acknowledged and which were under way.
 */
import { writeSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { inlay, InlayError, listener, model, step, type Spec } from '../../index.ts'
import { random } from '../conformance/random.ts'

/** All of a document follows from `v`, so that a half written row shows. `data` is large enough to become an artifact. */
export interface Doc { v: number; x: number; y: number; data?: Uint8Array }
/** One write of one row: the `v` that it has afterwards, null where it is deleted. */
export interface Said { readonly id: string; readonly v: number | null }

export const collection = 'docs'
/** The document of a `v`. Every fourth has an artifact. */
export function docOf(v: number): Doc {
  return { v, x: v % 1000, y: v % 7, ...(v % 4 === 0 ? { data: Uint8Array.from({ length: 17_000 }, (_, i) => (v + i * 31) % 256) } : {}) }
}
/** `_outputs` of that document. */
export function outputsOf(v: number): Record<string, Record<string, number>> {
  const { x, y, data } = docOf(v)
  return { x: { tenfold: x * 10 }, sum: { sum: x * 10 + y }, ...(data === undefined ? {} : { data: { bytes: bytesOf(data) } }), late: { late: x + y } }
}
function bytesOf(data: Uint8Array): number {
  return data.reduce((a, b) => a + b, 0)
}

const tenfold = listener({ model: model('tenfold', { run: step('tenfold@1', (xs: readonly number[]) => xs.map((x) => x * 10)) }), on: collection, key: 'x' })
const slow = listener({ model: model('late', { run: step('late@1', async (all: readonly Pick<Doc, 'x' | 'y'>[]) => { await sleep(15); return all.map(({ x, y }) => x + y) }) }), on: collection, key: ['x', 'y'], name: 'late', maxChunkSize: 20 })
/** A chain, a model that reads artifacts, and one that is so slow that its back-fill is still running when the process is killed. */
export const specs: readonly Spec<unknown>[] = [
  tenfold, listener({ model: model('sum', { run: step('sum@1', (all: readonly { x_tenfold: number; y: number }[]) => all.map((o) => o.x_tenfold + o.y)) }), on: collection, key: [tenfold, 'y'], name: 'sum' }),
  listener({ model: model('bytes', { run: step('bytes@1', (all: readonly Uint8Array[]) => all.map(bytesOf)) }), on: collection, key: 'data' }),
  slow,
]

if (import.meta.main) await live(process.argv[2]!, process.argv[3]!, Number(process.argv[4]), Number(process.argv[5]), process.argv[6] === 'server')

async function live(uri: string, namespace: string, seed: number, life: number, serverDies: boolean): Promise<void> {
  process.stdin.on('end', () => { process.exit() }).resume()
  const say = (line: string): void => { writeSync(1, `${line}\n`) }
  const r = random(seed + life), early = specs.slice(0, 3)
  const db = await inlay({ data: uri, namespace, components: early, config: false })
  const docs = db.collection<Doc>(collection)
  const ids = (await docs.find().select('v').toArray()).map((row) => row._id)
  // Each life but the first takes the slow listener away and adds it again, so that kills meet the drop and the back-fill.
  const relisten = async (): Promise<void> => {
    if (life === 0) return
    if ((await db.show('listener', 'late')).length > 0 && r.below(2) === 0) await db.remove('listener', 'late')
    await db.add(slow)
  }
  const write = async (said: readonly Said[], work: () => Promise<{ readonly ids: readonly string[]; readonly refused: readonly unknown[] }>): Promise<void> => {
    say(`try ${JSON.stringify(said)}`)
    const { ids: done, refused } = await work().catch(async (error: unknown) => {
      if (!away(error)) throw error
      await sleep(20)
      return { ids: undefined, refused: [] }                               // whether it was done nobody knows
    })
    if (done === undefined) return
    if (done.length !== said.length) throw new Error(`Of ${said.length} rows ${done.length} were written: ${JSON.stringify(refused)}`)
    say(`ack ${JSON.stringify(said)}`)
    if (first) say('wrote')
    first = false
  }
  let made = 0, first = true
  const next = (): number => life * 100_000 + ++made
  say('up')
  const away = (error: unknown): boolean => serverDies && InlayError.is(error) && (error.code === 'UNAVAILABLE' || error.retryable)
  void relisten().catch((error: unknown) => { if (!away(error)) throw error })      // a rejection ends the process, as it is to
  for (;;) {
    switch (ids.length < 30 ? 0 : r.below(5)) {
      case 0: case 1: {
        const rows = Array.from({ length: 1 + r.below(6) }, () => { const v = next(); return { _id: `i${v}`, ...docOf(v) } })
        await write(rows.map(({ _id, v }) => ({ id: _id, v })), () => docs.insert(rows))
        ids.push(...rows.map((row) => row._id))
        break
      }
      case 2: {
        const id = ids.splice(r.below(ids.length), 1)[0]!
        await write([{ id, v: null }], () => docs.delete({ _id: id }))
        break
      }
      case 3: {
        const id = r.pick(ids), v = next() * 4
        await write([{ id, v }], () => docs.update({ _id: id }, { $set: docOf(v) as Required<Doc> }))
        break
      }
      default: {
        const id = r.pick(ids), v = next()
        await write([{ id, v }], () => docs.replace(id, docOf(v)))
      }
    }
  }
}
