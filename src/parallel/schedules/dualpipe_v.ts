import { onlyChunks, RankWriter, type ScheduleDefinition, times } from './schedule.ts'

/**
 * DualPipeV: DualPipe (DeepSeek-AI 2024, arXiv 2412.19437, section 3.2.1) cut in half and folded into a V, so
 * that two chunks a rank replace its second copy of the parameters. A forward of one chunk and a whole backward of
 * the other form pairs (F&B) in which each hides the messages of the other. Source: deepseek-ai/DualPipe, whose
 * eight steps the code names.
 *
 * Published, with PP = 2p stages: bubble (PP/2-1)(F&B + B' - 3W), B' = B+W; PP+1 activations of a stage. The
 * timeline gives it for every p and m where F = B = W and a pair takes from B+W to F+B+W. The last rank cannot
 * overlap its first pair and idles less. A pair whose actions run one after the other takes F+B+W too, but its F
 * sends before the pair ends, so the bubble is not 2(p-1) units but p-1.
 */
export const dualPipeV: ScheduleDefinition = {
  name: 'dualpipe_v',
  title: 'DualPipeV',
  source: 'DeepSeek-AI 2025, deepseek-ai/DualPipe; arXiv 2412.19437',
  placement: 'v',
  chunks: 2,
  refuse: (shape) =>
    shape.m < 2 * shape.p
      ? `expected at least 2p = ${2 * shape.p} microbatches, got ${shape.m}`
      : onlyChunks(2)(shape),
  rank: (r, { p, m }) => {
    const rank = new RankWriter()
    const after = p - 1 - r
    const backwardBoth = (split: boolean, chunk: number): void => (split ? rank.B(chunk) : rank.BW(chunk))
    // 1: nF0
    times(2 * after, () => rank.F(0))
    // 2: nF0F1
    times(r + 1, () => {
      rank.F(0)
      rank.F(1)
    })
    // 3: nB1W1F1
    times(after, () => {
      rank.B(1)
      rank.W(1)
      rank.F(1)
    })
    // 4: nF0B1F1B0, in pairs; the last rank, where chunk 0 hands over to chunk 1, cannot overlap its first
    times(m - 2 * p + r + 1, (i) => {
      if (i === 0 && r === p - 1) {
        rank.F(0)
        rank.BW(1)
      } else rank.FandBW(0, 1)
      rank.FandBW(1, 0)
    })
    // 5: nB1F1B0
    times(after, () => {
      rank.BW(1)
      rank.FandBW(1, 0)
    })
    // 6: nB1B0; the later half leaves its weight gradients for the end
    times(r + 1, (i) => {
      backwardBoth(2 * i >= r + 1, 1)
      backwardBoth(2 * i >= r, 0)
    })
    // 7: nWB0
    times(after, () => {
      rank.W()
      rank.B(0)
    })
    // 8: nW
    times(r + 1, () => rank.W())
    return rank.actions
  },
  bubbleText: '(p-1)(F&B + B - 2W)',
  bubble: ({ p }, { forward: F, backwardInput: B, backwardWeight: W, overlapped: FandB = F + B + W }) =>
    (p - 1) * (FandB + B - 2 * W),
  bubbleOver: 'step',
  peakText: '2p + 1',
  peak: ({ p }) => 2 * p + 1,
  sendBuffers: 2,
}
