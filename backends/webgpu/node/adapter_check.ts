import { check } from '../../../src/errors.ts'

/** Elements of the check's vectors: enough to fill several workgroups of any device, and exact in f32. */
const COUNT = 2 ** 20
const WORKGROUP = 64
const REPEATS = 5

// 8 bytes read, 4 written and 1 flop per element: 12 MiB in all, limited by memory bandwidth (or by the launch).
const ADD = `
@group(0) @binding(0) var<storage, read_write> a: array<f32>;
@group(0) @binding(1) var<storage, read_write> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> sum: array<f32>;
@compute @workgroup_size(${WORKGROUP})
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x < arrayLength(&sum)) { sum[id.x] = a[id.x] + b[id.x]; }
}`

export interface AdapterCheck {
  readonly elements: number
  /** From requestDevice to the first checked result, compiling included. */
  readonly firstMs: number
  /** Median time of a launch until the queue is empty. */
  readonly launchMs: number
}

/**
 * Adds two vectors on a device of `adapter` and compares every element.
 *
 * @throws validation when a result is wrong
 */
export async function checkAdapter(adapter: GPUAdapter): Promise<AdapterCheck> {
  const start = performance.now()
  const device = await adapter.requestDevice()
  const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST
  const [a, b, sum] = [0, 1, 2].map(() => device.createBuffer({ size: COUNT * 4, usage }))
  const read = device.createBuffer({
    size: COUNT * 4,
    usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST,
  })
  // i + (2 COUNT - 3 i) stays below 2^24 in size, where f32 holds every integer.
  device.queue.writeBuffer(
    a!,
    0,
    Float32Array.from({ length: COUNT }, (_, i) => i),
  )
  device.queue.writeBuffer(
    b!,
    0,
    Float32Array.from({ length: COUNT }, (_, i) => 2 * COUNT - 3 * i),
  )
  const pipeline = await device.createComputePipelineAsync({
    layout: 'auto',
    compute: { module: device.createShaderModule({ code: ADD }) },
  })
  const group = device.createBindGroup({
    layout: pipeline.getBindGroupLayout(0),
    entries: [a!, b!, sum!].map((buffer, binding) => ({ binding, resource: { buffer } })),
  })
  const launch = (copy: boolean) => {
    const encoder = device.createCommandEncoder()
    const pass = encoder.beginComputePass()
    pass.setPipeline(pipeline)
    pass.setBindGroup(0, group)
    pass.dispatchWorkgroups(COUNT / WORKGROUP)
    pass.end()
    if (copy) encoder.copyBufferToBuffer(sum!, 0, read, 0, COUNT * 4)
    device.queue.submit([encoder.finish()])
    return device.queue.onSubmittedWorkDone()
  }
  await launch(true)
  await read.mapAsync(GPUMapMode.READ)
  const result = new Float32Array(read.getMappedRange())
  const wrong = result.findIndex((value, i) => value !== 2 * COUNT - 2 * i)
  check(
    wrong < 0,
    'validation',
    () =>
      `the driver adds wrongly: element ${wrong} should be ${2 * COUNT - 2 * wrong}, is ${result[wrong]}; choose another with EXACTMAP_DRIVER`,
  )
  const firstMs = performance.now() - start
  read.unmap()
  const times: number[] = []
  for (let i = 0; i < REPEATS; i++) {
    const begin = performance.now()
    await launch(false)
    times.push(performance.now() - begin)
  }
  device.destroy()
  return { elements: COUNT, firstMs, launchMs: times.sort((x, y) => x - y)[REPEATS >> 1]! }
}
