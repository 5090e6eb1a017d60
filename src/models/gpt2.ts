import { z } from 'zod'
import { parseConfig } from './config.ts'
import type { ModelFamily, ModelShape, ParameterSpec } from './model.ts'

const positive = z.number().int().positive()

const schema = z.looseObject({
  n_embd: positive.max(65536),
  n_layer: positive.max(1024),
  n_head: positive.max(1024),
  n_inner: positive.max(1 << 20).nullish(),
  n_positions: positive.optional(),
  n_ctx: positive.optional(),
  vocab_size: positive.max(1 << 22),
  layer_norm_epsilon: z.number().positive().default(1e-5),
  activation_function: z.enum(['gelu_new', 'gelu_pytorch_tanh', 'gelu']).default('gelu_new'),
  tie_word_embeddings: z.boolean().default(true),
  initializer_range: z.number().positive().default(0.02),
})

export interface Gpt2Config extends ModelShape {
  readonly width: number
  readonly ffn: number
  readonly eps: number
  readonly tied: boolean
  readonly initialStd: number
}

/** GPT-2 (Radford et al., 2019): learned positions, layer norm, gelu. */
export const gpt2: ModelFamily<Gpt2Config> = {
  name: 'gpt2',
  accepts: ['GPT2LMHeadModel'],

  parse(config) {
    const c = parseConfig(schema, config)
    if (c.activation_function === 'gelu')
      parseConfig.fail(
        "activation_function 'gelu' (erf) is not supported; supported: gelu_new, gelu_pytorch_tanh",
      )
    const head_dim = c.n_embd / c.n_head
    if (!Number.isInteger(head_dim) || head_dim % 4 !== 0)
      parseConfig.fail(
        `n_embd ${c.n_embd} over ${c.n_head} heads gives head size ${head_dim}; it must be a multiple of 4`,
      )
    return {
      layers: c.n_layer,
      vocab: c.vocab_size,
      context: c.n_positions ?? c.n_ctx ?? 1024,
      attention: {
        heads: c.n_head,
        kv_heads: c.n_head,
        head_dim,
        scale: 1 / Math.sqrt(head_dim),
        window: 0,
        softcap: 0,
      },
      width: c.n_embd,
      ffn: c.n_inner ?? 4 * c.n_embd,
      eps: c.layer_norm_epsilon,
      tied: c.tie_word_embeddings,
      initialStd: c.initializer_range,
    }
  },

  parameters(c) {
    const list: ParameterSpec[] = []
    const std = c.initialStd
    const outStd = std / Math.sqrt(2 * c.layers)
    const linear = (
      name: string,
      theirs: string,
      rows: number,
      cols: number,
      init: number,
      split: NonNullable<ParameterSpec['split']>,
    ): void => {
      list.push({
        split,
        name: `${name}.weight`,
        shape: [rows, cols],
        from: [{ name: `${theirs}.weight`, rows }],
        transposed: true,
        init,
      })
      list.push({
        ...(split === 'columns' ? {} : { split }),
        name: `${name}.bias`,
        shape: [rows],
        from: [{ name: `${theirs}.bias`, rows }],
        init: 'zeros',
      })
    }
    const norm = (name: string, theirs: string): void => {
      for (const part of ['weight', 'bias'] as const)
        list.push({
          name: `${name}.${part}`,
          shape: [c.width],
          from: [{ name: `${theirs}.${part}`, rows: c.width }],
          init: part === 'weight' ? 'ones' : 'zeros',
        })
    }
    list.push({
      split: { rows: [c.vocab] },
      name: 'embed.weight',
      shape: [c.vocab, c.width],
      from: [{ name: 'transformer.wte.weight', rows: c.vocab }],
      init: std,
    })
    list.push({
      name: 'positions.weight',
      shape: [c.context, c.width],
      from: [{ name: 'transformer.wpe.weight', rows: c.context }],
      init: std,
    })
    for (let i = 0; i < c.layers; i++) {
      const [ours, theirs] = [`layers.${i}`, `transformer.h.${i}`]
      norm(`${ours}.attention_norm`, `${theirs}.ln_1`)
      linear(`${ours}.qkv`, `${theirs}.attn.c_attn`, 3 * c.width, c.width, std, {
        rows: [c.width, c.width, c.width],
      })
      linear(`${ours}.attention_out`, `${theirs}.attn.c_proj`, c.width, c.width, outStd, 'columns')
      norm(`${ours}.ffn_norm`, `${theirs}.ln_2`)
      linear(`${ours}.up`, `${theirs}.mlp.c_fc`, c.ffn, c.width, std, { rows: [c.ffn] })
      linear(`${ours}.down`, `${theirs}.mlp.c_proj`, c.width, c.ffn, outStd, 'columns')
    }
    norm('norm', 'transformer.ln_f')
    if (!c.tied)
      list.push({
        split: { rows: [c.vocab] },
        name: 'head.weight',
        shape: [c.vocab, c.width],
        from: [{ name: 'lm_head.weight', rows: c.vocab }],
        init: std,
      })
    return list
  },

  build(m, c) {
    let x = m.add(
      m.embedding('embed.weight', m.ids, c.vocab, c.width, true),
      m.embedding('positions.weight', m.positions, c.context, c.width),
    )
    for (let i = 0; i < c.layers; i++)
      m.layer(i, () => {
        const p = `layers.${i}`
        const out = { bias: true, split: 'out' } as const
        const back = { bias: true, split: 'in' } as const
        const qkv = m.linear(m.layerNorm(x, `${p}.attention_norm`, c.eps), `${p}.qkv`, 3 * c.width, out)
        x = m.add(x, m.linear(m.attention(i, qkv, c.attention), `${p}.attention_out`, c.width, back))
        const up = m.linear(m.layerNorm(x, `${p}.ffn_norm`, c.eps), `${p}.up`, c.ffn, out)
        x = m.add(x, m.linear(m.unary('gelu_tanh', up), `${p}.down`, c.width, back))
      })
    return m.linear(m.layerNorm(m.rows(x), 'norm', c.eps), c.tied ? 'embed' : 'head', c.vocab, {
      split: 'out',
    })
  },
}
