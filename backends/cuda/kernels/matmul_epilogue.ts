import type { OpCall } from '../../../src/ops/contract.ts'
import { lastDim, rowCount, tensorType } from '../../../src/tensor/type.ts'
import type { KernelChoice, LaunchPlan } from '../../backend.ts'
import { launch } from './rule.ts'

/** Numbers of kernels-cuda/lib/epilogue.h; those of formats are tensor maps' too. */
export const formatNumbers: Readonly<Record<string, number>> = { f32: 0, f16: 1, bf16: 2, e4m3: 3 }
const activations: Readonly<Record<string, number>> = { none: 0, gelu_tanh: 1, silu: 2 }

/** What the launch that writes y adds to the sum. */
export interface Epilogue {
  readonly bindings: LaunchPlan['bindings']
  readonly constants: Readonly<Record<string, number>>
  /** Whether y is added to, for the kernels that can: 1, else 0. */
  readonly accumulate: number
}

/** Sums as they are, in f32, for matmul_join. */
const parts: Epilogue = {
  bindings: [{ port: 'parts', as: 'y', access: 'write' }],
  constants: {
    bias_format: formatNumbers.f32!,
    activation: activations.none!,
    output_format: formatNumbers.f32!,
  },
  accumulate: 0,
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
    accumulate: 0,
  }
}

/** matmul or one of its gradients as y[r,c] = sum of `depth` products of a and b, where a has y's rows, b its columns. */
export interface Product {
  readonly a: string
  readonly b: string
  readonly rows: number
  readonly columns: number
  readonly depth: number
  readonly epilogue: Epilogue
}

const products: Readonly<Record<string, (call: OpCall) => Product>> = {
  matmul(call) {
    const { x, w } = call.inputs
    const [columns, depth] = w!.shape as readonly [number, number]
    return { a: 'x', b: 'w', rows: rowCount(x!.shape), columns, depth, epilogue: epilogue(call) }
  },
  matmul_backward_input({ inputs: { dy, w }, outputs: { dx } }) {
    const [depth, columns] = w!.shape as readonly [number, number]
    const y = {
      bindings: [{ port: 'dx', as: 'y', access: 'write' }],
      constants: { ...parts.constants, output_format: formatNumbers[dx!.format]! },
      accumulate: 0,
    } as const
    return { a: 'dy', b: 'w', rows: rowCount(dy!.shape), columns, depth, epilogue: y }
  },
  matmul_backward_weight({ attrs, inputs: { dy, x } }) {
    const [rows, columns, depth] = attrs.transposed
      ? [dy!.shape[0]!, x!.shape[0]!, lastDim(dy!.shape)]
      : [lastDim(dy!.shape), lastDim(x!.shape), rowCount(dy!.shape)]
    const y = {
      bindings: [{ port: 'accumulator', as: 'y', access: 'read_write' }],
      constants: parts.constants,
      accumulate: 1,
    } as const
    return { a: 'dy', b: 'x', rows, columns, depth, epilogue: y }
  },
}

export const productOf = (call: OpCall): Product => products[call.op]!(call)

/** Length of the ranges that a reduction is cut into for up to `wanted` of them, a multiple of `unit`. */
export const depthOfRange = (depth: number, wanted: number, unit: number): number =>
  Math.max(1, Math.ceil(depth / Math.max(1, Math.floor(wanted)) / unit)) * unit

/** Whether y is the sum as it is. */
export const isPlain = ({ bindings, constants }: Epilogue): boolean =>
  bindings.length === 1 && constants.activation === activations.none

/**
 * A product whose reduction is cut into ranges: one launch where there is one range, else one of all ranges that leaves
 * their sums to matmul_join.
 *
 * @param plan the launch for so many ranges, with bindings and constants of what it adds to its sums, and the rows that
 *   it stores of each
 * @param rowUnit of which the rows of a range's sums are to be a multiple
 */
export function inRanges(
  call: OpCall,
  range: number,
  plan: (splits: number, epilogue: Epilogue, rows: number) => LaunchPlan,
  rowUnit = 1,
): KernelChoice {
  const { rows, columns, depth, epilogue: last } = productOf(call)
  const splits = Math.ceil(depth / range)
  if (splits === 1) return { launches: [plan(1, last, rows)] }
  const partRows = Math.ceil(rows / rowUnit) * rowUnit
  const join = launch(
    'matmul_join',
    'matmul_join',
    Math.ceil((rows * columns) / 256),
    [{ port: 'parts', access: 'read' }, ...last.bindings],
    { splits, part_rows: partRows, rows, columns, ...last.constants, accumulate: last.accumulate },
  )
  return {
    scratch: { parts: tensorType('f32', splits, partRows, columns) },
    launches: [plan(splits, parts, partRows), join],
  }
}
