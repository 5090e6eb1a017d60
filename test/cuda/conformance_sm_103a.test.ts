import { join } from 'node:path'
import { afterAll, expect, it } from 'vitest'
import { readCudaSources } from '../../backends/cuda/library.ts'
import { cudaTarget, cudaTraits } from '../../backends/cuda/target.ts'
import { packageRoot } from '../../backends/package_root.ts'
import type { OpContract } from '../../src/ops/contract.ts'
import { checkCall, ops } from '../../src/ops/index.ts'
import { readVector } from '../../src/verify/store.ts'
import { emulatedDevice } from '../helpers/cuda.ts'
import { runsVector } from '../helpers/runs_vector.ts'

// The stored vectors on the kernels that only sm_103a has; conformance.test.ts runs the others.
const root = join(packageRoot(), 'test', 'vectors')
const device = await emulatedDevice(103)
const target = cudaTarget(cudaTraits['cuda-sm_103a']!, readCudaSources())

afterAll(() => {
  if (typeof device !== 'string') device.destroy()
})

for (const contract of Object.values(ops) as OpContract[])
  for (const { name, attrs, inputs } of contract.cases) {
    const call = checkCall(contract, attrs, inputs)
    const own = target.variants(call).filter((variant) => {
      const choice = target.withVariant(variant).choose(call)
      return 'launches' in choice && choice.launches.some((l) => l.modules[0]!.endsWith('.sm_103a'))
    })
    for (const variant of own)
      it(`${contract.name}/${name}@${variant}`, async (ctx) => {
        if (typeof device === 'string') return ctx.skip(device)
        expect(device.target.name).toBe(target.name)
        await runsVector(device, { ...(await readVector(root, contract.name, name)), variant })
      })
  }
