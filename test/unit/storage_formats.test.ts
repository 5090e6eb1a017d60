import { describe, expect, it } from 'vitest'
import { e2m1FromNumber, e2m1ToNumber, e4m3FromNumber, e4m3ToNumber } from '../../src/tensor/float_bits.ts'
import { type FormatName, formatOf } from '../../src/tensor/format.ts'
import { Philox } from '../../src/tensor/philox.ts'
import { byteSize, tensorType } from '../../src/tensor/type.ts'

interface SmallFloat {
  readonly sign: number
  /** Magnitudes by code, as the specification has them. */
  readonly table: readonly number[]
  readonly from: (x: number) => number
  readonly to: (bits: number) => number
}

const smallFloats: Record<string, SmallFloat> = {
  // OFP8 1.0, table 1: subnormals m / 8 x 2^-6, then (1 + m / 8) 2^(e - 7); the code after 448 is NaN.
  e4m3: {
    sign: 0x80,
    table: Array.from({ length: 127 }, (_, code) =>
      code < 8 ? (code / 8) * 2 ** -6 : (1 + (code % 8) / 8) * 2 ** (Math.floor(code / 8) - 7),
    ),
    from: e4m3FromNumber,
    to: e4m3ToNumber,
  },
  e2m1: { sign: 8, table: [0, 0.5, 1, 1.5, 2, 3, 4, 6], from: e2m1FromNumber, to: e2m1ToNumber },
}

describe.each(Object.entries(smallFloats))('%s', (_name, { sign, table, from, to }) => {
  const last = table.length - 1
  const largest = table[last]!

  it('has the numbers of its specification, each its own nearest', () => {
    for (const [code, value] of table.entries()) {
      expect(to(code)).toBe(value)
      expect(to(sign | code)).toBe(-value)
      expect(from(value)).toBe(code)
      expect(from(-value)).toBe(sign | code)
    }
  })

  it('rounds to nearest, ties to the even code', () => {
    for (let code = 0; code < last; code++) {
      const tie = (table[code]! + table[code + 1]!) / 2
      const beside = tie * 2 ** -52
      expect(from(tie)).toBe(code % 2 === 0 ? code : code + 1)
      expect(from(tie - beside)).toBe(code)
      expect(from(tie + beside)).toBe(code + 1)
      expect(from(-tie - beside)).toBe(sign | (code + 1))
    }
  })

  it('saturates', () => {
    for (const x of [largest * 1.01, largest * 2, 1e38, Number.POSITIVE_INFINITY]) {
      expect(from(x)).toBe(last)
      expect(from(-x)).toBe(sign | last)
    }
    expect(from(Number.MIN_VALUE)).toBe(0)
    expect(from(-1e-300)).toBe(sign)
  })
})

it('e4m3 has one NaN of each sign', () => {
  expect(e4m3FromNumber(Number.NaN)).toBe(0x7f)
  expect([e4m3ToNumber(0x7f), e4m3ToNumber(0xff)]).toEqual([Number.NaN, Number.NaN])
  expect([...formatOf('e4m3').encode([1, -2, 500])]).toEqual([0x38, 0xc0, 0x7e, 0])
})

const encoded = (format: FormatName, values: readonly number[]): Uint8Array => formatOf(format).encode(values)
const decoded = (format: FormatName, bytes: Uint8Array, count: number): number[] => [
  ...formatOf(format).decode(bytes, count),
]
/** A block of zeros that begins with these. */
const block = (size: number, ...first: number[]): number[] => [
  ...first,
  ...Array<number>(size - first.length).fill(0),
]

