import { openModelFolder } from '../../../src/formats/model_folder.ts'
import { type LlamaConfig, llama } from '../../../src/models/llama.ts'
import { readParameter } from '../../../src/models/weights.ts'
import type { Dtype, Jax, Tensor } from './api.ts'

/** Matrices are [out, in]; query, key and value are one, as are gate and up: fewer dispatches. */
export type LayerWeights = {
  readonly attentionNorm: Tensor
  readonly qkv: Tensor
  readonly out: Tensor
  readonly ffnNorm: Tensor
  readonly gateUp: Tensor
  readonly down: Tensor
}

/** Without a head the embedding is the head too. */
export type LlamaWeights = {
  readonly embed: Tensor
  readonly layers: readonly LayerWeights[]
  readonly norm: Tensor
  readonly head: readonly Tensor[]
}

/** Cosines and sines of the rotary positions, [positions, head_dim / 2]. */
export type Rope = {
  readonly cos: Tensor
  readonly sin: Tensor
}

/** What attention does with queries, keys and values of a layer, [rows, heads * head_dim], before the output matrix. */
export type Attention = (layer: number, q: Tensor, k: Tensor, v: Tensor) => Tensor

export const hasF16 = (jax: Jax): boolean => jax.getWebGPUDevice().features.has('shader-f16')

/** A Llama of a Hugging Face folder on the device. There are no f16 arrays in Node 20: values go up as f32. */
export async function readLlama(
  jax: Jax,
  path: string,
  dtype: Dtype,
): Promise<{ config: LlamaConfig; weights: LlamaWeights }> {
  const folder = await openModelFolder(path)
  const config = llama.parse(folder.config)
  const names = new Set(folder.weights.names())
  const arrays = new Map<string, Tensor>()
  for (const spec of llama.parameters(config)) {
    const values = await readParameter(spec, folder.weights, names)
    const array = jax.numpy.array(values, { shape: spec.shape })
    arrays.set(spec.name, await array.astype(spec.shape.length > 1 ? dtype : 'float32').blockUntilReady())
  }
  await folder.close()
  const of = (name: string): Tensor => arrays.get(`${name}.weight`)!
  const layers = Array.from({ length: config.layers }, (_, i) => ({
    attentionNorm: of(`layers.${i}.attention_norm`),
    qkv: of(`layers.${i}.qkv`),
    out: of(`layers.${i}.attention_out`),
    ffnNorm: of(`layers.${i}.ffn_norm`),
    gateUp: of(`layers.${i}.gate_up`),
    down: of(`layers.${i}.down`),
  }))
  return {
    config,
    weights: { embed: of('embed'), layers, norm: of('norm'), head: config.tied ? [] : [of('head')] },
  }
}

export function ropeOf(jax: Jax, { attention: { head_dim }, rope }: LlamaConfig, positions: number): Rope {
  const half = head_dim / 2
  const table = (f: (x: number) => number): Tensor =>
    jax.numpy.array(
      Float32Array.from({ length: positions * half }, (_, at) =>
        f(Math.floor(at / half) * rope.base ** (-(at % half) / half)),
      ),
      { shape: [positions, half] },
    )
  return { cos: table(Math.cos), sin: table(Math.sin) }
}

export function rmsNorm({ numpy: np }: Jax, x: Tensor, weight: Tensor, eps: number): Tensor {
  const meanSquare = x.ref.mul(x.ref).mean(-1, { keepdims: true })
  return x.div(np.sqrt(meanSquare.add(eps))).mul(weight)
}

/** x [..., rows, head_dim]; cosines and sines [rows, head_dim / 2]. */
export function rotate({ numpy: np }: Jax, x: Tensor, { cos, sin }: Rope): Tensor {
  const [a, b] = np.split(x, 2, -1) as [Tensor, Tensor]
  return np.concatenate([a.ref.mul(cos.ref).sub(b.ref.mul(sin.ref)), b.mul(cos).add(a.mul(sin))], -1)
}

/**
 * softmax(q k^T / sqrt(head_dim)) v for q [..., rows, head_dim], k and v [..., context, head_dim]. `allowed` says which
 * keys a row sees. The sum divides last: it then divides head_dim numbers of a row instead of `context`.
 */
export function attend({ numpy: np }: Jax, q: Tensor, k: Tensor, v: Tensor, allowed?: Tensor): Tensor {
  const headDim = q.shape.at(-1)!
  const axes = k.shape.map((_, i) => i)
  const turned = k.transpose([...axes.slice(0, -2), axes.at(-1)!, axes.at(-2)!])
  const all = np.matmul(q.mul(headDim ** -0.5), turned)
  const scores = allowed ? np.where(allowed, all, -1e30) : all
  const highest = np.max(scores.ref, -1, { keepdims: true })
  const weights = np.exp(scores.sub(highest))
  const sum = weights.ref.sum(-1, { keepdims: true })
  return np.matmul(weights, v).div(sum)
}

/** Logits [rows, vocab] of ids [rows]. */
export function forward(
  jax: Jax,
  config: LlamaConfig,
  { embed, layers, norm, head: [head = embed.ref] }: LlamaWeights,
  ids: Tensor,
  attention: Attention,
): Tensor {
  const { numpy: np, nn } = jax
  const { heads, kv_heads, head_dim } = config.attention
  const [q, kv] = [heads * head_dim, kv_heads * head_dim]
  const linear = (x: Tensor, w: Tensor): Tensor => np.matmul(x, w.transpose())
  let x = embed.slice(ids).astype('float32')
  layers.forEach((layer, i) => {
    const qkv = linear(rmsNorm(jax, x.ref, layer.attentionNorm, config.eps), layer.qkv)
    const parts = np.split(qkv, [q, q + kv], -1) as [Tensor, Tensor, Tensor]
    x = x.add(linear(attention(i, ...parts), layer.out))
    const gateUp = linear(rmsNorm(jax, x.ref, layer.ffnNorm, config.eps), layer.gateUp)
    const [gate, up] = np.split(gateUp, 2, -1) as [Tensor, Tensor]
    x = x.add(linear(nn.silu(gate).mul(up), layer.down))
  })
  return linear(rmsNorm(jax, x, norm, config.eps), head)
}
