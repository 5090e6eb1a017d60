import { check, ExactmapError } from '../../src/errors.ts'
import type { OpCall } from '../../src/ops/contract.ts'
import type { KernelChoice, KernelText, LaunchPlan, Target } from '../backend.ts'
import { KernelRules } from '../kernel_rules.ts'
import { kernelRules } from './kernels/index.ts'
import type { CudaTraits, KernelRule } from './kernels/rule.ts'
import { PORTABLE, type VariantTuning } from './kernels/variant.ts'
import { constantNames, type KernelSignature, parseSignatures } from './signature.ts'
import { cudaTuningFiles, tuningOf } from './tuning.ts'

/** Files of kernels-cuda by path relative to it: `norm.cu`, `lib/kernel.h`. */
export type CudaSources = ReadonlyMap<string, string>

/** What a GPU offers, as plain data. */
export interface CudaTraitsFile extends CudaTraits {
  readonly name: string
  /** Compute capability times ten, as the driver reports it. */
  readonly capability: number
}

/** The GPU that a tuning file is of, as a target. */
const tunedFor = (file: string, capability: number): CudaTraitsFile => {
  const { arch, multiprocessors, entries } = cudaTuningFiles[file]!
  return { name: `cuda-${arch}`, arch, capability, multiprocessors, tuning: tuningOf(entries) }
}

/** Targets to compile for; each runs only cubins of its exact architecture. */
export const cudaTraits: Readonly<Record<string, CudaTraitsFile>> = {
  'cuda-sm_90a': tunedFor('h200', 90),
  'cuda-sm_103a': tunedFor('gb300', 103),
}

const rules = new KernelRules<KernelRule>('CUDA', kernelRules, 'registerCudaKernel')

/** Gives a registered op (see registerOp) its CUDA kernel: a rule and the text of its own `.cu` files by file name. */
export function registerCudaKernel(
  op: string,
  rule: KernelRule,
  sources: Readonly<Record<string, string>>,
): void {
  rules.add(op, rule, sources)
}

export interface CudaTarget extends Target {
  readonly arch: string
  /** Files that declare kernels for the architecture, without `.cu`; those of registered ops too. */
  modules(): string[]
  /** Names of the kernels a module declares. */
  kernels(module: string): string[]
  /** @throws ExactmapError `not_found` */
  signature(kernel: string): KernelSignature
  variants(call: OpCall): readonly string[]
  withVariant(name: string): CudaTarget
  /** A module's text with everything of the library it includes: all that its image is built from. */
  moduleText(module: string): string
  /** A file of the library, such as `lib/walker.h`, with what it includes. */
  libraryText(file: string): string
}

/** Kernel sources with what was read from them. */
interface SourceIndex {
  readonly signatures: ReadonlyMap<string, KernelSignature>
  linked(module: string): LinkedModule
  libraryText(file: string): string
}

/** `<family>.<arch>.cu` uses instructions that only this architecture has. */
const ofOneArch = /\.(sm_\w+)\.cu$/

function indexSources(library: CudaSources, arch: string): SourceIndex {
  const sources = new Map(
    [...rules.withTexts(library)].filter(([file]) => (ofOneArch.exec(file)?.[1] ?? arch) === arch),
  )
  const signatures = new Map<string, KernelSignature>()
  for (const [file, text] of sources)
    if (file.endsWith('.cu'))
      for (const one of parseSignatures(file.slice(0, -'.cu'.length), text)) {
        const other = signatures.get(one.name)
        check(!other, 'kernel_compile', () => `${one.name} is declared in ${other!.module}.cu and ${file}`)
        signatures.set(one.name, one)
      }
  const modules = new Map<string, LinkedModule>()
  return {
    signatures,
    linked(module) {
      const known = modules.get(module) ?? withIncludes(sources, `${module}.cu`)
      modules.set(module, known)
      return known
    },
    libraryText: (file) => withIncludes(sources, file).text,
  }
}

