import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { formatOf } from '../../../src/tensor/format.ts'
import { floats, here, kernels, missing, ORDERS, printMissing, run, words } from './emulated.ts'

printMissing()

const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i)
const inEveryOrder = it.each(ORDERS)
const SHARED = 55320
const ROW_BYTES = 128

/** Numbers of 128 bytes of a row, and of a scale: all where the format has none. */
const formats = {
  f16: { depth: 64, block: 64 },
  bf16: { depth: 64, block: 64 },
  e4m3: { depth: 128, block: 128 },
  mxfp8: { depth: 128, block: 32 },
  nvfp4: { depth: 256, block: 16 },
} as const
type Format = keyof typeof formats

/** Rows of small numbers that the format has, with scales that are powers of two: sums are exact. */
function operand(format: Format, rows: number, seed: number) {
  const { depth, block } = formats[format]
  const exponents = range((rows * depth) / block).map((i) =>
    block === depth ? 0 : ((i * 5 + Math.floor(i / 7)) % 6) - 3,
  )
  // e2m1 has no 5.
  const quants = Float64Array.from({ length: rows * depth }, (_, i) => {
    const v = ((i * seed) % 13) - 6
    return format === 'nvfp4' && Math.abs(v) === 5 ? 4 : v
  })
  const scaled = quants.map((v, i) => v * 2 ** exponents[Math.floor(i / block)]!)
  const bytes =
    format === 'nvfp4'
      ? Uint8Array.from(
          { length: (rows * depth) / 2 },
          (_, i) => e2m1(quants[2 * i]!) | (e2m1(quants[2 * i + 1]!) << 4),
        )
      : formatOf(format === 'mxfp8' ? 'e4m3' : format).encode(quants)
  // One byte a block: e8m0 has the exponent alone, e4m3 the exponent above three bits of mantissa.
  const scales = Uint8Array.from(exponents, (e) => (format === 'nvfp4' ? (e + 7) << 3 : e + 127))
  return { scaled, bytes, scales }
}

const e2m1Numbers = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
const e2m1 = (v: number): number => e2m1Numbers.indexOf(Math.abs(v)) | (v < 0 ? 8 : 0)

const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

