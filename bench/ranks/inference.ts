// Time per decoded token of the bundled model on one rank and on several, as processes of mpirun, alternating.
//   npx esbuild bench/ranks/inference.ts --bundle --platform=node --format=esm --packages=external \
//     --outfile=dist/bench/inference.js && node dist/bench/inference.js [--driver swiftshader] [--save name]
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { saveResult, takeSave } from '../result.ts'

const GRIDS = [
  { tensor: 1, pipeline: 1 },
  { tensor: 2, pipeline: 1 },
  { tensor: 1, pipeline: 2 },
  { tensor: 2, pipeline: 2 },
  { tensor: 1, pipeline: 4 },
]
const [TOKENS, ROUNDS] = [100, 5]

const args = process.argv.slice(2)
const saved = takeSave(args)
const { driver } = parseArgs({
  args,
  options: { driver: { type: 'string', default: 'swiftshader' } },
}).values
const folder = mkdtempSync(join(tmpdir(), 'exactmap-bench-'))
const root = process.getuid?.() === 0 ? ['--allow-run-as-root'] : []

/** What one run reports of itself. */
function run(grid: (typeof GRIDS)[number]): { tokensPerSecond: number; device: string; driver: string } {
  const ranks = grid.tensor * grid.pipeline
  const file = join(folder, 'plan.yaml')
  const plan = { cluster: 'cores', grid, schedule: { name: '1f1b' }, microbatches: 1 }
  writeFileSync(file, JSON.stringify(plan))
  const command = [
    ...['dist/cli/main.js', 'run', '--json', '-t', '0', '-n', `${TOKENS}`, '--context', '128'],
    ...['--driver', driver],
    ...(ranks > 1 ? ['--plan', file, '--cluster', 'test/data/eight_cores.yaml'] : []),
  ]
  const mpirun = [
    ...root,
    '--oversubscribe',
    '--bind-to',
    'none',
    '-np',
    `${ranks}`,
    process.execPath,
    ...command,
  ]
  const stdio = ['ignore', 'pipe', 'ignore'] as const
  return JSON.parse(execFileSync('mpirun', mpirun, { encoding: 'utf8', stdio: [...stdio] }))
}

const times = GRIDS.map((): number[] => [])
let [device, name] = ['', '']
for (let round = 0; round < ROUNDS; round++)
  for (const [i, grid] of GRIDS.entries()) {
    const report = run(grid)
    ;[device, name] = [report.device, report.driver]
    times[i]!.push(1000 / report.tokensPerSecond)
  }
rmSync(folder, { recursive: true })
const rows = GRIDS.map((grid, i) => {
  const sorted = times[i]!.sort((a, b) => a - b)
  const [fastest, median] = [sorted[0]!, sorted[ROUNDS >> 1]!]
  return {
    ranks: grid.tensor * grid.pipeline,
    ...grid,
    millisecondsPerToken: Number(median.toFixed(1)),
    fastestMilliseconds: Number(fastest.toFixed(1)),
  }
})
for (const row of rows) console.log(JSON.stringify(row))
if (saved)
  saveResult(saved, 'ranks/inference', { device, driver: name, tokens: TOKENS, rounds: ROUNDS, rows })
