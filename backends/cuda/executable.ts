import { check, ExactmapError } from '../../src/errors.ts'
import type { ArenaKind, Program, Segment } from '../../src/program/program.ts'
import type { Executable, Outputs } from '../backend.ts'
import type { NativeProgram } from './addon.ts'
import type { CudaArena } from './arena.ts'
import type { CudaDevice } from './device.ts'

/** Submissions of a program that the runtime holds staging memory for; another would block until the oldest is done. */
const IN_FLIGHT = 4

interface ReadySegment {
  readonly index: number
  readonly segment: Segment
  /** What the host last wrote into the segment's range of the step input. */
  readonly inputBytes: Uint8Array
  readonly inputOffset: number
  /** Bytes to copy before a step: nothing where the caller gave no inputs. */
  readonly none: Uint8Array
}

/** A loaded program: graphs and arenas are made; a step is one small copy, one graph launch and the declared outputs. */
export class CudaExecutable implements Executable {
  private readonly segments: ReadonlyMap<string, ReadySegment>
  private inFlight = 0
  /** Submissions behind a step that waits for staging memory: they keep their order. */
  private readonly queue: { readonly needsPlace: boolean; readonly submit: () => void }[] = []
  private failure: unknown

  constructor(
    private readonly device: CudaDevice,
    readonly program: Program,
    readonly arenas: Record<ArenaKind, CudaArena>,
    private readonly ownArenas: readonly CudaArena[],
    private readonly native: NativeProgram,
  ) {
    this.segments = new Map(
      program.segments.map((segment, index) => {
        const begin = Math.min(...segment.inputs.map((i) => i.offset))
        const end = Math.max(...segment.inputs.map((i) => i.offset + i.bytes))
        const some = segment.inputs.length > 0
        return [
          segment.name,
          {
            index,
            segment,
            inputBytes: new Uint8Array(some ? end - begin : 0),
            inputOffset: some ? begin : 0,
            none: new Uint8Array(0),
          },
        ]
      }),
    )
  }

  private ready(name: string): ReadySegment {
    const ready = this.segments.get(name)
    if (!ready)
      throw new ExactmapError(
        'not_found',
        `no segment '${name}'; it has ${[...this.segments.keys()].join(', ')}`,
        { program: this.program.name },
      )
    return ready
  }

  /** The bytes to write into the step input before the segment runs. */
  private inputs(
    { segment, inputBytes, inputOffset, none }: ReadySegment,
    given: Record<string, ArrayBufferView>,
  ) {
    let some = false
    for (const name in given) {
      some = true
      const input = segment.inputs.find((i) => i.name === name)
      check(
        input,
        'invalid_argument',
        () =>
          `segment '${segment.name}' has no input '${name}'; it has ${segment.inputs.map((i) => i.name).join(', ')}`,
      )
      const view = given[name]!
      check(
        view.byteLength === input.bytes,
        'invalid_shape',
        () =>
          `input '${name}' is ${input.type.format}[${input.type.shape}] of ${input.bytes} bytes, got ${view.byteLength}`,
      )
      inputBytes.set(
        new Uint8Array(view.buffer, view.byteOffset, view.byteLength),
        input.offset - inputOffset,
      )
    }
    return some ? inputBytes : none
  }

  private checkSlot(slot: number): void {
    check(
      slot >= 0 && slot < this.program.slots,
      'invalid_argument',
      () => `slot ${slot} of ${this.program.slots}`,
    )
  }

  /** Submits now, or behind what waits already; then with copies of the inputs. */
  private inOrder(
    needsPlace: boolean,
    inputs: Record<string, ArrayBufferView>,
    submit: (inputs: Record<string, ArrayBufferView>) => void,
  ): void {
    if (this.queue.length === 0 && !(needsPlace && this.inFlight >= IN_FLIGHT)) {
      submit(inputs)
      return
    }
    const copies = Object.fromEntries(
      Object.entries(inputs).map(([name, { buffer, byteOffset, byteLength }]) => [
        name,
        new Uint8Array(buffer, byteOffset, byteLength).slice(),
      ]),
    )
    this.queue.push({ needsPlace, submit: () => submit(copies) })
  }

  private advance(): void {
    while (this.queue.length > 0 && !(this.queue[0]!.needsPlace && this.inFlight >= IN_FLIGHT))
      this.queue.shift()!.submit()
  }

  run(segment: string, inputs: Record<string, ArrayBufferView> = {}, slot = 0): void {
    const ready = this.ready(segment)
    this.checkSlot(slot)
    const later = this.queue.length > 0
    this.inOrder(false, inputs, (given) => {
      try {
        const bytes = this.inputs(ready, given)
        this.device.guarded(() => this.native.run(ready.index, slot, ready.inputOffset, bytes))
      } catch (error) {
        if (!later) throw error
        this.failure ??= error
      }
    })
  }

  runSteps(segment: string, first: number, count: number, times = 1): void {
    const { index } = this.ready(segment)
    this.device.guarded(() => this.native.runSteps(index, first, count, times))
  }

  async step(segment: string, inputs: Record<string, ArrayBufferView> = {}, slot = 0): Promise<Outputs> {
    const ready = this.ready(segment)
    this.checkSlot(slot)
    const all = await new Promise<Uint8Array>((resolve, reject) => {
      this.inOrder(true, inputs, (given) => {
        try {
          const bytes = this.inputs(ready, given)
          this.inFlight++
          this.native
            .step(ready.index, slot, ready.inputOffset, bytes)
            .then(resolve, reject)
            .finally(() => {
              this.inFlight--
              this.advance()
            })
        } catch (error) {
          reject(error)
        }
      })
    }).catch((error) => this.device.fail(error))
    const outputs: Outputs = {}
    let at = 0
    for (const { name, bytes } of ready.segment.outputs) {
      outputs[name] = all.subarray(at, at + bytes)
      at += (bytes + 7) & ~7
    }
    return outputs
  }

  async finished(): Promise<void> {
    await new Promise<void>((resolve) => this.inOrder(false, {}, () => resolve()))
    if (this.failure !== undefined) throw this.failure
    return this.device.finished()
  }

  destroy(): void {
    this.native.destroy()
    for (const arena of this.ownArenas) arena.destroy()
  }
}
