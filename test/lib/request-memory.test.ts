import t from 'tap'
import { RequestMemory } from '../../lib/request-memory.js'
import { Read } from '../../lib/request-read.js'

const remembered = (value: unknown) => new Read(value)
const keyOf = (_method: object, args: readonly unknown[]) => JSON.stringify(args)
const noKey = () => { throw new Error('no key is needed') }

t.test('what was never seen is not there', async t => {
  const memory = new RequestMemory()
  t.equal(memory.get({}, [1], noKey), undefined)
  memory.delete({}, [1], '1')
  memory.delete({}, [{}], '{}')
})

t.test('a single argument that is no object is found without a key', async t => {
  const memory = new RequestMemory()
  const method = {}
  const all = [1, '1', 1n, true, 'true', undefined, 'undefined', NaN]
  const seen = new Map(all.map(arg => [arg, remembered(arg)]))
  for (const [arg, one] of seen) memory.set(method, [arg], 'no matter', one)
  for (const [arg, one] of seen) t.equal(memory.get(method, [arg], noKey), one, typeof arg)
  t.equal(memory.get(method, [2], noKey), undefined)
  t.equal(memory.get(method, [-0], noKey), memory.get(method, [0], noKey))
})

t.test('other arguments are found by their key', async t => {
  const memory = new RequestMemory()
  const method = {}
  for (const args of [[], [null], [{ a: 1 }], [1, 2], [[1]]]) {
    t.equal(memory.get(method, args, keyOf), undefined)
    const one = remembered(args)
    memory.set(method, args, keyOf(method, args), one)
    t.equal(memory.get(method, args, keyOf), one)
  }
  t.equal(memory.get(method, [1], noKey), undefined)
})

t.test('each method has arguments of its own, whichever was used last', async t => {
  const memory = new RequestMemory()
  const methods = Array.from({ length: 20 }, (_, i) => ({ i }))
  for (const method of methods) memory.set(method, [1], '1', remembered(method))
  for (const method of [...methods, ...methods.toReversed()]) t.equal(memory.get(method, [1], noKey)?.value, method)
  t.equal(memory.get({ i: 0 }, [1], noKey), undefined)
})

t.test('what is deleted is gone, unless something newer has taken its place', async t => {
  const memory = new RequestMemory()
  const method = {}
  for (const args of [[1], [1, 2]]) {
    const key = keyOf(method, args)
    const [old, newer] = [remembered('old'), remembered('newer')]
    memory.set(method, args, key, old)
    memory.set(method, args, key, newer)
    memory.delete(method, args, key, old)
    t.equal(memory.get(method, args, keyOf), newer)
    memory.delete(method, args, key, newer)
    t.equal(memory.get(method, args, keyOf), undefined)
    memory.set(method, args, key, old)
    memory.delete(method, args, key)
    t.equal(memory.get(method, args, keyOf), undefined)
  }
})

t.test('a single read is found, and NaN is one like others', async t => {
  for (const arg of [1, NaN, 'a']) {
    const memory = new RequestMemory()
    const method = {}
    const [one, other] = [remembered('one'), remembered('other')]
    memory.set(method, [arg], 'key', one)
    t.equal(memory.get(method, [arg], noKey), one)
    memory.set(method, [arg], 'key', other)
    t.equal(memory.get(method, [arg], noKey), other)
    memory.delete(method, [arg], 'key', one)
    t.equal(memory.get(method, [arg], noKey), other)
    memory.set(method, ['second'], 'second', one)
    memory.delete(method, [arg], 'key')
    t.equal(memory.get(method, [arg], noKey), undefined)
    memory.set(method, [arg], 'key', one)
    t.equal(memory.get(method, [arg], noKey), one)
    t.equal(memory.get(method, ['second'], noKey), one)
    t.equal(memory.get({}, [arg], noKey), undefined)
  }
})

t.test('what is no array of arguments is left to the key to refuse', async t => {
  const memory = new RequestMemory()
  const method = {}
  memory.set(method, ['a'], 'a', remembered('a'))
  memory.set(method, [1, 2], '[1,2]', remembered('b'))
  const refuse = () => { throw new TypeError('refused') }
  for (const args of ['a', null, undefined, 1, {}]) t.throws(() => memory.get(method, args as never, refuse), /refused/)
})
