import { z } from 'zod'
import { schedules } from '../schedules/index.ts'
import { count, identifier, line, readYaml } from './read.ts'

/** The ways a run is split; the order here is the one in messages and in hashes. */
export const axes = ['tensor', 'context', 'expert', 'data', 'pipeline'] as const
export type Axis = (typeof axes)[number]

const size = count(1 << 22)

const planSchema = z.strictObject({
  name: line.optional(),
  cluster: identifier.describe('the name field of a cluster file'),
  grid: z
    .strictObject({
      tensor: size.default(1).describe('ranks that share each matrix'),
      context: size.default(1).describe('ranks that share each sequence'),
      expert: size.default(1).describe('ranks that share the experts of a layer'),
      data: size.default(1).describe('ranks with the same weights and other sequences'),
      pipeline: size.default(1).describe('ranks that share the layers'),
    })
    .prefault({}),
  replicas: size.default(1).describe('independent copies of the grid'),
  order: z
    .array(z.enum(axes))
    .max(axes.length)
    .default([...axes])
    .describe('axes from the innermost outwards; those of size 1 may be left out'),
  schedule: z.strictObject({
    name: z.enum(Object.keys(schedules)),
    chunks: count(1024)
      .optional()
      .describe('model chunks of one rank; the schedule’s own number if not given'),
  }),
  microbatches: count(1 << 20).describe('of one step, for each data rank'),
  zero: z
    .number()
    .int()
    .min(0)
    .max(3)
    .default(0)
    .describe('what data ranks shard: 1 optimizer state, 2 gradients too, 3 weights too'),
})

/** A plan as its YAML file says it. */
export type PlanFile = z.infer<typeof planSchema>

function* conflicts({ grid, order, schedule, microbatches }: PlanFile): Generator<[string, string]> {
  for (const axis of axes) {
    const times = order.filter((a) => a === axis).length
    if (times > 1) yield ['order', `expected each axis once, got ${axis} ${times} times`]
    if (times === 0 && grid[axis] > 1)
      yield ['order', `expected every axis larger than 1, got none for ${axis}, which is ${grid[axis]}`]
  }
  const { chunks, refuse } = schedules[schedule.name]!
  const reason = refuse({ p: grid.pipeline, m: microbatches, v: schedule.chunks ?? chunks })
  if (reason) yield ['schedule', reason]
}

/**
 * Reads a plan file.
 *
 * @param file its name, for errors
 * @throws ExactmapError `invalid_config`: names the file, the field, what was expected and what came
 */
export const parsePlanFile = (source: Uint8Array, file: string): PlanFile =>
  readYaml(source, file, planSchema, conflicts)
