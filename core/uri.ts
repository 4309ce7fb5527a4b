/** URIs of databases: core parses the scheme only, and never prints a secret. */
import { InlayError, quote } from './errors.ts'

/** `postgres` of `postgres://…`, in lower case. */
export function schemeOf(uri: string): string {
  const scheme = /^([A-Za-z][A-Za-z0-9+.-]*):/.exec(uri)?.[1]
  if (scheme === undefined) throw new InlayError('CONFIG_INVALID', `${quote(redactUri(uri))} is no database URI: a scheme such as "memory:", "pglite:./folder" or "postgres://host/database" is expected.`)
  return scheme.toLowerCase()
}

/** The URI, or any text that holds some, without passwords and without the values of its query that look secret. A password may hold any character unescaped
 *  but white space and quotes, so all to the last '@' is taken for one: of `http://host:80/a@b` too much is hidden rather than too little. */
export function redact(text: string): string {
  return text.replace(/(:\/\/[^:/?#\s'"]*):[^\s'"]*@/g, '$1:***@')
    .replace(/([?&][A-Za-z0-9_.-]*(?:password|pass|secret|token|key)[A-Za-z0-9_.-]*=)[^&\s'"]*/gi, '$1***')
}

/** What tells one database from another when a plugin does not say: the URI without its password, and without what looks secret in its query. Not to be shown:
 *  where it is not clear what is a password this keeps more than `redact`, because two databases must not be taken for one. */
export function identityOfUri(uri: string): string {
  return uri.replace(/(:\/\/[^:/?#]*):[^/?#]*@/, '$1@')
    // Unescaped '/', '?' or '#' in the password; digits before one of these are a port.
    .replace(/(:\/\/[^:/?#@]*):(?!\d+[,/?#]).*@/s, '$1@')
    .replace(/[?&](?:[A-Za-z0-9_.-]*(?:pass|secret|token)[A-Za-z0-9_.-]*|[A-Za-z0-9_.-]*key)=[^&#]*/gi, '')
}

/** A whole URI for a message: as `redact` gives it, and nothing before an @ when it is too malformed to tell what of it is a password. */
export function redactUri(uri: string): string {
  const scheme = /^[A-Za-z][A-Za-z0-9+.-]*:\/\//.exec(uri)?.[0]
  if (!uri.includes('@') || (scheme !== undefined && !/[\s'"]/.test(uri))) return redact(uri)
  return redact(`${scheme ?? ''}***${uri.slice(uri.lastIndexOf('@'))}`)
}
