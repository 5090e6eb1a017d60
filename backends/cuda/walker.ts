import { check, ExactmapError } from '../../src/errors.ts'
import { hashText } from '../../src/program/hash.ts'
import type { KernelRef, Launch, Program, Segment } from '../../src/program/program.ts'
import { type KernelSignature, parseSignatures, scalarBits } from './signature.ts'
import type { CudaTarget } from './target.ts'

/**
 * A segment as one persistent kernel (kernels-cuda/lib/walker.h): its text is made of the kernels that the segment
 * launches, with their constants. Order, grids and pointers are not in it: the runtime takes them from the program's
 * steps.
 */
export interface Walker {
  /** Name of the image; its text's hash is in it. */
  readonly module: string
  readonly text: string
  readonly signature: KernelSignature
  /** Indices into the program's kernels, by their number in the text. */
  readonly kernels: readonly number[]
}

/** Of segments by name. */
export type Walkers = ReadonlyMap<string, Walker>

const LIBRARY = 'lib/walker.h'
/** As in lib/walker.h. */
const [MOST_TEAMS, TEAMS_BYTES, POINTERS] = [8, 216 * 1024, 11]

/**
 * The walker of a segment.
 *
 * @throws ExactmapError `unsupported` naming the step that a walker can't take: copies, exchanges, and kernels with
 *   clusters, tensor maps or more of a block than its teams have
 */
export function walkerOf(program: Program, segment: Segment, target: CudaTarget): Walker {
  const signature = parseSignatures('walker', target.libraryText(LIBRARY))[0]!
  const used = new Set<number>()
  for (const step of segment.steps) {
    const place = { program: program.name, segment: segment.name, launch: step.name }
    const refuse = (reason: string, kernel?: string): never => {
      const message = `segment '${segment.name}' can't be one kernel: ${reason}`
      throw new ExactmapError('unsupported', message, { ...place, ...(kernel ? { kernel } : {}) })
    }
    if (step.kind !== 'launch') return refuse(`step ${step.name} is no launch`)
    const kernel = target.signature(program.kernels[step.kernel]!.name)
    const reason = refusal(step, kernel, signature.threads, target)
    if (reason) return refuse(`of ${kernel.name} ${reason}`, kernel.name)
    used.add(step.kernel)
  }
  const kernels = [...used].sort((a, b) => a - b)
  const text = walkerText(
    kernels.map((i) => program.kernels[i]!),
    target,
  )
  return { module: `walker_${hashText(text)}`, text, signature, kernels }
}

/**
 * The walkers of the segments named.
 *
 * @throws ExactmapError `not_found` for a segment that is not there; what `walkerOf` throws
 */
export const walkersOf = (program: Program, segments: readonly string[], target: CudaTarget): Walkers =>
  new Map(
    segments.map((name) => {
      const segment = program.segments.find((s) => s.name === name)
      check(segment, 'not_found', `program ${program.name} has no segment '${name}'`)
      return [name, walkerOf(program, segment, target)]
    }),
  )

/** Why a walker can't take a launch; empty where it can. */
function refusal(
  { workgroups }: Launch,
  { module, threads, cluster, shared, parameters }: KernelSignature,
  all: number,
  target: CudaTarget,
): string {
  const pointers = parameters.filter((p) => p.kind === 'pointer').length
  if (workgroups[1] !== 1 || workgroups[2] !== 1) return 'the grid has more than one dimension'
  if (threads % 32 !== 0 || all % threads !== 0)
    return `a block has ${threads} threads, which do not divide ${all}`
  if (cluster > 1) return 'blocks form clusters'
  if (parameters.some((p) => p.kind === 'tensor_map')) return 'a parameter is a tensor map'
  if (pointers > POINTERS) return `${pointers} parameters are pointers, more than ${POINTERS}`
  if (shared > TEAMS_BYTES / Math.min(MOST_TEAMS, all / threads))
    return `a block has ${shared} bytes of shared memory`
  return UNWALKED.find(([pattern]) => pattern.test(target.moduleText(module)))?.[1] ?? ''
}

/** What kernels of a file hold in registers where a walker has 128 for each thread. */
const UNWALKED: readonly (readonly [pattern: RegExp, reason: string])[] = [
  [/\bregisters_(take|give_back)</, 'warps exchange registers'],
  [/^#line 1 "kernels-cuda\/lib\/mma_tile\.h"/m, 'threads hold tiles of a product in up to 255 registers'],
]

/** Parts of a linked text, each with the name of its file. */
const partsOf = (text: string): { file: string; text: string }[] =>
  text
    .split(/^(?=#line 1 ")/m)
    .map((part) => ({ file: /^#line 1 "kernels-cuda\/(.*)"/.exec(part)?.[1] ?? '', text: part }))

const SYSTEM_INCLUDE = /^#include <.*>$/gm

/** The text of a walker of kernels with these constants. */
export function walkerText(
  kernels: readonly Pick<KernelRef, 'name' | 'constants'>[],
  target: CudaTarget,
): string {
  const includes = new Set<string>()
  const spaces = new Map<string, KernelSignature[]>()
  const spaceOf = ({ module, threads }: KernelSignature): string => `${module.replace(/\W/g, '_')}_${threads}`
  for (const kernel of kernels.map(({ name }) => target.signature(name)))
    spaces.set(spaceOf(kernel), [...(spaces.get(spaceOf(kernel)) ?? []), kernel])
  const namespaces = [...spaces].map(([name, members]) => {
    const own = partsOf(target.moduleText(members[0]!.module))
      .filter(({ file }) => file !== 'lib/kernel.h')
      .map(({ text }) => text)
      .join('')
    for (const [include] of own.matchAll(SYSTEM_INCLUDE)) includes.add(include)
    const constants = {
      BLOCK_THREADS: members[0]!.threads,
      DYNAMIC_BYTES: Math.max(...members.map((k) => k.shared)),
      SHARED_ARRAYS: Math.max(1, own.match(/\bSHARED\(\w+,/g)?.length ?? 0),
      FIRST_SHARED: '__COUNTER__',
    }
    return [
      `namespace ${name} {`,
      ...Object.entries(constants).map(([constant, value]) => `constexpr uint32_t ${constant} = ${value};`),
      own.replace(SYSTEM_INCLUDE, ''),
      `}  // namespace ${name}`,
    ].join('\n')
  })
  const cases = kernels.map(({ name, constants }, i) => {
    const kernel = target.signature(name)
    const scalars = kernel.parameters.flatMap((p) =>
      p.kind === 'scalar'
        ? [`0x${scalarBits(constants[p.name], p.type, `${name}.${p.name}`).toString(16)}u`]
        : [],
    )
    const list = [kernel.threads, `${spaceOf(kernel)}::${name}<>`, ...scalars].join(', ')
    return `    case ${i}:\n      return walker::run_blocks<${list}>();`
  })
  return [
    ...includes,
    target.libraryText(LIBRARY),
    ...namespaces,
    '#line 1 "walker"',
    'DEVICE void run_step(uint32_t kernel) {',
    '  switch (kernel) {',
    ...cases,
    '  }',
    '}',
    '',
  ].join('\n')
}
