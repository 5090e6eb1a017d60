import { check } from '../../src/errors.ts'
import type { Members } from '../../src/program/exchange.ts'
import type { Exchange, Program } from '../../src/program/program.ts'
import { MAX_CHANNELS } from '../../src/program/verify.ts'
import type { Communicator } from '../transport.ts'
import { loadAddon, type NativeCommunicator, type NativeDevice } from './addon.ts'

/** The host's own channel for what members agree on; tags below MAX_CHANNELS are no group's. */
const SETUP_CHANNEL = MAX_CHANNELS - 1
const ID_BYTES = 128
/** How long members wait for each other where they connect and where they load programs. */
const SECONDS = 120

/** The NCCL communicators of one rank: one for each channel of each group, made when a program first needs it. */
export class NcclConnections {
  private readonly made = new Map<string, NativeCommunicator>()

  constructor(
    private readonly device: NativeDevice,
    /** Path of the library, '' for libnccl.so.2. */
    private readonly nccl: string,
    private readonly communicator: Communicator,
  ) {}

  /**
   * Communicators for all exchanges of a program. Every member of its groups loads its program at the same point: they
   * agree on the channels that any of them uses, since all members of a group take part in connecting each.
   */
  async connect(program: Program, members: Members): Promise<NativeCommunicator[]> {
    const used: NativeCommunicator[] = []
    const exchanges = program.segments.flatMap(({ steps }) =>
      steps.filter((s): s is Exchange => s.kind === 'exchange'),
    )
    // In one order on all ranks, so that none waits for another that waits for it.
    for (const group of Object.keys(program.groups).sort()) {
      const ranks = this.communicator.groups[group]!
      if (ranks.length === 1) continue
      const wanted = new Uint8Array(MAX_CHANNELS / 8)
      for (const e of exchanges) if (e.group === group) wanted[e.channel >> 3]! |= 1 << (e.channel & 7)
      const channels = await this.agree(ranks, members[group]!, wanted)
      for (const { channel, id } of await this.shareIds(group, ranks, members[group]!, channels)) {
        const key = `${channel} ${group}`
        const known =
          this.made.get(key) ??
          (await this.device.createCommunicator(
            this.nccl,
            group,
            channel,
            members[group]!,
            ranks.length,
            id,
            SECONDS,
          ))
        this.made.set(key, known)
        used.push(known)
      }
    }
    return used
  }

  /** The channels that any member uses, ascending. */
  private async agree(ranks: readonly number[], self: number, wanted: Uint8Array): Promise<number[]> {
    const { transport } = this.communicator
    if (self === 0) {
      for (const rank of ranks.slice(1)) {
        const other = new Uint8Array(wanted.length)
        await transport.receive(rank, SETUP_CHANNEL, other)
        other.forEach((bits, i) => {
          wanted[i]! |= bits
        })
      }
      for (const rank of ranks.slice(1)) await transport.send(rank, SETUP_CHANNEL, wanted)
    } else {
      await transport.send(ranks[0]!, SETUP_CHANNEL, wanted)
      await transport.receive(ranks[0]!, SETUP_CHANNEL, wanted)
    }
    return Array.from({ length: MAX_CHANNELS }, (_, i) => i).filter((i) => (wanted[i >> 3]! >> (i & 7)) & 1)
  }

  /** The ids that member 0 makes for channels without a communicator yet; empty for those with one. */
  private async shareIds(
    group: string,
    ranks: readonly number[],
    self: number,
    channels: readonly number[],
  ): Promise<{ channel: number; id: Uint8Array }[]> {
    const { transport } = this.communicator
    const missing = channels.filter((channel) => !this.made.has(`${channel} ${group}`))
    const ids = new Uint8Array(missing.length * ID_BYTES)
    if (missing.length > 0 && self === 0) {
      for (const i of missing.keys()) ids.set(loadAddon().makeNcclId(this.nccl), i * ID_BYTES)
      for (const rank of ranks.slice(1)) await transport.send(rank, SETUP_CHANNEL, ids)
    } else if (missing.length > 0) await transport.receive(ranks[0]!, SETUP_CHANNEL, ids)
    return channels.map((channel) => {
      const at = missing.indexOf(channel)
      return { channel, id: ids.slice(at * ID_BYTES, (at + 1) * ID_BYTES) }
    })
  }
}

/** Where NCCL is, by EXACTMAP_TRANSPORT: `nccl` requires it, `host` leaves the messages to the host. */
export function chooseNccl(nccl: string): string | undefined {
  const asked = process.env.EXACTMAP_TRANSPORT ?? ''
  check(
    ['', 'nccl', 'host'].includes(asked),
    'invalid_argument',
    `EXACTMAP_TRANSPORT is '${asked}'; set it to nccl or host`,
  )
  if (asked === 'host') return undefined
  try {
    loadAddon().probeNccl(nccl)
    return nccl
  } catch (error) {
    if (asked === 'nccl') throw error
    return undefined
  }
}
