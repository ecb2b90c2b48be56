import t, { type Test } from 'tap'
import { Coherence, type CoherenceOptions } from '../../../lib/coherence/coherence.js'
import type { Invalidation } from '../../../lib/coherence/messages.js'
import { silentLogger } from '../../helpers/doubles.js'
import { LineHub, simulateTime, type HubProcess } from '../../helpers/line-hub.js'

const lease = 300
/** By then a lease is over, by anybody's clock. */
const over = 305

/** A process of an application, with one region. */
class Member {
  readonly process: HubProcess
  readonly coherence: Coherence
  readonly logger = silentLogger()
  /** What its region was told to forget. */
  readonly told: Invalidation[] = []
  /** How often its memory was to start empty. */
  emptied = 0
  started = false

  constructor (hub: LineHub, options: Partial<CoherenceOptions> = {}) {
    this.process = hub.join()
    this.coherence = this.process.run(() => new Coherence({ line: this.process.line, channel: 'coherence', lease, timeout: 1000, logger: this.logger, ...options }))
    this.coherence.attach('people', { invalidated: what => this.told.push(what), startEmpty: () => { this.emptied++ } })
    this.process.run(() => this.coherence.start()).then(() => { this.started = true }, () => {})
  }

  get trusted (): boolean {
    return this.process.run(() => this.coherence.isTrusted)
  }

  push (what: Invalidation = { keys: ['k'] }, eventual = false) {
    const push: { state: 'under way' | 'over' | string } = { state: 'under way' }
    this.process.run(() => this.coherence.push('people', what, eventual)).then(() => { push.state = 'over' }, error => { push.state = error.message })
    return push
  }

  close () {
    const close = { isOver: false }
    this.process.run(() => this.coherence.close()).then(() => { close.isOver = true }, () => {})
    return close
  }

  /** Whether one that doesn't acknowledge now would be waited for. */
  async waitsFor (other: Member, hub: LineHub): Promise<boolean> {
    other.process.requests.hold()
    const push = this.push()
    await hub.pass(10)
    const { state } = push
    other.process.requests.release()
    await hub.pass(0)
    return state === 'under way'
  }
}

/** Processes that know each other. */
async function membersOf (t: Test, count: number) {
  simulateTime(t)
  const hub = new LineHub()
  const members = Array.from({ length: count }, () => new Member(hub))
  await hub.pass(over)
  for (const { process } of members) process.said.length = 0
  return { hub, members: members as [Member, Member, Member] }
}

// ─── everybody is well ───────────────────────────────────────────────────────────────────────────

t.test('what one process invalidates, all others forget; it is over when they have', async t => {
  const { hub, members: [a, b, c] } = await membersOf(t, 3)
  for (const member of [a, b, c]) t.ok(member.trusted && member.started)
  b.process.requests.hold()
  const push = a.push({ keys: ['k'], tags: ['t'] })
  await hub.pass(10)
  t.strictSame([b.told, c.told], Array(2).fill([{ region: 'people', keys: ['k'], tags: ['t'] }]))
  t.strictSame(a.told, [], 'no echo')
  t.equal(push.state, 'under way', 'b has not acknowledged')
  b.process.requests.release()
  await hub.pass(0)
  t.equal(push.state, 'over')
  for (const member of [a, b, c]) t.equal(member.emptied, 1, 'only in the beginning')
})

t.test('a process that is alone waits for nobody', async t => {
  const { hub, members: [a] } = await membersOf(t, 1)
  const push = a.push()
  await hub.pass(0)
  t.equal(push.state, 'over')
})

t.test('many invalidations share a message, and an acknowledgement', async t => {
  const { hub, members: [a, b] } = await membersOf(t, 2)
  const pushes = Array.from({ length: 100 }, (_, i) => a.push({ keys: [`${i}`] }))
  await hub.pass(0)
  t.ok(pushes.every(({ state }) => state === 'over'))
  t.equal(b.told.length, 100)
  t.equal(a.process.saidOf('push').length, 1)
  t.equal(b.process.saidOf('acknowledgement').length, 1)

  a.process.requests.hold()
  for (let i = 0; i < 10; i++) {
    a.push()
    await hub.pass(1)
  }
  a.process.requests.release()
  await hub.pass(0)
  t.equal(b.told.length, 110)
  t.equal(a.process.saidOf('push').length, 3, 'what comes while one is under way goes into the next one')

  b.process.requests.hold()
  const late = Array.from({ length: 10 }, () => a.push({ hard: true }))
  await hub.pass(1)
  late.push(a.push())
  await hub.pass(1)
  late.push(a.push())
  await hub.pass(1)
  b.process.requests.release()
  await hub.pass(0)
  t.ok(late.every(({ state }) => state === 'over'))
  t.equal(a.process.saidOf('push').length, 6)
  t.equal(b.process.saidOf('acknowledgement').length, 5, 'three before, and two for these three')
})

