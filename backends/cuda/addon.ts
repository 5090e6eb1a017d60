import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { type ErrorCode, ExactmapError } from '../../src/errors.ts'
import type { Members } from '../../src/program/exchange.ts'
import { packageRoot } from '../package_root.ts'

/**
 * What addon/ exports: the C runtime (runtime/exactmap.h) as JavaScript objects. All work of a device is done in the
 * order of the calls; what returns a promise has been submitted when it returns. Failures are ExactmapErrors, with the
 * place in the program where it is known. Destroying twice is fine; using what was destroyed is `invalid_argument`.
 */
export interface CudaAddon {
  /** @throws ExactmapError `no_device` without a driver, `unsupported` with one that is too old */
  probe(driver?: string): CudaProbe
  /** @param driver path of the driver library, by default libcuda.so.1 */
  openDevice(index: number, driver?: string): NativeDevice
  /**
   * Version of an NCCL library, e.g. 22703 for 2.27.3.
   *
   * @param nccl path of the library, by default libnccl.so.2
   * @throws ExactmapError `not_found` without one, `unsupported` for one that is too old
   */
  probeNccl(nccl?: string): number
  /** What member 0 of a group makes for each channel, 128 bytes. */
  makeNcclId(nccl?: string): Uint8Array
}

export interface CudaProbe {
  /** 1000 times the major version of CUDA plus 10 times the minor. */
  readonly version: number
  readonly emulated: boolean
  readonly devices: readonly {
    readonly name: string
    /** Compute capability times ten. */
    readonly capability: number
    readonly memory: number
    readonly multiprocessors: number
  }[]
}

/** After `device_lost` every call fails with the first cause; destroy the device, then it can be opened anew. */
export interface NativeDevice {
  readonly name: string
  readonly capability: number
  readonly emulated: boolean
  /** Replaces an image of that name for programs loaded later. */
  loadModule(name: string, image: Uint8Array): void
  createArena(kind: string, bytes: number, zeroed: boolean): NativeArena
  /**
   * Resolves when all members of the group have connected with the same id.
   *
   * @param nccl path of the library, '' for libnccl.so.2
   * @param seconds how long to wait for them, here and where they load programs
   */
  createCommunicator(
    nccl: string,
    group: string,
    channel: number,
    member: number,
    size: number,
    id: Uint8Array,
    seconds: number,
  ): Promise<NativeCommunicator>
  /**
   * @param arenas in the program's order
   * @param rank for a program with exchanges
   */
  loadProgram(file: Uint8Array, arenas: readonly NativeArena[], rank?: NativeRank): Promise<NativeProgram>
  memory(): { free: number; total: number }
  /** Resolves when everything submitted so far is done. */
  finished(): Promise<void>
  /** Frees everything on the device, arenas and programs included. */
  destroy(): void
}

/** One channel of a group; programs that use it hold it, and the device ends it. */
export interface NativeCommunicator {
  readonly [native]: true
}
declare const native: unique symbol

export interface NativeRank {
  readonly members: Members
  /** Absent where the host carries the messages. */
  readonly communicators?: readonly NativeCommunicator[]
}

export interface NativeArena {
  /** Takes the bytes before it returns. */
  write(offset: number, bytes: Uint8Array): void
  /** The bytes as the work submitted so far leaves them. */
  read(offset: number, bytes: number): Promise<Uint8Array>
  /** Reads the file meanwhile; what it writes is there when the promise resolves, and not before. */
  writeFile(offset: number, path: string, fileOffset: number, bytes: number): Promise<void>
  fill(byte: number): void
  destroy(): void
}

export interface NativeProgram {
  /** @param inputs bytes that go to `inputOffset` of the arena step_input; none are written when it is empty */
  run(segment: number, slot: number, inputOffset: number, inputs: Uint8Array): void
  /** Resolves to the outputs one after the other, each padded to a multiple of 8 bytes. */
  step(segment: number, slot: number, inputOffset: number, inputs: Uint8Array): Promise<Uint8Array>
  runSteps(segment: number, first: number, count: number, times: number): void
  /** Makes one graph of the list; returns its handle. */
  schedule(entries: readonly (readonly [segment: number, slot: number])[]): number
  runSchedule(handle: number, inputOffset: number, inputs: Uint8Array): void
  destroy(): void
}

interface NativeFailure {
  readonly code: ErrorCode
  readonly message: string
  readonly program?: string
  readonly segment?: string
  readonly launch?: string
  readonly kernel?: string
  /** The driver function that failed, and its error. */
  readonly call?: string
  readonly cudaName?: string
  readonly cudaError?: number
}

interface NativeExports extends CudaAddon {
  setErrorFactory(make: (failure: NativeFailure) => Error): void
}

let loaded: CudaAddon | undefined

export const addonFile = (): string => join(packageRoot(), 'dist', 'cuda', 'exactmap.node')

/**
 * Loads the addon; needs no CUDA driver.
 *
 * @throws ExactmapError `no_device` where it is not built or can't be loaded
 */
export function loadAddon(): CudaAddon {
  if (loaded) return loaded
  const file = addonFile()
  if (!existsSync(file))
    throw new ExactmapError('no_device', 'the CUDA addon is not built; run npx exactmap build cuda', { file })
  let native: NativeExports
  try {
    native = createRequire(import.meta.url)(file) as NativeExports
  } catch (cause) {
    throw new ExactmapError(
      'no_device',
      `the CUDA addon can't be loaded: ${(cause as Error).message}; run npx exactmap build cuda`,
      { file },
      { cause },
    )
  }
  native.setErrorFactory(({ code, message, program, segment, launch, kernel }) => {
    const known = Object.entries({ program, segment, launch, kernel }).filter(
      ([, name]) => name !== undefined,
    )
    return new ExactmapError(code, message, Object.fromEntries(known))
  })
  loaded = native
  return native
}
