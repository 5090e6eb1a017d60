import { afterEach, describe, expect, it, vi } from 'vitest'
import type { Device, Executable, Roofline } from '../../backends/backend.ts'
import { profileText, stepReport } from '../../src/cli/profile_report.ts'
import type { LiveRow } from '../../src/ops/contract.ts'
import { checkCall, opContract } from '../../src/ops/index.ts'
import type { Launch, Operand } from '../../src/program/program.ts'
import { launchWork } from '../../src/program/work.ts'
import { byteSize, tensorType } from '../../src/tensor/type.ts'
import { HostClock, heapUse } from '../../src/verify/host_time.ts'
import { byKernel } from '../../src/verify/profile.ts'
import { profileSvg } from '../../src/verify/profile_picture.ts'
import { leastTime, sumOfLeast } from '../../src/verify/roofline.ts'
import { kernelsOf, partsOf, type StepProfile } from '../../src/verify/step_profile.ts'

const roofline: Roofline = {
  memory: [
    { bytes: 1000, read: 100, write: 50, copy: 60 },
    { bytes: 10_000, read: 20, write: 60, copy: 25 },
    { bytes: 100_000, read: 10, write: 5, copy: 7 },
  ],
  flopsPerSecond: 1000,
  launchSeconds: 0,
  submitSeconds: 0,
  readBackSeconds: 0,
}

const work = (bytesRead: number, bytesWritten: number, flops = 0) => ({ bytesRead, bytesWritten, flops })

describe('least time', () => {
  it.each([
    ['a small range by the fastest rate', work(500, 0), 5, 'memory'],
    ['written bytes by what a larger range was written with', work(0, 600), 10, 'memory'],
    ['both kinds one after the other', work(500, 600), 15, 'memory'],
    ['between two ranges by the smaller one', work(9999, 0), 99.99, 'memory'],
    ['a middle range', work(10_000, 0), 500, 'memory'],
    ['a range beyond all', work(1e6, 0), 1e5, 'memory'],
    ['arithmetic beside memory', work(500, 0, 6000), 6, 'arithmetic'],
    ['memory beside arithmetic', work(500, 0, 4000), 5, 'memory'],
  ] as const)('%s', (_name, of, seconds, bound) => {
    expect(leastTime(of, roofline)).toEqual({ seconds: expect.closeTo(seconds, 9), bound })
  })

  it('of several launches is bound by what most of it is due to', () => {
    const [a, b] = [
      { seconds: 2, bound: 'memory' },
      { seconds: 3, bound: 'arithmetic' },
    ] as const
    expect(sumOfLeast([a, b])).toEqual({ seconds: 5, bound: 'arithmetic' })
    expect(sumOfLeast([a, a, b])).toEqual({ seconds: 7, bound: 'memory' })
  })
})

/** A launch of an op whose operands lie one after the other; in-place outputs over their inputs. */
function launchOf(
  op: string,
  attrs: object,
  inputs: Parameters<typeof checkCall>[2],
  access: Record<string, 'read' | 'write' | 'read_write'>,
): Launch {
  const contract = opContract(op)
  const call = checkCall(contract, attrs, inputs)
  let end = 0
  const place = (type: Operand['type']): Operand => {
    const operand = { type, arena: 'activations' as const, offset: end, bytes: byteSize(type) }
    end += operand.bytes
    return operand
  }
  const placed = Object.fromEntries(Object.entries(call.inputs).map(([port, type]) => [port, place(type)]))
  const outputs = Object.fromEntries(
    Object.entries(call.outputs).map(([port, type]) => {
      const over = contract.inPlace?.[port]
      return [port, over ? placed[over]! : place(type)]
    }),
  )
  const all = { ...outputs, ...placed }
  return {
    kind: 'launch',
    index: 0,
    name: op,
    queue: 'compute',
    after: [],
    kernel: 0,
    workgroups: [1, 1, 1],
    bindings: Object.entries(access).map(([name, how]) => ({ ...all[name]!, name, access: how })),
    call: { op, attrs: call.attrs, inputs: placed, outputs },
    part: [0, 1],
    flops: contract.flops(call),
  }
}

