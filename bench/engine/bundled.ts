// The bundled model from the command line: tokens per second, and the time to the first token with caches of the
// driver empty and filled. Everything a user waits for is in it: Node, driver, compiling, weights.
//   npx esbuild bench/engine/bundled.ts --bundle --platform=node --format=esm --packages=external \
//     --outfile=dist/bench/bundled.js && node dist/bench/bundled.js [--save name]
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { packageRoot } from '../../backends/package_root.ts'
import { saveResult, takeSave } from '../result.ts'

interface Report {
  readonly device: string
  readonly driver: string
  readonly firstTokenSeconds: number
  readonly tokensPerSecond: number
}

const REPEATS = 3
const cli = join(packageRoot(), 'dist', 'cli', 'main.js')

function run(driver: string, cache: string): Report {
  const env = {
    ...process.env,
    EXACTMAP_DRIVER: driver,
    MESA_SHADER_CACHE_DIR: join(cache, 'mesa'),
    XDG_CACHE_HOME: cache,
  }
  const args = [cli, 'run', '--json', '--max-tokens', '200', '--temperature', '0']
  return JSON.parse(
    execFileSync(process.execPath, args, { env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }),
  )
}

const median = (values: number[]): number => values.sort((a, b) => a - b)[values.length >> 1]!

const rows = ['lavapipe', 'swiftshader'].map((driver) => {
  const cold: Report[] = []
  const warm: Report[] = []
  for (let i = 0; i < REPEATS; i++) {
    const cache = mkdtempSync(join(tmpdir(), 'exactmap-bench-'))
    cold.push(run(driver, cache))
    warm.push(run(driver, cache))
    rmSync(cache, { recursive: true, force: true })
  }
  const row = {
    device: cold[0]!.device,
    driver: cold[0]!.driver,
    firstEverSeconds: Number(median(cold.map((r) => r.firstTokenSeconds)).toFixed(2)),
    firstWarmSeconds: Number(median(warm.map((r) => r.firstTokenSeconds)).toFixed(2)),
    tokensPerSecond: Number(median([...cold, ...warm].map((r) => r.tokensPerSecond)).toFixed(1)),
  }
  console.log(
    `${row.driver}: first token ${row.firstEverSeconds} s with empty caches, ${row.firstWarmSeconds} s warm; ${row.tokensPerSecond} tokens/s`,
  )
  return row
})

const saved = takeSave(process.argv.slice(2))
if (saved) saveResult(saved, 'engine/bundled', { repeats: REPEATS, rows })
