import type { WebGpuDevice } from '../../../backends/webgpu/device.ts'
import { PAGE_TOKENS } from '../../../src/kv_cache/layout.ts'
import { compile } from '../../../src/program/compile.ts'
import { Graph } from '../../../src/program/graph.ts'
import { formatOf } from '../../../src/tensor/format.ts'
import { type TensorType, tensorType } from '../../../src/tensor/type.ts'
import { type Prepared, timed } from '../../suite/contender.ts'
import { NORM_EPS, streams, valuesOf } from '../../suite/inputs.ts'
import type { Work } from '../../suite/works.ts'

type KernelWork = Exclude<Work, { kind: 'decode' | 'train_step' | 'startup' }>

interface Call {
  readonly op: string
  readonly attrs: object
  readonly inputs: Readonly<Record<string, { readonly type: TensorType; readonly values: ArrayLike<number> }>>
}

const f32 = (stream: number, ...shape: number[]): Call['inputs'][string] => ({
  type: tensorType('f32', ...shape),
  values: valuesOf(
    stream,
    shape.reduce((a, b) => a * b, 1),
  ),
})
const u32 = (values: readonly number[], ...shape: number[]): Call['inputs'][string] => ({
  type: tensorType('u32', ...shape),
  values,
})

function callOf(work: KernelWork): Call {
  switch (work.kind) {
    case 'matmul': {
      const { rows, depth, columns, weights } = work
      const w = { type: tensorType(weights, columns, depth), values: valuesOf(streams.w, columns * depth) }
      return { op: 'matmul', attrs: { activation: 'none' }, inputs: { x: f32(streams.x, rows, depth), w } }
    }
    case 'rms_norm': {
      const { rows, width } = work
      const inputs = { x: f32(streams.x, rows, width), weight: f32(streams.weight, width) }
      return { op: 'rms_norm', attrs: { eps: NORM_EPS }, inputs }
    }
    case 'softmax':
      return { op: 'softmax', attrs: {}, inputs: { x: f32(streams.x, work.rows, work.width) } }
    case 'attention_decode':
      return attention(work)
  }
}

/** The keys and values of the work in pages of the cache; the newest are those of the query's own position. */
function attention(work: KernelWork & { kind: 'attention_decode' }): Call {
  const { context, heads, kv_heads, head_dim } = work
  const pages = Math.ceil(context / PAGE_TOKENS)
  const pool = (stream: number): Call['inputs'][string] => {
    const values = new Float32Array(pages * kv_heads * PAGE_TOKENS * head_dim)
    for (let head = 0; head < kv_heads; head++)
      for (let t = 0; t < context; t++) {
        const row = (Math.floor(t / PAGE_TOKENS) * kv_heads + head) * PAGE_TOKENS + (t % PAGE_TOKENS)
        values.set(valuesOf(stream, head_dim, (head * context + t) * head_dim), row * head_dim)
      }
    return { type: tensorType('f32', pages, kv_heads, PAGE_TOKENS, head_dim), values }
  }
  const qkv = new Float32Array((heads + 2 * kv_heads) * head_dim)
  qkv.set(valuesOf(streams.query, heads * head_dim))
  return {
    op: 'attention_paged',
    attrs: { heads, kv_heads, head_dim, scale: head_dim ** -0.5, window: 0, softcap: 0 },
    inputs: {
      qkv: { type: tensorType('f32', 1, qkv.length), values: qkv },
      k_pool: pool(streams.key),
      v_pool: pool(streams.value),
      page_table: u32(
        Array.from({ length: pages }, (_, i) => i),
        1,
        pages,
      ),
      sequence: u32([0], 1),
      position: u32([context - 1], 1),
    },
  }
}

/** One op as a program of its own: inputs are written once, a run dispatches its launches. */
export async function prepareKernel(device: WebGpuDevice, work: KernelWork): Promise<Prepared> {
  const { op, attrs, inputs } = callOf(work)
  const graph = new Graph('bench')
  const given = Object.fromEntries(Object.entries(inputs).map(([p, { type }]) => [p, graph.input(p, type)]))
  const [[port, result]] = Object.entries(graph.op(op, attrs, given)) as [[string, never]]
  graph.output(port, result)
  const program = compile(graph, device.target)
  const executable = await device.load(program)
  const bytes = Object.fromEntries(
    Object.entries(inputs).map(([p, { type, values }]) => [p, formatOf(type.format).encode(values)]),
  )
  const outputs = await executable.step('main', bytes)
  const values = new Float32Array(outputs[port]!.buffer)
  return {
    notes: program.kernels.map((k) => k.name).join(', '),
    run: (times) =>
      timed(times, async () => {
        for (let i = 0; i < times; i++) executable.run('main')
        await executable.finished()
      }),
    sample: async (indices) => indices.map((i) => values[i]!),
    release: async () => executable.destroy(),
  }
}
