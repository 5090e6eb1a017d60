import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import type { Device } from '../../backends/backend.ts'
import { packageRoot } from '../../backends/webgpu/node/library.ts'
import { openNodeWebGpu } from '../../backends/webgpu/node/open.ts'
import { allOps } from '../../src/ops/index.ts'
import { runVector, type Verdict, vectorProgram } from '../../src/verify/run.ts'
import { readVector, storedCases } from '../../src/verify/store.ts'

// One suite for every op on WebGPU: each stored vector through compile, load and step. Where the adapter has
// optional features, cases whose kernels differ without them run a second time on a device that does not use them.
const root = join(packageRoot(), 'test', 'vectors')
const device = await openNodeWebGpu()
const bare = await openNodeWebGpu({ without: ['subgroups', 'shader-f16'] })

afterAll(() => {
  device.destroy()
  bare.destroy()
})

const explain = (v: Verdict, on: Device): string =>
  v.wrong
    ? `${v.id} on ${on.info.device} (${v.variants.join(', ')}): ${v.wrong.port}[${v.wrong.index}] expected ${v.wrong.expected}, got ${v.wrong.got}, ${v.wrong.error.toFixed(2)} x its budget`
    : ''

for (const contract of allOps())
  describe(`${contract.name}/`, () => {
    const stored = storedCases(root, contract.name)
    it('has a stored vector for every case', () => {
      expect(stored).toEqual(contract.cases.map((c) => c.name).sort())
    })
    for (const name of stored)
      it(`${contract.name}/${name}`, async () => {
        const vector = await readVector(root, contract.name, name)
        const verdict = await runVector(device, vector)
        expect(explain(verdict, device)).toBe('')
        const kernels = (d: Device): string => JSON.stringify(vectorProgram(vector, d.target).kernels)
        if (kernels(device) === kernels(bare)) return
        expect(explain(await runVector(bare, vector), bare)).toBe('')
      })
  })