describe('work of a launch', () => {
  it('is everything bound, once each way, for an op without look-ups', () => {
    const x = tensorType('f32', 3, 8)
    const launch = launchOf('add', {}, { a: x, b: x }, { a: 'read', b: 'read_write' })
    expect(launchWork(launch, [])).toEqual({ bytesRead: 192, bytesWritten: 96, flops: 24 })
  })

  it('is a weight once, though a kernel has it as a matrix of quants and as their scales', () => {
    const inputs = { x: tensorType('bf16', 2, 128), w: tensorType('e4m3_128', 4, 128) }
    const launch = launchOf('matmul', {}, inputs, { x: 'read', w: 'read', y: 'write' })
    const w = launch.bindings.find(({ name }) => name === 'w')!
    const twice = { ...launch, bindings: [...launch.bindings, { ...w, name: 'w_blocks' }] }
    expect(launchWork(twice, [])).toEqual(launchWork(launch, []))
  })

  it('is the rows looked up, not the table', () => {
    const inputs = { ids: tensorType('u32', 2), table: tensorType('f16', 1000, 64) }
    const launch = launchOf('embedding', {}, inputs, { ids: 'read', table: 'read', y: 'write' })
    expect(launchWork(launch, [])).toEqual({
      bytesRead: expect.closeTo(2 * 4 + 2 * 64 * 2, 6),
      bytesWritten: 2 * 64 * 4,
      flops: 0,
    })
  })

  const [heads, kv_heads, head_dim, pages] = [4, 2, 8, 5]
  const pool = tensorType('f16', pages, kv_heads, 64, head_dim)
  const paged = (rows: number) => ({
    qkv: tensorType('f32', rows, (heads + 2 * kv_heads) * head_dim),
    k_pool: pool,
    v_pool: pool,
    page_table: tensorType('u32', 2, 2),
    sequence: tensorType('u32', rows),
    position: tensorType('u32', rows),
  })
  const attend = (window: number, live: readonly LiveRow[]) => {
    const attrs = { heads, kv_heads, head_dim, scale: 1, window, softcap: 0 }
    const access = { qkv: 'read', k_pool: 'read', v_pool: 'read', y: 'write' } as const
    return launchWork(launchOf('attention_paged', attrs, paged(4), access), live)
  }
  const key = 2 * kv_heads * head_dim * 2 // K and V of a position, f16
  const query = 4 * heads * head_dim

  it('of attention over a cache is the keys that its rows see', () => {
    // One sequence up to position 9: ten keys, read once by both rows, 9 + 10 pairs.
    const rows = [8, 9].map((position) => ({ sequence: 0, position }))
    const one = attend(0, rows)
    expect(one.bytesRead).toBeCloseTo(2 * query + 10 * key, 6)
    expect(one.flops).toBeCloseTo(4 * head_dim * heads * 19, 6)
    // Another sequence reads its own.
    const two = attend(0, [...rows, { sequence: 1, position: 4 }])
    expect(two.bytesRead).toBeCloseTo(3 * query + 15 * key, 6)
    // A window of three: rows 8 and 9 see keys 6 to 9.
    const windowed = attend(3, rows)
    expect(windowed.bytesRead).toBeCloseTo(2 * query + 4 * key, 6)
    expect(windowed.flops).toBeCloseTo(4 * head_dim * heads * 6, 6)
  })

  it('of kv_write is the rows that are no padding', () => {
    const access = { qkv: 'read', k_pool: 'write', v_pool: 'write' } as const
    const launch = launchOf('kv_write', { heads, kv_heads, head_dim }, paged(4), access)
    const { bytesRead, bytesWritten } = launchWork(launch, [{ sequence: 0, position: 3 }])
    expect(bytesWritten).toBeCloseTo(key, 6)
    expect(bytesRead).toBeCloseTo(4 * 2 * kv_heads * head_dim, 6)
  })
})

const add = (seconds: number) => ({
  launch: launchOf(
    'add',
    {},
    { a: tensorType('f32', 25), b: tensorType('f32', 25) },
    { a: 'read', y: 'write' },
  ),
  kernel: 'binary',
  seconds,
})

