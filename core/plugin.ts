/** What an author of a plugin needs: the contract, errors, values, the stored encoding, and the meaning of filters and orders. */
export type * from './contract.ts'
export { decode, encode, encodeNumber, hashOf, pick, sha256 } from './encoding.ts'
export { InlayError, messageOf, quote, type ErrorCode, type ErrorOptions } from './errors.ts'
export { evaluate } from './match.ts'
export { compareKeys, sortKey, Top, type Order } from './sort.ts'
export { redact, schemeOf } from './uri.ts'
export { compare, compareStrings, copyOut, has, isBytes, isDoc, isTypedArray, rank, same } from './value.ts'
export { distance, nearer } from './vectors.ts'
