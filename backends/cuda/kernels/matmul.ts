import type { OpCall } from '../../../src/ops/contract.ts'
import { lastDim, rowCount, tensorType } from '../../../src/tensor/type.ts'
import type { LaunchPlan } from '../../backend.ts'
import { type CudaTraits, type KernelRule, launch } from './rule.ts'

/** Numbers of kernels-cuda/lib/epilogue.h. */
const formats: Readonly<Record<string, number>> = { f32: 0, f16: 1, bf16: 2 }
const activations: Readonly<Record<string, number>> = { none: 0, gelu_tanh: 1, silu: 2 }

/** Up to so many rows the weights' way from memory is all that counts. */
const VECTOR_ROWS = 4
/** Columns of a block of matmul_vector, and rows and columns of a tile of kernels-cuda/lib/mma_tile.h. */
const VECTOR_COLUMNS = 4
const MMA_TILE = 64

interface Epilogue {
  readonly bindings: LaunchPlan['bindings']
  readonly constants: Readonly<Record<string, number>>
}

/** Of a launch that stores sums as they are, in f32. */
const noEpilogue = { bias_format: formats.f32!, activation: activations.none!, output_format: formats.f32! }

/** What the launch that writes y adds to the sum. */
function epilogue({ attrs, inputs, outputs }: OpCall): Epilogue {
  const ports = ['bias', 'residual'].filter((port) => inputs[port])
  return {
    bindings: [...ports.map((port) => ({ port, access: 'read' }) as const), { port: 'y', access: 'write' }],
    constants: {
      bias_format: formats[inputs.bias?.format ?? 'f32']!,
      activation: activations[attrs.activation]!,
      output_format: formats[outputs.y!.format]!,
    },
  }
}

/** Few rows: matmul_vector. More, and rows that are not a multiple of four elements: matmul_mma. */
export const matmul: KernelRule = (call, traits) => {
  const { x, w } = call.inputs
  const rows = rowCount(x!.shape)
  const [columns, depth] = w!.shape as readonly [number, number]
  const operands = [
    { port: 'x', access: 'read' },
    { port: 'w', access: 'read' },
  ] as const
  const { bindings, constants } = epilogue(call)
  const operandFormats = x!.format === 'f32' ? w!.format : `${w!.format}_x16`
  if (rows <= VECTOR_ROWS && depth % 4 === 0)
    return {
      launches: [
        launch(
          'matmul_vector',
          `matmul_vector_${operandFormats}`,
          Math.ceil(columns / VECTOR_COLUMNS),
          [...operands, ...bindings],
          { rows, columns, depth, ...constants },
        ),
      ],
    }
  const { splits, depthOfSplit } = splitDepth(depth, tiles(rows, columns), traits)
  const whole = splits === 1
  const product = launch(
    'matmul_mma',
    `matmul_mma_${operandFormats}`,
    tiles(rows, columns) * splits,
    [...operands, ...(whole ? bindings : [{ port: 'parts', as: 'y', access: 'write' } as const])],
    {
      rows,
      columns,
      depth,
      ...(whole ? constants : noEpilogue),
      splits,
      split_depth: depthOfSplit,
    },
  )
  if (whole) return { launches: [product] }
  const join = launch(
    'matmul_join',
    'matmul_join',
    Math.ceil((rows * columns) / 256),
    [{ port: 'parts', access: 'read' }, ...bindings],
    { splits, rows, columns, ...constants },
  )
  return { scratch: { parts: tensorType('f32', splits, rows, columns) }, launches: [product, join] }
}

const tiles = (rows: number, columns: number): number =>
  Math.ceil(rows / MMA_TILE) * Math.ceil(columns / MMA_TILE)

/**
 * Ranges of a reduction, each a multiple of 128 long, for about four blocks per multiprocessor. Shorter ranges would
 * cost more in parts written and read than they gain.
 */
function splitDepth(
  depth: number,
  count: number,
  { multiprocessors }: CudaTraits,
): { splits: number; depthOfSplit: number } {
  const wanted = Math.max(1, Math.floor((4 * multiprocessors) / count))
  const depthOfSplit = Math.max(1, Math.ceil(depth / wanted / 128)) * 128
  return { splits: Math.ceil(depth / depthOfSplit), depthOfSplit }
}

export const matmul_backward_input: KernelRule = ({ inputs }) => {
  const rows = rowCount(inputs.dy!.shape)
  const [width, depth] = inputs.w!.shape as readonly [number, number]
  return {
    launches: [
      launch(
        'matmul_backward',
        `matmul_backward_input_${inputs.w!.format}`,
        tiles(rows, depth),
        [
          { port: 'dy', access: 'read' },
          { port: 'w', access: 'read' },
          { port: 'dx', access: 'write' },
        ],
        { rows, width, depth },
      ),
    ],
  }
}

export const matmul_backward_weight: KernelRule = ({ inputs }) => {
  const rows = rowCount(inputs.dy!.shape)
  const width = lastDim(inputs.dy!.shape)
  const depth = lastDim(inputs.x!.shape)
  return {
    launches: [
      launch(
        'matmul_backward',
        'matmul_backward_weight',
        tiles(width, depth),
        [
          { port: 'dy', access: 'read' },
          { port: 'x', access: 'read' },
          { port: 'accumulator', access: 'read_write' },
        ],
        { rows, width, depth },
      ),
    ],
  }
}
