import { createHash } from 'node:crypto'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { codecKey, describe as inWords } from '../../core/codec.ts'
import { arrayCodec, Audio, audioCodec, builtIn, fileCodec, jsonCodec, tensorCodec, Video, videoCodec, type ArrayType } from '../../core/codecs/index.ts'
import type { Codec, ContentOf, Tensor, Value } from '../../core/contract.ts'
import { elementArrays, sizeOf } from '../../core/tensor.ts'
import { typedArrays, type TypedArrayName } from '../../core/value.ts'

const of: ContentOf = { where: 'field "x" of document "a"', readers: 1 }
const there = <T>(codec: Codec<T>, value: T): T => codec.decode(codec.encode(value) as Uint8Array, of) as T
const base64 = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'base64'))
/** The code and message of what is thrown. */
const fault = (work: () => unknown): string => {
  try {
    return `no error: ${JSON.stringify(work())}`
  } catch (error) {
    return `${(error as { code?: string }).code} ${(error as Error).message}`
  }
}
const changed = (bytes: Uint8Array, at: number, ...to: number[]): Uint8Array => {
  const copy = new Uint8Array(bytes)
  copy.set(to, at)
  return copy
}

/** Written by numpy 2.4: numpy.save, and numpy.lib.format.write_array for version 2. */
const numpy = {
  float32: 'k05VTVBZAQB2AHsnZGVzY3InOiAnPGY0JywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKDIsIDMpLCB9ICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoAAAAAAAAAPwAAgD8AAMA/AAAAQAAAIEA=',
  float64: 'k05VTVBZAQB2AHsnZGVzY3InOiAnPGY4JywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKDMsKSwgfSAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoAAAAAAAD4PwAAAAAAAACAAAAAAAAA8H8=',
  int64: 'k05VTVBZAQB2AHsnZGVzY3InOiAnPGk4JywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKDEsIDIpLCB9ICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAr//////////wAAAAAAAABA',
  bool: 'k05VTVBZAQB2AHsnZGVzY3InOiAnfGIxJywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKDMsKSwgfSAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoBAAE=',
  float16: 'k05VTVBZAQB2AHsnZGVzY3InOiAnPGYyJywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKDMsKSwgfSAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoAPADA/3s=',
  scalar: 'k05VTVBZAQB2AHsnZGVzY3InOiAnfHUxJywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKCksIH0gICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoH',
  empty: 'k05VTVBZAQB2AHsnZGVzY3InOiAnPGY0JywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKDAsIDQpLCB9ICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAo=',
  big: 'k05VTVBZAQB2AHsnZGVzY3InOiAnPmk0JywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKDMsKSwgfSAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoAAAABAAAAAgAAAAM=',
  fortran: 'k05VTVBZAQB2AHsnZGVzY3InOiAnPGY0JywgJ2ZvcnRyYW5fb3JkZXInOiBUcnVlLCAnc2hhcGUnOiAoMiwgMyksIH0gICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoAAAAAAABAQAAAgD8AAIBAAAAAQAAAoEA=',
  complex: 'k05VTVBZAQB2AHsnZGVzY3InOiAnPGMxNicsICdmb3J0cmFuX29yZGVyJzogRmFsc2UsICdzaGFwZSc6ICgxLCksIH0gICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoAAAAAAAAAAAAAAAAAAPA/',
  text: 'k05VTVBZAQB2AHsnZGVzY3InOiAnPFUyJywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZSwgJ3NoYXBlJzogKDEsKSwgfSAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAphAAAAYgAAAA==',
  version2: 'k05VTVBZAgB0AAAAeydkZXNjcic6ICc8dTInLCAnZm9ydHJhbl9vcmRlcic6IEZhbHNlLCAnc2hhcGUnOiAoMiwpLCB9ICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoBAAIA',
}
/** Written by the wave module of Python 3. */
const python = {
  pcm8: 'UklGRicAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQMAAAAAgP8=',
  pcm16: 'UklGRjAAAABXQVZFZm10IBAAAAABAAIAQB8AAAB9AAAEABAAZGF0YQwAAAAAAACAAED/fwDAAQA=',
  pcm24: 'UklGRjAAAABXQVZFZm10IBAAAAABAAEAQB8AAMBdAAADABgAZGF0YQwAAAAAAAAAAIAAAED//38=',
  pcm32: 'UklGRjAAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAAEACAAZGF0YQwAAAAAAAAAAAAAgAAAAEA=',
}

