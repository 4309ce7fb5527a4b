/** The end of a run, beside vitest's own report: which backends ran, what was skipped and why, and one plain line of counts for programs. */
import type { Reporter, SerializedError, TestModule, TestRunEndReason, Vitest } from 'vitest/node'

/** Prints which backends ran, the reasons of skipped tests, and `N passed, N failed, N skipped` as the last line. */
export class Summary implements Reporter {
  #vitest: Vitest | undefined

  onInit(vitest: Vitest): void {
    this.#vitest = vitest
  }

  async onTestRunEnd(modules: readonly TestModule[], unhandled: readonly SerializedError[], _reason: TestRunEndReason): Promise<void> {
    const count = { passed: 0, failed: unhandled.length, skipped: 0 }
    const skipped = new Map<string, string[]>()
    for (const module of modules) {
      // A file or a group that broke outside of a test: an import, a hook.
      count.failed += [module, ...module.children.allSuites()].filter((part) => part.errors().length > 0).length
      for (const test of module.children.allTests()) {
        const result = test.result()
        if (result.state === 'pending') continue
        count[result.state]++
        if (result.state !== 'skipped') continue
        const reason = result.note ?? `no reason given (test.${test.options.mode})`
        skipped.set(reason, [...(skipped.get(reason) ?? []), `${module.relativeModuleId}: ${test.fullName}`])
      }
    }
    await new Promise(setImmediate)     // after the default reporter, which runs at the same time
    console.log(`\n${[...this.#backends(), ...[...skipped].flatMap(([reason, names]) => lines(reason, names))].join('\n')}`)
    console.log(`${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped`)
  }

  #backends(): string[] {
    const { postgres, pglite } = this.#vitest?.getRootProject().getProvidedContext() ?? {}
    const backends = [pglite, postgres].filter((backend) => backend !== undefined)
    const absent = Object.entries({ PGlite: pglite, PostgreSQL: postgres }).flatMap(([name, backend]) => (backend !== undefined && 'absent' in backend ? [`Not tested: ${name}: ${backend.absent}`] : []))
    return [`Backends: ${['memory', ...backends.flatMap((backend) => ('server' in backend ? [backend.server] : []))].join(', ')}`, ...absent]
  }
}

function lines(reason: string, names: readonly string[]): string[] {
  const shown = names.slice(0, 20).map((name) => `  ${name}`)
  return [`Skipped ${names.length}, ${reason}`, ...shown, ...(names.length > shown.length ? [`  and ${names.length - shown.length} more`] : [])]
}
