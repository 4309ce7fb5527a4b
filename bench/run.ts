/** All benches, each in a process of its own, one after the other: prints a table and writes bench/out/results.json. Ratios are ours over the opponent's in the same run: more is better. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { cpus, totalmem } from 'node:os'
import { startPostgres } from '../test/support/postgres-server.ts'

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
  ['search.ts', quick ? '5000' : '50000'],
]
const server = process.env['INLAY_TEST_POSTGRES_URL'] === undefined ? await startPostgres() : undefined
const results: Record<string, unknown>[] = []
try {
  for (const [file, ...args] of cases) {
    const out = execFileSync(process.execPath, [new URL(file!, import.meta.url).pathname, ...args], { encoding: 'utf8', env: { ...process.env, INLAY_TEST_POSTGRES_URL: process.env['INLAY_TEST_POSTGRES_URL'] ?? server!.url }, stdio: ['ignore', 'pipe', 'inherit'] })
    const result = JSON.parse(out.trim().split('\n').at(-1)!) as Record<string, unknown>
    results.push(result)
    const { case: name, ...figures } = result
    process.stdout.write(`${String(name).padEnd(38)} ${Object.entries(figures).map(([key, value]) => `${key} ${typeof value === 'object' ? JSON.stringify(value) : String(value)}`).join('  ')}\n`)
  }
} finally {
  await server?.stop()
}
mkdirSync(new URL('out/', import.meta.url), { recursive: true })
writeFileSync(new URL('out/results.json', import.meta.url), `${JSON.stringify({ node: process.version, cores: cpus().length, memoryGB: Math.round(totalmem() / 2 ** 30), quick, results }, null, 2)}\n`)
