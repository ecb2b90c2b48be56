import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { setImmediate as immediate } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Cluster, Redis } from 'ioredis'
import t, { type Test } from 'tap'
import { RedisLine } from '../../../lib/backends/redis-line.js'
import { deferred, eventually, gate } from '../../helpers/doubles.js'
import { recordingProxy } from '../../helpers/recording-proxy.js'
import { startRedis, startRedisCluster, startRedisSentinel, type RedisServer } from '../../helpers/servers.js'

// Most of the time of this file is that of servers that agree on something, and of patience.
t.jobs = 3

// Of the tests of both kinds; the others, which go on at the same time, have their own.
const [server, cluster] = await Promise.all([startRedis(t), startRedisCluster(t)])

const warnings: string[] = []
t.intercept(process, 'emitWarning', { value: (warning: string) => { warnings.push(warning) } })

type Kind = 'a server' | 'a cluster'
interface Options {
  keyPrefix?: string
  username?: string
  password?: string
  protocol?: 2 | 3
  enableAutoPipelining?: boolean
  enableOfflineQueue?: boolean
  reconnectOnError?: () => 2
}

const nodesOf = (kind: Kind): readonly RedisServer[] => kind === 'a server' ? [server] : cluster.nodes

/** It comes back quickly when it is lost, and says nothing about it. */
function clientOf (kind: Kind, t: Pick<Test, 'teardown'>, options: Options = {}, ports: readonly number[] = nodesOf(kind).map(({ port }) => port)): Redis | Cluster {
  const { keyPrefix = '', enableAutoPipelining = false, enableOfflineQueue = true, ...redisOptions } = options
  const client = kind === 'a server'
    ? new Redis(ports[0]!, { ...options, retryStrategy: () => 10 })
    : new Cluster(ports.map(port => ({ host: '127.0.0.1', port })), {
      keyPrefix,
      enableAutoPipelining,
      enableOfflineQueue,
      redisOptions: { ...redisOptions, keyPrefix },
      clusterRetryStrategy: () => 10,
      natMap: Object.fromEntries(cluster.nodes.map((node, i) => [`127.0.0.1:${node.port}`, { host: '127.0.0.1', port: ports[i]! }]))
    })
  client.on('error', () => {})
  t.teardown(() => client.disconnect())
  return client
}

/** As `clientOf`, by way of proxies. */
async function proxiedClientOf (kind: Kind, t: Test) {
  const proxies = await Promise.all(nodesOf(kind).map(async ({ port }) => await recordingProxy(t, port)))
  return {
    client: clientOf(kind, t, {}, proxies.map(({ port }) => port)),
    pause: (direction?: 'requests' | 'replies' | 'both') => { for (const proxy of proxies) proxy.pause(direction) },
    resume: () => { for (const proxy of proxies) proxy.resume() },
    cut: async () => { await Promise.all(proxies.map(async proxy => await proxy.cut())) },
    restore: async () => { await Promise.all(proxies.map(async proxy => await proxy.restore())) },
    calls: () => proxies.flatMap(proxy => proxy.calls),
    connections: () => proxies.reduce((sum, proxy) => sum + proxy.connections, 0)
  }
}

/** To all nodes, any of which a cluster's client may ask. */
async function connected (client: Redis | Cluster): Promise<void> {
  await client.ping()
  if (client instanceof Cluster) await Promise.all(client.nodes().map(async node => await node.ping()))
}

function lineOver (client: Redis | Cluster, t: Pick<Test, 'teardown'>, prefix?: string): RedisLine {
  const line = new RedisLine(client, prefix)
  t.teardown(async () => await line.close())
  return line
}

/** What somebody hears, and '!' where he is told that he may have missed something. */
function listener () {
  const heard: string[] = []
  return { heard, hear: (message: string) => { heard.push(message) }, interrupted: () => { heard.push('!') } }
}

/** Publishes until it is heard. */
async function hears (t: Test, line: RedisLine, channel: string, { heard }: { heard: readonly string[] }, message: string): Promise<void> {
  await eventually(t, async () => {
    await line.publish(channel, message)
    return heard.includes(message)
  }, `${message} is heard`)
}

const connectionTo = (port: number, t: Pick<Test, 'teardown'>): Redis => {
  const client = new Redis(port, { retryStrategy: () => null })
  client.on('error', () => {})
  t.teardown(() => client.disconnect())
  return client
}

t.test('a line over a master that Sentinel watches over follows it', { buffered: true }, async t => {
  const master = await startRedis(t)
  const replica = await startRedis(t, { args: ['--replicaof', '127.0.0.1', String(master.port), '--repl-diskless-sync-delay', '0'] })
  const replicating = connectionTo(replica.port, t)
  await eventually(t, async () => (await replicating.info('replication')).includes('master_link_status:up'), 'it has a replica')
  const sentinel = await startRedisSentinel(t, master)
  await eventually(t, async () => /slaves=1,/.test(await connectionTo(sentinel.port, t).info('sentinel')), 'which the sentinel knows')
  const lineKnowing = (port: number) => {
    const client = new Redis({ sentinels: [{ host: sentinel.host, port }], name: 'main', retryStrategy: () => 100, lazyConnect: true })
    client.on('error', () => {})
    t.teardown(() => client.disconnect())
    return lineOver(client, t)
  }
  const line = lineKnowing(sentinel.port)
  const { heard, hear, interrupted } = listener()
  await line.listen('news', hear, interrupted)
  await master.kill()

  const proxy = await recordingProxy(t, sentinel.port)
  proxy.pause('replies')
  const impatient = lineKnowing(proxy.port)
  const listening = t.rejects(impatient.listen('news', () => {}), { message: 'the line is closed' })
  await eventually(t, () => proxy.connections > 0, 'another one waits for a sentinel that is silent')
  await impatient.close()
  await listening
  await eventually(t, () => proxy.connections === 0, 'and leaves no connection to it')

  await eventually(t, () => heard.length === 2, 'it listens to another server')
  await hears(t, line, 'news', { heard }, 'a')
  t.strictSame(heard.slice(0, 3), ['!', '!', 'a'])
})