describe('the tensor codec', () => {
  const tensor = tensorCodec()

  it.each([
    ['float32', [2, 3], [0, 0.5, 1, 1.5, 2, 2.5]], ['float64', [3], [1.5, -0, Infinity]], ['int64', [1, 2], [-1n, 2n ** 62n]], ['bool', [3], [1, 0, 1]], ['float16', [3], [0x3c00, 0xc000, 0x7bff]], ['scalar', [], [7]], ['empty', [0, 4], []], ['big', [3], [1, 2, 3]], ['version2', [2], [1, 2]],
  ] as const)('reads what numpy wrote: %s', (name, dims, elements) => {
    const type = { scalar: 'uint8', empty: 'float32', big: 'int32', version2: 'uint16' }[name as string] ?? name
    expect(tensor.decode(base64(numpy[name]), of)).toEqual({ type, dims, data: typedArrays[elementArrays[type] as TypedArrayName].prototype.constructor.from(elements) })
  })

  it('writes the very bytes that numpy writes', () => {
    for (const name of ['float32', 'float64', 'int64', 'bool', 'float16', 'scalar', 'empty'] as const) {
      const bytes = base64(numpy[name])
      expect(Buffer.from(tensor.encode(tensor.decode(bytes, of) as Tensor) as Uint8Array).toString('base64'), name).toBe(numpy[name])
    }
  })

  it('refuses Fortran order, complex numbers and texts with a sentence', () => {
    expect(fault(() => tensor.decode(base64(numpy.fortran), of))).toBe('UNSUPPORTED The .npy file is in Fortran order; C order is expected. Write it with numpy.save(file, numpy.ascontiguousarray(array)).')
    expect(fault(() => tensor.decode(base64(numpy.complex), of))).toBe('UNSUPPORTED The .npy file has elements of the kind "<c16"; numbers and booleans of at most 8 bytes are expected.')
    expect(fault(() => tensor.decode(base64(numpy.text), of))).toContain('UNSUPPORTED The .npy file has elements of the kind "<U2"')
    expect(tensor.is({ type: 'string', dims: [1], data: ['a'] })).toBe(false)
  })

  it('gives back any tensor, and shares nothing with it', () => {
    const types = Object.keys(elementArrays).filter((type) => type !== 'string')
    fc.assert(fc.property(fc.constantFrom(...types), fc.array(fc.nat(4), { maxLength: 4 }), fc.infiniteStream(fc.nat(255)), (type, dims, stream) => {
      const make = typedArrays[elementArrays[type] as TypedArrayName], bytes = new Uint8Array(sizeOf(dims) * make.BYTES_PER_ELEMENT), next = stream[Symbol.iterator]()
      for (let i = 0; i < bytes.length; i++) bytes[i] = type === 'bool' ? next.next().value % 2 : next.next().value
      const given: Tensor = { type, dims, data: new make(bytes.buffer) }
      expect(tensor.is(given)).toBe(true)
      const encoded = tensor.encode(given) as Uint8Array
      const before = new Uint8Array(bytes)
      bytes.fill(0)
      const back = tensor.decode(encoded, of) as Tensor
      encoded.fill(0)
      expect(back.type).toBe(type)
      expect(back.dims).toEqual(dims)
      expect(new Uint8Array((back.data as Uint8Array).buffer)).toEqual(before)
      expect(encoded.length - bytes.length).toSatisfy((head: number) => head % 64 === 0)
    }), { numRuns: 200 })
  })

  it('takes only what has as many elements as its dimensions say, in the array of its type', () => {
    for (const bad of [{ type: 'float32', dims: [2], data: new Float32Array(3) }, { type: 'float32', dims: [2], data: new Float64Array(2) }, { type: 'float32', dims: [-1], data: new Float32Array(1) }, { type: 'float32', dims: [1.5], data: new Float32Array(1) }, { type: 'complex64', dims: [1], data: new Float32Array(2) }, new Float32Array(2), null, 'text', {}]) expect(tensor.is(bad)).toBe(false)
  })

  it('with type and dims refuses others, and names both', () => {
    const codec = tensorCodec('embedding', { type: 'float32', dims: [null, 1024] }), wrong: Tensor = { type: 'float64', dims: [1, 1024], data: new Float64Array(1024) }
    expect(codec.expects).toBe('float32[?,1024]')
    expect(tensorCodec('x', { type: 'float32', dims: [1024] }).expects).toBe('float32[1024]')
    expect(inWords(wrong)).toBe('a tensor float64[1,1024]')
    expect(inWords({ type: 'float32', dims: [2, 2], data: Float64Array.of(1, 2, 3) })).toBe('a tensor float32[2,2], whose data are float64[3]')
    expect(codec.is(wrong)).toBe(false)
    expect(codec.is({ type: 'float32', dims: [7, 1024], data: new Float32Array(7 * 1024) })).toBe(true)
    expect(codec.is({ type: 'float32', dims: [1024], data: new Float32Array(1024) })).toBe(false)
    expect(codec.is({ type: 'float32', dims: [1, 1000], data: new Float32Array(1000) })).toBe(false)
    expect(fault(() => codec.decode(tensor.encode(wrong) as Uint8Array, of))).toBe('CORRUPT The bytes hold float64[1,1024]; float32[?,1024] is expected.')
    expect(fault(() => tensorCodec('x', { type: 'string' }))).toContain('INVALID_ARGUMENT The codec "x" is declared for elements of type "string"')
    expect(fault(() => tensorCodec('x', { dims: [-1] }))).toContain('INVALID_ARGUMENT The codec "x" is declared for the dimensions [-1]')
    expect(fault(() => tensorCodec('not allowed'))).toContain('INVALID_ARGUMENT')
  })

  it('takes damage for an error, wherever the file is cut', () => {
    const bytes = base64(numpy.float32)
    for (let length = 0; length < bytes.length; length++) expect(fault(() => tensor.decode(bytes.subarray(0, length), of)), `${length}`).toMatch(/^CORRUPT /)
    expect(fault(() => tensor.decode(new Uint8Array([...bytes, 0]), of))).toBe('CORRUPT The bytes are no tensor: float32[2,3] takes 24 bytes, and 25 are there.')
    expect(fault(() => tensor.decode(changed(bytes, 6, 9), of))).toMatch(/^CORRUPT /)
    expect(fault(() => tensor.decode(changed(base64(numpy.bool), 128, 2), of))).toContain('a boolean is neither 0 nor 1')
    for (const header of ["{'descr': '<f4'}", "{'descr': '<f4', 'fortran_order': False, 'shape': (2, -3), }", "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1e400), }", "{'descr': '<f4', 'fortran_order': 0, 'shape': (2, 3), }", '__import__("os")', 'null', '']) {
      const file = Buffer.concat([bytes.subarray(0, 10), Buffer.from(header.padEnd(118)), bytes.subarray(128)])
      expect(fault(() => tensor.decode(file, of)), header).toMatch(/^CORRUPT /)
    }
  })
})

