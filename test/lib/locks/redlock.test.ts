import { once } from 'node:events'
import { Redlock } from '@sesamecare-oss/redlock'
import { Cluster, Redis } from 'ioredis'
import t, { type Test } from 'tap'
import type { DivisibleLock, DogpileLock } from '../../../lib/locks/lock.js'
import { redlock } from '../../../lib/locks/redlock.js'
import { acquireSome } from '../../../lib/locks/scripts.js'
import { eventually, gate } from '../../helpers/doubles.js'
import { startRedis, startRedisCluster, type RedisServer } from '../../helpers/servers.js'

const server = await startRedis(t)

/** A client that says at once that its server is away. */
function clientOf (t: Pick<Test, 'teardown'>, { port }: { port: number }, options: object = {}): Redis {
  const client = new Redis(port, { retryStrategy: () => 10, maxRetriesPerRequest: 0, enableOfflineQueue: false, lazyConnect: true, ...options })
  client.on('error', () => {})
  t.teardown(() => client.disconnect())
  return client
}

async function connected (t: Test, server: RedisServer, options: object = {}): Promise<Redis> {
  const client = clientOf(t, server, options)
  await client.connect()
  return client
}

let names = 0
const newName = () => `{app:objects}:lock:k:${names++}`

/** What every lock does, whatever it stands on. `other` is that of another process. */
async function elects (t: Test, lock: DogpileLock, other: DogpileLock): Promise<void> {
  const [a, b, c] = [newName(), newName(), newName()]
  const held = await lock.acquire([a, b], 60_000)
  t.ok(held!.token)
  t.equal(await other.acquire([a], 60_000), undefined, 'somebody else holds it')
  t.equal(await lock.acquire([a], 60_000), undefined, 'even if that is oneself')
  t.equal(await other.acquire([c, b], 60_000), undefined, 'all of them or none')
  const free = await other.acquire([c], 60_000)
  t.ok(free, 'what was not to be had with another is still free')
  t.not(free!.token, held!.token)
  t.equal(await held!.extend(60_000), true)
  t.equal(await held!.extend(60_000.5), true)
  await held!.release()
  const next = await other.acquire([a, b], 60_000)
  t.ok(next, 'free again')
  t.equal(await held!.extend(60_000), false, 'what was released is lost')
  await held!.release()
  t.equal(await lock.acquire([a], 60_000), undefined, 'and releasing it again takes it from nobody')
  await free!.release()

  await (next as DivisibleLock).releaseSome([a])
  const some = await lock.acquire([a], 60_000)
  t.ok(some, 'some of its names are free')
  t.equal(await lock.acquire([b], 60_000), undefined, 'and the others are not')
  t.equal(await next!.extend(60_000), true)
  await next!.release()
  t.equal(await other.acquire([a], 60_000), undefined, 'it takes from nobody what it had left')
  const rest = await lock.acquire([b], 60_000)
  t.ok(rest)
  await some!.release()
  await rest!.release()
}

t.test('one server elects one holder for each name', async t => {
  await elects(t, redlock([await connected(t, server)]), redlock([await connected(t, server)]))
})

t.test('a lock ends by itself, and who held it is told when it asks', async t => {
  const client = await connected(t, server)
  const lock = redlock([client])
  const name = newName()
  const held = await lock.acquire([name], 60_000)
  t.ok(await client.pttl(name) > 50_000)
  await held!.extend(1)
  await eventually(t, async () => await client.exists(name) === 0, 'its time is over')
  t.equal(await held!.extend(60_000), false)
  t.ok(await lock.acquire([name], 60_000))
})

t.test('a lock that is renewed lasts longer', async t => {
  const client = await connected(t, server)
  const name = newName()
  const held = await redlock([client]).acquire([name], 10_000)
  t.ok(await client.pttl(name) <= 10_000)
  t.equal(await held!.extend(60_000), true)
  t.ok(await client.pttl(name) > 50_000)
})

t.test('a lock that was lost to somebody else is not extended, nor released', async t => {
  const client = await connected(t, server)
  const name = newName()
  const held = await redlock([client]).acquire([name], 60_000)
  await client.set(name, 'somebody else')
  t.equal(await held!.extend(60_000), false)
  await held!.release()
  t.equal(await client.get(name), 'somebody else')
})

