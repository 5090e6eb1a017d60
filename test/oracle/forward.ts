/**
 * Llama and GPT-2 in plain float64 loops, written from the papers and the checkpoints' layout alone: a second
 * opinion on our model families and on exports. It shares no code with `src/`.
 */

export interface Tensor {
  readonly shape: readonly number[]
  readonly values: ArrayLike<number>
}

/** Tensors of a checkpoint by their Hugging Face names. */
export type Checkpoint = ReadonlyMap<string, Tensor>

type Matrix = Float64Array[]

export interface LlamaShape {
  readonly num_hidden_layers: number
  readonly num_attention_heads: number
  readonly num_key_value_heads: number
  readonly rms_norm_eps: number
  readonly rope_theta: number
  readonly rope_scaling?: {
    readonly factor: number
    readonly low_freq_factor: number
    readonly high_freq_factor: number
    readonly original_max_position_embeddings: number
  }
}

/** Logits [vocab] after each token. */
export function llamaForward(config: LlamaShape, checkpoint: Checkpoint, tokens: readonly number[]): Matrix {
  const at = (name: string): Tensor => get(checkpoint, name)
  const norm = (x: Matrix, name: string): Matrix =>
    x.map((row) => rmsNorm(row, at(name).values, config.rms_norm_eps))
  const heads = config.num_attention_heads
  const kv = config.num_key_value_heads
  let x = rowsOf(at('model.embed_tokens.weight'), tokens)
  for (let layer = 0; layer < config.num_hidden_layers; layer++) {
    const p = `model.layers.${layer}`
    const linear = (input: Matrix, name: string): Matrix =>
      times(input, at(`${p}.${name}.weight`), checkpoint.get(`${p}.${name}.bias`))
    const h = norm(x, `${p}.input_layernorm.weight`)
    const q = rotate(linear(h, 'self_attn.q_proj'), heads, config)
    const k = rotate(linear(h, 'self_attn.k_proj'), kv, config)
    const mixed = attend(q, k, linear(h, 'self_attn.v_proj'), heads, kv)
    x = plus(x, linear(mixed, 'self_attn.o_proj'))
    const f = norm(x, `${p}.post_attention_layernorm.weight`)
    const [gate, up] = [linear(f, 'mlp.gate_proj'), linear(f, 'mlp.up_proj')]
    const act = gate.map((row, t) => row.map((g, i) => (g / (1 + Math.exp(-g))) * up[t]![i]!))
    x = plus(x, linear(act, 'mlp.down_proj'))
  }
  const head = checkpoint.get('lm_head.weight') ?? at('model.embed_tokens.weight')
  return times(norm(x, 'model.norm.weight'), head)
}

export interface Gpt2Shape {
  readonly n_layer: number
  readonly n_head: number
  readonly layer_norm_epsilon: number
}

/** Logits [vocab] after each token. GPT-2 checkpoints store matrices as [in, out]. */
export function gpt2Forward(config: Gpt2Shape, checkpoint: Checkpoint, tokens: readonly number[]): Matrix {
  const at = (name: string): Tensor => get(checkpoint, `transformer.${name}`)
  const norm = (x: Matrix, name: string): Matrix =>
    x.map((row) =>
      layerNorm(row, at(`${name}.weight`).values, at(`${name}.bias`).values, config.layer_norm_epsilon),
    )
  const linear = (x: Matrix, name: string): Matrix =>
    times(x, turned(at(`${name}.weight`)), at(`${name}.bias`))
  let x = plus(
    rowsOf(at('wte.weight'), tokens),
    rowsOf(
      at('wpe.weight'),
      tokens.map((_, t) => t),
    ),
  )
  for (let layer = 0; layer < config.n_layer; layer++) {
    const p = `h.${layer}`
    const qkv = linear(norm(x, `${p}.ln_1`), `${p}.attn.c_attn`)
    const width = qkv[0]!.length / 3
    const [q, k, v] = [0, 1, 2].map((part) => qkv.map((row) => row.slice(part * width, (part + 1) * width)))
    x = plus(x, linear(attend(q!, k!, v!, config.n_head, config.n_head), `${p}.attn.c_proj`))
    const up = linear(norm(x, `${p}.ln_2`), `${p}.mlp.c_fc`)
    x = plus(
      x,
      linear(
        up.map((row) => row.map(gelu)),
        `${p}.mlp.c_proj`,
      ),
    )
  }
  return times(norm(x, 'ln_f'), at('wte.weight'))
}

