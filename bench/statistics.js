/** The value below which that fraction of them lies. */
export function quantile (values, fraction) {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(fraction * sorted.length))]
}

export const median = values => quantile(values, 0.5)