t.test('locks are in the database of the client', async t => {
  const name = newName()
  const third = await connected(t, server, { db: 3 })
  const held = await redlock([third]).acquire([name], 60_000)
  t.equal(await third.exists(name), 1)
  t.equal(await (await connected(t, server)).exists(name), 0)
  await held!.release()
  t.equal(await third.exists(name), 0)
})

t.test('locks of several servers are in the database of each client', async t => {
  const servers = await Promise.all([0, 1, 2].map(async () => await startRedis(t, { args: ['--databases', '20'] })))
  const clients = await Promise.all(servers.map(async (server, i) => await connected(t, server, { db: 17 + i })))
  const held = await redlock(clients).acquire(['a'], 60_000)
  t.strictSame(await Promise.all(clients.map(client => client.exists('a'))), [1, 1, 1])
  await held!.release()
  await eventually(t, async () => (await Promise.all(clients.map(client => client.exists('a')))).every(count => count === 0), 'it is let go')
})

t.test('a cluster elects one holder for each name', async t => {
  const cluster = await startRedisCluster(t)
  const locks = [0, 1].map(() => {
    const client = new Cluster([...cluster.addresses])
    t.teardown(() => client.disconnect())
    return redlock([client])
  })
  await elects(t, locks[0]!, locks[1]!)
  t.equal(locks[0]!.connection, undefined)
})

t.test('three independent servers', async t => {
  const servers = await Promise.all([startRedis(t), startRedis(t), startRedis(t)])
  const clients = async () => await Promise.all(servers.map(async server => await connected(t, server)))
  const [mine, theirs] = [await clients(), await clients()]
  const [lock, other] = [redlock(mine), redlock(theirs)]
  t.equal(lock.connection, undefined)

  await t.test('three independent servers elect one holder for each name', async t => {
    await elects(t, lock, other)
  })

  const count = async (...names: string[]) => await Promise.all(mine.map(client => client.exists(...names).catch(() => 'away')))

  await t.test('three independent servers give of many names those that nobody else holds', async t => {
    const names = Array.from({ length: 200 }, newName)
    const theirs = await other.acquire([names[3]!, names[7]!], 60_000)
    await mine[1]!.set(names[5]!, 'somebody else')
    const some = await lock.acquireSome!(names, 60_000)
    t.strictSame(some!.names, names.filter((_, i) => i !== 3 && i !== 7), 'a quorum is enough')
    t.equal(await other.acquireSome!(names.slice(0, 6), 60_000), undefined)
    t.strictSame(await count(names[0]!), [1, 1, 1])
    t.equal(await some!.held.extend(60_000), true)
    await some!.held.release()
    await eventually(t, async () => JSON.stringify(await count(...names)) === '[2,3,2]', 'nothing of its own is left')
    await theirs!.release()
  })

  await t.test('three independent servers renew each name by itself, whichever of them have given it', async t => {
    const [one, another, lost] = [newName(), newName(), newName()]
    await mine[2]!.set(one, 'somebody else')
    await mine[0]!.set(another, 'somebody else')
    const some = await lock.acquireSome!([one, another, lost], 10_000)
    t.strictSame(some!.names, [one, another, lost])
    for (const client of [mine[0]!, mine[1]!]) await client.set(lost, 'somebody else')
    t.equal(await some!.held.extend(60_000), true)
    t.ok(await mine[1]!.pttl(one) > 50_000 && await mine[1]!.pttl(another) > 50_000)
    await eventually(t, async () => JSON.stringify(await count(lost)) === '[1,1,0]', 'what is lost is let go')
    await mine[1]!.del(one, another)
    t.equal(await some!.held.extend(60_000), false)
  })

  await t.test('three independent servers elect one of several who want the same', async t => {
    const names = Array.from({ length: 50 }, newName)
    const all = await Promise.all([lock, other, lock, other].map(async one => (await one.acquireSome!(names, 60_000))?.names ?? []))
    t.equal(new Set(all.flat()).size, all.flat().length, 'no name has two holders')
  })

  await t.test('three independent servers of which one is silent still elect', async t => {
    servers[0].pause()
    await elects(t, lock, other)
    const [free, split] = [newName(), newName()]
    await mine[1]!.set(split, 'somebody else')
    const some = await lock.acquireSome!([free, split], 60_000)
    t.strictSame(some!.names, [free], 'what the silent one would have to decide is nobody\'s')
    servers[0].resume()
    await eventually(t, async () => JSON.stringify(await count(split)) === '[0,1,0]', 'and is let go')
    await some!.held.release()
    await eventually(t, async () => JSON.stringify(await count(free)) === '[0,0,0]', 'by all')
  })

  await t.test('three independent servers that take too long give nothing', async t => {
    servers[0].pause()
    servers[1].pause()
    const name = newName()
    const late = lock.acquireSome!([name], 60_000)
    await eventually(t, async () => await mine[2]!.exists(name) === 1, 'one has given it')
    const { now } = performance
    t.intercept(performance, 'now', { value: () => now.call(performance) + 60_000 }) // the lock's time is over
    servers[0].resume()
    servers[1].resume()
    t.equal(await late, undefined)
    await eventually(t, async () => JSON.stringify(await count(name)) === '[0,0,0]', 'it is let go')
  })

  await t.test('three independent servers of which one is dead still elect', async t => {
    const before = await lock.acquire([newName()], 60_000)
    await servers[2].kill()
    await elects(t, lock, other)
    const [free, split] = [newName(), newName()]
    await mine[0]!.set(split, 'somebody else')
    const some = await lock.acquireSome!([free, split], 60_000)
    t.strictSame(some!.names, [free])
    t.equal(await mine[1]!.exists(split), 0)
    t.equal(await before!.extend(60_000), true, 'and what was held is held on')
    await before!.release()
  })

  await t.test('three independent servers of which two are dead elect nobody, and say so', async t => {
    const name = newName()
    const before = await lock.acquire([name], 60_000)
    await servers[1].kill()
    await t.rejects(lock.acquire([newName()], 60_000), /quorum/)
    const some = newName()
    await t.rejects(lock.acquireSome!([some, newName()], 60_000), { message: 'no quorum of 3 Redis servers has answered', cause: Error })
    await eventually(t, async () => await mine[0]!.exists(some) === 0, 'what one has given is let go')
    await t.rejects(before!.extend(60_000), 'nobody knows whether it was lost')
    await t.resolves(before!.release())
  })
})