t.test('what is too much for one message makes several', async t => {
  const { hub, members: [a, b] } = await membersOf(t, 2)
  const keys = Array.from({ length: 2500 }, (_, i) => `${i}`)
  const push = a.push({ keys, tags: ['t'], soft: true })
  await hub.pass(0)
  t.equal(push.state, 'over')
  t.strictSame(b.told.flatMap(({ keys }) => keys), keys)
  t.strictSame(b.told.map(({ tags, soft }) => [tags, soft]), [[['t'], true], [undefined, undefined], [undefined, undefined]], 'once')
  t.equal(a.process.saidOf('push').length, 3)

  const half = keys.slice(0, 499)
  for (const keys of [half, half, half]) a.push({ keys })
  await hub.pass(0)
  t.equal(a.process.saidOf('push').length, 5, 'the first two of these share one')
})

t.test('who does not wait for the others waits for the message', async t => {
  const { hub, members: [a, b] } = await membersOf(t, 2)
  b.process.stop()
  a.process.requests.hold()
  const push = a.push({ keys: ['k'] }, true)
  await hub.pass(10)
  t.equal(push.state, 'under way')
  a.process.requests.release()
  await hub.pass(0)
  t.equal(push.state, 'over')
})

t.test('of what others say, only what is understood counts', async t => {
  const { hub, members: [a] } = await membersOf(t, 1)
  hub.deliver('coherence', 'nonsense')
  hub.deliver('coherence', JSON.stringify({ from: 'another', kind: 'push', number: 1, previous: 0, pushes: [{ region: 'others', hard: true }] }))
  await hub.pass(0)
  t.strictSame(a.told, [])
  t.match(a.process.saidOf('acknowledgement'), [{ channel: 'coherence:another', upTo: 1 }], 'a region that is not here is forgotten as well')
})

t.test('pushes that arrive together are acknowledged together', async t => {
  const { hub, members: [a] } = await membersOf(t, 1)
  const { line } = a.process
  let hear = (_text: string): void => {}
  const b = new Member(hub, { line: { ...line, listen: async (channel, listener, interrupted) => { if (channel === 'coherence') hear = listener; return await line.listen(channel, listener, interrupted) } } })
  for (const number of [1, 2, 3]) b.process.run(() => hear(JSON.stringify({ from: 'another', kind: 'push', number, previous: number - 1, pushes: [] })))
  await hub.pass(0)
  t.match(a.process.saidOf('acknowledgement'), [{ upTo: 3 }])
})

// ─── what can not be published ───────────────────────────────────────────────────────────────────

t.test('what can not be published is an error; the others keep what is in their memory', async t => {
  const { hub, members: [a, b] } = await membersOf(t, 2)
  const first = a.push()
  await hub.pass(0)
  t.equal(first.state, 'over')
  a.process.refuses = ({ kind }) => kind === 'push'
  const failing = [a.push(), a.push({ keys: ['k'] }, true)]
  await hub.pass(0)
  t.strictSame(failing.map(({ state }) => state), ['push can not be published', 'push can not be published'])
  a.process.refuses = () => false
  const next = a.push({ tags: ['t'] })
  await hub.pass(0)
  t.equal(next.state, 'over')
  t.match(b.told, [{ keys: ['k'] }, { tags: ['t'] }])
  t.equal(b.emptied, 1, 'nothing was missed')
})

t.test('a push whose answer is lost is an error, even if all have heard it', async t => {
  const { hub, members: [a, b] } = await membersOf(t, 2)
  b.process.requests.hold()
  a.process.replies.hold()
  const push = a.push()
  await hub.pass(999)
  b.process.requests.release()
  await hub.pass(0)
  t.equal(push.state, 'under way')
  await hub.pass(1)
  t.match(push.state, /did not answer/)
  t.equal(b.told.length, 1)
})

