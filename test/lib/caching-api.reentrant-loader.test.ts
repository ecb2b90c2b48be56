import t from 'tap'
import { cachedObject, loadOne } from '../../lib/cached-object.js'
import { gate } from '../helpers/doubles.js'
import { managerOf, usersOf } from '../helpers/users.js'

t.test('a loader that waits for its own key by the request gets an error', async t => {
  const { User: Plain } = usersOf()
  const manager = managerOf(t)
  const api = manager.createApi()
  const User = cachedObject({
    name: 'Own',
    region: 'objects',
    methods: {
      own: loadOne(async (_context, id: number): Promise<unknown> => await api.get(User as never, 'own' as never, [id] as never)),
      listed: loadOne(async (_context, ids: number[]): Promise<unknown> => await api.get(User as never, 'listed' as never, [ids] as never)),
      other: loadOne(async (_context, id: number) => await api.get(Plain, 'getById', [id]))
    }
  })
  const reentrant = { code: 'FST_CACHING_API_REENTRANT_LOAD' }
  await t.rejects(api.get(User, 'own', [1]), reentrant)
  await t.rejects(api.get(User, 'listed', [[1]]), reentrant)
  const [read, loaded] = await Promise.all([api.get(Plain, 'getById', [1]), api.get(User, 'other', [1])])
  t.strictSame(loaded, read, 'what the request is reading already is waited for')
  t.strictSame(await api.get(User, 'other', [1]), loaded)
  const [anew, other] = await Promise.all([api.refresh(Plain, 'getById', [2]), api.get(User, 'other', [2])])
  t.strictSame(other, anew, 'what it is reading anew as well')

  // Each waits for what the request was reading before, and reads anew, or has invalidated meanwhile.
  for (const how of ['refresh', 'invalidate'] as const) {
    const request = manager.createApi()
    const met = [gate(), gate()] as const
    const Two: any = cachedObject({
      name: `Two-${how}`,
      region: 'objects',
      methods: {
        a: loadOne(async (_context, id: number): Promise<unknown> => { met[0].open(); await met[1].opened; return await request.get(Two, 'b', [id]) }),
        b: loadOne(async (_context, id: number): Promise<unknown> => { met[1].open(); await met[0].opened; return await request.get(Two, 'a', [id]) })
      }
    })
    const a = how === 'refresh' ? request.refresh(Two, 'a', [1]) : request.get(Two, 'a', [1])
    await met[0].opened
    const invalidated = how === 'invalidate' ? manager.createApi().invalidate(Two, 'a', [1]) : undefined
    const ended = await Promise.allSettled([a, request.get(Two, 'b', [1]), invalidated])
    t.match(ended[0], { status: 'rejected', reason: reentrant }, how)
    t.match(ended[1], { status: 'rejected', reason: reentrant }, how)
  }
})
