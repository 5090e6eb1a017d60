import { check } from '../../../src/errors.ts'
import type { KernelLibrary } from '../link.ts'
import { baselineTraits, type WebGpuTarget, type WebGpuTraitsFile, webGpuTarget } from '../target.ts'
import { shippedTuning } from './tuning.ts'

/** Mesa lavapipe 25.0.7 with LLVM 15 on a CPU with AVX2, as read from its adapter. */
const lavapipe: WebGpuTraitsFile = {
  name: 'webgpu-lavapipe',
  limits: {
    maxBufferSize: 2 ** 32 - 1,
    maxBindingSize: 128 * 2 ** 20,
    bindingAlignment: 256,
    maxBindings: 16,
    maxWorkgroups: 65535,
    maxInvocations: 1024,
    maxWorkgroupMemory: 32768,
  },
  features: ['subgroups', 'shader-f16', 'timestamp-query'],
  subgroupSize: 8,
}

/** SwiftShader 5.0 (Subzero), as read from its adapter. */
const swiftshader: WebGpuTraitsFile = {
  name: 'webgpu-swiftshader',
  limits: {
    maxBufferSize: 2 ** 30,
    maxBindingSize: 2 ** 30,
    bindingAlignment: 256,
    maxBindings: 12,
    maxWorkgroups: 65535,
    maxInvocations: 256,
    maxWorkgroupMemory: 32768,
  },
  features: ['subgroups', 'timestamp-query'],
  subgroupSize: 4,
}

const stored = [lavapipe, swiftshader, baselineTraits]

/**
 * Targets to compile for without a device. Named after the driver, not after what the driver calls its device
 * ('llvmpipe-llvm-15-0-6-256-bits-'): a name to type, that stays when the driver is updated.
 */
export const storedTargetNames: readonly string[] = stored.map(({ name }) => name)

/**
 * A stored target, with the tuning that comes with the package: programs are those that a device of the driver has
 * unless its user tuned it.
 *
 * @throws ExactmapError `not_found` for an unknown name
 */
export function storedTarget(name: string, library: KernelLibrary): WebGpuTarget {
  const traits = stored.find((one) => one.name === name)
  check(traits, 'not_found', `no target is named '${name}'; known: ${storedTargetNames.join(', ')}`)
  if (traits === baselineTraits) return webGpuTarget(traits, library)
  return webGpuTarget({ ...traits, tuning: shippedTuning(name.slice('webgpu-'.length)) }, library)
}
