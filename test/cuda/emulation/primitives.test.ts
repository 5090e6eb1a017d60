import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { formatOf } from '../../../src/tensor/format.ts'
import {
  floats,
  here,
  hex,
  kernels,
  missing,
  ORDERS,
  portableDriver,
  portableFlags,
  printMissing,
  run,
  words,
} from './emulated.ts'

printMissing()

const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i)
const u32 = (x: number): number => x >>> 0

describe.skipIf(missing)('primitives of the emulated device', () => {
  let library = ''
  beforeAll(async () => {
    library = await kernels(join(here, 'primitives.cu'))
  }, 120_000)

  /** Runs one kernel with device buffers of so many bytes, in one order, and reads them all. */
  async function launch(
    kernel: string,
    [grid, threads]: readonly [number, number],
    buffers: Record<string, number | Uint32Array | Float32Array>,
    scalars: string[] = [],
    order = 'forward',
  ): Promise<Buffer[]> {
    const names = Object.keys(buffers)
    const bytes = (name: string): number => {
      const buffer = buffers[name]!
      return typeof buffer === 'number' ? buffer : buffer.byteLength
    }
    const { reads, errors } = await run([
      `library ${library}`,
      `order ${order}`,
      ...names.map((name) => `alloc ${name} ${bytes(name)}`),
      ...names.flatMap((name) => {
        const buffer = buffers[name]!
        return typeof buffer === 'number' ? [] : [`write ${name} ${hex(buffer)}`]
      }),
      `launch - ${kernel} ${grid} ${threads} ${[...names, ...scalars].join(' ')}`,
      'sync -',
      ...names.map((name) => `read ${name} ${bytes(name)}`),
    ])
    expect(errors).toEqual([])
    return reads
  }

  const inEveryOrder = it.each(ORDERS)

  describe.each([32, 16, 8, 4])('shuffles of width %i', (width) => {
    inEveryOrder('move values, %s', async (order) => {
      const out = words((await launch('shuffles', [1, 64], { out: 1024 }, [`u32:${width}`], order))[0]!)
      for (const t of range(64)) {
        const [warp, lane] = [t - (t % 32), t % 32]
        const [start, last] = [lane - (lane % width), lane - (lane % width) + width - 1]
        const source = [
          start + ((lane * 7 + 3) % width),
          lane - 3 >= start ? lane - 3 : lane,
          lane + 5 <= last ? lane + 5 : lane,
          (lane ^ 9) <= last ? lane ^ 9 : lane,
        ]
        expect([...out.subarray(4 * t, 4 * t + 4)]).toEqual(source.map((s) => warp + s))
      }
    })
  })

  it('shuffle 8-byte values and floats', async () => {
    const [doubles, wide, singles] = await launch('wide_shuffles', [1, 32], { d: 256, w: 256, s: 128 })
    expect(range(32).map((t) => doubles!.readDoubleLE(8 * t))).toEqual(range(32).map((t) => (t ^ 1) * 1.5))
    expect(wide!.readBigUInt64LE(8)).toBe((31n << 40n) + 31n)
    expect([...floats(singles!)]).toEqual(range(32).map((t) => (t < 16 ? t + 16 : t) * 0.25))
  })

  inEveryOrder('serve masks of some lanes in divergent branches, %s', async (order) => {
    const out = words((await launch('partial_masks', [1, 32], { out: 128 }, [], order))[0]!)
    expect([...out]).toEqual(range(32).map((t) => (t % 2 ? 256 + 1000 : 240 + 11000)))
  })

  inEveryOrder('vote and match, %s', async (order) => {
    const out = words((await launch('votes', [1, 32], { out: 6 * 128 }, [], order))[0]!)
    const part = (i: number): number[] => [...out.subarray(32 * i, 32 * i + 32)]
    const lanes = (holds: (lane: number) => boolean): number =>
      u32(range(32).reduce((mask, lane) => mask | (Number(holds(lane)) << lane), 0))
    expect(part(0)).toEqual(range(32).map(() => lanes((l) => l % 3 === 0)))
    expect(part(1)).toEqual(range(32).map(() => 1))
    expect(part(2)).toEqual(range(32).map((t) => lanes((l) => l % 5 === t % 5)))
    expect(part(3)).toEqual(range(32).map(() => 0xffffffff))
    expect(part(4)).toEqual(range(32).map(() => 1))
    expect(part(5)).toEqual(range(32).map(() => 0))
  })

  inEveryOrder('reduce, %s', async (order) => {
    const out = words((await launch('reductions', [1, 32], { out: 1024 }, [], order))[0]!)
    const x = range(32).map((t) => u32(Math.imul(t, 0x9e3779b9)))
    const want = [
      u32(x.reduce((a, b) => a + b, 0)),
      Math.min(...x.map((v) => u32(v | 5))),
      Math.max(...x),
      u32(-16),
      15,
      u32(x.map((v) => v | 1).reduce((a, b) => a & b)),
      x.map((v) => v & 255).reduce((a, b) => a | b),
      u32(x.reduce((a, b) => a ^ b)),
    ]
    expect([...out]).toEqual(want.flatMap((v) => range(32).map(() => v)))
  })

  inEveryOrder('take a partial last warp for what it has, %s', async (order) => {
    const out = words((await launch('partial_warp', [1, 48], { out: 384 }, [], order))[0]!)
    expect([out[0], out[16], out[32]]).toEqual([120, 376, 632])
    expect([out[48], out[48 + 47]]).toEqual([0xffffffff, 0xffff])
  })

  inEveryOrder('hold threads at barriers, %s', async (order) => {
    const out = words((await launch('barriers', [1, 96], { out: 1536 }, [], order))[0]!)
    expect([...out]).toEqual(range(96).flatMap((t) => [((t + 5) % 96) + 5, 32, 2, 1]))
  })

  inEveryOrder('mix warp functions and barriers over several blocks, %s', async (order) => {
    const out = words((await launch('warps_and_barriers', [33, 128], { out: 132 }, [], order))[0]!)
    expect([...out]).toEqual(range(33).map((b) => 8128 + b + 33_000_000 + 1_280_000))
  })

  inEveryOrder('update integers atomically across blocks, %s', async (order) => {
    const n = 128 * 17
    const out = new Uint32Array(16 + n)
    out.set([0, 0, 0xffffffff, 0, 0xffffffff, 0, 0, 0, 0, 0, 0, 2 * n])
    const [list, wide, negative] = await launch(
      'atomics',
      [17, 128],
      { out, wide: new Uint32Array(2), negative: new Uint32Array(1) },
      [],
      order,
    )
    const got = words(list!)
    const sum = (n * (n - 1)) / 2
    expect([...got.subarray(0, 8)]).toEqual([
      sum,
      Math.max(...range(n).map((i) => (i * 7) % 1001)),
      5000 - (n - 1),
      0xffffffff,
      0xffff0000,
      range(n).reduce((a, b) => a ^ b, 0),
      n,
      n % 100,
    ])
    expect(got[8]! >= 1 && got[8]! <= n).toBe(true)
    expect([...got.subarray(9, 12)]).toEqual([1, 1, 0])
    expect([...got.subarray(16)].sort((a, b) => a - b)).toEqual(range(n))
    expect(wide!.readBigUInt64LE(0)).toBe(BigInt(sum) << 20n)
    expect(negative!.readInt32LE(0)).toBe(-(n - 1))
  })

  it('lay vector types out as CUDA does', async () => {
    const [out, vectors] = await launch('vector_types', [1, 1], { out: 80, vectors: 32 })
    expect([...words(out!)]).toEqual([
      ...[202, 404, 202, 404, 404, 808, 404, 808, 808, 1204, 1616, 808, 1204, 1616],
      ...[808, 1204, 1616, 1616, 1616, 1616],
    ])
    expect([...floats(vectors!)]).toEqual([1, 2, 3, 4, 2, 3, 5, 6])
  })

  it('compute bit and math functions as CUDA does', async () => {
    const [a, b, x] = [0xdeadbeef, 0x00012340, 1.0000001192092896]
    const [out] = await launch('intrinsics', [1, 1], { out: 84 }, [`u32:${a}`, `u32:${b}`, `f32:${x}`])
    const bits = (value: number): number => new Uint32Array(Float32Array.of(value).buffer)[0]!
    const pair = (BigInt(b) << 32n) | BigInt(a)
    const low = (value: bigint): number => Number(value & 0xffffffffn)
    expect([...words(out!)]).toEqual([
      ...[24, 15, 7, 0xf77db57b],
      // A nibble above 7 asks for a byte's sign.
      ...[0x00ef23de, 0x00ff40ef],
      Number((BigInt(a) * BigInt(b)) >> 32n),
      low((pair << 12n) >> 32n),
      low(pair >> 12n),
      bits(x * x - 1),
      bits(0.25),
      ...[2, u32(-3), 0x7fffffff, 0, 0, 9, 32, 20],
      bits(1 / 3),
      bits(1),
    ])
  })

  it('convert every half, and floats to halves, as the host does', async () => {
    const [f16, bf16] = await launch('decode_halves', [256, 256], { f: 2 ** 18, b: 2 ** 18 })
    const halves = Uint16Array.from(range(65536))
    const bytes = new Uint8Array(halves.buffer)
    for (const [name, got] of [
      ['f16', floats(f16!)],
      ['bf16', floats(bf16!)],
    ] as const)
      expect(got.map(canonical)).toEqual(
        Float32Array.from(formatOf(name).decode(bytes, 65536)).map(canonical),
      )

    const n = 100_000
    // Bit patterns over the whole range, and the neighbourhood of every half: its value, its ties and beside them.
    const patterns = Uint32Array.from(range(n), (i) => u32(Math.imul(i, 2654435761)))
    words(f16!).forEach((value, i) => {
      if (i % 2 === 0) patterns[i] = u32(value + [0, 0xfff, 0x1000, 0x1001, 0x2000][i % 5]!)
    })
    const values = new Float32Array(patterns.buffer)
    const encoded = await launch(
      'encode_halves',
      [Math.ceil(n / 256), 256],
      { x: values, f: 4 * n, b: 4 * n },
      [`u32:${n}`],
    )
    for (const [name, got] of [
      ['f16', words(encoded[1]!)],
      ['bf16', words(encoded[2]!)],
    ] as const) {
      const want = formatOf(name).encode(values)
      expect(Array.from(got)).toEqual(Array.from(new Uint16Array(want.buffer, want.byteOffset, n)))
    }
  })

  inEveryOrder('wait on memory that later blocks write, %s', async (order) => {
    const [flags] = await launch('chain', [20, 64], { flags: new Uint32Array(21) }, [], order)
    expect([...words(flags!)].slice(0, 20)).toEqual(range(20).map((b) => 20 - b))
  })

  inEveryOrder('sleep until another thread writes, %s', async (order) => {
    expect(words((await launch('sleeper', [1, 32], { flag: new Uint32Array(1) }, [], order))[0]!)[0]).toBe(7)
  })

  it('pass parameters of every type', async () => {
    const [out] = await launch('parameters', [1, 1], { out: 24 }, [
      'u32:4294967295',
      'i32:-5',
      'f32:1.5',
      'u64:1311768467463790320',
      'null',
    ])
    expect([...words(out!)]).toEqual([0xffffffff, u32(-5), 0x3fc00000, 0x12345678, 0x9abcdef0, 1])
  })

  it('give the same bytes on many threads of the host', async () => {
    const script = [
      `library ${library}`,
      'alloc out 4000',
      'launch - warps_and_barriers 1000 128 out',
      'read out 4000',
    ]
    const [one, four] = [await run(script), await run(script, { env: { EXACTMAP_EMULATED_THREADS: '4' } })]
    expect(four.reads).toEqual(one.reads)
  })
})

