import { onlyChunks, RankWriter, type ScheduleDefinition, times } from './schedule.ts'

/**
 * 1F1B with a flush: a rank runs ahead by as many forwards as there are ranks after it, then alternates one
 * forward and one backward. PipeDream-Flush of Narayanan et al. 2020, arXiv 2006.09503; the non-interleaved
 * schedule of Megatron-LM, arXiv 2104.04473, section 2.2.1.
 *
 * Bubble (p-1)(F+B+W) as for GPipe, but rank r holds only min(p-r, m) activations.
 */
export const oneFOneB: ScheduleDefinition = {
  name: '1f1b',
  title: '1F1B',
  source: 'Narayanan et al. 2020, arXiv 2006.09503; 2021, arXiv 2104.04473',
  placement: 'round_robin',
  chunks: 1,
  refuse: onlyChunks(1),
  rank: (r, { p, m }) => {
    const rank = new RankWriter()
    const ahead = Math.min(p - 1 - r, m)
    times(ahead, () => rank.F())
    times(m - ahead, () => {
      rank.F()
      rank.BW()
    })
    times(ahead, () => rank.BW())
    return rank.actions
  },
  bubbleText: '(p-1)(F+B+W)',
  bubble: ({ p }, { forward: F, backwardInput: B, backwardWeight: W }) => (p - 1) * (F + B + W),
  bubbleOver: 'step',
  peakText: 'min(p, m)',
  peak: ({ p, m }) => Math.min(p, m),
  sendBuffers: 1,
}
