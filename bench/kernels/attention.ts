// Speed of rope, dense attention forward and backward, and attention over the paged cache.
//
//   npx esbuild bench/kernels/attention.ts --bundle --platform=node --format=esm --packages=external \
//     --outfile=dist/bench/attention.js && node dist/bench/attention.js [--portable] [filter]
//
// GFLOP/s counts the pairs of query and key that may see each other and nothing else. Every round runs each job
// once, in turn, so that noise of the machine meets all alike; a figure is the best of the rounds.
import { loadavg } from 'node:os'
import { openNodeWebGpu } from '../../backends/webgpu/node/open.ts'
import type { DenseAttributes, ScoreAttributes } from '../../src/ops/attention_math.ts'
import { opContract } from '../../src/ops/index.ts'
import { PAGE_TOKENS } from '../../src/ops/kv_write.ts'
import { compile } from '../../src/program/compile.ts'
import { Graph } from '../../src/program/graph.ts'
import { type FormatName, formatOf } from '../../src/tensor/format.ts'
import { elementCount, type TensorType, tensorType } from '../../src/tensor/type.ts'

const ROUNDS = 7
/** Work of one timed run: enough to hide submission and waiting. */
const ENOUGH_FLOPS = 2e8

interface Job {
  readonly name: string
  readonly op: string
  readonly attrs: object
  /** Integer inputs are given; floats are drawn. */
  readonly inputs: Readonly<
    Record<string, { readonly type: TensorType; readonly values?: ArrayLike<number> }>
  >
  readonly flops: number
}

const f32 = (...shape: number[]) => ({ type: tensorType('f32', ...shape) })
const u32 = (values: ArrayLike<number>, ...shape: number[]) => ({ type: tensorType('u32', ...shape), values })

function dense(
  op: 'attention' | 'attention_backward',
  batch: number,
  sequence: number,
  heads: number,
  kv_heads: number,
  head_dim: number,
): Job {
  const attrs: DenseAttributes = {
    heads,
    kv_heads,
    head_dim,
    sequence,
    scale: head_dim ** -0.5,
    causal: true,
    window: 0,
    softcap: 0,
  }
  const rows = batch * sequence
  const qkv = f32(rows, (heads + 2 * kv_heads) * head_dim)
  const wide = f32(rows, heads * head_dim)
  const inputs: Job['inputs'] =
    op === 'attention' ? { qkv } : { dy: wide, qkv, y: wide, lse: f32(rows, heads) }
  const types = Object.fromEntries(Object.entries(inputs).map(([p, i]) => [p, i.type]))
  const flops = opContract(op).flops({ op, attrs, inputs: types, outputs: {} })
  return {
    name: `${op} ${batch} x ${sequence}, ${heads}/${kv_heads} heads of ${head_dim}`,
    op,
    attrs,
    inputs,
    flops,
  }
}

/** `rows` query rows at the end of each of `batch` sequences of `length` tokens. */
function paged(
  batch: number,
  rows: number,
  length: number,
  heads: number,
  kv_heads: number,
  head_dim: number,
  format: FormatName,
): Job {
  const attrs: ScoreAttributes = { heads, kv_heads, head_dim, scale: head_dim ** -0.5, window: 0, softcap: 0 }
  const pages = Math.ceil(length / PAGE_TOKENS)
  const pool = { type: tensorType(format, batch * pages, kv_heads, PAGE_TOKENS, head_dim) }
  const count = batch * rows
  const places = Array.from({ length: count }, (_, i) => length - rows + (i % rows))
  return {
    name: `attention_paged ${batch} x ${rows} of ${length}, ${heads}/${kv_heads} heads of ${head_dim}, ${format}`,
    op: 'attention_paged',
    attrs,
    inputs: {
      qkv: f32(count, (heads + 2 * kv_heads) * head_dim),
      k_pool: pool,
      v_pool: pool,
      page_table: u32(
        Array.from({ length: batch * pages }, (_, i) => i),
        batch,
        pages,
      ),
      sequence: u32(
        Array.from({ length: count }, (_, i) => Math.floor(i / rows)),
        count,
      ),
      position: u32(places, count),
    },
    flops: 4 * head_dim * heads * places.reduce((a, p) => a + p + 1, 0),
  }
}

