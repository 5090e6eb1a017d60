import { join } from 'node:path'
import { packageRoot } from '../../../backends/package_root.ts'
import type { LlamaConfig } from '../../../src/models/llama.ts'
import { type Prepared, timed } from '../../suite/contender.ts'
import { trainingIds } from '../../suite/inputs.ts'
import type { Work } from '../../suite/works.ts'
import { adamw } from './adamw.ts'
import type { Tensor, Tfjs } from './api.ts'
import { type Layers, trainingLayers } from './layers.ts'
import { readLlama, ropeTables } from './llama.ts'

/** Below what f32 attention scores reach, and far from overflow. */
const MASKED = -1e9

export async function prepareTrainStep(tf: Tfjs, work: Work & { kind: 'train_step' }): Promise<Prepared> {
  const { batch, sequence } = work
  const { config, parameters } = await readLlama(join(packageRoot(), 'assets', 'shakespeare'))
  const rows = batch * sequence
  const rope = ropeTables(
    tf,
    config,
    Array.from({ length: rows }, (_, i) => i % sequence),
  )
  const layers = trainingLayers(tf, rows, config.eps, rope)
  const all = trainingIds(batch, sequence + 1)
  const ids = (shift: number): Tensor =>
    tf.tensor(
      Int32Array.from(
        { length: rows },
        (_, i) => all[Math.floor(i / sequence) * (sequence + 1) + (i % sequence) + shift]!,
      ),
      [rows],
      'int32',
    )
  const [tokens, targets] = [ids(0), ids(1)]
  const mask = causalMask(tf, config, batch, sequence)
  const optimizer = adamw(tf, parameters, {
    rate: 3e-3,
    beta1: 0.9,
    beta2: 0.95,
    eps: 1e-8,
    decay: 0.1,
    clip: 1,
  })
  const names = optimizer.names
  const lossAndGradients = tf.valueAndGrads((...values) => {
    const weights = new Map(values.map((value, i) => [names[i]!, value]))
    const logits = forward(tf, layers, config, weights, tokens, mask, batch, sequence)
    return layers.crossEntropy(logits, targets)
  })
  const losses: number[] = []
  return {
    notes: 'f32, q k v and gate up as one matrix; the loss of every step is read back',
    run: (times) =>
      timed(times, async () => {
        for (let i = 0; i < times; i++) {
          const loss = optimizer.step(lossAndGradients)
          losses.push((await loss.data())[0]!)
          loss.dispose()
        }
      }),
    sample: async (indices) => indices.map((i) => losses[i]!),
    release: async () => {
      optimizer.dispose()
      layers.dispose()
      tf.dispose([rope.cos, rope.sin, rope.partner, tokens, targets, mask])
    },
  }
}

/** What is added to scores [batch * kv_heads, group * sequence, sequence]: all of it, as ops of equal shapes are faster. */
function causalMask(tf: Tfjs, { attention }: LlamaConfig, batch: number, sequence: number): Tensor {
  const { heads, kv_heads } = attention
  const one = Float32Array.from({ length: sequence * sequence }, (_, i) =>
    i % sequence > Math.floor(i / sequence) ? MASKED : 0,
  )
  const values = new Float32Array(batch * heads * one.length)
  for (let i = 0; i < batch * heads; i++) values.set(one, i * one.length)
  return tf.tensor(values, [batch * kv_heads, (heads / kv_heads) * sequence, sequence])
}

/** Logits [batch * sequence, vocab]. */
function forward(
  tf: Tfjs,
  { embedding, linear, rmsNorm, rope }: Layers,
  { attention, layers, ffn }: LlamaConfig,
  weights: ReadonlyMap<string, Tensor>,
  tokens: Tensor,
  mask: Tensor,
  batch: number,
  sequence: number,
): Tensor {
  const { heads, kv_heads, head_dim } = attention
  const group = heads / kv_heads
  const rows = batch * sequence
  const weight = (name: string): Tensor => weights.get(`${name}.weight`)!
  const [q, kv] = [heads * head_dim, kv_heads * head_dim]
  let x = embedding(weight('embed'), tokens)
  for (let i = 0; i < layers; i++) {
    const of = (name: string): Tensor => weight(`layers.${i}.${name}`)
    const [qk, v] = tf.split(linear(rmsNorm(x, of('attention_norm')), of('qkv')), [q + kv, kv], 1) as [
      Tensor,
      Tensor,
    ]
    const [queries, keys] = tf.split(rope(qk), [q, kv], 1) as [Tensor, Tensor]
    // Query heads of a group are rows that share keys and values.
    const grouped = tf.reshape(
      tf.transpose(tf.reshape(queries, [batch, sequence, kv_heads, group, head_dim]), [0, 2, 3, 1, 4]),
      [batch * kv_heads, group * sequence, head_dim],
    )
    const perHead = (t: Tensor, order: readonly number[], shape: readonly number[]): Tensor =>
      tf.reshape(tf.transpose(tf.reshape(t, [batch, sequence, kv_heads, head_dim]), order), shape)
    const k = perHead(keys, [0, 2, 1, 3], [batch * kv_heads, sequence, head_dim])
    const turned = perHead(v, [0, 2, 3, 1], [batch * kv_heads, head_dim, sequence])
    const mixed = linear(tf.softmax(tf.add(linear(grouped, k), mask)), turned)
    const attended = tf.reshape(
      tf.transpose(tf.reshape(mixed, [batch, kv_heads, group, sequence, head_dim]), [0, 3, 1, 2, 4]),
      [rows, q],
    )
    x = tf.add(x, linear(attended, of('attention_out')))
    const up = linear(rmsNorm(x, of('ffn_norm')), of('gate_up'))
    const [gate, value] = tf.split(up, [ffn, ffn], 1) as [Tensor, Tensor]
    x = tf.add(x, linear(tf.mul(tf.mul(gate, tf.sigmoid(gate)), value), of('down')))
  }
  return linear(rmsNorm(x, weight('norm')), weight('embed'))
}
