import { check } from '../../src/errors.ts'
import type { ArenaPlan } from '../../src/program/program.ts'
import type { Arena } from '../backend.ts'
import type { NativeArena } from './addon.ts'

/** One arena: one allocation on the device, made here and never again. */
export class CudaArena implements Arena {
  constructor(
    readonly native: NativeArena,
    readonly plan: ArenaPlan,
  ) {}

  write(offset: number, bytes: Uint8Array): void {
    this.checkRange('write', offset, bytes.byteLength)
    this.native.write(offset, bytes)
  }

  async read(offset: number, bytes: number): Promise<Uint8Array> {
    this.checkRange('read', offset, bytes)
    return this.native.read(offset, bytes)
  }

  fill(byte: 0 | 255): void {
    this.native.fill(byte)
  }

  destroy(): void {
    this.native.destroy()
  }

  private checkRange(what: string, offset: number, bytes: number): void {
    check(
      offset >= 0 && offset + bytes <= this.plan.bytes,
      'invalid_argument',
      () =>
        `${what} of ${bytes} bytes at ${offset} leaves arena '${this.plan.kind}' of ${this.plan.bytes} bytes`,
    )
  }
}
