/** Artifacts as parts of blobs, so that neither a write nor a read holds all of one. A head row is written last and names the generation of its parts, so that a crash leaves no half artifact. */
import { inChunks } from '../../core/chunks.ts'
import type { ArtifactStore, Ctx } from '../../core/contract.ts'
import { InlayError, quote } from '../../core/errors.ts'
import { table, type Place } from './schema.ts'
import { isOneOf } from './source.ts'
import { Params } from './sql.ts'

const chunkBytes = 1024 * 1024
const listRows = 1000
const now = "(now() at time zone 'UTC')"

export function artifactStore(place: Place): ArtifactStore {
  const { sql } = place, heads = table(place, '_artifacts'), chunks = table(place, '_chunks')
  return {
    async write(id, body, { signal }) {
      // Content is named by its hash: what is there already is the same, and only gets younger.
      if ((await sql.write(({ run }) => run(`update ${heads} set written = ${now} where id = $1 returning id`, [id]), signal)).length > 0) return
      const generation = crypto.randomUUID()
      let bytes = 0, n = 0, needed = false
      try {
        for await (const chunk of inChunks(body, chunkBytes)) {
          await sql.write(({ run }) => run(`insert into ${chunks} values ($1, $2, ${n}, $3, ${now})`, [id, generation, chunk]), signal)
          bytes += chunk.byteLength
          n++
        }
        const [head] = await sql.write(({ run }) => run(`insert into ${heads} values ($1, $2, ${bytes}, ${now}) on conflict (id) do update set written = excluded.written returning generation`, [id, generation]), signal)
        needed = head!['generation'] === generation
      } finally {
        // Parts of a body that broke off, and of whoever lost a race for the head.
        if (!needed) await sql.write(({ run }) => run(`delete from ${chunks} where id = $1 and generation = $2`, [id, generation]), new AbortController().signal)
      }
    },
    async *read(id, { offset, length }, ctx) {
      const [head] = await sql.read(`select generation, bytes from ${heads} where id = $1`, [id], ctx.signal)
      if (head === undefined) throw new InlayError('NOT_FOUND', `There is no artifact ${quote(id)}.`)
      const bytes = Number(head['bytes']), end = Math.min(bytes, length === undefined ? bytes : offset + length)
      for (let n = Math.floor(offset / chunkBytes); n * chunkBytes < end; n++) {
        const [row] = await sql.read(`select data from ${chunks} where id = $1 and generation = $2 and n = ${n}`, [id, head['generation'] as string], ctx.signal)
        if (row === undefined) throw new InlayError('CORRUPT', `The artifact ${quote(id)} lacks its part ${n}. Was it removed while it was read? Else restore it, or write it again.`)
        yield (row['data'] as Uint8Array).slice(Math.max(0, offset - n * chunkBytes), end - n * chunkBytes)
      }
    },
    async *readMany(ids, ctx) {
      const p = new Params()
      const rows = await sql.read(`select h.id, c.data from ${heads} h left join ${chunks} c on c.id = h.id and c.generation = h.generation where ${isOneOf('h.id', ids, p.add)} order by h.id, c.n`, p.list, ctx.signal)
      for (let i = 0; i < rows.length;) {
        const id = rows[i]!['id'] as string, parts: Uint8Array[] = []
        for (; i < rows.length && rows[i]!['id'] === id; i++) if (rows[i]!['data'] !== null) parts.push(rows[i]!['data'] as Uint8Array)
        yield { id, bytes: parts.length === 1 ? parts[0]! : Uint8Array.from(Buffer.concat(parts)) }
      }
    },
    list: (ctx) => pages(ctx),
    async remove(ids, { signal }, olderThanMs) {
      await sql.write(async ({ run }) => {
        const p = new Params(), old = olderThanMs === undefined ? 'true' : `written <= ${now} - to_microseconds(${Math.round(olderThanMs * 1000)})`
        // Only the parts of the heads that go: those of another generation belong to somebody who writes its head next.
        const gone = await run(`delete from ${heads} where ${isOneOf('id', ids, p.add)} and ${old} returning generation`, p.list)
        const q = new Params()
        await run(`delete from ${chunks} where ${isOneOf('generation', gone.map((row) => row['generation'] as string), q.add)}`, q.list)
      }, signal)
    },
  }

  async function* pages(ctx: Ctx): AsyncIterable<readonly { readonly id: string; readonly bytes: number; readonly ageMs: number }[]> {
    // Parts without a head that are a day old belong to dead processes.
    await sql.write(({ run }) => run(`delete from ${chunks} where written < ${now} - interval 1 day and generation not in (select generation from ${heads})`), ctx.signal)
    for (let after = ''; ;) {
      const rows = await sql.read(`select id, bytes, epoch_ms(${now} - written) as age from ${heads} where id > $1 order by id limit ${listRows}`, [after], ctx.signal)
      if (rows.length > 0) yield rows.map((row) => ({ id: row['id'] as string, bytes: Number(row['bytes']), ageMs: Number(row['age']) }))
      if (rows.length < listRows) return
      after = rows.at(-1)!['id'] as string
    }
  }
}