t.test('who sees that it has missed a push starts empty', async t => {
  const { hub, members: [a] } = await membersOf(t, 1)
  const say = async (number: number, previous: number) => {
    hub.deliver('coherence', JSON.stringify({ from: 'another', kind: 'push', number, previous, pushes: [] }))
    await hub.pass(0)
    return [a.emptied - 1, a.process.saidOf('acknowledgement').at(-1)?.['upTo']]
  }
  t.strictSame(await say(3, 2), [0, 3], 'the first that is heard')
  t.strictSame(await say(4, 3), [0, 4])
  t.strictSame(await say(6, 4), [0, 6], 'number 5 was not published')
  t.strictSame(await say(9, 8), [1, 9], 'number 8 was')
  t.strictSame(await say(7, 6), [1, 9], 'one that was given up comes late')
  t.strictSame(await say(10, 9), [1, 10])
  t.ok(a.trusted)
})

t.test('an acknowledgement that can not be published is tried again', async t => {
  const { hub, members: [a, b] } = await membersOf(t, 2)
  b.process.refuses = ({ kind }) => kind === 'acknowledgement'
  const push = a.push()
  await hub.pass(0)
  t.equal(push.state, 'under way')
  b.process.refuses = () => false
  await hub.pass(lease / 3)
  t.equal(push.state, 'over')

  b.process.replies.hold() // published, but who knows?
  a.push()
  await hub.pass(500)
  const later = a.push()
  await hub.pass(500)
  b.process.replies.release()
  await hub.pass(lease / 3)
  t.equal(later.state, 'over')
  t.equal(b.process.saidOf('acknowledgement').at(-1)?.['upTo'], 3)
})

// ─── who doesn't answer ──────────────────────────────────────────────────────────────────────────

t.test('a process that hangs holds an invalidation up for a lease; when it goes on it believes nothing before it has obeyed', async t => {
  const { hub, members: [a, b, c] } = await membersOf(t, 3)
  b.process.stop()
  const push = a.push()
  await hub.pass(over - 1)
  t.equal(push.state, 'under way')
  t.ok(c.trusted)
  await hub.pass(1)
  t.equal(push.state, 'over')
  b.process.resume()
  t.notOk(b.trusted, 'at once')
  t.strictSame(b.told, [])
  await hub.pass(0)
  t.equal(b.told.length, 1)
  t.ok(b.trusted)
  t.equal(b.emptied, 1, 'it has missed nothing')
  t.equal(b.process.saidOf('hello').length, 1, 'it was doubted')
  t.strictSame(a.process.saidOf('doubt').map(({ channel }) => channel), [`coherence:${b.process.said[0]!['from']}`])
  t.ok(await a.waitsFor(b, hub))
  t.equal(c.process.saidOf('hello').length, 0)
})

t.test('a process that is dead holds up the invalidations of two leases at most, and is told so once', async t => {
  const { hub, members: [a, b, c] } = await membersOf(t, 3)
  b.process.stop()
  const pushes = [a.push()]
  for (let ms = 0; ms < 2 * over; ms++) {
    await hub.pass(1)
    pushes.push(a.push())
  }
  await hub.pass(0)
  t.equal(pushes.at(-1)!.state, 'over', 'nobody waits for it any more')
  t.equal(a.process.saidOf('doubt').length, 1)
  t.ok(await a.waitsFor(c, hub))
})

t.test('a process that says goodbye holds up nothing', async t => {
  const { hub, members: [a, b, c] } = await membersOf(t, 3)
  b.process.stop()
  const push = a.push()
  await hub.pass(10)
  t.equal(push.state, 'under way')
  b.process.resume()
  const closing = b.close()
  t.notOk(b.trusted)
  await hub.pass(0)
  t.ok(closing.isOver)
  t.equal(push.state, 'over')
  b.process.stop()
  const later = a.push()
  await hub.pass(0)
  t.equal(later.state, 'over')

  c.process.refuses = () => true
  t.ok(c.close())
  await hub.pass(0)
})

// ─── who comes ───────────────────────────────────────────────────────────────────────────────────

