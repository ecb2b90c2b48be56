/** The list as several of at most `most`, at least one, perhaps empty. */
export function chunksOf<T> (list: readonly T[], most: number): (readonly T[])[] {
  if (list.length <= most) return [list]
  return Array.from({ length: Math.ceil(list.length / most) }, (_, i) => list.slice(i * most, (i + 1) * most))
}
