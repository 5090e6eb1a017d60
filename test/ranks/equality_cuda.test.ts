import { afterAll, it } from 'vitest'
import { emulatedDevice } from '../helpers/cuda.ts'
import { equalitySuite } from './equality.ts'

// The ranks share one device, whose graphs cannot wait for each other: messages go through the host.
process.env.EXACTMAP_TRANSPORT = 'host'
const device = await emulatedDevice()
afterAll(() => {
  if (typeof device !== 'string') device.destroy()
})

if (typeof device === 'string') it('ranks on the emulated CUDA device', (ctx) => ctx.skip(device))
else equalitySuite(device)
