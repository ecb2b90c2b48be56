import { EventEmitter } from 'node:events'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { cacheObject, property } from '../../../lib/cache-objects/cache-object.js'
import { saveBy } from '../../../lib/cache-objects/cache-object-instance.js'
import { modelOf } from '../../../lib/cache-objects/cache-object-model.js'
import { BackendFailedError } from '../../../lib/errors.js'
import { UnstorableError, type Backend } from '../../../lib/backends/backend.js'
import { memory } from '../../../lib/backends/memory.js'
import { msgpackSerializer } from '../../../lib/serializer.js'
import { UnsavedObjects } from '../../../lib/request/unsaved.js'
import { eventually, gate, silentLogger } from '../../helpers/doubles.js'
import { collectGarbage } from '../../helpers/garbage.js'
import { recordedBackend } from '../../helpers/recorded-backend.js'

const day = 24 * 60 * 60 * 1000
const timeout = '20s' // no test waits for it

function usersIn (backend: Backend, name = 'UserCache') {
  return cacheObject({ name, backend, timeout, properties: { username: property<string>(), name: property<string>() } })
}

function warnings (t: Pick<Test, 'teardown'>): string[] {
  const said: string[] = []
  const hear = (warning: Error) => { said.push(warning.message) }
  process.on('warning', hear)
  t.teardown(() => process.off('warning', hear))
  return said
}

t.test('assigning', async t => {
  t.test('an assignment is seen by its instance at once, and by others when it is saved, all in one step', async t => {
    const { backend, calls } = recordedBackend()
    const UserCache = usersIn(backend)
    const user = new UserCache(10)
    user.username = 'alice'
    user.name = 'Alice'
    t.equal(await new UserCache(10).username, null)
    calls.length = 0
    t.equal(await user.get('username'), 'alice')
    t.strictSame(await user.getAll(), { username: 'alice', name: 'Alice' })
    t.strictSame(calls, [], 'what is assigned here is known here')
    await user.save()
    t.strictSame(calls, [['setMany', 'UserCache.10.username', 'UserCache.10.name']])
    t.equal(await new UserCache(10).username, 'alice')
    t.equal(await user.get('username'), 'alice')
    calls.length = 0
    await user.save()
    t.strictSame(calls, [], 'nothing is left to be saved')
  })

  t.test('an equal value is written all the same: its time begins anew', async t => {
    const { backend, calls } = recordedBackend()
    const user = new (usersIn(backend))(10)
    await user.set('username', 'alice')
    user.username = 'alice'
    await user.save()
    t.equal(calls.length, 2)
  })

  t.test('null deletes, and undefined is refused', async t => {
    const { backend, calls } = recordedBackend()
    const UserCache = usersIn(backend)
    const user = new UserCache(10)
    await user.set('username', 'alice')
    user.username = null
    user.name = 'Alice'
    t.equal(await user.get('username'), null)
    calls.length = 0
    await user.save()
    t.strictSame(calls, [['setMany', 'UserCache.10.name'], ['deleteMany', 'UserCache.10.username']])
    t.strictSame(await new UserCache(10).getAll(), { username: null, name: 'Alice' })
    await user.set('name', null)
    t.equal(await new UserCache(10).name, null)
    const refused = { code: 'FST_CACHING_API_INVALID_ARGUMENT', message: 'UserCache.name must be a value, or null for none, got undefined' }
    t.throws(() => { user.name = undefined as never }, refused)
    await t.rejects(user.set('name', undefined as never), refused)
  })

  t.test('what can not be kept is refused where it is assigned', async t => {
    const Any = cacheObject({ name: 'Any', backend: memory(), properties: { any: property<unknown>() } })
    const object = new Any(1)
    for (const [value, said] of [[() => {}, /a function/], [Symbol('s'), /a symbol/], [Promise.resolve(1), /an instance of Promise/], [{ deep: [() => {}] }, /a function/]] as const) {
      t.throws(() => { object.any = value }, { code: 'FST_CACHING_API_INVALID_ARGUMENT', message: said })
      await t.rejects(object.set('any', value), { code: 'FST_CACHING_API_INVALID_ARGUMENT', message: said })
    }
    t.equal(await object.any, null)
  })

  t.test('set writes at once, and takes the place of what was assigned before', async t => {
    const { backend, calls } = recordedBackend()
    const user = new (usersIn(backend))(10)
    user.username = 'alice'
    await user.set('username', 'bob')
    await user.save()
    t.strictSame(calls, [['setMany', 'UserCache.10.username']])
    t.equal(await user.get('username'), 'bob')
  })

  t.test('an instance\'s writes of a property arrive in their order, and it reads the newest one meanwhile', async t => {
    const doors = [gate(), gate(), gate()]
    let writes = 0
    const { backend, entries } = recordedBackend('slow', operation => operation === 'setMany' ? doors[writes++]!.opened : undefined)
    const user = new (usersIn(backend))(10)
    const first = user.set('username', 'first')
    user.username = 'second'
    user.name = 'other'
    const second = user.save()
    const third = user.set('username', 'third')
    t.equal(await user.get('username'), 'third')
    t.equal(entries.length, 1, 'the others wait for the first')
    doors[0]!.open()
    await first
    t.equal(await user.get('username'), 'third')
    doors[1]!.open()
    await second
    t.equal(await user.get('name', { useCache: true }), 'other')
    doors[2]!.open()
    await third
    t.strictSame(entries.map(({ value }) => msgpackSerializer.decode(value)), ['first', 'second', 'other', 'third'])
    t.equal(await user.get('username'), 'third')
  })
})