t.test('until a lease is over, a process does not know who else there is: its invalidations wait', async t => {
  const { hub, members: [a, b] } = await membersOf(t, 2)
  const c = new Member(hub)
  t.notOk(c.trusted)
  await hub.pass(100)
  t.ok(c.trusted)
  const push = c.push()
  await hub.pass(over - 101)
  t.equal(push.state, 'under way')
  await hub.pass(1)
  t.equal(push.state, 'over')
  for (const other of [a, b]) {
    t.ok(await c.waitsFor(other, hub))
    t.ok(await other.waitsFor(c, hub))
  }
})

t.test('who comes is waited for before it believes its memory', async t => {
  const { hub, members: [a] } = await membersOf(t, 1)
  const b = new Member(hub)
  b.process.replies.hold()
  await hub.pass(10)
  t.notOk(b.trusted, 'its hello has not been answered')
  t.ok(await a.waitsFor(b, hub))
  b.process.replies.release()
  await hub.pass(0)
  t.ok(b.trusted)
})

t.test('until a newcomer was answered, nothing renews trust', async t => {
  const { hub, members: [, b] } = await membersOf(t, 2)
  await hub.pass(lease / 3 - (over % (lease / 3)) - 1) // just before it asks the line
  b.process.asking.hold()
  await hub.pass(1)
  b.process.requests.hold()
  const c = new Member(hub)
  await hub.pass(1)
  t.equal(b.process.saidOf('present').length, 1)
  b.process.asking.release()
  await hub.pass(lease - lease / 3)
  t.notOk(b.trusted, 'though the line has answered')
  b.process.requests.release()
  await hub.pass(0)
  t.ok(b.trusted)
  await hub.pass(over)
  t.ok(await c.waitsFor(b, hub))
})

t.test('who is about to begin to trust first answers those who come', async t => {
  const { hub } = await membersOf(t, 1)
  const b = new Member(hub)
  b.process.replies.hold()
  await hub.pass(0)
  b.process.requests.hold()
  const c = new Member(hub)
  await hub.pass(0)
  t.equal(b.process.saidOf('present').length, 1)
  b.process.replies.release()
  await hub.pass(lease)
  t.notOk(b.trusted)
  t.equal(b.process.asks, 0)
  b.process.requests.release()
  await hub.pass(0)
  t.ok(b.trusted, 'at once')
  t.ok(await c.waitsFor(b, hub))
})

t.test('who can not answer a newcomer says hello instead', async t => {
  const { hub, members: [, b] } = await membersOf(t, 2)
  b.process.refuses = ({ kind }) => kind === 'present' || kind === 'hello'
  const c = new Member(hub)
  await hub.pass(0)
  t.notOk(b.trusted)
  b.process.refuses = ({ kind }) => kind === 'present'
  await hub.pass(lease)
  t.ok(b.trusted)
  t.ok(await c.waitsFor(b, hub))
})

t.test('two that can not answer each other greet no faster than they renew their trust', async t => {
  const { hub, members } = await membersOf(t, 2)
  for (const { process } of members) process.refuses = ({ kind }) => kind === 'present'
  members[0]!.process.lose()
  members[0]!.process.restore()
  await hub.pass(10 * lease)
  for (const { process } of members) t.ok(process.saidOf('hello').length <= 32, `${process.saidOf('hello').length} times`)
})

t.test('many that come together all find each other', async t => {
  const { hub, members } = await membersOf(t, 20)
  for (const { trusted } of members) t.ok(trusted)
  const pushes = members.map(member => member.push())
  await hub.pass(0)
  for (const [i, { state }] of pushes.entries()) t.equal(state, 'over', `${i}`)
  for (const { told } of members) t.equal(told.length, 19)
})

// ─── the line ────────────────────────────────────────────────────────────────────────────────────

t.test('a process whose line is cut, unnoticed, believes its memory until its lease is over, and connects anew', async t => {
  const { hub, members: [a, b] } = await membersOf(t, 2)
  b.process.cut()
  const push = a.push()
  await hub.pass(over - 1)
  t.notOk(b.trusted)
  t.equal(push.state, 'under way')
  await hub.pass(1)
  t.equal(push.state, 'over')
  await hub.pass(3 * lease)
  t.equal(b.process.reconnects, 0, 'it may be slow')
  await hub.pass(2 * lease)
  t.equal(b.process.reconnects, 1)
  t.ok(b.trusted)
  t.equal(b.told.length, 0)
  t.ok(b.emptied > 1, 'what it has missed is not in its memory any more')
  t.ok(await a.waitsFor(b, hub))
})

