/** The stories as a user runs them: in a process of their own, and again on what the run before left. */
import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'

const root = join(import.meta.dirname, '../..')
const stories = [
  { file: '000-tensors.ts', options: [], says: /^After update: follows; after replace: follows; deleted: not found any more; verify: all is well\.$/m },
  { file: '002-mnist.ts', options: [], says: /^The digits are drawn by this program\. The classifier is no LeNet: [^]*^9\d\d of 1000 are right\./m },
  { file: '004-search.ts', options: ['--out'], says: /^The pictures are emoji\. [^]*^green apple: [^]*^20 of 20 pictures find themselves first, 20 by their _id\.$/m },
]

describe.each(stories)('examples/stories/$file', ({ file, options, says }) => {
  it('says what it does and ends with the numbers, and does the same a second time', { timeout: 60_000 }, async (ctx) => {
    const folder = mkdtempSync(join(tmpdir(), 'inlay-stories-'))
    ctx.onTestFinished(() => rmSync(folder, { recursive: true }))
    for (let time = 0; time < 2; time++) {
      const { stdout, stderr } = await promisify(execFile)(process.execPath, [`examples/stories/${file}`, `duckdb:${join(folder, 'app.duckdb')}`, ...options.flatMap((name) => [name, join(folder, 'sheet.png')])], { cwd: root, signal: ctx.signal })
      expect(stdout).toMatch(says)
      expect(stdout).toMatch(/^The numbers: \{$[^]*^ {2}ok: true/m)
      expect(stderr).toBe('')
    }
  })
})
