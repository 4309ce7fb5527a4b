/** Many updates in one trip, and who of them was refused. */
import type { AnyBulkWriteOperation, Collection as Coll, Document, MongoBulkWriteError, WriteError } from 'mongodb'
import type { Ctx } from '../../core/contract.ts'
import { classify } from './errors.ts'
import { simple } from './store.ts'

export type Operation = AnyBulkWriteOperation<Document>
/** By the index of the operation. `refused`: it matched no document. */
export interface Answer { readonly refused: ReadonlySet<number>; readonly errors: ReadonlyMap<number, { readonly code: number; readonly message: string }>; readonly deleted: number; readonly modified: number }

const nowhere = '\u0001nowhere'
/** Set by an upsert that found no document, and nowhere else. */
const fresh = '\u0001new'
const immutable = 66, duplicate = 11000

/** An update that is an upsert which cannot insert: where it matches nothing it fails with an error of its own, and so it is known who was refused, in the same trip. */
export function exact(filter: Document, update: Document): Operation {
  return { updateOne: { filter, update: { ...update, $setOnInsert: { _id: nowhere } }, upsert: true, collation: simple } }
}
/** The same for a pipeline, whose document must take its `_id` from here. */
export function exactPipeline(filter: Document, pipeline: (id: Document) => readonly Document[]): Operation {
  const id = { $cond: [{ $eq: [{ $type: { $getField: { $literal: fresh } } }, 'null'] }, nowhere, '$_id'] }
  return { updateOne: { filter: { ...filter, [fresh]: null }, update: [...pipeline(id)], upsert: true, collation: simple } }
}
/** Of a duplicate key: whether it is that of `_id`, not of an index of the user's. */
export function isTaken({ code, message }: { readonly code: number; readonly message: string }): boolean {
  return code === duplicate && / index: _id_ dup key/.test(message)
}

export async function bulk(coll: Coll<Document>, ops: readonly Operation[], { signal }: Ctx): Promise<Answer> {
  const refused = new Set<number>(), errors = new Map<number, { code: number; message: string }>()
  if (ops.length === 0) return { refused, errors, deleted: 0, modified: 0 }
  signal.throwIfAborted()
  try {
    const { deletedCount, modifiedCount } = await coll.bulkWrite(ops as Operation[], { ordered: false })
    return { refused, errors, deleted: deletedCount, modified: modifiedCount }
  } catch (error) {
    const { name, writeErrors, result } = error as MongoBulkWriteError, list = ([writeErrors ?? []] as (WriteError | readonly WriteError[])[]).flat() as readonly WriteError[]
    // Without errors of single operations it is the network's, or that of the whole command.
    if (name !== 'MongoBulkWriteError' || list.length === 0) throw error
    const unsure = result.getWriteConcernError()
    if (unsure !== undefined) throw Object.assign(new Error(unsure.errmsg ?? 'the write is not acknowledged by a majority'), { name: 'MongoNetworkError' })
    for (const { index, code, errmsg = '' } of list) {
      const at = Number(index), fault = { code: Number(code), message: errmsg }
      // An update that lost against another insert of the same _id.
      if (fault.code === immutable || (isTaken(fault) && 'updateOne' in ops[at]! && isExact(ops[at]!))) refused.add(at)
      else if (classify(fault)?.retryable === true) throw Object.assign(new Error(errmsg), { name: 'MongoServerError', code: fault.code })
      else errors.set(at, fault)
    }
    return { refused, errors, deleted: result.deletedCount, modified: result.modifiedCount }
  }
}

function isExact(op: Operation): boolean {
  const { filter, update } = (op as { readonly updateOne: { readonly filter: Document; readonly update: Document } }).updateOne
  return fresh in filter || '$setOnInsert' in update
}
