/** All benches, each in a process of its own, one after the other: prints a table and writes bench/out/results.json. Ratios are ours over the opponent's in the same run: more is better. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { cpus, totalmem } from 'node:os'
import { startMongodb } from '../test/support/mongodb-server.ts'
import { startPostgres } from '../test/support/postgres-server.ts'
import { sharedData } from '../test/support/shared-data.ts'

const quick = process.argv.includes('--quick')
const cases: readonly (readonly string[])[] = [
  ['insert.ts', 'static', quick ? '5000' : '20000', '500', quick ? '1' : '5'],
  ['insert.ts', 'heavy', quick ? '1000' : '4000', '500', quick ? '1' : '5'],
  ['insert.ts', 'static', quick ? '300' : '2000', '1', quick ? '1' : '3'],
  ['insert.ts', 'heavy', quick ? '300' : '1000', '1', quick ? '1' : '3'],
  ['trips.ts'],
  ['backfill.ts', 'postgres', quick ? '5000' : '100000'],
  ['backfill.ts', 'pglite', quick ? '5000' : '100000'],
  ['backfill.ts', 'plain', quick ? '5000' : '100000'],
  ['bulk.ts', 'postgres', quick ? '5000' : '50000'],
  ['bulk.ts', 'postgres-values', quick ? '5000' : '50000'],
  ['bulk.ts', 'mongodb', quick ? '5000' : '50000'],
  ['bulk.ts', 'duckdb', quick ? '5000' : '50000'],
  ['stale.ts', 'postgres', quick ? '20000' : '1000000'],
  ['stale.ts', 'duckdb::memory:', quick ? '20000' : '1000000'],
  ['stale.ts', 'mongodb', quick ? '20000' : '1000000'],
  ['follow.ts', 'postgres', quick ? '20' : '200'],
  ['follow.ts', 'mongodb', quick ? '20' : '200'],
  ['search.ts', quick ? '5000' : '50000'],
  // These need the shared data beside the checkout.
  ...(sharedData('mnist') === undefined ? [] : [
    ['pipeline.ts', quick ? '200' : '1000', quick ? '1' : '5'],
    ['pictures.ts', 'tiny', quick ? '1' : '5'],
    ['pictures.ts', 'mnist', quick ? '1' : '5'],
    ['predecessor.ts', 'mongodb', quick ? '1000' : '10000'],
  ]),
]
const server = process.env['INLAY_TEST_POSTGRES_URL'] === undefined ? await startPostgres() : undefined, mongodb = process.env['INLAY_TEST_MONGODB_URL'] === undefined ? await startMongodb() : undefined
const urls = { postgres: process.env['INLAY_TEST_POSTGRES_URL'] ?? server!.url, mongodb: process.env['INLAY_TEST_MONGODB_URL'] ?? mongodb!.url }
const results: Record<string, unknown>[] = []
try {
  for (const [file, ...given] of cases) {
    const args = ['stale.ts', 'follow.ts', 'predecessor.ts'].includes(file!) ? given.map((arg) => urls[arg as keyof typeof urls] ?? arg) : given
    const out = execFileSync(process.execPath, [new URL(file!, import.meta.url).pathname, ...args], { encoding: 'utf8', env: { ...process.env, INLAY_TEST_POSTGRES_URL: urls.postgres }, stdio: ['ignore', 'pipe', 'inherit'] })
    const result = JSON.parse(out.trim().split('\n').at(-1)!) as Record<string, unknown>
    results.push(result)
    const { case: name, ...figures } = result
    process.stdout.write(`${String(name).padEnd(38)} ${Object.entries(figures).map(([key, value]) => `${key} ${typeof value === 'object' ? JSON.stringify(value) : String(value)}`).join('  ')}\n`)
  }
} finally {
  await server?.stop()
  await mongodb?.stop()
}
mkdirSync(new URL('out/', import.meta.url), { recursive: true })
writeFileSync(new URL('out/results.json', import.meta.url), `${JSON.stringify({ node: process.version, cores: cpus().length, memoryGB: Math.round(totalmem() / 2 ** 30), quick, results }, null, 2)}\n`)
