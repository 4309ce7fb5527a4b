/** The result as a page that opens without a server: pictures are inside of it. */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Picture } from './pictures.ts'

interface Result {
  readonly title: string
  readonly hits: readonly (Picture & { readonly score: number })[]
}

/** Writes `index.html` into the folder and returns its path. */
export async function writePage(folder: string, results: readonly Result[], total: number): Promise<string> {
  const path = join(folder, 'index.html')
  await mkdir(folder, { recursive: true })
  await writeFile(path, page(results, total))
  return path
}

const page = (results: readonly Result[], total: number): string => `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Pictures found by what they mean</title>
<style>
  body { margin: 32px auto; max-width: 1000px; padding: 0 24px; font: 15px/1.45 system-ui, sans-serif; color: #1c2430; background: #fafaf8 }
  h1 { font-size: 26px; font-weight: 650; margin: 0 0 4px; letter-spacing: -0.01em }
  p { margin: 0 0 28px; color: #5c6672; max-width: 64em }
  section { background: #fff; border: 1px solid #e8e8e3; border-radius: 14px; padding: 14px 18px 12px; margin: 0 0 14px }
  h2 { font-size: 15px; font-weight: 600; margin: 0 0 10px }
  ol { list-style: none; margin: 0; padding: 0; display: grid; grid-template-columns: repeat(8, 1fr); gap: 10px }
  li { text-align: center; font-size: 12px; line-height: 1.25; color: #3d4652 }
  img { display: block; width: 72px; height: 72px; margin: 0 auto 6px }
  small { display: block; color: #98a0aa; font-size: 11px; margin-top: 1px }
</style>
<h1>Pictures found by what they mean</h1>
<p>${total.toLocaleString('en')} emoji lie in one database with their pictures. A model turns the name and keywords of each into 128 numbers, and a query as well.
Each row shows a query and the nearest emoji, with the cosine between the two.</p>
${results.map(row).join('\n')}
</html>
`

const row = ({ title, hits }: Result): string => `<section>
<h2>${escaped(title)}</h2>
<ol>${hits.map(({ name, image, score }) => `<li><img src="data:image/webp;base64,${Buffer.from(image).toString('base64')}" alt="">${escaped(name)}<small>${score.toFixed(2)}</small></li>`).join('')}</ol>
</section>`

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;')
}
