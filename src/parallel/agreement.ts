import type { Transport } from '../../backends/transport.ts'
import { check, ExactmapError } from '../errors.ts'

/** What all ranks must have in common, by name: short strings such as hashes. */
export type Facts = Readonly<Record<string, string>>

/** Of the few messages here; nothing else is under way meanwhile. */
const CHANNEL = 0

/** What to do about a difference; other facts are told by their name. */
const ADVICE: Readonly<Record<string, string>> = {
  world: 'start all ranks with one command',
  plan: 'start all ranks with the same plan file',
  model: 'start all ranks with the same model and configuration',
  build: 'install the same exactmap on all hosts',
}

interface Report {
  readonly host: string
  readonly facts: Facts
}

/**
 * Lets ranks go on only when all have the same facts. Every rank tells rank 0, which compares and answers; when a rank
 * differs, rank 0 aborts the run with the rank's name, the fact and both values, and every other rank ends by that.
 *
 * @param options.host where this rank runs, for messages
 * @param options.seconds how long rank 0 waits for reports; others wait longer, so that it is rank 0 that says who is silent
 * @throws ExactmapError `conflict` where a rank differs, `interrupted` where one did not report in time
 */
export async function agree(
  transport: Transport,
  facts: Facts,
  { host = '', seconds = 60 }: { readonly host?: string; readonly seconds?: number } = {},
): Promise<void> {
  const { rank, size } = transport
  if (rank > 0) {
    await sendText(transport, 0, JSON.stringify({ host, facts } satisfies Report))
    const answer = new Uint8Array(1)
    await within(seconds + 10, transport.receive(0, CHANNEL, answer), () => 'rank 0 did not answer')
    return
  }
  const reports = new Map<number, Report>([[0, { host, facts }]])
  const others = Array.from({ length: size - 1 }, (_, i) => i + 1)
  const missing = () => {
    const silent = others.filter((r) => !reports.has(r))
    const more = silent.length > 8 ? ` and ${silent.length - 8} more` : ''
    return `rank ${silent.slice(0, 8).join(', ')}${more} did not report: see whether its host runs`
  }
  try {
    await within(
      seconds,
      Promise.all(others.map(async (r) => reports.set(r, JSON.parse(await receiveText(transport, r))))),
      missing,
    )
    const difference = compare(reports)
    check(difference === undefined, 'conflict', difference ?? '')
  } catch (error) {
    if (error instanceof ExactmapError) transport.abort(error)
    throw error
  }
  await Promise.all(others.map((r) => transport.send(r, CHANNEL, Uint8Array.of(1))))
}

/** What is wrong, by rank; undefined when all is well. */
function compare(reports: ReadonlyMap<number, Report>): string | undefined {
  const { facts: expected } = reports.get(0)!
  const lines: string[] = []
  for (const [rank, { host, facts }] of [...reports].sort(([a], [b]) => a - b)) {
    const name = Object.keys({ ...expected, ...facts }).find((key) => facts[key] !== expected[key])
    if (name === undefined) continue
    const value = (of: Facts): string => of[name] ?? `no ${name}`
    const who = `rank ${rank}${host === '' ? '' : ` (host ${host})`}`
    const advice = ADVICE[name] ?? `start all ranks with the same ${name}`
    lines.push(`${who} has ${name} ${value(facts)}, rank 0 has ${value(expected)}: ${advice}`)
  }
  if (lines.length < 2) return lines[0]
  return `${lines[0]}; ${lines.length - 1} more of ${reports.size} ranks differ from rank 0`
}

/** The length, then the text: a receiver must know how much will come. */
async function sendText(transport: Transport, to: number, text: string): Promise<void> {
  const bytes = new TextEncoder().encode(text)
  const length = new Uint8Array(4)
  new DataView(length.buffer).setUint32(0, bytes.byteLength, true)
  await Promise.all([transport.send(to, CHANNEL, length), transport.send(to, CHANNEL, bytes)])
}

async function receiveText(transport: Transport, from: number): Promise<string> {
  const length = new Uint8Array(4)
  await transport.receive(from, CHANNEL, length)
  const bytes = new Uint8Array(new DataView(length.buffer).getUint32(0, true))
  await transport.receive(from, CHANNEL, bytes)
  return new TextDecoder().decode(bytes)
}

async function within<T>(seconds: number, work: Promise<T>, what: () => string): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined
  const late = new Promise<never>((_, reject) => {
    const give = () => reject(new ExactmapError('interrupted', `${what()} (within ${seconds} s)`))
    timer = setTimeout(give, seconds * 1000)
  })
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}
