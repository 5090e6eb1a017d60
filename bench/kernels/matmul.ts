import type { WebGpuDevice } from '../../backends/webgpu/device.ts'
import { openNodeWebGpu } from '../../backends/webgpu/node/open.ts'
import { normal } from '../../src/ops/cases.ts'
import type { CaseInput } from '../../src/ops/contract.ts'
import { opContract } from '../../src/ops/index.ts'
import { compile } from '../../src/program/compile.ts'
import { Graph } from '../../src/program/graph.ts'
import { type FormatName, formatOf } from '../../src/tensor/format.ts'
import { byteSize, elementCount } from '../../src/tensor/type.ts'
import { saveResult, takeSave } from '../result.ts'
import { openPeer, type Peer } from './peer.ts'

const ROUNDS = 9
/** Work of one timed run: enough to hide submission and waiting. */
const ENOUGH_FLOPS = 4e8

interface Job {
  readonly op: string
  readonly attrs: object
  readonly inputs: Readonly<Record<string, CaseInput>>
  /** Shape as onnxruntime would run it; absent: no counterpart. */
  readonly peer?: { readonly rows: number; readonly depth: number; readonly columns: number }
}

interface Row {
  readonly job: string
  readonly variant: string
  readonly gflops: number
  readonly gbytes: number
  readonly ms: number
  /** Loading: compiling the kernel and allocating. */
  readonly loadMs: number
  readonly peerGflops?: number
}

const matmul = (rows: number, depth: number, columns: number, format: FormatName = 'f32'): Job => ({
  op: 'matmul',
  attrs: { activation: 'none' },
  inputs: { x: normal([rows, depth]), w: normal([columns, depth], 1, format) },
  ...(format === 'f32' ? { peer: { rows, depth, columns } } : {}),
})

const backward = (rows: number, depth: number, columns: number): Job[] => [
  {
    op: 'matmul_backward_input',
    attrs: {},
    inputs: { dy: normal([rows, columns]), w: normal([columns, depth]) },
    // The same product as x w with a row-major right operand.
    peer: { rows, depth: columns, columns: depth },
  },
  {
    op: 'matmul_backward_weight',
    attrs: {},
    inputs: {
      accumulator: normal([columns, depth]),
      dy: normal([rows, columns]),
      x: normal([rows, depth]),
    },
  },
]

const jobs: readonly Job[] = [
  matmul(512, 512, 512),
  matmul(1024, 1024, 1024),
  ...[
    [2048, 128, 512],
    [2048, 512, 128],
    [2048, 192, 1024],
  ].flatMap(([m, k, n]) => [matmul(m!, k!, n!), ...backward(m!, k!, n!)]),
  ...[2, 4, 8].map((rows) => matmul(rows, 1024, 1024)),
  ...(['f16', 'q8_0', 'q4_0'] as const).map((format) => matmul(8, 1024, 1024, format)),
  ...(['f32', 'f16', 'bf16', 'q8_0', 'q4_0'] as const).map((format) => matmul(1, 4096, 4096, format)),
  {
    op: 'embedding_backward',
    attrs: {},
    inputs: {
      accumulator: normal([1024, 192]),
      dy: normal([4096, 192]),
      ids: { shape: [4096], format: 'u32', fill: { kind: 'integers', low: 0, high: 1024 } },
    },
  },
]

const nameOf = (job: Job): string =>
  `${job.op} ${Object.entries(job.inputs)
    .map(([port, { format, shape }]) => `${port} ${format}[${shape}]`)
    .join(' ')}`

/** Values in [-1, 1) or the integers of the fill: speed does not depend on them, so a cheap generator will do. */
function quickValues({ shape, fill }: CaseInput): Float32Array {
  let state = 1
  return Float32Array.from({ length: elementCount(shape) }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return fill.kind === 'integers' ? state % fill.high : state / 2 ** 31 - 1
  })
}