/** The target of a kind of GPU: kernel choice, signatures and texts need no device and no compiler. */
export function cudaTarget(traits: CudaTraitsFile, library: CudaSources): CudaTarget {
  let index = indexSources(library, traits.arch)
  let registered = rules.count
  /** With the kernels that were registered since. */
  const current = (): SourceIndex => {
    if (registered !== rules.count) {
      index = indexSources(library, traits.arch)
      registered = rules.count
    }
    return index
  }
  const signature = (kernel: string): KernelSignature => {
    const found = current().signatures.get(kernel)
    if (!found)
      throw new ExactmapError('not_found', `kernels-cuda declares no kernel '${kernel}'`, { kernel })
    return found
  }
  const chosen = (call: OpCall, tuning: VariantTuning | undefined): KernelChoice =>
    rules.rule(call.op)(call, { ...traits, ...(tuning ? { tuning } : {}) })
  const tuned = (tuning: VariantTuning | undefined): CudaTarget => ({
    name: traits.name,
    backend: 'cuda',
    arch: traits.arch,
    limits: {
      maxBufferSize: 2 ** 46,
      maxBindingSize: 2 ** 46,
      bindingAlignment: 256,
      maxBindings: 64,
      maxWorkgroups: 2 ** 31 - 1,
      maxInvocations: 1024,
      maxWorkgroupMemory: 48 * 1024,
    },
    features: [traits.arch],
    subgroupSize: 32,
    modules: () => [...new Set([...current().signatures.values()].map((s) => s.module))],
    kernels: (module) =>
      [...current().signatures.values()].filter((s) => s.module === module).map((s) => s.name),
    signature,
    moduleText: (module) => current().linked(module).text,
    libraryText: (file) => current().libraryText(file),
    files: ({ modules }) => modules.flatMap((module) => current().linked(module).files),
    choose(call: OpCall): KernelChoice {
      const choice = chosen(call, tuning)
      if ('launches' in choice)
        for (const plan of choice.launches) {
          const kernel = signature(plan.variant)
          checkBindings(plan, kernel)
          check(
            plan.workgroups[0] % kernel.cluster === 0,
            'internal',
            () =>
              `kernel ${kernel.name} has clusters of ${kernel.cluster} blocks, the grid ${plan.workgroups[0]}`,
          )
        }
      return choice
    },
    variants(call: OpCall): readonly string[] {
      const names = new Set<string>()
      chosen(call, (_, variants) => {
        for (const { name } of variants) names.add(name)
        return undefined
      })
      return names.size > 0 ? [PORTABLE, ...names] : []
    },
    withVariant: (name) => tuned((_, variants) => variants.find((variant) => variant.name === name)?.name),
    link({ name, modules, constants }: KernelText): string {
      const { module } = signature(name)
      check(
        modules.length === 1 && modules[0] === module,
        'internal',
        `kernel ${name} is in ${module}.cu, not in ${modules.join(', ')}`,
      )
      checkNames(`constants of kernel ${name}`, constantNames(signature(name)), Object.keys(constants))
      return current().linked(module).text
    },
  })
  return tuned(traits.tuning)
}

/** Every tensor map and pointer that may not be null must be bound, and nothing else. */
function checkBindings(plan: LaunchPlan, { name, parameters }: KernelSignature): void {
  const bound = plan.bindings.map((b) => b.as ?? b.port)
  const needed = parameters
    .filter(
      (p) => p.kind === 'tensor_map' || (p.kind === 'pointer' && (!p.optional || bound.includes(p.name))),
    )
    .map((p) => p.name)
  checkNames(`pointers of kernel ${name}`, needed, bound)
}

function checkNames(what: string, want: readonly string[], got: readonly string[]): void {
  const [a, b] = [[...want].sort().join(', '), [...got].sort().join(', ')]
  check(a === b, 'internal', () => `${what} are ${a || 'none'}; the rule gives ${b || 'none'}`)
}

interface LinkedModule {
  readonly text: string
  /** Names of the files in it. */
  readonly files: readonly string[]
}

/** A file after the library files it includes, each once, as one text; compilers' messages keep file and line. */
function withIncludes(sources: CudaSources, file: string): LinkedModule {
  const seen = new Set<string>()
  const parts: string[] = []
  const visit = (path: string): void => {
    if (seen.has(path)) return
    seen.add(path)
    const text = sources.get(path)
    if (text === undefined) throw new ExactmapError('not_found', `kernels-cuda has no file '${path}'`)
    const own = text
      .replace(/^#include "([^"]+)".*$/gm, (line, included: string) => {
        const found = [`lib/${included}`, included].find((name) => sources.has(name))
        // The emulation's header comes with the compiler that has it.
        if (!found) return line
        visit(found)
        return ''
      })
      .replace(/^#pragma once$/gm, '')
    parts.push(`#line 1 "kernels-cuda/${path}"\n${own}`)
  }
  visit(file)
  return { text: parts.join('\n'), files: [...seen] }
}
