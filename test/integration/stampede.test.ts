import { randomUUID } from 'node:crypto'
import { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import { eventually } from '../helpers/doubles.js'
import { startProcesses, type Worker } from '../helpers/processes.js'
import { startRedis, type RedisServer } from '../helpers/servers.js'
import type { Setting, StampedeHandlers } from './stampede.worker.js'

type Process = Worker<StampedeHandlers>

const server = await startRedis(t)
const client = new Redis(server.port)
t.teardown(() => client.disconnect())
// It takes seconds to start them: they are others in every test.
const workers = await startProcesses<StampedeHandlers>(t, new URL('./stampede.worker.ts', import.meta.url), 4)

/** Four processes over one Redis, which is their tier, carries their news, and is their database. */
async function fourProcesses (t: Test, { lockTtl = 5000, locks = [], json = false }: Partial<Setting> & { locks?: readonly RedisServer[] } = {}) {
  await client.flushall()
  const namespace = randomUUID()
  const lockPorts = [server, ...locks].map(({ port }) => port)
  await Promise.all(workers.map(async worker => await worker.call('join', { namespace, port: server.port, lockPorts, lockTtl, json })))
  const [a, b, c, d] = workers as [Process, Process, Process, Process]

  /** The processes that have loaded a key, in their order. */
  const loadedBy = async (key: string) => (await client.lrange(`loads:${key}`, 0, -1)).map(Number)
  return {
    a,
    b,
    others: [b, c, d],
    loadedBy,
    insert: async (key: string, value: string) => { await client.set(`database:${key}`, value) },
    /** By the server's clock, as `now`. */
    lockEnd: async (key: string) => await client.pexpiretime(`{${namespace}:people}:lock:k:${key}`),
    now: async () => {
      const [seconds, microseconds] = (await client.time()).map(Number)
      return seconds! * 1000 + microseconds! / 1000
    },
    /** Lets the loads of a key end that are, or will be, under way in these processes. */
    go: async (key: string, ...processes: Process[]) => { for (const { pid } of processes) await client.rpush(`go:${key}:${pid}`, 1) },
    loads: async (key: string, count: number) => await eventually(t, async () => (await loadedBy(key)).length === count, `${count} under way`),
    waiting: async (count: number) => await eventually(t, async () => (await client.pubsub('NUMSUB', `{line@0:}{${namespace}:people}:wake-ups`))[1] === count, `${count} are waiting`)
  }
}

t.test('a thousand readers in four processes make one load', async t => {
  const { insert, loadedBy } = await fourProcesses(t)
  await insert('alice', 'value')
  const values = await Promise.all(workers.map(async worker => await worker.call('read', { key: 'alice', count: 250, takes: 50 })))
  t.strictSame(values, [['value'], ['value'], ['value'], ['value']])
  t.equal((await loadedBy('alice')).length, 1)
})

t.test('readers in all processes wait for the one that loads, however long it takes', async t => {
  const { a, others, insert, loads, waiting, go, loadedBy, lockEnd, now } = await fourProcesses(t, { lockTtl: 200 })
  await insert('alice', 'value')
  const first = a.call('read', { key: 'alice', count: 250 })
  await loads('alice', 1)
  const rest = others.map(async worker => await worker.call('read', { key: 'alice', count: 250 }))
  await waiting(3)
  const end = await lockEnd('alice')
  await eventually(t, async () => await now() > end && await lockEnd('alice') > await now(), 'the lock is held beyond its end: it is renewed')
  await go('alice', a)
  t.strictSame(await Promise.all([first, ...rest]), [['value'], ['value'], ['value'], ['value']])
  t.strictSame(await loadedBy('alice'), [a.pid])
})

t.test('what a process that had stopped brings when it goes on is refused, where somebody invalidated meanwhile', async t => {
  const { a, b, insert, loads, go, loadedBy } = await fourProcesses(t, { lockTtl: 200 })
  await insert('alice', 'old')
  const first = a.call('read', { key: 'alice', count: 250 })
  await loads('alice', 1)
  a.pause()
  await insert('alice', 'new')
  await b.call('delete', 'alice')

  // Beyond its lock: another one loads.
  const second = b.call('read', { key: 'alice', count: 250 })
  await loads('alice', 2)
  await go('alice', b)
  t.strictSame(await second, ['new'])
  t.equal(await b.call('get', 'alice'), 'new')

  await go('alice', a)
  a.resume()
  t.strictSame(await first, ['old'], 'those who asked before have the old one')
  t.equal(await a.call('get', 'alice'), 'new')
  t.equal(await b.call('get', 'alice'), 'new')
  t.strictSame(await loadedBy('alice'), [a.pid, b.pid])

  await insert('bob', 'old')
  const bob = a.call('read', { key: 'bob', count: 250 })
  await loads('bob', 1)
  a.pause()
  await b.call('delete', 'bob')
  await go('bob', a)
  a.resume()
  t.strictSame(await bob, ['old'])
  t.equal(await a.call('get', 'bob'), undefined, 'nor is it kept where nobody has loaded it again')
  t.equal(await b.call('get', 'bob'), undefined)
})

t.test('when the load fails, those who wait in other processes get an equal error, and none of them repeats it', async t => {
  const { a, others, loads, waiting, go, loadedBy } = await fourProcesses(t)
  const first = a.call('read', { key: 'alice', count: 250, end: 'error' })
  await loads('alice', 1)
  const rest = others.map(async worker => await worker.call('read', { key: 'alice', count: 250, end: 'error' }))
  await waiting(3)
  await go('alice', a)
  const expected = [JSON.stringify({ isError: true, name: 'RangeError', message: 'no such database', code: 'E_NONE', statusCode: 404 })]
  t.strictSame(await Promise.all([first, ...rest]), [expected, expected, expected, expected])
  t.strictSame(await loadedBy('alice'), [a.pid])
  t.equal(await a.call('get', 'alice'), undefined, 'and it is not kept')
})

for (const [end, value, json] of [['uncacheable', 'value', false], ['unserialisable', 1n, true]] as const) {
  t.test(`a value that is ${end} makes nobody queue: the others load side by side`, async t => {
    const { a, others, insert, loads, waiting, go, loadedBy } = await fourProcesses(t, { json })
    await insert('alice', 'value')
    const first = a.call('read', { key: 'alice', count: 250, end })
    await loads('alice', 1)
    const rest = others.map(async worker => await worker.call('read', { key: 'alice', count: 250, end }))
    await waiting(3)
    await go('alice', a)
    t.strictSame(await first, [value])
    // Nobody's load ends before the loads of all have begun.
    await loads('alice', 4)
    await go('alice', ...others)
    t.strictSame(await Promise.all(rest), [[value], [value], [value]])
    t.equal(new Set(await loadedBy('alice')).size, 4, 'once in each process')
  })
}

t.test('of three independent servers one may be dead: the other two elect one loader', async t => {
  const [second, third] = await Promise.all([startRedis(t), startRedis(t)])
  const { insert, loadedBy } = await fourProcesses(t, { locks: [second, third] })
  await insert('alice', 'value')
  await insert('bob', 'value')
  for (const key of ['alice', 'bob']) {
    const values = await Promise.all(workers.map(async worker => await worker.call('read', { key, count: 50, takes: 50 })))
    t.strictSame(values, [['value'], ['value'], ['value'], ['value']])
    t.equal((await loadedBy(key)).length, 1)
    await third.kill()
  }
})

// The last one: they are three from now on.
t.test('a process that is killed in the middle of its load is replaced by one other', async t => {
  const { a, others, insert, loads, waiting, go, loadedBy } = await fourProcesses(t, { lockTtl: 500 })
  await insert('alice', 'value')
  const first = t.rejects(a.call('read', { key: 'alice', count: 250 }), /ended with SIGKILL/)
  await loads('alice', 1)
  const rest = others.map(async worker => await worker.call('read', { key: 'alice', count: 250 }))
  await waiting(3)
  await a.kill()
  await first
  // lockWait is ten minutes: only the end of the dead one's lock lets anybody load.
  await loads('alice', 2)
  await go('alice', ...others)
  t.strictSame(await Promise.all(rest), [['value'], ['value'], ['value']])
  const [dead, replacement, ...more] = await loadedBy('alice')
  t.equal(dead, a.pid)
  t.ok(others.some(({ pid }) => pid === replacement))
  t.strictSame(more, [])
})
