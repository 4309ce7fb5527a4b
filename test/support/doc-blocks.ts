/** The TypeScript of the documentation, as programs to run. */

/** One program of a document: a ```ts block with the blocks that continue it, or a block that is not run, with its reason. */
export interface Program {
  /** Line of the first block's first line of code. */
  readonly line: number
  /** Each line of code stands at its line of the document, so that errors point into it. */
  readonly code: string
  readonly ignored?: string
}

/** ```` ```ts ```` starts a program, ```` ```ts continue ```` goes on with the one before, ```` ```ts ignore: reason ```` is not run. Other languages are left out. */
export function programsOf(markdown: string): readonly Program[] {
  const programs: { line: number; lines: string[]; ignored?: string }[] = []
  let fence: string | undefined, into: string[] | undefined
  for (const [index, line] of markdown.split('\n').entries()) {
    const [, marks, info] = /^ {0,3}(`{3,})(.*)$/.exec(line) ?? []
    if (marks !== undefined && fence === undefined) {
      fence = marks
      const [, language, word, reason] = /^(\S*)\s*([a-z]*):?\s*(.*)$/.exec(info!.trim())!
      if (language !== 'ts') continue
      const before = programs.findLast(({ ignored }) => ignored === undefined)
      if (word === 'continue') {
        if (before === undefined) throw new Error(`line ${index + 1}: "ts continue" has no block before it`)
        into = before.lines
      } else if (word === '' || word === 'ignore') {
        programs.push({ line: index + 2, lines: into = [], ...(word === 'ignore' && { ignored: reason! }) })
      } else {
        throw new Error(`line ${index + 1}: "${info}" is not "ts", "ts continue" or "ts ignore: reason"`)
      }
    } else if (fence !== undefined && info === '' && marks!.length >= fence.length) {
      fence = into = undefined
    } else if (into !== undefined) {
      into[index] = line
    }
  }
  return programs.map(({ lines, ...program }) => ({ ...program, code: `${Array.from(lines, (line) => line ?? '').join('\n')}\n` }))
}
