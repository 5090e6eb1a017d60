import type { OpCall } from '../../../src/ops/contract.ts'
import { lastDim, rowCount, type TensorType, tensorType } from '../../../src/tensor/type.ts'
import type { KernelChoice, LaunchPlan } from '../../backend.ts'
import { inOrder, type Step } from '../../compose.ts'
import { cast } from './conversion.ts'
import { flatGrid, LANES } from './elementwise.ts'
import { packOf, rowReduction } from './row.ts'
import { foldGrid, type KernelRule, type WebGpuTraits } from './rule.ts'
import { weightModules } from './weight_parts.ts'

type Kind = 'rms' | 'layer'

/** Modules, constants and grid of a kernel with one workgroup per row of x that needs the row's statistics. */
function perRow(
  variant: string,
  kind: Kind,
  x: TensorType,
  eps: number,
  traits: WebGpuTraits,
): Omit<LaunchPlan, 'bindings'> {
  const width = lastDim(x.shape)
  const rows = rowCount(x.shape)
  const { module, workgroup } = rowReduction(traits)
  const { workgroups, gridX } = foldGrid(rows)
  return {
    variant,
    modules: [variant, `lib/pack_${packOf(width)}`, `lib/statistics_${kind}`, module],
    constants: { PACKS: width / packOf(width), ROWS: rows, GRID_X: gridX, WORKGROUP: workgroup, EPS: eps },
    workgroups,
  }
}

/** Adds to a launch what gives load_pack(i) of a weight [C] at binding 1. */
function withWeight<L extends Pick<LaunchPlan, 'modules' | 'constants'>>(launch: L, weight: TensorType): L {
  const { shape, format } = weight
  const pack = packOf(lastDim(shape))
  const load =
    pack === 4
      ? weightModules(`lib/weight_${format}`, weight, { first: 0, rows: 1 }, 0)
      : { modules: [`lib/vector_${format}`], constants: {} }
  return {
    ...launch,
    modules: [...launch.modules, `lib/load_pack_${pack}`, ...load.modules],
    constants: { ...launch.constants, ...load.constants },
  }
}

export const rms_norm: KernelRule = ({ attrs, inputs }, traits) => {
  const launch = withWeight(perRow('norm', 'rms', inputs.x!, attrs.eps, traits), inputs.weight!)
  return {
    launches: [
      {
        ...launch,
        modules: [...launch.modules, 'lib/scale_only'],
        bindings: [
          { port: 'x', access: 'read' },
          { port: 'weight', access: 'read' },
          { port: 'y', access: 'write' },
        ],
      },
    ],
  }
}

export const layer_norm: KernelRule = ({ attrs, inputs }, traits) => {
  const launch = withWeight(perRow('norm', 'layer', inputs.x!, attrs.eps, traits), inputs.weight!)
  const bias = [`lib/bias_pack_${packOf(lastDim(inputs.x!.shape))}`, `lib/bias_${inputs.bias!.format}`]
  return {
    launches: [
      {
        ...launch,
        modules: [...launch.modules, 'lib/scale_bias', ...bias],
        constants: { ...launch.constants, BIAS_BINDING: 3 },
        bindings: [
          { port: 'x', access: 'read' },
          { port: 'weight', access: 'read' },
          { port: 'y', access: 'write' },
          { port: 'bias', access: 'read' },
        ],
      },
    ],
  }
}

