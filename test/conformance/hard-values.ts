/** Values that databases and drivers are known to change. */
import type { Doc, Value } from '../../core/contract.ts'
import { setOwn } from '../../core/value.ts'

export interface HardValue {
  readonly name: string
  readonly value: Value
  /** What a plugin may say that it cannot hold. */
  readonly has?: 'nul' | 'int64'
}

const doc = (...fields: readonly (readonly [string, Value])[]): Doc => {
  const made: Record<string, Value> = {}
  for (const [name, value] of fields) setOwn(made, name, value)
  return made
}
const bytes = (n: number): Uint8Array => Uint8Array.from({ length: n }, (_, i) => (i * 31 + (i >> 8)) % 256)
const nested = (levels: number): Value => (levels === 0 ? 'bottom' : levels % 2 === 0 ? [nested(levels - 1)] : { in: nested(levels - 1) })
/** A view that starts and ends within its buffer. */
const within = Float64Array.from([1, 2, 3, 4]).subarray(1, 3)

export const hardValues: readonly HardValue[] = [
  { name: 'null', value: null },
  { name: 'true', value: true },
  { name: 'false', value: false },
  { name: 'zero', value: 0 },
  { name: 'negative-zero', value: -0 },
  { name: 'nan', value: Number.NaN },
  { name: 'infinity', value: Infinity },
  { name: 'negative-infinity', value: -Infinity },
  { name: 'five', value: 5 },
  { name: 'five-bigint', value: 5n },
  { name: 'zero-bigint', value: 0n },
  { name: 'negative-bigint', value: -7n },
  { name: 'int32-border', value: 2 ** 31 },
  { name: '2-to-53-less-1', value: 2 ** 53 - 1 },
  { name: '2-to-53', value: 2 ** 53 },
  { name: '2-to-53-plus-1-bigint', value: 2n ** 53n + 1n },
  { name: '2-to-60', value: 2 ** 60 },
  { name: '2-to-63', value: 2 ** 63 },
  { name: 'int64-max', value: 2n ** 63n - 1n },
  { name: 'int64-min', value: -(2n ** 63n) },
  { name: 'int64-max-plus-1', value: 2n ** 63n, has: 'int64' },
  { name: 'int64-min-less-1', value: -(2n ** 63n) - 1n, has: 'int64' },
  { name: '2-to-100', value: 2n ** 100n, has: 'int64' },
  { name: 'least-number', value: 5e-324 },
  { name: 'greatest-number', value: Number.MAX_VALUE },
  { name: '1e308', value: 1e308 },
  { name: '1e21', value: 1e21 },
  { name: '1e-7', value: 1e-7 },
  { name: 'tenth', value: 0.1 },
  { name: '17-digits', value: 0.30000000000000004 },
  { name: 'empty-string', value: '' },
  { name: 'space', value: ' ' },
  { name: 'blank-ends', value: '  a\t\r\n' },
  { name: 'quotes', value: `'"\`\\"'' \\u0041 \\x` },
  { name: 'long-string', value: 'añ😀'.repeat(5000) },
  { name: 'astral', value: '𝔘😀👩‍👩‍👧' },
  { name: 'combining', value: 'e\u0301 \u00e9 \ufb01' },
  { name: 'right-to-left', value: 'שלום \u202eabc' },
  { name: 'nul-string', value: 'a\0b', has: 'nul' },
  { name: 'control-characters', value: '\u0001\u0002\u001f\u007f\u0085\u2028\u2029\ufeff\uffff' },
  { name: 'tag-in-string', value: '{"\\u0001date":1}\u0001date' },
  { name: 'number-string', value: '0.00' },
  { name: 'bigint-string', value: '5n' },
  { name: 'null-string', value: 'null' },
  { name: 'date-string', value: '2024-02-30T00:00:00.000Z' },
  { name: 'sql-string', value: `'; drop table docs; --` },
  { name: 'epoch', value: new Date(0) },
  { name: 'milliseconds', value: new Date(1_700_000_000_123) },
  { name: 'negative-date', value: new Date(-1) },
  { name: 'year-0', value: new Date('0000-01-01T00:00:00.000Z') },
  { name: 'year-1883', value: new Date('1883-11-18T12:00:00.001Z') },
  { name: 'least-date', value: new Date(-8.64e15) },
  { name: 'greatest-date', value: new Date(8.64e15) },
  { name: 'no-bytes', value: new Uint8Array() },
  { name: 'all-bytes', value: bytes(256) },
  { name: 'zero-bytes', value: new Uint8Array(9) },
  { name: '16-kb', value: bytes(16 * 1024) },
  { name: '100-kb', value: bytes(100 * 1024) },
  { name: 'bytes-within-a-buffer', value: bytes(64).subarray(5, 20) },
  { name: 'node-buffer', value: Buffer.from('a pooled buffer') },
  { name: 'int8', value: Int8Array.from([-128, 0, 127]) },
  { name: 'uint8-clamped', value: Uint8ClampedArray.from([0, 255]) },
  { name: 'int16', value: Int16Array.from([-32768, 32767]) },
  { name: 'uint16', value: Uint16Array.from([0, 65535]) },
  { name: 'int32', value: Int32Array.from([-(2 ** 31), 2 ** 31 - 1]) },
  { name: 'uint32', value: Uint32Array.from([0, 2 ** 32 - 1]) },
  { name: 'bigint64', value: BigInt64Array.from([-(2n ** 63n), 2n ** 63n - 1n]) },
  { name: 'biguint64', value: BigUint64Array.from([0n, 2n ** 64n - 1n]) },
  { name: 'float32', value: Float32Array.from([0.1, -0, Infinity, 1e-45, Number.NaN]) },
  { name: 'float64', value: Float64Array.from([0.1, -0, -Infinity, 5e-324, Number.NaN]) },
  { name: 'nan-payload', value: new Float32Array(Uint32Array.from([0x7fc00001, 0xffc12345, 0x7f800001]).buffer) },
  { name: 'float64-within-a-buffer', value: within },
  { name: 'empty-typed-arrays', value: [new Int8Array(), new Uint8ClampedArray(), new Int16Array(), new Uint16Array(), new Int32Array(), new Uint32Array(), new BigInt64Array(), new BigUint64Array(), new Float32Array(), new Float64Array()] },
  { name: 'empty-array', value: [] },
  { name: 'empty-object', value: {} },
  { name: 'nested-empty', value: [[], [[]], {}, [{}], { a: [], b: {}, c: [[{}]] }] },
  { name: 'nulls', value: [null, [null], { a: null }] },
  { name: 'mixed-array', value: [1, 1n, '1', true, null, new Date(1), bytes(1), [1], { a: 1 }, Number.NaN, Infinity] },
  { name: 'long-array', value: Array.from({ length: 2000 }, (_, i) => i) },
  { name: '60-levels', value: nested(60) },
  { name: 'empty-key', value: doc(['', 1]) },
  { name: 'blank-key', value: doc([' ', 1], ['a ', 2], ['\n', 3]) },
  { name: 'proto-key', value: doc(['__proto__', { polluted: true }], ['constructor', 1], ['toString', 2], ['hasOwnProperty', null]) },
  { name: 'dotted-key', value: doc(['a.b', 1], ['a', { b: 2 }], ['.', 3], ['a.', 4]) },
  { name: 'dollar-key', value: doc(['$x', 1], ['$', 2], ['$set', { a: 1 }], ['$date', 'no date'], ['$numberLong', '5'], ['$oid', 'x']) },
  { name: 'quoted-key', value: doc([`"'\`\\`, 1], ['--', 2], ['a"b', 3]) },
  { name: 'numeric-keys', value: doc(['0', 'a'], ['1', 'b'], ['01', 'c'], ['-1', 'd'], ['1e3', 'e']) },
  { name: 'unicode-keys', value: doc(['é', 1], ['e\u0301', 2], ['😀', 3], ['É', 4]) },
  { name: 'case-keys', value: doc(['a', 1], ['A', 2]) },
  { name: 'reserved-looking-keys', value: doc(['_id', 1], ['_rev', 'x'], ['_outputs', {}], ['key', 1], ['rev', 2], ['doc', 3]) },
  { name: 'long-key', value: doc(['k'.repeat(2000), 1]) },
  { name: '1000-keys', value: doc(...Array.from({ length: 1000 }, (_, i): [string, Value] => [`field${i}`, i])) },
  { name: 'nul-key', value: doc(['a\0b', 1]), has: 'nul' },
]

