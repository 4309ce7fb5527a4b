import type { Plugin } from '../../core/contract.ts'

const duckdb: Plugin = { name: 'duckdb', contract: 1 }
export default duckdb
