/** The emoji that have a picture in @lobehub/fluent-emoji-3d, with their names, groups and keywords. */
import { readdirSync, readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'

export interface Picture {
  readonly name: string
  readonly group: string
  readonly tags: readonly string[]
  /** What the model reads. */
  readonly text: string
  /** A WebP file. */
  readonly image: Uint8Array
}
/** A picture whose file has not been read. The `_id` is made of the emoji's code points, so that no emoji is stored twice. */
export type Listed = Omit<Picture, 'image'> & { readonly _id: string; readonly file: URL }

/** All pictures, without those that differ from another in the tone of the skin only. */
export function listed(): readonly Listed[] {
  const names = json('unicode-emoji-json') as Readonly<Record<string, { readonly name: string; readonly group: string }>>
  const keywords = json('emojilib') as Readonly<Record<string, readonly string[]>>
  const folder = new URL('assets/', import.meta.resolve('@lobehub/fluent-emoji-3d/package.json'))
  return readdirSync(folder).flatMap((file): readonly Listed[] => {
    const _id = file.replace('.webp', ''), emoji = String.fromCodePoint(..._id.split('-').map((point) => Number.parseInt(point, 16)))
    const { name, group } = names[emoji] ?? {}
    if (name === undefined || group === undefined || name.includes('skin tone')) return []
    const tags = (keywords[emoji] ?? []).map((tag) => tag.replaceAll('_', ' '))
    return [{ _id, name, group, tags, text: `${name}. ${tags.slice(0, 6).join(', ')}`, file: new URL(file, folder) }]
  })
}

/** The same with their files, one after the other. */
export async function* read(pictures: readonly Listed[]): AsyncGenerator<Picture & { readonly _id: string }> {
  for (const { file, ...picture } of pictures) yield { ...picture, image: await readFile(file) }
}

function json(name: string): unknown {
  return JSON.parse(readFileSync(new URL(import.meta.resolve(name)), 'utf8'))
}
