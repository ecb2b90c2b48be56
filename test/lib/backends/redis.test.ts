import { isDeepStrictEqual } from 'node:util'
import { Cluster, Redis } from 'ioredis'
import t, { type Test } from 'tap'
import { encodeEntry, identityLength, isMark, newMark } from '../../../lib/entry-format.js'
import { Keyspace } from '../../../lib/keys.js'
import type { Line } from '../../../lib/line.js'
import { msgpackSerializer } from '../../../lib/serializer.js'
import { formatStamp, newStamp, parseStamp } from '../../../lib/stamp.js'
import { isLeasing, isLocal, type LeaseRequest, type LeasingBackend } from '../../../lib/backends/backend.js'
import { redis, redisBus } from '../../../lib/backends/redis.js'
import { deferred, eventually } from '../../helpers/doubles.js'
import { startRedis, startRedisCluster } from '../../helpers/servers.js'

const server = await startRedis(t)
const cluster = await startRedisCluster(t)

const clients = {
  'a server': (t: Pick<Test, 'teardown'>, options: object = {}): Redis => {
    const client = new Redis(server.port, options)
    t.teardown(() => client.disconnect())
    return client
  },
  'a cluster': (t: Pick<Test, 'teardown'>, options: object = {}): Cluster => {
    const client = new Cluster([...cluster.addresses], options)
    t.teardown(() => client.disconnect())
    return client
  }
}

let spaces = 0

/** A backend, the client that it works on, and keys that no other test has. */
function backendOn (kind: keyof typeof clients, t: Test, options: object = {}) {
  const client = clients[kind](t, options)
  const backend = redis(client) as LeasingBackend
  t.teardown(() => backend.close?.())
  const keyspace = new Keyspace(`test-${spaces++}`, 'objects')
  const key = (rest: string) => keyspace.entry('k', rest)
  /** In a cluster they are on different nodes. */
  const keys = Array.from({ length: 10 }, (_, i) => key(`key-${i}`)) as [string, string, string, ...string[]]
  const lease = async (keys: readonly string[], more: Partial<LeaseRequest> = {}) => {
    const mark = newMark()
    const [stamp, ...held] = await backend.leaseMany(keyspace.stamp, keys, { mark, ttl: 60_000, stamp: formatStamp(newStamp()), takeOver: false, ...more })
    return { mark, stamp: parseStamp(Buffer.from(stamp).toString())!, held: held.map(bytes => Buffer.from(bytes)) }
  }
  const stamp = async () => parseStamp((await client.get(keyspace.stamp)) ?? '')
  return { client, backend, keyspace, key, keys, lease, stamp }
}

/** As a region fills: what starts with an identity of its own. */
const entryBytes = (value: unknown) => encodeEntry(
  { value, loose: undefined, loadedAt: 0, freshUntil: 1, staleUntil: 1, tags: [], stamp: newStamp() }, msgpackSerializer)

