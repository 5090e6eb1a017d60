import type { LlamaConfig } from '../../../src/models/llama.ts'
import { llama100m } from '../../models.ts'
import type { Prepared } from '../../suite/contender.ts'
import { promptOf } from '../../suite/inputs.ts'
import type { Work } from '../../suite/works.ts'
import type { Tensor, Tfjs } from './api.ts'
import { type Rope, readLlama, ropeTables } from './llama.ts'

/** What one layer remembers: keys [kv_heads, head_dim, tokens], values [kv_heads, tokens, head_dim]. */
interface Cache {
  readonly keys: Tensor
  readonly values: Tensor
}

/** After a token: the id that follows, on the device. */
interface State {
  readonly id: Tensor
  readonly caches: readonly Cache[]
}

const tensorsOf = ({ id, caches }: State): Tensor[] => [
  id,
  ...caches.flatMap(({ keys, values }) => [keys, values]),
]

/** Greedy decoding. Every run goes on from the prompt, which is done once. */
export async function prepareDecode(
  tf: Tfjs,
  { weights, prompt }: Work & { kind: 'decode' },
): Promise<Prepared | { readonly unsupported: string }> {
  if (weights !== 'f16') return { unsupported: `it has no ${weights} weights` }
  const { folder } = await llama100m()
  const { config, parameters } = await readLlama(folder)
  const tensors = new Map(
    parameters.map(({ name, shape, values }) => [
      name,
      tf.tensor(values, shape.length > 1 ? shape : [1, ...shape]),
    ]),
  )
  const positions = Array.from({ length: config.context }, (_, i) => i)
  const rope = ropeTables(tf, config, positions)
  const fixed = { rope, mean: tf.zeros([1, 1]) }
  const next = (id: Tensor, position: number, caches: readonly Cache[] | undefined): State =>
    tf.tidy(() => token(tf, config, tensors, fixed, id, position, caches))

  let after: State | undefined
  for (const [position, id] of promptOf(prompt).entries()) {
    const given = tf.tensor([id], [1], 'int32')
    const state = next(given, position, after?.caches)
    tf.dispose([given, ...(after ? tensorsOf(after) : [])])
    after = state
  }
  const start = after!
  const firstId = (await start.id.data())[0]!
  let ids: number[] = []
  return {
    notes: 'f32 weights: it has no f16; cache f32, grown by concat; the id of every token is read back',
    async run(times) {
      ids = [firstId]
      let state = start
      const begin = performance.now()
      for (let i = 0; i < times; i++) {
        const last = state
        state = next(last.id, prompt + i, last.caches)
        if (last !== start) tf.dispose(tensorsOf(last))
        ids.push((await state.id.data())[0]!)
      }
      const ms = (performance.now() - begin) / times
      if (state !== start) tf.dispose(tensorsOf(state))
      return ms
    },
    sample: async (indices) => indices.map((i) => ids[i]!),
    release: async () =>
      tf.dispose([...tensors.values(), ...tensorsOf(start), rope.cos, rope.sin, rope.partner, fixed.mean]),
  }
}

function token(
  tf: Tfjs,
  { attention, layers, ffn, eps, tied }: LlamaConfig,
  weights: ReadonlyMap<string, Tensor>,
  { rope, mean }: { readonly rope: Rope; readonly mean: Tensor },
  id: Tensor,
  position: number,
  caches: readonly Cache[] | undefined,
): State {
  const { heads, kv_heads, head_dim } = attention
  const [q, kv] = [heads * head_dim, kv_heads * head_dim]
  const weight = (name: string): Tensor => weights.get(`${name}.weight`)!
  const linear = (x: Tensor, name: string): Tensor => tf.matMul(x, weight(name), false, true)
  // A batch norm of mean 0 and variance mean(x^2): of one row three ops are faster than six.
  const norm = (x: Tensor, name: string): Tensor =>
    tf.batchNorm(x, mean, tf.mean(tf.square(x), 1, true), undefined, weight(name), eps)
  const row = (table: Tensor): Tensor => tf.slice(table, [position, 0], [1, q + kv])
  const [cos, sin] = [row(rope.cos), row(rope.sin)]
  let x = tf.gather(weight('embed'), id)
  const grown = Array.from({ length: layers }, (_, i): Cache => {
    const of = (name: string): string => `layers.${i}.${name}`
    const [qk, v] = tf.split(linear(norm(x, of('attention_norm')), of('qkv')), [q + kv, kv], 1) as [
      Tensor,
      Tensor,
    ]
    const rotated = tf.add(tf.mul(qk, cos), tf.mul(tf.gather(qk, rope.partner, 1), sin))
    const [query, key] = tf.split(rotated, [q, kv], 1) as [Tensor, Tensor]
    const newKeys = tf.reshape(key, [kv_heads, head_dim, 1])
    const newValues = tf.reshape(v, [kv_heads, 1, head_dim])
    const cache = caches?.[i]
    const keys = cache ? tf.concat([cache.keys, newKeys], 2) : newKeys
    const values = cache ? tf.concat([cache.values, newValues], 1) : newValues
    const scores = tf.matMul(tf.reshape(query, [kv_heads, heads / kv_heads, head_dim]), keys)
    const mixed = tf.reshape(tf.matMul(tf.softmax(scores), values), [1, q])
    x = tf.add(x, linear(mixed, of('attention_out')))
    const up = linear(norm(x, of('ffn_norm')), of('gate_up'))
    const [gate, value] = tf.split(up, [ffn, ffn], 1) as [Tensor, Tensor]
    x = tf.add(x, linear(tf.mul(tf.mul(gate, tf.sigmoid(gate)), value), of('down')))
    return { keys, values }
  })
  const logits = linear(norm(x, 'norm'), tied ? 'embed' : 'head')
  return { id: tf.argMax(logits, 1), caches: grown }
}
