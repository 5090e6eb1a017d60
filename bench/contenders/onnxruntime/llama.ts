import { openModelFolder } from '../../../src/formats/model_folder.ts'
import { type LlamaConfig, llama } from '../../../src/models/llama.ts'
import { readParameter } from '../../../src/models/weights.ts'
import { type LinearFormat, linear } from './linear.ts'
import type { Graph, Initializer, Node, Value } from './onnx.ts'

/** A decoding step of a Llama, and what it is fed with. */
export interface LlamaGraph {
  readonly config: LlamaConfig
  readonly graph: Graph
  /** Dimensions of the keys, and of the values, of a layer. */
  readonly cacheDims: readonly number[]
}

export const cacheNames = (layer: number): { readonly past: string[]; readonly present: string[] } => ({
  past: [`past_key_values.${layer}.key`, `past_key_values.${layer}.value`],
  present: [`present.${layer}.key`, `present.${layer}.value`],
})

/**
 * One token of a Llama of a Hugging Face folder, laid out as onnxruntime-genai's model builder does for WebGPU: packed
 * query, key and value, GroupQueryAttention that rotates and holds the cache, norms that add the residual, gate and up
 * apart. `next` [1, 1] is the id that follows `ids` [1, 1] at position `last` [1].
 */
export async function llamaGraph(path: string, format: LinearFormat): Promise<LlamaGraph> {
  const folder = await openModelFolder(path)
  const config = llama.parse(folder.config)
  const names = new Set(folder.weights.names())
  const specs = new Map(llama.parameters(config).map((spec) => [spec.name, spec]))
  const read = (name: string): Promise<Float32Array> =>
    readParameter(specs.get(`${name}.weight`)!, folder.weights, names)

  const { width, ffn, context, vocab, layers, eps } = config
  const { heads, kv_heads, head_dim } = config.attention
  const tensor = (data: Float32Array, ...dims: number[]): Initializer => ({ type: 'float32', dims, data })
  const nodes: Node[] = []
  const initializers: Record<string, Initializer> = {}

  const addLinear = (x: string, y: string, w: Float32Array, depth: number, columns: number): string => {
    const layer = linear(x, y, format, w, depth, columns)
    nodes.push(layer.node)
    Object.assign(initializers, layer.initializers)
    return y
  }
  const product = (a: string, b: string, y: string): string => {
    nodes.push({ op: 'Mul', inputs: [a, b], outputs: [y] })
    return y
  }
  /** The norm of x + y, and that sum. */
  const addNorm = async (x: string, y: string, name: string): Promise<[norm: string, sum: string]> => {
    initializers[`${name}.weight`] = tensor(await read(name), width)
    nodes.push({
      op: 'SkipSimplifiedLayerNormalization',
      domain: 'com.microsoft',
      inputs: [x, y, `${name}.weight`],
      outputs: [name, '', '', `${name}.sum`],
      attributes: { epsilon: { float: eps } },
    })
    return [name, `${name}.sum`]
  }

  initializers['embed.weight'] = tensor(await read('embed'), vocab, width)
  nodes.push({ op: 'Gather', inputs: ['embed.weight', 'ids'], outputs: ['embed'] })
  const { cos, sin } = rotations(config)
  initializers.cos = tensor(cos, context, head_dim / 2)
  initializers.sin = tensor(sin, context, head_dim / 2)
  // The longest there can be: launches are captured, and read the length of now from `last`.
  initializers.total = { type: 'int32', dims: [1], data: Int32Array.of(context) }

  initializers['layers.0.attention_norm.weight'] = tensor(await read('layers.0.attention_norm'), width)
  nodes.push({
    op: 'SimplifiedLayerNormalization',
    inputs: ['embed', 'layers.0.attention_norm.weight'],
    outputs: ['layers.0.attention_norm'],
    attributes: { axis: -1, epsilon: { float: eps }, stash_type: 1 },
  })
  let [norm, sum] = ['layers.0.attention_norm', 'embed']
  for (let i = 0; i < layers; i++) {
    const at = `layers.${i}`
    const qkvColumns = (heads + 2 * kv_heads) * head_dim
    const qkv = addLinear(norm, `${at}.qkv`, await read(`${at}.qkv`), width, qkvColumns)
    const { past, present } = cacheNames(i)
    nodes.push({
      op: 'GroupQueryAttention',
      domain: 'com.microsoft',
      inputs: [qkv, '', '', ...past, 'last', 'total', 'cos', 'sin'],
      outputs: [`${at}.attention`, ...present],
      attributes: { num_heads: heads, kv_num_heads: kv_heads, do_rotary: 1 },
    })
    const out = await read(`${at}.attention_out`)
    const attended = addLinear(`${at}.attention`, `${at}.attention_out`, out, heads * head_dim, width)
    ;[norm, sum] = await addNorm(sum, attended, `${at}.ffn_norm`)
    const gateUp = await read(`${at}.gate_up`)
    const half = ffn * width
    const gate = addLinear(norm, `${at}.gate`, gateUp.subarray(0, half), width, ffn)
    const up = addLinear(norm, `${at}.up`, gateUp.subarray(half), width, ffn)
    nodes.push({ op: 'Sigmoid', inputs: [gate], outputs: [`${at}.sigmoid`] })
    const gated = product(product(gate, `${at}.sigmoid`, `${at}.silu`), up, `${at}.gated`)
    const down = addLinear(gated, `${at}.down`, await read(`${at}.down`), ffn, width)
    ;[norm, sum] = await addNorm(sum, down, i + 1 < layers ? `layers.${i + 1}.attention_norm` : 'norm')
  }
  const logits = addLinear(norm, 'logits', await read(config.tied ? 'embed' : 'head'), width, vocab)
  nodes.push({
    op: 'ArgMax',
    inputs: [logits],
    outputs: ['next'],
    attributes: { axis: -1, keepdims: 0 },
  })
  await folder.close()

  const cacheDims = [1, kv_heads, context, head_dim]
  const cache: Value = { type: 'float32', dims: cacheDims }
  const caches = (which: 'past' | 'present'): Record<string, Value> =>
    Object.fromEntries(
      Array.from({ length: layers }, (_, i) => cacheNames(i)[which]).flatMap((pair) =>
        pair.map((name) => [name, cache]),
      ),
    )
  const id: Value = { type: 'int64', dims: [1, 1] }
  const graph: Graph = {
    nodes,
    initializers,
    inputs: { ids: id, last: { type: 'int32', dims: [1] }, ...caches('past') },
    outputs: { next: id, ...caches('present') },
  }
  return { config, graph, cacheDims }
}

/** Cosines and sines [positions, head_dim / 2]. */
function rotations({ context, attention: { head_dim }, rope }: LlamaConfig): {
  cos: Float32Array
  sin: Float32Array
} {
  const half = head_dim / 2
  const angles = Float64Array.from(
    { length: context * half },
    (_, at) => Math.floor(at / half) * rope.base ** (-(at % half) / half),
  )
  return { cos: Float32Array.from(angles, Math.cos), sin: Float32Array.from(angles, Math.sin) }
}