/** Keys of rows that are hard to quote, to compare or to sort. */
export const hardKeys: readonly string[] = [
  'a', 'A', 'a ', ' a', ' ', 'é', 'e\u0301', 'ß', 'ss', '\uffff', '😀', '𝔘', '"', `'`, `''`, '`', '\\', '\\n', '\n', '\t', '%', '_', '*', '?', '$', '$1', '$x', '.', 'a.b', '..', '/', 'a/b', '#', '#0', 'a#0', 'a#0#1', '|', 'a|b', ',', ';', '--',
  '{', '{}', '[1]', '0', '00', '-0', '1', '01', '1.0', '1e3', 'NaN', 'null', 'true', '__proto__', 'constructor', 'toString', '\u0001', '\u202e', 'שלום', '507f1f77bcf86cd799439011', '00000000-0000-0000-0000-000000000000', `'; drop table docs; --`, 'k'.repeat(200),
]

/** Names of collections that are hard to quote. */
export const hardNames: readonly (readonly [string, string])[] = [
  ['double-quote', 'a"b'], ['single-quote', `a'b`], ['backtick', 'a`b'], ['dot', 'a.b'], ['dots', '..'], ['space', 'a b'], ['blank-end', 'a '], ['unicode', 'Größe 表'], ['astral', '😀'], ['uppercase', 'Docs'], ['keyword', 'select'], ['table', 'table'], ['user', 'user'],
  ['percent', '%s'], ['dollar', '$1'], ['backslash', 'a\\b'], ['comment', '-- x'], ['injection', `x"; drop table y; --`], ['slash', 'a/b'], ['colon', 'a:b'], ['hash', 'a#0'], ['digit', '1'], ['proto', '__proto__'], ['constructor', 'constructor'], ['newline', 'a\nb'],
]
