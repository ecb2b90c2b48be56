import { mock } from 'node:test'
import t from 'tap'
import type { DogpileLock, HeldLock } from '../../../lib/locks/lock.js'
import { dogpileOf, dogpileWith, done } from '../../helpers/dogpile.js'
import { deferred } from '../../helpers/doubles.js'

t.test('election', async t => {
  t.test('an election is one attempt for all names, and whoever is elected works on all of them', async t => {
    const { mine, locks } = dogpileOf(t)
    const { elected, others } = await mine.elect(['a', 'b', 'c'])
    t.strictSame(elected?.names, ['a', 'b', 'c'])
    t.strictSame(others, [])
    t.strictSame(locks.asked, [{ names: ['a', 'b', 'c'], ttl: 4500 }])
    await elected!.release()
    t.equal(locks.holders.size, 0)
  })

  t.test('of two processes one is elected', async t => {
    const { mine, theirs } = dogpileOf(t)
    const [one, other] = await Promise.all([mine.elect(['a']), theirs.elect(['a'])])
    t.ok(one.elected)
    t.strictSame(other, { elected: undefined, others: ['a'] })
    await one.elected!.release()
    const again = await theirs.elect(['a'])
    t.ok(again.elected)
    await again.elected!.release()
  })

  t.test('a single name that is taken is not asked for twice', async t => {
    const { mine, locks } = dogpileOf(t)
    locks.hold(['a'])
    t.strictSame(await mine.elect(['a']), { elected: undefined, others: ['a'] })
    t.equal(locks.asked.length, 1)
  })

  t.test('where some of many are taken, the others are not made to wait for them, and are one piece of work', async t => {
    const { mine, locks, pass } = dogpileOf(t)
    locks.hold(['b', 'd'])
    const { elected, others } = await mine.elect(['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'])
    t.strictSame(elected?.names, ['a', 'c', 'e', 'f', 'g', 'h'])
    t.strictSame(others, ['b', 'd'])
    t.strictSame(locks.asked.map(({ names }) => names.join('')), ['abcdefgh', 'abcd', 'efgh', 'ab', 'cd', 'a', 'b', 'c', 'd'], 'found by halves')
    await pass(1500)
    t.equal(locks.extended, 3)
    await elected!.yield('e')
    t.notOk(locks.holders.has('e'))
    await elected!.release()
    t.strictSame([...locks.holders.keys()], ['b', 'd'])
  })

  t.test('however many are taken, a lock that takes all or none is not asked for each of them', async t => {
    const { mine, locks } = dogpileOf(t)
    const names = Array.from({ length: 1000 }, (_, i) => `n${i}`)
    locks.hold(names.filter((_, i) => i % 2 === 0))
    const { elected, others } = await mine.elect(names)
    t.equal(locks.asked.length, 33)
    t.equal(others.length + (elected?.names.length ?? 0), 1000)
  })

  t.test('a lock that has taken none of many is let go', async t => {
    const { locks } = dogpileOf(t)
    let released = 0
    for (const release of [async () => { released++ }, () => { released++; throw new Error('broken') }]) {
      const none = dogpileWith(locks, { acquire: async () => undefined, acquireSome: async () => ({ held: { ...locks.hold([]), release }, names: [] }) })
      t.strictSame(await none.elect(['a', 'b']), { elected: undefined, others: ['a', 'b'] })
    }
    t.equal(released, 2)
  })

  t.test('a lock that can take some of many is asked once', async t => {
    const { locks } = dogpileOf(t)
    const some = dogpileWith(locks)
    locks.hold(['b', 'd'])
    const { elected, others } = await some.elect(['a', 'b', 'c', 'd'])
    t.strictSame(elected?.names, ['a', 'c'])
    t.strictSame(others, ['b', 'd'])
    t.strictSame(await some.elect(['b', 'd']), { elected: undefined, others: ['b', 'd'] })
    t.equal(locks.asked.length, 2)
    await elected!.release()
    t.strictSame([...locks.holders.keys()], ['b', 'd'])
  })

  t.test('a name of many that can’t be asked for by itself is left to others', async t => {
    const { mine, locks } = dogpileOf(t)
    locks.hold(['d'])
    const { acquire } = locks
    t.capture(locks, 'acquire', async (names, ttl) => {
      if (names.join('') === 'ab') throw new Error('away')
      return await acquire.call(locks, names, ttl)
    })
    const { elected, others } = await mine.elect(['a', 'b', 'c', 'd'])
    t.strictSame(elected?.names, ['c'])
    t.strictSame(others, ['a', 'b', 'd'])
    await elected?.release()
    t.equal(locks.released, 1)
  })

  t.test('null is no lock, nor is what acquire gives without a promise', async t => {
    for (const none of [async () => null, () => undefined]) {
      const { mine } = dogpileOf(t, { lock: { acquire: none as never } })
      t.strictSame(await mine.elect(['a']), { elected: undefined, others: ['a'] })
      mock.timers.reset()
    }
  })

  t.test('a lock ends early enough for the others to look before its time is over', async t => {
    for (const [ttl, hold] of [[5000, 4500], [1000, 900], [100, 80], [50, 30]] as const) {
      const { mine, locks } = dogpileOf(t, { ttl })
      const { elected } = await mine.elect(['a'])
      t.equal(locks.asked[0]!.ttl, hold)
      await elected!.release()
      mock.timers.reset()
    }
  })

  const failures: Record<string, DogpileLock['acquire']> = {
    'a lock that rejects': async () => { throw new Error('no quorum') },
    'a lock that throws': () => { throw new Error('no quorum') }
  }
  for (const [what, acquire] of Object.entries(failures)) {
    t.test(`${what} elects everybody: it fails no read`, async t => {
      const { mine, theirs, logger, line } = dogpileOf(t, { lock: { acquire } })
      for (const one of [mine, theirs]) {
        const { elected, others } = await one.elect(['a', 'b'])
        t.strictSame(elected?.names, ['a', 'b'])
        t.strictSame(others, [])
        await elected!.announce(['a'], done)
        await elected!.release()
      }
      t.strictSame(line.sent, [], 'and nobody is told of work that anybody does')
      t.match(logger.lines.debug[0], { details: { names: ['a', 'b'], err: { message: 'no quorum' } }, message: 'no lock could be had: loading without an election' })
    })
  }

  t.test('a lock that hangs elects everybody when its time is over, and is released when it comes', async t => {
    const answer = deferred<HeldLock | undefined>()
    const { mine, locks, pass, settle } = dogpileOf(t, { lock: { acquire: () => answer.promise } })
    const electing = mine.elect(['a'])
    await pass(199)
    await pass(1)
    const { elected } = await electing
    t.strictSame(elected?.names, ['a'])
    answer.resolve(locks.hold(['a']))
    await settle()
    t.equal(locks.released, 1)
  })

  t.test('a lock that comes late and can’t be released is left alone', async t => {
    const answer = deferred<HeldLock | undefined>()
    const { mine, locks, pass, settle } = dogpileOf(t, { lock: { acquire: () => answer.promise } })
    const electing = mine.elect(['a'])
    await pass(199)
    await pass(1)
    await electing
    let asked = 0
    answer.resolve({ ...locks.hold(['a']), extend: async () => true, release: async () => { asked++; throw new Error('away') } })
    await settle() // otherwise the process ends by an unhandled rejection
    t.equal(asked, 1)
  })

  t.test('a lock that goes on failing is not asked for a while: everybody is elected at once', async t => {
    let asked = 0
    const { mine, pass, logger } = dogpileOf(t, { lock: { acquire: async () => { asked++; throw new Error('away') } } })
    for (let i = 0; i < 5; i++) t.ok((await mine.elect(['a'])).elected)
    t.equal(asked, 3)
    t.match(logger.lines.warn, [{ details: { tier: 'the lock for wake-ups' } }])
    await pass(100)
    t.ok((await mine.elect(['a'])).elected)
    t.equal(asked, 4, 'then one election probes it')
  })

  t.test('an answer that comes too late and brings no lock changes nothing', async t => {
    const unhandled: unknown[] = []
    const listener = (reason: unknown) => { unhandled.push(reason) }
    process.on('unhandledRejection', listener)
    t.teardown(() => process.off('unhandledRejection', listener))
    for (const late of ['none', 'failure'] as const) {
      const answer = deferred<undefined>()
      const { mine, pass, settle } = dogpileOf(t, { lock: { acquire: () => answer.promise } })
      const electing = mine.elect(['a'])
      await pass(200)
      t.ok((await electing).elected)
      if (late === 'none') answer.resolve(undefined)
      else answer.reject(new Error('late'))
      await settle()
      mock.timers.reset()
    }
    t.strictSame(unhandled, [])
  })
})
