/** Where a story runs in a test: each backend, in a namespace of its own that is dropped afterwards. */
import { randomBytes } from 'node:crypto'
import type { TestContext } from 'vitest'
import { dropNamespace, dropSchema, type Backend } from '../support/backends.ts'

export { backends } from '../support/backends.ts'

/** What a story takes of a backend. Skips the test where the backend is absent. */
export function place(ctx: TestContext, backend: Backend): { readonly uri: string; readonly namespace: string } {
  const uri = backend.uri(ctx), namespace = `t_${randomBytes(6).toString('hex')}`
  ctx.onTestFinished(async () => {
    if (backend.name === 'PostgreSQL') await dropSchema(uri, namespace)
    if (backend.name === 'MongoDB') await dropNamespace(uri, namespace)
  })
  return { uri, namespace }
}
