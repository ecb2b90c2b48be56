import { cacheObject, property, type Backend } from 'fastify-caching-api'

/** The longest list of recent cities. */
const maxRecent = 10

export interface VisitorBackends {
  /** For what a visitor has seen, and when. */
  lists: Backend
  /** For how often they came. Where this one is away, only that is unknown. */
  counts: Backend
}

export type VisitorClass = ReturnType<typeof visitorOn>

/**
 * What is known of a visitor: in no database, and no loss if it is gone. Of two requests of one visitor at the same moment
 * the later one's list stays, which is good enough for such a list; a count that has to be right belongs in the database.
 */
export function visitorOn ({ lists, counts }: VisitorBackends) {
  return class Visitor extends cacheObject({
    name: 'Visitor',
    backend: lists,
    properties: {
      /** Ids, the newest first. */
      recentCities: property<readonly number[]>({ default: [], ttl: '30d' }),
      /** Its ttl is what ends a visit. */
      lastSeen: property<Date>({ ttl: '30m' }),
      visits: property({ default: 0, ttl: '30d', backend: counts }),
    },
  }) {
    /** Assigned only: the plugin saves it before the response is sent. */
    async sees (cityId: number): Promise<void> {
      const [recent, lastSeen] = await Promise.all([this.get('recentCities'), this.get('lastSeen')])
      this.recentCities = [cityId, ...(recent ?? []).filter(id => id !== cityId)].slice(0, maxRecent)
      this.lastSeen = new Date()
      if (lastSeen === null) this.visits = (await this.get('visits') ?? 0) + 1
    }
  }
}
