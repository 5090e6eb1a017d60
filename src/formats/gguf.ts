import { check } from '../errors.ts'
import { pieces, type StreamedTensor, writeFileAtomic } from './node_file.ts'

/**
 * Writes GGUF version 3: header, typed metadata, tensor table, then each tensor aligned to 32 bytes.
 * Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
 */

const VERSION = 3
const ALIGNMENT = 32
/** ggml keeps names in 64 bytes with a closing zero. */
const MAX_NAME_BYTES = 63

/** Value types of the format that are written here, with their numbers there. */
const VALUE_TYPES = { u32: 4, i32: 5, f32: 6, bool: 7, string: 8, array: 9 } as const

export type GgufScalar =
  | { readonly type: 'u32' | 'i32' | 'f32'; readonly value: number }
  | { readonly type: 'bool'; readonly value: boolean }
  | { readonly type: 'string'; readonly value: string }

export type GgufValue =
  | GgufScalar
  | { readonly type: 'array'; readonly of: 'string'; readonly values: readonly string[] }
  | { readonly type: 'array'; readonly of: 'i32'; readonly values: readonly number[] }

/** Tensor types: number in the format, elements and bytes of a block along the last dim. */
export const GGUF_TYPES = {
  f32: { id: 0, elements: 1, bytes: 4 },
  f16: { id: 1, elements: 1, bytes: 2 },
  q8_0: { id: 8, elements: 32, bytes: 34 },
} as const

export type GgufType = keyof typeof GGUF_TYPES

export interface GgufTensor extends Pick<StreamedTensor, 'name' | 'bytes'> {
  readonly type: GgufType
  /** Row-major, outermost dim first (the file stores it reversed). */
  readonly shape: readonly number[]
}

export interface GgufContent {
  /** Written in this order. */
  readonly metadata: Readonly<Record<string, GgufValue>>
  readonly tensors: readonly GgufTensor[]
}

/**
 * Writes a GGUF file atomically; at most one piece of one tensor is in memory at a time.
 *
 * @throws ExactmapError `invalid_argument` (names, shapes, sizes), `not_found` (the folder), `io`
 */
export async function writeGguf(path: string, content: GgufContent): Promise<void> {
  const { header, sizes } = ggufHeader(content)
  async function* chunks(): AsyncGenerator<Uint8Array> {
    yield header
    for (const [i, tensor] of content.tensors.entries()) {
      yield* pieces(tensor, sizes[i]!)
      yield new Uint8Array(padded(sizes[i]!) - sizes[i]!)
    }
  }
  await writeFileAtomic(path, chunks())
}

const padded = (bytes: number): number => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT

function ggufHeader({ metadata, tensors }: GgufContent): { header: Uint8Array; sizes: number[] } {
  const out = new ByteWriter()
  out.bytes(new TextEncoder().encode('GGUF'))
  out.u32(VERSION)
  out.u64(tensors.length)
  out.u64(Object.keys(metadata).length)
  for (const [key, value] of Object.entries(metadata)) {
    out.string(key)
    out.u32(VALUE_TYPES[value.type])
    if (value.type !== 'array') out.scalar(value)
    else {
      out.u32(VALUE_TYPES[value.of])
      out.u64(value.values.length)
      if (value.of === 'string') for (const one of value.values) out.string(one)
      else for (const one of value.values) out.scalar({ type: 'i32', value: one })
    }
  }
  let offset = 0
  const seen = new Set<string>()
  const sizes = tensors.map(({ name, type, shape }) => {
    const block = GGUF_TYPES[type]
    const elements = shape.reduce((a, b) => a * b, 1)
    check(
      !seen.has(name) && new TextEncoder().encode(name).length <= MAX_NAME_BYTES,
      'invalid_argument',
      () => `GGUF tensor name '${name}' is repeated or longer than ${MAX_NAME_BYTES} bytes`,
    )
    seen.add(name)
    check(
      shape.length >= 1 &&
        shape.length <= 4 &&
        shape.every((d) => Number.isInteger(d) && d > 0) &&
        Number.isSafeInteger(elements * 4) &&
        shape.at(-1)! % block.elements === 0,
      'invalid_argument',
      () => `GGUF tensor '${name}': ${type} can't have shape [${shape.join(', ')}]`,
    )
    out.string(name)
    out.u32(shape.length)
    for (const dim of [...shape].reverse()) out.u64(dim)
    out.u32(block.id)
    out.u64(offset)
    const size = (elements / block.elements) * block.bytes
    offset += padded(size)
    return size
  })
  return { header: out.finish(ALIGNMENT), sizes }
}

/** Little-endian bytes that grow by doubling. */
class ByteWriter {
  private buffer = new Uint8Array(1 << 16)
  private view = new DataView(this.buffer.buffer)
  private at = 0

  private room(count: number): number {
    const at = this.at
    this.at += count
    if (this.at > this.buffer.length) {
      const larger = new Uint8Array(Math.max(this.at, this.buffer.length * 2))
      larger.set(this.buffer)
      this.buffer = larger
      this.view = new DataView(larger.buffer)
    }
    return at
  }

  bytes(bytes: Uint8Array): void {
    const at = this.room(bytes.length)
    this.buffer.set(bytes, at)
  }

  u32(value: number): void {
    const at = this.room(4)
    this.view.setUint32(at, value, true)
  }

  u64(value: number): void {
    const at = this.room(8)
    this.view.setBigUint64(at, BigInt(value), true)
  }

  string(text: string): void {
    const bytes = new TextEncoder().encode(text)
    this.u64(bytes.length)
    this.bytes(bytes)
  }

  scalar(one: GgufScalar): void {
    if (one.type === 'string') this.string(one.value)
    else if (one.type === 'bool') this.bytes(Uint8Array.of(one.value ? 1 : 0))
    else if (one.type === 'f32') {
      const at = this.room(4)
      this.view.setFloat32(at, one.value, true)
    } else {
      const [low, high] = one.type === 'u32' ? [0, 2 ** 32 - 1] : [-(2 ** 31), 2 ** 31 - 1]
      check(
        Number.isInteger(one.value) && one.value >= low && one.value <= high,
        'invalid_argument',
        () => `GGUF metadata: ${one.value} is not a ${one.type}`,
      )
      this.u32(one.value)
    }
  }

  /** What was written, with zeros up to a multiple of `alignment`. */
  finish(alignment: number): Uint8Array {
    this.room((alignment - (this.at % alignment)) % alignment)
    return this.buffer.subarray(0, this.at)
  }
}

/**
 * Our planar q8_0 (all quants, then all f16 scales) as GGUF's interleaved blocks of 34 bytes (f16 scale, then its
 * 32 quants). The same values bit by bit.
 *
 * @param planar `blocks * 34` bytes, or padded to a multiple of 4
 */
export function interleaveQ8(planar: Uint8Array, blocks: number): Uint8Array {
  const out = new Uint8Array(blocks * 34)
  const scales = blocks * 32
  for (let b = 0; b < blocks; b++) {
    out[b * 34] = planar[scales + b * 2]!
    out[b * 34 + 1] = planar[scales + b * 2 + 1]!
    out.set(planar.subarray(b * 32, b * 32 + 32), b * 34 + 2)
  }
  return out
}
