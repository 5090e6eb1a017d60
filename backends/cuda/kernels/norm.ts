import { lastDim, rowCount, type TensorType, tensorType } from '../../../src/tensor/type.ts'
import type { LaunchPlan } from '../../backend.ts'
import { formatNumber } from './flat.ts'
import { rowTeams } from './row.ts'
import { type KernelRule, launch } from './rule.ts'

type Norm = 'rms_norm' | 'layer_norm'

/** A kernel over the rows of x. */
function perRow(
  module: 'norm' | 'norm_backward',
  kernel: string,
  x: TensorType,
  eps: number,
  bindings: LaunchPlan['bindings'],
  more: Readonly<Record<string, number>> = {},
): LaunchPlan {
  const { blocks, constants } = rowTeams(rowCount(x.shape), lastDim(x.shape), 256)
  return launch(module, kernel, blocks, bindings, { ...constants, eps, ...more })
}

export const rms_norm: KernelRule = ({ attrs, inputs, outputs }) => ({
  launches: [
    perRow(
      'norm',
      'rms_norm',
      inputs.x!,
      attrs.eps,
      [
        { port: 'x', access: 'read' },
        { port: 'weight', access: 'read' },
        { port: 'y', access: 'write' },
      ],
      { weight_format: formatNumber(inputs.weight!), output_format: formatNumber(outputs.y!) },
    ),
  ],
})

export const layer_norm: KernelRule = ({ attrs, inputs, outputs }) => ({
  launches: [
    perRow(
      'norm',
      'layer_norm',
      inputs.x!,
      attrs.eps,
      [
        { port: 'x', access: 'read' },
        { port: 'weight', access: 'read' },
        { port: 'bias', access: 'read' },
        { port: 'y', access: 'write' },
      ],
      {
        weight_format: formatNumber(inputs.weight!),
        bias_format: formatNumber(inputs.bias!),
        output_format: formatNumber(outputs.y!),
      },
    ),
  ],
})

const backwardInput =
  (norm: Norm): KernelRule =>
  ({ attrs, inputs, outputs }) => ({
    launches: [
      perRow(
        'norm_backward',
        `${norm}_backward_input`,
        inputs.x!,
        attrs.eps,
        [
          { port: 'dy', access: 'read' },
          { port: 'x', access: 'read' },
          { port: 'weight', access: 'read' },
          ...(inputs.residual ? [{ port: 'residual', access: 'read' } as const] : []),
          { port: 'dx', access: 'write' },
          ...['dx_rounded', 'statistics']
            .filter((port) => outputs[port])
            .map((port) => ({ port, access: 'write' }) as const),
        ],
        {
          weight_format: formatNumber(inputs.weight!),
          dy_format: formatNumber(inputs.dy!),
          rounded_format: outputs.dx_rounded ? formatNumber(outputs.dx_rounded) : 0,
        },
      ),
    ],
  })

export const rms_norm_backward_input = backwardInput('rms_norm')
export const layer_norm_backward_input = backwardInput('layer_norm')

/** Blocks that a column sum aims at: four on each multiprocessor, the same number for all GPUs so that sums agree. */
const COLUMN_BLOCKS = 512
/** Fewest rows of a chunk: four for each warp of a block. */
const CHUNK_ROWS = 32

/** Adds column sums over dy to accumulators, one for each sum that the kernel makes of a column, through scratch `partial`. */
function columnSums(
  dy: TensorType,
  kernel: string,
  terms: LaunchPlan['bindings'],
  second?: string,
): { launches: LaunchPlan[]; partial: TensorType } {
  const [rows, width] = [rowCount(dy.shape), lastDim(dy.shape)]
  const tiles = Math.ceil(width / (width % 4 === 0 ? 4 : 1) / 32)
  const most = Math.min(Math.ceil(rows / CHUNK_ROWS), Math.ceil(COLUMN_BLOCKS / tiles))
  const chunk = Math.ceil(rows / most)
  const chunks = Math.ceil(rows / chunk)
  const sums = second ? 2 : 1
  return {
    launches: [
      launch('columns', kernel, tiles * chunks, [...terms, { port: 'partial', access: 'write' }], {
        dy_format: formatNumber(dy),
        rows,
        width,
        chunk,
      }),
      launch(
        'columns',
        'column_final',
        tiles * sums,
        [
          { port: 'accumulator', access: 'read_write' },
          ...(second ? [{ port: second, as: 'second', access: 'read_write' } as const] : []),
          { port: 'partial', access: 'read' },
        ],
        { chunks, width },
      ),
    ],
    partial: tensorType('f32', sums * chunks, width),
  }
}

const backwardWeight =
  (norm: Norm): KernelRule =>
  ({ attrs, inputs }) => {
    const bias = inputs.bias_accumulator ? 'bias_accumulator' : undefined
    const { launches, partial } = columnSums(
      inputs.dy!,
      bias ? 'norm_weight_and_bias_partial' : 'norm_weight_partial',
      [
        { port: 'dy', access: 'read' },
        { port: 'x', access: 'read' },
        { port: 'statistics', access: 'read' },
      ],
      bias,
    )
    const scratch: Record<string, TensorType> = { partial }
    if (inputs.statistics) return { launches, scratch }
    scratch.statistics = tensorType('f32', rowCount(inputs.x!.shape), 2)
    const statistics = perRow('norm_backward', `${norm}_statistics`, inputs.x!, attrs.eps, [
      { port: 'x', access: 'read' },
      { port: 'statistics', access: 'write' },
    ])
    return { launches: [statistics, ...launches], scratch }
  }

export const rms_norm_backward_weight = backwardWeight('rms_norm')
export const layer_norm_backward_weight = backwardWeight('layer_norm')

export const bias_backward: KernelRule = ({ inputs }) => {
  const { launches, partial } = columnSums(inputs.dy!, 'bias_partial', [{ port: 'dy', access: 'read' }])
  return { launches, scratch: { partial } }
}
