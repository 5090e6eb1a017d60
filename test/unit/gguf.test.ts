import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { ExactmapError } from '../../src/errors.ts'
import { type GgufType, interleaveQ8, writeGguf } from '../../src/formats/gguf.ts'
import { openModelFolder } from '../../src/formats/model_folder.ts'
import { writeSafetensors } from '../../src/formats/node_file.ts'
import { loadTokenizer } from '../../src/formats/tokenizer.ts'
import { exportGguf } from '../../src/models/gguf_export.ts'
import { formatOf } from '../../src/tensor/format.ts'
import { Philox } from '../../src/tensor/philox.ts'
import { trainBpe } from '../../src/train/tokenizer_training.ts'
import {
  type Checkpoint,
  type Gpt2Shape,
  gpt2Forward,
  type LlamaShape,
  llamaForward,
} from '../oracle/forward.ts'
import { llamaCppGreedy, llamaCppLogits, llamaCppMissing, llamaCppTokens } from '../oracle/llama_cpp.ts'

const root = mkdtempSync(join(tmpdir(), 'gguf-'))
afterAll(() => rmSync(root, { recursive: true }))

const VOCAB = 300
const WIDTH = 64
const HEAD = 16
const FFN = 128
const LAYERS = 2
const CONTEXT = 64
const SENTENCE =
  'The quick brown fox doesn’t jump over 12 lazy dogs; the 34 dogs jumped over the fox!\n\n  So it went. '
const TOKENIZER = JSON.stringify(trainBpe([SENTENCE.repeat(3)], { vocabSize: VOCAB }))

const llamaConfig = {
  architectures: ['LlamaForCausalLM'],
  model_type: 'llama',
  hidden_size: WIDTH,
  intermediate_size: FFN,
  num_hidden_layers: LAYERS,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  vocab_size: VOCAB,
  max_position_embeddings: CONTEXT,
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  tie_word_embeddings: false,
}
const gpt2Config = {
  architectures: ['GPT2LMHeadModel'],
  model_type: 'gpt2',
  n_embd: WIDTH,
  n_inner: FFN,
  n_layer: LAYERS,
  n_head: 4,
  vocab_size: VOCAB,
  n_positions: CONTEXT,
  layer_norm_epsilon: 1e-5,
}

function llamaTensors(tied: boolean, bias: boolean): Record<string, number[]> {
  const out: Record<string, number[]> = {
    'model.embed_tokens.weight': [VOCAB, WIDTH],
    'model.norm.weight': [WIDTH],
  }
  if (!tied) out['lm_head.weight'] = [VOCAB, WIDTH]
  for (let i = 0; i < LAYERS; i++) {
    const p = `model.layers.${i}`
    for (const name of ['input_layernorm', 'post_attention_layernorm']) out[`${p}.${name}.weight`] = [WIDTH]
    const projections = { q_proj: 4 * HEAD, k_proj: 2 * HEAD, v_proj: 2 * HEAD }
    for (const [name, rows] of Object.entries(projections)) {
      out[`${p}.self_attn.${name}.weight`] = [rows, WIDTH]
      if (bias) out[`${p}.self_attn.${name}.bias`] = [rows]
    }
    out[`${p}.self_attn.o_proj.weight`] = [WIDTH, 4 * HEAD]
    for (const name of ['gate_proj', 'up_proj']) out[`${p}.mlp.${name}.weight`] = [FFN, WIDTH]
    out[`${p}.mlp.down_proj.weight`] = [WIDTH, FFN]
  }
  return out
}

function gpt2Tensors(): Record<string, number[]> {
  const out: Record<string, number[]> = { 'wte.weight': [VOCAB, WIDTH], 'wpe.weight': [CONTEXT, WIDTH] }
  const matrix = (name: string, ins: number, outs: number): void => {
    out[`${name}.weight`] = [ins, outs]
    out[`${name}.bias`] = [outs]
  }
  const norms = ['ln_f']
  for (let i = 0; i < LAYERS; i++) {
    norms.push(`h.${i}.ln_1`, `h.${i}.ln_2`)
    matrix(`h.${i}.attn.c_attn`, WIDTH, 3 * WIDTH)
    matrix(`h.${i}.attn.c_proj`, WIDTH, WIDTH)
    matrix(`h.${i}.mlp.c_fc`, WIDTH, FFN)
    matrix(`h.${i}.mlp.c_proj`, FFN, WIDTH)
  }
  for (const name of norms) for (const part of ['weight', 'bias']) out[`${name}.${part}`] = [WIDTH]
  return Object.fromEntries(Object.entries(out).map(([name, shape]) => [`transformer.${name}`, shape]))
}

