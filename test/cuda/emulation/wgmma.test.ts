import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { bf16FromNumber } from '../../../src/tensor/format.ts'
import { floats, here, hex, kernels, missing, ORDERS, printMissing, run } from './emulated.ts'

printMissing()

const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i)

type Major = 'k' | 'mn'

describe.skipIf(missing)('products of warpgroups on the emulated device', () => {
  let library = ''
  beforeAll(async () => {
    library = await kernels(join(here, 'wgmma.cu'))
  }, 120_000)

  const outputs = async (order: string, lines: string[]): Promise<Buffer[]> => {
    const { reads, errors } = await run([`library ${library}`, `order ${order}`, ...lines])
    expect(errors).toEqual([])
    return reads
  }

  it('matrix descriptors have the fields of the PTX ISA', async () => {
    const [address, leading, stride] = [0x12400, 0x210, 0x3ff0]
    const [read] = await outputs('forward', [
      'alloc y 56',
      `launch - descriptors 1 1 y u32:${address} u32:${leading} u32:${stride}`,
      'read y 56',
    ])
    // PTX ISA, "Matrix-descriptor format": 0-13 start, 16-29 leading dimension and 32-45 stride byte offset, each by
    // (x & 0x3FFFF) >> 4; 49-51 base offset; 62-63 swizzle: 0 none, 1 128 bytes, 2 64 bytes, 3 32 bytes.
    const field = (x: number): bigint => BigInt(x & 0x3ffff) >> 4n
    const descriptor = (start: number, lead: number, step: number, swizzle: bigint): bigint =>
      field(start) | (field(lead) << 16n) | (field(step) << 32n) | (swizzle << 62n)
    const ones = 0x3fffn | (0x3fffn << 16n) | (0x3fffn << 32n) | (1n << 62n)
    expect(range(7).map((i) => read!.readBigUInt64LE(8 * i))).toEqual([
      ...[0n, 1n, 2n, 3n].map((swizzle) => descriptor(address, leading, stride, swizzle)),
      ones,
      // PTX ISA, "Strides", 128 bytes of swizzle, with T elements in 128 bits, in elements. K-major
      // ((8,m),(T,2k)):((8T,SBO),(1,T)): eight rows of 128 bytes, SBO to the next eight, and k + 32 is 64 bytes on.
      descriptor(address + 64, 16, 1024, 1n),
      // MN-major ((T,8,m),(8,k)):((1,T,LBO),(8T,SBO)): 64 columns are 128 bytes, LBO to the next 64; eight k are
      // rows of 128 bytes, SBO to the next eight, so k + 32 is 4,096 bytes on.
      descriptor(address + 4096, 8192, 1024, 1n),
    ])
  })

  const inEveryOrder = it.each(ORDERS)

  // Small whole numbers: every product and sum is exact.
  const left = (i: number): number => ((i * 29) % 13) - 6
  const right = (i: number): number => ((i * 31) % 11) - 5
  /** Whole numbers up to 15 in e4m3: exponent with bias 7 and three bits behind the first. */
  const e4m3 = (x: number): number => {
    if (x === 0) return 0
    const exponent = Math.floor(Math.log2(Math.abs(x)))
    return (x < 0 ? 128 : 0) | ((exponent + 7) << 3) | ((Math.abs(x) / 2 ** exponent - 1) * 8)
  }

  const cases: [kernel: string, format: 'bf16' | 'e4m3', a: Major, b: Major, columns: number][] = [
    ['bf16_k_k_64', 'bf16', 'k', 'k', 64],
    ['bf16_k_k_128', 'bf16', 'k', 'k', 128],
    ['bf16_k_k_256', 'bf16', 'k', 'k', 256],
    ['bf16_k_mn_96', 'bf16', 'k', 'mn', 96],
    ['bf16_mn_k_64', 'bf16', 'mn', 'k', 64],
    ['bf16_mn_mn_192', 'bf16', 'mn', 'mn', 192],
    ['bf16_registers_k_64', 'bf16', 'k', 'k', 64],
    ['bf16_registers_mn_128', 'bf16', 'k', 'mn', 128],
    ['e4m3_k_k_64', 'e4m3', 'k', 'k', 64],
    ['e4m3_k_k_192', 'e4m3', 'k', 'k', 192],
  ]
  for (const [kernel, format, aMajor, bMajor, columns] of cases)
    inEveryOrder(`${kernel}: sums lie where the PTX ISA says, %s`, async (order) => {
      const depth = format === 'bf16' ? 64 : 128
      /** A matrix of `rows` of m or n as it lies in memory, and its map with its box. */
      const matrix = (name: string, rows: number, major: Major, value: (i: number) => number): string[] => {
        const values = range(rows * depth).map((i) =>
          value(major === 'k' ? i : (i % rows) * depth + Math.floor(i / rows)),
        )
        const data =
          format === 'bf16'
            ? Buffer.from(Uint16Array.from(values, bf16FromNumber).buffer)
            : Buffer.from(values.map(e4m3))
        const [height, width] = major === 'k' ? [rows, depth] : [depth, rows]
        const stride = data.length / height
        const box = major === 'k' ? `${rows} ${depth}` : '64 64'
        return [
          `alloc ${name} ${data.length}`,
          `write ${name} ${data.toString('hex')}`,
          `map m${name} ${name} ${height} ${width} ${stride} ${box} ${format}`,
        ]
      }
      const bytes = 64 * columns * 4
      const [read] = await outputs(order, [
        ...matrix('a', 64, aMajor, left),
        ...matrix('b', columns, bMajor, right),
        `alloc y ${bytes}`,
        `shared ${kernel} 40968`,
        `launch - ${kernel} 1 128 ma mb y`,
        `read y ${bytes}`,
      ])
      const want = range(64 * columns).map((i) => {
        const [m, n] = [Math.floor(i / columns), i % columns]
        return 2 * range(depth).reduce((sum, k) => sum + left(m * depth + k) * right(n * depth + k), 0)
      })
      expect([...floats(read!)]).toEqual(want)
    })

  inEveryOrder('what threads have stored is an operand after a fence: %s', async (order) => {
    const b = Uint16Array.from({ length: 64 * 64 }, (_, i) => bf16FromNumber(right(i)))
    const [read] = await outputs(order, [
      ...['alloc b 8192', `write b ${hex(b)}`, 'map mb b 64 64 128 64 64', 'alloc y 16384'],
      ...['shared stored_operand 40968', 'launch - stored_operand 1 128 mb y', 'read y 16384'],
    ])
    // The left operand is the unit matrix.
    const want = range(64 * 64).map((i) => right((i % 64) * 64 + Math.floor(i / 64)))
    expect([...floats(read!)].map((x) => x + 0)).toEqual(want)
  })
})
