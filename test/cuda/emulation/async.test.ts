import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { packageRoot } from '../../../backends/package_root.ts'
import { asyncPrimitives } from './async_primitives.ts'
import { floats, here, hex, kernels, missing, ORDERS, printMissing, run, runPrimitive } from './emulated.ts'
import { targetOfPrimitives } from './primitives.ts'

printMissing()

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

  const target = targetOfPrimitives(packageRoot(), 'sm_90a', asyncPrimitives)
  for (const one of asyncPrimitives)
    inEveryOrder(`${one.name} gives what the PTX ISA says: %s`, async (order) => {
      expect(await runPrimitive(one, target, order)).toEqual(one.expected)
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

  for (const add of [0, 1])
    inEveryOrder(`boxes that are ${add ? 'added' : 'stored'} come late: %s`, async (order) => {
      // With a column before the matrix, its first element is the box's second, 1.
      const [seen] = await outputs(order, [
        ...['alloc x 3200', `write x ${hex(new Float32Array(800))}`, 'alloc seen 8'],
        ...['map m x 20 40 160 16 32 f32', 'shared store_box 2048'],
        `launch - store_box 1 32 m x seen u32:${2 ** 32 - 1} u32:0 u32:${add}`,
        'read seen 8',
      ])
      expect([...floats(seen!)]).toEqual([0, 1])
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
