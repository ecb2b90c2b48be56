import assert from 'node:assert/strict'
import { formatStamp, newStamp } from '../stamp.js'
import type { LeasingBackend } from '../backends/backend.js'
import { newKey } from './keys.js'
import { TestRegion } from './test-region.js'
import type { TestRunner } from './test-runner.js'
import { day, entry, minute, text } from './values.js'

/** Of a backend that leases: the stamp of a region, and the versions of its tags, tell what was invalidated. */
export async function testStamps (t: TestRunner, backend: LeasingBackend): Promise<void> {
  await t.test('a stamp is raised by each revision, and never lowered', async () => {
    const region = new TestRegion(backend)
    const { stamp: first } = await region.lease([])
    await region.forget(newKey())
    assert.deepEqual(await region.stamp(), { ...first, deleted: first.deleted + 1 })
    await region.soften()
    await region.forgetTags(`${region.stampKey}:tag`)
    assert.deepEqual(await region.stamp(), { ...first, softened: 1, tagged: 1, deleted: 1 })
    const fresh = newStamp()
    await backend.revise(region.stampKey, { kind: 'hard', stamp: formatStamp(fresh) })
    assert.equal((await region.stamp())?.epoch, fresh.epoch)

    const before = (await region.stamp())!
    await Promise.all(Array.from({ length: 60 }, async (_, i) => {
      const seen = (await region.stamp())!
      if (i % 3 === 0) await region.forget(newKey())
      else if (i % 3 === 1) await region.soften()
      else await region.forgetTags()
      const now = (await region.stamp())!
      const counter = (['deleted', 'softened', 'tagged'] as const)[i % 3]!
      assert.ok(now[counter] > seen[counter], `${counter} must be higher when a revision resolves than when it began`)
    }))
    const after = (await region.stamp())!
    assert.equal(after.epoch, before.epoch)
  })

  await t.test('a stamp that was lost is replaced by another one', async () => {
    const region = new TestRegion(backend)
    const { stamp: first } = await region.lease([])
    await backend.deleteMany([region.stampKey])
    const { stamp: second } = await region.lease([])
    assert.notEqual(second.epoch, first.epoch)
    await backend.deleteMany([region.stampKey])
    await region.soften()
    assert.ok(![undefined, first.epoch, second.epoch].includes((await region.stamp())?.epoch))
  })

  await t.test('a stamp that is none is put right', async () => {
    const region = new TestRegion(backend)
    await backend.setMany([entry(region.stampKey, 'garbage')])
    const { stamp } = await region.lease([])
    assert.deepEqual(await region.stamp(), stamp)
  })

  await t.test('a tag has a version while somebody holds it, that tells of its invalidations', async () => {
    const region = new TestRegion(backend)
    const { stampKey } = region
    const [tag, other] = [`${stampKey}:tag:a`, `${stampKey}:tag:b`]
    // A version is `epoch|tagged`. Without one a tag counts as invalidated just now.
    const version = async (key: string) => {
      const [, epoch, tagged] = /^(\d+)\|(\d+)/.exec(text((await backend.getMany([key]))[0]) ?? '') ?? []
      return epoch === undefined ? undefined : { epoch: Number(epoch), tagged: Number(tagged) }
    }
    const { stamp: { epoch } } = await region.lease([])
    await backend.holdTags(stampKey, [{ key: tag, ttl: minute }, { key: other, ttl: minute }])
    assert.deepEqual(await version(tag), { epoch, tagged: 0 })
    await region.forgetTags(tag)
    assert.ok(((await version(tag))?.tagged ?? Infinity) >= 1, 'its version is higher, or gone')
    assert.deepEqual(await version(other), { epoch, tagged: 0 }, 'another one has nothing to do with it')
    await backend.holdTags(stampKey, [{ key: tag, ttl: minute }, { key: other, ttl: 45 * day }])
    assert.deepEqual(await version(tag), { epoch, tagged: 1 })
    assert.deepEqual(await version(other), { epoch, tagged: 0 }, 'being held for longer is no invalidation')

    await backend.deleteMany([stampKey, tag])
    await backend.holdTags(stampKey, [{ key: tag, ttl: minute }])
    assert.equal(await version(tag), undefined, 'where the stamp was lost a version would mean nothing')
  })
}