for (const kind of ['a server', 'a cluster'] as const) {
  t.test(`${kind} holds more tags than a command takes, and forgets them`, async t => {
    const { backend, client, keyspace, lease, key } = backendOn(kind, t)
    await lease([key('any')])
    const tagKeys = Array.from({ length: 150_000 }, (_, i) => keyspace.tag(`tag-${i}`))
    await backend.holdTags(keyspace.stamp, tagKeys.map(key => ({ key, ttl: 60_000 })))
    const ends = async () => await Promise.all([tagKeys[0]!, tagKeys.at(-1)!].map(async key => await client.get(key)))
    const held = await ends()
    t.ok(held.every(version => version !== null))
    await backend.revise(keyspace.stamp, { kind: 'tags', stamp: formatStamp(newStamp()), tagKeys })
    t.ok((await ends()).every((version, i) => version !== held[i]))
  })

  const onNodes = async (ask: (node: Redis) => Promise<any>) => await Promise.all((kind === 'a server' ? [server] : cluster.nodes).map(async ({ port }) => {
    const node = new Redis(port)
    try {
      return await ask(node)
    } finally {
      node.disconnect()
    }
  }))

  t.test(`a client of ${kind} that gives numbers as strings is told what was refused as any`, async t => {
    const { backend, keyspace, keys: [a, b, c], lease, stamp } = backendOn(kind, t, kind === 'a server' ? { stringNumbers: true } : { redisOptions: { stringNumbers: true } })
    const { held } = await lease([a])
    const fills = [a, b].map(key => ({ key, lease: held[0]!, value: entryBytes('a'), ttl: 60_000 }))
    t.strictSame(await backend.fillMany(fills), [true, false])
    if (backend.fillUnchanged === undefined) return
    const since = (await stamp())!
    const missing = [c, a, b].map(key => ({ key, held: undefined, value: entryBytes('b'), ttl: 60_000 }))
    t.strictSame(await backend.fillUnchanged(keyspace.stamp, since, missing), [true, false, true])
    t.strictSame(await backend.fillUnchanged(keyspace.stamp, since, [{ ...missing[0]!, held: entryBytes('c') }, missing[1]!]), [false, false])
  })

  t.test(`bytes on ${kind}`, async t => {
    t.test('bytes come back in the order of the keys, with gaps and repetitions', async t => {
      const { backend, keys: [a, b, c] } = backendOn(kind, t)
      const bytes = Uint8Array.from({ length: 256 }, (_, i) => i)
      await backend.setMany([{ key: a, value: bytes, ttl: 60_000 }, { key: b, value: bytes.subarray(10, 20), ttl: 60_000 }])
      const found = await backend.getMany([b, c, a, b])
      t.ok(isDeepStrictEqual(found.map(one => one && [...one]), [[...bytes.subarray(10, 20)], undefined, [...bytes], [...bytes.subarray(10, 20)]]))
      await backend.deleteMany([a, c])
      t.strictSame((await backend.getMany([a, b])).map(one => one !== undefined), [false, true])
    })

    t.test('bytes are nothing where nothing is asked', async t => {
      const { backend } = backendOn(kind, t)
      t.strictSame(await backend.getMany([]), [])
      await backend.setMany([])
      await backend.deleteMany([])
      t.strictSame(await backend.fillMany([]), [])
    })

    t.test('bytes live as long as they were given', async t => {
      const { backend, client, keys: [a, b] } = backendOn(kind, t)
      await backend.setMany([{ key: a, value: Buffer.from('a'), ttl: 60_000 }, { key: b, value: Buffer.from('b'), ttl: 1 }])
      const left = await client.pttl(a)
      t.ok(left > 50_000 && left <= 60_000)
      await eventually(t, async () => (await backend.getMany([b]))[0] === undefined, 'one millisecond is over soon')
    })

    t.test('bytes of another type are missing, and keep nobody else’s from being found', async t => {
      const { backend, client, keys: [a, b] } = backendOn(kind, t)
      await client.rpush(a, 'foreign')
      await backend.setMany([{ key: b, value: Buffer.from('b'), ttl: 60_000 }])
      t.strictSame((await backend.getMany([a, b])).map(one => one && Buffer.from(one).toString()), [undefined, 'b'])
    })
  })

  t.test(`leases on ${kind}`, async t => {
    t.test('leases mark what is missing, and bring what is there', async t => {
      const { backend, client, keys: [a, b, c], lease } = backendOn(kind, t)
      await backend.setMany([{ key: b, value: Buffer.from('already here, and longer'), ttl: 60_000 }])
      const { mark, held } = await lease([a, b, c], { ttl: 30_000 })
      t.strictSame(held, [mark, Buffer.from('already here, and longer'), mark])
      t.strictSame(await client.getBuffer(a), mark)
      t.ok(isMark(mark))
      const left = await client.pttl(a)
      t.ok(left > 20_000 && left <= 30_000)
      t.ok(await client.pttl(b) > 30_000, 'the time of what is there is its own')
    })

    t.test('leases are shared with who asks later, and last as long as the later one needs', async t => {
      const { client, keys: [a], lease } = backendOn(kind, t)
      const first = await lease([a], { ttl: 10_000 })
      const second = await lease([a], { ttl: 30_000.5 })
      t.strictSame(second.held, [first.mark])
      t.ok(await client.pttl(a) > 20_000)
    })

    t.test('leases let their holder fill the key', async t => {
      const { backend, client, keys: [a, b], lease } = backendOn(kind, t)
      const { mark } = await lease([a, b])
      const [one, two] = [entryBytes(1), entryBytes(2)]
      t.strictSame(await backend.fillMany([{ key: a, lease: mark, value: one, ttl: 30_000 }, { key: b, lease: mark, value: two, ttl: 60_000 }]), [true, true])
      t.strictSame(await client.getBuffer(a), one)
      t.strictSame(await client.getBuffer(b), two)
      const left = await client.pttl(a)
      t.ok(left > 20_000 && left <= 30_000)
    })

    t.test('leases are over once the key is filled', async t => {
      const { backend, client, keys: [a], lease } = backendOn(kind, t)
      const { mark } = await lease([a])
      const [first, second] = [entryBytes(1), entryBytes(2)]
      t.strictSame(await backend.fillMany([{ key: a, lease: mark, value: first, ttl: 30_000 }]), [true])
      t.strictSame(await backend.fillMany([{ key: a, lease: mark, value: second, ttl: 30_000 }]), [false])
      t.strictSame(await client.getBuffer(a), first)
    })

    t.test('leases of a stale entry are the entry itself', async t => {
      const { backend, client, keys: [a], lease } = backendOn(kind, t)
      const [stale, fresh] = [entryBytes('stale'), entryBytes('fresh')]
      await backend.setMany([{ key: a, value: stale, ttl: 60_000 }])
      const { held } = await lease([a])
      t.strictSame(held, [stale])
      const identity = stale.subarray(0, identityLength)
      t.strictSame(await backend.fillMany([{ key: a, lease: identity, value: fresh, ttl: 30_000 }]), [true])
      t.strictSame(await backend.fillMany([{ key: a, lease: identity, value: entryBytes('late'), ttl: 30_000 }]), [false])
      t.strictSame(await client.getBuffer(a), fresh)
    })

    t.test('leases are taken from whoever has them by one that loads anew', async t => {
      const { backend, client, keys: [a, b, c], lease } = backendOn(kind, t)
      const entry = entryBytes('old')
      await backend.setMany([{ key: b, value: entry, ttl: 60_000 }])
      const before = await lease([a, b])
      const after = await lease([a, b, c], { takeOver: true })
      t.strictSame(after.held[0], after.mark)
      t.strictSame(after.held[2], after.mark)
      t.strictSame(after.held[1], Buffer.concat([entry.subarray(0, 4), after.mark.subarray(4), entry.subarray(identityLength)]), 'the entry stays, under another identity')
      t.strictSame(await backend.fillMany([
        { key: a, lease: before.held[0]!, value: entryBytes('late'), ttl: 30_000 },
        { key: b, lease: before.held[1]!.subarray(0, identityLength), value: entryBytes('late'), ttl: 30_000 }
      ]), [false, false])
      const fresh = entryBytes('new')
      t.strictSame(await backend.fillMany([a, b, c].map((key, i) => ({ key, lease: after.held[i]!.subarray(0, identityLength), value: fresh, ttl: 30_000 }))), [true, true, true])
      for (const key of [a, b, c]) t.strictSame(await client.getBuffer(key), fresh)
    })

    t.test('leases end with whatever ends the key, and nothing is filled any more', async t => {
      const ends: Record<string, (on: ReturnType<typeof backendOn>, key: string) => Promise<unknown>> = {
        'an invalidation': async ({ backend, keyspace }, key) => await backend.forgetMany(keyspace.stamp, formatStamp(newStamp()), [key]),
        'a plain delete': async ({ backend }, key) => await backend.deleteMany([key]),
        'an overwrite of ours': async ({ backend }, key) => await backend.setMany([{ key, value: entryBytes('set'), ttl: 60_000 }]),
        'an overwrite of somebody else': async ({ client }, key) => await client.set(key, 'foreign'),
        'an empty overwrite': async ({ client }, key) => await client.set(key, ''),
        'a key of another type': async ({ client }, key) => { await client.del(key); await client.rpush(key, 'foreign') },
        'an expiry': async ({ client }, key) => { await client.pexpire(key, 1); await eventually(t, async () => await client.exists(key) === 0, 'it expires') },
        'a flush': async () => await onNodes(node => node.flushall())
      }
      for (const [what, end] of Object.entries(ends)) {
        const on = backendOn(kind, t)
        const { backend, client, keys: [a, b], lease } = on
        const { mark } = await lease([a, b])
        await end(on, a)
        const before = await client.dump(a)
        const fresh = entryBytes('b')
        const filled = await backend.fillMany([{ key: a, lease: mark, value: entryBytes('late'), ttl: 30_000 }, { key: b, lease: mark, value: fresh, ttl: 30_000 }])
        t.equal(filled[0], false, what)
        t.strictSame(await client.dump(a), before, 'and what is there stays')
        if (what !== 'a flush') t.strictSame([filled[1], await client.getBuffer(b)], [true, fresh], 'nor is anybody else’s fill refused for it')
      }
    })

    t.test('leases put right what somebody else left under a key', async t => {
      for (const takeOver of [false, true]) {
        const { backend, client, keys: [a, b, c], lease } = backendOn(kind, t)
        await client.rpush(a, 'foreign')
        await client.set(b, '')
        await client.set(c, 'short')
        const { mark, held } = await lease([a, b, c], { takeOver })
        t.strictSame(held, [mark, mark, mark])
        await backend.deleteMany([a, b, c])
        t.strictSame(await backend.fillMany([a, b, c].map(key => ({ key, lease: mark, value: entryBytes('late'), ttl: 30_000 }))), [false, false, false])
      }
    })
  })

  if (kind === 'a server') {
    t.test('a fill of what was seen', async t => {
      /** A stamp, and three keys: one that holds nothing, one with an entry, and one that is foreign. */
      async function seen (t: Test) {
        const on = backendOn(kind, t)
        const { backend, client, keyspace, keys: [a, b, c], lease, stamp } = on
        await lease([])
        const old = entryBytes('old')
        await backend.setMany([{ key: b, value: old, ttl: 60_000 }])
        await client.set(c, 'short')
        const [held, since] = [await backend.getMany([a, b, c]), (await stamp())!]
        const values = [a, b, c].map(entryBytes)
        const fill = async () => await backend.fillUnchanged!(keyspace.stamp, since, [a, b, c].map((key, i) => ({ key, held: held[i], value: values[i]!, ttl: 30_000 })))
        return { ...on, a, b, c, old, values, fill }
      }

      t.test('a fill of what was seen is written where nothing has changed, and once', async t => {
        const { client, a, b, c, values, fill } = await seen(t)
        t.strictSame(await fill(), [true, true, true])
        t.strictSame(await Promise.all([a, b, c].map(key => client.getBuffer(key))), values)
        const left = await client.pttl(a)
        t.ok(left > 20_000 && left <= 30_000)
        t.strictSame(await fill(), [false, false, false])
      })

      t.test('a fill of what was seen is refused for a key that has changed', async t => {
        const changes: Record<string, (on: Awaited<ReturnType<typeof seen>>) => Promise<unknown>> = {
          'it was filled': async ({ backend, a }) => await backend.setMany([{ key: a, value: entryBytes('other'), ttl: 60_000 }]),
          'it was claimed': async ({ lease, a }) => await lease([a]),
          'what was seen is gone': async ({ client, b }) => await client.del(b),
          'another is in its place': async ({ backend, b }) => await backend.setMany([{ key: b, value: entryBytes('other'), ttl: 60_000 }])
        }
        for (const [what, change] of Object.entries(changes)) {
          const on = await seen(t)
          await change(on)
          const at = what.startsWith('it') ? 0 : 1
          const before = await on.client.dump([on.a, on.b][at]!)
          t.strictSame(await on.fill(), [at !== 0, at !== 1, true], what)
          t.strictSame(await on.client.dump([on.a, on.b][at]!), before, 'and what is there stays')
        }
      })

      t.test('a fill of what was seen of keys that held nothing keeps each for its time, or somewhat longer', async t => {
        const { backend, client, keyspace, key, lease, stamp } = backendOn(kind, t)
        await lease([])
        const since = (await stamp())!
        const fill = async (keys: string[], ttls: number[]) => await backend.fillUnchanged!(keyspace.stamp, since, keys.map((key, i) => ({ key, held: undefined, value: entryBytes(key), ttl: ttls[i]! })))
        const leftOf = async (keys: string[]) => await Promise.all(keys.map(async key => Math.ceil(await client.pttl(key) / 10_000)))
        const [alike, different] = [[key('a'), key('b')], [key('c'), key('d')]]
        t.strictSame(await fill(alike, [50_000, 60_000]), [true, true])
        t.strictSame(await leftOf(alike), [6, 6])
        t.strictSame(await fill(different, [20_000, 60_000]), [true, true])
        t.strictSame(await leftOf(different), [2, 6])
      })

      t.test('a fill of what was seen of keys that held nothing is refused for what stands there by now, unless that is nobody\'s of ours', async t => {
        const { backend, client, keyspace, keys: [a, b, c], key, lease, stamp } = backendOn(kind, t)
        await lease([])
        const since = (await stamp())!
        const old = entryBytes('old')
        await backend.setMany([{ key: a, value: old, ttl: 60_000 }])
        await client.set(b, 'short')
        await client.rpush(c, 'a list')
        const all = [a, b, c, key('free')]
        t.strictSame(await backend.fillUnchanged!(keyspace.stamp, since, all.map(key => ({ key, held: undefined, value: entryBytes('new'), ttl: 60_000 }))), [false, true, true, true])
        t.strictSame(await client.getBuffer(a), old)
        t.ok((await backend.getMany(all)).every(bytes => bytes !== undefined))
      })

      t.test('a fill of what was seen is refused altogether when the region has changed', async t => {
        const changes: Record<string, (on: Awaited<ReturnType<typeof seen>>) => Promise<unknown>> = {
          'any key was forgotten': async ({ backend, keyspace, key }) => await backend.forgetMany(keyspace.stamp, formatStamp(newStamp()), [key('another')]),
          'one is being set, or refreshed': async ({ lease, key }) => await lease([key('another')], { takeOver: true }),
          'the region was forgotten': async ({ backend, keyspace }) => await backend.revise(keyspace.stamp, { kind: 'hard', stamp: formatStamp(newStamp()) }),
          'the stamp is gone': async ({ client, keyspace }) => await client.del(keyspace.stamp),
          'the stamp is another': async ({ client, keyspace }) => await client.set(keyspace.stamp, formatStamp(newStamp())),
          'the stamp is none': async ({ client, keyspace }) => await client.set(keyspace.stamp, 'foreign'),
          'the stamp is of another type': async ({ client, keyspace }) => { await client.del(keyspace.stamp); await client.rpush(keyspace.stamp, 'foreign') },
          'everything was flushed': async ({ client }) => await client.flushall()
        }
        for (const [what, change] of Object.entries(changes)) {
          const on = await seen(t)
          await change(on)
          const before = await Promise.all([on.a, on.b, on.c].map(key => on.client.dump(key)))
          t.equal(await on.fill(), undefined, what)
          t.strictSame(await Promise.all([on.a, on.b, on.c].map(key => on.client.dump(key))), before)
        }
      })

      t.test('a fill of what was seen does not mind a soft invalidation or one of tags: entries tell of them', async t => {
        const { backend, keyspace, fill } = await seen(t)
        await backend.revise(keyspace.stamp, { kind: 'soft', stamp: formatStamp(newStamp()) })
        await backend.revise(keyspace.stamp, { kind: 'tags', stamp: formatStamp(newStamp()), tagKeys: [] })
        t.strictSame(await fill(), [true, true, true])
      })

      t.test('a fill of what was seen puts right what is of another type', async t => {
        const { client, a, values, fill } = await seen(t)
        await client.rpush(a, 'foreign')
        t.strictSame(await fill(), [true, true, true])
        t.strictSame(await client.getBuffer(a), values[0])
      })

      t.test('a fill of what was seen is refused once for a take-over of too many keys for one command', async t => {
        const { key, lease } = backendOn(kind, t)
        const { stamp: before } = await lease([])
        const keys = Array.from({ length: 2500 }, (_, i) => key(`many ${i}`))
        const { mark, held, stamp: after } = await lease(keys, { takeOver: true })
        t.ok(held.every(one => one.equals(mark)))
        t.strictSame([after, (await lease([])).stamp], [{ ...before, deleted: before.deleted + 1 }, after])
      })

      t.test('a fill of what was seen is in parts where there are too many keys for one command', async t => {
        const { backend, client, keyspace, key, lease, stamp } = backendOn(kind, t)
        await lease([])
        const since = (await stamp())!
        const entries = Array.from({ length: 2500 }, (_, i) => ({ key: key(`many ${i}`), held: undefined, value: Buffer.from('a'), ttl: 60_000 }))
        t.strictSame(await backend.fillUnchanged!(keyspace.stamp, since, entries), entries.map(() => true))
        t.equal(await client.exists(...entries.map(entry => entry.key)), 2500)
      })
    })
  }

  t.test(`the stamp of a region on ${kind}`, async t => {
    const noStamp = formatStamp(newStamp())

    t.test('the stamp of a region is made by the first lease, and stays', async t => {
      const { lease, stamp } = backendOn(kind, t)
      const proposed = newStamp()
      const first = await lease([], { stamp: formatStamp(proposed) })
      t.strictSame(first.stamp, proposed)
      t.strictSame((await lease([])).stamp, proposed)
      t.strictSame(await stamp(), proposed)
    })

    t.test('the stamp of a region counts what happens to the region, one kind by one', async t => {
      const { backend, keyspace, keys: [a], lease, stamp } = backendOn(kind, t)
      const { stamp: { epoch } } = await lease([])
      await backend.revise(keyspace.stamp, { kind: 'soft', stamp: noStamp })
      t.strictSame(await stamp(), { epoch, softened: 1, tagged: 0, deleted: 0 })
      await backend.revise(keyspace.stamp, { kind: 'tags', stamp: noStamp, tagKeys: [] })
      await backend.revise(keyspace.stamp, { kind: 'tags', stamp: noStamp, tagKeys: [keyspace.tag('t')] })
      t.strictSame(await stamp(), { epoch, softened: 1, tagged: 2, deleted: 0 })
      await backend.forgetMany(keyspace.stamp, noStamp, [a])
      t.strictSame(await stamp(), { epoch, softened: 1, tagged: 2, deleted: 1 })
      const next = newStamp()
      await backend.revise(keyspace.stamp, { kind: 'hard', stamp: formatStamp(next) })
      t.strictSame(await stamp(), { epoch: next.epoch, softened: 1, tagged: 2, deleted: 1 })
    })

    t.test('the stamp of a region is made by an invalidation where there is none, and where something else is', async t => {
      const foreign: ((on: ReturnType<typeof backendOn>) => Promise<unknown>)[] = [
        async () => {},
        async ({ client, keyspace }) => await client.set(keyspace.stamp, 'foreign'),
        async ({ client, keyspace }) => await client.rpush(keyspace.stamp, 'foreign')
      ]
      for (const leave of foreign) {
        for (const kindOf of ['soft', 'hard'] as const) {
          const on = backendOn(kind, t)
          await leave(on)
          const fresh = newStamp()
          await on.backend.revise(on.keyspace.stamp, { kind: kindOf, stamp: formatStamp(fresh) })
          t.strictSame(await on.stamp(), { ...fresh, softened: kindOf === 'soft' ? 1 : 0 })
        }
        const on = backendOn(kind, t)
        await leave(on)
        const fresh = newStamp()
        t.strictSame((await on.lease([], { stamp: formatStamp(fresh) })).stamp, fresh)
      }
    })

    t.test('the stamp of a region has no end', async t => {
      const { backend, client, keyspace, lease } = backendOn(kind, t)
      await lease([])
      t.equal(await client.pttl(keyspace.stamp), -1)
      await backend.revise(keyspace.stamp, { kind: 'soft', stamp: noStamp })
      t.equal(await client.pttl(keyspace.stamp), -1)
    })

    t.test('the stamp of a region tells of an invalidation no later than the keys are gone', async t => {
      const { backend, client, keyspace, keys, stamp } = backendOn(kind, t)
      await backend.setMany(keys.map(key => ({ key, value: Buffer.from('a'), ttl: 60_000 })))
      await backend.forgetMany(keyspace.stamp, noStamp, keys)
      t.equal((await stamp())!.deleted, 1)
      for (const key of keys) t.equal(await client.exists(key), 0)
    })
  })

  t.test(`the tags of a region on ${kind}`, async t => {
    t.test('the tags of a region have a version from when they are held, for as long as they are needed', async t => {
      const { backend, client, keyspace, lease } = backendOn(kind, t)
      const { stamp: { epoch } } = await lease([])
      const [s, u] = [keyspace.tag('s'), keyspace.tag('u')]
      await backend.holdTags(keyspace.stamp, [{ key: s, ttl: 10_000 }, { key: u, ttl: 20_000 }])
      t.equal(await client.get(s), `${epoch}|0`)
      await backend.holdTags(keyspace.stamp, [{ key: s, ttl: 60_000 }])
      t.ok(await client.pttl(s) > 50_000, 'longer, if somebody needs it longer')
      await backend.holdTags(keyspace.stamp, [{ key: s, ttl: 1000 }])
      t.ok(await client.pttl(s) > 50_000, 'never shorter')
      t.ok(await client.pttl(u) <= 20_000)
    })

    t.test('the tags of a region get a new version when they are invalidated; those that nobody holds get none', async t => {
      const { backend, client, keyspace, lease } = backendOn(kind, t)
      const { stamp: { epoch } } = await lease([])
      const [s, u, nobodys] = [keyspace.tag('s'), keyspace.tag('u'), keyspace.tag('nobody’s')]
      await backend.holdTags(keyspace.stamp, [{ key: s, ttl: 10_000 }, { key: u, ttl: 20_000 }])
      await backend.revise(keyspace.stamp, { kind: 'tags', stamp: formatStamp(newStamp()), tagKeys: [s, nobodys] })
      t.equal(await client.get(s), `${epoch}|1`)
      t.equal(await client.get(u), `${epoch}|0`)
      t.equal(await client.exists(nobodys), 0)
      const left = await client.pttl(s)
      t.ok(left > 0 && left <= 10_000, 'its time goes on')
      await backend.holdTags(keyspace.stamp, [{ key: nobodys, ttl: 10_000 }])
      t.equal(await client.get(nobodys), `${epoch}|1`, 'held later, it starts from now')
    })

    t.test('the tags of a region are not held where the stamp was lost: their entries are gone as well', async t => {
      const { backend, client, keyspace } = backendOn(kind, t)
      await backend.holdTags(keyspace.stamp, [{ key: keyspace.tag('s'), ttl: 10_000 }])
      t.equal(await client.exists(keyspace.tag('s')), 0)
    })
  })

  t.test(`the prefixes of keys on ${kind}: ours, and the client’s own`, async t => {
    const plain = clients[kind](t)
    const client = clients[kind](t, { keyPrefix: 'clients:' })
    const backend = redis(client, { keyPrefix: 'ours:' }) as LeasingBackend
    t.teardown(() => backend.close?.())
    const keyspace = new Keyspace(`test-${spaces++}`, 'objects')
    const key = keyspace.entry('k', 'a')
    const there = async (key: string) => await plain.exists(`clients:ours:${key}`) === 1
    const proposed = newStamp()
    const mark = newMark()
    await backend.leaseMany(keyspace.stamp, [key], { mark, ttl: 60_000, stamp: formatStamp(proposed), takeOver: false })
    t.ok(await there(keyspace.stamp))
    t.ok(await there(key))
    t.strictSame(await backend.fillMany([{ key, lease: mark, value: Buffer.from('a'), ttl: 60_000 }]), [true])
    t.equal((await backend.getMany([key]))[0]?.toString(), 'a')
    await backend.holdTags(keyspace.stamp, [{ key: keyspace.tag('t'), ttl: 60_000 }])
    t.ok(await there(keyspace.tag('t')))
    await backend.revise(keyspace.stamp, { kind: 'tags', stamp: '', tagKeys: [keyspace.tag('t')] })
    t.equal(await plain.get(`clients:ours:${keyspace.tag('t')}`), `${proposed.epoch}|1`)
    await backend.setMany([{ key, value: Buffer.from('b'), ttl: 60_000 }])
    t.equal(await plain.get(`clients:ours:${key}`), 'b')
    await backend.forgetMany(keyspace.stamp, '', [key])
    t.notOk(await there(key))
    await backend.setMany([{ key, value: Buffer.from('b'), ttl: 60_000 }])
    await backend.deleteMany([key])
    t.notOk(await there(key))

    const heard = deferred<string>()
    const line = backend.line!
    await line.listen(keyspace.wakeUps, heard.resolve)
    await line.publish(keyspace.wakeUps, 'news')
    t.equal(await heard.promise, 'news', 'channels are the same with any prefix')
  })

  t.test(`a bus over ${kind} is a line of its own`, async t => {
    const client = clients[kind](t)
    const [bus, other] = [redisBus(client), redisBus(client)] as [Line, Line]
    t.teardown(() => bus.close())
    const heard = deferred<string>()
    await bus.listen('news', heard.resolve)
    await other.close()
    await bus.publish('news', 'a')
    t.equal(await heard.promise, 'a')
  })

  t.test(`everything works over a client of ${kind} that puts commands into pipelines by itself`, async t => {
    const { backend, keyspace, keys, lease, stamp } = backendOn(kind, t, { enableAutoPipelining: true })
    const { mark, held } = await lease(keys)
    t.strictSame(held, keys.map(() => mark))
    t.strictSame(await backend.fillMany(keys.map(key => ({ key, lease: mark, value: entryBytes(key), ttl: 30_000 }))), keys.map(() => true))
    await backend.holdTags(keyspace.stamp, [{ key: keyspace.tag('t'), ttl: 30_000 }])
    await backend.revise(keyspace.stamp, { kind: 'tags', stamp: formatStamp(newStamp()), tagKeys: [keyspace.tag('t')] })
    await backend.setMany([{ key: keys[0], value: Buffer.from('a'), ttl: 30_000 }])
    t.equal((await backend.getMany(keys))[0]?.toString(), 'a')
    await backend.forgetMany(keyspace.stamp, '', keys)
    t.strictSame(await backend.getMany(keys), keys.map(() => undefined))
    t.match(await stamp(), { tagged: 1, deleted: 1 })
  })

  t.test(`a client of ${kind} without a connection fails at once, instead of queueing`, async t => {
    const { backend, client, keyspace, keys, lease } = backendOn(kind, t)
    await lease(keys)
    client.disconnect()
    await eventually(t, () => client.status === 'end' || client.status === 'close', 'it ends')
    const entries = [{ key: keys[0], value: Buffer.from('a'), lease: newMark(), ttl: 1000 }]
    const operations: (() => Promise<unknown>)[] = [
      () => backend.getMany(keys), () => backend.setMany(entries), () => backend.deleteMany(keys), () => lease(keys), () => backend.fillMany(entries),
      () => backend.forgetMany(keyspace.stamp, '', keys), () => backend.revise(keyspace.stamp, { kind: 'hard', stamp: '' }), () => backend.holdTags(keyspace.stamp, [{ key: 'a', ttl: 1 }])
    ]
    for (const operation of operations) await t.rejects(operation() as Promise<void>, { message: /^the connection is in status '(?:end|close)'$/ })
  })
}

