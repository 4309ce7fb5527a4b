/** PostgreSQL with one statement changed each, among them the traps that were measured (docs/decisions.md), and the rule of the suite that notices it. Races are in test/chaos/mutants.test.ts. */
import { describe, expect, it, type TestContext } from 'vitest'
import type { Connection, Plugin } from '../../core/contract.ts'
import { PostgresData } from '../../plugins/postgres/datalayer.ts'
import postgres from '../../plugins/postgres/index.ts'
import { openNamespace } from '../../plugins/postgres/schema.ts'
import { connectServer } from '../../plugins/postgres/server.ts'
import { vectorSearch } from '../../plugins/postgres/vectors.ts'
import { postgresForeign } from '../support/postgres-foreign.ts'
import { postgresUri } from '../support/servers.ts'
import { end, ruleOf } from './run.ts'

interface Fault {
  readonly fault: string
  readonly from: RegExp
  readonly to: string
  /** The id of the rule that notices it. */
  readonly kills: string
  /** Where it is no assertion that fails, but a statement. */
  readonly throws?: RegExp
}
const faults: readonly Fault[] = [
  { fault: 'arrays are not opened', from: /(\$\d+)::jsonpath/g, to: `('strict ' || $1::text)::jsonpath`, kills: 'queries.random.filters', throws: /jsonpath member accessor can only be applied/ },
  { fault: 'keys are sorted without regard to case', from: /order by d\._id/g, to: 'order by lower(d._id), d._id', kills: 'queries.find.key-order' },
  { fault: 'a compare-and-set compares nothing', from: / and \(v\.rev is null or d\._rev::text = v\.rev\)/g, to: '', kills: 'concurrency.cas.one-winner' },
  { fault: 'settle stores whatever the rev', from: /d\._rev::text = v\.rev/g, to: 'true', kills: 'slots.fence.moved' },
  { fault: 'stale is what has no output', from: / or o\.rev <> d\._rev::text/g, to: '', kills: 'slots.stale.changed' },
  { fault: 'same moves a mark of another hash', from: / and o\.hash = ok\.hash/g, to: '', kills: 'slots.same.other-hash' },
  { fault: 'a new outcome keeps the maker that was there', from: /made_by = excluded\.made_by, /g, to: '', kills: 'slots.by.replaced' },
  { fault: 'same takes its own maker', from: /( set rev = ok\.rev)/g, to: '$1, made_by = ok.made_by', kills: 'slots.by.same' },
  { fault: 'an element that changed keeps its rev', from: /set rev = excluded\.rev, (value = excluded\.value where)/g, to: 'set $1', kills: 'slots.elements.same' },
  { fault: 'many outputs that are fewer now leave the old ones', from: / and o\.off >= v\.n/g, to: ' and o.off < 0', kills: 'slots.many.shrink' },
  { fault: 'prune removes what is selected', from: /not exists \(select from/g, to: 'exists (select from', kills: 'slots.prune.unselected' },
  { fault: 'a put keeps what it does not name', from: /insert into ("[^"]+"\.("[^"]+")) \(_id, _rev, doc\) (.*?)doc = excluded\.doc/gs, to: 'insert into $1 (_id, _rev, doc) $3doc = $2.doc || excluded.doc', kills: 'rows.put.replaces' },
  { fault: 'an attached row is changed whatever its rev', from: / and \(v\.rev is null or t\.xmin::text = v\.rev\)/g, to: '', kills: 'attached.patch.cas' },
  { fault: 'the rev of an attached row is its key', from: /t\.xmin::text as _rev/g, to: `'same' as _rev`, kills: 'attached.rev.foreign-write' },
  { fault: 'attached rows come in the order of the texts of their keys', from: /order by d\.c\d+(, d\.c\d+)*/g, to: 'order by d._id', kills: 'attached.find.order' },
  { fault: 'the key of an identity column is thrown away', from: / overriding system value/g, to: ' overriding user value', kills: 'attached.insert.key' },
  { fault: 'a removed attached row leaves its outputs', from: /delete from ("[^"]+"\."s[^"]*") where key = any/g, to: 'delete from $1 where false and key = any', kills: 'attached.slots.remove' },
  { fault: 'triggers stay after a drop', from: /drop function if exists (.*?)\(\) cascade/g, to: 'select 1', kills: 'attached.drop.leaves' },
  { fault: 'deletes are told to nobody', from: /elsif tg_op = 'DELETE' then .*?;/gs, to: `elsif tg_op = 'DELETE' then ks := null;`, kills: 'notices.foreign.every-kind' },
  { fault: 'vectors are compared by another measure', from: /operator\(([^)]*)\.<=>\)/g, to: 'operator($1.<->)', kills: 'vectors.cosine.3-dims' },
]

function mutated({ from, to }: Pick<Fault, 'from' | 'to'>, edited: () => void): Plugin {
  const edit = (text: string): string => {
    const after = text.replace(from, to)
    if (after !== text) edited()
    return after
  }
  return {
    ...postgres,
    async connect(uri, { namespace }, ctx): Promise<Connection> {
      const sql = await connectServer(uri)
      const place = await openNamespace({
        ...sql, query: (text, params, signal) => sql.query(edit(text), params, signal),
        transaction: (work, signal) => sql.transaction((query) => work((text, params) => query(edit(text), params)), signal),
      }, namespace, ctx.signal), data = new PostgresData(place)
      return { server: sql.server, data, vectors: vectorSearch(place.vectors!.schema, data), close: () => sql.close() }
    },
  }
}
const run = (ctx: TestContext, kills: string, plugin: Plugin): ReturnType<typeof end> => end(ruleOf(kills), { plugin, uri: async () => postgresUri(ctx), settings: { foreign: postgresForeign } })

describe('a mutant of PostgreSQL is noticed', () => {
  for (const of of faults) {
    it(`"${of.fault}" by ${of.kills}`, async (ctx) => {
      let edits = 0
      const { is, why } = await run(ctx, of.kills, mutated(of, () => { edits++ }))
      expect(edits, 'the mutant edits something').toBeGreaterThan(0)
      expect([is === 'failed' || (is === 'error' && of.throws?.test(why) === true), `${is}: ${why}`]).toEqual([true, expect.anything()])
    })
  }
})
describe('without a fault', () => {
  for (const kills of new Set(faults.map((f) => f.kills))) it(`${kills} holds`, async (ctx) => { expect(await run(ctx, kills, postgres)).toEqual({ is: 'passed', why: '' }) })
})