describe('a step', () => {
  const kernels = byKernel({ launches: [add(4), add(6)] }, [], roofline)
  const segment = { segment: 'decode', runs: 1, launches: 2, deviceSeconds: 13, kernelSeconds: 10, kernels }
  const host = { loop: 1, inputs: 2, encode: 3, submit: 4 }
  const step: StepProfile = { name: 'decode', seconds: 25, steps: 8, host, segments: [segment] }

  it('joins launches of one kernel', () => {
    const least = { seconds: expect.closeTo(2 * (100 / 100 + 100 / 60), 9), bound: 'memory' }
    expect(kernels).toEqual([
      {
        kernel: 'binary',
        op: 'add',
        count: 2,
        seconds: 10,
        bytesRead: 200,
        bytesWritten: 200,
        flops: 50,
        least,
      },
    ])
  })

  it('is kernels, launch overhead, host, and what nothing explains', () => {
    expect(partsOf(step)).toEqual({ kernels: 10, launching: 3, host: 10, rest: 2 })
    expect(partsOf({ ...step, seconds: 20 }).rest).toBe(-3)
  })

  it('says which steps run as one kernel', () => {
    const about = { backend: 'cuda', device: 'a', driver: 'b', model: 'c' } as const
    const text = (oneKernel: boolean) =>
      profileText({ ...about, steps: [stepReport({ ...step, oneKernel })] })
    expect(text(true)).toMatch(/^decode as one kernel: 25000\.000 ms a step,/m)
    expect(text(true)).toMatch(/ us for each of \d+ steps of the kernel/)
    expect(text(false)).toMatch(/^decode: 25000\.000 ms a step,/m)
    expect(text(false)).toMatch(/ us for each of \d+ launches/)
  })

  it('runs its segments as often as it does', () => {
    const other = { ...segment, segment: 'forward', runs: 3 }
    const two = { ...step, segments: [segment, other] }
    expect(partsOf(two)).toMatchObject({ kernels: 40, launching: 12 })
    expect(kernelsOf(two)).toMatchObject([{ count: 8, seconds: 40, bytesRead: 800, flops: 200 }])
    expect(kernelsOf(two)[0]!.least!.seconds).toBeCloseTo(4 * kernels[0]!.least!.seconds, 9)
  })

  it('is drawn: slices as wide as they are long, the limit of a kernel where it lies', () => {
    const svg = profileSvg('a & b', [step])
    expect(svg).toContain('a &amp; b')
    const widths = [...svg.matchAll(/<rect x="([\d.]+)" y="\d+" width="([\d.]+)" height="30"/g)].map((m) => [
      Number(m[1]),
      Number(m[2]),
    ])
    expect(widths).toHaveLength(4)
    const whole = 960 - 2 * 24
    for (const [i, part] of [10, 3, 10, 2].entries())
      expect(widths[i]![1]).toBeCloseTo((whole * part) / 25, 1)
    // Each begins where the one before ends.
    widths.slice(1).forEach(([x], i) => {
      expect(x).toBeCloseTo(widths[i]![0]! + widths[i]![1]!, 1)
    })
    // The kernel's bar is the longest there is, its mark at 5.33 of 10 seconds.
    const [, x] = /<path d="M([\d.]+) \d+V\d+" stroke="#da1e28"/.exec(svg)!
    expect(Number(x)).toBeCloseTo(310 + (380 * kernels[0]!.least!.seconds) / 10, 1)
    expect(svg).toContain('53 % of its memory limit')
    // Parts that overlap are drawn in full, and the real step is marked.
    const overlapping = profileSvg('', [{ ...step, seconds: 20 }])
    expect(overlapping).toContain('host and device overlap for 3000 ms')
    expect(overlapping).toContain('the step as measured')
  })
})

describe('host time', () => {
  afterEach(() => {
    vi.restoreAllMocks()
  })

  it('is the calls that submit and the code between them, without waiting', async () => {
    let now = 0
    vi.spyOn(performance, 'now').mockImplementation(() => now)
    const executable = {
      run: () => {
        now += 4
      },
      step: async () => {
        now += 6
        await Promise.resolve()
        now += 60
        return {}
      },
    } as unknown as Executable
    const clock = new HostClock({} as Device, executable)
    now += 5
    clock.start()
    for (let i = 0; i < 2; i++) {
      now += 3
      executable.run('a')
      now += 2
      await executable.step('b')
    }
    const perStep = { loop: 0.005, inputs: 0, encode: 0.01, submit: 0 }
    expect(clock.read(2)).toEqual(perStep)
    clock.detach()
    executable.run('a')
    expect(clock.read(2)).toEqual(perStep)
  })

  it('of the heap is what a step allocates, and what of it stays', async () => {
    let used = 0
    const memory = process.memoryUsage
    const fake = () => ({ heapUsed: used }) as NodeJS.MemoryUsage
    process.memoryUsage = Object.assign(fake, { rss: memory.rss })
    try {
      const use = await heapUse(
        async () => {
          used += 10 * 300
        },
        10,
        () => {
          used -= 10 * 250
        },
      )
      expect(use).toEqual({ allocated: 300, retained: 50 })
    } finally {
      process.memoryUsage = memory
    }
  })
})
