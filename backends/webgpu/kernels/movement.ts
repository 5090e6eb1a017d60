import { reduceSpan } from '../../../src/ops/reduce.ts'
import { strides } from '../../../src/ops/transpose.ts'
import { type FormatName, formatOf } from '../../../src/tensor/format.ts'
import { byteSize, elementCount, lastDim, type TensorType, tensorType } from '../../../src/tensor/type.ts'
import type { KernelChoice, LaunchPlan, TargetLimits } from '../../backend.ts'
import { flatGrid } from './elementwise.ts'
import { packOf, parts, rowReduction } from './row.ts'
import { foldGrid, type KernelRule, type WebGpuTraits } from './rule.ts'
import { weightModules, weightParts } from './weight_parts.ts'

/** Modules that rounding to a format needs. */
const roundingModules: Partial<Record<FormatName, readonly string[]>> = {
  f32: [],
  f16: ['lib/store_f16'],
  bf16: ['lib/store_bf16'],
  e4m3: ['lib/store_e4m3', 'lib/small_float'],
}

/** Modules that read four elements of a plain format. */
const readingModules: Partial<Record<FormatName, readonly string[]>> = {
  f32: ['lib/read_four_f32'],
  f16: ['lib/read_four_f16', 'lib/unpack_f16'],
  bf16: ['lib/read_four_bf16'],
  e4m3: ['lib/read_four_e4m3', 'lib/unpack_e4m3'],
}

/** Four elements per invocation; parts start where they are aligned in a format of 8 bits too. */
export const cast: KernelRule = ({ inputs, outputs }, { limits }) => {
  const [from, to] = [inputs.x!.format, outputs.y!.format]
  const launch = (elements: number, reading: Reading): LaunchPlan => {
    const grid = flatGrid(Math.ceil(elements / 4))
    return {
      variant: `cast_${from}_${to}`,
      modules: ['cast', ...reading.modules, `lib/write_four_${to}`, ...roundingModules[to]!],
      constants: { ...reading.constants, ...grid.constants, COUNT: elements },
      workgroups: grid.workgroups,
      bindings: reading.bindings,
    }
  }
  if (formatOf(from).blockSize > 1) return castBlocks(inputs.x!, limits, launch)
  const range = (format: FormatName, first: number, elements: number) => ({
    offset: first * formatOf(format).blockBytes,
    bytes: byteSize(tensorType(format, elements)),
  })
  return {
    launches: parts(elementCount(inputs.x!.shape), limits, limits.bindingAlignment).map(
      ({ elements, offset }) =>
        launch(elements, {
          modules: readingModules[from]!,
          constants: {},
          bindings: [
            { port: 'y', access: 'write', ...range(to, offset / 4, elements) },
            { port: 'x', access: 'read', ...range(from, offset / 4, elements) },
          ],
        }),
    ),
  }
}

type Reading = Pick<LaunchPlan, 'modules' | 'constants' | 'bindings'>

/** Quants and scales of a part have a binding each, as those of weights. */
function castBlocks(
  x: TensorType,
  limits: TargetLimits,
  launch: (elements: number, reading: Reading) => LaunchPlan,
): KernelChoice {
  const width = lastDim(x.shape)
  const matrix = tensorType(x.format, elementCount(x.shape) / width, width)
  const rows = weightParts(matrix, limits)
  if (typeof rows === 'string') return { unsupported: `cast: x does not fit: ${rows}` }
  return {
    launches: rows.map((part) => {
      const weight = weightModules(`lib/weight_${x.format}`, matrix, part, 2)
      const elements = part.rows * width
      return launch(elements, {
        modules: ['lib/read_four_blocks', ...weight.modules],
        constants: weight.constants,
        bindings: [
          { port: 'y', access: 'write', offset: 4 * part.first * width, bytes: 4 * elements },
          { port: 'x', access: 'read', ...part.range },
          ...(part.scales ? [{ port: 'x', access: 'read' as const, ...part.scales }] : []),
        ],
      })
    }),
  }
}

export const transpose: KernelRule = ({ attrs, inputs, outputs }) => {
  const permutation: readonly number[] = attrs.permutation
  const last = permutation.length - 1
  // Whole packs can only move together where the last dim stays last.
  const pack = permutation[last] === last ? packOf(lastDim(inputs.x!.shape)) : 1
  const leading = Array<number>(4 - permutation.length).fill(1)
  const sizes = [...leading, ...outputs.y!.shape]
  const from = strides(inputs.x!.shape)
  const steps = [...leading, ...permutation.map((d) => (d === last ? 1 : from[d]! / pack))]
  const grid = flatGrid(elementCount(sizes) / pack)
  return {
    launches: [
      {
        variant: 'transpose',
        modules: ['transpose', `lib/pack_${pack}`],
        constants: {
          ...grid.constants,
          SIZE1: sizes[1]!,
          SIZE2: sizes[2]!,
          SIZE3: sizes[3]! / pack,
          STEP0: steps[0]!,
          STEP1: steps[1]!,
          STEP2: steps[2]!,
          STEP3: steps[3]!,
        },
        workgroups: grid.workgroups,
        bindings: [
          { port: 'x', access: 'read' },
          { port: 'y', access: 'write' },
        ],
      },
    ],
  }
}

/** Elements that one workgroup folds where a whole tensor is reduced. */
const SPAN = 4096