function rope(rows: number, heads: number, head_dim: number): Job {
  const attrs = { head_dim, rotated_heads: 2 * heads, layout: 'half', inverse: false }
  const inputs = {
    x: f32(rows, 3 * heads * head_dim),
    positions: u32(
      Array.from({ length: rows }, (_, i) => i % 256),
      rows,
    ),
    table: f32(256, head_dim),
  }
  return {
    name: `rope ${rows} rows, ${2 * heads} heads of ${head_dim}`,
    op: 'rope',
    attrs,
    inputs,
    flops: 6 * rows * heads * head_dim,
  }
}

const jobs: readonly Job[] = [
  dense('attention', 16, 128, 4, 4, 32),
  dense('attention', 8, 256, 6, 6, 32),
  dense('attention', 2, 512, 4, 2, 64),
  dense('attention_backward', 16, 128, 4, 4, 32),
  dense('attention_backward', 8, 256, 6, 6, 32),
  dense('attention_backward', 2, 512, 4, 2, 64),
  paged(1, 128, 256, 6, 6, 32, 'f32'),
  paged(1, 1, 256, 6, 6, 32, 'f32'),
  paged(1, 1, 1024, 9, 3, 64, 'f16'),
  paged(8, 1, 1024, 9, 3, 64, 'f16'),
  rope(2048, 6, 32),
]

function bytesOf({ type, values }: Job['inputs'][string]): Uint8Array {
  let state = 1
  const next = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 31 - 1
  }
  return formatOf(type.format).encode(values ?? Float32Array.from({ length: elementCount(type.shape) }, next))
}

const args = process.argv.slice(2)
const portable = args.includes('--portable')
const filter = args.find((a) => !a.startsWith('--')) ?? ''
const device = await openNodeWebGpu({ without: portable ? ['subgroups'] : [] })
console.log(`${device.info.device}, ${device.info.driver}`)

const loaded = []
for (const job of jobs.filter((j) => j.name.includes(filter))) {
  const graph = new Graph('bench')
  const inputs = Object.fromEntries(Object.entries(job.inputs).map(([p, i]) => [p, graph.input(p, i.type)]))
  for (const [port, value] of Object.entries(graph.op(job.op, job.attrs, inputs))) graph.output(port, value)
  const program = compile(graph, device.target)
  const start = performance.now()
  const executable = await device.load(program)
  await executable.step(
    'main',
    Object.fromEntries(Object.entries(job.inputs).map(([p, i]) => [p, bytesOf(i)])),
  )
  loaded.push({
    job,
    executable,
    variants: program.kernels.map((k) => k.name),
    loadMs: performance.now() - start,
    ms: Number.POSITIVE_INFINITY,
  })
}
for (let round = 0; round < ROUNDS; round++)
  for (const one of loaded) {
    const times = Math.max(1, Math.round(ENOUGH_FLOPS / one.job.flops / 4))
    const before = performance.now()
    for (let i = 0; i < times; i++) one.executable.run('main')
    await one.executable.finished()
    one.ms = Math.min(one.ms, (performance.now() - before) / times)
  }
for (const { job, variants, loadMs, ms } of loaded)
  console.log(
    `${job.name.padEnd(62)} ${ms.toFixed(3).padStart(9)} ms ${(job.flops / ms / 1e6).toFixed(2).padStart(7)} GFLOP/s  first step ${loadMs.toFixed(0).padStart(6)} ms  ${variants.join(', ')}`,
  )
console.log(`load average ${loadavg()[0]!.toFixed(1)}`)
device.destroy()
process.exit(0)