t.test('a client that tries to reconnect is not waited for', async t => {
  const own = await startRedis(t)
  const client = new Redis(own.port, { retryStrategy: () => 60_000 })
  client.on('error', () => {})
  t.teardown(() => client.disconnect())
  const backend = redis(client)
  await backend.getMany(['a'])
  await own.kill()
  await eventually(t, () => client.status === 'reconnecting', 'it has lost its connection')
  await t.rejects(backend.getMany(['a']), { message: "the connection is in status 'reconnecting'" })
})

t.test('a client that has not connected yet does so for the first command', async t => {
  const client = clients['a server'](t, { lazyConnect: true })
  t.strictSame(await redis(client).getMany(['no such key']), [undefined])
})

t.test('each operation on a server is one command, whatever it is about', async t => {
  const { backend, client, keyspace, keys, lease } = backendOn('a server', t)
  await client.ping()
  const recorder = await server.recordCommands()
  const { mark } = await lease(keys)
  t.strictSame(await recorder.commands(), ['eval'])
  await recorder.reset()
  await backend.fillMany(keys.map(key => ({ key, lease: mark, value: Buffer.from('a'), ttl: 1000 })))
  t.strictSame(await recorder.commands(), ['eval'])
  await recorder.reset()
  await backend.getMany(keys)
  t.strictSame(await recorder.commands(), ['mget'])
  await recorder.reset()
  await backend.forgetMany(keyspace.stamp, '', keys)
  t.strictSame(await recorder.commands(), ['eval'])
})