t.test('a server that is away elects nobody, and says so', async t => {
  const own = await startRedis(t)
  const client = await connected(t, own)
  const lock = redlock([client])
  const held = await lock.acquire(['a'], 60_000)
  await own.kill()
  await t.rejects(lock.acquire(['b'], 60_000))
  await t.rejects(held!.extend(60_000), 'nobody knows whether it was lost')
  await t.resolves(held!.release())
})

t.test('a lock that could not be had leaves nothing behind', async t => {
  const client = await connected(t, server)
  const [taken, free] = [newName(), newName()]
  await client.set(taken, 'somebody else')
  t.equal(await redlock([client]).acquire([free, taken], 60_000), undefined)
  t.equal(await client.exists(free), 0)
})

t.test('a ttl that is none is refused', async t => {
  const client = await connected(t, server)
  const name = newName()
  const lock = redlock([client])
  for (const ttl of [NaN, 0, 0.4, -5]) {
    await t.rejects(lock.acquire([name], ttl), { code: 'FST_CACHING_API_INVALID_ARGUMENT', message: `A lock's ttl must be at least a millisecond, got ${ttl}` })
  }
  await t.rejects(lock.acquire([name], Infinity), /integer/)
  t.equal(await client.exists(name), 0)
  const held = await lock.acquire([name], 60_000)
  for (const ttl of [NaN, 0, -5, Infinity]) await t.rejects(held!.extend(ttl), Error, String(ttl))
  t.equal(await client.exists(name), 1, 'and it is held on')
})