t.test('a line over a cluster follows the master of its slot', { buffered: true }, async t => {
  const own = await startRedisCluster(t, { replicasOfEach: 1 })
  const lineKnowing = (natMap: Record<string, { host: string, port: number }>) => {
    const client = new Cluster([...own.addresses], { natMap })
    client.on('error', () => {})
    t.teardown(() => client.disconnect())
    return lineOver(client, t)
  }
  const all = await Promise.all([...own.nodes, ...own.replicas].map(async server => {
    const connection = connectionTo(server.port, t)
    return { ...server, connection, replication: await connection.info('replication') }
  }))
  const listenedTo = async () => {
    const numbers = await Promise.all(all.map(async ({ connection }) => Number((await connection.call('PUBSUB', 'SHARDNUMSUB', '{line@0:}news') as unknown[])[1])))
    return all.filter((_, i) => numbers[i]! > 0)
  }

  const theirs = lineKnowing({})
  const stop = await theirs.listen('news', () => {})
  const [master] = await listenedTo() as [typeof all[0]]
  const replica = all.find(({ replication }) => replication.includes(`master_port:${master.port}`))!
  stop()
  await eventually(t, async () => (await listenedTo()).length === 0, 'nobody listens')
  const natMap: Parameters<typeof lineKnowing>[0] = { [`127.0.0.1:${master.port}`]: { host: '127.0.0.1', port: replica.port } }
  const mine = lineKnowing(natMap)
  const { heard, hear, interrupted } = listener()
  let isListening = false
  const listening = mine.listen('news', hear, interrupted).then(() => { isListening = true })
  await eventually(t, async () => /cmdstat_exists:.*rejected_calls=(?:[2-9]|\d\d)/.test(await replica.connection.info('commandstats')), 'it has taken a replica for the master, and asked')
  t.notOk(isListening, 'that is no place to listen to')
  delete natMap[`127.0.0.1:${master.port}`]
  await listening
  t.strictSame((await listenedTo()).map(({ port }) => port), [master.port])

  await replica.connection.cluster('FAILOVER')
  await eventually(t, () => heard.length === 2, 'it listens to the former replica')
  t.strictSame((await listenedTo()).map(({ port }) => port), [replica.port])
  await theirs.listen('news', () => {})
  t.strictSame((await listenedTo()).map(({ port }) => port), [replica.port], 'so does a line that had nothing to listen to meanwhile')
  await theirs.publish('news', 'a')
  await eventually(t, () => heard.length === 3, 'and hears')

  await replica.kill()
  replica.connection.disconnect()
  await eventually(t, () => heard.length === 5, 'it listens to the former master')
  await hears(t, theirs, 'news', { heard }, 'b')
  t.strictSame(heard.slice(0, 6), ['!', '!', 'a', '!', '!', 'b'])
})

