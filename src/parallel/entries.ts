import { check } from '../errors.ts'
import type { ScheduleEntry } from '../program/program.ts'
import type { ActionKind, Schedule } from './schedules/schedule.ts'
import { chunkSegment, joinedChunks } from './stages.ts'

/** A schedule entry with what it works on. */
export interface RankEntry extends ScheduleEntry {
  readonly pass: 'forward' | 'backward'
  readonly microbatch: number
  readonly chunk: number
}

export interface RankSchedule {
  readonly entries: readonly RankEntry[]
  /** Microbatch slots it needs. */
  readonly slots: number
  /** Segments of a slot that the schedule need not run in the order in which they are declared. */
  readonly unordered: readonly (readonly string[])[]
}

/**
 * What a rank runs in one step: its actions of the schedule as segments on microbatch slots. A slot is taken by the
 * first forward of a microbatch on a chunk (or on joined chunks) and free again after its last backward.
 *
 * @param recompute layers are recomputed in their backward pass, which then cannot be divided
 * @throws ExactmapError `invalid_config` for a schedule that divides backward passes together with `recompute`
 */
export function rankEntries(schedule: Schedule, rank: number, recompute: boolean): RankSchedule {
  const { v, name } = schedule
  const groups = joinedChunks(schedule, rank)
  const groupOf = (chunk: number): number[] => groups.find((g) => g.includes(chunk))!
  const segments: Record<ActionKind, readonly string[]> = {
    F: ['forward'],
    B: ['backward_input'],
    W: ['backward_weight'],
    BW: recompute ? ['backward'] : ['backward_input', 'backward_weight'],
  }
  const taken = new Map<string, { readonly slot: number; open: number }>()
  const free: number[] = []
  let slots = 0
  const entries: RankEntry[] = []
  for (const { kind, microbatch, chunk } of schedule.ranks[rank]!) {
    check(
      !(recompute && (kind === 'B' || kind === 'W')),
      'invalid_config',
      `schedule ${name} runs input and weight gradients apart, which 'recompute: layer' joins; take another schedule or no recomputation`,
    )
    const group = groupOf(chunk)
    const key = `${microbatch} ${group[0]}`
    let place = taken.get(key)
    if (!place) {
      free.sort((a, b) => a - b)
      place = { slot: free.shift() ?? slots++, open: group.length }
      taken.set(key, place)
    }
    for (const segment of segments[kind])
      entries.push({
        segment: chunkSegment(segment, chunk, v),
        slot: place.slot,
        pass: kind === 'F' ? 'forward' : 'backward',
        microbatch,
        chunk,
      })
    if ((kind === 'W' || kind === 'BW') && --place.open === 0) {
      taken.delete(key)
      free.push(place.slot)
    }
  }
  const backward = recompute ? ['backward'] : ['backward_input', 'backward_weight']
  const unordered = groups
    .filter((chunks) => chunks.length > 1)
    .map((chunks) => chunks.flatMap((chunk) => backward.map((pass) => chunkSegment(pass, chunk, v))))
  return { entries, slots, unordered }
}
