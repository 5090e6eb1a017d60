import { check } from '../../src/errors.ts'
import type { ArenaPlan, Range } from '../../src/program/program.ts'
import type { Arena } from '../backend.ts'

/** Where a range of an arena lies on the device. */
export interface Place {
  readonly buffer: GPUBuffer
  readonly offset: number
}

/** One arena: a list of GPU buffers, because a device limits the size of each. */
export class WebGpuArena implements Arena {
  private readonly buffers: GPUBuffer[]
  private readonly starts: number[]

  constructor(
    private readonly device: GPUDevice,
    readonly plan: ArenaPlan,
  ) {
    this.starts = []
    let start = 0
    this.buffers = plan.buffers.map((size, i) => {
      this.starts.push(start)
      start += size
      return device.createBuffer({
        label: `${plan.kind}[${i}]`,
        size,
        usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST,
      })
    })
  }

  /** The buffer that holds a range of a slot; the planner lets no tensor cross a boundary. */
  place(range: Range, slot: number): Place {
    const at = range.offset + slot * this.plan.slotBytes
    let i = this.starts.length - 1
    while (i > 0 && this.starts[i]! > at) i--
    const offset = at - this.starts[i]!
    check(
      offset + range.bytes <= this.plan.buffers[i]!,
      'internal',
      `range ${at}+${range.bytes} leaves buffer ${i} of arena '${this.plan.kind}'`,
    )
    return { buffer: this.buffers[i]!, offset }
  }

  write(offset: number, bytes: Uint8Array): void {
    check(
      offset >= 0 && offset + bytes.byteLength <= this.plan.bytes,
      'invalid_argument',
      `write of ${bytes.byteLength} bytes at ${offset} leaves arena '${this.plan.kind}' of ${this.plan.bytes} bytes`,
    )
    for (const { buffer, at, from, size } of this.pieces(offset, bytes.byteLength))
      this.device.queue.writeBuffer(buffer, at, bytes as Uint8Array<ArrayBuffer>, from, size)
  }

  async read(offset: number, bytes: number): Promise<Uint8Array> {
    check(
      offset >= 0 && offset + bytes <= this.plan.bytes,
      'invalid_argument',
      `read of ${bytes} bytes at ${offset} leaves arena '${this.plan.kind}'`,
    )
    const staging = this.device.createBuffer({
      size: bytes,
      usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST,
    })
    const encoder = this.device.createCommandEncoder()
    for (const { buffer, at, from, size } of this.pieces(offset, bytes))
      encoder.copyBufferToBuffer(buffer, at, staging, from, size)
    this.device.queue.submit([encoder.finish()])
    await staging.mapAsync(GPUMapMode.READ)
    const out = new Uint8Array(staging.getMappedRange().slice(0))
    staging.destroy()
    return out
  }

  fill(byte: 0 | 255): void {
    if (byte === 0) {
      const encoder = this.device.createCommandEncoder()
      for (const buffer of this.buffers) encoder.clearBuffer(buffer)
      this.device.queue.submit([encoder.finish()])
      return
    }
    this.buffers.forEach((buffer, i) => {
      this.device.queue.writeBuffer(buffer, 0, new Uint8Array(this.plan.buffers[i]!).fill(byte))
    })
  }

  destroy(): void {
    for (const buffer of this.buffers) buffer.destroy()
  }

  private *pieces(
    offset: number,
    bytes: number,
  ): Generator<{ buffer: GPUBuffer; at: number; from: number; size: number }> {
    for (let i = 0; i < this.buffers.length; i++) {
      const begin = Math.max(offset, this.starts[i]!)
      const end = Math.min(offset + bytes, this.starts[i]! + this.plan.buffers[i]!)
      if (begin < end)
        yield {
          buffer: this.buffers[i]!,
          at: begin - this.starts[i]!,
          from: begin - offset,
          size: end - begin,
        }
    }
  }
}
