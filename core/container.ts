/** Dependency injection, in one file: which parts an `Inlay` is made of, under which tokens they can be replaced. Plugin authors never see it. */
import 'reflect-metadata'
import { container as root, type DependencyContainer, type InjectionToken } from 'tsyringe'
import type { Log } from './api.ts'
import type { ArtifactStore, Datalayer, Executor, VectorSearch } from './contract.ts'

/** A container of tsyringe. */
export type Container = DependencyContainer

/** What an application may replace with `config.container`. Core puts its guards and the middleware around what it finds under the first three. */
export const tokens: {
  readonly Datalayer: InjectionToken<Datalayer>
  readonly ArtifactStore: InjectionToken<ArtifactStore>
  readonly VectorSearch: InjectionToken<VectorSearch>
  /** By graph format, loaded when first needed. */
  readonly Executor: InjectionToken<(format: string) => Promise<Executor>>
  readonly Log: InjectionToken<Log>
} = {
  Datalayer: Symbol.for('inlay.Datalayer'),
  ArtifactStore: Symbol.for('inlay.ArtifactStore'),
  VectorSearch: Symbol.for('inlay.VectorSearch'),
  Executor: Symbol.for('inlay.Executor'),
  Log: Symbol.for('inlay.Log'),
}

/** The opened parts. */
export interface Parts {
  readonly data: Datalayer
  readonly artifacts: ArtifactStore
  readonly vectors: VectorSearch
  readonly executor: (format: string) => Promise<Executor>
  readonly log: Log
}

/** Registers the parts in a container of their own, lets the application replace any, and gives what is registered then. */
export function assemble(parts: Parts, replace: ((container: Container) => void) | undefined): Parts {
  const container = root.createChildContainer()
  container.register(tokens.Datalayer, { useValue: parts.data })
  container.register(tokens.ArtifactStore, { useValue: parts.artifacts })
  container.register(tokens.VectorSearch, { useValue: parts.vectors })
  container.register(tokens.Executor, { useValue: parts.executor })
  container.register(tokens.Log, { useValue: parts.log })
  replace?.(container)
  return {
    data: container.resolve(tokens.Datalayer),
    artifacts: container.resolve(tokens.ArtifactStore),
    vectors: container.resolve(tokens.VectorSearch),
    executor: container.resolve(tokens.Executor),
    log: container.resolve(tokens.Log),
  }
}
