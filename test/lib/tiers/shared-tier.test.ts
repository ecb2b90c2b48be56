import { Redis } from 'ioredis'
import t, { type Test } from 'tap'
import { freshness, type Entry } from '../../../lib/entry.js'
import type { Invalidations } from '../../../lib/coherence/messages.js'
import { Keyspace } from '../../../lib/keys.js'
import { msgpackSerializer } from '../../../lib/serializer.js'
import { UnstorableError, type Backend, type LeasingBackend } from '../../../lib/tiers/backend.js'
import type { Claim } from '../../../lib/tiers/lease.js'
import { memory } from '../../../lib/tiers/memory.js'
import { redis } from '../../../lib/tiers/redis.js'
import { SharedTier, type SharedTierOptions } from '../../../lib/tiers/shared-tier.js'
import type { Filled } from '../../../lib/tiers/tier-fills.js'
import { newStamp, type Stamp } from '../../../lib/stamp.js'
import { copyIn } from '../../../lib/values.js'
import { eventually, fakeClock, gate, silentLogger, type Gate } from '../../helpers/doubles.js'
import { startRedis } from '../../helpers/servers.js'

const server = await startRedis(t)
let spaces = 0

interface Place {
  /** What another process has of it. */
  another (): Backend
  keyspace: Keyspace
  /** What is under a key, and nobody's but the test's. */
  raw: Backend
}

function onRedis (t: Test, more: Partial<LeasingBackend> = {}): Place {
  const another = () => {
    const client = new Redis(server.port)
    t.teardown(() => client.disconnect())
    return Object.assign(redis(client), more)
  }
  return { another, keyspace: new Keyspace(`test-${spaces++}`, 'objects'), raw: another() }
}

const places = {
  Redis: (t: Test): Place => onRedis(t),
  /** As in a cluster, where no step sees both a stamp and a key. */
  'Redis, by marks': (t: Test): Place => onRedis(t, { fillUnchanged: undefined! }),
  /** Three methods, as somebody's own backend has them. */
  'a backend of three methods': (_t: Test): Place => {
    const kept = memory()
    const bare = (): Backend => ({ name: 'bare', getMany: async keys => await kept.getMany(keys), setMany: async entries => await kept.setMany(entries), deleteMany: async keys => await kept.deleteMany(keys) })
    return { another: bare, keyspace: new Keyspace(`test-${spaces++}`, 'objects'), raw: bare() }
  }
}

/** The same backend, until the test takes it away: then it refuses everything, or says nothing. */
function switchable<B extends Backend> (backend: B) {
  const state = { away: false as boolean | 'silent' }
  const switched = new Proxy(backend, {
    get (target, name) {
      const member: unknown = Reflect.get(target, name, target)
      if (typeof member !== 'function') return member
      return async (...args: unknown[]) => {
        if (state.away === 'silent') return await new Promise(() => {})
        if (state.away) throw new Error('away')
        return await member.apply(target, args)
      }
    }
  })
  return { backend: switched, state }
}

/** The same backend; before the nth call of a method something else happens. */
function interruptible<B extends Backend> (backend: B) {
  const interruptions = new Map<string, { calls: number, happen: () => Promise<void> }>()
  const interrupted = new Proxy(backend, {
    get (target, name) {
      const member: unknown = Reflect.get(target, name, target)
      if (typeof member !== 'function') return member
      return async (...args: unknown[]) => {
        const interruption = interruptions.get(String(name))
        if (interruption !== undefined && --interruption.calls === 0) await interruption.happen()
        return await member.apply(target, args)
      }
    }
  })
  return {
    backend: interrupted,
    before: (method: keyof LeasingBackend, calls: number, happen: () => Promise<void>) => { interruptions.set(method, { calls, happen }) }
  }
}

/** The same backend; an answer that the test holds back has been given already, as that of a node which was faster than others. */
function withLateAnswers<B extends Backend> (backend: B) {
  let late: { ready: Gate, given: Gate } | undefined
  const answering = new Proxy(backend, {
    get (target, name) {
      const member = bound(target, name)
      if ((name !== 'getMany' && name !== 'leaseMany') || typeof member !== 'function') return member
      return async (...args: unknown[]) => {
        const mine = late
        late = undefined
        const answer: unknown = await member(...args)
        mine?.given.open()
        await mine?.ready.opened
        return answer
      }
    }
  })
  return { backend: answering, holdNext: () => (late = { ready: gate(), given: gate() }) }
}

const clock = fakeClock()

function tierOn (t: Test, { keyspace }: Place, backend: Backend, more: Partial<SharedTierOptions> = {}) {
  const logger = silentLogger()
  const tier = new SharedTier({ backend, keyspace, serializer: msgpackSerializer, timeout: 10_000, logger, now: clock.now, ...more })
  t.teardown(() => tier.close())
  return { tier, logger }
}

const unstamped: Stamp = { epoch: 0, softened: 0, tagged: 0, deleted: 0 }
const entryOf = (value: unknown, tags: string[] = []): Entry =>
  ({ ...copyIn(value), loadedAt: clock.now(), freshUntil: clock.now() + 30_000, staleUntil: clock.now() + 60_000, tags, stamp: unstamped })

const claim = async (tier: SharedTier, ...keys: string[]) => await tier.claimMany(keys, { ttl: 60_000 })

