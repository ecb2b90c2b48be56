import { mock } from 'node:test'
import t, { type Test } from 'tap'
import { Dogpile, type DogpileOptions } from '../../../lib/dogpile/dogpile.js'
import { Elected } from '../../../lib/dogpile/elected.js'
import type { Outcome } from '../../../lib/dogpile/news.js'
import type { Line } from '../../../lib/line.js'
import type { DogpileLock, HeldLock } from '../../../lib/locks/lock.js'
import { deferred, gate, silentLogger } from '../../helpers/doubles.js'

/** Time that passes when the test says so, for whoever asks for it and whoever waits for it. */
function passingTime (t: Test) {
  let now = 1000
  t.intercept(performance, 'now', { value: () => now })
  mock.timers.enable({ apis: ['setTimeout', 'setInterval'] })
  t.teardown(() => mock.timers.reset())
  const settle = async () => { for (let i = 0; i < 5; i++) await new Promise(setImmediate) }
  return {
    settle,
    pass: async (ms: number) => {
      await settle()
      now += ms
      mock.timers.tick(ms)
      await settle()
    }
  }
}

/** Locks that all processes share, and what was asked of them. */
class FakeLocks implements DogpileLock {
  readonly holders = new Map<string, string>()
  readonly asked: { names: readonly string[], ttl: number }[] = []
  extended = 0
  released = 0
  /** Whether some names of several can be released. */
  partial = true
  extend = async (): Promise<boolean> => true

  async acquire (names: readonly string[], ttl: number): Promise<HeldLock | undefined> {
    this.asked.push({ names: [...names], ttl })
    if (names.some(name => this.holders.has(name))) return undefined
    return this.hold(names)
  }

  hold (names: readonly string[]): HeldLock {
    const token = `token-${this.asked.length}`
    for (const name of names) this.holders.set(name, token)
    return {
      token,
      extend: () => {
        this.extended++
        return this.extend()
      },
      release: async () => {
        this.released++
        this.#free(names, token)
      },
      ...this.partial && { releaseSome: async (some: readonly string[]) => this.#free(some, token) }
    }
  }

  #free (names: readonly string[], token: string): void {
    for (const name of names) if (this.holders.get(name) === token) this.holders.delete(name)
  }
}

/** A line between all processes. It loses what the test wants to be lost. */
class FakeLine implements Pick<Line, 'publish' | 'listen'> {
  readonly sent: { channel: string, message: any }[] = []
  readonly listeners = new Set<(message: string) => void>()
  stopped = 0
  lossy = false

  async publish (channel: string, message: string): Promise<void> {
    this.sent.push({ channel, message: JSON.parse(message) })
    if (!this.lossy) this.say(message)
  }

  say (message: string): void {
    for (const listener of this.listeners) listener(message)
  }

  async listen (_channel: string, listener: (message: string) => void): Promise<() => void> {
    this.listeners.add(listener)
    return () => {
      this.stopped++
      this.listeners.delete(listener)
    }
  }

  async close (): Promise<void> {}
}

function dogpileOf (t: Test, more: Partial<DogpileOptions> = {}) {
  const time = passingTime(t)
  const locks = new FakeLocks()
  const line = new FakeLine()
  const logger = silentLogger()
  const options = { lock: locks, line, channel: 'wake-ups', ttl: 5000, wait: 4000, budget: 200, renewFor: 60_000, logger, ...more }
  /** Two processes. */
  const [mine, theirs] = [new Dogpile(options), new Dogpile(options)]
  return { ...time, locks, line, logger, mine, theirs }
}

/** Over a lock that can take some of many. */
function dogpileWith (locks: FakeLocks, lock: DogpileLock = someOf(locks)): Dogpile {
  return new Dogpile({ lock, line: undefined, channel: 'wake-ups', ttl: 5000, wait: 4000, budget: 200, renewFor: 60_000, logger: silentLogger() })
}

function someOf (locks: FakeLocks): DogpileLock {
  return {
    acquire: async () => { throw new Error('there is no need') },
    acquireSome: async (names, ttl) => {
      locks.asked.push({ names: [...names], ttl })
      const own = names.filter(name => !locks.holders.has(name))
      return own.length === 0 ? undefined : { names: own, held: locks.hold(own) }
    }
  }
}

