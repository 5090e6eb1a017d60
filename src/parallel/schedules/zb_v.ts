import { onlyChunks, RankWriter, type ScheduleDefinition, times } from './schedule.ts'

/**
 * ZB-V: two chunks a rank in a V, so rank 0 holds the first and the last stage and the first backward starts
 * where the first forward did; weight gradients fill what is left. Qi et al. 2023, arXiv 2401.10241, section 6;
 * V-ZB of Qi et al. 2024, arXiv 2405.15362.
 *
 * With F = B = W and m >= 2p-1 no rank is idle between its first and its last action. Ranks begin and end askew,
 * so the published figure of 0 takes an optimizer that does not wait for all ranks; a step that does is p-1 units
 * longer. With fewer microbatches the V does not fill, and the longest span idles 2(2p-1-m). A rank holds 2p
 * chunk activations, as much as 1F1B.
 */
export const zbV: ScheduleDefinition = {
  name: 'zb_v',
  title: 'ZB-V',
  source: 'Qi et al. 2023, arXiv 2401.10241; 2024, arXiv 2405.15362',
  placement: 'v',
  chunks: 2,
  refuse: onlyChunks(2),
  rank: (r, { p, m }) => {
    const rank = new RankWriter()
    // The steady state takes 2p-1 microbatches; a shorter step is a longer one less its last microbatches.
    const n = Math.max(m, 2 * p - 1)
    // Down: chunk 0 runs ahead until its first microbatch has come back on chunk 1.
    times(2 * (p - r) - 1, () => rank.F(0))
    times(r, () => {
      rank.F(1)
      rank.F(0)
    })
    // Turn: chunk 1 begins backward.
    times(p - r, () => {
      rank.F(1)
      rank.B(1)
      rank.W(1)
    })
    // Steady: both chunks forward and backward; forwards of chunk 0 run out first.
    times(n - p, (i) => {
      if (i < n - (2 * p - 1 - r)) rank.F(0)
      rank.B(0)
      rank.W(0)
      rank.F(1)
      rank.B(1)
      rank.W(1)
    })
    // Drain: input gradients first, weight gradients into the gaps.
    times(r, () => {
      rank.B(0)
      rank.B(1)
    })
    times(p - r, () => {
      rank.B(0)
      rank.W(0)
    })
    times(r, () => rank.W(1))
    times(r, () => rank.W(0))
    return rank.actions.filter(({ microbatch }) => microbatch < m)
  },
  bubbleText: '0 for F = B = W',
  bubble: () => 0,
  bubbleOver: 'span',
  peakText: 'min(2p, 2m)',
  peak: ({ p, m }) => Math.min(2 * p, 2 * m),
  sendBuffers: 2,
}
