// The transport between two ranks: one way of a message there and back. Both ranks need a core for it to mean anything.
//   npx esbuild bench/ranks/transport.ts --bundle --platform=node --format=esm --packages=external \
//     --outfile=dist/bench/transport.js && mpirun -np 2 node dist/bench/transport.js [--save name]
import { openRanks } from '../../backends/mpi/open.ts'
import { check } from '../../src/errors.ts'
import { runAsRank } from '../../src/parallel/run_as_rank.ts'
import { saveResult, takeSave } from '../result.ts'

/** Message sizes in bytes, each with the round trips of a sample. */
const SIZES = [
  [8, 500],
  [4096, 500],
  [2 ** 20, 100],
  [16 * 2 ** 20, 10],
] as const
const SAMPLES = 7

const saved = takeSave(process.argv.slice(2))
const transport = await openRanks()
const { rank, size } = transport
check(
  size === 2,
  'invalid_argument',
  `expected 2 ranks, got ${size}: mpirun -np 2 node dist/bench/transport.js`,
)

async function roundTrips(count: number, bytes: Uint8Array): Promise<void> {
  for (let i = 0; i < count; i++) {
    if (rank === 0) await transport.send(1, 0, bytes)
    await transport.receive(1 - rank, 0, bytes)
    if (rank === 1) await transport.send(0, 0, bytes)
  }
}

await runAsRank(transport, async () => {
  const rows = []
  for (const [length, count] of SIZES) {
    const bytes = new Uint8Array(length).fill(rank + 1)
    await roundTrips(count, bytes)
    const oneWay: number[] = []
    for (let sample = 0; sample < SAMPLES; sample++) {
      const start = performance.now()
      await roundTrips(count, bytes)
      oneWay.push((performance.now() - start) / 1000 / count / 2)
    }
    oneWay.sort((a, b) => a - b)
    const [fastest, median] = [oneWay[0]!, oneWay[SAMPLES >> 1]!]
    rows.push({
      bytes: length,
      microseconds: Number((median * 1e6).toFixed(1)),
      fastestMicroseconds: Number((fastest * 1e6).toFixed(1)),
      gigabytesPerSecond: Number((length / median / 1e9).toFixed(3)),
    })
    if (rank === 0) console.log(JSON.stringify(rows.at(-1)))
  }
  if (rank === 0 && saved)
    saveResult(saved, 'ranks/transport', { transport: transport.name, samples: SAMPLES, rows })
})
process.exit(0)