async function fill (tier: SharedTier, claims: readonly Claim[], fills: readonly { key: string, value: unknown, tags?: string[] }[]): Promise<Filled[]> {
  return await tier.fillMany(fills.map(({ key, value, tags }, i) => {
    const { lease } = claims[i]!
    const entry = { ...entryOf(value, tags), stamp: lease.stamp }
    return { key, entry, bytes: tier.encode(entry, lease.stamp), lease }
  }))
}

/** As a load does it. */
async function load (tier: SharedTier, key: string, value: unknown, tags?: string[]): Promise<Filled> {
  return (await fill(tier, await claim(tier, key), [{ key, value, ...(tags !== undefined && { tags }) }]))[0]!
}

const read = async (tier: SharedTier, ...keys: string[]) => (await tier.readMany(keys)).map(entry => entry && (entry.softened ? { softened: entry.value } : entry.value))

for (const [kind, make] of Object.entries(places)) {
  const fenced = kind !== 'a backend of three methods'

  t.test(`a tier on ${kind}`, async t => {
    /** One tier in each of two processes. */
    function two (t: Test) {
      const place = make(t)
      const { backend, state } = switchable(place.another())
      const { tier, logger } = tierOn(t, place, backend)
      const { tier: theirs } = tierOn(t, place, place.another())
      const [a, b, c] = ['a', 'b', 'c'].map(rest => place.keyspace.entry('k', rest)) as [string, string, string]
      return { ...place, tier, theirs, logger, state, a, b, c }
    }

    t.test('brings what was filled, in the order of the keys, to every process', async t => {
      const { tier, theirs, a, b, c } = two(t)
      t.strictSame(await read(tier, a, b), [undefined, undefined], 'nothing yet')
      const claims = await claim(tier, a, b)
      t.strictSame(claims.map(one => one!.entry), [undefined, undefined])
      t.strictSame(await fill(tier, claims, [{ key: a, value: 1 }, { key: b, value: { id: 2 } }]), [true, true])
      for (const one of [tier, theirs]) t.strictSame(await read(one, b, c, a, b), [{ id: 2 }, undefined, 1, { id: 2 }])
      t.strictSame(await tier.readMany([]), [])
    })

    t.test('shows at a second look what was filled meanwhile', async t => {
      const { tier, theirs, a, b } = two(t)
      await load(theirs, a, 'theirs')
      const [found, missing] = await claim(tier, a, b)
      t.equal(found!.entry!.value, 'theirs')
      t.equal(missing!.entry, undefined)
      t.ok(missing!.lease)
    })

    t.test('forgets keys for every process, and no others', async t => {
      const { tier, theirs, a, b } = two(t)
      await load(tier, a, 1)
      await load(tier, b, 2)
      t.equal(await theirs.forgetMany([a]), true)
      t.strictSame(await read(tier, a, b), [undefined, 2])
      const { deleted } = (await tier.stamp())!
      await theirs.forgetMany([a])
      t.not((await tier.stamp())!.deleted, deleted, 'its stamp tells of it')
    })

    t.test(`${fenced ? 'refuses' : 'can not refuse'} a fill whose load began before its key was forgotten`, async t => {
      const { tier, theirs, a, b } = two(t)
      const claims = await claim(tier, a, b)
      await theirs.forgetMany([a])
      t.strictSame(await fill(tier, claims, [{ key: a, value: 'late' }, { key: b, value: 2 }]), [!fenced, true])
      t.strictSame(await read(theirs, a, b), [fenced ? undefined : 'late', 2])
    })

    t.test('forgets everything with a hard invalidation, and what was being loaded', async t => {
      const { tier, theirs, a, b } = two(t)
      await load(tier, a, 1)
      const claims = await claim(tier, b)
      t.equal(await theirs.forget({ hard: true }), true)
      await fill(tier, claims, [{ key: b, value: 'late' }])
      t.strictSame(await read(tier, a, b), [undefined, undefined])
      t.equal((await claim(tier, a))[0]!.entry, undefined, 'nor does a second look find it')
      await load(tier, a, 2)
      t.strictSame(await read(theirs, a), [2])
    })

    t.test('keeps to each of several invalidations at once', async t => {
      const all: Invalidations[] = [{ hard: true }, { soft: true }, { tags: ['t'] }, { keys: ['other'] }]
      for (const [one, another] of all.flatMap(one => all.filter(another => another !== one).map(another => [one, another] as const))) {
        const { tier, theirs, a } = two(t)
        await fill(tier, await claim(tier, a), [{ key: a, value: 1, tags: ['t'] }])
        await Promise.all([tier.forget(one), theirs.forget(another)])
        const both = { ...one, ...another }
        t.strictSame(await read(tier, a), [both.hard === true || both.tags !== undefined ? undefined : both.soft === true ? { softened: 1 } : 1], JSON.stringify(both))
      }
    })

    t.test('softens everything with a soft invalidation, and what was being loaded', async t => {
      const { tier, theirs, a, b } = two(t)
      await load(tier, a, 1)
      const claims = await claim(tier, b)
      t.equal(await theirs.forget({ soft: true }), true)
      await fill(tier, claims, [{ key: b, value: 2 }])
      t.strictSame(await read(tier, a, b), [{ softened: 1 }, { softened: 2 }])
      t.equal(freshness((await tier.readMany([a]))[0]!, clock.now(), undefined), 'stale')
      await load(tier, a, 3)
      t.strictSame(await read(theirs, a), [3], 'what is loaded later is fresh')
    })

    t.test(`forgets what has a tag, and ${fenced ? 'nothing else' : 'whatever else has tags'}`, async t => {
      const { tier, theirs, a, b, c } = two(t)
      await load(tier, a, 1, ['s', 't'])
      await load(tier, b, 2, ['s'])
      await load(tier, c, 3)
      const d = `${c}d`
      const claims = await claim(tier, d)
      t.equal(await theirs.forget({ tags: ['t', 'unknown'] }), true)
      await fill(tier, claims, [{ key: d, value: 'late', tags: ['t'] }])
      t.strictSame(await read(tier, a, b, c), [undefined, fenced ? 2 : undefined, 3])
      // Its load began before: its tag was not held yet, and is not now.
      t.strictSame(await read(tier, d), [undefined])
      await load(tier, a, 4, ['t'])
      t.strictSame(await read(theirs, a), [4])
    })

    t.test('replaces whatever is there by what is set', async t => {
      const { tier, theirs, a, b } = two(t)
      const claims = await claim(tier, a)
      await theirs.setMany([{ key: a, entry: entryOf('set') }, { key: b, entry: entryOf('too', ['t']) }])
      t.strictSame(await fill(tier, claims, [{ key: a, value: 'late' }]), [!fenced])
      if (fenced) t.strictSame(await read(tier, a, b), ['set', 'too'])
      await theirs.forget({ tags: ['t'] })
      t.strictSame(await read(tier, b), [undefined])
      await theirs.setMany([{ key: b, entry: entryOf('again', ['t']) }])
      t.strictSame(await read(tier, b), ['again'])
    })

    t.test('that nobody used before is ready to be set', async t => {
      const { tier, theirs, a } = two(t)
      await tier.setMany([{ key: a, entry: entryOf(1) }])
      t.strictSame(await read(theirs, a), [1])
      t.strictSame(await tier.stamp(), await theirs.stamp())
    })

    t.test('that is away counts as missing, and never rejects', async t => {
      const { tier, state, logger, a } = two(t)
      await load(tier, a, 1)
      const claims = await claim(tier, a)
      state.away = true
      t.strictSame(await read(tier, a, a), [undefined, undefined])
      t.strictSame(await claim(tier, a, a), [undefined, undefined])
      t.strictSame(await fill(tier, claims, [{ key: a, value: 2 }]), ['unknown'], 'nothing contradicts the value')
      t.equal(await tier.stamp(), undefined)
      t.match(logger.lines.debug[0], { details: { region: 'objects', operation: 'read', err: { message: 'away' } }, message: 'a tier did not answer and counts as missing' })
      t.strictSame(logger.lines.error, [])
    })

    t.test('that says nothing counts as missing when its time is over', async t => {
      const place = make(t)
      const { backend, state } = switchable(place.another())
      const { tier, logger } = tierOn(t, place, backend, { timeout: 1 })
      state.away = 'silent'
      t.strictSame(await read(tier, 'a'), [undefined])
      t.match(logger.lines.debug, [{ details: { err: { message: `${backend.name} of region objects did not answer within 1 ms` } } }])
    })

    t.test('that nobody used before can be told to forget', async t => {
      for (const tell of [
        (tier: SharedTier, a: string) => tier.forgetMany([a]), (tier: SharedTier) => tier.forget({ hard: true }),
        (tier: SharedTier) => tier.forget({ soft: true }), (tier: SharedTier) => tier.forget({ tags: ['t'] })
      ]) {
        const { tier, theirs, a } = two(t)
        t.equal(await tell(tier, a), true)
        t.strictSame(await read(theirs, a), [undefined])
        await load(tier, a, 1, ['t'])
        t.strictSame(await read(theirs, a), [1])
      }
    })

    t.test('that could not be told to forget isn’t believed until it was', async t => {
      const { tier, theirs, state, logger, a, b } = two(t)
      await load(tier, a, 'old')
      await load(tier, b, 'other')
      state.away = true
      t.equal(await tier.forgetMany([a]), false)
      state.away = false
      t.strictSame(await read(tier, a, b), [undefined, 'other'])
      t.equal((await claim(tier, a))[0]!.entry, undefined)
      await eventually(t, async () => (await read(theirs, a))[0] === undefined, 'it is replayed')
      await eventually(t, () => logger.lines.info.length === 1, 'and the log says so')
      t.match(logger.lines.info, [{ details: { region: 'objects' }, message: 'invalidations were replayed' }])
      await load(tier, a, 'new')
      t.strictSame(await read(tier, a), ['new'])
    })

    t.test('that answered before it was told to forget, and is heard after, isn’t believed', async t => {
      for (const farther of [false, true]) {
        for (const [question, ask] of [
          ['a read', async (tier: SharedTier, key: string) => await tier.readMany([key])],
          ['a claim', async (tier: SharedTier, key: string) => (await claim(tier, key)).map(one => one?.entry)]
        ] as const) {
          const place = make(t)
          const behind = make(t)
          const { backend, state } = switchable((farther ? behind : place).another())
          const { backend: answering, holdNext } = withLateAnswers(farther ? place.another() : backend)
          const told = gate()
          const first = tierOn(t, farther ? behind : place, farther ? backend : answering, { replayed: told.open }).tier
          const tier = farther ? tierOn(t, place, answering, { farther: [first] }).tier : first
          const [a, b] = ['a', 'b'].map(rest => place.keyspace.entry('k', rest)) as [string, string]
          for (const key of [a, b]) await load(tier, key, 'old')
          state.away = true
          t.equal(await first.forgetMany([a]), false)
          state.away = false
          const { ready, given } = holdNext()
          const asked = ask(tier, a)
          await given.opened
          await told.opened
          ready.open()
          t.strictSame(await asked, [undefined], farther ? `${question}, of what a farther tier had to forget` : question)
          t.strictSame(await read(tier, b), ['old'], 'it is again')
        }
      }
    })

    for (const [kind, what] of Object.entries({ hard: { hard: true }, soft: { soft: true }, tags: { tags: ['t'] } })) {
      t.test(`that was away for an invalidation (${kind}) isn’t believed until it has it`, async t => {
        const { tier, theirs, state, logger, a } = two(t)
        await load(tier, a, 'old', ['t'])
        state.away = true
        t.equal(await tier.forget(what), false)
        state.away = false
        t.strictSame(await read(tier, a), [undefined])
        t.strictSame(await read(theirs, a), ['old'])
        await eventually(t, () => logger.lines.info.length === 1, 'it is replayed')
        t.strictSame(await read(theirs, a), [kind === 'soft' ? { softened: 'old' } : undefined])
        t.strictSame(await read(tier, a), [kind === 'soft' ? { softened: 'old' } : undefined])
      })
    }

    t.test('that is away when something is set has the old value forgotten', async t => {
      const { tier, theirs, state, a } = two(t)
      await load(tier, a, 'old')
      state.away = true
      await tier.setMany([{ key: a, entry: entryOf('new') }])
      state.away = false
      t.strictSame(await read(tier, a), [undefined])
      await eventually(t, async () => (await read(theirs, a))[0] === undefined, 'it is replayed')
    })

    t.test('that fails just when the value is written has the old one forgotten', async t => {
      const place = make(t)
      const own = place.another()
      let full = false
      const backend = new Proxy(own, {
        get: (target, name) => (name === 'setMany' || name === 'fillMany') && full ? async () => { throw new Error('full') } : bound(target, name)
      })
      const { tier } = tierOn(t, place, backend)
      const a = place.keyspace.entry('k', 'a')
      await load(tier, a, 'old')
      full = true
      await tier.setMany([{ key: a, entry: entryOf('new') }])
      // Three methods can't tell of a deletion without writing a stamp.
      if (fenced) t.strictSame(await read(tierOn(t, place, place.another()).tier, a), [undefined])
      t.strictSame(await read(tier, a), [undefined])
    })

    t.test('warns once of bytes that it doesn’t understand, and puts them right', async t => {
      const { tier, theirs, logger, raw, a, b } = two(t)
      await load(tier, a, 1)
      await raw.setMany([{ key: a, value: Buffer.from('{"id":1,"name":"of somebody else"}'), ttl: 60_000 }, { key: b, value: Buffer.alloc(100, 0xfc), ttl: 60_000 }])
      t.strictSame(await read(tier, a, b), [undefined, undefined])
      t.strictSame(await read(tier, a, b), [undefined, undefined])
      t.match(logger.lines.warn, [{ details: { region: 'objects', key: a }, message: 'an entry was not understood and counts as missing; further ones will not be logged' }])
      t.equal(logger.lines.warn.length, 1)
      const claims = await claim(tier, a, b)
      t.strictSame(await fill(tier, claims, [{ key: a, value: 1 }, { key: b, value: 2 }]), [true, true])
      t.strictSame(await read(theirs, a, b), [1, 2])
    })

    t.test('whose stamp was lost, or overwritten, has forgotten everything', async t => {
      const stampKeys = ({ keyspace }: Place) => fenced ? [keyspace.stamp] : (['epoch', 'softened', 'tagged', 'deleted'] as const).map(part => keyspace.stampPart(part))
      for (const lose of stampKeys(two(t)).flatMap((_, i) => [
        async (place: Place) => await place.raw.deleteMany([stampKeys(place)[i]!]),
        async (place: Place) => await place.raw.setMany([{ key: stampKeys(place)[i]!, value: Buffer.from('foreign'), ttl: 60_000 }])
      ])) {
        const on = two(t)
        await load(on.tier, on.a, 'old')
        await lose(on)
        t.strictSame(await read(on.tier, on.a), [undefined])
        t.equal(await on.tier.stamp(), undefined)
        t.equal((await claim(on.tier, on.a))[0]!.entry, undefined)
        await load(on.tier, on.a, 'new')
        t.strictSame(await read(on.theirs, on.a), ['new'])
      }
    })

    t.test('copies what a farther tier still has, and only where there is nothing', async t => {
      const { tier, theirs, a, b, c } = two(t)
      await load(theirs, b, 'here already')
      const asked: string[][] = []
      await tier.copyMany([a, b, c], async keys => {
        asked.push([...keys])
        return [{ ...entryOf('from afar', ['t']), stamp: newStamp() }, entryOf('too late'), undefined]
      })
      t.strictSame(asked, [[a, b, c]])
      t.strictSame(await read(theirs, a, b, c), ['from afar', 'here already', undefined])
      const d = `${c}d`
      await tier.copyMany([d], async () => [{ ...entryOf('soft'), softened: true }])
      t.strictSame(await read(theirs, d), [undefined], 'what was softened there would be fresh here')
      await theirs.forget({ tags: ['t'] })
      t.strictSame(await read(tier, a), [undefined], 'its tags are held here as well')
    })

    t.test('that is away is not copied to, and what can’t be encoded isn’t copied', async t => {
      const { tier, state, theirs, a, keyspace, another, raw } = two(t)
      state.away = true
      await tier.copyMany([a], async () => [entryOf(1)])
      state.away = false
      t.strictSame(await read(theirs, a), [undefined])
      const { tier: picky, logger } = tierOn(t, { keyspace, another, raw }, another(), { serializer: { encode: () => { throw new Error('never') }, decode: () => 1 } })
      await picky.copyMany([a], async () => [entryOf(1)])
      t.match(logger.lines.debug, [{ details: { operation: 'copy' } }])
    })

    t.test('rejects a set that its serializer can’t encode, and only that', async t => {
      const place = make(t)
      const error = new Error('never')
      const { tier } = tierOn(t, place, place.another(), { serializer: { encode: () => { throw error }, decode: () => 1 } })
      await t.rejects(tier.setMany([{ key: place.keyspace.entry('k', 'a'), entry: entryOf(1) }]), error)
    })

    t.test('that answers another number of values than it was asked for counts as away', async t => {
      const place = make(t)
      for (const answer of [[], [undefined, undefined, undefined], 'text']) {
        const { tier, logger } = tierOn(t, place, { ...place.raw, name: 'wrong', getMany: async () => answer as [], setMany: async () => {}, deleteMany: async () => {} })
        t.strictSame(await read(tier, 'a'), [undefined])
        t.match(logger.lines.debug, [{ details: { err: { message: 'wrong.getMany must answer each of 5 keys' } } }])
      }
    })
  })
}

