import type { ModelFamily, ModelShape, ParameterSpec } from '../../src/models/model.ts'

/** Tokens of a microbatch. */
export const ROWS = 32
/** Hidden size and vocabulary: the last layer's output is the logits, so no stage has a head beside its layers. */
const WIDTH = 256

/**
 * The model that the published bubbles assume: forward, input gradient and weight gradient of a layer are one matrix
 * product each, of the same sizes. The loss takes 4 operations a logit, 1/128 of a product's 2 `WIDTH`; gathering
 * embeddings takes none.
 */
export const linearModel: ModelFamily = {
  name: 'linear',
  accepts: [],
  parse: () => linearShape(1),
  parameters: ({ layers }) => [
    matrix('embedding', WIDTH, WIDTH),
    ...Array.from({ length: layers }, (_, i) => matrix(`${i}.weight`, WIDTH, WIDTH)),
  ],
  build(m, { layers }) {
    let x = m.embedding('embedding', m.ids, WIDTH, WIDTH)
    for (let i = 0; i < layers; i++) x = m.layer(i, () => m.linear(x, `${i}`, WIDTH))
    return x
  },
}

export const linearShape = (layers: number): ModelShape => ({
  layers,
  vocab: WIDTH,
  context: ROWS,
  attention: { heads: 1, kv_heads: 1, head_dim: WIDTH, scale: 1, window: 0, softcap: 0 },
})

/** Operations of one pass of a layer over a microbatch. */
export const PASS_FLOPS = 2 * ROWS * WIDTH * WIDTH

const matrix = (name: string, rows: number, columns: number): ParameterSpec => ({
  name,
  shape: [rows, columns],
  from: [{ name, rows }],
  init: columns ** -0.5,
})
