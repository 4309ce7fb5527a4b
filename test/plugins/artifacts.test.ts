/** What artifact stores do between the steps of a write and of a removal; the rest is in the conformance suite. */
import { existsSync, mkdirSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it, type TestContext } from 'vitest'
import type { ArtifactStore, Connection, Datalayer } from '../../core/contract.ts'
import { sha256 } from '../../core/encoding.ts'
import { memory } from '../../core/memory.ts'
import { rowArtifacts } from '../../core/row-artifacts.ts'
import file from '../../plugins/file/index.ts'
import postgres from '../../plugins/postgres/index.ts'
import { runSql } from '../support/own-database.ts'
import { dropSchema } from '../support/backends.ts'
import { pgliteFolder, postgresUri } from '../support/servers.ts'
import { temporaryFolder } from '../support/temporary.ts'

const ctx = { signal: new AbortController().signal }
const content = (n: number, seed: number): Uint8Array => Uint8Array.from({ length: n }, (_, i) => (i * 31 + (i >> 8) * 7 + seed) & 255)
const body = async function* (bytes: Uint8Array): AsyncIterable<Uint8Array> { yield bytes }
async function store(artifacts: ArtifactStore, bytes: Uint8Array): Promise<string> {
  await artifacts.write(sha256(bytes), body(bytes), ctx)
  return sha256(bytes)
}
/** The hash of what is read, or the code of the error. */
async function read(artifacts: ArtifactStore, id: string): Promise<string> {
  const parts: Uint8Array[] = []
  try {
    for await (const part of artifacts.read(id, { offset: 0 }, ctx)) parts.push(part)
  } catch (error) {
    return (error as { readonly code: string }).code
  }
  return sha256(Buffer.concat(parts))
}
async function ids(artifacts: ArtifactStore): Promise<readonly string[]> {
  const found: string[] = []
  for await (const page of artifacts.list(ctx)) found.push(...page.map(({ id }) => id))
  return found.sort()
}
async function connect(test: TestContext, plugin: typeof postgres, uri: string, namespace = 'inlay'): Promise<Connection> {
  const connection = await plugin.connect!(uri, { namespace }, ctx)
  test.onTestFinished(() => connection.close())
  return connection
}
async function onServer(test: TestContext): Promise<{ readonly artifacts: ArtifactStore; readonly uri: string; readonly namespace: string }> {
  const uri = postgresUri(test), namespace = `t_${crypto.randomUUID().replaceAll('-', '')}`
  test.onTestFinished(() => dropSchema(uri, namespace))
  return { artifacts: (await connect(test, postgres, uri, namespace)).artifacts!, uri, namespace }
}
async function inRows(test: TestContext): Promise<{ readonly data: Datalayer; readonly artifacts: ArtifactStore; rowsLeft(): Promise<number> }> {
  const data = (await connect(test, memory, 'memory:')).data!
  return { data, artifacts: rowArtifacts(data), rowsLeft: () => data.count({ from: '_artifacts' }, ctx) }
}

describe('removing what is older', () => {
  const stores: readonly (readonly [string, (test: TestContext) => Promise<ArtifactStore>])[] = [
    ['memory', async (test) => (await connect(test, memory, 'memory:')).artifacts!],
    ['rows', async (test) => (await inRows(test)).artifacts],
    ['files', async (test) => (await connect(test, file, `file:${temporaryFolder()}`)).artifacts!],
    ['PGlite', async (test) => (await connect(test, postgres, `pglite:${pgliteFolder(test)}`)).artifacts!],
    ['PostgreSQL', async (test) => (await onServer(test)).artifacts],
  ]
  for (const [name, open] of stores) {
    it(`${name}: spares the young, also those made young by writing again`, async (test) => {
      const artifacts = await open(test), old = await store(artifacts, content(3_000_000, 1)), again = await store(artifacts, content(3_000_000, 2))
      await sleep(400)
      await store(artifacts, content(3_000_000, 2))
      await artifacts.remove([old, again, sha256('nobody')], ctx, 60_000)
      expect(await ids(artifacts)).toEqual([old, again].sort())
      await artifacts.remove([old, again], ctx, 350)
      expect([await read(artifacts, old), await read(artifacts, again)]).toEqual(['NOT_FOUND', again])
      await artifacts.remove([again], ctx)
      expect(await ids(artifacts)).toEqual([])
    })
  }
})

