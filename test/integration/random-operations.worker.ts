import { simulateTime } from '../helpers/line-hub.js'
import { serve } from '../helpers/processes.js'
import { operateAtRandom } from '../helpers/random-operations.js'

simulateTime({ teardown: () => {} })

serve({
  /** What goes wrong first. */
  search: async (seeds: number): Promise<string | undefined> => {
    for (let seed = 1; seed <= seeds; seed++) {
      try {
        await operateAtRandom(seed)
      } catch (error) {
        return (error as Error).message
      }
    }
    return undefined
  }
})
