import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { bf16FromNumber } from '../../../src/tensor/format.ts'
import { floats, here, hex, kernels, missing, ORDERS, printMissing, run, words } from './emulated.ts'

printMissing()

const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i)

describe.skipIf(missing)('what is asynchronous on the emulated device', () => {
  let library = ''
  beforeAll(async () => {
    library = await kernels(join(here, 'async.cu'))
  }, 120_000)

  const outputs = async (order: string, lines: string[]): Promise<Buffer[]> => {
    const { reads, errors } = await run([`library ${library}`, `order ${order}`, ...lines])
    expect(errors).toEqual([])
    return reads
  }

  it('matrix descriptors have the fields of the PTX ISA', async () => {
    const [address, leading, stride] = [0x12340, 0x210, 0x3ff0]
    const [read] = await outputs('forward', [
      'alloc y 40',
      `launch - descriptors 1 1 y u32:${address} u32:${leading} u32:${stride}`,
      'read y 40',
    ])
    // PTX ISA, "Matrix-descriptor format": 0-13 start, 16-29 leading dimension and 32-45 stride byte offset, each by
    // (x & 0x3FFFF) >> 4; 49-51 base offset; 62-63 swizzle: 0 none, 1 128 bytes, 2 64 bytes, 3 32 bytes.
    const field = (x: number): bigint => BigInt(x & 0x3ffff) >> 4n
    const all = field(address) | (field(leading) << 16n) | (field(stride) << 32n)
    const got = range(5).map((i) => read!.readBigUInt64LE(8 * i))
    const ones = 0x3fffn | (0x3fffn << 16n) | (0x3fffn << 32n)
    expect(got).toEqual([...[0n, 1n, 2n, 3n].map((swizzle) => all | (swizzle << 62n)), ones | (1n << 62n)])
  })

  const inEveryOrder = it.each(ORDERS)

  inEveryOrder('boxes lie swizzled in shared memory, with zeros outside the matrix: %s', async (order) => {
    const [rows, width, column, row] = [70, 80, 40, 30]
    const x = Uint16Array.from({ length: rows * width }, (_, i) => i + 1)
    const [read] = await outputs(order, [
      `alloc x ${x.byteLength}`,
      `write x ${hex(x)}`,
      'alloc y 8192',
      `map m x ${rows} ${width} ${2 * width} 64 64`,
      'shared copy_box 8200',
      `launch - copy_box 1 32 m y u32:${column} u32:${row}`,
      'read y 8192',
    ])
    const got = new Uint16Array(read!.buffer, read!.byteOffset, 64 * 64)
    for (let r = 0; r < 64; r++)
      for (let c = 0; c < 64; c++) {
        const inside = row + r < rows && column + c < width
        // Chunks of 16 bytes, eight elements, are exchanged by the row's number.
        const place = r * 64 + ((Math.floor(c / 8) ^ (r % 8)) * 8 + (c % 8))
        expect(got[place]).toBe(inside ? x[(row + r) * width + column + c] : 0)
      }
  })

  inEveryOrder('bytes are copied as they lie: %s', async (order) => {
    const x = Uint32Array.from({ length: 64 }, (_, i) => i + 1)
    const [read] = await outputs(order, [
      'alloc x 256',
      `write x ${hex(x)}`,
      'alloc y 144',
      'shared copy_bytes 8200',
      'launch - copy_bytes 1 32 x y u32:32 u32:144',
      'read y 144',
    ])
    expect([...words(read!)]).toEqual([...x.slice(8, 44)])
  })

  inEveryOrder('copies of bytes from between multiples of 16 are refused: %s', async (order) => {
    const { errors } = await run([
      `library ${library}`,
      `order ${order}`,
      'alloc x 256',
      'alloc y 144',
      'shared copy_bytes 8200',
      'launch - copy_bytes 1 32 x y u32:8 u32:144',
      'read y 144',
    ])
    expect(errors[0]!.text).toContain('from a multiple of 16')
  })

  inEveryOrder('phases of mbarriers alternate in parity: %s', async (order) => {
    const [read] = await outputs(order, [
      'alloc y 24',
      'shared phases 16',
      'launch - phases 1 64 y',
      'read y 24',
    ])
    expect([...words(read!)]).toEqual([1, 2, 3, 4, 5, 6])
  })

  for (const columns of [128, 256])
    inEveryOrder(`sums of m64n${columns}k16 lie where the PTX ISA says: %s`, async (order) => {
      // Small whole numbers: every product and sum is exact.
      const a = Float64Array.from({ length: 64 * 64 }, (_, i) => ((i * 29) % 13) - 6)
      const b = Float64Array.from({ length: columns * 64 }, (_, i) => ((i * 31) % 11) - 5)
      const bits = (x: Float64Array): string => hex(Uint16Array.from(x, bf16FromNumber))
      const bytes = 64 * columns * 4
      const [read] = await outputs(order, [
        ...['alloc a 8192', `write a ${bits(a)}`, `alloc b ${columns * 128}`, `write b ${bits(b)}`],
        `alloc y ${bytes}`,
        ...['map ma a 64 64 128 64 64', `map mb b ${columns} 64 128 ${columns} 64`],
        `shared product_${columns} 40968`,
        `launch - product_${columns} 1 128 ma mb y`,
        `read y ${bytes}`,
      ])
      const want = range(64 * columns).map((i) => {
        const [m, n] = [Math.floor(i / columns), i % columns]
        return 2 * range(64).reduce((sum, k) => sum + a[m * 64 + k]! * b[n * 64 + k]!, 0)
      })
      expect([...floats(read!)]).toEqual(want)
    })

  it('registers move between warpgroups', async () => {
    const [read] = await outputs('forward', ['alloc y 1024', 'launch - registers 1 256 y', 'read y 1024'])
    expect([...words(read!)]).toEqual(range(256))
  })

  it.each([
    ['an address between 16 bytes', 'm x+8 4 64 128 4 64', /address is no multiple of 16/],
    ['rows at no multiple of 16 bytes', 'm x 4 60 120 4 60', /stride of rows is 120/],
    ['rows that overlap', 'm x 4 64 112 4 64', /rows overlap/],
    ['no rows', 'm x 0 64 128 4 64', /a dimension is 0/],
    ['a box of 257 rows', 'm x 4 64 128 257 64', /a side of the box is 257/],
    ['a box of no columns', 'm x 4 64 128 4 0', /a side of the box is 0/],
    ['a box wider than the swizzle', 'm x 4 128 256 4 128', /256 bytes, more than the swizzle's 128/],
    ['a box of 24 bytes', 'm x 4 64 128 4 12', /24 bytes, no multiple of 16/],
    ['a matrix past its memory', 'm x 9 64 128 4 64', /not in device memory/],
  ])('a tensor map is refused for %s', async (_, map, message) => {
    const { errors } = await run(['alloc x 1024', `map ${map}`])
    expect(errors.map((e) => e.code)).toEqual([1])
    expect(errors[0]!.text).toMatch(message)
  })

  it('dynamic shared memory is what the kernel declares and its attribute allows', async () => {
    const launch = 'launch - phases 1 64 y'
    const set = [`library ${library}`, 'alloc y 24']
    expect((await run([...set, launch])).errors[0]!.text).toMatch(/has 16 bytes of dynamic .* gives 0/)
    expect((await run([...set, 'shared phases 32', launch])).errors[0]!.text).toMatch(/gives 32/)
    const { errors } = await run([...set, 'shared phases 232449'])
    expect(errors[0]!.text).toMatch(/at most 227 KB/)
  })
})
