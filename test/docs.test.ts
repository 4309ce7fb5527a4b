/** Every TypeScript block of the README and of docs/ runs as it is written, in a process and an empty folder of its own. */
import { spawn } from 'node:child_process'
import { existsSync, globSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { describe, expect, it } from 'vitest'
import { programsOf } from './support/doc-blocks.ts'

const root = join(import.meta.dirname, '..')

for (const path of [...globSync('README.md', { cwd: root }), ...globSync('docs/**/*.md', { cwd: root }).toSorted()]) {
  const programs = programsOf(readFileSync(join(root, path), 'utf8'))
  if (programs.length === 0) continue
  describe(path, () => {
    for (const { line, code, ignored } of programs) {
      if (ignored !== undefined) {
        it(`line ${line} is not run`, (ctx) => {
          expect(ignored, 'write the reason: ```ts ignore: reason').not.toBe('')
          ctx.skip(`documentation: ${ignored}`)
        })
      } else {
        it(`line ${line} runs`, { timeout: 120_000 }, async (ctx) => {
          const folder = mkdtempSync(join(tmpdir(), 'inlay-docs-'))
          ctx.onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
          writeFileSync(join(folder, 'block.ts'), code)
          const child = spawn(process.execPath, ['--import', join(root, 'test/support/resolve-inlay.ts'), 'block.ts'], { cwd: folder, env: { PATH: process.env.PATH, HOME: folder }, signal: ctx.signal, stdio: ['ignore', 'pipe', 'pipe'] })
          const [out, err, status] = await Promise.all([text(child.stdout), text(child.stderr), new Promise((done, failed) => child.once('exit', done).once('error', failed))])
          expect(status, `${path}, line ${line}:\n${err}${out}`).toBe(0)
        })
      }
    }
  })
}

describe('the documentation', () => {
  it('has a README', () => {
    expect(existsSync(join(root, 'README.md'))).toBe(true)
  })

  it('is split into programs: plain blocks, continued ones, ignored ones', () => {
    const markdown = '# A\n```ts\nconst a = 1\n```\ntext\n```sh\nls\n```\n```ts ignore: needs a server\nboom()\n```\n```ts continue\nconsole.log(a)\n```\n````ts\nconst b = `\n```\n`\n````\n'
    expect(programsOf(markdown)).toEqual([
      { line: 3, code: '\n\nconst a = 1\n\n\n\n\n\n\n\n\n\nconsole.log(a)\n' },
      { line: 10, code: `${'\n'.repeat(9)}boom()\n`, ignored: 'needs a server' },
      { line: 16, code: `${'\n'.repeat(15)}const b = \`\n\`\`\`\n\`\n` },
    ])
  })
})
