/** A program of this repository, run as a process of its own that can be stopped or killed. It is ended by its pid when the test ends, however it ends. */
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import type { TestContext } from 'vitest'

export interface Child {
  /** The lines it has printed so far. */
  readonly lines: readonly string[]
  /** Resolves when it has printed the line; throws, with what it wrote to stderr, when it ends before. */
  said(line: string): Promise<void>
  /** Closes its input, which asks it to end, and awaits that. Throws, with what it wrote to stderr, unless it ends well. */
  stop(): Promise<void>
  /** Ends it by SIGKILL and awaits that. */
  kill(): Promise<void>
}

/** Runs a TypeScript file under the Node of the tests. The program is to end when its input is closed. */
export function startChild(ctx: TestContext, file: string, args: readonly string[]): Child {
  const child = spawn(process.execPath, [file, ...args], { stdio: ['pipe', 'pipe', 'pipe'] })
  const lines: string[] = [], waiting = new Map<string, () => void>()
  let stderr = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => { stderr += text })
  child.stdin.on('error', () => {})                                        // a program that has ended takes no input
  createInterface({ input: child.stdout }).on('line', (line) => {
    lines.push(line)
    waiting.get(line)?.()
  })
  const ended = new Promise<string>((resolve) => { child.once('close', (code, signal) => resolve(code === 0 ? '' : `${file} ended with ${signal ?? `code ${code}`}: ${stderr}`)) })
  const kill = async (): Promise<void> => {
    child.kill('SIGKILL')
    await ended
  }
  ctx.onTestFinished(kill)
  return {
    lines, kill,
    async said(line) {
      if (lines.includes(line)) return
      const early = ended.then((why) => { throw new Error(why === '' ? `${file} ended without saying "${line}".` : why) })
      await Promise.race([new Promise<void>((resolve) => { waiting.set(line, resolve) }), early])
    },
    async stop() {
      child.stdin.end()
      const why = await ended
      if (why !== '') throw new Error(why)
    },
  }
}
