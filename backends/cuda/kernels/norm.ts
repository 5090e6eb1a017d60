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
  ({ attrs, inputs }) => ({
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
        ],
        { weight_format: formatNumber(inputs.weight!), dy_format: formatNumber(inputs.dy!) },
      ),
    ],
  })

export const rms_norm_backward_input = backwardInput('rms_norm')
export const layer_norm_backward_input = backwardInput('layer_norm')

/** Blocks that a column sum aims at: four on each multiprocessor, the same number for all GPUs so that sums agree. */
const COLUMN_BLOCKS = 512
/** Fewest rows of a chunk: four for each warp of a block. */
const CHUNK_ROWS = 32

/** Adds column sums over dy to the accumulator, through scratch `partial`. */
function columnSums(
  dy: TensorType,
  kernel: string,
  terms: LaunchPlan['bindings'],
): { launches: LaunchPlan[]; partial: TensorType } {
  const [rows, width] = [rowCount(dy.shape), lastDim(dy.shape)]
  const tiles = Math.ceil(width / (width % 4 === 0 ? 4 : 1) / 32)
  const most = Math.min(Math.ceil(rows / CHUNK_ROWS), Math.ceil(COLUMN_BLOCKS / tiles))
  const chunk = Math.ceil(rows / most)
  const chunks = Math.ceil(rows / chunk)
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
        tiles,
        [
          { port: 'accumulator', access: 'read_write' },
          { port: 'partial', access: 'read' },
        ],
        { chunks, width },
      ),
    ],
    partial: tensorType('f32', chunks, width),
  }
}

const backwardWeight =
  (norm: Norm): KernelRule =>
  ({ attrs, inputs }) => {
    const { launches, partial } = columnSums(inputs.dy!, 'norm_weight_partial', [
      { port: 'dy', access: 'read' },
      { port: 'x', access: 'read' },
      { port: 'statistics', access: 'read' },
    ])
    const statistics = perRow('norm_backward', `${norm}_statistics`, inputs.x!, attrs.eps, [
      { port: 'x', access: 'read' },
      { port: 'statistics', access: 'write' },
    ])
    return {
      launches: [statistics, ...launches],
      scratch: { partial, statistics: tensorType('f32', rowCount(inputs.x!.shape), 2) },
    }
  }

export const rms_norm_backward_weight = backwardWeight('rms_norm')
export const layer_norm_backward_weight = backwardWeight('layer_norm')

export const bias_backward: KernelRule = ({ inputs }) => {
  const { launches, partial } = columnSums(inputs.dy!, 'bias_partial', [{ port: 'dy', access: 'read' }])
  return { launches, scratch: { partial } }
}
