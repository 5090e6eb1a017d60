import type { ExactmapError } from '../src/errors.ts'
import type { OpCall } from '../src/ops/contract.ts'
import type { Members } from '../src/program/exchange.ts'
import type { Access, ArenaKind, ArenaPlan, Program } from '../src/program/program.ts'
import type { TensorType } from '../src/tensor/type.ts'
import type { Communicator } from './transport.ts'

/** One launch of a kernel as a rule emits it; the lowering turns ports into arena ranges. */
export interface LaunchPlan {
  readonly variant: string
  readonly modules: readonly string[]
  readonly constants: Readonly<Record<string, number | string>>
  readonly workgroups: readonly [number, number, number]
  /** In binding order. A port is an input, an output or a scratch name; an in-place output is bound by its input's port. */
  readonly bindings: readonly {
    readonly port: string
    /** What the kernel calls it, where that is not the port's name. */
    readonly as?: string
    readonly access: Access
    readonly offset?: number
    readonly bytes?: number
  }[]
}

export type KernelChoice =
  | { readonly launches: readonly LaunchPlan[]; readonly scratch?: Readonly<Record<string, TensorType>> }
  | { readonly unsupported: string }

/** What a program is compiled for. Plain data but for `choose` and `link`; needs no device. */
export interface Target {
  readonly name: string
  readonly backend: string
  readonly limits: TargetLimits
  readonly features: readonly string[]
  /** Lanes that run in lockstep. */
  readonly subgroupSize: number
  /** Kernel launches for one op. */
  choose(call: OpCall): KernelChoice
  /** Names of all kernels that a call can be given, where there is a choice between some that differ in more than speed. */
  variants?(call: OpCall): readonly string[]
  /** The target with another choice: this variant wherever a call has it. */
  withVariant?(name: string): Target
  /**
   * The text a kernel is made from: what it is identified by. '' where kernels have no text.
   *
   * @throws ExactmapError `not_found` for an unknown module or kernel, `internal` for constants it does not have
   */
  link(kernel: KernelText): string
  /** Names in the kernel library of all files that text is made from. */
  files(kernel: KernelText): readonly string[]
}

/** Names a kernel text: the entry point, the files it is made from, and the values of its constants. */
export interface KernelText {
  readonly name: string
  readonly modules: readonly string[]
  readonly constants: Readonly<Record<string, number | string>>
}

export interface TargetLimits {
  readonly maxBufferSize: number
  readonly maxBindingSize: number
  readonly bindingAlignment: number
  readonly maxBindings: number
  readonly maxWorkgroups: number
  readonly maxInvocations: number
  readonly maxWorkgroupMemory: number
}

export interface DeviceInfo {
  readonly backend: string
  readonly device: string
  readonly driver: string
}

/** What a device can do at best, measured on it: what time per launch is compared with. */
export interface Roofline {
  /** Bytes per second of a range of `bytes`, the shortest range first: short ones stay in a cache. */
  readonly memory: readonly {
    readonly bytes: number
    readonly read: number
    readonly write: number
    /** Bytes read and bytes written, together. */
    readonly copy: number
  }[]
  /** f32 products and sums in registers. */
  readonly flopsPerSecond: number
  /** A launch that does nothing, among others of one submission. */
  readonly launchSeconds: number
  /** A submission of nothing, waited for. */
  readonly submitSeconds: number
  /** Four bytes that the host reads, from submission on. */
  readonly readBackSeconds: number
}

/** Bytes of one arena on a device. */
export interface Arena {
  readonly plan: ArenaPlan
  write(offset: number, bytes: Uint8Array): void
  read(offset: number, bytes: number): Promise<Uint8Array>
  fill(byte: 0 | 255): void
  destroy(): void
}

export type Outputs = Record<string, Uint8Array>

export interface LoadOptions {
  /** Arenas to bind; those not given are created. */
  readonly arenas?: Partial<Record<ArenaKind, Arena>>
  /** Which member of its groups this rank is, for a program with exchanges. */
  readonly members?: Members
  /** What a device that carries messages itself joins its groups by. */
  readonly communicator?: Communicator
  /** Segments to run as one kernel each (docs/cuda.md, "A step as one kernel"); other devices run their launches. */
  readonly whole?: readonly string[]
  readonly onProgress?: (done: number, total: number, what: string) => void
}

/** A program on a device. Everything is allocated and compiled when it is made; nothing afterwards. */
export interface Executable {
  readonly program: Program
  readonly arenas: Readonly<Partial<Record<ArenaKind, Arena>>>
  /** Writes inputs, runs the segment, resolves to its declared outputs. Several steps may be in flight. */
  step(segment: string, inputs?: Record<string, ArrayBufferView>, slot?: number): Promise<Outputs>
  /** The same without reading anything back. */
  run(segment: string, inputs?: Record<string, ArrayBufferView>, slot?: number): void
  /**
   * Runs `count` steps of a segment from `first` on, `times` times over, on what the arenas hold: for looking at
   * single ops and for timing them.
   */
  runSteps(segment: string, first: number, count: number, times?: number): void
  /** Resolves when all submitted work is done; rejects with the first error. */
  finished(): Promise<void>
  destroy(): void
}

export interface Device {
  readonly info: DeviceInfo
  readonly target: Target
  /** Exchanges run on the device itself, given a communicator; elsewhere the host carries messages (loadForRank). */
  readonly carriesMessages?: boolean
  /** Resolves once when the device is lost. */
  readonly lost: Promise<ExactmapError>
  /** Takes kernels from another library for what is compiled and loaded from now on; absent without kernel texts. */
  useLibrary?(library: ReadonlyMap<string, string>): void
  /** Measures what the device can do at best, in some three seconds; absent where nobody wrote it. */
  measureRoofline?(onProgress?: (done: number, total: number) => void): Promise<Roofline>
  createArena(plan: ArenaPlan): Arena
  load(program: Program, options?: LoadOptions): Promise<Executable>
  destroy(): void
}