t.test('as many names as there may be are one lock', async t => {
  const client = await connected(t, server)
  const lock = redlock([client])
  const names = Array.from({ length: 2500 }, newName)
  const held = await lock.acquire(names, 10_000) as DivisibleLock
  t.equal(await client.exists(...names), 2500)
  for (const name of [names[0]!, names[999]!, names[1000]!, names[2499]!]) t.equal(await lock.acquire([newName(), name], 60_000), undefined, name)
  t.equal(await held.extend(60_000), true)
  t.strictSame((await Promise.all(names.map(name => client.pttl(name)))).filter(left => left <= 10_000), [], 'each of them is renewed')
  await held.releaseSome(names.slice(500, 1500))
  t.equal(await client.exists(...names), 1500)
  await client.set(names[2499]!, 'somebody else')
  t.equal(await held.extend(120_000), true, 'one is lost')
  t.ok(await client.pttl(names[0]!) > 60_000, 'the others are held on')
  await held.release()
  t.equal(await held.extend(60_000), false, 'none is left')
  t.strictSame(await Promise.all([client.exists(...names), client.get(names[2499]!)]), [1, 'somebody else'])
})

t.test('a lock excludes who uses the Redlock library, and is excluded by it', async t => {
  const client = await connected(t, server)
  const [lock, library] = [redlock([client]), new Redlock([client], { retryCount: 0 })]
  const name = newName()
  const held = await lock.acquire([name], 60_000)
  await t.rejects(library.acquire([name], 60_000))
  await held!.release()
  const theirs = await library.acquire([name], 60_000)
  t.equal(await lock.acquire([name], 60_000), undefined)
  await theirs.release()
  t.ok(await lock.acquire([name], 60_000))
})

t.test('a lock whose answer was lost is let go', async t => {
  const client = await connected(t, server)
  const name = newName()
  const { eval: evaluate } = client
  t.intercept(client, 'eval', {
    value: async (...args: Parameters<typeof evaluate>) => {
      Object.assign(client, { eval: evaluate })
      t.equal(await evaluate.apply(client, args), 1)
      throw new Error('the answer was lost')
    },
    writable: true
  })
  await t.rejects(redlock([client]).acquire([name], 60_000), /the answer was lost/)
  await eventually(t, async () => await client.exists(name) === 0, 'it was let go')
})

t.test('an acquisition that the client sends again, since its connection was lost, is one', async t => {
  const client = await connected(t, server)
  const [lock, names] = [redlock([client]), Array.from({ length: 3 }, newName)]
  const { eval: evaluate } = client
  t.intercept(client, 'eval', {
    value: async (...args: Parameters<typeof evaluate>) => {
      await evaluate.apply(client, args)
      for (const name of names) await client.pexpire(name, 1000)
      return await evaluate.apply(client, args)
    },
    writable: true
  })
  const held = await lock.acquire(names, 60_000)
  for (const name of names) t.ok(await client.pttl(name) > 50_000, 'it is held as long as any')
  Object.assign(client, { eval: evaluate })
  t.equal(await held!.extend(60_000), true)
  t.equal(await lock.acquire(names, 60_000), undefined, 'another one is not')
  await held!.release()
  t.equal(await client.exists(...names), 0)
})

t.test('a lock keeps its names, whatever becomes of the list that it was given', async t => {
  const client = await connected(t, server)
  const [name, another] = [newName(), newName()]
  const names = [name]
  const held = await redlock([client]).acquire(names, 60_000)
  names[0] = another
  await held!.release()
  t.equal(await client.exists(name), 0)
})

t.test('of many names, those that nobody holds are taken in one step', async t => {
  const client = await connected(t, server)
  const [lock, names] = [redlock([client]), Array.from({ length: 2000 }, newName)]
  await client.lpush(names[3]!, 'a')
  await client.set(names[1999]!, 'somebody else')
  const some = await lock.acquireSome!(names, 60_000)
  t.strictSame(some!.names, names.filter((_, i) => i !== 3 && i !== 1999))
  t.equal(await some!.held.extend(60_000), true)
  t.equal(await lock.acquireSome!(names, 60_000), undefined)
  await some!.held.release()
  t.strictSame([await client.exists(...names), await client.get(names[1999]!)], [2, 'somebody else'])
  await t.rejects(lock.acquireSome!(names, 0), { code: 'FST_CACHING_API_INVALID_ARGUMENT' })

  const { eval: evaluate } = client
  t.intercept(client, 'eval', { value: async (...args: Parameters<typeof evaluate>) => { await evaluate.apply(client, args); await client.pexpire(names[0]!, 1000); return await evaluate.apply(client, args) }, writable: true })
  t.strictSame((await lock.acquireSome!(names.slice(0, 5), 60_000))!.names.length, 4, 'what is sent again is taken once')
  t.ok(await client.pttl(names[0]!) > 50_000)
})

