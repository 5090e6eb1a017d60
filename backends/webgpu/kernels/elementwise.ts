import { byteSize, elementCount, lastDim } from '../../../src/tensor/type.ts'
import type { LaunchPlan, TargetLimits } from '../../backend.ts'
import { packOf, parts } from './row.ts'
import { foldGrid, type KernelRule } from './rule.ts'

/** Lanes of a workgroup, one pack each. */
export const LANES = 64

/** Constants and grid of a kernel with one invocation per pack. */
export function flatGrid(
  packs: number,
): Pick<LaunchPlan, 'workgroups'> & { constants: { PACKS: number; GRID_X: number } } {
  const { workgroups, gridX } = foldGrid(Math.ceil(packs / LANES))
  return { workgroups, constants: { PACKS: packs, GRID_X: gridX } }
}

/** Launches of a kernel over flat ranges of 4-byte words, in parts where a binding would be too large. */
function flat(
  variant: string,
  words: number,
  limits: TargetLimits,
  ports: Readonly<Record<string, 'read' | 'write' | 'read_write'>>,
  modules: (pack: 1 | 4) => readonly string[] = () => [],
  constants: LaunchPlan['constants'] = {},
): LaunchPlan[] {
  return parts(words, limits).map(({ elements, offset, bytes }) => {
    const pack = packOf(elements)
    const grid = flatGrid(elements / pack)
    return {
      variant,
      modules: [variant, `lib/pack_${pack}`, ...modules(pack)],
      constants: { ...grid.constants, ...constants },
      workgroups: grid.workgroups,
      bindings: Object.entries(ports).map(([port, access]) => ({ port, access, offset, bytes })),
    }
  })
}

const activationModules = (name: string, pack: 1 | 4): string[] => [
  `lib/activation_pack_${pack}`,
  `lib/activation_${name}`,
  'lib/activation',
]

const unary =
  (name: string): KernelRule =>
  ({ inputs }, { limits }) => ({
    launches: flat('unary', elementCount(inputs.x!.shape), limits, { x: 'read', y: 'write' }, (pack) =>
      activationModules(name, pack),
    ),
  })

const unaryBackward =
  (name: string): KernelRule =>
  ({ inputs }, { limits }) => ({
    launches: flat(
      'binary',
      elementCount(inputs.x!.shape),
      limits,
      { dy: 'read', x: 'read', dx: 'write' },
      (pack) => ['lib/combine_activation_backward', ...activationModules(name, pack)],
    ),
  })

const binary =
  (name: string): KernelRule =>
  ({ inputs }, { limits }) => ({
    launches: flat(
      'binary',
      elementCount(inputs.a!.shape),
      limits,
      { a: 'read', b: 'read', y: 'write' },
      () => [`lib/combine_${name}`],
    ),
  })

const gated =
  (name: string, variant: 'gated' | 'gated_backward'): KernelRule =>
  ({ inputs, outputs }) => {
    const half = variant === 'gated' ? outputs.y! : inputs.dy!
    const width = lastDim(half.shape)
    const pack = packOf(width)
    const grid = flatGrid(elementCount(half.shape) / pack)
    return {
      launches: [
        {
          variant,
          modules: [variant, `lib/pack_${pack}`, ...activationModules(name, pack)],
          constants: { ...grid.constants, WIDTH_PACKS: width / pack },
          workgroups: grid.workgroups,
          bindings:
            variant === 'gated'
              ? [
                  { port: 'x', access: 'read' },
                  { port: 'y', access: 'write' },
                ]
              : [
                  { port: 'dy', access: 'read' },
                  { port: 'x', access: 'read' },
                  { port: 'dx', access: 'write' },
                ],
        },
      ],
    }
  }

export const gelu_tanh = unary('gelu_tanh')
export const gelu_tanh_backward = unaryBackward('gelu_tanh')
export const silu = unary('silu')
export const silu_backward = unaryBackward('silu')
export const swiglu = gated('silu', 'gated')
export const swiglu_backward = gated('silu', 'gated_backward')
export const geglu = gated('gelu_tanh', 'gated')
export const geglu_backward = gated('gelu_tanh', 'gated_backward')
export const add = binary('add')
export const mul = binary('mul')

export const accumulate: KernelRule = ({ inputs }, { limits }) => ({
  launches: flat('accumulate', elementCount(inputs.x!.shape), limits, {
    accumulator: 'read_write',
    x: 'read',
  }),
})

export const copy: KernelRule = ({ inputs }, { limits }) => ({
  launches: flat('copy', byteSize(inputs.x!) / 4, limits, { x: 'read', y: 'write' }),
})

/** The kernel writes words; an f32 value is given by its bits. */
export const fill: KernelRule = ({ attrs, inputs }, { limits }) => {
  const bits =
    inputs.x!.format === 'u32' ? attrs.value : new Uint32Array(Float32Array.of(attrs.value).buffer)[0]!
  return {
    launches: flat('fill', elementCount(inputs.x!.shape), limits, { x: 'write' }, undefined, { VALUE: bits }),
  }
}
