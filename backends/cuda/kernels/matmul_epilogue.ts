import type { OpCall } from '../../../src/ops/contract.ts'
import { rowCount, tensorType } from '../../../src/tensor/type.ts'
import type { KernelChoice, LaunchPlan } from '../../backend.ts'
import { launch } from './rule.ts'

/** Numbers of kernels-cuda/lib/epilogue.h; those of formats are tensor maps' too. */
export const formatNumbers: Readonly<Record<string, number>> = { f32: 0, f16: 1, bf16: 2, e4m3: 3 }
const activations: Readonly<Record<string, number>> = { none: 0, gelu_tanh: 1, silu: 2 }

/** What the launch that writes y adds to the sum. */
export interface Epilogue {
  readonly bindings: LaunchPlan['bindings']
  readonly constants: Readonly<Record<string, number>>
}

/** Sums as they are, in f32, for matmul_join. */
const parts: Epilogue = {
  bindings: [{ port: 'parts', as: 'y', access: 'write' }],
  constants: {
    bias_format: formatNumbers.f32!,
    activation: activations.none!,
    output_format: formatNumbers.f32!,
  },
}

export function epilogue({ attrs, inputs, outputs }: OpCall): Epilogue {
  const ports = ['bias', 'residual'].filter((port) => inputs[port])
  return {
    bindings: [...ports.map((port) => ({ port, access: 'read' }) as const), { port: 'y', access: 'write' }],
    constants: {
      bias_format: formatNumbers[inputs.bias?.format ?? 'f32']!,
      activation: activations[attrs.activation]!,
      output_format: formatNumbers[outputs.y!.format]!,
    },
  }
}

/** Length of the ranges that a reduction is cut into for up to `wanted` of them, a multiple of `unit`. */
export const depthOfRange = (depth: number, wanted: number, unit: number): number =>
  Math.max(1, Math.ceil(depth / Math.max(1, Math.floor(wanted)) / unit)) * unit

/**
 * A matmul whose reduction is cut into ranges: one launch where there is one range, else one of all ranges that leaves
 * their sums to matmul_join.
 *
 * @param product the launch for so many ranges, with bindings and constants of what it adds to its sums
 */
export function inRanges(
  call: OpCall,
  range: number,
  product: (splits: number, epilogue: Epilogue) => LaunchPlan,
): KernelChoice {
  const rows = rowCount(call.inputs.x!.shape)
  const [columns, depth] = call.inputs.w!.shape as readonly [number, number]
  const splits = Math.ceil(depth / range)
  const last = epilogue(call)
  if (splits === 1) return { launches: [product(1, last)] }
  const join = launch(
    'matmul_join',
    'matmul_join',
    Math.ceil((rows * columns) / 256),
    [{ port: 'parts', access: 'read' }, ...last.bindings],
    { splits, rows, columns, ...last.constants },
  )
  return {
    scratch: { parts: tensorType('f32', splits, rows, columns) },
    launches: [product(splits, parts), join],
  }
}