t.test('reading', async t => {
  t.test('get asks the backend; with useCache, this instance\'s last read or write answers', async t => {
    const { backend, calls } = recordedBackend()
    const UserCache = usersIn(backend)
    const [user, other] = [new UserCache(10), new UserCache(10)]
    t.equal(await user.get('username', { useCache: true }), null)
    await other.set('username', 'alice')
    t.equal(await user.get('username', { useCache: true }), null, 'it has read that there was nothing')
    t.equal(await user.get('username', { useCache: false }), 'alice')
    await other.set('username', 'bob')
    calls.length = 0
    t.equal(await user.get('username', { useCache: true }), 'alice')
    t.equal(await other.get('username', { useCache: true }), 'bob')
    t.strictSame(calls, [])
    t.equal(await user.get('username', {}), 'bob')
    t.equal(await user.username, 'bob')
    t.strictSame(calls, [['getMany', 'UserCache.10.username'], ['getMany', 'UserCache.10.username']])
  })

  t.test('all properties of many objects in one tick are one getMany', async t => {
    const { backend, calls } = recordedBackend()
    const UserCache = usersIn(backend)
    await Promise.all([1, 2, 3].map(async id => await new UserCache(id).set('name', `name ${id}`)))
    calls.length = 0
    const users = await Promise.all([1, 2, 3].map(async id => await new UserCache(id).getAll()))
    t.strictSame(users, [1, 2, 3].map(id => ({ username: null, name: `name ${id}` })))
    t.equal(calls.length, 1)
    t.equal(calls[0]!.length, 7)
  })

  t.test('0, the empty string and false are values, not the default; nothing stored is', async t => {
    const Flags = cacheObject({
      name: 'Flags',
      backend: memory(),
      timeout,
      properties: { count: property({ default: 5 }), text: property({ default: 'none' }), on: property({ default: true }), bare: property<number>(), nil: property<number>({ default: null as never }) }
    })
    const flags = new Flags(1)
    t.strictSame(await flags.getAll(), { count: 5, text: 'none', on: true, bare: null, nil: null })
    flags.count = 0
    flags.text = ''
    flags.on = false
    t.strictSame(await flags.getAll(), { count: 0, text: '', on: false, bare: null, nil: null })
    await flags.save()
    t.strictSame(await new Flags(1).getAll(), { count: 0, text: '', on: false, bare: null, nil: null })
    t.equal(await flags.get('count', { useCache: true }), 0)
    flags.count = null
    t.equal(await flags.get('count'), 5, 'before it is saved, too')
    await flags.save()
    t.equal(await flags.get('count', { useCache: true }), 5)
    t.equal(await new Flags(1).count, 5)
  })

  t.test('no reader can change what another one gets: values, defaults, what was assigned', async t => {
    const Lists = cacheObject({ name: 'Lists', backend: memory(), timeout, properties: { tags: property({ default: [['none']] }), born: property<{ at: Date }>() } })
    const lists = new Lists(1)
    const vandalize = async () => {
      const tags = await lists.get('tags', { useCache: true })
      tags!.push(['more'])
      t.throws(() => tags![0]!.push('frozen'), TypeError)
    }
    await vandalize()
    t.strictSame(await lists.tags, [['none']])
    const mine = [['a']]
    lists.tags = mine
    mine[0]!.push('b')
    await lists.save()
    await vandalize()
    t.strictSame(await lists.get('tags', { useCache: true }), [['a']])
    t.strictSame(await new Lists(1).tags, [['a']])
    await lists.set('born', { at: new Date(0) })
    ;(await lists.get('born', { useCache: true }))!.at.setTime(1)
    t.strictSame(await lists.get('born', { useCache: true }), { at: new Date(0) })
  })

  t.test('a value of a property comes back as it was', async t => {
    const Any = cacheObject({ name: 'AnyValue', backend: memory(), timeout, properties: { any: property<unknown>() } })
    for (const value of [new Map([[1n, new Set(['x'])]]), -0, NaN, { at: new Date(0), none: undefined, nil: null }, Buffer.from([0, 1]), '\ud800', 2n ** 70n]) {
      await new Any(1).set('any', value)
      t.strictSame(await new Any(1).any, value)
    }
  })

  t.test('a read that a write has overtaken is not remembered', async t => {
    const [reading, door] = [gate(), gate()]
    const inner = memory()
    const backend: Backend = {
      ...recordedBackend().backend,
      setMany: async entries => await inner.setMany(entries),
      getMany: async keys => {
        const found = await inner.getMany(keys)
        reading.open()
        await door.opened
        return found
      }
    }
    const user = new (usersIn(backend))(10)
    await user.set('username', 'alice')
    const old = user.get('username')
    await reading.opened
    await user.set('username', 'bob')
    door.open()
    t.equal(await old, 'alice')
    t.equal(await user.get('username', { useCache: true }), 'bob')
  })

  t.test('bytes that are not ours count as nothing, and one warning says so', async t => {
    const said = warnings(t)
    const backend = memory()
    const Foreign = cacheObject({ name: 'Foreign', backend, timeout, properties: { a: property({ default: 'default' }) } })
    for (const bytes of [[], [9], [1, 0x92, 1], [2, 1, 2]]) {
      await backend.setMany([{ key: 'Foreign.1.a', value: Uint8Array.from(bytes), ttl: 1000 }])
      t.equal(await new Foreign(1).a, 'default')
    }
    await new Promise(setImmediate)
    t.match(said, [/^what memory holds for Foreign\.a was not written by this package/])
    t.equal(said.length, 1)
  })
})

