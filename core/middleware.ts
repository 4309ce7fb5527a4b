/** Help for writing middleware: parts as plain objects, and one function around every call. */

/** The part as a plain object whose methods are bound, so that middleware may spread it: `{ ...next, write: … }`. */
export function plain<T extends object>(part: T): T {
  const methods: Record<string, unknown> = {}
  for (let from: object | null = part; from !== null && from !== Object.prototype; from = Object.getPrototypeOf(from) as object | null) {
    for (const name of Object.getOwnPropertyNames(from)) {
      if (name === 'constructor' || name in methods) continue
      const value = Reflect.get(part, name) as unknown
      methods[name] = typeof value === 'function' ? value.bind(part) as unknown : value
    }
  }
  return methods as T
}

/** The methods that give streams, of a Datalayer and of an ArtifactStore. */
const streamsOf = (part: object): readonly string[] => ('readMany' in part ? ['read', 'readMany', 'list'] : ['find', 'rows', 'watch'])

/**
 * The part with `around` in every call of a method: it gets the method's name and the call, and gives its result. Of a method that returns a stream, each
 * batch is a call. For logging, metering, counting round trips, and for faults in tests.
 */
export function intercept<T extends object>(part: T, around: <R>(method: string, call: () => Promise<R>) => Promise<R>): T {
  const wrapped: Record<string, unknown> = {}, streams = streamsOf(part)
  for (const [method, of] of Object.entries(plain(part))) {
    wrapped[method] = typeof of !== 'function' ? of : (...args: readonly unknown[]) => {
      const call = (): unknown => (of as (...a: readonly unknown[]) => unknown)(...args)
      return streams.includes(method) ? each(call() as AsyncIterable<unknown>, (next) => around(method, next)) : around(method, async () => call())
    }
  }
  return wrapped as T
}

async function* each(stream: AsyncIterable<unknown>, around: <R>(call: () => Promise<R>) => Promise<R>): AsyncIterable<unknown> {
  const iterator = stream[Symbol.asyncIterator]()
  try {
    for (;;) {
      const next = await around(() => iterator.next())
      if (next.done === true) return
      yield next.value
    }
  } finally {
    await iterator.return?.()
  }
}
