import t from 'tap'
import { assertTags } from '../../lib/checks.js'

t.test('tags that are no array of strings are refused', async t => {
  t.doesNotThrow(() => assertTags([]))
  t.doesNotThrow(() => assertTags(['a', 'b']))
  for (const tags of ['a', undefined, null, [1], ['a', undefined], { 0: 'a' }]) {
    t.throws(() => assertTags(tags), { code: 'FST_CACHING_API_INVALID_ARGUMENT', message: /^tags must be an array of strings, got / })
  }
})
