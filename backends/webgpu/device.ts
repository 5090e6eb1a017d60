import { ExactmapError } from '../../src/errors.ts'
import { requireStaged } from '../../src/program/exchange.ts'
import { requireLayouts } from '../../src/program/layout.ts'
import { requireMemory } from '../../src/program/memory_report.ts'
import type { ArenaKind, ArenaPlan, Program } from '../../src/program/program.ts'
import { verifyProgram } from '../../src/program/verify.ts'
import type { Arena, Device, DeviceInfo, Executable, LoadOptions, Roofline } from '../backend.ts'
import { WebGpuArena } from './arena.ts'
import { WebGpuExecutable } from './executable.ts'
import type { KernelLibrary } from './link.ts'
import { measureRoofline } from './roofline.ts'
import { type WebGpuTarget, type WebGpuTraitsFile, webGpuTarget } from './target.ts'
import type { TunedChoice, TuningSignature } from './tuning.ts'

export interface OpenOptions {
  readonly adapter: GPUAdapter
  readonly library: KernelLibrary
  /** Kept referenced as long as the device lives: dawn-node crashes when its instance is collected. */
  readonly keep?: unknown
  readonly driver?: string
  /** Bytes the arenas of a program may take, where that is known. WebGPU itself does not tell. */
  readonly memory?: number
  /** Features not to use although the adapter has them. */
  readonly without?: readonly string[]
  /** Waits for work of the queue; default `await`. Where the processor is the GPU, the waiting must not take part of it. */
  readonly wait?: <T>(work: Promise<T>) => Promise<T>
}

const wanted = ['subgroups', 'shader-f16', 'timestamp-query'] as const

/** A WebGPU device, the same in Node (dawn-node) and in browsers. */
export class WebGpuDevice implements Device {
  readonly info: DeviceInfo
  private currentTarget: WebGpuTarget
  private library: KernelLibrary
  /** What a tuning of this adapter is measured on. */
  readonly signature: TuningSignature
  private traits: WebGpuTraitsFile
  readonly lost: Promise<ExactmapError>
  /** First error that no scope caught, until somebody takes it. */
  private failure: ExactmapError | undefined
  /** What was submitted last; names the place of an asynchronous error. */
  lastPlace: { program?: string; segment?: string } = {}
  /** Objects created so far; a steady-state step adds none. */
  readonly created = { buffers: 0, bindGroups: 0, pipelines: 0 }
  /** What steps of programs have moved so far, in bytes, and by how many submissions and mappings. */
  readonly traffic = { submits: 0, bytesWritten: 0, readBacks: 0, bytesRead: 0 }
  private closing = false

  private constructor(
    readonly gpu: GPUDevice,
    private readonly options: OpenOptions,
  ) {
    const { info } = options.adapter
    this.info = {
      backend: 'webgpu',
      device: info.device || info.description || info.vendor,
      driver: options.driver ?? info.description,
    }
    const { limits } = gpu
    const features = wanted.filter((f) => gpu.features.has(f) && !options.without?.includes(f))
    const size =
      'subgroupMaxSize' in info && info.subgroupMinSize === info.subgroupMaxSize ? info.subgroupMaxSize : 1
    this.traits = {
      name: `webgpu-${slug(this.info.device)}`,
      limits: {
        maxBufferSize: limits.maxBufferSize,
        maxBindingSize: limits.maxStorageBufferBindingSize,
        bindingAlignment: limits.minStorageBufferOffsetAlignment,
        maxBindings: limits.maxStorageBuffersPerShaderStage,
        maxWorkgroups: limits.maxComputeWorkgroupsPerDimension,
        maxInvocations: limits.maxComputeInvocationsPerWorkgroup,
        maxWorkgroupMemory: limits.maxComputeWorkgroupStorageSize,
      },
      // Kernels rely on one fixed subgroup size; where it varies, the portable variants are used.
      features: size > 1 ? features : features.filter((f) => f !== 'subgroups'),
      subgroupSize: size,
    }
    this.signature = {
      driver: this.info.driver.split(' ')[0]!,
      device: info.device,
      description: info.description,
      // No kernel asks for the time.
      features: this.traits.features.filter((f) => f !== 'timestamp-query').sort(),
      subgroupSize: size,
    }
    this.library = options.library
    this.currentTarget = webGpuTarget(this.traits, this.library)
    this.lost = gpu.lost.then((why) => {
      const error = new ExactmapError(
        'device_lost',
        `the WebGPU device was lost (${why.reason}): ${why.message}. Open a new device and load the program again`,
        this.lastPlace,
      )
      if (!this.closing) this.failure ??= error
      return error
    })
    gpu.addEventListener('uncapturederror', (event) => {
      const { error } = event as GPUUncapturedErrorEvent
      const code = error instanceof GPUOutOfMemoryError ? 'out_of_memory' : 'validation'
      this.failure ??= new ExactmapError(code, error.message, this.lastPlace)
    })
  }

