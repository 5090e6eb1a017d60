import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import type { CudaDevice } from '../../backends/cuda/device.ts'
import { openCudaEmulated } from '../../backends/cuda/open.ts'
import { packageRoot } from '../../backends/package_root.ts'
import { collectiveSuite } from '../helpers/collective_suite.ts'
import { emulatedDevice } from '../helpers/cuda.ts'

// Every stored vector of a collective by every algorithm: messages inside CUDA graphs on the emulated NCCL, a device for
// each rank. A rank that waits for others holds a thread of Node's pool, which has four for all ranks of a process.

const MEMBERS = 4
process.env.EXACTMAP_EMULATED_DEVICES = String(MEMBERS)
const probe = await emulatedDevice()
const reason = typeof probe === 'string' ? probe : ''
const devices: CudaDevice[] = []
if (typeof probe !== 'string') {
  probe.destroy()
  for (let rank = 0; rank < MEMBERS; rank++) devices.push(await openCudaEmulated(rank))
}

afterAll(() => {
  for (const device of devices) device.destroy()
  delete process.env.EXACTMAP_EMULATED_DEVICES
})

describe.skipIf(reason)(`collectives over NCCL${reason && ` (skipped: ${reason})`}`, () => {
  it('are not staged through the host', () => {
    expect(devices.every((device) => device.carriesMessages)).toBe(true)
  })
  collectiveSuite((rank) => devices[rank]!, join(packageRoot(), 'test', 'vectors'), MEMBERS)
})