for (const kind of ['a server', 'a cluster'] as const) {
  const onNodes = async (ask: (node: Redis) => Promise<any>) => await Promise.all(nodesOf(kind).map(async ({ port }) => {
    const node = new Redis(port)
    try {
      return await ask(node)
    } finally {
      node.disconnect()
    }
  }))
  const loseSubscribers = async () => await onNodes(async node => await node.client('KILL', 'TYPE', 'PUBSUB'))
  /** How many connections there are that listen to something. */
  const subscribers = async () => (await onNodes(async node => await node.client('LIST', 'TYPE', 'PUBSUB'))).join('').split('\n').filter(Boolean).length

  t.test(`a line over ${kind}`, { buffered: true }, async t => {
    /** A line, and the one of another process. */
    const lines = (t: Test) => [lineOver(clientOf(kind, t), t), lineOver(clientOf(kind, t), t)] as const

    t.test('a line carries every message to every listener of its channel', async t => {
      const [mine, theirs] = lines(t)
      const heard: Record<string, string[]> = { first: [], second: [], mine: [], other: [] }
      await theirs.listen('news', message => heard['first']!.push(message))
      await theirs.listen('news', message => heard['second']!.push(message))
      await theirs.listen('other news', message => heard['other']!.push(message))
      await mine.listen('news', message => heard['mine']!.push(message))
      const sent = Array.from({ length: 10 }, (_, i) => String(i))
      for (const message of sent) await mine.publish('news', message)
      await eventually(t, () => heard['mine']!.length === 10 && heard['second']!.length === 10, 'both processes hear them')
      t.strictSame(heard, { first: sent, second: sent, mine: sent, other: [] })
    })

    t.test('a line has one order for all who listen, whatever the channel and whoever publishes', async t => {
      const publishers = lines(t)
      const orders = await Promise.all(lines(t).map(async line => {
        const order: string[] = []
        for (const channel of ['north', 'south', 'west']) await line.listen(channel, message => order.push(`${channel} ${message}`))
        return order
      })) as [string[], string[]]
      const sent = publishers.map((_, who) => Array.from({ length: 300 }, (_, i) => ({ channel: ['north', 'south', 'west'][i % 3]!, message: `${who}:${i}` })))
      // All at once: what one publishes is under way together with what the other one does.
      await Promise.all(publishers.flatMap((line, who) => sent[who]!.map(async ({ channel, message }) => await line.publish(channel, message))))
      await eventually(t, () => orders.every(({ length }) => length === 600), 'all is heard')
      t.strictSame(orders[0], orders[1])
      for (const [who, all] of sent.entries()) {
        t.strictSame(orders[0].filter(one => one.includes(` ${who}:`)), all.map(({ channel, message }) => `${channel} ${message}`), 'in which each has published')
      }
    })

    t.test('a line is not heard by who has stopped listening, and the server is told when nobody is left', async t => {
      const [mine, theirs] = lines(t)
      const channel = `stopping-${kind}`
      const heard: string[] = []
      const stopFirst = await theirs.listen(channel, message => heard.push(`first ${message}`))
      const stopSecond = await theirs.listen(channel, message => heard.push(`second ${message}`))
      await mine.publish(channel, 'a')
      await eventually(t, () => heard.length === 2, 'both hear the first')
      stopFirst()
      stopFirst()
      await mine.publish(channel, 'b')
      await eventually(t, () => heard.length === 3, 'one hears the second')
      stopSecond()
      const subscribers = async () => (await onNodes(node => node.call('PUBSUB', kind === 'a cluster' ? 'SHARDNUMSUB' : 'NUMSUB', `{line@0:}${channel}`))).reduce((all, [, count]) => all + Number(count), 0)
      await eventually(t, async () => await subscribers() === 0, 'it is unsubscribed')
      const again = deferred<string>()
      await theirs.listen(channel, again.resolve)
      await mine.publish(channel, 'c')
      t.equal(await again.promise, 'c', 'and may be listened to again')
      stopSecond()
      t.strictSame(heard, ['first a', 'second a', 'second b'])
      t.equal(await subscribers(), 1, 'whoever stopped before stops nobody else')

      await theirs.listen(channel, () => { stopThird() })
      const stopThird = await theirs.listen(channel, message => heard.push(`third ${message}`))
      const last = deferred<string>()
      await theirs.listen(channel, last.resolve)
      await mine.publish(channel, 'd')
      t.equal(await last.promise, 'd')
      t.equal(heard.length, 3, 'not even while the others are told')
    })

    t.test('a line brings a message that was under way when its listener stopped to nobody', async t => {
      const { client, pause, resume } = await proxiedClientOf(kind, t)
      const line = lineOver(client, t)
      const publisher = lineOver(clientOf(kind, t), t)
      const { heard, hear } = listener()
      const stop = await line.listen('under way', hear)
      const after = deferred<string>()
      await line.listen('after', after.resolve)
      pause('replies')
      await publisher.publish('under way', 'late')
      await publisher.publish('after', 'later')
      stop()
      resume()
      t.equal(await after.promise, 'later')
      t.strictSame(heard, [])
    })

    t.test('a line takes the same function for as many listeners as it is given for', async t => {
      const [mine] = lines(t)
      const { heard, hear, interrupted } = listener()
      const stop = await mine.listen('twice', hear, interrupted)
      await mine.listen('twice', hear, interrupted)
      await mine.listen('elsewhere', hear, interrupted)
      stop()
      await mine.publish('twice', 'a')
      await eventually(t, () => heard.length > 0, 'the other one hears')
      await mine.publish('elsewhere', 'b')
      await eventually(t, () => heard.includes('b'), 'and elsewhere')
      t.strictSame(heard, ['a', 'b'])
      mine.reconnect()
      t.strictSame(heard, ['a', 'b', '!', '!'])
    })

    t.test('a line is heard again after its connection was lost; whoever listens is told of the loss, and of its end', async t => {
      const [mine, theirs] = lines(t)
      const [first, second, third] = [listener(), listener(), listener()]
      await theirs.listen('lost', first.hear, first.interrupted)
      await theirs.listen('also lost', second.hear, second.interrupted)
      const stop = await theirs.listen('lost', third.hear, third.interrupted)
      stop()
      for (let times = 1; times <= 3; times++) {
        await loseSubscribers()
        await eventually(t, () => [first, second].every(({ heard }) => heard.length === 3 * times - 1), 'they are told twice')
        await mine.publish('lost', 'a')
        await mine.publish('also lost', 'a')
        await eventually(t, () => [first, second].every(({ heard }) => heard.length === 3 * times), 'and hear')
      }
      const expected = ['!', '!', 'a', '!', '!', 'a', '!', '!', 'a']
      t.strictSame([first.heard, second.heard, third.heard], [expected, expected, []])
    })

    t.test('a line makes no more than one connection, and brings nothing twice, however often it is asked for another one', async t => {
      const [mine, theirs] = lines(t)
      const { heard, hear, interrupted } = listener()
      theirs.reconnect()
      const listening = theirs.listen('again', hear, interrupted)
      for (let i = 0; i < 10; i++) {
        theirs.reconnect()
        theirs.reconnect()
        await Promise.all([mine.publish('again', 'lost'), listening])
      }
      await eventually(t, async () => await subscribers() === 1, 'there is one')
      await hears(t, mine, 'again', { heard }, 'first')
      heard.length = 0
      await mine.publish('again', 'last')
      await eventually(t, () => heard.includes('last'), 'it is heard')
      t.equal(heard.filter(message => message === 'last').length, 1)
    })

    t.test('a line replaces a silent connection, and what that brings later is nobody’s', async t => {
      const { client, pause, resume } = await proxiedClientOf(kind, t)
      const line = lineOver(client, t)
      const publisher = lineOver(clientOf(kind, t), t)
      const { heard, hear, interrupted } = listener()
      await line.listen('silence', hear, interrupted)
      pause()
      await publisher.publish('silence', 'late')
      line.reconnect()
      t.strictSame(heard, ['!'])
      resume()
      await eventually(t, () => heard.length === 2, 'it is back')
      await publisher.publish('silence', 'new')
      await eventually(t, () => heard.includes('new'), 'it hears')
      t.strictSame(heard, ['!', '!', 'new'])
    })

    t.test('a line gives up a server that says nothing, and tries again', async t => {
      const { client, pause, resume, calls } = await proxiedClientOf(kind, t)
      const [line, another] = [lineOver(client, t), lineOver(client, t)]
      const [first, second, third] = [listener(), listener(), listener()]
      await line.listen('first', first.hear, first.interrupted)
      await connected(client)
      pause('replies')
      /** What it asks first, each time. */
      const asked = () => calls().filter(([name, what]) => kind === 'a server' ? name === 'hello' : what === 'KEYSLOT').length
      const before = asked()
      const subscribing = line.listen('second', second.hear, second.interrupted)
      const connecting = another.listen('third', third.hear, third.interrupted)
      await eventually(t, () => first.heard.length === 1, 'the connection that does not subscribe is lost')
      await eventually(t, () => asked() - before === (kind === 'a server' ? 3 : 2), 'and so is the one that is never made')
      t.strictSame([first.heard, second.heard, third.heard], [['!'], [], []])
      resume()
      await Promise.all([subscribing, connecting])
      await hears(t, line, 'first', first, 'a')
      await hears(t, line, 'second', second, 'b')
      await hears(t, line, 'third', third, 'c')
    })

    t.test('a line waits for a server that is away', async t => {
      const { client, cut, restore } = await proxiedClientOf(kind, t)
      await cut()
      const line = lineOver(client, t)
      const [first, second, third] = [listener(), listener(), listener()]
      const listening = [line.listen('first', first.hear, first.interrupted), line.listen('second', second.hear, second.interrupted)] as const
      await eventually(t, () => client.status === 'reconnecting', 'the client is without a connection, too')
      await t.rejects(line.publish('first', 'lost'), { message: "the connection is in status 'reconnecting'" })
      await restore()
      await Promise.all(listening)
      await hears(t, line, 'first', first, 'a')
      t.notOk(first.heard.includes('!'), 'nothing was missed: nobody was listening yet')

      await cut()
      await eventually(t, () => second.heard.includes('!'), 'it is lost again')
      ;(await listening[1])()
      const again = line.listen('second', third.hear, third.interrupted)
      let isListening = false
      const joined = line.listen('first', third.hear, third.interrupted).then(() => { isListening = true })
      await immediate()
      t.notOk(isListening, 'though somebody has heard that channel before')
      await restore()
      await Promise.all([again, joined])
      await hears(t, line, 'second', third, 'b')
      await hears(t, line, 'first', third, 'c')
      t.notOk(second.heard.includes('b'))
    })

    t.test('a line is the same to all with the same prefix, and to nobody else', async t => {
      const all = listener()
      const outside = lineOver(clientOf(kind, t), t)
      await outside.listen('news', message => { all.hear(`outside ${message}`) })
      for (const keyPrefix of ['app:', '{app}:', 'a}p{p:', '}', '{']) {
        const client = clientOf(kind, t, { keyPrefix })
        const [line, other, ours] = [lineOver(client, t), lineOver(clientOf(kind, t, { keyPrefix }), t), lineOver(client, t, 'ours:')]
        await other.listen('news', message => { all.hear(`${keyPrefix} ${message}`) })
        await ours.listen('news', message => { all.hear(`ours ${message}`) })
        await line.publish('news', 'a')
        await ours.publish('news', 'b')
        await eventually(t, () => all.heard.length === 2, 'both are heard')
        t.strictSame(new Set(all.heard.splice(0)), new Set([`${keyPrefix} a`, 'ours b']))
      }
      await outside.publish('news', 'c')
      await eventually(t, () => all.heard.length === 1, 'it is heard')
      t.strictSame(all.heard, ['outside c'])
    })

    for (const [what, options] of Object.entries<Options>({
      'speaks the older protocol': { protocol: 2 },
      'puts commands into pipelines': { enableAutoPipelining: true },
      'keeps no commands for later': { enableOfflineQueue: false }
    })) {
      t.test(`a line works over a client that ${what}`, async t => {
        const client = clientOf(kind, t, options)
        const line = lineOver(client, t)
        const [first, second] = [listener(), listener()]
        const stop = await line.listen('first', first.hear, first.interrupted)
        await line.listen('second', second.hear, second.interrupted)
        stop()
        await line.listen('first', first.hear, first.interrupted)
        await eventually(t, () => client.status === 'ready', 'the client is connected')
        await connected(client)
        await Promise.all(Array.from({ length: 10 }, async (_, i) => await line.publish('first', String(i))))
        await eventually(t, () => first.heard.length === 10, 'all are heard')
        t.strictSame(first.heard, Array.from({ length: 10 }, (_, i) => String(i)))
        await loseSubscribers()
        await eventually(t, () => second.heard.length === 2, 'it is back')
        await line.publish('second', 'a')
        await eventually(t, () => second.heard.length === 3, 'it hears')
        t.strictSame(second.heard, ['!', '!', 'a'])
      })
    }

    t.test('a line is heard by the others when one listener throws, and comes back when one that is told of a loss does', async t => {
      const [mine, theirs] = lines(t)
      const { heard, hear, interrupted } = listener()
      const bad = () => { throw new Error(`it has a bug over ${kind}`) }
      await theirs.listen('throwing', bad, bad)
      await theirs.listen('throwing', hear, interrupted)
      await mine.publish('throwing', 'a')
      await mine.publish('throwing', 'b')
      await eventually(t, () => heard.length === 2, 'the other one hears')
      const told = warnings.filter(warning => warning.includes(`Error: it has a bug over ${kind}\n`))
      t.match(told, [/^a listener of the line threw /, /^a listener of the line threw /])
      await loseSubscribers()
      await eventually(t, () => heard.length === 4, 'it is back')
      await mine.publish('throwing', 'c')
      await eventually(t, () => heard.length === 5, 'and hears')
      t.strictSame(heard, ['a', 'b', '!', '!', 'c'])
    })

    t.test('a line may be listened to, left and reconnected by its listeners', async t => {
      const [mine, theirs] = lines(t)
      const { heard, hear } = listener()
      const stops: (() => void)[] = []
      const listening: Promise<() => void>[] = []
      /** Each time it is told of a loss it leaves, and somebody else comes. */
      const interrupted = () => {
        stops.pop()!()
        listening.push(theirs.listen('changing', hear, interrupted))
      }
      stops.push(await theirs.listen('changing', hear, interrupted))
      stops.push(await theirs.listen('changing', hear))
      stops.reverse()
      await theirs.listen('changing', message => { if (message === 'go') theirs.reconnect() })
      await mine.publish('changing', 'go')
      await eventually(t, () => listening.length > 0, 'it is lost')
      await Promise.all(listening)
      await hears(t, mine, 'changing', { heard }, 'a')
      t.equal(heard.filter(message => message === 'go').length, 2)
    })

    t.test('a line says what the server refuses', async t => {
      const username = `deaf-${kind.slice(2)}`
      const permit = async (...rules: string[]) => await onNodes(async node => await node.acl('SETUSER', username, ...rules))
      await permit('on', '>secret', '&*', '+@all', '-subscribe', '-ssubscribe')
      const line = lineOver(clientOf(kind, t, { username, password: 'secret', reconnectOnError: () => 2 }), t)
      await t.rejects(line.listen('news', () => {}), /NOPERM/)
      await t.rejects(Promise.all([line.listen('news', () => {}), line.listen('news', () => {})]), /NOPERM/, 'each time')
      await permit('resetchannels', '&*}news', '+subscribe', '+ssubscribe')
      const { heard, hear, interrupted } = listener()
      await line.listen('news', hear, interrupted)
      await t.rejects(line.listen('other news', () => {}), /NOPERM/)
      await permit('&*')
      await line.publish('news', 'a')
      await eventually(t, () => heard.length > 0, 'it hears what it may')
      t.strictSame(heard, ['a'])
    })

    t.test('a line does not give up for who has heard already, when the server refuses it later', async t => {
      const username = `deafened-${kind.slice(2)}`
      const permit = async (...rules: string[]) => await onNodes(async node => await node.acl('SETUSER', username, ...rules))
      await permit('on', '>secret', '~*', '&*', '+@all')
      const line = lineOver(clientOf(kind, t, { username, password: 'secret' }), t)
      const [first, second] = [listener(), listener()]
      await line.listen('news', first.hear, first.interrupted)
      await permit('-subscribe', '-ssubscribe')
      await onNodes(async node => await node.acl('LOG', 'RESET'))
      await loseSubscribers()
      await eventually(t, async () => (await onNodes(async node => await node.acl('LOG'))).flat().length > 0, 'it is refused')
      const joining = line.listen('news', second.hear, second.interrupted)
      await permit('+subscribe', '+ssubscribe')
      await joining
      await hears(t, line, 'news', first, 'a')
      await hears(t, line, 'news', second, 'b')
      t.strictSame(first.heard.slice(0, 3), ['!', '!', 'a'])
    })

    t.test('a line does not publish over a client that is closed', async t => {
      const client = clientOf(kind, t)
      const line = lineOver(client, t)
      await client.ping()
      client.disconnect()
      await eventually(t, () => ['close', 'end'].includes(client.status), 'it ends')
      await t.rejects(line.publish('news', 'a'), { message: /^the connection is in status '(?:close|end)'$/ })
    })

    t.test('a line is closed without closing the client that it was made of', async t => {
      const client = clientOf(kind, t)
      const line = lineOver(client, t)
      const { heard, hear, interrupted } = listener()
      const stop = await line.listen('closing', hear, interrupted)
      const before = await subscribers()
      await line.close()
      await line.close()
      await eventually(t, async () => await subscribers() === before - 1, 'its connection is closed')
      await t.rejects(line.listen('closing', () => {}), { message: 'the line is closed' })
      stop()
      line.reconnect()
      t.equal(await client.ping(), 'PONG')
      t.strictSame(heard, [], 'that is no interruption')
      const unused = lineOver(client, t)
      await unused.close()
    })

    t.test('a line is closed while it connects', async t => {
      const { client, pause, resume, connections } = await proxiedClientOf(kind, t)
      await connected(client)
      const [atOnce, connecting, known] = [lineOver(client, t), lineOver(client, t), lineOver(client, t)]
      const closed = { message: 'the line is closed' }
      const listening = t.rejects(atOnce.listen('news', () => {}), closed)
      await atOnce.close()
      await listening

      await known.listen('news', () => {})
      const before = connections()
      pause()
      known.reconnect()
      const alsoListening = [t.rejects(connecting.listen('news', () => {}), closed), t.rejects(known.listen('other', () => {}), closed)]
      await eventually(t, () => connections() > before, 'one is being made')
      await Promise.all([connecting.close(), known.close()])
      await Promise.all(alsoListening)
      resume()
      await eventually(t, () => connections() < before, 'none is left')
    })

    t.test('a line leaves nothing behind that keeps a process alive', async t => {
      const script = `
        import { Cluster, Redis } from 'ioredis'
        import { RedisLine } from './lib/backends/redis-line.ts'
        const ports = JSON.parse(process.env.PORTS)
        const client = ports.length === 1 ? new Redis(ports[0]) : new Cluster(ports.map(port => ({ host: '127.0.0.1', port })))
        const lines = Array.from({ length: 3 }, () => new RedisLine(client))
        await Promise.all(lines.map(line => line.listen('news', () => {})))
        lines[1].reconnect()
        lines[2].reconnect()
        await lines[2].listen('other', () => {})
        for (const line of lines) await line.close()
        client.disconnect()
        process.on('exit', () => console.log('done'))
      `
      const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script], {
        cwd: fileURLToPath(new URL('../../..', import.meta.url)),
        env: { ...process.env, PORTS: JSON.stringify(nodesOf(kind).map(({ port }) => port)), _TAPJS_PROCESSINFO_COVERAGE_: '0' },
        stdio: ['ignore', 'pipe', 'inherit']
      })
      t.teardown(() => child.kill('SIGKILL'))
      let output = ''
      child.stdout.setEncoding('utf8').on('data', (text: string) => { output += text })
      const [code] = await once(child, 'close')
      t.strictSame([code, output], [0, 'done\n'])
    })
  })
}

