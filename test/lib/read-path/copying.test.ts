import t from 'tap'
import { Copying } from '../../../lib/read-path/copying.js'
import type { Entry } from '../../../lib/entry.js'
import { Flight } from '../../../lib/read-path/flight.js'
import { nobody } from '../../../lib/read-path/landed.js'
import { LocalTier } from '../../../lib/tiers/local-tier.js'
import { MemoryBackend } from '../../../lib/backends/memory.js'
import type { SharedTier } from '../../../lib/tiers/shared-tier.js'

const stamp = { epoch: 1, softened: 0, tagged: 0, deleted: 0 }
const entry: Entry = { value: 1, loose: undefined, loadedAt: 0, freshUntil: 1000, staleUntil: 1000, tags: [], stamp }

/** A memory, and two shared tiers that write down what is copied into them. */
function setUp () {
  const memory = new LocalTier(new MemoryBackend({}))
  const copies: [tier: string, keys: readonly string[]][] = []
  const shared = (name: string) => ({ name, copyMany: async (keys: readonly string[]) => { copies.push([name, keys]) } }) as unknown as SharedTier
  const tracked: Promise<void>[] = []
  const copying = new Copying([memory, shared('near'), shared('far')], async work => { tracked.push(work); await work })
  const take = (key: string) => new Flight({ key, maxAge: undefined, load: undefined, isRefresh: false }, memory.generation, nobody)
  return { memory, copies, tracked, copying, take }
}

t.test('what is found is in memory at once, and goes into a nearer shared tier with all that was found with it', async t => {
  const { memory, copies, tracked, copying, take } = setUp()
  copying.copyNearer(take('a'), entry, 2)
  copying.copyNearer(take('b'), entry, 2)
  copying.copyNearer(take('a'), entry, 2)
  t.match(memory.get('a'), { value: 1 })
  t.strictSame(copies, [])
  await Promise.resolve()
  t.strictSame(copies, [['near', ['a', 'b']]])
  t.equal(tracked.length, 1)
  copying.copyNearer(take('c'), entry, 1)
  await Promise.resolve()
  t.match(memory.get('c'), { value: 1 })
  t.equal(copies.length, 1, 'a tier gets nothing that it has')
})

t.test('what was invalidated on its way is not copied', async t => {
  const { memory, copies, copying, take } = setUp()
  const flight = take('a')
  flight.revoke('invalidation')
  copying.copyNearer(flight, entry, 2)
  await Promise.resolve()
  t.equal(memory.get('a'), undefined)
  t.strictSame(copies, [])
})
