import type { Plugin } from '../../core/contract.ts'

const mongodb: Plugin = { name: 'mongodb', contract: 1 }
export default mongodb