/** Follows, and writes down what came of it. */
function following (dogpile: Dogpile, names: readonly string[], known: Set<string>) {
  const led: Elected[] = []
  const failures: [name: string, error: any][] = []
  let looks = 0
  let over = false
  const work = gate()
  const end = dogpile.follow(names, {
    look: async names => {
      looks++
      return names.filter(name => !known.has(name))
    },
    failed: (name, error) => failures.push([name, error]),
    lead: async elected => {
      led.push(elected)
      await work.opened
    }
  }).then(() => { over = true })
  return { led, failures, end, work, looks: () => looks, over: () => over }
}

const done: Outcome = { kind: 'done' }

t.test('election', async t => {
  t.test('one attempt for all names, and whoever has it works on all of them', async t => {
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

  t.test('one name that is taken is not asked for twice', async t => {
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

  t.test('what can’t be asked for after that is left to others', async t => {
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

  t.test('one that can’t be released when it comes late is left alone', async t => {
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

t.test('a lock is renewed while the work goes on', async t => {
  t.test('until it is released', async t => {
    const { mine, locks, pass } = dogpileOf(t)
    const { elected: one } = await mine.elect(['a'])
    await pass(1499)
    t.equal(locks.extended, 0)
    await pass(1)
    t.equal(locks.extended, 1)
    await pass(1500)
    await pass(1500)
    t.equal(locks.extended, 3)
    await one!.release()
    await pass(10_000)
    t.equal(locks.extended, 3)
    t.equal(locks.released, 1)
  })

  t.test('until its hard limit', async t => {
    const { mine, locks, pass } = dogpileOf(t, { renewFor: 4000 })
    const { elected: one } = await mine.elect(['a'])
    for (let i = 0; i < 10; i++) await pass(1500)
    t.equal(locks.extended, 2, 'at 1500 and 3000 ms')
    await one!.release()
  })

  t.test('until it is lost', async t => {
    const { mine, locks, pass } = dogpileOf(t)
    const { elected: one } = await mine.elect(['a'])
    locks.extend = async () => false
    for (let i = 0; i < 5; i++) await pass(1500)
    t.equal(locks.extended, 1)
    await one!.release()
  })

  t.test('by a lock that throws at once, too: it ends no process', async t => {
    const { mine, locks, pass, settle } = dogpileOf(t)
    const { elected: one } = await mine.elect(['a'])
    locks.extend = () => { throw new Error('away') }
    await pass(1500)
    await pass(1500)
    t.equal(locks.extended, 2)
    await one!.release()
    mock.timers.reset()
    const throwing: HeldLock = { token: 'x', extend: async () => true, release: () => { throw new Error('away') } }
    const other = dogpileOf(t, { lock: { acquire: async () => throwing } })
    const { elected: another } = await other.mine.elect(['a'])
    await another!.yield('a')
    await another!.release()
    await settle()
  })

  t.test('though it could not be asked once', async t => {
    const { mine, locks, pass } = dogpileOf(t)
    const { elected: one } = await mine.elect(['a'])
    locks.extend = async () => { throw new Error('away') }
    await pass(1500)
    locks.extend = async () => true
    await pass(1500)
    t.equal(locks.extended, 2)
    await one!.release()
  })
})

t.test('news', async t => {
  t.test('wake those who wait for these names, in every process', async t => {
    const { mine, theirs, settle, line } = dogpileOf(t)
    const { elected: one } = await mine.elect(['a', 'b', 'c'])
    const known = new Set<string>()
    const two = following(theirs, ['a', 'b'], known)
    await settle()
    t.equal(two.looks(), 1, 'it looks once when it has begun to listen')
    known.add('a')
    await one!.announce(['a'], done)
    await settle()
    t.equal(two.looks(), 2)
    t.notOk(two.over())
    known.add('b')
    await one!.announce(['b'], done)
    await two.end
    t.strictSame([two.led, two.failures], [[], []])
    t.strictSame(line.sent.map(({ channel }) => channel), ['wake-ups', 'wake-ups'])
    t.equal(line.listeners.size, 0, 'nobody listens any more')
    await one!.announce([], done)
    t.equal(line.sent.length, 2, 'no names, no news')
    await one!.release()
  })

  t.test('of a failure bring the error along, for its names only', async t => {
    const { mine, theirs, settle } = dogpileOf(t)
    const { elected: one } = await mine.elect(['a', 'b'])
    const known = new Set<string>()
    const two = following(theirs, ['a', 'b'], known)
    await settle()
    await one!.announce(['a', 'x'], { kind: 'failed', error: Object.assign(new RangeError('too far'), { code: 'E_FAR', statusCode: 404, secret: 'not told' }) })
    await settle()
    t.equal(two.failures.length, 1)
    const [name, error] = two.failures[0]!
    t.equal(name, 'a')
    t.type(error, Error)
    t.match(error, { name: 'RangeError', message: 'too far', code: 'E_FAR', statusCode: 404 })
    t.notOk('secret' in error)
    t.equal(String(error), 'RangeError: too far')
    t.notOk(two.over())
    known.add('b')
    await one!.announce(['b'], done)
    await two.end
    await one!.release()
  })

  t.test('of a failure that is no error, or has no plain code, are an error all the same', async t => {
    const { mine, theirs, settle, line } = dogpileOf(t)
    const names = ['a', 'b', 'c', 'd', 'e', 'f']
    const { elected: one } = await mine.elect(names)
    const two = following(theirs, names, new Set())
    await settle()
    await one!.announce(['a'], { kind: 'failed', error: 'text' })
    await one!.announce(['b'], { kind: 'failed', error: Object.assign(new Error('no'), { code: 7, statusCode: '404' }) })
    line.say(JSON.stringify({ names: ['c'], outcome: 'failed' }))
    line.say('{"names":["d"],"outcome":"failed","error":{"name":{},"message":{"toString":null},"code":"E","__proto__":{"polluted":true}}}')
    await one!.announce(['e'], { kind: 'failed', error: Object.create(null) })
    await one!.announce(['f'], { kind: 'failed', error: Object.defineProperty(new Error('no'), 'message', { get: () => { throw new Error('nor this') } }) })
    await two.end
    t.strictSame(two.failures.map(([name, error]) => [name, error.name, error.message, 'code' in error, 'statusCode' in error]), [
      ['a', 'Error', 'text', false, false],
      ['b', 'Error', 'no', false, false],
      ['c', 'Error', 'a load failed in another process', false, false],
      ['d', 'Error', 'a load failed in another process', true, false],
      ['e', 'Error', 'an object', false, false],
      ['f', 'Error', 'a load failed in another process', false, false]
    ])
    for (const [, error] of two.failures) t.ok(error instanceof Error && !('polluted' in error))
    await one!.release()
  })

  t.test('of a result that can’t be shared let the others do the work, without an election', async t => {
    const { mine, theirs, settle, locks } = dogpileOf(t)
    const { elected: one } = await mine.elect(['a', 'b'])
    const two = following(theirs, ['a', 'b'], new Set())
    await settle()
    await one!.announce(['b', 'a'], { kind: 'unshared' })
    await settle()
    t.strictSame(two.led.map(one => [...one.names]), [['b', 'a']])
    t.equal(locks.asked.length, 1)
    t.notOk(two.over(), 'it is over when the work is done')
    two.work.open()
    await two.end
    await one!.release()
  })

  t.test('of somebody else, or that are none, are ignored', async t => {
    const { mine, theirs, settle, line } = dogpileOf(t)
    const { elected: one } = await mine.elect(['a'])
    const known = new Set<string>()
    const two = following(theirs, ['a'], known)
    await settle()
    for (const foreign of ['', '{', 'null', '1', '"text"', '[]', '{}', '{"names":"a","outcome":"done"}', '{"names":["a"],"outcome":"maybe"}', '{"names":["a"]}', '{"names":["x"],"outcome":"done"}', '{"names":[1,null],"outcome":"failed"}']) line.say(foreign)
    await settle()
    t.equal(two.looks(), 1)
    t.strictSame([two.led, two.failures], [[], []])
    known.add('a')
    await one!.announce(['a'], done)
    await two.end
    await one!.release()
  })

  t.test('that come while it looks for the first time are not lost', async t => {
    const { theirs, locks, line, settle } = dogpileOf(t)
    locks.hold(['a'])
    const known = new Set<string>()
    const looking = deferred()
    let looks = 0
    const end = theirs.follow(['a'], {
      look: async names => {
        if (looks++ === 0) await looking.promise
        return names.filter(name => !known.has(name))
      },
      failed: () => {},
      lead: async () => {}
    })
    await settle()
    line.say('{"names":["a"],"outcome":"done"}')
    known.add('a')
    const before = looks
    looking.resolve()
    await end
    t.equal(before, 1)
  })

  t.test('that can’t be sent cost nobody anything', async t => {
    const { mine, line, logger, pass } = dogpileOf(t)
    const { elected: one } = await mine.elect(['a'])
    line.publish = async () => { throw new Error('away') }
    await one!.announce(['a'], done)
    line.publish = () => new Promise(() => {})
    const silent = one!.announce(['a'], done)
    await pass(200)
    await silent
    t.match(logger.lines.debug.map(({ message }) => message), Array(2).fill('those who wait could not be woken: they will look by themselves'))
    await one!.release()
  })

  t.test('are not sent where there is no line', async t => {
    const { mine } = dogpileOf(t, { line: undefined })
    const { elected: one } = await mine.elect(['a'])
    await one!.announce(['a'], done)
    await one!.release()
  })
})

t.test('those who wait', async t => {
  t.test('have it at once if it is there', async t => {
    const { theirs, locks } = dogpileOf(t)
    locks.hold(['a'])
    const two = following(theirs, ['a'], new Set(['a']))
    await two.end
    t.strictSame([two.looks(), two.led], [1, []])
  })

  t.test('look by themselves when the news are lost', async t => {
    const { mine, theirs, line, pass } = dogpileOf(t)
    line.lossy = true
    const { elected: one } = await mine.elect(['a'])
    const known = new Set<string>()
    const two = following(theirs, ['a'], known)
    await pass(0)
    known.add('a')
    await one!.announce(['a'], done)
    await pass(249)
    t.notOk(two.over())
    await pass(1)
    await two.end
    t.strictSame(two.led, [])
    await one!.release()
  })

  t.test('look by themselves where there is no line', async t => {
    const { theirs, locks, pass } = dogpileOf(t, { line: undefined })
    locks.hold(['a'])
    const known = new Set<string>()
    const two = following(theirs, ['a'], known)
    await pass(250)
    t.equal(two.looks(), 2)
    known.add('a')
    await pass(250)
    await two.end
    t.strictSame(two.led, [])
  })

  t.test('look by themselves however much others have to tell each other', async t => {
    const { theirs, locks, line, pass } = dogpileOf(t)
    locks.hold(['a'])
    const known = new Set<string>()
    const two = following(theirs, ['a'], known)
    await pass(0)
    known.add('a')
    for (let i = 0; i < 25; i++) {
      line.say('{"names":["another"],"outcome":"done"}')
      await pass(10)
    }
    await two.end
    t.equal(two.looks(), 2)
  })

  t.test('take over together what is nobody’s any more: what a lost lock was for, one of them tells', async t => {
    const { mine, theirs, locks, pass } = dogpileOf(t)
    t.intercept(Math, 'random', { value: () => 0.5 })
    locks.hold(['d'])
    await mine.elect(['a', 'b', 'c'])
    const two = following(theirs, ['a', 'b', 'c', 'd'], new Set())
    await pass(250)
    t.strictSame(locks.asked.slice(1).map(({ names }) => names.join('')), ['abcd', 'c'], 'two questions, while all is well')
    for (const name of ['a', 'b', 'c']) locks.holders.delete(name)
    await pass(250)
    t.strictSame(two.led.map(one => [...one.names]), [['c', 'a', 'b']])
    locks.holders.delete('d')
    await pass(250)
    t.strictSame(two.led.map(one => [...one.names]), [['c', 'a', 'b'], ['d']])
    two.work.open()
    await two.end
    for (const one of two.led) await one.release()
  })

  t.test('take over all of them where all are free', async t => {
    const { theirs, locks, pass } = dogpileOf(t)
    locks.hold(['a', 'b', 'c'])
    const two = following(theirs, ['a', 'b', 'c'], new Set())
    await pass(0)
    locks.holders.clear()
    await pass(250)
    t.strictSame(two.led.map(one => [...one.names]), [['a', 'b', 'c']])
    two.work.open()
    await two.end
    for (const one of two.led) await one.release()
  })

  t.test('take over the rest as well where it is let go while one of them is tried', async t => {
    const { theirs, locks, pass } = dogpileOf(t)
    t.intercept(Math, 'random', { value: () => 0 })
    locks.hold(['a', 'b', 'c'])
    const { acquire } = locks
    t.capture(locks, 'acquire', async (names, ttl) => {
      const held = await acquire.call(locks, names, ttl)
      locks.holders.delete('a')
      if (names.length === 1) locks.holders.clear()
      return held
    })
    const two = following(theirs, ['a', 'b', 'c'], new Set())
    await pass(250)
    t.strictSame(two.led.map(one => [...one.names]), [['a', 'b', 'c']])
    two.work.open()
    await two.end
    for (const one of two.led) await one.release()
  })

  t.test('take nothing over where one of them can’t be asked for', async t => {
    const { theirs, locks, pass } = dogpileOf(t)
    locks.hold(['a'])
    const { acquire } = locks
    t.capture(locks, 'acquire', async (names, ttl) => {
      if (names.length === 1) throw new Error('away')
      return await acquire.call(locks, names, ttl)
    })
    const known = new Set<string>()
    const two = following(theirs, ['a', 'b'], known)
    await pass(250)
    t.strictSame(two.led, [])
    known.add('a').add('b')
    await pass(250)
    await two.end
  })

  t.test('who follow many names ask once each time, where the lock can take some', async t => {
    const { locks, pass } = dogpileOf(t)
    const some = dogpileWith(locks)
    locks.hold(['a', 'b', 'c'])
    const two = following(some, ['a', 'b', 'c'], new Set())
    await pass(250)
    locks.holders.delete('a')
    locks.holders.delete('c')
    await pass(250)
    t.equal(locks.asked.length, 2)
    t.strictSame(two.led.map(one => [...one.names]), [['a', 'c']])
    locks.holders.clear()
    await pass(250)
    two.work.open()
    await two.end
    for (const one of two.led) await one.release()
  })

  t.test('take over when nobody is at work any more', async t => {
    const { mine, theirs, locks, pass } = dogpileOf(t)
    t.intercept(Math, 'random', { value: () => 0.99 })
    await mine.elect(['a', 'b'])
    const two = following(theirs, ['a', 'b'], new Set())
    await pass(250)
    t.strictSame(two.led, [])
    locks.holders.delete('b') // its time was over
    await pass(250)
    t.strictSame(two.led.map(one => [...one.names]), [['b']])
    locks.holders.delete('a')
    await pass(250)
    t.strictSame(two.led.map(one => [...one.names]), [['b'], ['a']])
    two.work.open()
    await two.end
    for (const one of two.led) await one.release()
  })

  t.test('take over what was done and can’t be seen: it was revoked meanwhile', async t => {
    const { mine, theirs, settle, locks } = dogpileOf(t)
    const { elected: one } = await mine.elect(['a', 'b'])
    const known = new Set<string>()
    const two = following(theirs, ['a', 'b'], known)
    await settle()
    await one!.announce(['a'], done)
    await settle()
    t.strictSame(two.led, [], 'not while somebody holds it')
    await one!.release()
    await one!.announce(['a'], done)
    await settle()
    t.strictSame(two.led.map(one => [...one.names]), [['a']], 'and not what nobody told of')
    known.add('b')
    await one!.announce(['b'], done)
    two.work.open()
    await two.end
    t.equal(locks.holders.size, 1)
    await two.led[0]!.release()
  })

  t.test('take over what is left to them, and hear of it from nobody else', async t => {
    const { mine, theirs, settle, locks, line, pass } = dogpileOf(t)
    const { elected: one } = await mine.elect(['a', 'b'])
    const two = following(theirs, ['a', 'b'], new Set())
    await settle()
    await Promise.all([one!.yield('a'), one!.yield('a')])
    await settle()
    t.strictSame(two.led.map(one => [...one.names]), [['a']])
    t.strictSame(line.sent.map(({ message }) => message.names), [['a']], 'once')
    await one!.announce(['a'], done)
    t.equal(line.sent.length, 1)
    await pass(1500)
    t.equal(locks.extended, 2, 'both are still at work')
    await one!.yield('b')
    await settle()
    t.strictSame(two.led.map(one => [...one.names]), [['a'], ['b']])
    t.equal(locks.released, 1)
    await one!.release()
    t.equal(locks.released, 1, 'nothing is left to be released')
    await pass(1500)
    t.equal(locks.extended, 4, 'nor extended')
    two.work.open()
    await two.end
    for (const elected of two.led) await elected.release()
  })

  t.test('are left nothing by a lock that can’t be released in parts, nor without a lock', async t => {
    const { mine, locks, line } = dogpileOf(t)
    locks.partial = false
    const { elected: one } = await mine.elect(['a', 'b'])
    await one!.yield('a')
    await new Elected(['c']).yield('c')
    t.strictSame([...locks.holders.keys()], ['a', 'b'])
    t.strictSame(line.sent, [])
    await one!.release()
    t.equal(locks.holders.size, 0)
  })

  t.test('are told of what is left to them though the lock is silent, or fails', async t => {
    const { mine, locks, line, pass } = dogpileOf(t)
    for (const releaseSome of [() => new Promise<void>(() => {}), async () => { throw new Error('away') }]) {
      const acquire = t.capture(locks, 'acquire', async names => ({ ...locks.hold(names), releaseSome }))
      const { elected: one } = await mine.elect(['a', 'b'])
      acquire.restore()
      const sent = line.sent.length
      const left = one!.yield('a')
      await pass(200)
      await left
      t.equal(line.sent.length, sent + 1)
      await one!.release()
    }
  })

  t.test('do the work themselves when they have waited long enough', async t => {
    const { theirs, locks, pass } = dogpileOf(t, { wait: 1100 })
    locks.hold(['a', 'b', 'c'])
    const known = new Set(['b'])
    const two = following(theirs, ['a', 'b', 'c'], known)
    for (const ms of [250, 250, 250, 250, 99]) await pass(ms)
    t.strictSame(two.led, [])
    await pass(1)
    t.strictSame(two.led.map(one => [...one.names]), [['a', 'c']])
    two.work.open()
    await two.end
    await two.led[0]!.release()
    t.equal(locks.released, 0, 'without a lock')
  })

  t.test('do not wait at all where nobody is to be waited for', async t => {
    const { theirs, locks } = dogpileOf(t, { wait: 0 })
    locks.hold(['a'])
    const two = following(theirs, ['a'], new Set())
    two.work.open()
    await two.end
    t.equal(two.led.length, 1)
  })

  t.test('look by themselves when the line can’t be heard', async t => {
    for (const silent of [false, true]) {
      const { theirs, locks, line, logger, pass } = dogpileOf(t)
      locks.hold(['a'])
      const late = deferred<() => void>()
      let [stopped, asked] = [0, 0]
      line.listen = async () => {
        asked++
        if (!silent) throw new Error('away')
        return await late.promise
      }
      const known = new Set<string>()
      const two = following(theirs, ['a'], known)
      await pass(200)
      const three = silent ? following(theirs, ['a'], known) : undefined
      await pass(0)
      known.add('a')
      late.resolve(() => { stopped++ })
      await pass(250)
      await two.end
      await three?.end
      t.equal(stopped, silent ? 1 : 0, 'and if it can after all, nobody listens')
      t.equal(asked, 1)
      t.match(logger.lines.debug, [{ message: 'the line can not be heard: looking from time to time' }])
      mock.timers.reset()
    }
  })

  t.test('stop listening even if looking fails', async t => {
    const { theirs, line } = dogpileOf(t)
    const error = new Error('broken')
    await t.rejects(theirs.follow(['a'], { look: async () => { throw error }, failed: () => {}, lead: async () => {} }), error)
    t.equal(line.listeners.size, 0)
  })
})
