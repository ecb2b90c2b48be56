import assert from 'node:assert/strict'
import type { LeasingBackend } from '../backends/backend.js'
import { eventually } from './eventually.js'
import { hostileKeys, newKey } from './keys.js'
import { TestRegion } from './test-region.js'
import type { TestRunner } from './test-runner.js'
import { minute, newValue, text } from './values.js'

/** Of a backend that leases: fills that come too late are refused. `flush` empties its server from outside. */
export async function testLeases (t: TestRunner, backend: LeasingBackend, flush?: () => unknown): Promise<void> {
  const region = new TestRegion(backend)

  await t.test('what is leased gets a mark, and whoever comes next shares it', async () => {
    const [a, b] = [newKey(), newKey()]
    const first = await region.lease([a, b])
    const second = await region.lease([b, a])
    assert.deepEqual(first.held.map(text), [text(first.mark), text(first.mark)])
    assert.deepEqual(second.held.map(text), [text(first.mark), text(first.mark)])
    assert.deepEqual(second.stamp, first.stamp, 'there is one stamp')
  })

  await t.test('a fill replaces a mark, once', async () => {
    const [a, b] = [newKey(), newKey()]
    const { held } = await region.lease([a, b])
    const { held: others } = await region.lease([a, b])
    const [value, late] = [newValue(), newValue()]
    assert.deepEqual(await backend.fillMany([{ key: b, lease: held[1]!, value, ttl: minute }, { key: a, lease: held[0]!, value, ttl: minute }]), [true, true])
    assert.equal(await region.fill(a, others[0], late), false, 'somebody was faster')
    assert.deepEqual((await backend.getMany([a, b])).map(text), [text(value), text(value)])
    assert.deepEqual(await backend.fillMany([]), [])
  })

  await t.test('what stands there is answered, and can be replaced by whoever leased it', async () => {
    const key = newKey()
    const [old, next] = [newValue(), newValue()]
    await backend.setMany([{ key, value: old, ttl: minute }])
    const { held } = await region.lease([key])
    assert.equal(text(held[0]), text(old))
    assert.equal(await region.fill(key, held[0], next), true)
    assert.equal(text((await backend.getMany([key]))[0]), text(next))
  })

  const revocations: Record<string, (key: string) => unknown> = {
    'is deleted': async key => await backend.deleteMany([key]),
    'is forgotten': async key => await region.forget(key),
    'is replaced': async key => await backend.setMany([{ key, value: newValue(), ttl: minute }]),
    'is taken over': async key => await region.lease([key], { takeOver: true }),
    'is forgotten and leased by another': async key => {
      await region.forget(key)
      await region.lease([key])
    },
    'is forgotten and filled by another': async key => {
      await region.forget(key)
      await region.fill(key, (await region.lease([key])).held[0], newValue())
    },
    ...flush === undefined ? {} : { 'is flushed': flush, 'is flushed and leased by another': async key => { await flush(); await region.lease([key]) } }
  }
  for (const [what, revoke] of Object.entries(revocations)) {
    await t.test(`a fill is refused where a mark, or an older value, ${what}`, async () => {
      for (const old of [undefined, newValue()]) {
        const key = newKey()
        if (old !== undefined) await backend.setMany([{ key, value: old, ttl: minute }])
        const { held } = await region.lease([key])
        const late = newValue()
        await revoke(key)
        assert.equal(await region.fill(key, held[0], late), false)
        assert.notEqual(text((await backend.getMany([key]))[0]), text(late))
      }
    })
  }

  await t.test('a mark ends after its time, and a fill comes too late then', async () => {
    const key = newKey()
    const { held } = await region.lease([key], { ttl: 500 })
    await eventually(async () => (await backend.getMany([key]))[0] === undefined, 'a mark must end')
    assert.equal(await region.fill(key, held[0], newValue()), false)
  })

  await t.test('whoever takes over may fill, and what is there can be read until then', async () => {
    const [key, missing] = [newKey(), newKey()]
    const payload = newValue()
    await backend.setMany([{ key, value: payload, ttl: minute }])
    const { held } = await region.lease([key, missing], { takeOver: true })
    assert.equal(text((await backend.getMany([key]))[0])!.slice(-36), text(payload)!.slice(-36))
    const value = newValue()
    assert.deepEqual(await backend.fillMany([key, missing].map((one, i) => ({ key: one, lease: held[i]!, value, ttl: minute }))), [true, true])
    assert.deepEqual((await backend.getMany([key, missing])).map(text), [text(value), text(value)])
  })

  if (backend.fillUnchanged !== undefined) {
    await t.test('what was seen can be filled without a mark, as long as nothing has changed', async () => {
      const [a, b] = [newKey(), newKey()]
      const old = newValue()
      await backend.setMany([{ key: b, value: old, ttl: minute }])
      const { stamp: since } = await region.lease([])
      const held = await backend.getMany([a, b])
      const fillSeen = async (...values: Uint8Array[]) =>
        await backend.fillUnchanged!(region.stampKey, since, [a, b].map((key, i) => ({ key, held: held[i], value: values[i]!, ttl: minute })))
      const [one, two, late] = [newValue(), newValue(), newValue()]
      assert.deepEqual(await fillSeen(one, two), [true, true])
      assert.deepEqual(await fillSeen(late, late), [false, false], 'somebody was faster')
      assert.deepEqual((await backend.getMany([a, b])).map(text), [text(one), text(two)])

      const changes = { 'a key was forgotten': async () => await region.forget(newKey()), 'somebody has taken over': async () => { await region.lease([newKey()], { takeOver: true }) } }
      for (const [what, change] of Object.entries(changes)) {
        const since = (await region.stamp())!
        const key = newKey()
        await change()
        assert.equal(await backend.fillUnchanged!(region.stampKey, since, [{ key, held: undefined, value: late, ttl: minute }]), undefined, what)
        assert.equal((await backend.getMany([key]))[0], undefined, what)
      }
    })
  }

  await t.test('keys of any characters can be leased, filled and forgotten', async () => {
    const base = newKey()
    const keys = hostileKeys.map(key => base + key)
    const { held } = await region.lease(keys)
    const values = keys.map(newValue)
    assert.ok((await backend.fillMany(keys.map((key, i) => ({ key, lease: held[i]!, value: values[i]!, ttl: minute })))).every(filled => filled === true))
    assert.deepEqual((await backend.getMany(keys)).map(text), values.map(text))
    await region.forget(...keys)
    assert.deepEqual(await backend.getMany(keys), keys.map(() => undefined))
  })
}
