import { readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { schemeOf } from '../core/uri.ts'
import { memory } from '../core/memory.ts'
import type { Plugin } from '../core/contract.ts'
import { firstParty } from '../plugins/index.ts'
import { capabilitiesTable, page, type Shown } from '../scripts/capabilities.ts'
import { areas } from './conformance/index.ts'
import { live } from './conformance/subject.ts'
import { backends } from './support/backends.ts'

const again = 'docs/capabilities.md is out of date. Run: INLAY_TEST_CONFORMANCE_OUT=/tmp/out npx vitest run test/conformance && npx node scripts/capabilities.ts /tmp/out/conformance.json'
const text = readFileSync(page, 'utf8')
/** One column of the page's first table, by what it says. */
function column(table: string, name: string): Readonly<Record<string, string>> | undefined {
  const rows = table.split('\n').filter((line) => line.startsWith('| ')).map((line) => line.slice(2, -2).split(' | ')), at = rows[0]!.indexOf(name)
  return at < 0 ? undefined : Object.fromEntries(rows.slice(2).map((row) => [row[0]!, row[at]!]))
}

for (const backend of backends) {
  it(`docs/capabilities.md says what ${backend.name} says of itself`, async (ctx) => {
    const uri = backend.uri(ctx), scheme = schemeOf(uri), plugin: Plugin = scheme === 'memory' ? memory : await firstParty.find((entry) => 'schemes' in entry && entry.schemes!.includes(scheme))!.load() as Plugin
    const connection = await plugin.connect!(uri, { namespace: 'capabilities_page' }, live)
    ctx.onTestFinished(() => connection.close())
    const shown: Shown = { name: backend.name, capabilities: connection.data!.capabilities, artifacts: connection.artifacts === undefined ? 'rows' : 'plugin', ...(connection.vectors === undefined ? {} : { vectors: connection.vectors.capabilities }) }
    const fresh = capabilitiesTable([shown]), section = text.slice(text.indexOf('## Capabilities'), text.indexOf('## Rules'))
    expect(column(section, backend.name), again).toEqual(column(fresh, backend.name))
    expect(section.split('\n').filter((line) => line.startsWith(`- ${backend.name}: `)), again).toEqual(fresh.split('\n').filter((line) => line.startsWith('- ')))
  })
}

it('docs/capabilities.md counts the rules that there are', () => {
  const counted = Object.fromEntries([...text.slice(text.indexOf('## Rules')).matchAll(/^\| ([a-z]+) \| (\d+) \|/gm)].map(([, area, n]) => [area, Number(n)]))
  expect(counted, again).toEqual(Object.fromEntries(Object.entries(areas).map(([area, rules]) => [area, rules.length])))
})