describe.skipIf(missing)('tcgen05 on the emulated device', () => {
  let library = ''
  beforeAll(async () => {
    library = await kernels(join(here, 'tcgen05.cu'))
  }, 120_000)

  const outputs = async (order: string, lines: string[]): Promise<Buffer[]> => {
    const { reads, errors } = await run([`library ${library}`, `order ${order}`, ...lines])
    expect(errors).toEqual([])
    return reads
  }

  it('shared memory descriptors have the fields of the PTX ISA', async () => {
    const [address, leading, stride] = [0x12340, 0x210, 0x3ff0]
    const [read] = await outputs('forward', [
      'alloc y 40',
      `launch - shared_descriptors 1 1 y u32:${address} u32:${leading} u32:${stride}`,
      'read y 40',
    ])
    // PTX ISA, "Shared memory descriptor": 0-13 start, 16-29 leading and 32-45 stride dimension byte offset, each by
    // (x & 0x3FFFF) >> 4; 46-48 the constant 0b001; 49-51 base offset; 61-63 swizzle: 0 none, 2 128 bytes, 4 64 bytes,
    // 6 32 bytes.
    const field = (x: number): bigint => BigInt(x & 0x3ffff) >> 4n
    const constant = 1n << 46n
    const all = field(address) | (field(leading) << 16n) | (field(stride) << 32n) | constant
    const ones = 0x3fffn | (0x3fffn << 16n) | (0x3fffn << 32n) | constant
    expect(range(5).map((i) => read!.readBigUInt64LE(8 * i))).toEqual([
      ...[0n, 2n, 4n, 6n].map((swizzle) => all | (swizzle << 61n)),
      ones | (2n << 61n),
    ])
  })

  // A pair of blocks multiplies 256 rows.
  it.each([128, 256])('instruction descriptors of %i rows have the fields of the PTX ISA', async (rows) => {
    const [columns, byte] = [240, 2]
    const [read] = await outputs('forward', [
      'alloc y 24',
      `launch - instruction_descriptors 1 1 y u32:${rows} u32:${columns} u32:${byte}`,
      'read y 24',
    ])
    // PTX ISA, "Instruction descriptor". kind::f16 and f8f6f4: 4-5 format of D (F32 = 1), 7-9 and 10-12 of A and B (F16
    // = 0, BF16 = 1; E4M3 = 0), 15 and 16 whether A and B are transposed, 17-22 N >> 3, 24-28 M >> 4. kind::mxf8f6f4 and mxf4nvf4: 4-5 id of B's scales, 7-9 and
    // 10-12 (E4M3 = 0; E2M1 = 1), 17-22 N >> 3, 23 type of scales (UE8M0 = 1, UE4M3 = 0), 27-28 M >> 7, 29-30 id of A's.
    const plain = (format: number): number =>
      (1 << 4) | (format << 7) | (format << 10) | ((columns >> 3) << 17) | ((rows >> 4) << 24)
    const scaled = (format: number, scale: number, id: number): number =>
      (id << 4) |
      (format << 7) |
      (format << 10) |
      ((columns >> 3) << 17) |
      (scale << 23) |
      ((rows >> 7) << 27) |
      (id << 29)
    expect([...words(read!)]).toEqual([
      ...[plain(0), plain(1), plain(0), scaled(0, 1, byte), scaled(1, 0, 0)],
      plain(1) | (1 << 15) | (1 << 16),
    ])
  })

  for (const format of Object.keys(formats) as Format[])
    for (const columns of format === 'bf16' || format === 'nvfp4' ? [256, 48] : [128])
      inEveryOrder(
        `products of 128 x ${columns} in ${format} lie where the PTX ISA says: %s`,
        async (order) => {
          const { depth } = formats[format]
          const [a, b] = [operand(format, 128, 29), operand(format, columns, 31)]
          const scales = Buffer.concat([a.scales, b.scales])
          const bytes = 128 * columns * 4
          const [read] = await outputs(order, [
            ...[`alloc a ${a.bytes.length}`, `write a ${hexOf(a.bytes)}`],
            ...[`alloc b ${b.bytes.length}`, `write b ${hexOf(b.bytes)}`],
            ...[`alloc s ${scales.length}`, `write s ${hexOf(scales)}`, `alloc y ${bytes}`],
            // Maps of the script are of two bytes an element.
            `map ma a 128 ${ROW_BYTES / 2} ${ROW_BYTES} 128 ${ROW_BYTES / 2}`,
            `map mb b ${columns} ${ROW_BYTES / 2} ${ROW_BYTES} ${columns} ${ROW_BYTES / 2}`,
            `shared product_${format} ${SHARED}`,
            `launch - product_${format} 1 128 ma mb s y u32:${columns}`,
            `read y ${bytes}`,
          ])
          const want = range(128 * columns).map((i) => {
            const [m, n] = [Math.floor(i / columns), i % columns]
            let sum = 0
            for (let k = 0; k < depth; k++) sum += a.scaled[m * depth + k]! * b.scaled[n * depth + k]!
            return 2 * sum
          })
          expect([...floats(read!)]).toEqual(want)
        },
      )

  for (const format of ['f16', 'bf16'] as const)
    inEveryOrder(
      `products in ${format} find their left operand in tensor memory, two numbers of a row in a word: %s`,
      async (order) => {
        const [depth, columns] = [64, 128]
        const a = operand(format, 128, 29)
        const right = Float64Array.from({ length: depth * columns }, (_, i) => ((i * 31) % 13) - 6)
        const bytes = formatOf(format).encode(right)
        const [read] = await outputs(order, [
          ...[`alloc a ${a.bytes.length}`, `write a ${hexOf(a.bytes)}`],
          ...[`alloc b ${bytes.length}`, `write b ${hexOf(bytes)}`],
          `alloc y ${128 * columns * 4}`,
          `map mb b ${depth} ${columns} ${2 * columns} ${depth} 64`,
          `shared product_ts_${format} 16408`,
          `launch - product_ts_${format} 1 128 mb a y`,
          `read y ${128 * columns * 4}`,
        ])
        const want = range(128 * columns).map((i) => {
          const [m, n] = [Math.floor(i / columns), i % columns]
          let sum = 0
          for (let k = 0; k < depth; k++) sum += a.scaled[m * depth + k]! * right[k * columns + n]!
          return sum
        })
        expect([...floats(read!)]).toEqual(want)
      },
    )
})