describe('array codecs', () => {
  it('give back arrays of every type as raw bytes', () => {
    for (const type of ['int8', 'uint8', 'int16', 'uint16', 'int32', 'uint32', 'int64', 'uint64', 'float32', 'float64'] as const) {
      const codec: Codec = arrayCodec<ArrayType>('x', { type }), make = typedArrays[elementArrays[type] as TypedArrayName], given: unknown = new make(Uint8Array.from({ length: 24 }, (_, i) => i * 3).buffer)
      expect(codec.is(given)).toBe(true)
      expect(codec.encode(given)).toHaveLength(24)
      expect(there(codec, given)).toEqual(given)
    }
  })

  it('keep the float tensor of the story: what torch gives as bytes is what is stored', () => {
    const codec = arrayCodec('float_tensor', { type: 'float32', length: 3 }), bytes = new Uint8Array(Buffer.from('0000803f000000c000004040', 'hex'))
    const given = codec.decode(bytes, of)
    expect(given).toEqual(Float32Array.of(1, -2, 3))
    expect(codec.encode(Float32Array.of(1, -2, 3))).toEqual(bytes)
    bytes.fill(0)
    expect(given).toEqual(Float32Array.of(1, -2, 3))
    expect(codec.expects).toBe('float32[3]')
    expect(inWords(new Float64Array(3))).toBe('float64[3]')
    for (const bad of [new Float64Array(3), new Float32Array(4), [1, 2, 3], null]) expect(codec.is(bad)).toBe(false)
    expect(fault(() => codec.decode(new Uint8Array(16), of))).toBe('CORRUPT The content has 16 bytes; float32[3] of 4 bytes each is expected.')
    expect(fault(() => arrayCodec('x', { type: 'float32' }).decode(new Uint8Array(5), of))).toContain('float32[?] of 4 bytes each')
    expect(arrayCodec('x', { type: 'float32' }).decode(Buffer.from('xxxx0000').subarray(1, 5), of)).toHaveLength(1)          // not aligned
  })

  it('of unknown types and lengths are refused', () => {
    expect(fault(() => arrayCodec('x', { type: 'string' as 'int8' }))).toContain('elements of type "string"; one of int8, uint8')
    expect(fault(() => arrayCodec('x', { type: 'int8', length: -1 }))).toContain('declared for -1 elements')
  })
})