t.test('deleting', async t => {
  t.test('delete drops the stored value, what was assigned, and what the instance remembered', async t => {
    const { backend, calls } = recordedBackend()
    const UserCache = usersIn(backend)
    const user = new UserCache(10)
    await user.set('username', 'alice')
    user.username = 'bob'
    await user.delete('username')
    t.equal(await user.get('username', { useCache: true }), null)
    calls.length = 0
    await user.save()
    t.strictSame(calls, [])
    await new UserCache(10).set('username', 'carol')
    t.equal(await user.get('username'), 'carol')
  })

  t.test('deleteAll drops all of an object, in one step, and nothing else', async t => {
    const { backend, calls } = recordedBackend()
    const UserCache = usersIn(backend)
    const [user, other] = [new UserCache(10), new UserCache(11)]
    for (const one of [user, other]) {
      one.username = 'alice'
      one.name = 'Alice'
      await one.save()
    }
    user.name = 'Bob'
    calls.length = 0
    await user.deleteAll()
    await user.save()
    t.strictSame(calls, [['deleteMany', 'UserCache.10.username', 'UserCache.10.name']])
    t.strictSame(await user.getAll(), { username: null, name: null })
    t.strictSame(await other.getAll(), { username: 'alice', name: 'Alice' })
  })
})

t.test('each property has its own backend and ttl, and goes there in one step for each', async t => {
  const [one, two] = [recordedBackend('one'), recordedBackend('two')]
  const Composite = cacheObject({
    name: 'Composite',
    backend: one.backend,
    timeout,
    properties: {
      a: property<number>({ ttl: '10m' }),
      b: property<number>(),
      c: property<number>({ backend: two.backend, ttl: 1.5 }),
      d: property<number>({ backend: two.backend })
    }
  })
  const composite = new Composite(1)
  Object.assign(composite, { a: 1, b: 2, c: 3, d: 4 })
  await composite.save()
  t.strictSame([...one.entries, ...two.entries].map(({ key, ttl }) => [key, ttl]), [
    ['Composite.1.a', 600_000],
    ['Composite.1.b', 365 * day],
    ['Composite.1.c', 2],
    ['Composite.1.d', 365 * day]
  ])
  t.strictSame(one.calls, [['setMany', 'Composite.1.a', 'Composite.1.b']])
  t.strictSame(two.calls, [['setMany', 'Composite.1.c', 'Composite.1.d']])
  t.match(await composite.getAll(), { a: 1, b: 2, d: 4 })
})

