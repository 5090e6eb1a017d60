import type { Value } from '../ops/contract.ts'
import type { Graph, GraphValue } from '../program/graph.ts'
import type { ArenaKind } from '../program/program.ts'
import type { FormatName } from '../tensor/format.ts'
import { lastDim, type TensorType, tensorType } from '../tensor/type.ts'

/** Self-attention of one layer: heads of the packed projection [T, (heads + 2 * kv_heads) * head_dim]. */
export interface AttentionSpec {
  readonly heads: number
  readonly kv_heads: number
  readonly head_dim: number
  readonly scale: number
  /** Keys further back than this are not seen; 0 = off. */
  readonly window: number
  /** cap * tanh(score / cap); 0 = off. */
  readonly softcap: number
}

export interface RopeSpec {
  readonly layout: 'half' | 'interleaved'
  readonly rotary_dim: number
  readonly base: number
  readonly scaling: null | Readonly<Record<string, string | number>>
}

/** A parameter of a model and where it lies in a Hugging Face checkpoint. */
export interface ParameterSpec {
  readonly name: string
  readonly shape: readonly number[]
  /** Tensors of the checkpoint whose rows, one after the other, make this parameter. */
  readonly from: readonly { readonly name: string; readonly rows: number }[]
  /** The checkpoint stores [in, out] (GPT-2's Conv1D). */
  readonly transposed?: boolean
  /** Standard deviation of the initial values; 'ones' for norm weights, 'zeros' for biases. */
  readonly init: number | 'ones' | 'zeros'
}

/** What every language model has, whatever its family. */
export interface ModelShape {
  readonly layers: number
  readonly vocab: number
  /** Longest sequence the model was made for. */
  readonly context: number
  readonly attention: AttentionSpec
}

/** A model family: reads a config.json, lists parameters, builds the graph. One file per family. */
export interface ModelFamily<C extends ModelShape = ModelShape> {
  readonly name: string
  /** `architectures` entries or `model_type`s of config.json it takes. */
  readonly accepts: readonly string[]
  /** Reads config.json; throws `invalid_config` naming the field. */
  parse(config: unknown): C
  parameters(config: C): ParameterSpec[]
  /** Token ids to logits. */
  build(m: ModelBuilder, config: C): Value
}

/** How the surroundings (paged inference, dense training) realise what depends on them. */
export interface Surroundings {
  readonly ids: Value
  readonly positions: Value
  readonly maxPositions: number
  attention(m: ModelBuilder, layer: number, qkv: Value, spec: AttentionSpec): Value
  /** Rows whose logits are wanted. */
  rows(m: ModelBuilder, x: Value): Value
}

/**
 * The vocabulary a model is written in. The same `build` function gives prefill, decode and training graphs:
 * only `surroundings` differ.
 */
export class ModelBuilder {
  constructor(
    readonly g: Graph,
    readonly surroundings: Surroundings,
    private readonly arena: ArenaKind,
    private readonly formatOf: (name: string, shape: readonly number[]) => FormatName,
  ) {}

  get ids(): Value {
    return this.surroundings.ids
  }
  get positions(): Value {
    return this.surroundings.positions
  }

  parameter(name: string, ...shape: number[]): GraphValue {
    return this.g.external(this.arena, name, tensorType(this.formatOf(name, shape), ...shape))
  }

  layer<T>(index: number, body: () => T): T {
    return this.g.scope(`layer.${index}`, body)
  }

  embedding(name: string, ids: Value, rows: number, width: number): Value {
    return this.g.op('embedding', {}, { ids, table: this.parameter(name, rows, width) }).y!
  }

  /** x W^T (+ bias). `name` is the parameter's name without `.weight`. */
  linear(x: Value, name: string, out: number, bias = false): Value {
    const w = this.parameter(`${name}.weight`, out, lastDim(x.type.shape))
    return this.g.op('matmul', {}, { x, w, bias: bias ? this.parameter(`${name}.bias`, out) : undefined }).y!
  }

  rmsNorm(x: Value, name: string, eps: number): Value {
    return this.g.op(
      'rms_norm',
      { eps },
      { x, weight: this.parameter(`${name}.weight`, lastDim(x.type.shape)) },
    ).y!
  }

  layerNorm(x: Value, name: string, eps: number): Value {
    const width = lastDim(x.type.shape)
    const [weight, bias] = [this.parameter(`${name}.weight`, width), this.parameter(`${name}.bias`, width)]
    return this.g.op('layer_norm', { eps }, { x, weight, bias }).y!
  }

  unary(op: 'gelu_tanh' | 'silu' | 'swiglu' | 'geglu', x: Value): Value {
    return this.g.op(op, {}, { x }).y!
  }

  add(a: Value, b: Value): Value {
    return this.g.op('add', {}, { a, b }).y!
  }

  /** Rotates the query and key heads of a packed projection. */
  rope(qkv: Value, { heads, kv_heads, head_dim }: AttentionSpec, { layout, ...table }: RopeSpec): Value {
    const positions = this.surroundings.maxPositions
    const type: TensorType = tensorType('f32', positions, table.rotary_dim)
    return this.g.op(
      'rope',
      { head_dim, rotated_heads: heads + kv_heads, layout },
      {
        x: qkv,
        positions: this.positions,
        table: this.g.constant('rope_table', { positions, ...table }, type),
      },
    ).y!
  }

  attention(layer: number, qkv: Value, spec: AttentionSpec): Value {
    return this.surroundings.attention(this, layer, qkv, spec)
  }

  /** The rows whose logits are wanted: all in training, the last of each sequence in inference. */
  rows(x: Value): Value {
    return this.surroundings.rows(this, x)
  }
}