describe('the json codec', () => {
  it('gives back any value', () => {
    const values: readonly Value[] = [null, true, 'ü\0', 1.5, -0, NaN, Infinity, 2n ** 70n, [1, [2]], { a: { b: [] } }, new Date(5), new Uint8Array([1, 2]), Float32Array.of(1.5), { ['__proto__']: 1 }]
    for (const value of values) {
      expect(jsonCodec.is(value)).toBe(true)
      expect(there(jsonCodec, value)).toEqual(value)
    }
    expect(Buffer.from(jsonCodec.encode({ a: [1, 'ü'] }) as Uint8Array).toString()).toBe('{"a":[1,"ü"]}')
  })
  it('refuses what is no plain value, with the place', () => {
    for (const value of [undefined, () => 1, Symbol('x')]) expect(jsonCodec.is(value)).toBe(false)
    let error: unknown
    try {
      void jsonCodec.encode({ a: [{ b: new Map() }] } as unknown as Value)
    } catch (thrown) {
      error = thrown
    }
    expect(error).toMatchObject({ fault: { path: 'a.0.b' } })
  })
  it('takes damage for an error', () => {
    for (const bytes of [[], [0xff], [0x7b], [0x22, 0xc3], [0x31, 0x20, 0x31]]) expect(fault(() => jsonCodec.decode(new Uint8Array(bytes), of))).toMatch(/^CORRUPT The bytes are no JSON: /)
    expect(fault(() => jsonCodec.decode(Buffer.from('{"\\u0001new":1}'), of))).toMatch(/^CORRUPT The stored tag/)
  })
})

describe('the file codec', () => {
  it('gives back name, type, time and bytes of a File, and the bytes of a Blob', async () => {
    const file = new File(['two\nlines'], 'a "ü"\n.txt', { type: 'text/plain', lastModified: 1_700_000_000_000 })
    const back = await fileCodec.decode(await fileCodec.encode(file), of) as File
    expect([back.name, back.type, back.lastModified, await back.text()]).toEqual(['a "ü"\n.txt', 'text/plain', 1_700_000_000_000, 'two\nlines'])
    const blob = await fileCodec.decode(await fileCodec.encode(new Blob([new Uint8Array([0, 10, 255])])), of) as File
    expect([blob instanceof File, blob.name, blob.type, blob.lastModified, ...await blob.bytes()]).toEqual([true, '', '', 0, 0, 10, 255])
    expect(fileCodec.is('a.txt')).toBe(false)
    expect(fileCodec.is(file)).toBe(true)
  })
  it('takes damage for an error', async () => {
    const bytes = await fileCodec.encode(new File(['hello'], 'a'))
    for (let length = 0; length < bytes.length; length++) expect(fault(() => fileCodec.decode(bytes.subarray(0, length), of))).toMatch(/^CORRUPT /)
    for (const text of ['null\n', '[]\n', '{"name":1,"type":"","lastModified":0,"size":0}\n', '\n']) expect(fault(() => fileCodec.decode(Buffer.from(text), of))).toMatch(/^CORRUPT /)
  })
})

