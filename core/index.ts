/** Everything an application uses, but for `inlay` itself, which the package's main entry adds with the plugins that come with it. */
export type {
  Cancel, Changed, Chunk, Collection, CollectionOptions, Config, Failure, Find, Fold, Health, Hit, IndexHandle, Inlay, ListenerHandle, ListenerHealth, ListenOptions, Log, ModelHandle, New, Operators, Plan, PlanStep,
  Comparison, Lineage, Progress, Refused, Row, ShownCollection, ShownListener, Test, TypeName, Update, Upgrade, VerifyOptions, Wait, Where, WorkOptions, WorkStatus,
} from './api.ts'
export { codec, content, UriContent, type CodecSpec, type Declared } from './codec.ts'
export { arrayCodec, Audio, tensorCodec, Video, type ArrayOf, type ArrayType, type TensorOptions } from './codecs/index.ts'
export type { Shown } from './components.ts'
export { defineConfig } from './config.ts'
export { tokens, type Container } from './container.ts'
export type * from './contract.ts'
export type { ContentOptions, SchemeFetch } from './fetch.ts'
export { InlayError, type ErrorCode, type ErrorOptions } from './errors.ts'
export { open } from './inlay.ts'
export { prompt } from './prompt.ts'
export type { PluginEntry } from './plugins.ts'
export { ensemble, listener, model, retrieve, sequence, vectorIndex, type IndexSpec, type Listened, type ListenerKey, type ListenerOptions, type ListenerSpec, type ModelSpec, type RetrieveOptions, type Spec } from './spec.ts'
export { step, type Step, type StepOptions } from './step.ts'
