import { check, ExactmapError } from '../../src/errors.ts'
import { membersOf, requireStaged } from '../../src/program/exchange.ts'
import { hashText } from '../../src/program/hash.ts'
import { requireLayouts } from '../../src/program/layout.ts'
import { requireMemory } from '../../src/program/memory_report.ts'
import type { ArenaKind, ArenaPlan, Program } from '../../src/program/program.ts'
import { verifyProgram } from '../../src/program/verify.ts'
import type { Arena, Device, DeviceInfo, LoadOptions } from '../backend.ts'
import type { Communicator } from '../transport.ts'
import type { NativeDevice, NativeProgram, NativeRank } from './addon.ts'
import { CudaArena } from './arena.ts'
import { NcclConnections } from './connect.ts'
import { CudaExecutable } from './executable.ts'
import type { KernelImages } from './images.ts'
import { encodeProgramFile } from './program_file.ts'
import { type CudaSources, type CudaTarget, type CudaTraitsFile, cudaTarget } from './target.ts'
import { walkersOf } from './walker.ts'

export interface CudaOpenOptions {
  readonly native: NativeDevice
  readonly traits: CudaTraitsFile
  readonly sources: CudaSources
  readonly images: KernelImages
  /** Where images of generated texts come from. */
  readonly generated: KernelImages
  /** Version of the driver, e.g. `CUDA 13.0`. */
  readonly driver: string
  /** Finds the NCCL library that carries messages, '' for libnccl.so.2; the host carries them without. */
  readonly findNccl?: () => string | undefined
}

/** A CUDA device, or the emulated one: the same runtime, programs and kernels, over another driver library. */
export class CudaDevice implements Device {
  readonly info: DeviceInfo
  readonly lost: Promise<ExactmapError>
  private reportLoss!: (error: ExactmapError) => void
  private currentTarget: CudaTarget
  /** Text hash of the image each module was loaded from. */
  private readonly loaded = new Map<string, string>()
  private foundNccl: { readonly path: string | undefined } | undefined
  private loading: Promise<unknown> = Promise.resolve()
  private readonly connections = new WeakMap<Communicator, NcclConnections>()

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

  /** Looks for NCCL when it is first asked: one rank needs none. */
  private get nccl(): string | undefined {
    this.foundNccl ??= { path: this.options.findNccl?.() }
    return this.foundNccl.path
  }

  get carriesMessages(): boolean {
    return this.nccl !== undefined
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
    const { native, images, generated } = this.options
    const target = this.currentTarget
    verifyProgram(program, target)
    const { communicator } = options
    if (!communicator) requireStaged(program)
    requireLayouts(program, options.arenas)
    requireMemory(program, this.memory().free, Object.keys(options.arenas ?? {}))
    const walkers = walkersOf(program, options.whole ?? [], target)
    const modules = new Map([
      ...program.kernels.map(
        ({ modules: [module] }) => [module!, { text: target.moduleText(module!), images }] as const,
      ),
      ...[...walkers.values()].map(({ module, text }) => [module, { text, images: generated }] as const),
    ])
    let done = 0
    for (const [module, { text, images: source }] of modules) {
      options.onProgress?.(done++, modules.size, module)
      const textHash = hashText(text)
      if (this.loaded.get(module) === textHash) continue
      const image = await source.image(module, text)
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
      const file = encodeProgramFile(program, target, walkers)
      const load = async (): Promise<NativeProgram> => {
        const rank = communicator
          ? await this.join(program, communicator)
          : { members: options.members ?? {} }
        return native.loadProgram(file, bound, rank)
      }
      const loaded = await this.inTurn(load).catch((error) => this.fail(error))
      return new CudaExecutable(this, program, arenas as Record<ArenaKind, CudaArena>, own, loaded)
    } catch (error) {
      for (const arena of own) arena.destroy()
      throw error
    }
  }

  /** What the rank's exchanges need: its numbers in the groups, and communicators. */
  private async join(program: Program, communicator: Communicator): Promise<NativeRank> {
    const { nccl } = this
    check(
      nccl !== undefined,
      'unsupported',
      'the device carries no messages: install NCCL, or load the program with loadForRank, which stages them',
    )
    const members = membersOf(program, communicator.groups, communicator.transport.rank)
    const known =
      this.connections.get(communicator) ?? new NcclConnections(this.options.native, nccl, communicator)
    this.connections.set(communicator, known)
    return { members, communicators: await known.connect(program, members) }
  }

  /** Loads follow each other in the order of the calls: ranks wait for each other in them. */
  private inTurn<T>(load: () => Promise<T>): Promise<T> {
    const turn = this.loading.then(load)
    this.loading = turn.catch(() => {})
    return turn
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
