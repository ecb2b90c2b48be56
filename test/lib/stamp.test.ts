import t from 'tap'
import { formatStamp, newStamp, parseStamp, type Stamp } from '../../lib/stamp.js'

const stamp: Stamp = { epoch: 123456789012345, softened: 1, tagged: 2, deleted: 3 }

t.test('a stamp comes back as it went, and no two new ones are alike', async t => {
  t.strictSame(parseStamp(formatStamp(stamp)), stamp)
  const fresh = newStamp()
  t.strictSame(parseStamp(formatStamp(fresh)), fresh)
  t.match(fresh, { softened: 0, tagged: 0, deleted: 0 })
  t.not(fresh.epoch, newStamp().epoch)
})

t.test('what is no stamp is none', async t => {
  const text = formatStamp(stamp)
  for (const foreign of ['', 'x', '1', '|1|2|3', `${text}|1`, ` ${text}`, `${text}\n`, '1|2|3', '1|2|3|x', '1|-1|2|3', 'a|1|2|3', '1.5|1|2|3', `1|1|2|${'9'.repeat(16)}`]) {
    t.equal(parseStamp(foreign), undefined, JSON.stringify(foreign))
  }
})