/** Writes a seeded random model folder; returns its path and its tensors as stored (rounded to f32). */
async function makeModel(
  name: string,
  config: object,
  shapes: Record<string, number[]>,
): Promise<{ path: string; checkpoint: Checkpoint }> {
  const path = join(root, name)
  mkdirSync(path)
  writeFileSync(join(path, 'config.json'), JSON.stringify(config))
  writeFileSync(join(path, 'tokenizer.json'), TOKENIZER)
  const random = new Philox(7)
  const checkpoint = new Map<string, { shape: number[]; values: Float32Array }>()
  for (const [key, shape] of Object.entries(shapes)) {
    // Vectors around 1 (norms) or 0 (biases); matrices keep the size of what they multiply.
    const [centre, spread] =
      shape.length > 1 ? [0, 1 / Math.sqrt(WIDTH)] : [key.endsWith('bias') ? 0 : 1, 0.2]
    const values = Float32Array.from(
      { length: shape.reduce((a, b) => a * b) },
      () => centre + spread * random.normal(),
    )
    checkpoint.set(key, { shape, values })
  }
  const tensors = [...checkpoint].map(([key, { shape, values }]) => ({
    name: key,
    dtype: 'F32',
    shape,
    bytes: new Uint8Array(values.buffer),
  }))
  await writeSafetensors(join(path, 'model.safetensors'), tensors)
  return { path, checkpoint }
}

async function exported(path: string, format: GgufType): Promise<string> {
  const folder = await openModelFolder(path)
  try {
    const out = `${path}.${format}.gguf`
    await exportGguf(folder, out, { format })
    return out
  } finally {
    await folder.close()
  }
}

/** A reader of its own, written from the format text: metadata and tensors with their bytes' place. */
function readGguf(bytes: Buffer) {
  let at = 24
  /** Goes on by `count` bytes and says where they begin. */
  const next = (count: number): number => {
    at += count
    return at - count
  }
  const u32 = (): number => bytes.readUInt32LE(next(4))
  const u64 = (): number => Number(bytes.readBigUInt64LE(next(8)))
  const string = (): string => {
    const length = u64()
    const start = next(length)
    return bytes.toString('utf8', start, at)
  }
  const value = (type: number): unknown => {
    if (type === 4) return u32()
    if (type === 5) return u32() | 0
    if (type === 6) return bytes.readFloatLE(next(4))
    if (type === 7) return bytes[next(1)] === 1
    if (type === 8) return string()
    expect(type).toBe(9)
    const of = u32()
    return Array.from({ length: u64() }, () => value(of))
  }
  expect([bytes.toString('latin1', 0, 4), bytes.readUInt32LE(4)]).toEqual(['GGUF', 3])
  const [count, keys] = [Number(bytes.readBigUInt64LE(8)), Number(bytes.readBigUInt64LE(16))]
  const metadata = new Map(Array.from({ length: keys }, () => [string(), value(u32())] as const))
  const tensors = new Map(
    Array.from({ length: count }, () => {
      const name = string()
      const shape = Array.from({ length: u32() }, u64).reverse()
      return [name, { shape, type: u32(), offset: u64() }] as const
    }),
  )
  const data = Math.ceil(at / 32) * 32
  return { metadata, tensors, at: (name: string): number => data + tensors.get(name)!.offset }
}

