import t from 'tap'
import { HeldTogether } from '../../../lib/locks/held-together.js'
import type { DivisibleLock, HeldLock } from '../../../lib/locks/lock.js'

/** A lock, and what was asked of it. */
function lockOf (name: string, extend: () => boolean, asked: string[]): HeldLock {
  return {
    token: name,
    extend: async ttl => { asked.push(`${name}: ${ttl}`); return extend() },
    release: async () => { asked.push(`${name}: released`) }
  }
}

t.test('a lock of several parts is held until the last of them is lost', async t => {
  const asked: string[] = []
  const answers: (() => boolean)[] = [() => true, () => false]
  const held = new HeldTogether([{ names: ['a'], held: lockOf('1', () => answers[0]!(), asked) }, { names: ['b'], held: lockOf('2', () => answers[1]!(), asked) }])
  t.equal(held.token, '1 2')
  t.equal(await held.extend(5), true)
  t.strictSame(asked, ['1: 5', '2: 5'])
  answers[0] = () => { throw new Error('away') }
  await t.rejects(held.extend(5), { message: 'away' }, 'nobody knows')
  answers[1] = () => true
  t.equal(await held.extend(5), true)
  answers[0] = answers[1] = () => false
  t.equal(await held.extend(5), false)
})

t.test('each part of a lock is released, though another can’t be', async t => {
  const asked: string[] = []
  const broken: HeldLock = { token: '0', extend: async () => true, release: () => { throw new Error('away') } }
  await new HeldTogether([{ names: ['a'], held: broken }, { names: ['b'], held: lockOf('1', () => true, asked) }]).release()
  t.strictSame(asked, ['1: released'])
})

t.test('a part of a lock is let go with the last of its names, or before where it can be divided', async t => {
  const asked: string[] = []
  const divisible: DivisibleLock = { ...lockOf('1', () => true, asked), releaseSome: async names => { asked.push(`1: without ${names.join(' ')}`) } }
  const held = new HeldTogether([{ names: ['a', 'b', 'c'], held: divisible }, { names: ['d'], held: lockOf('2', () => true, asked) }, { names: ['e', 'f'], held: lockOf('3', () => true, asked) }])
  await held.releaseSome(['a', 'd', 'e'])
  t.strictSame(asked.splice(0), ['1: without a', '2: released'])
  await held.releaseSome(['b', 'c'])
  t.strictSame(asked.splice(0), ['1: released'])
  await held.releaseSome(['f'])
  t.strictSame(asked.splice(0), [], 'what can’t be divided is held until the end')
  await held.release()
  t.strictSame(asked, ['3: released'])
})

t.test('what is released while another part is, is released once, and renewed no more', async t => {
  const asked: string[] = []
  const held = new HeldTogether(['1', '2', '3'].map(name => ({ names: [name], held: lockOf(name, () => true, asked) })))
  await Promise.all([held.releaseSome(['1']), held.releaseSome(['2'])])
  t.equal(await held.extend(5), true)
  await held.release()
  await held.release()
  t.equal(await held.extend(5), false)
  t.strictSame(asked, ['1: released', '2: released', '3: 5', '3: released'])
})
