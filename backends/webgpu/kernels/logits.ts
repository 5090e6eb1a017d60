import type { OpCall } from '../../../src/ops/contract.ts'
import type { Access } from '../../../src/program/program.ts'
import { byteSize, elementCount, lastDim, rowCount } from '../../../src/tensor/type.ts'
import type { KernelChoice } from '../../backend.ts'
import { flatGrid } from './elementwise.ts'
import { packOf, rowParts, rowReduction } from './row.ts'
import { foldGrid, type KernelRule, type WebGpuTraits } from './rule.ts'

type PortAccess = readonly (readonly [port: string, access: Access])[]

/** Launches over the rows of the matrix `port`; all tensors of the call have the same rows. */
function perRow(
  { op, inputs, outputs }: OpCall,
  { limits }: WebGpuTraits,
  port: string,
  ports: PortAccess,
  plan: (packs: number) => { modules: string[]; constants: Record<string, number>; groupsPerRow: number },
): KernelChoice {
  const { shape } = inputs[port]!
  const [rows, width] = [rowCount(shape), lastDim(shape)]
  const packs = width / packOf(width)
  const { modules, constants, groupsPerRow } = plan(packs)
  return {
    launches: rowParts(rows, width, limits).map((part) => {
      const { workgroups, gridX } = foldGrid(part.rows * groupsPerRow)
      return {
        variant: op,
        modules: [op, `lib/pack_${packOf(width)}`, ...modules],
        constants: { ...constants, PACKS: packs, ROWS: part.rows, GRID_X: gridX },
        workgroups,
        bindings: ports.map(([name, access]) =>
          part.bind(name, access, elementCount((inputs[name] ?? outputs[name])!.shape) / rows),
        ),
      }
    }),
  }
}

/** One workgroup per row. */
const reduceRows = (
  call: OpCall,
  traits: WebGpuTraits,
  port: string,
  ports: PortAccess,
  modules: readonly string[] = [],
): KernelChoice => {
  const { module, workgroup } = rowReduction(traits)
  return perRow(call, traits, port, ports, () => ({
    modules: [module, ...modules],
    constants: { WORKGROUP: workgroup },
    groupsPerRow: 1,
  }))
}

/** One pass for maximum and sum needs rows of at least four packs a lane: its rounding errors fit only long sums. */
export const softmax: KernelRule = (call, traits) => {
  const width = lastDim(call.inputs.x!.shape)
  const long = width % 4 === 0 && width >= 16 * rowReduction(traits).workgroup
  const ports = [
    ['x', 'read'],
    ['y', 'write'],
  ] as const
  return reduceRows(call, traits, 'x', ports, [long ? 'lib/exp_sum_online' : 'lib/exp_sum_passes'])
}

export const softmax_backward: KernelRule = (call, traits) =>
  reduceRows(call, traits, 'y', [
    ['dy', 'read'],
    ['y', 'read'],
    ['dx', 'write'],
  ])

export const argmax: KernelRule = (call, traits) =>
  reduceRows(call, traits, 'x', [
    ['x', 'read'],
    ['y', 'write'],
  ])

export const cross_entropy: KernelRule = (call, traits) =>
  reduceRows(
    call,
    traits,
    'logits',
    [
      ['logits', 'read'],
      ['targets', 'read'],
      ['weights', 'read'],
      ['loss', 'write'],
      ['lse', 'write'],
    ],
    ['lib/row_logits'],
  )

/** The two rows of `parts` do not start aligned in a part of the rows: every launch binds both and says where it is. */
export const cross_entropy_shard: KernelRule = (call, traits) => {
  const [rows, width] = call.inputs.logits!.shape as [number, number]
  const { module, workgroup } = rowReduction(traits)
  return {
    launches: rowParts(rows, width, traits.limits).map((part) => {
      const { workgroups, gridX } = foldGrid(part.rows)
      return {
        variant: 'cross_entropy_shard',
        modules: ['cross_entropy_shard', `lib/pack_${packOf(width)}`, module, 'lib/row_logits'],
        constants: {
          PACKS: width / packOf(width),
          ROWS: part.rows,
          FIRST: part.first,
          ALL_ROWS: rows,
          FIRST_TARGET: call.attrs.first ?? 0,
          GRID_X: gridX,
          WORKGROUP: workgroup,
        },
        workgroups,
        bindings: [
          part.bind('logits', 'read', width),
          part.bind('targets', 'read', 1),
          { port: 'parts', access: 'write' },
        ],
      }
    }),
  }
}

export const cross_entropy_join: KernelRule = ({ inputs }, { limits }) => {
  const bytes = byteSize(inputs.parts!)
  if (bytes > limits.maxBindingSize)
    return {
      unsupported: `its parts of ${bytes} bytes exceed the largest binding, ${limits.maxBindingSize} bytes; take fewer rows at once`,
    }
  const [parts, , rows] = inputs.parts!.shape as [number, number, number]
  const grid = flatGrid(rows / packOf(rows))
  return {
    launches: [
      {
        variant: 'cross_entropy_join',
        modules: ['cross_entropy_join', `lib/pack_${packOf(rows)}`],
        constants: { ...grid.constants, PARTS: parts },
        workgroups: grid.workgroups,
        bindings: [
          { port: 'parts', access: 'read' },
          { port: 'weights', access: 'read' },
          { port: 'loss', access: 'write' },
          { port: 'lse', access: 'write' },
        ],
      },
    ],
  }
}

/** Packs of one row that a workgroup of 64 lanes makes. */
const TILE = 256

export const cross_entropy_backward: KernelRule = (call, traits) =>
  perRow(
    call,
    traits,
    'logits',
    [
      ['dloss', 'read'],
      ['logits', 'read'],
      ['lse', 'read'],
      ['targets', 'read'],
      ['weights', 'read'],
      ['dlogits', 'write'],
    ],
    (packs) => {
      const tiles = Math.ceil(packs / TILE)
      const constants = { TILES: tiles, TILE, FIRST_TARGET: call.attrs.first ?? 0 }
      return { modules: [], constants, groupsPerRow: tiles }
    },
  )
