import type { Arena, Device, Executable, LoadOptions, Outputs } from '../../backends/backend.ts'
import type { Communicator } from '../../backends/transport.ts'
import { ExactmapError } from '../errors.ts'
import { membersOf } from '../program/exchange.ts'
import type { Exchange, Program } from '../program/program.ts'
import { MAX_CHANNELS, verifyProgram } from '../program/verify.ts'
import { type Part, type Staged, type StagedExchange, stage } from './staging.ts'
import type { TracedMessage, TraceEvent } from './trace.ts'

export interface RankLoadOptions extends LoadOptions {
  readonly communicator: Communicator
  /**
   * Called when something ended, where the host carries the messages. With it, the rank waits for every part of a segment
   * before it starts the next.
   */
  readonly onTrace?: (event: TraceEvent) => void
}

/** Submissions of one part whose outputs may be on their way to the host; devices have four places for them. */
const IN_FLIGHT = 3

/**
 * Loads a program as one rank of several. Where the device has no messages of its own every segment is cut at its
 * exchanges, the bytes they send are read back as outputs of the part before, and what arrives is written into the
 * arenas. Segments run in the order they are submitted. A message leaves as soon as its part is done, while later work
 * goes on; receives are posted when their segment is submitted, which may be long before it starts.
 */
export async function loadForRank(
  device: Device,
  program: Program,
  options: RankLoadOptions,
): Promise<Executable> {
  if (device.carriesMessages) return device.load(program, options)
  const { communicator, onTrace, ...load } = options
  verifyProgram(program, device.target)
  const members = membersOf(program, communicator.groups, communicator.transport.rank)
  const staged = stage(program, members)
  const inner = await device.load(staged.program, { ...load, members })
  return new StagedExecutable(program, inner, staged, communicator, onTrace)
}

/** Receives of one exchange that are under way. */
interface Posted {
  readonly buffers: readonly Uint8Array[]
  readonly arrived: Promise<void>
}

class StagedExecutable implements Executable {
  /** Everything submitted so far, in order. */
  private tail: Promise<unknown> = Promise.resolve()
  /** Receives are posted in the order of the segments. */
  private posting: Promise<unknown> = Promise.resolve()
  private readonly leaving = new Set<Promise<void>>()
  /** By receiver and tag: when the message before has been given to the transport. */
  private readonly turns = new Map<string, Promise<void>>()
  /** Who waits for receive buffers of an exchange. */
  private readonly waiting = new Map<StagedExchange, (buffers: Uint8Array[]) => void>()
  private readonly reading = new Map<string, Promise<unknown>[]>()
  private readonly pool = new Map<StagedExchange, Uint8Array[][]>()
  private readonly tags: ReadonlyMap<string, number>
  private readonly groupOf = new Map<StagedExchange, string>()
  /** Segments submitted so far. */
  private runs = 0
  /** Of a trace: messages so far, by sender, receiver and channel. */
  private readonly counted = new Map<string, number>()
  private failure: unknown

  constructor(
    readonly program: Program,
    private readonly inner: Executable,
    private readonly staged: Staged,
    private readonly communicator: Communicator,
    private readonly onTrace: RankLoadOptions['onTrace'],
  ) {
    // Tags below MAX_CHANNELS are the hosts' own.
    this.tags = new Map(
      Object.keys(communicator.groups)
        .sort()
        .map((group, i) => [group, (i + 1) * MAX_CHANNELS]),
    )
    for (const { name, steps } of program.segments) {
      const exchanges = steps.filter((s): s is Exchange => s.kind === 'exchange')
      const staging = (staged.segments.get(name) ?? []).flatMap(({ exchange }) => exchange ?? [])
      staging.forEach((exchange, i) => {
        this.groupOf.set(exchange, exchanges[i]!.group)
        // Two of each: one is read into while the other one's bytes are used.
        this.pool.set(
          exchange,
          [0, 1].map(() => exchange.receives.map(({ message }) => new Uint8Array(message.bytes))),
        )
      })
    }
  }

