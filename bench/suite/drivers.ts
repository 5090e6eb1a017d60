import { existsSync } from 'node:fs'
import { dirname } from 'node:path'
import { lavapipeIcd } from '../../backends/webgpu/node/advice.ts'
import { findSwiftShaderArchive, unpackSwiftShader } from '../../backends/webgpu/node/swiftshader.ts'

export const driverNames = ['lavapipe', 'swiftshader'] as const
export type DriverName = (typeof driverNames)[number]

const systemLoaders = ['x86_64-linux-gnu', '../lib64', '.'].map(
  (folder) => `/usr/lib/${folder}/libvulkan.so.1`,
)

/**
 * Environment of a process in which everything that asks Vulkan for a device gets this driver: peers bring a Dawn or a
 * Vulkan backend of their own. A string says why the driver is not here.
 */
export function driverEnvironment(driver: DriverName): Record<string, string> | string {
  const only = (icd: string) => ({ VK_ICD_FILENAMES: icd, VK_DRIVER_FILES: icd, EXACTMAP_DRIVER: driver })
  if (driver === 'lavapipe') {
    const icd = lavapipeIcd()
    return icd ? only(icd) : 'Mesa lavapipe is not installed; `npx exactmap doctor` says how to get it'
  }
  const archive = findSwiftShaderArchive()
  if (!archive) return 'SwiftShader is not here; on linux x64 `npm ci` installs it'
  const { icd, loader } = unpackSwiftShader(archive)
  // The loader that comes with SwiftShader is older than what llama.cpp asks for: it is for systems that have none.
  if (systemLoaders.some((file) => existsSync(file))) return only(icd)
  const path = [dirname(loader), process.env.LD_LIBRARY_PATH].filter(Boolean).join(':')
  return { ...only(icd), LD_LIBRARY_PATH: path }
}
