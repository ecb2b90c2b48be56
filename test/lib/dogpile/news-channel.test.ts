import t from 'tap'
import { dogpileOf, done, following } from '../../helpers/dogpile.js'
import { deferred } from '../../helpers/doubles.js'

t.test('news', async t => {
  t.test('news wake those who wait for these names, in every process', async t => {
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

  t.test('news of a failure bring the error along, for its names only', async t => {
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

  t.test('news of a failure that is no error, or has no plain code, are an error all the same', async t => {
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

  t.test('news of a result that can’t be shared let the others do the work, without an election', async t => {
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

  t.test('news of somebody else, or that are none, are ignored', async t => {
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

  t.test('news that come while it looks for the first time are not lost', async t => {
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

  t.test('news that can’t be sent cost nobody anything', async t => {
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

  t.test('news are not sent where there is no line', async t => {
    const { mine } = dogpileOf(t, { line: undefined })
    const { elected: one } = await mine.elect(['a'])
    await one!.announce(['a'], done)
    await one!.release()
  })
})