  static async open(options: OpenOptions): Promise<WebGpuDevice> {
    const { adapter } = options
    const limits = adapter.limits
    const gpu = await adapter.requestDevice({
      requiredFeatures: wanted.filter(
        (f) => adapter.features.has(f) && !options.without?.includes(f),
      ) as GPUFeatureName[],
      requiredLimits: {
        maxBufferSize: limits.maxBufferSize,
        maxStorageBufferBindingSize: limits.maxStorageBufferBindingSize,
        maxStorageBuffersPerShaderStage: limits.maxStorageBuffersPerShaderStage,
        maxComputeInvocationsPerWorkgroup: limits.maxComputeInvocationsPerWorkgroup,
        maxComputeWorkgroupSizeX: limits.maxComputeWorkgroupSizeX,
        maxComputeWorkgroupStorageSize: limits.maxComputeWorkgroupStorageSize,
      },
    })
    return new WebGpuDevice(gpu, options)
  }

  get target(): WebGpuTarget {
    return this.currentTarget
  }

  /** Takes kernels from another library for what is compiled and loaded from now on; loaded programs keep theirs. */
  useLibrary(library: KernelLibrary): void {
    this.library = library
    this.currentTarget = webGpuTarget(this.traits, this.library)
  }

  /** Chooses kernels by another tuning, or by heuristics alone, for what is compiled from now on. */
  useTuning(tuning: WebGpuTraitsFile['tuning']): void {
    const { tuning: _, ...traits } = this.traits
    this.traits = tuning ? { ...traits, tuning } : traits
    this.currentTarget = webGpuTarget(this.traits, this.library)
  }

  /** The device's target with other choices: programs compiled for it load like those of `target`. */
  targetWith(entries: readonly TunedChoice[]): WebGpuTarget {
    return webGpuTarget({ ...this.traits, tuning: { entries } }, this.library)
  }

  /** Waits for work of the queue. */
  wait<T>(work: Promise<T>): Promise<T> {
    return this.options.wait?.(work) ?? work
  }

  /** Throws the pending asynchronous error, if there is one, and forgets it (a lost device stays lost). */
  throwPending(): void {
    const { failure } = this
    if (!failure) return
    if (failure.code !== 'device_lost') this.failure = undefined
    throw failure
  }

  measureRoofline(onProgress?: (done: number, total: number) => void): Promise<Roofline> {
    return measureRoofline(this, onProgress)
  }

  createArena(plan: ArenaPlan): WebGpuArena {
    this.created.buffers += plan.buffers.length
    return new WebGpuArena(this.gpu, plan)
  }

  async load(program: Program, options: LoadOptions = {}): Promise<Executable> {
    this.throwPending()
    verifyProgram(program, this.target)
    requireStaged(program)
    requireLayouts(program, options.arenas)
    if (this.options.memory !== undefined)
      requireMemory(program, this.options.memory, Object.keys(options.arenas ?? {}))
    const arenas: Partial<Record<ArenaKind, Arena>> = {}
    this.gpu.pushErrorScope('out-of-memory')
    for (const plan of program.arenas)
      arenas[plan.kind] = options.arenas?.[plan.kind] ?? this.createArena(plan)
    const executable = new WebGpuExecutable(this, program, arenas as Record<ArenaKind, WebGpuArena>, options)
    const memory = await this.gpu.popErrorScope()
    if (memory) throw new ExactmapError('out_of_memory', memory.message, { program: program.name })
    try {
      await executable.prepare(options.onProgress)
    } catch (error) {
      executable.destroy()
      throw error
    }
    return executable
  }

  destroy(): void {
    this.closing = true
    this.gpu.destroy()
  }
}

const slug = (text: string): string =>
  text
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-|-$/g, '') || 'device'
