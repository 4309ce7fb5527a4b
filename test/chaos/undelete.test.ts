/** On MongoDB a document that was deleted may come back with fields of Inlay's in it. No notice can tell that from Inlay's own insert: comparing contents finds it. */
import { expect, it } from 'vitest'
import { MongoClient } from 'mongodb'
import { inlay, listener, model, step } from '../../index.ts'
import type { Datalayer, Slot } from '../../core/contract.ts'
import { mongodbUri } from '../support/servers.ts'

const length = listener({ model: model('length', { run: step('length@1', (texts: readonly string[]) => texts.map((t) => t.length)) }), on: 'docs', key: 'text' })
const ctx = { signal: new AbortController().signal }

it('verify finds and repairs documents that came back with old fields of Inlay', async (test) => {
  const uri = mongodbUri(test), namespace = `undelete_${crypto.randomUUID().slice(0, 8)}`, client = await MongoClient.connect(uri), rows = client.db(namespace).collection<{ _id: string; text: string }>('docs')
  const db = await inlay({ data: uri, namespace, config: false, log: {}, outputs: 'worker' })
  test.onTestFinished(async () => { await db.close({ abort: true }); await client.db(namespace).dropDatabase(); await client.close() })
  const docs = db.collection<{ text: string }>('docs')
  await docs.insert([{ _id: 'settled', text: 'one' }, { _id: 'never', text: 'one' }])
  await db.add(length)
  const { data, slot } = (({ core }) => ({ data: core.data, slot: core.listeners.get('text_length').target.slot }))(db as unknown as { core: { data: Datalayer; listeners: { get(name: string): { target: { slot: Slot } } } } })
  const work = new Map<string, string>()
  for await (const page of data.rows(slot, 'stale', 'all', ctx)) for (const { key, rev } of page) work.set(key, rev)
  expect(await data.settle(slot, [{ key: 'settled', rev: work.get('settled')!, hash: 'one', kind: 'values', values: [3] }], ctx)).toEqual([])
  const before = await rows.find().toArray()
  await rows.deleteMany({})
  await rows.insertMany(before.map((doc) => ({ ...doc, text: 'another text' })))
  // A worker that held the row from before: its rev is there again.
  expect(await data.settle(slot, [{ key: 'never', rev: work.get('never')!, hash: 'one', kind: 'values', values: [3] }], ctx)).toEqual([])
  const outputs = async (): Promise<readonly unknown[]> => (await docs.find().sort({ _id: 1 }).toArray()).map((row) => row._outputs?.['text']?.['length'])
  expect([await outputs(), (await db.verify()).ok]).toEqual([[3, 3], true])       // wrong, and by revs alone nothing shows it
  expect(await db.verify({ deep: true, repair: true })).toMatchObject({ ok: false, stale: 2, repaired: { computed: 2 } })
  expect([await outputs(), (await db.verify({ deep: true })).ok]).toEqual([[12, 12], true])
})