t.test('a key of another type under a name is held by somebody', async t => {
  const client = await connected(t, server)
  const names = [newName(), newName()]
  await client.lpush(names[0]!, 'a')
  t.equal(await redlock([client]).acquire(names, 60_000), undefined)
  t.strictSame(await client.lrange(names[0]!, 0, -1), ['a'])
  t.equal(await client.exists(names[1]!), 0)
})

t.test('a client that gives numbers as strings elects as any', async t => {
  await elects(t, redlock([await connected(t, server, { stringNumbers: true })]), redlock([await connected(t, server)]))
})

t.test('while the client connects anew, a lock is held on', async t => {
  const client = await connected(t, server, { enableOfflineQueue: true, maxRetriesPerRequest: null })
  const [lock, name] = [redlock([client]), newName()]
  const held = await lock.acquire([name], 60_000)
  const lost = once(client, 'reconnecting')
  await (await connected(t, server)).client('KILL', 'ID', await client.client('ID'))
  await lost
  await t.rejects(lock.acquire([newName()], 60_000), /the connection is in status/, 'nobody waits for a new one')
  t.equal(await held!.extend(60_000), true)
  await held!.release()
  t.equal(await client.exists(name), 0)
})

t.test('a lock without a connection asks for nothing', async t => {
  const client = await connected(t, server, { enableOfflineQueue: true })
  const lock = redlock([client])
  const held = await lock.acquire([newName()], 60_000)
  const ended = once(client, 'end')
  client.disconnect()
  await ended
  await t.rejects(lock.acquire([newName()], 60_000), /the connection is in status/)
  await t.rejects(held!.extend(60_000), 'nobody knows whether it was lost')
  await t.resolves(held!.release())
})

t.test('a lock tells the connection that it works on, where there is one', async t => {
  const client = await connected(t, server)
  t.equal(redlock([client]).connection, client)
  t.equal(redlock([client, await connected(t, server), await connected(t, server)]).connection, undefined)
})

t.test('a lock on one server is prepared by connecting', async t => {
  const client = clientOf(t, server, { enableOfflineQueue: true })
  t.equal(client.status, 'wait')
  const lock = redlock([client])
  await lock.prepare!()
  t.equal(client.status, 'ready')
  const own = await startRedis(t)
  const recorder = await own.recordCommands()
  const held = await redlock([await connected(t, own)]).acquire(['a', 'b'], 1000)
  await held!.extend(1000)
  await held!.release()
  t.strictSame((await recorder.commands()).filter(command => command.startsWith('eval')), ['eval', 'eval', 'eval'], 'each step is one round trip')
})

t.test('a lock on several servers is prepared by connecting to a quorum', async t => {
  const servers = await Promise.all([startRedis(t), startRedis(t), startRedis(t)])
  const clients = servers.map(server => clientOf(t, server, { enableOfflineQueue: true }))
  const lock = redlock(clients)
  await servers[2]!.kill()
  await lock.prepare!()
  t.strictSame(clients.slice(0, 2).map(client => client.status), ['ready', 'ready'])
  const recorder = await servers[0]!.recordCommands()
  const held = await lock.acquireSome!(['a'], 1000)
  await held!.held.release()
  t.strictSame((await recorder.commands()).filter(command => command.startsWith('eval')), ['eval', 'eval'], 'each step is one round trip')
  await Promise.all(servers.map(server => server.kill()))
  await t.rejects(lock.prepare!(), /quorum/)
})

