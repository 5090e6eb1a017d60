import type { LaunchPlan } from '../../backend.ts'
import { launchThreads } from './flat.ts'
import type { KernelRule } from './rule.ts'

const perToken =
  (bindings: LaunchPlan['bindings']): KernelRule =>
  ({ op, inputs }) => {
    const [batch, length] = inputs.tokens!.shape as [number, number]
    const rows = inputs.sequence!.shape[0]!
    return { launches: [launchThreads('tokens', op, rows, bindings, { rows, batch, length })] }
  }

export const tokens_write = perToken([
  { port: 'tokens', access: 'read_write' },
  { port: 'ids', access: 'read' },
  { port: 'sequence', access: 'read' },
  { port: 'position', access: 'read' },
])

export const tokens_read = perToken([
  { port: 'tokens', access: 'read' },
  { port: 'sequence', access: 'read' },
  { port: 'position', access: 'read' },
  { port: 'ids', access: 'write' },
])
