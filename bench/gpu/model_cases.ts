import type { CudaTarget } from '../../backends/cuda/target.ts'
import { inferenceSpec } from '../../src/engine/defaults.ts'
import { inferenceGraph } from '../../src/engine/inference_graph.ts'
import { samplingRow } from '../../src/engine/sampling.ts'
import { PAGE_TOKENS } from '../../src/kv_cache/layout.ts'
import { familyOf } from '../../src/models/index.ts'
import { adamwHyper } from '../../src/ops/adamw.ts'
import { compile } from '../../src/program/compile.ts'
import type { FormatName } from '../../src/tensor/format.ts'
import { byteSize } from '../../src/tensor/type.ts'
import { trainSchema } from '../../src/train/config.ts'
import { trainingProgram } from '../../src/train/trainer.ts'
import type { ProgramCase } from '../../src/verify/cuda_cases.ts'

/** Shapes of Llama 3.2 1B, Llama 3.1 8B and GPT-2 124M as their config.json have them; bench/gpu/peer_shapes.py has the same. */
const llama = {
  architectures: ['LlamaForCausalLM'],
  vocab_size: 128256,
  num_attention_heads: 32,
  num_key_value_heads: 8,
  max_position_embeddings: 131072,
  rms_norm_eps: 1e-5,
  rope_theta: 500000,
}
const shapes = {
  llama_1b: {
    ...llama,
    hidden_size: 2048,
    intermediate_size: 8192,
    num_hidden_layers: 16,
    tie_word_embeddings: true,
  },
  llama_8b: {
    ...llama,
    hidden_size: 4096,
    intermediate_size: 14336,
    num_hidden_layers: 32,
    tie_word_embeddings: false,
  },
  gpt2_124m: {
    architectures: ['GPT2LMHeadModel'],
    // GPT-2's 50,257 and as many unused entries as make a multiple of 128, as its trainers have them.
    vocab_size: 50304,
    n_embd: 768,
    n_layer: 12,
    n_head: 12,
    n_positions: 1024,
  },
} as const

const CONTEXT = 1024

/** One decoded token of every sequence, with caches filled to all but the last place. */
export function decodeCase(
  target: CudaTarget,
  model: keyof typeof shapes,
  weights: FormatName,
  batch = 1,
  config: Record<string, unknown> = shapes[model],
): ProgramCase {
  const family = familyOf(config)
  const shape = family.parse(config)
  // A batch multiplies on tensor cores, which want both operands in 16 bits: as peers have them.
  const activations = batch > 1 && weights === 'bf16' ? 'bf16' : 'f32'
  const spec = { ...inferenceSpec(shape, { context: CONTEXT, batch, weights, activations }), prefill: [] }
  const program = compile(inferenceGraph(`${model}-decode`, family, shape, spec), target)
  const position = new Uint32Array(batch).fill(CONTEXT - 2)
  const rows = Uint32Array.from({ length: batch }, (_, i) => i)
  const next = position.map((p) => p + 1)
  const tensors = program.arenas.find((a) => a.kind === 'weights')!.tensors
  const { layers, attention } = shape
  const cache = 2 * layers * batch * CONTEXT * attention.kv_heads * attention.head_dim * 2
  const read = tensors.reduce((sum, { type }) => sum + byteSize(type), 0)
  return {
    id: `decode/${model}_${weights}_${batch}`,
    program,
    given: {
      sequence: rows,
      position,
      page_table: Uint32Array.from({ length: (batch * CONTEXT) / PAGE_TOKENS }, (_, i) => i),
      length: next,
      options: Float32Array.from(
        Array.from({ length: batch }, () => [...samplingRow({ temperature: 0 })]).flat(),
      ),
      key: new Uint32Array(4 * batch),
      sampled_sequence: rows,
      sampled_position: next,
    },
    bytes: read + cache,
    flops:
      2 * batch * family.parameters(shape).reduce((sum, p) => sum + p.shape.reduce((a, b) => a * b, 1), 0),
  }
}

/** One training step: forward, backward, gradient norm, AdamW, weights published. */
export function trainCase(
  target: CudaTarget,
  batch: number,
  sequence: number,
  config: Record<string, unknown> = shapes.gpt2_124m,
): ProgramCase {
  const family = familyOf(config)
  const shape = family.parse(config)
  const { program } = trainingProgram(
    target,
    family,
    shape,
    trainSchema.parse({
      output: '-',
      model: { config },
      data: { files: ['-'] },
      steps: 1,
      batch,
      sequence,
      recipe: 'bf16',
    }),
  )
  const rows = batch * sequence
  const count = family.parameters(shape).reduce((sum, p) => sum + p.shape.reduce((a, b) => a * b, 1), 0)
  const ids = Uint32Array.from({ length: rows }, (_, i) => (i * 7919) % shape.vocab)
  const hyper = [0.1, 0].flatMap((decay) => adamwHyper(1e-4, 0.9, 0.95, 1e-8, decay, 10))
  return {
    id: `train/${family.name}_${batch}x${sequence}`,
    program,
    given: {
      ids,
      targets: ids.map((_, i) => ids[(i + 1) % rows]!),
      positions: ids.map((_, i) => i % sequence),
      documents: new Uint32Array(rows),
      weights: new Float32Array(rows).fill(1 / rows),
      limit: Float32Array.of(1),
      hyper: Float32Array.from(hyper),
    },
    // Weights read in both passes, gradients, and what AdamW reads and writes: the least there is, activations apart.
    bytes: count * (2 + 2 + 4 + 28),
    flops:
      6 * count * rows +
      6 * shape.layers * rows * sequence * shape.attention.heads * shape.attention.head_dim,
  }
}

/** A program, and whether its decode step is timed as one kernel too. */
export interface ModelCase extends ProgramCase {
  readonly walked?: boolean
}

const walked = (one: ProgramCase): ModelCase => ({ ...one, walked: true })

/** In the order of the goals. */
export const modelCases = (target: CudaTarget): ModelCase[] => [
  walked(decodeCase(target, 'llama_1b', 'bf16')),
  walked(decodeCase(target, 'llama_8b', 'bf16')),
  walked(decodeCase(target, 'llama_8b', 'q4_0')),
  decodeCase(target, 'llama_8b', 'bf16', 64),
  trainCase(target, 32, 1024),
  walked(decodeCase(target, 'gpt2_124m', 'bf16')),
]

/** The same under the same names at sizes that the emulated device runs, to try the way from here to a record. */
export function rehearsedModels(target: CudaTarget): ModelCase[] {
  const tiny = { ...shapes.llama_1b, vocab_size: 256, hidden_size: 64, intermediate_size: 128 }
  const config = { ...tiny, num_hidden_layers: 1, num_attention_heads: 2, num_key_value_heads: 1 }
  const small = { ...shapes.gpt2_124m, vocab_size: 256, n_embd: 64, n_layer: 1, n_head: 2 }
  return [
    walked(decodeCase(target, 'llama_1b', 'bf16', 1, config)),
    { ...trainCase(target, 1, 64, small), id: 'train/gpt2_32x1024' },
  ]
}
