import t from 'tap'
import { isLeasing, isLocal } from '../../../lib/backends/backend.js'
import { nothing } from '../../../lib/backends/nothing.js'

t.test('whatever is put into nothing() is not there', async t => {
  const backend = nothing()
  t.equal(backend.name, 'nothing')
  await backend.setMany([{ key: 'a', value: Buffer.from('a'), ttl: 1000 }])
  t.strictSame(await backend.getMany(['a', 'b']), [undefined, undefined])
  t.strictSame(await backend.getMany([]), [])
  await backend.deleteMany(['a'])
})

t.test('nothing() is no memory, and nobody leases it', async t => {
  t.notOk(isLocal(nothing()))
  t.notOk(isLeasing(nothing()))
})
