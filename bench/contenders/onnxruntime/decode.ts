import { llama100m } from '../../models.ts'
import type { Prepared } from '../../suite/contender.ts'
import { promptOf } from '../../suite/inputs.ts'
import type { Work } from '../../suite/works.ts'
import type { Engine, Tensor } from './engine.ts'
import { cacheNames, llamaGraph } from './llama.ts'

/** Halves of an int64: the provider copies none. */
const halves = (id: number): Int32Array => Int32Array.of(id, 0)

/** Greedy decoding: a captured step per token, its id written over the last one on the device and read back. */
export async function prepareDecode(
  engine: Engine,
  { weights, prompt }: Work & { kind: 'decode' },
): Promise<Prepared> {
  // A model in f16 sums in f16: of the ids after the prompt the fifth would be another.
  const format = weights === 'f16' ? 'f32' : weights
  const { config, graph, cacheDims } = await llamaGraph((await llama100m()).folder, format)
  const size = cacheDims.reduce((a, b) => a * b, 1)
  const past: Record<string, Tensor> = {}
  const present: Record<string, Tensor> = {}
  for (let layer = 0; layer < config.layers; layer++) {
    const names = cacheNames(layer)
    for (const [i, name] of names.past.entries()) {
      past[name] = await engine.upload('float32', new Float32Array(size), ...cacheDims)
      present[names.present[i]!] = past[name]
    }
  }
  const id = await engine.upload('int32', halves(0), 2)
  const ids = engine.view(id, 'int64', 1, 1)
  const last = await engine.upload('int32', Int32Array.of(0), 1)
  const session = await engine.session(graph, { capture: true })
  /** The id that follows the one in `ids`, which is at this position; it takes its place. */
  const step = async (position: number): Promise<number> => {
    await engine.write(last, Int32Array.of(position))
    await session.run({ ids, last, ...past }, { next: ids, ...present })
    return Number((await engine.read(id, 'int32', 1))[0])
  }
  // Token by token: GroupQueryAttention of many rows is wrong from the ninth on where subgroups have 8 lanes (lavapipe).
  let first = 0
  for (const [position, given] of promptOf(prompt).entries()) {
    await engine.write(id, halves(given))
    first = await step(position)
  }

  let generated: number[] = []
  const run = async (times: number): Promise<number> => {
    // Keys and values of the prompt are in the cache still; those of an earlier run are written over.
    await engine.write(id, halves(first))
    generated = [first]
    const start = performance.now()
    for (let i = 0; i < times; i++) generated.push(await step(prompt + i))
    return (performance.now() - start) / times
  }
  const how = weights === 'f16' ? 'f16 weights widened to f32 at load' : `${weights} weights by MatMulNBits`
  return {
    notes: `${how}; f32 activations and cache; launches are captured; the id of every token is read back`,
    run,
    sample: async (indices) => indices.map((i) => generated[i]!),
    async release() {
      await session.release()
      for (const tensor of [id, last, ...Object.values(past)]) tensor.dispose()
    },
  }
}
