import type { Roofline } from '../backend.ts'
import { foldGrid } from './kernels/rule.ts'
import type { WebGpuTarget } from './target.ts'

/** Ranges to stream through, in bytes: in a small cache, in a large one, in none. */
const RANGES = [2 * 2 ** 20, 16 * 2 ** 20, 128 * 2 ** 20]
/** Packs of 16 bytes that a workgroup streams through. */
const SPAN = 4096
/** Invocations and turns of the arithmetic: 268 MFLOP, 2 to 60 ms on two cores. */
const INVOCATIONS = 16384
const TURNS = 256
const LAUNCHES = 1000
/** Each figure is the best of as many samples as fit into its share of the time, but of three. */
const SHARE_SECONDS = 0.12
const FEWEST_SAMPLES = 3
/** Samples shorter than this are repeated within one submission. */
const ENOUGH_SECONDS = 0.004

interface Timed {
  readonly pipeline: GPUComputePipeline
  readonly group: GPUBindGroup
  readonly workgroups: readonly [number, number, number]
}

/** What of a device the measurement needs. */
interface Measured {
  readonly gpu: GPUDevice
  readonly target: WebGpuTarget
  wait<T>(work: Promise<T>): Promise<T>
}

/**
 * Measures what an adapter can do at best: streams through storage, arithmetic in registers, launches, submissions,
 * reading back. Where it depends on the device how to get there, by several kernels, of which the best counts.
 */
