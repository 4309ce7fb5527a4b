import { availableParallelism } from 'node:os'
import type { ViteUserConfig } from 'vitest/config'
import { Summary } from './test/support/reporter.ts'

const config: ViteUserConfig = {
  test: {
    include: ['test/**/*.test.ts'],
    exclude: ['test/slow/**'],
    globalSetup: ['test/support/set-up.ts'],
    reporters: ['default', new Summary()],
    pool: 'forks',
    // Tests wait for servers a good part of their time.
    maxWorkers: Math.min(4, availableParallelism() + 1),
    testTimeout: 30_000,
    hookTimeout: 60_000,
    teardownTimeout: 30_000,
  },
}
export default config