  get arenas(): Executable['arenas'] {
    return this.inner.arenas
  }

  run(segment: string, inputs: Record<string, ArrayBufferView> = {}, slot = 0): void {
    this.submit(segment, inputs, slot, false).catch(() => {})
  }

  step(segment: string, inputs: Record<string, ArrayBufferView> = {}, slot = 0): Promise<Outputs> {
    return this.submit(segment, inputs, slot, true)
  }

  runSteps(): void {
    throw new ExactmapError('unsupported', 'single steps cannot be run where they exchange messages', {
      program: this.program.name,
    })
  }

  async finished(): Promise<void> {
    await this.tail
    await Promise.all(this.leaving)
    if (this.failure !== undefined) throw this.failure
    await this.inner.finished()
  }

  destroy(): void {
    this.inner.destroy()
  }

  private submit(
    name: string,
    inputs: Record<string, ArrayBufferView>,
    slot: number,
    wanted: boolean,
  ): Promise<Outputs> {
    const parts = this.staged.segments.get(name)
    if (!parts) throw new ExactmapError('not_found', `no segment '${name}'`, { program: this.program.name })
    const given = copied(inputs)
    const at: Place = { slot, run: this.runs++ }
    const posted = parts.map(({ exchange }) => exchange && this.post(exchange))
    const work = this.tail.then(async () => {
      if (this.failure !== undefined) throw this.failure
      try {
        return await this.execute(name, parts, posted, given, at, wanted)
      } catch (error) {
        this.failure ??= error
        throw error
      }
    })
    this.tail = work.catch(() => {})
    return work
  }

  /** Starts the receives of an exchange as soon as it has free buffers. */
  private post(exchange: StagedExchange): Promise<Posted> {
    const { transport, groups } = this.communicator
    const group = this.groupOf.get(exchange)!
    const posted = this.posting.then(async () => {
      const free = this.pool.get(exchange)!
      const buffers = free.pop() ?? (await this.freed(exchange))
      const arrived = Promise.all(
        exchange.receives.map(({ from }, i) =>
          transport.receive(groups[group]![from]!, this.tags.get(group)! + exchange.channel, buffers[i]!),
        ),
      ).then(() => {})
      // A failure shows where the bytes are needed.
      arrived.catch(() => {})
      return { buffers, arrived }
    })
    this.posting = posted.catch(() => {})
    return posted
  }

  private freed(exchange: StagedExchange): Promise<Uint8Array[]> {
    return new Promise((resolve) => {
      this.waiting.set(exchange, resolve)
    })
  }

  private free(exchange: StagedExchange, buffers: readonly Uint8Array[]): void {
    const next = this.waiting.get(exchange)
    this.waiting.delete(exchange)
    if (next) next([...buffers])
    else this.pool.get(exchange)!.push([...buffers])
  }

  private async execute(
    name: string,
    parts: readonly Part[],
    posted: readonly (Promise<Posted> | undefined)[],
    inputs: Record<string, ArrayBufferView>,
    at: Place,
    wanted: boolean,
  ): Promise<Outputs> {
    const { slot } = at
    let outputs: Promise<Outputs> = Promise.resolve({})
    for (const [i, part] of parts.entries()) {
      const { exchange } = part
      const start = now()
      if (part.hasSteps) {
        const own = Object.fromEntries(part.inputs.flatMap((n) => (n in inputs ? [[n, inputs[n]!]] : [])))
        const needed = exchange ? exchange.sends.length > 0 : wanted
        if (needed) outputs = (await this.submitPart(part.segment, own, slot)).outputs
        else this.inner.run(part.segment, own, slot)
        if (this.onTrace && part.launches) {
          await this.inner.finished()
          this.onTrace({ name, queue: 'compute', start, end: now(), ...at, messages: [] })
        }
      }
      if (!exchange) continue
      this.send(exchange, outputs, at)
      if (exchange.copies) this.inner.run(exchange.copies, {}, slot)
      await this.take(exchange, await posted[i]!, at)
    }
    return wanted ? outputs : {}
  }

