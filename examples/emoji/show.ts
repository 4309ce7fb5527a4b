/** What the example prints: short lines with the time they took, tables, and a bar. Colors where it is a terminal that wants them. */
import { styleText } from 'node:util'

const width = Math.min(process.stdout.columns || 100, 100)
let last = performance.now() - process.uptime() * 1000

/** A heading, and what is awaited now. */
export function say(text: string, next: string): void {
  console.log(`\n${styleText('bold', text)}\n`)
  if (process.stderr.isTTY) process.stderr.write(styleText('dim', next, { stream: process.stderr }))
}

/** Something is done: a word, what it came to, and the seconds since the line before. */
export function done(word: string, text: string): void {
  clear()
  const seconds = `${((performance.now() - last) / 1000).toFixed(1)} s`
  console.log(`${styleText('green', word.padEnd(8))}${text.padEnd(width - 16)}${styleText('dim', seconds.padStart(8))}`)
  last = performance.now()
}

/** An error is its message: it says what to do. */
export function onError(): void {
  process.stdout.on('error', () => process.exit())                          // piped into `head`
  process.once('uncaughtException', (error) => {
    clear()
    console.error(`\n${styleText('red', 'error', { stream: process.stderr })}   ${error.message}\n`)
    process.exitCode = 1
  })
}

/** Rows of cells, each column as wide as its widest cell. */
export function table(rows: readonly (readonly string[])[]): void {
  const columns = Math.max(...rows.map((row) => row.length))
  const widths = Array.from({ length: columns }, (_, i) => Math.max(...rows.map((row) => row[i]?.length ?? 0)))
  const lines = rows.map((row) => row.map((cell, i) => (i === 0 ? styleText('cyan', cell.padEnd(widths[i]!)) : cell.padEnd(widths[i]!))).join('  '))
  console.log(`\n${lines.map((line) => `  ${line.trimEnd()}`).join('\n')}\n`)
}

/** How far something is: a bar that moves in a terminal, a line of its own elsewhere. */
export function bar(at: number, of: number | undefined): void {
  if (of === undefined || of === 0) return
  const filled = Math.round(at / of * 40), text = `${'█'.repeat(filled)}${'░'.repeat(40 - filled)}  ${at.toLocaleString('en')} of ${of.toLocaleString('en')}`
  process.stderr.write(process.stderr.isTTY ? `\r        ${text}` : `        ${at} of ${of}\n`)
}
function clear(): void {
  if (process.stderr.isTTY) process.stderr.write('\r\u001b[K')
}

/** `1,866 pictures`, `1 picture`. */
export function count(n: number, one: string, many = `${one}s`): string {
  return `${n.toLocaleString('en')} ${n === 1 ? one : many}`
}
