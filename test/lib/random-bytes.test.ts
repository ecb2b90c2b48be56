import t from 'tap'
import { drawRandom, randomPool } from '../../lib/random-bytes.js'

t.test('nobody gets bytes that somebody else has got', async t => {
  const drawn = new Set(Array.from({ length: 2000 }, () => {
    const at = drawRandom(8)
    return randomPool.toString('latin1', at, at + 8)
  }))
  t.equal(drawn.size, 2000)
})
