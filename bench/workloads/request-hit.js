import { memory } from '../../dist/plugin/index.js'
import { checkAnswers } from '../checks.js'
import { ours } from '../ours.js'
import { requestMemory } from '../peers/dataloader.js'
import { nanoseconds, rowOf, takeTurns } from '../rounds.js'
import { cityOf, countedSource } from '../rows.js'

const id = 7

export async function run ({ turns }) {
  const { manager, City, close } = ours({ tiers: [memory()], source: countedSource() })
  const api = manager.createApi()
  const args = [id]
  const loader = requestMemory(countedSource())
  const promises = new Map([[id, Promise.resolve(cityOf(id))]])

  await checkAnswers(new Map([
    ['ours', () => api.get(City, 'getById', args)],
    ['limit', () => promises.get(id)],
    ['dataloader', () => loader.load(id)]
  ]), cityOf(id))

  // Each its own loop, so that none of them pays for being called in the same place as the others.
  const sides = new Map([
    ['ours', async count => { for (let i = 0; i < count; i++) await api.get(City, 'getById', args) }],
    ['limit', async count => { for (let i = 0; i < count; i++) await promises.get(args[0]) }],
    ['dataloader', async count => { for (let i = 0; i < count; i++) await loader.load(id) }]
  ])
  const times = await takeTurns(sides, turns)
  const garbage = new Map()
  for (const [side, work] of sides) garbage.set(side, await allocated(work))
  await close()
  return [
    rowOf({ name: 'request-hit', ...nanoseconds, about: 'The same key again in one request. The limit: awaiting a promise out of a Map.' }, times),
    rowOf({ name: 'request-hit-bytes', unit: 'bytes', about: 'What a read of the same key leaves to the garbage collector; the limit is what awaiting a promise leaves.' }, garbage)
  ]
}

/** Bytes for one time. So few times that nothing is collected meanwhile. */
async function allocated (work) {
  const count = 2000
  const samples = []
  for (let round = 0; round < 21; round++) {
    globalThis.gc()
    const before = process.memoryUsage().heapUsed
    await work(count)
    samples.push((process.memoryUsage().heapUsed - before) / count)
  }
  return samples
}
