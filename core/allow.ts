/** Which URIs may be fetched: entries are compared with parsed URLs, never as text. */
import { dirname, relative, isAbsolute, sep } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { InlayError, quote } from './errors.ts'
import { redact } from './uri.ts'

/** What the config allows. */
export interface Allowed {
  /** Of any scheme but `file:`. */
  has(url: URL): boolean
  /** Below which `file:` may read. */
  readonly folders: readonly string[]
}

/** Reads `content.allow`: a scheme (`https:`), an origin or a URL up to a boundary of its path (`https://images.example.com/cats/`), or a folder (`file:./pictures`, relative to `folder`). */
export function allowed(entries: readonly string[], folder: string): Allowed {
  const folders: string[] = [], schemes = new Set<string>(), prefixes: URL[] = []
  for (const entry of entries) {
    const scheme = typeof entry === 'string' ? /^([a-z][a-z0-9+.-]*:)(.*)$/is.exec(entry) : null
    if (scheme === null) throw refused(entry, 'a scheme ("https:"), a URL ("https://images.example.com/cats/") or a folder ("file:./pictures") is expected')
    if (scheme[1]!.toLowerCase() === 'file:') {
      if (scheme[2] === '') throw refused(entry, 'a folder is expected after it, for example "file:./pictures"')
      folders.push(filePath(entry, folder) ?? refuse(entry, 'it is no path on this machine'))
    } else if (scheme[2] === '') {
      schemes.add(scheme[1]!.toLowerCase())
    } else {
      const url = parseUrl(entry)
      if (url === undefined || url.host === '' || url.username !== '' || url.password !== '' || url.search !== '' || url.hash !== '') throw refused(entry, 'a URL with a host, without user, query and fragment is expected')
      prefixes.push(url)
    }
  }
  return { folders, has: (url) => schemes.has(url.protocol) || prefixes.some((prefix) => isBelow(url, prefix)) }
}
function refused(entry: unknown, reason: string): InlayError {
  return new InlayError('CONFIG_INVALID', `The entry ${typeof entry === 'string' ? quote(redact(entry)) : quote(entry)} of content.allow is not understood: ${reason}.`)
}
function refuse(entry: string, reason: string): never {
  throw refused(entry, reason)
}

/** The URL in its one normal form; `example.com.` is `example.com`. Undefined for what is none: the parser's own error would show it whole. */
export function parseUrl(uri: string): URL | undefined {
  const url = URL.parse(uri)
  if (url?.hostname.endsWith('.') === true) url.hostname = url.hostname.slice(0, -1)
  return url ?? undefined
}

function isBelow(url: URL, prefix: URL): boolean {
  if (url.protocol !== prefix.protocol || url.host !== prefix.host) return false
  if (prefix.pathname === '/' || prefix.pathname === '') return true
  return !climbs(url.pathname) && (url.pathname === prefix.pathname || url.pathname.startsWith(prefix.pathname.endsWith('/') ? prefix.pathname : `${prefix.pathname}/`))
}

/** Whether a server that decodes a path once more than we do, or takes `\` or `;` for more than letters, could leave a folder by it. Plain `..` the parser has resolved. */
function climbs(path: string): boolean {
  let decoded = path
  // Escape by escape, so that one which stands for no letter does not hide the others.
  for (let next = unescaped(decoded); next !== decoded; next = unescaped(decoded)) decoded = next
  return decoded.split(/[/\\]/).some((segment) => segment.split(';')[0] === '..')
}

function unescaped(text: string): string {
  return text.replace(/%([0-7][0-9a-f])/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)))
}

/** The path of a `file:` URI, a relative one below `folder`. Undefined for another host, encoded slashes, a query or a fragment. */
export function filePath(uri: string, folder: string): string | undefined {
  const url = URL.parse(uri.slice('file:'.length), pathToFileURL(`${folder}${sep}`).href)
  if (url === null || url.protocol !== 'file:' || url.search !== '' || url.hash !== '' || /%00/.test(url.pathname)) return undefined
  try {
    return fileURLToPath(url)
  } catch {
    return undefined
  }
}

/** Whether `path` is `folder` or below it; both absolute. */
export function isInside(folder: string, path: string): boolean {
  const way = relative(folder, path)
  return way !== '..' && !way.startsWith(`..${sep}`) && !isAbsolute(way)
}

/** The narrowest sensible entry that would allow a URI, to be shown. */
export function entryFor(url: URL, path?: string): string {
  return path === undefined ? (url.host === '' ? url.protocol : `${url.protocol}//${url.host}/`) : `file:${dirname(path)}`
}

/** A URI for a message: without user, password and query, any of which may be a secret. */
export function shown(uri: string | URL): string {
  const url = typeof uri === 'string' ? parseUrl(uri) : uri
  if (url === undefined) return quote(redact(String(uri).replace(/^[^@]*@/, '***@').replace(/[?#].*$/s, '?***')))
  if (url.protocol === 'data:') return quote(`${url.href.slice(0, 40)}…`)
  return quote(`${url.protocol}${url.host === '' ? '' : `//${url.host}`}${url.pathname}${url.search === '' ? '' : '?***'}`)
}
