import { check, type ExactmapError } from '../src/errors.ts'
import type { Transport } from './transport.ts'

interface Waiting {
  readonly into: Uint8Array
  readonly resolve: () => void
  readonly reject: (cause: unknown) => void
}

/** What is under way from one rank to another on one channel; one of the two lists is empty. */
interface Mailbox {
  readonly sent: Uint8Array[]
  readonly waiting: Waiting[]
}

/** Several ranks in one process: a transport for each. Bytes are copied when they are sent. */
export function localTransports(size: number): Transport[] {
  const mailboxes = new Map<string, Mailbox>()
  const mailbox = (from: number, to: number, channel: number): Mailbox => {
    const key = `${from} ${to} ${channel}`
    let found = mailboxes.get(key)
    if (!found) {
      found = { sent: [], waiting: [] }
      mailboxes.set(key, found)
    }
    return found
  }
  let aborted: ExactmapError | undefined
  let closing = 0
  let allClosed = (): void => {}
  const closed = new Promise<void>((resolve) => {
    allClosed = resolve
  })
  const fill = (from: number, to: number, channel: number, into: Uint8Array, bytes: Uint8Array): void => {
    check(
      into.byteLength === bytes.byteLength,
      'conflict',
      `rank ${to} expected ${into.byteLength} bytes from rank ${from} on channel ${channel}, got ${bytes.byteLength}`,
    )
    into.set(bytes)
  }
  return Array.from({ length: size }, (_, rank) => ({
    name: 'local',
    rank,
    size,
    async send(to, channel, bytes) {
      if (aborted) throw aborted
      const { sent, waiting } = mailbox(rank, to, channel)
      const next = waiting.shift()
      if (!next) {
        sent.push(bytes.slice())
        return
      }
      try {
        fill(rank, to, channel, next.into, bytes)
        next.resolve()
      } catch (error) {
        next.reject(error)
      }
    },
    async receive(from, channel, into) {
      if (aborted) throw aborted
      const { sent, waiting } = mailbox(from, rank, channel)
      const bytes = sent.shift()
      if (bytes) fill(from, rank, channel, into, bytes)
      else await new Promise<void>((resolve, reject) => waiting.push({ into, resolve, reject }))
    },
    async close() {
      closing++
      if (closing === size) allClosed()
      await closed
    },
    abort(cause) {
      aborted ??= cause
      for (const { waiting } of mailboxes.values())
        for (const { reject } of waiting.splice(0)) reject(aborted)
    },
  }))
}