t.test('a backend that fails', async t => {
  function composite () {
    const state = { away: false }
    const problem = new Error('connection refused')
    const away = recordedBackend('away', () => { if (state.away) throw problem })
    const gone = recordedBackend('gone', () => { if (state.away) throw new Error('gone too') })
    const here = recordedBackend('here')
    const Composite = cacheObject({
      name: 'Failing',
      backend: here.backend,
      timeout,
      properties: { a: property<number>(), b: property<number>({ backend: away.backend }), c: property<number>({ backend: away.backend }), d: property<number>({ backend: gone.backend, default: 9 }) }
    })
    return { state, problem, Composite, away, here }
  }

  t.test('a backend that fails costs only its own properties, and is named with them', async t => {
    const { state, problem, Composite } = composite()
    const object = new Composite('x')
    Object.assign(object, { a: 1, b: 2 })
    await object.save()
    state.away = true
    const [a, b, d] = await Promise.allSettled([object.a, object.get('b'), object.d])
    t.strictSame(a, { status: 'fulfilled', value: 1 })
    t.equal(d.status, 'rejected', 'a default is for what is not there, not for what nobody knows')
    const { reason } = b as PromiseRejectedResult
    t.type(reason, BackendFailedError)
    t.match(reason, { code: 'FST_CACHING_API_BACKEND_FAILED', statusCode: 503, message: "Failing 'x': b could not be read from away: connection refused", properties: ['b'], cause: problem })
    t.equal(await object.get('b', { useCache: true }), 2)
  })

  t.test('getAll rejects with the names of those that failed, and has the values of the others', async t => {
    const { state, Composite } = composite()
    const object = new Composite('x')
    Object.assign(object, { a: 1, b: 2 })
    await object.save()
    state.away = true
    const error = await object.getAll().then(() => undefined, error => error as BackendFailedError)
    t.equal(error!.message, "Failing 'x': b, c could not be read from away: connection refused; d could not be read from gone: gone too")
    t.strictSame(error!.properties, ['b', 'c', 'd'])
    t.strictSame(error!.values, { a: 1 })
    t.match((error!.cause as AggregateError).errors, [{ message: 'connection refused' }, { message: 'gone too' }])
  })

  t.test('save writes what can be written, and keeps what failed for another try', async t => {
    const { state, Composite, away } = composite()
    const object = new Composite('x')
    Object.assign(object, { a: 1, b: 2, c: 3 })
    state.away = true
    await t.rejects(object.save(), { message: "Failing 'x': b, c could not be written to away: connection refused", properties: ['b', 'c'], values: {} })
    t.equal(await new Composite('x').a, 1)
    t.equal(await object.get('b'), 2, 'it is still assigned')
    object.c = 33
    state.away = false
    away.calls.length = 0
    await object.save()
    t.strictSame(away.calls.map(([operation]) => operation), ['setMany'])
    t.match(await new Composite('x').getAll(), { a: 1, b: 2, c: 33 })
  })

  t.test('what is newer than a save that failed is not undone by it', async t => {
    const doors = [gate(), gate()]
    let writes = 0
    const { backend } = recordedBackend('slow', async operation => {
      if (operation !== 'setMany') return
      const mine = writes++
      await doors[mine]?.opened
      if (mine === 0) throw new Error('no')
    })
    const user = new (usersIn(backend))(10)
    user.username = 'first'
    user.name = 'first'
    const failing = user.save()
    user.name = 'assigned meanwhile'
    const newer = user.set('username', 'second')
    doors[0]!.open()
    await t.rejects(failing, { code: 'FST_CACHING_API_BACKEND_FAILED', properties: ['username', 'name'] })
    t.equal(await user.get('username'), 'second')
    t.equal(await user.get('name'), 'assigned meanwhile')
    doors[1]!.open()
    await newer
    await user.save()
    t.strictSame(await user.getAll(), { username: 'second', name: 'assigned meanwhile' })
  })

  t.test('a set or a delete that fails says so, is not tried again, and leaves nothing remembered', async t => {
    const { state, Composite, away } = composite()
    const object = new Composite('x')
    await object.set('b', 1)
    state.away = true
    await t.rejects(object.set('b', 2), { code: 'FST_CACHING_API_BACKEND_FAILED', properties: ['b'] })
    state.away = false
    t.equal(await object.get('b', { useCache: true }), 1, 'nobody knows what was written: the backend is asked')
    state.away = true
    await t.rejects(object.delete('b'), { code: 'FST_CACHING_API_BACKEND_FAILED', properties: ['b'] })
    await t.rejects(object.deleteAll(), { code: 'FST_CACHING_API_BACKEND_FAILED', properties: ['b', 'c', 'd'] })
    state.away = false
    away.calls.length = 0
    await object.save()
    t.strictSame(away.calls, [])
    t.equal(await object.get('b', { useCache: true }), 1, 'the backend was asked')
    t.strictSame(away.calls, [['getMany', 'Failing.x.b']])
  })

  t.test('a value that a backend will never keep costs only itself, and is not tried again', async t => {
    const inner = recordedBackend('small')
    const backend: Backend = {
      ...inner.backend,
      setMany: async entries => {
        const large = entries.filter(({ value }) => value.length > 10)
        await inner.backend.setMany(entries.filter(entry => !large.includes(entry)))
        if (large.length > 0) throw new UnstorableError(large.map(({ key }) => key), new Error('object too large'))
      }
    }
    const UserCache = usersIn(backend)
    const user = new UserCache(1)
    user.username = 'x'.repeat(100)
    user.name = 'short'
    await t.rejects(user.save(), { code: 'FST_CACHING_API_BACKEND_FAILED', message: "UserCache '1': username could not be written to small: object too large", properties: ['username'] })
    t.equal(await user.get('name', { useCache: true }), 'short')
    inner.calls.length = 0
    await user.save()
    t.strictSame(inner.calls, [])
    t.strictSame(await new UserCache(1).getAll(), { username: null, name: 'short' })
  })

  t.test('a value that a backend had no room for stays assigned', async t => {
    const inner = recordedBackend('full')
    let isFull = true
    const backend: Backend = {
      ...inner.backend,
      setMany: async entries => {
        const [first, ...others] = entries
        await inner.backend.setMany(isFull ? others : entries)
        if (isFull) throw new UnstorableError([first!.key], new Error('out of memory'), [first!.key])
      }
    }
    const UserCache = usersIn(backend)
    const user = new UserCache(1)
    user.username = 'alice'
    user.name = 'Alice'
    await t.rejects(user.save(), { code: 'FST_CACHING_API_BACKEND_FAILED', properties: ['username'] })
    t.equal(await user.get('username'), 'alice')
    t.strictSame(await new UserCache(1).getAll(), { username: null, name: 'Alice' })
    isFull = false
    await user.save()
    t.strictSame(await new UserCache(1).getAll(), { username: 'alice', name: 'Alice' })
  })

  t.test('a backend that rejects with no error is told of all the same', async t => {
    // eslint-disable-next-line prefer-promise-reject-errors
    const { backend } = recordedBackend('odd', () => Promise.reject('just so'))
    await t.rejects(new (usersIn(backend))(1).get('name'), { message: "UserCache '1': name could not be read from odd: just so" })
    // eslint-disable-next-line prefer-promise-reject-errors
    const silent = recordedBackend('silent', () => Promise.reject(undefined)).backend
    await t.rejects(new (usersIn(silent))(1).set('name', 'x'), { message: "UserCache '1': name could not be written to silent: it gave no reason" })
  })

  t.test('a backend that is silent has failed when the budget is over', async t => {
    const { backend } = recordedBackend('silent', () => new Promise(() => {}))
    const Silent = cacheObject({ name: 'Silent', backend, timeout: 5, properties: { a: property<number>() } })
    await t.rejects(new Silent(1).get('a'), /a could not be read from silent: silent did not answer within 5 ms/)
    await t.rejects(new Silent(1).set('a', 1), /a could not be written to silent: silent did not answer within 5 ms/)
    const Patient = cacheObject({ name: 'Patient', backend, properties: { a: property<number>() } })
    await t.rejects(new Patient(1).get('a'), /did not answer within 250 ms/)
  })
})

