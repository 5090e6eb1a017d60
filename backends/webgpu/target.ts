import type { OpCall } from '../../src/ops/contract.ts'
import type { Target, TargetLimits } from '../backend.ts'
import { KernelRules } from '../kernel_rules.ts'
import { kernelRules } from './kernels/index.ts'
import type { KernelRule } from './kernels/rule.ts'
import { type KernelLibrary, link, sourceLine } from './link.ts'

/** What a WebGPU adapter offers, as plain data. */
export interface WebGpuTraitsFile {
  readonly name: string
  readonly limits: TargetLimits
  readonly features: readonly string[]
  readonly subgroupSize: number
}

const rules = new KernelRules<KernelRule>('WebGPU', kernelRules, 'registerWebGpuKernel')

/** Gives a registered op (see registerOp) its WebGPU kernel: a rule and the text of its own WGSL modules. */
export function registerWebGpuKernel(
  op: string,
  rule: KernelRule,
  modules: Readonly<Record<string, string>>,
): void {
  rules.add(op, rule, modules)
}

export interface WebGpuTarget extends Target {
  /** File and line of the kernel library behind a line of a linked kernel; for compilers' messages. */
  source(modules: readonly string[], linked: string, line: number): string
}

/** The target of an adapter (or of a stored traits file): kernel choice and linking need nothing else. */
export function webGpuTarget(traits: WebGpuTraitsFile, library: KernelLibrary): WebGpuTarget {
  const features = new Set(traits.features)
  const allModules = (): KernelLibrary => rules.withTexts(library)
  return {
    ...traits,
    backend: 'webgpu',
    choose: (call: OpCall) =>
      rules.rule(call.op)(call, { limits: traits.limits, features, subgroupSize: traits.subgroupSize }),
    link: ({ modules, constants }) => link(allModules(), modules, constants),
    files: ({ modules }) => modules,
    source: (modules, linked, line) => sourceLine(allModules(), modules, linked, line),
  }
}

/** WebGPU's default limits and no optional feature: what every adapter has. */
export const baselineTraits: WebGpuTraitsFile = {
  name: 'webgpu-baseline',
  limits: {
    maxBufferSize: 256 * 2 ** 20,
    maxBindingSize: 128 * 2 ** 20,
    bindingAlignment: 256,
    maxBindings: 8,
    maxWorkgroups: 65535,
    maxInvocations: 256,
    maxWorkgroupMemory: 16384,
  },
  features: [],
  subgroupSize: 1,
}

/** Mesa lavapipe 25.0.7 with LLVM 15 on a CPU with AVX2, as read from its adapter. */
const lavapipeTraits: WebGpuTraitsFile = {
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
const swiftshaderTraits: WebGpuTraitsFile = {
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

/**
 * Targets to compile for without a device. Named after the driver, not after what the driver calls its device
 * ('llvmpipe-llvm-15-0-6-256-bits-'): a name to type, that stays when the driver is updated.
 */
export const webGpuTraits: Readonly<Record<string, WebGpuTraitsFile>> = Object.fromEntries(
  [lavapipeTraits, swiftshaderTraits, baselineTraits].map((traits) => [traits.name, traits]),
)
