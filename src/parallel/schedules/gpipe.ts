import { onlyChunks, RankWriter, type ScheduleDefinition, times } from './schedule.ts'

/**
 * GPipe: all forwards, then all backwards. Huang et al. 2019, arXiv 1811.06965, section 2.3.
 *
 * Bubble (p-1)(F+B+W); every rank holds all m activations. The paper's figure runs the
 * backwards last microbatch first; here they run in the order of the forwards, which takes as long and adds up
 * gradients in the order in which every other schedule here does.
 */
export const gpipe: ScheduleDefinition = {
  name: 'gpipe',
  title: 'GPipe',
  source: 'Huang et al. 2019, arXiv 1811.06965',
  placement: 'round_robin',
  chunks: 1,
  refuse: onlyChunks(1),
  rank: (_r, { m }) => {
    const rank = new RankWriter()
    times(m, () => rank.F())
    times(m, () => rank.BW())
    return rank.actions
  },
  bubbleText: '(p-1)(F+B+W)',
  bubble: ({ p }, { forward: F, backwardInput: B, backwardWeight: W }) => (p - 1) * (F + B + W),
  bubbleOver: 'step',
  peakText: 'm',
  peak: ({ m }) => m,
  sendBuffers: 1,
}