export const reduce: KernelRule = (call, traits) => {
  if (call.attrs.axis === 'first') return reduceFirst(call, traits)
  const { attrs, inputs } = call
  const count = elementCount(inputs.x!.shape)
  const scale = attrs.kind === 'mean' ? 1 / reduceSpan(attrs, inputs.x!.shape) : 1
  const span = Math.min(reduceSpan(attrs, inputs.x!.shape), attrs.axis === 'all' ? SPAN : count)
  const spans = Math.ceil(count / span)
  if (attrs.axis === 'last' || spans === 1)
    return { launches: [fold(attrs.kind, count, span, scale, 'x', 'y', traits)] }
  return {
    launches: [
      fold(attrs.kind, count, span, 1, 'x', 'partial', traits),
      fold(attrs.kind, spans, spans, scale, 'partial', 'y', traits),
    ],
    scratch: { partial: tensorType('f32', spans) },
  }
}

/**
 * One invocation per pack of y. An x larger than one binding goes through several launches: each continues the chain
 * that the one before left in y.
 */
const reduceFirst: KernelRule = ({ attrs, inputs }, { limits }) => {
  const { shape } = inputs.x!
  const width = elementCount(shape) / shape[0]!
  const rows = weightParts(tensorType('f32', shape[0]!, width), limits)
  if (typeof rows === 'string') return { unsupported: `${rows}; reduce fewer columns at once` }
  const grid = flatGrid(width / packOf(width))
  return {
    launches: rows.map((part) => ({
      variant: 'reduce_first',
      modules: ['reduce_first', `lib/pack_${packOf(width)}`, `lib/fold_${foldOf(attrs.kind)}`],
      constants: {
        ...grid.constants,
        ROWS: part.rows,
        CONTINUES: part.first > 0 ? 1 : 0,
        SCALE: attrs.kind === 'mean' && part === rows.at(-1) ? 1 / shape[0]! : 1,
      },
      workgroups: grid.workgroups,
      bindings: [
        { port: 'x', access: 'read', ...part.range },
        { port: 'y', access: part.first > 0 ? 'read_write' : 'write' },
      ],
    })),
  }
}

/** The module `lib/fold_<hook>`. */
const foldOf = (kind: string): 'max' | 'sum' => (kind === 'max' ? 'max' : 'sum')

function fold(
  kind: string,
  count: number,
  span: number,
  scale: number,
  from: string,
  to: string,
  traits: WebGpuTraits,
): LaunchPlan {
  const pack = count % 4 === 0 ? packOf(span) : 1
  const { module, workgroup } = rowReduction(traits)
  const spans = Math.ceil(count / span)
  const { workgroups, gridX } = foldGrid(spans)
  return {
    variant: 'reduce',
    modules: [
      'reduce',
      `lib/pack_${pack}`,
      `lib/fold_${foldOf(kind)}`,
      `lib/fold_lanes_${foldOf(kind)}`,
      module,
    ],
    constants: {
      COUNT_PACKS: count / pack,
      SPAN_PACKS: span / pack,
      SPANS: spans,
      SCALE: scale,
      GRID_X: gridX,
      WORKGROUP: workgroup,
    },
    workgroups,
    bindings: [
      { port: from, access: 'read' },
      { port: to, access: 'write' },
    ],
  }
}

export const broadcast: KernelRule = ({ attrs, inputs, outputs }) => {
  const count = elementCount(outputs.y!.shape)
  const span = count / elementCount(inputs.x!.shape)
  const grid = flatGrid(count / packOf(span))
  return {
    launches: [
      {
        variant: 'broadcast',
        modules: ['broadcast', `lib/pack_${packOf(span)}`],
        constants: { ...grid.constants, SPAN_PACKS: span / packOf(span), FACTOR: attrs.factor },
        workgroups: grid.workgroups,
        bindings: [
          { port: 'x', access: 'read' },
          { port: 'y', access: 'write' },
        ],
      },
    ],
  }
}

/** Quants and scales of a planar format lie apart, so a launch binds the whole of y, and x must fit one binding. */
export const quantize: KernelRule = ({ inputs, outputs }, { limits }) => {
  const bytes = byteSize(inputs.x!)
  if (bytes > limits.maxBindingSize)
    return {
      unsupported: `its input of ${bytes} bytes exceeds the largest binding, ${limits.maxBindingSize} bytes; quantize the tensor in several parts`,
    }
  const blocks = elementCount(inputs.x!.shape) / 32
  const grid = flatGrid(Math.ceil(blocks / 2))
  return {
    launches: [
      {
        variant: `quantize_${outputs.y!.format}`,
        modules: ['quantize', `lib/quantize_${outputs.y!.format}`, 'lib/store_f16', 'lib/unpack_f16'],
        constants: { ...grid.constants, BLOCKS: blocks },
        workgroups: grid.workgroups,
        bindings: [
          { port: 'x', access: 'read' },
          { port: 'y', access: 'write' },
        ],
      },
    ],
  }
}

/** Cast or quantize, written over a tensor that exists. */
export const store: KernelRule = (call, traits) => {
  const { destination, x } = call.inputs
  const to = destination!.format
  const rule = to === 'q8_0' || to === 'q4_0' ? quantize : cast
  const choice = rule({ op: call.op, attrs: { to }, inputs: { x: x! }, outputs: { y: destination! } }, traits)
  if ('unsupported' in choice) return choice
  return {
    ...choice,
    launches: choice.launches.map((launch) => ({
      ...launch,
      bindings: launch.bindings.map((b) => (b.port === 'y' ? { ...b, port: 'destination' } : b)),
    })),
  }
}
