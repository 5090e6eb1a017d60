import type { Arena } from '../../backends/backend.ts'
import type { Transport } from '../../backends/transport.ts'
import { ExactmapError } from '../errors.ts'
import { hostChannel } from '../parallel/host_messages.ts'
import { formatOf } from '../tensor/format.ts'
import { elementCount } from '../tensor/type.ts'
import { checkPools, type PoolLayout, type Session } from './session.ts'

// A sequence goes from a rank that prefills to one that decodes. Messages: what comes (its length, then itself), the
// answer, the tokens, and one for each pool. With L layers that is 2 L + 4, whatever the length of the sequence.

const CHANNEL = hostChannel.session

/** What a session is made of, told before its bytes. */
interface Announcement {
  readonly tokens: number
  readonly activations: Session['activations']
  readonly pools: Readonly<Record<string, PoolLayout>>
}

/**
 * Gives a session to another rank, which must call `receiveSession`.
 *
 * @throws ExactmapError `conflict` when its cache is laid out otherwise; nothing of the session is sent then
 */
export async function sendSession(transport: Transport, to: number, session: Session): Promise<void> {
  const send = (bytes: Uint8Array): Promise<void> => transport.send(to, CHANNEL, bytes)
  const pools = Object.fromEntries(
    Object.entries(session.pools).map(([name, { format, shape }]) => [name, { format, shape }]),
  )
  const announced: Announcement = {
    tokens: session.tokens.length,
    activations: session.activations,
    pools,
  }
  const text = new TextEncoder().encode(JSON.stringify(announced))
  await send(bytesOf(Uint32Array.of(text.length)))
  await send(text)
  const taken = new Uint8Array(1)
  await transport.receive(to, CHANNEL, taken)
  if (taken[0] === 0)
    throw new ExactmapError(
      'conflict',
      `rank ${to} has another cache than the session's ${Object.keys(pools).length} pools; load the same model there, with the same KV format and grid`,
    )
  await send(bytesOf(Uint32Array.from(session.tokens)))
  await Promise.all(
    Object.values(session.pools).map(({ bytes }) => (bytes.length > 0 ? send(bytes) : undefined)),
  )
}

/**
 * Takes a session that another rank gives with `sendSession`.
 *
 * @param kv the cache it is to go on in
 * @throws ExactmapError `conflict` when the cache is laid out otherwise, also at the sender
 */
export async function receiveSession(
  transport: Transport,
  from: number,
  kv: Arena | undefined,
): Promise<Session> {
  const receive = async (bytes: Uint8Array): Promise<void> => transport.receive(from, CHANNEL, bytes)
  const length = new Uint32Array(1)
  await receive(bytesOf(length))
  const text = new Uint8Array(length[0]!)
  await receive(text)
  const announced: Announcement = JSON.parse(new TextDecoder().decode(text))
  const answer = (taken: 0 | 1): Promise<void> => transport.send(from, CHANNEL, Uint8Array.of(taken))
  try {
    checkPools(kv, announced.pools)
  } catch (error) {
    await answer(0)
    throw error
  }
  await answer(1)
  const tokens = new Uint32Array(announced.tokens)
  const pools = Object.fromEntries(
    Object.entries(announced.pools).map(([name, { format, shape }]) => {
      const bytes = new Uint8Array(elementCount(shape) * formatOf(format).blockBytes)
      return [name, { format, shape, bytes }]
    }),
  )
  await receive(bytesOf(tokens))
  await Promise.all(Object.values(pools).map(({ bytes }) => (bytes.length > 0 ? receive(bytes) : undefined)))
  return { tokens: Array.from(tokens), activations: announced.activations, pools }
}

const bytesOf = ({ buffer, byteOffset, byteLength }: Uint32Array): Uint8Array =>
  new Uint8Array(buffer, byteOffset, byteLength)
