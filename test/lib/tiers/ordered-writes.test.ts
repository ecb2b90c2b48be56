import t, { type Test } from 'tap'
import { UnstorableError, type BackendEntry } from '../../../lib/backends/backend.js'
import { HeldUpError } from '../../../lib/breaker.js'
import { OrderedWrites } from '../../../lib/tiers/ordered-writes.js'
import { deferred, type Deferred } from '../../helpers/doubles.js'

const entry = (key: string, value: string): BackendEntry => ({ key, value: Buffer.from(value), ttl: 1000 })

const heldUp = new HeldUpError('an earlier write of the same key has not been answered')
const unstorable = (key: string) => new UnstorableError([key], `${key} is too large`)

/** A backend whose writes end when the test ends them, and what it was told. */
function writesOf (timeout = 60_000) {
  const writes: (Deferred<void> & { what: string })[] = []
  const forgotten: string[][] = []
  const backend = {
    setMany: async (entries: readonly BackendEntry[]) => {
      const write = { ...deferred(), what: entries.map(({ key, value }) => `${key}=${Buffer.from(value).toString()}`).join(' ') }
      writes.push(write)
      await write.promise
    }
  }
  const ordered = new OrderedWrites(backend, timeout, async keys => { forgotten.push([...keys]) })
  const put = (...what: string[]) => {
    const state = { ended: false, outcome: ordered.setMany(what.map(one => entry(...one.split('=') as [string, string]))) }
    state.outcome.catch(() => {}).finally(() => { state.ended = true })
    return state
  }
  return { ordered, writes, told: () => writes.map(({ what }) => what), forgotten, put }
}

/** Whatever waits for nothing but promises has happened. */
const settle = async () => { await new Promise(setImmediate) }

/** From now on it is that much later. */
function later (t: Pick<Test, 'intercept'>, milliseconds: number): void {
  const { now } = performance
  t.intercept(performance, 'now', { value: () => now.call(performance) + milliseconds })
}

t.test('writes of one key go one after the other, those of others at once', async t => {
  const { writes, told, put } = writesOf()
  const puts = [put('a=1', 'b=1'), put('b=2', 'c=2'), put('d=1')]
  await settle()
  t.strictSame(told(), ['a=1 b=1', 'd=1'])
  writes[0]!.resolve()
  await puts[0]!.outcome
  await settle()
  t.strictSame(told(), ['a=1 b=1', 'd=1', 'b=2 c=2'])
  t.strictSame(puts.map(({ ended }) => ended), [true, false, false])
  for (const { resolve } of writes) resolve()
  await Promise.all(puts.map(({ outcome }) => outcome))
})

t.test('of those that wait, only the last is carried out, and the others end as it does', async t => {
  for (const error of [undefined, new Error('refused')]) {
    const { writes, told, put } = writesOf()
    const first = put('a=0')
    const puts = [put('a=1', 'x=1'), put('a=2'), put('a=3')]
    writes[0]!.resolve()
    await first.outcome
    await settle()
    t.strictSame(told(), ['a=0', 'x=1'], 'what nobody has replaced')
    writes[1]!.resolve()
    await settle()
    t.strictSame(told(), ['a=0', 'x=1', 'a=3'])
    t.strictSame(puts.map(({ ended }) => ended), [false, false, false])
    if (error === undefined) writes[2]!.resolve()
    else writes[2]!.reject(error)
    for (const { outcome } of puts) await (error === undefined ? outcome : t.rejects(outcome, error))
  }
})

t.test('a write ends with what went wrong in what stands for it, whatever happened to the rest of it', async t => {
  const { writes, put } = writesOf()
  const first = put('a=0', 'b=0')
  const second = put('a=1', 'x=1', 'b=1')
  const [third, fourth] = [put('a=2'), put('b=2')]
  writes[0]!.resolve()
  await first.outcome
  await settle()
  writes[1]!.reject(unstorable('x'))
  await settle()
  t.equal(second.ended, false)
  writes[2]!.reject(unstorable('a'))
  await t.rejects(third.outcome, unstorable('a'))
  t.equal(second.ended, false)
  writes[3]!.reject(new Error('refused'))
  await t.rejects(fourth.outcome, { message: 'refused' })
  await t.rejects(second.outcome, { message: 'refused' })
})

t.test('that a value can not be stored is told where all others were written', async t => {
  const { writes, put } = writesOf()
  const first = put('a=0')
  const [second, third] = [put('a=1', 'x=1'), put('a=2')]
  writes[0]!.resolve()
  await first.outcome
  await settle()
  writes[1]!.reject(unstorable('x'))
  await settle()
  writes[2]!.resolve()
  await third.outcome
  await t.rejects(second.outcome, unstorable('x'))
})