t.test('each operation on a server is a command for every thousand keys, and what it answers is in their order', async t => {
  const { backend, client, keyspace, key, lease, stamp } = backendOn('a server', t)
  await client.ping()
  const keys = Array.from({ length: 2500 }, (_, i) => key(String(i)))
  const values = keys.map((key, i) => entryBytes(i))
  const recorder = await server.recordCommands()
  const { mark, held } = await lease(keys)
  t.ok(held.length === keys.length && held.every(bytes => bytes.equals(mark)))
  const filled = await backend.fillMany(keys.map((key, i) => ({ key, lease: mark, value: values[i]!, ttl: 60_000 })))
  t.ok(filled.length === keys.length && filled.every(Boolean))
  t.strictSame(await recorder.commands(), Array(6).fill('eval'))
  await recorder.reset()
  const found = await backend.getMany([...keys, key('missing')])
  t.ok(isDeepStrictEqual(found, [...values, undefined]))
  t.strictSame(await recorder.commands(), Array(3).fill('mget'))
  await recorder.reset()
  await backend.deleteMany(keys.slice(0, 1001))
  await backend.forgetMany(keyspace.stamp, '', keys)
  t.strictSame(await recorder.commands(), ['unlink', 'unlink', 'eval', 'eval', 'eval'])
  t.ok((await backend.getMany(keys)).every(value => value === undefined))
  t.equal((await stamp())!.deleted, 3)
})