/** A WAV file as its parts say, right or wrong. */
interface WavParts { readonly kind?: number; readonly channels?: number; readonly rate?: number; readonly bits?: number; readonly data?: readonly number[]; readonly fmt?: readonly number[]; readonly before?: readonly number[]; readonly block?: number; readonly size?: number; readonly riff?: number; readonly tag?: string }
const wav = ({ kind = 1, channels = 1, rate = 8000, bits = 16, data = [], fmt = [], before = [], block = channels * bits / 8, size = data.length, riff = 0, tag = 'RIFF' }: WavParts = {}): Uint8Array => {
  const file = Buffer.alloc(44 + fmt.length + before.length + data.length + data.length % 2)
  file.write(tag, 0, 'latin1')
  file.writeUInt32LE(file.length - 8 + riff, 4)
  file.write('WAVEfmt ', 8, 'latin1')
  file.writeUInt32LE(16 + fmt.length, 16)
  file.writeUInt16LE(kind, 20)
  file.writeUInt16LE(channels, 22)
  file.writeUInt32LE(rate, 24)
  file.writeUInt32LE(rate * block, 28)
  file.writeUInt16LE(block, 32)
  file.writeUInt16LE(bits, 34)
  file.set([...fmt, ...before, ...Buffer.from('data', 'latin1')], 36)
  file.writeUInt32LE(size, 40 + fmt.length + before.length)
  file.set(data, 44 + fmt.length + before.length)
  return new Uint8Array(file)
}
const bytesOf = (array: ArrayBufferView): readonly number[] => [...new Uint8Array(array.buffer, array.byteOffset, array.byteLength)]
const extension = (kind: number, valid: number): readonly number[] => [22, 0, valid, 0, 0, 0, 0, 0, kind, 0, ...Buffer.from('000000001000800000aa00389b71', 'hex')]
const channelsOf = (audio: Audio): readonly (readonly number[])[] => audio.samples().map((channel) => [...channel])

