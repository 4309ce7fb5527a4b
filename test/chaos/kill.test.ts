import { kills } from './kills.ts'

kills(3)