t.test('a line is lost at any moment without harm', { buffered: true }, async t => {
  const own = await startRedis(t)
  /** Does something to the first connection that is made to listen. */
  function lineWhose (t: Test, moment: (connection: Redis, line: RedisLine) => void): RedisLine {
    const client = clientOf('a server', t, {}, [own.port]) as Redis
    const line = lineOver(client, t)
    const { duplicate } = client
    client.duplicate = override => {
      client.duplicate = duplicate
      const connection = client.duplicate(override)
      moment(connection, line)
      return connection
    }
    return line
  }
  /** After the reply, and before anybody has read it. */
  const afterReply = (connection: Redis, what: () => void) => {
    const subscribe = connection.subscribe.bind(connection) as (channel: string) => Promise<unknown>
    connection.subscribe = (async (channel: string) => {
      const answer = await subscribe(channel)
      what()
      return answer
    }) as Redis['subscribe']
  }
  const moments: Record<string, (connection: Redis, line: RedisLine) => void> = {
    'when it is made': (_, line) => { process.nextTick(() => line.reconnect()) },
    'when it has just connected': (connection, line) => { connection.once('ready', () => line.reconnect()) },
    'when it has just subscribed': (connection, line) => { afterReply(connection, () => line.reconnect()) }
  }
  for (const [when, lose] of Object.entries(moments)) {
    t.test(`a line is lost without harm ${when}`, async t => {
      let lost = false
      const line = lineWhose(t, (connection, line) => {
        connection.once('end', () => { lost = true })
        lose(connection, line)
      })
      const { heard, hear, interrupted } = listener()
      await line.listen('news', hear, interrupted)
      t.ok(lost)
      t.strictSame(heard, [], 'nobody was listening yet')
      await hears(t, line, 'news', { heard }, 'a')
    })
  }

  t.test('a line is lost without harm when somebody has just stopped', async t => {
    const line = lineOver(clientOf('a server', t, {}, [own.port]), t)
    const { heard, hear, interrupted } = listener()
    const stop = await line.listen('news', hear, interrupted)
    stop()
    line.reconnect()
    const stopAgain = await line.listen('news', hear, interrupted)
    line.reconnect()
    stopAgain()
    t.strictSame(heard, ['!'])
    await line.listen('news', hear)
    await hears(t, line, 'news', { heard }, 'a')
  })

  t.test('a line is lost without harm when it is closed', async t => {
    for (const close of [
      (connection: Redis, line: RedisLine) => { connection.once('ready', () => { void line.close() }) },
      (connection: Redis, line: RedisLine) => { afterReply(connection, () => { void line.close() }) }
    ]) {
      const ended = deferred()
      const line = lineWhose(t, (connection, line) => {
        connection.once('end', ended.resolve)
        close(connection, line)
      })
      await t.rejects(line.listen('news', () => {}, () => { t.fail('nobody listens') }), { message: 'the line is closed' })
      await ended.promise
    }
  })
})

