import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { floats, here, hex, kernels, missing, ORDERS, type Outcome, printMissing, run } from './emulated.ts'
import { type Fault, ILLEGAL_ADDRESS } from './faults/fault.ts'
import { faults } from './faults/table.ts'

printMissing()

const ramp = (n: number): Float32Array => Float32Array.from({ length: n }, (_, i) => 1 + ((i * 37) % 101) / 8)

/** The tensor map of kernels with dynamic shared memory: x as rows of bf16, boxes of all rows and 64 columns. */
const [ROWS, WIDTH, BOX] = [128, 256, 64]

describe.skipIf(missing)('planted faults', () => {
  /** Runs a kernel of (x, y, n), each tensor in an allocation of its own. */
  async function launch(fault: Fault, kernel: string, order: string): Promise<Outcome> {
    const { grid = 1, threads, elements = grid * threads, env, caught } = fault
    const sanitizer = caught.by === 'sanitizer' ? caught.sanitizer : 'none'
    const library = await kernels(join(here, 'faults', `${fault.file}.cu`), sanitizer)
    const script = [
      `library ${library}`,
      `order ${order}`,
      ...[`alloc x ${4 * elements}`, `alloc y ${4 * elements}`, `write x ${hex(ramp(elements))}`],
      ...(fault.shared
        ? [
            `shared ${kernel} ${fault.shared}`,
            `map m x ${ROWS} ${WIDTH} ${2 * WIDTH} ${fault.boxRows ?? ROWS} ${BOX}`,
          ]
        : []),
      `launch - ${kernel} ${grid} ${threads} ${fault.shared ? 'm' : 'x'} y u32:${elements}`,
      'sync -',
      `read y ${4 * elements}`,
    ]
    return run(script, env ? { sanitizer, env } : { sanitizer })
  }

  /** Whether the check of a fault finds one in a kernel. */
  async function finds(fault: Fault, kernel: string): Promise<boolean> {
    const { caught } = fault
    const orders = caught.by === 'order' ? ORDERS : (['forward'] as const)
    const outcomes: Outcome[] = []
    for (const order of orders) outcomes.push(await launch(fault, kernel, order))
    const [{ errors, reads, report }] = outcomes as [Outcome]
    switch (caught.by) {
      case 'order':
        expect(outcomes.flatMap((o) => o.errors)).toEqual([])
        return new Set(outcomes.map((o) => o.reads[0]!.toString('hex'))).size > 1
      case 'error':
        if (errors.length > 0) {
          expect(errors[0]!.text).toMatch(caught.message)
          expect(errors.map((e) => e.code)).toEqual(errors.map(() => caught.code))
        }
        return errors.length > 0
      case 'sanitizer':
        expect(errors).toEqual([])
        if (report) expect(report).toMatch(caught.report)
        return report !== ''
      case 'nan':
        expect(errors).toEqual([])
        return floats(reads[0]!).some(Number.isNaN)
    }
  }

  const cases = faults.map((fault) => {
    const { caught } = fault
    const by = caught.by === 'sanitizer' ? `${caught.sanitizer} sanitizer` : caught.by
    return { ...fault, title: `${fault.kernel}: caught by ${by}` }
  })
  it.each(cases)('$title', { timeout: 120_000 }, async (fault) => {
    expect(await finds(fault, fault.kernel), 'the faulty kernel').toBe(true)
    expect(await finds(fault, `${fault.kernel}_fixed`), 'its correct twin').toBe(false)
  })

  it.each([
    ['a float atomic', 'atomicAdd(y, x[0]);', /atomics exist for integers/],
    [
      '__activemask',
      'y[0] = __activemask();',
      /'__activemask' was not declared|‘__activemask’ was not declared/,
    ],
    ['__shared__ without SHARED', '__shared__ float s[4]; y[0] = s[0];', /__shared__/],
    [
      'a shuffle of a vector',
      'y[0] = __shfl_sync(FULL_WARP, make_float4(0, 0, 0, 0), 0).x;',
      /shuffles move/,
    ],
  ])('%s does not compile', async (_, text, message) => {
    const folder = await mkdtemp(join(tmpdir(), 'exactmap-fault-'))
    try {
      const file = join(folder, 'fault.cu')
      await writeFile(
        file,
        `#include "lib/kernel.h"\nKERNEL(fault, 32, const float* x, float* y) { ${text} }\n`,
      )
      await expect(kernels(file)).rejects.toThrow(message)
    } finally {
      await rm(folder, { recursive: true })
    }
  })

  const n = 256
  const bytes = 4 * n
  const seeds = ['shuffle:1', 'shuffle:2', 'shuffle:3', 'shuffle:4', 'shuffle:5', 'shuffle:6']
  const setUp = async (): Promise<string[]> => [
    `library ${await kernels(join(here, 'faults/ordering.cu'))}`,
    ...['x', 'a', 'b', 'y'].map((name) => `alloc ${name} ${bytes}`),
    `write x ${hex(ramp(n))}`,
  ]
  const results = async (script: string[], envs: Record<string, string>[]): Promise<Set<string>> => {
    const found = new Set<string>()
    for (const env of envs) {
      const { errors, reads } = await run(script, { env })
      expect(errors).toEqual([])
      for (const read of reads) found.add(read.toString('hex'))
    }
    return found
  }
  /** The system decides which thread gets on: a fault that shows in time only is asked for in several runs. */
  const manyRuns = Array.from({ length: 5 }, () => ({}))
  const graphEnvs = seeds.map((seed) => ({ EXACTMAP_EMULATED_GRAPH_ORDER: seed }))

  it('graph without an edge: caught by shuffled graph orders', async () => {
    const script = async (after: string): Promise<string[]> => [
      ...(await setUp()),
      'graph',
      'node first - scale 4 64 x a f32:2',
      'node second - scale 4 64 x b f32:3',
      `node sum ${after} add 4 64 a b y`,
      'instantiate',
      'launch_graph -',
      `read y ${bytes}`,
    ]
    expect((await results(await script('first'), graphEnvs)).size).toBeGreaterThan(1)
    expect((await results(await script('first,second'), graphEnvs)).size).toBe(1)
  })

  it('graph that reuses memory without an edge from its reader: caught by shuffled graph orders', async () => {
    const script = async (after: string): Promise<string[]> => [
      ...(await setUp()),
      'graph',
      'node write - scale 4 64 x a f32:2',
      'node read write scale 4 64 a y f32:5',
      `node reuse ${after} scale 4 64 x a f32:7`,
      'instantiate',
      'launch_graph -',
      `read y ${bytes}`,
    ]
    expect((await results(await script('write'), graphEnvs)).size).toBeGreaterThan(1)
    expect((await results(await script('write,read'), graphEnvs)).size).toBe(1)
  })

  it('graph whose copy nothing waits for: caught by shuffled graph orders', async () => {
    const script = async (after: string): Promise<string[]> => [
      ...(await setUp()),
      `pinned host ${bytes}`,
      `set host 63 ${bytes}`,
      'graph',
      `copy_node upload - a host ${bytes}`,
      `node use ${after} scale 4 64 a y f32:2`,
      'instantiate',
      'launch_graph -',
      `read y ${bytes}`,
    ]
    expect((await results(await script('-'), graphEnvs)).size).toBeGreaterThan(1)
    expect((await results(await script('upload'), graphEnvs)).size).toBe(1)
  })

  it('pinned memory changed before its copy ran: caught by copying when the stream gets there', async () => {
    const script = async (wait: string[]): Promise<string[]> => [
      `library ${await kernels(join(here, 'primitives.cu'))}`,
      ...['alloc out 4', 'alloc y 16', 'pinned host 16', 'set host 1 16', 'stream s'],
      'launch s slow 1 1 out u32:30000000',
      'upload s y host 16',
      ...wait,
      'set host 2 16',
      ...['sync s', 'read y 16'],
    ]
    expect(await results(await script([]), manyRuns)).toContain('02'.repeat(16))
    expect(await results(await script(['sync s']), manyRuns)).toEqual(new Set(['01'.repeat(16)]))
  })

  it('stream that does not wait for another: caught by streams that run on their own', async () => {
    const script = async (wait: string[]): Promise<string[]> => [
      `library ${await kernels(join(here, 'primitives.cu'))}`,
      ...['alloc out 4', 'alloc list 64', `write list ${'00'.repeat(64)}`, 'sync -'],
      ...['stream a', 'stream b', 'event done'],
      'launch a slow 1 1 out u32:30000000',
      'launch a append 1 1 list u32:1',
      'record done a',
      ...wait,
      'launch b append 1 1 list u32:2',
      ...['sync a', 'sync b', 'read list 12'],
    ]
    const list = (first: number, second: number): string => hex(Uint32Array.of(2, first, second))
    expect(await results(await script([]), manyRuns)).toContain(list(2, 1))
    expect(await results(await script(['wait b done']), manyRuns)).toEqual(new Set([list(1, 2)]))
  })

  it('use of freed device memory: caught as an illegal address', async () => {
    const script = async (late: boolean): Promise<string[]> => [
      ...(await setUp()),
      // A graph keeps the pointer it was built with.
      ...['graph', 'node use - scale 4 64 x y f32:2', 'instantiate'],
      ...(late ? ['free x', `alloc z ${bytes}`] : []),
      ...['launch_graph -', 'sync -'],
    ]
    const { errors } = await run(await script(true))
    expect(errors.map((e) => e.code)).toEqual([ILLEGAL_ADDRESS])
    expect(errors[0]!.text).toMatch(/'scale', block 0, thread 0: read of .* in device memory that was freed/)
    expect((await run(await script(false))).errors).toEqual([])
  })

  it('wrong offset in an arena: caught by what lies there', async () => {
    const script = async (offset: number): Promise<string[]> => [
      `library ${await kernels(join(here, 'faults/ordering.cu'))}`,
      ...['alloc arena 4096', 'alloc y 256', `write arena ${hex(ramp(64))}`],
      `launch - scale 1 64 arena+${offset} y f32:2`,
      'read y 256',
    ]
    const output = async (offset: number): Promise<Float32Array> =>
      floats((await run(await script(offset))).reads[0]!)
    expect((await output(256)).every(Number.isNaN)).toBe(true)
    expect(await output(0)).toEqual(ramp(64).map((x) => 2 * x))
  })
})
