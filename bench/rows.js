const countries = ['FR', 'DE', 'IT', 'ES', 'PT', 'NL', 'BE', 'CH', 'AT', 'PL', 'CZ', 'SE', 'NO', 'FI', 'DK', 'IE', 'GR', 'HU', 'RO', 'BG']

/** A row such as a database gives: the same for an id wherever it is made, and a new object each time. */
export const cityOf = id => ({
  id,
  name: `City ${id}`,
  country: countries[id % countries.length],
  population: (id * 7919) % 10_000_000,
  lat: (id * 31 % 18_000) / 100 - 90,
  lon: (id * 17 % 36_000) / 100 - 180
})

/** Numbers from 0 to below 1, the same ones for a seed: mulberry32. */
export function randomOf (seed) {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6D2B79F5) >>> 0
    let mixed = state
    mixed = Math.imul(mixed ^ mixed >>> 15, mixed | 1)
    mixed ^= mixed + Math.imul(mixed ^ mixed >>> 7, mixed | 61)
    return ((mixed ^ mixed >>> 14) >>> 0) / 2 ** 32
  }
}

/** `count` different numbers below `below`. */
export function pick (count, below, random) {
  const picked = new Set()
  while (picked.size < count) picked.add(Math.floor(random() * below))
  return [...picked]
}

/** The source behind a cache: it answers at once, and counts. */
export function countedSource () {
  const source = {
    loads: 0,
    load: async id => {
      source.loads++
      return cityOf(id)
    },
    loadMany: async ids => {
      source.loads++
      return ids.map(cityOf)
    }
  }
  return source
}
