/** The examples run as a user runs them: in a process of their own, unbuilt, without a terminal. */
import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { describe, expect, it, type TestContext } from 'vitest'

const root = join(import.meta.dirname, '..'), page = join(root, 'examples/emoji/out/index.html')

interface Ended { readonly out: string; readonly err: string; readonly code: number | null }

/** Runs the example on a database. With `killAt`, it is killed as soon as that stands in stderr. */
async function emoji(ctx: TestContext, uri: string, killAt?: string): Promise<Ended> {
  const child = spawn(process.execPath, ['examples/emoji/main.ts', uri], { cwd: root, env: { PATH: process.env.PATH }, signal: ctx.signal, stdio: ['ignore', 'pipe', 'pipe'] })
  const ended = new Promise<number | null>((resolve, reject) => { child.once('exit', resolve).once('error', reject) })
  if (killAt !== undefined) child.stderr.on('data', (part: Buffer) => { if (String(part).includes(killAt)) child.kill('SIGKILL') })
  const [out, err, code] = await Promise.all([text(child.stdout), text(child.stderr), ended])
  return { out, err, code }
}

/** Names of the pictures below a heading of the page. */
function shown(heading: string): readonly string[] {
  const section = readFileSync(page, 'utf8').split('<section>').find((part) => part.includes(`<h2>${heading}</h2>`)) ?? ''
  return [...section.matchAll(/<img src="data:image\/webp;base64,[\w+/=]+" alt="">([^<]+)/g)].map((match) => match[1]!)
}

describe('examples/emoji', () => {
  it('stores pictures, finds them by meaning, writes a page, and follows changes', { timeout: 60_000 }, async (ctx) => {
    rmSync(page, { force: true })
    const { out, err, code } = await emoji(ctx, 'memory:')
    expect(code, err + out).toBe(0)
    expect(out).toMatch(/^store +1,866 new pictures, 4 model calls/m)
    expect(out).toMatch(/^ +animal that lives in the ocean +dolphin +shark +octopus$/m)
    expect(out).toMatch(/^ +insert "yellow submarine" +1 model call +yellow submarine +banana$/m)
    expect(out).toMatch(/^ +rename to "banana split" +1 model call +dolphin +banana split$/m)
    expect(out).toMatch(/^ +change its group +0 model calls +dolphin +banana split$/m)
    expect(out).toMatch(/^ +delete it +0 model calls +dolphin +banana$/m)
    expect(out).toMatch(/^verify +all is well: 1,866 rows, 0 missing, 0 stale, 0 failed, 0 orphaned/m)
    expect(out, 'no colors without a terminal').not.toContain('\u001b')
    expect(err, 'nothing but progress').toMatch(/^( +\d+ of 1866\n)+$/)
    expect(shown('animal that lives in the ocean')).toEqual(['dolphin', 'shark', 'octopus', 'blowfish', 'squid', 'whale', 'tropical fish', 'shrimp'])
    expect(shown('birthday party').slice(0, 2)).toEqual(['partying face', 'birthday cake'])
    expect(shown('flying high in the sky')).toContain('airplane')
    expect(shown('flying high in the sky, in Animals &amp; Nature')).toContain('bird')
    expect(shown('flying high in the sky, in Animals &amp; Nature')).not.toContain('airplane')
  })

  it('goes on where it was killed, and then has nothing to do', { timeout: 120_000 }, async (ctx) => {
    const folder = mkdtempSync(join(tmpdir(), 'inlay-emoji-'))
    ctx.onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
    const killed = await emoji(ctx, `pglite:${join(folder, 'db')}`, ' of 1866')
    expect(killed.code, killed.err + killed.out).toBe(null)
    const second = await emoji(ctx, `pglite:${join(folder, 'db')}`)
    expect(second.code, second.err + second.out).toBe(0)
    const [, inserted] = /^store +([\d,]+) new pictures, [1-4] model calls?/m.exec(second.out) ?? []
    expect(Number(inserted?.replace(',', '')), second.out).toBeLessThan(1866)
    expect(second.out).toMatch(/^verify +all is well: 1,866 rows, 0 missing, 0 stale, 0 failed, 0 orphaned/m)
    const third = await emoji(ctx, `pglite:${join(folder, 'db')}`)
    expect(third.code, third.err + third.out).toBe(0)
    expect(third.out).toMatch(/^store +1,866 pictures there, nothing to do: 0 model calls/m)
    expect(third.out).toMatch(/^ +animal that lives in the ocean +dolphin +shark +octopus$/m)
    expect(third.err).toBe('')
  })

  it('says in one sentence what is wrong with a URI, and never the password', { timeout: 60_000 }, async (ctx) => {
    const { out, err, code } = await emoji(ctx, 'postgres://me:secret@localhost:1/nothing')
    expect(code).toBe(1)
    expect(err).toMatch(/^\nerror +"postgres:\/\/me:\*\*\*@localhost:1\/nothing" cannot be opened: [^\n]+\n\n$/)
    expect(out + err).not.toContain('secret')
  })
})