t.test('a process that has lost its line starts empty, at once, and again before it believes its memory', async t => {
  const { hub, members: [a, b] } = await membersOf(t, 2)
  const waiting = b.push()
  a.process.stop()
  b.process.lose()
  t.notOk(b.trusted)
  t.ok(b.emptied > 1)
  await hub.pass(over)
  t.equal(waiting.state, 'over', 'it does not know any more whom it waits for')
  a.process.resume()
  await hub.pass(lease)
  t.notOk(b.trusted)
  const { emptied } = b
  b.process.restore()
  const again = b.emptied
  t.ok(again > emptied)
  await hub.pass(lease / 3)
  t.ok(b.trusted)
  t.ok(b.emptied > again, 'what it has read meanwhile may have been invalidated, too')
  await hub.pass(over)
  for (const [one, other] of [[a, b], [b, a]] as const) t.ok(await one.waitsFor(other, hub))
})

t.test('who left unheard, while the line was lost, is not waited for', async t => {
  const { hub, members: [a, b] } = await membersOf(t, 2)
  a.process.cut()
  b.close()
  await hub.pass(0)
  b.process.cut()
  a.process.restore()
  await hub.pass(over + lease)
  const push = a.push()
  await hub.pass(0)
  t.equal(push.state, 'over')
})

t.test('a line that is slow is believed for a lease from the question, not from its answer', async t => {
  const { hub, members: [, b] } = await membersOf(t, 2)
  await hub.pass(lease / 3 - (over % (lease / 3)))
  b.process.asking.hold()
  await hub.pass(lease / 3 + 50)
  b.process.asking.release() // a question of 50 ms ago
  b.process.asking.hold()
  await hub.pass(lease - 51)
  t.ok(b.trusted)
  await hub.pass(1)
  t.notOk(b.trusted)
  await hub.pass(2 * lease)
  t.notOk(b.trusted)
  b.process.asking.release()
  await hub.pass(lease)
  t.ok(b.trusted)
  t.equal(b.process.saidOf('hello').length, 0, 'nobody has stopped to wait for it')
  t.equal(b.emptied, 1, 'and it has missed nothing')
  b.process.asking.hold()
  await hub.pass(2 * lease)
  t.equal(b.process.reconnects, 0, 'it has answered in between')
})

t.test('a hello from before the line was lost is none: who answered it was not heard', async t => {
  const { hub, members: [a] } = await membersOf(t, 1)
  const b = new Member(hub)
  b.process.hearing.hold()
  await hub.pass(0)
  b.process.hearing.release()
  b.process.replies.hold()
  await hub.pass(0)
  t.equal(b.process.saidOf('hello').length, 1)
  b.process.restore()
  b.process.replies.release()
  await hub.pass(0)
  t.notOk(b.trusted)
  await hub.pass(over)
  t.ok(b.trusted)
  t.equal(b.process.saidOf('hello').length, 2)
  await hub.pass(over)
  t.ok(await b.waitsFor(a, hub))
})

t.test('who does not hear its own hello does not hear the others', async t => {
  const { hub } = await membersOf(t, 1)
  const b = new Member(hub)
  b.process.line.publish = async () => {} // to another server
  await hub.pass(10 * lease)
  t.notOk(b.trusted)
  t.notOk(b.started)
  t.equal(b.process.reconnects, 0)
})

t.test('before it hears its own push, a process does not know whom it has to wait for', async t => {
  const { hub } = await membersOf(t, 1)
  const b = new Member(hub)
  await hub.pass(100)
  b.process.hearing.hold()
  const c = new Member(hub)
  await hub.pass(50)
  t.ok(c.trusted)
  c.process.hearing.hold()
  const push = b.push()
  await hub.pass(over - 150)
  t.equal(push.state, 'under way', 'though all who were there when it came have had time to show themselves')
  b.process.hearing.release()
  await hub.pass(0)
  t.equal(push.state, 'under way')
  c.process.hearing.release()
  await hub.pass(0)
  t.equal(push.state, 'over')
})

