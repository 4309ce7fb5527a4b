import { memory } from '../core/memory.ts'
import { conformance } from './conformance/index.ts'

conformance(memory, { uri: 'memory:conformance' })
