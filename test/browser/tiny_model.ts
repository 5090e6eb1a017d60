import type { Device } from '../../backends/backend.ts'
import {
  compile,
  families,
  formatOf,
  Generator,
  inferenceGraph,
  inferenceSpec,
  initialValues,
} from '../../src/browser.ts'

const CONFIG = {
  architectures: ['LlamaForCausalLM'],
  hidden_size: 64,
  intermediate_size: 128,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  vocab_size: 256,
  max_position_embeddings: 128,
  rms_norm_eps: 1e-5,
  tie_word_embeddings: true,
  // Ten times the usual spread: with it the best logit stands out and the tokens vary.
  initializer_range: 0.2,
}
const PROMPT = [84, 111, 32, 98, 101]

/** Greedy tokens of a two-layer model with seeded weights: the same in Node and in a page. */
export async function tinyModelTokens(device: Device, maxTokens: number): Promise<number[]> {
  const family = families().find((f) => f.accepts.some((name) => CONFIG.architectures.includes(name)))!
  const config = family.parse(CONFIG)
  // One prefill segment is enough for the prompt and a third of the kernels to compile.
  const spec = { ...inferenceSpec(config, { context: 64, weights: 'f32', kv: 'f32' }), prefill: [16] }
  const executable = await device.load(compile(inferenceGraph('tiny', family, config, spec), device.target))
  const arena = executable.arenas.weights!
  for (const parameter of family.parameters(config)) {
    const { offset, type } = arena.plan.tensors.find((t) => t.name === parameter.name)!
    arena.write(offset, formatOf(type.format).encode(initialValues(parameter, 1)))
  }
  const tokens: number[] = []
  const generator = new Generator(device, executable, spec)
  for await (const token of generator.generate(PROMPT, { maxTokens, temperature: 0 })) tokens.push(token)
  executable.destroy()
  return tokens
}
