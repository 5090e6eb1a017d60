import { llama100m } from '../../models.ts'
import type { Prepared } from '../../suite/contender.ts'
import { promptOf } from '../../suite/inputs.ts'
import type { Work } from '../../suite/works.ts'
import type { Engine, Tensor } from './engine.ts'
import { cacheNames, llamaGraph } from './llama.ts'

/** Greedy decoding: a captured step per token, its id written over the last one on the device and read back. */
export async function prepareDecode(
  engine: Engine,
  { weights, prompt }: Work & { kind: 'decode' },
): Promise<Prepared> {
  const { config, graph, type, cacheDims } = await llamaGraph((await llama100m()).folder, weights)
  // The provider copies no int64: halves of one, the low one first.
  const id = await engine.upload('int32', Int32Array.of(0, 0), 2)
  const ids = engine.view(id, 'int64', 1, 1)
  const last = await engine.upload('int32', Int32Array.of(0), 1)
  const feeds: Record<string, Tensor> = { ids, last }
  const fetches: Record<string, Tensor> = { next: ids }
  const size = cacheDims.reduce((a, b) => a * b, 1)
  for (let layer = 0; layer < config.layers; layer++) {
    const { past, present } = cacheNames(layer)
    for (const [i, name] of past.entries()) {
      const zeros = type === 'float16' ? new Uint16Array(size) : new Float32Array(size)
      feeds[name] = await engine.upload(type, zeros, ...cacheDims)
      fetches[present[i]!] = feeds[name]
    }
  }
  const session = await engine.session(graph, { capture: true })
  /** The id that follows that of `ids`, which is at this position. */
  const step = async (position: number): Promise<number> => {
    await engine.write(last, Int32Array.of(position))
    await session.run(feeds, fetches)
    return Number((await engine.read(id, 'int32', 1))[0])
  }
  let first = 0
  for (const [position, given] of promptOf(prompt).entries()) {
    await engine.write(id, Int32Array.of(given, 0))
    first = await step(position)
  }
  let generated: number[] = []
  return {
    notes: `${type} activations and cache, past and present share it; launches are captured; the id of every token is read back`,
    async run(times) {
      // Keys and values of the prompt are in the cache still; those of an earlier run are written over.
      await engine.write(id, Int32Array.of(first, 0))
      generated = [first]
      const start = performance.now()
      for (let i = 0; i < times; i++) generated.push(await step(prompt + i))
      return (performance.now() - start) / times
    },
    sample: async (indices) => indices.map((i) => generated[i]!),
    async release() {
      await session.release()
      for (const tensor of Object.values(feeds)) tensor.dispose()
    },
  }
}
