import type { OpCall } from '../../../src/ops/contract.ts'
import type { Access } from '../../../src/program/program.ts'
import { elementCount, lastDim, rowCount } from '../../../src/tensor/type.ts'
import type { KernelChoice } from '../../backend.ts'
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
const reduceRows = (call: OpCall, traits: WebGpuTraits, port: string, ports: PortAccess): KernelChoice => {
  const { module, workgroup } = rowReduction(traits)
  return perRow(call, traits, port, ports, () => ({
    modules: [module],
    constants: { WORKGROUP: workgroup },
    groupsPerRow: 1,
  }))
}

export const softmax: KernelRule = (call, traits) =>
  reduceRows(call, traits, 'x', [
    ['x', 'read'],
    ['y', 'read_write'],
  ])

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
  reduceRows(call, traits, 'logits', [
    ['logits', 'read'],
    ['targets', 'read'],
    ['weights', 'read'],
    ['loss', 'write'],
    ['lse', 'write'],
  ])

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
      return { modules: [], constants: { TILES: tiles, TILE }, groupsPerRow: tiles }
    },
  )
