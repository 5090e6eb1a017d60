import { formatOf } from '../../../src/tensor/format.ts'
import { elementCount, lastDim, rowCount, tensorType } from '../../../src/tensor/type.ts'
import type { LaunchPlan } from '../../backend.ts'
import { copy } from './elementwise.ts'
import { formatNumber, launchThreads } from './flat.ts'
import { type KernelRule, launch } from './rule.ts'

const fromXToY: LaunchPlan['bindings'] = [
  { port: 'x', access: 'read' },
  { port: 'y', access: 'write' },
]

/** A cast to the same format copies bits. */
export const cast: KernelRule = (call, traits) => {
  const [x, to] = [call.inputs.x!, call.outputs.y!.format]
  if (x.format === to) return copy(call, traits)
  const count = elementCount(x.shape)
  // Up to a whole word.
  const inWord = 4 / formatOf(to).blockBytes
  const padded = Math.ceil(count / inWord) * inWord
  return {
    launches: [
      launchThreads('cast', `cast_${x.format}_${to}`, Math.ceil(count / 4), fromXToY, { count, padded }),
    ],
  }
}

/** Blocks of threads of which each finds the largest element of a part of x. */
const LARGEST_BLOCKS = 1024

/** A format with a scale of the whole tensor needs that first: kernels-cuda/quantize.cu leaves it at the end of y. */
export const quantize: KernelRule = ({ attrs, inputs, outputs }) => {
  const x = inputs.x!
  const { format, shape } = outputs.y!
  const { blockSize, tensorBytes } = formatOf(format)
  const count = elementCount(shape)
  const blocks = count / blockSize
  const x_format = formatNumber(x)
  const bindings: LaunchPlan['bindings'] = [
    { port: 'x', access: 'read' },
    { port: 'y', access: tensorBytes > 0 ? 'read_write' : 'write' },
  ]
  const [rows, columns] = [rowCount(x.shape), lastDim(x.shape)]
  const quants = attrs.transpose
    ? launch(
        'quantize',
        `quantize_${format}_transposed`,
        Math.ceil(rows / 128) * Math.ceil(columns / 32),
        bindings,
        { x_format, rows, columns },
      )
    : launchThreads('quantize', `quantize_${format}`, count / 4, bindings, { x_format, blocks })
  if (tensorBytes === 0) return { launches: [quants] }
  const strips = Math.min(LARGEST_BLOCKS, Math.ceil(count / 1024))
  return {
    scratch: { largest: tensorType('u32', strips) },
    launches: [
      launch(
        'quantize',
        'quantize_largest',
        strips,
        [
          { port: 'x', access: 'read' },
          { port: 'largest', access: 'write' },
        ],
        { x_format, count },
      ),
      launch(
        'quantize',
        'quantize_tensor_scale',
        1,
        [
          { port: 'largest', access: 'read' },
          { port: 'y', access: 'write' },
        ],
        { count: strips, blocks },
      ),
      quants,
    ],
  }
}

/** Cast or quantize, written over a tensor that exists. */
export const store: KernelRule = ({ op, attrs, inputs }, traits) => {
  const { destination, x } = inputs
  const to = destination!.format
  const rule = formatOf(to).blockSize > 1 ? quantize : cast
  const choice = rule({ op, attrs, inputs: { x: x! }, outputs: { y: destination! } }, traits)
  if ('unsupported' in choice) return choice
  return {
    ...choice,
    launches: choice.launches.map((plan) => ({
      ...plan,
      bindings: plan.bindings.map((b) => (b.port === 'y' ? { ...b, port: 'destination', as: 'y' } : b)),
    })),
  }
}