function bound (target: object, name: string | symbol): unknown {
  const member: unknown = Reflect.get(target, name, target)
  return typeof member === 'function' ? member.bind(target) : member
}

/** On Redis, with one of its methods replaced. */
function patched (t: Test, patch: Partial<LeasingBackend>) {
  const place = places['Redis, by marks'](t)
  const own = place.another()
  const backend = new Proxy(own, { get: (target, name) => patch[name as keyof LeasingBackend] ?? bound(target, name) })
  return { ...place, ...tierOn(t, place, backend), a: place.keyspace.entry('k', 'a') }
}

t.test('a backend that leases, and answers without a stamp or with too few values, counts as away', async t => {
  for (const answer of [[], [Buffer.from('foreign'), Buffer.from('a')], [Buffer.from('1|0|0|0')]]) {
    const { tier, logger, a } = patched(t, { leaseMany: async () => answer as unknown as [Uint8Array] })
    t.strictSame(await claim(tier, a), [undefined])
    t.match(logger.lines.debug, [{ details: { operation: 'lease', err: { message: 'redis.leaseMany must answer a stamp and one value for each key' } } }])
  }
})

t.test('a set for which no stamp comes back is kept under one that nobody has: it is missing', async t => {
  const { tier, a } = patched(t, { leaseMany: async () => [Buffer.from('foreign')] })
  await tier.setMany([{ key: a, entry: entryOf(1) }])
  t.strictSame(await read(tier, a), [undefined])
})

