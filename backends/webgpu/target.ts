import type { OpCall } from '../../src/ops/contract.ts'
import type { Target, TargetLimits } from '../backend.ts'
import type { Decision, Tuning } from './kernels/parameter.ts'
import { rules } from './kernels/registry.ts'
import type { KernelRule, WebGpuTraits } from './kernels/rule.ts'
import { type KernelLibrary, link, sourceLine } from './link.ts'
import { type TunedChoice, tuningOf } from './tuning.ts'

/** What a WebGPU adapter offers, as plain data. */
export interface WebGpuTraitsFile {
  readonly name: string
  readonly limits: TargetLimits
  readonly features: readonly string[]
  readonly subgroupSize: number
  /** What was measured on it; without, kernels are chosen by heuristics. */
  readonly tuning?: { readonly entries: readonly TunedChoice[] }
}

/** Gives a registered op (see registerOp) its WebGPU kernel: a rule and the text of its own WGSL modules. */
export function registerWebGpuKernel(
  op: string,
  rule: KernelRule,
  modules: Readonly<Record<string, string>>,
): void {
  rules.add(op, rule, modules)
}

export interface WebGpuTarget extends Target {
  readonly tuning?: WebGpuTraitsFile['tuning']
  /** Where the kernel rule of a call has a choice. */
  decisions(call: OpCall): readonly Decision[]
  /** File and line of the kernel library behind a line of a linked kernel; for compilers' messages. */
  source(modules: readonly string[], linked: string, line: number): string
}

/** The target of an adapter (or of a stored traits file): kernel choice and linking need nothing else. */
export function webGpuTarget(traits: WebGpuTraitsFile, library: KernelLibrary): WebGpuTarget {
  const seen: WebGpuTraits = {
    limits: traits.limits,
    features: new Set(traits.features),
    subgroupSize: traits.subgroupSize,
    ...(traits.tuning ? { tuning: tuningOf(traits.tuning.entries) } : {}),
  }
  const allModules = (): KernelLibrary => rules.withTexts(library)
  return {
    ...traits,
    backend: 'webgpu',
    choose: (call: OpCall) => rules.rule(call.op)(call, seen),
    decisions: (call) => {
      const asked: Decision[] = []
      const tuning: Tuning = (decision) => {
        asked.push(decision)
        return seen.tuning?.(decision) ?? {}
      }
      rules.rule(call.op)(call, { ...seen, tuning })
      return asked
    },
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