t.test('an election of several servers that nobody has won is held again', async t => {
  const servers = await Promise.all([startRedis(t), startRedis(t), startRedis(t)])
  const clients = await Promise.all(servers.map(async server => await connected(t, server)))
  const [lock, name] = [redlock(clients), newName()]
  const [first, second] = clients
  await second!.set(name, 'another candidate')
  await clients[2]!.set(name, 'a third one')
  const answered = gate()
  let asked = 0
  let areLeaving = true
  for (const client of clients) {
    const { eval: evaluate } = client
    t.intercept(client, 'eval', {
      value: async (...args: Parameters<typeof evaluate>) => {
        const isElection = args[0] === acquireSome
        if (isElection && client === first) asked++
        if (client !== first) await answered.opened
        const answer = await evaluate.apply(client, args)
        if (client === first) answered.open()
        else if (isElection && areLeaving) await client.del(name) // the other candidates let go, too
        return answer
      },
      writable: true
    })
  }
  const some = await lock.acquireSome!([name], 60_000)
  t.strictSame(some!.names, [name])
  await some!.held.release()

  areLeaving = false
  await Promise.all(clients.slice(1).map(async (client, i) => await client.set(name, `for ever ${i}`)))
  t.equal(await lock.acquireSome!([name], 60_000), undefined)
  await eventually(t, async () => await first!.exists(name) === 0, 'and what it has got is let go')
  await second!.del(name)
  await first!.set(name, 'who holds it')
  await second!.set(name, 'who holds it')
  await clients[2]!.set(name, 'who holds it')
  asked = 1
  t.equal(await lock.acquireSome!([name], 60_000), undefined)
  t.equal(asked, 2, 'where others hold it, there is one attempt')
})

t.test('of several servers, one that is away is sent nothing that would wait for its return', async t => {
  const servers = await Promise.all([startRedis(t), startRedis(t), startRedis(t)])
  const clients = await Promise.all(servers.map(async server => await connected(t, server, { enableOfflineQueue: true, maxRetriesPerRequest: null, retryStrategy: () => 60_000 })))
  const [lock, gone] = [redlock(clients), clients[2]!]
  const lost = once(gone, 'reconnecting')
  await servers[2]!.kill()
  await lost
  const sent: unknown[] = []
  t.intercept(gone, 'eval', { value: async (...args: unknown[]) => { sent.push(args) }, writable: true })
  for (let i = 0; i < 10; i++) {
    const some = await lock.acquireSome!([newName()], 60_000)
    t.equal(await some!.held.extend(60_000), true)
    await some!.held.release()
  }
  t.strictSame(sent, [])
  t.equal(gone.listenerCount('ready'), 0)
})

t.test('a server that stays silent is asked nothing more, except to release what it may have given', async t => {
  const servers = await Promise.all([startRedis(t), startRedis(t), startRedis(t)])
  const clients = await Promise.all(servers.map(async server => await connected(t, server)))
  const [lock, silent] = [redlock(clients), clients[2]!]
  servers[2]!.pause()
  const sent: unknown[] = []
  const { eval: evaluate } = silent
  t.intercept(silent, 'eval', { value: async (...args: Parameters<typeof evaluate>) => { sent.push(args); return await evaluate.apply(silent, args) }, writable: true })
  const before = (await lock.acquireSome!(['before'], 60_000))!.held
  t.equal(sent.length, 1)
  const { now } = performance
  t.intercept(performance, 'now', { value: () => now.call(performance) + 101 })
  const some = (await lock.acquireSome!(['after'], 60_000))!.held
  t.equal(await some.extend(60_000), true)
  await some.release()
  t.equal(sent.length, 1)
  await before.release()
  t.equal(sent.length, 2)
  servers[2]!.resume()
  await eventually(t, async () => await silent.exists('before') === 0 && await clients[0]!.exists('before') === 0, 'it is let go')
  const again = (await lock.acquireSome!(['again'], 60_000))!.held
  t.equal(sent.length, 3, 'and it is asked again')
  await again.release()
})

t.test('where no quorum would be left, silent servers are asked all the same: perhaps this process was busy', async t => {
  const servers = await Promise.all([startRedis(t), startRedis(t), startRedis(t)])
  const clients = await Promise.all(servers.map(async server => await connected(t, server)))
  const lock = redlock(clients)
  for (const server of servers) server.pause()
  const first = lock.acquireSome!(['first'], 60_000)
  const { now } = performance
  t.intercept(performance, 'now', { value: () => now.call(performance) + 101 })
  const second = lock.acquireSome!(['second'], 60_000)
  for (const server of servers) server.resume()
  t.strictSame([(await first)?.names, (await second)?.names], [['first'], ['second']])
})

