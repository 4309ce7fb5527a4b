/** The end of a run, beside vitest's own report: which backends ran and how they conform, what was skipped and why, what failed, and one plain line of counts for programs. */
import type { Reporter, SerializedError, TestModule, TestRunEndReason, Vitest } from 'vitest/node'

import { count as counted, matrix, type RuleMeta, type Verdict } from '../conformance/report.ts'

/** Prints which backends ran, their matrix of the conformance suite, the reasons of skipped tests, the failed ones, and `N passed, N failed, N skipped` as the last line. */
export class Summary implements Reporter {
  #vitest: Vitest | undefined

  onInit(vitest: Vitest): void {
    this.#vitest = vitest
  }

  async onTestRunEnd(modules: readonly TestModule[], unhandled: readonly SerializedError[], _reason: TestRunEndReason): Promise<void> {
    const count = { passed: 0, failed: unhandled.length, skipped: 0 }
    const failed = unhandled.map(({ message }) => `an unhandled error: ${first(message)}`), skipped = new Map<string, string[]>(), suite = new Map<string, Map<string, Verdict[]>>()
    for (const module of modules) {
      // A file or a group that broke outside of a test: an import, a hook.
      const broken = [module, ...module.children.allSuites()].filter((part) => part.errors().length > 0)
      count.failed += broken.length
      failed.push(...broken.map((part) => `${module.relativeModuleId}${'fullName' in part ? `: ${part.fullName}` : ''}: ${first(part.errors()[0]?.message)}`))
      for (const test of module.children.allTests()) {
        const result = test.result()
        if (result.state === 'pending') continue
        const { conformance: rule } = test.meta() as { readonly conformance?: RuleMeta }
        if (rule !== undefined) {
          const areas = suite.get(rule.backend) ?? new Map<string, Verdict[]>(), verdicts = areas.get(rule.area) ?? []
          suite.set(rule.backend, areas.set(rule.area, [...verdicts, rule.verdict]))
        }
        count[result.state]++
        if (result.state === 'failed') failed.push(`${module.relativeModuleId}: ${test.fullName}: ${first(result.errors[0]?.message)}`)
        if (result.state !== 'skipped') continue
        const reason = result.note ?? `no reason given (test.${test.options.mode})`
        skipped.set(reason, [...(skipped.get(reason) ?? []), `${module.relativeModuleId}: ${test.fullName}`])
      }
    }
    await new Promise(setImmediate)     // after the default reporter, which runs at the same time
    const conforms = suite.size === 0 ? [] : [`Rules of the conformance suite that hold:\n${matrix([...suite].map(([name, areas]) => ({ name, areas: Object.fromEntries([...areas].map(([area, verdicts]) => [area, counted(verdicts)])) })))}`]
    console.log(`\n${[...this.#backends(), ...conforms, ...[...skipped].flatMap(([reason, names]) => lines(reason, names)), ...failed.map((what) => `Failed: ${what}`)].join('\n')}`)
    console.log(`${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped`)
  }

  #backends(): string[] {
    const { postgres, pglite } = this.#vitest?.getRootProject().getProvidedContext() ?? {}
    const backends = [pglite, postgres].filter((backend) => backend !== undefined)
    const absent = Object.entries({ PGlite: pglite, PostgreSQL: postgres }).flatMap(([name, backend]) => (backend !== undefined && 'absent' in backend ? [`Not tested: ${name}: ${backend.absent}`] : []))
    return [`Backends: ${['memory', ...backends.flatMap((backend) => ('server' in backend ? [backend.server] : []))].join(', ')}`, ...absent]
  }
}

const first = (message = 'no message') => message.split('\n', 1)[0]!

function lines(reason: string, names: readonly string[]): string[] {
  const shown = names.slice(0, 20).map((name) => `  ${name}`)
  return [`Skipped ${names.length}, ${reason}`, ...shown, ...(names.length > shown.length ? [`  and ${names.length - shown.length} more`] : [])]
}
