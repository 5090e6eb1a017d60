import type { OpCall } from '../../../src/ops/contract.ts'
import type { Access } from '../../../src/program/program.ts'
import { lastDim, rowCount } from '../../../src/tensor/type.ts'
import { formatNumber, launchThreads } from './flat.ts'
import { rowTeams } from './row.ts'
import { type KernelRule, launch } from './rule.ts'

const bind = (ports: readonly string[], access: Access) => ports.map((port) => ({ port, access }))

/** The op's kernel over the rows of its input `port`. */
const perRow =
  (
    port: string,
    read: readonly string[],
    write: readonly string[],
    more: (call: OpCall) => Record<string, number> = () => ({}),
  ): KernelRule =>
  (call: OpCall) => {
    const { shape } = call.inputs[port]!
    const { blocks, constants } = rowTeams(rowCount(shape), lastDim(shape), 512)
    const bindings = [...bind(read, 'read'), ...bind(write, 'write')]
    return { launches: [launch('logits', call.op, blocks, bindings, { ...more(call), ...constants })] }
  }

export const softmax = perRow('x', ['x'], ['y'])
export const softmax_backward = perRow('y', ['dy', 'y'], ['dx'])
export const argmax = perRow('x', ['x'], ['y'])
export const cross_entropy = perRow(
  'logits',
  ['logits', 'targets', 'weights'],
  ['loss', 'lse'],
  ({ inputs }) => ({ logits_format: formatNumber(inputs.logits!) }),
)
export const cross_entropy_shard = perRow(
  'logits',
  ['logits', 'targets'],
  ['parts'],
  ({ attrs, inputs }) => ({ logits_format: formatNumber(inputs.logits!), first: attrs.first ?? 0 }),
)

export const cross_entropy_join: KernelRule = ({ op, inputs }) => {
  const [count, , rows] = inputs.parts!.shape as [number, number, number]
  const bindings = [...bind(['parts', 'weights'], 'read'), ...bind(['loss', 'lse'], 'write')]
  return { launches: [launchThreads('logits', op, rows, bindings, { count, rows })] }
}

/** Packs of a row that a block makes. */
const TILE = 1024

export const cross_entropy_backward: KernelRule = ({ op, attrs, inputs, outputs }) => {
  const [rows, width] = inputs.logits!.shape as [number, number]
  const tiles = Math.ceil(width / (width % 4 === 0 ? 4 : 1) / TILE)
  const bindings = [
    ...bind(['dloss', 'logits', 'lse', 'targets', 'weights'], 'read'),
    ...bind(['dlogits'], 'write'),
  ]
  const constants = {
    logits_format: formatNumber(inputs.logits!),
    output_format: formatNumber(outputs.dlogits!),
    first_target: attrs.first ?? 0,
    width,
    tiles,
  }
  return { launches: [launch('logits', op, rows * tiles, bindings, constants)] }
}
