import { join } from 'node:path'
import { afterAll } from 'vitest'
import { packageRoot } from '../../backends/package_root.ts'
import { openNodeWebGpu } from '../../backends/webgpu/node/open.ts'
import { withinBudget } from '../../src/cli/verify_budget.ts'
import { opContract } from '../../src/ops/index.ts'
import { readCosts } from '../../src/verify/costs.ts'
import { readVectors } from '../../src/verify/suite.ts'
import { NewTexts } from '../helpers/check_vector.ts'
import { conformanceSuite } from '../helpers/suites.ts'
import { quickWebGpu } from '../helpers/webgpu.ts'

const root = join(packageRoot(), 'test', 'vectors')
const without = process.env.EXACTMAP_WITHOUT?.split(',') ?? []

/** What lavapipe may take for the vectors of one file, by the measured costs with empty caches: seconds. */
const LAVAPIPE_BUDGET = 40

/**
 * The stored vectors of some ops on WebGPU, every one of them on a driver. lavapipe compiles longest: it gets those that
 * fit its budget, which has every op with every storage format and nearly every kernel variant, and SwiftShader the others.
 * Kernel texts that only a device without optional features selects run there once, on the driver that compiles soonest;
 * EXACTMAP_WITHOUT=subgroups,shader-f16 runs all vectors without them.
 */
export async function webGpuConformance(ops: readonly string[]): Promise<void> {
  const device = await openNodeWebGpu({ without })
  const isSlow = device.info.driver.startsWith('lavapipe')
  const quick = isSlow ? await quickWebGpu(without) : device
  const bare = new NewTexts(await quickWebGpu(['subgroups', 'shader-f16']))
  afterAll(() => {
    for (const one of new Set([device, quick, bare.device])) one.destroy()
  })
  const vectors = await readVectors(root, ops)
  const chosen = isSlow ? withinBudget(device, vectors, LAVAPIPE_BUDGET, readCosts(root)).vectors : vectors
  const within = new Set(chosen)
  for (const op of ops)
    conformanceSuite(
      opContract(op),
      vectors.filter((vector) => vector.op === op),
      (vector) => (within.has(vector) ? device : quick),
      bare,
    )
  if (isSlow)
    console.log(`${within.size} of ${vectors.length} vectors on lavapipe, the others on ${quick.info.driver}`)
}
