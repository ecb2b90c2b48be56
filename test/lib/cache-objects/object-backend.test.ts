import { mock } from 'node:test'
import t from 'tap'
import { ObjectBackend } from '../../../lib/cache-objects/object-backend.js'
import { UnstorableError, type Backend } from '../../../lib/backends/backend.js'
import { memory } from '../../../lib/backends/memory.js'
import { deferred, gate } from '../../helpers/doubles.js'
import { recordedBackend } from '../../helpers/recorded-backend.js'

const bytes = (text: string) => new TextEncoder().encode(text)
const plenty = 20_000

t.test('the reads of one tick are one getMany, with each key once', async t => {
  const { backend, calls } = recordedBackend()
  const one = ObjectBackend.of(backend, plenty)
  await one.write([{ key: 'a', value: bytes('1'), ttl: 60_000 }], [])
  const early = one.read('a')
  const late = Promise.resolve().then(() => Promise.resolve()).then(() => one.read('b'))
  t.strictSame(await Promise.all([early, late, one.read('a')]), [bytes('1'), undefined, bytes('1')])
  await one.read('c')
  t.strictSame(calls, [['setMany', 'a'], ['getMany', 'a', 'b'], ['getMany', 'c']])
})

t.test('what the promise jobs of a tick ask for is in its batch, wherever in the event loop that is', async t => {
  const { backend, calls } = recordedBackend()
  const one = ObjectBackend.of(backend, plenty)
  await new Promise<void>((resolve, reject) => setImmediate(() => {
    const late = Promise.resolve().then(() => Promise.resolve()).then(() => one.read('b'))
    Promise.all([one.read('a'), late]).then(() => resolve(), reject)
  }))
  t.strictSame(calls, [['getMany', 'a', 'b']])
})

t.test('all who give a backend the same timeout share its batches', async t => {
  const { backend, calls } = recordedBackend()
  t.equal(ObjectBackend.of(backend, plenty), ObjectBackend.of(backend, plenty))
  t.not(ObjectBackend.of(backend, plenty), ObjectBackend.of(backend, plenty + 1))
  t.not(ObjectBackend.of(backend, plenty), ObjectBackend.of(memory(), plenty))
  await Promise.all([ObjectBackend.of(backend, plenty).read('a'), ObjectBackend.of(backend, plenty).read('b'), ObjectBackend.of(backend, plenty + 1).read('a')])
  t.strictSame(calls, [['getMany', 'a', 'b'], ['getMany', 'a']])
})

t.test('what is on several servers is one getMany for each, and they fail apart', async t => {
  const servers = [{}, {}] as const
  const { backend, calls } = recordedBackend()
  const getMany: Backend['getMany'] = async keys => {
    if (keys.includes('a1')) throw new Error('away')
    return await backend.getMany(keys)
  }
  const one = ObjectBackend.of({ ...backend, getMany, serverOf: (key: string) => servers[key.endsWith('1') ? 0 : 1] } as Backend, plenty)
  const reads = await Promise.allSettled(['a1', 'a2', 'b1', 'b2'].map(key => one.read(key)))
  t.strictSame(reads.map(({ status }) => status), ['rejected', 'fulfilled', 'rejected', 'fulfilled'])
  t.strictSame(calls, [['getMany', 'a2', 'b2']])
})

t.test('a backend on several servers hears how long they may take', t => {
  const allowed: unknown[] = []
  const backend = { ...recordedBackend().backend, serverOf: () => ({}), allow: (...what: unknown[]) => { allowed.push(what) } } as Backend
  for (const timeout of [plenty, plenty, 1]) ObjectBackend.of(backend, timeout)
  t.strictSame(allowed, [[plenty], [1]])
  t.end()
})

