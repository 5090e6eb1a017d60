import { z } from 'zod'
import { ExactmapError } from '../../errors.ts'

/** Which ranks take part in a collective. All members call the same collectives of a channel in the same order. */
export interface GroupAttributes {
  /** Name of the group; which ranks its members are is said when the program is loaded. */
  group: string
  size: number
  /** Collectives on different channels of a group do not wait for each other. */
  channel: number
}

export const groupSchema = z.strictObject({
  group: z.string().min(1),
  size: z.number().int().positive(),
  channel: z.number().int().nonnegative().default(0),
})

/** `reference` of an op whose result depends on the other ranks: see `collectiveReference`. */
export function needsOtherRanks(): never {
  throw new ExactmapError('unsupported', 'what a collective gives depends on the other ranks')
}