describe.skipIf(missing)('stacks switched by ucontext', () => {
  it('run barriers, warp functions and faults as the others do', { timeout: 120_000 }, async () => {
    const on = await portableDriver()
    const library = await kernels(join(here, 'primitives.cu'), 'none', portableFlags)
    const faults = await kernels(join(here, 'faults/barriers.cu'), 'none', portableFlags)
    const script = (order: string): string[] => [
      `library ${library}`,
      `library ${faults}`,
      `order ${order}`,
      ...['alloc a 1536', 'alloc b 132'],
      ...['launch - barriers 1 96 a', 'launch - warps_and_barriers 33 128 b'],
      ...['read a 1536', 'read b 132'],
      ...['launch - barrier_in_branch 1 64 a a u32:1', 'sync -', 'reset'],
      ...['launch - barrier_in_branch_fixed 1 64 null null u32:1', 'sync -', 'reset'],
      ...['alloc a 1536', 'launch - barriers 1 96 a', 'read a 1536'],
    ]
    for (const order of ORDERS) {
      const { reads, errors } = await run(script(order), { on })
      expect([...words(reads[0]!)]).toEqual(range(96).flatMap((t) => [((t + 5) % 96) + 5, 32, 2, 1]))
      expect([...words(reads[1]!)]).toEqual(range(33).map((b) => 8128 + b + 33_000_000 + 1_280_000))
      expect(errors.map((e) => e.code)).toEqual([719, 700])
      expect(reads[2]).toEqual(reads[0])
    }
  })
})

/** Any NaN is one value, and zeros keep their signs. */
function canonical(value: number): number {
  return Number.isNaN(value) ? Number.NaN : value
}
