import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
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

  for (const add of [false, true])
    inEveryOrder(`boxes are ${add ? 'added' : 'stored'} as far as the matrix reaches: %s`, async (order) => {
      const [rows, width, column, row] = [20, 40, 24, 10]
      const x = Float32Array.from({ length: rows * width }, (_, i) => i)
      const stored = async (at: readonly [number, number]): Promise<Buffer[]> =>
        outputs(order, [
          ...[`alloc x ${x.byteLength}`, `write x ${hex(x)}`, 'alloc seen 8'],
          ...[`map m x ${rows} ${width} ${4 * width} 16 32 f32`, 'shared store_box 2048'],
          `launch - store_box 1 32 m x seen u32:${at[0]} u32:${at[1]} u32:${Number(add)}`,
          ...[`read x ${x.byteLength}`, 'read seen 8'],
        ])
      const [read] = await stored([column, row])
      const want = x.map((before, i) => {
        const [r, c] = [Math.floor(i / width) - row, (i % width) - column]
        return r < 0 || r >= 16 || c < 0 || c >= 32 ? before : 100 * r + c + (add ? before : 0)
      })
      expect(floats(read!)).toEqual(want)
      // At the matrix's first element 0 is stored; with a column before it, 1.
      const [, seen] = await stored([2 ** 32 - 1, 0])
      expect([...floats(seen!)]).toEqual([0, 1])
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

  it('registers move between warpgroups', async () => {
    const [read] = await outputs('forward', [
      ...['alloc y 1536', 'shared registers 1024', 'launch - registers 1 384 y', 'read y 1536'],
    ])
    expect([...words(read!)]).toEqual(range(384))
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
