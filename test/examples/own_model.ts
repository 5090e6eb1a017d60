// A model family from outside the package: attention and feed-forward side by side, as in GPT-J, with an activation
// that is itself from outside (own_op.ts). 'exactmap' stands for src/index.ts.
import { z } from 'zod'
import { type ModelFamily, type ModelShape, parseConfig, registerModel } from '../../src/index.ts'
import './own_op.ts'

const size = z.number().int().positive()
const schema = z.looseObject({
  width: size.multipleOf(4),
  layers: size,
  vocab_size: size,
  context: size.default(64),
})
type Config = ModelShape & { readonly width: number }
const eps = 1e-5
const rope = { layout: 'half', base: 10000, scaling: null } as const

export const parallel: ModelFamily<Config> = {
  name: 'parallel',
  accepts: ['ParallelForCausalLM'],
  parse(config) {
    const { width, layers, vocab_size: vocab, context } = parseConfig(schema, config)
    const attention = { heads: 2, kv_heads: 1, head_dim: width / 2, window: 0, softcap: 0 }
    return { width, layers, vocab, context, attention: { ...attention, scale: attention.head_dim ** -0.5 } }
  },
  parameters({ width, layers, vocab }) {
    const matrix = (name: string, rows: number, cols: number) => ({
      name: `${name}.weight`,
      shape: [rows, cols],
      from: [{ name: `${name}.weight`, rows }],
      init: cols ** -0.5,
    })
    const norm = (name: string) => ({
      name: `${name}.weight`,
      shape: [width],
      from: [{ name: `${name}.weight`, rows: width }],
      init: 'ones' as const,
    })
    const layer = (i: number) => [
      norm(`${i}.norm`),
      matrix(`${i}.qkv`, 2 * width, width),
      matrix(`${i}.out`, width, width),
      matrix(`${i}.up`, 4 * width, width),
      matrix(`${i}.down`, width, 4 * width),
    ]
    const layerList = Array.from({ length: layers }, (_, i) => layer(i)).flat()
    return [matrix('embed', vocab, width), ...layerList, norm('norm')]
  },
  build(m, { width, layers, vocab, attention }) {
    let x = m.embedding('embed.weight', m.ids, vocab, width)
    for (let i = 0; i < layers; i++)
      m.layer(i, () => {
        const h = m.rmsNorm(x, `${i}.norm`, eps)
        const qkv = m.rope(m.linear(h, `${i}.qkv`, 2 * width), attention, { ...rope, rotary_dim: width / 2 })
        const attended = m.linear(m.attention(i, qkv, attention), `${i}.out`, width)
        const active = m.g.op('squared_relu', {}, { x: m.linear(h, `${i}.up`, 4 * width) }).y!
        x = m.add(x, m.add(attended, m.linear(active, `${i}.down`, width)))
      })
    return m.linear(m.rmsNorm(m.rows(x), 'norm', eps), 'embed', vocab)
  },
}
registerModel(parallel)
