import type { OpCall } from '../../../src/ops/contract.ts'
import type { Access } from '../../../src/program/program.ts'
import { lastDim, rowCount } from '../../../src/tensor/type.ts'
import type { KernelChoice } from '../../backend.ts'
import { packOf, rowReduction } from './row.ts'
import { foldGrid, type KernelRule, type WebGpuTraits } from './rule.ts'

type Ports = readonly (readonly [port: string, access: Access])[]

/** One workgroup per row of the last dim of `port`. */
function perRow(call: OpCall, traits: WebGpuTraits, port: string, bindings: Ports): KernelChoice {
  const { shape } = call.inputs[port]!
  const width = lastDim(shape)
  const rows = rowCount(shape)
  const { workgroups, gridX } = foldGrid(rows)
  const { module, workgroup } = rowReduction(traits)
  return {
    launches: [
      {
        variant: call.op,
        modules: [call.op, `lib/pack_${packOf(width)}`, module],
        constants: { PACKS: width / packOf(width), ROWS: rows, GRID_X: gridX, WORKGROUP: workgroup },
        workgroups,
        bindings: bindings.map(([name, access]) => ({ port: name, access })),
      },
    ],
  }
}

export const softmax: KernelRule = (call, traits) =>
  perRow(call, traits, 'x', [
    ['x', 'read'],
    ['y', 'read_write'],
  ])

export const softmax_backward: KernelRule = (call, traits) =>
  perRow(call, traits, 'y', [
    ['dy', 'read'],
    ['y', 'read'],
    ['dx', 'write'],
  ])

export const argmax: KernelRule = (call, traits) =>
  perRow(call, traits, 'x', [
    ['x', 'read'],
    ['y', 'write'],
  ])

export const cross_entropy: KernelRule = (call, traits) =>
  perRow(call, traits, 'logits', [
    ['logits', 'read'],
    ['targets', 'read'],
    ['weights', 'read'],
    ['loss', 'write'],
    ['lse', 'write'],
  ])

/** Packs of one row that a workgroup of 64 lanes makes. */
const TILE = 256

export const cross_entropy_backward: KernelRule = ({ inputs }) => {
  const [rows, width] = inputs.logits!.shape as [number, number]
  const packs = width / packOf(width)
  const tiles = Math.ceil(packs / TILE)
  const { workgroups, gridX } = foldGrid(rows * tiles)
  return {
    launches: [
      {
        variant: 'cross_entropy_backward',
        modules: ['cross_entropy_backward', `lib/pack_${packOf(width)}`],
        constants: { PACKS: packs, ROWS: rows, TILES: tiles, TILE, GRID_X: gridX },
        workgroups,
        bindings: [
          { port: 'dloss', access: 'read' },
          { port: 'logits', access: 'read' },
          { port: 'lse', access: 'read' },
          { port: 'targets', access: 'read' },
          { port: 'weights', access: 'read' },
          { port: 'dlogits', access: 'write' },
        ],
      },
    ],
  }
}