async function bench(device: WebGpuDevice, job: Job, peer: Peer | undefined): Promise<Row> {
  const graph = new Graph('bench')
  // Accumulators live in the gradients' arena, as in training; everything else is written once.
  const inputs = Object.fromEntries(
    Object.entries(job.inputs).map(([p, { format, shape }]) => [
      p,
      p === 'accumulator'
        ? graph.external('gradients', p, { format, shape })
        : graph.input(p, { format, shape }),
    ]),
  )
  const outputs = graph.op(job.op, job.attrs, inputs)
  for (const [port, value] of Object.entries(outputs))
    if (!('accumulator' in inputs)) graph.output(port, value)
  const program = compile(graph, device.target)
  const types = { op: job.op, attrs: job.attrs, inputs: job.inputs, outputs: {} }
  const flops = opContract(job.op).flops(types)
  const bytes = [...Object.values(job.inputs), ...Object.values(outputs).map((v) => v.type)]
    .map(byteSize)
    .reduce((a, b) => a + b, 0)
  const start = performance.now()
  const executable = await device.load(program)
  const loadMs = performance.now() - start
  const given = Object.fromEntries(
    Object.entries(job.inputs)
      .filter(([p]) => p !== 'accumulator')
      .map(([p, t]) => [p, formatOf(t.format).encode(quickValues(t))]),
  )
  await executable.step('main', given)
  const times = Math.max(1, Math.round(ENOUGH_FLOPS / flops))
  const other = job.peer && (await peer?.matmul(job.peer))
  let [ms, peerMs] = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY]
  for (let round = 0; round < ROUNDS; round++) {
    const before = performance.now()
    for (let i = 0; i < times; i++) executable.run('main')
    await executable.finished()
    ms = Math.min(ms, (performance.now() - before) / times)
    if (other) peerMs = Math.min(peerMs, await other.run(times))
  }
  await other?.close()
  executable.destroy()
  const kernel = program.segments[0]!.steps.find((s) => s.kind === 'launch')
  const variant = kernel?.kind === 'launch' ? program.kernels[kernel.kernel]!.name : ''
  const rate = (amount: number, time: number): number => Number((amount / time / 1e6).toFixed(2))
  return {
    job: nameOf(job),
    variant,
    gflops: rate(flops, ms),
    gbytes: rate(bytes, ms),
    ms: Number(ms.toFixed(3)),
    loadMs: Math.round(loadMs),
    ...(other ? { peerGflops: rate(flops, peerMs) } : {}),
  }
}

const args = process.argv.slice(2)
const saved = takeSave(args)
const portable = args.indexOf('--portable')
if (portable >= 0) args.splice(portable, 1)
const without = portable >= 0 ? ['subgroups'] : []
const [filter = ''] = args

const device = await openNodeWebGpu({ without })
// The peer has a Dawn of its own, which takes the system's driver: with another one the two could not be compared.
const sameDriver = !device.info.driver.startsWith('swiftshader')
const peer = sameDriver ? await openPeer() : undefined
console.log(
  `${device.info.device}, ${device.info.driver}; ${peer?.version ?? (sameDriver ? 'onnxruntime-node is not installed' : 'no peer on this driver')}`,
)
const rows: Row[] = []
for (const job of jobs.filter((j) => nameOf(j).includes(filter))) {
  const row = await bench(device, job, peer)
  rows.push(row)
  console.log(
    `${row.job.padEnd(76)} ${row.variant.padEnd(26)} ${row.gflops.toFixed(2).padStart(7)} GFLOP/s ${row.gbytes
      .toFixed(2)
      .padStart(6)} GB/s ${row.ms.toFixed(2).padStart(8)} ms  load ${String(row.loadMs).padStart(5)} ms${
      row.peerGflops === undefined ? '' : `  onnxruntime ${row.peerGflops.toFixed(2).padStart(6)} GFLOP/s`
    }`,
  )
}
if (saved)
  saveResult(saved, 'kernels/matmul', {
    device: device.info.device,
    driver: device.info.driver,
    peer: peer?.version,
    rows,
  })
device.destroy()
process.exit(0)
