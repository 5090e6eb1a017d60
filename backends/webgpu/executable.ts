import { check, ExactmapError } from '../../src/errors.ts'
import { generateConstant } from '../../src/ops/constants.ts'
import { localCopies, type Members } from '../../src/program/exchange.ts'
import type {
  ArenaKind,
  Exchange,
  Launch,
  Program,
  Range,
  Segment,
  Step,
  Transfer,
} from '../../src/program/program.ts'
import { formatOf } from '../../src/tensor/format.ts'
import type { Executable, LoadOptions, Outputs } from '../backend.ts'
import type { Place, WebGpuArena } from './arena.ts'
import type { WebGpuDevice } from './device.ts'

/** Read-back buffers a segment starts with: steps of it in flight; it gets more when more are. */
const READ_BACKS = 4

interface ReadySegment {
  readonly segment: Segment
  readonly inputBytes: Uint8Array
  readonly inputOffset: number
  /** Bind groups by slot, then step; undefined for transfers. */
  readonly bindGroups: (GPUBindGroup | undefined)[][]
  readonly outputBytes: number
  readonly outputOffsets: readonly number[]
  /** Read-back buffers that are free. */
  readonly free: GPUBuffer[]
}

const copiesOf = (step: Transfer | Exchange, members: Members): (readonly [from: Range, to: Range])[] =>
  step.kind === 'transfer' ? [[step.from, step.to]] : localCopies(step, members)

/**
 * A loaded program. Buffers, pipelines and bind groups are made here once; a step writes one small range of the
 * step input, encodes the recorded launches, submits once and reads back only declared outputs.
 */
export class WebGpuExecutable implements Executable {
  private readonly segments = new Map<string, ReadySegment>()
  private pipelines: GPUComputePipeline[] = []
  private layouts: GPUBindGroupLayout[] = []
  private readonly ownArenas: WebGpuArena[]
  private readonly members: Members
  /** Holds the bytes of a copy inside one buffer. */
  private readonly bounce: GPUBuffer | undefined

  constructor(
    private readonly device: WebGpuDevice,
    readonly program: Program,
    readonly arenas: Record<ArenaKind, WebGpuArena>,
    options: LoadOptions,
  ) {
    const given = Object.values(options.arenas ?? {})
    this.ownArenas = Object.values(arenas).filter((a) => !given.includes(a))
    this.members = options.members ?? {}
    const copies = program.segments
      .flatMap(({ steps }) => steps)
      .flatMap((step) => (step.kind === 'launch' ? [] : copiesOf(step, this.members)))
    const largest = Math.max(0, ...copies.map(([from]) => from.bytes))
    if (largest > 0) {
      device.created.buffers++
      this.bounce = device.gpu.createBuffer({
        label: 'bounce',
        size: largest,
        usage: GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST,
      })
    }
  }

  /** Compiles pipelines, makes bind groups, writes constants, warms the driver up. */
  async prepare(onProgress?: LoadOptions['onProgress']): Promise<void> {
    const { gpu, target, created } = this.device
    const { program } = this
    const bindingCounts = program.kernels.map(() => 0)
    for (const { steps } of program.segments)
      for (const step of steps) if (step.kind === 'launch') bindingCounts[step.kernel] = step.bindings.length
    let done = 0
    this.layouts = bindingCounts.map((count) =>
      gpu.createBindGroupLayout({
        entries: Array.from({ length: count }, (_, binding) => ({
          binding,
          visibility: GPUShaderStage.COMPUTE,
          buffer: { type: 'storage' as const },
        })),
      }),
    )
    this.pipelines = await Promise.all(
      program.kernels.map(async (kernel, i) => {
        const place = { program: program.name, kernel: kernel.name }
        const code = target.link(kernel)
        // A module that does not compile is reported by the pipeline made from it, not a second time.
        gpu.pushErrorScope('validation')
        const module = gpu.createShaderModule({ label: kernel.name, code })
        const reported = gpu.popErrorScope()
        try {
          const pipeline = await this.device.wait(
            gpu.createComputePipelineAsync({
              label: kernel.name,
              layout: gpu.createPipelineLayout({ bindGroupLayouts: [this.layouts[i]!] }),
              compute: { module, entryPoint: 'main' },
            }),
          )
          created.pipelines++
          // Making a pipeline is half of it, the first dispatch the other.
          onProgress?.(++done, 2 * program.kernels.length, kernel.name)
          return pipeline
        } catch (cause) {
          await reported
          const { messages } = await module.getCompilationInfo()
          const text = messages
            .map((m) => `${target.source(kernel.modules, code, m.lineNum)}:${m.linePos} ${m.message}`)
            .join('; ')
          throw new ExactmapError('kernel_compile', text || String((cause as Error).message), place, {
            cause,
          })
        }
      }),
    )
    for (const segment of program.segments) this.segments.set(segment.name, this.readySegment(segment))
    const constants = program.arenas.find((a) => a.kind === 'constants')
    for (const { name, type, offset, generator } of constants?.tensors ?? []) {
      check(generator, 'invalid_program', `constant ${name} has no generator`)
      const made = generateConstant(generator.name, generator.attrs)
      this.arenas.constants.write(offset, formatOf(type.format).encode(made.values))
    }
    await this.warmUp(onProgress)
    this.device.throwPending()
  }

