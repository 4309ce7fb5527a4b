/** Where an output comes from: its mark, and what is stored of the listener and the model that made it. */
import type { Lineage } from './api.ts'
import type { Core } from './core.ts'
import type { Ctx, Doc } from './contract.ts'
import type { Listener, StoredListener } from './listeners.ts'
import type { Part, StoredModel } from './model.ts'
import { stepsOf } from './model.ts'

/** Of the output that readers see now; undefined where the row, or a mark for it, is not there. */
export async function lineageOf(core: Core, listener: Listener, id: string, ctx: Ctx): Promise<Lineage | undefined> {
  const { slot, version } = listener.serving
  for await (const [row] of core.data.rows({ ...slot, fields: [] }, 'all', [id], ctx)) {
    if (row?.mark === undefined) continue
    const { mark } = row, [at, worker] = mark.by?.split(' ') ?? []
    const of = (await core.components.get('listener', listener.name, ctx))?.versions.find((v) => v.version === version)?.spec as unknown as StoredListener
    const component = await core.components.get('model', of.model, ctx), found = component?.versions.find((v) => v.hash === of.identity), stored = found?.spec as unknown as StoredModel | undefined
    const digests = (component?.state['digests'] ?? {}) as Doc, parts = stored === undefined ? [] : partsOf(stored)
    const upstream: Lineage[] = []
    for (const name of listener.upstream) {
      const up = core.listeners.get(name), source = slot.upstream.length === 0 ? id.slice(0, id.lastIndexOf('#')) : id
      const lineage = up === undefined ? undefined : await lineageOf(core, up, source, ctx)
      if (lineage !== undefined) upstream.push(lineage)
    }
    return {
      row: { _id: id, rev: mark.rev.split('|')[0]!, current: mark.rev === row.rev }, hash: mark.hash,
      listener: { name: listener.name, version, key: listener.spec.label },
      model: {
        name: of.model, version: found?.version ?? -1, identity: of.identity, ...(stored?.artifact == null ? {} : { artifact: stored.artifact }), ...(stored?.shape == null ? {} : { shape: stored.shape }), ...(stored?.codec === undefined ? {} : { codec: stored.codec }),
        ...(stored?.options === undefined ? {} : { options: stored.options }), ...(parts.length === 0 ? {} : { parts }),
      },
      steps: (stored === undefined ? [] : stepsOf(stored)).map((step) => ({ step, ...(typeof digests[step] === 'string' ? { digest: digests[step] } : {}) })),
      ...(at === undefined ? {} : { at: new Date(at) }), ...(worker === undefined ? {} : { worker }), ...(mark.error === undefined ? {} : { error: mark.error }), upstream,
    }
  }
  return undefined
}

function partsOf({ sequence = [], ensemble = {} }: StoredModel): readonly Part[] {
  return [...sequence, ...Object.values(ensemble)]
}