t.test('a line that is closed between two attempts makes no other', { buffered: true }, async t => {
  const own = await startRedis(t)
  const [closed, open] = await Promise.all([0, 1].map(async () => {
    const client = connectionTo(own.port, t)
    await client.ping()
    const { duplicate } = client
    const attempts: Redis[] = []
    client.duplicate = override => {
      const connection = duplicate.call(client, override)
      attempts.push(connection)
      return connection
    }
    return { line: lineOver(client, t), attempts }
  })) as [{ line: RedisLine, attempts: Redis[] }, { line: RedisLine, attempts: Redis[] }]
  await own.kill()
  const rejected = t.rejects(closed.line.listen('news', () => {}), { message: 'the line is closed' })
  await new Promise<void>(resolve => closed.attempts[0]!.once('end', resolve))
  await immediate()
  await closed.line.close()
  await rejected
  // Its turn would come before that of another one.
  const listening = open.line.listen('news', () => {})
  await eventually(t, () => open.attempts.length > 2, 'another line tries on')
  t.equal(closed.attempts.length, 1)
  await own.start()
  await listening
})

t.test('a line tries again soon, and later and later while that fails', { buffered: true }, async t => {
  const own = await startRedis(t)
  const client = clientOf('a server', t, {}, [own.port]) as Redis
  const line = lineOver(client, t)
  /** How long it means to wait then. */
  function pauseAfter (lose: () => void): number {
    const { setTimeout } = globalThis
    const pauses: number[] = []
    globalThis.setTimeout = ((callback: () => void, ms: number) => {
      pauses.push(ms)
      return setTimeout(callback, ms)
    }) as typeof setTimeout
    lose()
    globalThis.setTimeout = setTimeout
    return Math.min(...pauses)
  }
  const pauses: number[] = []
  const { duplicate } = client
  client.duplicate = override => {
    if (pauses.length < 7) setImmediate(() => pauses.push(pauseAfter(() => line.reconnect())))
    return duplicate.call(client, override)
  }
  await line.listen('news', () => {})
  t.strictSame(pauses, [20, 40, 80, 160, 320, 500, 500])
  await line.listen('other news', () => {})
  t.equal(pauseAfter(() => line.reconnect()), 20)
})

