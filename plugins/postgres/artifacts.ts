/** Artifacts as chunks of bytea. A head row names the generation of its chunks and is written last, so that a crash leaves no half artifact. */
import { inChunks } from '../../core/chunks.ts'
import type { ArtifactStore, Ctx } from '../../core/contract.ts'
import { InlayError, quote } from '../../core/errors.ts'
import { table, type Place } from './schema.ts'
import { hexBytes, Params } from './sql.ts'

const chunkBytes = 1024 * 1024
const listRows = 1000

export function artifactStore(place: Place): ArtifactStore {
  const { sql } = place, heads = table(place, '_artifacts'), chunks = table(place, '_chunks')
  return {
    async write(id, body, { signal }) {
      // Content is named by its hash: what is there already is the same, and only gets younger.
      if ((await sql.query(`update ${heads} set written = now() where id = $1 returning id`, [id], signal)).length > 0) return
      const generation = crypto.randomUUID()
      let bytes = 0, n = 0, needed = false
      try {
        for await (const chunk of inChunks(body, chunkBytes)) {
          await sql.query(`insert into ${chunks} (id, generation, n, data) values ($1, $2::uuid, $3::int, $4::bytea)`, [id, generation, String(n++), chunk], signal)
          bytes += chunk.byteLength
        }
        needed = true                                                        // also when the answer is lost: the head may be there then
        const [head] = await sql.query(`insert into ${heads} (id, generation, bytes) values ($1, $2::uuid, $3::bigint) on conflict (id) do update set written = now() returning generation`, [id, generation, String(bytes)], signal)
        needed = head!['generation'] === generation
      } finally {
        // Chunks of a body that broke off, and of whoever lost a race for the head.
        if (!needed) await sql.query(`delete from ${chunks} where id = $1 and generation = $2::uuid`, [id, generation], new AbortController().signal)
      }
    },
    async *read(id, { offset, length }, ctx) {
      const [head] = await sql.query(`select generation, bytes from ${heads} where id = $1`, [id], ctx.signal)
      if (head === undefined) throw new InlayError('NOT_FOUND', `There is no artifact ${quote(id)}.`)
      const end = Math.min(Number(head['bytes']), length === undefined ? Number(head['bytes']) : offset + length)
      for (let n = Math.floor(offset / chunkBytes); n * chunkBytes < end; n++) {
        const [row] = await sql.query(`select data from ${chunks} where id = $1 and generation = $2::uuid and n = $3::int`, [id, head['generation']!, String(n)], ctx.signal)
        if (row === undefined) throw new InlayError('CORRUPT', `The artifact ${quote(id)} lacks its part ${n}. Was it removed while it was read? Else restore it, or write it again.`)
        yield hexBytes(row['data']!).slice(Math.max(0, offset - n * chunkBytes), end - n * chunkBytes)
      }
    },
    async *readMany(ids, ctx) {
      const p = new Params()
      const rows = await sql.query(`select h.id, c.data from ${heads} h left join ${chunks} c on c.id = h.id and c.generation = h.generation where h.id = any(${p.add(ids)}::text[]) order by h.id, c.n`, p.list, ctx.signal)
      for (let i = 0; i < rows.length;) {
        const id = rows[i]!['id']!, parts: Uint8Array[] = []
        for (; i < rows.length && rows[i]!['id'] === id; i++) if (rows[i]!['data'] !== null) parts.push(hexBytes(rows[i]!['data']!))
        yield { id, bytes: parts.length === 1 ? parts[0]! : Buffer.concat(parts) }
      }
    },
    list: (ctx) => pages(ctx),
    async remove(ids, { signal }, olderThanMs) {
      const p = new Params(), old = `id = any(${p.add(ids)}::text[])${olderThanMs === undefined ? '' : ` and written <= now() - ${p.add(olderThanMs)}::float8 * interval '1 ms'`}`
      // Only the chunks of the heads that go: those of another generation belong to somebody who writes its head next.
      await sql.query(`with gone as (delete from ${heads} where ${old} returning id, generation) delete from ${chunks} c using gone where c.id = gone.id and c.generation = gone.generation`, p.list, signal)
    },
  }

  async function* pages(ctx: Ctx): AsyncIterable<readonly { readonly id: string; readonly bytes: number; readonly ageMs: number }[]> {
    // Chunks without a head that are a day old belong to dead processes.
    await sql.query(`delete from ${chunks} c where written < now() - interval '1 day' and not exists (select from ${heads} h where h.id = c.id and h.generation = c.generation)`, [], ctx.signal)
    for (let after = ''; ;) {
      const rows = await sql.query(`select id, bytes, extract(epoch from now() - written) * 1000 as age from ${heads} where id > $1 order by id limit ${listRows}`, [after], ctx.signal)
      if (rows.length > 0) yield rows.map((row) => ({ id: row['id']!, bytes: Number(row['bytes']), ageMs: Number(row['age']) }))
      if (rows.length < listRows) return
      after = rows.at(-1)!['id']!
    }
  }
}
