import { randomUUID } from 'node:crypto'
import t, { type Test } from 'tap'
import { chance } from '../helpers/chance.js'
import { startProcesses } from '../helpers/processes.js'
import { ask } from '../helpers/server-process.js'
import { startMemcached, type MemcachedServer } from '../helpers/servers.js'
import type { StaleFillHandlers } from './memcached-stale-fill.worker.js'

t.setTimeout(300_000)

const servers = await Promise.all([startMemcached(t), startMemcached(t)])
const [loader, other] = await startProcesses<StaleFillHandlers>(t, new URL('./memcached-stale-fill.worker.ts', import.meta.url), 2)

async function join (on: readonly MemcachedServer[]): Promise<void> {
  const setting = { namespace: randomUUID(), ports: on.map(({ port }) => port) }
  await Promise.all([loader.call('join', setting), other.call('join', setting)])
}

const random = chance(t)
/** Fewer than two milliseconds: about as long as the commands of a fill and of an invalidation take. */
const shortDelay = () => random.between(0, 2)

/**
 * One process loads, the other one invalidates while the loader runs, at about the moment when it ends; and the value
 * that was loaded before must never be there after that. `how`: what the other process does.
 */
async function rounds (t: Test, how: 'delete' | 'tag' | 'hard' | 'set', { overlapping }: { overlapping: boolean }): Promise<void> {
  const found: unknown[] = []
  let callersGotIt = 0
  for (let round = 0; round < 200; round++) {
    const key = `${how}-${overlapping ? 'overlapping' : 'before'}-${round}`
    await loader.call('load', { key, value: 'stale', tags: how === 'tag' ? [key] : [] })
    let got: unknown
    if (overlapping) {
      [got] = await Promise.all([loader.call('letGo', { key, delay: shortDelay() }), other.call('invalidate', { key, delay: shortDelay(), how })])
    } else {
      await other.call('invalidate', { key, delay: 0, how })
      // Somebody else may have leased, or even filled, what was forgotten.
      const meanwhile = round % 2 === 0 ? other.call('create', { key, value: 'fresh' }) : undefined
      got = await loader.call('letGo', { key, delay: shortDelay() })
      await meanwhile
    }
    if (got === 'stale') callersGotIt++
    for (const process of [loader, other]) found.push(await process.call('read', key))
  }
  t.equal(callersGotIt, 200, 'whoever had asked for it got it')
  t.notOk(found.includes('stale'), 'nobody found it afterwards')
}

for (const [name, on] of Object.entries({ 'one server': servers.slice(0, 1), 'two servers': servers })) {
  t.test(`${name}: a value invalidated during its load is not written back`, async t => {
    await join(on)
    await rounds(t, 'delete', { overlapping: false })
  })

  t.test(`${name}: a value invalidated at about the moment when its load ends is not written back`, async t => {
    await join(on)
    await rounds(t, 'delete', { overlapping: true })
  })
}

t.test('a value is not written back over another one that was set, nor after its region was invalidated', async t => {
  await join(servers)
  await rounds(t, 'set', { overlapping: true })
  await rounds(t, 'hard', { overlapping: true })
})

t.test('a value is not written back after flush_all', async t => {
  for (const on of [servers.slice(0, 1), servers]) {
    await join(on)
    const found: unknown[] = []
    for (let round = 0; round < 200; round++) {
      const key = `flush-${round}`
      await loader.call('load', { key, value: 'stale' })
      await Promise.all(on.map(async ({ port }) => await ask(port, 'flush_all', /OK\r\n/)))
      const meanwhile = round % 2 === 0 ? other.call('create', { key, value: 'fresh' }) : undefined
      t.equal(await loader.call('letGo', { key, delay: shortDelay() }), 'stale')
      await meanwhile
      for (const process of [loader, other]) found.push(await process.call('read', key))
    }
    t.notOk(found.includes('stale'))
  }
})

t.test('a value is not found after its tag was invalidated during its load', async t => {
  await join(servers)
  await rounds(t, 'tag', { overlapping: true })
})
