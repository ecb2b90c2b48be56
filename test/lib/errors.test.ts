import { readFile } from 'node:fs/promises'
import t from 'tap'
import * as errors from '../../lib/errors.js'
import {
  BackendFailedError, BatchMismatchError, ClosedError, InvalidArgumentError, InvalidDefinitionError, InvalidOptionsError, InvalidationPendingError,
  LoadTimeoutError, ReentrantLoadError, UnknownRegionError, show
} from '../../lib/errors.js'

/** Every error that there is: what it is made with, what it answers with, and all of what it says. */
const table = [
  {
    error: new InvalidOptionsError('regions.objects.ttl', "a duration such as 5000 or '10m'", show('soon')),
    code: 'FST_CACHING_API_INVALID_OPTIONS',
    statusCode: 500,
    type: TypeError,
    message: "regions.objects.ttl must be a duration such as 5000 or '10m', got 'soon'"
  },
  {
    error: new InvalidDefinitionError('City.getById must be made by loadOne or loadMany, got 1'),
    code: 'FST_CACHING_API_INVALID_DEFINITION',
    statusCode: 500,
    type: TypeError,
    message: 'City.getById must be made by loadOne or loadMany, got 1'
  },
  {
    error: new UnknownRegionError('object', 'objects, sessions'),
    code: 'FST_CACHING_API_UNKNOWN_REGION',
    statusCode: 500,
    type: Error,
    message: "There is no region 'object'; there are: objects, sessions"
  },
  {
    error: new InvalidArgumentError('A key', 'a string', show(1)),
    code: 'FST_CACHING_API_INVALID_ARGUMENT',
    statusCode: 500,
    type: TypeError,
    message: 'A key must be a string, got 1'
  },
  {
    error: new BatchMismatchError('A creator of region objects', '3 values, in the order of its keys', '2'),
    code: 'FST_CACHING_API_BATCH_MISMATCH',
    statusCode: 500,
    type: Error,
    message: 'A creator of region objects was asked for 3 values, in the order of its keys, and returned 2'
  },
  {
    error: new ReentrantLoadError('app:objects:k:a'),
    code: 'FST_CACHING_API_REENTRANT_LOAD',
    statusCode: 500,
    type: Error,
    message: "The loader of 'app:objects:k:a' waits for its own value"
  },
  {
    error: new LoadTimeoutError('app:objects:k:a', 2000),
    code: 'FST_CACHING_API_LOAD_TIMEOUT',
    statusCode: 503,
    type: Error,
    message: "Loading 'app:objects:k:a' took longer than 2000 ms"
  },
  {
    error: new InvalidationPendingError('Tier redis', '2 keys'),
    code: 'FST_CACHING_API_INVALIDATION_PENDING',
    statusCode: 503,
    type: Error,
    message: "Tier redis could not be told to forget 2 keys; it will be when it is back, and isn't believed about it until then"
  },
  {
    error: new BackendFailedError("UserCache '10'", 'read from', [{ properties: ['username', 'name'], backend: 'redis', error: new Error('connection refused') }]),
    code: 'FST_CACHING_API_BACKEND_FAILED',
    statusCode: 503,
    type: Error,
    message: "UserCache '10': username, name could not be read from redis: connection refused"
  },
  {
    error: new ClosedError('Region objects'),
    code: 'FST_CACHING_API_CLOSED',
    statusCode: 503,
    type: Error,
    message: 'Region objects was used after close()'
  }
]

for (const { error, code, statusCode, type, message } of table) {
  t.test(`${code} answers ${statusCode} and says what is wrong`, async t => {
    t.equal(error.code, code)
    t.equal(error.statusCode, statusCode)
    t.equal(error.message, message)
    t.type(error, type)
    t.type(error, Error)
  })
}

t.test('the table above holds every error that this package exports', async t => {
  const made = Object.values(errors).filter(value => value !== show)
  t.equal(made.length, table.length)
  for (const Made of made) t.ok(table.some(({ error }) => error instanceof Made), Made.name)
})

t.test('the table above holds every code that the package promises', async t => {
  const source = await readFile(new URL('../../lib/errors.ts', import.meta.url), 'utf8')
  const [, union = ''] = source.split('export type ErrorCode =')
  const promised = union.match(/'FST_\w+'/g)!.map(code => code.slice(1, -1))
  t.strictSame(promised.sort(), table.map(({ code }) => code).sort())
})

t.test('what failed in backends is named by its properties, and caused by the backends\' own errors', async t => {
  const refused = new Error('connection refused')
  const one = new BackendFailedError('User \'1\'', 'written to', [{ properties: ['a'], backend: 'redis', error: refused }], { b: 1 })
  t.equal(one.cause, refused)
  t.strictSame([one.properties, one.values], [['a'], { b: 1 }])
  const two = new BackendFailedError('User \'1\'', 'read from', [{ properties: ['a', 'b'], backend: 'redis', error: refused }, { properties: ['100%s'], backend: 'memcached', error: 'just so' }])
  t.equal(two.message, "User '1': a, b could not be read from redis: connection refused; 100%s could not be read from memcached: just so")
  t.strictSame((two.cause as AggregateError).errors, [refused, 'just so'])
  t.strictSame([two.properties, two.values], [['a', 'b', '100%s'], {}])
  t.notOk(new ClosedError('x') instanceof BackendFailedError)
})

t.test('a message shows what came, and never more than a line of it', async t => {
  class City {}
  const cases: [value: unknown, shown: string][] = [
    ['soon', "'soon'"],
    ['x'.repeat(60), `'${'x'.repeat(60)}'`],
    ['x'.repeat(1_000_000), `'${'x'.repeat(60)}…'`],
    [1, '1'],
    [NaN, 'NaN'],
    [1n, '1n'],
    [true, 'true'],
    [null, 'null'],
    [undefined, 'undefined'],
    [Symbol('s'), 'Symbol(s)'],
    [function load () {}, 'a function (load)'],
    [() => {}, 'a function'],
    [[1, 2], 'an array of 2'],
    [{ password: 'secret' }, 'an object'],
    [Object.create(null), 'an object'],
    [{ constructor: 'mine' }, 'an object'],
    [new City(), 'an instance of City'],
    [new Map(), 'an instance of Map']
  ]
  for (const [value, shown] of cases) t.equal(show(value), shown)
})
