import { mock } from 'node:test'
import t from 'tap'
import type { HeldLock } from '../../../lib/locks/lock.js'
import { dogpileOf } from '../../helpers/dogpile.js'

t.test('a lock is renewed while the work goes on', async t => {
  t.test('a lock is renewed until it is released', async t => {
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

  t.test('a lock is renewed until its hard limit', async t => {
    const { mine, locks, pass } = dogpileOf(t, { renewFor: 4000 })
    const { elected: one } = await mine.elect(['a'])
    for (let i = 0; i < 10; i++) await pass(1500)
    t.equal(locks.extended, 2, 'at 1500 and 3000 ms')
    await one!.release()
  })

  t.test('a lock is renewed until it is lost', async t => {
    const { mine, locks, pass } = dogpileOf(t)
    const { elected: one } = await mine.elect(['a'])
    locks.extend = async () => false
    for (let i = 0; i < 5; i++) await pass(1500)
    t.equal(locks.extended, 1)
    await one!.release()
  })

  t.test('a lock that throws when it is to be renewed ends no process', async t => {
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

  t.test('a lock is renewed the next time, though it could not be asked once', async t => {
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