t.test('who is doubted and greets again is waited for, whatever the order in which that is heard', async t => {
  const { hub, members: [a, b] } = await membersOf(t, 2)
  b.process.stop()
  a.push()
  await hub.pass(over - 1)
  a.process.replies.hold() // it will not know yet that its doubt was published
  await hub.pass(1)
  t.equal(a.process.saidOf('doubt').length, 1)
  b.process.resume()
  await hub.pass(1)
  t.equal(b.process.saidOf('hello').length, 1)
  a.process.replies.release()
  await hub.pass(2 * over)
  t.ok(b.trusted)
  t.ok(await a.waitsFor(b, hub))
})

t.test('a line that can not be heard: memory is not believed, and invalidations take a lease', async t => {
  const { hub } = await membersOf(t, 1)
  const deaf = async (): Promise<never> => { throw new Error('deaf') }
  const process = hub.join()
  const others = { ...process.line, listen: async (...args: Parameters<typeof process.line.listen>) => args[0] === 'coherence' ? await process.line.listen(...args) : await deaf() }
  for (const line of [{ ...process.line, listen: deaf }, others]) {
    const b = new Member(hub, { line })
    await hub.pass(0)
    t.ok(b.started)
    t.match(b.logger.lines.warn, [{ message: /memory is not used/ }])
    const push = b.push()
    const c = new Member(hub) // whom it doesn't answer
    await hub.pass(over - 1)
    t.equal(push.state, 'under way')
    await hub.pass(1)
    t.equal(push.state, 'over')
    t.notOk(b.trusted)
    c.close()
    t.ok(b.close())
    await hub.pass(0)
  }
  t.strictSame([...new Set(process.said.map(({ kind }) => kind))], ['push'])
})

// ─── leases that differ ──────────────────────────────────────────────────────────────────────────

t.test('a process with a longer lease is waited for as long as that; and all are warned', async t => {
  simulateTime(t)
  const hub = new LineHub()
  const a = new Member(hub, { lease: 30 })
  const b = new Member(hub, { lease: 300 })
  const c = new Member(hub, { lease: 300 })
  await hub.pass(over)
  b.process.stop()
  const push = a.push()
  await hub.pass(over - 1)
  t.equal(push.state, 'under way')
  await hub.pass(1)
  t.equal(push.state, 'over')
  for (const { logger } of [a, b, c]) t.match(logger.lines.warn, [{ message: /another lineLease/ }])
  t.strictSame(a.logger.lines.warn[0]!.details, { ours: 30, theirs: 300 })
})

// ─── close ───────────────────────────────────────────────────────────────────────────────────────

t.test('an invalidation that is under way when its process closes is over no sooner', async t => {
  const { hub, members: [a, b] } = await membersOf(t, 2)
  b.process.stop()
  const push = a.push()
  await hub.pass(10)
  const closing = a.close()
  await hub.pass(over - 11)
  t.ok(closing.isOver)
  t.equal(push.state, 'under way')
  await hub.pass(1)
  t.equal(push.state, 'over')
})

t.test('who has said goodbye says nothing more, and believes nothing', async t => {
  const { hub, members: [a] } = await membersOf(t, 1)
  a.process.asking.hold()
  await hub.pass(lease / 3)
  a.process.requests.hold()
  new Member(hub) // eslint-disable-line no-new
  await hub.pass(0)
  a.close()
  a.process.asking.release()
  a.process.requests.release()
  const b = new Member(hub)
  b.process.replies.hold()
  await hub.pass(0)
  t.strictSame(a.process.said.map(({ kind }) => kind), ['present', 'bye'])
  t.notOk(a.trusted)

  b.close() // its hello has not been answered yet
  b.process.replies.release()
  await hub.pass(lease)
  t.notOk(b.trusted)
  t.ok(b.started)

  const c = new Member(hub)
  const deaf = new Member(hub, { line: { ...c.process.line, listen: async () => { throw new Error('deaf') } } })
  for (const member of [c, deaf]) member.close()
  await hub.pass(lease)
  t.ok(c.started && deaf.started)
  t.strictSame(c.process.said, [], 'closed before it had come')
  t.strictSame(deaf.logger.lines.warn, [])
})