t.test('a server that is busy is asked again', { buffered: true }, async t => {
  const own = await startRedis(t, { args: ['--busy-reply-threshold', '1'] })
  const [client, admin] = [clientOf('a server', t, {}, [own.port]), connectionTo(own.port, t)]
  const line = lineOver(client, t)
  const { heard, hear, interrupted } = listener()
  await line.listen('first', hear, interrupted)
  const script = t.rejects(connectionTo(own.port, t).eval('while true do end', 0), /killed/)
  await eventually(t, async () => await admin.ping().then(() => false, ({ message }: Error) => message.startsWith('BUSY')), 'it is busy')
  const listening = line.listen('second', hear)
  await eventually(t, () => heard.length === 1, 'the connection is given up')
  await admin.script('KILL')
  await script
  await listening
  await hears(t, line, 'second', { heard }, 'a')
  t.strictSame(heard.slice(0, 3), ['!', '!', 'a'])
})

t.test('the slot of a line', { buffered: true }, async t => {
  const own = await startRedisCluster(t)
  const clientOfOwn = (t: Test, options?: Options) => clientOf('a cluster', t, options, own.nodes.map(({ port }) => port)) as Cluster
  const inspector = clientOfOwn(t)
  const nodes = await Promise.all(own.nodes.map(async ({ port }) => {
    const connection = connectionTo(port, t)
    return { connection, port, id: await connection.cluster('MYID') as string }
  }))
  const slotOfLine = await inspector.cluster('KEYSLOT', '{line@0:}')
  /** To the next node, by what an operator does; resolves when all nodes know it. */
  async function move (prefix: string): Promise<void> {
    const slot = await inspector.cluster('KEYSLOT', `{line@0:${prefix}}`)
    const slots = await nodes[0]!.connection.cluster('SLOTS')
    const master = slots.find(([first, last]) => first <= slot && slot <= last)![2]!
    const at = nodes.findIndex(({ port }) => port === master[1])
    const [from, to, other] = [0, 1, 2].map(i => nodes[(at + i) % 3]!)
    await to!.connection.cluster('SETSLOT', slot, 'IMPORTING', from!.id)
    await from!.connection.cluster('SETSLOT', slot, 'MIGRATING', to!.id)
    for (const { connection } of [to!, from!, other!]) await connection.cluster('SETSLOT', slot, 'NODE', to!.id)
  }

  for (const protocol of [3, 2] as const) {
    t.test(`the slot of a line moves to another master while somebody listens, over protocol ${protocol}`, async t => {
      const prefix = `moving:${protocol}`
      const [mine, theirs] = [0, 1].map(() => lineOver(clientOfOwn(t, { protocol }), t, prefix)) as [RedisLine, RedisLine]
      const [first, second] = [listener(), listener()]
      await mine.listen('first', first.hear, first.interrupted)
      await mine.listen('second', second.hear, second.interrupted)
      for (let times = 1; times <= 3; times++) {
        await move(prefix)
        await eventually(t, () => first.heard.length === 3 * times - 1 && second.heard.length === 3 * times - 1, 'they are told')
        await theirs.publish('first', 'a')
        await theirs.publish('second', 'b')
        await eventually(t, () => first.heard.length === 3 * times && second.heard.length === 3 * times, 'and hear')
      }
      t.strictSame(first.heard, ['!', '!', 'a', '!', '!', 'a', '!', '!', 'a'])
      t.strictSame(second.heard, ['!', '!', 'b', '!', '!', 'b', '!', '!', 'b'])
    })
  }

  t.test('the slot of a line has moved before somebody listens', async t => {
    const client = clientOfOwn(t)
    await client.ping()
    await move('moved')
    const line = lineOver(client, t, 'moved')
    const { heard, hear, interrupted } = listener()
    await line.listen('news', hear, interrupted)
    await line.publish('news', 'a')
    await eventually(t, () => heard.length > 0, 'it hears')
    t.strictSame(heard, ['a'])
  })

  t.test('the slot of a line is at a node that the client does not know', async t => {
    const client = clientOfOwn(t)
    await client.ping()
    client.slots.fill(['127.0.0.1:1'])
    const line = lineOver(client, t)
    const { heard, hear } = listener()
    await line.listen('news', hear)
    await hears(t, line, 'news', { heard }, 'a')
  })

  t.test('the slot of a line is known as soon as the client has connected', async t => {
    for (const begin of [
      async (client: Cluster) => await once(client, '+node'),
      async (client: Cluster) => await once(client, 'ready'),
      async () => {}
    ]) {
      const client = clientOfOwn(t)
      await begin(client)
      await lineOver(client, t).listen('news', () => {})
    }
    const lazy = new Cluster([...own.addresses], { lazyConnect: true })
    t.teardown(() => lazy.disconnect())
    await lineOver(lazy, t).listen('news', () => {})
  })

  t.test('the slot of a line is asked for until it may be', async t => {
    const permit = async (...rules: string[]) => { for (const { connection } of nodes) await connection.acl('SETUSER', 'ignorant', ...rules) }
    await permit('on', '>secret', '~*', '&*', '+@all', '-cluster|keyslot')
    const line = lineOver(clientOfOwn(t, { username: 'ignorant', password: 'secret' }), t)
    await t.rejects(Promise.all([line.listen('news', () => {}), line.listen('other', () => {})]), /NOPERM/)
    await t.rejects(line.listen('news', () => {}), /NOPERM/, 'each time')
    await permit('+cluster|keyslot')
    await line.listen('news', () => {})
  })

  t.test('the slot of a line is not asked for any more when the line is closed', async t => {
    const client = clientOfOwn(t)
    const answer = gate()
    const asked: string[] = []
    await client.ping()
    client.cluster = (async (subcommand: string, key: string) => {
      t.equal(subcommand, 'KEYSLOT')
      asked.push(key)
      await answer.opened
      throw new Error('the connection is lost')
    }) as unknown as Cluster['cluster']
    const [closed, open] = [lineOver(client, t, 'closed'), lineOver(client, t, 'open')]
    const rejected = [closed, open].map(async line => await t.rejects(line.listen('news', () => {}), { message: 'the line is closed' }))
    await closed.close()
    answer.open()
    await eventually(t, () => asked.length > 4, 'another line asks again')
    await open.close()
    await Promise.all(rejected)
    t.equal(asked.filter(key => key === '{line@0:closed}').length, 1)
  })

  t.test('the slot of a line is heard while others are lost, and with them all keys', async t => {
    const [mine, theirs] = [lineOver(clientOfOwn(t), t), lineOver(clientOfOwn(t), t)]
    const { heard, hear } = listener()
    await mine.listen('news', hear)
    const master = (await inspector.cluster('SLOTS')).find(([first, last]) => first <= slotOfLine && slotOfLine <= last)![2]![1]
    const lost = own.nodes.find(({ port }) => port !== master)!
    await lost.kill()
    const { connection } = nodes.find(({ port }) => port === master)!
    await eventually(t, async () => (await connection.cluster('INFO')).includes('cluster_state:fail'), 'the cluster is down')
    mine.reconnect()
    await theirs.listen('news', hear)
    await hears(t, theirs, 'news', { heard }, 'a')
  })
})

t.test('a line that is not open can not say that everything was heard; one that listens can, and again not when it is closed', async t => {
  const line = new RedisLine(clientOf('a server', t))
  const notOpen = { message: 'the line is not open' }
  await t.rejects(line.catchUp(), notOpen, 'nobody listens')
  const heard: string[] = []
  await line.listen('caught up', message => { heard.push(message) })
  await line.publish('caught up', 'published before')
  await line.catchUp()
  t.strictSame(heard, ['published before'])
  await line.close()
  await t.rejects(line.catchUp(), notOpen)
})
