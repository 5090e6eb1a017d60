import { ExactmapError } from '../../src/errors.ts'
import { requireLayouts } from '../../src/program/layout.ts'
import { requireMemory } from '../../src/program/memory_report.ts'
import type { ArenaKind, ArenaPlan, Program } from '../../src/program/program.ts'
import { verifyProgram } from '../../src/program/verify.ts'
import type { Arena, Device, DeviceInfo, LoadOptions } from '../backend.ts'
import type { NativeDevice } from './addon.ts'
import { CudaArena } from './arena.ts'
import { CudaExecutable } from './executable.ts'
import type { KernelImages } from './images.ts'
import { encodeProgramFile } from './program_file.ts'
import { type CudaSources, type CudaTarget, type CudaTraitsFile, cudaTarget } from './target.ts'

export interface CudaOpenOptions {
  readonly native: NativeDevice
  readonly traits: CudaTraitsFile
  readonly sources: CudaSources
  readonly images: KernelImages
  /** Version of the driver, e.g. `CUDA 13.0`. */
  readonly driver: string
}

/** A CUDA device, or the emulated one: the same runtime, programs and kernels, over another driver library. */
export class CudaDevice implements Device {
  readonly info: DeviceInfo
  readonly lost: Promise<ExactmapError>
  private reportLoss!: (error: ExactmapError) => void
  private currentTarget: CudaTarget
  /** Text hash of the image each module was loaded from. */
  private readonly loaded = new Map<string, string>()

  constructor(private readonly options: CudaOpenOptions) {
    const { native, traits, sources, driver } = options
    this.currentTarget = cudaTarget(traits, sources)
    this.info = { backend: native.emulated ? 'cuda-emulated' : 'cuda', device: native.name, driver }
    this.lost = new Promise((resolve) => {
      this.reportLoss = resolve
    })
  }

  get target(): CudaTarget {
    return this.currentTarget
  }

  /** Takes kernels from other sources for what is compiled and loaded from now on; loaded programs keep theirs. */
  useLibrary(sources: CudaSources): void {
    this.currentTarget = cudaTarget(this.options.traits, sources)
  }

  /** Bytes of device memory, as the driver counts them. */
  memory(): { free: number; total: number } {
    return this.guarded(() => this.options.native.memory())
  }

  createArena(plan: ArenaPlan): CudaArena {
    // Activations are always written before they are read; the others start as zeros on every backend.
    const zeroed = plan.kind !== 'activations'
    return this.guarded(
      () => new CudaArena(this.options.native.createArena(plan.kind, plan.bytes, zeroed), plan),
    )
  }

  async load(program: Program, options: LoadOptions = {}): Promise<CudaExecutable> {
    const { native, images } = this.options
    const target = this.currentTarget
    verifyProgram(program, target)
    requireLayouts(program, options.arenas)
    requireMemory(program, this.memory().free, Object.keys(options.arenas ?? {}))
    const modules = new Map(program.kernels.map((k) => [k.modules[0]!, k.textHash]))
    let done = 0
    for (const [module, textHash] of modules) {
      options.onProgress?.(done++, modules.size, module)
      if (this.loaded.get(module) === textHash) continue
      const image = await images.image(module, target.moduleText(module))
      this.guarded(() => native.loadModule(module, image))
      this.loaded.set(module, textHash)
    }
    options.onProgress?.(done, modules.size, program.name)
    const own: CudaArena[] = []
    const arenas: Partial<Record<ArenaKind, Arena>> = {}
    try {
      for (const plan of program.arenas) {
        const given = options.arenas?.[plan.kind]
        if (!given) own.push(this.createArena(plan))
        arenas[plan.kind] = given ?? own.at(-1)!
      }
      const bound = program.arenas.map(({ kind }) => (arenas[kind] as CudaArena).native)
      const file = encodeProgramFile(program, target)
      const loaded = this.guarded(() => native.loadProgram(file, bound))
      return new CudaExecutable(this, program, arenas as Record<ArenaKind, CudaArena>, own, loaded)
    } catch (error) {
      for (const arena of own) arena.destroy()
      throw error
    }
  }

  /** Resolves when all submitted work is done. */
  async finished(): Promise<void> {
    return this.options.native.finished().catch((error) => this.fail(error))
  }

  /** Runs a native call; a lost device is reported once through `lost` too. */
  guarded<T>(call: () => T): T {
    try {
      return call()
    } catch (error) {
      return this.fail(error)
    }
  }

  /** Rethrows an error of the addon. */
  fail(error: unknown): never {
    if (error instanceof ExactmapError && error.code === 'device_lost') this.reportLoss(error)
    throw error
  }

  destroy(): void {
    this.options.native.destroy()
  }
}
