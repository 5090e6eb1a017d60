import { z } from 'zod'
import { parseConfig } from './config.ts'
import type { ModelFamily, ModelShape, ParameterSpec, RopeSpec } from './model.ts'

const positive = z.number().int().positive()

const ropeParameters = z.looseObject({
  rope_type: z.string().optional(),
  type: z.string().optional(),
  rope_theta: z.number().positive().optional(),
  factor: z.number().positive().optional(),
  low_freq_factor: z.number().positive().optional(),
  high_freq_factor: z.number().positive().optional(),
  original_max_position_embeddings: positive.optional(),
})

/** Fields of config.json as Hugging Face names them; defaults are those of its LlamaConfig. */
const schema = z.looseObject({
  model_type: z.string().default('llama'),
  hidden_size: positive.max(65536),
  intermediate_size: positive.max(1 << 20),
  num_hidden_layers: positive.max(1024),
  num_attention_heads: positive.max(1024),
  num_key_value_heads: positive.max(1024).optional(),
  head_dim: positive.max(1024).nullish(),
  vocab_size: positive.max(1 << 22),
  max_position_embeddings: positive.default(2048),
  rms_norm_eps: z.number().positive().default(1e-6),
  rope_theta: z.number().positive().default(10000),
  rope_scaling: ropeParameters.nullish(),
  rope_parameters: ropeParameters.nullish(),
  tie_word_embeddings: z.boolean().default(false),
  attention_bias: z.boolean().default(false),
  mlp_bias: z.boolean().default(false),
  sliding_window: positive.nullish(),
  use_sliding_window: z.boolean().optional(),
  hidden_act: z.enum(['silu', 'gelu_pytorch_tanh']).default('silu'),
  initializer_range: z.number().positive().default(0.02),
})

export interface LlamaConfig extends ModelShape {
  readonly width: number
  readonly ffn: number
  readonly eps: number
  readonly rope: RopeSpec
  readonly tied: boolean
  readonly qkvBias: boolean
  readonly outBias: boolean
  readonly mlpBias: boolean
  readonly gate: 'swiglu' | 'geglu'
  readonly initialStd: number
}

function ropeScaling(given: z.infer<typeof ropeParameters> | null | undefined): RopeSpec['scaling'] {
  const kind = given?.rope_type ?? given?.type ?? 'default'
  if (kind === 'default') return null
  if (kind === 'linear') return { kind, factor: given!.factor ?? 1 }
  if (kind === 'llama3')
    return {
      kind,
      factor: given!.factor ?? 8,
      low_freq_factor: given!.low_freq_factor ?? 1,
      high_freq_factor: given!.high_freq_factor ?? 4,
      original_max_position: given!.original_max_position_embeddings ?? 8192,
    }
  return parseConfig.fail(`rope scaling '${kind}' is not supported; supported: default, linear, llama3`)
}

/** Divided by rows, each of the parts that make it on its own. */
const byRows = (from: readonly (readonly [string, number])[]): { readonly rows: readonly number[] } => ({
  rows: from.map(([, rows]) => rows),
})