describe('Audio', () => {
  it('reads the PCM files that Python wrote', () => {
    expect(channelsOf(Audio.from(base64(python.pcm8)))).toEqual([[-1, 0, Math.fround(127 / 128)]])
    expect(channelsOf(Audio.from(base64(python.pcm16)))).toEqual([[0, 0.5, -0.5], [-1, Math.fround(32767 / 32768), Math.fround(1 / 32768)]])
    expect(channelsOf(Audio.from(base64(python.pcm24)))).toEqual([[0, -1, 0.5, Math.fround((2 ** 23 - 1) / 2 ** 23)]])
    expect(channelsOf(Audio.from(base64(python.pcm32)))).toEqual([[0, -1, 0.5]])
    const stereo = Audio.from(base64(python.pcm16))
    expect([stereo.sampleRate, stereo.channels, stereo.length, stereo.seconds]).toEqual([8000, 2, 3, 3 / 8000])
    expect([...stereo.mono()]).toEqual([-0.5, Math.fround((0.5 + 32767 / 32768) / 2), Math.fround((-0.5 + 1 / 32768) / 2)])
  })

  it('reads floats of 32 and 64 bits, extensible formats, many channels, other chunks and odd sizes', () => {
    expect(channelsOf(Audio.from(wav({ kind: 3, bits: 32, data: bytesOf(Float32Array.of(0.25, -1.5)) })))).toEqual([[0.25, -1.5]])
    expect(channelsOf(Audio.from(wav({ kind: 3, bits: 64, channels: 2, data: bytesOf(Float64Array.of(0.25, -1)) })))).toEqual([[0.25], [-1]])
    expect(channelsOf(Audio.from(wav({ kind: 0xfffe, bits: 16, data: [0, 64], fmt: extension(1, 12) })))).toEqual([[0.5]])
    expect(channelsOf(Audio.from(wav({ kind: 0xfffe, bits: 32, data: bytesOf(Float32Array.of(0.5)), fmt: extension(3, 32) })))).toEqual([[0.5]])
    expect(channelsOf(Audio.from(wav({ bits: 8, channels: 3, data: [0, 128, 192, 128, 128, 128], before: [...Buffer.from('LIST'), 3, 0, 0, 0, 1, 2, 3, 0] })))).toEqual([[-1, 0], [0, 0], [0.5, 0]])
    expect(channelsOf(Audio.from(wav({ bits: 8, data: [0, 128, 192] })))).toEqual([[-1, 0, 0.5]])
    expect(channelsOf(Audio.from(wav()))).toEqual([[]])
    expect(channelsOf(Audio.from(new Uint8Array([...wav({ bits: 8, data: [0, 128] }), 9, 9])))).toEqual([[-1, 0]])              // what stands after the file is not of it
  })

  it('is made of samples, and gives them back', () => {
    const left = Float32Array.of(0, 0.5, -1), right = Float32Array.of(1, 0.1, 0)
    const audio = Audio.fromSamples([left, right], 16000)
    left.fill(9)
    expect(audio.samples()).toEqual([Float32Array.of(0, 0.5, -1), right])
    expect([audio.sampleRate, audio.channels, audio.seconds]).toEqual([16000, 2, 3 / 16000])
    expect(there(audioCodec, audio).samples()).toEqual(audio.samples())
    expect(Audio.fromSamples([new Float32Array()], 1).length).toBe(0)
    expect(fault(() => Audio.fromSamples([], 16000))).toContain('INVALID_ARGUMENT')
    expect(fault(() => Audio.fromSamples([left, new Float32Array(2)], 16000))).toContain('all of one length')
    expect(fault(() => Audio.fromSamples([left], 0.5))).toContain('The sample rate is 0.5')
    expect(fault(() => Audio.fromSamples(new Array<Float32Array>(16384).fill(left), 8000))).toContain('16384 channels of 3 samples do not fit')
  })

  it('keeps the original bytes, does not change, and says its codec', () => {
    const bytes = base64(python.pcm16), audio = Audio.from(bytes)
    bytes.fill(0)
    audio.bytes.fill(0)
    audio.samples()[0]!.fill(9)
    audio.mono().fill(9)
    expect(Buffer.from(audio.bytes).toString('base64')).toBe(python.pcm16)
    expect(Buffer.from(audioCodec.encode(audio) as Uint8Array).toString('base64')).toBe(python.pcm16)
    expect(channelsOf(audio)[0]).toEqual([0, 0.5, -0.5])
    expect((audio as unknown as Record<symbol, unknown>)[codecKey]).toBe('audio')
    expect(audioCodec.is(audio)).toBe(true)
    expect(audioCodec.is(bytes)).toBe(false)
  })

  it('refuses what is compressed or too large a kind with a sentence', () => {
    expect(fault(() => Audio.from(wav({ kind: 0x55, bits: 16 })))).toBe('UNSUPPORTED The sound is compressed (WAV format 85); PCM or float samples are expected. Convert it, for example with: ffmpeg -i in.wav -c:a pcm_s16le out.wav')
    expect(fault(() => Audio.from(wav({ kind: 0xfffe, fmt: extension(0x55, 16) })))).toContain('UNSUPPORTED The sound is compressed (WAV format 85)')
    for (const tag of ['RF64', 'BW64', 'RIFX']) expect(fault(() => Audio.from(wav({ tag })))).toContain(`UNSUPPORTED The sound is of the kind "${tag}"`)
    for (const [kind, bits] of [[1, 64], [1, 12], [3, 16]] as const) expect(fault(() => Audio.from(wav({ kind, bits })))).toContain('UNSUPPORTED The sound has')
  })

  it('takes damage for an error: sizes that lie, formats that contradict themselves, files that are cut', () => {
    const good = wav({ bits: 16, channels: 2, data: [1, 2, 3, 4, 5, 6, 7, 8] })
    for (let length = 0; length < good.length; length++) expect(fault(() => Audio.from(good.subarray(0, length))), `${length}`).toMatch(/^CORRUPT /)
    for (const bad of [{ riff: 1 }, { riff: -16 }, { size: 10 }, { size: 12 }, { size: 2 ** 32 - 1 }, { data: [1, 2, 3, 4, 5, 6] }, { block: 3 }, { rate: 0 }, { channels: 0 }]) expect(fault(() => Audio.from(wav({ bits: 16, channels: 2, data: [1, 2, 3, 4, 5, 6, 7, 8], ...bad }))), JSON.stringify(bad)).toMatch(/^CORRUPT /)
    expect(fault(() => Audio.from(wav({ kind: 0xfffe, fmt: extension(1, 16).slice(0, 10) })))).toContain('the extension of its format is not understood')
    expect(fault(() => Audio.from(changed(good, 28, 1)))).toContain('its format contradicts itself')
    expect(fault(() => Audio.from(changed(good, 36, ...Buffer.from('junk'))))).toContain('the chunk "data" is not there')
    expect(fault(() => Audio.from(changed(good, 12, ...Buffer.from('junk'))))).toContain('the chunk "fmt " is not there')
    expect(fault(() => Audio.from(wav({ before: [...Buffer.from('data'), 0, 0, 0, 0] })))).toContain('there are two chunks "data"')
    expect(fault(() => Audio.from('text' as unknown as Uint8Array))).toContain('INVALID_ARGUMENT')
  })

  it('of any damaged byte is an error or the sound that the file then is, never a crash', () => {
    const good = wav({ bits: 16, channels: 2, data: [1, 2, 3, 4, 5, 6, 7, 8] })
    for (let at = 0; at < good.length; at++) for (const to of [0, 1, 127, 255]) expect(fault(() => Audio.from(changed(good, at, to)).samples().length)).toMatch(/^(CORRUPT|UNSUPPORTED|no error: [12]$)/)
  })
})

