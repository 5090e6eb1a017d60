import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { packageRoot } from '../../../backends/package_root.ts'
import { here, kernels, missing, ORDERS, printMissing, run, runPrimitive } from './emulated.ts'
import { range } from './primitive.ts'
import { targetOfPrimitives } from './primitives.ts'
import { wgmmaPrimitives } from './wgmma_primitives.ts'

printMissing()

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

  const target = targetOfPrimitives(packageRoot(), 'sm_90a', wgmmaPrimitives)
  for (const one of wgmmaPrimitives)
    it.each(ORDERS)(`${one.name}: sums lie where the PTX ISA says, %s`, async (order) => {
      expect(await runPrimitive(one, target, order)).toEqual(one.expected)
    })
})
