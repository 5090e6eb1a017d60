import type { ChromeEvent, ChromeTrace } from '../formats/chrome_trace.ts'
import { actionName } from './schedules/schedule.ts'
import type { GatheredTrace, RankEvent, TracedMessage, TraceEvent } from './trace.ts'

/** Threads of a rank; sends that are under way together get a thread each, since slices of one must not cross. */
const thread = { compute: 1, receive: 2, send: 3 } as const

/**
 * One trace of all ranks: a process for each, with a thread for what it computes, one for its receives (each as long as
 * the rank waited) and those of its sends, and an arrow from every send to its receive. Actions of the schedule have
 * their names, F3 or B3b.
 */
export function chromeTrace(traces: readonly GatheredTrace[]): ChromeTrace {
  const origin = traces
    .flatMap(({ events }) => events)
    .reduce((least, { start }) => Math.min(least, start), Number.POSITIVE_INFINITY)
  const microseconds = (time: number): number => Math.round((time - origin) * 1e6) / 1e3
  const events: ChromeEvent[] = []
  const starts = new Map<string, { readonly pid: number; readonly tid: number; readonly ts: number }>()
  const ends = new Map<string, { readonly pid: number; readonly tid: number; readonly ts: number }>()
  for (const [rank, trace] of traces.entries()) {
    // Perfetto keeps process and thread 0 to itself.
    const pid = rank + 1
    const threads = threadsOf(trace.events)
    const meta = (name: string, tid: number, args: Record<string, string | number>): void => {
      events.push({ ph: 'M', name, pid, tid, args })
    }
    meta('process_name', 0, { name: trace.label })
    meta('process_sort_index', 0, { sort_index: rank })
    for (const tid of new Set([...Object.values(thread), ...threads])) {
      meta('thread_name', tid, {
        name: tid === thread.compute ? 'compute' : tid === thread.receive ? 'receives' : 'sends',
      })
      meta('thread_sort_index', tid, { sort_index: tid })
    }
    for (const [i, event] of trace.events.entries()) {
      const tid = threads[i]!
      const ts = microseconds(event.start)
      const dur = Math.round((microseconds(endOf(event)) - ts) * 1e3) / 1e3
      const { slot, run, step, queue, messages } = event
      const args = { slot, run, ...(step === undefined ? {} : { step }) }
      events.push({ ph: 'X', name: titleOf(event, trace.chunks), cat: queue, pid, tid, ts, dur, args })
      for (const message of messages)
        if (queue === 'send') starts.set(keyOf(message), { pid, tid, ts })
        else ends.set(keyOf(message), { pid, tid, ts: ts + dur - 0.5 })
    }
  }
  let id = 0
  for (const [key, start] of starts) {
    const end = ends.get(key)
    if (!end) continue
    const arrow = { name: 'message', cat: 'message', id: id++ }
    events.push({ ph: 's', ...arrow, ...start }, { ph: 'f', bp: 'e', ...arrow, ...end })
  }
  const off = Math.max(0, ...traces.map(({ clockError }) => clockError))
  return {
    traceEvents: events,
    displayTimeUnit: 'ms',
    otherData: { clocks: `of rank 0, within ${(1000 * off).toFixed(0)} us` },
  }
}

/** A receive whose message was there is still something to draw an arrow to: a microsecond. */
const endOf = ({ start, end }: TraceEvent): number => Math.max(end, start + 0.001)

function titleOf(event: RankEvent, chunks: number): string {
  const { action, messages, queue, name } = event
  const what = action ? actionName(action, chunks) : name
  if (queue === 'compute') return what
  const peers = messages.map(({ from, to }) => (queue === 'send' ? to : from)).join(', ')
  return `${what} ${queue === 'send' ? 'to' : 'from'} ${peers}`
}

/** The thread of every event. */
function threadsOf(events: readonly TraceEvent[]): number[] {
  const threads = events.map(({ queue }): number => thread[queue])
  const busyUntil: number[] = []
  const sends = [...events.keys()].filter((i) => events[i]!.queue === 'send')
  for (const i of sends.sort((a, b) => events[a]!.start - events[b]!.start)) {
    const { start } = events[i]!
    const free = busyUntil.findIndex((until) => until <= start)
    const lane = free < 0 ? busyUntil.length : free
    busyUntil[lane] = endOf(events[i]!)
    threads[i] = thread.send + lane
  }
  return threads
}

const keyOf = ({ from, to, channel, number }: TracedMessage): string => `${from} ${to} ${channel} ${number}`
