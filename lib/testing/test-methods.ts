import assert from 'node:assert/strict'
import type { Backend } from '../backends/backend.js'
import { eventually } from './eventually.js'
import { hostileKeys, newKey } from './keys.js'
import type { TestRunner } from './test-runner.js'
import { day, entry, minute, show, text } from './values.js'

/** What every backend has to do. */
export async function testMethods (t: TestRunner, backend: Backend): Promise<void> {
  const get = async (...keys: string[]) => (await backend.getMany(keys)).map(text)

  await t.test('it has a name', async () => {
    assert.match(backend.name, /\S/)
  })

  await t.test('what was set is found, in the order that is asked for, with gaps and duplicates', async () => {
    const [a, b, c] = [newKey(), newKey(), newKey()]
    await backend.setMany([entry(a, 'A'), entry(b, 'B')])
    assert.deepEqual(await get(b, c, a, b), ['B', undefined, 'A', 'B'])
    assert.deepEqual(await get(c), [undefined])
  })

  await t.test('an empty list is nothing to do', async () => {
    assert.deepEqual(await backend.getMany([]), [])
    await backend.setMany([])
    await backend.deleteMany([])
  })

  await t.test('all bytes come back as they were, few or many, or none', async () => {
    const values = [
      Uint8Array.from({ length: 256 }, (_, i) => i), new Uint8Array(0), Uint8Array.of(0), Uint8Array.of(13, 10),
      Buffer.from('\r\nEND\r\n'), new Uint8Array(100_000).fill(0xff), new Uint8Array(Uint8Array.of(1, 2, 3, 4).buffer, 1, 2)
    ]
    const keys = values.map(newKey)
    await backend.setMany(values.map((value, i) => ({ key: keys[i]!, value, ttl: minute })))
    for (const [i, found] of (await backend.getMany(keys)).entries()) {
      assert.ok(found instanceof Uint8Array, 'getMany must answer with a Uint8Array')
      assert.ok(Buffer.from(found).equals(values[i]!), `the value of ${values[i]!.length} bytes must be the same`)
    }
  })

  await t.test('a value is replaced, by a shorter one too; of two in one call the later one stays', async () => {
    const key = newKey()
    await backend.setMany([entry(key, 'a long value')])
    await backend.setMany([entry(key, 'short')])
    assert.deepEqual(await get(key), ['short'])
    await backend.setMany([entry(key, 'first'), entry(key, 'second')])
    assert.deepEqual(await get(key), ['second'])
  })

  await t.test('what is deleted is gone, and nothing else; what is not there can be deleted', async () => {
    const [a, b, c] = [newKey(), newKey(), newKey()]
    await backend.setMany([entry(a, 'A'), entry(b, 'B'), entry(`${a}b`, 'AB')])
    await backend.deleteMany([a, c, a])
    assert.deepEqual(await get(a, b, `${a}b`), [undefined, 'B', 'AB'])
    await backend.deleteMany([a])
  })

  await t.test('a value is gone when its ttl is over, and not before', async () => {
    const [short, replaced, shortened, kept, month, decade] = [newKey(), newKey(), newKey(), newKey(), newKey(), newKey()]
    await backend.setMany([entry(short, 'v', 1000), entry(replaced, 'v', 1000), entry(shortened, 'v', minute), entry(kept, 'v', minute), entry(month, 'v', 45 * day), entry(decade, 'v', 3653 * day)])
    await backend.setMany([entry(replaced, 'w', minute), entry(shortened, 'w', 1)])
    await eventually(async () => (await get(short, shortened)).every(value => value === undefined), 'a value must be gone after its ttl')
    assert.deepEqual(await get(replaced, kept, month, decade), ['w', 'v', 'v', 'v'])
  })

  await t.test('keys of any characters and any length are told apart', async () => {
    const base = newKey()
    const keys = hostileKeys.map(key => base + key)
    // Most end differently; a backend must tell those apart too that begin so.
    const bare = hostileKeys.map(key => key + base)
    const all = [...keys, ...bare]
    await backend.setMany(all.map((key, i) => entry(key, `value ${i}`)))
    assert.deepEqual(await get(...all), all.map((_, i) => `value ${i}`))
    for (const [i, key] of all.entries()) {
      assert.deepEqual(await get(key), [`value ${i}`], `the key ${show(key)} alone`)
      await backend.deleteMany([key])
      assert.deepEqual(await get(key, ...all.slice(i + 1, i + 2)), [undefined, ...all.slice(i + 1, i + 2).map(() => `value ${i + 1}`)], `deleting ${show(key)}`)
    }
    assert.deepEqual(await get(...all), all.map(() => undefined))
  })

  await t.test('a key that is only a hostile name is like any other', async () => {
    const names = ['__proto__', 'constructor', 'toString', 'value', 'then', '', ' ', '\0', '\r\n', '{}']
    await backend.deleteMany(names)
    assert.deepEqual(await get(...names), names.map(() => undefined))
    await backend.setMany(names.map(name => entry(name, name)))
    assert.deepEqual(await get(...names), names)
    await backend.deleteMany(names)
    assert.deepEqual(await get(...names), names.map(() => undefined))
  })

  await t.test('two thousand keys go in one call', async () => {
    const keys = Array.from({ length: 2000 }, newKey)
    await backend.setMany(keys.map(key => entry(key, key)))
    assert.deepEqual(await get(...keys.toReversed()), keys.toReversed())
    await backend.deleteMany(keys.slice(1))
    assert.deepEqual(await get(...keys), [keys[0], ...keys.slice(1).map(() => undefined)])
  })

  await t.test('calls at the same moment do not disturb each other', async () => {
    const keys = Array.from({ length: 50 }, newKey)
    await Promise.all(keys.map(async key => {
      await backend.setMany([entry(key, key), entry(`${key}2`, `${key}2`)])
      assert.deepEqual(await get(`${key}2`, key), [`${key}2`, key])
      await backend.deleteMany([key])
      assert.deepEqual(await get(key, `${key}2`), [undefined, `${key}2`])
    }))
    // The same keys in any order, from many at once: locks taken one by one would wait for each other in a circle.
    await Promise.all(Array.from({ length: 10 }, async (_, i) => {
      const order = i % 2 === 0 ? keys : keys.toReversed()
      await backend.setMany(order.map(key => entry(key, 'same')))
      if (i % 3 === 0) await backend.deleteMany(order.toReversed())
    }))
  })

  await t.test('bytes belong to whoever gave or got them: changing them changes nothing here', async () => {
    const key = newKey()
    const given = Buffer.from('value')
    await backend.setMany([{ key, value: given, ttl: minute }])
    given.fill('x')
    const [got] = await backend.getMany([key])
    assert.equal(text(got), 'value', 'changing what was given')
    got!.fill(0)
    assert.deepEqual(await get(key), ['value'], 'changing what was got')
  })
}