describe('layout', () => {
  it('e4m3_128: quants, then f32 scales', () => {
    const bytes = encoded('e4m3_128', [...block(128, -896, 2, 896), ...block(128, 448)])
    expect(bytes.length).toBe(2 * 132)
    expect([...bytes.subarray(0, 4), bytes[128]]).toEqual([0xfe, 0x38, 0x7e, 0, 0x7e])
    expect([...new Float32Array(bytes.slice(256).buffer)]).toEqual([2, 1])
  })

  it('mxfp8: quants, then bytes of exponents', () => {
    // floor(log2(300)) = 8; 511 is past 448 at its own scale of 1.
    const bytes = encoded('mxfp8', [...block(32, 300), ...block(32, -511, 1), ...block(32, 2 ** -10)])
    expect(bytes.length).toBe(100)
    expect([bytes[0], bytes[32], bytes[33], bytes[64]]).toEqual([0x79, 0xfe, 0x38, 0x78])
    expect([...bytes.subarray(96)]).toEqual([127, 127, 109, 0])
  })

  it('nvfp4: quants, then e4m3 scales, then the scale of the tensor', () => {
    const bytes = encoded('nvfp4', [...block(16, 2688, -448), ...block(16, 6), ...block(16, 3, 0.5)])
    expect(bytes.length).toBe(32)
    expect([bytes[0], bytes[1], bytes[8], bytes[16]]).toEqual([0xa7, 0, 0x07, 0x27])
    expect([...bytes.subarray(24, 28)]).toEqual([0x7e, 0x38, 0x30, 0])
    expect([...new Float32Array(bytes.slice(28).buffer)]).toEqual([1])
    expect(decoded('nvfp4', bytes, 48)).toEqual([
      ...block(16, 2688, -448),
      ...block(16, 6),
      ...block(16, 3, 0.5),
    ])
  })

  it.each([
    ['e4m3', [3, 5], 16],
    ['e4m3_128', [3, 256], 6 * 132],
    ['mxfp8', [3, 32], 100],
    ['nvfp4', [3, 16], 32],
    ['nvfp4', [4, 16], 40],
  ] as const)('%s of [%s] takes %i bytes, as the encoder writes', (format, shape, bytes) => {
    const type = tensorType(format, ...shape)
    expect(byteSize(type)).toBe(bytes)
    expect(formatOf(format).encode(new Float32Array(shape[0] * shape[1])).length).toBe(bytes)
  })

  it('tensors take more bytes than 32 bits count', () => {
    expect(byteSize(tensorType('bf16', 2 ** 17 + 1, 2 ** 16 + 1))).toBe(2 * (2 ** 17 + 1) * (2 ** 16 + 1) + 2)
  })
})

describe.each(['e4m3_128', 'mxfp8', 'nvfp4'] as const)('%s', (format) => {
  const { blockSize } = formatOf(format)
  const random = new Philox(23)
  const values = Array.from({ length: 64 * blockSize }, (_, i) =>
    Math.fround(random.normal() * 2 ** ((Math.floor(i / blockSize) % 8) - 4)),
  )
  const blocks = Array.from({ length: 64 }, (_, b) => values.slice(b * blockSize, (b + 1) * blockSize))

  it('errs by half a step of its quants', () => {
    const back = decoded(format, encoded(format, values), values.length)
    const quants = format === 'nvfp4' ? smallFloats.e2m1! : smallFloats.e4m3!
    const most = quants.table.at(-1)!
    for (const [b, of] of blocks.entries()) {
      const largest = Math.max(...of.map(Math.abs))
      // The scale: exact to an f32, up to twice the least that holds all, or rounded to an e4m3, which may be a
      // subnormal one.
      const overall = Math.max(...values.map(Math.abs)) / (6 * 448)
      const scale =
        format === 'e4m3_128'
          ? largest / most
          : format === 'mxfp8'
            ? 2 ** (Math.floor(Math.log2(largest)) - 8)
            : (largest / 6) * (1 + 2 ** -4) + overall * 2 ** -10
      for (const [i, x] of of.entries()) {
        // Steps grow with the number; what is past the last quant becomes it.
        const halfStep =
          format === 'nvfp4'
            ? Math.max(0.25, Math.abs(x / scale) / 4)
            : Math.max(2 ** -10, Math.abs(x / scale) / 16)
        const past = Math.max(0, Math.abs(x) - (format === 'mxfp8' ? most * scale : largest / (1 + 2 ** -4)))
        expect(Math.abs(back[b * blockSize + i]! - x)).toBeLessThanOrEqual(
          scale * halfStep * (1 + 2 ** -20) + past,
        )
      }
    }
  })

  it('of zeros is zeros', () => {
    expect(decoded(format, encoded(format, block(2 * blockSize)), 2 * blockSize)).toEqual(
      block(2 * blockSize),
    )
  })

  it.each([Number.NaN, Number.POSITIVE_INFINITY])('with %d is NaN', (x) => {
    const back = decoded(
      format,
      encoded(format, [...block(blockSize, 1, x), ...block(blockSize, 1)]),
      2 * blockSize,
    )
    expect(back.slice(0, blockSize).every(Number.isNaN)).toBe(true)
    // Blocks are apart, unless there is a scale for all.
    expect(Number.isNaN(back[blockSize])).toBe(format === 'nvfp4')
  })

  it('keeps what it decoded', () => {
    const bytes = encoded(format, values)
    const again = encoded(format, decoded(format, bytes, values.length))
    expect(Buffer.from(again).equals(Buffer.from(bytes))).toBe(true)
  })

  it('flushes what an f32 scale would have to be subnormal for', () => {
    const tiny = encoded(format, block(blockSize, 1e-44))
    expect(decoded(format, tiny, blockSize)[0]).toBe(0)
  })
})