describe('writeGguf', () => {
  it('writes the bytes of the format', async () => {
    const path = join(root, 'small.gguf')
    await writeGguf(path, {
      metadata: { k: { type: 'u32', value: 7 }, a: { type: 'array', of: 'i32', values: [-1] } },
      tensors: [
        { name: 't', type: 'f32', shape: [1, 3], bytes: new Uint8Array(12).fill(5) },
        { name: 'u', type: 'f16', shape: [2], bytes: new Uint8Array(4).fill(6) },
      ],
    })
    const bytes = (...list: number[]): Buffer => Buffer.from(list)
    const u64 = (n: number): Buffer => bytes(n, 0, 0, 0, 0, 0, 0, 0)
    const u32 = (n: number): Buffer => bytes(n, 0, 0, 0)
    const string = (s: string): Buffer => Buffer.concat([u64(s.length), Buffer.from(s)])
    const head = Buffer.concat([
      ...[Buffer.from('GGUF'), u32(3), u64(2), u64(2)],
      ...[string('k'), u32(4), u32(7)],
      ...[string('a'), u32(9), u32(5), u64(1), bytes(255, 255, 255, 255)],
      ...[string('t'), u32(2), u64(3), u64(1), u32(0), u64(0)],
      ...[string('u'), u32(1), u64(2), u32(1), u64(32)],
    ])
    const padding = Buffer.alloc(31 - ((head.length + 31) % 32))
    const data = Buffer.concat([Buffer.alloc(12, 5), Buffer.alloc(20), Buffer.alloc(4, 6), Buffer.alloc(28)])
    expect(readFileSync(path)).toEqual(Buffer.concat([head, padding, data]))
  })

  it('refuses what the format or ggml can not hold', async () => {
    const tensor = { name: 't', type: 'q8_0', shape: [32], bytes: new Uint8Array(34) } as const
    for (const tensors of [
      [tensor, tensor],
      [{ ...tensor, name: 'x'.repeat(64) }],
      [{ ...tensor, shape: [33] }],
      [{ ...tensor, shape: [] }],
      [{ ...tensor, bytes: new Uint8Array(36) }],
    ])
      await expect(writeGguf(join(root, 'bad.gguf'), { metadata: {}, tensors })).rejects.toMatchObject({
        code: 'invalid_argument',
      })
    const metadata = { k: { type: 'u32', value: -1 } } as const
    await expect(writeGguf(join(root, 'bad.gguf'), { metadata, tensors: [] })).rejects.toBeInstanceOf(
      ExactmapError,
    )
  })

  it('interleaves q8_0 without changing a value', () => {
    const random = new Philox(3)
    const values = Array.from({ length: 96 }, () => random.normal())
    const planar = formatOf('q8_0').encode(values)
    const blocks = interleaveQ8(planar, 3)
    expect(blocks.length).toBe(3 * 34)
    const decoded = Array.from({ length: 96 }, (_, i) => {
      const block = Math.floor(i / 32) * 34
      const scale = formatOf('f16').decode(blocks.subarray(block, block + 2), 1)[0]!
      return scale * new Int8Array(blocks.buffer)[block + 2 + (i % 32)]!
    })
    expect(decoded).toEqual([...formatOf('q8_0').decode(planar, 96)])
  })
})

