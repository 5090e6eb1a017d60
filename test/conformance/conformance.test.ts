import { join } from 'node:path'
import { afterAll } from 'vitest'
import { packageRoot } from '../../backends/webgpu/node/library.ts'
import { openNodeWebGpu } from '../../backends/webgpu/node/open.ts'
import { allOps } from '../../src/ops/index.ts'
import { readVector, storedCases } from '../../src/verify/store.ts'
import { conformanceSuite } from '../helpers/suites.ts'

// One suite for every op on WebGPU with the stored vectors. Where the adapter has optional features, cases whose
// kernels differ without them run a second time on a device that does not use them.
const root = join(packageRoot(), 'test', 'vectors')
const device = await openNodeWebGpu()
const bare = await openNodeWebGpu({ without: ['subgroups', 'shader-f16'] })

afterAll(() => {
  device.destroy()
  bare.destroy()
})

for (const contract of allOps()) {
  const stored = storedCases(root, contract.name)
  const vectors = stored.map((name) => [name, () => readVector(root, contract.name, name)] as const)
  conformanceSuite(contract, Object.fromEntries(vectors), device, bare)
}
