/** Streams of bytes for artifact stores. */

/** The same bytes in pieces of `size`, the last one shorter, each a copy of its own; no more than one piece is held. */
export async function* inChunks(body: AsyncIterable<Uint8Array>, size: number): AsyncIterable<Uint8Array> {
  let piece = new Uint8Array(size), filled = 0
  for await (const part of body) {
    for (let at = 0; at < part.byteLength;) {
      const taken = part.subarray(at, at + size - filled)
      piece.set(taken, filled)
      filled += taken.byteLength
      at += taken.byteLength
      if (filled < size) continue
      yield piece
      piece = new Uint8Array(size)
      filled = 0
    }
  }
  if (filled > 0) yield piece.slice(0, filled)
}

/** A stream of one part. */
export async function* once(bytes: Uint8Array): AsyncIterable<Uint8Array> {
  yield bytes
}
