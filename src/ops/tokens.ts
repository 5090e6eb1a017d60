import { z } from 'zod'
import { check } from '../errors.ts'
import { byteSize, sameShape, type TensorType, tensorType } from '../tensor/type.ts'
import { integers, values } from './cases.ts'
import { defineOp, type Ports } from './contract.ts'
import { exact } from './tolerance.ts'

/** Value of `sequence` in a row that only pads the batch. */
const NONE = 0xffffffff

function checkPlaces(
  op: string,
  inputs: Ports<TensorType>,
  rows: readonly number[],
  rowPorts: readonly string[],
): void {
  check(
    inputs.tokens!.shape.length === 2,
    'invalid_shape',
    () => `${op}: tokens must be [B, N], got [${inputs.tokens!.shape}]`,
  )
  check(rows.length === 1, 'invalid_shape', () => `${op}: ${rowPorts[0]} must be [T], got [${rows}]`)
  for (const port of rowPorts)
    check(
      sameShape(inputs[port]!.shape, rows),
      'invalid_shape',
      () =>
        `${op}: ${rowPorts.join(', ')} must have one shape [T]; ${rowPorts[0]} is [${rows}], ${port} is [${inputs[port]!.shape}]`,
    )
}

/** Flat index of a row's place in the table, or -1 when it lies outside (padding rows do). */
function place([batch, length]: readonly number[], sequence: number, position: number): number {
  return sequence < batch! && position < length! ? sequence * length! + position : -1
}

/**
 * Writes token ids into the history of their sequences, in place. Rows with sequence 0xFFFFFFFF (or any place
 * outside the table) are skipped; two rows of one call must not name the same place.
 */
export const tokens_write = defineOp<Record<string, never>>({
  name: 'tokens_write',
  summary: 'tokens[sequence[t], position[t]] = ids[t], in place',
  inputs: {
    tokens: { doc: '[B, N]', formats: ['u32'] },
    ids: { doc: '[T]', formats: ['u32'] },
    sequence: { doc: '[T]', formats: ['u32'] },
    position: { doc: '[T]', formats: ['u32'] },
  },
  outputs: { tokens_out: { doc: '[B, N]', formats: ['u32'] } },
  attributes: z.strictObject({}),
  infer(_attrs, inputs) {
    checkPlaces('tokens_write', inputs, inputs.ids!.shape, ['ids', 'sequence', 'position'])
    return { tokens_out: inputs.tokens! }
  },
  inPlace: { tokens_out: 'tokens' },
  gradient: { none: 'integers' },
  reference({ inputs }, { tokens, ids, sequence, position }) {
    const out = Float64Array.from(tokens!)
    for (let t = 0; t < ids!.length; t++) {
      const at = place(inputs.tokens!.shape, sequence![t]!, position![t]!)
      if (at >= 0) out[at] = ids![t]!
    }
    return { tokens_out: out }
  },
  tolerance: () => ({ tokens_out: exact }),
  flops: () => 0,
  work: ({ inputs }) => ({ bytes: { tokens: byteSize(inputs.ids!) } }),
  cases: [
    {
      name: 'one',
      attrs: {},
      inputs: {
        tokens: values([1, 1], [7], 'u32'),
        ids: values([1], [9], 'u32'),
        sequence: values([1], [0], 'u32'),
        position: values([1], [0], 'u32'),
      },
    },
    {
      name: 'padding',
      attrs: {},
      inputs: {
        tokens: integers([3, 17], 0, 50000),
        ids: integers([5], 0, 50000),
        sequence: values([5], [2, NONE, 0, NONE, 1], 'u32'),
        position: values([5], [16, 3, 0, 0, 8], 'u32'),
      },
    },
    {
      name: 'past_end',
      attrs: {},
      inputs: {
        tokens: integers([2, 5], 0, 9),
        ids: integers([4], 100, 200),
        sequence: values([4], [0, 1, 2, 1], 'u32'),
        position: values([4], [5, 4, 0, NONE], 'u32'),
      },
    },
    {
      name: 'prefill',
      attrs: {},
      inputs: {
        tokens: integers([2, 101], 0, 9),
        ids: integers([67], 100, 2 ** 32),
        sequence: values([67], [1], 'u32'),
        position: values(
          [67],
          Array.from({ length: 67 }, (_, t) => t + 3),
          'u32',
        ),
      },
    },
  ],
})

/** Reads token ids back from the history; padding rows (see tokens_write) give 0. */
export const tokens_read = defineOp<Record<string, never>>({
  name: 'tokens_read',
  summary: 'ids[t] = tokens[sequence[t], position[t]]',
  inputs: {
    tokens: { doc: '[B, N]', formats: ['u32'] },
    sequence: { doc: '[T]', formats: ['u32'] },
    position: { doc: '[T]', formats: ['u32'] },
  },
  outputs: { ids: { doc: '[T]', formats: ['u32'] } },
  attributes: z.strictObject({}),
  infer(_attrs, inputs) {
    checkPlaces('tokens_read', inputs, inputs.sequence!.shape, ['sequence', 'position'])
    return { ids: tensorType('u32', ...inputs.sequence!.shape) }
  },
  gradient: { none: 'integers' },
  reference({ inputs }, { tokens, sequence, position }) {
    const ids = sequence!.map((s, t) => {
      const at = place(inputs.tokens!.shape, s, position![t]!)
      return at >= 0 ? tokens![at]! : 0
    })
    return { ids }
  },
  tolerance: () => ({ ids: exact }),
  flops: () => 0,
  work: ({ outputs }) => ({ bytes: { tokens: byteSize(outputs.ids!) } }),
  cases: [
    {
      name: 'one',
      attrs: {},
      inputs: {
        tokens: values([1, 1], [7], 'u32'),
        sequence: values([1], [0], 'u32'),
        position: values([1], [0], 'u32'),
      },
    },
    {
      name: 'padding',
      attrs: {},
      inputs: {
        tokens: integers([3, 17], 1, 2 ** 32),
        sequence: values([5], [2, NONE, 0, 3, 1], 'u32'),
        position: values([5], [16, 3, 0, 0, 17], 'u32'),
      },
    },
    {
      name: 'prefill',
      attrs: {},
      inputs: {
        tokens: integers([2, 101], 1, 50000),
        sequence: integers([67], 0, 2),
        position: integers([67], 0, 101),
      },
    },
  ],
})