t.test('a release resolves when a quorum has released: a server that was not asked does not count', async t => {
  const servers = await Promise.all([startRedis(t), startRedis(t), startRedis(t)])
  const clients = await Promise.all(servers.map(async server => await connected(t, server)))
  const [lock, slow] = [redlock(clients), clients[1]!]
  servers[2]!.pause()
  await lock.acquireSome!(['before'], 60_000)
  const { now } = performance
  t.intercept(performance, 'now', { value: () => now.call(performance) + 101 })
  const some = (await lock.acquireSome!(['some'], 60_000))!.held
  const isLate = gate()
  const { eval: evaluate } = slow
  t.intercept(slow, 'eval', { value: async (...args: Parameters<typeof evaluate>) => { await isLate.opened; return await evaluate.apply(slow, args) }, writable: true })
  let isReleased = false
  const released = some.release().then(() => { isReleased = true })
  await clients[0]!.ping() // the other one has released by now
  await new Promise(setImmediate)
  t.equal(isReleased, false)
  isLate.open()
  await released
  t.strictSame(await Promise.all(clients.slice(0, 2).map(async client => await client.exists('some'))), [0, 0])
  servers[2]!.resume()
})

t.test('a release does not wait for ever where no quorum answers', async t => {
  const servers = await Promise.all([startRedis(t), startRedis(t), startRedis(t)])
  const clients = await Promise.all(servers.map(async server => await connected(t, server)))
  const { held } = (await redlock(clients).acquireSome!(['some'], 60_000))!
  for (const server of servers) server.pause()
  await held.release()
  for (const server of servers) server.resume()
  await eventually(t, async () => (await Promise.all(clients.map(async client => await client.exists('some')))).every(some => some === 0), 'they release it when they are back')
})

t.test('a server that is silent while a lock is renewed is no reason to give it up', async t => {
  const servers = await Promise.all([startRedis(t), startRedis(t), startRedis(t)])
  const clients = await Promise.all(servers.map(async server => await connected(t, server)))
  const [lock, name] = [redlock(clients), newName()]
  const held = await lock.acquire([name], 60_000)
  await clients[0]!.del(name) // it was restarted
  servers[1]!.pause()
  t.equal(await held!.extend(60_000), true, 'one vote, and one that is not known')
  t.equal(await clients[2]!.exists(name), 1)
  servers[1]!.resume()
  await eventually(t, async () => await clients[1]!.pttl(name) > 50_000, 'it has heard')
  t.equal(await held!.extend(60_000), true)
  await clients[1]!.set(name, 'somebody else')
  t.equal(await held!.extend(60_000), false)
  await eventually(t, async () => await clients[2]!.exists(name) === 0, 'what is lost is let go')
})

t.test('several servers exclude who uses the Redlock library, and are excluded by it', async t => {
  const servers = await Promise.all([startRedis(t), startRedis(t), startRedis(t)])
  const clients = await Promise.all(servers.map(async server => await connected(t, server)))
  const [lock, library] = [redlock(clients), new Redlock(clients, { retryCount: 0 })]
  const held = await lock.acquireSome!(['a'], 60_000)
  await t.rejects(library.acquire(['a'], 60_000))
  await held!.held.release()
  await eventually(t, async () => (await Promise.all(clients.map(client => client.exists('a')))).every(count => count === 0), 'it is let go')
  const theirs = await library.acquire(['a'], 60_000)
  t.equal(await lock.acquireSome!(['a'], 60_000), undefined)
  await theirs.release()
  t.ok(await lock.acquire(['a'], 60_000))
})

t.test('clients that can not work are refused by name', async t => {
  const client = clientOf(t, server)
  const other = clientOf(t, server)
  const expected = 'redlock(clients) must be an array of one ioredis client, or of an odd number of independent ones, got'
  const cases: [clients: unknown, message: string][] = [
    [undefined, `${expected} undefined`],
    ['redis://localhost', `${expected} 'redis://localhost'`],
    [[], `${expected} an array of 0`],
    [[client, other], `${expected} an array of 2`],
    [[client, other, client], 'redlock(clients) must be an array of different clients, got the same one twice'],
    [[client, other, {}], "redlock(clients)[2] must be an ioredis client: a Redis or a Cluster (app.redis of '@fastify/redis' is one, or app.redis.name with a namespace), got an object"]
  ]
  for (const [clients, message] of cases) t.throws(() => redlock(clients as unknown[]), { code: 'FST_CACHING_API_INVALID_OPTIONS', message })
})