t.test('one that loads anew takes the lease from who loads already', async t => {
  const place = places.Redis(t)
  const { tier } = tierOn(t, place, place.another())
  const a = place.keyspace.entry('k', 'a')
  const before = await claim(tier, a)
  const after = await tier.claimMany([a], { ttl: 60_000, takeOver: true })
  t.strictSame(await fill(tier, before, [{ key: a, value: 'late' }]), [false])
  t.strictSame(await fill(tier, after, [{ key: a, value: 'new' }]), [true])
  t.strictSame(await read(tier, a), ['new'])
})

t.test('a tag whose version was lost could have been invalidated: what has it is missing', async t => {
  const place = places.Redis(t)
  const { tier } = tierOn(t, place, place.another())
  const [a, b] = ['a', 'b'].map(rest => place.keyspace.entry('k', rest)) as [string, string]
  await load(tier, a, 1, ['lost'])
  await load(tier, b, 2, ['kept'])
  await place.raw.deleteMany([place.keyspace.tag('lost')])
  t.strictSame(await read(tier, a, b), [1, 2], 'as long as no tag was invalidated at all')
  await tier.forget({ tags: ['another'] })
  t.strictSame(await read(tier, a, b), [undefined, 2])
})

t.test('a version of a tag that is older than the last hard invalidation says nothing of later values', async t => {
  const place = places.Redis(t)
  const { tier } = tierOn(t, place, place.another())
  const a = place.keyspace.entry('k', 'a')
  await load(tier, a, 1, ['t'])
  for (let i = 0; i < 3; i++) await tier.forget({ tags: ['t'] })
  await tier.forget({ hard: true })
  await load(tier, a, 2, ['t'])
  await tier.forget({ tags: ['another'] })
  t.strictSame(await read(tier, a), [2])
  await tier.forget({ tags: ['t'] })
  t.strictSame(await read(tier, a), [undefined])
})

