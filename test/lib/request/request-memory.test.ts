import t from 'tap'
import type { BoundMethod } from '../../../lib/bound-object.js'
import { RequestMemory } from '../../../lib/request/request-memory.js'
import { Read } from '../../../lib/request/request-read.js'

const aMethod = () => ({}) as BoundMethod
const remembered = (value: unknown, method: BoundMethod, arg: unknown) => new Read(value, method, arg)
const keyOf = (_method: object, args: readonly unknown[]) => JSON.stringify(args)
const noKey = () => { throw new Error('no key is needed') }

t.test('what was never seen is not there', async t => {
  const memory = new RequestMemory()
  t.equal(memory.get(aMethod(), [1], noKey), undefined)
  memory.delete(aMethod(), [1], '1')
  memory.delete(aMethod(), [{}], '{}')
})

t.test('a single argument that is no object is found without a key', async t => {
  const memory = new RequestMemory()
  const method = aMethod()
  const all = [1, '1', 1n, true, 'true', undefined, 'undefined', NaN]
  const seen = new Map(all.map(arg => [arg, remembered(arg, method, arg)]))
  for (const [arg, one] of seen) memory.set([arg], 'no matter', one)
  for (const [arg, one] of seen) t.equal(memory.get(method, [arg], noKey), one, typeof arg)
  t.equal(memory.get(method, [2], noKey), undefined)
  t.equal(memory.get(method, [-0], noKey), memory.get(method, [0], noKey))
})

t.test('several arguments, and objects, are found by their key', async t => {
  const memory = new RequestMemory()
  const method = aMethod()
  for (const args of [[], [null], [{ a: 1 }], [1, 2], [[1]]]) {
    t.equal(memory.get(method, args, keyOf), undefined)
    const one = remembered(args, method, args[0])
    memory.set(args, keyOf(method, args), one)
    t.equal(memory.get(method, args, keyOf), one)
  }
  t.equal(memory.get(method, [1], noKey), undefined)
})

t.test('each method has arguments of its own, whichever was used last', async t => {
  const memory = new RequestMemory()
  const methods = Array.from({ length: 20 }, aMethod)
  for (const method of methods) memory.set([1], '1', remembered(method, method, 1))
  for (const method of [...methods, ...methods.toReversed()]) t.equal(memory.get(method, [1], noKey)?.value, method)
  t.equal(memory.get(aMethod(), [1], noKey), undefined)
})

t.test('what is deleted is gone, unless something newer has taken its place', async t => {
  const memory = new RequestMemory()
  const method = aMethod()
  for (const args of [[1], [1, 2]]) {
    const key = keyOf(method, args)
    const [old, newer] = [remembered('old', method, args[0]), remembered('newer', method, args[0])]
    memory.set(args, key, old)
    memory.set(args, key, newer)
    memory.delete(method, args, key, old)
    t.equal(memory.get(method, args, keyOf), newer)
    memory.delete(method, args, key, newer)
    t.equal(memory.get(method, args, keyOf), undefined)
    memory.set(args, key, old)
    memory.delete(method, args, key)
    t.equal(memory.get(method, args, keyOf), undefined)
  }
})

t.test('a single read is found, and NaN is one like others', async t => {
  for (const arg of [1, NaN, 'a']) {
    const memory = new RequestMemory()
    const method = aMethod()
    const [one, other] = [remembered('one', method, arg), remembered('other', method, arg)]
    const second = remembered('second', method, 'second')
    memory.set([arg], 'key', one)
    t.equal(memory.get(method, [arg], noKey), one)
    memory.set([arg], 'key', other)
    t.equal(memory.get(method, [arg], noKey), other)
    memory.delete(method, [arg], 'key', one)
    t.equal(memory.get(method, [arg], noKey), other)
    memory.set(['second'], 'second', second)
    memory.delete(method, [arg], 'key')
    t.equal(memory.get(method, [arg], noKey), undefined)
    memory.set([arg], 'key', one)
    t.equal(memory.get(method, [arg], noKey), one)
    t.equal(memory.get(method, ['second'], noKey), second)
    t.equal(memory.get(aMethod(), [arg], noKey), undefined)
  }
})

t.test('what is no array of arguments is left to the key to refuse', async t => {
  const memory = new RequestMemory()
  const method = aMethod()
  memory.set(['a'], 'a', remembered('a', method, 'a'))
  memory.set([1, 2], '[1,2]', remembered('b', method, 1))
  const refuse = () => { throw new TypeError('refused') }
  for (const args of ['a', null, undefined, 1, {}]) t.throws(() => memory.get(method, args as never, refuse), /refused/)
})