describe('exportGguf', () => {
  it('names, orders and types tensors as llama.cpp expects', async () => {
    const { path, checkpoint } = await makeModel('structure', llamaConfig, llamaTensors(false, false))
    const bytes = readFileSync(await exported(path, 'q8_0'))
    const { metadata, tensors, at } = readGguf(bytes)
    expect(metadata.get('general.architecture')).toBe('llama')
    expect(metadata.get('llama.attention.head_count_kv')).toBe(2)
    expect(metadata.get('tokenizer.ggml.pre')).toBe('gpt-2')
    expect((metadata.get('tokenizer.ggml.tokens') as string[]).length).toBe(VOCAB)
    expect((metadata.get('tokenizer.ggml.token_type') as number[]).slice(0, 2)).toEqual([3, 1])
    expect(tensors.size).toBe(checkpoint.size)
    expect(tensors.get('blk.1.attn_k.weight')).toMatchObject({ shape: [32, WIDTH], type: 8 })
    expect(tensors.get('blk.1.attn_norm.weight')).toMatchObject({ shape: [WIDTH], type: 0 })
    for (const { offset } of tensors.values()) expect(offset % 32).toBe(0)

    const plain = readFileSync(await exported(path, 'f32'))
    const place = readGguf(plain).at('blk.0.attn_k.weight')
    const stored = checkpoint.get('model.layers.0.self_attn.k_proj.weight')!.values
    // Second head (16 rows): row 1 of the file is row 8 of the head, row 2 is row 1.
    const row = (n: number): number => plain.readFloatLE(place + n * WIDTH * 4)
    expect([row(16), row(17), row(18), row(31)]).toEqual([16, 24, 17, 31].map((r) => stored[r * WIDTH]))
    expect(at('token_embd.weight') % 32).toBe(0)
  })

  it('keeps rows that fit no block of 32 in f16', async () => {
    const config = { ...gpt2Config, n_embd: 48, n_layer: 1, n_inner: 64 }
    const shapes = {
      'transformer.wte.weight': [VOCAB, 48],
      'transformer.wpe.weight': [CONTEXT, 48],
      'transformer.ln_f.weight': [48],
      'transformer.ln_f.bias': [48],
    }
    const { path } = await makeModel('odd', config, { ...shapes, ...oddLayer() })
    const { tensors } = readGguf(readFileSync(await exported(path, 'q8_0')))
    expect(tensors.get('token_embd.weight')!.type).toBe(1)
    expect(tensors.get('position_embd.weight')!.type).toBe(0)
    // [48 out, 64 in] after turning: 64 is a multiple of 32.
    expect(tensors.get('blk.0.ffn_down.weight')).toMatchObject({ shape: [48, 64], type: 8 })
  })

  it.each([
    ['a sliding window', { ...llamaConfig, sliding_window: 8 }, TOKENIZER, /sliding window/],
    ['another gate', { ...llamaConfig, hidden_act: 'gelu_pytorch_tanh' }, TOKENIZER, /geglu/],
    [
      'another tokenizer',
      llamaConfig,
      TOKENIZER.replace('"add_prefix_space":false', '"add_prefix_space":true'),
      /pre-tokenizer/,
    ],
  ])('refuses %s', async (what, config, tokenizer, message) => {
    const { path } = await makeModel(what, config, llamaTensors(false, false))
    writeFileSync(join(path, 'tokenizer.json'), tokenizer)
    await expect(exported(path, 'f32')).rejects.toMatchObject({
      code: 'unsupported',
      message: expect.stringMatching(message),
    })
  })
})

function oddLayer(): Record<string, number[]> {
  const p = 'transformer.h.0'
  const out: Record<string, number[]> = {}
  for (const name of ['ln_1', 'ln_2'])
    for (const part of ['weight', 'bias']) out[`${p}.${name}.${part}`] = [48]
  for (const [name, ins, outs] of [
    ['attn.c_attn', 48, 144],
    ['attn.c_proj', 48, 48],
    ['mlp.c_fc', 48, 64],
    ['mlp.c_proj', 64, 48],
  ] as const) {
    out[`${p}.${name}.weight`] = [ins, outs]
    out[`${p}.${name}.bias`] = [outs]
  }
  return out
}

const missing = llamaCppMissing()

/** Largest and root-mean-square difference, relative to the largest and to the root-mean-square expected value. */
function distance(
  got: readonly Float64Array[],
  expected: readonly Float64Array[],
): { max: number; rms: number } {
  let [max, top, sum, size] = [0, 0, 0, 0]
  for (const [t, row] of expected.entries())
    for (const [i, value] of row.entries()) {
      const difference = Math.abs(value - got[t]![i]!)
      max = Math.max(max, difference)
      top = Math.max(top, Math.abs(value))
      sum += difference ** 2
      size += value ** 2
    }
  return { max: max / top, rms: Math.sqrt(sum / size) }
}

/**
 * Roundings one after the other on the way to a logit, if every term of every dot product added one: q, scores,
 * mix, output, up and down in each layer, the head; and angles, whose factor llama.cpp multiplies up pair by pair
 * and whose error grows with the position.
 */
const ROUNDINGS = LAYERS * (WIDTH + HEAD + CONTEXT + WIDTH + WIDTH + FFN + (HEAD / 2) * CONTEXT) + WIDTH
const F32_BUDGET = ROUNDINGS * 2 ** -24

