/** Texts with places for values: what a language model is asked. */
import { InlayError, quote } from './errors.ts'
import { step, type Step } from './step.ts'
import { isDoc } from './value.ts'

/** What a template is filled with. */
export type PromptValues = Readonly<Record<string, unknown>>

/**
 * A step that fills a template: `prompt('qa@1', 'Use {context} to answer {question}')`. A list is joined by newlines, an object written as JSON; `{{` and `}}`
 * are braces. What a value holds is never taken for a place.
 */
export function prompt(nameAtVersion: `${string}@${number}`, template: string): Step<PromptValues, string> {
  return step(nameAtVersion, filler(template), { data: template })
}

/** The function that fills `template`. A value that is missing or null is an error that names it. */
export function filler(template: string): (values: PromptValues) => string {
  const parts = parse(template)
  return (values) => {
    if (!isDoc(values)) throw new InlayError('INVALID_ARGUMENT', `The prompt ${quote(template)} was given ${quote(values)}; an object with ${[...new Set(parts.flatMap((part) => (typeof part === 'string' ? [] : [quote(part.name)])))].join(', ') || 'its values'} is expected. A listener gives one where its key is a list of fields.`)
    return parts.map((part) => (typeof part === 'string' ? part : textOf(valueOf(values, part.name, template)))).join('')
  }
}

type Place = { readonly name: string }

function parse(template: string): readonly (string | Place)[] {
  if (typeof template !== 'string') throw new InlayError('INVALID_ARGUMENT', `A prompt is ${quote(template)}; a text is expected.`)
  return [...template.matchAll(/\{\{|\}\}|\{([^{}]+)\}|[{}]|[^{}]+/g)].map(([text, name]): string | Place => {
    if (name !== undefined) return { name: name.trim() }
    if (text === '{' || text === '}') throw new InlayError('INVALID_ARGUMENT', `The prompt ${quote(template)} has a "${text}" that belongs to no place; write "${text}${text}" for the character itself.`)
    return text === '{{' ? '{' : text === '}}' ? '}' : text
  })
}

function valueOf(values: PromptValues, name: string, template: string): unknown {
  const value = Object.hasOwn(values, name) ? values[name] : undefined
  if (value === undefined || value === null) throw new InlayError('INVALID_ARGUMENT', `The prompt ${quote(template)} has no value for ${quote(name)}; it was given ${Object.keys(values).map(quote).join(', ') || 'nothing'}.`)
  return value
}

function textOf(value: unknown): string {
  if (Array.isArray(value)) return value.map(textOf).join('\n')
  if (typeof value !== 'object' || value === null) return String(value)
  return value instanceof Date ? value.toISOString() : JSON.stringify(value, (_, part: unknown) => (typeof part === 'bigint' ? String(part) : part))
}
