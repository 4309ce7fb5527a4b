/** A search as a model: the rows nearest to an input are its output. */
import type { Core } from './core.ts'
import type { Ctx, Doc } from './contract.ts'
import { decode } from './encoding.ts'
import { InlayError } from './errors.ts'
import { Find } from './find.ts'
import type { Retrieval } from './model.ts'
import { isOutage } from './reconcile.ts'

/** For each input the rows found, nearest first, without their outputs. */
export async function retrieveRows(core: Core, { index, by, n, where, select }: Retrieval, inputs: readonly unknown[], ctx: Ctx): Promise<readonly unknown[]> {
  const handle = { kind: 'index' as const, name: index }, { slot } = await core.indexes.open(handle, ctx), key = by ?? core.indexes.keyOf(handle)
  const find = new Find(core, slot.collection, { ...(where === undefined ? {} : { where: decode(where) as Doc }), ...(select === undefined ? {} : { fields: select }) })
  return Promise.all(inputs.map(async (input) => {
    try {
      const rows = await find.like({ [key]: input }, handle, { n }).rows(ctx)
      return rows.map((row) => Object.fromEntries(Object.entries(row).filter(([name]) => name !== '_outputs' && name !== 'distance')))
    } catch (error) {
      // An index or a model that is not here may be in another process: the rows wait.
      if (InlayError.is(error) && error.code === 'NOT_FOUND') throw new InlayError('PLUGIN_NOT_FOUND', error.message, { details: error.details, cause: error })
      if (ctx.signal.aborted || isOutage(error) || !(error instanceof Error)) throw error
      return error
    }
  }))
}
