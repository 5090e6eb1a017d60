import { check } from '../../src/errors.ts'
import type { ArenaPlan } from '../../src/program/program.ts'
import type { Arena } from '../backend.ts'

/** An arena in host memory. */
export class HostArena implements Arena {
  readonly bytes: Uint8Array

  constructor(readonly plan: ArenaPlan) {
    this.bytes = new Uint8Array(plan.bytes)
  }

  write(offset: number, bytes: Uint8Array): void {
    this.checkRange(offset, bytes.byteLength)
    this.bytes.set(bytes, offset)
  }

  async read(offset: number, bytes: number): Promise<Uint8Array> {
    this.checkRange(offset, bytes)
    return this.bytes.slice(offset, offset + bytes)
  }

  fill(byte: 0 | 255): void {
    this.bytes.fill(byte)
  }

  destroy(): void {}

  private checkRange(offset: number, bytes: number): void {
    check(
      offset >= 0 && offset + bytes <= this.plan.bytes,
      'invalid_argument',
      `${bytes} bytes at ${offset} leave arena '${this.plan.kind}' of ${this.plan.bytes} bytes`,
    )
  }
}
