/** The one file that knows every plugin that comes with the package. Each is loaded when its scheme, format or codec is first used. */
import type { PluginEntry } from '../core/plugins.ts'

export const firstParty: readonly PluginEntry[] = [
  { schemes: ['postgres', 'postgresql', 'pglite'], load: async () => (await import('./postgres/index.ts')).default },
  { schemes: ['mongodb', 'mongodb+srv'], load: async () => (await import('./mongodb/index.ts')).default },
  { schemes: ['duckdb'], load: async () => (await import('./duckdb/index.ts')).default },
  { schemes: ['file'], load: async () => (await import('./file/index.ts')).default },
  { codecs: ['image'], load: async () => (await import('./pillow-sharp/index.ts')).default },
  { formats: ['onnx'], load: async () => (await import('./torch-onnx/index.ts')).default },
]
