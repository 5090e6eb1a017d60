import type { WebGpuDevice } from '../../../backends/webgpu/device.ts'
import { loadModel } from '../../../src/engine/load.ts'
import { profileSegment } from '../../../src/verify/profile.ts'
import { llama100m } from '../../models.ts'
import type { Prepared } from '../../suite/contender.ts'
import { promptOf } from '../../suite/inputs.ts'
import type { Work } from '../../suite/works.ts'

/** Rounds in which a token and its kernels are timed in turn, and tokens of a round: the fastest of both count. */
const ROUNDS = 5
const TOKENS = 8
/** At least as many as the generator keeps in flight. */
const MORE = 4

/** Decoding with the product's own generator, loaded as a user would load it. */
export async function prepareDecode(
  device: WebGpuDevice,
  { weights, prompt }: Work & { kind: 'decode' },
): Promise<Prepared> {
  const model = await loadModel((await llama100m()).folder, { device, weights })
  const given = promptOf(prompt)
  let ids: number[] = []
  const run = async (times: number): Promise<number> => {
    ids = []
    let [first, last] = [0, 0]
    // Some more are asked for than counted: steps are in flight at both ends, else the last token would come sooner.
    const options = { maxTokens: times + 1 + MORE, temperature: 0 }
    for await (const id of model.generator.generate(given, options)) {
      if (ids.length === 0) first = performance.now()
      if (ids.push(id) <= times) continue
      last = performance.now()
      break
    }
    return (last - first) / times
  }
  await run(TOKENS)
  const decode = model.program.segments.find((s) => s.name === 'decode')!
  let [token, kernels] = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY]
  for (let round = 0; round < ROUNDS; round++) {
    token = Math.min(token, await run(TOKENS))
    const { launches } = await profileSegment(model.executable, decode)
    const sum = launches.reduce((all, { seconds }) => all + 1000 * seconds, 0)
    kernels = Math.min(kernels, sum)
  }
  return {
    notes: `weights and embedding ${weights}, cache f16, sums f32; the id of every token is read back`,
    facts: { step_over_kernels: token / kernels },
    run,
    sample: async (indices) => indices.map((i) => ids[i]!),
    release: () => model.destroy(),
  }
}
