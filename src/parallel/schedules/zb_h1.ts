import { onlyChunks, RankWriter, type ScheduleDefinition, times } from './schedule.ts'

/**
 * ZB-H1: 1F1B whose backward is split. Rank r lets its weight gradients lag behind by r microbatches, so that
 * every rank has p microbatches in flight, the input gradients travel without waiting for weight gradients, and
 * those that are left fill the end. Qi et al. 2023, arXiv 2401.10241, section 2.1.
 *
 * Bubble (p-1)(F+B-W) where W is no longer than F and B, a third of 1F1B's where all are equal. That takes
 * m >= p; with fewer microbatches there are too few weight gradients to fill the end, and 2p-1-m units of
 * F = B = W remain. Every rank holds min(p, m) activations, counted until the weight gradient has used them.
 */
export const zbH1: ScheduleDefinition = {
  name: 'zb_h1',
  title: 'ZB-H1',
  source: 'Qi et al. 2023, arXiv 2401.10241',
  placement: 'round_robin',
  chunks: 1,
  refuse: onlyChunks(1),
  rank: (r, { p, m }) => {
    const rank = new RankWriter()
    const ahead = Math.min(p - 1 - r, m)
    times(ahead, () => rank.F())
    times(m, (i) => {
      if (i < m - ahead) rank.F()
      rank.B()
      if (i >= r) rank.W()
    })
    times(Math.min(r, m), () => rank.W())
    return rank.actions
  },
  bubbleText: '(p-1)(F+B-W)',
  bubble: ({ p }, { forward: F, backwardInput: B, backwardWeight: W }) => (p - 1) * (F + B - W),
  bubbleOver: 'step',
  peakText: 'min(p, m)',
  peak: ({ p, m }) => Math.min(p, m),
  sendBuffers: 1,
}