export async function measureRoofline(
  device: Measured,
  onProgress: (done: number, total: number) => void = () => {},
): Promise<Roofline> {
  const { gpu, target } = device
  const { maxBufferSize, maxBindingSize } = target.limits
  const most = Math.min(maxBufferSize, maxBindingSize, RANGES.at(-1)!)
  const ranges = RANGES.filter((bytes) => bytes <= most)
  const range = gpu.createBuffer({ size: most, usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC })
  const mapped = gpu.createBuffer({ size: 4, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST })
  const lanes = Math.max(4, target.subgroupSize)
  const widths = [lanes, 64]

  const pipelineOf = (name: string, constants: Record<string, number>): Promise<GPUComputePipeline> =>
    device.wait(
      gpu.createComputePipelineAsync({
        label: name,
        layout: 'auto',
        compute: {
          module: gpu.createShaderModule({ code: target.link({ name, modules: [name], constants }) }),
        },
      }),
    )
  const timed = (pipeline: GPUComputePipeline, groups: number, bytes = most): Timed => ({
    pipeline,
    group: gpu.createBindGroup({
      layout: pipeline.getBindGroupLayout(0),
      entries: [{ binding: 0, resource: { buffer: range, size: bytes } }],
    }),
    workgroups: foldGrid(groups).workgroups,
  })
  /** Seconds until the device has done what `body` submits. */
  const wall = async (body: (encoder: GPUCommandEncoder) => void): Promise<number> => {
    const start = performance.now()
    const encoder = gpu.createCommandEncoder()
    body(encoder)
    gpu.queue.submit([encoder.finish()])
    await device.wait(gpu.queue.onSubmittedWorkDone())
    return (performance.now() - start) / 1000
  }
  const best = async (sample: () => Promise<number>): Promise<number> => {
    const end = performance.now() + 1000 * SHARE_SECONDS
    let least = Number.POSITIVE_INFINITY
    for (let i = 0; i < FEWEST_SAMPLES || performance.now() < end; i++)
      least = Math.min(least, await sample())
    return least
  }
  const launch =
    ({ pipeline, group, workgroups }: Timed, times: number) =>
    (encoder: GPUCommandEncoder): void => {
      const pass = encoder.beginComputePass()
      pass.setPipeline(pipeline)
      pass.setBindGroup(0, group)
      for (let i = 0; i < times; i++) pass.dispatchWorkgroups(...workgroups)
      pass.end()
    }

  // Pipelines first: [variant][kind].
  const reads = await Promise.all([
    ...widths.map((WORKGROUP) => pipelineOf('stream_read', { SPAN, WORKGROUP, STRIDE: WORKGROUP })),
    pipelineOf('stream_read', { SPAN, WORKGROUP: lanes, STRIDE: 1 }),
  ])
  const writes = await Promise.all(widths.map((WORKGROUP) => pipelineOf('stream_write', { SPAN, WORKGROUP })))
  const copies = await Promise.all(widths.map((WORKGROUP) => pipelineOf('stream_copy', { SPAN, WORKGROUP })))
  const arithmetic = await Promise.all(
    widths.map((WORKGROUP) => pipelineOf('multiply_add', { TURNS, WORKGROUP })),
  )
  const nothing = timed(await pipelineOf('multiply_add', { TURNS: 0, WORKGROUP: lanes }), 1)
  const variants = reads.length + writes.length + copies.length
  const total = variants + 3 * (ranges.length - 1) + arithmetic.length + 3
  let done = 0
  const measured = async (sample: () => Promise<number>): Promise<number> => {
    const seconds = await best(sample)
    onProgress(++done, total)
    return seconds
  }

  // The first of all also makes the driver touch the range and compile.
  await wall(launch(timed(writes[0]!, most / 16 / SPAN), 1))
  const submitSeconds = await measured(() => wall(() => {}))
  const launchSeconds =
    Math.max(0, (await measured(() => wall(launch(nothing, LAUNCHES)))) - submitSeconds) / LAUNCHES
  const readBackSeconds = await measured(async () => {
    const start = performance.now()
    const encoder = gpu.createCommandEncoder()
    encoder.copyBufferToBuffer(range, 0, mapped, 0, 4)
    gpu.queue.submit([encoder.finish()])
    await device.wait(mapped.mapAsync(GPUMapMode.READ))
    mapped.getMappedRange()
    mapped.unmap()
    return (performance.now() - start) / 1000
  })

  /** Seconds of one launch, without what submitting and launching take: at most half, lest noise be all that is left. */
  const alone = async (one: Timed): Promise<number> => {
    let times = 1
    // Of two samples, lest an interruption be taken for work.
    while (Math.min(await wall(launch(one, times)), await wall(launch(one, times))) < ENOUGH_SECONDS)
      times *= 4
    const all = await measured(() => wall(launch(one, times)))
    return Math.max(all / 2, all - submitSeconds - times * launchSeconds) / times
  }
  const fastest = async (all: readonly Timed[]): Promise<{ at: number; seconds: number }> => {
    const seconds: number[] = []
    for (const one of all) seconds.push(await alone(one))
    const least = Math.min(...seconds)
    return { at: seconds.indexOf(least), seconds: least }
  }
  /** Bytes per second of each range. Which variant is the fastest, the middle range says. */
  const stream = async (variants: readonly GPUComputePipeline[], packsOf: (bytes: number) => number) => {
    const on = (pipeline: GPUComputePipeline, bytes: number): Timed =>
      timed(pipeline, packsOf(bytes) / SPAN, bytes)
    const middle = ranges[1] ?? ranges[0]!
    const { at, seconds } = await fastest(variants.map((pipeline) => on(pipeline, middle)))
    const rates: number[] = []
    for (const bytes of ranges)
      rates.push(bytes / (bytes === middle ? seconds : await alone(on(variants[at]!, bytes))))
    return rates
  }
  const all = (bytes: number): number => bytes / 16
  const half = (bytes: number): number => bytes / 32
  const [read, write, copy] = [
    await stream(reads, all),
    await stream(writes, all),
    await stream(copies, half),
  ]
  const flops = 64 * TURNS * INVOCATIONS
  const flopsPerSecond =
    flops / (await fastest(arithmetic.map((p, i) => timed(p, INVOCATIONS / widths[i]!)))).seconds
  range.destroy()
  mapped.destroy()
  const memory = ranges.map((bytes, i) => ({ bytes, read: read[i]!, write: write[i]!, copy: copy[i]! }))
  return { memory, flopsPerSecond, launchSeconds, submitSeconds, readBackSeconds }
}
