import { randomUUID } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'
import { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import { chance } from '../helpers/chance.js'
import { eventually } from '../helpers/doubles.js'
import { startProcesses, type Worker } from '../helpers/processes.js'
import { recordingProxy } from '../helpers/recording-proxy.js'
import { startMemcached, startRedis, startRedisCluster } from '../helpers/servers.js'
import type { CoherenceHandlers, Setting } from './coherence.worker.js'

type Process = Worker<CoherenceHandlers>

const server = await startRedis(t)
const cluster = await startRedisCluster(t)
const memcached = await startMemcached(t)
const database = new Redis(server.port)
t.teardown(() => database.disconnect())
// It takes seconds to start them: they are others in every test.
const workers = await startProcesses<CoherenceHandlers>(t, new URL('./coherence.worker.ts', import.meta.url), 3)

const kinds: Record<string, Pick<Setting, 'shared' | 'line'>> = {
  Redis: { shared: { redis: server.port } },
  'a Redis Cluster': { shared: { cluster: cluster.addresses.map(({ port }) => port) } },
  'memcached, and a line over Redis': { shared: { memcached: memcached.port }, line: server.port }
}

/** Three processes; what the first two have for themselves is given apart. */
async function threeProcesses (t: Test, { ofA = {}, ofB = {}, ...more }: Partial<Setting> & { ofA?: Partial<Setting>, ofB?: Partial<Setting> } = {}) {
  const namespace = randomUUID()
  const setting: Setting = { namespace, database: server.port, shared: { redis: server.port }, lease: 500, ...more }
  const [a, b, c] = workers as [Process, Process, Process]
  await Promise.all([a.call('join', { ...setting, ...ofA }), b.call('join', { ...setting, ...ofB }), c.call('join', setting)])
  const write = async (key: string, version: number) => { await database.set(`database:${key}`, version) }
  // Until a lease is over, nobody knows who else there is: its invalidations take that long.
  const acquainted = async () => await eventually(t, async () => await a.call('delete', 'nothing') < setting.lease / 2, 'it knows the others')
  const inMemory = async (process: Process, key: string) =>
    await eventually(t, async () => (await process.call('read', key)).from === 'memory', `${key} is in the memory of a process`)
  return {
    namespace,
    a,
    b,
    c,
    lease: setting.lease,
    write,
    inMemory,
    acquainted,
    /** All have it in their memory, and `a` knows that they may. */
    known: async (key: string, version: number) => {
      await write(key, version)
      await acquainted()
      for (const process of [a, b, c]) await inMemory(process, key)
    }
  }
}

for (const [kind, setting] of Object.entries(kinds)) {
  t.test(`${kind}: what is invalidated is never served after that, in any process, whether it hangs or not`, async t => {
    const { a, b, c, write, acquainted, lease } = await threeProcesses(t, { ...setting, lease: 200 })
    // Chance only chooses the moments at which a process hangs: whatever it chooses, nothing old may be served.
    const random = chance(t)
    await write('alice', 0)
    await acquainted()
    for (const process of [b, c]) await process.call('readOn', 'alice')
    const writing = { isOver: false }
    const written = a.call('write', { key: 'alice', versions: 40, pauses: Array.from({ length: 40 }, () => random.next() ** 3 * 100) }).finally(() => { writing.isOver = true })
    while (!writing.isOver) {
      const victim = random.pick([b, c])
      await pause(random.between(0, 2 * lease))
      victim.pause()
      await pause(random.between(0, 1.5 * lease))
      victim.resume()
    }
    const over = await written
    for (const process of [b, c]) {
      const { last, fromMemory } = await process.call('seen')
      t.ok(fromMemory > 100, `memory was of use: ${fromMemory} times`)
      t.strictSame([...last].filter(([version, began]) => began > (over[version + 1] ?? began)).map(([version]) => version), [], 'versions that were served too late')
    }
  })

  t.test(`${kind}: a process that hangs holds up an invalidation until its lease is over, and does not serve the old value when it goes on`, async t => {
    const { a, b, c, known, write, inMemory, lease } = await threeProcesses(t, setting)
    await known('alice', 1)
    for (const how of ['hangs', 'hangs for long']) {
      b.pause()
      await write('alice', 2)
      const took = await a.call('delete', 'alice')
      t.ok(took >= lease, `${how}: ${took}`)
      t.ok(took < 10 * lease, `${how}: ${took}`)
      t.equal((await c.call('read', 'alice')).value, 2)
      await c.call('idle')
      if (how === 'hangs for long') await eventually(t, async () => await a.call('delete', 'nothing') < lease / 2, 'nobody waits for it any more')
      // The first that it hears of when it goes on.
      const read = b.call('read', 'alice')
      b.resume()
      t.strictSame(await read, { value: 2, from: 'the shared tier' }, how)
      await inMemory(b, 'alice')
      await write('alice', 1)
      await a.call('delete', 'alice')
      t.equal((await b.call('read', 'alice')).value, 1, how)
      await inMemory(b, 'alice')
    }
  })
}

t.test('a process that is cut off from the line, and is not told, believes its memory no longer than its lease', async t => {
  for (const [kind, setting] of Object.entries(kinds)) {
    if ('cluster' in setting.shared) continue // one node of it would have to be behind the proxy
    const proxy = await recordingProxy(t, server.port)
    const { a, b, known, write, inMemory, lease } = await threeProcesses(t, { ...setting, ofB: { line: proxy.port } })
    await known('alice', 1)
    proxy.pause()
    await write('alice', 2)
    const took = await a.call('delete', 'alice')
    t.ok(took >= lease, `${kind}: ${took}`)
    t.ok(took < 10 * lease, `${kind}: ${took}`)
    t.equal((await b.call('read', 'alice')).value, 2, kind)
    t.not((await b.call('read', 'alice')).from, 'memory', `${kind}: nobody would tell it if that were changed`)
    proxy.resume()
    await inMemory(b, 'alice')
    t.equal((await b.call('read', 'alice')).value, 2, kind)
  }
})

t.test('a process that has lost the line starts empty before it believes its memory again', async t => {
  const proxy = await recordingProxy(t, server.port)
  const { a, b, known, write, inMemory, lease } = await threeProcesses(t, { ofB: { line: proxy.port } })
  await known('alice', 1)
  await known('bob', 1)
  await proxy.cut()
  await write('alice', 2)
  const took = await a.call('delete', 'alice')
  t.ok(took < 10 * lease, `${took}`)
  const read = await b.call('read', 'alice')
  t.equal(read.value, 2)
  t.not(read.from, 'memory')
  await proxy.restore()
  await write('probe', 1)
  await inMemory(b, 'probe') // it does again
  t.strictSame(await b.call('read', 'bob'), { value: 1, from: 'the shared tier' }, 'nobody has invalidated it; but who knows that?')
  t.strictSame(await b.call('read', 'bob'), { value: 1, from: 'memory' })
  t.equal((await b.call('read', 'alice')).value, 2)
  await write('bob', 2)
  await a.call('delete', 'bob')
  t.equal((await b.call('read', 'bob')).value, 2)
})

t.test('a Redis that is killed, and comes back empty, leaves nothing old in any memory', async t => {
  const own = await startRedis(t)
  const { a, b, c, known, write, inMemory } = await threeProcesses(t, { shared: { redis: own.port } })
  await known('alice', 1)
  await own.kill()
  await write('alice', 2)
  await own.start()
  for (const process of [a, b, c]) {
    await eventually(t, async () => (await process.call('read', 'alice')).value === 2, 'it is read anew')
    await inMemory(process, 'alice')
    t.equal((await process.call('read', 'alice')).value, 2)
  }
})

t.test('readers in one process do not join a load that began before another one invalidated, cut off or not', async t => {
  const proxy = await recordingProxy(t, server.port)
  const { a, b, known, write } = await threeProcesses(t, { ofB: { line: proxy.port } })
  await known('others', 1)
  for (const isCutOff of [false, true]) {
    await write('alice', 1)
    await a.call('delete', 'alice')
    await b.call('begin', 'alice')
    if (isCutOff) proxy.pause()
    await write('alice', 2)
    await a.call('delete', 'alice')
    t.equal((await b.call('read', 'alice')).value, 2)
    t.equal(await b.call('letGo', 'alice'), 1, 'who came before gets what there was')
    t.equal((await b.call('read', 'alice')).value, 2, 'and nobody else')
    proxy.resume()
  }
})

t.test('a hundred invalidations at once share messages and acknowledgements', async t => {
  const { a, namespace, acquainted } = await threeProcesses(t)
  await acquainted()
  const recorder = await server.recordCommands()
  await a.call('deleteEach', Array.from({ length: 100 }, (_, i) => `${i}`))
  const published = (await recorder.calls()).filter(([name]) => name === 'publish')
  const said = published.map(([, , message]) => JSON.parse(message!))
  const pushes = said.filter(({ kind }) => kind === 'push')
  t.equal(pushes.flatMap(({ pushes }) => pushes).length, 100)
  t.ok(pushes.length < 20, `${pushes.length} messages`)
  t.ok(said.filter(({ kind }) => kind === 'acknowledgement').length <= 2 * pushes.length, 'no more than one for each')
  t.ok(published.every(([, channel]) => channel!.startsWith(`{line@0:}${namespace}:coherence`)))
})

t.test('with coherence: \'eventual\' an invalidation waits for no process', async t => {
  const { a, b, c, write, inMemory } = await threeProcesses(t, { eventual: true, lease: 60_000 })
  await write('alice', 1)
  for (const process of [a, b, c]) await inMemory(process, 'alice')
  b.pause()
  await write('alice', 2)
  t.ok(await a.call('delete', 'alice') < 50_000)
  b.resume()
  await eventually(t, async () => (await b.call('read', 'alice')).value === 2, 'it hears of it all the same')
})

t.test('a process that closes holds up nothing', async t => {
  const { a, b, c, acquainted, lease } = await threeProcesses(t, { lease: 3000 })
  await acquainted()
  for (const process of [b, c]) {
    await process.call('close')
    const took = await a.call('delete', 'alice')
    t.ok(took < lease, `${took}`)
  }
})

for (const [name, line] of Object.entries({ 'with its line': {}, 'but not its line': { line: server.port } })) {
  t.test(`what could not be told, to a tier that was away ${name}, is told when it is back; then nobody has the old value any more`, async t => {
    const proxy = await recordingProxy(t, server.port)
    const { a, b, c, known, write } = await threeProcesses(t, { ...line, ofA: { shared: { redis: proxy.port } } })
    await known('alice', 1)
    for (const process of [b, c]) await process.call('readOn', 'alice')
    await proxy.cut()
    await write('alice', 2)
    await t.rejects(a.call('delete', 'alice'), { code: 'FST_CACHING_API_INVALIDATION_PENDING' })
    await proxy.restore()
    for (const process of [a, b, c]) await eventually(t, async () => (await process.call('read', 'alice')).value === 2, 'it is read anew')
    for (const process of [b, c]) await process.call('seen')
  })
}

// The last one: they are two from now on.
t.test('a process that is killed holds up the first invalidations, for a lease each', async t => {
  const { a, b, c, known, write, lease } = await threeProcesses(t)
  await known('alice', 1)
  await b.kill()
  await write('alice', 2)
  const took = await a.call('delete', 'alice')
  t.ok(took < 10 * lease, `${took}`)
  await eventually(t, async () => await a.call('delete', 'nothing') < lease / 2, 'nobody waits for it any more')
  t.equal((await c.call('read', 'alice')).value, 2)
})