t.test('a read asks for tags only when some tag of the region was invalidated since', async t => {
  const place = places.Redis(t)
  const { tier } = tierOn(t, place, place.another())
  const a = place.keyspace.entry('k', 'a')
  await load(tier, a, 1, ['t'])
  await place.raw.getMany([a])
  const recorder = await server.recordCommands() // now that all have connected
  await recorder.reset()
  await read(tier, a)
  t.strictSame(await recorder.commands(), ['mget'])
  await tier.forget({ tags: ['another'] })
  await recorder.reset()
  await read(tier, a)
  t.strictSame(await recorder.commands(), ['mget', 'mget'])
})

t.test('where a server is flushed while tags are looked at, nothing that was read before is believed', async t => {
  for (const afterwards of ['nothing', 'new values']) {
    const place = places.Redis(t)
    const { backend, before } = interruptible(place.another())
    const { tier } = tierOn(t, place, backend)
    const { tier: other } = tierOn(t, place, place.another())
    const a = place.keyspace.entry('k', 'a')
    await load(other, a, 1, ['t'])
    await other.forget({ tags: ['another'] })
    before('getMany', 2, async () => {
      await other.forget({ tags: ['t'] })
      await place.raw.deleteMany([place.keyspace.stamp, place.keyspace.tag('t'), a])
      if (afterwards === 'new values') await load(other, a, 2, ['t'])
    })
    t.strictSame(await read(tier, a), [undefined], afterwards)
  }
})

