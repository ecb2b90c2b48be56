import t from 'tap'
import { UnstorableError, isLeasing, isLocal, isOpening } from '../../../lib/backends/backend.js'
import { memory } from '../../../lib/backends/memory.js'
import { nothing } from '../../../lib/backends/nothing.js'

t.test('what a backend can do besides the three methods is told by its other methods', async t => {
  t.strictSame([isLocal(memory()), isLeasing(memory()), isOpening(memory())], [true, false, false])
  t.strictSame([isLocal(nothing()), isLeasing(nothing()), isOpening(nothing())], [false, false, false])
  const leasing = { ...nothing(), leaseMany () {}, fillMany () {} }
  t.strictSame([isLocal(leasing), isLeasing(leasing), isOpening(leasing)], [false, true, false])
  t.strictSame([isLocal(Object.assign(nothing(), { getEntry () {} })), isLeasing(Object.assign(nothing(), { leaseMany () {} }))], [false, false])
  t.ok(isOpening(Object.assign(nothing(), { async loadLibrary () {} })))
})

t.test('values that can not be kept are an error that says which, and why', async t => {
  const cause = new Error('object too large for cache')
  t.match(new UnstorableError(['a', 'b'], cause), { keys: ['a', 'b'], message: 'object too large for cache', cause })
  t.match(new UnstorableError(['a'], 'too large'), { message: 'too large' })
})
