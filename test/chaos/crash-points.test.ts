/** Every point at which a process can die between two calls of its database, one after the other: what kill -9 finds by chance, without chance. */
import { expect, it } from 'vitest'
import type { Connection, Plugin } from '../../core/contract.ts'
import { memory } from '../../core/memory.ts'
import { intercept } from '../../core/middleware.ts'
import { listener, model, open, step, type Inlay, type ListenerSpec } from '../../core/index.ts'
import { live } from '../conformance/subject.ts'

interface Doc { x: number; y?: number; data?: Uint8Array }
const changes = new Set(['create', 'drop', 'write', 'openSlot', 'dropSlot', 'settle', 'prune'])

const large = (n: number): Uint8Array => new Uint8Array(17_000).fill(n)
const tenfold = (version: number): ListenerSpec<number, number, 'x'> => {
  const factor = 10 ** version
  return listener({ model: model('tenfold', { run: step(`tenfold@${version}`, (xs: readonly number[]) => xs.map((x) => x * factor)) }), on: 'docs', key: 'x' })
}
const sum = (version: number): ListenerSpec => listener({ model: model('sum', { run: step('sum@1', (all: readonly { x_tenfold: number; y?: number }[]) => all.map((o) => o.x_tenfold + (o.y ?? 0))) }), on: 'docs', key: [tenfold(version), 'y'], name: 'sum' }) as ListenerSpec
const bytes = listener({ model: model('bytes', { run: step('bytes@1', (all: readonly Uint8Array[]) => all.map((b) => b.reduce((a, v) => a + v, 0))) }), on: 'docs', key: 'data' })

/** Ends in one state, also when it was run up to any point before. */
async function script(db: Inlay): Promise<void> {
  await beginning(db)
  await upgrade(db)
  await db.collection('docs').delete({ _id: 'c' })
  await relisten(db)
}
async function beginning(db: Inlay): Promise<void> {
  const docs = db.collection<Doc>('docs')
  await db.add(sum(1))
  await db.add(bytes)
  await docs.insert([{ _id: 'a', x: 1, y: 1 }, { _id: 'b', x: 2, data: large(1) }, { _id: 'c', x: 3 }, { _id: 'd', x: 4, y: 4 }])
  await docs.update({ _id: 'a' }, { $set: { x: 10 } })
  await docs.replace('b', { x: 20, data: large(2) })
}
/** A new version of a model: the chain follows, and the outputs of before are dropped. */
async function upgrade(db: Inlay): Promise<void> {
  await db.add(tenfold(2))
  await db.add(sum(2))
}
async function relisten(db: Inlay): Promise<void> {
  await db.remove('listener', bytes.name)
  await db.add(bytes)
}
const final = [
  { _id: 'a', x: 10, y: 1, _outputs: { x: { tenfold: 1000 }, sum: { sum: 1001 } } },
  { _id: 'b', x: 20, data: large(2), _outputs: { x: { tenfold: 2000 }, sum: { sum: 2000 }, data: { bytes: 34_000 } } },
  { _id: 'd', x: 4, y: 4, _outputs: { x: { tenfold: 400 }, sum: { sum: 404 } } },
]

type Happens = (change: () => Promise<void>) => Promise<void>
interface Process { open(): Promise<Inlay>; /** Which call of the database it was that something happened at. */ at(): string | undefined }

/** One memory as a process of its own sees it. Its change number `at` is left to `happens`; what that throws is the death of the process. */
function processOf(connection: Connection, at = 0, happens: Happens = (change) => change()): Process {
  let seen = 0, met: string | undefined, dead = false
  const data = intercept(connection.data!, async <R>(method: string, call: () => Promise<R>): Promise<R> => {
    if (dead) throw new Error('This process is dead.')
    if (!changes.has(method) || ++seen !== at) return call()
    met = method
    let result: Promise<R> | undefined
    try {
      await happens(async () => { await (result = call()) })
    } catch (error) {
      dead = true
      throw error
    }
    return result ?? call()
  })
  const plugin: Plugin = { name: 'memory', contract: 1, schemes: ['memory'], connect: async () => ({ ...connection, data, close: async () => {} }) }
  return { open: () => open({ data: 'memory:', plugins: [plugin], config: false, log: {} }, []), at: () => met }
}

/** Plays `scene` once for each change that its first process makes, and lists what went wrong. `scene` says what happens at that change. */
async function everyChange(scene: (connection: Connection, firstProcess: (happens: Happens) => Process) => Promise<void>): Promise<string[]> {
  const faults: string[] = []
  for (let at = 1; ; at++) {
    const connection = await memory.connect!('memory:', { namespace: 'inlay' }, live)
    let first: Process | undefined
    try {
      await scene(connection, (happens) => (first = processOf(connection, at, happens)))
      if (first?.at() === undefined) break
      const db = await processOf(connection).open()
      await db.verify({ repair: true })                                    // whatever is there can be repaired
      await script(db)
      await db.verify({ repair: true, graceMs: 0, removeArtifacts: true })
      expect((await db.collection('docs').find().toArray()).map(({ _fold, ...row }) => row)).toEqual(final)
      expect(await db.verify({ deep: true })).toMatchObject({ ok: true, artifacts: { missing: 0, unreferenced: 0 } })
      expect((await db.show('listener')).map(({ name, state }) => `${name} ${state}`)).toEqual(['data_bytes ready', 'sum ready', 'x_tenfold ready'])
      await db.close()
    } catch (error) {
      faults.push(`change ${at}, ${first?.at()}: ${String(error).slice(0, 600)}`)
    }
  }
  return faults
}

const death = new Error('The process dies here.')
it.each([
  ['before', async () => { throw death }],
  ['after', async (change: () => Promise<void>) => { await change(); throw death }],
] as const)('a process that dies %s any change of its database leaves what a clean run can go on from', async (_, happens) => {
  expect(await everyChange(async (_connection, firstProcess) => { await firstProcess(happens).open().then(script).catch(() => {}) })).toEqual([])
})

it('a process that is overtaken by another, which does the same, goes on and ends in the same state', async () => {
  expect(await everyChange(async (connection, firstProcess) => {
    const first = firstProcess(async () => {
      const other = await processOf(connection).open()
      await beginning(other)
      await other.close()
    })
    const db = await first.open()
    await beginning(db)
    await db.close()
  })).toEqual([])
})

it('a process that opens after any change of another reads and repairs what is there', async () => {
  expect(await everyChange(async (connection, firstProcess) => {
    const first = firstProcess(async (change) => {
      await change()
      const other = await processOf(connection).open()
      await other.collection('docs').find().toArray()
      await other.verify({ repair: true })
      await other.close()
    })
    await script(await first.open())
  })).toEqual([])
})

it.each([
  ['brings a new version of a model and drops the old outputs', upgrade],
  ['removes a listener and adds it again', relisten],
] as const)('a process reads and writes on after any change of another that %s', async (_, others) => {
  expect(await everyChange(async (connection, firstProcess) => {
    await beginning(await processOf(connection).open())
    const old = await processOf(connection).open(), docs = old.collection<Doc>('docs')
    const first = firstProcess(async (change) => {
      await change()
      expect((await docs.find().toArray()).length).toBeGreaterThan(2)
      expect(await docs.insert({ _id: 'new', x: 5 })).toMatchObject({ ids: ['new'], refused: [] })
      expect((await docs.update({ _id: 'new' }, { $set: { x: 6 } })).ids).toEqual(['new'])
      expect((await docs.delete({ _id: 'new' })).ids).toEqual(['new'])
    })
    await others(await first.open())
  })).toEqual([])
})