describe('Video', () => {
  const mp4 = new Uint8Array(Buffer.concat([Buffer.from([0, 0, 0, 24]), Buffer.from('ftypisom'), Buffer.from([0, 0, 2, 0]), Buffer.from('isommp42'), Buffer.alloc(100)]))

  it('keeps its bytes and says its type', async () => {
    const given = new Uint8Array(mp4), video = await Video.from(given)
    given.fill(0)
    video.bytes.fill(0)
    expect(video.type).toBe('video/mp4')
    expect(video.bytes).toEqual(mp4)
    expect((await videoCodec.decode(videoCodec.encode(video) as Uint8Array, of)).bytes).toEqual(mp4)
    expect((video as unknown as Record<symbol, unknown>)[codecKey]).toBe('video')
    expect(videoCodec.is(video)).toBe(true)
    const webm = new Uint8Array(Buffer.concat([Buffer.from('1a45dfa3874282847765626d', 'hex'), Buffer.alloc(64)]))
    expect((await Video.from(webm)).type).toBe('video/webm')
  })

  it('takes only videos', async () => {
    const said = async (bytes: unknown): Promise<string> => Video.from(bytes as Uint8Array).then(() => 'no error', (error: Error) => error.message)
    expect(await said(Buffer.from('89504e470d0a1a0a0000000d49484452', 'hex'))).toMatch(/^The bytes are no video: they begin as a file of type "image\/png"/)
    for (const bytes of [new Uint8Array(), new Uint8Array(1000), createHash('sha512').update('x').digest()]) expect(await said(bytes)).toContain('no file that is known')
    expect(await said('text')).toContain('Video.from was given "text"')
  })
})

describe('the built-in codecs', () => {
  it('have ids of their own', () => {
    expect(builtIn.map(({ id }) => id)).toEqual(['tensor', 'json', 'file', 'audio', 'video'])
  })
})
