import t from 'tap'
import { cachedObject, definitionOf, loadMany, loadOne, versionOf } from '../../lib/cached-object.js'

const load = () => null
const loadRows = () => []
const idOf = () => 1
const wrong = (message: string | RegExp) => ({ code: 'FST_CACHING_API_INVALID_DEFINITION', statusCode: 500, message })
// What JavaScript lets through: each is an error by name.
const define = (definition: unknown) => () => cachedObject(definition as never)
const defineMany = (method: unknown) => () => loadMany(method as never)

t.test('a cached object is its name, its region, its version and its methods', async t => {
  const methods = { getById: loadMany({ load: loadRows, idOf, maxBatch: 10 }), find: loadOne(load, { ttl: '10m' }) }
  const User = cachedObject({ name: 'User', region: 'objects', version: 3, methods })
  t.match(User, { name: 'User', region: 'objects', methods })
  t.equal(versionOf(User), 3)
  t.equal(versionOf(cachedObject({ name: 'User', region: 'objects', methods })), 1, 'the first version, where none is given')
  t.match(definitionOf(User.methods.getById), { kind: 'many', maxBatch: 10, primes: [] })
  t.match(definitionOf(User.methods.find), { kind: 'one', maxBatch: 1, ttl: 600_000, idOf: undefined })
  t.match(definitionOf(loadMany({ load: loadRows, idOf })), { maxBatch: 1000 })
})

t.test('a cached object can not be changed once it is defined', async t => {
  const methods = { find: loadOne(load) }
  const User = cachedObject({ name: 'User', region: 'objects', methods })
  t.throws(() => { (User as { name: string }).name = 'Other' }, TypeError)
  t.throws(() => { (User.methods as Record<string, unknown>)['more'] = loadOne(load) }, TypeError)
  Object.assign(methods, { more: loadOne(load) })
  t.strictSame(Object.keys(User.methods), ['find'])
})

t.test('what is no definition is refused', async t => {
  for (const definition of [undefined, null, 'User', 1, []]) t.throws(define(definition), wrong(/^cachedObject\(definition\) must be an object, got /))
})