t.test('the connection carries all in order on a server; a cluster has several', async t => {
  const on = backendOn('a server', t)
  t.equal(on.backend.connection, on.client)
  t.equal(backendOn('a cluster', t).backend.connection, undefined)
  t.ok(isLeasing(on.backend))
  t.notOk(isLocal(on.backend))
})

t.test('a client that is none is refused by name', async t => {
  const message = (what: string, got: string) => ({
    code: 'FST_CACHING_API_INVALID_OPTIONS',
    message: `${what} must be an ioredis client: a Redis or a Cluster (app.redis of '@fastify/redis' is one, or app.redis.name with a namespace), got ${got}`
  })
  const cases: [client: unknown, got: string][] = [[undefined, 'undefined'], [null, 'null'], ['redis://localhost', "'redis://localhost'"], [{}, 'an object'], [Redis, 'a function (Redis)'], [{ mgetBuffer () {} }, 'an object']]
  for (const [client, got] of cases) {
    t.throws(() => redis(client), message('redis(client)', got))
    t.throws(() => redisBus(client), message('redisBus(client)', got))
  }
})

t.test('options that can not work are refused by name', async t => {
  const client = clients['a server'](t)
  for (const keyPrefix of ['a b', '{a}', 'a}', 'é', 'x'.repeat(51), 1, null]) {
    t.throws(() => redis(client, { keyPrefix: keyPrefix as string }), { code: 'FST_CACHING_API_INVALID_OPTIONS', message: /^redis\(options\)\.keyPrefix must be up to 50 printable ASCII characters without blanks and braces, got / })
  }
  for (const [options, got] of [[null, 'null'], [[], 'an array of 0'], ['app:', "'app:'"]] as const) {
    t.throws(() => redis(client, options as never), { code: 'FST_CACHING_API_INVALID_OPTIONS', message: `redis(options) must be an object, got ${got}` })
  }
  t.throws(() => redis(client, { prefix: 'a' } as object), { message: "redis(options).prefix must be absent: the only option is keyPrefix, got 'a'" })
  t.doesNotThrow(() => redis(client, { keyPrefix: undefined, other: undefined } as never), 'what is undefined counts as absent')
  t.doesNotThrow(() => redis(client, { keyPrefix: '' }))
  t.doesNotThrow(() => redis(client, { keyPrefix: 'app:v2/' }))
})