/** dx rounded is made by a cast behind: there is no arithmetic of 16 bits that would save one. */
const backwardInput =
  (kind: Kind): KernelRule =>
  (call, traits) => {
    const { attrs, inputs, outputs } = call
    const launch = withWeight(
      perRow('norm_backward_input', kind, inputs.x!, attrs.eps, traits),
      inputs.weight!,
    )
    const { residual } = inputs
    const { statistics, dx_rounded } = outputs
    const gradient: KernelChoice = {
      launches: [
        {
          ...launch,
          modules: [
            ...launch.modules,
            residual ? 'lib/residual_f32' : 'lib/residual_none',
            statistics ? 'lib/keep_statistics' : 'lib/drop_statistics',
          ],
          constants: {
            ...launch.constants,
            CENTERED: String(kind === 'layer'),
            ...(residual ? { RESIDUAL_BINDING: 4 } : {}),
            ...(statistics ? { STATISTICS_BINDING: residual ? 5 : 4 } : {}),
          },
          bindings: [
            { port: 'dy', access: 'read' },
            { port: 'weight', access: 'read' },
            { port: 'x', access: 'read' },
            { port: 'dx', access: 'write' },
            ...(residual ? [{ port: 'residual', access: 'read' } as const] : []),
            ...(statistics ? [{ port: 'statistics', access: 'write' } as const] : []),
          ],
        },
      ],
    }
    if (!dx_rounded) return gradient
    const rounding: OpCall = {
      op: 'cast',
      attrs: { to: dx_rounded.format },
      inputs: { x: outputs.dx! },
      outputs: { y: dx_rounded },
    }
    return inOrder(
      [
        { choice: gradient, places: {} },
        { choice: cast(rounding, traits), places: { x: 'dx', y: 'dx_rounded' } },
      ],
      {},
    )
  }

export const rms_norm_backward_input = backwardInput('rms')
export const layer_norm_backward_input = backwardInput('layer')

/** Rows of dy that one invocation sums: at least 32, and at most 64 chunks. */
const chunkRows = (rows: number): number => Math.max(32, Math.ceil(rows / 64))

/** Adds the column sums of a term over dy into the accumulator, through scratch `partial`. */
function columnSums(
  dy: TensorType,
  term: string,
  more: LaunchPlan['bindings'],
): { launches: LaunchPlan[]; partial: TensorType } {
  const width = lastDim(dy.shape)
  const rows = rowCount(dy.shape)
  const pack = packOf(width)
  const packs = width / pack
  const chunks = Math.ceil(rows / chunkRows(rows))
  const { workgroups, gridX } = foldGrid(Math.ceil(packs / LANES) * chunks)
  const final = flatGrid(packs)
  return {
    launches: [
      {
        variant: 'column_partial',
        modules: ['column_partial', `lib/pack_${pack}`, `lib/${term}`],
        constants: { PACKS: packs, ROWS: rows, CHUNK: chunkRows(rows), CHUNKS: chunks, GRID_X: gridX },
        workgroups,
        bindings: [{ port: 'dy', access: 'read' }, { port: 'partial', access: 'write' }, ...more],
      },
      {
        variant: 'column_final',
        modules: ['column_final', `lib/pack_${pack}`],
        constants: { ...final.constants, CHUNKS: chunks },
        workgroups: final.workgroups,
        bindings: [
          { port: 'accumulator', access: 'read_write' },
          { port: 'partial', access: 'read' },
        ],
      },
    ],
    partial: tensorType('f32', chunks, width),
  }
}

const backwardWeight =
  (kind: Kind): KernelRule =>
  ({ attrs, inputs }, traits) => {
    const { launches, partial } = columnSums(inputs.dy!, 'column_norm', [
      { port: 'x', access: 'read' },
      { port: 'statistics', access: 'read' },
    ])
    const scratch: Record<string, TensorType> = { partial }
    const steps: Step[] = [{ choice: { launches, scratch }, places: {} }]
    if (!inputs.statistics) {
      scratch.statistics = tensorType('f32', rowCount(inputs.x!.shape), 2)
      const statistics: LaunchPlan = {
        ...perRow('norm_statistics', kind, inputs.x!, attrs.eps, traits),
        bindings: [
          { port: 'x', access: 'read' },
          { port: 'statistics', access: 'write' },
        ],
      }
      steps.unshift({ choice: { launches: [statistics] }, places: {} })
    }
    if (inputs.bias_accumulator) {
      const bias = columnSums(inputs.dy!, 'column_plain', [])
      steps.push({
        choice: { launches: bias.launches, scratch: { partial: bias.partial } },
        places: { accumulator: 'bias_accumulator' },
      })
    }
    return inOrder(steps, {})
  }

export const rms_norm_backward_weight = backwardWeight('rms')
export const layer_norm_backward_weight = backwardWeight('layer')

export const bias_backward: KernelRule = ({ inputs }) => {
  const { launches, partial } = columnSums(inputs.dy!, 'column_plain', [])
  return { launches, scratch: { partial } }
}
