import assert from 'node:assert/strict'
import fc from 'fast-check'
import type { Transport } from '../../backends/transport.ts'
import type { ErrorCode, ExactmapError } from '../../src/errors.ts'

// What every transport promises (backends/transport.ts). Each check runs on all ranks at once, in the same order, over
// one transport after the other: in one process, or in processes that a launcher started.

/** Bytes that differ by message and by place. */
export function content(message: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length)
  for (let i = 0; i < length; i++) bytes[i] = (i * 31 + (i >> 8) * 7 + message * 101) & 255
  return bytes
}

async function expectMessage(t: Transport, from: number, channel: number, expected: Uint8Array) {
  const into = new Uint8Array(expected.byteLength)
  await t.receive(from, channel, into)
  assert.ok(Buffer.compare(into, expected) === 0, `another message from ${from} on channel ${channel}`)
}

async function expectRefusal(work: Promise<void>, code: ErrorCode, words: RegExp) {
  const error = await work.then(
    () => assert.fail(`expected ${code}, nothing was refused`),
    (e: ExactmapError) => e,
  )
  assert.equal(error.code, code, error.stack)
  assert.match(error.message, words)
}

/** The ranks beside this one, in a ring. */
const next = (t: Transport): number => (t.rank + 1) % t.size
const before = (t: Transport): number => (t.rank + t.size - 1) % t.size

interface Message {
  readonly from: number
  readonly to: number
  readonly channel: number
  readonly length: number
  /** Whether the sender waits for it before it goes on. */
  readonly wait: boolean
}

/** Messages of a run of `size` ranks. Lengths surround what MPI libraries treat differently, and one piece of a message. */
export const schedules = (size: number): fc.Arbitrary<Message[]> => {
  const length = fc.oneof(
    fc.nat(64),
    fc.constantFrom(255, 256, 257, 4095, 4096, 4097, 65_535, 65_536, 65_537),
    fc.nat(200_000),
  )
  const rank = fc.nat(size - 1)
  return fc.array(fc.record({ from: rank, to: rank, channel: fc.nat(3), length, wait: fc.boolean() }), {
    maxLength: 40,
  })
}

/** Plays a schedule: all receives are asked for at once, ahead of most messages. */
export async function play(t: Transport, messages: readonly Message[]): Promise<void> {
  const numbered = messages.map((message, number) => ({ ...message, number }))
  const receives = numbered
    .filter(({ to }) => to === t.rank)
    .map(({ from, channel, length, number }) => expectMessage(t, from, channel, content(number, length)))
  const sends: Promise<void>[] = []
  for (const { from, to, channel, length, number, wait } of numbered) {
    if (from !== t.rank) continue
    const sent = t.send(to, channel, content(number, length))
    sends.push(sent)
    // A receiver asks for everything at once, so a sender that waits never waits for good.
    if (wait) await sent
  }
  await Promise.all([...receives, ...sends])
}

export const checks: Readonly<Record<string, (t: Transport) => Promise<void>>> = {
  'messages of a channel arrive in order': async (t) => {
    const sends = [5, 0, 3000, 1].map((length, i) => t.send(next(t), 7, content(i, length)))
    for (const [i, length] of [5, 0, 3000, 1].entries())
      await expectMessage(t, before(t), 7, content(i, length))
    await Promise.all(sends)
  },

  'channels do not wait for each other': async (t) => {
    const sends = [1, 2, 3].map((channel) => t.send(next(t), channel, content(channel, 10_000)))
    for (const channel of [3, 1, 2]) await expectMessage(t, before(t), channel, content(channel, 10_000))
    await Promise.all(sends)
  },

  'receives are served in the order of their calls': async (t) => {
    const lengths = [40, 100_000, 1, 0, 5000]
    const receives = lengths.map((length, i) => expectMessage(t, before(t), 0, content(i, length)))
    // Lets every rank ask first.
    await new Promise((resolve) => setTimeout(resolve, 20))
    for (const [i, length] of lengths.entries()) await t.send(next(t), 0, content(i, length))
    await Promise.all(receives)
  },

  'a rank can send to itself': async (t) => {
    const receive = expectMessage(t, t.rank, 4, content(t.rank, 70_000))
    await t.send(t.rank, 4, content(t.rank, 70_000))
    await receive
  },

  'large messages pass each other': async (t) => {
    const bytes = 3 * 2 ** 20
    await Promise.all([
      t.send(next(t), 1, content(t.rank, bytes)),
      expectMessage(t, before(t), 1, content(before(t), bytes)),
      t.send(before(t), 2, content(t.rank, bytes + 1)),
      expectMessage(t, next(t), 2, content(next(t), bytes + 1)),
    ])
  },

  'sent bytes may be changed at once': async (t) => {
    const bytes = content(1, 100_000)
    const receive = expectMessage(t, before(t), 1, content(1, 100_000))
    await t.send(next(t), 1, bytes)
    bytes.fill(0)
    await receive
  },

  'views of a larger buffer are sent and filled alone': async (t) => {
    const all = content(9, 300)
    const into = new Uint8Array(300)
    await Promise.all([
      t.send(next(t), 1, all.subarray(100, 200)),
      t.receive(before(t), 1, into.subarray(50, 150)),
    ])
    assert.deepEqual(into.subarray(50, 150), all.subarray(100, 200))
    assert.ok(into.subarray(0, 50).every((b) => b === 0) && into.subarray(150).every((b) => b === 0))
  },

  'a message of another length is refused, and taken': async (t) => {
    for (const [sent, expected] of [
      [12, 13],
      [13, 12],
      [0, 4],
      [150_000, 10],
      [10, 150_000],
    ] as const) {
      const send = Promise.all([t.send(next(t), 3, content(1, sent)), t.send(next(t), 3, content(2, 99))])
      await expectRefusal(
        t.receive(before(t), 3, new Uint8Array(expected)),
        'conflict',
        new RegExp(
          `rank ${t.rank} expected ${expected} bytes from rank ${before(t)} on channel 3, got ${sent}:`,
        ),
      )
      await expectMessage(t, before(t), 3, content(2, 99))
      await send
    }
  },

  'ranks and channels that are not there are refused': async (t) => {
    const bytes = new Uint8Array(1)
    for (const rank of [-1, t.size, 0.5]) {
      await expectRefusal(t.send(rank, 0, bytes), 'invalid_argument', /send to rank/)
      await expectRefusal(t.receive(rank, 0, bytes), 'invalid_argument', /receive from rank/)
    }
    for (const channel of [-1, 0.5, 2 ** 31])
      await expectRefusal(t.send(0, channel, bytes), 'invalid_argument', /channels are whole numbers/)
  },

  'the same random schedules': async (t) => {
    for (const messages of fc.sample(schedules(t.size), { seed: 11, numRuns: 40 })) await play(t, messages)
  },

  // The last: nothing can be sent afterwards.
  'close waits for what was sent, and refuses what is asked for later': async (t) => {
    const receive = expectMessage(t, before(t), 0, content(5, 1000))
    await expectRefusal(t.close(), 'conflict', /closed while 1 receives wait/)
    await t.send(next(t), 0, content(5, 1000))
    await receive
    await t.close()
    await t.close()
    await expectRefusal(t.send(next(t), 0, new Uint8Array(1)), 'conflict', /it was closed/)
    await expectRefusal(t.receive(next(t), 0, new Uint8Array(1)), 'conflict', /it was closed/)
  },
}
