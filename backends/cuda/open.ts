import { check, ExactmapError } from '../../src/errors.ts'
import { loadAddon } from './addon.ts'
import { generatedCubins } from './build/cubins.ts'
import { buildEmulatedDriver, EmulatedImages, generatedEmulated } from './build/emulated.ts'
import { emulatedDriver, emulatedNccl, imageFolder } from './build/places.ts'
import { chooseNccl } from './connect.ts'
import { CudaDevice } from './device.ts'
import { CubinImages } from './images.ts'
import { readCudaSources } from './library.ts'
import { type CudaTraitsFile, cudaTraits } from './target.ts'

/** The traits of an exact architecture. */
function traitsOf(capability: number, device: string): CudaTraitsFile {
  const traits = Object.values(cudaTraits).find((t) => t.capability === capability)
  if (!traits)
    throw new ExactmapError(
      'unsupported',
      `${device} has compute capability ${(capability / 10).toFixed(1)}; kernels are built for ${Object.values(
        cudaTraits,
      )
        .map((t) => `${(t.capability / 10).toFixed(1)} (${t.arch})`)
        .join(' and ')}`,
    )
  return traits
}

const versionName = (version: number): string =>
  `CUDA ${Math.floor(version / 1000)}.${Math.floor((version % 1000) / 10)}`

/**
 * Opens a CUDA GPU of this machine.
 *
 * @throws ExactmapError `no_device` without a driver or GPU, `unsupported` for an architecture without kernels
 */
export async function openCuda(index = 0): Promise<CudaDevice> {
  const addon = loadAddon()
  const { version, devices } = addon.probe()
  const found = devices[index]
  check(
    found,
    'no_device',
    `CUDA device ${index} was asked for, the driver has ${devices.length}; see nvidia-smi`,
  )
  const traits = traitsOf(found.capability, found.name)
  return new CudaDevice({
    native: addon.openDevice(index),
    traits,
    sources: readCudaSources(),
    images: new CubinImages(imageFolder(traits.arch), traits.arch),
    generated: generatedCubins(traits.arch),
    driver: versionName(version),
    findNccl: () => chooseNccl(''),
  })
}

/**
 * Opens the emulated CUDA device: the real runtime and kernels on the CPU, built with g++ as needed. Its capability is
 * that of EXACTMAP_EMULATED_CAPABILITY, 90 by default.
 *
 * @throws ExactmapError `not_found` without g++
 */
export async function openCudaEmulated(index = 0): Promise<CudaDevice> {
  const addon = loadAddon()
  await buildEmulatedDriver()
  const { devices } = addon.probe(emulatedDriver())
  const found = devices[index]
  check(
    found,
    'no_device',
    `emulated device ${index} was asked for, there are ${devices.length}; set EXACTMAP_EMULATED_DEVICES`,
  )
  return new CudaDevice({
    native: addon.openDevice(index, emulatedDriver()),
    traits: traitsOf(found.capability, found.name),
    sources: readCudaSources(),
    images: new EmulatedImages(),
    generated: generatedEmulated(),
    driver: 'emulated on the CPU',
    findNccl: () => chooseNccl(emulatedNccl()),
  })
}