t.test('a set whose place others take again and again leaves nothing older there', async t => {
  for (const takers of [1, Infinity]) {
    const place = places.Redis(t)
    const { backend, before } = interruptible(place.another() as LeasingBackend)
    const { tier } = tierOn(t, place, backend)
    const { tier: other } = tierOn(t, place, place.another())
    const [a, b] = ['a', 'b'].map(rest => place.keyspace.entry('k', rest)) as [string, string]
    for (const key of [a, b]) await load(other, key, 'old')
    let taken = 0
    const take = async () => {
      await other.claimMany([a], { ttl: 60_000, takeOver: true }) // as a refresh does, which fails
      if (++taken < takers) before('fillMany', 1, take)
    }
    before('fillMany', 1, take)
    await tier.setMany([{ key: a, entry: entryOf('new') }, { key: b, entry: entryOf('new') }])
    t.strictSame(await read(other, a, b), [takers === 1 ? 'new' : undefined, 'new'])
  }
})

t.test('what a refused refresh was to replace is forgotten where it still stands, or where that can’t be seen', async t => {
  for (const blind of [false, true]) {
    const place = places.Redis(t)
    const { tier } = tierOn(t, place, place.another())
    const [a, b, c] = ['a', 'b', 'c'].map(rest => place.keyspace.entry('k', rest)) as [string, string, string]
    for (const key of [a, b]) await load(tier, key, 'old')
    const claims = await tier.claimMany([a, b, c], { ttl: 60_000, takeOver: true })
    await tier.setMany([{ key: b, entry: entryOf('newer') }])
    const own = place.another()
    const refusing = new Proxy(own, { get: (target, name) => blind && name === 'getMany' ? async () => { throw new Error('away') } : bound(target, name) })
    await tierOn(t, place, refusing).tier.forgetStanding([a, b, c].map((key, i) => ({ key, lease: claims[i]!.lease })))
    t.strictSame(await read(tier, a, b, c), [undefined, blind ? undefined : 'newer', undefined])
  }
})

t.test('an entry is kept as long as it may be served, and its tags a little longer', async t => {
  const place = places.Redis(t)
  const client = new Redis(server.port)
  t.teardown(() => client.disconnect())
  const { tier } = tierOn(t, place, redis(client))
  const [a, b, c] = ['a', 'b', 'c'].map(rest => place.keyspace.entry('k', rest)) as [string, string, string]
  await load(tier, a, 1, ['t'])
  await tier.setMany([{ key: b, entry: entryOf(2) }])
  for (const [key, longest] of [[a, 60_000], [b, 60_000], [place.keyspace.tag('t'), 61_000]] as const) {
    const left = await client.pttl(key)
    t.ok(left > longest - 10_000 && left <= longest, `${key}: ${left} ms`)
  }
  await tier.setMany([{ key: c, entry: { ...entryOf(3), staleUntil: clock.now() - 1 } }])
  await eventually(t, async () => await client.exists(c) === 0, 'what is over already lives for a moment')
})

t.test('a tier tells what it stands on', async t => {
  const place = places.Redis(t)
  const client = new Redis(server.port)
  t.teardown(() => client.disconnect())
  const { tier } = tierOn(t, place, redis(client))
  t.equal(tier.name, 'redis')
  t.equal(tier.connection, client)
  t.ok(tier.line)
  const bare = places['a backend of three methods'](t)
  const { tier: other } = tierOn(t, bare, bare.another())
  t.equal(other.name, 'bare')
  t.equal(other.connection, undefined)
  t.equal(other.line, undefined)
})

