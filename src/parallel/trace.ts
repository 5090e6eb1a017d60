import type { Transport } from '../../backends/transport.ts'
import { collectTexts, everyRank, hostChannel } from './host_messages.ts'
import type { Action } from './schedules/schedule.ts'

/** A message of a trace. Sender and receiver count those of a channel alike, from 0. */
export interface TracedMessage {
  readonly from: number
  readonly to: number
  readonly channel: number
  readonly number: number
}

/** What a rank did and when, in milliseconds since the epoch. A receive lasts while the rank waits for its messages. */
export interface TraceEvent {
  /** Of a segment, of which this may be a part, or of an exchange. */
  readonly name: string
  readonly queue: 'compute' | 'send' | 'receive'
  readonly start: number
  readonly end: number
  readonly slot: number
  /** How many segments were submitted before the one this belongs to. */
  readonly run: number
  /** What was sent or received. */
  readonly messages: readonly TracedMessage[]
}

/** Something a rank did. Times are in milliseconds since the epoch, by rank 0's clock once traces are gathered. */
export interface RankEvent extends TraceEvent {
  /** The action of the schedule that it is part of, and of which step since the trace began. */
  readonly action?: Action
  readonly step?: number
}

export interface RankTrace {
  /** What the rank is called. */
  readonly label: string
  /** Chunks of the model it has. */
  readonly chunks: number
  readonly events: readonly RankEvent[]
}

export interface GatheredTrace extends RankTrace {
  /** By how many milliseconds the times may be wrong against those of rank 0. */
  readonly clockError: number
}

/**
 * The traces of all ranks on rank 0, with times of its clock; nothing on the others. Every rank calls it.
 *
 * @param clock what the events' times were taken from
 */
export async function gatherTraces(
  transport: Transport,
  own: RankTrace,
  clock: () => number = sinceEpoch,
): Promise<GatheredTrace[]> {
  const { ahead, error } = await clockOfRankZero(transport, clock)
  const events = own.events.map((event) => ({
    ...event,
    start: event.start + ahead,
    end: event.end + ahead,
  }))
  const trace: GatheredTrace = { ...own, events, clockError: error }
  const texts = await collectTexts(transport, hostChannel.trace, JSON.stringify(trace))
  return texts.map((text) => JSON.parse(text))
}

const QUESTIONS = 32

/**
 * How far rank 0's clock is ahead of this one's. Every rank asks rank 0 for its time; the answer to the quickest question
 * was given half a round trip ago, and is off by at most that (Cristian 1989, Probabilistic clock synchronization). That
 * the clocks drift apart during a trace is left out.
 */
async function clockOfRankZero(
  transport: Transport,
  now: () => number,
): Promise<{ ahead: number; error: number }> {
  const time = new Float64Array(1)
  const answer = new Uint8Array(time.buffer)
  const question = new Uint8Array(0)
  if (transport.rank === 0) {
    const others = everyRank(transport).slice(1)
    const answerAll = async (rank: number): Promise<void> => {
      for (let i = 0; i < QUESTIONS; i++) {
        await transport.receive(rank, hostChannel.trace, question)
        await transport.send(rank, hostChannel.trace, new Uint8Array(Float64Array.of(now()).buffer))
      }
    }
    await Promise.all(others.map(answerAll))
    return { ahead: 0, error: 0 }
  }
  let best = { ahead: 0, error: Number.POSITIVE_INFINITY }
  for (let i = 0; i < QUESTIONS; i++) {
    const asked = now()
    await transport.send(0, hostChannel.trace, question)
    await transport.receive(0, hostChannel.trace, answer)
    const answered = now()
    const error = (answered - asked) / 2
    if (error < best.error) best = { ahead: time[0]! - (asked + answered) / 2, error }
  }
  return best
}

const sinceEpoch = (): number => performance.timeOrigin + performance.now()
