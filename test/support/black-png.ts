/** Hostile pictures. */
import { constants, crc32, deflateRawSync } from 'node:zlib'

const uint32 = (value: number): Buffer => { const bytes = Buffer.alloc(4); bytes.writeUInt32BE(value); return bytes }
const chunk = (type: string, data: Buffer): Buffer => { const named = Buffer.concat([Buffer.from(type, 'latin1'), data]); return Buffer.concat([uint32(data.length), named, uint32(crc32(named))]) }
/** A valid black PNG of any size; its zlib stream repeats one block. */
export function blackPng(width: number, height: number): Buffer {
  const rows = 1000, block = deflateRawSync(Buffer.alloc((width + 1) * rows), { level: 9, finishFlush: constants.Z_FULL_FLUSH }), rest = deflateRawSync(Buffer.alloc((width + 1) * (height % rows)), { level: 9 })
  const bytes = (width + 1) * height, stream = Buffer.concat([Buffer.of(0x78, 0xda), ...Array<Buffer>(Math.floor(height / rows)).fill(block), rest, uint32((bytes % 65521) * 65536 + 1)])
  return Buffer.concat([Buffer.from('\x89PNG\r\n\x1a\n', 'latin1'), chunk('IHDR', Buffer.concat([uint32(width), uint32(height), Buffer.of(8, 0, 0, 0, 0)])), chunk('IDAT', stream), chunk('IEND', Buffer.alloc(0))])
}