t.test('no mark is put where the stamp tells whether anything was invalidated, until something was', async t => {
  const place = places.Redis(t)
  const own = place.another() as LeasingBackend
  const asked: string[] = []
  const backend = new Proxy(own, { get: (target, name) => { asked.push(String(name)); return bound(target, name) } })
  const { tier } = tierOn(t, place, backend)
  const { tier: theirs } = tierOn(t, place, place.another())
  const [a, b, c] = ['a', 'b', 'c'].map(rest => place.keyspace.entry('k', rest)) as [string, string, string]
  const putsMarks = async (work: () => Promise<unknown>) => {
    asked.length = 0
    await work()
    return asked.includes('leaseMany')
  }
  t.ok(await putsMarks(() => load(tier, a, 1)), 'the first one makes the stamp')
  t.notOk(await putsMarks(() => load(tier, b, 1)))

  const look = await tier.lookMany([a, c])
  t.strictSame(look.entries.map(entry => entry?.value), [1, undefined])
  const [seen, other] = [look.lease(1)!, (await tier.lookMany([c])).lease(0)!]
  t.strictSame(await fill(tier, [{ entry: undefined, lease: seen, first: true }], [{ key: c, value: 'seen' }]), [true])
  t.strictSame(await fill(tier, [{ entry: undefined, lease: other, first: true }], [{ key: c, value: 'late' }]), [false], 'somebody was faster')
  t.notOk(await putsMarks(() => load(tier, b, 2)), 'which is nobody’s fault')

  const before = await claim(tier, a, b)
  await theirs.forgetMany([c])
  t.strictSame(await fill(tier, before, [{ key: a, value: 'late' }, { key: b, value: 'late' }]), [false, false], 'for another key’s sake')
  t.ok(await putsMarks(() => load(tier, c, 3)))
  t.equal((await tier.lookMany(['none'])).lease(0), undefined, 'and having looked is not enough')
  const marked = await claim(tier, 'other')
  await theirs.forgetMany([a])
  t.strictSame(await fill(tier, marked, [{ key: 'other', value: 4 }]), [true], 'where another key makes no difference')
  await eventually(t, async () => !await putsMarks(() => load(tier, b, 5)), 'a while later')
})

t.test('what was seen too long ago is no right to fill any more', async t => {
  const place = places.Redis(t)
  const { tier } = tierOn(t, place, place.another(), { leaseTtl: 10 })
  const a = place.keyspace.entry('k', 'a')
  await load(tier, 'another', 'there is a stamp')
  const before = await claim(tier, a)
  const until = performance.now() + 10
  await eventually(t, () => performance.now() > until, 'its time is over')
  t.strictSame(await fill(tier, before, [{ key: a, value: 'late' }]), [false])
  t.strictSame(await read(tier, a), [undefined])
})

t.test('what is set is not replaced by what was seen before', async t => {
  const place = places.Redis(t)
  const { tier } = tierOn(t, place, place.another())
  const { tier: theirs } = tierOn(t, place, place.another())
  const [a, b] = ['a', 'b'].map(rest => place.keyspace.entry('k', rest)) as [string, string]
  await load(tier, b, 'there is a stamp')
  const before = await claim(tier, a)
  await theirs.setMany([{ key: a, entry: entryOf('set') }])
  t.strictSame(await fill(tier, before, [{ key: a, value: 'late' }]), [false])
  t.strictSame(await read(tier, a), ['set'])

  const { backend, before: interrupt } = interruptible(place.another() as LeasingBackend)
  const { tier: slow } = tierOn(t, place, backend)
  const first = await claim(tier, a)
  interrupt('fillMany', 1, async () => { t.strictSame(await fill(tier, first, [{ key: a, value: 'late' }]), [false]) })
  await slow.setMany([{ key: a, entry: entryOf('set again') }])
  t.strictSame(await read(tier, a), ['set again'], 'nor while it is being set')
})

t.test('a value that a backend will never keep is no failure, and there is one warning', async t => {
  const tooLarge = new Error('too large')
  const warned = [{ message: 'a tier can not keep a value; further ones will not be logged', details: { region: 'objects', err: { message: 'too large' } } }]
  const { tier, logger, keyspace, a } = patched(t, { fillMany: async entries => entries.map((_, i) => i === 1 ? tooLarge : i === 2) })
  const keys = [a, keyspace.entry('k', 'b'), keyspace.entry('k', 'c')]
  for (let round = 0; round < 5; round++) {
    t.strictSame(await fill(tier, await claim(tier, ...keys), keys.map(key => ({ key, value: key }))), [false, 'unkept', true])
  }
  t.match(logger.lines.warn, warned)
  t.equal(logger.lines.warn.length, 1)

  const place = places['a backend of three methods'](t)
  const [large, small] = [place.keyspace.entry('k', 'large'), place.keyspace.entry('k', 'small')]
  const { raw } = place
  const picky: Backend = {
    ...raw,
    setMany: async entries => {
      await raw.setMany(entries.filter(({ key }) => key !== large))
      if (entries.some(({ key }) => key === large)) throw new UnstorableError([large], tooLarge)
    }
  }
  const bare = tierOn(t, place, picky)
  for (let round = 0; round < 5; round++) {
    t.strictSame(await fill(bare.tier, await claim(bare.tier, large, small), [{ key: large, value: 1 }, { key: small, value: 2 }]), ['unkept', true])
    await bare.tier.setMany([{ key: large, entry: entryOf(1) }, { key: small, entry: entryOf(round) }])
    t.match(await bare.tier.readMany([large, small]), [undefined, { value: round }])
  }
  t.match(bare.logger.lines.warn, warned)
  t.equal(bare.logger.lines.warn.length, 1)
})

