/** What bytes are, by how they begin. */

/** The formats of pictures; `raw` is an array of pixels as NumPy writes it. */
export type Format = 'jpeg' | 'png' | 'webp' | 'avif' | 'gif' | 'tiff' | 'raw'

const latin1 = (bytes: Uint8Array, from: number, to: number): string => String.fromCharCode(...bytes.subarray(from, to))

/** Undefined for what is no picture of these formats; `foreignKind` says what it is instead. */
export function formatOf(bytes: Uint8Array): Format | undefined {
  if (bytes[0] === 0xff && bytes[1] === 0xd8 && bytes[2] === 0xff) return 'jpeg'
  const start = latin1(bytes, 0, 12)
  if (start.startsWith('\x93NUMPY')) return 'raw'
  if (start.startsWith('\x89PNG\r\n\x1a\n')) return 'png'
  if (start.startsWith('GIF87a') || start.startsWith('GIF89a')) return 'gif'
  if (/^(II[*+]\0|MM\0[*+])/.test(start)) return 'tiff'
  if (/^RIFF[^]{4}WEBP/.test(start)) return 'webp'
  return brandsOf(bytes).some((brand) => brand === 'avif' || brand === 'avis') ? 'avif' : undefined
}

/** The brands of an ISO media file: AVIF and HEIC differ in nothing else at their beginning. */
function brandsOf(bytes: Uint8Array): readonly string[] {
  if (latin1(bytes, 4, 8) !== 'ftyp') return []
  return latin1(bytes, 8, Math.min(256, new DataView(bytes.buffer, bytes.byteOffset).getUint32(0))).match(/[^]{4}/g) ?? []
}

const foreign: readonly (readonly [string, RegExp])[] = [
  ['SVG or XML, which may name files and is not drawn here', /^(\xef\xbb\xbf)?\s*<(\?xml|svg|!--|!DOCTYPE svg)/i],
  ['HTML', /^\s*<(!DOCTYPE )?html/i],
  ['PDF', /^%PDF/],
  ['JPEG XL', /^(\xff\x0a|\0\0\0\x0cJXL )/],
  ['JPEG 2000', /^(\0\0\0\x0cjP {2}|\xff\x4f\xff\x51)/],
  ['BMP', /^BM/],
  ['an icon', /^\0\0[\x01\x02]\0/],
  ['a ZIP archive', /^PK\x03\x04/],
  ['a pointer of Git LFS: fetch the file itself', /^version https:\/\/git-lfs/],
]

/** What bytes without a format are, as far as that can be told. */
export function foreignKind(bytes: Uint8Array): string {
  if (bytes.length === 0) return 'empty'
  const brand = brandsOf(bytes)[0]
  if (brand !== undefined) return /^(he[ivx]|mi|ms)/.test(brand) ? 'HEIC, whose decoder is not free' : `a media file (${brand.replace(/[^ -~]/g, '?')})`
  const start = latin1(bytes, 0, 64)
  return foreign.find(([, pattern]) => pattern.test(start))?.[0] ?? `of no known kind (they begin with ${Buffer.from(bytes.subarray(0, 8)).toString('hex')})`
}
