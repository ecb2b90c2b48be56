import t from 'tap'
import { errorOf, newsOf, parseNews, type Outcome } from '../../../lib/dogpile/news.js'

/** As another process gets to see them. */
const travelled = (names: readonly string[], outcome: Outcome) => parseNews(JSON.stringify(newsOf(names, outcome)))

t.test('what became of the work is the same for another process', async t => {
  t.strictSame(travelled(['a', 'b'], { kind: 'done' }), { names: ['a', 'b'], outcome: 'done' })
  t.strictSame(travelled([], { kind: 'unshared' }), { names: [], outcome: 'unshared' })
  t.match(travelled(['a'], { kind: 'failed', error: new Error('no database') }), { names: ['a'], outcome: 'failed' })
})

t.test('an error travels with its name, its message, its code and its status, and with nothing else', async t => {
  const error = Object.assign(new RangeError('no database'), { code: 'E_DB', statusCode: 503, query: 'secret' })
  const theirs = errorOf(travelled(['a'], { kind: 'failed', error })!)
  t.ok(theirs instanceof Error)
  t.strictSame({ ...theirs, name: theirs.name, message: theirs.message }, { name: 'RangeError', message: 'no database', code: 'E_DB', statusCode: 503 })
  t.notOk(Object.keys(theirs).includes('name'), 'its name is not shown twice')
})

t.test('whatever a loader throws, others get an error', async t => {
  const unreadable = Object.defineProperty(new Error('no'), 'message', { get: () => { throw new Error('nor this') } })
  for (const [error, message] of [
    ['text', 'text'],
    [undefined, 'undefined'],
    [17, '17'],
    [unreadable, 'a load failed in another process']
  ] as const) {
    const theirs = errorOf(travelled(['a'], { kind: 'failed', error })!)
    t.strictSame([theirs.name, theirs.message], ['Error', message])
  }
})

t.test('what a message says of an error is believed only as far as it has the right type', async t => {
  for (const error of [undefined, null, 'text', { name: 1, message: {}, code: 2, statusCode: '503', __proto__: { polluted: true } }]) {
    const theirs = errorOf({ names: ['a'], outcome: 'failed', error: error as never })
    t.strictSame([theirs.name, theirs.message, Object.keys(theirs)], ['Error', 'a load failed in another process', []])
  }
})

t.test('a message that is no news is none', async t => {
  for (const message of ['', '{', 'null', '1', '"text"', '[]', '{}', '{"names":"a","outcome":"done"}', '{"names":["a"],"outcome":"maybe"}', '{"names":["a"]}']) {
    t.equal(parseNews(message), undefined, message)
  }
})
