import { defineConfig, type ViteUserConfig } from 'vitest/config'

/** Five seconds, vitest's default, are too short for some rules on a busy machine. */
const config: ViteUserConfig = defineConfig({ test: { testTimeout: 30_000, hookTimeout: 30_000 } })
export default config
