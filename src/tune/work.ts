import type { WebGpuTarget } from '../../backends/webgpu/target.ts'
import { inferenceSpec } from '../engine/defaults.ts'
import { type InferenceSpec, inferenceGraph } from '../engine/inference_graph.ts'
import { familyOf } from '../models/index.ts'
import type { OpCall } from '../ops/contract.ts'
import { checkCall, opContract } from '../ops/index.ts'
import { compile } from '../program/compile.ts'
import { hashOf } from '../program/hash.ts'
import type { Program } from '../program/program.ts'
import { type TensorType, tensorType } from '../tensor/type.ts'
import { parseTrainConfig } from '../train/config.ts'
import { trainingProgram } from '../train/trainer.ts'

/** A Llama of 100 million weights: what a laptop runs. */
const llama100m = {
  architectures: ['LlamaForCausalLM'],
  hidden_size: 768,
  intermediate_size: 2048,
  num_hidden_layers: 12,
  num_attention_heads: 12,
  num_key_value_heads: 4,
  vocab_size: 16384,
  max_position_embeddings: 512,
  tie_word_embeddings: false,
}

/**
 * The op calls that a tuning for all models is measured on, the most useful first: products with one row in every
 * format, those of the bundled model and of a Llama of 100 million weights, the bundled model's training, cubes.
 *
 * @param bundled config.json and train.yaml of the bundled model
 */
export function generalWork(
  target: WebGpuTarget,
  bundled: { readonly config: object; readonly train: string },
): OpCall[] {
  const f32 = [matmul(1, 4096, 4096), matmul(512, 512, 512)]
  const packed = (['f16', 'q8_0', 'q4_0', 'bf16'] as const).map((format) => matmul(1, 4096, 4096, format))
  return different([
    ...f32,
    ...packed,
    ...modelWork(target, bundled.config, 'f16'),
    ...modelWork(target, llama100m, 'f16'),
    ...modelWork(target, llama100m, 'q8_0'),
    ...trainingWork(target, bundled.config, bundled.train),
    matmul(1024, 1024, 1024),
  ])
}

/** The calls of a model's inference programs, decoding first. */
export function modelWork(target: WebGpuTarget, config: object, weights: InferenceSpec['weights']): OpCall[] {
  const family = familyOf(config)
  const shape = family.parse(config)
  const graph = inferenceGraph(family.name, family, shape, inferenceSpec(shape, { weights }))
  return different(callsOf(compile(graph, target)).reverse())
}

function trainingWork(target: WebGpuTarget, config: object, train: string): OpCall[] {
  const family = familyOf(config)
  const { program } = trainingProgram(
    target,
    family,
    family.parse(config),
    parseTrainConfig(train, 'train.yaml'),
  )
  return different(callsOf(program))
}

const callsOf = (program: Program): OpCall[] =>
  program.segments
    .flatMap(({ steps }) => steps)
    .flatMap((step) => (step.kind === 'launch' ? [step.call] : []))
    .map(({ op, attrs, inputs, outputs }) => ({
      op,
      attrs,
      inputs: typesOf(inputs),
      outputs: typesOf(outputs),
    }))

const typesOf = (operands: Readonly<Record<string, { readonly type: TensorType }>>): OpCall['inputs'] =>
  Object.fromEntries(Object.entries(operands).map(([port, { type }]) => [port, type]))

const different = (calls: readonly OpCall[]): OpCall[] => [
  ...new Map(calls.map((call) => [hashOf(call), call])).values(),
]

function matmul(rows: number, depth: number, columns: number, format: TensorType['format'] = 'f32'): OpCall {
  const inputs = { x: tensorType('f32', rows, depth), w: tensorType(format, columns, depth) }
  return checkCall(opContract('matmul'), { activation: 'none' }, inputs)
}