t.test('a name that can not be part of a key is refused', async t => {
  const methods = { find: loadOne(load) }
  for (const name of [undefined, null, '', 1, 'a:b', 'a b', 'a{b}', 'a\nb', 'ü', 'x'.repeat(65)]) {
    t.throws(define({ name, region: 'objects', methods }), wrong(/^cachedObject: name must be 1 to 64 letters, digits and \. \$ @ \/ - _, got /))
    if (typeof name === 'string') {
      t.throws(define({ name: 'User', region: 'objects', methods: { [name]: loadOne(load) } }), wrong(/^User: a method's name must be 1 to 64 letters/))
    }
  }
  for (const name of ['User', 'app/User', 'v1.User', '@scope/user-name_1', '__proto__', 'x'.repeat(64)]) t.equal(cachedObject({ name, region: 'objects', methods }).name, name)
})

t.test('a region, a version, methods and options that can\'t be are refused by name', async t => {
  const methods = { find: loadOne(load) }
  for (const region of [undefined, null, '', 1]) t.throws(define({ name: 'User', region, methods }), wrong(/^User: region must be the name of a region, got /))
  for (const version of [-1, 1.5, NaN, '1', null]) t.throws(define({ name: 'User', region: 'objects', version, methods }), wrong(/^User: version must be a whole number, got /))
  for (const methods of [undefined, null, {}, [], 'find']) {
    t.throws(define({ name: 'User', region: 'objects', methods }), wrong(/^User: methods must be an object of at least one loadOne\(…\) or loadMany\(…\), got /))
  }
  t.throws(define({ name: 'User', region: 'objects', methods, ttl: 5 }), wrong("User: 'ttl' is not an option; the options are name, region, version, methods"))
})

t.test('a method that loadOne or loadMany didn\'t make is refused', async t => {
  for (const method of [undefined, null, load, {}, { load }, 'find']) {
    t.throws(define({ name: 'User', region: 'objects', methods: { find: method } }), wrong(/^User\.find must be made by loadOne or loadMany, got /))
  }
})

t.test('a method that primes what its object doesn\'t have is refused', async t => {
  for (const primed of ['getById', 'toString']) {
    t.throws(define({ name: 'User', region: 'objects', methods: { find: loadOne(load, { primes: { [primed]: () => [1] } }) } }), wrong(`User.find primes '${primed}', which is not a method of User`))
  }
})

t.test('loadOne wants a function', async t => {
  for (const given of [undefined, null, {}, 'select']) t.throws(() => loadOne(given as never), wrong(/^loadOne\(load\) must be a function, got /))
})

t.test('loadMany wants an object with load and idOf, and a positive maxBatch', async t => {
  for (const given of [undefined, null, load, []]) t.throws(defineMany(given), wrong(/^loadMany(\(method\) must be an object with load and idOf|: load must be a function), got /))
  t.throws(defineMany({ idOf }), wrong('loadMany: load must be a function, got undefined'))
  t.throws(defineMany({ load: loadRows }), wrong('loadMany: idOf must be a function, got undefined'))
  for (const maxBatch of [0, -1, 1.5, NaN, Infinity, '10', null]) t.throws(defineMany({ load: loadRows, idOf, maxBatch }), wrong(/^loadMany: maxBatch must be a positive integer, got /))
})

t.test('options of a method are refused by name', async t => {
  for (const where of ['loadOne', 'loadMany'] as const) {
    const make = (options: unknown) => where === 'loadOne' ? () => loadOne(load, options as never) : defineMany({ load: loadRows, idOf, ...options as object })
    t.throws(make({ precache: load }), wrong(`${where}: 'precache' is not an option; the options are ${where === 'loadMany' ? 'load, idOf, maxBatch, ' : ''}preCache, postCache, primes, tags, ttl, grace, negativeTtl`))
    for (const name of ['preCache', 'postCache', 'tags']) t.throws(make({ [name]: 'x' }), wrong(`${where}: ${name} must be a function, got 'x'`))
    t.throws(make({ primes: { getById: 'id' } }), wrong(`${where}: primes.getById must be a function, got 'id'`))
    t.throws(make({ primes: { getById: undefined } }), wrong(`${where}: primes.getById must be a function, got undefined`))
    t.throws(make({ tags: 5, primes: { tags: load } }), wrong(`${where}: tags must be a function, got 5`))
    for (const primes of [null, 'getById', ['getById']]) t.throws(make({ primes }), wrong(/primes must be an object of functions, got /))
    t.throws(make({ ttl: 'soon' }), wrong(`${where}: ttl must be a duration such as 5000 or '10m', at least 1 ms and at most a year, got 'soon'`))
    t.throws(make({ ttl: 0 }), wrong(/: ttl must be/))
    t.throws(make({ grace: -1 }), wrong(`${where}: grace must be a duration such as 5000 or '10m', not negative and at most a year, got -1`))
    t.throws(make({ negativeTtl: NaN }), wrong(/: negativeTtl must be/))
  }
  for (const options of [null, 'x', []]) t.throws(() => loadOne(load, options as never), wrong(/^loadOne: options must be an object, got /))
})

t.test('options that are undefined are as good as absent', async t => {
  const nothing = { precache: undefined, preCache: undefined, postCache: undefined, primes: undefined, tags: undefined, ttl: undefined, grace: undefined, negativeTtl: undefined }
  t.match(definitionOf(loadOne(load, nothing as never)), { ...nothing, primes: [] })
  t.match(definitionOf(loadMany({ load: loadRows, idOf, maxBatch: undefined, ...nothing } as never)), { ...nothing, maxBatch: 1000, primes: [] })
  t.doesNotThrow(define({ name: 'User', region: 'objects', methods: { find: loadOne(load) }, ttl: undefined }))
})

t.test('what cachedObject, loadOne and loadMany didn\'t make is told apart', async t => {
  for (const other of [undefined, null, 1, 'User', {}, load]) {
    t.equal(versionOf(other), undefined)
    t.equal(definitionOf(other), undefined)
  }
})
