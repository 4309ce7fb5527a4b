/** Preloaded with `node --import`: `inlay` and its subpaths mean the sources, as package.json's exports name them, and other packages are those of this project. */
import { readFileSync } from 'node:fs'
import { registerHooks } from 'node:module'

const root = new URL('../../', import.meta.url)
const { exports } = JSON.parse(readFileSync(new URL('package.json', root), 'utf8')) as { exports: Record<string, { readonly default?: string }> }

registerHooks({
  resolve(specifier, context, next) {
    if (specifier === 'inlay' || specifier.startsWith('inlay/')) {
      const built = exports[`.${specifier.slice('inlay'.length)}`]?.default
      if (built !== undefined) return next(new URL(built.replace('./dist/', './').replace(/\.js$/, '.ts'), root).href, context)
    }
    const bare = /^[a-z@]/.test(specifier) && !specifier.includes(':')
    return next(specifier, bare && context.parentURL?.includes('/node_modules/') === false ? { ...context, parentURL: new URL('package.json', root).href } : context)
  },
})
