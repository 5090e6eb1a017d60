import { check } from '../errors.ts'
import type { Value } from '../ops/contract.ts'
import type { Graph, GraphValue } from '../program/graph.ts'
import type { ArenaKind } from '../program/program.ts'
import { type FormatName, formatOf } from '../tensor/format.ts'
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
  /**
   * How tensor-parallel ranks divide it: by columns, or by rows within each of these blocks of consecutive rows (query,
   * key and value heads). Without it every rank has all of it.
   */
  readonly split?: 'columns' | { readonly rows: readonly number[] }
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

/**
 * Tensor parallelism as Megatron-LM divides a transformer (Shoeybi et al. 2019, arXiv 1909.08053): heads, feed-forward
 * columns and vocabulary over the members of a group. With `sequence` what lies between (norms, residuals) is divided
 * by rows (Korthikanti et al. 2022, arXiv 2205.05198), so rows must be a multiple of the members; without, it is
 * computed by every member.
 */
export interface TensorParallel {
  readonly group: string
  readonly size: number
  /** Own number in the group. */
  readonly member: number
  readonly sequence: boolean
}

/** One rank has all heads, columns and rows. */
export const undivided: TensorParallel = { group: 'tensor', size: 1, member: 0, sequence: false }

/** How the surroundings (paged inference, dense training) realise what depends on them. */
export interface Surroundings {
  readonly ids: Value
  /** u32[1]: first id of this member's part of the vocabulary. Without it ids already count from there. */
  readonly firstId?: Value | undefined
  readonly positions: Value
  readonly maxPositions: number
  attention(m: ModelBuilder, layer: number, qkv: Value, spec: AttentionSpec): Value
  /** Rows whose logits are wanted. */
  rows(m: ModelBuilder, x: Value): Value
  /** This member's part of the rows of an input, where rows are divided. */
  ownRows?(input: Value): Value
}

export interface LinearOptions {
  readonly bias?: boolean
  /**
   * What tensor-parallel ranks divide: the outputs, so that what follows works on a part of the columns, or the inputs,
   * which are such a part; then the parts of the result are added up. As `split` of the parameter says.
   */
  readonly split?: 'out' | 'in'
}

/**
 * The vocabulary a model is written in. The same `build` function gives prefill, decode and training graphs, of one
 * rank or of many: only `surroundings` and `tensor` differ. Sizes are those of the whole model.
 */
export class ModelBuilder {
  constructor(
    readonly g: Graph,
    readonly surroundings: Surroundings,
    private readonly arena: ArenaKind,
    private readonly formatOf: (name: string, shape: readonly number[]) => FormatName,
    private readonly tensor: TensorParallel = undivided,
  ) {}

  get ids(): Value {
    return this.surroundings.ids
  }
  get positions(): Value {
    return this.surroundings.positions
  }

  parameter(name: string, ...shape: number[]): GraphValue {
    const format = this.formatOf(name, shape)
    const { size } = this.tensor
    const { blockSize } = formatOf(format)
    check(
      size === 1 || lastDim(shape) % blockSize === 0,
      'invalid_config',
      `${name} is [${shape}] on each of ${size} tensor-parallel ranks; ${format} needs rows of a multiple of ${blockSize}: take another format or fewer ranks`,
    )
    return this.g.external(this.arena, name, tensorType(format, ...shape))
  }

  layer<T>(index: number, body: () => T): T {
    return this.g.scope(`layer.${index}`, body)
  }

  /** Rows of a table by index. With `split` the table is divided by rows: ids outside of the own part give zeros. */
  embedding(name: string, ids: Value, rows: number, width: number, split = false): Value {
    const { sequence } = this.tensor
    if (split) {
      const table = this.parameter(name, this.part(rows, `rows of ${name}`), width)
      return this.addUp(this.g.op('embedding', {}, { ids, table, first: this.surroundings.firstId }).y!)
    }
    const own = sequence ? this.surroundings.ownRows!(ids) : ids
    return this.g.op('embedding', {}, { ids: own, table: this.parameter(name, rows, width) }).y!
  }

  /** x W^T (+ bias). `name` is the parameter's name without `.weight`. */
  linear(x: Value, name: string, out: number, { bias = false, split }: LinearOptions = {}): Value {
    const whole = split === 'out' ? this.gathered(x) : x
    const rows = split === 'out' ? this.part(out, `outputs of ${name}`) : out
    const w = this.parameter(`${name}.weight`, rows, lastDim(whole.type.shape))
    // A sum of parts takes the bias once.
    const biased = bias && (split !== 'in' || this.tensor.member === 0)
    const { y } = this.g.op(
      'matmul',
      {},
      { x: whole, w, bias: biased ? this.parameter(`${name}.bias`, rows) : undefined },
    )
    return split === 'in' ? this.addUp(y!) : y!
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
  rope(qkv: Value, spec: AttentionSpec, { layout, ...table }: RopeSpec): Value {
    const { heads, kv_heads, head_dim } = this.own(spec)
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
    return this.surroundings.attention(this, layer, qkv, this.own(spec))
  }

  /** The rows whose logits are wanted: all in training, the last of each sequence in inference. */
  rows(x: Value): Value {
    return this.surroundings.rows(this, x)
  }

  /** The heads of this rank. */
  private own(spec: AttentionSpec): AttentionSpec {
    const { heads, kv_heads } = spec
    return { ...spec, heads: this.part(heads, 'heads'), kv_heads: this.part(kv_heads, 'key-value heads') }
  }

  private part(n: number, what: string): number {
    const { size } = this.tensor
    check(
      n % size === 0,
      'invalid_config',
      `${size} tensor-parallel ranks must divide the ${n} ${what}; take a divisor of ${n}`,
    )
    return n / size
  }

  /** All rows, from the members' parts. */
  private gathered(x: Value): Value {
    const { group, size, sequence } = this.tensor
    return size > 1 && sequence ? this.g.op('all_gather', { group, size }, { x }).y! : x
  }

  /** The sum of all members' results: of the own rows, or of all. */
  private addUp(x: Value): Value {
    const { group, size, sequence } = this.tensor
    if (size === 1) return x
    return this.g.op(sequence ? 'reduce_scatter' : 'all_reduce', { group, size }, { x }).y!
  }
}
