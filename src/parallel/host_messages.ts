import type { Transport } from '../../backends/transport.ts'

/** Channels that ranks' hosts use among themselves; programs have those from MAX_CHANNELS on. */
export const hostChannel = {
  agreement: 0,
  counts: 1,
  losses: 2,
  report: 3,
  state: 4,
  trace: 5,
  token: 6,
  session: 7,
} as const

/** Equally many numbers from each of the ranks, in their order, on every one of them. */
export async function gatherNumbers(
  transport: Transport,
  ranks: readonly number[],
  channel: number,
  own: Float64Array,
): Promise<Float64Array[]> {
  const others = ranks.filter((rank) => rank !== transport.rank)
  const all = ranks.map((rank) => (rank === transport.rank ? own : new Float64Array(own.length)))
  await Promise.all([
    ...others.map((rank) => transport.send(rank, channel, bytesOf(own))),
    ...ranks.map((rank, i) =>
      rank === transport.rank ? undefined : transport.receive(rank, channel, bytesOf(all[i]!)),
    ),
  ])
  return all
}

/** The root's numbers, on every rank of the run. */
export async function broadcastNumbers(
  transport: Transport,
  root: number,
  channel: number,
  numbers: Float64Array,
): Promise<Float64Array> {
  if (transport.rank !== root) {
    await transport.receive(root, channel, bytesOf(numbers))
    return numbers
  }
  await Promise.all(
    Array.from({ length: transport.size }, (_, rank) =>
      rank === root ? undefined : transport.send(rank, channel, bytesOf(numbers)),
    ),
  )
  return numbers
}

/** Every rank's bytes, equally many, in rank order on rank 0; nothing on the others. */
export async function collectBytes(
  transport: Transport,
  channel: number,
  own: Uint8Array,
): Promise<Uint8Array[]> {
  if (transport.rank > 0) {
    await transport.send(0, channel, own)
    return []
  }
  const all = Array.from({ length: transport.size }, (_, rank) =>
    rank === 0 ? own : new Uint8Array(own.length),
  )
  await Promise.all(
    all.map((bytes, rank) => (rank === 0 ? undefined : transport.receive(rank, channel, bytes))),
  )
  return all
}

/** Every rank's text, in rank order on rank 0; nothing on the others. */
export async function collectTexts(transport: Transport, channel: number, own: string): Promise<string[]> {
  const bytes = new TextEncoder().encode(own)
  const lengths = await collectBytes(transport, channel, bytesOf(Float64Array.of(bytes.length)))
  if (transport.rank > 0) {
    await transport.send(0, channel, bytes)
    return []
  }
  return Promise.all(
    lengths.map(async (length, rank) => {
      if (rank === 0) return own
      const given = new Uint8Array(new DataView(length.buffer, length.byteOffset).getFloat64(0, true))
      await transport.receive(rank, channel, given)
      return new TextDecoder().decode(given)
    }),
  )
}

/** Rank 0's text, on every rank of the run. */
export async function broadcastText(transport: Transport, channel: number, text: string): Promise<string> {
  const bytes = new TextEncoder().encode(text)
  const [length] = await broadcastNumbers(transport, 0, channel, Float64Array.of(bytes.length))
  if (transport.rank === 0) {
    const others = Array.from({ length: transport.size - 1 }, (_, i) => i + 1)
    await Promise.all(others.map((rank) => transport.send(rank, channel, bytes)))
    return text
  }
  const given = new Uint8Array(length!)
  await transport.receive(0, channel, given)
  return new TextDecoder().decode(given)
}

export const everyRank = ({ size }: Transport): number[] => Array.from({ length: size }, (_, rank) => rank)

const bytesOf = ({ buffer, byteOffset, byteLength }: Float64Array): Uint8Array =>
  new Uint8Array(buffer, byteOffset, byteLength)