t.test('a write sets and deletes in the same step, and asks for nothing that is not needed', async t => {
  const door = gate()
  const { backend, calls } = recordedBackend('recorded', () => door.opened)
  const one = ObjectBackend.of(backend, plenty)
  const written = one.write([{ key: 'a', value: bytes('1'), ttl: 1000 }], ['b'])
  t.strictSame(calls, [['setMany', 'a'], ['deleteMany', 'b']], 'neither waits for the other')
  door.open()
  await written
  calls.length = 0
  await one.write([], ['b'])
  await one.write([{ key: 'a', value: bytes('1'), ttl: 1000 }], [])
  await one.write([], [])
  t.strictSame(calls, [['deleteMany', 'b'], ['setMany', 'a']])
})

t.test('a failure reaches all who read in that tick, and nobody later', async t => {
  const problem = new Error('away')
  let fails = true
  const { backend } = recordedBackend('recorded', () => { if (fails) throw problem })
  const one = ObjectBackend.of(backend, plenty)
  const reads = await Promise.allSettled([one.read('a'), one.read('b')])
  t.strictSame(reads, [{ status: 'rejected', reason: problem }, { status: 'rejected', reason: problem }])
  await t.rejects(one.write([], ['a']), problem)
  fails = false
  t.equal(await one.read('a'), undefined)
})

t.test('a backend that throws instead of rejecting, or answers with something else, has failed', async t => {
  const throwing: Backend = { ...recordedBackend().backend, getMany: () => { throw new Error('at once') } }
  await t.rejects(ObjectBackend.of(throwing, plenty).read('a'), /at once/)
  const { backend, calls } = recordedBackend()
  const refusing: Backend = { ...backend, setMany: () => { throw new Error('at once') } }
  await t.rejects(ObjectBackend.of(refusing, plenty).write([{ key: 'a', value: bytes('1'), ttl: 1000 }], ['b']), /at once/)
  t.strictSame(calls, [['deleteMany', 'b']], 'what is deleted is deleted all the same')
  const strange = { ...recordedBackend().backend, getMany: async () => undefined } as unknown as Backend
  await t.rejects(ObjectBackend.of(strange, plenty).read('a'), TypeError)
  for (const answers of [[], [bytes('1')], [bytes('1'), undefined, undefined]]) {
    const one = ObjectBackend.of({ ...recordedBackend('short').backend, getMany: async () => answers }, plenty)
    const reads = await Promise.allSettled([one.read('a'), one.read('b')])
    t.match(reads, [1, 2].map(() => ({ status: 'rejected', reason: { message: 'short.getMany must answer each of 2 keys' } })))
  }
})

t.test('a value that can not be kept doesn\'t hide that a deletion failed', async t => {
  const unstorable = new UnstorableError(['a'], new Error('too large'))
  let away = false
  const { backend } = recordedBackend('small', operation => {
    if (operation === 'setMany') throw unstorable
    if (away) throw new Error('away')
  })
  const one = ObjectBackend.of(backend, plenty)
  const write = () => one.write([{ key: 'a', value: bytes('1'), ttl: 1000 }], ['b'])
  await t.rejects(write(), unstorable)
  away = true
  await t.rejects(write(), /away/)
})

t.test('an operation has its timeout', async t => {
  const never = deferred()
  const { backend } = recordedBackend('recorded', () => never.promise)
  const one = ObjectBackend.of(backend, 5)
  await t.rejects(one.read('a'), /recorded did not answer within 5 ms/)
  await t.rejects(one.write([], ['a']), /recorded did not answer within 5 ms/)
})

t.test('the library that a backend has to load counts for no timeout', async t => {
  mock.timers.enable({ apis: ['setTimeout'] })
  t.teardown(() => mock.timers.reset())
  const [loading, loaded] = [gate(), gate()]
  const { backend, calls } = recordedBackend()
  const opening = Object.assign(backend, { loadLibrary: async () => { loading.open(); await loaded.opened } })
  const reading = ObjectBackend.of(opening, 1).read('a')
  await loading.opened
  mock.timers.tick(1000) // longer than the timeout
  await new Promise(setImmediate)
  t.strictSame(calls, [])
  loaded.open()
  t.equal(await reading, undefined)
  t.strictSame(calls, [['getMany', 'a']])
})