t.test('a write that fails holds up nobody', async t => {
  const { writes, told, put } = writesOf()
  const [first, second] = [put('a=1'), put('a=2')]
  writes[0]!.reject(new Error('refused'))
  await t.rejects(first.outcome, { message: 'refused' })
  await settle()
  t.strictSame(told(), ['a=1', 'a=2'])
  writes[1]!.resolve()
  await second.outcome
})

t.test('what takes too long is waited for no longer; as it may then be the last one, it is forgotten when it ends', async t => {
  for (const error of [undefined, new Error('too late')]) {
    const { writes, told, put, forgotten } = writesOf(1)
    const hung = put('a=old', 'b=old')
    const next = put('a=new')
    while (writes.length < 2) await settle() // its timeout is a millisecond
    t.strictSame(told(), ['a=old b=old', 'a=new'])
    writes[1]!.resolve()
    await next.outcome
    t.strictSame(forgotten, [])
    if (error === undefined) writes[0]!.resolve()
    else writes[0]!.reject(error)
    await hung.outcome.catch(() => {})
    t.strictSame(forgotten, [['a']], 'not what nobody has written since')
  }
})

t.test('what has taken too long already is not waited for at all', async t => {
  const { writes, told, put, forgotten } = writesOf(1000)
  const hung = put('a=old')
  later(t, 1001)
  const next = put('a=new')
  await settle()
  t.strictSame(told(), ['a=old', 'a=new'])
  for (const { resolve } of writes.toReversed()) resolve()
  await Promise.all([hung.outcome, next.outcome])
  t.strictSame(forgotten, [['a']])
})

t.test('a write that waits for no earlier one gives up all of them: each may be the last one to end', async t => {
  const { writes, told, put, forgotten } = writesOf(1000)
  const [first, second] = [put('a=1', 'b=1'), put('a=2')] // the second one waits, and its timer is late
  later(t, 501)
  const third = put('a=3')
  await settle()
  t.strictSame(told(), ['a=1 b=1', 'a=3'])
  writes[1]!.resolve()
  await third.outcome
  writes[0]!.resolve()
  await Promise.all([first.outcome, second.outcome])
  t.strictSame(told(), ['a=1 b=1', 'a=3'], 'the second one is as good as carried out')
  t.strictSame(forgotten, [['a']])
})

t.test('a deletion comes after what is being written, and waits for its own keys only', async t => {
  const { ordered, writes, put, forgotten } = writesOf()
  const [first, second] = [put('a=1'), put('b=1')]
  let isAfter = false
  const after = ordered.ended(['a', 'x']).then(() => { isAfter = true })
  await settle()
  t.equal(isAfter, false)
  writes[0]!.reject(new Error('refused'))
  await t.rejects(first.outcome)
  await after
  await ordered.ended(['a', 'x'])
  t.equal(second.ended, false)
  writes[1]!.resolve()
  await second.outcome
  t.strictSame(forgotten, [])
})

t.test('a write that waits is carried out, though its key is deleted after that', async t => {
  const { ordered, writes, told, put } = writesOf()
  const puts = [put('a=1'), put('a=2')]
  const after = ordered.ended(['a'])
  writes[0]!.resolve()
  await puts[0]!.outcome
  await settle()
  t.strictSame(told(), ['a=1', 'a=2'])
  writes[1]!.resolve()
  await Promise.all([puts[1]!.outcome, after])
})

t.test('a deletion is held up for as long as a write may take; what ends later is forgotten once more', async t => {
  const { ordered, writes, put, forgotten } = writesOf(1)
  const hung = put('a=old')
  await t.rejects(ordered.ended(['a', 'b']), heldUp)
  await t.rejects(ordered.ended(['a']), heldUp)
  await ordered.ended(['b'])
  writes[0]!.resolve()
  await hung.outcome
  t.strictSame(forgotten, [['a']])
  await ordered.ended(['a'])
})

t.test('what was not answered within a minute holds up nothing; what ends later is forgotten once more', async t => {
  const { ordered, writes, put, forgotten } = writesOf()
  const hung = put('a=old')
  later(t, 60_001)
  await ordered.ended(['a'])
  writes[0]!.resolve()
  await hung.outcome
  t.strictSame(forgotten, [['a']])
})

t.test('a copy learns what was written or deleted since it began, or was being written then', async t => {
  const { ordered, writes, put } = writesOf()
  const keys = ['being written', 'written', 'deleted', 'neither']
  const first = put('being written=1')
  const watch = ordered.watch(keys)
  const second = put('written=1')
  for (const { resolve } of writes) resolve()
  await Promise.all([first.outcome, second.outcome, ordered.ended(['deleted'])])
  t.strictSame(keys.filter(watch.isUntouched), ['neither'])
  watch.end()
  t.strictSame(keys.filter(ordered.watch(keys).isUntouched), keys, 'another one begins now')
})
