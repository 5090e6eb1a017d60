import { ExactmapError } from '../../errors.ts'
import { dualPipeV } from './dualpipe_v.ts'
import { gpipe } from './gpipe.ts'
import { interleaved } from './interleaved_1f1b.ts'
import { oneFOneB } from './one_f_one_b.ts'
import type { ScheduleDefinition } from './schedule.ts'
import { zbH1 } from './zb_h1.ts'
import { zbV } from './zb_v.ts'

/** Every pipeline schedule by its name, in the order of their publication. */
export const schedules: Readonly<Record<string, ScheduleDefinition>> = Object.fromEntries(
  [gpipe, oneFOneB, interleaved, zbH1, zbV, dualPipeV].map((definition) => [definition.name, definition]),
)

/**
 * The schedule of a name.
 * @throws invalid_argument that lists the known names
 */
export function scheduleNamed(name: string): ScheduleDefinition {
  if (Object.hasOwn(schedules, name)) return schedules[name]!
  const known = Object.keys(schedules).join(', ')
  throw new ExactmapError('invalid_argument', `expected a schedule among ${known}, got '${name}'`)
}
