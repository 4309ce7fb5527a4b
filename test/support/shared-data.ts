/** Real models, images, vectors and texts that are too large for the repository: a folder `shared/data` beside the checkout, where there is one. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'

const folder = join(import.meta.dirname, '../../../shared/data')

/** The reason to skip with where `sharedData` has nothing. */
export function noSharedData(path: string): string {
  return `../shared/data/${path} is not there (the shared test data lies beside the checkout)`
}

/** The full path of a shared file or folder, or undefined where it is absent: then skip with `noSharedData(path)`. */
export function sharedData(path: string): string | undefined {
  const full = join(folder, path)
  return existsSync(full) ? full : undefined
}
