import fc from 'fast-check'
import t from 'tap'
import { TransientMap, type MapNode } from '../../../lib/read-path/transient-map.js'

t.test('a transient map keeps what a Map would keep, whatever comes and goes', async t => {
  const key = fc.nat(600).map(String)
  const step = fc.oneof(
    { weight: 5, arbitrary: fc.record({ set: key }) },
    { weight: 5, arbitrary: fc.record({ delete: key }) },
    { weight: 1, arbitrary: fc.record({ deleteAllBut: key }) },
    { weight: 1, arbitrary: fc.record({ setAll: fc.nat(600) }) },
    { weight: 1, arbitrary: fc.constant({ clear: true }) }
  )
  fc.assert(fc.property(fc.array(step, { size: 'large' }), steps => {
    const [map, model] = [new TransientMap<number>(), new Map<string, number>()]
    let value = 0
    const nodes = new Map<string, MapNode<number>>()
    const set = (key: string) => {
      remove(key)
      nodes.set(key, map.add(key, ++value))
      model.set(key, value)
    }
    const remove = (key: string) => { if (model.delete(key)) map.remove(nodes.get(key)!) }
    for (const step of steps as { set?: string, delete?: string, deleteAllBut?: string, setAll?: number }[]) {
      if (step.set !== undefined) set(step.set)
      if (step.delete !== undefined) remove(step.delete)
      if (step.deleteAllBut !== undefined) for (const key of [...model.keys()]) if (key !== step.deleteAllBut) remove(key)
      for (let key = 0; key < (step.setAll ?? 0); key++) set(String(key))
      if (map.size !== model.size) throw new Error(`${map.size} instead of ${model.size}`)
      for (let key = 0; key <= 600; key++) if (map.get(String(key)) !== model.get(String(key))) throw new Error(`${key}`)
    }
    for (const [key, { value }] of nodes) if (value !== model.get(key)) throw new Error(`the node of ${key} has ${value}`)
    if ([...map.values()].sort().join() !== [...model.values()].sort().join()) throw new Error('other values')
  }))
  t.pass()
})
