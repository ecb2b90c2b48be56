import { randomUUID } from 'node:crypto'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { City } from '../cached-objects.js'
import { cityFields } from '../views.js'

/** For every route that knows its visitor. Node joins several headers of this name with a comma, which is refused too. */
export const visitorHeaders = {
  type: 'object',
  properties: { 'x-visitor': { type: 'string', pattern: '^[A-Za-z0-9_-]{1,64}$' } },
}
export interface VisitorHeaders { 'x-visitor'?: string }

export async function visitorRoutes (app: FastifyInstance): Promise<void> {
  // A visitor without an id gets one, to send from now on. Anybody who knows the id sees the list, as with a session's id.
  app.get<{ Headers: VisitorHeaders }>('/visitors/me', { schema: { headers: visitorHeaders } }, async (request, reply) => {
    const api = request.cachingApi
    const id = request.headers['x-visitor'] ?? randomUUID()
    reply.header('x-visitor', id)
    const visitor = api.object(app.Visitor, id)
    const [ids, lastSeen, visits] = await Promise.all([
      visitor.get('recentCities'),
      visitor.get('lastSeen'),
      // The list is what was asked for: without it, this is an error. Without the count, it isn't.
      visitor.get('visits').catch(() => null),
    ])
    const cities = await api.getMany(City, 'getById', ids ?? [])
    return { visits, lastSeen, cities: cities.filter(city => city !== null).map(cityFields) }
  })
}

/** For those who say who they are. Never rejects: the city is shown, though nobody may be there to note that it was. */
export async function noteVisit (request: FastifyRequest<{ Headers: VisitorHeaders }>, cityId: number): Promise<void> {
  const id = request.headers['x-visitor']
  if (id === undefined) return
  try {
    await request.cachingApi.object(request.server.Visitor, id).sees(cityId)
  } catch (error) {
    request.log.warn({ err: error }, 'a visit could not be noted')
  }
}