  /** Submits a part whose outputs are read; waits for the oldest one when the device has no place for another. */
  private async submitPart(
    segment: string,
    inputs: Record<string, ArrayBufferView>,
    slot: number,
  ): Promise<{ readonly outputs: Promise<Outputs> }> {
    const reading = this.reading.get(segment) ?? []
    this.reading.set(segment, reading)
    if (reading.length >= IN_FLIGHT) await reading.shift()
    const outputs = this.inner.step(segment, inputs, slot)
    outputs.catch(() => {})
    reading.push(outputs.catch(() => {}))
    return { outputs }
  }

  private send(exchange: StagedExchange, outputs: Promise<Outputs>, at: Place): void {
    const { groups } = this.communicator
    const group = this.groupOf.get(exchange)!
    const tag = this.tags.get(group)! + exchange.channel
    for (const { to, output } of exchange.sends) {
      const rank = groups[group]![to]!
      const messages = this.traced(this.communicator.transport.rank, rank, tag)
      const leaving = this.leave(rank, tag, output, outputs).then((start) =>
        this.onTrace?.({ name: exchange.name, queue: 'send', start, end: now(), ...at, messages }),
      )
      const watched: Promise<void> = leaving
        .catch((error) => {
          this.failure ??= error
        })
        .finally(() => this.leaving.delete(watched))
      this.leaving.add(watched)
    }
  }

  /**
   * Gives a message to the transport once its bytes are read back, after those before it on its channel, and waits until
   * it has left. Resolves to when it was given.
   */
  private async leave(rank: number, tag: number, output: string, outputs: Promise<Outputs>): Promise<number> {
    const channel = `${rank}.${tag}`
    const before = this.turns.get(channel)
    let over = (): void => {}
    this.turns.set(channel, new Promise((resolve) => (over = resolve)))
    try {
      const bytes = (await outputs)[output]!
      await before
      const start = now()
      const sent = this.communicator.transport.send(rank, tag, bytes)
      over()
      await sent
      return start
    } finally {
      over()
    }
  }

  private async take(exchange: StagedExchange, { buffers, arrived }: Posted, at: Place): Promise<void> {
    const { transport, groups } = this.communicator
    const group = this.groupOf.get(exchange)!
    const tag = this.tags.get(group)! + exchange.channel
    const start = now()
    await arrived
    if (exchange.receives.length > 0) {
      const messages = exchange.receives.flatMap(({ from }) =>
        this.traced(groups[group]![from]!, transport.rank, tag),
      )
      this.onTrace?.({ name: exchange.name, queue: 'receive', start, end: now(), ...at, messages })
    }
    exchange.receives.forEach(({ message }, i) => {
      const arena = this.inner.arenas[message.arena] as Arena
      arena.write(message.offset + at.slot * arena.plan.slotBytes, buffers[i]!)
    })
    this.free(exchange, buffers)
  }

  /** The next message of a channel, where there is a trace. Messages pass a channel in the order of the segments. */
  private traced(from: number, to: number, channel: number): TracedMessage[] {
    if (!this.onTrace) return []
    const key = `${from} ${to} ${channel}`
    const number = this.counted.get(key) ?? 0
    this.counted.set(key, number + 1)
    return [{ from, to, channel, number }]
  }
}

/** Which submission something belongs to. */
interface Place {
  readonly slot: number
  readonly run: number
}

const now = (): number => performance.timeOrigin + performance.now()

/** The caller may change its arrays before the segment's turn comes. */
const copied = (inputs: Record<string, ArrayBufferView>): Record<string, ArrayBufferView> =>
  Object.fromEntries(
    Object.entries(inputs).map(([name, view]) => [
      name,
      new Uint8Array(view.buffer, view.byteOffset, view.byteLength).slice(),
    ]),
  )
