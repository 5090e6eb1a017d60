import type { Action, ScheduleDefinition, Shape } from './schedule.ts'

/**
 * Interleaved 1F1B: a rank holds v chunks that lie p stages apart, and works through the microbatches in groups
 * of p: a group through chunk 0, the same group through chunk 1, and so on; backwards take the chunks from the
 * last to the first. Narayanan et al. 2021, arXiv 2104.04473, section 2.2.2.
 *
 * Bubble (p-1)(F+B+W)/v with F, B, W of a whole rank, which is (p-1)(F+B+W) with those of a chunk. Rank 0 holds
 * p v + p - 1 chunk activations, 1 + (p-1)/(p v) times 1F1B's (Korthikanti et al. 2022, arXiv 2205.05198,
 * section 4.2.3), or all m v if that is less.
 */
export const interleaved: ScheduleDefinition = {
  name: 'interleaved',
  title: 'interleaved 1F1B',
  source: 'Narayanan et al. 2021, arXiv 2104.04473',
  placement: 'round_robin',
  chunks: 2,
  refuse: ({ p, m, v }) => {
    if (v < 2) return `expected at least 2 chunks a rank, got ${v}; 1f1b is the schedule with one`
    return m % p === 0
      ? undefined
      : `expected microbatches in whole groups of p = ${p}, got ${m}; ${Math.ceil(m / p) * p} would do`
  },
  rank: (r, shape) => {
    const { p, m, v } = shape
    const total = m * v
    // A chunk's forward runs ahead of its backward by twice the ranks after this one, and v - 1 whole groups.
    const ahead = Math.min(2 * (p - 1 - r) + (v - 1) * p, total)
    const actions: Action[] = []
    for (let k = 0; k < total + ahead; k++) {
      if (k < total) actions.push({ kind: 'F', ...place(k, shape) })
      if (k >= ahead) {
        const { microbatch, chunk } = place(k - ahead, shape)
        actions.push({ kind: 'BW', microbatch, chunk: v - 1 - chunk })
      }
    }
    return actions
  },
  bubbleText: '(p-1)(F+B+W), of one chunk',
  bubble: ({ p }, { forward: F, backwardInput: B, backwardWeight: W }) => (p - 1) * (F + B + W),
  bubbleOver: 'step',
  peakText: 'min(p v + p - 1, m v)',
  peak: ({ p, m, v }) => Math.min(p * v + p - 1, m * v),
  sendBuffers: 1,
}

/** Microbatch and chunk of the k-th forward. */
function place(k: number, { p, v }: Shape): { microbatch: number; chunk: number } {
  const [group, within] = [Math.floor(k / (p * v)), k % (p * v)]
  return { microbatch: group * p + (within % p), chunk: Math.floor(within / p) }
}