t.test('ids', async t => {
  t.test('1, \'1\' and 1n are the same id; others are told apart', async t => {
    const UserCache = usersIn(memory())
    await new UserCache(1).set('name', 'one')
    t.equal(await new UserCache('1').name, 'one')
    t.equal(await new UserCache(1n).name, 'one')
    t.equal(new UserCache(1n).id, '1')
    t.equal(await new UserCache('01').name, null)
    t.equal(new UserCache(-0).id, '0')
  })

  t.test('an object\'s id can\'t be assigned, nor replaced by a field of a class', async t => {
    const { backend } = recordedBackend('ids')
    const Cache = cacheObject({ name: 'Cache', backend, properties: { a: property<number>() } })
    const object = new Cache(1)
    object.a = 5
    t.throws(() => { (object as { id: string }).id = '2' }, { name: 'TypeError', message: /read only property 'id' of object/ })
    t.throws(() => { delete (object as { id?: string }).id }, TypeError)
    await object.save()
    t.equal(await new Cache(1).a, 5)
    t.strictSame(Object.keys(object), ['id'])
    class Renamed extends Cache { override readonly id = '2' }
    t.throws(() => new Renamed(1), { name: 'TypeError', message: /Cannot redefine property: id/ })
  })

  t.test('what is no id is refused', async t => {
    const UserCache = usersIn(memory())
    for (const id of [undefined, null, NaN, Infinity, {}, [1], Symbol('s'), true]) {
      t.throws(() => new UserCache(id as never), { code: 'FST_CACHING_API_INVALID_ARGUMENT', message: /^An id of UserCache must be a string, a finite number or a bigint, got / })
    }
  })

  t.test('nothing in a name, an id or a property reaches another object', async t => {
    const { backend, entries } = recordedBackend()
    const nasty = fc.oneof(fc.string({ unit: 'binary' }), fc.stringMatching(/^[ab|%#:{} \r\n\0.]{0,6}$/), fc.string({ minLength: 90, maxLength: 120 }))
    const seen = new Map<string, string>()
    await fc.assert(fc.asyncProperty(fc.stringMatching(/^[\w.$@/-]{1,64}$/), nasty, nasty, async (name, id, own) => {
      fc.pre(!(own in Object.prototype) && !['id', 'then', 'get', 'getAll', 'set', 'delete', 'deleteAll', 'save'].includes(own))
      entries.length = 0
      const Any = cacheObject({ name, backend, timeout, properties: { [own]: property<number>() } })
      await new Any(id).set(own, 1)
      const key = entries[0]!.key
      const identity = JSON.stringify([name, id, own])
      t.equal(seen.get(key) ?? identity, identity)
      seen.set(key, identity)
      if (!/^[!-z|~]{1,200}$/.test(key)) t.fail(key)
    }), { numRuns: 500 })
  })

  t.test('a part of a key that looks like the end of one and the beginning of another is neither', async t => {
    const backend = memory()
    const A = cacheObject({ name: 'A', backend, timeout, properties: { b: property<number>(), 'x|b': property<number>(), '%7Cb': property<number>() } })
    await new A('1|x').set('b', 1)
    t.strictSame(await new A('1').getAll(), { b: null, 'x|b': null, '%7Cb': null })
    await new A('1').set('x|b', 2)
    t.strictSame(await new A('1|x').getAll(), { b: 1, 'x|b': null, '%7Cb': null })
    t.strictSame(await new A('1%7Cx').getAll(), { b: null, 'x|b': null, '%7Cb': null })
  })
})

t.test('subclasses', async t => {
  class UserCache extends cacheObject({ name: 'Users', backend: memory(), timeout, properties: { username: property<string>(), name: property<string>({ default: 'nobody' }) } }) {
    async greeting (): Promise<string> {
      return `Hello ${await this.name}`
    }
  }

  t.test('a class may add methods: what it keeps is still the named object\'s', async t => {
    const user = new UserCache(1)
    user.name = 'Alice'
    await user.save()
    t.equal(await user.greeting(), 'Hello Alice')
    t.type(user, UserCache)
  })

  t.test('with extends, a class has its base\'s properties and methods and its own, all kept under its own name', async t => {
    const { backend, calls } = recordedBackend()
    const levels = recordedBackend('levels')
    class Admin extends cacheObject({ name: 'Admins', extends: UserCache, backend, properties: { level: property<number>({ backend: levels.backend }), name: property({ default: 'the admin' }) } }) {
      async rank (): Promise<string> {
        return `${await this.greeting()}, level ${await this.level}`
      }
    }
    await new UserCache(2).set('username', 'bob')
    const admin = new Admin(2)
    t.type(admin, UserCache)
    t.strictSame(await admin.getAll(), { username: null, name: 'the admin', level: null })
    admin.username = 'root'
    admin.level = 3
    await admin.save()
    t.equal(await admin.rank(), 'Hello the admin, level 3')
    t.ok(calls.some(([operation, key]) => operation === 'setMany' && key === 'Admins.2.username'), 'in its own backend')
    t.strictSame(levels.calls[0], ['getMany', 'Admins.2.level'])
    t.equal(await new UserCache(2).username, 'bob')
    t.notOk('level' in new UserCache(2))
    t.strictSame(Object.keys(Admin.properties), ['username', 'name', 'level'])
    t.equal(modelOf(Admin)!.timeout, 20_000)

    const Owner = cacheObject({ name: 'Owners', extends: Admin, timeout: 7, properties: {} })
    await new Owner(1).set('username', 'the owner')
    t.ok(calls.some(([operation, key]) => operation === 'setMany' && key === 'Owners.1.username'), 'in its base\'s backend')
    t.equal(modelOf(Owner)!.timeout, 7)
    t.equal(Owner.name, 'Owners')
  })

  t.test('a property can\'t hide a method of the base', async t => {
    t.throws(() => cacheObject({ name: 'Rude', extends: UserCache, properties: { greeting: property<string>() } }), { code: 'FST_CACHING_API_INVALID_DEFINITION', message: "Rude: a property can't be named 'greeting': that is a member of the object" })
  })
})

t.test('what a class has of its own under the name of a property', async t => {
  const code = 'FST_CACHING_API_INVALID_DEFINITION'
  const message = 'Shadow: its own username would hide what Hidden keeps under that name, and nothing assigned to it would be saved: remove it; for a type alone, write `declare username`'
  const { backend, calls } = recordedBackend()
  const UserCache = usersIn(backend, 'Hidden')

  t.test('what a class has of its own under the name of a property is refused by every method of an instance, each time, and nothing is read or written', async t => {
    class Shadow extends UserCache {
      override username = 'nobody'
    }
    const user = new Shadow(1)
    for (let i = 0; i < 2; i++) {
      await t.rejects(user.save(), { code, message })
      await t.rejects(user.get('name'), { code, message })
      await t.rejects(user.getAll(), { code, message })
      await t.rejects(user.set('name', 'Bob'), { code, message })
      await t.rejects(user.delete('name'), { code, message })
      await t.rejects(user.deleteAll(), { code, message })
    }
    t.strictSame(calls, [])
  })

  t.test('what a class has of its own under the name of a property is refused if it was defined on the instance alone, or as a method', async t => {
    const user = new UserCache(1)
    Object.defineProperties(user, { username: { value: 'x', writable: true }, name: { get: () => 'x' } })
    await t.rejects(user.save(), { code, message: /^Hidden: its own username, name would hide/ })
    class Method extends UserCache {}
    Object.defineProperty(Method.prototype, 'username', { value: () => 'x', writable: true })
    class Below extends Method {}
    await t.rejects(new Below(1).get('name'), { code, message: /^Below: its own username would hide what Hidden keeps/ })
    t.strictSame(calls, [])
  })

  t.test('what a class has of its own under the name of a property is fine where it leads to the property, or is declared for its type alone', async t => {
    class Polite extends UserCache {
      declare name: string | null
      other = 1
      override get username () { return super.username }
      override set username (value) { super.username = value }
    }
    const user = new Polite(2)
    user.username = 'alice'
    user.name = 'Alice'
    await user.save()
    t.strictSame(await new UserCache(2).getAll(), { username: 'alice', name: 'Alice' })
  })
})

t.test('a definition that can not work is refused where it is made', async t => {
  const backend = memory()
  const good = { name: 'Good', backend, properties: {} }
  const cases: [make: () => unknown, said: string | RegExp][] = [
    [() => cacheObject(undefined as never), 'cacheObject(definition) must be an object, got undefined'],
    [() => cacheObject(null as never), 'cacheObject(definition) must be an object, got null'],
    [() => cacheObject([] as never), 'cacheObject(definition) must be an object, got an array of 0'],
    [() => cacheObject({ ...good, name: 'a b' }), "cacheObject: name must be 1 to 64 letters, digits and . $ @ / - _, got 'a b'"],
    [() => cacheObject({ ...good, name: 1 as never }), 'cacheObject: name must be 1 to 64 letters, digits and . $ @ / - _, got 1'],
    [() => cacheObject({ ...good, colour: 1 } as never), "Good: 'colour' is not an option; the options are name, backend, properties, timeout, extends"],
    [() => cacheObject({ ...good, properties: undefined as never }), 'Good: properties must be an object of property(…), got undefined'],
    [() => cacheObject({ ...good, properties: null as never }), 'Good: properties must be an object of property(…), got null'],
    [() => cacheObject({ ...good, properties: ['username'] as never }), 'Good: properties must be an object of property(…), got an array of 1'],
    [() => cacheObject({ ...good, properties: { a: { value: 1 } } }), 'Good.a must be made by property(…), got an object'],
    [() => cacheObject({ ...good, properties: { a: undefined as never } }), 'Good.a must be made by property(…), got undefined'],
    [() => cacheObject({ name: 'Good', properties: { a: property<number>() } }), 'Good.a has no backend: give one to it, or to Good'],
    [() => cacheObject({ ...good, backend: {} as never }), 'Good: backend must be a backend with getMany, setMany and deleteMany, such as memory() or redis(client), got an object'],
    [() => cacheObject({ ...good, timeout: 0 }), /^Good: timeout must be a duration .* at least 1 ms .* got 0$/],
    [() => cacheObject({ ...good, extends: class {} as never }), /^cacheObject: extends must be a class made by cacheObject, got a function/],
    [() => cacheObject({ ...good, extends: null as never }), 'cacheObject: extends must be a class made by cacheObject, got null'],
    [() => property(null as never), 'property(options) must be an object, got null'],
    [() => property(5 as never), 'property(options) must be an object, got 5'],
    [() => property([] as never), 'property(options) must be an object, got an array of 0'],
    [() => property({ colour: 1 } as never), "property: 'colour' is not an option; the options are backend, default, ttl"],
    [() => property({ ttl: 'soon' }), /^property: ttl must be a duration/],
    [() => property({ ttl: 0 }), /^property: ttl must be a duration/],
    [() => property({ backend: 'redis' as never }), "property: backend must be a backend with getMany, setMany and deleteMany, such as memory() or redis(client), got 'redis'"],
    [() => property({ default: () => 1 }), /^property: a value that holds a function/]
  ]
  for (const [make, message] of cases) t.throws(make, { code: 'FST_CACHING_API_INVALID_DEFINITION', message })
  t.doesNotThrow(() => cacheObject({ ...good, timeout: undefined, colour: undefined } as never), 'what is undefined counts as absent')
  t.doesNotThrow(() => property({ ttl: undefined, colour: undefined } as never))
  for (const name of ['id', 'then', 'get', 'getAll', 'set', 'delete', 'deleteAll', 'save', 'constructor', 'toString', 'valueOf', 'hasOwnProperty']) {
    t.throws(() => cacheObject({ ...good, properties: { [name]: property() } }), { code: 'FST_CACHING_API_INVALID_DEFINITION', message: `Good: a property can't be named '${name}': that is a member of the object` })
  }
  t.throws(() => cacheObject({ ...good, properties: { ['__proto__']: property() } }), { code: 'FST_CACHING_API_INVALID_DEFINITION' })
  const user = new (usersIn(backend))(1)
  await t.rejects(user.get('nickname' as never), { code: 'FST_CACHING_API_INVALID_ARGUMENT', message: "A property of UserCache must be one of username, name, got 'nickname'" })
  await t.rejects(user.set('constructor' as never, 1 as never), { code: 'FST_CACHING_API_INVALID_ARGUMENT' })
  t.equal(modelOf(undefined), undefined)
})

t.test('showing or serialising an object reads nothing', async t => {
  const { backend, calls } = recordedBackend()
  const user = new (usersIn(backend))(10)
  t.equal(JSON.stringify(user), '{"id":"10"}')
  t.match((await import('node:util')).inspect(user), /UserCache/)
  t.strictSame({ ...user }, { id: '10' })
  t.equal(await Promise.resolve(user), user)
  await new Promise(setImmediate)
  t.strictSame(calls, [])
})

t.test('what is assigned and never saved', async t => {
  t.test('what is assigned and never saved is saved by whoever has taken that over', async t => {
    const said = warnings(t)
    const UserCache = usersIn(memory())
    const unsaved = new UnsavedObjects(new Set(), silentLogger(), Object.assign(new EventEmitter(), { destroyed: false }))
    await (async () => {
      const user = new UserCache(77)
      user.name = 'Alice'
      saveBy(user, unsaved)
      await unsaved.save()
      user.username = 'alice'
      await unsaved.save()
    })()
    t.strictSame(await new UserCache(77).getAll(), { username: 'alice', name: 'Alice' })
    collectGarbage()
    await new Promise(setImmediate)
    t.strictSame(said, [])
  })

  t.test('what is assigned and never saved is told once, when the object is dropped; what was saved is not', async t => {
    const said = warnings(t)
    const backend = memory()
    const make = (name: string) => cacheObject({ name, backend, timeout, properties: { a: property<number>() } })
    const [Saved, Lost, Late] = [make('Saved'), make('Lost'), make('Late')]
    await (async () => {
      for (const id of [1, 2]) {
        const saved = new Saved(id)
        saved.a = 1
        await saved.save()
        const lost = new Lost(id)
        lost.a = 1
        lost.a = 2
        const unsaved = new UnsavedObjects(new Set(), silentLogger(), null)
        const late = new Late(id)
        saveBy(late, unsaved)
        late.a = 1
        await unsaved.save()
        late.a = 2 // and there is no response whose end would have it saved
      }
    })()
    await eventually(t, () => { collectGarbage(); return said.length >= 2 }, 'it was told')
    for (let i = 0; i < 3; i++) {
      collectGarbage()
      await new Promise(setImmediate)
    }
    t.match(said.sort(), [/^an object of Late was dropped/, /^an object of Lost was dropped/])
    t.equal(said.length, 2)
  })
})
