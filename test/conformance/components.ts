/** What core keeps as rows: declared components with their versions, and leases. Both stand on compare-and-set alone. */
import { expect } from 'vitest'
import { Components } from '../../core/components.ts'
import type { Datalayer, Doc } from '../../core/contract.ts'
import { hashOf } from '../../core/encoding.ts'
import { listener, model, vectorIndex } from '../../core/spec.ts'
import { step } from '../../core/step.ts'
import { hardValues } from './hard-values.ts'
import { durable, manyWriters, rule, type Rule } from './rule.ts'
import { all, codeOf, type Subject } from './subject.ts'

const times = <T>(n: number, make: (i: number) => T): T[] => Array.from({ length: n }, (_, i) => make(i))
const both = async (s: Subject): Promise<readonly Datalayer[]> => (s.capabilities.writers === 'many' ? [s.data, (await s.once('second', () => s.another())).data] : [s.data])
async function components(s: Subject, data: Datalayer = s.data): Promise<Components> {
  const made = new Components(data)
  await made.open(s.ctx)
  return made
}
const twice = (version: number) => model('twice', { run: step(`twice@${version}`, (xs: readonly number[]) => xs.map((x) => x * 2 * version)) })

export const componentRules: readonly Rule[] = [
  rule('components.add.equal', 'adding equal content again is a no-op; other content is the next version', async (s) => {
    const c = await components(s), name = s.name('m')
    expect((await c.add('model', name, { a: 1, b: [1, 2] }, s.ctx)).added).toBe(true)
    const [row] = (await s.find('_components')).filter((r) => r.key === `model/${name}`)
    expect(await c.add('model', name, { b: [1, 2], a: 1 }, s.ctx)).toMatchObject({ added: false, version: { version: 0 } })
    expect((await s.row('_components', `model/${name}`))?.rev).toBe(row!.rev)
    expect(await c.add('model', name, { a: 2 }, s.ctx)).toMatchObject({ added: true, version: { version: 1 } })
    expect((await c.get('model', name, s.ctx))?.versions.map((v) => [v.version, v.spec])).toEqual([[0, { a: 1, b: [1, 2] }], [1, { a: 2 }]])
  }),
  rule('components.add.hash', 'what is declared is read back with the hash it had, whatever it holds', async (s) => {
    const c = await components(s), name = s.name('m'), spec: Doc = Object.fromEntries(hardValues.filter(({ has }) => has === undefined || !s.capabilities.refuses.includes(has)).filter(({ name: n }) => n !== 'negative-zero').map(({ name: n, value }) => [n, value]))
    await c.add('model', name, spec, s.ctx)
    const read = (await c.get('model', name, s.ctx))!.versions[0]!
    expect([read.hash, hashOf(read.spec), (await c.add('model', name, read.spec, s.ctx)).added]).toEqual([hashOf(spec), hashOf(spec), false])
  }),
  rule('components.race.equal', 'of 16 that declare the same content at once one makes version 0, and all get it', async (s) => {
    const ways = await Promise.all((await both(s)).map((data) => components(s, data))), name = s.name('m'), added = await Promise.all(times(16, (i) => ways[i % ways.length]!.add('model', name, { same: true }, s.ctx)))
    expect([added.filter((a) => a.added).length, new Set(added.map((a) => a.version.version))]).toEqual([1, new Set([0])])
    expect((await ways[0]!.get('model', name, s.ctx))?.versions.length).toBe(1)
  }),
  rule('components.race.versions', '12 that declare different content at once get the versions 0 to 11, no two the same', async (s) => {
    const ways = await Promise.all((await both(s)).map((data) => components(s, data))), name = s.name('m'), added = await Promise.all(times(12, (i) => ways[i % ways.length]!.add('model', name, { i }, s.ctx)))
    expect(added.map((a) => a.version.version).sort((a, b) => a - b)).toEqual(times(12, (i) => i))
    const stored = (await ways[0]!.get('model', name, s.ctx))!
    expect(stored.versions.map((v) => v.version)).toEqual(times(12, (i) => i))
    for (const [i, { version }] of added.entries()) expect(stored.versions[version.version]!.spec).toEqual({ i })
  }),
  rule('components.race.state', 'changes of state at once all count', async (s) => {
    const ways = await Promise.all((await both(s)).map((data) => components(s, data))), name = s.name('m')
    await ways[0]!.add('model', name, { on: 'x' }, s.ctx)
    await Promise.all(times(10, (i) => ways[i % ways.length]!.change('model', name, s.ctx, (there) => ({ versions: there!.versions, state: { ...there!.state, n: Number(there!.state['n'] ?? 0) + 1 } }))))
    expect((await ways[0]!.get('model', name, s.ctx))?.state).toEqual({ n: 10 })
  }),
  rule('components.race.remove', 'a removal that is overtaken by a declaration removes nothing that it did not see', async (s) => {
    const c = await components(s)
    for (let round = 0; round < 8; round++) {
      const name = s.name('m')
      await c.add('model', name, { round: -1 }, s.ctx)
      const [, added] = await Promise.all([c.remove('model', name, s.ctx, (there) => there.versions.length === 1), c.add('model', name, { round }, s.ctx)]), left = await c.get('model', name, s.ctx)
      expect(left?.versions.at(-1)?.spec).toEqual({ round })
      expect([0, 1]).toContain(added.version.version)
    }
  }),
  rule('components.lease.one-holder', 'of 16 racers for a lease one holds it at a time, each gets it in its turn, and its number only rises', async (s) => {
    const ways = await both(s), name = await s.collection({ lease: { holder: null, n: 0 } }), numbers: number[] = [], inside = new Set<number>()
    await Promise.all(times(16, async (who) => {
      const data = ways[who % ways.length]!
      for (let held = false, tries = 0; !held; tries++) {
        expect(tries).toBeLessThan(2000)
        const [row] = await all(data.find({ from: name }, s.ctx))
        if (row!.doc['holder'] !== null) { await new Promise((next) => { setTimeout(next, 1 + (who % 5)) }); continue }
        const n = Number(row!.doc['n']) + 1, [taken] = await data.write(name, [{ kind: 'put', key: 'lease', doc: { holder: who, n }, rev: row!.rev }], s.ctx)
        if (taken!.status !== 'done') continue
        held = true
        expect(inside.size).toBe(0)
        inside.add(who)
        numbers.push(n)
        await new Promise((next) => { setTimeout(next, 1) })
        inside.delete(who)
        expect(await data.write(name, [{ kind: 'put', key: 'lease', doc: { holder: null, n }, rev: taken!.rev! }], s.ctx)).toMatchObject([{ status: 'done' }])
      }
    }))
    expect(numbers).toEqual(times(16, (i) => i + 1))
  }),
  rule('components.lease.expired', 'of 16 that take over a lease whose holder is gone one gets it, and the late holder can neither renew nor release it', async (s) => {
    const ways = await both(s), name = await s.collection(), { lease } = await s.insert(name, { lease: { holder: 'gone', until: 0 } })
    const taken = await Promise.all(times(16, (who) => ways[who % ways.length]!.write(name, [{ kind: 'put', key: 'lease', doc: { holder: who, until: 1 }, rev: lease! }], s.ctx)))
    expect(taken.filter(([w]) => w!.status === 'done').length).toBe(1)
    const holder = taken.findIndex(([w]) => w!.status === 'done')
    expect(await s.write(name, { kind: 'patch', key: 'lease', set: { until: 99 }, unset: [], rev: lease! })).toMatchObject([{ status: 'moved' }])
    expect(await s.write(name, { kind: 'remove', key: 'lease', rev: lease! })).toMatchObject([{ status: 'moved' }])
    expect((await s.row(name, 'lease'))?.doc).toEqual({ holder, until: 1 })
  }),
  rule('components.lease.partitions', 'eight workers share 24 partitions by leases without two having one', async (s) => {
    const ways = await both(s), name = await s.collection(Object.fromEntries(times(24, (i) => [`p${i}`, { holder: null }]))), mine = await Promise.all(times(8, async (who) => {
      const data = ways[who % ways.length]!, held: string[] = []
      for (const row of (await all(data.find({ from: name }, s.ctx))).sort((a, b) => (Number(a.key.slice(1)) * 7 + who * 3) % 24 - (Number(b.key.slice(1)) * 7 + who * 3) % 24)) if (row.doc['holder'] === null && (await data.write(name, [{ kind: 'patch', key: row.key, set: { holder: who }, unset: [], rev: row.rev }], s.ctx))[0]!.status === 'done') held.push(row.key)
      return held
    }))
    expect(mine.flat().length).toBe(new Set(mine.flat()).size)
    for (const row of await s.find(name)) if (row.doc['holder'] !== null) expect(mine[Number(row.doc['holder'])]).toContain(row.key)
    expect(mine.flat().length).toBe((await s.find(name)).filter((row) => row.doc['holder'] !== null).length)
  }),
  rule('components.durable.kept', 'components are there after closing and connecting again, and continue their versions', async (s) => {
    const name = s.name('m')
    await (await components(s)).add('model', name, { a: new Date(5), b: 5n }, s.ctx, () => ({ ready: true }))
    await s.reopen()
    const c = await components(s)
    expect(await c.get('model', name, s.ctx)).toMatchObject({ versions: [{ version: 0, spec: { a: new Date(5), b: 5n } }], state: { ready: true } })
    expect((await c.add('model', name, { other: 1 }, s.ctx)).version.version).toBe(1)
  }, durable),
  rule('components.second.seen', 'what one connection declares another sees', async (s) => {
    const [one, two] = await Promise.all((await both(s)).map((data) => components(s, data))), name = s.name('m')
    await one!.add('model', name, { x: 1 }, s.ctx)
    expect((await two!.get('model', name, s.ctx))?.versions.length).toBe(1)
    await two!.remove('model', name, s.ctx)
    expect(await one!.get('model', name, s.ctx)).toBeUndefined()
  }, manyWriters),

  rule('components.api.versions', 'a changed model is a new version; the old one stays loadable until it is removed', async (s) => {
    const db = await s.open()
    await db.add(twice(1))
    await db.add(twice(1))
    expect((await db.add(twice(2))).version).toBe(1)
    expect([await (await db.load(twice(1), 0)).predict([3]), await (await db.load(twice(2))).predict([3])]).toEqual([[6], [12]])
    expect((await db.show('model', 'twice')).map((c) => c.version)).toEqual([0, 1])
    await db.remove('model', 'twice', { version: 0 })
    expect((await db.show('model', 'twice')).map((c) => c.version)).toEqual([1])
    await db.remove('model', 'twice')
    expect([await db.show('model', 'twice'), await codeOf(db.load(twice(2)))]).toEqual([[], 'NOT_FOUND'])
    await db.close()
  }),
  rule('components.api.in-use', 'what is in use is not removed, and the error names who uses it', async (s) => {
    const db = await s.open(), name = s.name('docs'), vec = model('vec', { run: step('vec@1', (xs: readonly number[]) => xs.map((x) => Float32Array.from([x, 1]))), shape: [2] }), on = listener({ model: vec, on: name, key: 'x', name: 'used' })
    await db.add(vectorIndex('near', { indexing: on, measure: 'l2' }))
    expect([await codeOf(db.remove('model', 'vec')), await codeOf(db.remove('listener', 'used'))]).toEqual(['CONFLICT', 'CONFLICT'])
    expect(await db.remove('listener', 'used').catch((error: unknown) => (error as Error).message)).toContain('near')
    for (const [kind, of] of [['index', 'near'], ['listener', 'used'], ['model', 'vec']] as const) await db.remove(kind, of)
    expect((await db.show()).filter((c) => ['near', 'used', 'vec'].includes(c.name))).toEqual([])
    await db.close()
  }),
  rule('components.api.race', 'four Inlays that add the same listener at once end with one, and each row has its output', async (s) => {
    const name = s.name('docs'), dbs = await Promise.all(times(4, () => s.open())), spec = listener({ model: twice(3), on: name, key: 'x', name: `race_${name}` })
    await dbs[0]!.collection<{ x: number }>(name).insert(times(30, (x) => ({ x })))
    const handles = await Promise.all(dbs.map((db) => db.add(spec)))
    expect((await dbs[1]!.show('listener', `race_${name}`)).map((l) => [l.version, l.state])).toEqual([[0, 'ready']])
    for (const row of await dbs[2]!.collection<{ x: number }>(name).find().toArray()) expect(handles[2]!.of(row)).toBe(row.x * 6)
    await dbs[0]!.remove('listener', `race_${name}`)
    for (const db of dbs) await db.close()
  }),
  rule('components.api.conflict', 'a listener of one name with another selection is CONFLICT, and changes nothing', async (s) => {
    const db = await s.open(), name = s.name('docs'), of = (where: Readonly<Record<string, unknown>>) => listener({ model: twice(4), on: name, key: 'x', where, name: `same_${name}` })
    await db.add(of({ x: { $gt: 1 } }))
    expect(await codeOf(db.add(of({ x: { $gt: 2 } })))).toBe('CONFLICT')
    expect((await db.show('listener', `same_${name}`)).length).toBe(1)
    await db.remove('listener', `same_${name}`)
    await db.close()
  }),
  rule('components.api.plan', 'plan says what add would do, and changes nothing', async (s) => {
    const db = await s.open(), name = s.name('docs'), spec = listener({ model: twice(5), on: name, key: 'x', name: `plan_${name}` })
    await db.collection<{ x: number }>(name).insert([{ x: 1 }, { x: 2 }])
    const before = await s.find('_components'), plan = await db.plan([spec])
    expect([plan.steps.some((one) => one.rows === 2), await s.find('_components'), await db.show('listener', `plan_${name}`)]).toEqual([true, before, []])
    await plan.apply()
    expect((await db.show('listener', `plan_${name}`)).length).toBe(1)
    expect((await db.plan([spec])).steps.filter((one) => (one.rows ?? 0) > 0)).toEqual([])
    await db.remove('listener', `plan_${name}`)
    await db.close()
  }),
]