function get(checkpoint: Checkpoint, name: string): Tensor {
  const found = checkpoint.get(name)
  if (!found) throw new Error(`the checkpoint has no ${name}`)
  return found
}

const rowsOf = ({ shape, values }: Tensor, ids: readonly number[]): Matrix =>
  ids.map((id) => Float64Array.from({ length: shape[1]! }, (_, i) => values[id * shape[1]! + i]!))

const plus = (a: Matrix, b: Matrix): Matrix => a.map((row, t) => row.map((value, i) => value + b[t]![i]!))

/** x W^T + bias with W as [out, in]. */
const times = (x: Matrix, { shape, values }: Tensor, bias?: Tensor): Matrix =>
  x.map((row) =>
    Float64Array.from({ length: shape[0]! }, (_, out) => {
      let sum = bias?.values[out] ?? 0
      for (let i = 0; i < row.length; i++) sum += row[i]! * values[out * row.length + i]!
      return sum
    }),
  )

function turned({ shape, values }: Tensor): Tensor {
  const [rows, cols] = shape as [number, number]
  const out = new Float64Array(rows * cols)
  for (let r = 0; r < rows; r++) for (let c = 0; c < cols; c++) out[c * rows + r] = values[r * cols + c]!
  return { shape: [cols, rows], values: out }
}

const mean = (row: Float64Array, of: (x: number) => number): number =>
  row.reduce((sum, x) => sum + of(x), 0) / row.length

function rmsNorm(row: Float64Array, weight: ArrayLike<number>, eps: number): Float64Array {
  const scale = 1 / Math.sqrt(mean(row, (x) => x * x) + eps)
  return row.map((x, i) => x * scale * weight[i]!)
}

function layerNorm(
  row: Float64Array,
  weight: ArrayLike<number>,
  bias: ArrayLike<number>,
  eps: number,
): Float64Array {
  const centre = mean(row, (x) => x)
  const scale = 1 / Math.sqrt(mean(row, (x) => (x - centre) ** 2) + eps)
  return row.map((x, i) => (x - centre) * scale * weight[i]! + bias[i]!)
}

const gelu = (x: number): number =>
  0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)))

/** Angle per position of pair i, by wavelength as the Llama 3.1 reference code tells it. */
function frequency(i: number, dim: number, { rope_theta, rope_scaling: s }: LlamaShape): number {
  const plain = rope_theta ** (-(2 * i) / dim)
  if (!s) return plain
  const length = (2 * Math.PI) / plain
  const original = s.original_max_position_embeddings
  if (length < original / s.high_freq_factor) return plain
  if (length > original / s.low_freq_factor) return plain / s.factor
  const smooth = (original / length - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor)
  return ((1 - smooth) * plain) / s.factor + smooth * plain
}

/** Row t is position t; element i of a head turns with element i + D/2. */
function rotate(x: Matrix, heads: number, config: LlamaShape): Matrix {
  const dim = x[0]!.length / heads
  return x.map((row, t) => {
    const out = row.slice()
    for (let head = 0; head < heads; head++)
      for (let i = 0; i < dim / 2; i++) {
        const [a, b] = [head * dim + i, head * dim + i + dim / 2]
        const angle = t * frequency(i, dim, config)
        out[a] = row[a]! * Math.cos(angle) - row[b]! * Math.sin(angle)
        out[b] = row[b]! * Math.cos(angle) + row[a]! * Math.sin(angle)
      }
    return out
  })
}

/** Causal attention; `heads / kv` query heads share a key and value head. */
function attend(q: Matrix, k: Matrix, v: Matrix, heads: number, kv: number): Matrix {
  const dim = q[0]!.length / heads
  return q.map((row, t) => {
    const out = new Float64Array(row.length)
    for (let head = 0; head < heads; head++) {
      const [mine, theirs] = [head * dim, Math.floor(head / (heads / kv)) * dim]
      const scores = Array.from({ length: t + 1 }, (_, s) => {
        let dot = 0
        for (let i = 0; i < dim; i++) dot += row[mine + i]! * k[s]![theirs + i]!
        return dot / Math.sqrt(dim)
      })
      const top = Math.max(...scores)
      const weights = scores.map((score) => Math.exp(score - top))
      const total = weights.reduce((a, b) => a + b)
      for (let s = 0; s <= t; s++)
        for (let i = 0; i < dim; i++) out[mine + i]! += (weights[s]! / total) * v[s]![theirs + i]!
    }
    return out
  })
}
