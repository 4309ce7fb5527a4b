/** Back-fill of many short texts: rate, and the most memory the process had. `plain` as a target is the control: the same rows and vectors by PGlite alone. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { inlay } from '../index.ts'
import { dims, spec } from './models.ts'
import { benchServer } from './server.ts'
import { texts } from './texts.ts'

const [, , target = 'postgres', countText = '100000'] = process.argv
const count = Number(countText), chunk = 500
const folder = mkdtempSync(join(tmpdir(), 'inlay-bench-'))
const result = target === 'plain' ? await control() : await backfill()
rmSync(folder, { recursive: true, force: true })
process.stdout.write(`${JSON.stringify({ case: `back-fill, ${target}`, rows: count, ...result, peakMB: Math.round(process.resourceUsage().maxRSS / 1024) })}\n`)
process.exit()

async function backfill(): Promise<object> {
  const server = target === 'postgres' ? await benchServer() : undefined
  const db = await inlay({ data: server?.url ?? `pglite:${folder}/db`, namespace: server?.namespace ?? 'bench', config: false })
  const docs = db.collection<{ text: string }>('docs'), load = performance.now()
  await docs.insert(stream())
  const loaded = performance.now(), embed = await db.add(spec('static'))
  await embed.predict(['warm up'])
  const start = performance.now(), listener = await embed.listen(docs.find(), 'text')
  const seconds = (performance.now() - start) / 1000
  const again = performance.now()
  const health = await db.verify()
  const nothing = performance.now() - again
  if (!health.ok || health.rows !== count) throw new Error(`The back-fill is not complete: ${JSON.stringify(health)}`)
  void listener
  await db.close()
  await server?.stop()
  return { insertPerSecond: Math.round(count / (loaded - load) * 1000), perSecond: Math.round(count / seconds), seconds: Number(seconds.toFixed(1)), nothingToDoMs: Math.round(nothing) }
}
async function* stream(): AsyncIterable<{ text: string }> {
  for (const text of texts(count)) yield { text }
}

async function control(): Promise<object> {
  const { PGlite } = await import('@electric-sql/pglite'), { vector } = await import('@electric-sql/pglite-pgvector')
  const db = await PGlite.create({ dataDir: `${folder}/db`, extensions: { vector } })
  await db.exec(`create extension vector; create table docs (id text primary key, doc jsonb); create table emb (id text primary key references docs, v vector(${dims}))`)
  const all = [...texts(count)], start = performance.now()
  for (let i = 0; i < all.length; i += chunk) {
    const part = all.slice(i, i + chunk), ids = part.map((_, n) => String(i + n))
    await db.query('insert into docs select * from unnest($1::text[], $2::jsonb[])', [ids, part.map((text) => JSON.stringify({ text }))])
    await db.query('insert into emb select a, b::vector from unnest($1::text[], $2::text[]) v(a, b)', [ids, part.map((_, n) => `[${Array.from({ length: dims }, (__, d) => Math.sin(i + n + d).toFixed(6)).join(',')}]`)])
  }
  const seconds = (performance.now() - start) / 1000
  await db.close()
  return { perSecond: Math.round(count / seconds), seconds: Number(seconds.toFixed(1)) }
}
