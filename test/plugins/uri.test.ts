import { describe, expect, it } from 'vitest'
import { identityOfUri, redact } from '../../core/uri.ts'
import postgres from '../../plugins/postgres/index.ts'

describe('redact', () => {
  it.each([
    ['postgres://u:sec/ret@host/db', 'postgres://u:***@host/db'],
    ['postgres://u:p#a?b@c@host/db', 'postgres://u:***@host/db'],
    ['postgres://u:a:b@host/db', 'postgres://u:***@host/db'],
    ['redis://:secret@host', 'redis://:***@host'],
    ['postgres://me@corp:secret@host/db', 'postgres://me@corp:***@host/db'],
    ['mongodb://u:p/q@a:27017,b:27018/db?replicaSet=r', 'mongodb://u:***@a:27017,b:27018/db?replicaSet=r'],
    ['from postgres://u:s/1@a/db to "mongodb://v:s?2@b,c/d", not \'x://w:s#3@e\'', 'from postgres://u:***@a/db to "mongodb://v:***@b,c/d", not \'x://w:***@e\''],
    ['postgres://u:p@host/db?sslpassword=abc&a=1', 'postgres://u:***@host/db?sslpassword=***&a=1'],
  ])('hides the password of %s', (text, shown) => { expect(redact(text)).toBe(shown) })

  it.each([
    'postgres://host:5432/db', 'postgres://u@host:5432/db', 'http://host/a:b@c', 'http://host/@scope/name', 'http://host?mail=a:b@c', 'mongodb://a:1,b:2/db', 'postgres:///app?host=/a', 'see http://host:80/x, or write to me@host',
  ])('keeps %s', (text) => { expect(redact(text)).toBe(text) })

  it('takes time in proportion to the text', () => {
    const began = performance.now()
    redact('a'.repeat(300_000))
    expect(performance.now() - began).toBeLessThan(1000)
  })
})

describe('the identity of a URI', () => {
  const both = (uri: string): readonly string[] => [identityOfUri(uri), postgres.identify!(uri)]

  it.each([
    ['postgres:///app?host=/a', 'postgres:///app?host=/b'], ['postgres://a@host/db', 'postgres://b@host/db'], ['postgres://host:1/db?o=a@b', 'postgres://host:2/db?o=a@b'],
    ['postgres://u:p@a/db?o=x@y', 'postgres://u:p@b/db?o=x@y'], ['x://host/?keyspace=a', 'x://host/?keyspace=b'], ['x://a:1,b:2/db?o=x@y', 'x://a:1,c:2/db?o=x@y'],
  ])('tells %s from %s', (a, b) => { for (const [i, one] of both(a).entries()) expect(one).not.toBe(both(b)[i]) })

  it.each([
    ['postgres://u:sec/ret@host/db', 'postgres://u@host/db'], ['postgres://u:p#a?b@c@host/db', 'postgres://u@host/db'], ['postgres://u:p@host/db?a=1&password=secret', 'postgres://u@host/db?a=1'],
  ])('leaves the password of %s out', (a, b) => { expect(both(a)).toEqual([b, b]) })

  it('is one for both schemes of PostgreSQL', () => {
    expect(postgres.identify!('postgresql://host/db')).toBe(postgres.identify!('postgres://host/db'))
  })
})
