import { join } from 'node:path'
import { afterAll } from 'vitest'
import { packageRoot } from '../../backends/package_root.ts'
import { openNodeWebGpu } from '../../backends/webgpu/node/open.ts'
import { allOps } from '../../src/ops/index.ts'
import { readVector, storedCases } from '../../src/verify/store.ts'
import { repeatedBetweenCasts } from '../helpers/between_casts.ts'
import { NewTexts } from '../helpers/check_vector.ts'
import { conformanceSuite } from '../helpers/suites.ts'
import { quickWebGpu } from '../helpers/webgpu.ts'

const root = join(packageRoot(), 'test', 'vectors')
const without = process.env.EXACTMAP_WITHOUT?.split(',') ?? []

/**
 * The stored vectors of ops on WebGPU. lavapipe compiles longest: it leaves cases to SwiftShader (CI) and GPUs that are
 * kernels of other cases between casts, with other sizes (repeatedBetweenCasts). Kernel texts that only a device without optional features selects run there once, on
 * the driver that compiles soonest; EXACTMAP_WITHOUT=subgroups,shader-f16 runs all vectors without them on any driver.
 */
export async function webGpuConformance(select: (op: string) => boolean): Promise<void> {
  const device = await openNodeWebGpu({ without })
  const bare = new NewTexts(await quickWebGpu(['subgroups', 'shader-f16']))
  afterAll(() => {
    device.destroy()
    bare.device.destroy()
  })
  const slow = device.info.driver.startsWith('lavapipe')
  let left = 0
  for (const contract of allOps().filter(({ name }) => select(name))) {
    const elsewhere = slow ? repeatedBetweenCasts(contract, device.target) : new Set<string>()
    left += elsewhere.size
    const stored = storedCases(root, contract.name)
    const vectors = stored.map((name) => [name, () => readVector(root, contract.name, name)] as const)
    conformanceSuite(contract, Object.fromEntries(vectors), device, bare, elsewhere)
  }
  if (left > 0) console.log(`${left} cases that are f32 kernels between casts are left to other drivers`)
}
