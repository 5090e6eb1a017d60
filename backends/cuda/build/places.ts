import { join } from 'node:path'
import { packageRoot } from '../../package_root.ts'

/** Where what is built lies: beside the package's own JavaScript. */
export const cudaDist = (): string => join(packageRoot(), 'dist', 'cuda')

/** Images and their records, by exact architecture, or `emulated`. */
export const imageFolder = (arch: string): string => join(cudaDist(), 'kernels', arch)

/** Images of generated texts, which no package carries. */
export const generatedFolder = (arch: string): string => join(cudaDist(), 'generated', arch)

export const emulatedDriver = (): string => join(cudaDist(), 'emulated', 'libcuda-emulated.so')

/** The emulated NCCL finds the emulated driver beside itself. */
export const emulatedNccl = (): string => join(cudaDist(), 'emulated', 'libnccl-emulated.so')