t.test('a version of a tag that is none could be any', async t => {
  const { tier, keyspace, raw } = patched(t, {})
  const key = keyspace.entry('k', 'tagged')
  await fill(tier, await claim(tier, key), [{ key, value: 1, tags: ['team'] }])
  await tier.forget({ tags: ['others'] })
  t.match(await tier.readMany([key]), [{ value: 1 }])
  await raw.setMany([{ key: keyspace.tag('team'), value: Buffer.from('-'), ttl: 60_000 }])
  t.strictSame(await tier.readMany([key]), [undefined])
})

t.test('a deletion comes after what the same process is writing to a backend of three methods, though that may fail', async t => {
  const place = places['a backend of three methods'](t)
  const key = place.keyspace.entry('k', 'slow')
  for (const error of [undefined, new Error('refused')]) {
    const [write, isWriting] = [gate(), gate()]
    const slow: Backend = {
      ...place.raw,
      setMany: async entries => {
        if (entries[0]!.key === key) {
          isWriting.open()
          await write.opened
          if (error !== undefined) throw error
        }
        await place.raw.setMany(entries)
      }
    }
    const { tier } = tierOn(t, place, slow)
    const filled = fill(tier, await claim(tier, key), [{ key, value: 'old' }])
    await isWriting.opened
    const forgotten = tier.forgetMany([key])
    await new Promise(setImmediate) // it would have deleted by now
    write.open()
    await Promise.all([filled, forgotten])
    t.strictSame(await read(tier, key), [undefined])
  }
})

t.test('a deletion waits for no write of another key, and for none that takes longer than a minute', async t => {
  const place = places['a backend of three methods'](t)
  const [lost, other] = [place.keyspace.entry('k', 'lost'), place.keyspace.entry('k', 'other')]
  const isWriting = gate()
  const { tier } = tierOn(t, place, {
    ...place.raw,
    setMany: async entries => {
      await place.raw.setMany(entries)
      if (entries[0]!.key !== lost) return
      isWriting.open()
      await new Promise(() => {})
    }
  })
  await load(tier, other, 1)
  void fill(tier, await claim(tier, lost), [{ key: lost, value: 1 }])
  await isWriting.opened
  t.equal(await tier.forgetMany([other]), true)
  const { now } = performance
  t.intercept(performance, 'now', { value: () => now.call(performance) + 60_001 })
  t.equal(await tier.forgetMany([lost]), true)
  t.strictSame(await read(tier, lost, other), [undefined, undefined])
})

t.test('what is copied from a farther tier is not put where its key was deleted meanwhile', async t => {
  const place = places['a backend of three methods'](t)
  const key = place.keyspace.entry('k', 'copied')
  const { tier } = tierOn(t, place, place.raw)
  await tier.copyMany([key], async () => {
    await tier.forgetMany([key])
    return [entryOf('old')]
  })
  t.strictSame(await read(tier, key), [undefined])
})

t.test('a stamp that is made anew matches no older entry, whatever is left of the one before', async t => {
  const place = places['a backend of three methods'](t)
  const key = place.keyspace.entry('k', 'tagged')
  const state = { refused: '' }
  const { tier } = tierOn(t, place, {
    ...place.raw,
    setMany: async entries => {
      await place.raw.setMany(entries.filter(entry => entry.key !== state.refused))
      if (entries.some(entry => entry.key === state.refused)) throw new Error('away')
    }
  })
  await load(tier, key, 'old', ['t'])
  await tier.forget({ tags: ['t'] })
  await place.raw.deleteMany([place.keyspace.stampPart('deleted')])
  state.refused = place.keyspace.stampPart('epoch')
  await claim(tier, place.keyspace.entry('k', 'another'))
  t.strictSame(await read(tier, key), [undefined])
})

t.test('a backend whose setMany returns nothing is understood', async t => {
  const place = places['a backend of three methods'](t)
  const key = place.keyspace.entry('k', 'a')
  const { tier } = tierOn(t, place, { ...place.raw, setMany: (entries => { void place.raw.setMany(entries) }) as Backend['setMany'] })
  t.strictSame(await tier.setMany([{ key, entry: entryOf(1) }]), [true])
  t.strictSame(await read(tier, key), [1])
})

t.test('a backend that says null where there is nothing is understood', async t => {
  const place = places['a backend of three methods'](t)
  const key = place.keyspace.entry('k', 'a')
  const { tier } = tierOn(t, place, { ...place.raw, getMany: async keys => (await place.raw.getMany(keys)).map(bytes => bytes ?? null!) })
  await load(tier, key, 1)
  t.strictSame(await read(tier, key, place.keyspace.entry('k', 'b')), [1, undefined])
})

t.test('a backend on several servers hears how long they may take, and where to log; it needn’t listen', async t => {
  const place = places['a backend of three methods'](t)
  const allowed: unknown[] = []
  const spread = { ...place.raw, serverOf: () => ({}) }
  const { logger } = tierOn(t, place, { ...spread, allow: (...what: unknown[]) => { allowed.push(what) } } as Backend, { timeout: 123 })
  t.equal(allowed.length, 1)
  const [[milliseconds, log]] = allowed as [[unknown, unknown]]
  t.equal(milliseconds, 123)
  t.equal(log, logger)
  t.strictSame(await tierOn(t, place, spread).tier.readMany([place.keyspace.entry('k', 'absent')]), [undefined])
})
