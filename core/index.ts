/** Everything an application uses, but for `inlay` itself, which the package's main entry adds with the plugins that come with it. */
export type {
  Cancel, Changed, Collection, CollectionOptions, Config, Failure, Find, Fold, Health, Hit, IndexHandle, Inlay, ListenerHandle, ListenerHealth, ListenOptions, Log, ModelHandle, New, Operators, Plan, PlanStep,
  Progress, Refused, Row, ShownCollection, ShownListener, Test, TypeName, Update, VerifyOptions, Wait, Where, WorkOptions, WorkStatus,
} from './api.ts'
export type { Shown } from './components.ts'
export { defineConfig } from './config.ts'
export { tokens, type Container } from './container.ts'
export type * from './contract.ts'
export { InlayError, type ErrorCode, type ErrorOptions } from './errors.ts'
export { open } from './inlay.ts'
export type { PluginEntry } from './plugins.ts'
export { listener, model, vectorIndex, type IndexSpec, type Listened, type ListenerKey, type ListenerOptions, type ListenerSpec, type ModelSpec, type Spec } from './spec.ts'
export { step, type Step, type StepOptions } from './step.ts'
