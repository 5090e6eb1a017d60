import { join } from 'node:path'
import { afterAll, describe, it } from 'vitest'
import { packageRoot } from '../../backends/package_root.ts'
import { allOps } from '../../src/ops/index.ts'
import { withVariants } from '../../src/verify/run.ts'
import { readVector, storedCases } from '../../src/verify/store.ts'
import { emulatedDevice } from '../helpers/cuda.ts'
import { runsVector } from '../helpers/runs_vector.ts'

// Every stored vector on the emulated CUDA device: the runtime and kernels that run on GPUs. A kernel whose threads
// wait for each other is run in three thread orders by three processes: EXACTMAP_EMULATED_ORDER=forward, reverse and
// shuffle:<seed> (a missing barrier shows only when the order changes).
const root = join(packageRoot(), 'test', 'vectors')
const device = await emulatedDevice()

afterAll(() => {
  if (typeof device !== 'string') device.destroy()
})

for (const { name: op } of allOps())
  describe(`cuda-emulated ${op}/`, () => {
    for (const name of storedCases(root, op))
      it(`${op}/${name}`, async (ctx) => {
        if (typeof device === 'string') return ctx.skip(device)
        const vector = await readVector(root, op, name)
        for (const one of withVariants([vector], device.target)) await runsVector(device, one)
      })
  })