/** Llama 1 to 3, Mistral and Qwen2: pre-norm, rotary positions, grouped queries, gated feed-forward. */
export const llama: ModelFamily<LlamaConfig> = {
  name: 'llama',
  accepts: ['LlamaForCausalLM', 'MistralForCausalLM', 'Qwen2ForCausalLM'],

  parse(config) {
    const c = parseConfig(schema, config)
    const heads = c.num_attention_heads
    const kv_heads = c.num_key_value_heads ?? heads
    const head_dim = c.head_dim ?? c.hidden_size / heads
    if (!Number.isInteger(head_dim) || head_dim % 4 !== 0)
      parseConfig.fail(
        `hidden_size ${c.hidden_size} over ${heads} heads gives head size ${head_dim}; it must be a multiple of 4`,
      )
    if (heads % kv_heads !== 0)
      parseConfig.fail(`num_attention_heads ${heads} must be a multiple of num_key_value_heads ${kv_heads}`)
    const qwen = c.model_type === 'qwen2'
    const scaling = c.rope_parameters ?? c.rope_scaling
    return {
      layers: c.num_hidden_layers,
      vocab: c.vocab_size,
      context: c.max_position_embeddings,
      attention: {
        heads,
        kv_heads,
        head_dim,
        scale: 1 / Math.sqrt(head_dim),
        window:
          c.use_sliding_window === false || (qwen && !c.use_sliding_window) ? 0 : (c.sliding_window ?? 0),
        softcap: 0,
      },
      width: c.hidden_size,
      ffn: c.intermediate_size,
      eps: c.rms_norm_eps,
      rope: {
        layout: 'half',
        rotary_dim: head_dim,
        base: c.rope_parameters?.rope_theta ?? c.rope_theta,
        scaling: ropeScaling(scaling),
      },
      tied: c.tie_word_embeddings,
      qkvBias: c.attention_bias || qwen,
      outBias: c.attention_bias,
      mlpBias: c.mlp_bias,
      gate: c.hidden_act === 'silu' ? 'swiglu' : 'geglu',
      initialStd: c.initializer_range,
    }
  },

  parameters(c) {
    const { heads, kv_heads, head_dim } = c.attention
    const [q, kv] = [heads * head_dim, kv_heads * head_dim]
    const list: ParameterSpec[] = []
    const std = c.initialStd
    // Projections back into the residual stream start smaller, so that its variance does not grow with depth.
    const outStd = std / Math.sqrt(2 * c.layers)
    type Split = NonNullable<ParameterSpec['split']>
    const matrix = (
      name: string,
      cols: number,
      from: [string, number][],
      init: number,
      split: Split = byRows(from),
    ): void => {
      const rows = from.reduce((sum, [, n]) => sum + n, 0)
      list.push({
        split,
        name: `${name}.weight`,
        shape: [rows, cols],
        from: from.map(([n, r]) => ({ name: `${n}.weight`, rows: r })),
        init,
      })
    }
    const vector = (name: string, from: [string, number][], init: 'ones' | 'zeros', split?: Split): void => {
      const rows = from.reduce((sum, [, n]) => sum + n, 0)
      list.push({
        ...(split ? { split } : {}),
        name,
        shape: [rows],
        from: from.map(([n, r]) => ({ name: `${n}.${name.split('.').at(-1)}`, rows: r })),
        init,
      })
    }
    matrix('embed', c.width, [['model.embed_tokens', c.vocab]], std)
    for (let i = 0; i < c.layers; i++) {
      const ours = `layers.${i}`
      const theirs = `model.layers.${i}`
      const qkv: [string, number][] = [
        [`${theirs}.self_attn.q_proj`, q],
        [`${theirs}.self_attn.k_proj`, kv],
        [`${theirs}.self_attn.v_proj`, kv],
      ]
      const gateUp: [string, number][] = [
        [`${theirs}.mlp.gate_proj`, c.ffn],
        [`${theirs}.mlp.up_proj`, c.ffn],
      ]
      vector(`${ours}.attention_norm.weight`, [[`${theirs}.input_layernorm`, c.width]], 'ones')
      matrix(`${ours}.qkv`, c.width, qkv, std)
      if (c.qkvBias) vector(`${ours}.qkv.bias`, qkv, 'zeros', byRows(qkv))
      matrix(`${ours}.attention_out`, q, [[`${theirs}.self_attn.o_proj`, c.width]], outStd, 'columns')
      if (c.outBias) vector(`${ours}.attention_out.bias`, [[`${theirs}.self_attn.o_proj`, c.width]], 'zeros')
      vector(`${ours}.ffn_norm.weight`, [[`${theirs}.post_attention_layernorm`, c.width]], 'ones')
      matrix(`${ours}.gate_up`, c.width, gateUp, std)
      if (c.mlpBias) vector(`${ours}.gate_up.bias`, gateUp, 'zeros', byRows(gateUp))
      matrix(`${ours}.down`, c.ffn, [[`${theirs}.mlp.down_proj`, c.width]], outStd, 'columns')
      if (c.mlpBias) vector(`${ours}.down.bias`, [[`${theirs}.mlp.down_proj`, c.width]], 'zeros')
    }
    vector('norm.weight', [['model.norm', c.width]], 'ones')
    if (!c.tied) matrix('head', c.width, [['lm_head', c.vocab]], std)
    return list
  },

  build(m, c) {
    const { heads, kv_heads, head_dim } = c.attention
    let x = m.embedding('embed.weight', m.ids, c.vocab, c.width, true)
    for (let i = 0; i < c.layers; i++)
      m.layer(i, () => {
        const p = `layers.${i}`
        const h = m.rmsNorm(x, `${p}.attention_norm`, c.eps)
        const qkv = m.rope(
          m.linear(h, `${p}.qkv`, (heads + 2 * kv_heads) * head_dim, { bias: c.qkvBias, split: 'out' }),
          c.attention,
          c.rope,
        )
        const attended = m.attention(i, qkv, c.attention)
        x = m.add(x, m.linear(attended, `${p}.attention_out`, c.width, { bias: c.outBias, split: 'in' }))
        const f = m.rmsNorm(x, `${p}.ffn_norm`, c.eps)
        const up = m.linear(f, `${p}.gate_up`, 2 * c.ffn, { bias: c.mlpBias, split: 'out' })
        x = m.add(x, m.linear(m.unary(c.gate, up), `${p}.down`, c.width, { bias: c.mlpBias, split: 'in' }))
      })
    return m.linear(m.rmsNorm(m.rows(x), 'norm', c.eps), c.tied ? 'embed' : 'head', c.vocab, { split: 'out' })
  },
}
