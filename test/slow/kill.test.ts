import { kills } from '../chaos/kills.ts'

kills(30, 12)
