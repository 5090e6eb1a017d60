import { check, type ExactmapError } from '../src/errors.ts'
import type { Transport } from './transport.ts'

/** What all transports refuse in the same words. */
export abstract class CheckedTransport implements Transport {
  private receiving = 0
  private left: Promise<void> | undefined

  /** @param channels channels are numbered below this */
  constructor(
    readonly name: string,
    readonly rank: number,
    readonly size: number,
    private readonly channels: number,
  ) {}

  /** Resolves when `bytes` may be changed again. */
  protected abstract startSend(to: number, channel: number, bytes: Uint8Array): Promise<void>
  /** Takes the channel's next message, as much of it as fits; resolves to its length. */
  protected abstract startReceive(from: number, channel: number, into: Uint8Array): Promise<number>
  /** Waits for the other ranks to leave too. */
  protected abstract leave(): Promise<void>
  abstract abort(cause: ExactmapError): void

  async send(to: number, channel: number, bytes: Uint8Array): Promise<void> {
    this.checkMessage('send to', to, channel)
    await this.startSend(to, channel, bytes)
  }

  async receive(from: number, channel: number, into: Uint8Array): Promise<void> {
    this.checkMessage('receive from', from, channel)
    this.receiving++
    try {
      const length = await this.startReceive(from, channel, into)
      check(
        length === into.byteLength,
        'conflict',
        () =>
          `rank ${this.rank} expected ${into.byteLength} bytes from rank ${from} on channel ${channel}, got ${length}: both ranks must run the same program`,
      )
    } finally {
      this.receiving--
    }
  }

  async close(): Promise<void> {
    check(
      this.receiving === 0,
      'conflict',
      () => `rank ${this.rank} was closed while ${this.receiving} receives wait: await them before close()`,
    )
    this.left ??= this.leave()
    await this.left
  }

  private checkMessage(what: string, peer: number, channel: number): void {
    check(!this.left, 'conflict', () => `rank ${this.rank} can't ${what} rank ${peer}: it was closed`)
    check(
      Number.isInteger(peer) && peer >= 0 && peer < this.size,
      'invalid_argument',
      () => `rank ${this.rank} can't ${what} rank ${peer}: ranks are numbered from 0 to ${this.size - 1}`,
    )
    check(
      Number.isInteger(channel) && channel >= 0 && channel < this.channels,
      'invalid_argument',
      () => `channels are whole numbers from 0 to ${this.channels - 1}, got ${channel}`,
    )
  }
}
