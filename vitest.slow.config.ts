import type { ViteUserConfig } from 'vitest/config'
import fast from './vitest.config.ts'

/** Tests that take minutes: packing and installing, long runs of chaos. */
const config: ViteUserConfig = { test: { ...fast.test, include: ['test/slow/**/*.test.ts'], exclude: [], testTimeout: 600_000, hookTimeout: 600_000 } }
export default config
