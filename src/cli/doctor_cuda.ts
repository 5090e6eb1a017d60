import { existsSync } from 'node:fs'
import { knownVersion } from '../../backends/build/tools.ts'
import { addonFile, loadAddon } from '../../backends/cuda/addon.ts'
import { emulatedDriver, imageFolder } from '../../backends/cuda/build/places.ts'
import { cudaTraits } from '../../backends/cuda/target.ts'
import { ExactmapError } from '../errors.ts'

/** What this machine has for CUDA. */
export interface CudaReport {
  /** Whether the addon is built. */
  readonly addon: boolean
  /** CUDA version of the driver times 1000; absent without one. */
  readonly driver?: number
  readonly devices: readonly {
    readonly name: string
    readonly memory: number
    /** Exact architecture; absent where no kernels are written for it. */
    readonly arch?: string
    /** Whether kernels of that architecture are built here. */
    readonly kernels: boolean
  }[]
  /** Why there are no devices. */
  readonly problem?: string
  /** Compilers: of cubins, and of the emulated device. */
  readonly nvcc: boolean
  readonly gxx: boolean
  readonly emulated: boolean
}

export async function examineCuda(): Promise<CudaReport> {
  const tools = {
    nvcc: (await knownVersion('nvcc')) !== undefined,
    gxx: (await knownVersion('g++')) !== undefined,
    emulated: existsSync(emulatedDriver()),
  }
  const addon = existsSync(addonFile())
  try {
    const { version, devices } = loadAddon().probe()
    return {
      addon,
      driver: version,
      devices: devices.map(({ name, memory, capability }) => {
        const traits = Object.values(cudaTraits).find((t) => t.capability === capability)
        return {
          name,
          memory,
          ...(traits ? { arch: traits.arch } : {}),
          kernels: traits !== undefined && existsSync(imageFolder(traits.arch)),
        }
      }),
      ...tools,
    }
  } catch (error) {
    if (!(error instanceof ExactmapError)) throw error
    return { addon, devices: [], problem: error.message, ...tools }
  }
}

/** Lines of the report for people. */
export function cudaLines({ devices, problem, nvcc, gxx, emulated }: CudaReport): string[] {
  const found = devices.map(({ name, memory, arch, kernels }) => {
    const size = `${Math.round(memory / 2 ** 30)} GiB`
    if (!arch) return `${name}, ${size}: no kernels are written for its architecture`
    return `${name}, ${size}, ${arch}: ${kernels ? 'kernels built' : `run npx exactmap build cuda --arch ${arch}`}`
  })
  const compilers = [...(nvcc ? ['nvcc'] : []), ...(gxx ? ['g++'] : [])]
  return [
    `cuda       ${found.join('\n           ') || (problem ?? 'the driver has no device')}`,
    `           compilers: ${compilers.join(', ') || 'none'}; emulated device: ${emulated ? 'built' : 'not built (npx exactmap build cuda --emulated)'}`,
  ]
}