  /**
   * Dispatches every pipeline once with no workgroups, read indirectly so that the driver can't skip it:
   * lavapipe compiles machine code at the first dispatch, not when the pipeline is made.
   */
  private async warmUp(onProgress?: LoadOptions['onProgress']): Promise<void> {
    const { gpu } = this.device
    const zero = gpu.createBuffer({ size: 12, usage: GPUBufferUsage.INDIRECT | GPUBufferUsage.COPY_DST })
    const { kernels } = this.program
    const seen = new Set<number>()
    for (const { segment, bindGroups } of this.segments.values())
      for (const [i, step] of segment.steps.entries()) {
        if (step.kind !== 'launch' || seen.has(step.kernel)) continue
        seen.add(step.kernel)
        const encoder = gpu.createCommandEncoder()
        const pass = encoder.beginComputePass()
        pass.setPipeline(this.pipelines[step.kernel]!)
        pass.setBindGroup(0, bindGroups[0]![i]!)
        pass.dispatchWorkgroupsIndirect(zero, 0)
        pass.end()
        gpu.queue.submit([encoder.finish()])
        // One at a time, so that there is progress to show: the driver compiles one after the other anyway.
        await this.device.wait(gpu.queue.onSubmittedWorkDone())
        onProgress?.(kernels.length + seen.size, 2 * kernels.length, kernels[step.kernel]!.name)
      }
    zero.destroy()
  }

  private readySegment(segment: Segment): ReadySegment {
    const { program } = this
    const bindGroups = Array.from({ length: program.slots }, (_, slot) =>
      segment.steps.map((step) => (step.kind === 'launch' ? this.bindGroup(step, slot) : undefined)),
    )
    const begin = Math.min(...segment.inputs.map((i) => i.offset))
    const end = Math.max(...segment.inputs.map((i) => i.offset + i.bytes))
    let outputBytes = 0
    const outputOffsets = segment.outputs.map((o) => {
      const at = outputBytes
      outputBytes += (o.bytes + 7) & ~7
      return at
    })
    const free =
      outputBytes === 0 ? [] : Array.from({ length: READ_BACKS }, () => this.readBackBuffer(outputBytes))
    const inputBytes = new Uint8Array(segment.inputs.length > 0 ? end - begin : 0)
    return {
      segment,
      inputBytes,
      inputOffset: begin,
      bindGroups,
      outputBytes,
      outputOffsets,
      free,
    }
  }

  private readBackBuffer(size: number): GPUBuffer {
    this.device.created.buffers++
    return this.device.gpu.createBuffer({
      size,
      usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST,
    })
  }

  private bindGroup(launch: Launch, slot: number): GPUBindGroup {
    this.device.created.bindGroups++
    return this.device.gpu.createBindGroup({
      label: launch.name,
      layout: this.layouts[launch.kernel]!,
      entries: launch.bindings.map((range, binding) => {
        const { buffer, offset } = this.place(range, slot)
        // Kernels may declare vec4 arrays: the padding up to 16 bytes belongs to the tensor.
        return {
          binding,
          resource: { buffer, offset, size: Math.min((range.bytes + 15) & ~15, buffer.size - offset) },
        }
      }),
    })
  }

  private place(range: Range, slot: number): Place {
    return this.arenas[range.arena].place(range, slot)
  }

  private ready(segment: string): ReadySegment {
    const ready = this.segments.get(segment)
    if (!ready)
      throw new ExactmapError(
        'not_found',
        `no segment '${segment}'; it has ${[...this.segments.keys()].join(', ')}`,
        { program: this.program.name },
      )
    return ready
  }

  private submit(
    ready: ReadySegment,
    inputs: Record<string, ArrayBufferView>,
    slot: number,
    readBack?: GPUBuffer,
  ): void {
    this.device.throwPending()
    const { gpu } = this.device
    const { segment } = ready
    check(slot >= 0 && slot < this.program.slots, 'invalid_argument', `slot ${slot} of ${this.program.slots}`)
    this.device.lastPlace = { program: this.program.name, segment: segment.name }
    this.writeInputs(ready, inputs)
    const encoder = gpu.createCommandEncoder({ label: segment.name })
    this.encode(encoder, segment.steps, ready.bindGroups[slot]!, slot)
    if (readBack)
      segment.outputs.forEach((output, i) => {
        const { buffer, offset } = this.place(output, output.arena === 'activations' ? slot : 0)
        encoder.copyBufferToBuffer(buffer, offset, readBack, ready.outputOffsets[i]!, output.bytes)
      })
    gpu.queue.submit([encoder.finish()])
    this.device.traffic.submits++
  }

