import { restWhile } from '../../backends/webgpu/node/rest.ts'
import type { Contender } from '../suite/contender.ts'

/**
 * An engine on dawn-node, waiting as ours does: else dawn-node's polling would take one core of two from the driver that
 * the engine waits for, and a ratio would say that rather than how kernels compare.
 */
export const resting = (contender: Contender): Contender => ({
  ...contender,
  async prepare(work) {
    const prepared = await contender.prepare(work)
    if ('unsupported' in prepared) return prepared
    return { ...prepared, run: (times) => restWhile(prepared.run(times)) }
  },
})
