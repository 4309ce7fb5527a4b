/** Models behind HTTP APIs: any endpoint that speaks the OpenAI protocol. */
export { prompt, type PromptValues } from '../../core/prompt.ts'
export { chat, type ChatOptions, type Message } from './chat.ts'
export { embedding, type EmbeddingOptions } from './embedding.ts'
export type { EndpointOptions } from './endpoint.ts'
