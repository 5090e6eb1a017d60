// Collectives of four ranks in one process on WebGPU, their messages through the host: what staging and launches cost,
// not what a network would. Every round runs each job once, in turn; a figure is the median of the rounds.
//   npx esbuild bench/ranks/collectives.ts --bundle --platform=node --format=esm --packages=external \
//     --outfile=dist/bench/collectives.js && node dist/bench/collectives.js [--save name]
import { localTransports } from '../../backends/local_transport.ts'
import { open } from '../../src/open.ts'
import { direct } from '../../src/parallel/collectives/direct.ts'
import { hierarchical } from '../../src/parallel/collectives/hierarchical.ts'
import { lowerCollectives } from '../../src/parallel/collectives/lower.ts'
import { ring } from '../../src/parallel/collectives/ring.ts'
import { tree } from '../../src/parallel/collectives/tree.ts'
import { loadForRank } from '../../src/parallel/load_for_rank.ts'
import { compile } from '../../src/program/compile.ts'
import { Graph } from '../../src/program/graph.ts'
import { tensorType } from '../../src/tensor/type.ts'
import { saveResult, takeSave } from '../result.ts'

const RANKS = 4
const ROUNDS = 9
const BYTES = [16 * 2 ** 10, 4 * 2 ** 20]

const saved = takeSave(process.argv.slice(2))
const device = await open('webgpu')
const members = Array.from({ length: RANKS }, (_, i) => i)

interface Job {
  readonly kind: string
  readonly algorithm: string
  readonly bytes: number
  readonly run: () => Promise<unknown>
  readonly milliseconds: number[]
}

const jobs: Job[] = []
for (const bytes of BYTES)
  for (const kind of ['all_reduce', 'reduce_scatter', 'all_gather', 'rank_broadcast'] as const)
    for (const algorithm of [direct, ring, tree, hierarchical(2)]) {
      if (!(kind in algorithm)) continue
      const graph = new Graph(kind)
      const x = graph.external('state', 'x', tensorType('f32', bytes / 4))
      const attrs = { group: 'g', size: RANKS, ...(kind === 'rank_broadcast' ? { root: 0 } : {}) }
      graph.op(kind, attrs, { x })
      const ranks = await Promise.all(
        localTransports(RANKS).map((transport, self) =>
          loadForRank(
            device,
            compile(
              lowerCollectives(graph, { g: self }, () => algorithm),
              device.target,
            ),
            { communicator: { transport, groups: { g: members } } },
          ),
        ),
      )
      const run = async (): Promise<void> => {
        for (const rank of ranks) rank.run('main')
        await Promise.all(ranks.map((rank) => rank.finished()))
      }
      await run()
      jobs.push({ kind, algorithm: algorithm.name, bytes, run, milliseconds: [] })
    }

for (let round = 0; round < ROUNDS; round++)
  for (const { run, milliseconds } of jobs) {
    const start = performance.now()
    await run()
    milliseconds.push(performance.now() - start)
  }

const rows = jobs.map(({ kind, algorithm, bytes, milliseconds }) => {
  const median = milliseconds.sort((a, b) => a - b)[ROUNDS >> 1]!
  const row = { kind, algorithm, bytes, milliseconds: Number(median.toFixed(2)) }
  console.log(JSON.stringify(row))
  return row
})
if (saved)
  saveResult(saved, 'ranks/collectives', { device: device.info.device, ranks: RANKS, rounds: ROUNDS, rows })
device.destroy()
process.exit(0)