describe.skipIf(missing)(`llama.cpp${missing ? ` (skipped: ${missing})` : ''}`, () => {
  const tokens = Array.from({ length: 24 }, (_, i) => (i * 37 + 11) % VOCAB)

  const variants: [string, Partial<typeof llamaConfig> & Record<string, unknown>, boolean][] = [
    ['plain', {}, false],
    [
      'tied, with biases',
      {
        tie_word_embeddings: true,
        attention_bias: false,
        architectures: ['Qwen2ForCausalLM'],
        model_type: 'qwen2',
      },
      true,
    ],
    [
      'llama3 rope',
      {
        rope_scaling: {
          rope_type: 'llama3',
          factor: 8,
          low_freq_factor: 1,
          high_freq_factor: 4,
          original_max_position_embeddings: 16,
        },
      },
      false,
    ],
  ]
  it.each(variants)('gives the logits of a Llama model: %s', async (what, over, bias) => {
    const config = { ...llamaConfig, ...over }
    const { path, checkpoint } = await makeModel(
      `llama ${what}`,
      config,
      llamaTensors(config.tie_word_embeddings, bias),
    )
    const gguf = await exported(path, 'f32')
    const expected = llamaForward(config as LlamaShape, checkpoint, tokens)
    const got = await llamaCppLogits(gguf, tokens)
    const apart = distance(got, expected)
    expect(apart.max).toBeLessThan(F32_BUDGET)
  })

  it('gives the logits of a GPT-2 model', async () => {
    const { path, checkpoint } = await makeModel('gpt2', gpt2Config, gpt2Tensors())
    const gguf = await exported(path, 'f32')
    const apart = distance(
      await llamaCppLogits(gguf, tokens),
      gpt2Forward(gpt2Config as Gpt2Shape, checkpoint, tokens),
    )
    // llama.cpp looks gelu up in a table from f16 to f16: two roundings of 2^-11 in each layer.
    expect(apart.max).toBeLessThan(F32_BUDGET + LAYERS * 2 * 2 ** -11)
  })

  it('gives the logits of quantized weights', async () => {
    const { path, checkpoint } = await makeModel('q8', llamaConfig, llamaTensors(false, false))
    const rounded = new Map(
      [...checkpoint].map(([name, { shape, values }]) => {
        const format = formatOf(shape.length > 1 ? 'q8_0' : 'f32')
        return [name, { shape, values: format.decode(format.encode(values), values.length) }]
      }),
    )
    const gguf = await exported(path, 'q8_0')
    const apart = distance(await llamaCppLogits(gguf, tokens), llamaForward(llamaConfig, rounded, tokens))
    // llama.cpp rounds what it multiplies to q8_0 as well: at most 1/254 of a block's largest value, which is at
    // most 4 standard deviations here, at each of the 4 matrices one after the other in a layer and at the head.
    expect(apart.rms).toBeLessThan((4 * LAYERS + 1) * (4 / 254 / Math.sqrt(3)))
    const f16 = distance(
      await llamaCppLogits(await exported(path, 'f16'), tokens),
      llamaForward(llamaConfig, checkpoint, tokens),
    )
    // Weights and what they multiply are rounded to f16.
    expect(f16.max).toBeLessThan((4 * LAYERS + 1) * 2 * 2 ** -11)
  })

  it('goes on greedily and tokenizes like our tokenizer', async () => {
    const { path, checkpoint } = await makeModel('greedy', llamaConfig, llamaTensors(false, false))
    const gguf = await exported(path, 'f32')
    const prompt = tokens.slice(0, 5)
    const all = [...prompt]
    for (let i = 0; i < 12; i++) {
      const logits = llamaForward(llamaConfig, checkpoint, all).at(-1)!
      all.push(logits.indexOf(Math.max(...logits)))
    }
    expect(await llamaCppGreedy(gguf, prompt, 12)).toEqual(all.slice(prompt.length))
    const text = `${SENTENCE} naïve 東京 🚀\t(x_1)`
    expect(await llamaCppTokens(gguf, text)).toEqual([...loadTokenizer(TOKENIZER).encode(text)])
  })
})
