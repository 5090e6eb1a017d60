import { tensorType } from '../../../src/tensor/type.ts'
import { foldGrid, type KernelRule } from './rule.ts'
import { weightModules, weightParts } from './weight_parts.ts'

const WORKGROUP = 64

/** Weights larger than a binding take a launch per part of their rows, each writing what these give. */
export const matmul_grouped: KernelRule = ({ inputs }, { limits }) => {
  const [rows, depth] = inputs.x!.shape as readonly [number, number]
  const [experts, columns] = inputs.w!.shape as readonly [number, number, number]
  const w = tensorType(inputs.w!.format, experts * columns, depth)
  const parts = weightParts(w, limits)
  if (typeof parts === 'string') return { unsupported: `matmul_grouped: w does not fit: ${parts}` }
  const { workgroups, gridX } = foldGrid(Math.ceil((rows * columns) / WORKGROUP))
  return {
    launches: parts.map((part) => {
      const weight = weightModules(`lib/weight_${w.format}`, w, part, 4)
      return {
        variant: `matmul_grouped_${w.format}`,
        modules: ['matmul_grouped', 'lib/expert', ...weight.modules],
        constants: {
          ...weight.constants,
          ROWS: rows,
          COLUMNS: columns,
          DEPTH4: depth / 4,
          EXPERTS: experts,
          FIRST_ROW: part.first,
          PART_ROWS: part.rows,
          GRID_X: gridX,
          WORKGROUP,
        },
        workgroups,
        bindings: [
          { port: 'x', access: 'read' },
          { port: 'w', access: 'read', ...part.range },
          { port: 'offsets', access: 'read' },
          { port: 'y', access: 'write' },
        ],
      }
    }),
  }
}

/** As matmul_grouped; launches of parts add to what those before them wrote. */
export const matmul_grouped_backward_input: KernelRule = ({ inputs }, { limits }) => {
  const [rows, width] = inputs.dy!.shape as readonly [number, number]
  const [experts, , columns] = inputs.w!.shape as readonly [number, number, number]
  const w = tensorType(inputs.w!.format, experts * width, columns)
  const parts = weightParts(w, limits)
  if (typeof parts === 'string')
    return { unsupported: `matmul_grouped_backward_input: w does not fit: ${parts}` }
  const { workgroups, gridX } = foldGrid(Math.ceil((rows * columns) / 4 / WORKGROUP))
  return {
    launches: parts.map((part) => {
      const weight = weightModules(`lib/weight_${w.format}`, w, part, 4)
      return {
        variant: `matmul_grouped_backward_input_${w.format}`,
        modules: ['matmul_grouped_backward_input', 'lib/expert', ...weight.modules],
        constants: {
          ...weight.constants,
          ROWS: rows,
          WIDTH: width,
          COLUMNS4: columns / 4,
          EXPERTS: experts,
          FIRST_ROW: part.first,
          PART_ROWS: part.rows,
          GRID_X: gridX,
          WORKGROUP,
        },
        workgroups,
        bindings: [
          { port: 'dy', access: 'read' },
          { port: 'w', access: 'read', ...part.range },
          { port: 'offsets', access: 'read' },
          { port: 'dx', access: part.first > 0 ? 'read_write' : 'write' },
        ],
      }
    }),
  }
}

/** An accumulator larger than a binding takes a launch per part of its rows. */
export const matmul_grouped_backward_weight: KernelRule = ({ inputs }, { limits }) => {
  const [rows, width] = inputs.dy!.shape as readonly [number, number]
  const [experts, , columns] = inputs.accumulator!.shape as readonly [number, number, number]
  const parts = weightParts(tensorType('f32', experts * width, columns), limits)
  if (typeof parts === 'string')
    return { unsupported: `matmul_grouped_backward_weight: accumulator does not fit: ${parts}` }
  return {
    launches: parts.map((part) => {
      const { workgroups, gridX } = foldGrid(Math.ceil((part.rows * columns) / 4 / WORKGROUP))
      return {
        variant: 'matmul_grouped_backward_weight',
        modules: ['matmul_grouped_backward_weight'],
        constants: {
          ROWS: rows,
          WIDTH: width,
          COLUMNS4: columns / 4,
          FIRST_ROW: part.first,
          PART_ROWS: part.rows,
          GRID_X: gridX,
          WORKGROUP,
        },
        workgroups,
        bindings: [
          { port: 'dy', access: 'read' },
          { port: 'x', access: 'read' },
          { port: 'offsets', access: 'read' },
          { port: 'accumulator', access: 'read_write', ...part.range },
        ],
      }
    }),
  }
}
