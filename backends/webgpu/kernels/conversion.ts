import { type FormatName, formatOf } from '../../../src/tensor/format.ts'
import { byteSize, elementCount, lastDim, type TensorType, tensorType } from '../../../src/tensor/type.ts'
import type { KernelChoice, LaunchPlan, TargetLimits } from '../../backend.ts'
import { flatGrid } from './elementwise.ts'
import { transpose } from './movement.ts'
import { parts } from './row.ts'
import type { KernelRule } from './rule.ts'
import { weightModules, weightParts } from './weight_parts.ts'

/** Modules that rounding to a format needs. */
export const roundingModules: Partial<Record<FormatName, readonly string[]>> = {
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

/** Modules of quantize to each format: its hooks, and what they round by. */
const quantizeModules: Partial<Record<FormatName, readonly string[]>> = {
  q8_0: [
    'lib/quantize_q8_0',
    'lib/quantize_integers',
    'lib/exact_quotient',
    'lib/store_f16',
    'lib/unpack_f16',
  ],
  q4_0: ['lib/quantize_q4_0', 'lib/quantize_integers', 'lib/store_f16', 'lib/unpack_f16'],
  e4m3_128: ['lib/quantize_e4m3_128', 'lib/exact_quotient', 'lib/store_e4m3', 'lib/small_float'],
  mxfp8: ['lib/quantize_mxfp8', 'lib/store_e4m3', 'lib/small_float'],
  nvfp4: ['lib/quantize_nvfp4', 'lib/exact_quotient', 'lib/store_e4m3', 'lib/small_float'],
}

/** Quants and scales of a planar format lie apart, so a launch binds the whole of y, and x must fit one binding. */
export const quantize: KernelRule = (call, traits) => {
  const [x, y] = [call.inputs.x!, call.outputs.y!]
  const bytes = byteSize(x)
  if (bytes > traits.limits.maxBindingSize)
    return {
      unsupported: `its input of ${bytes} bytes exceeds the largest binding, ${traits.limits.maxBindingSize} bytes; quantize the tensor in several parts`,
    }
  if (call.attrs.transpose) return quantizeTransposed(y, traits)
  const { blockSize, blockBytes, scaleBytes, tensorBytes } = formatOf(y.format)
  const blocks = elementCount(x.shape) / blockSize
  const grid = flatGrid(Math.ceil((blocks * scaleBytes) / 4))
  const tensorScale = tensorBytes > 0 ? tensorScaleLaunches(x, y) : undefined
  return {
    scratch: { ...tensorScale?.scratch },
    launches: [
      ...(tensorScale?.launches ?? []),
      {
        variant: `quantize_${y.format}`,
        modules: ['quantize', ...quantizeModules[y.format]!],
        constants: {
          ...grid.constants,
          ...tensorScale?.constants,
          BLOCKS: blocks,
          BLOCK_SIZE: blockSize,
          SCALES_WORD: (blocks * (blockBytes - scaleBytes)) / 4,
        },
        workgroups: grid.workgroups,
        bindings: [
          { port: 'x', access: 'read' },
          { port: 'y', access: tensorBytes > 0 ? 'read_write' : 'write' },
        ],
      },
    ],
  }
}

/** The largest magnitude of all, in steps of at most this factor, and the scale that follows from it. */
const LARGEST_STEP = 64

function tensorScaleLaunches(x: TensorType, y: TensorType) {
  const constants = { TENSOR_SCALE_WORD: byteSize(y) / 4 - 1 }
  const launches: LaunchPlan[] = []
  const scratch: Record<string, TensorType> = {}
  let port = 'x'
  for (let count = elementCount(x.shape); count > 1; ) {
    const stride = Math.ceil(count / LARGEST_STEP)
    const to = `largest_${launches.length}`
    scratch[to] = tensorType('u32', stride)
    launches.push({
      variant: 'quantize_largest',
      modules: ['quantize_largest'],
      constants: { COUNT: count, STRIDE: stride },
      workgroups: [Math.ceil(stride / 64), 1, 1],
      bindings: [
        { port, access: 'read' },
        { port: to, access: 'write' },
      ],
    })
    port = to
    count = stride
  }
  launches.push({
    variant: 'quantize_tensor_scale',
    modules: ['quantize_tensor_scale', 'lib/exact_quotient'],
    constants,
    workgroups: [1, 1, 1],
    bindings: [
      { port, access: 'read' },
      { port: 'y', access: 'write' },
    ],
  })
  return { launches, scratch, constants }
}

/** By way of the transposed matrix in f32. */
function quantizeTransposed(y: TensorType, traits: Parameters<KernelRule>[1]): KernelChoice {
  const turned = tensorType('f32', ...y.shape)
  const matrix = tensorType('f32', y.shape[1]!, y.shape[0]!)
  const first = transpose(
    { op: 'transpose', attrs: { permutation: [1, 0] }, inputs: { x: matrix }, outputs: { y: turned } },
    traits,
  )
  const then = quantize(
    { op: 'quantize', attrs: { to: y.format }, inputs: { x: turned }, outputs: { y } },
    traits,
  )
  if ('unsupported' in first) return first
  if ('unsupported' in then) return then
  const renamed = (launches: readonly LaunchPlan[], port: string): LaunchPlan[] =>
    launches.map((launch) => ({
      ...launch,
      bindings: launch.bindings.map((b) => (b.port === port ? { ...b, port: 'turned' } : b)),
    }))
  return {
    scratch: { ...then.scratch, turned },
    launches: [...renamed(first.launches, 'y'), ...renamed(then.launches, 'x')],
  }
}

/** Cast or quantize, written over a tensor that exists. */
export const store: KernelRule = (call, traits) => {
  const { destination, x } = call.inputs
  const to = destination!.format
  const rule = formatOf(to).blockSize > 1 ? quantize : cast
  const attrs = { ...call.attrs, to }
  const choice = rule({ op: call.op, attrs, inputs: { x: x! }, outputs: { y: destination! } }, traits)
  if ('unsupported' in choice) return choice
  return {
    ...choice,
    launches: choice.launches.map((launch) => ({
      ...launch,
      bindings: launch.bindings.map((b) => (b.port === 'y' ? { ...b, port: 'destination' } : b)),
    })),
  }
}
