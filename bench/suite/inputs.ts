import { LLAMA_100M } from './works.ts'

/**
 * Values that every engine, in any language, makes for itself: uniform in [-1, 1), exact in f32.
 *
 * Element i of stream s: h = (i * 2654435761 + s * 974711) mod 2^32; h ^= h >> 15; h = h * 2246822519 mod 2^32;
 * h ^= h >> 13; value = (h >> 8) / 2^23 - 1.
 */
export function valueAt(stream: number, index: number): number {
  let h = (Math.imul(index, 2654435761) + Math.imul(stream, 974711)) >>> 0
  h = Math.imul(h ^ (h >>> 15), 2246822519) >>> 0
  h = (h ^ (h >>> 13)) >>> 0
  return (h >>> 8) / 2 ** 23 - 1
}

export const valuesOf = (stream: number, count: number, first = 0): Float32Array =>
  Float32Array.from({ length: count }, (_, i) => valueAt(stream, first + i))

/**
 * Streams of the inputs. `w` is w[columns, depth], row by row; `key` and `value` are [kv_heads, context, head_dim] and
 * `query` is [heads, head_dim].
 */
export const streams = { x: 1, w: 2, weight: 3, query: 4, key: 5, value: 6 } as const

/** Epsilon of rms_norm. */
export const NORM_EPS = 1e-5

/** Ids of the prompt that decoding begins with. */
export const promptOf = (tokens: number): number[] =>
  Array.from({ length: tokens }, (_, i) => (i * 7919 + 13) % LLAMA_100M.vocab_size)

/** Ids [rows, length] of a training batch: the bundled model knows 1,024. */
export const trainingIds = (rows: number, length: number): Uint32Array =>
  Uint32Array.from({ length: rows * length }, (_, at) => {
    const [b, t] = [Math.floor(at / length), at % length]
    return (b * 977 + t * 31 + t * t) % 1024
  })
