import { type Members, remoteMessages } from '../program/exchange.ts'
import type { Message, Program, Segment, SegmentOutput, Step } from '../program/program.ts'
import { tensorType } from '../tensor/type.ts'

/** A piece of a segment: steps the device runs, then the exchange that follows them. */
export interface Part {
  /** Segment of the staged program. */
  readonly segment: string
  /** Whether there is anything to submit; without launches it only writes inputs or gives outputs. */
  readonly hasSteps: boolean
  readonly launches: boolean
  /** Names of the step inputs it declares. */
  readonly inputs: readonly string[]
  /** Its outputs are what the exchange sends, by the same order; or the segment's own, at the last part. */
  readonly exchange?: StagedExchange
}

export interface StagedExchange {
  readonly name: string
  readonly channel: number
  /** Segment of the staged program that makes the copies within the rank, where there are some. */
  readonly copies?: string
  readonly sends: readonly { readonly to: number; readonly output: string }[]
  readonly receives: readonly { readonly from: number; readonly message: Message }[]
}

export interface Staged {
  readonly program: Program
  readonly segments: ReadonlyMap<string, readonly Part[]>
  readonly members: Members
}

/**
 * Cuts every segment of a program at its exchanges, for devices that have no messages of their own: what an exchange
 * sends becomes outputs of the part before it, the copies within the rank a segment of their own.
 */
export function stage(program: Program, members: Members): Staged {
  const segments: Segment[] = []
  const parts = new Map<string, Part[]>()
  for (const segment of program.segments) {
    if (!segment.steps.some((s) => s.kind === 'exchange')) {
      segments.push(segment)
      parts.set(segment.name, [
        { segment: segment.name, hasSteps: true, launches: true, inputs: segment.inputs.map((i) => i.name) },
      ])
      continue
    }
    const list: Part[] = []
    let from = 0
    let inputs = segment.inputs
    const cut = (to: number, outputs: readonly SegmentOutput[], exchange?: StagedExchange): void => {
      const steps = segment.steps.slice(from, to)
      const name = `${segment.name}#${list.length}`
      // The first part writes the inputs, also where it only sends or copies from them.
      const own = inputs
      inputs = []
      list.push({
        segment: name,
        hasSteps: steps.length + outputs.length + own.length > 0,
        launches: steps.length > 0,
        inputs: own.map((i) => i.name),
        ...(exchange ? { exchange } : {}),
      })
      segments.push({ name, steps: renumbered(steps, from), inputs: own, outputs })
      from = to
    }
    segment.steps.forEach((step, i) => {
      if (step.kind !== 'exchange') return
      const { sends, receives } = remoteMessages(step, members)
      const copies = `${segment.name}#${list.length}.copies`
      cut(i, sends.map(sendOutput), {
        name: step.name,
        channel: step.channel,
        ...(step.sends.length > sends.length ? { copies } : {}),
        sends: sends.map(({ peer }, k) => ({ to: peer, output: sendOutput(sends[k]!, k).name })),
        receives: receives.map((message) => ({ from: message.peer, message })),
      })
      segments.push({ name: copies, steps: [{ ...step, index: 0, after: [] }], inputs: [], outputs: [] })
      from = i + 1
    })
    cut(segment.steps.length, segment.outputs)
    parts.set(segment.name, list)
  }
  return { program: { ...program, segments }, segments: parts, members }
}

const sendOutput = ({ arena, offset, bytes }: Message, k: number): SegmentOutput => ({
  name: `send.${k}`,
  arena,
  offset,
  bytes,
  type: tensorType('u32', bytes / 4),
})

const renumbered = (steps: readonly Step[], first: number): Step[] =>
  steps.map((step, i) => ({
    ...step,
    index: i,
    after: step.after.filter((j) => j >= first).map((j) => j - first),
  }))
