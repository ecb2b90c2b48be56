/** `Map.groupBy`, which Node 20 doesn't have yet. */
export function groupBy<T, K> (items: Iterable<T>, groupOf: (item: T) => K): Map<K, T[]> {
  const groups = new Map<K, T[]>()
  for (const item of items) {
    const key = groupOf(item)
    const group = groups.get(key)
    if (group === undefined) groups.set(key, [item])
    else group.push(item)
  }
  return groups
}
