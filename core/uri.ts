/** URIs of databases: core parses the scheme only, and never prints a secret. */
import { InlayError, quote } from './errors.ts'

/** `postgres` of `postgres://…`, in lower case. */
export function schemeOf(uri: string): string {
  const scheme = /^([A-Za-z][A-Za-z0-9+.-]*):/.exec(uri)?.[1]
  if (scheme === undefined) throw new InlayError('CONFIG_INVALID', `${quote(redact(uri))} is no database URI: a scheme such as "memory:", "pglite:./folder" or "postgres://host/database" is expected.`)
  return scheme.toLowerCase()
}

/** The URI, or any text that holds some, without passwords and without the values of its query. */
export function redact(text: string): string {
  return text.replace(/([A-Za-z][A-Za-z0-9+.-]*:\/\/)([^/?#\s'"]*)@/g, (_, scheme: string, user: string) => `${scheme}${user.split(':')[0]}${user.includes(':') ? ':***' : ''}@`)
    .replace(/([?&][A-Za-z0-9_.-]*(?:password|pass|secret|token|key)[A-Za-z0-9_.-]*=)[^&\s'"]*/gi, '$1***')
}

/** What tells one database from another when a plugin does not say: the URI without user, password and query. */
export function identityOfUri(uri: string): string {
  return uri.replace(/(:\/\/)[^/?#]*@/, '$1').replace(/[?#].*$/s, '')
}
