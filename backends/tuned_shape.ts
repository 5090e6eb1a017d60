/** Sizes that the best choice for a call depends on, each at least 1, by name. */
export type TunedShape = Readonly<Record<string, number>>

/**
 * How far a call's shape may be from a measured one, as the sum over sizes of |log2 of their ratio|: 3 is one size eight
 * times as large, or three twice as large.
 */
const FARTHEST = 3

/** Sum over sizes of |log2 of their ratio|; infinite where the names differ. */
export function shapeDistance(a: TunedShape, b: TunedShape): number {
  const names = Object.keys(b)
  if (names.length !== Object.keys(a).length || names.some((n) => !Object.hasOwn(a, n)))
    return Number.POSITIVE_INFINITY
  return names.reduce((sum, n) => sum + Math.abs(Math.log2(a[n]! / b[n]!)), 0)
}

/** The entry with the nearest shape, the first of several; none where all are too far away to say anything. */
export function nearest<Entry extends { readonly shape: TunedShape }>(
  entries: readonly Entry[],
  shape: TunedShape,
): Entry | undefined {
  let [best, least]: [Entry | undefined, number] = [undefined, FARTHEST]
  for (const entry of entries) {
    const distance = shapeDistance(entry.shape, shape)
    if (distance < least || (distance === least && !best)) [best, least] = [entry, distance]
  }
  return best
}