  private writeInputs(ready: ReadySegment, inputs: Record<string, ArrayBufferView>): void {
    const given = Object.keys(inputs)
    if (given.length === 0) return
    for (const name of given) {
      const input = ready.segment.inputs.find((i) => i.name === name)
      check(
        input,
        'invalid_argument',
        () =>
          `segment '${ready.segment.name}' has no input '${name}'; it has ${ready.segment.inputs.map((i) => i.name).join(', ')}`,
      )
      const view = inputs[name]!
      check(
        view.byteLength === input.bytes,
        'invalid_shape',
        () =>
          `input '${name}' is ${input.type.format}[${input.type.shape}] of ${input.bytes} bytes, got ${view.byteLength}`,
      )
      ready.inputBytes.set(
        new Uint8Array(view.buffer, view.byteOffset, view.byteLength),
        input.offset - ready.inputOffset,
      )
    }
    this.arenas.step_input.write(ready.inputOffset, ready.inputBytes)
    this.device.traffic.bytesWritten += ready.inputBytes.byteLength
  }

  private encode(
    encoder: GPUCommandEncoder,
    steps: readonly Step[],
    bindGroups: readonly (GPUBindGroup | undefined)[],
    slot: number,
  ): void {
    let pass: GPUComputePassEncoder | undefined
    steps.forEach((step, i) => {
      if (step.kind !== 'launch') {
        pass?.end()
        pass = undefined
        for (const [from, to] of copiesOf(step, this.members)) this.encodeCopy(encoder, from, to, slot)
        return
      }
      pass ??= encoder.beginComputePass()
      pass.setPipeline(this.pipelines[step.kernel]!)
      pass.setBindGroup(0, bindGroups[i]!)
      pass.dispatchWorkgroups(...step.workgroups)
    })
    pass?.end()
  }

  /** WebGPU copies between two buffers only: inside one, the bytes go through another. */
  private encodeCopy(encoder: GPUCommandEncoder, source: Range, destination: Range, slot: number): void {
    const from = this.place(source, slot)
    const to = this.place(destination, slot)
    const { bytes } = source
    if (from.buffer !== to.buffer) {
      encoder.copyBufferToBuffer(from.buffer, from.offset, to.buffer, to.offset, bytes)
      return
    }
    encoder.copyBufferToBuffer(from.buffer, from.offset, this.bounce!, 0, bytes)
    encoder.copyBufferToBuffer(this.bounce!, 0, to.buffer, to.offset, bytes)
  }

  run(segment: string, inputs: Record<string, ArrayBufferView> = {}, slot = 0): void {
    this.submit(this.ready(segment), inputs, slot)
  }

  runSteps(segment: string, first: number, count: number, times = 1): void {
    this.device.throwPending()
    const { steps } = this.ready(segment).segment
    const [bindGroups] = this.ready(segment).bindGroups
    const repeated = <T>(list: readonly T[]): T[] =>
      Array.from({ length: times }, () => list.slice(first, first + count)).flat()
    this.device.lastPlace = { program: this.program.name, segment }
    const encoder = this.device.gpu.createCommandEncoder({ label: segment })
    this.encode(encoder, repeated(steps), repeated(bindGroups!), 0)
    this.device.gpu.queue.submit([encoder.finish()])
    this.device.traffic.submits++
  }

  async step(segment: string, inputs: Record<string, ArrayBufferView> = {}, slot = 0): Promise<Outputs> {
    const ready = this.ready(segment)
    if (ready.outputBytes === 0) {
      this.submit(ready, inputs, slot)
      await this.finished()
      return {}
    }
    // A step that waited for a buffer would come after what is submitted next: one more is made, and kept.
    const buffer = ready.free.pop() ?? this.readBackBuffer(ready.outputBytes)
    try {
      this.submit(ready, inputs, slot, buffer)
      await this.device.wait(buffer.mapAsync(GPUMapMode.READ))
      this.device.traffic.readBacks++
      this.device.traffic.bytesRead += ready.outputBytes
      const all = new Uint8Array(buffer.getMappedRange())
      const outputs: Outputs = {}
      ready.segment.outputs.forEach((o, i) => {
        outputs[o.name] = all.slice(ready.outputOffsets[i]!, ready.outputOffsets[i]! + o.bytes)
      })
      buffer.unmap()
      this.device.throwPending()
      return outputs
    } catch (cause) {
      if (cause instanceof ExactmapError) throw cause
      // Let the lost promise or the uncaptured error arrive: it says more than a failed map.
      await new Promise((resolve) => setTimeout(resolve, 20))
      this.device.throwPending()
      throw new ExactmapError(
        'device_lost',
        String((cause as Error).message ?? cause),
        { program: this.program.name, segment },
        { cause },
      )
    } finally {
      ready.free.push(buffer)
    }
  }

  async finished(): Promise<void> {
    await this.device.wait(this.device.gpu.queue.onSubmittedWorkDone())
    this.device.throwPending()
  }

  destroy(): void {
    for (const arena of this.ownArenas) arena.destroy()
    this.bounce?.destroy()
    for (const { free } of this.segments.values()) for (const buffer of free) buffer.destroy()
  }
}
