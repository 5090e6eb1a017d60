import type { OpCall } from '../../../src/ops/contract.ts'
import type { KernelChoice, LaunchPlan } from '../../backend.ts'
import { foldGrid, type KernelRule } from './rule.ts'

function perToken({ op, inputs }: OpCall, bindings: LaunchPlan['bindings']): KernelChoice {
  const [batch, length] = inputs.tokens!.shape as [number, number]
  const rows = inputs.sequence!.shape[0]!
  const { workgroups, gridX } = foldGrid(Math.ceil(rows / 64))
  return {
    launches: [
      {
        variant: op,
        modules: [op],
        constants: { ROWS: rows, BATCH: batch, LENGTH: length, GRID_X: gridX },
        workgroups,
        bindings,
      },
    ],
  }
}

export const tokens_write: KernelRule = (call) =>
  perToken(call, [
    { port: 'tokens', access: 'read_write' },
    { port: 'ids', access: 'read' },
    { port: 'sequence', access: 'read' },
    { port: 'position', access: 'read' },
  ])

export const tokens_read: KernelRule = (call) =>
  perToken(call, [
    { port: 'tokens', access: 'read' },
    { port: 'sequence', access: 'read' },
    { port: 'position', access: 'read' },
    { port: 'ids', access: 'write' },
  ])
