import { randomUUID } from 'node:crypto'
import { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import { eventually } from '../helpers/doubles.js'
import { startProcesses, type Worker } from '../helpers/processes.js'
import { startMemcached, startRedis } from '../helpers/servers.js'
import type { Setting, StampedeHandlers } from './stampede.worker.js'

type Process = Worker<StampedeHandlers>

const [server, memcachedServer] = await Promise.all([startRedis(t), startMemcached(t)])
const recorder = await server.recordCommands()
const client = new Redis(server.port)
t.teardown(() => client.disconnect())
const workers = await startProcesses<StampedeHandlers>(t, new URL('./stampede.worker.ts', import.meta.url), 4)
const [a, ...others] = workers as [Process, Process, Process, Process]

/** Four processes over one memcached. A Redis elects, carries their news if it is to, and is their database. */
async function fourProcesses (t: Test, setting: Pick<Setting, 'memory' | 'bus'> & { lock?: boolean }) {
  const { lock = true, ...rest } = setting
  const namespace = randomUUID()
  await Promise.all(workers.map(async worker => await worker.call('join', {
    namespace, port: server.port, memcachedPort: memcachedServer.port, lockPorts: lock ? [server.port] : [], lockTtl: 5000, ...rest
  })))

  const loadedBy = async (key: string) => (await client.lrange(`loads:${key}`, 0, -1)).map(Number)
  const readers = async (): Promise<number> => {
    const [channel] = await client.pubsub('CHANNELS', `*${namespace}:people}:wake-ups`) as string[]
    return channel === undefined ? 0 : (await client.pubsub('NUMSUB', channel))[1] as number
  }
  return {
    /** The processes that have loaded a key, in their order. */
    loadedBy,
    /** A key with this value in the database. */
    insert: async (value: string) => {
      const key = randomUUID()
      await client.set(`database:${key}`, value)
      return key
    },
    /** 25 callers in each of these processes; their load takes until `go`. */
    read: async (key: string, processes: Process[]) => await Promise.all(processes.map(async process => await process.call('read', { key, count: 25 }))),
    /** Lets the loads of a key end that are, or will be, under way in these processes. */
    go: async (key: string, ...processes: Process[]) => { for (const { pid } of processes) await client.rpush(`go:${key}:${pid}`, 1) },
    loads: async (key: string, count: number) => await eventually(t, async () => (await loadedBy(key)).length === count, `${count} under way`),
    /** They listen to the news. */
    waiting: async (count: number) => await eventually(t, async () => await readers() === count, `${count} are waiting`),
    /** Of what the Redis has executed: who asked for the lock of a key. */
    isElection: (key: string) => ([command, , , lock, , ttl]: string[]) => command === 'eval' && lock === `{${namespace}:people}:lock:k:${key}` && ttl !== undefined,
    isNews: ([command, channel]: string[]) => command === 'publish' && channel?.endsWith(`{${namespace}:people}:wake-ups`) === true
  }
}

for (const [where, memory] of Object.entries({ 'memcached behind memory': true, 'memcached alone': false })) {
  for (const bus of [true, false]) {
    t.test(`${where}, ${bus ? 'news over Redis' : 'no news'}: a hundred callers in four processes make one load`, async t => {
      const { insert, loadedBy } = await fourProcesses(t, { memory, bus })
      const key = await insert('value')
      const values = await Promise.all(workers.map(async worker => await worker.call('read', { key, count: 25, takes: 50 })))
      t.strictSame(values, [['value'], ['value'], ['value'], ['value']])
      t.equal((await loadedBy(key)).length, 1)
      t.strictSame(await Promise.all(workers.map(async worker => await worker.call('get', key))), ['value', 'value', 'value', 'value'])

      await others[0].call('delete', key)
      const left = await Promise.all(workers.map(async worker => await worker.call('get', key)))
      t.equal(left[1], undefined)
      if (bus || !memory) t.strictSame(left, [undefined, undefined, undefined, undefined])
    })
  }

  t.test(`${where}, no lock: each process loads at most once`, async t => {
    const { insert, loads, read, go, loadedBy } = await fourProcesses(t, { memory, lock: false })
    const key = await insert('value')
    const values = read(key, workers)
    await loads(key, 4)
    await go(key, ...workers)
    t.strictSame(await values, [['value'], ['value'], ['value'], ['value']])
    t.equal(new Set(await loadedBy(key)).size, 4)
  })
}

t.test('those who wait are woken by news over Redis, when the value is in memcached', async t => {
  const { insert, loads, read, waiting, go, loadedBy, isElection, isNews } = await fourProcesses(t, { bus: true })
  // Without news all of them would ask for the lock again and then look. One of them may do so in the very moment of the
  // news, but hardly ever.
  let quiet = 0
  for (let round = 0; round < 10; round++) {
    const key = await insert('value')
    const first = read(key, [a])
    await loads(key, 1)
    const rest = read(key, others)
    await waiting(3)
    await recorder.reset()
    await go(key, a)
    t.strictSame([...await first, ...await rest], [['value'], ['value'], ['value'], ['value']])
    t.strictSame(await loadedBy(key), [a.pid])
    const calls = await recorder.calls()
    const news = calls.findIndex(isNews)
    t.ok(news >= 0)
    if (!calls.slice(news).some(isElection(key))) quiet++
  }
  t.ok(quiet > 5, `nobody asked for the lock in ${quiet} of 10 rounds`)
})

t.test('without news those who wait look again from time to time', async t => {
  const { insert, loads, read, go, loadedBy, isElection, isNews } = await fourProcesses(t, {})
  const key = await insert('value')
  await recorder.reset()
  const first = read(key, [a])
  await loads(key, 1)
  const rest = read(key, others)
  const elections = async () => (await recorder.calls()).filter(isElection(key)).length
  await eventually(t, async () => await elections() > 1 + 2 * others.length, 'each of them, or one of them often')
  t.strictSame(await loadedBy(key), [a.pid], 'and nobody loads meanwhile')
  await go(key, a)
  t.strictSame([...await first, ...await rest], [['value'], ['value'], ['value'], ['value']])
  t.strictSame(await loadedBy(key), [a.pid])
  t.notOk((await recorder.calls()).some(isNews))
})

t.test('a value that memcached can not keep makes nobody queue: the others load side by side', async t => {
  const { insert, loads, read, waiting, go, loadedBy } = await fourProcesses(t, { bus: true })
  const large = 'x'.repeat(2_000_000)
  const key = await insert(large)
  const first = read(key, [a])
  await loads(key, 1)
  const rest = read(key, others)
  await waiting(3)
  await go(key, a)
  t.ok(JSON.stringify(await first) === JSON.stringify([[large]]))
  // Nobody's load ends before the loads of all have begun.
  await loads(key, 4)
  await go(key, ...others)
  t.ok(JSON.stringify(await rest) === JSON.stringify([[large], [large], [large]]))
  t.equal(new Set(await loadedBy(key)).size, 4, 'once in each process')
})
