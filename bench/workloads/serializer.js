import { deserialize, serialize } from 'node:v8'
import { defaultDeserialize, defaultSerialize } from '@keyv/serialize'
import superjson from 'superjson'
import { msgpackSerializer } from '../../dist/lib/serializer.js'
import { checkAnswers } from '../checks.js'
import { nanoseconds, repeat, rowOf, takeTurns } from '../rounds.js'
import { cityOf } from '../rows.js'

/** To what would go to a tier, and back. */
const roundTrips = {
  ours: value => msgpackSerializer.decode(msgpackSerializer.encode(value)),
  limit: value => JSON.parse(JSON.stringify(value)),
  '@keyv/serialize': value => defaultDeserialize(defaultSerialize(value)),
  superjson: value => superjson.parse(superjson.stringify(value)),
  v8: value => deserialize(serialize(value))
}

const values = {
  serializer: { value: cityOf(7), about: 'A row to bytes and back. The limit: JSON.' },
  'serializer-100': { value: Array.from({ length: 100 }, (_, id) => cityOf(id)), about: 'A list of 100 rows to bytes and back. The limit: JSON.' },
  'serializer-types': {
    value: { ...cityOf(7), founded: new Date(0), census: 2_138_551n, hash: Buffer.from('0123456789abcdef'), mayor: undefined },
    about: 'A row with a Date, a bigint, a Buffer and an undefined property, to bytes and back. A dash: it comes back as something else.'
  }
}

export async function run ({ turns, only }) {
  const rows = []
  for (const [name, { value, about }] of Object.entries(values)) {
    if (!only(name)) continue
    const sides = new Map()
    for (const [side, roundTrip] of Object.entries(roundTrips)) if (await keeps(roundTrip, value)) sides.set(side, repeat(roundTrip, () => value))
    await checkAnswers(new Map([['ours', () => roundTrips.ours(value)]]), value)
    rows.push(rowOf({ name, ...nanoseconds, about }, await takeTurns(sides, turns)))
  }
  return rows
}

async function keeps (roundTrip, value) {
  try {
    await checkAnswers(new Map([['it', () => roundTrip(value)]]), value)
    return true
  } catch {
    return false
  }
}
