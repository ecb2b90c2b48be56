import t from 'tap'
import { assertTags, namesOf } from '../../lib/checks.js'

t.test('tags that are no array of strings are refused', async t => {
  t.doesNotThrow(() => assertTags([]))
  t.doesNotThrow(() => assertTags(['a', 'b']))
  for (const tags of ['a', undefined, null, [1], ['a', undefined], { 0: 'a' }]) {
    t.throws(() => assertTags(tags), { code: 'FST_CACHING_API_INVALID_ARGUMENT', message: /^tags must be an array of strings, got / })
  }
})

t.test('an option that is missing in the list of its names does not compile, nor one that there is not', async t => {
  interface Options { a: number, b?: string }
  t.strictSame(namesOf<Options>({ a: true, b: true }), ['a', 'b'])
  // @ts-expect-error -- b is optional for callers, not here
  namesOf<Options>({ a: true })
  // @ts-expect-error -- there is no c
  namesOf<Options>({ a: true, b: true, c: true })
})
