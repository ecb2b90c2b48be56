import t from 'tap'
import { groupBy } from '../../lib/group-by.js'

t.test('what has the same key comes together, in the order in which it came', async t => {
  const groups = groupBy(['aa', 'b', 'ac', 'c', 'ab'], word => word[0])
  t.strictSame([...groups], [['a', ['aa', 'ac', 'ab']], ['b', ['b']], ['c', ['c']]])
})

t.test('an empty list makes no groups', async t => {
  t.equal(groupBy([], String).size, 0)
})
