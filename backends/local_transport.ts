import type { ExactmapError } from '../src/errors.ts'
import { CheckedTransport } from './checked_transport.ts'
import type { Transport } from './transport.ts'

interface Waiting {
  readonly into: Uint8Array
  readonly resolve: (length: number) => void
  readonly reject: (cause: ExactmapError) => void
}

/** Messages of one channel between two ranks: at most one of the lists has entries. */
interface Mailbox {
  readonly messages: Uint8Array[]
  readonly waiting: Waiting[]
}

/** What the ranks of one process share. */
class Post {
  private readonly boxes = new Map<string, Mailbox>()
  private leaving: { resolve: () => void; reject: (cause: ExactmapError) => void }[] = []
  private cause: ExactmapError | undefined

  constructor(private readonly size: number) {}

  private box(from: number, to: number, channel: number): Mailbox {
    const key = `${from} ${to} ${channel}`
    const known = this.boxes.get(key) ?? { messages: [], waiting: [] }
    this.boxes.set(key, known)
    return known
  }

  send(from: number, to: number, channel: number, bytes: Uint8Array): void {
    if (this.cause) throw this.cause
    const box = this.box(from, to, channel)
    const first = box.waiting.shift()
    if (first) deliver(bytes, first)
    else box.messages.push(bytes.slice())
  }

  receive(from: number, to: number, channel: number, into: Uint8Array): Promise<number> {
    return new Promise((resolve, reject) => {
      if (this.cause) return reject(this.cause)
      const box = this.box(from, to, channel)
      const message = box.messages.shift()
      if (message) deliver(message, { into, resolve, reject })
      else box.waiting.push({ into, resolve, reject })
    })
  }

  leave(): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.cause) return reject(this.cause)
      this.leaving.push({ resolve, reject })
      if (this.leaving.length === this.size) for (const one of this.leaving) one.resolve()
    })
  }

  abort(cause: ExactmapError): void {
    this.cause ??= cause
    const waiting = [...this.boxes.values()].flatMap((box) => box.waiting.splice(0))
    for (const { reject } of [...waiting, ...this.leaving.splice(0)]) reject(this.cause)
  }
}

function deliver(message: Uint8Array, { into, resolve }: Waiting): void {
  into.set(message.subarray(0, into.byteLength))
  resolve(message.byteLength)
}

class LocalTransport extends CheckedTransport {
  constructor(
    private readonly post: Post,
    rank: number,
    size: number,
  ) {
    super('local', rank, size, 2 ** 31)
  }

  protected override async startSend(to: number, channel: number, bytes: Uint8Array): Promise<void> {
    this.post.send(this.rank, to, channel, bytes)
  }

  protected override startReceive(from: number, channel: number, into: Uint8Array): Promise<number> {
    return this.post.receive(from, this.rank, channel, into)
  }

  protected override leave(): Promise<void> {
    return this.post.leave()
  }

  override abort(cause: ExactmapError): void {
    this.post.abort(cause)
  }
}

/**
 * Ranks of one process, joined by mailboxes in memory; `send` copies its bytes. When one of them aborts, whatever any of
 * them waits for, or asks for later, is rejected with the cause.
 */
export function localTransports(size: number): Transport[] {
  const post = new Post(size)
  return Array.from({ length: size }, (_, rank) => new LocalTransport(post, rank, size))
}
