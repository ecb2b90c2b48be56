import { mock } from 'node:test'
import t from 'tap'
import { Elected } from '../../../lib/dogpile/elected.js'
import { dogpileOf, dogpileWith, done, following } from '../../helpers/dogpile.js'
import { deferred } from '../../helpers/doubles.js'

t.test('those who wait', async t => {
  t.test('those who wait have it at once if it is there', async t => {
    const { theirs, locks } = dogpileOf(t)
    locks.hold(['a'])
    const two = following(theirs, ['a'], new Set(['a']))
    await two.end
    t.strictSame([two.looks(), two.led], [1, []])
  })

  t.test('those who wait look by themselves when the news are lost', async t => {
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

  t.test('those who wait look by themselves where there is no line', async t => {
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

  t.test('those who wait look by themselves however much others have to tell each other', async t => {
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

  t.test('those who wait take over together what is nobody’s any more: what a lost lock was for, one of them tells', async t => {
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

  t.test('those who wait take over all of them where all are free', async t => {
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

  t.test('those who wait take over the rest as well where it is let go while one of them is tried', async t => {
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

  t.test('those who wait take nothing over where one of them can’t be asked for', async t => {
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

  t.test('those who wait for many names ask once each time, where the lock can take some', async t => {
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

  t.test('those who wait take over when nobody is at work any more', async t => {
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

  t.test('those who wait take over what was done and can’t be seen: it was revoked meanwhile', async t => {
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

  t.test('those who wait take over what is left to them, and hear of it from nobody else', async t => {
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

  t.test('those who wait are left nothing by a lock that can’t be released in parts, nor without a lock', async t => {
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

  t.test('those who wait are told of what is left to them though the lock is silent, or fails', async t => {
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

  t.test('those who wait do the work themselves when they have waited long enough', async t => {
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

  t.test('those who wait do not wait at all where nobody is to be waited for', async t => {
    const { theirs, locks } = dogpileOf(t, { wait: 0 })
    locks.hold(['a'])
    const two = following(theirs, ['a'], new Set())
    two.work.open()
    await two.end
    t.equal(two.led.length, 1)
  })

  t.test('those who wait look by themselves when the line can’t be heard', async t => {
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

  t.test('those who wait stop listening even if looking fails', async t => {
    const { theirs, line } = dogpileOf(t)
    const error = new Error('broken')
    await t.rejects(theirs.follow(['a'], { look: async () => { throw error }, failed: () => {}, lead: async () => {} }), error)
    t.equal(line.listeners.size, 0)
  })
})