describe('PostgreSQL', () => {
  it('keeps the chunks of a writer that has no head yet when its id is removed', async (test) => {
    const { artifacts } = await onServer(test), bytes = content(3 * 1024 * 1024, 3), id = sha256(bytes)
    await artifacts.write(id, (async function* () {
      yield bytes.subarray(0, 2 * 1024 * 1024 + 5)
      await artifacts.remove([id], ctx)
      yield bytes.subarray(2 * 1024 * 1024 + 5)
    })(), ctx)
    expect(await read(artifacts, id)).toBe(id)
  })

  it('leaves no chunks of whoever loses the race for a head, of a body that breaks off, or of what is removed', async (test) => {
    const { artifacts, uri, namespace } = await onServer(test), bytes = content(2_500_000, 4), id = sha256(bytes)
    const generations = async (): Promise<unknown> => (await runSql(uri, `select count(distinct generation)::int as n from ${namespace}._chunks`))[0]!['n']
    await Promise.all(Array.from({ length: 5 }, () => store(artifacts, bytes)))
    expect([await generations(), await read(artifacts, id)]).toEqual([1, id])
    await artifacts.write(sha256('broken'), (async function* () { yield bytes; throw new Error('broken') })(), ctx).catch(() => {})
    expect(await generations()).toBe(1)
    await artifacts.remove([id], ctx)
    expect(await generations()).toBe(0)
  })

  it('collects what dead writers left when artifacts are listed, a day later', async (test) => {
    const { artifacts, uri, namespace } = await onServer(test), id = await store(artifacts, content(10, 5)), chunks = `${namespace}._chunks`
    await runSql(uri, `update ${chunks} set written = now() - interval '2 days'`, `insert into ${chunks} values ('dead', gen_random_uuid(), 0, '', now() - interval '2 days'), ('living', gen_random_uuid(), 0, '', now())`)
    const left = async (): Promise<readonly unknown[]> => (await runSql(uri, `select id from ${chunks} order by id`)).map((row) => row['id'])
    await store(artifacts, content(10, 5))
    expect((await left()).length).toBe(3)
    await ids(artifacts)
    expect(await left()).toEqual([id, 'living'])
  })
})

describe('rows', () => {
  it('a head that is removed while it is renewed does not come back without its chunks', async (test) => {
    const { data, artifacts, rowsLeft } = await inRows(test), bytes = content(600_000, 6), id = await store(artifacts, bytes)
    let removed = false
    // Another process removes the artifact after this one has read its head.
    const late = rowArtifacts({ ...data, async *find(query, c) {
      for await (const rows of data.find(query, c)) {
        if (!removed && rows.some(({ key }) => key === id)) { removed = true; await artifacts.remove([id], ctx) }
        yield rows
      }
    } })
    await store(late, bytes)
    expect([removed, await read(artifacts, id)]).toEqual([true, id])
    await artifacts.remove([id], ctx)
    expect(await rowsLeft()).toBe(0)
  })

  it('a head that is renewed while it is removed as old stays, with its chunks', async (test) => {
    const { data, artifacts } = await inRows(test), bytes = content(600_000, 7), id = await store(artifacts, bytes)
    await sleep(400)
    let renewed = false
    const late = rowArtifacts({ ...data, async *find(query, c) {
      for await (const rows of data.find(query, c)) {
        if (!renewed && rows.some(({ key }) => key === id)) { renewed = true; await store(artifacts, bytes) }
        yield rows
      }
    } })
    await late.remove([id], ctx, 350)
    expect([renewed, await read(artifacts, id)]).toEqual([true, id])
  })

  it('whoever loses the race for a head leaves no chunks', async (test) => {
    const { artifacts, rowsLeft } = await inRows(test), bytes = content(600_000, 8), id = sha256(bytes)
    await Promise.all(Array.from({ length: 5 }, () => store(artifacts, bytes)))
    expect([await read(artifacts, id), await rowsLeft()]).toEqual([id, 1 + 3])
  })
})

describe('files', () => {
  it('lists artifacts only, and leaves files of others alone', async (test) => {
    const folder = temporaryFolder(), { artifacts } = await connect(test, file, `file:${folder}`), id = await store(artifacts!, content(100, 9))
    const others = ['ab/notes.txt', `ab/${'c'.repeat(64)}`, `ab/${'ab'.repeat(32)}.bak`, 'tmp/mine.txt']
    mkdirSync(join(folder, 'ab'), { recursive: true })
    for (const other of others) {
      writeFileSync(join(folder, other), 'x')
      utimesSync(join(folder, other), 0, 0)
    }
    expect(await ids(artifacts!)).toEqual([id])
    expect(others.filter((other) => !existsSync(join(folder, other)))).toEqual([])
  })
})
