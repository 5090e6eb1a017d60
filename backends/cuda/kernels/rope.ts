import type { RopeAttributes } from '../../../src/ops/rope.ts'
import { formatNumber, launchThreads } from './flat.ts'
import type { KernelRule } from './rule.ts'

export const rope: KernelRule = ({ attrs, inputs }) => {
  const { head_dim, rotated_heads, layout, inverse } = attrs as RopeAttributes
  const [rows, width] = inputs.x!.shape as [number, number]
  const half = inputs.table!.shape[1]! / 2
  const { kernel, pairs, steps } = variant(layout, head_dim, half)
  return {
    launches: [
      launchThreads(
        'rope',
        kernel,
        (rows * rotated_heads * half) / pairs,
        [
          { port: 'x', access: 'read_write' },
          { port: 'positions', access: 'read' },
          { port: 'table', access: 'read' },
        ],
        {
          format: formatNumber(inputs.x!),
          rows,
          width,
          head_dim,
          rotated: rotated_heads,
          half,
          direction: inverse ? -1 : 1,
          ...steps,
        },
      ),
    ],
  }
}

interface Variant {
  readonly kernel: string
  /** Pairs that a thread takes. */
  readonly pairs: number
  /** Where pairs lie, for the kernel that takes one at a time. */
  readonly steps?: Readonly<Record<'pair_step' | 'partner_step', number>>
}

/** Heads, cosines and sines must be aligned to what a thread takes of them; else it takes one pair. */
function variant(layout: RopeAttributes['layout'], head_dim: number, half: number): Variant {
  const wide = head_dim % 4 === 0
  if (layout === 'half')
    return wide && half % 4 === 0
      ? { kernel: 'rope_half_4', pairs: 4 }
      : { kernel: 'rope_1', pairs: 1, steps: { pair_step: 1, partner_step: half } }
  return wide && half % 2 === 0
    ? { kernel: 'rope_interleaved_4', pairs: 2 }
    : { kernel: 'rope_1', pairs: 1, steps: { pair_step: 2, partner_step: 1 } }
}
