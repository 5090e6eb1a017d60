// Measures what every stored vector takes on the software drivers, for `exactmap verify --budget`: `npm run costs`, or
// `npm run costs -- swiftshader`. Minutes; the machine should have nothing else to do.
import { mkdtempSync, rmSync } from 'node:fs'
import { loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Device } from '../../backends/backend.ts'
import { packageRoot } from '../../backends/package_root.ts'
import { openNodeWebGpu } from '../../backends/webgpu/node/open.ts'
import { commit } from '../../bench/result.ts'
import { type CaseCost, type CostTable, readCosts, writeCosts } from '../../src/verify/costs.ts'
import { vectorProgram } from '../../src/verify/run.ts'
import { readVectors, runCase, VERIFY_REPEATS } from '../../src/verify/suite.ts'
import { type Vector, vectorId } from '../../src/verify/vector.ts'

const caches = mkdtempSync(join(tmpdir(), 'exactmap-costs-'))
const root = join(packageRoot(), 'test', 'vectors')
const vectors = await readVectors(root, [])

/** Milliseconds of each vector, first and again, on a device that was just opened. */
async function times(device: Device): Promise<{ load: number; run: number }[]> {
  const loads = new Map<string, number>()
  const out: { load: number; run: number }[] = []
  for (const vector of vectors) {
    const first = await time(device, vector)
    const run = await time(device, vector)
    // The driver compiles a text once: where an earlier case had it, what it took there is what it takes.
    const texts = vectorProgram(vector, device.target)
      .kernels.map((k) => k.textHash)
      .join()
    const load = loads.get(texts) ?? Math.max(0, first - run)
    loads.set(texts, load)
    out.push({ load, run })
  }
  return out
}

async function time(device: Device, vector: Vector): Promise<number> {
  const start = performance.now()
  const result = await runCase(device, vector, VERIFY_REPEATS)
  if (result.state !== 'passed')
    throw new Error(`${vectorId(vector)} ${result.state}: costs are those of passing cases`)
  return performance.now() - start
}

/** Opens a driver with a cache folder of this run's own: Mesa's are empty at first, SwiftShader has none. */
function openWithCache(driver: string, name: string): Promise<Device> {
  process.env.MESA_SHADER_CACHE_DIR = join(caches, name)
  return openNodeWebGpu({ driver })
}

async function measure(driver: string): Promise<CostTable> {
  // The first case would pay for the JavaScript of all.
  const idle = await openWithCache(driver, 'idle')
  await time(idle, vectors[0]!)
  idle.destroy()
  // The second device finds in the cache what the first compiled.
  const device = await openWithCache(driver, driver)
  const cold = await times(device)
  const kept = await times(await openWithCache(driver, driver))
  const tenths = (ms: number): number => Math.round(ms * 10) / 10
  const costs = vectors.map((vector, i): [string, CaseCost] => [
    vectorId(vector),
    {
      compile: tenths(cold[i]!.load),
      // Without a cache the two differ by noise.
      kept: tenths(Math.min(cold[i]!.load, kept[i]!.load)),
      run: tenths(Math.min(cold[i]!.run, kept[i]!.run)),
    },
  ])
  return {
    device: device.info.device,
    driver: device.info.driver,
    commit,
    loadAverage: Math.round(loadavg()[0]! * 10) / 10,
    ms: Object.fromEntries(costs),
  }
}

const named = process.argv.slice(2)
const tables = { ...readCosts(root) }
for (const driver of named.length > 0 ? named : ['lavapipe', 'swiftshader']) {
  const table = await measure(driver)
  const sum = (key: keyof CaseCost): string =>
    (Object.values(table.ms).reduce((total, cost) => total + cost[key], 0) / 1000).toFixed(1)
  console.log(
    `${driver}: ${vectors.length} cases, compile ${sum('compile')} s, kept ${sum('kept')} s, run ${sum('run')} s`,
  )
  tables[driver] = table
  writeCosts(root, tables)
}
rmSync(caches, { recursive: true, force: true })
process.exit(0)
