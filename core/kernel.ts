/**
 * Dot products of one vector with many, by WebAssembly SIMD: four lanes of four float32 sums, some ten times as fast as a loop in JavaScript. Sums of float32 are not exact, so
 * they only tell which vectors may be near; those are measured again in double precision (vectors.ts).
 *
 * The module, 302 bytes, imports `env.memory` and exports, all as byte offsets into that memory:
 *   dot(a, b, d)             the product of two vectors of d float32, d a multiple of 16
 *   dots(a, list, out, n, d) the same for each of n vectors that lie one after the other, written to `out`
 */
import { InlayError, messageOf } from './errors.ts'

const module = `AGFzbQEAAAABEAJgA39/fwF9YAV/f39/fwACDwEDZW52Bm1lbW9yeQIAAQMDAgABBw4CA2RvdAAABGRvdHMAAQrrAQK1AQIBfwR7A0AgACADav0ABAAgASADav0ABAD95gEgBP3kASEEIAAgA2r9AAQQIAEgA2r9AAQQ/eYBIAX95AEhBSAAIANq/QAEICABIANq/QAE
IP3mASAG/eQBIQYgACADav0ABDAgASADav0ABDD95gEgB/3kASEHIANBwABqIQMgAyACQQJ0SQ0ACyAEIAX95AEgBiAH/eQB/eQBIQQgBP0fACAE/R8BkiAE/R8CIAT9HwOSkgsyAQF/A0AgAiAFQQJ0aiAAIAEgBBAAOAIAIAEgBEECdGohASAFQQFqIQUgBSADSQ0ACws=`
const lanes = 16
const pageBytes = 65_536
const mostPages = 65_536

interface Exports { dot(a: number, b: number, d: number): number; dots(a: number, list: number, out: number, n: number, d: number): void }
interface Memory { readonly buffer: ArrayBuffer; grow(pages: number): number }
interface WebAssemblyOf { Module: new (bytes: Uint8Array) => object; Instance: new (module: object, imports: object) => { readonly exports: unknown }; Memory: new (of: { readonly initial: number; readonly maximum: number }) => Memory }
const { WebAssembly } = globalThis as unknown as { readonly WebAssembly: WebAssemblyOf }
let compiled: object | undefined

/** Rows of vectors of one length in memory that WebAssembly reads. */
export class Rows {
  readonly dims: number
  /** Bytes of one row. */
  readonly #stride: number
  readonly #memory: Memory
  readonly #exports: Exports
  #floats: Float32Array
  #capacity: number
  size = 0

  constructor(dims: number) {
    this.dims = dims
    this.#stride = Math.ceil(dims / lanes) * lanes * 4
    this.#capacity = Math.max(1, Math.floor(pageBytes / (this.#stride + 4)) - 1)
    this.#memory = new WebAssembly.Memory({ initial: Math.ceil(this.#bytes(this.#capacity) / pageBytes), maximum: mostPages })
    compiled ??= new WebAssembly.Module(Buffer.from(module, 'base64'))
    this.#exports = new WebAssembly.Instance(compiled, { env: { memory: this.#memory } }).exports as Exports
    this.#floats = new Float32Array(this.#memory.buffer)
  }
  /** The query lies first, then the rows, then the products. */
  #bytes(capacity: number): number {
    return this.#stride * (capacity + 1) + 4 * capacity
  }
  #at(row: number): number {
    return this.#stride * (row + 1)
  }

  /** A view on a row, good until the next `push`. */
  row(row: number): Float32Array {
    return this.#floats.subarray(this.#at(row) / 4, this.#at(row) / 4 + this.dims)
  }
  push(vector: Float32Array): void {
    if (this.size === this.#capacity) this.#grow()
    this.#floats.set(vector, this.#at(this.size++) / 4)
  }
  set(row: number, vector: Float32Array): void {
    this.#floats.set(vector, this.#at(row) / 4)
  }
  /** Removes the last row. */
  pop(): void {
    this.size--
  }
  #grow(): void {
    const most = Math.floor((mostPages * pageBytes - this.#stride) / (this.#stride + 4)), capacity = Math.min(this.#capacity * 2, most), pages = Math.ceil(this.#bytes(capacity) / pageBytes)
    try {
      if (capacity <= this.#capacity) throw new RangeError('4 GiB are full')
      this.#memory.grow(pages - this.#memory.buffer.byteLength / pageBytes)
    } catch (error) {
      throw new InlayError('RESOURCE_EXHAUSTED', `The vectors of one index do not fit into this process: ${this.size} of ${this.dims} dimensions are there, and there is no memory for more (${messageOf(error)}). Keep vectors in a database that searches them: { vectors: 'postgres://…' }.`, { cause: error })
    }
    this.#floats = new Float32Array(this.#memory.buffer)
    this.#capacity = capacity
  }

  /** The products with all rows; a view, good until the next call. */
  dots(query: Float32Array): Float32Array {
    this.#floats.set(query, 0)
    const out = this.#at(this.#capacity)
    if (this.size > 0) this.#exports.dots(0, this.#stride, out, this.size, this.#stride / 4)
    return this.#floats.subarray(out / 4, out / 4 + this.size)
  }
  /** The products with some rows. */
  some(query: Float32Array, rows: readonly number[]): Float32Array {
    this.#floats.set(query, 0)
    return Float32Array.from(rows, (row) => this.#exports.dot(0, this.#at(row), this.#stride / 4))
  }
  /** How far a product may be from the true one, for vectors of length one: each lane adds d/16 products, each sum rounded to float32. */
  get error(): number {
    return (this.#stride / 4 / lanes + 8) * 2 ** -23
  }
}
